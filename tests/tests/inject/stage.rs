//! What the tests of injection share: settings, mounts and pods.

use std::sync::Arc;

use remotemount_crds::{RemoteMount, manifest};
use remotemount_operator::inject::Settings;
use remotemount_operator::webhook::review::{Known, Mounts};
use serde_json::{Value, json};

/// The namespace of every golden case.
pub const NAMESPACE: &str = "team";

pub fn settings() -> Settings {
    Settings {
        image: "registry.example/remotemount-sidecar:1".into(),
        pull_policy: "IfNotPresent".into(),
        user: 65_532,
        metrics: None,
    }
}

/// A mount of `team` with that spec besides path and bucket.
pub fn mount(name: &str, path: &str, spec: &Value) -> Arc<RemoteMount> {
    let mut whole = json!({"path": path, "remote": {"s3": {"bucket": "photos"}}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let document = json!({
        "apiVersion": "remotemount.dev/v1alpha1", "kind": "RemoteMount",
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": whole,
    });
    Arc::new(manifest::parse(document.to_string().as_bytes()).unwrap().remove(0))
}

/// A pod that asks for a sidecar, as the restricted level wants it.
pub fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"remotemount.dev/inject": "true", "app": "trainer"}},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app", "image": "registry.example/trainer:1",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    })
}

/// A client's TLS that trusts `bundle` alone.
pub fn trusting(bundle: &str) -> Arc<rustls::ClientConfig> {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

/// Certificate and key of `names`, signed by a CA of its own; and the CA.
pub fn signed(names: &[&str]) -> (String, String, String) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::default();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    (leaf.pem(), key.serialize_pem(), ca_pem)
}

/// Writes `tls.crt`, `tls.key` and `ca.crt`.
pub fn write(directory: &std::path::Path, (certificate, key, ca): &(String, String, String)) {
    for (name, text) in [("tls.crt", certificate), ("tls.key", key), ("ca.crt", ca)] {
        std::fs::write(directory.join(name), text).unwrap();
    }
}

/// Mounts of `team` as a watch knows them, and an API server that says nothing.
pub fn watched(mounts: Known) -> Mounts {
    let of = move |namespace: &str| {
        mounts.as_ref().map(|mounts| if namespace == NAMESPACE { mounts.clone() } else { Vec::new() })
    };
    Mounts { watched: Arc::new(of), asked: Arc::new(|_| Box::pin(async { None })) }
}

/// A webhook on loopback, with mounts of `team`.
pub struct Served {
    pub address: std::net::SocketAddr,
    pub bundle: String,
    pub metrics: remotemount_operator::webhook::metrics::InjectionMetrics,
    pub stop: tokio_util::sync::CancellationToken,
    pub task: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

pub async fn serve(mounts: Mounts) -> Served {
    use remotemount_operator::certificates::directory::Keeper;
    use remotemount_operator::webhook::review::Reviewer;
    use remotemount_operator::webhook::{PROTOCOLS, Webhook};
    let directory = tempfile::tempdir().unwrap();
    let files = signed(&["127.0.0.1", "localhost"]);
    write(directory.path(), &files);
    let (certificates, _) = Keeper::start(directory.path()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (metrics, stop) = Default::default();
    let metrics: remotemount_operator::webhook::metrics::InjectionMetrics = metrics;
    let stop: tokio_util::sync::CancellationToken = stop;
    let webhook = Webhook { reviewer: Reviewer { mounts, settings: settings() }, metrics: metrics.clone() };
    let tls = certificates.server_config(&PROTOCOLS).unwrap();
    let task = tokio::spawn(webhook.serve(listener, tls, stop.clone(), std::time::Duration::from_secs(10)));
    Served { address, bundle: files.2, metrics, stop, task, _directory: directory }
}
