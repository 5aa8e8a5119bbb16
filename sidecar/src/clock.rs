//! The wall clock, read in one place.
//!
//! Freshness is judged by wall-clock time because it must outlive the process (L1, L7). Within one
//! process it never runs backwards, because which of two answers is the later one decides what is kept
//! (L8): while the wall clock is set back, time goes on from where it was. After a restart, entries
//! that look as if asked in the future are not trusted and asked again.
//!
//! A simulation that runs on one thread may hold the clock of that thread, so that a run can be repeated.

use std::cell::Cell;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::entry::Millis;

/// When the process first looked, by both clocks.
static BEGIN: OnceLock<(Instant, u64)> = OnceLock::new();
static LATEST: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Where this thread's clock is held.
    static HELD: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Holds the clock of this thread at `nanos` since 1970; `None` lets it go. For simulations only.
pub fn hold(nanos: Option<u64>) {
    HELD.set(nanos);
}

/// Now.
#[must_use]
pub fn now() -> Millis {
    Millis(nanos() / 1_000_000)
}

/// A number from 0 up to 1 that differs from call to call and from process to process: for pauses, not for secrets.
#[must_use]
pub fn jitter() -> f64 {
    // The map's seed comes from the system; no generator is worth a dependency here.
    let noise = RandomState::new().build_hasher().finish() >> 32;
    f64::from(u32::try_from(noise).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

/// Nanoseconds since 1970; never less than what was answered before.
#[must_use]
pub fn nanos() -> u64 {
    if let Some(held) = HELD.get() {
        return held;
    }
    let age = SystemTime::now().duration_since(UNIX_EPOCH);
    let wall = age.map_or(0, |age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX));
    let (begin, then) = BEGIN.get_or_init(|| (Instant::now(), wall));
    let steady = then.saturating_add(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
    // A clock that was set forward, or a machine that slept, is believed.
    let now = wall.max(steady);
    LATEST.fetch_max(now, Ordering::Relaxed).max(now)
}
