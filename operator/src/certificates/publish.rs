//! The bundle into the MutatingWebhookConfiguration, and back into it when someone overwrites it.
//!
//! A strategic merge patch of one object by name, of the one webhook in it by name: `caBundle`, and for an
//! operator outside the cluster `url` in place of `service`. It makes no configuration: without one (not
//! installed, or injection switched off) it waits. The leader does so.

use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use remotemount_crds::names::{FIELD_MANAGER, WEBHOOK, WEBHOOK_CONFIGURATION};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Bundle;

/// How soon a patch that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps the configuration's `caBundle`.
pub struct Publisher {
    /// The cluster.
    pub client: Client,
    /// What to trust.
    pub bundle: watch::Receiver<Bundle>,
    /// The webhook's URL, path included, for an operator outside the cluster.
    pub url: Option<String>,
}

impl Publisher {
    /// Keeps it until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let configurations: Api<MutatingWebhookConfiguration> = Api::all(self.client.clone());
        let seen = watcher::watch_object(configurations.clone(), WEBHOOK_CONFIGURATION).default_backoff();
        let mut seen = std::pin::pin!(seen);
        let mut current: Option<MutatingWebhookConfiguration> = None;
        let mut failed = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                event = seen.next() => match event {
                    Some(Ok(configuration)) => current = configuration,
                    Some(Err(error)) => tracing::warn!(%error, "the webhook's configuration cannot be watched"),
                    None => return,
                },
                Ok(()) = self.bundle.changed() => {}
                () = tokio::time::sleep(AGAIN), if failed => {}
            }
            let bundle = self.bundle.borrow_and_update().clone();
            let correction = current
                .as_ref()
                .and_then(|configuration| correction(configuration, bundle.as_deref(), self.url.as_deref()));
            failed = false;
            let Some(correction) = correction else { continue };
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            match configurations.patch(WEBHOOK_CONFIGURATION, &params, &Patch::Strategic(correction)).await {
                Ok(configuration) => {
                    tracing::info!(name = WEBHOOK_CONFIGURATION, "the CA was written into the webhook's configuration");
                    current = Some(configuration);
                }
                Err(error) => {
                    failed = true;
                    tracing::warn!(%error, "the webhook's configuration was not corrected");
                }
            }
        }
    }
}

/// The patch that makes `configuration` right; `None` where it is, or where our webhook is not in it.
#[must_use]
pub fn correction(
    configuration: &MutatingWebhookConfiguration,
    bundle: Option<&str>,
    url: Option<&str>,
) -> Option<Value> {
    let webhook = configuration.webhooks.iter().flatten().find(|webhook| webhook.name == WEBHOOK)?;
    let mut wanted = webhook.client_config.clone();
    if let Some(bundle) = bundle {
        wanted.ca_bundle = Some(ByteString(bundle.as_bytes().to_vec()));
    }
    if let Some(url) = url {
        wanted.url = Some(url.to_owned());
        wanted.service = None;
    }
    if wanted == webhook.client_config {
        return None;
    }
    let mut change = json!({"caBundle": wanted.ca_bundle});
    if let (Some(url), Some(change)) = (url, change.as_object_mut()) {
        change.insert("url".to_owned(), json!(url));
        change.insert("service".to_owned(), Value::Null);
    }
    Some(json!({"webhooks": [{"name": WEBHOOK, "clientConfig": change}]}))
}
