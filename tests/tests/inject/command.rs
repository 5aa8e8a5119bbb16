//! `remotemount-operator inject`: the program itself, from files and from standard input.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The program beside the tests' own folder, as `cargo build` leaves it.
fn program() -> std::path::PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("remotemount-operator");
    assert!(program.is_file(), "no {}: run cargo build -p remotemount-operator --bins", program.display());
    program
}

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program())
        .arg("inject")
        .args(["--sidecar-image", "registry.example/remotemount-sidecar:1"])
        .args(arguments)
        // No cluster is asked where mounts are given; one that is asked cannot be had.
        .env("KUBECONFIG", "/nowhere")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn golden(case: &str, file: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/inject");
    root.join(case).join(file).to_str().unwrap().to_owned()
}

#[test]
fn files_and_standard_input_give_the_same_as_admission() {
    let (pod, mounts) = (golden("deployment", "pod.yaml"), golden("deployment", "mounts.yaml"));
    let wanted = std::fs::read_to_string(golden("deployment", "injected.yaml")).unwrap();
    let by_file = run(&["-f", &pod, "--mounts", &mounts], "");
    assert_eq!(String::from_utf8_lossy(&by_file.stdout), wanted, "{}", String::from_utf8_lossy(&by_file.stderr));
    let by_input = run(&["-f", "-", "--mounts", &mounts], &std::fs::read_to_string(&pod).unwrap());
    assert_eq!(by_input.stdout, by_file.stdout);

    let directory = tempfile::tempdir().unwrap();
    std::fs::copy(&mounts, directory.path().join("mounts.yml")).unwrap();
    let by_directory = run(&["-f", &pod, "--mounts", directory.path().to_str().unwrap()], "");
    assert_eq!(by_directory.stdout, by_file.stdout);
}

#[test]
fn mounts_among_the_documents_are_used_and_printed() {
    let text = |file| std::fs::read_to_string(golden("plain", file)).unwrap();
    let output = run(&["-f", &golden("plain", "pod.yaml"), "-f", &golden("plain", "mounts.yaml")], "");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.starts_with(&text("injected.yaml")), "{printed}");
    assert!(printed.contains("---\napiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\n"), "{printed}");
}

#[test]
fn what_cannot_be_done_prints_nothing_and_says_why() {
    let pod = golden("plain", "pod.yaml");
    let mounts = golden("plain", "mounts.yaml");
    let cases: [(&[&str], &str, &[&str]); 5] = [
        (&["-f", &pod], "", &["from the cluster", "--mounts"]),
        (&["-f", "-", "--mounts", &mounts], "a: [", &["standard input"]),
        (&["-f", "/nowhere.yaml"], "", &["/nowhere.yaml"]),
        (&["-f", &pod, "--mounts", &pod], "", &["pod.yaml", "kind Pod"]),
        (
            &["-f", "-", "--mounts", &mounts],
            &std::fs::read_to_string(&pod).unwrap().replace("namespace: team", "namespace: other"),
            &["Pod app", "no RemoteMount of namespace other"],
        ),
    ];
    for (arguments, input, told) in cases {
        let output = run(arguments, input);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {error}");
        for part in told {
            assert!(error.contains(part), "{part:?} is not in {error}");
        }
    }
}

#[test]
fn a_pod_that_does_not_ask_is_named() {
    let text = std::fs::read_to_string(golden("plain", "pod.yaml")).unwrap().replace("\"true\"", "\"false\"");
    let output = run(&["-f", "-", "--mounts", &golden("plain", "mounts.yaml")], &text);
    assert!(output.status.success());
    let notes = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(notes.contains("Pod app: unchanged") && notes.contains("remotemount.dev/inject"), "{notes}");
}
