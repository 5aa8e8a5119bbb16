//! Delete health: whether a mount's deletes fail, as its condition `DeletesHealthy` is told.
//!
//! Owns how the last delete failed, and when deletes were last found well again. A success ends a failure,
//! but only twice in ten minutes: where some deletes fail and others go, the failure stays until ten
//! minutes have passed without another, which is for the operator to see. So the condition cannot change
//! with every delete. Never asks what counts as a failure; that is the filer's to say. Invariant: what is
//! told is the newest failure, or none.

use remotemount_crds::control::FAILURE_COUNTS_MILLIS;

use crate::entry::Millis;

/// When a delete failed, for which reason, and what was said.
pub type DeleteFailure = (Millis, &'static str, String);

/// Whether a mount's deletes fail.
#[derive(Debug, Default)]
pub struct DeleteHealth {
    failure: Option<DeleteFailure>,
    /// The last two recoveries, the older first.
    recovered: [Option<Millis>; 2],
}

impl DeleteHealth {
    /// A delete failed.
    pub fn failed(&mut self, failure: DeleteFailure) {
        self.failure = Some(failure);
    }

    /// A delete went well at `now`.
    pub fn succeeded(&mut self, now: Millis) {
        let recent = |at: Millis| now.0.saturating_sub(at.0) < FAILURE_COUNTS_MILLIS;
        let Some((failed, ..)) = &self.failure else { return };
        if recent(*failed) && self.recovered[0].is_some_and(recent) {
            return;
        }
        self.failure = None;
        self.recovered = [self.recovered[1], Some(now)];
    }

    /// How the last delete failed, unless deletes are well again.
    #[must_use]
    pub const fn failure(&self) -> Option<&DeleteFailure> {
        self.failure.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(health: &mut DeleteHealth, minute: u64) {
        health.failed((Millis(minute * 60_000), "Denied", String::new()));
    }

    fn succeeded(health: &mut DeleteHealth, minute: u64) -> bool {
        health.succeeded(Millis(minute * 60_000));
        health.failure().is_none()
    }

    #[test]
    fn a_success_ends_a_failure_twice_in_ten_minutes() {
        let mut health = DeleteHealth::default();
        for minute in [100, 102] {
            failed(&mut health, minute);
            assert!(succeeded(&mut health, minute + 1), "{health:?}");
        }
        failed(&mut health, 104);
        assert!(!succeeded(&mut health, 110), "{health:?}");
        assert_eq!(health.failure().map(|(at, ..)| *at), Some(Millis(104 * 60_000)));
        assert!(succeeded(&mut health, 111), "the first recovery is ten minutes ago: {health:?}");
    }

    #[test]
    fn a_failure_that_is_long_ago_ends_with_any_success() {
        let mut health = DeleteHealth::default();
        for minute in [100, 101] {
            failed(&mut health, minute);
            assert!(succeeded(&mut health, minute));
        }
        failed(&mut health, 102);
        assert!(!succeeded(&mut health, 109));
        assert!(succeeded(&mut health, 112), "{health:?}");
    }
}
