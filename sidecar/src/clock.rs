//! The wall clock, read in one place.
//!
//! Freshness is judged by wall-clock time because it must outlive the process (L1, L7). A clock that
//! jumps back makes entries look as if asked in the future; those are not trusted and asked again.

use crate::entry::Millis;

/// Now.
#[must_use]
pub fn now() -> Millis {
    let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Millis(age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)))
}
