//! Entries as JSON, in the SeaweedFS filer's field names, for listings and `?metadata=true`.
//!
//! Fields that a mounted bucket has no value for are there and empty, because clients of that format
//! expect them. `Mode` is Go's file mode, whose directory bit is the topmost.

use bytes::Bytes;
use data_encoding::BASE64;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use jiff::Timestamp;
use serde::Serialize;

use crate::doors::http::error::Refusal;
use crate::doors::http::{Answer, full};
use crate::doors::{DIRECTORY_MODE, FILE_MODE};
use crate::entry::{Directory, ETag, Entry, File};
use crate::filer::Found;

/// One entry.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EntryJson {
    full_path: String,
    mtime: String,
    crtime: String,
    ctime: String,
    mode: u32,
    uid: u32,
    gid: u32,
    mime: String,
    ttl_sec: i32,
    user_name: &'static str,
    group_names: Option<()>,
    symlink_target: &'static str,
    md5: Option<String>,
    file_size: u64,
    rdev: u32,
    inode: u64,
    extended: Option<()>,
    hard_link_id: Option<()>,
    hard_link_counter: i32,
    content: Option<()>,
    remote: Option<RemoteJson>,
    quota: i64,
}

/// The remote object of an entry.
#[derive(Debug, Serialize)]
struct RemoteJson {
    storage_name: String,
    remote_e_tag: String,
    remote_mtime: i64,
    remote_size: u64,
}

/// One entry, as it stands at `path` of the mount `mount`.
#[must_use]
pub fn entry(path: String, entry: &Entry, mount: Option<&str>) -> EntryJson {
    match entry {
        Entry::File(file) => of_file(path, file, mount.unwrap_or_default()),
        Entry::Directory(directory) => of_directory(path, *directory),
    }
}

fn of_file(path: String, file: &File, mount: &str) -> EntryJson {
    let pointer = file.pointer.as_ref();
    let etag = pointer.and_then(|pointer| pointer.etag.as_ref());
    let time = time(file.modified());
    EntryJson {
        mode: FILE_MODE,
        mime: file.description.as_ref().and_then(|d| d.content_type.clone()).unwrap_or_default(),
        md5: etag.and_then(ETag::md5).map(|md5| BASE64.encode(&md5)),
        file_size: file.size(),
        remote: pointer.map(|pointer| RemoteJson {
            storage_name: mount.to_owned(),
            remote_e_tag: etag.map(ETag::to_header).unwrap_or_default(),
            remote_mtime: pointer.modified,
            remote_size: pointer.size,
        }),
        ..bare(path, time)
    }
}

fn of_directory(path: String, directory: Directory) -> EntryJson {
    let seconds = i64::try_from(directory.first_seen.0 / 1000).unwrap_or(0);
    EntryJson { mode: DIRECTORY_MODE, ..bare(path, time(seconds)) }
}

fn bare(full_path: String, time: String) -> EntryJson {
    EntryJson {
        full_path,
        crtime: time.clone(),
        ctime: time.clone(),
        mtime: time,
        mode: 0,
        uid: 0,
        gid: 0,
        mime: String::new(),
        ttl_sec: 0,
        user_name: "",
        group_names: None,
        symlink_target: "",
        md5: None,
        file_size: 0,
        rdev: 0,
        inode: 0,
        extended: None,
        hard_link_id: None,
        hard_link_counter: 0,
        content: None,
        remote: None,
        quota: 0,
    }
}

/// Seconds since 1970 as RFC 3339.
fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// Answers `?metadata=true`.
///
/// # Errors
/// Not found, when nothing is known of the name.
pub fn answer(found: &Found) -> Result<Answer, Refusal> {
    let mount = found.mount.as_ref().map(|mount| mount.name.as_str());
    let path = found.path.to_string();
    let body = match (&found.node.file, found.node.directory) {
        (Some(file), _) => of_file(path, file, mount.unwrap_or_default()),
        (None, Some(directory)) => of_directory(path, directory),
        (None, None) => return Err(crate::filer::FilerError::NotFound { mount: None, path }.into()),
    };
    Ok(json(&body, false))
}

/// A value as an answer.
pub fn json(value: &impl Serialize, pretty: bool) -> Answer {
    let text = if pretty { serde_json::to_vec_pretty(value) } else { serde_json::to_vec(value) };
    let text = Bytes::from(text.unwrap_or_default());
    let length = HeaderValue::from(text.len());
    let mut answer = full(StatusCode::OK, text);
    answer.headers_mut().insert(CONTENT_LENGTH, length);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}
