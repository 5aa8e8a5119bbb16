//! The operator's process. It has no duties yet beyond saying which version it is.
#![forbid(unsafe_code)]

use clap::Parser;

/// Turns RemoteMounts into mount configuration and sidecars.
#[derive(Debug, Parser)]
#[command(name = "remotemount-operator", version, about, arg_required_else_help = true)]
struct Args {}

fn main() {
    Args::parse();
}
