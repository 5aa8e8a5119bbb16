//! SeaweedFS's filer with a lazy remote mount of the same bucket: what is compared with.
//!
//! A second SeaweedFS, apart from the one that is the remote: master, volume server and filer in one
//! process, its remote mount made with `weed shell` as its manual says. It is allowed to reach
//! loopback addresses, which it refuses otherwise, so that it can also keep the data it has read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use remotemount_tests::process::{Process, free_port};
use remotemount_tests::s3_server::{ACCESS_KEY, SECRET_KEY};
use remotemount_tests::wire;
use tokio::io::AsyncWriteExt as _;

/// Where the bucket appears in it.
pub const PATH: &str = "/data";
const READY_LIMIT: Duration = Duration::from_secs(60);

/// A running filer with its mount; killed when dropped.
pub struct Seaweed {
    process: Process,
    weed: PathBuf,
    master: u16,
    filer: u16,
    grpc: [(&'static str, u16); 3],
}

impl Seaweed {
    /// Starts it under `folder` and mounts `bucket` of the S3 server at `endpoint`.
    pub async fn start(weed: &Path, folder: &Path, endpoint: &str, bucket: &str) -> Result<Seaweed> {
        let data = folder.join("data");
        fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
        let (master, volume, filer) = (free_port()?, free_port()?, free_port()?);
        let grpc = [("master", free_port()?), ("volume", free_port()?), ("filer", free_port()?)];
        let [(_, master_grpc), (_, volume_grpc), (_, filer_grpc)] = grpc;
        let mut command = Command::new(weed);
        command
            .current_dir(folder)
            .arg("server")
            .arg(format!("-dir={}", data.display()))
            .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-master.telemetry=false"])
            .args(["-master.electionTimeout=1s", "-master.volumeSizeLimitMB=128", "-volume.max=200"])
            .args(["-filer.allowUntrustedRemoteEndpoints", "-volume.allowUntrustedRemoteEndpoints"])
            .args([format!("-master.port={master}"), format!("-master.port.grpc={master_grpc}")])
            .args([format!("-volume.port={volume}"), format!("-volume.port.grpc={volume_grpc}")])
            .args([format!("-filer.port={filer}"), format!("-filer.port.grpc={filer_grpc}")])
            .arg(format!("-filer.localSocket={}/filer.sock", folder.display()));
        let process = Process::spawn(&command, &folder.join("server.log"))?;
        let mut seaweed = Seaweed { process, weed: weed.to_owned(), master, filer, grpc };
        seaweed.wait_ready().await?;
        let orders = format!(
            "remote.configure -name=remote1 -type=s3 -s3.access_key={ACCESS_KEY} -s3.secret_key={SECRET_KEY} \
             -s3.region=us-east-1 -s3.endpoint={endpoint} -s3.force_path_style=true\n\
             remote.mount -dir={PATH} -remote=remote1/{bucket} -metadataStrategy=lazy\n\
             remote.mount\n"
        );
        let said = seaweed.shell(&orders).await?;
        // The last order lists the mounts.
        if !said.contains(&format!("\"{PATH}\"")) {
            bail!("weed shell made no mount:\n{said}");
        }
        Ok(seaweed)
    }

    /// The URL of a key of the bucket.
    pub fn url(&self, key: &str) -> String {
        format!("http://127.0.0.1:{}{PATH}/{key}", self.filer)
    }

    /// Has it learn all that the bucket has below a key.
    pub async fn learn(&self, key: &str) -> Result<()> {
        self.shell(&format!("remote.meta.sync -dir={PATH}/{key}\n")).await?;
        Ok(())
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its volume server must have room, or it cannot keep what it reads.
    async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let filer = wire::raw(&format!("127.0.0.1:{}", self.filer), "GET", "/", &[]).await;
            let status = wire::raw(&format!("127.0.0.1:{}", self.master), "GET", "/dir/status", &[]).await;
            let room = status.ok().and_then(|answer| serde_json::from_slice::<serde_json::Value>(&answer.body).ok());
            let room = room.and_then(|status| status["Topology"]["Max"].as_u64()).unwrap_or(0);
            if filer.is_ok_and(|answer| answer.status == 200) && room > 0 {
                return Ok(());
            }
            let ended = self.process.try_wait()?.is_some();
            if ended || Instant::now() >= deadline {
                bail!("SeaweedFS's filer does not serve:\n{}", self.process.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Gives orders to `weed shell`; what it said.
    async fn shell(&self, orders: &str) -> Result<String> {
        let [(_, master), _, (_, filer)] = self.grpc;
        let masters = format!("-master=127.0.0.1:{}.{master}", self.master);
        shell(&self.weed, &[masters, format!("-filer=127.0.0.1:{}.{filer}", self.filer)], orders).await
    }
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        // A drop cannot report; the process's own drop tries once more.
        let _ = self.process.kill();
        for (part, port) in self.grpc {
            // A killed weed leaves its gRPC sockets behind, always in /tmp.
            let _ = fs::remove_file(format!("/tmp/seaweedfs-{part}-grpc-{port}.sock"));
        }
    }
}

async fn shell(weed: &Path, arguments: &[String], orders: &str) -> Result<String> {
    let mut child = tokio::process::Command::new(weed)
        .arg("shell")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting weed shell")?;
    let mut stdin = child.stdin.take().context("weed shell takes no input")?;
    stdin.write_all(orders.as_bytes()).await.context("writing to weed shell")?;
    drop(stdin);
    let output =
        tokio::time::timeout(READY_LIMIT, child.wait_with_output()).await.context("weed shell does not end")?;
    let output = output.context("waiting for weed shell")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if !output.status.success() {
        bail!("weed shell: {}:\n{said}", output.status);
    }
    Ok(said)
}
