//! The guide and the resource: fields, reasons, conditions, and every example.

use std::collections::BTreeSet;

use remotemount_crds::condition::{ConditionType, Reason};
use remotemount_crds::{RemoteMount, effect, manifest};
use remotemount_operator::webhook::metrics::Outcome;
use remotemount_sidecar::filer::FilerError;
use serde_json::Value;

use crate::pages::{self, Page};

/// Whose own fields are Kubernetes', and described there.
const FOREIGN: [&str; 2] = ["spec.podSelector", "spec.sidecar.resources"];

/// Fields of a pod, in messages about one.
const PODS: [&str; 2] = ["spec.containers", "spec.initContainers"];

/// Every field of the spec, by its path, those that hold others included.
fn fields() -> BTreeSet<String> {
    let crd = serde_json::to_value(<RemoteMount as kube::CustomResourceExt>::crd()).unwrap();
    let mut fields = BTreeSet::new();
    walk("spec", &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], &mut fields);
    assert!(fields.len() > 40 && fields.contains("spec.remote.s3.bucket"), "{fields:?}");
    fields
}

fn walk(path: &str, schema: &Value, fields: &mut BTreeSet<String>) {
    if FOREIGN.contains(&path) {
        return;
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        walk(&path, schema, fields);
        fields.insert(path);
    }
}

/// The words `spec.…` of a page, each with its line.
fn named(page: &Page) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    for (number, line) in page.text.lines().enumerate() {
        for (at, _) in line.match_indices("spec.") {
            // `.spec.x` of a JSON path is the same field; `initspec.` would be another word.
            if line[..at].ends_with(|c: char| c.is_ascii_alphanumeric()) {
                continue;
            }
            let end =
                line[at..].find(|c: char| !c.is_ascii_alphanumeric() && c != '.').map_or(line.len(), |end| at + end);
            named.push((number + 1, line[at..end].trim_end_matches('.').to_owned()));
        }
    }
    named
}

#[test]
fn every_field_that_is_named_is_there() {
    let (fields, mut strangers, mut looked_at) = (fields(), Vec::new(), 0);
    let pages = pages::guide().into_iter().chain(["README.md", "SECURITY.md", "docs/SEMANTICS.md"].map(pages::page));
    for page in pages {
        for (line, field) in named(&page) {
            looked_at += 1;
            let foreign = FOREIGN.iter().any(|foreign| field.starts_with(&format!("{foreign}.")));
            if field != "spec" && !foreign && !PODS.contains(&field.as_str()) && !fields.contains(&field) {
                strangers.push(format!("{}:{line}: {field}", page.path.display()));
            }
        }
    }
    assert!(looked_at > 50, "{looked_at} fields");
    assert!(strangers.is_empty(), "no field of a RemoteMount:\n{}", strangers.join("\n"));
}

#[test]
fn every_field_is_described() {
    let reference = pages::page("docs/guide/remotemount.md");
    let rows: BTreeSet<String> = reference
        .prose()
        .filter_map(|(_, line)| line.strip_prefix("| `")?.split('`').next())
        .filter(|word| word.starts_with("spec."))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = fields().into_iter().filter(|field| !rows.contains(field)).collect();
    assert!(missing.is_empty(), "{}: no row for {missing:?}", reference.path.display());
}

/// A field that does nothing yet says so where it is described.
#[test]
fn fields_without_effect_are_called_so() {
    let everything = "{path: /a, remote: {s3: {bucket: bb, caBundle: {configMapKeyRef: {name: a, key: b}}}, gcs: {bucket: bbb}, azure: {account: aaa, container: ccc}}, \
        metadata: {strategy: Eager, maxEntries: 1}, cache: {sizeLimit: 2Gi}, expose: {s3: {port: 1}, fuse: {mountPath: /a}}}";
    let spec = serde_json::to_value(serde_saphyr::from_str::<Value>(everything).unwrap()).unwrap();
    let notices = effect::without_effect(&serde_json::from_value(spec).unwrap());
    let notices: Vec<_> = notices.into_iter().filter(|notice| !notice.message.contains("bare sidecar")).collect();
    assert!(notices.len() > 6, "{notices:?}");
    let reference = pages::page("docs/guide/remotemount.md");
    for field in notices.iter().map(|notice| notice.field) {
        let row = reference.prose().find(|(_, line)| line.starts_with(&format!("| `{field}`"))).map(|(_, line)| line);
        assert!(row.is_some_and(|row| row.contains("not built")), "{field}: {row:?} does not say `not built`");
    }
}

#[test]
fn every_reason_is_explained() {
    let page = pages::page("docs/guide/troubleshooting.md");
    let headings = page.headings();
    let missing: Vec<_> = Reason::ALL.iter().filter(|reason| !headings.contains(&reason.as_str())).collect();
    assert!(missing.is_empty(), "no heading for {missing:?}");
    let conditions = pages::page("docs/guide/remotemount.md").text;
    let row = |of: &ConditionType| conditions.contains(&format!("\n| `{of}` |"));
    let missing: Vec<_> = ConditionType::ALL.iter().filter(|of| !row(of)).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
}

#[test]
fn every_refusal_of_a_pod_and_every_failed_delete_is_explained() {
    let has = |page: &str, word: &str| pages::page(page).text.contains(&format!("`{word}`"));
    let refusals = Outcome::Denied.reasons().iter().filter(|word| !has("docs/guide/troubleshooting.md", word));
    let deletes = FilerError::DELETE_REASONS.iter().filter(|word| !has("docs/guide/doors.md", word));
    let missing: Vec<_> = refusals.chain(deletes).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_example_is_valid() {
    let (mut mounts, mut problems) = (0, Vec::new());
    for page in pages::all() {
        for block in page.blocks().iter().filter(|block| block.language == "yaml") {
            let place = page.path.display();
            if let Err(error) = serde_saphyr::from_multiple::<Value>(&block.text) {
                problems.push(format!("{place}: {error}\n{}", block.text));
            }
            for document in block.text.split("---\n").filter(|document| document.contains("kind: RemoteMount\n")) {
                mounts += 1;
                if let Err(error) = manifest::parse(document.as_bytes()) {
                    problems.push(format!("{place}: {error}\n{document}"));
                }
            }
        }
    }
    assert!(mounts > 5, "{mounts} mounts");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
