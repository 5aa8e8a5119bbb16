//! Remembered absences (L6).
//!
//! In memory and bounded: an absence is cheap to learn again and must not outlive a restart. Only a
//! remote's own "nothing there" is remembered: for the mount's `negativeTTLSeconds` it answers lookups,
//! and for as long as there is room it keeps an older answer, still on its way, from bringing the name
//! back (L8). Finding a name forgets its absence and that of every directory above it.

use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;

use crate::entry::Millis;
use crate::path::RelPath;
use crate::store::MountId;

/// At most so many absences are remembered; the least used go first.
const CAPACITY: usize = 65_536;

#[derive(Clone, Copy)]
struct Absence {
    asked: Millis,
    until: Millis,
}

/// Remembered absences.
pub struct Negatives(Cache<(MountId, RelPath), Absence>, AtomicU64);

impl Default for Negatives {
    fn default() -> Self {
        Self(Cache::new(CAPACITY), AtomicU64::new(0))
    }
}

impl Negatives {
    /// Whether the name is known to be absent at `now`.
    #[must_use]
    pub fn absent(&self, mount: MountId, path: &RelPath, now: Millis) -> bool {
        self.0.get(&(mount, path.clone())).is_some_and(|absence| now < absence.until)
    }

    /// Whether the name was found absent by a question asked after `asked`.
    #[must_use]
    pub fn absent_since(&self, mount: MountId, path: &RelPath, asked: Millis) -> bool {
        // Most of what is served was asked for after the last absence; that costs one comparison.
        self.1.load(Ordering::Relaxed) > asked.0
            && self.0.get(&(mount, path.clone())).is_some_and(|absence| absence.asked > asked)
    }

    /// Remembers that the name was absent when asked for at `asked`, good for answers until `until`.
    pub fn remember(&self, mount: MountId, path: &RelPath, asked: Millis, until: Millis) {
        self.1.fetch_max(asked.0, Ordering::Relaxed);
        self.0.insert((mount, path.clone()), Absence { asked, until });
    }

    /// Forgets the absence of a name that was there when asked for at `asked`, and of every directory
    /// above it; an absence learnt from a later question stays (L8).
    pub fn forget(&self, mount: MountId, path: &RelPath, asked: Millis) {
        for path in std::iter::once(path.clone()).chain(path.ancestors()) {
            self.0.remove_if(&(mount, path), |absence| absence.asked <= asked);
        }
    }
}
