//! What the log of events must say of a round (E1).
//!
//! Names are never used twice, so a path's events are one round's. Each object that is gone because of
//! us has exactly one event of it, over the crash and over the DELETE that was repeated, and none while
//! it is still there. What another writer deletes while a delete of ours is open cannot be told from our
//! own deed and has one, too. What another writer puts again after it was deleted is another object: the
//! repeated DELETE takes it away and tells of that. Directories are told of once, after all that was in them;
//! one that the server went on listing with nothing in it was shown again, and may be told of again.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use remotemount_sidecar::events::Event;

/// One object that was to be deleted.
#[derive(Debug)]
pub struct Object {
    pub path: String,
    /// Whether the bucket had it when the round was checked.
    pub there: bool,
    /// How often its end was to be told of until then.
    pub told: usize,
}

/// One round.
pub struct Expected {
    /// The directory that was deleted, if one was.
    pub directory: Option<String>,
    pub objects: Vec<Object>,
    /// What was beside them and stays.
    pub others: Vec<String>,
    /// Directories that the server listed after all that was in them was gone, and that were therefore shown.
    pub shown_empty: BTreeSet<String>,
    /// When the round was checked, before the DELETE was repeated, in nanoseconds since 1970.
    pub checked: u64,
}

impl Expected {
    pub fn judge(&self, events: &[Event]) -> Result<()> {
        let ends = |path: &str| -> Vec<u64> {
            events.iter().filter(|event| event.new.is_none() && event.path == path).map(|event| event.at).collect()
        };
        for object in &self.objects {
            let ends = ends(&object.path);
            let before = ends.iter().filter(|at| **at < self.checked).count();
            let total = object.told + usize::from(object.there);
            let seen = (before, ends.len());
            ensure!(seen == (object.told, total), "{object:?} is told of {before} times, {} in the end", ends.len());
        }
        for path in &self.others {
            ensure!(ends(path).is_empty(), "{path} was never deleted, and is told of");
        }
        let Some(directory) = &self.directory else { return Ok(()) };
        let came_back = self.objects.iter().any(|object| object.there && object.told > 0);
        let own = ends(directory).len();
        let again = came_back || self.shown_empty.contains(directory);
        ensure!(own == 1 || (own == 2 && again), "{directory} is told of {own} times");
        let below: Vec<&Event> = events.iter().filter(|e| e.new.is_none() && is_in(&e.path, directory)).collect();
        let others = below.iter().map(|event| event.path.as_str());
        let subdirectories = others.filter(|path| !self.objects.iter().any(|object| object.path == *path));
        for path in subdirectories {
            let own = ends(path).len();
            ensure!(own == 1 || (own == 2 && self.shown_empty.contains(path)), "{path} is told of {:?}", ends(path));
            let last = below.iter().rfind(|event| is_in(&event.path, path));
            ensure!(last.is_none_or(|last| last.at < ends(path)[0]), "{path} is told of before {last:?}");
        }
        let last = below.last().map_or(0, |event| event.at);
        ensure!(ends(directory).last().is_some_and(|at| *at > last), "{directory} is told of before what was in it");
        Ok(())
    }
}

fn is_in(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}
