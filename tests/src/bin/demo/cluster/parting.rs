//! `kubectl delete`: propagation stops, then the configuration goes. The bucket is never touched (X9).

use anyhow::{Result, ensure};

use super::changing::deletes;
use super::installing::says;
use super::tour::{Told, Tour, until};
use super::{Running, Stage, screen};
use crate::fill;

pub async fn walk(tour: &mut Tour<'_>, stage: &Stage, running: &Running) -> Result<()> {
    screen::heading("Parting", &[]);
    let (client, mount, plane) = (tour.client.clone(), &stage.example.name, tour.plane);
    let before = stage.bucket.keys("").await?;
    stage.proxy.reset();
    let delete = ["delete", "rmt", mount, "--timeout=30s"];
    tour.kubectl("The mount goes, while its sidecar runs", &delete, says("deleted")).await?;

    let web = running.web()?;
    let path = format!("{}/{}", stage.example.path, fill::picture(2019, 0, 7));
    let url = web.http_url(&path);
    let work = async {
        let status = client.delete(&url).send().await?.status();
        ensure!(status == 403, "{status}");
        let status = client.get(&url).send().await?.status();
        ensure!(status == 200, "{status} of a read");
        Ok(Told::only("403; a read is still answered: 200"))
    };
    tour.step("Its deletes stopped first", &format!("$ curl -X DELETE $F{path}; curl $F{path}"), work).await?;
    let work = async {
        web.sync(plane).await?;
        let gone = async || Ok(client.get(&url).send().await?.status() == 404);
        until("the mount is gone in the sidecar", gone).await?;
        Ok(Told::only("404: the sidecar has let go of the mount"))
    };
    tour.step("The kubelet refreshes the volume", &format!("$ curl $F{path}"), work).await?;
    let work = async {
        let after = stage.bucket.keys("").await?;
        ensure!(after == before, "{} keys, of {} before", after.len(), before.len());
        ensure!(deletes(stage) == 0, "the bucket was asked to delete {} times", deletes(stage));
        Ok(Told::only(format!("{} objects, as before; DELETE requests that reached it: 0", after.len())))
    };
    tour.step("The bucket", &format!("$ aws s3 ls --recursive s3://{} | wc -l", stage.bucket.name), work).await?;
    let all = ["delete", "rmt", "--all", "--timeout=30s"];
    tour.kubectl("The other mounts", &all, says("deleted")).await?;
    let left = ["get", "configmaps", "-l", "app.kubernetes.io/managed-by=remotemount", "-o", "name"];
    tour.kubectl("What the operator made, and has left", &left, |printed| {
        ensure!(printed.is_empty(), "something is left");
        Ok("nothing".to_owned())
    })
    .await?;
    let work = async {
        let said = plane.kubectl(&["get", "rmt"]).await?;
        ensure!(said.status.success() && said.stdout.is_empty(), "mounts are left: {}", said.stdout);
        Ok(Told::text(&said.stderr, "none"))
    };
    tour.step("The mounts", "$ kubectl get rmt", work).await
}
