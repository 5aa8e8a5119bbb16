//! What is refused, with words that say what to change.

use std::sync::Arc;

use remotemount_crds::RemoteMount;
use remotemount_operator::inject::{Denial, inject};
use serde_json::{Value, json};

use crate::stage::{self, NAMESPACE, mount, pod};

type Case = (&'static str, Value, Vec<Arc<RemoteMount>>, &'static str, &'static [&'static str]);

fn asking(names: &str) -> Value {
    let mut pod = pod("app");
    pod["metadata"]["annotations"] = json!({"remotemount.dev/mounts": names});
    pod
}

fn with(pointer: &str, value: Value) -> Value {
    let mut pod = pod("app");
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[key] = value;
    pod
}

fn changed(mount: &Arc<RemoteMount>, change: impl FnOnce(&mut RemoteMount)) -> Arc<RemoteMount> {
    let mut mount = RemoteMount::clone(mount);
    change(&mut mount);
    Arc::new(mount)
}

fn cases() -> Vec<Case> {
    let plain = || mount("images", "/images", &json!({}));
    let models = |spec: Value| mount("models", "/models", &spec);
    let deleted = changed(&plain(), |mount| {
        mount.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    });
    let refused = changed(&plain(), |mount| {
        mount.metadata.generation = Some(3);
        mount.status = serde_json::from_value(json!({"conditions": [{
            "type": "Accepted", "status": "False", "reason": "PathConflict", "message": "older has /images",
            "observedGeneration": 3, "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]}))
        .unwrap();
    });
    let selecting = |selector: Value| mount("images", "/images", &json!({"podSelector": selector}));
    let port = |port: u16| json!({"expose": {"http": {"port": port}}});
    let memory = |text: &str| json!({"sidecar": {"resources": {"limits": {"memory": text}}}});
    vec![
        ("no mount at all", pod("app"), vec![], "no_mount", &["namespace team", "create one"]),
        (
            "none matches",
            pod("app"),
            vec![selecting(json!({"matchLabels": {"app": "web"}}))],
            "no_mount",
            &["images", "none matches its labels"],
        ),
        (
            "all suspended",
            pod("app"),
            vec![mount("images", "/i", &json!({"suspend": true}))],
            "no_mount",
            &["images is left out", "spec.suspend"],
        ),
        (
            "unknown name",
            asking("imgaes"),
            vec![plain(), models(json!({}))],
            "unknown_mount",
            &["imgaes", "images, models"],
        ),
        ("unknown name, none there", asking("images"), vec![], "unknown_mount", &["there is none"]),
        ("one of two is unknown", asking("images,nope"), vec![plain()], "unknown_mount", &["nope", "there is images"]),
        ("no name in it", asking(" , "), vec![plain()], "conflict", &["names no mount", "remove it"]),
        ("being deleted", asking("images"), vec![deleted.clone()], "unavailable_mount", &["being deleted"]),
        ("being deleted, unnamed", pod("app"), vec![deleted], "no_mount", &["images is left out: it is being deleted"]),
        ("not accepted", asking("images"), vec![refused], "unavailable_mount", &["PathConflict", "older has /images"]),
        (
            "named, selector says no",
            asking("images"),
            vec![selecting(json!({"matchLabels": {"app": "web"}}))],
            "unavailable_mount",
            &["podSelector does not match"],
        ),
        (
            "selector of no sense",
            pod("app"),
            vec![selecting(json!({"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}))],
            "invalid_mount",
            &["images", "spec.podSelector"],
        ),
        (
            "one path, a slash apart",
            pod("app"),
            vec![plain(), mount("photos", "/images/", &json!({}))],
            "conflict",
            &["images and photos", "another path"],
        ),
        (
            "one door, two ports",
            pod("app"),
            vec![plain(), models(port(9999))],
            "conflict",
            &["8888 and 9999", "spec.expose.http.port"],
        ),
        (
            "two doors, one port",
            pod("app"),
            vec![plain(), models(json!({"expose": {"grpc": {"port": 8888}}}))],
            "conflict",
            &["port 8888", "http door of RemoteMount images", "grpc door of RemoteMount models"],
        ),
        (
            "a door where the app listens",
            with("/spec/containers/0/ports", json!([{"containerPort": 8888}])),
            vec![plain()],
            "conflict",
            &["container app declares port 8888", "RemoteMount images"],
        ),
        (
            "resources of no sense",
            pod("app"),
            vec![mount("images", "/images", &memory("lots"))],
            "invalid_mount",
            &["spec.sidecar.resources.limits.memory", "lots"],
        ),
        (
            "negative resources",
            pod("app"),
            vec![mount("images", "/images", &memory("-1Gi"))],
            "invalid_mount",
            &["-1Gi"],
        ),
        (
            "a request beyond its limit",
            pod("app"),
            vec![mount(
                "images",
                "/images",
                &json!({"sidecar": {"resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "512Mi"}}}}),
            )],
            "invalid_mount",
            &["spec.sidecar.resources.requests.memory", "1Gi is more than its limit, 512Mi"],
        ),
        (
            "memory that no sidecar starts with",
            pod("app"),
            vec![mount("images", "/images", &memory("1Mi"))],
            "invalid_mount",
            &["spec.sidecar.resources.limits.memory", "1Mi is too little", "32Mi"],
        ),
        ("the node's network", with("/spec/hostNetwork", json!(true)), vec![plain()], "pod", &["hostNetwork"]),
        ("windows", with("/spec/os", json!({"name": "windows"})), vec![plain()], "pod", &["windows"]),
        (
            "our name among the containers",
            with("/spec/containers/0/name", json!("remotemount")),
            vec![plain()],
            "pod",
            &["spec.initContainers"],
        ),
        ("no spec to speak of", with("/spec", json!("x")), vec![plain()], "malformed", &["spec is no object"]),
        (
            "containers that are none",
            with("/spec/containers", json!([1])),
            vec![plain()],
            "malformed",
            &["containers[0]"],
        ),
        (
            "annotations that are none",
            with("/metadata/annotations", json!([])),
            vec![plain()],
            "malformed",
            &["annotations"],
        ),
    ]
}

#[test]
fn each_says_what_to_change() {
    for (name, pod, mounts, reason, told) in cases() {
        let denial: Denial = inject(&pod, NAMESPACE, &mounts, &stage::settings()).expect_err(name);
        assert_eq!(denial.reason(), reason, "{name}: {denial}");
        assert_eq!(denial.code(), if reason == "malformed" { 400 } else { 422 }, "{name}");
        let message = denial.to_string();
        for part in told {
            assert!(message.contains(part), "{name}: {part:?} is not in {message:?}");
        }
        assert!(message.len() < 1200 && !message.contains('\n'), "{name}: {message}");
    }
}

#[test]
fn what_did_not_ask_is_left_alone() {
    let settings = stage::settings();
    let mut unasked = pod("app");
    unasked["metadata"]["labels"]["remotemount.dev/inject"] = json!("false");
    assert_eq!(inject(&unasked, NAMESPACE, &[], &settings), Ok(None));
    let mut mirror = pod("app");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    assert_eq!(inject(&mirror, NAMESPACE, &[], &settings), Ok(None));
    assert_eq!(inject(&json!([]), NAMESPACE, &[], &settings), Ok(None));
}

#[test]
fn what_was_said_of_an_older_spec_no_longer_counts() {
    let mut mount = RemoteMount::clone(&mount("images", "/images", &json!({})));
    mount.metadata.generation = Some(4);
    mount.status = serde_json::from_value(json!({"conditions": [{
        "type": "Accepted", "status": "False", "reason": "PathConflict", "message": "older has /images",
        "observedGeneration": 3, "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]}))
    .unwrap();
    let injected = inject(&pod("app"), NAMESPACE, &[Arc::new(mount)], &stage::settings()).unwrap().unwrap();
    assert_eq!(injected.mounts, ["images"]);
}
