//! Delete: an order to the filer, and what came of it.
//!
//! As the reference has it, the call succeeds and the answer says in `error` what was not deleted; its
//! clients read that. No failure is without its text there, and the reason stands in the metadata as
//! well. A name that is not there is deleted already.
//!
//! `is_delete_data` changes nothing, as it does not in the reference for what is on a remote. Were it to
//! mean "here only" when false, a client that leaves it out, which is the same, would be told of a
//! success and see the name come back with the next lookup. That it must not reach the bucket is for the
//! mount's `deletePolicy` to say. Nothing can be lost that another entry stands for, which is what the
//! field is for: no entry here shares its object.
//!
//! Where a bucket has a file and a directory of one name, the file is meant, then the directory.

use tonic::metadata::MetadataValue;
use tonic::{Response, Status};

use crate::clock;
use crate::doors::grpc::error::{self, REASON};
use crate::doors::grpc::{event, proto, request};
use crate::filer::Filer;
use crate::filer::delete::Order;
use crate::mounts::Mounts;
use crate::path::FilerPath;

/// The answer's event is looked for among so many.
const NEAR: usize = 64;

/// Answers `DeleteEntry`.
///
/// # Errors
/// When the request names nothing that could be deleted; what the filer says is in the answer.
pub async fn answer(
    filer: &Filer,
    mounts: &Mounts,
    asked: proto::DeleteEntryRequest,
) -> Result<Response<proto::DeleteEntryResponse>, Status> {
    // Only the root has no name; elsewhere a name that was forgotten must not mean all that is there.
    if asked.name.is_empty() && asked.directory != "/" {
        return Err(error::invalid("a name is missing: to delete a directory, name it in the one that holds it"));
    }
    let path = request::path(&asked.directory, &asked.name)?;
    let order = Order {
        recursive: asked.is_recursive,
        ignore_recursive_error: asked.ignore_recursive_error,
        unless_modified_after: Some(asked.if_not_modified_after).filter(|seconds| *seconds > 0),
        from_other_cluster: asked.is_from_other_cluster,
        signatures: asked.signatures,
        ..Order::default()
    };
    let begun = clock::nanos();
    match filer.delete(&path, order).await {
        Ok(_) => {
            let metadata_event = made(filer, mounts, &path, begun);
            Ok(Response::new(proto::DeleteEntryResponse { error: String::new(), metadata_event }))
        }
        Err(error) => {
            let text = error.to_string();
            let mut answer = Response::new(proto::DeleteEntryResponse { error: text, metadata_event: None });
            answer.metadata_mut().insert(REASON, MetadataValue::from_static(error.reason()));
            Ok(answer)
        }
    }
}

/// The event of the name itself, if it is near: a client need then not wait for it to come by subscription.
fn made(filer: &Filer, mounts: &Mounts, path: &FilerPath, begun: u64) -> Option<proto::SubscribeMetadataResponse> {
    let events = filer.events();
    let near = events.after(begun.saturating_sub(1), NEAR).ok()?;
    let event = near.into_iter().rfind(|event| event.path == path.as_str() && event.new.is_none())?;
    Some(event::message(event, events.signature(), &mounts.load()))
}
