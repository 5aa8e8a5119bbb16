//! The operator's process: command line and exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use remotemount_operator::args::Args;

fn main() -> ExitCode {
    Args::parse().execute()
}
