//! How long to wait before the next attempt: exponential, with full jitter.
//!
//! Any time from nothing to the ceiling, and the ceiling doubles from one second to sixteen: when an
//! operator comes back, its sidecars do not come in one wave. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(16);
/// After a stream that the operator ended in good order, and too soon.
const COME_AGAIN: Duration = Duration::from_millis(100);

/// The pause to come.
#[derive(Debug)]
pub struct Backoff {
    ceiling: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { ceiling: FIRST }
    }
}

impl Backoff {
    /// The next pause; `random` is from 0 to 1. Never nothing at all after a stream that did not fail.
    pub fn next(&mut self, random: f64, failed: bool) -> Duration {
        let pause = self.ceiling.mul_f64(random.clamp(0.0, 1.0));
        self.ceiling = (self.ceiling * 2).min(LAST);
        if failed { pause } else { pause.max(COME_AGAIN) }
    }

    /// What comes next is the first failure again.
    pub const fn reset(&mut self) {
        self.ceiling = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_its_end_and_falls_with_success() {
        let mut backoff = Backoff::default();
        let seconds: Vec<_> = (0..9).map(|_| backoff.next(1.0, true).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 16, 16, 16, 16]);
        assert_eq!((backoff.next(0.5, true).as_secs(), backoff.next(0.0, true)), (8, Duration::ZERO));
        backoff.reset();
        assert_eq!((backoff.next(0.0, false), backoff.next(1.0, true).as_secs()), (COME_AGAIN, 2));
    }
}
