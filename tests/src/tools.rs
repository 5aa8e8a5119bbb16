//! Where the programs are that tests run against: S3 servers, a Kubernetes control plane, a node, Helm.
//!
//! Scripts own the answer: `tests/tools/install.sh` for the S3 servers, `tests/tools/control-plane.sh` for
//! what Kubernetes is made of, `tests/tools/node.sh` for what a node has beside it, `tests/tools/helm.sh`,
//! `tests/tools/crds.sh`. Each fetches the pinned programs once and prints where they are, and answers at once
//! when all is there.
//!
//! Never looks in PATH: a test must run against the pinned version or not at all. A control plane that
//! someone chose by `KUBEBUILDER_ASSETS`, as Kubernetes' own envtest reads it, goes before ours.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

static S3_SERVERS: OnceLock<Result<PathBuf, String>> = OnceLock::new();

/// The path of an installed S3 server: `weed`, `rclone` or `moto_server`.
///
/// The first call installs the programs if they are missing, which takes a minute and the network.
pub fn bin(name: &str) -> Result<PathBuf> {
    let folder = S3_SERVERS
        .get_or_init(|| folder_from("install.sh", &[]).map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}; run make tools"))?;
    existing(folder.join("bin").join(name))
}

/// The path of a program of Kubernetes: `etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`,
/// `kubectl`, `kubelet` or `kube-proxy`.
///
/// The first call builds the program if it is missing, which takes minutes, Go and the network.
pub fn control_plane_bin(name: &str) -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("KUBEBUILDER_ASSETS") {
        let path = Path::new(&chosen).join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let folder = folder_from("control-plane.sh", &[name]).context("run make tools")?;
    existing(folder.join(name))
}

/// The path of Helm, which the first call builds if it is missing.
pub fn helm() -> Result<PathBuf> {
    existing(folder_from("helm.sh", &[]).context("run make tools")?)
}

/// The folder of what a node runs beside Kubernetes (containerd, runc, iptables and CoreDNS in `bin/`, plugins in `cni/`)
/// and of what its workload image is made of (`busybox`, curl below `workload/`).
///
/// The first call fetches it if it is missing, which takes seconds, Go and Debian's mirror.
pub fn node_folder() -> Result<PathBuf> {
    folder_from("node.sh", &[]).context("run make test-node")
}

/// The folder of the CustomResourceDefinitions that monitors and certificates of the chart are of.
pub fn foreign_crds() -> Result<PathBuf> {
    folder_from("crds.sh", &[]).context("run make tools")
}

fn existing(path: PathBuf) -> Result<PathBuf> {
    if !path.is_file() {
        bail!("no {}; run make tools", path.display());
    }
    Ok(path)
}

/// The last line that a script of `tests/tools` says.
fn folder_from(script: &str, arguments: &[&str]) -> Result<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools").join(script);
    let output = Command::new("bash")
        .arg(&script)
        .args(arguments)
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
