//! A directory as a page for people: one table, no scripts, nothing fetched from elsewhere.
//!
//! Names come from a bucket and may hold anything; every one is escaped for where it stands.

use std::fmt::Write as _;

use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::doors::http::request::Asked;
use crate::entry::Entry;
use crate::filer::list::Listed;
use crate::store::Child;

/// Everything but what RFC 3986 leaves unreserved.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#222}\
    table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.15rem .6rem .15rem 0;border-bottom:1px solid #eee}\
    td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}a{color:#0b5;text-decoration:none}\
    a:hover{text-decoration:underline}.note{background:#fff6d8;padding:.4rem .7rem}";

/// The page of one directory.
#[must_use]
pub fn render(asked: &Asked, listed: &Listed) -> String {
    let path = asked.path.as_str();
    let mut page = String::with_capacity(1024 + 160 * listed.children.len());
    let title = escape(path);
    // Writing to a String cannot fail.
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style><h1>{}</h1>",
        crumbs(path)
    );
    if listed.stale {
        page.push_str("<p class=\"note\">The bucket cannot be asked right now; this is the last known listing.</p>");
    }
    if listed.unnameable > 0 {
        let _ = write!(
            page,
            "<p class=\"note\">Not shown, because no path can name them: {} of the keys here.</p>",
            listed.unnameable
        );
    }
    page.push_str("<table><tr><th>Name<th>Size<th>Modified");
    for child in &listed.children {
        row(&mut page, path, child);
    }
    page.push_str("</table>");
    if listed.children.is_empty() {
        page.push_str("<p>Nothing here.</p>");
    }
    if let Some(last) = listed.children.last().filter(|_| listed.more) {
        let last = last.cursor();
        let after = utf8_percent_encode(last.as_str(), SEGMENT);
        let _ = write!(page, "<p><a href=\"?lastFileName={after}&amp;limit={}\">more</a>", asked.limit);
    }
    page.push_str("</html>\n");
    page
}

fn row(page: &mut String, path: &str, child: &Child) {
    let base = if path == "/" { String::new() } else { encode(path) };
    let (name, link) = (escape(&child.name), utf8_percent_encode(&child.name, SEGMENT));
    let _ = match &child.entry {
        Entry::Directory(_) => {
            write!(page, "<tr><td><a href=\"{base}/{link}/\"><bdi>{name}/</bdi></a><td class=\"n\">–<td class=\"n\">–")
        }
        Entry::File(file) => {
            let time = Timestamp::from_second(file.modified()).unwrap_or_default();
            write!(
                page,
                "<tr><td><a href=\"{base}/{link}\"><bdi>{name}</bdi></a><td class=\"n\">{}<td class=\"n\">{time}",
                size(file.size())
            )
        }
    };
}

/// The path, each part a link to its directory.
fn crumbs(path: &str) -> String {
    let mut text = String::from("<a href=\"/\">/</a>");
    let mut at = String::new();
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        at = format!("{at}/{}", utf8_percent_encode(segment, SEGMENT));
        let _ = write!(text, " <a href=\"{at}/\">{}</a> /", escape(segment));
    }
    text
}

fn encode(path: &str) -> String {
    path.split('/').map(|segment| utf8_percent_encode(segment, SEGMENT).to_string()).collect::<Vec<_>>().join("/")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut rest = bytes;
    while rest >= 10_240 && unit + 1 < units.len() {
        rest /= 1024;
        unit += 1;
    }
    format!("{rest} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out() {
        assert_eq!(escape("<img src=x onerror='a'>"), "&lt;img src=x onerror=&#39;a&#39;&gt;");
        assert_eq!(encode("/a b/c\"d"), "/a%20b/c%22d");
        assert!(!crumbs("/\"><script>").contains("<script>"));
    }

    #[test]
    fn sizes_are_short() {
        assert_eq!((size(0), size(10_239), size(10_240)), ("0 B".into(), "10239 B".into(), "10 KiB".into()));
    }
}
