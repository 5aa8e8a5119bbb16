//! DELETE: an order to the filer, and what came of it.
//!
//! 204 when the name is gone, also when it was not there; `X-RemoteMount-Deleted` says how many objects
//! went. Everything else is an error with its reason. `If-Match` and its relatives (RFC 9110, 13.1) are
//! judged on what is shown; the remote is then held to that version in any case (X5).

use http::StatusCode;
use http::header::{HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE};

use crate::doors::http::conditional::{self, Outcome, Validators};
use crate::doors::http::error::Refusal;
use crate::doors::http::request::Asked;
use crate::doors::http::{Answer, empty};
use crate::entry::ETag;
use crate::filer::delete::Order;
use crate::filer::{Filer, FilerError, Want};

const DELETED: HeaderName = HeaderName::from_static("x-remotemount-deleted");

/// Deletes what is asked for.
///
/// # Errors
/// What was not deleted, and why.
pub async fn answer(filer: &Filer, asked: Asked) -> Result<Answer, Refusal> {
    if conditional::present(&asked.headers) && !fulfilled(filer, &asked).await? {
        return Ok(empty(StatusCode::PRECONDITION_FAILED));
    }
    let order = Order {
        directory: asked.directory,
        recursive: asked.recursive,
        ignore_recursive_error: asked.ignore_recursive_error,
        ..Order::default()
    };
    let deleted = filer.delete(&asked.path, order).await?;
    let mut answer = empty(StatusCode::NO_CONTENT);
    answer.headers_mut().insert(DELETED, HeaderValue::from(deleted.count));
    Ok(answer)
}

/// Whether the request's conditions hold for what is shown.
async fn fulfilled(filer: &Filer, asked: &Asked) -> Result<bool, Refusal> {
    let file = match filer.lookup(&asked.path, Want::Any).await {
        Ok(found) => found.node.file,
        Err(FilerError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    // Without a current representation no tag matches (RFC 9110, 13.1.1).
    let Some(file) = file else { return Ok(!asked.headers.contains_key(IF_MATCH)) };
    let etag = file.pointer.as_ref().and_then(|pointer| pointer.etag.as_ref()).map(ETag::to_header);
    let mut headers = asked.headers.clone();
    headers.remove(IF_MODIFIED_SINCE); // for GET and HEAD only (13.1.3)
    let validators = Validators { etag: etag.as_deref(), modified: file.modified(), now: 0 };
    Ok(conditional::judge(&headers, validators) == Outcome::Proceed)
}
