//! What tests ask of pods on a node beyond kubectl: to run something in one, to read its log, to kill a container.
//!
//! Signals go through containerd to the container by its id, as the kernel's out-of-memory killer would: the
//! kubelet is not told.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::Api;
use tokio::time::{Instant, sleep};

use super::{Node, POLL, servers, succeed};

/// How long a pod may take: on a busy machine, an image of 90 MB and a sidecar before it.
const POD_LIMIT: Duration = Duration::from_secs(90);

impl Node {
    /// Waits until the pod is as asked, and returns it.
    ///
    /// # Errors
    /// It does not get there within a minute and a half; what it says of itself is in the error, and its events.
    pub async fn wait_for_pod(&self, namespace: &str, name: &str, is: impl Fn(&Pod) -> bool) -> Result<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.plane.client().await?, namespace);
        let deadline = Instant::now() + POD_LIMIT;
        loop {
            let found = pods.get_opt(name).await?;
            if let Some(pod) = found.as_ref().filter(|pod| is(pod)) {
                return Ok(pod.clone());
            }
            if Instant::now() >= deadline {
                let described = self.plane.kubectl(&["describe", "pod", "-n", namespace, name]).await?;
                bail!("pod {namespace}/{name} is not as awaited:\n{}{}", described.stdout, self.logs());
            }
            sleep(POLL).await;
        }
    }

    /// Waits until the pod is ready.
    ///
    /// # Errors
    /// As [`Node::wait_for_pod`].
    pub async fn wait_ready_pod(&self, namespace: &str, name: &str) -> Result<Pod> {
        self.wait_for_pod(namespace, name, is_ready).await
    }

    /// Runs a command in a container and returns what it printed.
    ///
    /// # Errors
    /// It fails; what it said is in the error.
    pub async fn exec(&self, namespace: &str, pod: &str, container: &str, command: &[&str]) -> Result<String> {
        let mut arguments = vec!["exec", "-n", namespace, pod, "-c", container, "--"];
        arguments.extend(command);
        self.plane.kubectl(&arguments).await?.success()
    }

    /// Runs a command in a container, again and again until it succeeds, and returns what it printed then.
    ///
    /// # Errors
    /// It still fails after a minute and a half.
    pub async fn exec_until(&self, namespace: &str, pod: &str, container: &str, command: &[&str]) -> Result<String> {
        let deadline = Instant::now() + POD_LIMIT;
        loop {
            match self.exec(namespace, pod, container, command).await {
                Ok(said) => return Ok(said),
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => sleep(POLL).await,
            }
        }
    }

    /// Waits until that is in a container's log.
    ///
    /// # Errors
    /// It is not within a minute and a half; the log is in the error.
    pub async fn wait_for_log(&self, namespace: &str, pod: &str, container: &str, text: &str) -> Result<()> {
        let deadline = Instant::now() + POD_LIMIT;
        loop {
            let log = self.log(namespace, pod, container).await?;
            if log.contains(text) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("the log of {namespace}/{pod} has no {text:?}:\n{log}");
            }
            sleep(POLL).await;
        }
    }

    /// What a container has said since it was started last.
    ///
    /// # Errors
    /// It has not been started.
    pub async fn log(&self, namespace: &str, pod: &str, container: &str) -> Result<String> {
        self.plane.kubectl(&["logs", "-n", namespace, pod, "-c", container]).await?.success()
    }

    /// Sends a signal by name to the first process of a container.
    ///
    /// # Errors
    /// The container does not run.
    pub async fn signal(&self, namespace: &str, pod: &str, container: &str, signal: &str) -> Result<()> {
        let pods: Api<Pod> = Api::namespaced(self.plane.client().await?, namespace);
        let pod = pods.get(pod).await?;
        let id = container_status(&pod, container).and_then(|status| status.container_id.as_deref());
        let id = id.and_then(|id| id.strip_prefix("containerd://")).context("the container does not run")?;
        let mut ctr = servers::ctr(&self.programs);
        succeed(ctr.args(["--namespace", "k8s.io", "tasks", "kill", "--signal", signal, id])).await?;
        Ok(())
    }
}

/// Whether the pod's condition `Ready` holds.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|one| one.type_ == "Ready" && one.status == "True")
}

/// The status of a container of a pod, an init container or not.
#[must_use]
pub fn container_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.init_container_statuses, &status.container_statuses];
    lists.into_iter().flatten().flatten().find(|status| status.name == name)
}
