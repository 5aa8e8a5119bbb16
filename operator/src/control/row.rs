//! What one sidecar says of its mounts, as it is kept: bounded, typed, and small.
//!
//! A sidecar runs beside a workload and may say anything: texts are cut, lists are bounded, a reason
//! that is not known reads as [`Reason::Unknown`]. Thousands of these are in memory, so absent texts
//! take no place. Pure.

use remotemount_crds::condition::Reason;
use remotemount_crds::control::{self, MAX_MOUNTS, MAX_PROBLEMS, MountStatus, Reachability, cut, cut_to};

/// A Kubernetes name or uid is no longer than that, in bytes.
const MAX_NAME_BYTES: usize = 253;
/// A reason is no longer than that, in bytes.
const MAX_REASON_BYTES: usize = 64;

/// All that a sidecar says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Its mounts, by name, each once.
    pub rows: Box<[Row]>,
    /// What is wrong with manifests: whose, empty when that is not known, and what.
    pub problems: Box<[(Box<str>, Box<str>)]>,
    /// It was told to stop.
    pub draining: bool,
}

/// One mount of one sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// `metadata.name`
    pub name: Box<str>,
    /// `metadata.uid` of the manifest in force; empty when it has none.
    pub uid: Box<str>,
    /// `metadata.generation` of the manifest in force; 0 when it has none.
    pub generation: i64,
    /// It was marked as removed: nothing is deleted on the remote any more.
    pub withdrawn: bool,
    /// What is known of the remote.
    pub remote: Remote,
    /// Old entries are served because the remote cannot be asked.
    pub stale: bool,
    /// Deletes that have begun and are not finished.
    pub open_intents: u64,
    /// Those that run just now.
    pub deletes_under_way: u64,
    /// When the oldest of the open ones began, in milliseconds since 1970; 0 without one.
    pub oldest_intent_millis: u64,
    /// How the last delete failed, if it did.
    pub delete_failure: Option<Box<DeleteFailure>>,
}

/// What a sidecar knows of a remote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Remote {
    /// Nobody has asked it yet.
    #[default]
    Unknown,
    /// It answers.
    Reachable,
    /// It does not, or refuses.
    Unreachable(Box<Trouble>),
}

/// Why something is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: Box<str>,
    /// Since when, in milliseconds since 1970.
    pub since_millis: u64,
}

/// How a delete failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteFailure {
    /// When, in milliseconds since 1970.
    pub at_millis: u64,
    /// The reason that the door gave.
    pub reason: Box<str>,
    /// For people.
    pub message: Box<str>,
}

impl Report {
    /// What `status` says, within bounds. Of two mounts of one name the first counts.
    #[must_use]
    pub fn read(status: control::Status) -> Self {
        let mut rows: Vec<Row> = status.mounts.into_iter().take(MAX_MOUNTS).map(Row::read).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows.dedup_by(|next, kept| next.name == kept.name);
        let problems = status.problems.into_iter().take(MAX_PROBLEMS);
        let problems =
            problems.map(|problem| (cut_to(&problem.mount, MAX_NAME_BYTES).into(), cut(&problem.message).into()));
        Self { rows: rows.into(), problems: problems.collect(), draining: status.draining }
    }

    /// What it says of the mount `name`.
    #[must_use]
    pub fn row(&self, name: &str) -> Option<&Row> {
        let at = self.rows.binary_search_by(|row| row.name.as_ref().cmp(name)).ok()?;
        self.rows.get(at)
    }

    /// What is wrong with the manifest of the mount `name`, or with manifests whose mount is not known.
    #[must_use]
    pub fn problem(&self, name: &str) -> Option<&str> {
        let about = |whose: &str| self.problems.iter().find(|(mount, _)| mount.as_ref() == whose);
        about(name).or_else(|| about("")).map(|(_, message)| message.as_ref())
    }

    /// The names whose row differs between two reports, in no order.
    #[must_use]
    pub fn differences<'r>(&'r self, other: &'r Self) -> Vec<&'r str> {
        let all = self.problems != other.problems || self.draining != other.draining;
        let own = self.rows.iter().filter(|row| all || other.row(&row.name) != Some(row));
        let gone = other.rows.iter().filter(|row| self.row(&row.name).is_none());
        let rows = own.chain(gone).map(|row| row.name.as_ref());
        // A mount that is refused from the start has no row.
        let named = self.problems.iter().chain(&other.problems).map(|(mount, _)| mount.as_ref());
        rows.chain(named.filter(|name| all && !name.is_empty())).collect()
    }
}

impl Row {
    fn read(status: MountStatus) -> Self {
        let remote = status.remote.unwrap_or_default();
        let remote = match remote.reachability() {
            Reachability::Unspecified => Remote::Unknown,
            Reachability::Reachable => Remote::Reachable,
            Reachability::Unreachable => Remote::Unreachable(Box::new(Trouble {
                reason: reason(&remote.reason),
                message: cut(&remote.message).into(),
                since_millis: remote.since_millis,
            })),
        };
        let deletes = status.deletes.unwrap_or_default();
        let failure = deletes.last_failure.map(|failure| {
            Box::new(DeleteFailure {
                at_millis: failure.at_millis,
                reason: cut_to(&failure.reason, MAX_REASON_BYTES).into(),
                message: cut(&failure.message).into(),
            })
        });
        Self {
            name: cut_to(&status.name, MAX_NAME_BYTES).into(),
            uid: cut_to(&status.uid, MAX_NAME_BYTES).into(),
            generation: status.generation,
            withdrawn: status.withdrawn,
            remote,
            stale: status.serving_stale,
            open_intents: deletes.open_intents,
            deletes_under_way: deletes.under_way,
            oldest_intent_millis: deletes.oldest_intent_millis,
            delete_failure: failure,
        }
    }
}

/// The reason of that name; [`Reason::Unknown`] for one of a later version.
fn reason(name: &str) -> Reason {
    Reason::ALL.iter().copied().find(|reason| reason.as_str() == name).unwrap_or(Reason::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, generation: i64) -> MountStatus {
        MountStatus { name: name.to_owned(), generation, ..MountStatus::default() }
    }

    #[test]
    fn whatever_comes_is_bounded() {
        let long = "x".repeat(100_000);
        let trouble = control::Remote {
            reachability: Reachability::Unreachable.into(),
            reason: long.clone(),
            message: long.clone(),
            since_millis: 1,
        };
        let mount = |at: usize| MountStatus { remote: Some(trouble.clone()), ..named(&format!("{at}{long}"), 1) };
        let problem = control::Problem { mount: long.clone(), message: long.clone() };
        let status =
            control::Status { mounts: (0..1000).map(mount).collect(), problems: vec![problem; 100], draining: false };
        let report = Report::read(status);
        assert_eq!((report.rows.len(), report.problems.len()), (MAX_MOUNTS, MAX_PROBLEMS));
        assert!(report.rows.iter().all(|row| row.name.len() <= MAX_NAME_BYTES));
        let Remote::Unreachable(trouble) = &report.rows[0].remote else { panic!("unreachable") };
        assert_eq!((trouble.reason, trouble.message.len()), (Reason::Unknown, control::MAX_TEXT_BYTES));
    }

    #[test]
    fn rows_are_found_by_name_and_differences_are_told() {
        let read = |mounts: Vec<MountStatus>| Report::read(control::Status { mounts, ..control::Status::default() });
        let old = read(vec![named("b", 1), named("a", 1), named("a", 9)]);
        assert_eq!(old.rows.len(), 2, "each name once");
        assert_eq!(old.row("a").unwrap().generation, 1);
        let new = read(vec![named("b", 2), named("c", 1)]);
        let mut differ = new.differences(&old);
        differ.sort_unstable();
        assert_eq!(differ, ["a", "b", "c"]);
        assert!(new.differences(&new.clone()).is_empty());
        let draining = Report { draining: true, ..new.clone() };
        assert_eq!(draining.differences(&new).len(), 2, "all of it");
    }
}
