//! What the proxy has seen: every request, told apart as S3 tells its operations apart.
//!
//! Owns the list of requests in order of arrival and the reading of path-style addresses: the key
//! is everything after `/bucket/`, percent-decoded and otherwise byte for byte, so that keys such
//! as `a//b`, `/lead` and `x/../y` are what they are. Keys that are not UTF-8 are shown lossily.
//!
//! Never judges a request, and counts those that a rule breaks like all others.

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::header::{HeaderName, IF_MATCH, RANGE};
use http::{Method, Request};
use percent_encoding::percent_decode_str;

/// The kinds of request the tests tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// HEAD of an object.
    Head,
    /// GET of an object.
    Get,
    /// GET of a bucket with `list-type=2`.
    List,
    /// PUT of an object or of a part of one.
    Put,
    /// DELETE of an object.
    Delete,
    /// POST of a bucket with `delete`.
    DeleteMany,
    /// Everything else: buckets, tags, ACLs, multipart uploads' beginning and end.
    Other,
}

/// One request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The HTTP method.
    pub method: Method,
    /// The object's key; for a List its prefix; empty where there is neither.
    pub key: String,
    /// What kind of request it was.
    pub operation: Operation,
    /// The query as it came, empty if there was none.
    pub query: String,
    /// The Range header.
    pub range: Option<String>,
    /// The If-Match header.
    pub if_match: Option<String>,
    /// The status the client was answered with; none if it got no answer, or not yet.
    pub status: Option<u16>,
    /// When it arrived.
    pub at: Instant,
}

impl Seen {
    /// A parameter of the query, decoded; empty for one without a value.
    pub fn parameter(&self, name: &str) -> Option<String> {
        parameter(&self.query, name)
    }

    pub(super) fn of<B>(request: &Request<B>) -> Seen {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let (operation, key) = classify(request.method(), request.uri().path(), &query);
        let header = |name: HeaderName| {
            let value = request.headers().get(name)?;
            Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        Seen {
            method: request.method().clone(),
            key,
            operation,
            range: header(RANGE),
            if_match: header(IF_MATCH),
            query,
            status: None,
            at: Instant::now(),
        }
    }
}

fn classify(method: &Method, path: &str, query: &str) -> (Operation, String) {
    let path = path.strip_prefix('/').unwrap_or(path);
    let key = path.split_once('/').map_or("", |(_bucket, key)| key);
    if key.is_empty() {
        return match *method {
            Method::GET if parameter(query, "list-type").as_deref() == Some("2") => {
                (Operation::List, parameter(query, "prefix").unwrap_or_default())
            }
            Method::POST if parameter(query, "delete").is_some() => (Operation::DeleteMany, String::new()),
            _ => (Operation::Other, String::new()),
        };
    }
    // These name something about the object, not the object.
    let aside = ["acl", "attributes", "tagging", "uploads", "legal-hold"];
    let operation = if aside.iter().any(|name| parameter(query, name).is_some()) {
        Operation::Other
    } else {
        match *method {
            Method::HEAD => Operation::Head,
            Method::GET => Operation::Get,
            Method::PUT => Operation::Put,
            // With an uploadId it abandons an upload and leaves the object alone.
            Method::DELETE if parameter(query, "uploadId").is_none() => Operation::Delete,
            _ => Operation::Other,
        }
    };
    (operation, decode(key).into_owned())
}

fn parameter(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        // In a query, unlike in a path, a plus is a space.
        (decode(found) == name).then(|| decode(&value.replace('+', "%20")).into_owned())
    })
}

fn decode(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

/// All requests since the last [`Ledger::clear`].
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    seen: Vec<Seen>,
    cleared: u64,
}

/// Finds an entry again, unless the ledger was cleared since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    cleared: u64,
    index: usize,
}

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn record(&self, seen: Seen) -> Ticket {
        let mut entries = self.entries();
        entries.seen.push(seen);
        Ticket { cleared: entries.cleared, index: entries.seen.len() - 1 }
    }

    pub(super) fn answered(&self, ticket: Ticket, status: u16) {
        let mut entries = self.entries();
        if entries.cleared == ticket.cleared
            && let Some(seen) = entries.seen.get_mut(ticket.index)
        {
            seen.status = Some(status);
        }
    }

    pub(super) fn all(&self) -> Vec<Seen> {
        self.entries().seen.clone()
    }

    pub(super) fn count(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        self.entries().seen.iter().filter(|seen| wanted(seen)).count()
    }

    pub(super) fn clear(&self) {
        let mut entries = self.entries();
        entries.seen.clear();
        entries.cleared += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_and_keys_are_told_apart() {
        let cases = [
            (Method::HEAD, "/b/k", Operation::Head, "k"),
            (Method::GET, "/b/a//b", Operation::Get, "a//b"),
            (Method::GET, "/b//lead", Operation::Get, "/lead"),
            (Method::GET, "/b/x/../y?x-id=GetObject", Operation::Get, "x/../y"),
            (Method::GET, "/b/a%2Fb%20c+d/", Operation::Get, "a/b c+d/"),
            (Method::GET, "/b?list-type=2&prefix=a%2Fb+c", Operation::List, "a/b c"),
            (Method::GET, "/b/?list-type=2", Operation::List, ""),
            (Method::GET, "/b?location", Operation::Other, ""),
            (Method::GET, "/", Operation::Other, ""),
            (Method::HEAD, "/b", Operation::Other, ""),
            (Method::PUT, "/b", Operation::Other, ""),
            (Method::PUT, "/b/k?partNumber=1&uploadId=u", Operation::Put, "k"),
            (Method::POST, "/b/k?uploads", Operation::Other, "k"),
            (Method::DELETE, "/b/k", Operation::Delete, "k"),
            (Method::DELETE, "/b/k?uploadId=u", Operation::Other, "k"),
            (Method::POST, "/b?delete", Operation::DeleteMany, ""),
        ];
        for (method, target, operation, key) in cases {
            let request = Request::builder().method(method.clone()).uri(target).body(()).unwrap();
            let seen = Seen::of(&request);
            assert_eq!((seen.operation, seen.key.as_str()), (operation, key), "{method} {target}");
        }
    }
}
