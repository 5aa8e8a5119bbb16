//! What every test stands on: a control plane with Helm, and what the chart renders as objects.

use anyhow::{Context as _, Result};
use remotemount_tests::control_plane::{ControlPlane, Controllers};
use remotemount_tests::helm::{self, Helm};
use remotemount_tests::operator::NAMESPACE;
use serde_json::Value;

/// The release of most tests.
pub const RELEASE: &str = "remotemount";

/// A control plane with Helm.
pub struct Cluster {
    pub plane: ControlPlane,
    pub helm: Helm,
}

impl Cluster {
    /// One of the caller's own, with the namespace that the chart is installed in.
    pub async fn start(controllers: Controllers) -> Result<Self> {
        let plane = ControlPlane::start(controllers).await?;
        plane.create_namespace(NAMESPACE, &[("pod-security.kubernetes.io/enforce", "restricted")]).await?;
        let helm = Helm::new(Some(plane.kubeconfig()))?;
        Ok(Self { plane, helm })
    }

    /// Installs the chart in this repository, or fails with what Helm says.
    pub async fn install(&self, values: &[&str]) -> Result<String> {
        let chart = chart();
        self.helm.run(&[&["install", RELEASE, &chart, "-n", NAMESPACE], values].concat()).await?.success()
    }

    pub async fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.plane.kubectl(&[&["get", "-o", "json"], arguments].concat()).await?.success()?;
        Ok(serde_json::from_str(&text)?)
    }
}

pub fn chart() -> String {
    helm::chart().to_str().context("the chart's path is not text").unwrap().to_owned()
}
