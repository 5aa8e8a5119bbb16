//! Build: what a mount is to have in its namespace. Pure.
//!
//! One ConfigMap a mount, with its manifest; one a namespace, with the way to the control link. The
//! same input gives the same bytes, so that what stands already is not written again. No Secret is
//! named here: the manifest says which one a sidecar reads, and injection mounts it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;
use kube::{Resource as _, ResourceExt as _};
use remotemount_crds::{API_VERSION, KIND, RemoteMount, names};
use serde_json::{Map, Value, json};

/// Where sidecars find the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// As `https://host:port`.
    pub endpoint: String,
    /// The certificates to trust, as PEM.
    pub ca: String,
}

/// Why a manifest could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the manifest of {mount} cannot be written: {source}")]
pub struct BuildError {
    /// Which mount.
    pub mount: String,
    /// Why.
    pub source: serde_saphyr::SerializeError,
}

/// The manifest: the mount without what changes when nothing of the mount does.
///
/// # Errors
/// When the spec cannot be written as YAML.
pub fn manifest(mount: &RemoteMount) -> Result<String, BuildError> {
    // Not by the writer of the CRD: it leaves words bare that YAML 1.1 takes for something else (decision 11).
    let document = json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": mount.name_any(),
            "namespace": mount.namespace(),
            "uid": mount.uid(),
            "generation": mount.metadata.generation,
        },
        "spec": mount.spec,
    });
    serde_saphyr::to_string(&without_nulls(document)).map_err(|source| BuildError { mount: mount.name_any(), source })
}

/// The ConfigMap of a mount. It goes with the mount.
#[must_use]
pub fn config_map(mount: &RemoteMount, manifest: String) -> ConfigMap {
    let labels = BTreeMap::from([
        (names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned()),
        (names::MOUNT_LABEL.to_owned(), names::mount_label(&mount.name_any())),
    ]);
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(names::config_map(&mount.name_any())),
            namespace: mount.namespace(),
            labels: Some(labels),
            owner_references: owner(mount).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(names::MANIFEST_KEY.to_owned(), manifest)])),
        ..ConfigMap::default()
    }
}

/// The ConfigMap of the control link in a namespace. It belongs to all mounts there, and goes with the last.
#[must_use]
pub fn control_config_map(namespace: &str, control: &Control) -> ConfigMap {
    let labels = BTreeMap::from([(names::MANAGED_BY_LABEL.to_owned(), names::MANAGED_BY.to_owned())]);
    let data = BTreeMap::from([
        (names::ENDPOINT_KEY.to_owned(), control.endpoint.clone()),
        (names::CA_KEY.to_owned(), control.ca.clone()),
    ]);
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(names::CONTROL_CONFIG_MAP.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..ConfigMap::default()
    }
}

/// Whether what stands is what is wanted; what others have added to it does not count.
#[must_use]
pub fn stands(wanted: &ConfigMap, standing: Option<&ConfigMap>) -> bool {
    standing.is_some_and(|standing| {
        let labels = |map: &ConfigMap| map.metadata.labels.clone().unwrap_or_default();
        let standing_labels = labels(standing);
        let data = standing.data.as_ref();
        let has = |(key, value): (&String, &String)| data.is_some_and(|data| data.get(key) == Some(value));
        wanted.data.iter().flatten().all(has)
            && wanted.owner_references().iter().all(|owner| standing.owner_references().contains(owner))
            && labels(wanted).iter().all(|(key, value)| standing_labels.get(key) == Some(value))
    })
}

/// The mount as the owner of what is made for it.
fn owner(mount: &RemoteMount) -> Option<OwnerReference> {
    mount.controller_owner_ref(&())
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key, without_nulls(value))).collect::<Map<_, _>>())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount() -> RemoteMount {
        let text = "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {name: a, namespace: ns, uid: u-1, generation: 3}\nspec: {path: /a, remote: {s3: {bucket: bucket}}, credentials: {secretRef: {name: s3-creds}}}\n";
        remotemount_crds::manifest::parse(text.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn a_sidecar_reads_what_is_built() {
        let built = config_map(&mount(), manifest(&mount()).unwrap());
        let read =
            remotemount_crds::manifest::parse(built.data.as_ref().unwrap()[names::MANIFEST_KEY].as_bytes()).unwrap();
        assert_eq!(read[0].spec, mount().spec);
        assert_eq!((read[0].metadata.generation, read[0].uid()), (Some(3), Some("u-1".to_owned())));
        let owners = built.metadata.owner_references.unwrap();
        assert_eq!((owners[0].uid.as_str(), owners[0].controller), ("u-1", Some(true)));
    }

    #[test]
    fn the_same_mount_builds_the_same_bytes() {
        let mut touched = mount();
        touched.metadata.resource_version = Some("7".to_owned());
        touched.metadata.annotations = Some(BTreeMap::from([("k".to_owned(), "v".to_owned())]));
        touched.status = Some(remotemount_crds::RemoteMountStatus::default());
        assert_eq!(manifest(&mount()).unwrap(), manifest(&touched).unwrap());
    }

    #[test]
    fn words_that_yaml_takes_for_something_else_stay_words() {
        let mut odd = mount();
        for word in ["on", "yes", "NO", "2024_01", "1e3", "0x10", "~", "null", "0644", "12:30:45"] {
            odd.metadata.namespace = Some(word.to_owned());
            odd.spec.remote.s3.as_mut().unwrap().prefix = word.to_owned();
            let text = manifest(&odd).unwrap();
            let read = remotemount_crds::manifest::parse(text.as_bytes()).expect(word);
            assert_eq!(read[0].spec, odd.spec, "{word}: {text}");
        }
    }

    #[test]
    fn what_stands_is_not_written_again() {
        let wanted = config_map(&mount(), manifest(&mount()).unwrap());
        assert!(!stands(&wanted, None));
        let mut standing = wanted.clone();
        standing.metadata.labels.as_mut().unwrap().insert("team".to_owned(), "theirs".to_owned());
        assert!(stands(&wanted, Some(&standing)), "what others add does not count");
        standing.data.as_mut().unwrap().insert("more".to_owned(), String::new());
        assert!(stands(&wanted, Some(&standing)), "nor here");
        standing.data.as_mut().unwrap().insert(names::MANIFEST_KEY.to_owned(), String::new());
        assert!(!stands(&wanted, Some(&standing)));
    }
}
