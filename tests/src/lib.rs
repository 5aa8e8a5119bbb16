//! The pieces every test, demo and benchmark of RemoteMount stands on.
//!
//! Real S3 servers ([`s3_server`]) with buckets to fill ([`bucket`]), a proxy in front of them that
//! counts requests and breaks them on demand ([`proxy`]), the real sidecar binary ([`sidecar`],
//! [`manifest`]) and a plain socket to speak to it ([`wire`]), and a real Kubernetes control plane
//! ([`control_plane`]) with a real Helm ([`helm`]). Images are written by [`oci`]. All of it listens on
//! loopback only, and whatever is started ends with the value that stands for it, or with the test process.
//!
//! It knows the contract only through the doors: nothing here reaches into the sidecar's code, but for
//! the streams of a [`crowd`].
#![forbid(unsafe_code)]

pub mod bucket;
pub mod control_plane;
pub mod crowd;
pub mod dockerfile;
pub mod helm;
pub mod manifest;
pub mod metrics_page;
pub mod node;
pub mod oci;
pub mod operator;
pub mod process;
pub mod proxy;
pub mod s3_server;
pub mod sidecar;
pub mod stand_in;
pub mod tenant;
pub mod tools;
pub mod wire;
