//! Perform: what a caller of the filer does, and what it was told.

use remotemount_sidecar::entry::{Entry, File};
use remotemount_sidecar::filer::delete::Order;
use remotemount_sidecar::filer::list::Selection;
use remotemount_sidecar::filer::{Filer, FilerError, Want};
use remotemount_sidecar::path::FilerPath;
use remotemount_sidecar::store::Cursor;

use crate::history::Outcome;
use crate::plan::{KEYS, Op};
use crate::world::version_of;

/// Does it, and says what came of it.
pub async fn perform(filer: &Filer, op: Op) -> Outcome {
    let path = |rel: &str| FilerPath::parse(&format!("/m/{rel}")).unwrap();
    let failed = |error: FilerError| match &error {
        FilerError::Conflict { .. } => Outcome::Conflict,
        FilerError::Incomplete { first, .. } if matches!(**first, FilerError::Conflict { .. }) => Outcome::Conflict,
        _ => Outcome::Failed(error.to_string()),
    };
    let version = |file: &File| file.pointer.as_ref().and_then(version_of);
    match op {
        Op::Lookup(key) | Op::Describe(key) => {
            let want = if matches!(op, Op::Lookup(_)) { Want::Any } else { Want::Described };
            match filer.lookup(&path(key), want).await {
                Ok(found) => Outcome::Showed(vec![(key, found.node.file.as_ref().and_then(version))]),
                Err(FilerError::NotFound { .. }) => Outcome::Showed(vec![(key, None)]),
                Err(error) => failed(error),
            }
        }
        Op::LookupDirectory => match filer.lookup(&path("d"), Want::Directory).await {
            Ok(_) => Outcome::Directory(true),
            Err(FilerError::NotFound { .. }) => Outcome::Directory(false),
            Err(error) => failed(error),
        },
        Op::List => {
            let selection = Selection { after: Cursor::start(), limit: 100, keep: &|_| true };
            match filer.list(&path("d"), &selection).await {
                Ok(listed) => Outcome::Showed(KEYS.map(|key| (key, version_in(&listed.children, key))).into()),
                Err(FilerError::NotFound { .. }) => Outcome::Showed(KEYS.map(|key| (key, None)).into()),
                Err(error) => failed(error),
            }
        }
        Op::DeleteFile(_) | Op::DeleteTree => {
            let (path, recursive) = match op {
                Op::DeleteFile(key) => (path(key), false),
                _ => (path("d"), true),
            };
            match filer.delete(&path, Order { recursive, ..Order::default() }).await {
                Ok(_) => Outcome::Deleted,
                Err(error) => failed(error),
            }
        }
    }
}

fn version_in(children: &[remotemount_sidecar::store::Child], key: &str) -> Option<u64> {
    let child = children.iter().find(|child| key.ends_with(&format!("/{}", child.name)))?;
    match &child.entry {
        Entry::File(File { pointer: Some(pointer), .. }) => version_of(pointer),
        _ => None,
    }
}
