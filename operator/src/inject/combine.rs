//! One sidecar's settings from all mounts of a pod.
//!
//! One process has one port a door, one log level, one set of resources. How settings combine:
//! paths must differ; a door's port must be the same in every mount that exposes it; resources are the
//! largest that any mount names (the defaults only where none names any), and a limit below a request is
//! raised to it; the log level is the most talkative. What cannot combine is refused.
//!
//! A door that a mount exposes has the port it says. A port that nobody chose (gRPC, admin, metrics) moves out of
//! the way of those that the pod's containers declare: all of a pod shares one loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::ResourceExt as _;
use remotemount_crds::names::CONTAINER;
use remotemount_crds::{CacheMedium, Expose, LogLevel, PortExpose, RemoteMount, effect};
use serde_json::{Map, Value, json};

use super::{Denial, quantity};

/// Ports where nobody says otherwise.
const HTTP: u16 = 8888;
const ADMIN: u16 = 9090;
/// The filer's protocol has its gRPC port this far above its HTTP port.
const GRPC_ABOVE_HTTP: u16 = 10_000;
/// What the sidecar's database takes for one entry, in bytes: measured at 400, doubled while it is rewritten.
const ENTRY_BYTES: i128 = 1024;
/// With less the sidecar does not start: it takes half of it when idle.
const LEAST_MEMORY: &str = "32Mi";
/// Fields without effect that the user of a pod should hear of.
const TOLD: [&str; 4] = ["spec.expose.s3", "spec.expose.fuse", "spec.remote.gcs", "spec.remote.azure"];

/// The settings of one sidecar.
#[derive(Clone, Debug, PartialEq)]
pub struct Combined {
    /// Names of its mounts, sorted.
    pub names: Vec<String>,
    /// The HTTP door's port.
    pub http: u16,
    /// Whether a mount exposes the HTTP door; it listens anyway.
    pub http_exposed: bool,
    /// The gRPC door's port.
    pub grpc: u16,
    /// The S3 door's port, where a mount exposes it.
    pub s3: Option<u16>,
    /// The region that a workload's S3 client is told.
    pub region: String,
    /// The admin port.
    pub admin: u16,
    /// The port of the metrics that are served off the pod, where they are.
    pub metrics: Option<u16>,
    /// What is logged.
    pub log: &'static str,
    /// Requests and limits, as a container has them.
    pub resources: Value,
    /// The state volume's size, as a quantity.
    pub state_limit: String,
    /// Secrets to mount, by name.
    pub secrets: BTreeSet<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Combines `mounts`, which `pod` is to have; `metrics` is the port that is wanted for them off the pod.
///
/// # Errors
/// When they do not fit together, or not with the pod.
pub fn combine(mounts: &[Arc<RemoteMount>], pod: &Value, metrics: Option<u16>) -> Result<Combined, Denial> {
    paths(mounts)?;
    let declared = declared_ports(pod);
    let http = door(mounts, "http", |expose| expose.http, &declared)?;
    let s3 = door(mounts, "s3", |expose| expose.s3, &declared)?;
    let grpc = door(mounts, "grpc", |expose| expose.grpc, &declared)?;
    apart(&[("http", &http), ("s3", &s3), ("grpc", &grpc)])?;
    let mut taken: BTreeSet<u16> = declared.keys().copied().collect();
    taken.extend([&http, &s3, &grpc].into_iter().flatten().map(|door| door.port));
    let mut free = |wanted: u16| {
        let port = (wanted..=u16::MAX).chain(1024..wanted).find(|port| !taken.contains(port)).unwrap_or(wanted);
        taken.insert(port);
        port
    };
    let http_port = http.as_ref().map_or_else(|| free(HTTP), |door| door.port);
    let above = http_port.checked_add(GRPC_ABOVE_HTTP).unwrap_or(HTTP + GRPC_ABOVE_HTTP);
    let grpc_port = grpc.map_or_else(|| free(above), |door| door.port);
    Ok(Combined {
        names: mounts.iter().map(|mount| mount.name_any()).collect(),
        http: http_port,
        http_exposed: http.is_some(),
        grpc: grpc_port,
        s3: s3.map(|door| door.port),
        region: region(mounts),
        admin: free(ADMIN),
        metrics: metrics.map(&mut free),
        log: log(mounts),
        resources: resources(mounts)?,
        state_limit: state_limit(mounts)?,
        secrets: mounts
            .iter()
            .filter_map(|mount| Some(mount.spec.credentials.secret_ref.as_ref()?.name.clone()))
            .collect(),
        warnings: warnings(mounts),
    })
}

fn paths(mounts: &[Arc<RemoteMount>]) -> Result<(), Denial> {
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    for mount in mounts {
        // A trailing slash changes nothing (M1).
        if let Some(other) = seen.insert(mount.spec.path.trim_end_matches('/'), mount.name_any()) {
            let (name, path) = (mount.name_any(), &mount.spec.path);
            return Err(Denial::Conflict(format!(
                "RemoteMounts {other} and {name} are both mounted at {path}: give one another path, or name the one to have in the annotation {}",
                remotemount_crds::names::MOUNTS_ANNOTATION
            )));
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Door {
    port: u16,
    mount: String,
}

/// The one port of a door.
fn door(
    mounts: &[Arc<RemoteMount>],
    name: &str,
    of: impl Fn(&Expose) -> Option<PortExpose>,
    declared: &BTreeMap<u16, String>,
) -> Result<Option<Door>, Denial> {
    let mut door: Option<Door> = None;
    for mount in mounts {
        let Some(expose) = of(&mount.spec.expose) else { continue };
        let mount = mount.name_any();
        let port = u16::try_from(expose.port).ok().filter(|port| *port > 0).ok_or_else(|| Denial::InvalidMount {
            name: mount.clone(),
            problem: format!("spec.expose.{name}.port: {} is no port", expose.port),
        })?;
        match &door {
            Some(first) if first.port != port => {
                return Err(Denial::Conflict(format!(
                    "RemoteMounts {} and {mount} want the {name} door at ports {} and {port}, and a pod has one: set one spec.expose.{name}.port in both",
                    first.mount, first.port
                )));
            }
            Some(_) => {}
            None => door = Some(Door { port, mount }),
        }
    }
    if let Some(door) = &door
        && let Some(container) = declared.get(&door.port)
    {
        return Err(Denial::Conflict(format!(
            "container {container} declares port {}, which is the {name} door of RemoteMount {}: set spec.expose.{name}.port to another",
            door.port, door.mount
        )));
    }
    Ok(door)
}

fn apart(doors: &[(&str, &Option<Door>)]) -> Result<(), Denial> {
    let mut seen: BTreeMap<u16, (&str, &str)> = BTreeMap::new();
    for (name, door) in doors {
        let Some(door) = door else { continue };
        if let Some((other, mount)) = seen.insert(door.port, (name, &door.mount)) {
            return Err(Denial::Conflict(format!(
                "port {} is the {other} door of RemoteMount {mount} and the {name} door of RemoteMount {}: give one of them another port in spec.expose",
                door.port, door.mount
            )));
        }
    }
    Ok(())
}

/// TCP ports that the pod's own containers declare, and who does.
fn declared_ports(pod: &Value) -> BTreeMap<u16, String> {
    let lists = ["/spec/containers", "/spec/initContainers"];
    let containers = lists.into_iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    let mut ports = BTreeMap::new();
    for container in containers {
        let name = container.get("name").and_then(Value::as_str).unwrap_or_default();
        if name == CONTAINER {
            continue;
        }
        for port in container.get("ports").and_then(Value::as_array).into_iter().flatten() {
            let tcp = port.get("protocol").and_then(Value::as_str).is_none_or(|protocol| protocol == "TCP");
            let number =
                port.get("containerPort").and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok());
            if let (true, Some(number)) = (tcp, number) {
                ports.insert(number, name.to_owned());
            }
        }
    }
    ports
}

fn region(mounts: &[Arc<RemoteMount>]) -> String {
    let s3 = mounts.iter().filter(|mount| mount.spec.expose.s3.is_some());
    let named = s3.filter_map(|mount| mount.spec.remote.s3.as_ref()?.region.clone()).find(|region| !region.is_empty());
    named.unwrap_or_else(|| "us-east-1".to_owned())
}

fn log(mounts: &[Arc<RemoteMount>]) -> &'static str {
    let talk = |level: LogLevel| match level {
        LogLevel::Error => (0, "error"),
        LogLevel::Warn => (1, "warn"),
        LogLevel::Info => (2, "info"),
        LogLevel::Debug => (3, "debug"),
    };
    mounts.iter().filter_map(|mount| mount.spec.sidecar.log_level.map(talk)).max().map_or("info", |(_, name)| name)
}

fn resources(mounts: &[Arc<RemoteMount>]) -> Result<Value, Denial> {
    // Enough for a million entries; a mount that needs more says so. No limit of CPU: it would slow every start.
    let default = json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}});
    let given: Vec<_> =
        mounts.iter().filter_map(|mount| Some((mount.name_any(), mount.spec.sidecar.resources.as_ref()?))).collect();
    if given.is_empty() {
        return Ok(default);
    }
    let (mut requests, mut limits) = (Largest::default(), Largest::default());
    let mut claims: Vec<Value> = Vec::new();
    for (name, resources) in given {
        for (field, list, largest) in
            [("requests", &resources.requests, &mut requests), ("limits", &resources.limits, &mut limits)]
        {
            for (resource, amount) in list.iter().flatten() {
                largest.take(resource, &amount.0).ok_or_else(|| Denial::InvalidMount {
                    name: name.clone(),
                    problem: format!("spec.sidecar.resources.{field}.{resource}: {:?} is no quantity", amount.0),
                })?;
            }
        }
        sensible(resources).map_err(|problem| Denial::InvalidMount { name: name.clone(), problem })?;
        for claim in resources.claims.iter().flatten() {
            let claim = serde_json::to_value(claim).unwrap_or_default();
            if !claims.contains(&claim) {
                claims.push(claim);
            }
        }
    }
    for (resource, limit) in &mut limits.0 {
        if let Some(request) = requests.0.get(resource)
            && request.0 > limit.0
        {
            limit.clone_from(request);
        }
    }
    let mut combined = Map::new();
    for (field, largest) in [("requests", requests), ("limits", limits)] {
        if !largest.0.is_empty() {
            let list = largest.0.into_iter().map(|(resource, (_, text))| (resource, Value::String(text)));
            combined.insert(field.to_owned(), Value::Object(list.collect()));
        }
    }
    if !claims.is_empty() {
        combined.insert("claims".to_owned(), Value::Array(claims));
    }
    Ok(Value::Object(combined))
}

/// One mount's own wishes, all of them quantities: what the API server would refuse in a pod, and what no sidecar can start with.
fn sensible(resources: &ResourceRequirements) -> Result<(), String> {
    for (resource, limit) in resources.limits.iter().flatten() {
        let limited = quantity::parse(&limit.0);
        let request = resources.requests.as_ref().and_then(|requests| requests.get(resource));
        if let Some(request) = request.filter(|request| quantity::parse(&request.0) > limited) {
            return Err(format!(
                "spec.sidecar.resources.requests.{resource}: {} is more than its limit, {}",
                request.0, limit.0
            ));
        }
        if resource == "memory" && limited < quantity::parse(LEAST_MEMORY) {
            return Err(format!(
                "spec.sidecar.resources.limits.memory: {} is too little for any sidecar: at least {LEAST_MEMORY}",
                limit.0
            ));
        }
    }
    Ok(())
}

/// For each resource the largest amount, as it was written.
#[derive(Default)]
struct Largest(BTreeMap<String, (i128, String)>);

impl Largest {
    fn take(&mut self, resource: &str, text: &str) -> Option<()> {
        let amount = quantity::parse(text).filter(|amount| *amount >= 0)?;
        let kept = self.0.entry(resource.to_owned()).or_insert_with(|| (amount, text.to_owned()));
        if amount > kept.0 {
            *kept = (amount, text.to_owned());
        }
        Some(())
    }
}

/// Metadata of every mount, and the caches that are on disk. Going over it, the kubelet evicts the pod.
fn state_limit(mounts: &[Arc<RemoteMount>]) -> Result<String, Denial> {
    let mut sum = 0_i128;
    for mount in mounts {
        let entries = i128::from(mount.spec.metadata.max_entries.clamp(0, 100_000_000));
        sum += entries * ENTRY_BYTES * 1_000_000_000;
        if mount.spec.cache.medium == CacheMedium::Disk {
            let size = &mount.spec.cache.size_limit;
            sum = quantity::parse(size).and_then(|size| sum.checked_add(size)).ok_or_else(|| Denial::InvalidMount {
                name: mount.name_any(),
                problem: format!("spec.cache.sizeLimit: {size:?} is no quantity"),
            })?;
        }
    }
    Ok(quantity::mebibytes(sum))
}

fn warnings(mounts: &[Arc<RemoteMount>]) -> Vec<String> {
    let of = |mount: &Arc<RemoteMount>| {
        let name = mount.name_any();
        let notices = effect::without_effect(&mount.spec).into_iter().filter(|notice| TOLD.contains(&notice.field));
        notices.map(move |notice| format!("RemoteMount {name}: {} {}", notice.field, notice.message))
    };
    mounts.iter().flat_map(of).collect()
}
