//! How entries lie in an ordered byte store: keys and values.
//!
//! Key: generation (4 bytes, big endian), the directory's path, a NUL, the child's name, and `/` for a
//! directory. No path has a NUL (M2), so a directory's children are one contiguous range, everything
//! below it is two ranges, and a generation is one. Value: a format byte, then postcard. A value of
//! another format reads as absent: it is a cache, and the next question rebuilds it.

use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::entry::Entry;
use crate::path::RelPath;
use crate::store::{IntentId, MountId};

/// The format of values; raised when a stored type changes.
const FORMAT: u8 = 3;

/// The key of the name as a file; `None` for a mount's own directory.
#[must_use]
pub fn file_key(mount: MountId, path: &RelPath) -> Option<Vec<u8>> {
    let (directory, name) = path.split()?;
    let mut key = Vec::with_capacity(4 + path.as_str().len() + 2);
    key.extend_from_slice(&mount.0.to_be_bytes());
    key.extend_from_slice(directory.as_bytes());
    key.push(0);
    key.extend_from_slice(name.as_bytes());
    Some(key)
}

/// The key of the name as a directory; `None` for a mount's own directory.
#[must_use]
pub fn directory_key(mount: MountId, path: &RelPath) -> Option<Vec<u8>> {
    let mut key = file_key(mount, path)?;
    key.push(b'/');
    Some(key)
}

/// The key of one half of a name in the tables of tombstones and hidden names, which know a mount's own directory, too.
#[must_use]
pub fn half_key(mount: MountId, path: &RelPath, directory: bool) -> Vec<u8> {
    let key = if directory { directory_key(mount, path) } else { file_key(mount, path) };
    key.unwrap_or_else(|| [&mount.0.to_be_bytes()[..], b"\0/"].concat())
}

/// The key of an intent.
#[must_use]
pub fn intent_key(mount: MountId, intent: IntentId) -> Vec<u8> {
    [&mount.0.to_be_bytes()[..], &intent.0.to_be_bytes()].concat()
}

/// The intent of a key.
#[must_use]
pub fn intent_of(key: &[u8]) -> Option<(MountId, IntentId)> {
    let bytes: [u8; 8] = key.get(4..)?.try_into().ok()?;
    Some((mount_of(key)?, IntentId(u64::from_be_bytes(bytes))))
}

/// The key of a directory's listing.
#[must_use]
pub fn listing_key(mount: MountId, directory: &RelPath) -> Vec<u8> {
    [&mount.0.to_be_bytes(), directory.as_str().as_bytes()].concat()
}

/// What the keys of a directory's children begin with.
#[must_use]
pub fn children_prefix(mount: MountId, directory: &RelPath) -> Vec<u8> {
    let mut key = listing_key(mount, directory);
    key.push(0);
    key
}

/// The keys of a directory's children.
#[must_use]
pub fn children(mount: MountId, directory: &RelPath) -> Range<Vec<u8>> {
    let start = children_prefix(mount, directory);
    let mut end = listing_key(mount, directory);
    end.push(1);
    start..end
}

/// The keys of what lies below a directory's subdirectories.
#[must_use]
pub fn deeper(mount: MountId, directory: &RelPath) -> Range<Vec<u8>> {
    if directory.is_root() {
        return children(mount, directory).end..generation(mount).end;
    }
    let mut start = listing_key(mount, directory);
    let mut end = start.clone();
    start.push(b'/');
    end.push(b'/' + 1);
    start..end
}

/// The keys of a generation.
#[must_use]
pub fn generation(mount: MountId) -> Range<Vec<u8>> {
    mount.0.to_be_bytes().to_vec()..mount.0.saturating_add(1).to_be_bytes().to_vec()
}

/// The generation of a key.
#[must_use]
pub fn mount_of(key: &[u8]) -> Option<MountId> {
    let bytes: [u8; 4] = key.get(..4)?.try_into().ok()?;
    Some(MountId(u32::from_be_bytes(bytes)))
}

/// The path that an entry's key names, and whether as a directory.
#[must_use]
pub fn path_of(key: &[u8]) -> Option<(RelPath, bool)> {
    let rest = std::str::from_utf8(key.get(4..)?).ok()?;
    let (directory, name) = rest.split_once('\0')?;
    let (name, is_directory) = match name.strip_suffix('/') {
        Some(name) => (name, true),
        None => (name, false),
    };
    Some((RelPath::parse(directory).ok()?.child(name), is_directory))
}

/// A value as it is stored.
///
/// # Errors
/// Never for the types of this crate; kept as an error so that nothing can panic in the writer.
pub fn encode(value: &impl Serialize) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_extend(value, vec![FORMAT])
}

/// A stored value, if it is of this format.
#[must_use]
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match bytes.split_first() {
        Some((&FORMAT, body)) => postcard::from_bytes(body).ok(),
        _ => None,
    }
}

/// A row of the entries: its path, and what is there; none when it cannot be read.
pub fn row_of(key: &[u8], value: &[u8]) -> Option<(RelPath, Entry)> {
    let (path, directory) = path_of(key)?;
    let entry = if directory { Entry::Directory(decode(value)?) } else { Entry::File(decode(value)?) };
    Some((path, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_give_their_paths_back() {
        let mount = MountId(7);
        for text in ["a", "a/b", "a/b c/d+e%", "a.b/ü"] {
            let path = RelPath::parse(text).unwrap();
            assert_eq!(path_of(&file_key(mount, &path).unwrap()), Some((path.clone(), false)));
            assert_eq!(path_of(&directory_key(mount, &path).unwrap()), Some((path, true)));
        }
    }

    #[test]
    fn a_range_holds_exactly_its_own() {
        let (mount, a) = (MountId(1), RelPath::parse("a").unwrap());
        let key = |text: &str| file_key(mount, &RelPath::parse(text).unwrap()).unwrap();
        assert!(children(mount, &a).contains(&key("a/b")));
        for other in ["a", "a/b/c", "ab", "a-/x", "a\u{1}/x", "b"] {
            assert!(!children(mount, &a).contains(&key(other)), "{other:?}");
        }
        assert!(deeper(mount, &a).contains(&key("a/b/c")));
        for other in ["a/b", "a0/c", "a./c", "b/c"] {
            assert!(!deeper(mount, &a).contains(&key(other)), "{other:?}");
        }
    }
}
