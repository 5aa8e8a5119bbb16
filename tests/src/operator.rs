//! The real operator binary, outside the cluster, with the rights of its own ServiceAccount and no others.
//!
//! Owns what an installer would apply (`operator/deploy/`), the operator's kubeconfig, its ports and its
//! log. The API server finds the webhook and sidecars the control link by URLs on loopback. Ports stay
//! the same over a restart.
//!
//! Never builds the binary: `cargo build --workspace --bins` does.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::control_plane::ControlPlane;
use crate::process::{Process, free_port};
use crate::sidecar;

/// The operator's namespace.
pub const NAMESPACE: &str = "remotemount-system";
/// Its ServiceAccount.
pub const ACCOUNT: &str = "remotemount-operator";

const READY_LIMIT: Duration = Duration::from_secs(30);

/// A running operator; killed when dropped.
#[derive(Debug)]
pub struct Operator {
    process: Process,
    settings: Settings,
    // Declared last: the process is gone before its folder goes.
    _folder: TempDir,
}

#[derive(Debug)]
struct Settings {
    binary: PathBuf,
    kubeconfig: PathBuf,
    log: PathBuf,
    webhook_port: u16,
    control_port: u16,
    admin_port: u16,
    arguments: Vec<String>,
}

/// Applies what an installer would, once a control plane.
///
/// # Errors
/// The API server refuses something.
pub async fn install(plane: &ControlPlane) -> Result<()> {
    plane.create_namespace(NAMESPACE, &[("pod-security.kubernetes.io/enforce", "restricted")]).await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/deploy");
    let folder = folder.to_str().context("the path of operator/deploy is not text")?;
    plane.kubectl(&["apply", "--server-side", "-f", folder]).await?.success()?;
    Ok(())
}

impl Operator {
    /// Starts an operator against a control plane that has been [`install`]ed on, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started or is not ready; its log is in the error.
    pub async fn start(plane: &ControlPlane, arguments: &[&str]) -> Result<Operator> {
        let mut operator = Self::start_unready(plane, arguments).await?;
        operator.wait_ready().await?;
        Ok(operator)
    }

    /// Starts an operator without waiting.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start_unready(plane: &ControlPlane, arguments: &[&str]) -> Result<Operator> {
        let folder = TempDir::with_prefix("remotemount-operator-").context("making a temporary folder")?;
        let settings = Settings {
            binary: sidecar::binary_beside("remotemount-operator")?,
            kubeconfig: plane.kubeconfig_of(NAMESPACE, ACCOUNT).await?,
            log: folder.path().join("operator.log"),
            webhook_port: free_port()?,
            control_port: free_port()?,
            admin_port: free_port()?,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        };
        Ok(Operator { process: settings.launch()?, settings, _folder: folder })
    }

    /// Waits until `/readyz` answers 200; an error, with the log, if it ends or takes too long.
    ///
    /// # Errors
    /// It has ended, or is not ready in time; its log is in the error.
    pub async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("the operator ended with {status}:\n{}", self.process.log_tail());
            }
            match client.get(self.admin_url("/readyz")).send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                _ if Instant::now() >= deadline => {
                    bail!("the operator is not ready after {READY_LIMIT:?}:\n{}", self.process.log_tail())
                }
                _ => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// The URL of an admin page.
    #[must_use]
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.settings.admin_port)
    }

    /// Where sidecars find it.
    #[must_use]
    pub fn control_endpoint(&self) -> String {
        format!("https://127.0.0.1:{}", self.settings.control_port)
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.kill()
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Errors
    /// It does not end within `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.terminate(limit).await
    }

    /// Starts it again after its end, on the same ports.
    ///
    /// # Errors
    /// As [`Operator::start`].
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = self.settings.launch()?;
        self.wait_ready().await
    }

    /// What it was started with, less its name.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        self.settings.arguments()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// All it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Settings {
    fn launch(&self) -> Result<Process> {
        let mut command = Command::new(&self.binary);
        command.args(self.arguments()).env("KUBECONFIG", &self.kubeconfig);
        Process::spawn(&command, &self.log)
    }

    fn arguments(&self) -> Vec<String> {
        let at = |port: u16| format!("127.0.0.1:{port}");
        let (webhook, control, admin) = (at(self.webhook_port), at(self.control_port), at(self.admin_port));
        let (webhook_url, control_url) = (format!("https://{webhook}/inject"), format!("https://{control}"));
        let own = [
            ["--operator-namespace", NAMESPACE],
            ["--webhook", &webhook],
            ["--webhook-url", &webhook_url],
            ["--control", &control],
            ["--control-url", &control_url],
            ["--admin", &admin],
            ["--log-format", "text"],
        ];
        let own = own.as_flattened().iter().map(|&argument| argument.to_owned());
        ["run".to_owned()].into_iter().chain(own).chain(self.arguments.iter().cloned()).collect()
    }
}
