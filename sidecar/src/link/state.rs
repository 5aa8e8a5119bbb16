//! How the control link is: for `/status`, metrics and the log.
//!
//! One line of log a change, and not more than one in five minutes of the same kind: an operator may be
//! down for days. Nothing here is asked by `/readyz`.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::clock;
use crate::link::error::LinkError;
use crate::metrics::LinkMetrics;

/// A failure of the same kind is logged again after this.
const AGAIN: Duration = Duration::from_secs(300);

/// What is known of the control link.
#[derive(Debug)]
pub struct LinkState {
    inner: Mutex<Inner>,
    metrics: LinkMetrics,
}

#[derive(Debug)]
struct Inner {
    status: LinkStatus,
    logged: Option<(&'static str, Instant)>,
}

/// How the control link is, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkStatus {
    /// How it is.
    pub state: Phase,
    /// Since when, in milliseconds since 1970.
    pub since_millis: u64,
    /// Where the operator was last looked for.
    pub endpoint: Option<String>,
    /// Why the last attempt failed, or the last stream ended.
    pub last_error: Option<LastError>,
}

/// How the control link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    /// Without `--control`: the sidecar runs alone.
    Off,
    /// An attempt is under way.
    Connecting,
    /// The operator has welcomed this sidecar.
    Connected,
    /// The last attempt failed; the next comes in a while.
    Waiting,
}

/// Why the link was lost, or could not be made.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// When, in milliseconds since 1970.
    pub at_millis: u64,
    /// [`LinkError::kind`]
    pub kind: &'static str,
    /// What to change.
    pub message: String,
}

impl LinkState {
    /// Without a link, as yet or for good.
    #[must_use]
    pub const fn new(metrics: LinkMetrics) -> Self {
        let status = LinkStatus { state: Phase::Off, since_millis: 0, endpoint: None, last_error: None };
        Self { inner: Mutex::new(Inner { status, logged: None }), metrics }
    }

    /// The state as it is.
    #[must_use]
    pub fn get(&self) -> LinkStatus {
        self.inner().status.clone()
    }

    /// What is counted.
    pub const fn metrics(&self) -> &LinkMetrics {
        &self.metrics
    }

    /// An attempt begins.
    pub fn connecting(&self) {
        self.inner().turn(Phase::Connecting);
    }

    /// The attempt goes there.
    pub fn to(&self, endpoint: &str) {
        self.inner().status.endpoint = Some(endpoint.to_owned());
    }

    /// The operator has welcomed this sidecar as that pod.
    pub fn connected(&self, namespace: &str, pod: &str, version: &str) {
        let mut inner = self.inner();
        inner.turn(Phase::Connected);
        inner.status.last_error = None;
        inner.logged = None;
        self.metrics.connected.set(1);
        self.metrics.attempt(LinkMetrics::OK);
        let endpoint = inner.status.endpoint.clone().unwrap_or_default();
        tracing::info!(endpoint, namespace, pod, operator = version, "control link connected");
    }

    /// The attempt failed, or the stream ended.
    pub fn ended(&self, error: Option<&LinkError>) {
        let mut inner = self.inner();
        self.metrics.connected.set(0);
        let was = inner.status.state;
        inner.turn(Phase::Waiting);
        let Some(error) = error else { return };
        let (kind, message) = (error.kind(), error.to_string());
        if was != Phase::Connected {
            self.metrics.attempt(kind);
        }
        if inner.logged.is_none_or(|(last, at)| last != kind || at.elapsed() >= AGAIN) {
            inner.logged = Some((kind, Instant::now()));
            tracing::warn!(kind, error = message, "no control link; serving goes on, and it is tried again");
        }
        inner.status.last_error = Some(LastError { at_millis: clock::now().0, kind, message });
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn turn(&mut self, state: Phase) {
        self.status.state = state;
        self.status.since_millis = clock::now().0;
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn it_goes_from_off_to_connected_and_back_with_the_reason() {
        let state = LinkState::new(Metrics::register(&mut Registry::default()).link());
        assert_eq!(state.get().state, Phase::Off);
        state.connecting();
        state.to("https://o:1");
        state.ended(Some(&LinkError::TokenRefused("expired".to_owned())));
        let status = state.get();
        assert_eq!((status.state, status.last_error.unwrap().kind), (Phase::Waiting, "TokenRefused"));
        state.connecting();
        assert!(state.get().last_error.is_some(), "kept until it is mended");
        state.connected("ns", "p", "1");
        let status = state.get();
        assert_eq!((status.state, status.endpoint.as_deref()), (Phase::Connected, Some("https://o:1")));
        assert!(status.last_error.is_none());
        state.ended(None);
        assert!(state.get().last_error.is_none(), "it is only to come again");
    }
}
