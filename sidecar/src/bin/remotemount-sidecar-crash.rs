//! The sidecar as the crash tests run it: the same process, with points at which it stops for good.
//!
//! Built only with the feature `crash-points`, under a name of its own, so that it never stands where
//! the real one is looked for. What a point is, and how a test arms one, is said in
//! [`remotemount_sidecar::crash`]. Nothing else differs from `main.rs`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use remotemount_sidecar::args::Args;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Args::parse().execute()
}
