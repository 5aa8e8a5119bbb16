//! The chart `charts/remotemount`, with the real Helm on a real API server.
//!
//! What it renders is checked twice: by its own schema, and by the API server, object by object. What it
//! installs is used: the operator runs with the ServiceAccount, roles and arguments that Helm put there.
//! There is no node, so nothing waits for pods; that is for the tests with one.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod combinations;
mod confined;
mod lifecycle;
mod one_truth;
mod refusals;
mod running;
mod stage;
mod values;
mod watched;
