//! The command line, and the commands.
//!
//! Every flag of `run` may also come from the environment. `check` reads manifests as `run` does and
//! says everything that is wrong with them, one line each, and which fields have no effect.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use remotemount_crds::effect;
use tracing_subscriber::EnvFilter;

use crate::mounts::source;
use crate::{probe, run};

/// A bucket, mounted lazily: read and deleted from over HTTP and gRPC.
#[derive(Debug, Parser)]
#[command(name = "remotemount-sidecar", version, about)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the mounts of a directory of manifests.
    Run(Box<RunArgs>),
    /// Reads a directory of manifests and says what is wrong with it.
    Check {
        /// The directory of `*.yaml` RemoteMounts.
        directory: PathBuf,
    },
    /// Asks the admin port of a sidecar that runs here; succeeds when it answers 200.
    Probe {
        /// Where the admin port is.
        #[arg(long, env = "REMOTEMOUNT_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:9090", value_parser = probe::address)]
        admin: SocketAddr,
        /// What is asked: `/readyz` or `/healthz`.
        #[arg(long, value_name = "PATH", default_value = "/readyz")]
        path: String,
        /// For how long it is asked again while the answer is another, in seconds.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        wait: u64,
    },
}

/// What `run` needs to know.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// The directory of `*.yaml` RemoteMounts; watched.
    #[arg(long, env = "REMOTEMOUNT_MOUNTS", value_name = "DIR")]
    pub mounts: PathBuf,
    /// The directory of `<secret name>/<key>` files; watched.
    #[arg(long, env = "REMOTEMOUNT_CREDENTIALS", value_name = "DIR", default_value = "/etc/remotemount/credentials")]
    pub credentials: PathBuf,
    /// Where metadata is kept; one directory per sidecar.
    #[arg(long, env = "REMOTEMOUNT_STATE", value_name = "DIR", default_value = "/var/lib/remotemount")]
    pub state: PathBuf,
    /// Where the HTTP door listens: an IP address and port.
    #[arg(long, env = "REMOTEMOUNT_HTTP", value_name = "ADDR", default_value = "127.0.0.1:8888")]
    pub http: SocketAddr,
    /// Where the gRPC door listens: an IP address and port.
    #[arg(long, env = "REMOTEMOUNT_GRPC", value_name = "ADDR", default_value = "127.0.0.1:18888")]
    pub grpc: SocketAddr,
    /// Where /metrics, /healthz, /readyz and /status are: an IP address and port.
    #[arg(long, env = "REMOTEMOUNT_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:9090")]
    pub admin: SocketAddr,
    /// Where /metrics alone is, for those who scrape it from off the pod: an IP address and port. Without it, only the
    /// admin port has it.
    #[arg(long, env = "REMOTEMOUNT_METRICS", value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// The operator's control link: `https://host:port`, or the file that holds it. Without it the sidecar runs alone.
    #[arg(long, env = "REMOTEMOUNT_CONTROL", value_name = "ENDPOINT|FILE")]
    pub control: Option<String>,
    /// The certificates that the operator's is to be signed by, as PEM; read at each attempt.
    #[arg(
        long,
        env = "REMOTEMOUNT_CONTROL_CA",
        value_name = "FILE",
        default_value = "/etc/remotemount/control/ca.crt"
    )]
    pub control_ca: PathBuf,
    /// The ServiceAccount token that the operator is shown; read at each attempt.
    #[arg(
        long,
        env = "REMOTEMOUNT_CONTROL_TOKEN",
        value_name = "FILE",
        default_value = "/etc/remotemount/control/token"
    )]
    pub control_token: PathBuf,
    /// The mounts that it was started for, by name: it is not ready before it has them, or fifteen seconds have gone.
    #[arg(long, env = "REMOTEMOUNT_EXPECT", value_name = "NAME,...", value_delimiter = ',')]
    pub expect: Vec<String>,
    /// How long requests under way may take to end after SIGTERM, in seconds.
    #[arg(long, env = "REMOTEMOUNT_DRAIN_SECONDS", value_name = "SECONDS", default_value_t = 25)]
    pub drain_seconds: u64,
    /// What is logged: `error`, `warn`, `info`, `debug`, or a tracing filter.
    #[arg(long, env = "REMOTEMOUNT_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// How log lines look.
    #[arg(long, env = "REMOTEMOUNT_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Args {
    /// Does what the command line says.
    pub fn execute(self) -> ExitCode {
        match self.command {
            Command::Check { directory } => check(&directory),
            Command::Run(args) => told(start_log(&args).and_then(|()| run::run(*args))),
            Command::Probe { admin, path, wait } => told(probe::until(admin, &path, Duration::from_secs(wait))),
        }
    }
}

fn told(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("remotemount-sidecar: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(directory: &std::path::Path) -> ExitCode {
    match source::read(directory) {
        Ok(sourced) => {
            for source in &sourced {
                for field in &source.unknown {
                    println!("{}: note: {field} is not known to this version: it has no effect", source.file);
                }
                for notice in effect::without_effect(&source.mount.spec) {
                    println!("{}: note: {} {}", source.file, notice.field, notice.message);
                }
            }
            match sourced.len() {
                0 => println!("no *.yaml files in {}: nothing is mounted", directory.display()),
                count => println!("{count} mount(s) in {}: good", directory.display()),
            }
            ExitCode::SUCCESS
        }
        Err(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            ExitCode::FAILURE
        }
    }
}

fn start_log(args: &RunArgs) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let filter =
        EnvFilter::try_new(&args.log).with_context(|| format!("--log {:?}: not a level or filter", args.log))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr);
    // A log that cannot be written (a full disk, a reader that is gone) must not end the task that wrote to it.
    let log = log.log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}
