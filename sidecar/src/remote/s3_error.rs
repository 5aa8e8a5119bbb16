//! What an S3 failure means: the one table from SDK errors to [`ErrorKind`].
//!
//! HEAD has no body, so for it only the status speaks; elsewhere the error code does. A 503 is
//! throttling when it says so, else unavailability; both are retried and both end as 503 at a door.

use std::error::Error;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::operation::RequestId as _;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::remote::{ErrorKind, Operation, RemoteError};

/// The status of the answer, if there was one.
pub fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|response| response.status().as_u16())
}

/// The error as the rest of the filer knows it.
pub fn convert<E>(operation: Operation, key: &str, error: &SdkError<E, HttpResponse>) -> RemoteError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let kind = kind(operation, error);
    let message = match error {
        SdkError::ServiceError(service) => {
            let code = service.err().code().unwrap_or("no code");
            let text = service.err().message().unwrap_or("no message");
            let request = error.request_id().map(|id| format!(", request {id}")).unwrap_or_default();
            format!("status {}, {code}: {text}{request}", service.raw().status().as_u16())
        }
        other if kind == ErrorKind::CredentialsMissing => innermost(other),
        other => chain(other),
    };
    RemoteError::new(kind, operation, key, message)
}

fn kind<E: ProvideErrorMetadata>(operation: Operation, error: &SdkError<E, HttpResponse>) -> ErrorKind {
    match error {
        SdkError::TimeoutError(_) => ErrorKind::TimedOut,
        SdkError::DispatchFailure(failure) if failure.is_timeout() => ErrorKind::TimedOut,
        // The connector hides the type; these are the words of its TLS library for every such failure.
        SdkError::DispatchFailure(failure)
            if failure.as_connector_error().is_some_and(|error| chain(error).contains("invalid peer certificate")) =>
        {
            ErrorKind::CertificateUntrusted
        }
        SdkError::DispatchFailure(failure) if failure.is_io() => ErrorKind::Unavailable,
        SdkError::DispatchFailure(failure) => {
            let no_identity = failure.as_connector_error().is_some_and(|error| mentions_credentials(error));
            if no_identity { ErrorKind::CredentialsMissing } else { ErrorKind::Unavailable }
        }
        SdkError::ConstructionFailure(_) => ErrorKind::CredentialsMissing,
        SdkError::ResponseError(_) => ErrorKind::BrokeOff,
        SdkError::ServiceError(service) => {
            by_status(operation, service.raw().status().as_u16(), service.err().code().unwrap_or_default())
        }
        _ => ErrorKind::Unavailable,
    }
}

/// What the error of one key in the answer to a bulk request means.
pub fn by_code(code: &str) -> ErrorKind {
    let status = match code {
        "AccessDenied" | "AllAccessDisabled" => 403,
        "PreconditionFailed" => 412,
        "InternalError" | "ServiceUnavailable" | "OperationAborted" | "ConditionalRequestConflict" => 503,
        _ => 400,
    };
    by_status(Operation::DeleteMany, status, code)
}

fn by_status(operation: Operation, status: u16, code: &str) -> ErrorKind {
    let deletes = matches!(operation, Operation::Delete | Operation::DeleteMany);
    match (status, code) {
        (_, "InternalError" | "ServiceUnavailable") => ErrorKind::Unavailable,
        // It began well and says otherwise, or cannot be read: of no key is known whether it is deleted.
        (200..=299, _) if deletes => ErrorKind::BrokeOff,
        (_, "SlowDown" | "RequestLimitExceeded" | "Throttling" | "TooManyRequests") | (429, _) => ErrorKind::Throttled,
        (_, "NoSuchBucket") => ErrorKind::BucketNotFound,
        (_, "RequestTimeout") => ErrorKind::TimedOut,
        (401 | 403, _) => ErrorKind::Denied,
        (404, _) if operation == Operation::Read => ErrorKind::Changed,
        (404, _) => ErrorKind::BucketNotFound,
        // 416: the object is shorter than the entry says.
        (412 | 416, _) => ErrorKind::Changed,
        (408, _) => ErrorKind::TimedOut,
        // Another writer is at it just now.
        (409, _) if deletes => ErrorKind::Unavailable,
        // Neither the condition nor the bulk request is known everywhere.
        (405 | 501, _) | (_, "NotImplemented" | "MissingContentMD5") if deletes => ErrorKind::NotSupported,
        (500..=599, _) if status != 501 => ErrorKind::Unavailable,
        _ => ErrorKind::Rejected,
    }
}

fn mentions_credentials(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<aws_credential_types::provider::error::CredentialsError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// The first cause alone: what lies around a missing credential is the SDK's way to it.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// An error and its causes on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_kind() {
        use ErrorKind::*;
        let table = [
            (403, "", Denied),
            (401, "", Denied),
            (429, "", Throttled),
            (503, "SlowDown", Throttled),
            (503, "", Unavailable),
            (500, "", Unavailable),
            (501, "NotImplemented", Rejected),
            (404, "NoSuchBucket", BucketNotFound),
            (412, "", Changed),
            (416, "", Changed),
            (400, "", Rejected),
            (301, "PermanentRedirect", Rejected),
        ];
        for (status, code, kind) in table {
            assert_eq!(by_status(Operation::Stat, status, code), kind, "{status} {code}");
        }
        assert_eq!(by_status(Operation::Read, 404, "NoSuchKey"), Changed);
        for (status, code, kind) in [
            (409, "ConditionalRequestConflict", Unavailable),
            (412, "PreconditionFailed", Changed),
            (501, "NotImplemented", NotSupported),
            (400, "MissingContentMD5", NotSupported),
            (403, "AccessDenied", Denied),
            (200, "", BrokeOff),
            (200, "SlowDown", BrokeOff),
            (200, "InternalError", Unavailable),
            (400, "ServiceUnavailable", Unavailable),
        ] {
            assert_eq!(by_status(Operation::Delete, status, code), kind, "{status} {code}");
        }
        for (code, kind) in [
            ("AccessDenied", Denied),
            ("PreconditionFailed", Changed),
            ("SlowDown", Throttled),
            ("InternalError", Unavailable),
            ("KeyTooLongError", Rejected),
        ] {
            assert_eq!(by_code(code), kind, "{code}");
        }
    }
}
