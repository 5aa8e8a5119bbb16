//! A file as an HTTP representation: headers, conditions, ranges, bytes.
//!
//! Headers come from the entry and are the same for HEAD and GET (R3). The first byte range is opened
//! before the status goes out, so what can fail early fails with a status; later failures cut the
//! connection, so that a reader never takes a part for the whole (R1).

use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED, RANGE, WARNING, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{Either, StreamBody};
use hyper::body::Frame;

use crate::clock;
use crate::doors::http::conditional::{self, Outcome, Validators, http_date};
use crate::doors::http::range::{self, Ranges};
use crate::doors::http::request::Asked;
use crate::doors::http::{Answer, Body, empty};
use crate::entry::{Description, File};
use crate::filer::{Filer, FilerError, Found};

/// What an object without a type of its own is.
const OCTETS: &str = "application/octet-stream";

/// Answers a GET or HEAD of the file half of `found`.
///
/// # Errors
/// When the bytes cannot be had; nothing was sent then.
pub async fn answer(filer: &Filer, asked: &Asked, found: &Found) -> Result<Answer, FilerError> {
    let Some(file) = &found.node.file else {
        return Err(FilerError::NotFound { mount: None, path: found.path.to_string() });
    };
    let etag = file.pointer.as_ref().and_then(|pointer| pointer.etag.as_ref()).map(crate::entry::ETag::to_header);
    let now = i64::try_from(clock::now().0 / 1000).unwrap_or(0);
    let validators = Validators { etag: etag.as_deref(), modified: file.modified(), now };
    let mut answer = match conditional::judge(&asked.headers, validators) {
        Outcome::Failed => empty(StatusCode::PRECONDITION_FAILED),
        Outcome::NotModified => {
            let mut answer = empty(StatusCode::NOT_MODIFIED);
            describe(answer.headers_mut(), file.description.as_ref(), CACHE_CONTROL);
            answer
        }
        Outcome::Proceed if asked.head => {
            let mut answer = empty(StatusCode::OK);
            whole(answer.headers_mut(), file.description.as_ref(), file.size());
            answer
        }
        Outcome::Proceed => bytes(filer, asked, found, file, validators).await?,
    };
    let headers = answer.headers_mut();
    put(headers, LAST_MODIFIED, &http_date(file.modified()));
    if let Some(etag) = &etag {
        put(headers, ETAG, etag);
    }
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // What a bucket holds is shown as what it says it is, never guessed into a script.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if found.stale {
        headers.insert(WARNING, HeaderValue::from_static("110 - \"Response is Stale\""));
    }
    Ok(answer)
}

async fn bytes(
    filer: &Filer,
    asked: &Asked,
    found: &Found,
    file: &File,
    validators: Validators<'_>,
) -> Result<Answer, FilerError> {
    let size = file.size();
    match ranges(asked, size, validators) {
        Ranges::Unsatisfiable => {
            let mut answer = empty(StatusCode::RANGE_NOT_SATISFIABLE);
            put(answer.headers_mut(), CONTENT_RANGE, &format!("bytes */{size}"));
            Ok(answer)
        }
        Ranges::Whole => {
            let reading = filer.read(found, 0..size).await?;
            let mut answer = streamed(StatusCode::OK, reading.bytes);
            whole(answer.headers_mut(), reading.description.as_ref().or(file.description.as_ref()), size);
            Ok(answer)
        }
        Ranges::Parts(parts) => match parts.as_slice() {
            [part] => {
                let reading = filer.read(found, part.clone()).await?;
                let mut answer = streamed(StatusCode::PARTIAL_CONTENT, reading.bytes);
                let headers = answer.headers_mut();
                whole(headers, reading.description.as_ref().or(file.description.as_ref()), part.end - part.start);
                put(headers, CONTENT_RANGE, &content_range(part, size));
                Ok(answer)
            }
            _ => multipart(filer, found, file, parts).await,
        },
    }
}

fn ranges(asked: &Asked, size: u64, validators: Validators<'_>) -> Ranges {
    let mut values = asked.headers.get_all(RANGE).iter();
    match (values.next(), values.next()) {
        (Some(value), None) if conditional::range_holds(&asked.headers, validators) => {
            value.to_str().map_or(Ranges::Whole, |value| range::parse(value, size))
        }
        // None, or more than one: not a header that RFC 9110 gives a meaning.
        _ => Ranges::Whole,
    }
}

/// Several ranges as `multipart/byteranges` (RFC 9110, 14.6).
async fn multipart(filer: &Filer, found: &Found, file: &File, parts: Vec<Range<u64>>) -> Result<Answer, FilerError> {
    let size = file.size();
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else { return Ok(empty(StatusCode::RANGE_NOT_SATISFIABLE)) };
    let opened = filer.read(found, first.clone()).await?;
    let description = opened.description.or_else(|| file.description.clone());
    let content_type = description.as_ref().and_then(|d| d.content_type.as_deref()).unwrap_or(OCTETS);
    // Not secret, only not in the content by chance: the clock's digits are enough.
    let boundary = format!("remotemount-{:x}-{:x}", clock::now().0, size);
    let head = |part: &Range<u64>| {
        let range = content_range(part, size);
        Bytes::from(format!("\r\n--{boundary}\r\nContent-Type: {content_type}\r\nContent-Range: {range}\r\n\r\n"))
    };
    let tail = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let rest: Vec<(Bytes, Range<u64>)> = parts.map(|part| (head(&part), part)).collect();
    let length = |head: &Bytes, part: &Range<u64>| head.len() as u64 + (part.end - part.start);
    let first_head = head(&first);
    let total = length(&first_head, &first)
        + rest.iter().map(|(head, part)| length(head, part)).sum::<u64>()
        + tail.len() as u64;
    let now = |bytes| stream::once(async move { Ok(bytes) }).boxed();
    let (filer, found) = (filer.clone(), found.clone());
    let later = stream::iter(rest).then(move |(head, part)| {
        let (filer, found) = (filer.clone(), found.clone());
        async move {
            let opened = filer.read(&found, part).await?;
            Ok::<_, FilerError>(stream::once(async move { Ok(head) }).chain(opened.bytes))
        }
    });
    let body = now(first_head).chain(opened.bytes).chain(later.try_flatten()).chain(now(tail)).boxed();
    let mut answer = streamed(StatusCode::PARTIAL_CONTENT, body);
    let headers = answer.headers_mut();
    whole(headers, description.as_ref(), total);
    put(headers, CONTENT_TYPE, &format!("multipart/byteranges; boundary={boundary}"));
    Ok(answer)
}

/// The headers of a representation of `length` bytes.
fn whole(headers: &mut HeaderMap, description: Option<&Description>, length: u64) {
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(OCTETS));
    for name in [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_DISPOSITION, CACHE_CONTROL] {
        describe(headers, description, name);
    }
}

fn describe(headers: &mut HeaderMap, description: Option<&Description>, name: HeaderName) {
    let Some(description) = description else { return };
    let value = match name {
        CONTENT_TYPE => &description.content_type,
        CONTENT_ENCODING => &description.content_encoding,
        CONTENT_LANGUAGE => &description.content_language,
        CONTENT_DISPOSITION => &description.content_disposition,
        _ => &description.cache_control,
    };
    if let Some(value) = value {
        put(headers, name, value);
    }
}

/// Sets a header, unless the remote's value is not one that HTTP can carry.
fn put(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn content_range(part: &Range<u64>, size: u64) -> String {
    format!("bytes {}-{}/{size}", part.start, part.end - 1)
}

fn streamed(status: StatusCode, bytes: BoxStream<'static, Result<Bytes, FilerError>>) -> Answer {
    let watched = bytes.inspect_err(|error| tracing::warn!(%error, "answer cut off: the reader sees an error"));
    let body: Body = Either::Right(StreamBody::new(watched.map_ok(Frame::data).boxed()));
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}
