//! The mount in use: a read, a delete that its policy refuses, and one that reaches the bucket.
//!
//! The change of policy goes to the running sidecar by the control link; the file in its volume is not
//! refreshed meanwhile, which is what the step after it shows.

use anyhow::{Context as _, Result, ensure};
use remotemount_tests::proxy::count::Operation;

use super::installing::says;
use super::tour::{Told, Tour, json, until};
use super::{Running, Stage, screen};
use crate::fill;

pub async fn walk(tour: &mut Tour<'_>, stage: &Stage, running: &Running) -> Result<()> {
    let web = running.web()?;
    screen::heading(&format!("Using it, with F={}", web.http_url("")), &[]);
    let (client, mount, proxy) = (tour.client.clone(), &stage.example.name, &stage.proxy);
    let key = fill::picture(2019, 0, 42);
    let path = format!("{}/{key}", stage.example.path);
    let url = web.http_url(&path);
    proxy.reset();
    let work = async {
        let text = client.get(&url).send().await?.error_for_status()?.text().await?;
        ensure!(text == fill::text(&key), "other bytes than were put: {text:?}");
        proxy.quiet().await;
        let of = |operation| proxy.count(operation);
        let cost = format!("HEAD {}, LIST {}, GET {}", of(Operation::Head), of(Operation::List), of(Operation::Get));
        Ok(Told::text(&text, format!("200; it cost the bucket {cost}")))
    };
    tour.step("A read through the sidecar", &format!("$ curl $F{path}"), work).await?;

    let work = async {
        let answer = client.delete(&url).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status == 403 && text.contains("DeleteDenied"), "{status}: {text}");
        ensure!(deletes(stage) == 0, "the bucket was asked to delete");
        Ok(Told::text(&text, "403; the bucket was not asked"))
    };
    tour.step("A delete, while the mount says Deny", &format!("$ curl -X DELETE $F{path}"), work).await?;

    let patch = ["patch", "rmt", mount, "--type=merge", "-p", r#"{"spec": {"deletePolicy": "Propagate"}}"#];
    tour.kubectl("The mount is switched to Propagate", &patch, says("patched")).await?;
    let status = web.admin_url("/status");
    let work = async {
        let taken = async || Ok(json(&client, &status).await?["mounts"][0]["deletes"]["policy"] == "Propagate");
        let time = until("the policy is in force", taken).await?;
        let mount = json(&client, &status).await?["mounts"][0].take();
        ensure!(mount["source"] == "link", "it did not come by the link: {}", mount["source"]);
        let text = format!(
            "deletes.policy: {}, manifestGeneration: {}, source: {}",
            mount["deletes"]["policy"], mount["manifestGeneration"], mount["source"]
        );
        Ok(Told::text(&text, format!("by the control link, {} after the patch had returned", screen::time(time))))
    };
    tour.step("It is in force in the running sidecar", &format!("$ curl {status}   # in it:"), work).await?;
    let ready = ["wait", "--for=condition=Ready", "--timeout=30s", &format!("rmt/{mount}")];
    tour.kubectl("Until the operator has heard of that: Ready, of the new generation", &ready, says("condition met"))
        .await?;
    tour.table(&["get", "rmt", "-o", "wide"], mount, &["True", "Available", "1/1", "Propagate"]).await?;

    let work = async {
        let answer = client.delete(&url).send().await?;
        let status = answer.status();
        ensure!(status == 204, "{status}: {}", answer.text().await?);
        let count =
            answer.headers().get("x-remotemount-deleted").context("no X-RemoteMount-Deleted")?.to_str()?.to_owned();
        ensure!(stage.bucket.head(&key).await?.is_none(), "{key} is still in the bucket");
        Ok(Told::only(format!("204; X-RemoteMount-Deleted: {count}; gone in the bucket")))
    };
    tour.step("The same delete again", &format!("$ curl -i -X DELETE $F{path}"), work).await
}

/// How often the bucket was asked to delete since it was last counted anew.
pub fn deletes(stage: &Stage) -> usize {
    stage.proxy.count(Operation::Delete) + stage.proxy.count(Operation::DeleteMany)
}
