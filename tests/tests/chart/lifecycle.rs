//! Install, upgrade, roll back, uninstall.

use anyhow::Result;
use remotemount_tests::control_plane::Controllers;

use crate::stage::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_installs_with_its_defaults() -> Result<()> {
    let cluster = Cluster::start(Controllers::None).await?;
    let said = cluster.install(&[]).await?;
    println!("{said}");
    println!("{}", cluster.get(&["deploy,svc,pdb", "-A"]).await?);
    Ok(())
}
