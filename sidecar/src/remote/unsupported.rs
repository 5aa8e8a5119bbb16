//! The remote of a provider that this version has no adapter for.
//!
//! The mount stays in the table, so that its paths answer "not supported" and never "not found".

use std::ops::Range;

use async_trait::async_trait;

use crate::entry::Pointer;
use crate::remote::{
    Body, Capabilities, ConditionalDelete, ErrorKind, ListPage, ListRequest, Operation, Remote, RemoteError, Stat,
};

/// Answers every question with [`ErrorKind::NotSupported`].
pub struct Unsupported {
    /// The provider's field in the spec.
    pub provider: &'static str,
}

impl Unsupported {
    fn error(&self, operation: Operation, key: &str) -> RemoteError {
        let message = format!("spec.remote.{} is not served by this version", self.provider);
        RemoteError::new(ErrorKind::NotSupported, operation, key, message)
    }
}

#[async_trait]
impl Remote for Unsupported {
    async fn stat(&self, key: &str) -> Result<Option<Stat>, RemoteError> {
        Err(self.error(Operation::Stat, key))
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, RemoteError> {
        Err(self.error(Operation::List, &request.prefix))
    }

    async fn read(&self, key: &str, _: Option<Range<u64>>, _: &Pointer) -> Result<Body, RemoteError> {
        Err(self.error(Operation::Read, key))
    }

    async fn delete(&self, key: &str, _: Option<&Pointer>) -> Result<(), RemoteError> {
        Err(self.error(Operation::Delete, key))
    }

    async fn delete_many(&self, objects: &[(String, Pointer)]) -> Result<Vec<(usize, RemoteError)>, RemoteError> {
        Err(self.error(Operation::DeleteMany, objects.first().map_or("", |(key, _)| key)))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            conditional_read: false,
            start_after: false,
            conditional_delete: ConditionalDelete::Unknown,
            bulk_delete: false,
        }
    }
}
