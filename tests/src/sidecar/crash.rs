//! A sidecar that stops for good at a named point, to be killed there.
//!
//! Owns the folder through which test and process agree on the point: the test writes `arm`, the
//! process renames it to `reached` and goes no further on that thread. Other threads may still run, so
//! whoever has seen [`Sidecar::reached`] kills it at once and asks it nothing before.
//!
//! Never builds the binary with the points: `make test` does, or the command that its absence names.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{Builder, Sidecar, put_in_place};

/// How it is built; every other package keeps its features, so nothing else is compiled a second time.
const BUILD: &str = "cargo build --locked --workspace --features remotemount-sidecar/crash-points \
                     --bin remotemount-sidecar-crash";
/// Longer than anything on the way to a point may take.
const REACH_LIMIT: Duration = Duration::from_secs(60);

impl Builder {
    /// The binary that has crash points.
    pub fn crash_points(mut self) -> Builder {
        self.crash_points = true;
        self
    }
}

impl Sidecar {
    /// Has the next thread that comes to `point` stop there.
    pub fn arm(&self, point: &str) -> Result<()> {
        let folder = self.settings.crash.as_ref().context("a sidecar without crash points")?;
        let reached = folder.join("reached");
        if reached.exists() {
            fs::remove_file(&reached).with_context(|| format!("removing {}", reached.display()))?;
        }
        put_in_place(&folder.join("arm"), point)
    }

    /// Waits until a thread stands at the point that was armed; an error, with the log, if none comes.
    pub async fn reached(&mut self) -> Result<()> {
        let folder = self.settings.crash.clone().context("a sidecar without crash points")?;
        let deadline = Instant::now() + REACH_LIMIT;
        while !folder.join("reached").exists() {
            let point = fs::read_to_string(folder.join("arm")).unwrap_or_default();
            if let Some(status) = self.process.try_wait()? {
                bail!("the sidecar ended with {status} before {point:?}:\n{}", self.process.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("nothing came to {point:?} within {REACH_LIMIT:?}:\n{}", self.process.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Starts it again and waits until it stands at `point`; it may not become ready before.
    pub async fn restart_until(&mut self, point: &str) -> Result<()> {
        self.kill9()?;
        self.arm(point)?;
        self.process = self.settings.launch()?;
        self.reached().await
    }
}

/// The name of the binary, and how it is built.
pub(super) fn binary(crash_points: bool) -> (&'static str, &'static str) {
    if crash_points {
        ("remotemount-sidecar-crash", BUILD)
    } else {
        ("remotemount-sidecar", "cargo build --workspace --bins")
    }
}
