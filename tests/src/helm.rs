//! The real Helm, and the chart in this repository.
//!
//! Owns how Helm is run: which kubeconfig, nothing of the settings, plugins and repositories of whoever
//! runs the tests, and a limit. Without a kubeconfig it can render, package and lint; it reaches no cluster.
//!
//! Never waits for pods: whoever has nodes says `--wait` itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::timeout;

use crate::control_plane::Said;
use crate::tools;

const LIMIT: Duration = Duration::from_secs(600);

/// Helm with a home of its own.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    kubeconfig: Option<PathBuf>,
    home: TempDir,
}

/// The chart's folder.
#[must_use]
pub fn chart() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().unwrap_or(root).join("charts/remotemount")
}

impl Helm {
    /// Helm for the cluster of that kubeconfig; for none without one.
    ///
    /// # Errors
    /// It cannot be built, which takes a minute the first time.
    pub fn new(kubeconfig: Option<&Path>) -> Result<Helm> {
        let home = TempDir::with_prefix("remotemount-helm-").context("making a temporary folder")?;
        Ok(Helm { program: tools::helm()?, kubeconfig: kubeconfig.map(Path::to_owned), home })
    }

    /// Runs it.
    ///
    /// # Errors
    /// It cannot be run, or does not end within ten minutes. A Helm that fails is no error here.
    pub async fn run<A: AsRef<str>>(&self, arguments: &[A]) -> Result<Said> {
        let none = self.home.path().join("no-cluster");
        let child = Command::new(&self.program)
            .args(arguments.iter().map(AsRef::as_ref))
            .env("KUBECONFIG", self.kubeconfig.as_deref().unwrap_or(&none))
            .env("HOME", self.home.path())
            .envs(["CACHE", "CONFIG", "DATA"].map(|kind| (format!("HELM_{kind}_HOME"), self.home.path().join(kind))))
            .env("NO_PROXY", "127.0.0.1")
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = timeout(LIMIT, child).await.context("helm does not end")?.context("starting helm")?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) })
    }
}
