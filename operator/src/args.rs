//! The command line: `run`, `inject` and `crd`.
//!
//! Every flag of `run` may also come from the environment. `inject` and `crd` need no cluster.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::inject::Settings;
use crate::inject::command::{self, InjectArgs};
use crate::run;

/// Turns RemoteMounts into mount configuration and sidecars.
#[derive(Debug, Parser)]
#[command(name = "remotemount-operator", version, about)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the operator: reconciles RemoteMounts, injects sidecars, tells how they are.
    Run(Box<RunArgs>),
    /// Prints documents with their sidecars, as admission would make them.
    Inject(InjectArgs),
    /// Prints the CustomResourceDefinition.
    Crd,
}

/// What `run` needs to know.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// The namespaces whose RemoteMounts and pods are looked after, with commas; all of them when left out.
    #[arg(long, env = "REMOTEMOUNT_NAMESPACES", value_name = "A,B", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// The operator's own namespace, for its CA and its Lease.
    #[arg(long, env = "REMOTEMOUNT_OPERATOR_NAMESPACE", value_name = "NS", default_value = "remotemount-system")]
    pub operator_namespace: String,
    /// The Service before the operator, by which the API server and sidecars find it.
    #[arg(long, env = "REMOTEMOUNT_SERVICE", value_name = "NAME", default_value = "remotemount-operator")]
    pub service: String,
    /// Where the webhook listens: an IP address and port.
    #[arg(long, env = "REMOTEMOUNT_WEBHOOK", value_name = "ADDR", default_value = "127.0.0.1:9443")]
    pub webhook: SocketAddr,
    /// Where the API server finds the webhook, when not by the Service: the URL, as https://host:port/inject.
    #[arg(long, env = "REMOTEMOUNT_WEBHOOK_URL", value_name = "URL", value_parser = https)]
    pub webhook_url: Option<String>,
    /// Where sidecars are taken in: an IP address and port.
    #[arg(long, env = "REMOTEMOUNT_CONTROL", value_name = "ADDR", default_value = "127.0.0.1:9444")]
    pub control: SocketAddr,
    /// Where sidecars find it, when not by the Service: as https://host:port.
    #[arg(long, env = "REMOTEMOUNT_CONTROL_URL", value_name = "URL", value_parser = https)]
    pub control_url: Option<String>,
    /// Where /metrics, /healthz and /readyz are: an IP address and port.
    #[arg(long, env = "REMOTEMOUNT_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub admin: SocketAddr,
    /// A directory with tls.crt, tls.key and ca.crt, as cert-manager writes them, in place of the operator's own CA.
    #[arg(long, env = "REMOTEMOUNT_TLS_DIR", value_name = "DIR")]
    pub tls_dir: Option<PathBuf>,
    /// Settings of the sidecars.
    #[command(flatten)]
    pub sidecar: Settings,
    /// How long requests under way may take to end after SIGTERM, in seconds.
    #[arg(long, env = "REMOTEMOUNT_DRAIN_SECONDS", value_name = "SECONDS", default_value_t = 10)]
    pub drain_seconds: u64,
    /// What is logged: `error`, `warn`, `info`, `debug`, or a tracing filter.
    #[arg(long, env = "REMOTEMOUNT_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// How log lines look.
    #[arg(long, env = "REMOTEMOUNT_LOG_FORMAT", value_name = "FORMAT", default_value = "json")]
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

impl RunArgs {
    /// Where sidecars find the control link.
    #[must_use]
    pub fn control_endpoint(&self) -> String {
        let by_service = || format!("https://{}:{}", self.service_name(), self.control.port());
        self.control_url.as_deref().map_or_else(by_service, |url| url.trim_end_matches('/').to_owned())
    }

    /// The names that the operator's certificate is for: those of the Service, and the hosts of the URLs.
    #[must_use]
    pub fn server_names(&self) -> Vec<String> {
        let service = self.service_name();
        let urls = [&self.webhook_url, &self.control_url].into_iter().flatten().filter_map(|url| host(url));
        let mut names = vec![format!("{service}.cluster.local"), service];
        names.extend(urls.map(str::to_owned));
        names.sort();
        names.dedup();
        names
    }

    fn service_name(&self) -> String {
        format!("{}.{}.svc", self.service, self.operator_namespace)
    }
}

/// The host of an https URL, without port and brackets.
fn host(url: &str) -> Option<&str> {
    let authority = url.strip_prefix("https://")?.split('/').next()?;
    if let Some(address) = authority.strip_prefix('[') {
        return address.split(']').next();
    }
    authority.split(':').next().filter(|host| !host.is_empty())
}

fn https(url: &str) -> Result<String, String> {
    match host(url) {
        Some(_) if !url.contains(['?', '#', '@']) => Ok(url.to_owned()),
        _ => Err("it must be a URL such as https://operator.example.com:9443, without query or user".to_owned()),
    }
}

impl Args {
    /// Does what the command line says.
    pub fn execute(self) -> ExitCode {
        let outcome = match self.command {
            Command::Run(args) => start_log(&args).and_then(|()| run::run(*args)),
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

fn start_log(args: &RunArgs) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let filter = EnvFilter::try_new(&args.log)
        .with_context(|| format!("--log {}: write error, warn, info, debug or a tracing filter", args.log))?;
    // What cannot be logged must not end a task.
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(more: &[&str]) -> Result<RunArgs, clap::Error> {
        let args = Args::try_parse_from([&["remotemount-operator", "run"], more].concat())?;
        match args.command {
            Command::Run(args) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_operator_is_found_by_its_service_or_where_it_is_said_to_be() {
        let inside = args(&[]).unwrap();
        assert_eq!(inside.control_endpoint(), "https://remotemount-operator.remotemount-system.svc:9444");
        assert_eq!(inside.server_names()[0], "remotemount-operator.remotemount-system.svc");
        let outside = args(&["--control-url", "https://[::1]:7/", "--webhook-url", "https://host:9/inject"]).unwrap();
        assert_eq!(outside.control_endpoint(), "https://[::1]:7");
        assert!(["::1", "host"].iter().all(|name| outside.server_names().iter().any(|known| known == name)));
        assert_eq!(args(&["--namespaces", "a,b"]).unwrap().namespaces, ["a", "b"]);
        for bad in ["http://host:1", "host:1", "https://", "https://user@host"] {
            assert!(args(&["--webhook-url", bad]).is_err(), "{bad}");
        }
    }
}
