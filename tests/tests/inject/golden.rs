//! Golden pods: what admission makes of a pod, asserted to the letter.

use std::path::{Path, PathBuf};

use remotemount_crds::manifest;
use remotemount_operator::inject::Settings;
use remotemount_operator::inject::documents::{Documents, Printed};

use crate::stage;

/// Every case's folder.
pub fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/inject");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn read(case: &Path, file: &str) -> String {
    std::fs::read_to_string(case.join(file)).unwrap_or_else(|error| panic!("{}/{file}: {error}", case.display()))
}

/// The case's documents with their sidecars.
pub fn injected(case: &Path) -> Printed {
    inject(case, &read(case, "pod.yaml"))
}

fn inject(case: &Path, text: &str) -> Printed {
    let mut documents = Documents::default();
    documents.read("pod.yaml", text).unwrap();
    let mounts = manifest::parse(read(case, "mounts.yaml").as_bytes()).unwrap();
    // What `--sidecar-metrics` says, for a case that has it.
    let metrics = std::fs::read_to_string(case.join("sidecar-metrics")).ok();
    let metrics = metrics.map(|address| address.trim().parse().unwrap());
    let settings = Settings { metrics, ..stage::settings() };
    documents
        .inject(stage::NAMESPACE, &mounts, &settings)
        .unwrap_or_else(|error| panic!("{}: {error:#}", case.display()))
}

#[test]
fn golden_pods_are_as_committed() {
    let write = std::env::var_os("UPDATE_GOLDEN").is_some();
    let cases = cases();
    assert!(cases.len() >= 12, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let text = injected(case).text;
        let golden = case.join("injected.yaml");
        if write {
            std::fs::write(&golden, &text).unwrap();
        } else if std::fs::read_to_string(&golden).ok().as_deref() != Some(&text) {
            wrong.push(name);
        }
    }
    assert!(
        wrong.is_empty(),
        "{wrong:?} came out otherwise than golden/inject/*/injected.yaml says; if that is meant, run \
         `UPDATE_GOLDEN=1 cargo test -p remotemount-tests --test inject golden` and read the difference"
    );
}

#[test]
fn injecting_what_was_injected_changes_nothing() {
    for case in cases() {
        let once = injected(&case).text;
        assert_eq!(inject(&case, &once).text, once, "{}", case.display());
    }
}

#[test]
fn what_is_left_out_is_told() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/inject/left-out");
    let notes = injected(&case).notes;
    assert_eq!(notes, ["Pod app: RemoteMount old is left out: it is suspended: set spec.suspend to false"]);
}

#[test]
fn documents_that_are_not_ours_keep_their_order_and_strings() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/inject/cron-job");
    let text = injected(&case).text;
    let places: Vec<_> = ["zebra", "answer", "apple"].iter().map(|key| text.find(key).unwrap()).collect();
    assert!(places.is_sorted(), "{text}");
    // Bare, each of them would be something else to kubectl.
    for line in ["zebra: \"0777\"", "answer: \"yes\"", "none: \"null\"", "scale: \"1e3\""] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn the_sidecar_takes_what_it_is_given() {
    use clap::Parser as _;
    use remotemount_sidecar::args::Args;
    use serde_json::Value;

    let words = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut seen = 0;
    for case in cases() {
        let documents: Vec<Value> = serde_saphyr::from_multiple(&injected(&case).text).unwrap();
        let pods = documents.iter().filter(|document| document["kind"] == "Pod");
        for container in pods.filter_map(|pod| pod["spec"]["initContainers"].as_array()).flatten() {
            if container["name"] != "remotemount" {
                continue;
            }
            let arguments = ["remotemount-sidecar".to_owned()].into_iter().chain(words(&container["args"]));
            Args::try_parse_from(arguments).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
            for asked in [&container["lifecycle"]["postStart"], &container["livenessProbe"]] {
                let command = words(&asked["exec"]["command"]);
                Args::try_parse_from(command).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
            }
            seen += 1;
        }
    }
    assert!(seen >= 12, "{seen}");
}
