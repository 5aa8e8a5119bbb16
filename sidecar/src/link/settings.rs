//! Where the operator is, whom to trust, and what to show: read anew at each attempt.
//!
//! The files may come after the sidecar has started, and change while it runs: the kubelet renews the
//! token, the operator its certificates, and a ConfigMap may move the endpoint. Only a flag that can
//! never be right is refused at the start.

use std::fmt;
use std::path::{Path, PathBuf};

use http::Uri;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::link::error::LinkError;

/// No file of the link is larger, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// The three flags.
#[derive(Clone, Debug)]
pub struct Settings {
    place: Place,
    ca: PathBuf,
    token: PathBuf,
}

#[derive(Clone, Debug)]
enum Place {
    Here(Endpoint),
    In(PathBuf),
}

/// `https://host:port`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A DNS name or an IP address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Both as a certificate names it.
    pub name: ServerName<'static>,
}

/// What an attempt needs.
pub struct Target {
    /// Where the operator is.
    pub endpoint: Endpoint,
    /// Who may have signed its certificate.
    pub roots: RootCertStore,
    /// The token, for the operator only.
    pub token: String,
}

impl Settings {
    /// The settings of `--control`, `--control-ca` and `--control-token`.
    ///
    /// # Errors
    /// When `control` looks like a URL and is none that can be used.
    pub fn new(control: &str, ca: PathBuf, token: PathBuf) -> Result<Self, LinkError> {
        let place = if control.contains("://") {
            Place::Here(Endpoint::parse(control)?)
        } else {
            Place::In(PathBuf::from(control))
        };
        Ok(Self { place, ca, token })
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// What is missing or wrong, with its flag.
    pub fn read(&self) -> Result<Target, LinkError> {
        let endpoint = match &self.place {
            Place::Here(endpoint) => endpoint.clone(),
            Place::In(path) => Endpoint::parse(read("--control", path)?.trim())?,
        };
        let pem = read("--control-ca", &self.ca)?;
        let malformed = |problem: String| LinkError::Malformed { flag: "--control-ca", problem };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| malformed(format!("is no PEM: {error}")))?;
            roots.add(certificate).map_err(|error| malformed(format!("a certificate cannot be used: {error}")))?;
        }
        if roots.is_empty() {
            return Err(malformed("holds no certificate".to_owned()));
        }
        let token = read("--control-token", &self.token)?.trim().to_owned();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let problem = "holds no token: one line of printable characters is one".to_owned();
            return Err(LinkError::Malformed { flag: "--control-token", problem });
        }
        Ok(Target { endpoint, roots, token })
    }
}

impl Endpoint {
    /// Reads `https://host:port`; the port may be left out.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn parse(text: &str) -> Result<Self, LinkError> {
        let malformed = |problem: &str| {
            let problem = format!("{text:?} {problem}; write https://host:port, or the path of a file that holds it");
            LinkError::Malformed { flag: "--control", problem }
        };
        let uri: Uri = text.parse().map_err(|_| malformed("is no URL"))?;
        if uri.scheme_str() != Some("https") {
            return Err(malformed("is no https URL: a token is sent there"));
        }
        let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let authority = uri.authority().filter(|authority| plain && !authority.as_str().contains('@'));
        let Some(authority) = authority else { return Err(malformed("has more than host and port")) };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| malformed("names no host"))?;
        Ok(Self { host, port: authority.port_u16().unwrap_or(443), name })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "https://{open}{}{close}:{}", self.host, self.port)
    }
}

fn read(flag: &'static str, path: &Path) -> Result<String, LinkError> {
    let unreadable = |source| LinkError::Unreadable { flag, path: path.to_path_buf(), source };
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
        let problem = format!("{} is no file of at most {MAX_BYTES} bytes", path.display());
        return Err(LinkError::Malformed { flag, problem });
    }
    std::fs::read_to_string(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_https_host_and_port() {
        for (text, shown) in [
            ("https://operator.ns.svc:9443", "https://operator.ns.svc:9443"),
            ("https://operator/", "https://operator:443"),
            ("https://127.0.0.1:1", "https://127.0.0.1:1"),
            ("https://[::1]:9443", "https://[::1]:9443"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().to_string(), shown);
        }
        for text in [
            "http://operator:1",
            "https://operator/x",
            "https://a@operator",
            "https://",
            "operator:1",
            "",
            "https://o?q",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
        assert!(Settings::new("http://operator", PathBuf::new(), PathBuf::new()).is_err());
        assert!(Settings::new("/etc/endpoint", PathBuf::new(), PathBuf::new()).is_ok());
    }
}
