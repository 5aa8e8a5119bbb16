//! What a real Kubernetes API server makes of the CRD, and what the operator builds on.
//!
//! One control plane is shared by all of it; whoever stops a server, or wants controllers, has its own.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod crd;
mod manifests;
mod plane;
mod spec_rules;
mod status;
mod tokens;
