//! The control link, the sidecar's end: says how this sidecar is, and takes newer manifests.
//!
//! ```text
//!  settings ─► connect (TCP, TLS, HTTP/2) ─► session ─► Hello, Status up      ◄─ report ◄─ mounts
//!                     ▲                          └────► manifests down ─► mounts::newest
//!                  backoff                 state ─► /status, metrics, log
//! ```
//!
//! Owns one connection and one stream, made again whenever they end. Nothing waits for it: without an
//! operator the sidecar starts, is ready and serves; all that a link that is down costs is an attempt
//! now and then. After a reconnect everything is said again. It never decides what is served: what comes
//! down goes to [`crate::mounts::newest`], where files and link meet.

pub mod backoff;
pub mod connect;
pub mod error;
pub mod report;
pub mod session;
pub mod settings;
pub mod state;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::link::backoff::{After, Backoff};
use crate::link::report::Reporter;
use crate::link::settings::Settings;
use crate::link::state::LinkState;
use crate::mounts::newest::Newest;

/// A stream that lasted for so long was a good one: what ends it is something new.
const GOOD: Duration = Duration::from_secs(10);

/// The sidecar's end of the control link.
pub struct Link {
    /// Where the operator is, whom to trust and what to show.
    pub settings: Settings,
    /// Says how this sidecar is.
    pub reporter: Reporter,
    /// Where what comes down goes.
    pub newest: Arc<Newest>,
    /// What is said of the link itself.
    pub state: Arc<LinkState>,
    /// Ends it.
    pub stop: CancellationToken,
}

impl Link {
    /// Keeps a stream open until the stop.
    pub async fn run(mut self) {
        let (start_id, mut backoff) = (format!("{:x}", clock::nanos()), Backoff::default());
        loop {
            self.state.connecting();
            let begun = Instant::now();
            let stop = self.stop.clone();
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.session(&start_id) => ended,
            };
            if begun.elapsed() >= GOOD {
                backoff.reset();
            }
            let pause = match ended {
                // The operator ends a stream before its token does; by now there is a newer one.
                Ok(()) if begun.elapsed() >= GOOD => Duration::ZERO,
                Ok(()) => backoff.next(clock::jitter(), After::End),
                Err(ref error) if error.is_refusal() => backoff.next(clock::jitter(), After::Refusal),
                Err(_) => backoff.next(clock::jitter(), After::Failure),
            };
            self.state.ended(ended.err().as_ref());
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
