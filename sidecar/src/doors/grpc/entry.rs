//! Entries as the protocol has them.
//!
//! An entry has no chunks, only its remote object: whoever reads, reads at a door. Where the bucket's
//! ETag is an MD5 it is given as such too, because clients of this protocol make the ETag they show
//! from it; so theirs is the bucket's. What nobody has asked for yet (type, encoding) is unset.

use crate::doors::grpc::proto;
use crate::doors::{DIRECTORY_MODE, FILE_MODE};
use crate::entry::{Directory, ETag, Entry, File};
use crate::filer::Found;

/// One entry of that name, as it stands below the mount `mount`.
#[must_use]
pub fn entry(name: String, entry: &Entry, mount: Option<&str>) -> proto::Entry {
    match entry {
        Entry::File(file) => of_file(name, file, mount.unwrap_or_default()),
        Entry::Directory(directory) => of_directory(name, *directory),
    }
}

/// What was found; nothing when nothing is known of the name.
#[must_use]
pub fn found(found: &Found) -> Option<proto::Entry> {
    let name = found.path.as_str().rsplit('/').next().unwrap_or_default().to_owned();
    let mount = found.mount.as_ref().map(|mount| mount.name.as_str());
    match (&found.node.file, found.node.directory) {
        (Some(file), _) => Some(of_file(name, file, mount.unwrap_or_default())),
        (None, Some(directory)) => Some(of_directory(name, directory)),
        (None, None) => None,
    }
}

fn of_file(name: String, file: &File, mount: &str) -> proto::Entry {
    let pointer = file.pointer.as_ref();
    let etag = pointer.and_then(|pointer| pointer.etag.as_ref());
    let description = file.description.as_ref();
    let attributes = proto::FuseAttributes {
        file_size: file.size(),
        file_mode: FILE_MODE,
        mime: description.and_then(|description| description.content_type.clone()).unwrap_or_default(),
        md5: etag.and_then(ETag::md5).map(Vec::from).unwrap_or_default(),
        ..at(file.modified())
    };
    let remote_entry = pointer.map(|pointer| proto::RemoteEntry {
        storage_name: mount.to_owned(),
        last_local_sync_ts_ns: 0,
        remote_e_tag: etag.map(ETag::to_header).unwrap_or_default(),
        remote_mtime: pointer.modified,
        remote_size: i64::try_from(pointer.size).unwrap_or(i64::MAX),
        remote_content_encoding: description
            .map(|description| description.content_encoding.clone().unwrap_or_default()),
    });
    proto::Entry { name, is_directory: false, attributes: Some(attributes), remote_entry }
}

fn of_directory(name: String, directory: Directory) -> proto::Entry {
    let seconds = i64::try_from(directory.first_seen.0 / 1000).unwrap_or(0);
    let attributes = proto::FuseAttributes { file_mode: DIRECTORY_MODE, ..at(seconds) };
    proto::Entry { name, is_directory: true, attributes: Some(attributes), remote_entry: None }
}

fn at(seconds: i64) -> proto::FuseAttributes {
    proto::FuseAttributes { mtime: seconds, crtime: seconds, ctime: seconds, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Description, Millis, Pointer};

    fn file(etag: &str, description: Option<Description>) -> Entry {
        let pointer = Some(Pointer { size: 7, etag: ETag::from_header(etag), modified: 1_700_000_000 });
        Entry::File(File { pointer, description, asked: Millis(1), doubted: false })
    }

    #[test]
    fn a_file_points_to_its_object() {
        let made = entry("a".into(), &file("\"0cc175b9c0f1b6a831c399e269772661\"", None), Some("m"));
        let (attributes, remote) = (made.attributes.unwrap(), made.remote_entry.unwrap());
        assert!(!made.is_directory);
        assert_eq!((attributes.file_size, attributes.file_mode, attributes.mtime), (7, 0o644, 1_700_000_000));
        assert_eq!(attributes.md5[..2], [0x0c, 0xc1]);
        assert_eq!(attributes.md5.len(), 16);
        assert_eq!((remote.storage_name.as_str(), remote.remote_size), ("m", 7));
        assert_eq!(remote.remote_e_tag, "\"0cc175b9c0f1b6a831c399e269772661\"");
        assert_eq!((attributes.mime.as_str(), remote.remote_content_encoding), ("", None), "nobody asked");
    }

    #[test]
    fn what_is_described_says_so_even_when_there_is_nothing_to_say() {
        let plain = Description { content_type: Some("text/css".into()), ..Description::default() };
        let packed = Description { content_encoding: Some("gzip".into()), ..plain.clone() };
        for (description, encoding) in [(plain, ""), (packed, "gzip")] {
            let made = entry("a".into(), &file("\"x-2\"", Some(description)), Some("m"));
            assert_eq!(made.attributes.as_ref().unwrap().mime, "text/css");
            assert!(made.attributes.unwrap().md5.is_empty(), "the tag of several parts is no MD5");
            assert_eq!(made.remote_entry.unwrap().remote_content_encoding.as_deref(), Some(encoding));
        }
    }

    #[test]
    fn a_directory_has_gos_bit_and_no_object() {
        let made = entry("d".into(), &Entry::Directory(Directory::seen(Millis(5_999))), Some("m"));
        let attributes = made.attributes.unwrap();
        assert!(made.is_directory && made.remote_entry.is_none());
        assert_eq!((attributes.file_mode, attributes.crtime), (0x8000_01ed, 5));
    }
}
