//! The status subresource: who writes a spec changes no status, and the other way round.

use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use remotemount_tests::control_plane::ControlPlane;
use serde_json::{Value, json};

use crate::manifests::{document, minimal, untyped};

fn with_status(name: &str, spec: Value, uri: &str) -> DynamicObject {
    let mut document = document(name, spec);
    document["status"] = json!({"remoteURI": uri});
    serde_json::from_value(document).unwrap()
}

#[tokio::test]
async fn a_write_of_the_spec_changes_no_status() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("status-by-spec", &[]).await.unwrap();
    let mounts = untyped(plane, "status-by-spec").await;
    let made = mounts.create(&PostParams::default(), &with_status("photos", minimal(), "s3://forged/")).await.unwrap();
    assert_eq!(made.data["status"], Value::Null, "a status came in with the spec");

    let true_status = json!({"status": {"remoteURI": "s3://bucket/", "observedGeneration": 1}});
    mounts.patch_status("photos", &PatchParams::default(), &Patch::Merge(&true_status)).await.unwrap();
    let both = json!({"spec": {"deletePolicy": "Retain"}, "status": {"remoteURI": "s3://forged/"}});
    let after = mounts.patch("photos", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert_eq!(after.data["status"], true_status["status"]);
    assert_eq!(after.data["spec"]["deletePolicy"], "Retain");
    assert_eq!(after.metadata.generation, Some(2));

    let mut whole = with_status("photos", minimal(), "s3://forged/");
    whole.metadata.resource_version = after.metadata.resource_version;
    let after = mounts.replace("photos", &PostParams::default(), &whole).await.unwrap();
    assert_eq!(after.data["status"], true_status["status"]);
    assert_eq!(after.metadata.generation, Some(3));
}

#[tokio::test]
async fn a_write_of_the_status_changes_no_spec() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("spec-by-status", &[]).await.unwrap();
    let mounts = untyped(plane, "spec-by-status").await;
    let made = mounts
        .create(&PostParams::default(), &serde_json::from_value(document("photos", minimal())).unwrap())
        .await
        .unwrap();
    let both = json!({
        "metadata": {"labels": {"forged": "true"}},
        "spec": {"deletePolicy": "Propagate"},
        "status": {"remoteURI": "s3://bucket/"},
    });
    let after = mounts.patch_status("photos", &PatchParams::default(), &Patch::Merge(&both)).await.unwrap();
    assert_eq!(after.data["spec"], made.data["spec"]);
    assert_eq!(after.metadata.labels, None);
    assert_eq!(after.data["status"]["remoteURI"], "s3://bucket/");
    assert_eq!(after.metadata.generation, Some(1), "a status is no new generation");
}

#[tokio::test]
async fn a_status_of_the_wrong_shape_is_refused() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("status-shape", &[]).await.unwrap();
    let mounts = untyped(plane, "status-shape").await;
    let photos = serde_json::from_value(document("photos", minimal())).unwrap();
    mounts.create(&PostParams::default(), &photos).await.unwrap();
    let failing = |pod: usize| json!({"pod": format!("web-{pod}"), "reason": "Denied", "message": "", "since": "2026-01-01T00:00:00Z"});
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "Valid", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    for (status, complaint) in [
        (json!({"failing": (0..11).map(failing).collect::<Vec<_>>()}), "must have at most 10 items"),
        (json!({"conditions": [condition("Ready"), condition("Ready")]}), "Duplicate value"),
        (json!({"conditions": [{"type": "Ready"}]}), "status.conditions[0].reason: Required value"),
    ] {
        let patch = json!({"status": status});
        let answer = mounts.patch_status("photos", &PatchParams::default(), &Patch::Merge(&patch)).await;
        let told = answer.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(told.contains(complaint), "{status}: {told}");
    }
}
