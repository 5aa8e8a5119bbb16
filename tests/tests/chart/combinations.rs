//! Every value, and what goes together: rendered by Helm, linted, and each object checked by the API server.
//!
//! A value that changes nothing is none: each has its row, and the rows are held to values.yaml.

use std::collections::BTreeMap;

use anyhow::Result;
use remotemount_tests::control_plane::Controllers;
use remotemount_tests::helm::Helm;
use remotemount_tests::operator::NAMESPACE;
use serde_json::{Value, json};

use crate::stage::{self, Cluster, at, id, objects, over, render};
use crate::values;

const DIGEST: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Each value: where it stands, what else has to be so, and another one than the default.
fn rows() -> Vec<(&'static str, Value, Value)> {
    let none = || json!({});
    let manager = || json!({"webhook": {"certManager": {"enabled": true}}});
    let issuer = || at("webhook.certManager", json!({"enabled": true, "issuerRef": {"name": "ours"}}));
    let monitor = || at("metrics.serviceMonitor.enabled", json!(true));
    let pods = || json!({"sidecar": {"metrics": {"enabled": true}}, "metrics": {"podMonitor": {"enabled": true}}});
    let rule = || at("metrics.prometheusRule.enabled", json!(true));
    let dashboard = || at("metrics.dashboard.enabled", json!(true));
    let policy = || at("networkPolicy.enabled", json!(true));
    let bucket = || at("tests.remote", json!({"s3": {"bucket": "data", "region": "eu-central-1"}}));
    let in_namespace =
        |name: &str| json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}]);
    vec![
        ("global.imageRegistry", none(), json!("registry.example.com:5000/team")),
        ("nameOverride", none(), json!("rmt")),
        ("fullnameOverride", none(), json!("buckets")),
        ("commonLabels", none(), json!({"team": "storage"})),
        ("commonAnnotations", none(), json!({"example.com/owner": "storage"})),
        ("replicaCount", none(), json!(3)),
        ("image.registry", none(), json!("registry.example.com")),
        ("image.repository", none(), json!("team/remotemount-operator")),
        ("image.tag", none(), json!("edge")),
        ("image.digest", none(), json!(DIGEST)),
        ("image.pullPolicy", none(), json!("Always")),
        ("imagePullSecrets", none(), json!([{"name": "regcred"}])),
        ("sidecar.image.registry", none(), json!("registry.example.com")),
        ("sidecar.image.repository", none(), json!("team/remotemount-sidecar")),
        ("sidecar.image.tag", none(), json!("edge")),
        ("sidecar.image.digest", none(), json!(DIGEST)),
        ("sidecar.image.pullPolicy", none(), json!("Never")),
        ("sidecar.user", none(), json!(0)),
        ("sidecar.metrics.enabled", none(), json!(true)),
        ("sidecar.metrics.port", at("sidecar.metrics.enabled", json!(true)), json!(9191)),
        ("watchNamespaces", none(), json!(["one", "two"])),
        ("crds.install", none(), json!(false)),
        ("crds.keep", none(), json!(false)),
        ("rbac.create", none(), json!(false)),
        ("serviceAccount.create", at("serviceAccount.name", json!("there")), json!(false)),
        ("serviceAccount.name", none(), json!("another")),
        ("serviceAccount.annotations", none(), json!({"example.com/identity": "none"})),
        ("webhook.enabled", none(), json!(false)),
        ("webhook.port", none(), json!(10250)),
        ("webhook.failurePolicy", none(), json!("Ignore")),
        ("webhook.timeoutSeconds", none(), json!(5)),
        (
            "webhook.namespaceSelector",
            none(),
            json!({"matchLabels": {"team": "a"}, "matchExpressions": [{"key": "env", "operator": "In", "values": ["x"]}]}),
        ),
        (
            "webhook.objectSelector",
            none(),
            json!({"matchLabels": {"app": "a"}, "matchExpressions": [{"key": "old", "operator": "DoesNotExist"}]}),
        ),
        ("webhook.annotations", none(), json!({"example.com/note": "kept"})),
        ("webhook.existingSecret", none(), json!("own-tls")),
        ("webhook.caBundle", at("webhook.existingSecret", json!("own-tls")), json!("LS0tLS1CRUdJTg==")),
        ("webhook.certManager.enabled", none(), json!(true)),
        ("webhook.certManager.issuerRef", manager(), json!({"name": "ours", "kind": "ClusterIssuer"})),
        ("webhook.certManager.duration", issuer(), json!("720h")),
        ("webhook.certManager.renewBefore", manager(), json!("240h")),
        ("admissionPolicy.enabled", none(), json!(false)),
        ("control.port", none(), json!(19444)),
        ("metrics.port", none(), json!(18080)),
        ("metrics.service.annotations", none(), json!({"prometheus.io/scrape": "true"})),
        ("metrics.serviceMonitor.enabled", none(), json!(true)),
        ("metrics.serviceMonitor.labels", monitor(), json!({"release": "prometheus"})),
        ("metrics.serviceMonitor.interval", monitor(), json!("30s")),
        ("metrics.serviceMonitor.scrapeTimeout", monitor(), json!("10s")),
        ("metrics.podMonitor.enabled", at("sidecar.metrics.enabled", json!(true)), json!(true)),
        ("metrics.podMonitor.labels", pods(), json!({"release": "prometheus"})),
        ("metrics.podMonitor.interval", pods(), json!("1m")),
        ("metrics.podMonitor.scrapeTimeout", pods(), json!("10s")),
        ("metrics.prometheusRule.enabled", none(), json!(true)),
        ("metrics.prometheusRule.labels", rule(), json!({"release": "prometheus"})),
        ("metrics.prometheusRule.alertLabels", rule(), json!({"team": "storage"})),
        ("metrics.dashboard.enabled", none(), json!(true)),
        ("metrics.dashboard.labels", dashboard(), json!({"grafana_dashboard": "yes"})),
        ("metrics.dashboard.annotations", dashboard(), json!({"grafana_folder": "Storage"})),
        ("logging.level", none(), json!("info,remotemount_operator=debug")),
        ("logging.format", none(), json!("text")),
        ("listenAddress", none(), json!("[::]")),
        ("resources", none(), json!({"limits": {"memory": "1Gi", "cpu": 1}})),
        ("podSecurityContext", none(), json!({"runAsUser": null, "runAsGroup": null, "fsGroup": null})),
        ("securityContext", none(), json!({"seccompProfile": {"type": "RuntimeDefault"}})),
        ("podLabels", none(), json!({"team": "storage"})),
        ("podAnnotations", none(), json!({"example.com/note": "of the pod"})),
        ("nodeSelector", none(), json!({"kubernetes.io/os": "linux"})),
        (
            "tolerations",
            none(),
            json!([{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}]),
        ),
        (
            "affinity",
            none(),
            json!({
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]}]}},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"a": "b"}}}}]},
            }),
        ),
        (
            "topologySpreadConstraints",
            none(),
            json!([{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["pod-template-hash"]}]),
        ),
        ("priorityClassName", none(), json!("system-cluster-critical")),
        ("hostNetwork", none(), json!(true)),
        ("terminationGracePeriodSeconds", none(), json!(60)),
        ("revisionHistoryLimit", none(), json!(10)),
        ("pdb.enabled", none(), json!(false)),
        ("pdb.maxUnavailable", none(), json!("50%")),
        ("pdb.minAvailable", none(), json!(1)),
        ("networkPolicy.enabled", none(), json!(true)),
        ("networkPolicy.controlFrom", policy(), in_namespace("one")),
        ("networkPolicy.metricsFrom", policy(), in_namespace("monitoring")),
        ("networkPolicy.apiServerPorts", policy(), json!([8443])),
        (
            "networkPolicy.apiServerTo",
            policy(),
            json!([{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}]),
        ),
        ("extraArgs", none(), json!(["--drain-seconds=20"])),
        (
            "extraEnv",
            none(),
            json!([{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}, {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
        ),
        (
            "extraVolumes",
            none(),
            json!([{"name": "ca", "configMap": {"name": "ca", "items": [{"key": "k", "path": "p"}]}}]),
        ),
        (
            "extraVolumeMounts",
            at("extraVolumes", json!([{"name": "ca", "emptyDir": {"sizeLimit": "1Mi"}}])),
            json!([{"name": "ca", "mountPath": "/etc/ca", "readOnly": true}]),
        ),
        ("tests.enabled", none(), json!(false)),
        ("tests.namespace", none(), json!("one")),
        (
            "tests.remote",
            none(),
            json!({"s3": {"bucket": "data", "endpoint": "https://s3.example.com", "addressing": "Path"}}),
        ),
        ("tests.credentials", bucket(), json!({"secretRef": {"name": "s3-creds"}})),
        ("tests.object", bucket(), json!("some/key")),
    ]
}

/// What is often set together, and what might get into each other's way.
fn combinations() -> Vec<Value> {
    let all_of_metrics = json!({"serviceMonitor": {"enabled": true}, "podMonitor": {"enabled": true}, "prometheusRule": {"enabled": true}, "dashboard": {"enabled": true}});
    vec![
        json!({"watchNamespaces": ["one"], "webhook": {"certManager": {"enabled": true}}, "networkPolicy": {"enabled": true}}),
        json!({"watchNamespaces": [NAMESPACE, "one"]}),
        json!({"global": {"imageRegistry": "r.example.com/"}, "image": {"registry": "other", "digest": DIGEST}, "sidecar": {"image": {"tag": "v2", "digest": DIGEST}}}),
        json!({"metrics": all_of_metrics, "sidecar": {"metrics": {"enabled": true}}, "watchNamespaces": ["two"], "commonLabels": {"a": "1", "app.kubernetes.io/name": "not-ours"}, "commonAnnotations": {"b": "true"}, "podLabels": {"app.kubernetes.io/component": "not-ours"}, "fullnameOverride": "f"}),
        json!({"hostNetwork": true, "webhook": {"port": 10260, "existingSecret": "t", "caBundle": "QQ=="}, "metrics": {"port": 10261}, "extraVolumes": [{"name": "e", "emptyDir": {}}], "extraVolumeMounts": [{"name": "e", "mountPath": "/e"}]}),
        json!({"rbac": {"create": false}, "serviceAccount": {"create": false, "name": "theirs"}, "crds": {"install": false}, "pdb": {"enabled": false}, "tests": {"enabled": false}, "webhook": {"enabled": false}, "admissionPolicy": {"enabled": false}}),
        json!({"resources": {"limits": null, "requests": null}, "podSecurityContext": null, "securityContext": null, "topologySpreadConstraints": [], "replicaCount": 1}),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_has_an_effect_that_the_api_server_takes() -> Result<()> {
    let rows = rows();
    let mut named: Vec<&str> = rows.iter().map(|(path, _, _)| *path).collect();
    named.sort_unstable();
    let mut there: Vec<String> = values::read().into_iter().map(|value| value.path).collect();
    there.sort();
    assert_eq!(named, there, "left: the rows here, right: values.yaml");

    let helm = Helm::new(None)?;
    let mut seen: BTreeMap<String, Value> = BTreeMap::new();
    for (path, needs, value) in rows {
        let before = objects(&render(&helm, &needs).await?);
        let mut values = needs;
        over(&mut values, &at(path, value));
        let after = objects(&render(&helm, &values).await?);
        assert_ne!(before, after, "{path} changes nothing");
        seen.extend(before.into_iter().chain(after).map(|object| (object.to_string(), object)));
    }
    for values in combinations() {
        let rendered = objects(&render(&helm, &values).await?);
        assert_unique(&rendered);
        seen.extend(rendered.into_iter().map(|object| (object.to_string(), object)));
    }
    take(&seen.into_values().collect::<Vec<_>>()).await
}

/// An object that is there twice would be installed once, and nobody knows which.
fn assert_unique(objects: &[Value]) {
    let mut ids: Vec<String> =
        objects.iter().map(|object| format!("{} {}", object["apiVersion"], id(object))).collect();
    ids.sort();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all, "{ids:?}");
}

/// Has the API server check each object, strictly, and keep none.
async fn take(objects: &[Value]) -> Result<()> {
    let cluster = Cluster::start(Controllers::None).await?;
    cluster.plane.install_crd().await?;
    cluster.install_foreign_crds().await?;
    for namespace in ["one", "two"] {
        cluster.plane.create_namespace(namespace, &[]).await?;
    }
    assert!(objects.len() > 100, "{} objects", objects.len());
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let arguments = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
    let said = cluster.plane.kubectl_with(&arguments, &list).await?;
    let (complaints, taken) = (said.stderr.clone(), said.success()?);
    assert_eq!(taken.lines().count(), objects.len(), "{taken}");
    // Some combinations are looser than what is restricted; the defaults are judged by a test of their own.
    let expected = ["last-applied-configuration", "would violate PodSecurity"];
    let complaints: Vec<&str> =
        complaints.lines().filter(|line| !expected.iter().any(|word| line.contains(word))).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_lint_has_nothing_to_say() -> Result<()> {
    let helm = Helm::new(None)?;
    for values in [vec![json!({})], combinations()].concat() {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(file.path(), values.to_string())?;
        let path = file.path().to_str().unwrap();
        let said = helm.run(&["lint", "--strict", "--quiet", &stage::chart(), "-n", NAMESPACE, "-f", path]).await?;
        assert!(!said.clone().success()?.contains("[WARNING]"), "{values}: {}", said.stdout);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn image_references_are_what_was_asked_for() -> Result<()> {
    let helm = Helm::new(None)?;
    let cases = [
        (json!({}), "remotemount-operator:0.1.0", "remotemount-sidecar:0.1.0"),
        (
            json!({"global": {"imageRegistry": "r.example.com/"}, "image": {"registry": "other"}, "sidecar": {"image": {"tag": "edge"}}}),
            "r.example.com/remotemount-operator:0.1.0",
            "r.example.com/remotemount-sidecar:edge",
        ),
        (
            json!({"image": {"registry": "a:5000/b", "digest": DIGEST}, "sidecar": {"image": {"registry": "c", "repository": "d/e", "tag": "f", "digest": DIGEST}}}),
            &format!("a:5000/b/remotemount-operator:0.1.0@{DIGEST}"),
            &format!("c/d/e:f@{DIGEST}"),
        ),
    ];
    for (values, operator, sidecar) in cases {
        let rendered = objects(&render(&helm, &values).await?);
        let deployment = stage::object(&rendered, "Deployment", "remotemount-operator");
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], operator);
        let wanted = format!("--sidecar-image={sidecar}");
        assert!(container["args"].as_array().unwrap().iter().any(|argument| argument == &wanted), "{container}");
        let test = stage::object(&rendered, "Pod", "remotemount-test-ready");
        assert_eq!(test["spec"]["containers"][0]["image"], sidecar);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_follow_the_release_and_fit() -> Result<()> {
    let helm = Helm::new(None)?;
    let long = "a-release-with-a-name-that-is-as-long-as-helm-takes-x";
    for (release, begins) in [
        ("remotemount", "remotemount-operator"),
        ("prod", "prod-remotemount-operator"),
        (long, "a-release-with-a-name"),
    ] {
        let rendered =
            objects(&stage::render_as(&helm, release, &json!({"webhook": {"certManager": {"enabled": true}}})).await?);
        let service = rendered.iter().find(|object| object["kind"] == "Service").unwrap();
        assert!(service["metadata"]["name"].as_str().unwrap().starts_with(begins), "{service}");
        for object in rendered.iter().filter(|object| object["kind"] == "Service") {
            assert!(object["metadata"]["name"].as_str().unwrap().len() <= 63, "{object}");
        }
        // By one name the operator is told of its Service, the certificate is for it, and the API server looks for it.
        let name = service["metadata"]["name"].as_str().unwrap().trim_end_matches("-metrics");
        let deployment = stage::object(&rendered, "Deployment", name);
        let arguments = deployment["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
        assert!(arguments.contains(&format!("\"--service={name}\"")), "{arguments}");
        assert_eq!(
            stage::object(&rendered, "Certificate", name)["spec"]["dnsNames"][0],
            format!("{name}.{NAMESPACE}.svc")
        );
        let webhook = stage::object(&rendered, "MutatingWebhookConfiguration", "remotemount");
        assert_eq!(webhook["webhooks"][0]["clientConfig"]["service"]["name"], name);
    }
    Ok(())
}
