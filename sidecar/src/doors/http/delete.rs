//! DELETE: an order to the filer, and what came of it.
//!
//! 204 when the name is gone, also when it was not there; `X-RemoteMount-Deleted` says how many objects
//! went. Everything else is an error with its reason. `If-Match` and its relatives (RFC 9110, 13.1) are
//! judged on what is shown, and the delete is held to that version (X5).

use http::StatusCode;
use http::header::{HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE};

use crate::doors::http::conditional::{self, Outcome, Validators};
use crate::doors::http::error::Refusal;
use crate::doors::http::request::Asked;
use crate::doors::http::{Answer, empty};
use crate::entry::{ETag, Pointer};
use crate::filer::delete::Order;
use crate::filer::{Filer, FilerError, Want};

const DELETED: HeaderName = HeaderName::from_static("x-remotemount-deleted");

/// Deletes what is asked for.
///
/// # Errors
/// What was not deleted, and why.
pub async fn answer(filer: &Filer, asked: Asked) -> Result<Answer, Refusal> {
    let mut order = Order {
        directory: asked.directory,
        recursive: asked.recursive,
        ignore_recursive_error: asked.ignore_recursive_error,
        ..Order::default()
    };
    if conditional::present(&asked.headers) {
        match judge(filer, &asked).await? {
            Some(only) => (order.no_file, order.only) = (only.is_none() && !asked.directory, only),
            None => return Ok(empty(StatusCode::PRECONDITION_FAILED)),
        }
    }
    let deleted = filer.delete(&asked.path, order).await?;
    let mut answer = empty(StatusCode::NO_CONTENT);
    answer.headers_mut().insert(DELETED, HeaderValue::from(deleted.count));
    Ok(answer)
}

/// Judges the request's conditions on what is shown: the version that the delete is held to, if there is one, else that
/// there is none; `None` when they do not hold.
async fn judge(filer: &Filer, asked: &Asked) -> Result<Option<Option<Pointer>>, Refusal> {
    let want = if asked.directory { Want::Directory } else { Want::Any };
    let file = match filer.lookup(&asked.path, want).await {
        Ok(found) => found.node.file.filter(|_| !asked.directory),
        Err(FilerError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    // A directory has no tag, and a name that is not there has none either (RFC 9110, 13.1.1).
    let Some(file) = file else { return Ok((!asked.headers.contains_key(IF_MATCH)).then_some(None)) };
    let etag = file.pointer.as_ref().and_then(|pointer| pointer.etag.as_ref()).map(ETag::to_header);
    let mut headers = asked.headers.clone();
    headers.remove(IF_MODIFIED_SINCE); // for GET and HEAD only (13.1.3)
    let validators = Validators { etag: etag.as_deref(), modified: file.modified(), now: 0 };
    Ok((conditional::judge(&headers, validators) == Outcome::Proceed).then_some(file.pointer))
}
