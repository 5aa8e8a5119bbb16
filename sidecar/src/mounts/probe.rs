//! Probe: asks a remote for one key while nothing else says that it answers.
//!
//! So a wrong endpoint shows before the first lookup, and a remote that was away is known to be back
//! though nobody reads. A remote that answers is left alone: an idle sidecar makes no requests. What
//! the answer means is for the observer to say, which sees every request.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::mounts::{Mount, Mounts};
use crate::remote::ListRequest;

/// Between two looks at how it is, and half as much again at most.
const AGAIN: Duration = Duration::from_secs(30);

/// Asks whenever the remote is not known to answer, until the mount is retired or `stop`.
pub async fn run(mount: Arc<Mount>, mounts: Arc<Mounts>, stop: CancellationToken) {
    let request = ListRequest { prefix: mount.prefix.as_str().to_owned(), limit: 1, ..ListRequest::default() };
    loop {
        if mount.health.get().reachable != Some(true) {
            let Some(answer) = stop.run_until_cancelled(mount.remote.list(&request)).await else { return };
            if let Err(error) = answer {
                tracing::warn!(mount = mount.name, remote = mount.uri, kind = error.kind.as_str(), %error, "remote not reachable");
            }
        }
        let again = AGAIN.mul_f64(1.0 + clock::jitter() / 2.0);
        if stop.run_until_cancelled(tokio::time::sleep(again)).await.is_none() {
            return;
        }
        if !mounts.load().iter().any(|live| Arc::ptr_eq(live, &mount)) {
            return;
        }
    }
}
