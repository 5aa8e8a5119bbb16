//! The command line: `check`, and starts that cannot succeed.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;
use std::process::{Command, Output};

const GOOD: &str = "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {name: good}\nspec: {path: /good, remote: {s3: {bucket: bucket}}}\n";

fn sidecar(arguments: &[&str]) -> Output {
    let beside = std::env::current_exe()
        .unwrap()
        .parent()
        .and_then(|dir| dir.parent())
        .map(|dir| dir.join("remotemount-sidecar"));
    let binary = std::env::var_os("REMOTEMOUNT_SIDECAR").map(PathBuf::from).or(beside).unwrap();
    Command::new(binary).args(arguments).output().unwrap()
}

fn check(files: &[(&str, &str)]) -> (i32, String) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let output = sidecar(&["check", directory.path().to_str().unwrap()]);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), text)
}

#[test]
fn good_manifests_pass() {
    let (code, text) = check(&[("a.yaml", GOOD), ("ignored.txt", "{:::"), (".hidden.yaml", "{:::")]);
    assert_eq!((code, text.lines().count()), (0, 1), "{text}");
}

#[test]
fn every_mistake_is_one_line_with_file_and_field() {
    let huge = format!("{GOOD}# {}", "x".repeat(10 << 20));
    let cases = [
        (GOOD.replace("path: /good", "path: /good, pathh: /x"), "pathh"),
        (
            GOOD.replace("{s3:", "{gcs: {bucket: abc}, s3:"),
            "spec.remote: remote must name exactly one of s3, gcs and azure",
        ),
        (GOOD.replace("/good", "good"), "spec.path: path must be absolute"),
        (
            GOOD.replace("path: /good", "path: /good, expose: {http: {port: 0}}"),
            "spec.expose.http.port: port must be from 1 to 65535",
        ),
        ("not: [yaml".to_owned(), "line"),
        (huge, "at most 1048576"),
        (GOOD.replace("RemoteMount", "ConfigMap"), "kind ConfigMap"),
        (GOOD.replace("bucket: bucket", "bucket: bucket, addressing: path"), "addressing"),
        (GOOD.replace("bucket: bucket", "bucket: 12"), "bucket"),
    ];
    for (yaml, wanted) in cases {
        let (code, text) = check(&[("bad.yaml", &yaml)]);
        assert_eq!((code, text.lines().count()), (1, 1), "{wanted}: {text}");
        assert!(text.starts_with("bad.yaml: ") && text.contains(wanted), "{wanted}: {text}");
    }
    let (code, text) =
        check(&[("a.yaml", GOOD), ("b.yaml", &GOOD.replace("name: good", "name: b").replace("/good", "/good/"))]);
    assert_eq!(
        (code, text.as_str()),
        (1, "b.yaml: spec.path: /good is also mounted by a.yaml: give one of them another path\n")
    );
    let (code, text) = check(&[("a.yaml", GOOD), ("b.yaml", &GOOD.replace("/good", "/other"))]);
    assert!(code == 1 && text.contains("metadata.name: good is also the name of a mount in a.yaml"), "{text}");
}

/// What is no file is named and never opened: a pipe would be waited for.
#[test]
fn what_is_no_manifest_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    assert!(Command::new("mkfifo").arg(at("pipe.yaml")).status().unwrap().success());
    std::fs::create_dir(at("folder.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", at("link.yaml")).unwrap();
    let output = sidecar(&["check", directory.path().to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    for line in ["pipe.yaml: is not a file", "folder.yaml: is not a file", "link.yaml: is a link to nothing"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let (code, text) = check(&[]);
    assert!(code == 0 && text.contains("nothing is mounted"), "{text}");
}

#[test]
fn fields_without_effect_are_named() {
    let yaml = GOOD.replace(
        "path: /good",
        "path: /good, deletePolicy: Propagate, suspend: true, cache: {sizeLimit: 2Gi}, metadata: {strategy: Eager, maxEntries: 5000}, expose: {s3: {port: 8333}}",
    );
    let (code, text) = check(&[("a.yaml", &yaml)]);
    assert_eq!(code, 0);
    for field in [
        "spec.suspend",
        "spec.cache",
        "spec.metadata.strategy",
        "spec.metadata.maxEntries",
        "spec.expose.s3",
        "spec.expose.http",
    ] {
        assert!(text.contains(&format!("a.yaml: note: {field} ")), "{field}: {text}");
    }
}

#[test]
fn fields_of_a_newer_operator_are_named() {
    let yaml = GOOD.replace("{name: good}", "{name: good, uid: u}").replace("path: /good", "path: /good, tier: Cold");
    let (code, text) = check(&[("a.yaml", &yaml)]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("a.yaml: note: spec.tier is not known to this version"), "{text}");
}

#[test]
fn starts_that_cannot_succeed_say_why() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path().to_str().unwrap();
    let run = |mounts: &str, more: &[&str]| {
        let output = sidecar(&[["run", "--mounts", mounts, "--state", state].as_slice(), more].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, text) = run("/no/such/directory", &[]);
    assert!(code == Some(1) && text.contains("--mounts /no/such/directory: no such directory"), "{text}");
    let (code, text) = run(state, &["--http", "192.0.2.1:1"]);
    assert!(code == Some(1) && text.contains("--http 192.0.2.1:1"), "{text}");
    let (code, text) = run(state, &["--http", "127.0.0.1:1234", "--admin", "127.0.0.1:1234"]);
    assert!(code == Some(1) && text.contains("are both 127.0.0.1:1234"), "{text}");
    let (code, text) = run(state, &["--grpc", "127.0.0.1:8888"]);
    assert!(code == Some(1) && text.contains("--http and --grpc are both 127.0.0.1:8888"), "{text}");
    let (code, text) = run(state, &["--http", "nonsense"]);
    assert!(code == Some(2) && text.contains("--http"), "{text}");
    let (code, text) = run(state, &["--log", "=,="]);
    assert!(code == Some(1) && text.contains("--log"), "{text}");
    let output = sidecar(&["check", "/no/such/directory"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("does not exist"));
}
