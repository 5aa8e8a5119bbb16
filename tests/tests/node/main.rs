//! On a real node: kubelet starts what the operator injects, and pods use it.
//!
//! Every test here is `#[ignore]`d, because it needs namespaces of its own: `make test-node` makes them and runs these
//! tests, and so does `make test` at its end. All share one node, which takes twenty seconds to start, and each has a
//! namespace of Kubernetes of its own.

mod costs;
mod deletes;
mod installed;
mod pods;
mod troubles;
mod workloads;
