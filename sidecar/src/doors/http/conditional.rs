//! Conditional requests (RFC 9110, 13), pure: the order of 13.2.2 for GET and HEAD.
//!
//! `If-Match` outranks `If-Unmodified-Since`, and `If-None-Match` outranks `If-Modified-Since`. A date
//! that cannot be read is ignored (13.1.3, 13.1.4). Tags compare strongly for `If-Match` and
//! `If-Range`, weakly for `If-None-Match`.

use std::time::{Duration, UNIX_EPOCH};

use headers::{ETag, HeaderMapExt as _, IfMatch, IfNoneMatch};
use http::HeaderMap;
use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};

/// What a representation is known by.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'v> {
    /// Its ETag, as a header has it.
    pub etag: Option<&'v str>,
    /// Its last modification, seconds since 1970.
    pub modified: i64,
    /// Now, seconds since 1970.
    pub now: i64,
}

/// What the conditions come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answer as if there were no conditions.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Whether there are conditions in `headers`.
#[must_use]
pub fn present(headers: &HeaderMap) -> bool {
    [IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE].iter().any(|name| headers.contains_key(name))
}

/// Judges the conditions in `headers`.
#[must_use]
pub fn judge(headers: &HeaderMap, validators: Validators<'_>) -> Outcome {
    if !present(headers) {
        return Outcome::Proceed;
    }
    let etag: Option<ETag> = validators.etag.and_then(|etag| etag.parse().ok());
    let any = |name| headers.get_all(name).iter().any(|value| value.as_bytes().trim_ascii() == b"*");
    if headers.contains_key(IF_MATCH) {
        let passes =
            headers.typed_get::<IfMatch>().zip(etag.as_ref()).is_some_and(|(m, tag)| m.precondition_passes(tag));
        if !passes && !any(IF_MATCH) {
            return Outcome::Failed;
        }
    } else if date(headers, IF_UNMODIFIED_SINCE).is_some_and(|since| validators.modified > since) {
        return Outcome::Failed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        let none = headers.typed_get::<IfNoneMatch>().zip(etag.as_ref());
        let matches = none.is_some_and(|(none, tag)| !none.precondition_passes(tag));
        if matches || any(IF_NONE_MATCH) {
            return Outcome::NotModified;
        }
    } else if date(headers, IF_MODIFIED_SINCE).is_some_and(|since| validators.modified <= since) {
        return Outcome::NotModified;
    }
    Outcome::Proceed
}

/// Whether a `Range` in `headers` is to be heeded: there is no `If-Range`, or it holds (13.1.5).
#[must_use]
pub fn range_holds(headers: &HeaderMap, validators: Validators<'_>) -> bool {
    let Some(value) = headers.get(IF_RANGE) else { return true };
    let Ok(value) = value.to_str() else { return false };
    let value = value.trim();
    if value.starts_with('"') || value.starts_with("W/") {
        // Strong comparison: a weak tag on either side never holds.
        return validators.etag.is_some_and(|etag| !etag.starts_with("W/") && etag == value);
    }
    // A date is a strong validator only when the second it names is over (8.8.2.2).
    parse_date(value).is_some_and(|date| date == validators.modified && validators.modified < validators.now)
}

fn date(headers: &HeaderMap, name: http::HeaderName) -> Option<i64> {
    parse_date(headers.get(name)?.to_str().ok()?)
}

fn parse_date(text: &str) -> Option<i64> {
    let time = httpdate::parse_http_date(text.trim()).ok()?;
    i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
}

/// Seconds since 1970 as a header has them.
#[must_use]
pub fn http_date(seconds: i64) -> String {
    // Bounded to what the format can say: the year 9999.
    let seconds = u64::try_from(seconds).unwrap_or(0).min(253_402_300_799);
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const MODIFIED: i64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn of(etag: Option<&str>) -> Validators<'_> {
        Validators { etag, modified: MODIFIED, now: MODIFIED + 100 }
    }

    fn headers(pairs: &[(http::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn the_table_of_13_2_2() {
        use Outcome::{Failed, NotModified, Proceed};
        let table: &[(&[(http::HeaderName, &str)], Outcome)] = &[
            (&[], Proceed),
            (&[(IF_MATCH, "\"a\"")], Proceed),
            (&[(IF_MATCH, "\"b\"")], Failed),
            (&[(IF_MATCH, "\"b\", \"a\"")], Proceed),
            (&[(IF_MATCH, "W/\"a\"")], Failed),
            (&[(IF_MATCH, "*")], Proceed),
            (&[(IF_NONE_MATCH, "\"a\"")], NotModified),
            (&[(IF_NONE_MATCH, "W/\"a\"")], NotModified),
            (&[(IF_NONE_MATCH, "\"b\", W/\"a\"")], NotModified),
            (&[(IF_NONE_MATCH, "\"b\"")], Proceed),
            (&[(IF_NONE_MATCH, "*")], NotModified),
            (&[(IF_MODIFIED_SINCE, SAME)], NotModified),
            (&[(IF_MODIFIED_SINCE, BEFORE)], Proceed),
            (&[(IF_MODIFIED_SINCE, AFTER)], NotModified),
            (&[(IF_MODIFIED_SINCE, "yesterday")], Proceed),
            (&[(IF_UNMODIFIED_SINCE, SAME)], Proceed),
            (&[(IF_UNMODIFIED_SINCE, BEFORE)], Failed),
            (&[(IF_UNMODIFIED_SINCE, "yesterday")], Proceed),
            // Precedence.
            (&[(IF_MATCH, "\"a\""), (IF_UNMODIFIED_SINCE, BEFORE)], Proceed),
            (&[(IF_NONE_MATCH, "\"b\""), (IF_MODIFIED_SINCE, SAME)], Proceed),
            (&[(IF_MATCH, "\"b\""), (IF_NONE_MATCH, "\"a\"")], Failed),
            (&[(IF_MATCH, "\"a\""), (IF_NONE_MATCH, "\"a\"")], NotModified),
        ];
        for (pairs, wanted) in table {
            assert_eq!(judge(&headers(pairs), of(Some("\"a\""))), *wanted, "{pairs:?}");
        }
    }

    #[test]
    fn without_an_etag_only_the_star_matches() {
        assert_eq!(judge(&headers(&[(IF_MATCH, "\"a\"")]), of(None)), Outcome::Failed);
        assert_eq!(judge(&headers(&[(IF_MATCH, "*")]), of(None)), Outcome::Proceed);
        assert_eq!(judge(&headers(&[(IF_NONE_MATCH, "\"a\"")]), of(None)), Outcome::Proceed);
    }

    #[test]
    fn if_range_is_strong() {
        let holds = |value, etag| range_holds(&headers(&[(IF_RANGE, value)]), of(etag));
        assert!(holds("\"a\"", Some("\"a\"")));
        assert!(!holds("\"b\"", Some("\"a\"")));
        assert!(!holds("W/\"a\"", Some("W/\"a\"")));
        assert!(holds(SAME, Some("\"a\"")));
        assert!(!holds(AFTER, Some("\"a\"")), "a date must match exactly");
        assert!(!holds("nonsense", Some("\"a\"")));
        assert!(!range_holds(&headers(&[(IF_RANGE, SAME)]), Validators { now: MODIFIED, ..of(None) }));
    }
}
