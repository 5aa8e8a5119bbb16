//! Deletes by the S3 API: one key, or up to a thousand in one request.
//!
//! A key counts as deleted only when the answer names it. What the answer leaves out, what XML cannot
//! carry, and everything on a server that knows no bulk requests, is for [`super::super::conditional`] to
//! delete one by one; there it is judged, too, whether a condition is heeded.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use crate::entry::{ETag, Pointer};
use crate::remote::s3::S3;
use crate::remote::{ErrorKind, Operation, RemoteError, s3_error};

/// Places of keys that could not be deleted, and why.
type Failures = Vec<(usize, RemoteError)>;

impl S3 {
    /// Deletes one key, on condition where `version` has a strong tag.
    pub(super) async fn delete_one(&self, key: &str, version: Option<&Pointer>) -> Result<(), RemoteError> {
        let request = self.client.delete_object().bucket(&self.bucket).key(key);
        match request.set_if_match(version.and_then(strong)).send().await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NoSuchKey") => Ok(()),
            Err(error) => Err(s3_error::convert(Operation::Delete, key, &error)),
        }
    }

    /// Deletes all of `objects` that one request can, and names the rest as not supported.
    pub(super) async fn delete_all(&self, objects: &[(String, Pointer)]) -> Result<Failures, RemoteError> {
        let bulk = !self.no_bulk.load(Ordering::Relaxed);
        let (together, mut alone): (Vec<usize>, Vec<usize>) =
            (0..objects.len()).partition(|at| bulk && xml_carries(&objects[*at].0));
        let mut failures = Failures::new();
        if !together.is_empty() {
            match self.delete_together(objects, &together).await {
                Ok((failed, unnamed)) => {
                    failures = failed;
                    alone.extend(unnamed);
                }
                Err(error) if error.kind == ErrorKind::NotSupported => {
                    self.no_bulk.store(true, Ordering::Relaxed);
                    alone.extend(together);
                }
                Err(error) => return Err(error),
            }
        }
        let message = "not by a bulk request";
        let single =
            |at: usize| (at, RemoteError::new(ErrorKind::NotSupported, Operation::DeleteMany, &objects[at].0, message));
        failures.extend(alone.into_iter().map(single));
        Ok(failures)
    }

    /// One bulk request; answers what failed, and what the server said nothing of.
    async fn delete_together(
        &self,
        objects: &[(String, Pointer)],
        places: &[usize],
    ) -> Result<(Failures, Vec<usize>), RemoteError> {
        let first = places.first().map_or("", |at| &objects[*at].0);
        let identify = |at: &usize| {
            let (key, pointer) = &objects[*at];
            ObjectIdentifier::builder().key(key).set_e_tag(strong(pointer)).build()
        };
        let rejected = |error| RemoteError::new(ErrorKind::Rejected, Operation::DeleteMany, first, format!("{error}"));
        let identifiers = places.iter().map(identify).collect::<Result<Vec<_>, _>>().map_err(rejected)?;
        let delete = Delete::builder().set_objects(Some(identifiers)).build().map_err(rejected)?;
        let request = self.client.delete_objects().bucket(&self.bucket).delete(delete);
        let answer = request.send().await.map_err(|error| s3_error::convert(Operation::DeleteMany, first, &error))?;
        let done: HashSet<&str> = answer.deleted().iter().filter_map(|deleted| deleted.key()).collect();
        let errors: HashMap<&str, _> = answer.errors().iter().filter_map(|e| Some((e.key()?, e))).collect();
        let (mut failures, mut unnamed) = (Failures::new(), Vec::new());
        for at in places {
            let key = objects[*at].0.as_str();
            match errors.get(key) {
                Some(error) if error.code() == Some("NoSuchKey") => {}
                Some(error) => {
                    let code = error.code().unwrap_or("no code");
                    let message = format!("{code}: {}", error.message().unwrap_or("no message"));
                    let kind = s3_error::by_code(code);
                    failures.push((*at, RemoteError::new(kind, Operation::DeleteMany, key, message)));
                }
                None if done.contains(key) => {}
                None => unnamed.push(*at),
            }
        }
        Ok((failures, unnamed))
    }
}

/// The tag as a condition; a weak one never matches (RFC 9110, 13.1.1).
fn strong(pointer: &Pointer) -> Option<String> {
    pointer.etag.as_ref().filter(|etag| !etag.is_weak()).map(ETag::to_header)
}

/// Whether XML 1.0 has every character of the key (2.2, "Characters").
fn xml_carries(key: &str) -> bool {
    key.chars().all(|c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'..))
}

#[cfg(test)]
mod tests {
    use super::xml_carries;

    #[test]
    fn control_characters_do_not_go_into_xml() {
        assert!(xml_carries("a b+c&<>é\n\u{1f600}"));
        for key in ["a\u{1}", "a\u{1f}", "a\u{fffe}"] {
            assert!(!xml_carries(key), "{key:?}");
        }
    }
}
