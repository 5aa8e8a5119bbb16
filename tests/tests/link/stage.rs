//! What every scenario stands on: an operator's end of the link that can be stopped and started again on
//! its port, pods with their tokens, and sidecars that have them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, PostParams};
use remotemount_crds::names::AUDIENCE;
use remotemount_operator::control::Control;
use remotemount_operator::control::metrics::ControlMetrics;
use remotemount_operator::control::registry::Registry;
use remotemount_operator::control::report::{InjectedPod, MountReport, Wanted};
use remotemount_tests::control_plane::ControlPlane;
use remotemount_tests::manifest::Manifest;
use remotemount_tests::process::free_port;
use remotemount_tests::s3_server::{Kind, S3Server};
use remotemount_tests::sidecar::{Builder, Sidecar};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The `metadata.uid` of the mounts here.
pub const UID: &str = "11111111-2222-3333-4444-555555555555";
/// Whatever is waited for comes long before this, or not at all.
const LIMIT: Duration = Duration::from_secs(60);

/// The endpoint of the S3 server that all share.
pub async fn s3() -> String {
    static WEED: OnceCell<(S3Server, TempDir)> = OnceCell::const_new();
    let start = || async {
        let folder = tempfile::tempdir().unwrap();
        (S3Server::start(Kind::Weed, folder.path()).await.unwrap(), folder)
    };
    WEED.get_or_init(start).await.0.endpoint()
}

/// A manifest as the operator publishes it: with uid and generation.
pub fn published(manifest: &Manifest, generation: i64) -> String {
    let (name, yaml) = (manifest.name(), manifest.to_yaml());
    let bare = format!("metadata: {{name: \"{name}\"}}");
    assert!(yaml.contains(&bare), "{yaml}");
    yaml.replace(&bare, &format!("metadata: {{name: \"{name}\", uid: \"{UID}\", generation: {generation}}}"))
}

/// The operator's end, without the rest of it.
pub struct Operator {
    pub registry: Arc<Registry>,
    pub metrics: ControlMetrics,
    pub address: SocketAddr,
    pub folder: TempDir,
    client: Client,
    tls: Arc<ServerConfig>,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Operator {
    /// Starts one whose tokens are reviewed by `client`'s API server.
    pub async fn start(client: Client) -> Operator {
        let folder = tempfile::tempdir().unwrap();
        let (tls, ca) = certificates();
        std::fs::write(folder.path().join("ca.crt"), ca).unwrap();
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), free_port().unwrap());
        std::fs::write(folder.path().join("endpoint"), format!("https://{address}\n")).unwrap();
        let (registry, metrics) = (Arc::default(), ControlMetrics::default());
        let mut operator = Operator { registry, metrics, address, folder, client, tls, running: None };
        operator.resume();
        operator
    }

    /// Starts it again on its port, knowing nothing: another operator's process.
    pub fn resume(&mut self) {
        self.registry = Arc::default();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(self.address).unwrap();
        let listener: TcpListener = socket.listen(1024).unwrap();
        let control = Control::new(Arc::clone(&self.registry), self.client.clone(), self.metrics.clone());
        let stop = CancellationToken::new();
        let serving = tokio::spawn(control.serve(listener, Arc::clone(&self.tls), stop.clone()));
        self.running = Some((stop, serving));
    }

    pub async fn stop(&mut self) {
        let (stop, serving) = self.running.take().unwrap();
        stop.cancel();
        serving.await.unwrap();
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What is known of the mount `m` in that generation, over those pods.
    pub fn summary(&self, namespace: &str, generation: i64, pods: &[&TestPod]) -> MountReport {
        let wanted = Wanted { namespace, name: "m", uid: UID, generation };
        self.registry.summary(&wanted, pods.iter().map(|pod| InjectedPod { name: &pod.name, uid: &pod.uid }))
    }

    /// Waits until the summary is as wanted, and gives it.
    pub async fn until(
        &self,
        (namespace, generation): (&str, i64),
        pods: &[&TestPod],
        wanted: impl Fn(&MountReport) -> bool,
    ) -> MountReport {
        let mut last = MountReport::default();
        let is = async || {
            last = self.summary(namespace, generation, pods);
            wanted(&last)
        };
        let came = holds(is).await;
        assert!(came, "{last:#?}");
        last
    }

    /// A sidecar of that pod, with its token and the mount `m`.
    pub fn sidecar(&self, pod: &TestPod, manifest: &str) -> Builder {
        let argument = |path: &Path| path.to_str().unwrap().to_owned();
        let token = self.file(&format!("{}.token", pod.uid));
        std::fs::write(&token, &pod.token).unwrap();
        Sidecar::builder()
            .manifest("m", manifest)
            .arg("--control")
            .arg(&argument(&self.file("endpoint")))
            .arg("--control-ca")
            .arg(&argument(&self.file("ca.crt")))
            .arg("--control-token")
            .arg(&argument(&token))
    }
}

/// A CA, and a server's certificate for loopback that it has signed.
pub fn certificates() -> (Arc<ServerConfig>, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = ca.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(ca, key);
    let leaf_key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CertificateDer::from(leaf.der().to_vec())];
    let private = PrivateKeyDer::try_from(leaf_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, private).unwrap();
    (Arc::new(config), certificate.pem())
}

/// A pod of the API server, and the token that kubelet would put into it.
#[derive(Clone)]
pub struct TestPod {
    pub name: String,
    pub uid: String,
    pub token: String,
}

pub async fn pod(plane: &ControlPlane, client: &Client, namespace: &str, name: &str) -> TestPod {
    let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "app", "image": "app"}]}});
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let token = plane.pod_token(namespace, name, AUDIENCE).await.unwrap();
    TestPod { name: name.to_owned(), uid: pod.metadata.uid.unwrap(), token }
}

/// The shared control plane, a client of it for this test, and a namespace of the test's own with one pod.
pub async fn cluster(namespace: &str) -> (&'static ControlPlane, Client, TestPod) {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace(namespace, &[]).await.unwrap();
    let client = plane.client().await.unwrap();
    let pod = pod(plane, &client, namespace, "web-0").await;
    (plane, client, pod)
}

/// Whether that comes to hold.
pub async fn holds(mut condition: impl AsyncFnMut() -> bool) -> bool {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.is_ok()
}

pub async fn status(sidecar: &Sidecar) -> Value {
    let answer = http().get(sidecar.admin_url("/status")).send().await.unwrap();
    serde_json::from_str(&answer.text().await.unwrap()).unwrap()
}

/// Waits until the sidecar says that of its link: the state, and the kind of the last error.
pub async fn link_is(sidecar: &Sidecar, state: &str, kind: Option<&str>) {
    let mut last = Value::Null;
    let is = async || {
        last = status(sidecar).await["control"].clone();
        last["state"] == state && last["lastError"]["kind"] == kind.map_or(Value::Null, Value::from)
    };
    assert!(holds(is).await, "waiting for {state}, {kind:?}: {last:#}\n{}", sidecar.log());
}

pub fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(LIMIT).build().unwrap()
}

pub async fn get(sidecar: &Sidecar, path: &str) -> (u16, String) {
    let answer = http().get(sidecar.http_url(path)).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

pub async fn delete(sidecar: &Sidecar, path: &str) -> u16 {
    http().delete(sidecar.http_url(path)).send().await.unwrap().status().as_u16()
}
