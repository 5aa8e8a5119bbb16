//! The command line: `run`, `inject` and `crd`.
//!
//! Every flag of `run` may also come from the environment. `inject` and `crd` need no cluster.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::inject::command::{self, InjectArgs};

/// Turns RemoteMounts into mount configuration and sidecars.
#[derive(Debug, Parser)]
#[command(name = "remotemount-operator", version, about)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints documents with their sidecars, as admission would make them.
    Inject(InjectArgs),
    /// Prints the CustomResourceDefinition.
    Crd,
}

impl Args {
    /// Does what the command line says.
    pub fn execute(self) -> ExitCode {
        let outcome = match self.command {
            Command::Inject(args) => command::execute(&args),
            Command::Crd => print_crd(),
        };
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("remotemount-operator: {error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

fn print_crd() -> anyhow::Result<()> {
    print!("{}", remotemount_crds::crd_yaml()?);
    Ok(())
}
