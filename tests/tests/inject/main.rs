//! Injection: golden pods, what is refused, the webhook over real TLS, certificates as time goes by, and
//! all of it against a real API server.
//!
//! A golden case is a folder of `tests/golden/inject/`: `pod.yaml` and `mounts.yaml` in (and `sidecar-metrics`,
//! where that flag is to be set), `injected.yaml` out.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod admitted;
mod authority;
mod certificates;
mod command;
mod denials;
mod door;
mod golden;
mod properties;
mod stage;
