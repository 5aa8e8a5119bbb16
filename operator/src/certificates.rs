//! Certificates of the operator's doors: the webhook's and the control link's.
//!
//! Either the operator is its own authority: a CA in a Secret of its namespace, shared by all replicas
//! ([`secret`], [`authority`]), and a leaf in memory for each replica ([`leaf`]), good for a day and renewed at
//! half of it. Or someone else is, cert-manager say, and the files of a directory are served ([`directory`]).
//! Both end in one [`Resolver`], which hands the current certificate to each new connection, and in one bundle
//! of CAs to trust, which [`publish`] writes into the webhook's configuration and the control link's ConfigMap has.
//!
//! Times are wall-clock and checked again every few seconds: a machine that slept serves no stale leaf.
//! Keys are never logged and, but for the CA's Secret, never leave the process.
//! Invariant: a CA is in the bundle for a day before any leaf is signed by it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

pub mod authority;
pub mod directory;
pub mod leaf;
pub mod publish;
pub mod secret;

/// Why there is no certificate, or no newer one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Make(#[from] rcgen::Error),
    /// A certificate and its key cannot be served.
    #[error("{origin}: cannot be served")]
    Serve {
        /// Where they come from.
        origin: String,
        /// Why.
        source: rustls::Error,
    },
    /// A part of the CA's Secret is missing or cannot be read.
    #[error("Secret {name}: {key} {problem}; delete the Secret to have the operator make a new one")]
    Secret {
        /// The Secret.
        name: &'static str,
        /// Its key.
        key: &'static str,
        /// What is wrong, without what is in it.
        problem: String,
    },
    /// A file of the certificate's directory.
    #[error("{file}: {problem}")]
    File {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The API server.
    #[error("Secret {name} of namespace {namespace} cannot be had")]
    Api {
        /// The Secret.
        name: &'static str,
        /// The operator's namespace.
        namespace: String,
        /// Why.
        source: Box<kube::Error>,
    },
}

/// CAs to trust, as PEM; `None` while someone else says which.
pub type Bundle = Option<Arc<str>>;

/// What doors serve and clients trust, as it is now.
#[derive(Clone)]
pub struct Certificates {
    resolver: Arc<Resolver>,
    bundle: watch::Receiver<Bundle>,
}

impl Certificates {
    fn new(first: Arc<CertifiedKey>, bundle: Bundle) -> (Self, Swap) {
        let resolver = Arc::new(Resolver { current: ArcSwap::new(first) });
        let (sender, bundle) = watch::channel(bundle);
        (Self { resolver: Arc::clone(&resolver), bundle }, Swap { resolver, bundle: sender })
    }

    /// The TLS settings of a door that speaks `protocols` (`h2`, `http/1.1`), the preferred first.
    ///
    /// # Errors
    /// When the TLS library rejects its own defaults.
    pub fn server_config(&self, protocols: &[&str]) -> Result<Arc<ServerConfig>, CertificateError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|source| CertificateError::Serve { origin: "TLS".to_owned(), source })?;
        let mut config = config.with_no_client_auth().with_cert_resolver(Arc::clone(&self.resolver) as _);
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// The CAs to trust, and their changes.
    #[must_use]
    pub fn bundle(&self) -> watch::Receiver<Bundle> {
        self.bundle.clone()
    }
}

/// The end at which a newer certificate comes in.
struct Swap {
    resolver: Arc<Resolver>,
    bundle: watch::Sender<Bundle>,
}

impl Swap {
    fn leaf(&self, leaf: Arc<CertifiedKey>) {
        self.resolver.current.store(leaf);
    }

    /// Tells of the bundle where it changed.
    fn trust(&self, bundle: Bundle) {
        self.bundle.send_if_modified(|current| {
            let changed = *current != bundle;
            *current = bundle;
            changed
        });
    }
}

/// Hands the current certificate to each new connection.
#[derive(Debug)]
pub struct Resolver {
    current: ArcSwap<CertifiedKey>,
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}
