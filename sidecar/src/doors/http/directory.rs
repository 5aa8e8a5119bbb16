//! A directory as JSON for programs or as a page for people.
//!
//! The listing is complete up to its limit before the status goes out: a remote that fails half-way
//! gives an error status, never a shorter directory (D2). `LastFileName` names the place to resume
//! after; for a directory it ends in a slash, since a file of the same name may stand beside it.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, VARY, WARNING};
use serde::{Serialize, Serializer};
use wildmatch::WildMatch;

use crate::doors::http::error::Refusal;
use crate::doors::http::metadata::{self, EntryJson};
use crate::doors::http::request::Asked;
use crate::doors::http::{Answer, full, page};
use crate::filer::list::{Listed, Selection};
use crate::filer::{Filer, Found};
use crate::store::{Child, Cursor};

/// Says how many keys directly in the directory no path can name (M2).
const UNNAMEABLE: HeaderName = HeaderName::from_static("x-remotemount-unnameable-keys");

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListingJson<'l> {
    version: &'static str,
    path: &'l str,
    entries: Entries<'l>,
    limit: usize,
    last_file_name: &'l str,
    should_display_load_more: bool,
    empty_folder: bool,
}

/// The children, each made for its line alone: a hundred thousand at once are a lot of memory.
struct Entries<'l> {
    asked: &'l Asked,
    listed: &'l Listed,
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { asked, listed } = self;
        let entry = |child: &Child| -> EntryJson {
            metadata::entry(asked.path.child(&child.name), &child.entry, listed.mount.as_deref())
        };
        serializer.collect_seq(listed.children.iter().map(entry))
    }
}

/// Answers a HEAD of the directory: it is there, and nobody lists it to say so. What only the listing could tell is
/// left out, as RFC 9110, 9.3.2, allows.
#[must_use]
pub fn head(asked: &Asked, found: &Found) -> Answer {
    let mut answer = full(StatusCode::OK, Bytes::new());
    describe(&mut answer, asked.json, found.stale);
    answer
}

/// Answers a GET of the directory.
///
/// # Errors
/// When there is no such directory, or it cannot be listed as far as was asked.
pub async fn answer(filer: &Filer, asked: &Asked) -> Result<Answer, Refusal> {
    let pattern = asked.pattern.as_deref().map(WildMatch::new);
    let exclude = asked.exclude.as_deref().map(WildMatch::new);
    let keep = move |name: &str| {
        pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
            && !exclude.as_ref().is_some_and(|exclude| exclude.matches(name))
    };
    let after = asked.after.as_deref().map_or_else(Cursor::start, |name| filer.cursor(&asked.path, name));
    let selection = Selection { after, limit: asked.limit, keep: &keep };
    let listed = filer.list(&asked.path, &selection).await?;
    let mut answer = if asked.json { as_json(asked, &listed) } else { as_page(asked, &listed) };
    describe(&mut answer, asked.json, listed.stale);
    if listed.unnameable > 0 {
        answer.headers_mut().insert(UNNAMEABLE, HeaderValue::from(listed.unnameable));
    }
    Ok(answer)
}

/// What GET and HEAD say alike.
fn describe(answer: &mut Answer, json: bool, stale: bool) {
    let form = if json { "application/json" } else { "text/html; charset=utf-8" };
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form));
    headers.insert(VARY, HeaderValue::from_static("Accept"));
    if stale {
        headers.insert(WARNING, HeaderValue::from_static("110 - \"Response is Stale\""));
    }
}

fn as_json(asked: &Asked, listed: &Listed) -> Answer {
    let last = listed.children.last().map(Child::cursor).unwrap_or_default();
    let body = ListingJson {
        version: concat!("RemoteMount ", env!("CARGO_PKG_VERSION")),
        path: asked.path.as_str(),
        entries: Entries { asked, listed },
        limit: asked.limit,
        last_file_name: last.as_str(),
        should_display_load_more: listed.more,
        empty_folder: listed.children.is_empty() && asked.after.is_none(),
    };
    metadata::json(&body, asked.pretty)
}

fn as_page(asked: &Asked, listed: &Listed) -> Answer {
    let text = page::render(asked, listed);
    let length = HeaderValue::from(text.len());
    let mut answer = full(StatusCode::OK, text.into());
    answer.headers_mut().insert(CONTENT_LENGTH, length);
    answer
}
