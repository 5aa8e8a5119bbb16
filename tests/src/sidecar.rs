//! The real sidecar binary, run as its operator would run it.
//!
//! Owns its folders (mounts, credentials, state: in one temporary folder unless given), its three
//! ports and its log. The folders and ports stay the same over a restart, so a test can kill it and
//! see what the next one makes of what is on disk. Files are put in place by renaming, as the kubelet
//! does it.
//!
//! Never builds the binary: `cargo build --workspace --bins` does. [`crash`] is about the other one.

mod crash;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::manifest::{Manifest, PLAIN_SECRET, SECRET};
use crate::process::{Process, free_port, rss_kib};
use crate::s3_server::{ACCESS_KEY, PLAIN_ACCESS_KEY, PLAIN_SECRET_KEY, SECRET_KEY};
use crate::wire;

const READY_LIMIT: Duration = Duration::from_secs(10);

/// What a sidecar is to be started with.
#[derive(Debug, Default)]
pub struct Builder {
    mounts_dir: Option<PathBuf>,
    credentials_dir: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    manifests: Vec<(String, String)>,
    credentials: Vec<(String, String, String)>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: Option<PathBuf>,
    crash_points: bool,
}

/// A running sidecar; killed when dropped, and its temporary folder removed.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    settings: Settings,
    // Declared last: the process is gone before its folders go.
    _folder: TempDir,
}

/// All it takes to start the same sidecar again.
#[derive(Debug)]
struct Settings {
    binary: PathBuf,
    mounts: PathBuf,
    credentials: PathBuf,
    state: PathBuf,
    log: PathBuf,
    http_port: u16,
    grpc_port: u16,
    admin_port: u16,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Where tests and crash points meet; only for the binary that has such points.
    crash: Option<PathBuf>,
}

impl Builder {
    /// The folder with the manifests.
    pub fn mounts_dir(mut self, dir: &Path) -> Builder {
        self.mounts_dir = Some(dir.to_path_buf());
        self
    }

    /// The folder with the secrets.
    pub fn credentials_dir(mut self, dir: &Path) -> Builder {
        self.credentials_dir = Some(dir.to_path_buf());
        self
    }

    /// The folder the sidecar keeps its state in.
    pub fn state_dir(mut self, dir: &Path) -> Builder {
        self.state_dir = Some(dir.to_path_buf());
        self
    }

    /// A manifest as YAML, in the file `<name>.yaml`.
    pub fn manifest(mut self, name: &str, yaml: &str) -> Builder {
        self.manifests.push((name.to_owned(), yaml.to_owned()));
        self
    }

    /// A manifest in a file named after it.
    pub fn mount(self, manifest: &Manifest) -> Builder {
        self.manifest(manifest.name(), &manifest.to_yaml())
    }

    /// A secret. The secrets `s3-creds` and `s3-plain` for the test servers are there without being asked for.
    pub fn credentials(mut self, secret: &str, access: &str, secret_key: &str) -> Builder {
        self.credentials.push((secret.to_owned(), access.to_owned(), secret_key.to_owned()));
        self
    }

    /// One more command line argument.
    pub fn arg(mut self, argument: &str) -> Builder {
        self.arguments.push(argument.to_owned());
        self
    }

    /// One more environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Builder {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The file its log goes to, such as one that cannot be written.
    pub fn log(mut self, file: &Path) -> Builder {
        self.log = Some(file.to_path_buf());
        self
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Result<Sidecar> {
        let mut sidecar = self.start_unready()?;
        sidecar.wait_ready(READY_LIMIT).await?;
        Ok(sidecar)
    }

    /// Starts it without waiting: for sidecars that are meant not to become ready.
    pub fn start_unready(self) -> Result<Sidecar> {
        let folder = TempDir::with_prefix("remotemount-").context("making a temporary folder")?;
        let under = |given: Option<PathBuf>, name: &str| -> Result<PathBuf> {
            let dir = given.unwrap_or_else(|| folder.path().join(name));
            fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
            Ok(dir)
        };
        let crash = self.crash_points.then(|| under(None, "crash")).transpose()?;
        let settings = Settings {
            binary: binary(self.crash_points)?,
            crash,
            mounts: under(self.mounts_dir, "mounts")?,
            credentials: under(self.credentials_dir, "credentials")?,
            state: under(self.state_dir, "state")?,
            log: self.log.unwrap_or_else(|| folder.path().join("sidecar.log")),
            http_port: free_port()?,
            grpc_port: free_port()?,
            admin_port: free_port()?,
            arguments: self.arguments,
            environment: self.environment,
        };
        let own = [(SECRET, ACCESS_KEY, SECRET_KEY), (PLAIN_SECRET, PLAIN_ACCESS_KEY, PLAIN_SECRET_KEY)];
        for (secret, access, secret_key) in own {
            // A folder given may hold this secret already: it is then the giver's.
            if !settings.credentials.join(secret).exists() {
                settings.write_credentials(secret, access, secret_key)?;
            }
        }
        for (secret, access, secret_key) in &self.credentials {
            settings.write_credentials(secret, access, secret_key)?;
        }
        for (name, yaml) in &self.manifests {
            settings.write_manifest(name, yaml)?;
        }
        Ok(Sidecar { process: settings.launch()?, settings, _folder: folder })
    }
}

impl Sidecar {
    /// A sidecar to be.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// `host:port` of the door files are read through.
    pub fn http_addr(&self) -> String {
        format!("127.0.0.1:{}", self.settings.http_port)
    }

    /// `host:port` of the gRPC door.
    pub fn grpc_address(&self) -> String {
        format!("127.0.0.1:{}", self.settings.grpc_port)
    }

    /// Both doors as clients of the SeaweedFS filer want them: `host:http.grpc`.
    pub fn filer_address(&self) -> String {
        format!("{}.{}", self.http_addr(), self.settings.grpc_port)
    }

    /// `host:port` of the admin door.
    pub fn admin_addr(&self) -> String {
        format!("127.0.0.1:{}", self.settings.admin_port)
    }

    /// The URL of a file; `path` begins with a slash and is taken as it is.
    pub fn http_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http_addr())
    }

    /// The URL of an admin page.
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin_addr())
    }

    /// Waits until `/readyz` answers 200; an error, with the log, after `limit` or if it ends.
    pub async fn wait_ready(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let admin = self.admin_addr();
            let left = deadline.saturating_duration_since(Instant::now());
            let asked = timeout(left, wire::raw(&admin, "GET", "/readyz", &[])).await;
            let last = match asked {
                Ok(Ok(response)) if response.status == 200 => return Ok(()),
                Ok(Ok(response)) => format!("{} {}", response.status, response.text()),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => "no answer to /readyz".to_owned(),
            };
            if Instant::now() >= deadline {
                bail!("not ready after {limit:?}: {last}\n{}", self.process.log_tail());
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("the sidecar ended with {status}:\n{}", self.process.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills it (SIGKILL), as a crash or the OOM killer does.
    pub fn kill9(&mut self) -> Result<()> {
        self.process.kill()?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits; an error if that takes longer than `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.process.terminate(limit).await
    }

    /// Starts it again on the same folders and ports, killing it first if it still runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill9()?;
        self.process = self.settings.launch()?;
        self.wait_ready(READY_LIMIT).await
    }

    /// Writes or replaces a manifest while it runs.
    pub fn write_manifest(&self, name: &str, yaml: &str) -> Result<()> {
        self.settings.write_manifest(name, yaml)
    }

    /// Removes a manifest while it runs.
    pub fn remove_manifest(&self, name: &str) -> Result<()> {
        let path = self.settings.manifest_path(name);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))
    }

    /// Writes or replaces a secret while it runs.
    pub fn write_credentials(&self, secret: &str, access: &str, secret_key: &str) -> Result<()> {
        self.settings.write_credentials(secret, access, secret_key)
    }

    /// The folder with the manifests.
    pub fn mounts_dir(&self) -> &Path {
        &self.settings.mounts
    }

    /// The folder with the secrets.
    pub fn credentials_dir(&self) -> &Path {
        &self.settings.credentials
    }

    /// The folder it keeps its state in.
    pub fn state_dir(&self) -> &Path {
        &self.settings.state
    }

    /// Lets its writes fail from that byte of a file on, as a full disk would; `None` lifts it.
    pub fn limit_file_size(&self, bytes: Option<u64>) -> Result<()> {
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
        let pid = self.process.pid().to_string();
        let status = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={limit}:unlimited")]).status();
        anyhow::ensure!(status.context("running prlimit")?.success(), "prlimit failed");
        Ok(())
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The process, for signals and for waiting until it ends by itself.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> Result<u64> {
        rss_kib(self.pid())
    }

    /// All it has logged, over all restarts.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Settings {
    fn launch(&self) -> Result<Process> {
        // Over a file size limit a write fails, as on a full disk, rather than kill (see `limit_file_size`).
        let mut command = Command::new("env");
        command.arg("--ignore-signal=XFSZ").arg(&self.binary);
        command
            .arg("run")
            .arg("--mounts")
            .arg(&self.mounts)
            .arg("--credentials")
            .arg(&self.credentials)
            .arg("--state")
            .arg(&self.state)
            .args(["--http", &format!("127.0.0.1:{}", self.http_port)])
            .args(["--grpc", &format!("127.0.0.1:{}", self.grpc_port)])
            .args(["--admin", &format!("127.0.0.1:{}", self.admin_port)])
            .args(&self.arguments)
            .envs(self.crash.iter().map(|folder| ("REMOTEMOUNT_CRASH_DIR", folder)))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::spawn(&command, &self.log)
    }

    fn manifest_path(&self, name: &str) -> PathBuf {
        self.mounts.join(format!("{name}.yaml"))
    }

    fn write_manifest(&self, name: &str, yaml: &str) -> Result<()> {
        put_in_place(&self.manifest_path(name), yaml)
    }

    fn write_credentials(&self, secret: &str, access: &str, secret_key: &str) -> Result<()> {
        let dir = self.credentials.join(secret);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        put_in_place(&dir.join("AWS_ACCESS_KEY_ID"), access)?;
        put_in_place(&dir.join("AWS_SECRET_ACCESS_KEY"), secret_key)
    }
}

/// Never shows the sidecar half a file; the name begins with a dot until the file is whole.
fn put_in_place(path: &Path, text: &str) -> Result<()> {
    let name = path.file_name().context("a path without a file name")?;
    let half = path.with_file_name(format!(".{}.half", name.to_string_lossy()));
    fs::write(&half, text).with_context(|| format!("writing {}", half.display()))?;
    fs::rename(&half, path).with_context(|| format!("writing {}", path.display()))
}

/// The binary in the folder the running program was built into; instead of the usual one, `REMOTEMOUNT_SIDECAR`.
fn binary(crash_points: bool) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("REMOTEMOUNT_SIDECAR").filter(|_| !crash_points) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("REMOTEMOUNT_SIDECAR is no file: {}", path.display());
        }
        return Ok(path);
    }
    let (name, build) = crash::binary(crash_points);
    beside(name).with_context(|| format!("run {build}"))
}

/// The binary of that name that was built with this program.
///
/// # Errors
/// It was not built.
pub fn binary_beside(name: &str) -> Result<PathBuf> {
    beside(name).context("run cargo build --workspace --bins")
}

fn beside(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("asking for the own path")?;
    // A binary lies beside the sidecar, a test one folder further down.
    let folders = own.ancestors().skip(1).take(2);
    folders
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("no {name} near {}", own.display()))
}
