//! The folder of one control plane, removed also when the test process is killed.
//!
//! A value in a static is never dropped, and etcd takes some 130 MB: left behind by every run, that
//! fills a disk. So a shell waits at a pipe that only this process holds open, and removes the folder
//! when the pipe closes, however that comes about.
//!
//! Never removes anything but the folder it made.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// Reads to the end of the pipe. Servers that are being killed may still write, hence more than one try.
const REMOVE: &str = r#"cat >/dev/null; for _ in 1 2 3 4 5; do rm -rf -- "$1" 2>/dev/null && exit; sleep 0.2; done"#;

/// A folder that goes when this value or this process goes.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    remover: Child,
}

impl Folder {
    /// Makes an empty folder.
    pub fn create() -> Result<Folder> {
        let made =
            tempfile::Builder::new().prefix("remotemount-control-plane-").tempdir().context("making a folder")?;
        let remover = Command::new("sh")
            .args(["-c", REMOVE, "sh"])
            .arg(made.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the one who removes the folder")?;
        Ok(Folder { path: made.keep(), remover })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        // A drop cannot report.
        let _ = self.remover.wait();
    }
}
