//! What a sidecar and the operator cost on a node. Times are printed, memory is held to what their pods ask for.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use remotemount_tests::node::pods::is_ready;
use remotemount_tests::process::rss_kib;
use serde_json::json;

use crate::installed::{Installed, spec};

/// So many pods of each kind.
const ROUNDS: usize = 5;

/// Seconds since the machine's start, as any container reads them, too.
fn uptime(text: &str) -> Result<f64> {
    text.split_whitespace().next().context("no uptime")?.parse().context("an uptime")
}

/// Resident memory of each process of that program on the node, in MiB.
fn memory(program: &str) -> Result<Vec<f64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        if words.next() == Some(program.as_bytes()) && words.next() == Some(b"run") {
            found.push(rss_kib(pid)? as f64 / 1024.0);
        }
    }
    Ok(found)
}

#[tokio::test]
#[ignore = "needs a node: make test-node"]
async fn a_sidecar_keeps_to_what_it_asks_for() -> Result<()> {
    let stage = Installed::shared().await?.stage("costs").await?;
    stage.bucket.put("x", "x", None).await?;
    stage.mount("photos", "").await?;
    let node = stage.installed.node;
    let command = ["sh", "-c", "cat /proc/uptime; sleep 1000"];
    let mut took: [Vec<f64>; 2] = Default::default();
    for round in 0..ROUNDS {
        for (kind, times) in took.iter_mut().enumerate() {
            let name = format!("pod-{kind}-{round}");
            let labels = if kind == 1 { json!({"remotemount.dev/inject": "true"}) } else { json!({}) };
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec(&command)});
            stage.apply(&pod.to_string()).await?;
            let begun = uptime(&fs::read_to_string("/proc/uptime")?)?;
            node.wait_for_pod(&stage.namespace, &name, is_ready).await?;
            times.push(uptime(&node.log(&stage.namespace, &name, "app").await?)? - begun);
        }
    }
    took.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
    let [without, with] = [took[0][ROUNDS / 2], took[1][ROUNDS / 2]];
    println!(
        "from admission to the app's start: {without:.2} s without a sidecar, {with:.2} s with one; each: {took:.2?}"
    );
    let (sidecars, operators) = (memory("remotemount-sidecar")?, memory("remotemount-operator")?);
    println!("memory in MiB: sidecars {sidecars:.1?}, operators {operators:.1?}");
    ensure!(sidecars.len() >= ROUNDS && operators.len() == 2, "{sidecars:?} {operators:?}");
    // What they request by default.
    ensure!(sidecars.iter().chain(&operators).all(|mib| *mib < 64.0), "{sidecars:?} {operators:?}");
    Ok(())
}
