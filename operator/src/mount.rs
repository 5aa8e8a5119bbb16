//! Reconcile: from a RemoteMount to what stands in its namespace, and back to its status.
//!
//! ```text
//!  dereference ─► validate ─► build ─► apply ─► report ─► status, events
//!   (watches)      (pure)     (pure)  (writes)   (pure)   (writes)
//! ```
//!
//! Runs on the replica that leads, and nowhere else: it alone writes. Level-based: a reconcile looks at
//! what is there and asks for nothing that stands already. A status is written when it differs, and at
//! most once in [`BETWEEN_WRITES`] a mount. What the user has to change waits for that change; what may
//! pass by itself is tried again later and later. Nothing here knows how to reach a bucket, and nothing
//! reads a Secret. `retire` is the way out of a mount that is deleted.

pub mod announce;
pub mod apply;
pub mod build;
pub mod dereference;
pub mod prune;
pub mod report;
pub mod retire;
pub mod validate;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use kube::core::{PartialObjectMeta, PartialObjectMetaExt as _};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::events::{Event, Recorder, Reporter};
use kube::runtime::finalizer::{self, Event as Finalized};
use kube::runtime::{WatchStreamExt as _, controller, reflector};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use remotemount_crds::{RemoteMount, names};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, lenient};
use crate::control::changes::MountKey;
use crate::control::outbox::Published;
use crate::control::registry::Registry;
use crate::metrics::Metrics;
use crate::mount::build::Control;
use crate::mount::report::Facts;

/// Between two status writes of one mount.
const BETWEEN_WRITES: Duration = Duration::from_secs(2);
/// Everything is looked at again after this, in case the word of a change was lost.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// A delete that waits is looked at after this.
const LOOK_AT_DELETES: Duration = Duration::from_secs(30);
/// The first and the longest pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Mounts that are reconciled at once; one that is deleted may hold its place for some seconds.
const AT_ONCE: u16 = 64;
/// A reconcile takes no longer; an API server that says nothing must not hold its place for ever.
const PATIENCE: Duration = Duration::from_secs(30);
/// After this replica came to lead, sidecars have so long to find it before their silence counts.
const SETTLING: Duration = Duration::from_secs(30);

/// What every reconcile works with.
pub struct Context {
    client: Client,
    cluster: Cluster,
    registry: Arc<Registry>,
    control: Arc<ArcSwapOption<Control>>,
    recorder: Recorder,
    metrics: Metrics,
    memory: Mutex<HashMap<String, Memory>>,
    leads_since: Instant,
}

/// What is remembered of a mount from one reconcile to the next, by uid.
#[derive(Default)]
struct Memory {
    written: Option<Instant>,
    failures: u32,
    retiring: Option<Instant>,
}

/// Why a reconcile could not be finished; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// Something could not be written.
    #[error(transparent)]
    Apply(#[from] apply::ApplyError),
    /// The finalizer could not be put or taken away.
    #[error("RemoteMount {mount}: {source}")]
    Finalizer {
        /// Namespace and name.
        mount: String,
        /// What the API server said.
        source: Box<finalizer::Error<Self>>,
    },
    /// It took too long.
    #[error("RemoteMount {mount}: no end after {} s", PATIENCE.as_secs())]
    TimedOut {
        /// Namespace and name.
        mount: String,
    },
}

impl Context {
    /// What reconciles work with; `control` is how sidecars find this operator, once that is known.
    #[must_use]
    pub fn new(
        client: Client,
        cluster: Cluster,
        registry: Arc<Registry>,
        control: Arc<ArcSwapOption<Control>>,
        instance: String,
        metrics: Metrics,
    ) -> Self {
        let reporter = Reporter { controller: names::FIELD_MANAGER.to_owned(), instance: Some(instance) };
        let recorder = Recorder::new(client.clone(), reporter);
        let (memory, leads_since) = (Mutex::default(), Instant::now());
        Self { client, cluster, registry, control, recorder, metrics, memory, leads_since }
    }

    /// Reconciles every mount, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let context = Arc::new(self);
        let scopes = lenient::apis(context.cluster.scope(), &context.client);
        let controllers = scopes.into_iter().map(|api| {
            let (stop, context) = (stop.clone(), Arc::clone(&context));
            async move {
                let (known, writer) = reflector::store();
                let watch = reflector::reflector(writer, lenient::mounts(api)).applied_objects();
                Controller::for_stream(watch, known)
                    .with_config(controller::Config::default().concurrency(AT_ONCE))
                    .reconcile_on(context.cluster.triggers())
                    .graceful_shutdown_on(stop.cancelled_owned())
                    .run(reconcile, after_failure, context)
                    .for_each(|_| async {})
                    .await;
            }
        });
        futures_util::future::join_all(controllers).await;
    }

    /// Whether sidecars may be on their way to this replica still: their silence says nothing yet.
    fn settling(&self) -> bool {
        self.leads_since.elapsed() < SETTLING
    }

    fn forget(&self, mount: &RemoteMount) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.remove(&mount.uid().unwrap_or_default());
    }

    fn remember<T>(&self, mount: &RemoteMount, change: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        change(memory.entry(mount.uid().unwrap_or_default()).or_default())
    }
}

async fn reconcile(mount: Arc<RemoteMount>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let namespace = mount.namespace().unwrap_or_default();
    // By its metadata alone: the answers hold a spec that this version may not be able to read.
    let api: Api<PartialObjectMeta<RemoteMount>> = Api::namespaced(context.client.clone(), &namespace);
    let of = Arc::new(mount.metadata.clone().into_response_partial::<RemoteMount>());
    let name = format!("{namespace}/{}", mount.name_any());
    let started = Instant::now();
    let (mount_of, context_of) = (&mount, &context);
    let work = finalizer::finalizer(&api, names::FINALIZER, of, |event| async move {
        match event {
            Finalized::Apply(_) => keep(mount_of, context_of).await,
            Finalized::Cleanup(_) => retire::retire(mount_of, context_of).await,
        }
    });
    let Ok(outcome) = tokio::time::timeout(PATIENCE, work).await else {
        context.metrics.reconciled(started.elapsed(), false);
        return Err(ReconcileError::TimedOut { mount: name });
    };
    context.metrics.reconciled(started.elapsed(), outcome.is_ok());
    match outcome {
        Ok(action) if mount.metadata.deletion_timestamp.is_none() => {
            context.remember(&mount, |memory| memory.failures = 0);
            Ok(action)
        }
        Ok(action) => {
            context.forget(&mount);
            Ok(action)
        }
        // Looked at once more after it had gone: what is known of it was a moment old.
        Err(finalizer::Error::AddFinalizer(error) | finalizer::Error::RemoveFinalizer(error)) if is_gone(&error) => {
            context.forget(&mount);
            Ok(Action::await_change())
        }
        Err(finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error)) => Err(error),
        Err(source) => Err(ReconcileError::Finalizer { mount: name, source: Box::new(source) }),
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Later and later, each mount by itself.
fn after_failure(mount: Arc<RemoteMount>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let failures = context.remember(&mount, |memory| {
        memory.failures = memory.failures.saturating_add(1);
        memory.failures
    });
    let pause = PAUSE.0.saturating_mul(1 << failures.min(7).saturating_sub(1)).min(PAUSE.1);
    tracing::warn!(mount = %mount.name_any(), namespace = mount.namespace(), %error, again_seconds = pause.as_secs(), "not reconciled");
    Action::requeue(pause)
}

/// Makes what the mount asks for stand, and says how it is.
async fn keep(mount: &RemoteMount, context: &Context) -> Result<Action, ReconcileError> {
    let facts = if mount.spec.suspend {
        Ok(Facts::Suspended)
    } else {
        let around = dereference::look(&context.cluster, mount);
        match validate::judge(mount, around.siblings.iter().map(|sibling| &**sibling)) {
            Err(mut refusal) => {
                if around.config_map.is_some() {
                    // An edit may have made the policy stricter as well: whoever made it must not believe that it holds.
                    refusal.message += "; until then sidecars go on as before this edit, by the deletePolicy of then";
                }
                Ok(Facts::Refused(refusal))
            }
            Ok(()) => publish(mount, &around, context).await,
        }
    };
    let (facts, failure) = match facts {
        Ok(facts) => (facts, None),
        Err(error) => (Facts::Unpublished(error.to_string()), Some(error)),
    };
    let again = tell(mount, &facts, context).await?;
    match failure {
        // Said in the status, and tried again.
        Some(error) => Err(error.into()),
        None => Ok(again),
    }
}

/// Puts the configuration where sidecars read it, and tells those that are connected.
async fn publish(
    mount: &RemoteMount,
    around: &dereference::Surroundings,
    context: &Context,
) -> Result<Facts, apply::ApplyError> {
    let Context { client, cluster, registry, .. } = context;
    let (namespace, name) = (mount.namespace().unwrap_or_default(), mount.name_any());
    let manifest = match build::manifest(mount) {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Facts::Unpublished(error.to_string())),
    };
    if let Some(control) = &*context.control.load() {
        let wanted = build::control_config_map(&namespace, control);
        apply::config_map(client, &wanted, around.control.as_deref()).await?;
    }
    let wanted = build::config_map(mount, manifest.clone());
    if apply::config_map(client, &wanted, around.config_map.as_deref()).await? {
        tracing::info!(mount = name, namespace, generation = mount.metadata.generation, "published");
    }
    let published = Published::Manifest {
        uid: mount.uid().unwrap_or_default().into(),
        generation: mount.metadata.generation.unwrap_or_default(),
        yaml: manifest.into(),
    };
    registry.publish(MountKey::new(namespace, name), published);
    Ok(Facts::Published(Box::new(dereference::report(cluster, registry, mount))))
}

/// Writes the status if it differs, and not too often; answers when to look again.
async fn tell(mount: &RemoteMount, facts: &Facts, context: &Context) -> Result<Action, ReconcileError> {
    let old = mount.status.clone().unwrap_or_default();
    // What an earlier leader heard is truer than what this one has not heard yet. What that one did not know, such as a
    // new pod, is told at once.
    if context.settling() && report::fewer_are_heard_from(mount, facts) {
        return Ok(Action::requeue(BETWEEN_WRITES));
    }
    let key = MountKey::new(mount.namespace().unwrap_or_default(), mount.name_any());
    if let Some(event) = announce::restarted(&context.registry.take_restarted(&key)) {
        publish_event(mount, &event, context).await;
    }
    let now = Timestamp::now();
    let new = report::status(mount, facts, now);
    let again = if report::ages(facts, now) { LOOK_AT_DELETES } else { LOOK_AGAIN };
    if new == old {
        tracing::debug!(mount = %mount.name_any(), "the status stands");
        return Ok(Action::requeue(again));
    }
    let wait = context.remember(mount, |memory| {
        memory.written.and_then(|written| BETWEEN_WRITES.checked_sub(written.elapsed())).filter(|wait| !wait.is_zero())
    });
    if let Some(wait) = wait {
        tracing::debug!(mount = %mount.name_any(), wait_millis = wait.as_millis(), "another status is written in a while");
        return Ok(Action::requeue(wait));
    }
    context.remember(mount, |memory| memory.written = Some(Instant::now()));
    apply::status(&context.client, mount, &new).await?;
    context.metrics.status_writes.inc();
    for event in announce::events(&old, &new) {
        publish_event(mount, &event, context).await;
    }
    Ok(Action::requeue(again))
}

/// An event that is lost costs a line in `kubectl describe`; the condition says it all the same.
async fn publish_event(mount: &RemoteMount, event: &Event, context: &Context) {
    if let Err(error) = context.recorder.publish(event, &mount.object_ref(&())).await {
        tracing::warn!(mount = %mount.name_any(), %error, "an event could not be written");
    }
}
