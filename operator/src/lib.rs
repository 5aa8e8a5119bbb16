//! The operator: `RemoteMount`s in, mount configuration, sidecars and true status out.
//!
//! ```text
//!  kubectl apply ─► mount/   dereference → validate → build → apply → report ─► ConfigMaps, status
//!  a new pod     ─► webhook/ ─► inject/   select → sidecar → patch           ─► the pod with its sidecar
//!  a sidecar     ─► control/ Hello, Status up, manifests down                ─► what `report` sums up
//! ```
//!
//! It never touches a bucket and never reads a Secret outside its own namespace. With the operator down,
//! pods that have their sidecar serve on; only status grows old, and new pods that ask for a sidecar wait.
#![forbid(unsafe_code)]

pub mod admin;
pub mod args;
pub mod certificates;
pub mod cluster;
pub mod control;
pub mod inject;
pub mod lasting;
pub mod leader;
pub mod metrics;
pub mod mount;
pub mod run;
pub mod webhook;
