//! Outages: operators that are killed, a leader that is replaced, an API server that goes away.
//!
//! Sidecars serve throughout, and afterwards the status is true again by itself.

use std::time::{Duration, Instant};

use anyhow::Result;
use remotemount_tests::control_plane::Controllers;
use remotemount_tests::operator::{ACCOUNT, NAMESPACE, Operator};
use remotemount_tests::stand_in::StandIn;

use crate::stage::{Cluster, Stage, client, until};

async fn served(node: &StandIn) -> Result<bool> {
    Ok(client().get(node.http_url("/m/a")).send().await?.text().await? == "content")
}

async fn ready_again(stage: &Stage<'_>, policy: &str) -> Result<()> {
    stage.apply(&stage.mount("m", &format!("  deletePolicy: {policy}\n"))).await?;
    until("the status speaks of the edit", async || {
        let object = stage.get("m").await?;
        Ok(object["status"]["observedGeneration"] == object["metadata"]["generation"])
    })
    .await?;
    stage.wait("m", "Ready", "True/Available").await.map(drop)
}

/// Writes of the operator to statuses so far.
fn status_writes(cluster: &Cluster) -> Result<usize> {
    let user = format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
    let requests = cluster.plane.requests()?;
    let writes = requests.iter().filter(|request| request.user == user && request.is_write());
    Ok(writes.filter(|request| request.subresource == "status" && request.code < 300).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_started_again() -> Result<()> {
    let cluster = Cluster::start(Controllers::None, &[]).await?;
    let stage = cluster.stage("killed").await?;
    stage.bucket.put("a", "content", None).await?;
    stage.apply(&stage.mount("m", "")).await?;
    let node = stage.node("web").await?;
    stage.wait("m", "Ready", "True/Available").await?;
    let before = stage.get("m").await?["status"].clone();
    let writes = status_writes(&cluster)?;
    cluster.operator.lock().await.kill()?;
    assert!(served(&node).await?);
    // Its status stays, and its sidecar serves; whoever deletes meanwhile waits for the operator.
    assert_eq!(stage.get("m").await?["status"], before);
    let restarted = Instant::now();
    cluster.operator.lock().await.restart().await?;
    until("the sidecar is back", async || Ok(connected(&node).await?)).await?;
    stage.wait("m", "Ready", "True/Available").await?;
    let more = status_writes(&cluster)? - writes;
    // A sidecar's pauses have no limit below a minute: one that stays away for long is told of, and told of again.
    if restarted.elapsed() < Duration::from_secs(30) {
        assert_eq!(stage.get("m").await?["status"], before, "that the operator is back is no news of the mount");
        assert_eq!(more, 0, "status writes for a restart");
    }
    assert!(more <= 3, "{more} status writes for a restart");
    // The API server goes away under it, and comes back.
    cluster.plane.stop_api_server().await?;
    assert!(served(&node).await?);
    tokio::time::sleep(Duration::from_secs(2)).await;
    cluster.plane.restart_api_server().await?;
    ready_again(&stage, "Propagate").await?;
    assert!(served(&node).await?);
    let told = cluster.operator.lock().await.terminate(Duration::from_secs(20)).await?;
    assert!(told.success(), "{told}");
    Ok(())
}

/// Every write to an API object but the leases, so far.
fn object_writes(cluster: &Cluster) -> Result<usize> {
    let user = format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}");
    let requests = cluster.plane.requests()?;
    let writes = requests.iter().filter(|request| request.user == user && request.is_write());
    Ok(writes.filter(|request| ["remotemounts", "configmaps"].contains(&&*request.resource)).count())
}

fn signal(pid: u32, name: &str) -> Result<()> {
    let sent = std::process::Command::new("kill").args([format!("-{name}"), pid.to_string()]).status()?;
    anyhow::ensure!(sent.success(), "kill -{name}: {sent}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_was_stopped_writes_nothing_once_another_leads() -> Result<()> {
    let cluster = Cluster::start(Controllers::None, &[]).await?;
    let stage = cluster.stage("stopped").await?;
    stage.apply(&stage.mount("m", "")).await?;
    stage.wait("m", "Ready", "True/NoSidecars").await?;
    let mut second = Operator::start(&cluster.plane, &[]).await?;
    let first = cluster.operator.lock().await.pid();
    signal(first, "STOP")?;
    until("the second leads", async || {
        let lease = cluster.plane.kubectl(&["-n", NAMESPACE, "get", "lease", "-o", "yaml"]).await?.success()?;
        Ok(lease.contains(&format!("-{}-", second.pid())))
    })
    .await?;
    // What the first has to catch up with, all of it done by the second.
    for name in ["a", "b", "c", "d"] {
        stage.apply(&stage.mount(name, "")).await?;
        stage.wait(name, "Ready", "True/NoSidecars").await?;
    }
    stage.apply(&stage.mount("m", "  deletePolicy: Retain\n")).await?;
    until("the status speaks of the edit", async || {
        let object = stage.get("m").await?;
        Ok(object["status"]["observedGeneration"] == object["metadata"]["generation"])
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let writes = object_writes(&cluster)?;
    signal(first, "CONT")?;
    let log = async || -> Result<bool> {
        let log = cluster.operator.lock().await.log();
        Ok(log.contains("does not lead any more"))
    };
    until("the first gives up", log).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(object_writes(&cluster)?, writes, "writes of one that leads no more");
    assert!(second.terminate(Duration::from_secs(20)).await?.success());
    Ok(())
}

async fn connected(node: &StandIn) -> Result<bool> {
    let status: serde_json::Value = client().get(node.admin_url("/status")).send().await?.json().await?;
    Ok(status["control"]["state"] == "connected")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_leads_and_another_takes_over() -> Result<()> {
    let cluster = Cluster::start(Controllers::None, &[]).await?;
    let stage = cluster.stage("leaders").await?;
    stage.bucket.put("a", "content", None).await?;
    stage.apply(&stage.mount("m", "")).await?;
    let node = stage.node("web").await?;
    stage.wait("m", "Ready", "True/Available").await?;
    let mut second = Operator::start(&cluster.plane, &[]).await?;
    let writes = status_writes(&cluster)?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(status_writes(&cluster)?, writes, "two operators, nothing to write");
    // A follower answers the webhook, though it does not lead: pods come out injected with the leader gone.
    cluster.operator.lock().await.kill()?;
    let killed = Instant::now();
    let holder = async || -> Result<bool> {
        let lease = cluster.plane.kubectl(&["-n", NAMESPACE, "get", "lease", "-o", "yaml"]).await?.success()?;
        Ok(lease.contains(&format!("-{}-", second.pid())))
    };
    until("the second leads", holder).await?;
    println!("takeover took {:?}", killed.elapsed());
    assert!(served(&node).await?);
    // Sidecars find the new leader by their file, which names it by now.
    until("the sidecar follows", async || {
        node.sync(&cluster.plane).await?;
        connected(&node).await
    })
    .await?;
    ready_again(&stage, "Propagate").await?;
    let object = stage.get("m").await?;
    assert_eq!(object["status"]["sidecars"]["summary"], "1/1");
    // Told to stop, it gives the lease back at once.
    let told = second.terminate(Duration::from_secs(20)).await?;
    assert!(told.success(), "{told}");
    let lease = cluster.plane.kubectl(&["-n", NAMESPACE, "get", "lease", "-o", "yaml"]).await?.success()?;
    assert!(!lease.contains("holderIdentity: ") || lease.contains("holderIdentity: \"\""), "{lease}");
    Ok(())
}
