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
        let connected = report.total - report.unreported;
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
    apply::remove_config_map(&context.client, &namespace, &names::config_map(&name)).await?;
    let last = context.cluster.mounts(&namespace).iter().all(|other| other.name_any() == name);
    if last {
        apply::remove_config_map(&context.client, &namespace, names::CONTROL_CONFIG_MAP).await?;
    }
    context.memory.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&mount.uid().unwrap_or_default());
    Ok(Action::await_change())
}
