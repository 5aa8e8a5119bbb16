//! How containerd, kubelet, kube-proxy and CoreDNS are started: which settings, and why.
//!
//! They write where they do on any machine: `namespaces.sh` has put memory over those folders. Settings that only
//! repeat a default are left out, so that what stands here is what differs from a cluster.
//!
//! Never waits for a server to be ready.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{ADDRESS, images};
use crate::control_plane::ControlPlane;
use crate::control_plane::pki::{DNS_USER, NODE_NAME};
use crate::oci;
use crate::process::Process;
use crate::tools;

const SOCKET: &str = "/run/containerd/containerd.sock";
const PODS: &str = "10.244.0.0/24";

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    node: PathBuf,
    kubelet: PathBuf,
    kube_proxy: PathBuf,
}

impl Programs {
    /// Finds them, or builds them, for minutes.
    pub fn find() -> Result<Programs> {
        Ok(Programs {
            node: tools::node_folder()?,
            kubelet: tools::control_plane_bin("kubelet")?,
            kube_proxy: tools::control_plane_bin("kube-proxy")?,
        })
    }

    /// A program that finds runc, the shim and iptables in PATH.
    fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}/bin:{path}", self.node.display()));
        command
    }
}

/// containerd's own client, which imports images.
pub fn ctr(programs: &Programs) -> tokio::process::Command {
    let mut command = tokio::process::Command::from(programs.command(programs.node.join("bin/ctr")));
    command.args(["--address", SOCKET]).kill_on_drop(true);
    command
}

pub fn containerd(programs: &Programs) -> Result<Process> {
    let folder = folder("containerd")?;
    // A pair of interfaces a pod, addresses from one range, and no way out of this network: there is none.
    let network = json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {"type": "ptp", "ipam": {"type": "host-local", "subnet": PODS, "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    });
    write(&folder.join("cni/pods.conflist"), &network.to_string())?;
    let config = folder.join("config.toml");
    write(
        &config,
        &format!(
            r#"version = 2
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Root may have been denied the capability to protect a process from being killed for want of memory.
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{node}/cni"
conf_dir = "{folder}/cni"
"#,
            pause = oci::full_name(images::PAUSE)?,
            node = programs.node.display(),
            folder = folder.display(),
        ),
    )?;
    let mut command = programs.command(programs.node.join("bin/containerd"));
    command.arg("--config").arg(config);
    Process::spawn(&command, &folder.join("containerd.log"))
}

pub fn kubelet(programs: &Programs, plane: &ControlPlane, cgroup: &str) -> Result<Process> {
    let folder = folder("kubelet")?;
    write(&folder.join("resolv.conf"), "")?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"x509": {"clientCAFile": plane.pki.ca()}},
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "clusterDNS": [ADDRESS.to_string()],
        "clusterDomain": "cluster.local",
        // What the host's has is of no use in here.
        "resolvConf": folder.join("resolv.conf"),
        // Everything below the one cgroup that is removed in the end.
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        // Its folders are in memory, where there is no quota to watch, and no disk that fills.
        "localStorageCapacityIsolation": false,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%"},
        "volumePluginDir": folder.join("volume-plugins"),
        // At once, where a cluster would save requests.
        "syncFrequency": "1s",
        "nodeStatusUpdateFrequency": "1s",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
    });
    let file = folder.join("config.yaml");
    write(&file, &config.to_string())?;
    let mut command = programs.command(&programs.kubelet);
    command
        .arg(format!("--config={}", file.display()))
        .arg(format!("--kubeconfig={}", plane.pki.kubeconfig_of_part("kubelet").display()))
        .arg(format!("--hostname-override={NODE_NAME}"))
        .arg(format!("--node-ip={ADDRESS}"));
    Process::spawn(&command, &folder.join("kubelet.log"))
}

pub fn kube_proxy(programs: &Programs, plane: &ControlPlane) -> Result<Process> {
    let folder = folder("kube-proxy")?;
    let config = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": plane.pki.kubeconfig_of_part("kube-proxy")},
        "hostnameOverride": NODE_NAME,
        "clusterCIDR": PODS,
        // Those settings are the machine's and cannot be written from here.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "iptables": {"minSyncPeriod": "0s"},
    });
    let file = folder.join("config.yaml");
    write(&file, &config.to_string())?;
    let mut command = programs.command(&programs.kube_proxy);
    command.arg(format!("--config={}", file.display()));
    Process::spawn(&command, &folder.join("kube-proxy.log"))
}

/// CoreDNS at the node's address, with the rights that it has in a cluster.
pub async fn dns(programs: &Programs, plane: &ControlPlane) -> Result<Process> {
    let folder = folder("dns")?;
    plane.kubectl_with(&["apply", "--server-side", "-f", "-"], &dns_rights().to_string()).await?.success()?;
    let file = folder.join("Corefile");
    write(
        &file,
        &format!(
            ".:53 {{\n    bind {ADDRESS}\n    errors\n    kubernetes cluster.local in-addr.arpa {{\n        kubeconfig {}\n        ttl 1\n    }}\n}}\n",
            plane.pki.kubeconfig_of_part("dns").display()
        ),
    )?;
    let mut command = programs.command(programs.node.join("bin/coredns"));
    command.arg("-conf").arg(file);
    Process::spawn(&command, &folder.join("dns.log"))
}

fn dns_rights() -> Value {
    let name = "remotemount-tests-dns";
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [
            {"apiGroups": [""], "resources": ["services", "namespaces"], "verbs": ["list", "watch"]},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
        ],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": DNS_USER}],
    });
    json!({"apiVersion": "v1", "kind": "List", "items": [role, binding]})
}

/// Where a part of the node keeps its settings and its log.
fn folder(part: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("remotemount-node/{part}"));
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
