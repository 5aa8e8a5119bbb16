//! The sidecar into the pod, and the pod's change as a JSON patch.
//!
//! Position: after `istio-proxy` where that is an init container (a native sidecar that carries the
//! network), else first, so that every other init container can read the mounts. Containers that start
//! after it are told where the doors are, by variables that they do not set themselves.
//!
//! Names of our volumes are ours: a volume of such a name that says something else is replaced, except the
//! state volume, which a user may bring (a claim, say, to keep metadata). Everything else stays as it is.

use remotemount_crds::names::{CONTAINER, INJECTED_ANNOTATION, STATE_VOLUME};
use serde_json::{Map, Value, json};

use super::combine::Combined;
use super::{Denial, Settings, merge, sidecar};

/// The service mesh's sidecar.
const MESH: &str = "istio-proxy";
/// Names of local volumes that do not keep the cluster autoscaler from emptying a node.
const EVICTABLE: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes";

/// `pod` with its sidecar.
///
/// # Errors
/// When the pod cannot be read, or rules a sidecar out.
pub fn apply(pod: &Value, combined: &Combined, settings: &Settings) -> Result<Value, Denial> {
    let mut pod = pod.clone();
    let root = pod.as_object_mut().ok_or_else(|| Denial::Malformed("it is no object".to_owned()))?;
    let spec = object(root, "spec")?;
    suitable(spec)?;
    let at = place(list(spec, "initContainers")?, combined, settings)?;
    for (index, container) in list(spec, "initContainers")?.iter_mut().enumerate().skip(at + 1) {
        tell(container, &format!("initContainers[{index}]"), combined)?;
    }
    for (index, container) in list(spec, "containers")?.iter_mut().enumerate() {
        tell(container, &format!("containers[{index}]"), combined)?;
    }
    add_volumes(list(spec, "volumes")?, combined);
    let annotations = object(object(root, "metadata")?, "annotations")?;
    annotations.insert(INJECTED_ANNOTATION.to_owned(), Value::String(combined.names.join(",")));
    let evictable = annotations.get(EVICTABLE).and_then(Value::as_str).unwrap_or_default();
    if !evictable.split(',').any(|name| name == STATE_VOLUME) {
        let names: Vec<&str> = evictable.split(',').filter(|name| !name.is_empty()).chain([STATE_VOLUME]).collect();
        let names = Value::String(names.join(","));
        annotations.insert(EVICTABLE.to_owned(), names);
    }
    Ok(pod)
}

/// What makes `after` of `before`; empty when they are one.
#[must_use]
pub fn patch(before: &Value, after: &Value) -> json_patch::Patch {
    json_patch::diff(before, after)
}

fn suitable(spec: &mut Map<String, Value>) -> Result<(), Denial> {
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        let message =
            "hostNetwork: true gives the doors to every process of the node: remove it, or do not ask for a sidecar";
        return Err(Denial::Pod(message.to_owned()));
    }
    if spec.get("os").and_then(|os| os.get("name")).and_then(Value::as_str) == Some("windows") {
        return Err(Denial::Pod("the sidecar runs on Linux, and spec.os.name is windows".to_owned()));
    }
    if list(spec, "containers")?.iter().any(|container| name(container) == Some(CONTAINER)) {
        return Err(Denial::Pod(format!(
            "container {CONTAINER} is in spec.containers: a container of that name is the sidecar and belongs in spec.initContainers; move or rename it"
        )));
    }
    Ok(())
}

/// Puts the container among the init containers; answers where it is.
fn place(containers: &mut Vec<Value>, combined: &Combined, settings: &Settings) -> Result<usize, Denial> {
    let ours = sidecar::container(combined, settings);
    if let Some(at) = containers.iter().position(|container| name(container) == Some(CONTAINER)) {
        if let Some(theirs) = containers.get_mut(at).and_then(Value::as_object_mut) {
            merge::fill(theirs, ours);
        }
        return Ok(at);
    }
    let at = containers.iter().position(|container| name(container) == Some(MESH)).map_or(0, |mesh| mesh + 1);
    containers.insert(at, Value::Object(ours));
    Ok(at)
}

/// Tells a container where the doors are.
fn tell(container: &mut Value, place: &str, combined: &Combined) -> Result<(), Denial> {
    let container = container.as_object_mut().ok_or_else(|| Denial::Malformed(format!("spec.{place} is no object")))?;
    // What a source brings is not seen here, and a plain variable would win over it. The address of our own door
    // is worth that; a hint is not.
    let sourced = container.get("envFrom").and_then(Value::as_array).is_some_and(|sources| !sources.is_empty());
    let has =
        |env: &[Value], name: &str| env.iter().any(|there| there.get("name").and_then(Value::as_str) == Some(name));
    let mut wanted: Vec<(&str, String)> = Vec::new();
    if combined.http_exposed {
        wanted.push(("REMOTEMOUNT_URL", format!("http://127.0.0.1:{}", combined.http)));
    }
    let env = container.get("env").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // The other variables are about our endpoint: with an endpoint of the user's own they would be wrong.
    if let (Some(port), false) = (combined.s3, has(env, "AWS_ENDPOINT_URL_S3")) {
        wanted.push(("AWS_ENDPOINT_URL_S3", format!("http://127.0.0.1:{port}")));
        if !sourced && !has(env, "AWS_REGION") && !has(env, "AWS_DEFAULT_REGION") {
            wanted.push(("AWS_REGION", combined.region.clone()));
        }
        if !sourced {
            wanted.push(("AWS_S3_FORCE_PATH_STYLE", "true".to_owned()));
        }
    }
    wanted.retain(|(name, _)| !has(env, name));
    if !wanted.is_empty() {
        list(container, "env")?.extend(wanted.into_iter().map(|(name, value)| json!({"name": name, "value": value})));
    }
    Ok(())
}

fn add_volumes(volumes: &mut Vec<Value>, combined: &Combined) {
    for ours in sidecar::volumes(combined) {
        match volumes.iter_mut().find(|there| name(there) == name(&ours)) {
            Some(there) if name(there) == Some(STATE_VOLUME) || merge::covers(there, &ours) => {}
            Some(there) => *there = ours,
            None => volumes.push(ours),
        }
    }
}

fn name(value: &Value) -> Option<&str> {
    value.get("name").and_then(Value::as_str)
}

/// The object under `key`, made if it is not there.
fn object<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Map<String, Value>, Denial> {
    let value = parent.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!({});
    }
    value.as_object_mut().ok_or_else(|| Denial::Malformed(format!("{key} is no object")))
}

/// The list under `key`, made if it is not there.
fn list<'a>(parent: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Vec<Value>, Denial> {
    let value = parent.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = json!([]);
    }
    value.as_array_mut().ok_or_else(|| Denial::Malformed(format!("{key} is no list")))
}
