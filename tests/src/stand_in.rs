//! Stands in for a node: runs the sidecar of one real pod as a process, from exactly what was injected.
//!
//! Image and isolation are what a node would add; everything else is the pod's: arguments, environment,
//! volumes with ConfigMaps, Secrets and tokens as the API server has them, written and swapped as the
//! kubelet does it ([`StandIn::sync`] is its refresh). Two things differ, because processes here share one
//! machine: paths lie below a temporary folder, and each loopback port is a free one.
//!
//! Never reads a manifest that is not in a volume of the pod, and never writes to the API server but
//! for the pod's own token.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Container, KeyToPath, Pod, Secret, Volume, VolumeMount};
use kube::api::Api;
use kube::{Client, ResourceExt as _};
use remotemount_crds::names;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::control_plane::ControlPlane;
use crate::process::{Process, free_port};
use crate::sidecar::binary_beside;

const READY_LIMIT: Duration = Duration::from_secs(20);

/// A pod's sidecar, running; killed when dropped.
#[derive(Debug)]
pub struct StandIn {
    process: Process,
    pod: Pod,
    container: Container,
    ports: BTreeMap<String, u16>,
    log: PathBuf,
    // Declared last: the process is gone before its folder goes.
    folder: TempDir,
}

impl StandIn {
    /// Runs the sidecar of the pod `name` and waits for what its hook waits for.
    ///
    /// # Errors
    /// The pod has no sidecar, a volume cannot be had, or the sidecar does not become ready; its log is in the error.
    pub async fn run(plane: &ControlPlane, namespace: &str, name: &str) -> Result<StandIn> {
        let mut node = Self::start(plane, namespace, name).await?;
        node.wait_ready().await?;
        Ok(node)
    }

    /// Runs the sidecar of the pod `name` without waiting for it.
    ///
    /// # Errors
    /// The pod has no sidecar, or a volume cannot be had.
    pub async fn start(plane: &ControlPlane, namespace: &str, name: &str) -> Result<StandIn> {
        let pods: Api<Pod> = Api::namespaced(plane.client().await?, namespace);
        let pod = pods.get(name).await.with_context(|| format!("pod {namespace}/{name}"))?;
        let spec = pod.spec.as_ref().context("a pod without a spec")?;
        let container = spec.init_containers.iter().flatten().find(|container| container.name == names::CONTAINER);
        let container = container.with_context(|| format!("pod {namespace}/{name} has no sidecar"))?.clone();
        let folder = TempDir::with_prefix("remotemount-stand-in-").context("making a temporary folder")?;
        let mut ports = BTreeMap::new();
        for argument in container.args.iter().flatten().filter(|argument| argument.starts_with("127.0.0.1:")) {
            ports.insert(argument.clone(), free_port()?);
        }
        let log = folder.path().join("sidecar.log");
        mount(plane, &pod, &container, folder.path()).await?;
        let process = launch(&pod, &container, &ports, folder.path(), &log)?;
        Ok(StandIn { process, pod, container, ports, log, folder })
    }

    /// Writes into the volumes what ConfigMaps, Secrets and tokens are now, as the kubelet does once a minute or so.
    ///
    /// # Errors
    /// A volume cannot be had.
    pub async fn sync(&self, plane: &ControlPlane) -> Result<()> {
        mount(plane, &self.pod, &self.container, self.folder.path()).await
    }

    /// Waits until the hook's question is answered well.
    ///
    /// # Errors
    /// The sidecar ends, or is not ready in time; its log is in the error.
    pub async fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        while !self.started().await? {
            if let Some(status) = self.process.try_wait()? {
                bail!("the sidecar ended with {status}:\n{}", self.process.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("the sidecar is not ready after {READY_LIMIT:?}:\n{}", self.process.log_tail());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Asks once what the container's hook waits for.
    async fn started(&self) -> Result<bool> {
        let hook = self.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
        let command = hook.and_then(|hook| hook.exec.as_ref()?.command.clone());
        let command = command.context("the container has no hook by command")?;
        let wait = command.iter().position(|argument| argument == "--wait").context("the hook does not wait")?;
        let arguments = command[1..wait].iter().map(|argument| self.local(argument));
        let status =
            tokio::process::Command::new(binary_beside("remotemount-sidecar")?).args(arguments).output().await?;
        Ok(status.status.success())
    }

    /// The URL of a path at the HTTP door.
    #[must_use]
    pub fn http_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.flag("--http"))
    }

    /// The URL of an admin page.
    #[must_use]
    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.flag("--admin"))
    }

    /// The pod, as it was when it was started.
    #[must_use]
    pub const fn pod(&self) -> &Pod {
        &self.pod
    }

    /// What the sidecar was started with, less its name: the container's arguments, as they are on this machine.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        self.container.args.iter().flatten().map(|argument| self.local(argument)).collect()
    }

    /// All the sidecar has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Sends the sidecar a signal by name, such as `STOP` or `CONT`.
    ///
    /// # Errors
    /// It has ended, or cannot be signalled.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        self.process.signal(name)
    }

    /// Sends SIGKILL to the sidecar and waits for its end.
    ///
    /// # Errors
    /// It cannot be killed.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.process.kill()
    }

    /// Starts it again, as its `restartPolicy: Always` asks.
    ///
    /// # Errors
    /// As [`StandIn::run`].
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = launch(&self.pod, &self.container, &self.ports, self.folder.path(), &self.log)?;
        self.wait_ready().await
    }

    fn flag(&self, flag: &str) -> String {
        let mut arguments = self.container.args.iter().flatten().skip_while(|argument| *argument != flag);
        arguments.nth(1).map_or_else(String::new, |argument| self.local(argument))
    }

    fn local(&self, argument: &str) -> String {
        local(argument, &self.container, &self.ports, self.folder.path())
    }
}

/// An argument of the container, as it is on this machine.
fn local(argument: &str, container: &Container, ports: &BTreeMap<String, u16>, folder: &Path) -> String {
    if let Some(port) = ports.get(argument) {
        return format!("127.0.0.1:{port}");
    }
    // `/etc/remotemount/credentials` is above its mounts.
    let mounted = container.volume_mounts.iter().flatten();
    let below = mounted
        .into_iter()
        .any(|mount| mount.mount_path.starts_with(argument) || argument.starts_with(&mount.mount_path));
    if argument.starts_with('/') && below {
        return format!("{}{argument}", folder.display());
    }
    argument.to_owned()
}

fn launch(
    pod: &Pod,
    container: &Container,
    ports: &BTreeMap<String, u16>,
    folder: &Path,
    log: &Path,
) -> Result<Process> {
    let mut command = Command::new(binary_beside("remotemount-sidecar")?);
    command.args(container.args.iter().flatten().map(|argument| local(argument, container, ports, folder)));
    for variable in container.env.iter().flatten() {
        let field = variable.value_from.as_ref().and_then(|from| from.field_ref.as_ref());
        let value = match field.map(|field| field.field_path.as_str()) {
            Some("metadata.name") => pod.name_any(),
            Some("metadata.namespace") => pod.namespace().unwrap_or_default(),
            Some("metadata.uid") => pod.uid().unwrap_or_default(),
            Some("spec.nodeName") => String::new(),
            Some(other) => bail!("a node would know {other}"),
            None => variable.value.clone().unwrap_or_default(),
        };
        command.env(&variable.name, value);
    }
    Process::spawn(&command, log)
}

/// Writes every volume that the container mounts.
async fn mount(plane: &ControlPlane, pod: &Pod, container: &Container, folder: &Path) -> Result<()> {
    let client = plane.client().await?;
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let volumes: BTreeMap<&str, &Volume> = volumes.map(|volume| (volume.name.as_str(), volume)).collect();
    // The ServiceAccount admission mounts what API clients need everywhere; a sidecar is none, and has to do without.
    let own = |mount: &&VolumeMount| !mount.name.starts_with("kube-api-access-");
    for mount in container.volume_mounts.iter().flatten().filter(own) {
        let volume = volumes.get(mount.name.as_str()).with_context(|| format!("no volume {}", mount.name))?;
        let target = folder.join(mount.mount_path.trim_start_matches('/'));
        fs::create_dir_all(&target)?;
        if volume.empty_dir.is_none() {
            let files = files(plane, &client, pod, volume).await.with_context(|| format!("volume {}", mount.name))?;
            swap_in(&target, &files)?;
        }
    }
    Ok(())
}

type Files = BTreeMap<String, Vec<u8>>;

async fn files(plane: &ControlPlane, client: &Client, pod: &Pod, volume: &Volume) -> Result<Files> {
    let namespace = pod.namespace().unwrap_or_default();
    let mut files = Files::new();
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().context("a Secret without a name")?;
        let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        let data = api.get_opt(name).await?.map(|secret| secret.data.unwrap_or_default());
        let data = data.map(|data| data.into_iter().map(|(key, value)| (key, value.0)).collect());
        take(&mut files, data, source.items.as_deref(), source.optional, name)?;
    }
    for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        if let Some(map) = &source.config_map {
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
            let data = api.get_opt(&map.name).await?.map(|found| found.data.unwrap_or_default());
            let data = data.map(|data| data.into_iter().map(|(key, value)| (key, value.into_bytes())).collect());
            take(&mut files, data, map.items.as_deref(), map.optional, &map.name)?;
        }
        if let Some(token) = &source.service_account_token {
            let audience = token.audience.as_deref().context("a token without an audience")?;
            let token_text = plane.pod_token(&namespace, &pod.name_any(), audience).await?;
            files.insert(token.path.clone(), token_text.into_bytes());
        }
    }
    Ok(files)
}

/// What of an object's data a volume shows.
fn take(
    files: &mut Files,
    data: Option<BTreeMap<String, Vec<u8>>>,
    items: Option<&[KeyToPath]>,
    optional: Option<bool>,
    name: &str,
) -> Result<()> {
    let Some(mut data) = data else {
        anyhow::ensure!(optional == Some(true), "{name} does not exist: the pod would wait for it");
        return Ok(());
    };
    match items {
        None => files.append(&mut data),
        Some(items) => {
            for item in items {
                match data.remove(&item.key) {
                    Some(value) => drop(files.insert(item.path.clone(), value)),
                    None => anyhow::ensure!(optional == Some(true), "{name} has no key {}", item.key),
                }
            }
        }
    }
    Ok(())
}

/// As the kubelet writes a volume: all files into a new folder, which a link is swapped to.
fn swap_in(target: &Path, files: &Files) -> Result<()> {
    let data = target.join("..data");
    let before = fs::read_link(&data).ok();
    if let Some(before) = &before {
        let same =
            |(path, value): (&String, &Vec<u8>)| fs::read(target.join(before).join(path)).ok().as_ref() == Some(value);
        let count = fs::read_dir(target.join(before))?.count();
        if count == files.len() && files.iter().all(same) {
            return Ok(());
        }
    }
    let number =
        before.as_ref().and_then(|before| before.to_str()?.strip_prefix("..")?.parse::<u64>().ok()).unwrap_or(0) + 1;
    let folder = target.join(format!("..{number}"));
    fs::create_dir(&folder)?;
    for (path, value) in files {
        fs::write(folder.join(path), value)?;
    }
    let link = target.join("..data_tmp");
    symlink(format!("..{number}"), &link)?;
    fs::rename(&link, &data)?;
    for path in files.keys() {
        if fs::symlink_metadata(target.join(path)).is_err() {
            symlink(Path::new("..data").join(path), target.join(path))?;
        }
    }
    // Names that are no longer there go after the swap, and then the folder they were in.
    for entry in fs::read_dir(target)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !files.contains_key(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    if let Some(before) = before {
        fs::remove_dir_all(target.join(before))?;
    }
    Ok(())
}
