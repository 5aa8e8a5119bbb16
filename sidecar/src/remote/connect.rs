//! From a spec to a remote: the adapter for its provider inside the four decorators.
//!
//! Owns what all mounts share: the HTTP clients with their connection pools, and the secrets. No
//! request is made here; a wrong endpoint or missing secret shows at the first question.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    IdentityCache, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedCredentialsProvider,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use remotemount_crds::{Addressing, RemoteMountSpec, S3Remote};

use crate::metrics::Metrics;
use crate::path::Prefix;
use crate::remote::Remote;
use crate::remote::conditional::Conditional;
use crate::remote::credentials::Secrets;
use crate::remote::limit::Limit;
use crate::remote::observe::{HealthRecord, Observe};
use crate::remote::retry::Retry;
use crate::remote::s3::S3;
use crate::remote::unsupported::Unsupported;

/// A connection that is not made within this is tried again.
const CONNECT: Duration = Duration::from_secs(3);
const REGION: &str = "us-east-1";

/// Makes remotes.
pub struct Connector {
    secrets: Arc<Secrets>,
    metrics: Metrics,
    http: OnceLock<SharedHttpClient>,
    https: OnceLock<SharedHttpClient>,
}

/// A remote, ready to be asked.
#[derive(Clone)]
pub struct Connected {
    /// The remote.
    pub remote: Arc<dyn Remote>,
    /// What is known of its health.
    pub health: Arc<HealthRecord>,
}

/// The part of the bucket that the mount covers.
#[must_use]
pub fn prefix(spec: &RemoteMountSpec) -> Prefix {
    let remote = &spec.remote;
    let text = remote.s3.as_ref().map(|s3| &s3.prefix);
    let text = text.or(remote.gcs.as_ref().map(|gcs| &gcs.prefix)).or(remote.azure.as_ref().map(|azure| &azure.prefix));
    Prefix::new(text.map_or("", String::as_str))
}

impl Connector {
    /// Remotes with `secrets`, counted in `metrics`.
    #[must_use]
    pub const fn new(secrets: Arc<Secrets>, metrics: Metrics) -> Self {
        Self { secrets, metrics, http: OnceLock::new(), https: OnceLock::new() }
    }

    /// The remote of the mount `name`.
    pub async fn connect(&self, name: &str, spec: &RemoteMountSpec) -> Connected {
        let health = Arc::new(HealthRecord::default());
        let budget = Duration::from_secs(u64::try_from(spec.remote.timeout_seconds).unwrap_or(10));
        let (metrics, record) = (self.metrics.remote(name), Arc::clone(&health));
        let remote: Arc<dyn Remote> = match &spec.remote.s3 {
            Some(s3) => {
                let adapter = S3::new(self.s3_client(s3, spec).await, s3.bucket.clone());
                let observed = Limit::new(Observe::new(adapter, metrics, record));
                Arc::new(Retry::new(Conditional::new(observed), budget, Arc::clone(&health)))
            }
            None => {
                let provider = if spec.remote.gcs.is_some() { "gcs" } else { "azure" };
                Arc::new(Observe::new(Unsupported { provider }, metrics, record))
            }
        };
        Connected { remote, health }
    }

    async fn s3_client(&self, s3: &S3Remote, spec: &RemoteMountSpec) -> aws_sdk_s3::Client {
        let region = || std::env::var("AWS_REGION").or_else(|_| std::env::var("AWS_DEFAULT_REGION")).ok();
        let region = s3.region.clone().filter(|region| !region.is_empty()).or_else(region);
        let region = Region::new(region.unwrap_or_else(|| REGION.to_owned()));
        let path_style = match s3.addressing {
            Some(addressing) => addressing == Addressing::Path,
            None => s3.endpoint.is_some(),
        };
        let plain = s3.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let mut config = aws_sdk_s3::Config::builder()
            .region(region.clone())
            .force_path_style(path_style)
            .http_client(if plain { self.http() } else { self.https() })
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            // Servers that only speak the S3 API often know nothing of the newer checksums.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        if let Some(endpoint) = &s3.endpoint {
            config = config.endpoint_url(endpoint.trim_end_matches('/'));
        }
        config = if let Some(secret) = &spec.credentials.secret_ref {
            let secret: Arc<dyn ProvideCredentials> = self.secrets.get(&secret.name);
            let provider = SharedCredentialsProvider::new(secret);
            // The secret is re-read when its files change; a cache would keep the old one.
            config.credentials_provider(provider).identity_cache(IdentityCache::no_cache())
        } else if spec.credentials.anonymous.is_some() {
            config.allow_no_auth()
        } else {
            let chain = DefaultCredentialsChain::builder().region(region).build().await;
            config.credentials_provider(SharedCredentialsProvider::new(chain))
        };
        aws_sdk_s3::Client::from_conf(config.build())
    }

    fn http(&self) -> SharedHttpClient {
        self.http.get_or_init(|| aws_smithy_http_client::Builder::new().build_http()).clone()
    }

    fn https(&self) -> SharedHttpClient {
        let build =
            || aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).build_https();
        self.https.get_or_init(build).clone()
    }
}
