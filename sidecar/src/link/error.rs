//! Why there is no control link: what is missing here, what is wrong there, and what to change.
//!
//! The kinds are what a person must tell apart: this side's files, a network that does not reach, a
//! certificate that is not trusted, a token that is refused. No message holds a token.

use std::io;
use std::path::PathBuf;

use tonic::{Code, Status};

/// Why there is no control link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A file of the link cannot be read.
    #[error("{flag} {}: cannot be read: {source}", .path.display())]
    Unreadable {
        /// Which flag names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of the link does not hold what it should.
    #[error("{flag}: {problem}")]
    Malformed {
        /// Which flag it is about.
        flag: &'static str,
        /// What is wrong and what to change.
        problem: String,
    },
    /// Nobody answers there.
    #[error("{endpoint}: cannot be reached: {source}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// Why.
        source: io::Error,
    },
    /// The operator's certificate is not signed by those that are trusted, or is not its.
    #[error("{endpoint}: its certificate is not trusted: {source}; compare --control-ca with the operator's CA")]
    Untrusted {
        /// Where.
        endpoint: String,
        /// Why.
        source: rustls::Error,
    },
    /// What answers there speaks another protocol, or broke off.
    #[error("{endpoint}: no connection: {problem}")]
    Handshake {
        /// Where.
        endpoint: String,
        /// Why.
        problem: String,
    },
    /// The operator refuses the token.
    #[error("the operator refuses the token: {0}")]
    TokenRefused(String),
    /// The operator, or what stands before it, cannot serve just now.
    #[error("the operator cannot serve just now: {0}")]
    Unavailable(String),
    /// The stream ended in another way.
    #[error("the stream ended: {0}")]
    Ended(String),
}

impl LinkError {
    /// Every kind.
    pub const KINDS: [&'static str; 7] = [
        "NotConfigured",
        "Unreachable",
        "CertificateUntrusted",
        "HandshakeFailed",
        "TokenRefused",
        "Unavailable",
        "Ended",
    ];

    /// The name in `/status` and metrics.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } | Self::Malformed { .. } => "NotConfigured",
            Self::Unreachable { .. } => "Unreachable",
            Self::Untrusted { .. } => "CertificateUntrusted",
            Self::Handshake { .. } => "HandshakeFailed",
            Self::TokenRefused(_) => "TokenRefused",
            Self::Unavailable(_) => "Unavailable",
            Self::Ended(_) => "Ended",
        }
    }

    /// Whether nobody listens there: as a replica of the operator that does not lead.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Unreachable { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// How a stream ended, by the status it ended with.
    #[must_use]
    pub fn of(status: &Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Self::TokenRefused(message),
            Code::Unavailable => Self::Unavailable(message),
            code => Self::Ended(format!("{code:?}: {message}")),
        }
    }
}
