//! `make demo` and `make demo-sidecar`: RemoteMount, one step at a time, against real servers.
//!
//! The tour of the cluster ([`cluster`]) goes from `kubectl apply` to `kubectl delete` on a real API server; the
//! one of the sidecar ([`sidecar`]) needs none, and shows what each order costs at the bucket. Both run
//! `examples/remotemount.yaml`. Every step shows the command that does the same by hand and what came
//! back, and checks it; a step that goes otherwise ends the demo with status 1.
//!
//! Nothing is left running, unless KEEP is set: then all stays up until Ctrl-C.
#![forbid(unsafe_code)]

mod cluster;
mod example;
mod fill;
mod screen;
mod sidecar;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// What is shown.
#[derive(Debug, Parser)]
#[command(name = "demo", about = "Walks through RemoteMount against real servers")]
struct Args {
    #[command(subcommand)]
    tour: Tour,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Tour {
    /// From kubectl apply to kubectl delete, on a real API server.
    Cluster,
    /// One sidecar and a bucket, without a cluster.
    Sidecar,
}

#[tokio::main]
async fn main() -> ExitCode {
    let tour = Args::parse().tour;
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => return failed(&error.into()),
    };
    let keep = std::env::var("KEEP").is_ok_and(|value| !value.is_empty() && value != "0");
    // Leaving through here drops, and so ends, whatever was started.
    tokio::select! {
        outcome = show(tour, keep) => match outcome {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => failed(&error),
        },
        _ = tokio::signal::ctrl_c() => stopped(),
        _ = terminate.recv() => stopped(),
    }
}

/// Runs the tour; whether every step went as it should.
async fn show(tour: Tour, keep: bool) -> Result<bool> {
    match tour {
        Tour::Cluster => Box::pin(cluster::show(keep)).await,
        Tour::Sidecar => Box::pin(sidecar::show(keep)).await,
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("demo: {error:#}");
    ExitCode::FAILURE
}

fn stopped() -> ExitCode {
    println!("\nStopped; nothing is left running.");
    ExitCode::from(130)
}
