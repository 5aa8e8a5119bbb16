//! The sidecar's container and volumes, as the pod is to have them.
//!
//! A native sidecar: an init container that is restarted for ever, with a hook that holds the
//! containers after it back until the mounts are served, and that does not keep a Job from ending. It runs
//! under the restricted Pod Security level. Hook and probe run a command in the container, because the admin
//! port listens on loopback, where the kubelet cannot ask it.
//!
//! A hook and no startup probe: the kubelet looks at probes once a second and at what came of them once a
//! second more, which would be most of what a sidecar adds to a pod's start (docs/decisions/0014).
//!
//! ConfigMaps are optional sources: a mount that is deleted must not keep the others from their updates.
//! Secrets are not: a missing one shows as a `FailedMount` event that names it, and the pod waits for it.
//! The operator reads neither. The state volume is on disk for a cache in memory too: metadata and the
//! notes of unfinished deletes are in it.

use std::net::SocketAddr;

use remotemount_crds::names::{
    AUDIENCE, CA_KEY, CONTAINER, CONTROL_CONFIG_MAP, CONTROL_DIRECTORY, CONTROL_VOLUME, CREDENTIALS_DIRECTORY,
    CREDENTIALS_VOLUME, ENDPOINT_KEY, MANIFEST_KEY, MOUNTS_DIRECTORY, MOUNTS_VOLUME, SIDECAR_PROGRAM, STATE_DIRECTORY,
    STATE_VOLUME, TOKEN_FILE, config_map, manifest_file,
};
use serde_json::{Map, Value, json};

use super::Settings;
use super::combine::Combined;

/// Where containers find a token for the API server, unless something is mounted there already.
const API_TOKEN_DIRECTORY: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// By which a PodMonitor finds the metrics.
const METRICS_PORT: &str = "rm-metrics";
/// Seconds a token is good for; the kubelet renews it well before.
const TOKEN_SECONDS: u32 = 3600;
/// Seconds the start may take before the kubelet tries again, with the volumes as they are by then.
const START_SECONDS: u32 = 30;

/// The container.
#[must_use]
pub fn container(combined: &Combined, settings: &Settings) -> Map<String, Value> {
    let admin = format!("127.0.0.1:{}", combined.admin);
    let probe = |path: &'static str| vec![SIDECAR_PROGRAM, "probe", "--admin", &admin, "--path", path];
    let (wait, names) = (START_SECONDS.to_string(), combined.names.join(","));
    let started = [probe("/readyz"), vec!["--wait", &wait]].concat();
    let fields = json!({
        "name": CONTAINER,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy,
        "restartPolicy": "Always",
        "args": [
            "run",
            "--mounts", MOUNTS_DIRECTORY,
            "--credentials", CREDENTIALS_DIRECTORY,
            "--state", STATE_DIRECTORY,
            "--http", format!("127.0.0.1:{}", combined.http),
            "--grpc", format!("127.0.0.1:{}", combined.grpc),
            "--admin", admin,
            "--expect", names,
            "--log", combined.log,
            "--control", format!("{CONTROL_DIRECTORY}/{ENDPOINT_KEY}"),
            "--control-ca", format!("{CONTROL_DIRECTORY}/{CA_KEY}"),
            "--control-token", format!("{CONTROL_DIRECTORY}/{TOKEN_FILE}"),
        ],
        "env": [
            from_field("POD_NAME", "metadata.name"),
            from_field("POD_NAMESPACE", "metadata.namespace"),
            from_field("POD_UID", "metadata.uid"),
            from_field("NODE_NAME", "spec.nodeName"),
        ],
        "resources": combined.resources,
        "securityContext": security_context(settings),
        "lifecycle": {"postStart": {"exec": {"command": started}}},
        "livenessProbe": {
            "exec": {"command": probe("/healthz")}, "periodSeconds": 30, "timeoutSeconds": 10, "failureThreshold": 3,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": volume_mounts(combined),
    });
    let mut fields = match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    if let (Some(port), Some(address)) = (combined.metrics, settings.metrics) {
        if let Some(args) = fields.get_mut("args").and_then(Value::as_array_mut) {
            args.extend([json!("--metrics"), json!(SocketAddr::new(address.ip(), port))]);
        }
        fields.insert("ports".to_owned(), json!([{"name": METRICS_PORT, "containerPort": port, "protocol": "TCP"}]));
    }
    fields
}

/// The volumes that the container mounts.
#[must_use]
pub fn volumes(combined: &Combined) -> Vec<Value> {
    let manifests: Vec<Value> = combined
        .names
        .iter()
        .map(|mount| {
            let items = json!([{"key": MANIFEST_KEY, "path": manifest_file(mount)}]);
            json!({"configMap": {"name": config_map(mount), "optional": true, "items": items}})
        })
        .collect();
    let token = json!({"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": TOKEN_FILE});
    let mut volumes = vec![
        json!({"name": MOUNTS_VOLUME, "projected": {"sources": manifests}}),
        json!({"name": CONTROL_VOLUME, "projected": {"sources": [
            {"configMap": {"name": CONTROL_CONFIG_MAP, "optional": true}},
            {"serviceAccountToken": token},
        ]}}),
        json!({"name": STATE_VOLUME, "emptyDir": {"sizeLimit": combined.state_limit}}),
    ];
    let secrets = combined.secrets.iter().enumerate();
    volumes.extend(secrets.map(|(at, secret)| json!({"name": credentials(at), "secret": {"secretName": secret}})));
    volumes
}

fn volume_mounts(combined: &Combined) -> Vec<Value> {
    let read_only = |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    let mut mounts = vec![
        read_only(MOUNTS_VOLUME, MOUNTS_DIRECTORY),
        read_only(CONTROL_VOLUME, CONTROL_DIRECTORY),
        json!({"name": STATE_VOLUME, "mountPath": STATE_DIRECTORY}),
        // It never asks the API server: with something else there, no token for it is mounted.
        read_only(MOUNTS_VOLUME, API_TOKEN_DIRECTORY),
    ];
    let secrets = combined.secrets.iter().enumerate();
    mounts.extend(secrets.map(|(at, name)| read_only(&credentials(at), &format!("{CREDENTIALS_DIRECTORY}/{name}"))));
    mounts
}

fn credentials(at: usize) -> String {
    format!("{CREDENTIALS_VOLUME}-{at}")
}

fn from_field(name: &str, path: &str) -> Value {
    json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}})
}

/// Its user needs nothing of the pod's: an emptyDir may be written by all, Secrets and ConfigMaps are readable by all
/// in the one container that mounts them, and with an `fsGroup` the kubelet adds the group to every container.
fn security_context(settings: &Settings) -> Value {
    let mut context = json!({
        "runAsNonRoot": true,
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if let (1.., Some(context)) = (settings.user, context.as_object_mut()) {
        context.insert("runAsUser".to_owned(), json!(settings.user));
        context.insert("runAsGroup".to_owned(), json!(settings.user));
    }
    context
}
