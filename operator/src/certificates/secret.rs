//! The CA's Secret, and the task that keeps Secret, leaf and bundle as they should be.
//!
//! The Secret is created, never applied: of two replicas that start at once one creates it and the other
//! reads it. One that is there and empty is filled: whoever applies all that the chart renders, hooks included,
//! makes such a one. Later changes carry the version that was read, so that a step is made once. A Secret that
//! cannot be had changes nothing: the leaf is renewed from what is in memory, and the next try comes soon.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt as _};
use remotemount_crds::names::{CA_SECRET, FIELD_MANAGER, MANAGED_BY, MANAGED_BY_LABEL};
use tokio_util::sync::CancellationToken;

use super::authority::Authorities;
use super::leaf::Leaf;
use super::{CertificateError, Certificates, Swap};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(15);
/// How many ticks there are between two readings of the Secret.
const READ_EVERY: u32 = 20;

/// Keeps the operator's own certificates.
pub struct Keeper {
    secrets: Api<Secret>,
    namespace: String,
    names: Vec<String>,
    authorities: Authorities,
    leaf: Leaf,
    swap: Swap,
}

impl Keeper {
    /// Reads the CA of `namespace`, or makes it, and issues the first leaf for `names` (DNS names and IP addresses).
    ///
    /// # Errors
    /// When the Secret cannot be had, or is not one of ours.
    pub async fn start(
        client: Client,
        namespace: &str,
        names: Vec<String>,
        now: Timestamp,
    ) -> Result<(Certificates, Self), CertificateError> {
        let secrets: Api<Secret> = Api::namespaced(client, namespace);
        let authorities = read_or_create(&secrets, namespace, || Authorities::create(now)).await?;
        let leaf = Leaf::issue(authorities.signing(now), &names, now)?;
        let (certificates, swap) = Certificates::new(leaf.key.clone(), Some(authorities.bundle().into()));
        Ok((certificates, Self { secrets, namespace: namespace.to_owned(), names, authorities, leaf, swap }))
    }

    /// Keeps them until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = 0_u32;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
            }
            tick = tick.wrapping_add(1);
            let now = Timestamp::now();
            if tick.is_multiple_of(READ_EVERY) || self.leaf.due(self.authorities.signing(now), now) {
                // A silence must not keep the leaf from being renewed.
                match tokio::time::timeout(TICK, self.read(now)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(error = %chain(&error), "the CA was not read again"),
                    Err(_) => tracing::warn!("the CA was not read again: the API server gave no answer"),
                }
            }
            if let Err(error) = self.renew(now) {
                tracing::error!(error = %chain(&error), "the certificate was not renewed");
            }
        }
    }

    /// Reads the Secret, takes the step that is due, and trusts what is in it.
    ///
    /// # Errors
    /// When the Secret cannot be had or written.
    pub async fn read(&mut self, now: Timestamp) -> Result<(), CertificateError> {
        // Somebody may delete the Secret: what is trusted already is put back, so that nobody has to learn of another.
        let mut held = read_or_create(&self.secrets, &self.namespace, || Ok(self.authorities.clone())).await?;
        if let Some(due) = held.due(now)? {
            let secret = self.secrets.get(CA_SECRET).await.map_err(api(&self.namespace))?;
            // Only what was judged is replaced; another replica's step stands.
            if data(&secret) == held.write() {
                let replacement = Secret { data: Some(bytes(&due)), ..secret };
                match self.secrets.replace(CA_SECRET, &PostParams::default(), &replacement).await {
                    Ok(_) => {
                        tracing::info!(secret = CA_SECRET, "the CA moved on by a step");
                        held = due;
                    }
                    Err(kube::Error::Api(status)) if status.is_conflict() => {}
                    Err(error) => return Err(api(&self.namespace)(error)),
                }
            }
        }
        self.authorities = held;
        self.swap.trust(Some(self.authorities.bundle().into()));
        Ok(())
    }

    /// Issues another leaf where one is due.
    ///
    /// # Errors
    /// When it cannot be made; the old one stays.
    pub fn renew(&mut self, now: Timestamp) -> Result<(), CertificateError> {
        let authority = self.authorities.signing(now);
        if self.leaf.due(authority, now) {
            self.leaf = Leaf::issue(authority, &self.names, now)?;
            self.swap.leaf(self.leaf.key.clone());
            tracing::info!("the certificate was renewed");
        }
        Ok(())
    }
}

async fn read_or_create(
    secrets: &Api<Secret>,
    namespace: &str,
    make: impl FnOnce() -> Result<Authorities, CertificateError>,
) -> Result<Authorities, CertificateError> {
    if let Some(secret) = secrets.get_opt(CA_SECRET).await.map_err(api(namespace))? {
        if !data(&secret).is_empty() {
            return Authorities::read(&data(&secret));
        }
        let authorities = make()?;
        let filled = Secret { data: Some(bytes(&authorities)), ..secret };
        return match secrets.replace(CA_SECRET, &PostParams::default(), &filled).await {
            Ok(_) => Ok(authorities),
            Err(kube::Error::Api(status)) if status.is_conflict() => read(secrets, namespace).await,
            Err(error) => Err(api(namespace)(error)),
        };
    }
    let authorities = make()?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(CA_SECRET.to_owned()),
            labels: Some([(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned())].into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(bytes(&authorities)),
        ..Secret::default()
    };
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match secrets.create(&params, &secret).await {
        Ok(secret) => {
            tracing::info!(secret = %secret.name_any(), "the CA was made");
            Ok(authorities)
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => read(secrets, namespace).await,
        Err(error) => Err(api(namespace)(error)),
    }
}

/// What another replica has just written.
async fn read(secrets: &Api<Secret>, namespace: &str) -> Result<Authorities, CertificateError> {
    let secret = secrets.get(CA_SECRET).await.map_err(api(namespace))?;
    Authorities::read(&data(&secret))
}

fn data(secret: &Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.iter().flatten().map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

fn bytes(authorities: &Authorities) -> BTreeMap<String, ByteString> {
    authorities.write().into_iter().map(|(key, value)| (key, ByteString(value))).collect()
}

fn api(namespace: &str) -> impl Fn(kube::Error) -> CertificateError {
    move |error| {
        let (namespace, source) = (namespace.to_owned(), Box::new(error));
        CertificateError::Api { name: CA_SECRET, namespace, source }
    }
}

/// An error and its causes on one line.
fn chain(error: &CertificateError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
