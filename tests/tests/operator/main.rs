//! The operator on a real control plane: `kubectl apply` in, configuration, sidecars and true status out.
//!
//! One control plane and one operator for most scenarios, each in a namespace of its own; those that
//! stop something have their own. Pods are real objects that went through admission; their sidecars run
//! as processes, from what was injected.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod crowd;
mod lifecycle;
mod narrowed;
mod newer;
mod outage;
mod rbac;
mod retire;
mod stage;
mod status;
