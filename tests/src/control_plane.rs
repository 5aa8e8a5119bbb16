//! A real Kubernetes control plane on loopback: etcd, kube-apiserver and, where asked for,
//! kube-controller-manager and kube-scheduler.
//!
//! Owns the processes, their ports, and one folder with data, keys, kubeconfigs and logs; all of it
//! ends with the value, or with the test process however that ends. Admission is as in a cluster
//! (Pod Security, webhooks, policies, ServiceAccounts), every request is in the audit log, and RBAC
//! decides. It has no node, and a pod is an object that stays Pending, unless a [`crate::node::Node`] joins.
//!
//! Never listens beyond loopback but in a network namespace of a node, never reads the kubeconfig of whoever runs it, and imitates nothing.

pub mod audit;
mod folder;
mod kubectl;
pub(crate) mod pki;
mod servers;
mod tokens;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Client, Config};
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{Instant, sleep, timeout};

use crate::process::Process;
use audit::Request;
use folder::Folder;
pub use kubectl::Said;
use pki::Pki;
use servers::{Ports, Programs};

const READY_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// The audience that the API server itself takes tokens for, and the issuer of every token.
pub const API_AUDIENCE: &str = "https://kubernetes.default.svc";

/// What runs beside etcd and the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controllers {
    /// Nothing: owner references collect nothing, a Deployment makes no pods. Ready soonest.
    None,
    /// kube-controller-manager with all its controllers.
    All,
    /// The same, and kube-scheduler, for a control plane that has a node.
    AllAndScheduler,
}

/// A running control plane; killed when dropped.
#[derive(Debug)]
pub struct ControlPlane {
    // Fields drop in this order: the servers go before etcd, and all of them before the folder.
    _scheduler: Option<Process>,
    controller_manager: Option<Mutex<Process>>,
    api_server: Mutex<Process>,
    _etcd: Process,
    address: Ipv4Addr,
    ports: Ports,
    programs: Programs,
    pub(crate) pki: Pki,
    folder: Folder,
}

impl ControlPlane {
    /// Starts one of the caller's own and waits until it is ready, which takes some ten seconds.
    ///
    /// # Errors
    /// A program cannot be built or started, or is not ready within a minute; its log is in the error.
    pub async fn start(controllers: Controllers) -> Result<ControlPlane> {
        Self::start_at(Ipv4Addr::LOCALHOST, controllers).await
    }

    /// The same, with the API server at an address that pods reach too, in a network namespace of the caller's own.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn start_at(address: Ipv4Addr, controllers: Controllers) -> Result<ControlPlane> {
        let programs = tokio::task::spawn_blocking(move || Programs::find(controllers))
            .await
            .context("looking for programs")??;
        let folder = Folder::create()?;
        let ports = Ports::pick()?;
        let pki = Pki::create(folder.path(), address, ports.api_server)?;
        let etcd = servers::etcd(&programs, &folder, ports)?;
        let api_server = Mutex::new(servers::api_server(&programs, &folder, &pki, address, ports)?);
        let mut plane = ControlPlane {
            _scheduler: None,
            controller_manager: None,
            api_server,
            _etcd: etcd,
            address,
            ports,
            programs,
            pki,
            folder,
        };
        plane.wait_ready().await?;
        if controllers == Controllers::AllAndScheduler {
            plane._scheduler = Some(servers::scheduler(&plane.programs, &plane.folder, &plane.pki, plane.ports)?);
        }
        if controllers != Controllers::None {
            let process = servers::controller_manager(&plane.programs, &plane.folder, &plane.pki, plane.ports)?;
            plane.controller_manager = Some(Mutex::new(process));
            plane.wait_for_controllers().await?;
        }
        plane.add_default_account("default").await?;
        Ok(plane)
    }

    /// The one that the tests of this test process share, started by the first that asks.
    ///
    /// It runs without controllers and has the CRD. A test that stops it, or that needs controllers,
    /// starts its own.
    ///
    /// # Errors
    /// As [`ControlPlane::start`]; the next one who asks tries again.
    pub async fn shared() -> Result<&'static ControlPlane> {
        static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
        SHARED
            .get_or_try_init(|| async {
                let plane = ControlPlane::start(Controllers::None).await?;
                plane.install_crd().await?;
                Ok(plane)
            })
            .await
    }

    /// The first thing that controllers publish in every namespace is the CA.
    async fn wait_for_controllers(&self) -> Result<()> {
        let Some(process) = &self.controller_manager else { return Ok(()) };
        let maps: Api<ConfigMap> = Api::namespaced(self.client().await?, "default");
        let deadline = Instant::now() + READY_LIMIT;
        while maps.get_opt("kube-root-ca.crt").await?.is_none() {
            let mut process = process.lock().await;
            if let Some(status) = process.try_wait()? {
                bail!("kube-controller-manager ended with {status}:\n{}", process.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("kube-controller-manager is not ready after {READY_LIMIT:?}:\n{}", process.log_tail());
            }
            drop(process);
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Where the API server listens: `https://ADDRESS:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.pki.url().to_owned()
    }

    /// A new client of an administrator, for the runtime it is asked from: a test has one of its own.
    ///
    /// # Errors
    /// The kubeconfig cannot be read.
    pub async fn client(&self) -> Result<Client> {
        self.client_of(self.kubeconfig()).await
    }

    /// A new client of whomever that kubeconfig names.
    ///
    /// # Errors
    /// The kubeconfig cannot be read.
    pub async fn client_of(&self, kubeconfig: &Path) -> Result<Client> {
        let file = Kubeconfig::read_from(kubeconfig).context("reading a kubeconfig")?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        Client::try_from(config).context("making a client")
    }

    /// The administrator's kubeconfig, a member of `system:masters`.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        self.pki.admin_kubeconfig()
    }

    /// The kubectl that is run.
    #[must_use]
    pub fn kubectl_program(&self) -> &Path {
        &self.programs.kubectl
    }

    /// The certificate that clients trust the API server by, in PEM.
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        self.pki.ca_pem()
    }

    /// A place for a test's own files, gone when the control plane is.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Applies `crds/remotemounts.yaml` and waits until the API server serves and describes it.
    ///
    /// # Errors
    /// kubectl refuses it, or it is not established within a minute.
    pub async fn install_crd(&self) -> Result<()> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/remotemounts.yaml");
        let file = file.to_str().context("the path of the CRD is not text")?;
        // The index of descriptions is dated to the second: a kubectl that had cached it just before would be told that
        // nothing has changed. So this one keeps its cache to itself.
        let own_cache = self.folder().join("before-the-crd");
        let own_cache = format!("--cache-dir={}", own_cache.display());
        self.kubectl(&["apply", "--server-side", &own_cache, "-f", file]).await?.success()?;
        let client = self.client().await?;
        let crds: Api<CustomResourceDefinition> = Api::all(client.clone());
        let established = await_condition(crds, "remotemounts.remotemount.dev", conditions::is_crd_established());
        timeout(READY_LIMIT, established).await.context("the CRD is not established")??;
        // Its description follows about a second later. `kubectl explain` looks for it in the index, which may
        // name it later than the document itself can be had.
        let described = async {
            let path = format!("apis/{}", remotemount_crds::API_VERSION);
            loop {
                let index: Value = client.request(http::Request::get("/openapi/v3").body(Vec::new())?).await?;
                if let Some(document) = index["paths"][&path]["serverRelativeURL"].as_str() {
                    let text = client.request_text(http::Request::get(document).body(Vec::new())?).await?;
                    if text.contains(remotemount_crds::KIND) {
                        return anyhow::Ok(());
                    }
                }
                sleep(POLL).await;
            }
        };
        timeout(READY_LIMIT, described).await.context("the CRD is not in the OpenAPI document")?
    }

    /// Makes a namespace with those labels, and its ServiceAccount `default`, which pods need.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn create_namespace(&self, name: &str, labels: &[(&str, &str)]) -> Result<()> {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let metadata = ObjectMeta { name: Some(name.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
        let namespaces: Api<Namespace> = Api::all(self.client().await?);
        namespaces
            .create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() })
            .await
            .with_context(|| format!("making namespace {name}"))?;
        self.add_default_account(name).await
    }

    /// A controller does it in a cluster; here there may be none, and a pod is refused without it.
    async fn add_default_account(&self, namespace: &str) -> Result<()> {
        let metadata = ObjectMeta { name: Some("default".to_owned()), ..ObjectMeta::default() };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        match accounts.create(&PostParams::default(), &account).await {
            Ok(_) => Ok(()),
            // The controller was quicker.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(error).with_context(|| format!("making the ServiceAccount of {namespace}")),
        }
    }

    /// Where the audit log is: one JSON document a line.
    #[must_use]
    pub fn audit_log(&self) -> PathBuf {
        servers::audit_log(&self.folder)
    }

    /// Every request that the API server has answered so far, oldest first, a running watch included.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn requests(&self) -> Result<Vec<Request>> {
        audit::read(&self.audit_log())
    }

    /// Kills the API server, as an outage does. Its port stays its own.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn stop_api_server(&self) -> Result<()> {
        self.api_server.lock().await.kill()?;
        Ok(())
    }

    /// Kills the API server if it runs, starts it again on the same data and port, and waits for it.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub async fn restart_api_server(&self) -> Result<()> {
        {
            let mut process = self.api_server.lock().await;
            process.kill()?;
            *process = servers::api_server(&self.programs, &self.folder, &self.pki, self.address, self.ports)?;
        }
        self.wait_ready().await
    }

    /// Waits until the API server says that it is ready and has the namespace `default`.
    ///
    /// # Errors
    /// It has ended, or is not ready within a minute; its log is in the error.
    pub async fn wait_ready(&self) -> Result<()> {
        let client = self.client().await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let ready = async {
                client.request_text(http::Request::get("/readyz").body(Vec::new())?).await?;
                namespaces.get("default").await?;
                anyhow::Ok(())
            };
            // Each question has its own limit: one that hangs must not take all the time there is.
            let last = match timeout(Duration::from_secs(5), ready).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => "no answer".to_owned(),
            };
            let mut process = self.api_server.lock().await;
            if let Some(status) = process.try_wait()? {
                bail!("kube-apiserver ended with {status}:\n{}", process.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("kube-apiserver is not ready after {READY_LIMIT:?}: {last}\n{}", process.log_tail());
            }
            drop(process);
            sleep(POLL).await;
        }
    }
}
