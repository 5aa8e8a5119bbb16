//! Leader: one replica reconciles and takes sidecars in; the others answer the webhook and wait.
//!
//! By a Lease in the operator's namespace. A leader that is gone is replaced when its lease has run out,
//! [`DURATION`] after it was last renewed; one that is told to stop gives it back at once. A replica
//! that has lost the lease ends its process rather than take apart what it was doing: what starts anew
//! knows nothing that has become wrong. One that could not renew it for as long as it was good has lost
//! it, whatever it hears later or still waits for: [`tenure`] has the clock, and keeps the leader's client
//! from writing after it. Every question about the lease has a limit of its own beside that, so that one
//! that is not answered leaves time for another.

mod tenure;

use std::time::Duration;

use kube::Config;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use remotemount_crds::names;
use tokio_util::sync::CancellationToken;

pub use self::tenure::Tenure;

/// A lease is good for so long after it was renewed, in seconds.
pub const DURATION: u64 = 9;
/// It is renewed so long before it would run out, in seconds.
const GRACE: u64 = 5;
/// Between two attempts, when the API server cannot be asked.
const AGAIN: Duration = Duration::from_secs(1);
/// A question about the lease is answered within this, or given up.
const ANSWER: Duration = Duration::from_secs(2);

/// This replica's part in the election.
pub struct Leader {
    lease: LeaseManager,
    tenure: Tenure,
}

/// Why this replica cannot take part.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaderError {
    /// No client could be made.
    #[error("no client of the API server")]
    Client(#[from] kube::Error),
    /// The Lease can be neither read nor made.
    #[error("the Lease cannot be had: {0}")]
    Lease(#[from] LeaseManagerError),
}

impl Leader {
    /// Takes part in the election under `identity`, which no other replica has.
    ///
    /// # Errors
    /// When the Lease can be neither read nor made.
    pub async fn new(config: &Config, namespace: &str, identity: &str, tenure: &Tenure) -> Result<Self, LeaderError> {
        // Its own client: a watch may be silent for minutes, an answer about the lease may not.
        let mut config = config.clone();
        (config.read_timeout, config.connect_timeout) = (Some(ANSWER), Some(ANSWER));
        let client = tenure.renewing(config)?;
        let lease = LeaseManagerBuilder::new(client, names::LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .with_field_manager(format!("{}-{identity}", names::FIELD_MANAGER))
            .build()
            .await?;
        Ok(Self { lease, tenure: tenure.clone() })
    }

    /// Waits until this replica leads, then says so by `leads`, and returns once it does not lead any more, or at
    /// `stop`, when the lease is given back.
    pub async fn hold(self, leads: impl FnOnce(), stop: &CancellationToken) {
        let mut leads = Some(leads);
        loop {
            let leading = leads.is_none();
            let changed = tokio::select! {
                // First: after a while without time, it is too late for whatever else is there.
                biased;
                () = self.tenure.over(), if leading => {
                    tracing::error!("the lease has run out before it could be renewed; this replica starts anew");
                    return;
                }
                () = stop.cancelled() => break,
                changed = self.lease.changed() => changed,
            };
            match changed {
                Ok(true) => {
                    tracing::info!("this replica leads");
                    if let Some(leads) = leads.take() {
                        leads();
                    }
                }
                Ok(false) => {
                    tracing::error!("another replica leads now; this one starts anew");
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "the lease could not be renewed or looked at; it is tried again");
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN) => {}
                        () = self.tenure.over(), if leading => {}
                        () = stop.cancelled() => break,
                    }
                }
            }
        }
        match self.lease.release().await {
            Ok(()) => tracing::info!("the lease is given back"),
            Err(error) => tracing::warn!(%error, "the lease could not be given back; it runs out by itself"),
        }
    }
}
