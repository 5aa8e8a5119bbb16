//! From errors to gRPC: the one table.
//!
//! `NotFound` means that nothing has the name, and only that (L6); clients of the protocol know it by a
//! sentence in its text, so that sentence is there. The reason stands in the metadata key
//! `x-remotemount-reason`, by the same words as at the HTTP door.

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::events::EventsError;
use crate::filer::FilerError;
use crate::path::PathError;
use crate::remote::ErrorKind;
use crate::store::StoreError;

/// The metadata key of the reason.
pub const REASON: &str = "x-remotemount-reason";
/// The metadata key of the time after which events are kept.
const OLDEST: &str = "x-remotemount-oldest-ns";
/// The sentence by which clients know that a name does not exist, whatever the code says.
const NO_ENTRY: &str = "filer: no entry is found in filer store";

/// The code of each error.
fn code(error: &FilerError) -> Code {
    match error {
        FilerError::NotFound { .. } => Code::NotFound,
        FilerError::NotReady { .. } | FilerError::Lost { .. } | FilerError::Interrupted { .. } => Code::Unavailable,
        FilerError::DeleteDenied { .. } => Code::PermissionDenied,
        FilerError::Changed { .. } | FilerError::Conflict { .. } => Code::Aborted,
        FilerError::NotEmpty { .. }
        | FilerError::MountRoot { .. }
        | FilerError::HoldsMount { .. }
        | FilerError::Unnameable { .. }
        | FilerError::HiddenKeys { .. }
        | FilerError::Refilled { .. }
        | FilerError::FileAndDirectory { .. } => Code::FailedPrecondition,
        FilerError::Store { .. } => Code::Internal,
        FilerError::Incomplete { first, .. } => code(first),
        FilerError::Remote { source, .. } => match source.kind {
            ErrorKind::Denied => Code::PermissionDenied,
            ErrorKind::Throttled => Code::ResourceExhausted,
            ErrorKind::Unavailable | ErrorKind::CredentialsMissing => Code::Unavailable,
            ErrorKind::TimedOut => Code::DeadlineExceeded,
            // It began to answer and did not end: nothing better is known.
            ErrorKind::BrokeOff => Code::Unknown,
            // Nothing helps but a change of the mount or the bucket.
            ErrorKind::Rejected | ErrorKind::BucketNotFound | ErrorKind::CertificateUntrusted => {
                Code::FailedPrecondition
            }
            ErrorKind::Changed => Code::Aborted,
            ErrorKind::NotSupported => Code::Unimplemented,
        },
    }
}

/// A status with its reason.
#[must_use]
pub fn refusal(code: Code, reason: &'static str, text: impl Into<String>) -> Status {
    let mut metadata = MetadataMap::new();
    metadata.insert(REASON, MetadataValue::from_static(reason));
    Status::with_metadata(code, text, metadata)
}

/// A request that no answer can be given to, whatever is in the bucket.
#[must_use]
pub fn invalid(text: impl Into<String>) -> Status {
    refusal(Code::InvalidArgument, "InvalidParameter", text)
}

impl From<FilerError> for Status {
    fn from(error: FilerError) -> Self {
        let text = match &error {
            FilerError::NotFound { path, .. } => format!("{path}: {NO_ENTRY}"),
            other => other.to_string(),
        };
        refusal(code(&error), error.reason(), text)
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        refusal(Code::Internal, "Store", error.to_string())
    }
}

impl From<EventsError> for Status {
    fn from(error: EventsError) -> Self {
        match error {
            EventsError::Store(error) => error.into(),
            EventsError::Gap { oldest } => {
                let mut status = refusal(Code::OutOfRange, "LogTruncated", error.to_string());
                status.metadata_mut().insert(OLDEST, MetadataValue::from(oldest));
                status
            }
        }
    }
}

impl From<PathError> for Status {
    fn from(error: PathError) -> Self {
        refusal(Code::InvalidArgument, "InvalidPath", error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filer::delete::Failure;
    use crate::remote::{Operation, RemoteError};

    fn remote(kind: ErrorKind) -> FilerError {
        let source = RemoteError::new(kind, Operation::Stat, "k", "said so");
        FilerError::Remote { mount: "m".into(), path: "/p".into(), retry_after: None, source }
    }

    fn reason(status: &Status) -> &str {
        status.metadata().get(REASON).unwrap().to_str().unwrap()
    }

    #[test]
    fn every_error_has_its_code() {
        let wanted = |kind| match kind {
            ErrorKind::Denied => Code::PermissionDenied,
            ErrorKind::Throttled => Code::ResourceExhausted,
            ErrorKind::Unavailable | ErrorKind::CredentialsMissing => Code::Unavailable,
            ErrorKind::TimedOut => Code::DeadlineExceeded,
            ErrorKind::BrokeOff => Code::Unknown,
            ErrorKind::Rejected | ErrorKind::BucketNotFound | ErrorKind::CertificateUntrusted => {
                Code::FailedPrecondition
            }
            ErrorKind::Changed => Code::Aborted,
            ErrorKind::NotSupported => Code::Unimplemented,
        };
        for kind in ErrorKind::ALL {
            let status = Status::from(remote(kind));
            assert_eq!(status.code(), wanted(kind), "{kind:?}");
            assert_ne!(status.code(), Code::NotFound, "{kind:?} is not 'not found'");
            assert!(!status.message().contains(NO_ENTRY), "{kind:?} is not 'not found'");
            assert_eq!(reason(&status), kind.as_str());
        }
        let (mount, path) = (|| "m".to_owned(), || "/p".to_owned());
        let others = [
            (FilerError::NotFound { mount: None, path: path() }, Code::NotFound, "NotFound"),
            (FilerError::NotReady { path: path() }, Code::Unavailable, "NotReady"),
            (FilerError::Changed { mount: mount(), path: path() }, Code::Aborted, "Changed"),
            (FilerError::Store { mount: mount(), path: path(), source: StoreError::Closed }, Code::Internal, "Store"),
            (FilerError::Lost { mount: mount(), path: path() }, Code::Unavailable, "Lost"),
            (FilerError::Interrupted { mount: mount(), path: path(), why: "w" }, Code::Unavailable, "Interrupted"),
            (FilerError::DeleteDenied { mount: mount(), path: path() }, Code::PermissionDenied, "DeleteDenied"),
            (FilerError::Conflict { mount: mount(), path: path() }, Code::Aborted, "Conflict"),
            (FilerError::NotEmpty { mount: mount(), path: path() }, Code::FailedPrecondition, "NotEmpty"),
            (FilerError::MountRoot { mount: mount(), path: path() }, Code::FailedPrecondition, "MountRoot"),
            (FilerError::HoldsMount { path: path(), inner: "/p/i".into() }, Code::FailedPrecondition, "HoldsMount"),
            (
                FilerError::Unnameable { mount: mount(), path: path(), keys: 1, first: "a//b".to_owned() },
                Code::FailedPrecondition,
                "UnnameableKeys",
            ),
        ];
        for (error, code, word) in others {
            let status = Status::from(error);
            assert_eq!((status.code(), reason(&status)), (code, word));
            assert!(status.message().starts_with("/p: "), "{status}");
        }
    }

    #[test]
    fn a_delete_in_part_is_told_by_its_first_failure() {
        let first = remote(ErrorKind::Throttled);
        let failures = vec![Failure { path: "/p/x".into(), error: first.clone() }].into();
        let (mount, path, first) = ("m".to_owned(), "/p".to_owned(), Box::new(first));
        let status =
            Status::from(FilerError::Incomplete { mount, path, deleted: 3, failed: 1, unclear: 0, first, failures });
        assert_eq!((status.code(), reason(&status)), (Code::ResourceExhausted, "Throttled"));
        assert!(status.message().contains("3 object(s) deleted, 1 not"), "{status}");
    }

    #[test]
    fn what_is_not_there_is_known_by_its_sentence() {
        let status = Status::from(FilerError::NotFound { mount: None, path: "/p".into() });
        assert_eq!(status.message(), "/p: filer: no entry is found in filer store");
    }

    #[test]
    fn who_asks_for_what_is_no_longer_kept_is_told_since_when() {
        let status = Status::from(EventsError::Gap { oldest: 17 });
        assert_eq!((status.code(), reason(&status)), (Code::OutOfRange, "LogTruncated"));
        assert_eq!(status.metadata().get(OLDEST).unwrap(), "17");
        let status = Status::from(EventsError::Store(StoreError::Closed));
        assert_eq!((status.code(), reason(&status)), (Code::Internal, "Store"));
    }

    #[test]
    fn a_path_that_no_key_has_is_the_clients_fault() {
        let status = Status::from(PathError::DotSegment);
        assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "InvalidPath"));
        assert_eq!(status.message(), PathError::DotSegment.to_string());
    }
}
