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
/// How far the wall clock was ever ahead of where the process began and what has passed since.
static AHEAD: AtomicU64 = AtomicU64::new(0);

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
    later(&AHEAD, steady, wall)
}

/// A clock that was set forward, or a machine that slept, is believed; when it is set back, time goes on from there at its
/// own pace. It must not stand still: of two answers of one moment the later is not known.
fn later(ahead: &AtomicU64, steady: u64, wall: u64) -> u64 {
    let now = wall.saturating_sub(steady);
    steady.saturating_add(ahead.fetch_max(now, Ordering::Relaxed).max(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_follows_the_wall_clock_forward_and_goes_on_when_that_is_set_back() {
        let ahead = AtomicU64::new(0);
        let told: Vec<u64> = [(100, 100), (110, 110), (120, 7200), (130, 130), (140, 50), (150, 7200), (160, 7300)]
            .map(|(steady, wall)| later(&ahead, steady, wall))
            .into();
        assert_eq!(told, [100, 110, 7200, 7210, 7220, 7230, 7300]);
    }
}
