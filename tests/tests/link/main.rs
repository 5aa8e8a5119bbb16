//! The control link, both ends over real TLS: real sidecars, the operator's own server, and a real API
//! server that says whose a token is.
//!
//! One control plane and one S3 server are shared by all of it; whoever stops a server has its own.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod crowd;
mod identity;
mod manifests;
mod outage;
mod stage;
mod status;
