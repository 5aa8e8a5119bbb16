//! The real kubectl, run against a control plane.
//!
//! Owns how it is run: which kubeconfig, no settings or caches of whoever runs the tests, and a limit,
//! so that a `kubectl wait` that never ends fails its test instead of holding it.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::ControlPlane;

const LIMIT: Duration = Duration::from_secs(120);

/// How a kubectl, or a Helm, ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

impl Said {
    /// What it printed, where it succeeded.
    ///
    /// # Errors
    /// It failed; the error holds its complaint.
    pub fn success(self) -> Result<String> {
        if !self.status.success() {
            bail!("it ended with {}: {}{}", self.status, self.stderr, self.stdout);
        }
        Ok(self.stdout)
    }

    /// What it complained of, where it failed.
    ///
    /// # Errors
    /// It succeeded; the error holds what it printed.
    pub fn failure(self) -> Result<String> {
        if self.status.success() {
            bail!("it succeeded: {}{}", self.stdout, self.stderr);
        }
        Ok(self.stderr)
    }
}

impl ControlPlane {
    /// Runs kubectl as the administrator.
    ///
    /// # Errors
    /// It cannot be run, or does not end within two minutes. A kubectl that fails is no error here.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<Said> {
        self.kubectl_as(self.kubeconfig(), arguments, "").await
    }

    /// Runs kubectl as the administrator, with `input` at its stdin, for `-f -`.
    ///
    /// # Errors
    /// As [`ControlPlane::kubectl`].
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<Said> {
        self.kubectl_as(self.kubeconfig(), arguments, input).await
    }

    /// Runs kubectl as whomever that kubeconfig names, with `input` at its stdin.
    ///
    /// # Errors
    /// As [`ControlPlane::kubectl`].
    pub async fn kubectl_as(&self, kubeconfig: &Path, arguments: &[&str], input: &str) -> Result<Said> {
        let mut child = Command::new(&self.programs.kubectl)
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            // The discovery cache and the preferences live below it.
            .env("HOME", self.folder())
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has no stdin")?;
        let run = async {
            // One that does not read its input closes it; it is judged by how it ends.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            child.wait_with_output().await
        };
        let output = timeout(LIMIT, run).await.with_context(|| format!("kubectl {arguments:?} does not end"))??;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) })
    }
}
