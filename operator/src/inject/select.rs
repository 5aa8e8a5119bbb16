//! Which mounts a pod gets.
//!
//! Without the annotation: every mount of the pod's namespace whose `podSelector` matches (an absent one
//! matches every pod) and that is to be had. With it: those it names, each of which must match too: the
//! selector is the mount owner's word. Mounts that are being deleted, suspended or not accepted are not
//! to be had: they are left out where nobody asked for them by name, and refused where someone did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::ResourceExt as _;
use kube::core::{Selector, SelectorExt as _};
use remotemount_crds::RemoteMount;
use remotemount_crds::condition::ConditionType;
use remotemount_crds::names::MOUNTS_ANNOTATION;
use serde_json::Value;

use super::Denial;

/// How many names a message lists.
const LISTED: usize = 10;

/// The mounts of one pod.
#[derive(Clone, Debug)]
pub struct Selection {
    /// At least one, by name.
    pub mounts: Vec<Arc<RemoteMount>>,
    /// Which matched and were left out, and why.
    pub warnings: Vec<String>,
}

/// Chooses among `mounts`, those of `namespace`.
///
/// # Errors
/// When nothing is left, or a name cannot be had.
pub fn select(pod: &Value, namespace: &str, mounts: &[Arc<RemoteMount>]) -> Result<Selection, Denial> {
    let labels = labels(pod);
    let mut all: Vec<&Arc<RemoteMount>> = mounts.iter().collect();
    all.sort_by_key(|mount| mount.name_any());
    let annotation = pod.pointer("/metadata/annotations").and_then(|all| all.get(MOUNTS_ANNOTATION));
    match annotation {
        Some(names) => named(names, namespace, &all, &labels),
        None => matching(namespace, &all, &labels),
    }
}

fn named(
    names: &Value,
    namespace: &str,
    all: &[&Arc<RemoteMount>],
    labels: &BTreeMap<String, String>,
) -> Result<Selection, Denial> {
    let names = names.as_str().ok_or_else(|| Denial::Malformed(format!("annotation {MOUNTS_ANNOTATION}: not text")))?;
    let names: BTreeSet<&str> = names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        let message = format!("annotation {MOUNTS_ANNOTATION} names no mount: name one, or remove it to get all");
        return Err(Denial::Conflict(message));
    }
    let mut mounts = Vec::with_capacity(names.len());
    for name in names {
        let Some(mount) = all.iter().find(|mount| mount.name_any() == name) else {
            let (name, namespace) = (name.to_owned(), namespace.to_owned());
            return Err(Denial::UnknownMount { name, namespace, known: known(all) });
        };
        let unavailable = |why: String| Denial::Unavailable { name: name.to_owned(), why };
        if let Some(why) = not_to_be_had(mount) {
            return Err(unavailable(why));
        }
        if !matches(mount, labels)? {
            let why = "its podSelector does not match this pod: change the pod's labels or the selector";
            return Err(unavailable(why.to_owned()));
        }
        mounts.push(Arc::clone(mount));
    }
    Ok(Selection { mounts, warnings: Vec::new() })
}

fn matching(
    namespace: &str,
    all: &[&Arc<RemoteMount>],
    labels: &BTreeMap<String, String>,
) -> Result<Selection, Denial> {
    let (mut mounts, mut warnings) = (Vec::new(), Vec::new());
    for mount in all {
        // A selector that cannot be read is told of by the mount's status, once that is there.
        match (matches(mount, labels), not_to_be_had(mount)) {
            (Ok(false), _) => {}
            (Ok(true), None) => mounts.push(Arc::clone(mount)),
            (Err(denial), None) => return Err(denial),
            (_, Some(why)) => warnings.push(format!("RemoteMount {} is left out: {why}", mount.name_any())),
        }
    }
    if mounts.is_empty() {
        let mut hint = match (all.is_empty(), warnings.is_empty()) {
            (true, _) => String::new(),
            (false, true) => format!("; {}, none matches its labels", known(all)),
            (false, false) => format!("; {}", warnings.join("; ")),
        };
        hint.truncate(hint.char_indices().nth(800).map_or(hint.len(), |(at, _)| at));
        return Err(Denial::NoMount { namespace: namespace.to_owned(), hint });
    }
    Ok(Selection { mounts, warnings })
}

/// Why a new pod cannot have `mount`, if it cannot.
fn not_to_be_had(mount: &RemoteMount) -> Option<String> {
    if mount.metadata.deletion_timestamp.is_some() {
        return Some("it is being deleted".to_owned());
    }
    if let Some(problem) = &mount.spec.unreadable {
        return Some(problem.to_string());
    }
    if mount.spec.suspend {
        return Some("it is suspended: set spec.suspend to false".to_owned());
    }
    let conditions = mount.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let refused = conditions.iter().find(|condition| {
        condition.type_ == ConditionType::Accepted.as_str()
            && condition.status == "False"
            // What was said of an older spec may no longer be so.
            && condition.observed_generation == mount.metadata.generation
    })?;
    Some(format!("it is not accepted ({}): {}", refused.reason, refused.message))
}

/// Whether the mount's selector takes a pod of these labels.
///
/// # Errors
/// When it is no selector.
pub fn matches(mount: &RemoteMount, labels: &BTreeMap<String, String>) -> Result<bool, Denial> {
    let Some(selector) = &mount.spec.pod_selector else {
        return Ok(true);
    };
    let selector = Selector::try_from(selector.clone()).map_err(|error| Denial::InvalidMount {
        name: mount.name_any(),
        problem: format!("spec.podSelector: {error}; correct it, or remove it to match every pod"),
    })?;
    Ok(selector.matches(labels))
}

fn labels(pod: &Value) -> BTreeMap<String, String> {
    let labels = pod.pointer("/metadata/labels").and_then(Value::as_object);
    let text = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
    labels.map(|labels| labels.iter().filter_map(text).collect()).unwrap_or_default()
}

fn known(all: &[&Arc<RemoteMount>]) -> String {
    let mut names: Vec<String> = all.iter().map(|mount| mount.name_any()).collect();
    if names.is_empty() {
        return "there is none".to_owned();
    }
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("there {} {}{tail}", if names.len() == 1 { "is" } else { "are" }, names.join(", "))
}
