//! The tour of the cluster: from `kubectl apply` to `kubectl delete`, on a real Kubernetes API server.
//!
//! Starts etcd, kube-apiserver and kube-controller-manager, a real S3 server (SeaweedFS) with a proxy in
//! front of it, the operator with the rights of its own ServiceAccount and no others, and the sidecars of
//! injected pods. There is no node: where a kubelet would start a container, the sidecar is started as a
//! process from exactly the arguments, environment and files that the pod asks for. All of it listens on
//! loopback, and ends with the demo.

mod changing;
mod installing;
mod mounting;
mod outage;
mod parting;
mod tour;
mod trouble;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use remotemount_tests::bucket::Bucket;
use remotemount_tests::control_plane::{ControlPlane, Controllers};
use remotemount_tests::operator::Operator;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::s3_server::{Kind, S3Server};
use remotemount_tests::stand_in::StandIn;
use tempfile::TempDir;

use crate::example::Example;
use crate::{fill, screen};
use tour::Tour;

/// The namespace of the user.
const NAMESPACE: &str = "demo";
/// How often the volumes of the pods are refreshed while all stays up.
const REFRESH: Duration = Duration::from_secs(5);

/// What the tour goes through.
struct Stage {
    plane: ControlPlane,
    example: Example,
    bucket: Bucket,
    proxy: Proxy,
    _server: S3Server,
    _folder: TempDir,
}

/// What was started on the way.
#[derive(Default)]
struct Running {
    operator: Option<Operator>,
    nodes: Vec<StandIn>,
}

impl Running {
    fn operator(&mut self) -> Result<&mut Operator> {
        self.operator.as_mut().context("the operator was not started")
    }

    /// The sidecar of the pod `web`.
    fn web(&self) -> Result<&StandIn> {
        self.nodes.first().context("the sidecar was not started")
    }
}

/// Runs the tour; whether every step went as it should.
pub async fn show(keep: bool) -> Result<bool> {
    let begun = Instant::now();
    println!("RemoteMount demo: from kubectl apply to kubectl delete, on a real Kubernetes API server\n");
    let stage = Stage::start().await?;
    let mut tour = Tour::new(&stage.plane)?;
    let mut running = Running::default();
    let outcome = chapters(&mut tour, &stage, &mut running, keep).await;
    let (steps, failed) = tour.end();
    match outcome {
        Ok(()) => println!("\nAll {steps} steps went as they should, in {}.", screen::time(begun.elapsed())),
        Err(error) if !failed => return Err(error),
        Err(_) => {
            println!("\nStep {steps} did not go as it should; what comes after it was left out.");
            logs(&running);
        }
    }
    if keep {
        stay(&stage, &running).await?;
    } else {
        println!("Nothing is left running. To look around: make demo KEEP=1");
    }
    Ok(!failed)
}

async fn chapters(tour: &mut Tour<'_>, stage: &Stage, running: &mut Running, keep: bool) -> Result<()> {
    installing::walk(tour, running).await?;
    mounting::walk(tour, stage, running).await?;
    changing::walk(tour, stage, running).await?;
    trouble::walk(tour, stage, running).await?;
    outage::walk(tour, stage, running).await?;
    if keep {
        println!("\nParting is left out, so that there is something to look at: kubectl delete rmt photos");
        return Ok(());
    }
    parting::walk(tour, stage, running).await
}

impl Stage {
    async fn start() -> Result<Stage> {
        let example = Example::read()?;
        println!("Starting");
        let folder = TempDir::with_prefix("remotemount-demo-").context("making a temporary folder")?;
        let begun = Instant::now();
        let (plane, server) =
            tokio::try_join!(ControlPlane::start(Controllers::All), S3Server::start(Kind::Weed, folder.path()))?;
        screen::fact("control plane", &format!("etcd, kube-apiserver, kube-controller-manager at {}", plane.url()));
        screen::fact("S3 server", &format!("SeaweedFS at {}", server.endpoint()));
        let proxy = Proxy::start(&server.endpoint()).await?;
        screen::fact("proxy", &format!("{}, in front of it, counting requests", proxy.endpoint()));
        let bucket = Bucket::create(&server.endpoint(), &example.bucket).await?;
        let keys = (0..fill::pictures()).map(|n| fill::picture(2019, 0, n));
        let put = bucket.put_many(keys.map(|key| (key.clone(), fill::text(&key)))).await?;
        screen::fact("bucket", &format!("{}, with {put} objects", example.bucket));
        screen::fact("nodes", "none: sidecars of pods run as processes here, as a kubelet would start them");
        screen::fact("ready", &format!("after {}", screen::time(begun.elapsed())));
        Ok(Stage { plane, example, bucket, proxy, _server: server, _folder: folder })
    }

    /// The manifest of the example, with the endpoint of this bucket.
    fn manifest(&self) -> Result<String> {
        self.example.at(&self.proxy.endpoint())
    }
}

/// The last lines of what runs, for whoever looks for the cause.
fn logs(running: &Running) {
    let logs = running.operator.iter().map(|operator| ("operator", operator.log()));
    for (name, log) in logs.chain(running.nodes.iter().map(|node| ("sidecar", node.log()))) {
        println!("\nThe last lines of the {name}'s log");
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].iter().for_each(|line| println!("  {line}"));
    }
}

/// Leaves all up until Ctrl-C, and does what a kubelet does meanwhile.
async fn stay(stage: &Stage, running: &Running) -> Result<()> {
    println!("\nAll of it stays up until Ctrl-C, or: kill {}. In another shell:", std::process::id());
    println!("  export KUBECONFIG={}", stage.plane.kubeconfig().display());
    println!("  alias kubectl={}", stage.plane.kubectl_program().display());
    println!("  kubectl get rmt -o wide        # all of it is in the namespace {NAMESPACE}, which is meant");
    if let Ok(web) = running.web() {
        screen::fact("files", &web.http_url(&format!("{}/", stage.example.path)));
        screen::fact("sidecar", &web.admin_url("/status"));
    }
    if let Some(operator) = &running.operator {
        screen::fact("operator", &operator.admin_url("/metrics"));
    }
    screen::fact("volumes", &format!("of the sidecars are refreshed every {}", screen::time(REFRESH)));
    loop {
        tokio::time::sleep(REFRESH).await;
        for node in &running.nodes {
            // A pod that is gone has no token any more, and an API server may be down: the next time tells.
            if let Err(error) = node.sync(&stage.plane).await {
                println!("  the volumes of a sidecar could not be refreshed: {error:#}");
            }
        }
    }
}
