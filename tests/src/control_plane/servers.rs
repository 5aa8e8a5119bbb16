//! How etcd, kube-apiserver, kube-controller-manager and kube-scheduler are started: which flags, and why.
//!
//! Every address is on loopback, but for the API server's where a node is to reach it, and every port is
//! chosen here. Flags that only repeat a default are left out, so that what stands here is what differs
//! from a cluster.
//!
//! Never waits for a server to be ready: that is asked of the API, not of a process.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::folder::Folder;
use super::pki::Pki;
use super::{API_AUDIENCE, Controllers};
use crate::process::{Process, free_port};
use crate::tools;

/// Every request, without its body: who, what, and the answer's code.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
";

/// Where the programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    etcd: PathBuf,
    api_server: PathBuf,
    controller_manager: Option<PathBuf>,
    scheduler: Option<PathBuf>,
    pub kubectl: PathBuf,
}

impl Programs {
    /// Finds them, or builds them, for minutes.
    pub fn find(controllers: Controllers) -> Result<Programs> {
        let wanted = |name: &str, wanted: bool| wanted.then(|| tools::control_plane_bin(name)).transpose();
        Ok(Programs {
            etcd: tools::control_plane_bin("etcd")?,
            api_server: tools::control_plane_bin("kube-apiserver")?,
            controller_manager: wanted("kube-controller-manager", controllers != Controllers::None)?,
            scheduler: wanted("kube-scheduler", controllers == Controllers::AllAndScheduler)?,
            kubectl: tools::control_plane_bin("kubectl")?,
        })
    }
}

/// The ports of one control plane.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    etcd: u16,
    etcd_peer: u16,
    pub api_server: u16,
    controller_manager: u16,
    scheduler: u16,
}

impl Ports {
    pub fn pick() -> Result<Ports> {
        Ok(Ports {
            etcd: free_port()?,
            etcd_peer: free_port()?,
            api_server: free_port()?,
            controller_manager: free_port()?,
            scheduler: free_port()?,
        })
    }
}

/// Where the API server writes its audit log.
pub fn audit_log(folder: &Folder) -> PathBuf {
    folder.path().join("audit.log")
}

pub fn etcd(programs: &Programs, folder: &Folder, ports: Ports) -> Result<Process> {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    let mut command = Command::new(&programs.etcd);
    command
        .arg(format!("--data-dir={}", folder.path().join("etcd").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        // Nothing here outlives the test; a power cut may take it.
        .args(["--unsafe-no-fsync", "--log-level=warn"]);
    Process::spawn(&command, &folder.path().join("etcd.log"))
}

pub fn api_server(programs: &Programs, folder: &Folder, pki: &Pki, address: Ipv4Addr, ports: Ports) -> Result<Process> {
    let policy = folder.path().join("audit-policy.yaml");
    fs::write(&policy, AUDIT_POLICY).context("writing the audit policy")?;
    let mut command = Command::new(&programs.api_server);
    command
        .arg(format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd))
        .arg(format!("--secure-port={}", ports.api_server))
        .arg("--service-cluster-ip-range=10.96.0.0/16")
        .arg(format!("--cert-dir={}", folder.path().display()))
        .arg(format!("--tls-cert-file={}", pki.api_server_certificate().display()))
        .arg(format!("--tls-private-key-file={}", pki.api_server_key().display()))
        .arg(format!("--client-ca-file={}", pki.ca().display()))
        .arg(format!("--service-account-key-file={}", pki.token_public_key().display()))
        .arg(format!("--service-account-signing-key-file={}", pki.token_key().display()))
        .arg(format!("--service-account-issuer={API_AUDIENCE}"))
        // A TokenReview names its own audience. One named here too would let a token that is made for
        // it speak to the API server.
        .arg(format!("--api-audiences={API_AUDIENCE}"))
        .args(["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"])
        .args(["--allow-privileged=true", "--profiling=false"])
        .arg(format!("--audit-policy-file={}", policy.display()))
        // Written before the answer ends, as is the default: tests count in it.
        .arg(format!("--audit-log-path={}", audit_log(folder).display()))
        .arg(format!("--advertise-address={address}"));
    if address.is_loopback() {
        // It refuses to be the endpoint of the Service `kubernetes` from loopback.
        command.args(["--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"]);
    } else {
        // Logs and exec are asked of the kubelet, by its address: nobody resolves its name.
        let (certificate, key) = pki.admin_certificate();
        command
            .arg("--bind-address=0.0.0.0")
            .arg("--kubelet-preferred-address-types=InternalIP")
            .arg(format!("--kubelet-client-certificate={}", certificate.display()))
            .arg(format!("--kubelet-client-key={}", key.display()));
    }
    Process::spawn(&command, &folder.path().join("kube-apiserver.log"))
}

pub fn controller_manager(programs: &Programs, folder: &Folder, pki: &Pki, ports: Ports) -> Result<Process> {
    let program = programs.controller_manager.as_ref().context("no kube-controller-manager was looked for")?;
    let kubeconfig = pki.kubeconfig_of_part("controller-manager");
    let kubeconfig = kubeconfig.display();
    let mut command = Command::new(program);
    command
        .arg(format!("--kubeconfig={kubeconfig}"))
        .arg(format!("--authentication-kubeconfig={kubeconfig}"))
        .arg(format!("--authorization-kubeconfig={kubeconfig}"))
        .args(["--bind-address=127.0.0.1", "--leader-elect=false", "--use-service-account-credentials=true"])
        .arg(format!("--secure-port={}", ports.controller_manager))
        .arg(format!("--cert-dir={}", folder.path().display()))
        .arg(format!("--root-ca-file={}", pki.ca().display()))
        .arg(format!("--service-account-private-key-file={}", pki.token_key().display()));
    Process::spawn(&command, &folder.path().join("kube-controller-manager.log"))
}

pub fn scheduler(programs: &Programs, folder: &Folder, pki: &Pki, ports: Ports) -> Result<Process> {
    let program = programs.scheduler.as_ref().context("no kube-scheduler was looked for")?;
    let kubeconfig = pki.kubeconfig_of_part("scheduler");
    let kubeconfig = kubeconfig.display();
    let mut command = Command::new(program);
    command
        .arg(format!("--kubeconfig={kubeconfig}"))
        .arg(format!("--authentication-kubeconfig={kubeconfig}"))
        .arg(format!("--authorization-kubeconfig={kubeconfig}"))
        .args(["--bind-address=127.0.0.1", "--leader-elect=false"])
        .arg(format!("--secure-port={}", ports.scheduler))
        .arg(format!("--cert-dir={}", folder.path().display()));
    Process::spawn(&command, &folder.path().join("kube-scheduler.log"))
}
