//! Names, paths and keys: the only place where strings become paths.
//!
//! A [`FilerPath`] is what a workload says: absolute, `/`-separated. A [`RelPath`] is the same below
//! one mount, and a key is a [`Prefix`] followed by a `RelPath`, byte for byte (M2). So the mapping is
//! reversible by construction: taking the prefix off a key gives the path back, or the key is one
//! that no path can name, and [`child_of`] says so instead of bending it.
//!
//! Not nameable: an empty segment (`a//b`, a leading `/`), `.` or `..` as a segment, NUL. Everything
//! else is: spaces, `+`, `%`, control characters, names of any length up to the key limit.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest key that object stores take, in bytes (Amazon S3 User Guide, "Object key naming guidelines").
pub const MAX_KEY_BYTES: usize = 1024;

/// Why a string is not a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It does not begin with `/`.
    #[error("a path begins with '/'")]
    NotAbsolute,
    /// It has an empty segment.
    #[error("no path can name a key with an empty segment: remove the '//'")]
    EmptySegment,
    /// It has `.` or `..` as a segment.
    #[error("no path can name a key with a '.' or '..' segment")]
    DotSegment,
    /// It has a NUL.
    #[error("no path can name a key with a NUL")]
    Nul,
    /// It is not UTF-8.
    #[error("a path is UTF-8 text; this one is not")]
    NotText,
    /// It is longer than any key.
    #[error("the path has {0} bytes; no key is that long")]
    TooLong(usize),
}

/// An absolute path of the filer's namespace: `/`, or `/a/b` without a trailing slash.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilerPath(String);

/// A path below a mount's own directory: empty for that directory, else `a/b`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RelPath(String);

/// The part of a bucket that a mount covers: empty, or ending in `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Prefix(String);

/// What a listed key is, seen from the directory that was listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Child {
    /// An object directly in the directory.
    File(String),
    /// A directory: something lies below `name/`.
    Directory(String),
    /// The directory's own marker object.
    Marker,
    /// A key that no path can name, or one that is not below the directory.
    Unnameable,
}

const MAX_PATH_BYTES: usize = 4096;

impl FilerPath {
    /// The root of the namespace.
    #[must_use]
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    /// Reads a path; one trailing slash is dropped.
    ///
    /// # Errors
    /// Anything that no key can correspond to (M2).
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let body = text.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        if text.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong(text.len()));
        }
        let body = body.strip_suffix('/').unwrap_or(body);
        if body.is_empty() {
            return if text.len() > 1 { Err(PathError::EmptySegment) } else { Ok(Self::root()) };
        }
        body.split('/').try_for_each(check_segment)?;
        Ok(Self(text[..=body.len()].to_owned()))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is `/`.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// This path and each directory above it, up to `/`.
    pub fn self_and_ancestors(&self) -> impl Iterator<Item = &str> {
        let mut next = Some(self.0.as_str());
        std::iter::from_fn(move || {
            let this = next?;
            next = match this.rfind('/') {
                _ if this.len() == 1 => None,
                Some(0) => Some("/"),
                Some(at) => Some(&this[..at]),
                None => None,
            };
            Some(this)
        })
    }

    /// What is left of this path below `directory`, by component: `/data` does not cover `/database` (M1).
    #[must_use]
    pub fn below(&self, directory: &str) -> Option<RelPath> {
        if directory == "/" {
            return Some(RelPath(self.0[1..].to_owned()));
        }
        let rest = self.0.strip_prefix(directory)?;
        match rest.strip_prefix('/') {
            Some(rest) => Some(RelPath(rest.to_owned())),
            None => rest.is_empty().then(RelPath::default),
        }
    }

    /// The path of `rel` when this is a mount's own directory.
    #[must_use]
    pub fn join(&self, rel: &RelPath) -> Self {
        match (rel.is_root(), self.is_root()) {
            (true, _) => self.clone(),
            (false, true) => Self(format!("/{}", rel.0)),
            (false, false) => Self(format!("{}/{}", self.0, rel.0)),
        }
    }

    /// The path of the child `name`, as text.
    #[must_use]
    pub fn child(&self, name: &str) -> String {
        if self.is_root() { format!("/{name}") } else { format!("{}/{name}", self.0) }
    }
}

impl RelPath {
    /// Reads a relative path: empty, or segments that a path may have.
    ///
    /// # Errors
    /// As [`FilerPath::parse`].
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if !text.is_empty() {
            text.split('/').try_for_each(check_segment)?;
        }
        Ok(Self(text.to_owned()))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the mount's own directory.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory that holds it, and its name there; `None` for the mount's own directory.
    #[must_use]
    pub fn split(&self) -> Option<(&str, &str)> {
        match self.0.rfind('/') {
            _ if self.0.is_empty() => None,
            Some(at) => Some((&self.0[..at], &self.0[at + 1..])),
            None => Some(("", &self.0)),
        }
    }

    /// Every directory above it below the mount's own, nearest first.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> {
        let mut rest = self.0.as_str();
        std::iter::from_fn(move || {
            rest = &rest[..rest.rfind('/')?];
            Some(Self(rest.to_owned()))
        })
    }

    /// The child `name`, which must be one segment.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}/{name}", self.0)) }
    }
}

impl TryFrom<String> for RelPath {
    type Error = PathError;

    fn try_from(text: String) -> Result<Self, PathError> {
        Self::parse(&text)
    }
}

impl From<RelPath> for String {
    fn from(path: RelPath) -> Self {
        path.0
    }
}

impl Prefix {
    /// Takes a prefix as a spec gives it; a missing trailing slash is added.
    #[must_use]
    pub fn new(text: &str) -> Self {
        if text.is_empty() || text.ends_with('/') { Self(text.to_owned()) } else { Self(format!("{text}/")) }
    }

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The key of the object at `path`.
    #[must_use]
    pub fn key(&self, path: &RelPath) -> String {
        format!("{}{}", self.0, path.0)
    }

    /// What the keys below the directory `path` begin with.
    #[must_use]
    pub fn below(&self, path: &RelPath) -> String {
        if path.is_root() { self.0.clone() } else { format!("{}{}/", self.0, path.0) }
    }

    /// The path of `key`, if a path can name it: the reverse of [`Self::key`].
    #[must_use]
    pub fn path(&self, key: &str) -> Option<RelPath> {
        RelPath::parse(key.strip_prefix(self.0.as_str())?).ok()
    }
}

/// What `key`, or a common prefix ending in `/`, is to the directory whose keys begin with `below`.
#[must_use]
pub fn child_of(below: &str, key: &str) -> Child {
    let Some(rest) = key.strip_prefix(below) else { return Child::Unnameable };
    if rest.is_empty() {
        return Child::Marker;
    }
    let (name, directory) = match rest.strip_suffix('/') {
        Some(name) => (name, true),
        None => (rest, false),
    };
    if name.contains('/') || check_segment(name).is_err() {
        return Child::Unnameable;
    }
    if directory { Child::Directory(name.to_owned()) } else { Child::File(name.to_owned()) }
}

fn check_segment(segment: &str) -> Result<(), PathError> {
    match segment {
        "" => Err(PathError::EmptySegment),
        "." | ".." => Err(PathError::DotSegment),
        _ if segment.contains('\0') => Err(PathError::Nul),
        _ => Ok(()),
    }
}

impl fmt::Display for FilerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FilerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_refuses_what_no_key_has() {
        let bad = ["", "a", "//", "/a//b", "/a/./b", "/..", "/a/..", "/a\0", "//a", "/a//"];
        for text in bad {
            assert!(FilerPath::parse(text).is_err(), "{text:?}");
        }
        assert!(matches!(FilerPath::parse(&format!("/{}", "a/".repeat(40_000))), Err(PathError::TooLong(_))));
        for (text, path) in [("/", "/"), ("/a/", "/a"), ("/a b/c+d%", "/a b/c+d%"), ("/...", "/...")] {
            assert_eq!(FilerPath::parse(text).unwrap().as_str(), path);
        }
    }

    #[test]
    fn below_goes_by_component() {
        let path = |text| FilerPath::parse(text).unwrap();
        assert_eq!(path("/database").below("/data"), None);
        assert_eq!(path("/data").below("/data"), Some(RelPath::default()));
        assert_eq!(path("/data/x/y").below("/data").unwrap().as_str(), "x/y");
        assert_eq!(path("/data/x").below("/").unwrap().as_str(), "data/x");
    }

    #[test]
    fn children_of_a_listing() {
        assert_eq!(child_of("a/", "a/b"), Child::File("b".into()));
        assert_eq!(child_of("a/", "a/b/"), Child::Directory("b".into()));
        assert_eq!(child_of("a/", "a/"), Child::Marker);
        for key in ["a//", "a/../", "a/./", "b/x", "a/x/y", "a/."] {
            assert_eq!(child_of("a/", key), Child::Unnameable, "{key}");
        }
        assert_eq!(child_of("", "/"), Child::Unnameable);
    }

    #[test]
    fn ancestors_end_below_the_mount() {
        let rel = RelPath::parse("a/b/c").unwrap();
        assert_eq!(rel.ancestors().map(|p| p.0).collect::<Vec<_>>(), ["a/b", "a"]);
        let path = FilerPath::parse("/a/b").unwrap();
        assert_eq!(path.self_and_ancestors().collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
    }
}
