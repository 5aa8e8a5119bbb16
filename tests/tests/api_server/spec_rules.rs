//! Each rule of the CRD, broken once: the API server refuses it and says the rule's own message.

use std::collections::BTreeSet;

use kube::api::{DynamicObject, PostParams};
use remotemount_crds::{RemoteMount, RemoteMountSpec};
use remotemount_tests::control_plane::ControlPlane;
use serde_json::{Value, json};

use crate::manifests::{changed, document, minimal, untyped, with};

const ABSOLUTE: &str = "path must be absolute and without empty segments: begin it with one '/' and remove any '//'";
const DOTS: &str = "path must not have '.' or '..' as a segment: write the path they stand for";
const ONE_REMOTE: &str = "remote must name exactly one of s3, gcs and azure";
const TIMEOUT: &str = "timeoutSeconds must be from 1 to 300";
const BUCKET: &str = "bucket must be a bucket name: letters, digits, '.', '_' and '-', two or more, no path";
const PREFIX: &str = "prefix must not begin with '/' nor hold '//', '.' or '..' segments: no path could name its keys";
const ENDPOINT: &str = "endpoint must be a URL such as https://s3.example.com:9000: a host, a port from 1 to 65535 if any, no path, query or user";
const REGION: &str = "region must be a name such as eu-central-1: letters, digits, '.', '_' and '-'";
const ONE_WAY: &str = "credentials must name exactly one of secretRef, workloadIdentity and anonymous";
const SECRET: &str = "secretRef.name must be the name of a Secret: lower-case letters, digits, '-' and '.'";
const PORT: &str = "port must be from 1 to 65535";
const PORTS: &str = "http, s3 and grpc must have different ports";

/// Specs that are wrong, and what is said of them.
fn bad_specs() -> Vec<(Value, &'static str)> {
    let gcs = json!({"gcs": {"bucket": "abc"}});
    vec![
        (with("/path", json!("data")), ABSOLUTE),
        (with("/path", json!("")), ABSOLUTE),
        (with("/path", json!("/a//b")), ABSOLUTE),
        (with("/path", json!("/a/../b")), DOTS),
        (with("/path", json!("/.")), DOTS),
        (with("/path", json!(format!("/{}", "x".repeat(512)))), "Too long"),
        (with("/remote", json!({})), ONE_REMOTE),
        (changed(&with("/remote", gcs.clone()), "/remote/s3/bucket", json!("bucket")), ONE_REMOTE),
        (with("/remote/timeoutSeconds", json!(0)), TIMEOUT),
        (with("/remote/timeoutSeconds", json!(301)), TIMEOUT),
        (with("/remote/s3/bucket", json!("a/b")), BUCKET),
        (with("/remote/s3/bucket", json!("-a")), BUCKET),
        (with("/remote/s3/prefix", json!("/train")), PREFIX),
        (with("/remote/s3/prefix", json!("a//b")), PREFIX),
        (with("/remote/s3/prefix", json!("a/../b")), PREFIX),
        (with("/remote/s3/endpoint", json!("s3.example.com")), ENDPOINT),
        (with("/remote/s3/endpoint", json!("https://me:secret@s3.example.com")), ENDPOINT),
        (with("/remote/s3/endpoint", json!("https://s3.example.com/bucket")), ENDPOINT),
        (with("/remote/s3/endpoint", json!("http://s3.example.com:99999")), ENDPOINT),
        (with("/remote/s3/prefix", json!("a\u{0}b")), PREFIX),
        (with("/remote/s3/region", json!("us-east-1\n")), REGION),
        (with("/remote/s3/addressing", json!("Guess")), "supported values: \"Path\", \"VirtualHost\""),
        (with("/credentials", json!({})), ONE_WAY),
        (with("/credentials", json!({"anonymous": {}, "workloadIdentity": {}})), ONE_WAY),
        (with("/credentials", json!({"secretRef": {"name": "../etc"}})), SECRET),
        (with("/deletePolicy", json!("Sometimes")), "supported values: \"Deny\", \"Propagate\", \"Retain\""),
        (with("/metadata/ttlSeconds", json!(-1)), "ttlSeconds must be from 0 to 31536000 (a year)"),
        (with("/metadata/negativeTTLSeconds", json!(86_401)), "negativeTTLSeconds must be from 0 to 86400 (a day)"),
        (with("/metadata/listingTTLSeconds", json!(-1)), "listingTTLSeconds must be from 0 to 31536000 (a year)"),
        (with("/metadata/staleIfErrorSeconds", json!(-5)), "staleIfErrorSeconds must be from 0 to 31536000 (a year)"),
        (with("/metadata/maxEntries", json!(999)), "maxEntries must be from 1000 to 100000000"),
        (with("/metadata/strategy", json!("Greedy")), "supported values: \"Lazy\", \"Eager\""),
        (with("/cache/sizeLimit", json!("many")), "sizeLimit must be a quantity such as 512Mi or 1Gi"),
        (with("/expose/http/port", json!(0)), PORT),
        (with("/expose/grpc/port", json!(65_536)), PORT),
        (with("/expose", json!({"http": {"port": 80}, "s3": {"port": 80}})), PORTS),
        (with("/expose/fuse/mountPath", json!("/")), "mountPath must be absolute and not '/'"),
        (json!({"remote": {"s3": {"bucket": "bucket"}}}), "spec.path: Required value"),
        (with("/remote/s3", json!({})), "spec.remote.s3.bucket: Required value"),
    ]
}

/// Specs that are good, changes of them that are not, and what is said of them.
fn bad_changes() -> Vec<(Value, Value, &'static str)> {
    let s3 = with("/remote/s3/prefix", json!("train/"));
    let gcs = json!({"path": "/data", "remote": {"gcs": {"bucket": "abc", "prefix": "a/"}}});
    let azure = json!({"path": "/data", "remote": {"azure": {"account": "abc", "container": "abc"}}});
    let path = "path cannot be changed: create another RemoteMount with the new path and delete this one";
    let bucket = "bucket cannot be changed: create another RemoteMount with the new bucket and delete this one";
    let prefix = "prefix cannot be changed: create another RemoteMount with the new prefix and delete this one";
    let provider = "remote cannot change its provider: create another RemoteMount with the new one and delete this one";
    vec![
        (s3.clone(), changed(&s3, "/path", json!("/other")), path),
        (s3.clone(), changed(&s3, "/remote/s3/bucket", json!("other")), bucket),
        (s3.clone(), changed(&s3, "/remote/s3/prefix", json!("test/")), prefix),
        (s3.clone(), minimal(), prefix),
        (minimal(), s3.clone(), prefix),
        (s3.clone(), gcs.clone(), provider),
        (gcs.clone(), changed(&gcs, "/remote/gcs/bucket", json!("other")), bucket),
        (gcs.clone(), changed(&gcs, "/remote/gcs/prefix", json!("b/")), prefix),
        (gcs, azure.clone(), provider),
        (
            azure.clone(),
            changed(&azure, "/remote/azure/account", json!("other")),
            "account cannot be changed: create another RemoteMount with the new account and delete this one",
        ),
        (
            azure.clone(),
            changed(&azure, "/remote/azure/container", json!("other")),
            "container cannot be changed: create another RemoteMount with the new container and delete this one",
        ),
        (azure.clone(), changed(&azure, "/remote/azure/prefix", json!("b/")), prefix),
    ]
}

fn object(name: &str, spec: Value) -> DynamicObject {
    serde_json::from_value(document(name, spec)).unwrap()
}

/// What the API server says against it; 422 is its word for a document that breaks a rule.
fn refusal(answer: kube::Result<DynamicObject>, what: &str) -> String {
    match answer {
        Ok(_) => panic!("{what}: was taken"),
        Err(kube::Error::Api(status)) => {
            assert_eq!(status.code, 422, "{what}: {}", status.message);
            status.message.clone()
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

#[tokio::test]
async fn every_rule_refuses_with_its_own_message() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("spec-rules", &[]).await.unwrap();
    let mounts = untyped(plane, "spec-rules").await;
    let mut unheard = rules();
    assert!(unheard.len() >= 20, "{unheard:?}");
    for (spec, message) in bad_specs() {
        let what = spec.to_string();
        let said = refusal(mounts.create(&PostParams::default(), &object("bad", spec)).await, &what);
        assert!(said.contains(message), "{what}: {said}");
        unheard.remove(message);
    }
    for (number, (before, after, message)) in bad_changes().into_iter().enumerate() {
        let (name, what) = (format!("good-{number}"), format!("{before} to {after}"));
        let made = mounts.create(&PostParams::default(), &object(&name, before)).await.expect(&what);
        let mut changed = object(&name, after);
        changed.metadata.resource_version = made.metadata.resource_version;
        let said = refusal(mounts.replace(&name, &PostParams::default(), &changed).await, &what);
        assert!(said.contains(message), "{what}: {said}");
        unheard.remove(message);
    }
    assert!(unheard.is_empty(), "no case breaks these rules: {unheard:#?}");
}

#[tokio::test]
async fn what_may_be_changed_can_be() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("changes", &[]).await.unwrap();
    let mounts = untyped(plane, "changes").await;
    mounts.create(&PostParams::default(), &object("photos", minimal())).await.unwrap();
    for (pointer, value) in [
        ("/remote/s3/endpoint", json!("https://moved.example.com")),
        ("/remote/s3/region", json!("eu-central-1")),
        ("/remote/timeoutSeconds", json!(20)),
        ("/credentials", json!({"anonymous": {}})),
        ("/deletePolicy", json!("Propagate")),
        ("/metadata/ttlSeconds", json!(5)),
        ("/suspend", json!(true)),
    ] {
        let before = mounts.get("photos").await.unwrap();
        let mut after = object("photos", with(pointer, value));
        after.metadata.resource_version = before.metadata.resource_version;
        let after = mounts.replace("photos", &PostParams::default(), &after).await.expect(pointer);
        assert_eq!(after.metadata.generation, before.metadata.generation.map(|old| old + 1), "{pointer}");
    }
}

/// Templates write nulls: each means what leaving the field out means.
#[tokio::test]
async fn a_null_is_as_if_it_were_not_there() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("nulls", &[]).await.unwrap();
    let mounts = untyped(plane, "nulls").await;
    for (number, (parent, field)) in [
        ("/remote", "gcs"),
        ("/remote/s3", "endpoint"),
        ("/remote/s3", "prefix"),
        ("", "credentials"),
        ("/credentials", "secretRef"),
        ("/expose", "grpc"),
        ("", "podSelector"),
        ("/metadata", "ttlSeconds"),
    ]
    .into_iter()
    .enumerate()
    {
        let what = format!("{parent}/{field}");
        let spec = changed(&with("/credentials/anonymous", json!({})), &what, Value::Null);
        let mut without = spec.clone();
        without.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
        let made = mounts.create(&PostParams::default(), &object(&format!("null-{number}"), spec)).await.expect(&what);
        let typed = |spec: &Value| serde_json::from_value::<RemoteMountSpec>(spec.clone()).expect(&what);
        assert_eq!(typed(&made.data["spec"]), typed(&without), "{what}");
    }
}

/// The message of every rule of the CRD.
fn rules() -> BTreeSet<String> {
    fn collect(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                for rule in map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                    found.insert(rule["message"].as_str().expect("a rule without a message").to_owned());
                }
                map.values().for_each(|value| collect(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let crd = serde_json::to_value(<RemoteMount as kube::CustomResourceExt>::crd()).unwrap();
    let mut found = BTreeSet::new();
    collect(&crd, &mut found);
    found
}
