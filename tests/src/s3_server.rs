//! Real S3 servers on loopback, or where pods of a node reach them: SeaweedFS, moto and rclone.
//!
//! Owns how each is started, with all its ports chosen here, who may use it, and when it counts as
//! ready: when it answers a signed ListBuckets. Each is chosen for what it is good at: weed is a
//! whole filer and honours conditional requests, moto keeps keys byte for byte, rclone serves a
//! folder and ignores If-Match.
//!
//! Never stops a server gently: weed takes half a minute for that, and tests keep nothing.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{Process, free_port};
use crate::{bucket, tools, wire};

/// The access key every server accepts.
pub const ACCESS_KEY: &str = "remotemount";
/// The secret that goes with [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "remotemount-secret";
/// The access key of someone who may read and write, and is no administrator: weed asks bucket
/// policies about nobody else when keys are deleted in bulk.
pub const PLAIN_ACCESS_KEY: &str = "remotemount-plain";
/// The secret that goes with [`PLAIN_ACCESS_KEY`].
pub const PLAIN_SECRET_KEY: &str = "remotemount-plain-secret";

const READY_LIMIT: Duration = Duration::from_secs(60);

/// Which program serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// SeaweedFS: master, volume, filer and S3 gateway in one process.
    Weed,
    /// moto: in memory, keys byte for byte, takes any credentials.
    Moto,
    /// rclone: each top folder of [`S3Server::data_dir`] is a bucket; ignores If-Match.
    Rclone,
}

/// A running S3 server; killed when dropped.
#[derive(Debug)]
pub struct S3Server {
    kind: Kind,
    dir: PathBuf,
    address: Ipv4Addr,
    ports: Ports,
    process: Process,
}

/// The ports of a server; only weed has more than the first.
#[derive(Debug, Clone, Copy)]
struct Ports {
    s3: u16,
    s3_grpc: u16,
    master: u16,
    master_grpc: u16,
    volume: u16,
    volume_grpc: u16,
    filer: u16,
    filer_grpc: u16,
}

impl S3Server {
    /// Starts a server that keeps its data and log under `dir`, and waits until it is ready.
    pub async fn start(kind: Kind, dir: &Path) -> Result<S3Server> {
        Self::start_at(Ipv4Addr::LOCALHOST, kind, dir).await
    }

    /// The same at another address of this machine, such as [`crate::node::ADDRESS`] in a node's network.
    pub async fn start_at(address: Ipv4Addr, kind: Kind, dir: &Path) -> Result<S3Server> {
        let ports = Ports::pick()?;
        let dir = dir.to_path_buf();
        let process = launch(kind, &dir, address, ports).await?;
        let mut server = S3Server { kind, dir, address, ports, process };
        server.wait_ready().await?;
        Ok(server)
    }

    /// What clients are told: `http://ADDRESS:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}:{}", self.address, self.ports.s3)
    }

    /// Which program it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `host:port` of weed's filer; an error for the others.
    pub fn filer_address(&self) -> Result<String> {
        self.weed_address(self.ports.filer)
    }

    /// Weed's filer as its own clients want it, `host:http.grpc`; an error for the others.
    pub fn filer_client_address(&self) -> Result<String> {
        Ok(format!("{}.{}", self.filer_address()?, self.ports.filer_grpc))
    }

    /// `host:port` of weed's master; an error for the others.
    pub fn master_address(&self) -> Result<String> {
        self.weed_address(self.ports.master)
    }

    fn weed_address(&self, port: u16) -> Result<String> {
        if self.kind != Kind::Weed {
            bail!("{:?} has neither filer nor master", self.kind);
        }
        Ok(format!("{}:{port}", self.address))
    }

    /// The folder it keeps its data in.
    pub fn data_dir(&self) -> PathBuf {
        data_dir(&self.dir)
    }

    /// The process, to look at its pid and log or to stop and continue it by signal.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Kills it, as an outage does. Its ports stay its own.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        Ok(())
    }

    /// Kills it if it runs and starts it again on the same data and ports. Moto forgets all.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill()?;
        self.process = launch(self.kind, &self.dir, self.address, self.ports).await?;
        self.wait_ready().await
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let client = bucket::client_without_retries(&self.endpoint());
        let deadline = Instant::now() + READY_LIMIT;
        loop {
            let last = match client.list_buckets().send().await {
                Ok(_) => match self.can_store().await {
                    Ok(()) => return Ok(()),
                    Err(error) => format!("{error:#}"),
                },
                Err(error) => format!("{error:?}"),
            };
            if let Some(status) = self.process.try_wait()? {
                bail!("{:?} ended with {status}:\n{}", self.kind, self.process.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("{:?} is not ready after {READY_LIMIT:?}: {last}\n{}", self.kind, self.process.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Weed's gateway answers before its volume server has room to offer; a put would then fail.
    async fn can_store(&self) -> Result<()> {
        if self.kind != Kind::Weed {
            return Ok(());
        }
        let response = wire::raw(&self.master_address()?, "GET", "/dir/status", &[]).await?;
        let status: serde_json::Value =
            serde_json::from_slice(&response.body).context("reading the master's status")?;
        match status["Topology"]["Max"].as_u64() {
            Some(volumes) if volumes > 0 => Ok(()),
            _ => bail!("no volume server has registered: {status}"),
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        // A drop cannot report; the process's own drop tries once more.
        let _ = self.process.kill();
        if self.kind == Kind::Weed {
            // A killed weed leaves its gRPC sockets behind, always in /tmp.
            for (part, port) in [
                ("s3", self.ports.s3_grpc),
                ("master", self.ports.master_grpc),
                ("volume", self.ports.volume_grpc),
                ("filer", self.ports.filer_grpc),
            ] {
                let _ = fs::remove_file(format!("/tmp/seaweedfs-{part}-grpc-{port}.sock"));
            }
        }
    }
}

impl Ports {
    fn pick() -> Result<Ports> {
        Ok(Ports {
            s3: free_port()?,
            s3_grpc: free_port()?,
            master: free_port()?,
            master_grpc: free_port()?,
            volume: free_port()?,
            volume_grpc: free_port()?,
            filer: free_port()?,
            filer_grpc: free_port()?,
        })
    }
}

fn data_dir(dir: &Path) -> PathBuf {
    dir.join("data")
}

async fn launch(kind: Kind, dir: &Path, address: Ipv4Addr, ports: Ports) -> Result<Process> {
    let data = data_dir(dir);
    fs::create_dir_all(&data).with_context(|| format!("making {}", data.display()))?;
    let program = match kind {
        Kind::Weed => "weed",
        Kind::Moto => "moto_server",
        Kind::Rclone => "rclone",
    };
    // The first look-up may download the programs, for minutes.
    let path = tokio::task::spawn_blocking(move || tools::bin(program)).await.context("looking for a program")??;
    let mut command = Command::new(path);
    command.current_dir(dir);
    match kind {
        Kind::Weed => weed_arguments(&mut command, dir, &data, address, ports)?,
        Kind::Moto => {
            command.args(["-H", &address.to_string(), "-p", &ports.s3.to_string()]);
        }
        Kind::Rclone => {
            command
                .args(["serve", "s3", "--addr"])
                .arg(format!("{address}:{}", ports.s3))
                .arg("--auth-key")
                .arg(format!("{ACCESS_KEY},{SECRET_KEY}"))
                .arg(&data)
                // Whoever runs the tests may have a configuration of their own.
                .env("RCLONE_CONFIG", dir.join("rclone.conf"))
                .env("RCLONE_CACHE_DIR", dir.join("rclone-cache"));
        }
    }
    Process::spawn(&command, &dir.join("server.log"))
}

fn weed_arguments(command: &mut Command, dir: &Path, data: &Path, address: Ipv4Addr, ports: Ports) -> Result<()> {
    let identities = serde_json::json!({"identities": [{
        "name": "remotemount",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }, {
        "name": "plain",
        "credentials": [{"accessKey": PLAIN_ACCESS_KEY, "secretKey": PLAIN_SECRET_KEY}],
        "actions": ["Read", "Write", "List", "Tagging"],
    }]});
    let config = dir.join("s3.json");
    fs::write(&config, identities.to_string()).with_context(|| format!("writing {}", config.display()))?;
    command
        .arg("server")
        .arg(format!("-dir={}", data.display()))
        .arg(format!("-ip={address}"))
        .arg(format!("-ip.bind={address}"))
        .args(["-filer", "-s3"])
        .arg(format!("-s3.config={}", config.display()))
        .args([
            "-s3.iam=false",
            // Servers of no use here that would take fixed ports.
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            // A restarted master waits this long (10 s by default) before it elects itself.
            "-master.electionTimeout=1s",
            "-master.volumeSizeLimitMB=128",
            "-volume.max=4000",
        ])
        .arg(format!("-s3.port={}", ports.s3))
        .arg(format!("-s3.port.grpc={}", ports.s3_grpc))
        .arg(format!("-master.port={}", ports.master))
        .arg(format!("-master.port.grpc={}", ports.master_grpc))
        .arg(format!("-volume.port={}", ports.volume))
        .arg(format!("-volume.port.grpc={}", ports.volume_grpc))
        .arg(format!("-filer.port={}", ports.filer))
        .arg(format!("-filer.port.grpc={}", ports.filer_grpc))
        // Else they lie about in /tmp after a kill.
        .arg(format!("-filer.localSocket={}/filer.sock", dir.display()))
        .arg(format!("-s3.localSocket={}/s3.sock", dir.display()));
    Ok(())
}
