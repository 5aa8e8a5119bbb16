//! How long to wait before the next attempt: exponential, with full jitter.
//!
//! Any time from nothing to the ceiling, and the ceiling doubles from one second to sixteen: when an
//! operator comes back, its sidecars do not come in one wave. Where nobody listens it stays at four: of
//! two replicas the one that does not lead refuses connections, so every other attempt ends so, and costs
//! nobody anything. Pure.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(16);
const LAST_UNHEARD: Duration = Duration::from_secs(4);
/// After a stream that the operator ended in good order, and too soon.
const COME_AGAIN: Duration = Duration::from_millis(100);

/// What the last attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Nobody listens there.
    Refusal,
    /// Something else failed.
    Failure,
    /// A stream ended in good order.
    End,
}

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
    pub fn next(&mut self, random: f64, after: After) -> Duration {
        let random = random.clamp(0.0, 1.0);
        let pause = self.ceiling.mul_f64(random);
        match after {
            After::Refusal => {
                self.ceiling = self.ceiling.max((self.ceiling * 2).min(LAST_UNHEARD));
                pause.min(LAST_UNHEARD.mul_f64(random))
            }
            After::Failure => {
                self.ceiling = (self.ceiling * 2).min(LAST);
                pause
            }
            After::End => {
                self.ceiling = (self.ceiling * 2).min(LAST);
                pause.max(COME_AGAIN)
            }
        }
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
        let seconds: Vec<_> = (0..9).map(|_| backoff.next(1.0, After::Failure).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 16, 16, 16, 16]);
        let next = (backoff.next(0.5, After::Failure).as_secs(), backoff.next(0.0, After::Failure));
        assert_eq!(next, (8, Duration::ZERO));
        backoff.reset();
        assert_eq!((backoff.next(0.0, After::End), backoff.next(1.0, After::Failure).as_secs()), (COME_AGAIN, 2));
    }

    #[test]
    fn where_nobody_listens_it_is_tried_again_soon_and_what_failed_otherwise_is_not_forgotten() {
        let mut backoff = Backoff::default();
        let seconds: Vec<_> = (0..5).map(|_| backoff.next(1.0, After::Refusal).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 4, 4]);
        assert_eq!([8, 16].map(|_| backoff.next(1.0, After::Failure).as_secs()), [4, 8]);
        assert_eq!(backoff.next(1.0, After::Refusal).as_secs(), 4);
        assert_eq!(backoff.next(1.0, After::Failure).as_secs(), 16);
    }
}
