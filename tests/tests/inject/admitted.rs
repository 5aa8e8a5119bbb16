//! All of it against a real API server: golden pods in a namespace of the restricted level, pods created
//! through the webhook, the policy, the CA's Secret and the configuration's caBundle.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use remotemount_crds::{RemoteMount, names};
use remotemount_operator::certificates::publish::Publisher;
use remotemount_operator::certificates::secret::Keeper;
use remotemount_operator::cluster::lenient;
use remotemount_operator::webhook::metrics::{InjectionMetrics, Outcome};
use remotemount_operator::webhook::review::{Mounts, Reviewer};
use remotemount_operator::webhook::{PROTOCOLS, Webhook};
use remotemount_tests::control_plane::{ControlPlane, Controllers};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{golden, stage};

const RESTRICTED: [(&str, &str); 1] = [("pod-security.kubernetes.io/enforce", "restricted")];
const LIMIT: Duration = Duration::from_secs(30);

fn dry() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

fn deploy(file: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../operator/deploy").join(file);
    std::fs::read_to_string(path).unwrap()
}

fn document(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// The pod that a controller makes of a document.
fn pod_of(document: &Value) -> Option<Value> {
    let template = match document["kind"].as_str()? {
        "Pod" => return Some(document.clone()),
        "Deployment" => &document["spec"]["template"],
        "CronJob" => &document["spec"]["jobTemplate"]["spec"]["template"],
        _ => return None,
    };
    let mut pod = template.clone();
    pod["apiVersion"] = json!("v1");
    pod["kind"] = json!("Pod");
    pod["metadata"]["generateName"] = json!("app-");
    Some(pod)
}

/// Each container, and whether a token for the API server is mounted into it.
fn api_tokens(pod: &Value) -> Vec<(String, bool)> {
    let of = |kind: &str| pod["spec"][kind].as_array().cloned().unwrap_or_default();
    let has = |container: &Value| {
        let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
        mounts.iter().any(|mount| mount["name"].as_str().is_some_and(|name| name.starts_with("kube-api-access-")))
    };
    let name = |container: &Value| container["name"].as_str().unwrap_or_default().to_owned();
    of("initContainers").iter().chain(&of("containers")).map(|container| (name(container), has(container))).collect()
}

#[tokio::test]
async fn every_golden_pod_is_admitted_at_the_restricted_level() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    plane.create_namespace(stage::NAMESPACE, &RESTRICTED).await?;
    let client = plane.client().await?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    let pods: Api<DynamicObject> = Api::namespaced_with(client.clone(), stage::NAMESPACE, &resource);
    let (mut admitted, mut tokens) = (0, 0);
    for case in golden::cases() {
        for document in document(&golden::injected(&case).text) {
            if let Some(mut pod) = pod_of(&document) {
                pod["metadata"].as_object_mut().unwrap().remove("namespace");
                let object: DynamicObject = serde_json::from_value(pod)?;
                let answer = pods.create(&dry(), &object).await.with_context(|| case.display().to_string())?;
                let sidecar = answer.data.pointer("/spec/initContainers").and_then(Value::as_array);
                let always =
                    |container: &&Value| container["name"] == "remotemount" && container["restartPolicy"] == "Always";
                assert_eq!(sidecar.map(|all| all.iter().filter(always).count()), Some(1), "{}", case.display());
                for (container, token) in api_tokens(&answer.data) {
                    tokens += usize::from(token);
                    assert!(!token || container != "remotemount", "it needs no token: {}", case.display());
                }
                admitted += 1;
            }
        }
    }
    assert!(admitted >= 12 && tokens > 0, "{admitted} pods, {tokens} containers with a token");
    // The level is in force: the same namespace refuses what it must.
    let mut loose = stage::pod("loose");
    loose["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    let refused = pods.create(&dry(), &serde_json::from_value(loose)?).await.unwrap_err().to_string();
    assert!(refused.contains("PodSecurity"), "{refused}");
    Ok(())
}

/// A control plane of its own, with the webhook of `namespace` served on loopback by the operator's own certificates.
struct Plane {
    plane: ControlPlane,
    client: Client,
    metrics: InjectionMetrics,
    keeper: Keeper,
    stop: CancellationToken,
}

const OPERATOR: &str = "remotemount-system";

async fn plane() -> Result<Plane> {
    let plane = ControlPlane::start(Controllers::None).await?;
    plane.install_crd().await?;
    plane.create_namespace(stage::NAMESPACE, &RESTRICTED).await?;
    plane.create_namespace(OPERATOR, &[]).await?;
    let client = plane.client().await?;
    let now = Timestamp::now();
    let (certificates, keeper) = Keeper::start(client.clone(), OPERATOR, vec!["127.0.0.1".to_owned()], now).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://{}{}", listener.local_addr()?, names::WEBHOOK_PATH);
    let (metrics, stop) = (InjectionMetrics::default(), CancellationToken::new());
    let mounts = vec![stage::mount("images", "/images", &json!({"credentials": {"secretRef": {"name": "s3-creds"}}}))];
    let all: Api<RemoteMount> = Api::namespaced(client.clone(), stage::NAMESPACE);
    all.create(&PostParams::default(), &mounts[0]).await?;
    // The watch hears of nothing more; what is asked is the API server itself.
    let asker = client.clone();
    let asked = move |namespace: &str| {
        let (client, namespace) = (asker.clone(), namespace.to_owned());
        async move { Some(lenient::list(&client, &namespace).await.ok()?.into_iter().map(Arc::new).collect()) }.boxed()
    };
    let mounts = Mounts { asked: Arc::new(asked), ..stage::watched(Some(mounts)) };
    let webhook = Webhook { reviewer: Reviewer { mounts, settings: stage::settings() }, metrics: metrics.clone() };
    let tls = certificates.server_config(&PROTOCOLS)?;
    tokio::spawn(webhook.serve(listener, tls, stop.clone(), Duration::from_secs(1)));
    let configuration: MutatingWebhookConfiguration =
        serde_json::from_value(document(&deploy("webhook.yaml")).remove(0))?;
    Api::<MutatingWebhookConfiguration>::all(client.clone()).create(&PostParams::default(), &configuration).await?;
    let publisher = Publisher { client: client.clone(), bundle: certificates.bundle(), url: Some(url) };
    tokio::spawn(publisher.run(stop.clone()));
    let this = Plane { plane, client, metrics, keeper, stop };
    this.published().await?;
    Ok(this)
}

impl Plane {
    /// Waits until the configuration has a caBundle and the URL.
    async fn published(&self) -> Result<MutatingWebhookConfiguration> {
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let configuration = configurations.get(names::WEBHOOK_CONFIGURATION).await?;
            let webhooks = configuration.webhooks.clone().unwrap_or_default();
            let of = &webhooks[0].client_config;
            if of.ca_bundle.as_ref().is_some_and(|bundle| bundle.0.starts_with(b"-----BEGIN")) && of.url.is_some() {
                assert_eq!((webhooks.len(), &of.service), (1, &None));
                assert_eq!(webhooks[0].failure_policy.as_deref(), Some("Fail"), "the rest stays as it was installed");
                return Ok(configuration);
            }
            anyhow::ensure!(tokio::time::Instant::now() < deadline, "not published: {of:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Creates the pod, again until the API server has read the configuration of its webhooks.
    async fn create(&self, params: &PostParams, pod: &Value) -> Result<Pod> {
        let pod: Pod = serde_json::from_value(pod.clone())?;
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            match self.pods(stage::NAMESPACE).create(params, &pod).await {
                Err(kube::Error::Api(status)) if status.message.contains("failed calling webhook") => {
                    anyhow::ensure!(tokio::time::Instant::now() < deadline, "{status:?}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                outcome => return Ok(outcome?),
            }
        }
    }
}

fn sidecar(pod: &Pod) -> Option<&k8s_openapi::api::core::v1::Container> {
    pod.spec.as_ref()?.init_containers.as_ref()?.iter().find(|container| container.name == names::CONTAINER)
}

#[tokio::test]
async fn a_pod_created_through_the_webhook_has_its_sidecar() -> Result<()> {
    let mut this = plane().await?;

    // A dry run is as any other: the sidecar is in the answer, and nothing stays.
    let tried = this.create(&dry(), &stage::pod("app")).await?;
    assert!(sidecar(&tried).is_some());
    assert!(this.pods(stage::NAMESPACE).get_opt("app").await?.is_none());

    let created = this.create(&PostParams::default(), &stage::pod("app")).await?;
    let container = sidecar(&created).context("no sidecar")?;
    assert_eq!(container.restart_policy.as_deref(), Some("Always"));
    assert_eq!(created.annotations().get(names::INJECTED_ANNOTATION).map(String::as_str), Some("images"));
    // Made again from what stands there, defaults and all, it comes out the same: ours adds nothing twice.
    let mut again = serde_json::to_value(&created)?;
    again["metadata"] = json!({"name": "again", "labels": created.labels(), "annotations": created.annotations()});
    again["spec"].as_object_mut().unwrap().remove("nodeName");
    let again = this.create(&PostParams::default(), &again).await?;
    assert_eq!(again.spec, created.spec);
    // One injection each; where the API server asks again (reinvocationPolicy), all is there.
    assert_eq!(this.metrics.get(Outcome::Injected, ""), 2);
    assert!(this.metrics.get(Outcome::Unchanged, "present") >= 1);

    // An update is never asked about; a pod that does not ask neither; the operator's namespace neither.
    let asked =
        || [Outcome::Injected, Outcome::Unchanged].map(|outcome| this.metrics.get(outcome, "")).iter().sum::<u64>();
    let before = asked();
    let label = Patch::Merge(json!({"metadata": {"labels": {"more": "x"}}}));
    this.pods(stage::NAMESPACE).patch("app", &PatchParams::default(), &label).await?;
    let mut unlabelled = stage::pod("unlabelled");
    unlabelled["metadata"].as_object_mut().unwrap().remove("labels");
    assert!(sidecar(&this.create(&PostParams::default(), &unlabelled).await?).is_none());
    let pod: Pod = serde_json::from_value(stage::pod("own"))?;
    assert!(sidecar(&this.pods(OPERATOR).create(&PostParams::default(), &pod).await?).is_none());
    assert_eq!(asked(), before);

    // A denial reaches the user with its words.
    let mut narrowed = stage::pod("narrowed");
    narrowed["metadata"]["annotations"] = json!({names::MOUNTS_ANNOTATION: "imgaes"});
    let said = this
        .plane
        .kubectl_with(&["create", "-n", stage::NAMESPACE, "-f", "-"], &narrowed.to_string())
        .await?
        .failure()?;
    assert!(said.contains("no RemoteMount imgaes in namespace team: there is images"), "{said}");

    // A mount that the watch has not heard of yet is no reason to refuse the pod that came with it.
    let late = (*stage::mount("late", "/late", &json!({}))).clone();
    Api::namespaced(this.client.clone(), stage::NAMESPACE).create(&PostParams::default(), &late).await?;
    let mut pair = stage::pod("pair");
    pair["metadata"]["annotations"] = json!({names::MOUNTS_ANNOTATION: "images,late"});
    let pair = this.create(&dry(), &pair).await?;
    assert_eq!(pair.annotations().get(names::INJECTED_ANNOTATION).map(String::as_str), Some("images,late"));

    // Somebody takes the CA out of the configuration: it comes back.
    let emptied = Patch::Strategic(json!({"webhooks": [{"name": names::WEBHOOK, "clientConfig": {"caBundle": null}}]}));
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(this.client.clone());
    configurations.patch(names::WEBHOOK_CONFIGURATION, &PatchParams::default(), &emptied).await?;
    this.published().await?;
    assert!(sidecar(&this.create(&dry(), &stage::pod("later")).await?).is_some());

    // The CA moves on: its successor is in the Secret and in the configuration before it signs.
    let near = Timestamp::now() + remotemount_operator::certificates::authority::LIFE
        - jiff::SignedDuration::from_hours(24 * 300);
    this.keeper.read(near).await?;
    let secret = Api::<Secret>::namespaced(this.client.clone(), OPERATOR).get(names::CA_SECRET).await?;
    assert!(secret.data.context("no data")?.contains_key("next.crt"));
    let deadline = tokio::time::Instant::now() + LIMIT;
    while both(&this.published().await?) != 2 {
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "the successor is not published");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(sidecar(&this.create(&dry(), &stage::pod("much-later")).await?).is_some());

    // With the webhook gone, a pod that asks is refused rather than let in without its data.
    this.stop.cancel();
    let pod: Pod = serde_json::from_value(stage::pod("late"))?;
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        match this.pods(stage::NAMESPACE).create(&dry(), &pod).await {
            Err(kube::Error::Api(status)) if status.message.contains("failed calling webhook") => break,
            outcome => anyhow::ensure!(tokio::time::Instant::now() < deadline, "{outcome:?}"),
        }
    }
    Ok(())
}

fn both(configuration: &MutatingWebhookConfiguration) -> usize {
    let webhooks = configuration.webhooks.as_deref().unwrap_or_default();
    let bundle = webhooks.first().and_then(|webhook| webhook.client_config.ca_bundle.as_ref());
    bundle.map_or(0, |bundle| String::from_utf8_lossy(&bundle.0).matches("BEGIN CERTIFICATE").count())
}

#[tokio::test]
async fn two_replicas_that_start_at_once_share_one_ca() -> Result<()> {
    let plane = ControlPlane::shared().await?;
    plane.create_namespace("replicas", &[]).await?;
    let client = plane.client().await?;
    let now = Timestamp::now();
    let start = || Keeper::start(client.clone(), "replicas", vec!["127.0.0.1".to_owned()], now);
    let (one, two, three) = tokio::join!(start(), start(), start());
    let bundles = [one?.0, two?.0, three?.0].map(|certificates| certificates.bundle().borrow().clone());
    assert!(bundles[0].is_some() && bundles.iter().all(|bundle| *bundle == bundles[0]));
    Ok(())
}

#[tokio::test]
async fn the_policy_refuses_a_stripped_sidecar() -> Result<()> {
    let plane = ControlPlane::start(Controllers::None).await?;
    plane.create_namespace(stage::NAMESPACE, &[]).await?;
    let client = plane.client().await?;
    for document in document(&deploy("policy.yaml")) {
        if document["kind"] == "ValidatingAdmissionPolicy" {
            let policy: ValidatingAdmissionPolicy = serde_json::from_value(document)?;
            assert_eq!(policy.name_any(), names::POLICY);
            Api::<ValidatingAdmissionPolicy>::all(client.clone()).create(&PostParams::default(), &policy).await?;
        } else {
            let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(document)?;
            Api::<ValidatingAdmissionPolicyBinding>::all(client.clone())
                .create(&PostParams::default(), &binding)
                .await?;
        }
    }
    let pods: Api<Pod> = Api::namespaced(client, stage::NAMESPACE);
    let mounts: [Arc<RemoteMount>; 1] = [stage::mount("images", "/images", &json!({}))];
    let good = remotemount_operator::inject::inject(&stage::pod("app"), stage::NAMESPACE, &mounts, &stage::settings())?
        .context("not injected")?
        .pod;
    let mut stripped = good.clone();
    stripped["spec"]["initContainers"][0].as_object_mut().unwrap().retain(|key, _| {
        // As an older API knows it: an init container has neither.
        !["restartPolicy", "lifecycle", "livenessProbe"].contains(&key.as_str())
    });
    let mut removed = good.clone();
    removed["spec"].as_object_mut().unwrap().remove("initContainers");
    let create = async |pod: &Value| {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        pods.create(&dry(), &pod).await.map_err(|error| error.to_string())
    };
    let deadline = tokio::time::Instant::now() + LIMIT;
    for (pod, told) in
        [(&stripped, "lost its restartPolicy: Always"), (&removed, "another admission webhook removed it")]
    {
        // The API server takes a moment to compile the policy.
        loop {
            match create(pod).await {
                Err(refused) => break assert!(refused.contains(told), "{refused}"),
                Ok(_) => anyhow::ensure!(tokio::time::Instant::now() < deadline, "{told}: admitted"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    create(&good).await.map_err(anyhow::Error::msg)?;
    // What was never injected is none of its business.
    create(&stage::pod("plain")).await.map_err(anyhow::Error::msg)?;
    Ok(())
}
