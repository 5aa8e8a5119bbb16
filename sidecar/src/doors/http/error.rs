//! From errors to HTTP: the one table.
//!
//! 404 means that nothing has the name, and only that (L6). The body is JSON, `{"error", "reason",
//! "mount", "path"}`, of a delete that was done in part also `{"deleted", "failed", "failures"}`; a HEAD
//! has no body, so the reason stands in a header too.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use serde::Serialize;

use crate::doors::http::{Answer, full};
use crate::filer::FilerError;
use crate::path::{FilerPath, PathError};
use crate::remote::ErrorKind;

/// The reason, for a HEAD.
const REASON: HeaderName = HeaderName::from_static("x-remotemount-reason");

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    retry_after: Option<u64>,
    allow: Option<HeaderValue>,
    body: Box<ErrorBody>,
}

#[derive(Debug, Serialize)]
struct ErrorBody {
    error: String,
    reason: &'static str,
    mount: Option<String>,
    path: String,
    #[serde(flatten)]
    part: Option<PartBody>,
}

/// What a delete came to that was done in part.
#[derive(Debug, Serialize)]
struct PartBody {
    deleted: u64,
    failed: u64,
    /// The first of them.
    failures: Vec<FailureBody>,
}

#[derive(Debug, Serialize)]
struct FailureBody {
    path: String,
    reason: &'static str,
    error: String,
}

impl Refusal {
    /// A method that is not served.
    #[must_use]
    pub fn method(method: &Method, path: &str, allow: HeaderValue) -> Self {
        let error =
            format!("{method} is not served: buckets are mounted for reading and deleting; write to the bucket itself");
        let body = ErrorBody { error, reason: "MethodNotAllowed", mount: None, path: path.to_owned(), part: None };
        Self { status: StatusCode::METHOD_NOT_ALLOWED, retry_after: None, allow: Some(allow), body: Box::new(body) }
    }

    /// A path that no key can have.
    #[must_use]
    pub fn path(raw: &str, error: &PathError) -> Self {
        let status = match error {
            PathError::TooLong(_) => StatusCode::URI_TOO_LONG,
            _ => StatusCode::BAD_REQUEST,
        };
        // The path may be as long as a request can be; its beginning is enough to find it.
        let path = raw.chars().take(256).collect();
        let body = ErrorBody { error: error.to_string(), reason: "InvalidPath", mount: None, path, part: None };
        Self { status, retry_after: None, allow: None, body: Box::new(body) }
    }

    /// A parameter that cannot be read.
    #[must_use]
    pub fn parameter(path: &FilerPath, error: String) -> Self {
        let body = ErrorBody { error, reason: "InvalidParameter", mount: None, path: path.to_string(), part: None };
        Self { status: StatusCode::BAD_REQUEST, retry_after: None, allow: None, body: Box::new(body) }
    }

    /// The answer; `head` for one without a body.
    #[must_use]
    pub fn answer(self, head: bool) -> Answer {
        let text = serde_json::to_vec(&self.body).unwrap_or_default();
        let length = HeaderValue::from(text.len());
        let mut answer = full(self.status, if head { Bytes::new() } else { text.into() });
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, length);
        headers.insert(REASON, HeaderValue::from_static(self.body.reason));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, allow);
        }
        answer
    }
}

/// The status of each error.
fn status(error: &FilerError) -> StatusCode {
    match error {
        FilerError::NotFound { .. } => StatusCode::NOT_FOUND,
        FilerError::NotReady { .. } | FilerError::Lost { .. } | FilerError::Interrupted { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        FilerError::DeleteDenied { .. } => StatusCode::FORBIDDEN,
        FilerError::Changed { .. }
        | FilerError::Conflict { .. }
        | FilerError::NotEmpty { .. }
        | FilerError::MountRoot { .. }
        | FilerError::HoldsMount { .. }
        | FilerError::Unnameable { .. }
        | FilerError::HiddenKeys { .. }
        | FilerError::Refilled { .. }
        | FilerError::FileAndDirectory { .. } => StatusCode::CONFLICT,
        FilerError::Store { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        FilerError::Incomplete { first, .. } => status(first),
        FilerError::Remote { source, .. } => match source.kind {
            ErrorKind::Denied => StatusCode::FORBIDDEN,
            ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::CredentialsMissing => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            ErrorKind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
            ErrorKind::BrokeOff | ErrorKind::Rejected | ErrorKind::BucketNotFound | ErrorKind::CertificateUntrusted => {
                StatusCode::BAD_GATEWAY
            }
            ErrorKind::Changed => StatusCode::CONFLICT,
            ErrorKind::NotSupported => StatusCode::NOT_IMPLEMENTED,
        },
    }
}

impl From<FilerError> for Refusal {
    fn from(error: FilerError) -> Self {
        let status = status(&error);
        let part = match &error {
            FilerError::Incomplete { deleted, failed, failures, .. } => {
                let failures = failures.iter().map(|failure| FailureBody {
                    path: failure.path.clone(),
                    reason: failure.error.reason(),
                    error: failure.error.to_string(),
                });
                Some(PartBody { deleted: *deleted, failed: *failed, failures: failures.collect() })
            }
            _ => None,
        };
        let body = ErrorBody {
            error: error.to_string(),
            reason: error.reason(),
            mount: error.mount().map(str::to_owned),
            path: error.path().to_owned(),
            part,
        };
        Self {
            status,
            retry_after: error.retry_after().filter(|_| status == StatusCode::SERVICE_UNAVAILABLE),
            allow: None,
            body: Box::new(body),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filer::delete::Failure;
    use crate::remote::{Operation, RemoteError};
    use crate::store::StoreError;

    fn remote(kind: ErrorKind) -> FilerError {
        let source = RemoteError::new(kind, Operation::Stat, "k", "said so");
        let retry_after = kind.is_transient().then_some(2);
        FilerError::Remote { mount: "m".into(), path: "/p".into(), retry_after, source }
    }

    #[test]
    fn every_error_has_its_status() {
        let wanted = |kind| match kind {
            ErrorKind::Denied => 403,
            ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::CredentialsMissing => 503,
            ErrorKind::TimedOut => 504,
            ErrorKind::BrokeOff | ErrorKind::Rejected | ErrorKind::BucketNotFound | ErrorKind::CertificateUntrusted => {
                502
            }
            ErrorKind::Changed => 409,
            ErrorKind::NotSupported => 501,
        };
        for kind in ErrorKind::ALL {
            let refusal = Refusal::from(remote(kind));
            assert_eq!(refusal.status.as_u16(), wanted(kind), "{kind:?}");
            assert_ne!(refusal.status.as_u16(), 404, "{kind:?} is not 'not found'");
            assert_eq!(refusal.body.reason, kind.as_str());
        }
        let (mount, path) = (|| "m".to_owned(), || "/p".to_owned());
        let others = [
            (FilerError::NotFound { mount: None, path: path() }, 404),
            (FilerError::NotReady { path: path() }, 503),
            (FilerError::Changed { mount: mount(), path: path() }, 409),
            (FilerError::Store { mount: mount(), path: path(), source: StoreError::Closed }, 500),
            (FilerError::Lost { mount: mount(), path: path() }, 503),
            (FilerError::Interrupted { mount: mount(), path: path(), why: "w" }, 503),
            (FilerError::DeleteDenied { mount: mount(), path: path() }, 403),
            (FilerError::Conflict { mount: mount(), path: path() }, 409),
            (FilerError::NotEmpty { mount: mount(), path: path() }, 409),
            (FilerError::MountRoot { mount: mount(), path: path() }, 409),
            (FilerError::HoldsMount { path: path(), inner: "/p/i".into() }, 409),
            (FilerError::Unnameable { mount: mount(), path: path(), keys: 1, first: "a//b".to_owned() }, 409),
            (FilerError::HiddenKeys { mount: mount(), path: path(), keys: 1, first: "a//b".to_owned() }, 409),
            (FilerError::Refilled { mount: mount(), path: path() }, 409),
            (FilerError::FileAndDirectory { mount: mount(), path: path() }, 409),
        ];
        for (error, status) in others {
            assert_eq!(Refusal::from(error).status.as_u16(), status);
        }
    }

    #[test]
    fn a_delete_in_part_is_told_by_its_first_failure() {
        let first = remote(ErrorKind::Denied);
        let failures = vec![Failure { path: "/p/x".into(), error: first.clone() }].into();
        let (mount, path, first) = ("m".to_owned(), "/p".to_owned(), Box::new(first));
        let refusal =
            Refusal::from(FilerError::Incomplete { mount, path, deleted: 3, failed: 1, unclear: 0, first, failures });
        assert_eq!((refusal.status.as_u16(), refusal.body.reason), (403, "Denied"));
        let body = serde_json::to_value(&*refusal.body).unwrap();
        assert_eq!((&body["deleted"], &body["failures"][0]["path"]), (&3.into(), &"/p/x".into()));
        assert_eq!(serde_json::to_value(&*Refusal::from(remote(ErrorKind::Denied)).body).unwrap().get("deleted"), None);
    }

    #[test]
    fn a_busy_remote_says_when_to_come_back() {
        for kind in [ErrorKind::Throttled, ErrorKind::Unavailable] {
            assert!(Refusal::from(remote(kind)).answer(true).headers().contains_key(RETRY_AFTER));
        }
        assert!(!Refusal::from(remote(ErrorKind::Denied)).answer(true).headers().contains_key(RETRY_AFTER));
    }
}
