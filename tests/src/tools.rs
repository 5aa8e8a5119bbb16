//! Where the S3 servers' programs are.
//!
//! The script `tests/tools/install.sh` owns the answer: it installs the pinned programs once and
//! prints their folder. It is asked once per test process, and answers at once when all is there.
//!
//! Never looks in PATH: a test must run against the pinned version or not at all.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// The path of an installed program: `weed`, `rclone` or `moto_server`.
///
/// The first call installs the programs if they are missing, which takes a minute and the network.
pub fn bin(name: &str) -> Result<PathBuf> {
    let folder = FOLDER
        .get_or_init(|| install().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}; run make tools"))?;
    let path = folder.join("bin").join(name);
    if !path.is_file() {
        bail!("no {}; run make tools", path.display());
    }
    Ok(path)
}

fn install() -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/install.sh");
    let output = Command::new("bash")
        .arg(&script)
        // The script tells of a download on stderr: whoever waits for it should see that.
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {}", script.display()))?;
    if !output.status.success() {
        bail!("{} ended with {}", script.display(), output.status);
    }
    let said = String::from_utf8(output.stdout).context("the installer's answer is not text")?;
    let last = said.lines().last().context("the installer named no folder")?;
    Ok(PathBuf::from(last))
}
