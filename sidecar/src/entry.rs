//! Entries: what the filer knows of one name, and when it asked.
//!
//! One name may be a file and a directory at once, because a bucket may hold both `a` and `a/b`; the
//! two halves are kept and aged apart in a [`Node`]. Every half carries the time its question was
//! *asked*: of two answers the one asked later wins ([`File::merge`]), so a slow old answer never
//! covers a newer one. A file with a [`Pointer`] stands for a remote object; without one it is
//! local-only. Pure: nothing here reads a clock.

use serde::{Deserialize, Serialize};

/// Wall-clock milliseconds since 1970; what is persisted must outlive the process, so no `Instant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Millis(pub u64);

/// An entity tag's opaque part, without quotes. Weak tags of a remote are kept as they are, with their `W/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ETag(String);

/// Which remote object a file stands for, in which version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pointer {
    /// Size in bytes.
    pub size: u64,
    /// The version; some servers give none.
    pub etag: Option<ETag>,
    /// Last modification, seconds since 1970 (HEAD gives no more, so listings are cut to it: R3).
    pub modified: i64,
}

/// What only HEAD and GET tell of an object; a listing does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
}

/// A name as a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// The remote object; none for a local-only file.
    pub pointer: Option<Pointer>,
    /// None until a HEAD or GET was made for this version.
    pub description: Option<Description>,
    /// When the question was asked that this is the answer to.
    pub asked: Millis,
    /// A reader found another version since: not to be served without asking again.
    pub doubted: bool,
}

/// A name as a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// When the question was asked that this is the answer to.
    pub asked: Millis,
    /// When this filer first saw it; object stores keep no time for directories.
    pub first_seen: Millis,
    /// When the question was asked that told that there is no file of this name; none if nobody asked.
    /// A directory that is known only from what lies below it says nothing of a file beside it.
    pub file_absent: Option<Millis>,
    /// Something below was deleted then, and it may be gone with it: answers to questions asked up to then do not count.
    pub not_before: Millis,
}

/// Everything known of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The name as a file.
    pub file: Option<File>,
    /// The name as a directory.
    pub directory: Option<Directory>,
}

/// One half of a name, as a listing has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// A file.
    File(File),
    /// A directory.
    Directory(Directory),
}

/// Which halves of a name something holds for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Halves {
    /// The name as a file.
    pub file: bool,
    /// The name as a directory.
    pub directory: bool,
}

/// What is known of a directory's listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// When the complete walk began.
    pub asked: Millis,
    /// How many keys directly in it no path can name (M2).
    pub unnameable: u64,
}

impl Millis {
    /// This plus `seconds`.
    #[must_use]
    pub const fn plus_seconds(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// Whether something asked at this time is good for `seconds` at `now`. A time in the future is not trusted.
    #[must_use]
    pub const fn fresh(self, seconds: u64, now: Self) -> bool {
        self.0 <= now.0 && now.0 < self.plus_seconds(seconds).0
    }
}

/// No answer is on its way for longer than this, in milliseconds; a row that is further ahead was
/// written before the clock was set back.
const LONGEST_ANSWER: u64 = 900_000;

impl Millis {
    /// Whether an answer to a question asked at `asked` replaces one asked at this time: it is later, or
    /// this time is no time at all because the clock was set back since.
    #[must_use]
    pub const fn gives_way_to(self, asked: Self) -> bool {
        self.0 <= asked.0 || self.0 > asked.0.saturating_add(LONGEST_ANSWER)
    }

    /// Whether an answer to a question asked at `asked` is old news, because something happened at this time. A tie is;
    /// a time that is far ahead is no time at all.
    #[must_use]
    pub const fn outdates(self, asked: Self) -> bool {
        self.0 >= asked.0 && self.0 <= asked.0.saturating_add(LONGEST_ANSWER)
    }
}

impl ETag {
    /// Takes a tag as a header has it.
    #[must_use]
    pub fn from_header(value: &str) -> Option<Self> {
        let value = value.trim();
        if value.is_empty() {
            return None;
        }
        let opaque = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
        Some(Self(opaque.to_owned()))
    }

    /// The tag as a header has it.
    #[must_use]
    pub fn to_header(&self) -> String {
        if self.is_weak() { self.0.clone() } else { format!("\"{}\"", self.0) }
    }

    /// Whether it says "the same for most purposes" only: two versions may share it.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.0.starts_with("W/\"")
    }

    /// The MD5 of the content, where the tag is one: 32 hex digits. Multipart tags are not.
    #[must_use]
    pub fn md5(&self) -> Option<[u8; 16]> {
        data_encoding::HEXLOWER_PERMISSIVE.decode(self.0.as_bytes()).ok()?.try_into().ok()
    }
}

impl Pointer {
    /// Whether `other` is the same version: by ETag where both have a strong one, else by size and time too.
    #[must_use]
    pub fn same_version(&self, other: &Self) -> bool {
        let alike = self.size == other.size && self.modified == other.modified;
        match (&self.etag, &other.etag) {
            (Some(own), Some(other)) if own.is_weak() => own == other && alike,
            (Some(own), Some(other)) => own == other,
            _ => alike,
        }
    }
}

impl File {
    /// A file without bytes or pointer: what exists only here.
    #[must_use]
    pub fn local(asked: Millis) -> Self {
        Self { pointer: None, description: None, asked, doubted: false }
    }

    /// The file that stands for an object, as of `asked`.
    #[must_use]
    pub const fn of(pointer: Pointer, asked: Millis) -> Self {
        Self { pointer: Some(pointer), description: None, asked, doubted: false }
    }

    /// Whether this is another version than `old` was.
    #[must_use]
    pub fn replaces(&self, old: &Self) -> bool {
        match (&self.pointer, &old.pointer) {
            (Some(new), Some(old)) => !old.same_version(new),
            (new, old) => new.is_some() != old.is_some(),
        }
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.pointer.as_ref().map_or(0, |pointer| pointer.size)
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn modified(&self) -> i64 {
        self.pointer.as_ref().map_or_else(|| i64::try_from(self.asked.0 / 1000).unwrap_or(0), |p| p.modified)
    }

    /// What is kept when `new` meets `old`: the answer asked later, a local-only file before any
    /// remote one (D1), and the description of the same version.
    #[must_use]
    pub fn merge(old: Option<Self>, mut new: Self) -> Self {
        let Some(old) = old else { return new };
        if !old.asked.gives_way_to(new.asked) || (old.pointer.is_none() && new.pointer.is_some()) {
            return old;
        }
        if new.description.is_none() && old.pointer == new.pointer {
            new.description = old.description;
        }
        new
    }
}

impl Directory {
    /// A directory as of `asked`; nothing is said of a file of the same name.
    #[must_use]
    pub const fn seen(asked: Millis) -> Self {
        Self { asked, first_seen: asked, file_absent: None, not_before: Millis(0) }
    }

    /// What is kept when `new` meets `old`: the later question, the earlier sight.
    #[must_use]
    pub fn merge(old: Option<Self>, new: Self) -> Self {
        let Some(old) = old else { return new };
        if old.not_before.outdates(new.asked) {
            return old;
        }
        let asked = if old.asked.gives_way_to(new.asked) { new.asked } else { old.asked };
        let file_absent = old.file_absent.max(new.file_absent);
        let not_before = old.not_before.max(new.not_before);
        Self { asked, first_seen: old.first_seen.min(new.first_seen), file_absent, not_before }
    }

    /// What is left of it when something below was deleted at `at`: it must be asked for again.
    #[must_use]
    pub fn aged(self, at: Millis) -> Self {
        Self { asked: Millis(0), file_absent: None, not_before: self.not_before.max(at), ..self }
    }
}

impl Node {
    /// This without the halves that are said not to count.
    #[must_use]
    pub fn without(self, halves: Halves) -> Self {
        Self {
            file: self.file.filter(|file| !halves.file || file.pointer.is_none()),
            directory: self.directory.filter(|_| !halves.directory),
        }
    }

    /// Whether nothing is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.file.is_none() && self.directory.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(size: u64, asked: u64) -> File {
        let pointer = Pointer { size, etag: ETag::from_header("\"x\""), modified: 1 };
        File { pointer: Some(pointer), description: None, asked: Millis(asked), doubted: false }
    }

    #[test]
    fn the_later_question_wins() {
        assert_eq!(File::merge(Some(file(1, 20)), file(2, 10)).size(), 1);
        assert_eq!(File::merge(Some(file(1, 20)), file(2, 30)).size(), 2);
    }

    #[test]
    fn a_clock_set_back_leaves_no_row_for_ever() {
        assert_eq!(File::merge(Some(file(1, 10_000_000)), file(2, 1_000_000)).size(), 2);
        assert_eq!(File::merge(Some(file(1, 1_500_000)), file(2, 1_000_000)).size(), 1);
    }

    #[test]
    fn a_listing_keeps_the_description_of_the_same_version_only() {
        let description = Some(Description { content_type: Some("text/plain".into()), ..Description::default() });
        let old = File { description: description.clone(), ..file(1, 10) };
        assert_eq!(File::merge(Some(old.clone()), file(1, 20)).description, description);
        assert_eq!(File::merge(Some(old), file(2, 20)).description, None);
    }

    #[test]
    fn a_time_in_the_future_is_not_trusted() {
        assert!(Millis(1000).fresh(1, Millis(1999)));
        assert!(!Millis(1000).fresh(1, Millis(2000)));
        assert!(!Millis(5000).fresh(1, Millis(1000)));
        assert!(!Millis(1000).fresh(0, Millis(1000)));
    }

    #[test]
    fn etags_keep_their_form() {
        assert_eq!(ETag::from_header("\"abc\"").unwrap().to_header(), "\"abc\"");
        assert_eq!(ETag::from_header("W/\"abc\"").unwrap().to_header(), "W/\"abc\"");
        assert!(ETag::from_header("\"0cc175b9c0f1b6a831c399e269772661\"").unwrap().md5().is_some());
        assert!(ETag::from_header("\"0cc175b9c0f1b6a831c399e269772661-2\"").unwrap().md5().is_none());
    }
}
