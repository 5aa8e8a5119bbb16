//! The operator is killed: sidecars serve on, and new pods wait; it comes back, and knows all again.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::installing::says;
use super::mounting::{pod, sidecar};
use super::tour::{Told, Tour, get, json, until};
use super::{Running, Stage, screen};
use crate::fill;

pub async fn walk(tour: &mut Tour<'_>, stage: &Stage, running: &mut Running) -> Result<()> {
    screen::heading(&format!("Without the operator, with F={}", running.web()?.http_url("")), &[]);
    let (client, mount) = (tour.client.clone(), &stage.example.name);
    let status = running.web()?.admin_url("/status");
    let connected = async || anyhow::Ok(json(&client, &status).await?["control"]["state"] == "connected");

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
    let work = async {
        until("the sidecar is connected again", &connected).await?;
        let control = json(&client, &status).await?["control"].take();
        Ok(Told::text(&format!("control: {control}"), "connected, when the lease of the one killed had run out"))
    };
    tour.step("Sidecars find it by themselves", &shown, work).await?;
    let plane = tour.plane;
    let work = async {
        let settled = async || {
            let object = get(plane, &["rmt", mount]).await?;
            let other = get(plane, &["rmt", "broken"]).await?;
            Ok(object["status"]["sidecars"]["summary"] == "1/1"
                && condition(&object, "Ready", "True", "Available")
                && condition(&other, "Ready", "False", "BucketNotFound"))
        };
        until("the status is as before", settled).await?;
        Ok(Told::text(&plane.kubectl(&["get", "rmt"]).await?.success()?, "as before"))
    };
    tour.step("The mounts", "$ kubectl get rmt", work).await?;
    let title = "The same pod now";
    tour.apply(title, &pod("late", "")).await?;
    let node = sidecar(tour, "late", "And its sidecar").await?;
    running.nodes.push(node);
    let both = ["wait", "--for=jsonpath={.status.sidecars.summary}=2/2", "--timeout=30s", &format!("rmt/{mount}")];
    tour.kubectl("Until the operator has heard from it", &both, says("condition met")).await?;
    tour.table(&["get", "rmt"], mount, &["True", "Available", "2/2"]).await
}

fn condition(object: &Value, name: &str, status: &str, reason: &str) -> bool {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|found| found["type"] == name && found["status"] == status && found["reason"] == reason)
}
