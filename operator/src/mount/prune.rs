//! Prune: ConfigMaps that were made for mounts that are no more.
//!
//! A mount that is deleted takes its own along, and the garbage collector what it leaves. What is left
//! for here: the control link's ConfigMap of a namespace whose last mount went without its finalizer,
//! and what an older version made under other names. Only what carries the operator's own label, and
//! names no mount that is there, is taken.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use remotemount_crds::{KIND, RemoteMount, names};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::mount::apply;

/// How often it is looked for.
const INTERVAL: Duration = Duration::from_secs(120);

/// Looks for what is left over, now and again, until `stop`.
pub async fn run(client: kube::Client, cluster: Cluster, stop: CancellationToken) {
    // Not at once: a mount may be known a moment later than its ConfigMap.
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        for map in cluster.config_maps() {
            let (namespace, name) = (map.namespace().unwrap_or_default(), map.name_any());
            let mounts = cluster.mounts(&namespace);
            if !left_over(&map, mounts.iter().map(|mount| &**mount)) {
                continue;
            }
            match apply::remove_config_map(&client, &map).await {
                Ok(()) => tracing::info!(namespace, name, "a ConfigMap that no mount wants is taken away"),
                Err(error) => tracing::warn!(%error, "a ConfigMap that no mount wants could not be taken away"),
            }
        }
    }
}

/// Whether no mount of its namespace wants the ConfigMap.
fn left_over<'m>(map: &ConfigMap, mounts: impl IntoIterator<Item = &'m RemoteMount>) -> bool {
    let mut mounts = mounts.into_iter();
    if map.name_any() == names::CONTROL_CONFIG_MAP {
        return mounts.next().is_none();
    }
    let owners = map.owner_references();
    let owner = owners.iter().find(|owner| owner.kind == KIND);
    // Without an owner it is not of this version's making, unless the label says so.
    let Some(owner) = owner else { return false };
    !mounts.any(|mount| {
        mount.uid().as_deref() == Some(&owner.uid) && names::config_map(&mount.name_any()) == map.name_any()
    })
}

#[cfg(test)]
mod tests {
    use remotemount_crds::manifest;

    use super::*;
    use crate::mount::build;

    fn mount(name: &str, uid: &str) -> RemoteMount {
        let text = format!(
            "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {{name: {name}, namespace: ns, uid: u-{uid}}}\nspec: {{path: /a, remote: {{s3: {{bucket: bucket}}}}}}\n"
        );
        manifest::parse(text.as_bytes()).unwrap().remove(0)
    }

    #[test]
    fn only_what_no_mount_wants_is_left_over() {
        let (a, b) = (mount("a", "1"), mount("b", "2"));
        let map = build::config_map(&a, String::new());
        assert!(!left_over(&map, [&a, &b]));
        assert!(left_over(&map, [&b]));
        assert!(left_over(&map, [&mount("a", "3")]), "another mount of that name");
        let mut renamed = map.clone();
        renamed.metadata.name = Some("remotemount-a".to_owned());
        assert!(left_over(&renamed, [&a]), "as an older version called it");
        let control = build::control_config_map("ns", &build::Control { endpoint: String::new(), ca: String::new() });
        assert!(!left_over(&control, [&b]) && left_over(&control, []));
        let theirs =
            ConfigMap { metadata: kube::api::ObjectMeta { owner_references: None, ..map.metadata.clone() }, ..map };
        assert!(!left_over(&theirs, []), "not ours to judge");
    }
}
