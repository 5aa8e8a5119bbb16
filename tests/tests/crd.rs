//! The CRD: the committed YAML is what the types say, and CEL and Rust judge every document alike.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use remotemount_crds::{RemoteMount, RemoteMountSpec, crd_yaml, validate};
use serde_json::{Value, json};

#[test]
fn the_committed_crd_is_what_the_types_say() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/remotemounts.yaml");
    let committed = std::fs::read_to_string(file).unwrap();
    assert!(crd_yaml().unwrap() == committed, "run `make crds` and commit crds/remotemounts.yaml");
}

#[test]
fn the_schema_is_one_that_an_api_server_takes() {
    let crd = serde_json::to_value(<RemoteMount as kube::CustomResourceExt>::crd()).unwrap();
    walk(&crd, &mut |key, value| {
        assert!(!(key == "additionalProperties" && value == &json!(false)), "the API server refuses it");
        assert_ne!(key, "$ref", "a structural schema has no references");
    });
    let version = &crd["spec"]["versions"][0];
    assert_eq!(version["subresources"]["status"], json!({}));
    let columns: Vec<&str> =
        version["additionalPrinterColumns"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(columns, ["Ready", "Reason", "Path", "Remote", "Sidecars", "Age", "DeletePolicy", "LastError"]);
    assert_eq!(crd["spec"]["names"]["shortNames"], json!(["rmt"]));
    assert_eq!(crd["spec"]["names"]["categories"], json!(["storage"]));
}

fn walk(value: &Value, see: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            see(key, value);
            walk(value, see);
        }),
        Value::Array(items) => items.iter().for_each(|item| walk(item, see)),
        _ => {}
    }
}

fn good() -> Value {
    json!({"path": "/data", "remote": {"s3": {"bucket": "bucket", "endpoint": "http://127.0.0.1:9000", "prefix": "train/"}}})
}

/// `good` with the value at a JSON pointer set, objects on the way made.
fn with(pointer: &str, value: Value) -> Value {
    let mut spec = good();
    let mut at = &mut spec;
    let (parents, last) = pointer.rsplit_once('.').unwrap_or(("", pointer));
    for key in parents.split('.').filter(|key| !key.is_empty()) {
        if at.get(key).is_none() {
            at[key] = json!({});
        }
        at = at.get_mut(key).unwrap();
    }
    at[last] = value;
    spec
}

#[test]
fn cel_and_rust_judge_alike() {
    let cases: Vec<(Value, bool)> = vec![
        (good(), true),
        (with("path", json!("/")), true),
        (with("path", json!("/data/")), true),
        (with("path", json!("/a b/ü")), true),
        (with("path", json!("data")), false),
        (with("path", json!("")), false),
        (with("path", json!("//")), false),
        (with("path", json!("/a//b")), false),
        (with("path", json!("/a/../b")), false),
        (with("path", json!("/.")), false),
        (with("path", json!("/...")), true),
        (with("remote.gcs", json!({"bucket": "abc"})), false),
        (with("remote", json!({})), false),
        (with("remote", json!({"gcs": {"bucket": "abc"}})), true),
        (with("remote", json!({"azure": {"account": "abc", "container": "abc"}})), true),
        (with("remote.timeoutSeconds", json!(0)), false),
        (with("remote.timeoutSeconds", json!(300)), true),
        (with("remote.timeoutSeconds", json!(301)), false),
        (with("remote.s3.bucket", json!("a/b")), false),
        (with("remote.s3.bucket", json!("a")), false),
        (with("remote.s3.bucket", json!("a_b.C-d")), true),
        (with("remote.s3.prefix", json!("/x")), false),
        (with("remote.s3.prefix", json!("a//b")), false),
        (with("remote.s3.prefix", json!("a/../b")), false),
        (with("remote.s3.prefix", json!("")), true),
        (with("remote.s3.prefix", json!("a/b")), true),
        (with("remote.s3.endpoint", json!("ftp://x")), false),
        (with("remote.s3.endpoint", json!("http://user@x")), false),
        (with("remote.s3.endpoint", json!("http://x/path")), false),
        (with("remote.s3.endpoint", json!("https://x:9000/")), true),
        (with("remote.s3.endpoint", json!("https://")), false),
        (with("remote.s3.endpoint", json!("http://[fd00::1]:9000")), true),
        (with("remote.s3.endpoint", json!("http://[fd00::1]")), true),
        (with("remote.s3.endpoint", json!("http://[s3]:9000")), false),
        (with("remote.s3.endpoint", json!("http://fd00::1")), false),
        (with("remote.s3.endpoint", json!("http://[]:9000")), false),
        (with("remote.s3.endpoint", json!("http://:9000")), false),
        (with("remote.s3.endpoint", json!("http://x:")), false),
        (with("remote.s3.endpoint", json!("http://x:s3")), false),
        (with("remote.s3.endpoint", json!("http://x:0")), false),
        (with("remote.s3.endpoint", json!("http://x:1")), true),
        (with("remote.s3.endpoint", json!("http://x:65535")), true),
        (with("remote.s3.endpoint", json!("http://x:65536")), false),
        (with("remote.s3.endpoint", json!("http://x:70000/")), false),
        (with("remote.s3.endpoint", json!("http://x:100000")), false),
        (with("remote.s3.endpoint", json!("http://x\n")), false),
        (with("remote.s3.prefix", json!("a\u{0}b")), false),
        (with("remote.s3.prefix", json!("a\\x00b")), true),
        (with("remote.s3.region", json!("")), true),
        (with("remote.s3.region", json!("eu-central-1")), true),
        (with("remote.s3.region", json!("my_zone.2")), true),
        (with("remote.s3.region", json!("us-east-1\n")), false),
        (with("remote.s3.region", json!("no/such region")), false),
        (with("credentials", json!({"anonymous": {}, "workloadIdentity": {}})), false),
        (with("credentials", json!({})), false),
        (with("credentials", json!({"anonymous": {}})), true),
        (with("credentials", json!({"secretRef": {"name": "s3-creds"}})), true),
        (with("credentials", json!({"secretRef": {"name": "../etc"}})), false),
        (with("credentials", json!({"secretRef": {"name": ""}})), false),
        (with("metadata.ttlSeconds", json!(-1)), false),
        (with("metadata.ttlSeconds", json!(0)), true),
        (with("metadata.negativeTTLSeconds", json!(86_401)), false),
        (with("metadata.listingTTLSeconds", json!(31_536_001)), false),
        (with("metadata.staleIfErrorSeconds", json!(-5)), false),
        (with("metadata.maxEntries", json!(999)), false),
        (with("metadata.maxEntries", json!(1000)), true),
        (with("cache.sizeLimit", json!("1Gi")), true),
        (with("cache.sizeLimit", json!("1.5G")), true),
        (with("cache.sizeLimit", json!("500m")), false),
        (with("cache.sizeLimit", json!("many")), false),
        (with("cache.sizeLimit", json!("1ki")), false),
        (with("expose.http.port", json!(0)), false),
        (with("expose.http.port", json!(65_536)), false),
        (with("expose.grpc.port", json!(18_888)), true),
        (with("expose", json!({"http": {"port": 80}, "s3": {"port": 80}})), false),
        (with("expose", json!({"s3": {"port": 80}, "grpc": {"port": 80}})), false),
        (with("expose", json!({"http": {"port": 80}, "s3": {"port": 81}, "grpc": {"port": 82}})), true),
        (with("expose.fuse.mountPath", json!("/")), false),
        (with("expose.fuse.mountPath", json!("data")), false),
        (with("expose.fuse.mountPath", json!("/data")), true),
    ];
    let crd = serde_json::to_value(<RemoteMount as kube::CustomResourceExt>::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    for (spec, accepted) in cases {
        let typed: RemoteMountSpec = serde_json::from_value(spec.clone()).unwrap();
        let rust = validate(&typed);
        assert_eq!(rust.is_empty(), accepted, "Rust on {spec}: {rust:?}");
        // The API server fills in defaults first; going through the type does the same.
        let full = serde_json::to_value(&typed).unwrap();
        let cel = cel(schema, &full);
        assert_eq!(cel.is_empty(), accepted, "CEL on {spec}: {cel:?}");
        for problem in rust {
            assert!(problem.field.starts_with("spec."), "{problem}");
            assert!(problem.message.len() > 15, "{problem}");
        }
    }
}

/// What CEL says against `spec`; empty when nothing.
fn cel(schema: &Value, spec: &Value) -> String {
    kube_cel::Validator::new().validate(schema, spec, None).err().map(|errors| errors.to_string()).unwrap_or_default()
}

#[test]
fn what_a_mount_shows_cannot_be_changed() {
    let crd = serde_json::to_value(<RemoteMount as kube::CustomResourceExt>::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let full = |spec: &Value| serde_json::to_value(serde_json::from_value::<RemoteMountSpec>(spec.clone()).unwrap());
    let gcs = json!({"path": "/data", "remote": {"gcs": {"bucket": "abc", "prefix": "a/"}}});
    let azure = json!({"path": "/data", "remote": {"azure": {"account": "abc", "container": "abc"}}});
    let changed = |spec: &Value, pointer: &str, value: Value| {
        let mut spec = spec.clone();
        *spec.pointer_mut(pointer).unwrap() = value;
        spec
    };
    // The field that cannot be changed; none where it can.
    let cases = [
        (good(), with("path", json!("/other")), Some("path")),
        (good(), with("remote.s3.bucket", json!("other")), Some("bucket")),
        (good(), with("remote.s3.prefix", json!("other/")), Some("prefix")),
        (good(), changed(&good(), "/remote/s3", json!({"bucket": "bucket"})), Some("prefix")),
        (good(), gcs.clone(), Some("remote")),
        (gcs.clone(), azure.clone(), Some("remote")),
        (gcs.clone(), changed(&gcs, "/remote/gcs/bucket", json!("other")), Some("bucket")),
        (gcs.clone(), changed(&gcs, "/remote/gcs/prefix", json!("b/")), Some("prefix")),
        (azure.clone(), changed(&azure, "/remote/azure/account", json!("other")), Some("account")),
        (azure.clone(), changed(&azure, "/remote/azure/container", json!("other")), Some("container")),
        (good(), good(), None),
        (good(), with("remote.s3.endpoint", json!("https://moved:9000")), None),
        (good(), with("remote.timeoutSeconds", json!(20)), None),
        (good(), with("deletePolicy", json!("Propagate")), None),
        (good(), with("metadata.ttlSeconds", json!(1)), None),
    ];
    for (old, new, field) in cases {
        let said = kube_cel::Validator::new().validate(schema, &full(&new).unwrap(), Some(&full(&old).unwrap()));
        match (field, said) {
            (None, said) => assert!(said.is_ok(), "{old} to {new}: {said:?}"),
            (Some(field), Ok(())) => panic!("{old} to {new}: {field} was changed"),
            (Some(field), Err(problems)) => {
                let wanted = format!("{field} cannot");
                assert!(problems.to_string().contains(&wanted), "{old} to {new}: {problems}");
            }
        }
    }
}
