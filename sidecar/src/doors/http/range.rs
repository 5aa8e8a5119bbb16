//! The `Range` header (RFC 9110, 14.1 and 14.2), pure.
//!
//! Ours, because the difference between malformed (ignored) and unsatisfiable (416) matters and the
//! crates at hand blur it. A header that asks for more bytes than the object has, or for very many
//! ranges, is ignored too: the whole object is the cheaper answer (RFC 9110, 14.2).

use std::ops::Range;

/// More ranges than this are not served one by one.
const MOST: usize = 64;

/// What a `Range` header asks of a representation of known size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// No range, or a header that is ignored: the whole.
    Whole,
    /// These, each not empty and within the size.
    Parts(Vec<Range<u64>>),
    /// None that the representation has: 416.
    Unsatisfiable,
}

/// Reads `header` for a representation of `size` bytes.
#[must_use]
pub fn parse(header: &str, size: u64) -> Ranges {
    let Some(specs) = specs(header) else { return Ranges::Whole };
    let parts: Vec<Range<u64>> = specs.iter().filter_map(|spec| spec.within(size)).collect();
    if parts.is_empty() {
        return Ranges::Unsatisfiable;
    }
    let total = parts.iter().fold(0u64, |total, part| total.saturating_add(part.end - part.start));
    if specs.len() > MOST || (parts.len() > 1 && total > size) {
        return Ranges::Whole;
    }
    Ranges::Parts(parts)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    /// `first-last`, or `first-` with no end.
    From(u64, Option<u64>),
    /// `-length`
    Last(u64),
}

impl Spec {
    fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => first..last.map_or(size, |last| last.saturating_add(1)).min(size),
            Self::Last(length) => size.saturating_sub(length)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

/// The header's ranges; `None` when it is not of bytes or not well formed.
fn specs(header: &str) -> Option<Vec<Spec>> {
    let (unit, set) = header.trim().split_once('=')?;
    if !unit.trim_end().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for item in set.split(',').map(str::trim) {
        // Lists may have empty members (RFC 9110, 5.6.1.2).
        if !item.is_empty() {
            specs.push(spec(item)?);
        }
    }
    (!specs.is_empty()).then_some(specs)
}

fn spec(item: &str) -> Option<Spec> {
    let (first, last) = item.split_once('-')?;
    match (first, last) {
        ("", length) => Some(Spec::Last(number(length)?)),
        (first, "") => Some(Spec::From(number(first)?, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From(first, Some(last)))
        }
    }
}

/// Digits only; a number too large to hold is as good as the largest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_ten_bytes() {
        use Ranges::{Parts, Unsatisfiable, Whole};
        let part = |start, end| Parts(std::iter::once(start..end).collect());
        let table = [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-", part(0, 10)),
            ("bytes=5-99", part(5, 10)),
            ("bytes=-3", part(7, 10)),
            ("bytes=-99", part(0, 10)),
            ("BYTES = 1-2", part(1, 3)),
            ("bytes=0-0,-1", Parts(vec![0..1, 9..10])),
            ("bytes=0-0, ,-1,", Parts(vec![0..1, 9..10])),
            ("bytes=0-0,20-30", part(0, 1)),
            ("bytes=10-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=0-99999999999999999999999", part(0, 10)),
            ("bytes=5-2", Whole),
            ("bytes=a-b", Whole),
            ("bytes=0-0,x", Whole),
            ("bytes=", Whole),
            ("bytes", Whole),
            ("items=0-1", Whole),
            ("bytes=-", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=0-9,0-9", Whole),
        ];
        for (header, wanted) in table {
            assert_eq!(parse(header, 10), wanted, "{header}");
        }
        assert_eq!(parse("bytes=0-", 0), Unsatisfiable);
        let many = format!("bytes={}", vec!["0-0"; 65].join(","));
        assert_eq!(parse(&many, 1000), Whole);
    }
}
