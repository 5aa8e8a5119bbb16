//! The sidecar's process: allocator, command line, exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use remotemount_sidecar::args::Args;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Args::parse().execute()
}
