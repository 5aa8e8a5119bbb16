//! Leader: one replica reconciles and takes sidecars in; the others answer the webhook and wait.
//!
//! By a Lease in the operator's namespace. A leader that is gone is replaced when its lease has run out,
//! [`DURATION`] after it was last renewed; one that is told to stop gives it back at once. A replica
//! that has lost the lease ends its process rather than take apart what it was doing: what starts anew
//! knows nothing that has become wrong.

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use remotemount_crds::names;
use tokio_util::sync::CancellationToken;

/// A lease is good for so long after it was renewed, in seconds.
pub const DURATION: u64 = 9;
/// It is renewed so long before it would run out, in seconds.
const GRACE: u64 = 5;
/// Between two attempts, when the API server cannot be asked.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// This replica's part in the election.
pub struct Leader {
    lease: LeaseManager,
}

impl Leader {
    /// Takes part in the election under `identity`, which no other replica has.
    ///
    /// # Errors
    /// When the Lease can be neither read nor made.
    pub async fn new(client: Client, namespace: &str, identity: &str) -> Result<Self, LeaseManagerError> {
        let lease = LeaseManagerBuilder::new(client, names::LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .with_field_manager(format!("{}-{identity}", names::FIELD_MANAGER))
            .build()
            .await?;
        Ok(Self { lease })
    }

    /// Waits until this replica leads, then says so by `leads`, and returns once it does not lead any more, or at
    /// `stop`, when the lease is given back.
    pub async fn hold(self, leads: impl FnOnce(), stop: &CancellationToken) {
        let mut leads = Some(leads);
        loop {
            let Some(changed) = stop.run_until_cancelled(self.lease.changed()).await else { break };
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
                    if stop.run_until_cancelled(tokio::time::sleep(AGAIN)).await.is_none() {
                        break;
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
