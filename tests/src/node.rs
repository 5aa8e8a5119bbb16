//! A real node: containerd, kubelet and kube-proxy beside a control plane, so that pods run.
//!
//! It has a cluster's DNS (CoreDNS, answering from real Services), one network for its pods, and its images from
//! archives, for there is no registry. It is fast where a cluster is patient: kubelet looks at everything once a
//! second. Nothing else differs: the API server's certificate, ClusterIPs, tokens, Secrets and probes are what they are
//! in a cluster.
//!
//! It needs namespaces of its own, made by `tests/tools/namespaces.sh`, which the whole test runs in; so `make
//! test-node` runs such tests. There is one address for all that pods reach: [`ADDRESS`]. When the test ends, the
//! kernel takes everything, containers too; nothing here stops in order.
//!
//! Never runs on the machine itself, and never asks a registry.

mod images;
pub mod pods;
mod servers;

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::Api;
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use crate::control_plane::pki::NODE_NAME;
use crate::control_plane::{ControlPlane, Controllers};
use crate::oci::Image;
use crate::process::Process;
use servers::Programs;

pub use images::{WORKLOAD, workload};

/// Where pods find what a test runs beside them, such as an S3 server, and the API server too.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// By this `namespaces.sh` says that the test may start a node, and which cgroups are its own.
const CGROUP: &str = "REMOTEMOUNT_NODE";
const READY_LIMIT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(50);

/// A running node with its control plane.
#[derive(Debug)]
pub struct Node {
    // Dropped in this order: who starts things goes before what was started.
    kubelet: Process,
    kube_proxy: Process,
    dns: Process,
    containerd: Process,
    programs: Programs,
    plane: ControlPlane,
}

impl Node {
    /// Starts a control plane and a node, and waits until pods can run, which takes some twenty seconds.
    ///
    /// # Errors
    /// This is not in namespaces of its own, or something does not start; its log is in the error.
    pub async fn start() -> Result<Node> {
        let cgroup = std::env::var(CGROUP).ok().context("a node takes namespaces of its own: run make test-node")?;
        let programs = tokio::task::spawn_blocking(Programs::find).await.context("looking for programs")??;
        // Images are made and taken in while the API server starts.
        let runtime = async {
            let containerd = servers::containerd(&programs)?;
            let mut node = Runtime { containerd, programs: &programs };
            node.wait_ready().await?;
            for image in [images::pause()?, workload()?] {
                node.import_image(image).await?;
            }
            anyhow::Ok(node.containerd)
        };
        let plane = ControlPlane::start_at(ADDRESS, Controllers::AllAndScheduler);
        let (containerd, plane) = tokio::try_join!(runtime, plane)?;
        let dns = servers::dns(&programs, &plane).await?;
        let kube_proxy = servers::kube_proxy(&programs, &plane)?;
        let kubelet = servers::kubelet(&programs, &plane, &cgroup)?;
        let mut node = Node { kubelet, kube_proxy, dns, containerd, programs, plane };
        node.wait_ready().await?;
        Ok(node)
    }

    /// The one that the tests of this process share, started by the first that asks.
    ///
    /// # Errors
    /// As [`Node::start`]; the next one who asks tries again.
    pub async fn shared() -> Result<&'static Node> {
        static SHARED: OnceCell<Node> = OnceCell::const_new();
        SHARED.get_or_try_init(Node::start).await
    }

    /// Its control plane.
    #[must_use]
    pub const fn plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// Takes in an image that [`Image::archive`] wrote. Pods have it by its name, with any `imagePullPolicy` but `Always`.
    ///
    /// # Errors
    /// containerd refuses it.
    pub async fn import(&self, archive: &Path) -> Result<()> {
        import(&self.programs, archive).await
    }

    /// Writes an image and takes it in.
    ///
    /// # Errors
    /// It cannot be written, or containerd refuses it.
    pub async fn import_image(&self, image: Image) -> Result<()> {
        import_image(&self.programs, image).await
    }

    /// All that its programs have logged, for an error.
    #[must_use]
    pub fn logs(&self) -> String {
        let parts = [("kubelet", &self.kubelet), ("kube-proxy", &self.kube_proxy), ("dns", &self.dns)];
        let parts = parts.into_iter().chain([("containerd", &self.containerd)]);
        parts.map(|(name, process)| format!("--- {name}\n{}\n", process.log_tail())).collect()
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let nodes: Api<NodeObject> = Api::all(self.plane.client().await?);
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let found = nodes.get_opt(NODE_NAME).await?;
            let usable = found.as_ref().is_some_and(|node| {
                let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
                // A controller takes its taint away after it has become ready.
                let tainted =
                    node.spec.as_ref().and_then(|spec| spec.taints.as_ref()).is_some_and(|all| !all.is_empty());
                conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True") && !tainted
            });
            if usable {
                return Ok(());
            }
            let parts = [&mut self.kubelet, &mut self.kube_proxy, &mut self.dns, &mut self.containerd];
            let mut ended = None;
            for part in parts {
                ended = ended.or(part.try_wait()?);
            }
            if let Some(status) = ended {
                bail!("a part of the node ended with {status}:\n{}", self.logs());
            }
            if Instant::now() >= deadline {
                bail!(
                    "the node is not ready after {READY_LIMIT:?}: {:?}\n{}",
                    found.map(|node| node.status),
                    self.logs()
                );
            }
            sleep(POLL).await;
        }
    }
}

/// containerd, before there is a node.
struct Runtime<'a> {
    containerd: Process,
    programs: &'a Programs,
}

impl Runtime<'_> {
    async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let said = servers::ctr(self.programs).arg("version").output().await.context("running ctr")?;
            if said.status.success() {
                return Ok(());
            }
            if let Some(status) = self.containerd.try_wait()? {
                bail!("containerd ended with {status}:\n{}", self.containerd.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("containerd is not ready after {READY_LIMIT:?}:\n{}", self.containerd.log_tail());
            }
            sleep(POLL).await;
        }
    }

    async fn import_image(&self, image: Image) -> Result<()> {
        import_image(self.programs, image).await
    }
}

async fn import_image(programs: &Programs, image: Image) -> Result<()> {
    let folder = tempfile::TempDir::with_prefix("remotemount-image-").context("making a temporary folder")?;
    let archive = folder.path().join("image.tar");
    let to = archive.clone();
    tokio::task::spawn_blocking(move || image.archive(&to)).await.context("writing an image")??;
    import(programs, &archive).await
}

async fn import(programs: &Programs, archive: &Path) -> Result<()> {
    // Kubelet's images are those of this namespace of containerd's.
    succeed(servers::ctr(programs).args(["--namespace", "k8s.io", "images", "import"]).arg(archive)).await?;
    Ok(())
}

/// What a program printed, where it succeeded.
async fn succeed(command: &mut Command) -> Result<String> {
    let output = command.output().await.with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
