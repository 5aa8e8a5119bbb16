//! The S3 adapter, over aws-sdk-s3.
//!
//! Keys pass through unchanged: listings ask for URL encoding, because XML cannot carry every byte a
//! key may have, and are decoded only where the server says it encoded. The SDK's own retries are off
//! (the [`super::retry`] decorator has the deadline). Every read compares the answer's version and
//! length with what was asked, because some servers ignore `If-Match` or `Range` and answer anyway (R1).

mod deletion;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::EncodingType;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use percent_encoding::percent_decode_str;

use crate::entry::{Description, Pointer};
use crate::remote::{
    Body, Capabilities, ConditionalDelete, ErrorKind, ListPage, ListRequest, Operation, Remote, RemoteError, Stat,
    etag, s3_error,
};

/// One bucket of one server.
pub struct S3 {
    client: Client,
    bucket: String,
    /// Set once the server sent another version than `If-Match` allowed.
    ignores_if_match: AtomicBool,
    /// Set once the server said that it deletes keys one by one only.
    no_bulk: AtomicBool,
}

impl S3 {
    /// Reads from and deletes in `bucket` by `client`.
    #[must_use]
    pub const fn new(client: Client, bucket: String) -> Self {
        Self { client, bucket, ignores_if_match: AtomicBool::new(false), no_bulk: AtomicBool::new(false) }
    }
}

#[async_trait]
impl Remote for S3 {
    async fn stat(&self, key: &str) -> Result<Option<Stat>, RemoteError> {
        let answer = match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(answer) => answer,
            Err(error) if s3_error::status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(s3_error::convert(Operation::Stat, key, &error)),
        };
        let Some(size) = answer.content_length().and_then(|size| u64::try_from(size).ok()) else {
            return Err(RemoteError::new(ErrorKind::Rejected, Operation::Stat, key, "the remote tells no size"));
        };
        // What is not a server of objects answers 200 to everything; and a version that has no name cannot be held to (R1).
        let Some(etag) = etag(answer.e_tag()) else {
            return Err(RemoteError::new(ErrorKind::Rejected, Operation::Stat, key, "the remote tells no ETag"));
        };
        let pointer = Pointer { size, etag: Some(etag), modified: seconds(answer.last_modified()) };
        let description = Description {
            content_type: answer.content_type,
            content_encoding: answer.content_encoding,
            content_language: answer.content_language,
            content_disposition: answer.content_disposition,
            cache_control: answer.cache_control,
        };
        Ok(Some(Stat { pointer, description }))
    }

    async fn list(&self, request: &ListRequest) -> Result<ListPage, RemoteError> {
        let answer = self
            .client
            .list_objects_v2()
            .bucket(&self.bucket)
            .prefix(&request.prefix)
            .set_delimiter(request.directories.then(|| "/".to_owned()))
            .set_continuation_token(request.token.clone())
            .set_start_after(request.after.clone().filter(|_| request.token.is_none()))
            .max_keys(i32::from(request.limit))
            .encoding_type(EncodingType::Url)
            .send()
            .await
            .map_err(|error| s3_error::convert(Operation::List, &request.prefix, &error))?;
        let encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let broken = |what: &str| RemoteError::new(ErrorKind::Rejected, Operation::List, &request.prefix, what);
        let decode = |text: &str| if encoded { decode_key(text) } else { Some(text.to_owned()) };
        let mut page = ListPage::default();
        for object in answer.contents() {
            let key = object.key().and_then(decode).ok_or_else(|| broken("a listed key is not UTF-8"))?;
            let pointer = Pointer {
                size: object
                    .size()
                    .and_then(|size| u64::try_from(size).ok())
                    .ok_or_else(|| broken("a listed object has no size"))?,
                etag: etag(object.e_tag()),
                modified: seconds(object.last_modified()),
            };
            page.objects.push((key, pointer));
        }
        for prefix in answer.common_prefixes() {
            let prefix = prefix.prefix().and_then(decode).ok_or_else(|| broken("a listed prefix is not UTF-8"))?;
            page.prefixes.push(prefix);
        }
        if answer.is_truncated() == Some(true) {
            let token = answer.next_continuation_token().filter(|token| !token.is_empty());
            // Without a token the rest of the directory is out of reach; that is an error, never a shorter directory (D2).
            page.next =
                Some(token.ok_or_else(|| broken("the listing is cut short without a continuation token"))?.to_owned());
        }
        Ok(page)
    }

    async fn read(&self, key: &str, range: Option<Range<u64>>, version: &Pointer) -> Result<Body, RemoteError> {
        let fail = |kind, message: &str| RemoteError::new(kind, Operation::Read, key, message);
        let header = range.as_ref().map(|range| format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        let answer = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .set_range(header)
            // A weak tag never matches (RFC 9110, 13.1.1); the comparison below has to do then.
            .set_if_match(version.etag.as_ref().filter(|etag| !etag.is_weak()).map(crate::entry::ETag::to_header))
            .send()
            .await
            .map_err(|error| s3_error::convert(Operation::Read, key, &error))?;
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let wanted = range.as_ref().map_or(version.size, |range| range.end - range.start);
        let size = answer.content_range().and_then(complete_length).or(if range.is_none() { length } else { None });
        let found = Pointer {
            size: size.unwrap_or(version.size),
            etag: etag(answer.e_tag()),
            modified: seconds(answer.last_modified()),
        };
        if !version.same_version(&found) {
            let asked = version.etag.as_ref().is_some_and(|etag| !etag.is_weak());
            self.ignores_if_match.fetch_or(asked, Ordering::Relaxed);
            return Err(fail(ErrorKind::Changed, "the remote has another version"));
        }
        let begins = range.as_ref().map(|range| format!("bytes {}-{}/", range.start, range.end.saturating_sub(1)));
        if begins.is_some_and(|begins| !answer.content_range().unwrap_or_default().starts_with(&begins)) {
            return Err(fail(ErrorKind::Rejected, "the remote answers another range than was asked for"));
        }
        if length.is_some_and(|length| length != wanted) {
            let message = format!("{wanted} bytes were asked for, {} are sent", length.unwrap_or(0));
            return Err(fail(ErrorKind::Rejected, &message));
        }
        let description = Description {
            content_type: answer.content_type,
            content_encoding: answer.content_encoding,
            content_language: answer.content_language,
            content_disposition: answer.content_disposition,
            cache_control: answer.cache_control,
        };
        let bytes = exactly(answer.body, wanted, key.to_owned());
        Ok(Body { stat: Stat { pointer: found, description }, bytes })
    }

    async fn delete(&self, key: &str, version: Option<&Pointer>) -> Result<(), RemoteError> {
        self.delete_one(key, version).await
    }

    async fn delete_many(&self, objects: &[(String, Pointer)]) -> Result<Vec<(usize, RemoteError)>, RemoteError> {
        self.delete_all(objects).await
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            conditional_read: !self.ignores_if_match.load(Ordering::Relaxed),
            start_after: true,
            conditional_delete: ConditionalDelete::Unknown,
            bulk_delete: !self.no_bulk.load(Ordering::Relaxed),
        }
    }
}

/// The body as a stream that gives `wanted` bytes or ends in an error.
fn exactly(body: ByteStream, wanted: u64, key: String) -> BoxStream<'static, Result<Bytes, RemoteError>> {
    let broke_off =
        |key: &str, message: String| Some(Err(RemoteError::new(ErrorKind::BrokeOff, Operation::Read, key, message)));
    stream::unfold(Some((body, wanted)), move |state| {
        let key = key.clone();
        async move {
            let (mut body, left) = state?;
            let item = match body.next().await {
                Some(Ok(bytes)) => match left.checked_sub(bytes.len() as u64) {
                    Some(left) => return Some((Ok(bytes), Some((body, left)))),
                    None => broke_off(&key, "the remote sends more bytes than it said".to_owned()),
                },
                Some(Err(error)) => broke_off(&key, s3_error::chain(&error)),
                None if left > 0 => broke_off(&key, format!("{left} bytes are missing")),
                None => None,
            };
            item.map(|item| (item, None))
        }
    })
    .boxed()
}

/// The complete length in a `Content-Range: bytes 0-1/42`.
fn complete_length(header: &str) -> Option<u64> {
    header.rsplit_once('/')?.1.parse().ok()
}

fn seconds(time: Option<&DateTime>) -> i64 {
    time.map_or(0, DateTime::secs)
}

/// A key as `encoding-type=url` has it: percent-encoded, a space as `+` (Amazon S3 API, `ListObjectsV2`).
fn decode_key(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_keys_come_back_as_they_were() {
        for (encoded, key) in [("sp+ace", "sp ace"), ("sp%20ace", "sp ace"), ("pl%2Bus", "pl+us"), ("p%252Fq", "p%2Fq")]
        {
            assert_eq!(decode_key(encoded).as_deref(), Some(key));
        }
        assert_eq!(decode_key("%C3%BC").as_deref(), Some("ü"));
        assert_eq!(decode_key("%FF"), None, "never replaced: two keys would become one");
    }

    #[test]
    fn content_range_gives_the_size() {
        assert_eq!(complete_length("bytes 0-1/42"), Some(42));
        assert_eq!(complete_length("bytes 0-1/*"), None);
    }
}
