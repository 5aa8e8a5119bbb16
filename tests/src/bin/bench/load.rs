//! `ab` (ApacheBench): the load of the warm figures.
//!
//! Owns finding it and reading its report. A round in which any request failed, or got another status
//! than 2xx, is no figure but an error. So is one whose connections were not kept alive where they
//! should be: it would compare how fast sockets open.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::machine;

/// Callers at once in the warm figures.
pub const CALLERS: usize = 64;

/// A program of the system, in PATH or where Debian puts servers.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/usr/bin"].map(PathBuf::from));
    folders
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .with_context(|| format!("no {name}: apt-get install nginx-light apache2-utils"))
}

/// Where a load goes.
pub struct Target<'t> {
    /// The URL.
    pub url: &'t str,
    /// Those whose CPU time it costs.
    pub pids: Vec<u32>,
    /// How many requests make a round.
    pub requests: usize,
}

/// One round.
#[derive(Debug, Clone, Copy)]
pub struct Round {
    /// Requests a second.
    pub rate: f64,
    /// CPU time of the server for one request, in microseconds.
    pub cpu_micros: f64,
}

/// One round of HEAD or GET with [`CALLERS`] callers.
pub async fn round(ab: &Path, head: bool, target: &Target<'_>) -> Result<Round> {
    let before = machine::cpu_seconds(&target.pids)?;
    let report = run(ab, head, CALLERS, target.requests, target.url).await?;
    let used = machine::cpu_seconds(&target.pids)? - before;
    let kept = value(&report, "Keep-Alive requests:").unwrap_or(0.0);
    if kept < target.requests as f64 * 0.95 {
        bail!("{}: only {kept} of {} requests came over kept connections", target.url, target.requests);
    }
    let rate = value(&report, "Requests per second:").with_context(|| format!("no rate in ab's report:\n{report}"))?;
    Ok(Round { rate, cpu_micros: used / target.requests as f64 * 1e6 })
}

/// `requests` requests by `callers` callers; ab's report, if all of them were answered well.
pub async fn run(ab: &Path, head: bool, callers: usize, requests: usize, url: &str) -> Result<String> {
    let mut command = Command::new(ab);
    command.args(["-q", "-k", "-r", "-s", "60", "-c", &callers.to_string(), "-n", &requests.to_string()]);
    if head {
        command.arg("-i");
    }
    let output = command.arg(url).stdin(Stdio::null()).kill_on_drop(true).output().await.context("running ab")?;
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("ab {url}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    let failed =
        value(&report, "Failed requests:").unwrap_or(0.0) + value(&report, "Non-2xx responses:").unwrap_or(0.0);
    if failed > 0.0 || value(&report, "Complete requests:") != Some(requests as f64) {
        bail!("ab {url}: not every request was answered well:\n{report}");
    }
    Ok(report)
}

fn value(report: &str, name: &str) -> Option<f64> {
    let line = report.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
