//! Certificates that someone else keeps: `tls.crt`, `tls.key` and `ca.crt` of a directory, as cert-manager's Secret has them.
//!
//! Read again by content, because a mounted Secret swaps symlinks and keeps times. What cannot be served
//! (half written, a key of another certificate) is told and changes nothing. Without `ca.crt` nothing is
//! published: then someone else writes the webhook's `caBundle` too.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tokio_util::sync::CancellationToken;

use super::{Bundle, CertificateError, Certificates, Swap};

/// How often the files are read.
const POLL: Duration = Duration::from_secs(10);

/// Keeps what a directory has.
pub struct Keeper {
    directory: PathBuf,
    seen: Files,
    swap: Swap,
}

#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    ca: Option<Vec<u8>>,
}

impl Keeper {
    /// Reads the directory for the first time.
    ///
    /// # Errors
    /// Which file is missing or cannot be served.
    pub fn start(directory: &Path) -> Result<(Certificates, Self), CertificateError> {
        let seen = read(directory)?;
        let (key, bundle) = serve(directory, &seen)?;
        let (certificates, swap) = Certificates::new(key, bundle);
        Ok((certificates, Self { directory: directory.to_owned(), seen, swap }))
    }

    /// Follows the files until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
            }
            if let Err(error) = self.reload() {
                tracing::warn!(%error, "the certificate's files are not served; the last good ones are");
            }
        }
    }

    /// Reads the files; answers whether others are served now.
    ///
    /// # Errors
    /// Which file cannot be served; the last good ones stay.
    pub fn reload(&mut self) -> Result<bool, CertificateError> {
        let files = read(&self.directory)?;
        if files == self.seen {
            return Ok(false);
        }
        let (key, bundle) = serve(&self.directory, &files)?;
        // Trusted before it is served.
        self.swap.trust(bundle);
        self.swap.leaf(key);
        self.seen = files;
        tracing::info!(directory = %self.directory.display(), "another certificate is served");
        Ok(true)
    }
}

fn read(directory: &Path) -> Result<Files, CertificateError> {
    let content = |name: &str| {
        let file = directory.join(name);
        std::fs::read(&file)
            .map_err(|error| CertificateError::File { file: file.display().to_string(), problem: error.to_string() })
    };
    Ok(Files { certificate: content("tls.crt")?, key: content("tls.key")?, ca: content("ca.crt").ok() })
}

fn serve(directory: &Path, files: &Files) -> Result<(Arc<CertifiedKey>, Bundle), CertificateError> {
    let problem = |name: &str, problem: &str| CertificateError::File {
        file: directory.join(name).display().to_string(),
        problem: problem.to_owned(),
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&files.certificate)
        .collect::<Result<_, _>>()
        .map_err(|_| problem("tls.crt", "is not PEM"))?;
    if chain.is_empty() {
        return Err(problem("tls.crt", "holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|_| problem("tls.key", "holds no private key"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider)
        .map_err(|source| CertificateError::Serve { origin: directory.display().to_string(), source })?;
    let bundle = files.ca.as_ref().filter(|ca| !ca.is_empty());
    let bundle = bundle.map(|ca| String::from_utf8(ca.clone()).map_err(|_| problem("ca.crt", "is not text")));
    Ok((Arc::new(key), bundle.transpose()?.map(Into::into)))
}
