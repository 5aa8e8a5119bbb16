//! A directory as a stream of entries.
//!
//! Pages are listed as the client takes them, so nothing is collected however large the directory is.
//! The first page is there before the stream begins: what is wrong from the start is the call's status.
//! A page that fails later ends the stream with its error; what was sent is then no directory (D2). A
//! directory that does not exist is `NotFound`, where the reference filer sends an empty stream: its
//! clients pass the error on, and an empty directory is not the same as none. The order is the
//! bucket's, by which a prefix is one stretch of names; so a listing begins just before it and ends
//! just behind it. A bucket may hold a file and a directory of one name: both are sent, and a client
//! that goes on after the bare name may see entries again but misses none.

use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use tonic::metadata::MetadataValue;
use tonic::{Response, Status};

use crate::doors::grpc::{STALE, entry, error, proto, request};
use crate::filer::list::{Listed, Selection};
use crate::filer::{Filer, FilerError, Want};
use crate::path::FilerPath;
use crate::store::Cursor;

/// Says how many keys directly in the directory no path can name (M2).
const UNNAMEABLE: &str = "x-remotemount-unnameable-keys";
/// Children listed at a time: half a page of most remotes, so that the first are out before the
/// remote is asked for its second page.
const PAGE: usize = 500;

/// Entries, as they come.
pub type Entries = BoxStream<'static, Result<proto::ListEntriesResponse, Status>>;

/// Where a listing is.
struct Walk {
    filer: Filer,
    directory: FilerPath,
    prefix: String,
    after: Cursor,
    /// How many more may be sent; `None` for all.
    left: Option<usize>,
    done: bool,
}

/// Answers `ListEntries`.
///
/// # Errors
/// When the request names no directory, or its first page cannot be listed.
pub async fn answer(filer: Filer, asked: proto::ListEntriesRequest) -> Result<Response<Entries>, Status> {
    let directory = request::directory(&asked.directory)?;
    let start = asked.start_from_file_name;
    let bare = start.strip_suffix('/').unwrap_or(&start);
    if bare.is_empty() && !start.is_empty() {
        return Err(error::invalid("startFromFileName is a name; this one is a '/' alone"));
    }
    let at = request::path(&asked.directory, bare)?;
    let left = usize::try_from(asked.limit).ok().filter(|limit| *limit > 0);
    let mut walk = Walk { filer, directory, after: before(&asked.prefix), prefix: asked.prefix, left, done: false };
    let mut first = Vec::new();
    if !start.is_empty() {
        let mut after = walk.filer.cursor(&walk.directory, &start);
        if asked.inclusive_start_from {
            // The directory of that name comes after the file of that name, so this includes it.
            after = Cursor::after_file(bare);
            if bare.starts_with(&walk.prefix) {
                first.extend(walk.file(&at).await?);
            }
        }
        walk.after = walk.after.max(after);
    }
    let mut metadata = None;
    if !walk.done {
        let (page, listed) = walk.page().await?;
        first.extend(page);
        metadata = Some(listed);
    }
    let rest = stream::try_unfold(walk, |mut walk| async move {
        if walk.done {
            return Ok(None);
        }
        let (page, _) = walk.page().await?;
        Ok::<_, Status>(Some((stream::iter(page.into_iter().map(Ok)), walk)))
    });
    let entries = stream::iter(first.into_iter().map(Ok)).chain(rest.try_flatten());
    let mut answer = Response::new(entries.boxed());
    if let Some(listed) = metadata {
        if listed.stale {
            answer.metadata_mut().insert(STALE, MetadataValue::from_static("true"));
        }
        if listed.unnameable > 0 {
            answer.metadata_mut().insert(UNNAMEABLE, MetadataValue::from(listed.unnameable));
        }
    }
    Ok(answer)
}

impl Walk {
    /// The file at which an inclusive listing begins, if there is one.
    async fn file(&mut self, at: &FilerPath) -> Result<Option<proto::ListEntriesResponse>, FilerError> {
        let found = match self.filer.lookup(at, Want::Any).await {
            Ok(found) if found.node.file.is_some() => found,
            Ok(_) | Err(FilerError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        self.count(1);
        Ok(entry::found(&found).map(response))
    }

    /// The next page, and what goes with it.
    async fn page(&mut self) -> Result<(Vec<proto::ListEntriesResponse>, Listed), FilerError> {
        let prefix = self.prefix.as_str();
        // One name from behind the prefix is enough to know that no more of it follow.
        let keep = |name: &str| name.starts_with(prefix) || name > prefix;
        let limit = self.left.map_or(PAGE, |left| left.min(PAGE));
        let selection = Selection { after: self.after.clone(), limit, keep: &keep };
        let mut listed = self.filer.list(&self.directory, &selection).await?;
        let children = std::mem::take(&mut listed.children);
        let all = children.len();
        if let Some(last) = children.last() {
            self.after = last.cursor();
        }
        let children = children.into_iter().take_while(|child| child.name.starts_with(&self.prefix));
        let mount = listed.mount.as_deref();
        let page: Vec<_> = children.map(|child| response(entry::entry(child.name, &child.entry, mount))).collect();
        self.done = !listed.more || page.len() < all;
        self.count(page.len());
        Ok((page, listed))
    }

    fn count(&mut self, sent: usize) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(sent);
            self.done |= *left == 0;
        }
    }
}

/// A place before every name that begins with `prefix`, and as near as it can be told without looking.
fn before(prefix: &str) -> Cursor {
    let mut name = prefix.to_owned();
    name.pop();
    Cursor::after_file(&name)
}

fn response(entry: proto::Entry) -> proto::ListEntriesResponse {
    proto::ListEntriesResponse { entry: Some(entry), snapshot_ts_ns: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_one_stretch_of_names() {
        for (prefix, place) in [("", ""), ("a", ""), ("ab", "a"), ("aé", "a")] {
            assert_eq!(before(prefix), Cursor::after_file(place), "{prefix}");
            let within = [Cursor::after_file(prefix), Cursor::after_directory(&format!("{prefix}x"))];
            assert!(prefix.is_empty() || within.iter().all(|cursor| before(prefix) < *cursor), "{prefix}");
        }
    }
}
