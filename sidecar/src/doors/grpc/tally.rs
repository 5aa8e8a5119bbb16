//! Counts each call once, by method and the code it ended with.
//!
//! The code of a call stands in its answer's headers, or behind its last message; a call that the
//! client gives up has none and counts as cancelled. So the count is taken where the answer leaves,
//! whichever method made it. Never changes an answer.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use tonic::{Code, Status};

use crate::doors::grpc::SERVICE;
use crate::metrics::GrpcMetrics;

/// What other methods than those named are counted as, because a client may make names up.
const OTHER: &str = "other";
/// The methods that are counted by name.
const METHODS: [&str; 10] = [
    "LookupDirectoryEntry",
    "ListEntries",
    "DeleteEntry",
    "SubscribeMetadata",
    "SubscribeLocalMetadata",
    "GetFilerConfiguration",
    "Statistics",
    "Ping",
    "KvGet",
    "KvPut",
];
const HEALTH_METHODS: [&str; 2] = ["Check", "Watch"];

/// Every method that is counted.
pub fn methods() -> impl Iterator<Item = &'static str> {
    METHODS.into_iter().chain(HEALTH_METHODS).chain([OTHER])
}

/// Every code that a call may end with.
pub fn codes() -> impl Iterator<Item = &'static str> {
    (0..=Code::Unauthenticated as i32).map(|code| word(Code::from_i32(code)))
}

/// One call, until it is counted.
pub struct Tally {
    metrics: GrpcMetrics,
    method: &'static str,
    counted: bool,
}

/// An answer's body, watched to its end.
pub struct Watched {
    body: tonic::body::Body,
    tally: Tally,
}

impl Tally {
    /// Begins to count a call of what is at `path`.
    #[must_use]
    pub fn begin(metrics: &GrpcMetrics, path: &str) -> Self {
        Self { metrics: metrics.clone(), method: method(path), counted: false }
    }

    /// Counts by the answer, now or at its end.
    #[must_use]
    pub fn watch(mut self, answer: Response<tonic::body::Body>) -> Response<Watched> {
        self.by(answer.headers());
        answer.map(|body| Watched { body, tally: self })
    }

    fn by(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get(Status::GRPC_STATUS) {
            self.count(Code::from_bytes(code.as_bytes()));
        }
    }

    fn count(&mut self, code: Code) {
        if !std::mem::replace(&mut self.counted, true) {
            let code = word(code);
            tracing::debug!(method = self.method, code, "gRPC call ended");
            self.metrics.count(self.method, code);
        }
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.count(Code::Cancelled);
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.tally.by(trailers);
                }
            }
            Poll::Ready(Some(Err(status))) => self.tally.count(status.code()),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn method(path: &str) -> &'static str {
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let known: &[&'static str] = match parts.next() {
        Some(SERVICE) => &METHODS,
        Some("grpc.health.v1.Health") => &HEALTH_METHODS,
        _ => &[],
    };
    let asked = parts.next().unwrap_or_default();
    known.iter().find(|method| **method == asked).copied().unwrap_or(OTHER)
}

/// The code as the protocol's documents write it.
const fn word(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Cancelled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_declared_method_is_counted_by_name() {
        let declared = include_str!("../../../proto/filer.proto").split("  rpc ").skip(1);
        let declared: Vec<&str> = declared.filter_map(|rest| rest.split('(').next()).collect();
        assert_eq!(declared, METHODS);
        for name in METHODS {
            assert_eq!(method(&format!("/{SERVICE}/{name}")), name);
        }
        assert_eq!(method("/grpc.health.v1.Health/Check"), "Check");
        for path in ["/", "", "/filer_pb.SeaweedFiler/Nonsense", "/other/Ping", "/filer_pb.SeaweedFiler/Ping/x"] {
            assert_eq!(method(path), "other", "{path}");
        }
    }
}
