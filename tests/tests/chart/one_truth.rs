//! What stands in two places stands there alike: the CRD, the operator's rights, its webhook, its policy, and all of it rendered.

use anyhow::Result;
use remotemount_tests::control_plane::Controllers;
use remotemount_tests::helm::Helm;
use serde_json::{Value, json};

use crate::stage::{Cluster, file, id, object, objects, render};

#[test]
fn the_charts_crd_is_the_generated_one() {
    let read = |path: &str| std::fs::read_to_string(file(path)).unwrap();
    assert_eq!(read("charts/remotemount/files/remotemounts.yaml"), read("crds/remotemounts.yaml"), "run make crds");
}

#[test]
fn chart_and_crates_have_one_version() {
    let chart = std::fs::read_to_string(file("charts/remotemount/Chart.yaml")).unwrap();
    let chart: Value = serde_saphyr::from_str(&chart).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
}

/// Without what only says who made it.
fn bare(object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = object["metadata"].as_object_mut().unwrap();
    metadata.remove("labels");
    metadata.remove("annotations");
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chart_installs_what_operator_deploy_has() -> Result<()> {
    let rendered = objects(&render(&Helm::new(None)?, &json!({})).await?);
    let mut deployed = Vec::new();
    for name in ["rbac", "webhook", "policy"] {
        deployed.extend(objects(&std::fs::read_to_string(file(&format!("operator/deploy/{name}.yaml")))?));
    }
    for wanted in &deployed {
        let name = wanted["metadata"]["name"].as_str().unwrap();
        let found = object(&rendered, wanted["kind"].as_str().unwrap(), name);
        assert_eq!(bare(found), bare(wanted), "left: the chart, right: operator/deploy");
    }
    // And no rights beside those.
    let rights = |objects: &[Value]| {
        let kinds = ["Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"];
        objects.iter().filter(|object| kinds.iter().any(|kind| object["kind"] == *kind)).count()
    };
    assert_eq!(rights(&rendered), rights(&deployed));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_in_named_namespaces_are_the_same_there_and_none_elsewhere() -> Result<()> {
    let helm = Helm::new(None)?;
    let everywhere = objects(&render(&helm, &json!({})).await?);
    let named = objects(&render(&helm, &json!({"watchNamespaces": ["one", "two"]})).await?);
    let wanted = &object(&everywhere, "ClusterRole", "remotemount-operator-namespaced")["rules"];
    for namespace in ["one", "two"] {
        for kind in ["Role", "RoleBinding"] {
            let all =
                named.iter().filter(|object| object["kind"] == kind && object["metadata"]["namespace"] == namespace);
            assert_eq!(all.count(), 1, "{kind} in {namespace}");
        }
        let role = named.iter().find(|object| object["kind"] == "Role" && object["metadata"]["namespace"] == namespace);
        assert_eq!(&role.unwrap()["rules"], wanted);
    }
    let cluster_wide: Vec<String> =
        named.iter().filter(|object| object["kind"].as_str().unwrap().starts_with("ClusterRole")).map(id).collect();
    assert_eq!(cluster_wide, ["ClusterRole /remotemount-operator", "ClusterRoleBinding /remotemount-operator"]);
    assert_eq!(
        object(&named, "ClusterRole", "remotemount-operator"),
        object(&everywhere, "ClusterRole", "remotemount-operator")
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_certificates_of_others_the_operator_has_no_right_on_secrets() -> Result<()> {
    let helm = Helm::new(None)?;
    for values in [json!({"webhook": {"existingSecret": "t"}}), json!({"webhook": {"certManager": {"enabled": true}}})]
    {
        let rendered = objects(&render(&helm, &values).await?);
        for role in rendered.iter().filter(|object| object["rules"].is_array()) {
            assert!(!role["rules"].to_string().contains("secrets"), "{role}");
        }
        let deployment = object(&rendered, "Deployment", "remotemount-operator");
        let pod = &deployment["spec"]["template"]["spec"];
        assert!(pod["containers"][0]["args"].to_string().contains("--tls-dir="), "{pod}");
        let (volume, mount) = (&pod["volumes"][0], &pod["containers"][0]["volumeMounts"][0]);
        assert_eq!(volume["name"], mount["name"]);
        let certificates = rendered.iter().filter(|object| object["kind"] == "Certificate");
        for certificate in certificates.filter(|certificate| certificate["metadata"]["name"] == "remotemount-operator")
        {
            assert_eq!(certificate["spec"]["secretName"], volume["secret"]["secretName"]);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_rendered_with_the_defaults_is_as_committed() -> Result<()> {
    let golden = file("tests/golden/chart/default.yaml");
    let text = render(&Helm::new(None)?, &json!({})).await?;
    // The CRD's schema is asserted above. Versions of Helm differ in empty lines.
    let documents = text.split("---\n").filter(|document| !document.contains("kind: CustomResourceDefinition"));
    let text = documents.collect::<Vec<_>>().join("---\n");
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let text: String = lines.flat_map(|line| [line, "\n"]).collect();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap())?;
        std::fs::write(golden, &text)?;
    } else {
        let standing = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(
            standing, text,
            "if that is meant, run `UPDATE_GOLDEN=1 cargo test -p remotemount-tests --test chart committed` and read the difference"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn make_manifests_writes_what_kubectl_installs() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let install = folder.path().join("dist/install.yaml");
    let script = file("charts/manifests.sh");
    let made = tokio::process::Command::new("bash").arg(script).arg(&install).output().await?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = std::fs::read_to_string(&install)?;
    for word in ["Helm", "helm.sh"] {
        assert!(!text.contains(word), "{word} is of no use to kubectl");
    }
    // It is the chart with its defaults, but for what only Helm runs or reads.
    let mine = objects(&text);
    let rendered = objects(&render(&Helm::new(None)?, &json!({"tests": {"enabled": false}})).await?);
    let hook = |object: &&Value| object["metadata"]["annotations"]["helm.sh/hook"].is_null();
    let charts: Vec<Value> = rendered.iter().filter(hook).map(bare).collect();
    assert_eq!(mine[0]["kind"], "Namespace");
    assert_eq!(mine.len(), charts.len() + 1);
    for object in &charts {
        let found = mine.iter().find(|mine| id(mine) == id(object)).unwrap_or_else(|| panic!("no {}", id(object)));
        assert_eq!(bare(found), *object);
    }
    // On a bare cluster, twice.
    let cluster = remotemount_tests::control_plane::ControlPlane::start(Controllers::None).await?;
    let path = install.to_str().unwrap();
    for _ in 0..2 {
        let taken = cluster.kubectl(&["apply", "--server-side", "--validate=strict", "-f", path]).await?.success()?;
        assert_eq!(taken.lines().count(), mine.len(), "{taken}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_pods_keep_to_the_restricted_level() -> Result<()> {
    let cluster = Cluster::start(Controllers::None).await?;
    cluster.plane.create_namespace("tested", &[("pod-security.kubernetes.io/enforce", "restricted")]).await?;
    let values = json!({"tests": {"namespace": "tested"}, "webhook": {"existingSecret": "t"}, "serviceAccount": {"create": false, "name": "default"}});
    let rendered = objects(&render(&cluster.helm, &values).await?);
    let mut pods = vec![object(&rendered, "Pod", "remotemount-test-ready").clone()];
    for (kind, name) in [("Deployment", "remotemount-operator"), ("Job", "remotemount-test-mount")] {
        let owner = object(&rendered, kind, name);
        let mut pod = owner["spec"]["template"].clone();
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = owner["metadata"]["namespace"].clone();
        pods.push(pod);
    }
    for pod in pods {
        let taken = cluster.plane.kubectl_with(&["create", "--dry-run=server", "-f", "-"], &pod.to_string()).await?;
        taken.success()?;
    }
    Ok(())
}
