//! What goes wrong, and how it is told: a bucket that does not exist, a path that is taken, a pod that
//! asks for what is not there. And the events of all that.

use anyhow::{Result, ensure};
use remotemount_crds::names;
use remotemount_tests::manifest::SECRET;

use super::installing::says;
use super::mounting::{pod, sidecar};
use super::tour::{Told, Tour, command};
use super::{Running, Stage, screen};

const BROKEN: &str = "no-such-bucket";

pub async fn walk(tour: &mut Tour<'_>, stage: &Stage, running: &mut Running) -> Result<()> {
    screen::heading("Trouble", &[]);
    let (first, path) = (&stage.example.name, &stage.example.path);
    tour.apply("A mount of a bucket that does not exist", &mount(stage, "broken", "/broken", BROKEN)).await?;
    let annotation = format!(", annotations: {{{}: broken}}", names::MOUNTS_ANNOTATION);
    tour.apply("A pod for it: the annotation names the mounts it wants", &pod("worker", &annotation)).await?;
    let node =
        sidecar(tour, "worker", "Its sidecar, which starts all the same, and is the one who asks the bucket").await?;
    running.nodes.push(node);
    let stalled = ["wait", "--for=condition=Stalled", "--timeout=30s", "rmt/broken"];
    tour.kubectl("Stalled: someone has to change something", &stalled, says("condition met")).await?;
    let why = [
        "get",
        "rmt",
        "broken",
        "-o",
        r#"jsonpath={range .status.conditions[?(@.type=="Stalled")]}{.reason}: {.message}{end}"#,
    ];
    tour.kubectl("What", &why, |printed| {
        ensure!(printed.starts_with("BucketNotFound"), "another reason");
        ensure!(printed.contains("create the bucket"), "it does not say what to do");
        Ok("the reason, and what to do".to_owned())
    })
    .await?;

    let bucket = &stage.example.bucket;
    tour.apply("Another mount at a path that is taken", &mount(stage, "later", path, bucket)).await?;
    let stalled = ["wait", "--for=condition=Stalled", "--timeout=30s", "rmt/later"];
    tour.kubectl("Stalled too", &stalled, says("condition met")).await?;
    let why = [
        "get",
        "rmt",
        "later",
        "-o",
        r#"jsonpath={range .status.conditions[?(@.type=="Accepted")]}{.status} {.reason}: {.message}{end}"#,
    ];
    tour.kubectl("The older mount keeps the path", &why, |printed| {
        ensure!(printed.starts_with("False PathConflict"), "another reason");
        ensure!(printed.contains(first.as_str()), "it does not name {first}");
        Ok("Accepted is False: PathConflict".to_owned())
    })
    .await?;
    tour.table(&["get", "rmt", "-o", "wide"], "broken", &["False", "BucketNotFound"]).await?;

    let annotation = format!(", annotations: {{{}: fotos}}", names::MOUNTS_ANNOTATION);
    let title = "A pod that names a mount that is not there";
    tour.refused(title, &pod("typo", &annotation), "no RemoteMount fotos").await?;
    let change = ["patch", "rmt", first, "--type=merge", "-p", r#"{"spec": {"path": "/elsewhere"}}"#];
    let plane = tour.plane;
    let work = async {
        let said = plane.kubectl(&change).await?.failure()?;
        ensure!(said.contains("path"), "it was refused for another reason: {said}");
        Ok(Told::text(&said, "refused, with the reason"))
    };
    tour.step("A change that cannot be", &format!("$ {}", command(&change)), work).await?;
    tour.kubectl("What has happened here", &["events"], |printed| {
        for word in ["BucketNotFound", "PathConflict", "Valid"] {
            ensure!(printed.contains(word), "no event says {word}");
        }
        Ok(format!("{} events", printed.lines().count().saturating_sub(1)))
    })
    .await
}

fn mount(stage: &Stage, name: &str, path: &str, bucket: &str) -> String {
    format!(
        "apiVersion: remotemount.dev/v1alpha1
kind: RemoteMount
metadata: {{name: {name}}}
spec:
  path: {path}
  remote: {{s3: {{bucket: {bucket}, endpoint: \"{}\"}}}}
  credentials: {{secretRef: {{name: {SECRET}}}}}
",
        stage.proxy.endpoint()
    )
}
