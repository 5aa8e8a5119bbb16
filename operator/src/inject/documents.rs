//! `remotemount-operator inject`: YAML documents in, the same with sidecars out.
//!
//! Read as kubectl reads them (`0644` is octal), so that what is printed means what was given. A pod, and
//! the pod template of every built-in workload, is injected when its labels ask for it; every other
//! document passes through with its keys in their order. Comments do not survive. Pure: text to text.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use kube::ResourceExt as _;
use remotemount_crds::{KIND, RemoteMount, manifest};
use serde_json::Value;

use super::{Settings, inject, wanted};

/// The largest input, in bytes.
const MAX_BYTES: usize = 64 << 20;

/// Documents of one or more files.
#[derive(Debug, Default)]
pub struct Documents(Vec<serde_yaml::Value>);

/// What came of the documents.
#[derive(Debug, Default)]
pub struct Printed {
    /// Every document.
    pub text: String,
    /// What the user should know; one line each.
    pub notes: Vec<String>,
}

impl Documents {
    /// Adds the documents of `text`, which is called `origin` in messages.
    ///
    /// # Errors
    /// When it is not YAML.
    pub fn read(&mut self, origin: &str, text: &str) -> anyhow::Result<()> {
        if text.len() > MAX_BYTES {
            bail!("{origin} is larger than {MAX_BYTES} bytes");
        }
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let documents = serde_saphyr::from_multiple_with_options(text, options)
            .map_err(|error| anyhow::anyhow!("{origin}: {}", error.without_snippet()))?;
        self.0.extend(documents.into_iter().filter(|document: &serde_yaml::Value| !document.is_null()));
        Ok(())
    }

    /// The RemoteMounts among them.
    ///
    /// # Errors
    /// When one breaks a rule.
    pub fn mounts(&self) -> anyhow::Result<Vec<RemoteMount>> {
        let mut mounts = Vec::new();
        for document in &self.0 {
            if document.get("kind").and_then(serde_yaml::Value::as_str) == Some(KIND) {
                let text = serde_json::to_vec(document).context("a RemoteMount has a key that is no text")?;
                mounts.extend(manifest::parse(&text).context("a RemoteMount among the documents")?);
            }
        }
        Ok(mounts)
    }

    /// The namespaces in which pods ask for a sidecar; `namespace` stands for none.
    #[must_use]
    pub fn namespaces(&self, namespace: &str) -> Vec<String> {
        let mut found = Vec::new();
        for document in self.0.iter().filter_map(|document| serde_json::to_value(document).ok()) {
            let mut note = |owner: &Value, pod: &mut Value| {
                if wanted(pod) {
                    found.push(place(owner, pod, namespace));
                }
                Ok(())
            };
            // The visitor never fails.
            let _ = each_pod(&mut document.clone(), &mut note);
        }
        found.sort();
        found.dedup();
        found
    }

    /// Injects every pod that asks for it, with those of `mounts` that are of its namespace.
    ///
    /// # Errors
    /// Which pod cannot have its sidecar, and why.
    pub fn inject(self, namespace: &str, mounts: &[RemoteMount], settings: &Settings) -> anyhow::Result<Printed> {
        let mut printed = Printed::default();
        for document in self.0 {
            let mut value = serde_json::to_value(&document).unwrap_or_default();
            let before = value.clone();
            each_pod(&mut value, &mut |owner, pod| {
                inject_one(owner, pod, namespace, mounts, settings, &mut printed.notes)
            })?;
            // Untouched documents are written from what was read: their keys keep their order.
            // serde_yaml would write the text `yes` bare, which kubectl reads as a truth value.
            let text =
                if value == before { serde_saphyr::to_string(&document) } else { serde_saphyr::to_string(&value) };
            if !printed.text.is_empty() {
                printed.text.push_str("---\n");
            }
            printed.text.push_str(&text.context("a document cannot be written")?);
        }
        Ok(printed)
    }
}

fn inject_one(
    owner: &Value,
    pod: &mut Value,
    namespace: &str,
    mounts: &[RemoteMount],
    settings: &Settings,
    notes: &mut Vec<String>,
) -> anyhow::Result<()> {
    let title = title(owner);
    if !wanted(pod) {
        notes.push(format!(
            "{title}: unchanged, its pod has no label {}: \"true\"",
            remotemount_crds::names::INJECT_LABEL
        ));
        return Ok(());
    }
    let place = place(owner, pod, namespace);
    let of_place = |mount: &&RemoteMount| mount.namespace().unwrap_or_else(|| namespace.to_owned()) == place;
    let mounts: Vec<Arc<RemoteMount>> = mounts.iter().filter(of_place).cloned().map(Arc::new).collect();
    let injected = inject(pod, &place, &mounts, settings).with_context(|| title.clone())?;
    if let Some(injected) = injected {
        notes.extend(injected.warnings.iter().map(|warning| format!("{title}: {warning}")));
        *pod = injected.pod;
    }
    Ok(())
}

/// Shows `visit` each pod or pod template of a document, with the object that it is or belongs to.
fn each_pod(
    document: &mut Value,
    visit: &mut dyn FnMut(&Value, &mut Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let group = document.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let group = group.split_once('/').map_or("", |(group, _)| group).to_owned();
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let pointer = match (group.as_str(), kind.as_str()) {
        ("", "Pod") => "",
        ("", "PodTemplate") => "/template",
        ("", "ReplicationController")
        | ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("batch", "Job") => "/spec/template",
        ("batch", "CronJob") => "/spec/jobTemplate/spec/template",
        ("", "List") => {
            for item in document.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
                each_pod(item, visit)?;
            }
            return Ok(());
        }
        _ => return Ok(()),
    };
    let owner = serde_json::json!({"kind": document.get("kind"), "metadata": document.get("metadata")});
    document.pointer_mut(pointer).map_or(Ok(()), |pod| visit(&owner, pod))
}

fn title(owner: &Value) -> String {
    let text = |pointer: &str| owner.pointer(pointer).and_then(Value::as_str);
    let name = text("/metadata/name").or_else(|| text("/metadata/generateName")).unwrap_or("without a name");
    format!("{} {name}", text("/kind").unwrap_or_default())
}

fn place(owner: &Value, pod: &Value, default: &str) -> String {
    let of = |value: &Value| value.pointer("/metadata/namespace").and_then(Value::as_str).map(str::to_owned);
    of(owner).or_else(|| of(pod)).unwrap_or_else(|| default.to_owned())
}
