//! The RemoteMount filer sidecar: one process, no cluster needed.
//!
//! ```text
//! doors/*  →  filer/{lookup, list, read}  →  store | remote
//! ```
//!
//! Protocol in at a [`doors`] module, one verb of the [`filer`], answer out. The filer finds the mount
//! ([`mounts`]), looks into the [`store`], and asks the [`remote`] at most once for what is missing.
//! Strings become paths in [`path`] only; what is known of a name is an [`entry`]. [`admin`] shows how
//! it is, and [`link`] tells the operator, where there is one. The contract is `docs/SEMANTICS.md`.
#![forbid(unsafe_code)]

pub mod admin;
pub mod args;
pub mod clock;
pub mod crash;
pub mod doors;
pub mod entry;
pub mod events;
pub mod filer;
pub mod link;
pub mod metrics;
pub mod mounts;
pub mod path;
pub mod probe;
pub mod remote;
pub mod run;
pub mod store;
