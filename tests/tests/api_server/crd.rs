//! The CRD in a cluster: taken without complaint, explained, listed, and its defaults filled in.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use remotemount_tests::control_plane::ControlPlane;
use serde_json::{Value, json};

use crate::manifests::{document, minimal, typed, with};

#[tokio::test]
async fn kubectl_applies_it_and_the_api_server_has_no_complaint() {
    let plane = ControlPlane::shared().await.unwrap();
    // The shared control plane has it already. This is how an installer applies it, and again.
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/remotemounts.yaml");
    let said = plane.kubectl(&["apply", "--server-side", "--validate=strict", "-f", file]).await.unwrap();
    assert_eq!(said.stderr, "", "a warning");
    assert!(said.success().unwrap().contains("remotemounts.remotemount.dev serverside-applied"));
    plane.kubectl(&["create", "--dry-run=client", "--validate=strict", "-f", file]).await.unwrap().success().unwrap();

    let crds: Api<CustomResourceDefinition> = Api::all(plane.client().await.unwrap());
    let crd = crds.get("remotemounts.remotemount.dev").await.unwrap();
    let conditions = crd.status.unwrap().conditions.unwrap();
    let mut told: Vec<(&str, &str)> = conditions.iter().map(|c| (c.type_.as_str(), c.status.as_str())).collect();
    told.sort_unstable();
    // NonStructuralSchema, KubernetesAPIApprovalPolicyConformant, Terminating are there only as complaints.
    assert_eq!(told, [("Established", "True"), ("NamesAccepted", "True")], "{conditions:?}");
}

#[tokio::test]
async fn a_minimal_manifest_gets_every_default() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("defaults", &[]).await.unwrap();
    let manifest = document("photos", minimal()).to_string();
    let apply = ["apply", "-n", "defaults", "--validate=strict", "-o", "json", "-f", "-"];
    let taken = plane.kubectl_with(&apply, &manifest).await.unwrap().success().unwrap();
    let taken: Value = serde_json::from_str(&taken).unwrap();
    let full = json!({
        "path": "/data",
        "remote": {"s3": {"bucket": "bucket", "prefix": ""}, "timeoutSeconds": 10},
        "credentials": {"workloadIdentity": {}},
        "deletePolicy": "Deny",
        "metadata": {
            "strategy": "Lazy", "ttlSeconds": 300, "negativeTTLSeconds": 10, "listingTTLSeconds": 60,
            "staleIfErrorSeconds": 86_400, "maxEntries": 1_000_000,
        },
        "cache": {"sizeLimit": "1Gi", "medium": "Disk"},
        "expose": {"http": {"port": 8888}},
        "sidecar": {},
        "suspend": false,
    });
    assert_eq!(taken["spec"], full);
    // A bare sidecar, which has no API server, fills in the same.
    let mount = remotemount_crds::manifest::parse(manifest.as_bytes()).unwrap().remove(0);
    assert_eq!(serde_json::to_value(mount.spec).unwrap(), full);
}

#[tokio::test]
async fn the_example_is_taken_and_a_misspelled_field_is_not() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("examples", &[]).await.unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/remotemount.yaml");
    let said = plane.kubectl(&["apply", "-n", "examples", "--validate=strict", "-f", file]).await.unwrap();
    assert_eq!(said.stderr, "", "a warning");
    assert_eq!(said.success().unwrap(), "remotemount.remotemount.dev/photos created\n");

    let misspelled = document("b", with("/metadata/ttlSecond", json!(3))).to_string();
    let said = plane.kubectl_with(&["apply", "-n", "examples", "-f", "-"], &misspelled).await.unwrap();
    let complaint = said.failure().unwrap();
    assert!(complaint.contains("unknown field \"spec.metadata.ttlSecond\""), "{complaint}");

    let broken = document("c", with("/path", json!("data"))).to_string();
    let said = plane.kubectl_with(&["apply", "-n", "examples", "-f", "-"], &broken).await.unwrap();
    let complaint = said.failure().unwrap();
    assert!(complaint.contains("path must be absolute and without empty segments"), "{complaint}");
}

/// An explanation is wrapped at some width: words alone are compared.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn kubectl_explains_every_field() {
    let plane = ControlPlane::shared().await.unwrap();
    let crd = serde_json::to_value(<remotemount_crds::RemoteMount as kube::CustomResourceExt>::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let top = plane.kubectl(&["explain", "remotemount"]).await.unwrap().success().unwrap();
    assert!(words(&top).contains(&words(schema["description"].as_str().unwrap())), "{top}");
    for part in ["spec", "status"] {
        let said = plane.kubectl(&["explain", &format!("remotemount.{part}")]).await.unwrap().success().unwrap();
        assert!(!said.contains("<no description>"), "{said}");
        for (field, about) in schema["properties"][part]["properties"].as_object().unwrap() {
            let about = about["description"].as_str().unwrap_or_else(|| panic!("{part}.{field} is not described"));
            assert!(said.lines().any(|line| line.split_whitespace().next() == Some(field)), "{field}: {said}");
            assert!(words(&said).contains(&words(about)), "{field}: {said}");
        }
    }
    assert!(!schema.to_string().contains("crate::"), "a description speaks of code");
    let deep = plane.kubectl(&["explain", "rmt.spec.remote.s3.prefix"]).await.unwrap().success().unwrap();
    assert!(deep.contains("It cannot be changed later."), "{deep}");
}

#[tokio::test]
async fn kubectl_lists_mounts_in_columns() {
    let plane = ControlPlane::shared().await.unwrap();
    plane.create_namespace("columns", &[]).await.unwrap();
    let manifest = document("photos", minimal()).to_string();
    plane.kubectl_with(&["apply", "-n", "columns", "-f", "-"], &manifest).await.unwrap().success().unwrap();
    let status = json!({"status": {
        "conditions": [{
            "type": "Ready", "status": "False", "reason": "Denied", "message": "the remote refuses the credentials",
            "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
        }],
        "remoteURI": "s3://bucket/",
        "sidecars": {"total": 12, "ready": 11, "outdated": 0, "failing": 1, "summary": "11/12"},
        "failing": [{"pod": "web-0", "reason": "Denied", "message": "403", "since": "2026-01-01T00:00:00Z"}],
    }});
    let mounts = typed(plane, "columns").await;
    mounts.patch_status("photos", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();

    let get = async |arguments: &[&str]| -> Vec<Vec<String>> {
        let said = plane.kubectl(&[&["get", "-n", "columns"], arguments].concat()).await.unwrap().success().unwrap();
        said.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
    };
    let narrow = get(&["rmt"]).await;
    assert_eq!(narrow[0], ["NAME", "READY", "REASON", "PATH", "REMOTE", "SIDECARS", "AGE"]);
    assert_eq!(narrow[1][..6], ["photos", "False", "Denied", "/data", "s3://bucket/", "11/12"]);
    let wide = get(&["remotemounts", "-o", "wide"]).await;
    assert_eq!(wide[0][7..], ["DELETEPOLICY", "LASTERROR"]);
    assert_eq!(wide[1][7..], ["Deny", "403"]);
    assert_eq!(get(&["storage", "-o", "name"]).await, [["remotemount.remotemount.dev/photos"]]);
}
