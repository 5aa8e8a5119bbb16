//! A bucket becomes a mount, a pod gets its sidecar, and the mount is Ready.
//!
//! The manifest is `examples/remotemount.yaml`, but for its endpoint. The pod is shown as admission has
//! made it; its sidecar is then started from exactly that.

use anyhow::{Context as _, Result, ensure};
use remotemount_crds::names;
use remotemount_tests::manifest::SECRET;
use remotemount_tests::s3_server::{PLAIN_ACCESS_KEY, PLAIN_SECRET_KEY};
use remotemount_tests::stand_in::StandIn;
use serde_json::Value;

use super::installing::{namespace, says, wrapped};
use super::tour::{Told, Tour, applied, command, get};
use super::{NAMESPACE, Running, Stage, screen};

/// The conditions, one a line.
const CONDITIONS: &str = r#"jsonpath={range .status.conditions[*]}{.type}={.status} {.reason}: {.message}{"\n"}{end}"#;

pub async fn walk(tour: &mut Tour<'_>, stage: &Stage, running: &mut Running) -> Result<()> {
    screen::heading("Mounting", &[]);
    namespace(tour, "A namespace of yours, as strict", NAMESPACE).await?;
    let context = ["config", "set-context", "--current", &format!("--namespace={NAMESPACE}")];
    tour.kubectl("It is meant from now on", &context, says("modified")).await?;
    secret(tour).await?;
    apply(tour, stage).await?;
    let mount = &stage.example.name;
    let resource = format!("rmt/{mount}");
    let ready = ["wait", "--for=condition=Ready", "--timeout=30s", &resource];
    tour.kubectl("Until it can be used", &ready, says("condition met")).await?;
    tour.table(&["get", "rmt"], mount, &["True", "NoSidecars", "0/0"]).await?;

    tour.apply("A pod that asks for its mounts, by a label", &pod("web", "")).await?;
    injected(tour).await?;
    let waiting = ["wait", "--for=jsonpath={.status.sidecars.summary}=0/1", "--timeout=30s", &resource];
    tour.kubectl("Until the operator has seen it", &waiting, says("condition met")).await?;
    tour.table(&["get", "rmt"], mount, &["False", "SidecarsNotReady", "0/1"]).await?;

    let node =
        sidecar(tour, "web", "Its sidecar: the injected arguments, the files of its volumes, free ports").await?;
    running.nodes.push(node);
    tour.kubectl("Until the operator has heard from it", &ready, says("condition met")).await?;
    tour.table(&["get", "rmt", "-o", "wide"], mount, &["True", "Available", "1/1", "Deny"]).await?;
    let conditions = ["get", "rmt", mount, "-o", CONDITIONS];
    tour.kubectl("What it says in full", &conditions, |printed| {
        let bad = printed.lines().filter(|line| !line.contains("=True ")).count();
        ensure!(bad == 0 && !printed.is_empty(), "{bad} conditions are not True");
        Ok(format!("{} conditions, all True", printed.lines().count()))
    })
    .await
}

async fn secret(tour: &mut Tour<'_>) -> Result<()> {
    let plane = tour.plane;
    let (id, key) = ("--from-literal=AWS_ACCESS_KEY_ID=", "--from-literal=AWS_SECRET_ACCESS_KEY=");
    let work = async {
        let arguments = [
            "create",
            "secret",
            "generic",
            SECRET,
            &format!("{id}{PLAIN_ACCESS_KEY}"),
            &format!("{key}{PLAIN_SECRET_KEY}"),
        ];
        Ok(Told::only(plane.kubectl(&arguments).await?.success()?.trim()))
    };
    let shown =
        format!("$ kubectl create secret generic {SECRET} \\\n    {id}$AWS_ACCESS_KEY_ID {key}$AWS_SECRET_ACCESS_KEY");
    tour.step("Keys of a user who may read and write the bucket", &shown, work).await
}

async fn apply(tour: &mut Tour<'_>, stage: &Stage) -> Result<()> {
    let yaml = stage.manifest()?;
    let plane = tour.plane;
    let (from, to) = (&stage.example.endpoint, stage.proxy.endpoint());
    let shown = format!("$ sed 's|{from}|{to}|' {} | kubectl apply -f -", stage.example.shown_path);
    let work = async { applied(plane.kubectl_with(&["apply", "-f", "-"], &yaml).await?) };
    tour.step("The mount: the example, with the endpoint of this S3 server", &shown, work).await
}

/// A pod that the strictest level of Pod Security takes, and that asks for its mounts; `more` is more metadata.
pub fn pod(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{{}: \"{}\"}}{more}}}
spec:
  securityContext: {{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: app
    image: app
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
",
        names::INJECT_LABEL,
        names::INJECT_VALUE
    )
}

/// What admission has made of the pod, in its interesting lines.
async fn injected(tour: &mut Tour<'_>) -> Result<()> {
    let plane = tour.plane;
    let question = ["get", "pod", "web", "-o", "yaml"];
    let work = async {
        let pod = get(plane, &["pod", "web"]).await?;
        let sidecar = &pod["spec"]["initContainers"][0];
        ensure!(sidecar["name"] == names::CONTAINER, "its first init container is not the sidecar");
        ensure!(sidecar["restartPolicy"] == "Always", "it is no native sidecar");
        let mounts = pod["metadata"]["annotations"][names::INJECTED_ANNOTATION].as_str().context("no annotation")?;
        let mut lines = vec![format!("annotations: {}: {mounts}", names::INJECTED_ANNOTATION)];
        lines.push(format!("initContainers[0]: {}", fields(sidecar, &["name", "image", "restartPolicy"])));
        lines.extend(arguments(sidecar));
        lines.push(format!("  postStart: {}", words(&sidecar["lifecycle"]["postStart"]["exec"]["command"])));
        lines.push(format!("  resources: {}", sidecar["resources"]));
        let mounted = sidecar["volumeMounts"].as_array().context("no volumes")?;
        let own =
            mounted.iter().filter(|mount| mount["name"].as_str().is_some_and(|name| name.starts_with("remotemount")));
        lines.extend(own.map(|mount| format!("  volume: {}", fields(mount, &["name", "mountPath"]))));
        let app = &pod["spec"]["containers"][0];
        let variables = app["env"].as_array().context("the app was told nothing")?;
        lines.extend(
            variables.iter().map(|variable| format!("containers[0].env: {}", fields(variable, &["name", "value"]))),
        );
        Ok(Told { lines, answer: format!("one sidecar, for {mounts}, before the app") })
    };
    let shown = format!("$ {}   # the interesting lines of it", command(&question));
    tour.step("The pod, as admission has made it", &shown, work).await
}

fn arguments(sidecar: &Value) -> Vec<String> {
    let arguments: Vec<&str> = sidecar["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (first, flags) = arguments.split_at(arguments.len() % 2);
    let mut lines = vec![format!("  args: {}", first.join(" "))];
    lines.extend(flags.chunks(2).map(|pair| format!("    {}", pair.join(" "))));
    lines
}

fn fields(value: &Value, names: &[&str]) -> String {
    names.iter().map(|name| format!("{name}: {}", value[name].as_str().unwrap_or("-"))).collect::<Vec<_>>().join(", ")
}

fn words(value: &Value) -> String {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

/// Starts the sidecar of a pod, as a kubelet would, and waits as its hook does.
pub async fn sidecar(tour: &mut Tour<'_>, pod: &str, title: &str) -> Result<StandIn> {
    let mut node = StandIn::start(tour.plane, NAMESPACE, pod).await?;
    let shown = wrapped("remotemount-sidecar", &node.arguments());
    let work = async {
        node.wait_ready().await?;
        Ok(Told::only("its hook ends: the mounts are served"))
    };
    tour.step(title, &shown, work).await?;
    Ok(node)
}
