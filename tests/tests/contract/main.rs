//! The contract, paragraph by paragraph: `docs/SEMANTICS.md` at the real HTTP door of the real binary.
//!
//! Behind it a real S3 server, and between the two the counting, fault-injecting proxy. Each test has
//! the name of its paragraph; `semantics_doc` holds the document and the tests to the same list. One
//! server is shared by all tests of a run; each has its own bucket, proxy and sidecar.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod conditional;
mod delete;
mod delete_directory;
mod delete_policy;
mod delete_races;
mod delete_unclear;
mod faults;
mod grpc;
mod grpc_changes;
mod listing;
mod lookup;
mod mounts;
mod names;
mod read;
mod restart;
mod semantics_doc;
mod stage;
mod store_trouble;
