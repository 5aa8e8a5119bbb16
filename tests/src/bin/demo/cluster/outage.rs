//! The operator is killed: sidecars serve on, and new pods wait; it comes back, and knows all again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::installing::says;
use super::mounting::{pod, sidecar};
use super::tour::{Told, Tour, json, until, within};
use super::{Running, Stage, screen};
use crate::fill;

/// How long a sidecar may stay away after several attempts that failed.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a new leader waits for sidecars before it says that they are gone, at least.
const WAITED_FOR: Duration = Duration::from_secs(30);
/// The conditions and when they turned, one a line.
const TRANSITIONS: &str = r#"jsonpath={range .status.conditions[*]}{.type}={.status} {.lastTransitionTime}{"\n"}{end}"#;

pub async fn walk(tour: &mut Tour<'_>, stage: &Stage, running: &mut Running) -> Result<()> {
    screen::heading(&format!("Without the operator, with F={}", running.web()?.http_url("")), &[]);
    let (client, mount) = (tour.client.clone(), &stage.example.name);
    let status = running.web()?.admin_url("/status");
    let connected = async || anyhow::Ok(json(&client, &status).await?["control"]["state"] == "connected");

    let before = tour.plane.kubectl(&["get", "rmt", mount, "-o", TRANSITIONS]).await?.success()?;
    let operator = running.operator()?;
    let shown = format!("$ kill -9 {}", operator.pid());
    let work = async {
        operator.kill()?;
        until("the sidecar has noticed", async || Ok(!connected().await?)).await?;
        Ok(Told::only("gone; the sidecar has noticed"))
    };
    tour.step("The operator is killed", &shown, work).await?;

    let (read, gone) = (fill::picture(2019, 0, 7), fill::picture(2019, 0, 8));
    let path = |key: &str| format!("{}/{key}", stage.example.path);
    let url = running.web()?.http_url(&path(&read));
    let work = async {
        let text = client.get(&url).send().await?.error_for_status()?.text().await?;
        ensure!(text == fill::text(&read), "other bytes than were put: {text:?}");
        Ok(Told::only("200, as it was put"))
    };
    tour.step("A read, all the same", &format!("$ curl $F{}", path(&read)), work).await?;
    let url = running.web()?.http_url(&path(&gone));
    let work = async {
        let status = client.delete(&url).send().await?.status();
        ensure!(status == 204, "{status}");
        ensure!(stage.bucket.head(&gone).await?.is_none(), "{gone} is still in the bucket");
        Ok(Told::only("204; gone in the bucket"))
    };
    tour.step("And a delete", &format!("$ curl -X DELETE $F{}", path(&gone)), work).await?;
    let title = "A new pod is refused, rather than started without its data";
    tour.refused(title, &pod("late", ""), "failed calling webhook").await?;

    let operator = running.operator()?;
    let work = async {
        operator.restart().await?;
        Ok(Told::only(format!("pid {}, ready", operator.pid())))
    };
    tour.step("The operator is started again, as its Deployment would", "$ remotemount-operator run …", work).await?;
    let shown = format!("$ curl {status}   # in it:");
    let begun = Instant::now();
    let work = async {
        // Each attempt that fails doubles the longest pause before the next.
        within(LONGEST_PAUSE, "the sidecar is connected again", &connected).await?;
        let control = json(&client, &status).await?["control"].take();
        Ok(Told::text(&format!("control: {control}"), "connected, when the lease of the one killed had run out"))
    };
    tour.step("Sidecars find it by themselves", &shown, work).await?;
    // What its sidecars have not said yet is not held against a mount, for a while.
    if begun.elapsed() < WAITED_FOR {
        let transitions = ["get", "rmt", mount, "-o", TRANSITIONS];
        let title = "The status has not turned meanwhile: when its conditions did last";
        tour.kubectl(title, &transitions, |printed| {
            ensure!(printed == before, "before the operator was killed it was:\n{before}");
            Ok("as before the operator was killed".to_owned())
        })
        .await?;
    }
    let ready = ["wait", "--for=condition=Ready", "--timeout=30s", &format!("rmt/{mount}")];
    tour.kubectl("Ready", &ready, says("condition met")).await?;
    tour.table(&["get", "rmt"], mount, &["True", "Available", "1/1"]).await?;
    let title = "The same pod now";
    tour.apply(title, &pod("late", "")).await?;
    let node = sidecar(tour, "late", "And its sidecar").await?;
    running.nodes.push(node);
    let both = ["wait", "--for=jsonpath={.status.sidecars.summary}=2/2", "--timeout=30s", &format!("rmt/{mount}")];
    tour.kubectl("Until the operator has heard from it", &both, says("condition met")).await?;
    tour.table(&["get", "rmt"], mount, &["True", "Available", "2/2"]).await
}
