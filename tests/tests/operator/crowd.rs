//! Five hundred sidecars of one mount, as their streams, on the real operator: all flip at once, and the status
//! settles in few writes. How long it takes and how large the operator is, is printed.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::PostParams;
use remotemount_crds::control::OperatorMessage;
use remotemount_crds::names;
use remotemount_tests::control_plane::Controllers;
use remotemount_tests::crowd::Member;
use remotemount_tests::operator::{ACCOUNT, NAMESPACE};
use remotemount_tests::process::rss_kib;
use serde_json::json;
use tokio::sync::watch;
use tonic::Streaming;

use crate::stage::{Cluster, Stage, until};

const CROWD: usize = 500;

/// The stream of that pod's sidecar.
async fn join(
    stage: &Stage<'_>,
    uid: &str,
    pod: &str,
    states: watch::Receiver<bool>,
) -> Result<Streaming<OperatorMessage>> {
    let folder = stage.cluster.plane.folder();
    let (ca, token) = (folder.join("crowd-ca.crt"), folder.join(format!("{pod}.token")));
    fs::write(&token, stage.cluster.plane.pod_token(&stage.namespace, pod, names::AUDIENCE).await?)?;
    let endpoint = stage.cluster.operator.lock().await.control_endpoint();
    Member { endpoint: &endpoint, ca: &ca, token: &token, mount: ("m", uid) }.join(states).await
}

/// Writes of the mount's status so far.
fn writes(cluster: &Cluster) -> Result<usize> {
    let user = format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
    let requests = cluster.plane.requests()?;
    let own = requests.iter().filter(|request| request.user == user && request.subresource == "status");
    Ok(own.filter(|request| request.is_write()).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_flips_settles_in_few_writes() -> Result<()> {
    let cluster = Cluster::start(Controllers::None, &[]).await?;
    let stage = cluster.stage("crowd").await?;
    stage.apply(&stage.mount("m", "")).await?;
    let object = stage.wait("m", "Ready", "True/NoSidecars").await?;
    let uid = object["metadata"]["uid"].as_str().context("a uid")?.to_owned();
    let admin = cluster.plane.client().await?;
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), "crowd");
    let control = maps.get(names::CONTROL_CONFIG_MAP).await?.data.context("data")?;
    fs::write(cluster.plane.folder().join("crowd-ca.crt"), &control[names::CA_KEY])?;
    let pods: Api<Pod> = Api::namespaced(admin, "crowd");
    let pod = |at: usize| {
        let security = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}});
        let metadata = json!({"name": format!("web-{at}"), "labels": {"remotemount.dev/inject": "true"}});
        let pod = json!({"metadata": metadata, "spec": {"containers": [{"name": "app", "image": "app", "securityContext": security}]}});
        serde_json::from_value::<Pod>(pod)
    };
    let create = |at: usize| {
        let (pods, pod) = (pods.clone(), pod(at));
        async move { anyhow::Ok(pods.create(&PostParams::default(), &pod?).await?) }
    };
    stream::iter(0..CROWD).map(create).buffer_unordered(16).try_collect::<Vec<_>>().await?;
    let pid = cluster.operator.lock().await.pid();
    let before = rss_kib(pid)?;
    let (flip, states) = watch::channel(true);
    let names: Vec<String> = (0..CROWD).map(|at| format!("web-{at}")).collect();
    let joining = stream::iter(&names).map(|name| join(&stage, &uid, name, states.clone()));
    let streams: Vec<_> = joining.buffer_unordered(16).try_collect().await?;
    stage.wait("m", "Ready", "True/Available").await?;
    println!("{CROWD} pods with sidecars: the operator has {} KiB, before they came {before} KiB", rss_kib(pid)?);
    for (round, reachable) in [false, true, false].into_iter().enumerate() {
        let (begun, count) = (Instant::now(), writes(&cluster)?);
        flip.send(reachable)?;
        let (status, failing) = if reachable { ("True", 0) } else { ("False", CROWD) };
        until("the status has settled", async || {
            let object = stage.get("m").await?;
            let ready = object["status"]["conditions"].as_array().context("conditions")?;
            let ready = ready.iter().find(|condition| condition["type"] == "Ready").context("Ready")?;
            Ok(ready["status"] == status && object["status"]["sidecars"]["failing"] == failing)
        })
        .await?;
        let took = begun.elapsed();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let more = writes(&cluster)? - count;
        println!("round {round}: settled in {} ms with {more} status writes", took.as_millis());
        assert!(more <= usize::try_from(begun.elapsed().as_secs() / 2 + 1)?, "{more} status writes");
        assert_eq!(stage.get("m").await?["status"]["sidecars"]["summary"], format!("{CROWD}/{CROWD}"));
    }
    let object = stage.get("m").await?;
    assert_eq!(object["status"]["failing"].as_array().map(Vec::len), Some(10));
    drop(streams);
    Ok(())
}
