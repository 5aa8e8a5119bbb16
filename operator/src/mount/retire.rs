//! Retire: the way out of a RemoteMount that was deleted. It never touches the bucket (X9).
//!
//! In this order: sidecars are told to propagate no more deletes, and the mount waits for those that
//! are connected to say that they do not, for [`PATIENCE`] at most; then its ConfigMap goes, and with
//! the namespace's last mount the one of the control link; then the finalizer. A sidecar that cannot be
//! reached holds nothing up: it loses the mount with its file.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use remotemount_crds::{RemoteMount, names};
use tokio::time::Instant;

use crate::control::changes::MountKey;
use crate::control::outbox::Published;
use crate::mount::{Context, ReconcileError, apply, dereference};

/// How long connected sidecars are waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often they are looked at meanwhile, should their word not come.
const LOOK: Duration = Duration::from_millis(500);

/// Takes away what stands for the mount.
///
/// # Errors
/// When the API server refuses or cannot be reached; it is tried again.
pub async fn retire(mount: &RemoteMount, context: &Context) -> Result<Action, ReconcileError> {
    let (namespace, name) = (mount.namespace().unwrap_or_default(), mount.name_any());
    let removed = Published::Removed { uid: mount.uid().unwrap_or_default().into() };
    context.registry.publish(MountKey::new(&*namespace, &*name), removed);
    let since = context.remember(mount, |memory| *memory.retiring.get_or_insert_with(Instant::now));
    loop {
        let report = dereference::report(&context.cluster, &context.registry, mount);
        // A leader that has just begun has heard of nobody: it waits for those that are on their way to it.
        let silent = if context.settling() { 0 } else { report.unreported };
        let connected = report.total - silent;
        if report.withdrawn >= connected || since.elapsed() >= PATIENCE {
            tracing::info!(
                mount = name,
                namespace,
                withdrawn = report.withdrawn,
                connected,
                "deletes are propagated no more; the configuration goes"
            );
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    // One that belongs to another mount of that name is not this one's to take; one that is not known yet goes with its owner.
    let own = context.cluster.config_map(&namespace, &names::config_map(&name));
    if let Some(own) =
        own.filter(|map| map.owner_references().iter().any(|owner| Some(&owner.uid) == mount.uid().as_ref()))
    {
        apply::remove_config_map(&context.client, &own).await?;
    }
    // Those that are on their way out, too, each count the others out: of several that go at once, none is the last.
    let going = |other: &RemoteMount| other.uid() == mount.uid() || other.metadata.deletion_timestamp.is_some();
    let last = context.cluster.mounts(&namespace).iter().all(|other| going(other));
    if last && let Some(control) = context.cluster.config_map(&namespace, names::CONTROL_CONFIG_MAP) {
        apply::remove_config_map(&context.client, &control).await?;
    }
    Ok(Action::await_change())
}
