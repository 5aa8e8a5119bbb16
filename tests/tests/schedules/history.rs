//! History: who asked for what, when, what they were told, and whether they may have been told that.
//!
//! Everything here is checked at the moment it happens; what is checked in the end is in `verdict`.
//! A moment is a step of the schedule, not a time.

use std::collections::BTreeSet;

use crate::plan::{KEYS, Op};
use crate::world::{Question, Truth, World};

/// One thing that was asked for.
#[derive(Clone, Debug)]
pub struct Record {
    pub op: Op,
    pub begin: u64,
    /// The time at its beginning and its end.
    pub millis: (u64, u64),
    /// None while it runs; what hung up runs on.
    pub end: Option<u64>,
    pub outcome: Option<Outcome>,
}

/// What a caller was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Names, each in its version or not there.
    Showed(Vec<(&'static str, Option<u64>)>),
    /// The directory.
    Directory(bool),
    Deleted,
    /// There is another version than was shown.
    Conflict,
    Failed(String),
    /// The caller hung up, or the process was killed.
    Left,
}

/// What callers were shown of one name.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub versions: BTreeSet<u64>,
    /// When the look began that last showed it, and when it ended.
    pub present: Option<(u64, u64)>,
    /// When someone was last told that it is not there.
    pub absent: Option<u64>,
}

impl World {
    /// Takes down what a caller was told.
    pub fn finish(&mut self, index: usize, outcome: Outcome) {
        let (now, millis, record) = (self.step, self.millis, self.ops[index].clone());
        if record.outcome.is_some() {
            return;
        }
        self.note(|| format!("#{index} {:?} ends: {outcome:?}", record.op));
        match &outcome {
            Outcome::Showed(names) => names.iter().for_each(|(key, version)| self.showed(&record, key, *version)),
            Outcome::Directory(true) => self.check_directory(&record),
            Outcome::Directory(false) => KEYS.into_iter().for_each(|key| self.shown_mut(key).absent = Some(now)),
            Outcome::Deleted => {
                for key in KEYS.into_iter().filter(|key| record.op.covers(key)) {
                    if self.gone(key, &record).is_none() {
                        self.wrong(|| format!("#{index} deleted {key}, and it was there all the while"));
                    }
                    self.shown_mut(key).absent = Some(now);
                }
            }
            // Who is told of another version has been warned of whatever is there now; who lists and fails, too.
            Outcome::Conflict => self.warned(&record),
            Outcome::Failed(_) if record.op == Op::List => self.warned(&record),
            Outcome::Failed(_) => {}
            Outcome::Left => self.loose = true,
        }
        let record = &mut self.ops[index];
        record.outcome = Some(outcome.clone());
        // A delete goes on without whoever asked for it.
        if outcome != Outcome::Left {
            (record.end, record.millis.1) = (Some(now), millis);
        }
    }

    fn shown_mut(&mut self, key: &'static str) -> &mut Shown {
        self.shown.entry(key).or_default()
    }

    fn warned(&mut self, record: &Record) {
        for key in KEYS.into_iter().filter(|key| record.op.covers(key)) {
            let current: Vec<u64> = self.during(key, record.begin).filter_map(|truth| truth.version).collect();
            self.shown_mut(key).versions.extend(current);
        }
    }

    fn showed(&mut self, record: &Record, key: &'static str, version: Option<u64>) {
        let now = self.step;
        let Some(version) = version else {
            self.shown_mut(key).absent = Some(now);
            return;
        };
        // (1) What was deleted stays away, unless it was put again.
        for deleted in self.deleted_before(record, key) {
            let since = self.gone(key, &deleted).unwrap_or(0);
            if !self.truth[key][since..].iter().any(|truth| truth.version == Some(version)) {
                self.wrong(|| format!("(1) {:?} shows {key} v{version}, deleted by {deleted:?}", record.op));
            }
        }
        if !self.truth[key].iter().any(|truth| truth.version == Some(version)) {
            self.wrong(|| format!("{key} v{version} never was"));
        }
        let shown = self.shown_mut(key);
        shown.versions.insert(version);
        shown.present = Some((record.begin, now));
    }

    fn check_directory(&mut self, record: &Record) {
        let deleted = self.deleted_before(record, KEYS[0]).into_iter().filter(|record| record.op == Op::DeleteTree);
        for deleted in deleted.collect::<Vec<_>>() {
            let put = |key: &&str| {
                let since = self.gone(key, &deleted).unwrap_or(0);
                self.truth[*key][since..].iter().any(|truth| truth.version.is_some())
            };
            if !KEYS.iter().any(put) {
                self.wrong(|| format!("(1) the directory is shown, deleted by {deleted:?}"));
            }
        }
    }

    /// The deletes of the key that had ended well before this began.
    fn deleted_before(&self, record: &Record, key: &str) -> Vec<Record> {
        let over = |other: &&Record| {
            other.outcome == Some(Outcome::Deleted)
                && other.op.covers(key)
                && other.end.is_some_and(|end| end < record.begin)
        };
        self.ops.iter().filter(over).cloned().collect()
    }

    /// The place in the key's truth where it was last gone while the delete ran.
    fn gone(&self, key: &str, delete: &Record) -> Option<usize> {
        let (truth, end) = (&self.truth[key], delete.end.unwrap_or(self.step));
        let at = truth.iter().rposition(|truth| truth.version.is_none() && truth.step <= end)?;
        let until = truth.get(at + 1).map_or(u64::MAX, |next| next.step);
        (until > self.joined(delete)).then_some(at)
    }

    /// When the delete began that this one may have joined: concurrent deletes of one path are one.
    fn joined(&self, delete: &Record) -> u64 {
        let mut begin = delete.begin;
        for other in self.ops.iter().rev().filter(|other| other.op == delete.op) {
            if other.begin < begin && other.end.is_none_or(|end| end >= begin) {
                begin = other.begin;
            }
        }
        begin
    }

    /// What the key was since `step`, that moment included.
    fn during(&self, key: &str, step: u64) -> impl Iterator<Item = Truth> + use<'_> {
        let truth = &self.truth[key];
        let first = truth.iter().rposition(|truth| truth.step <= step).unwrap_or(0);
        truth[first..].iter().copied()
    }

    /// When the delete was ordered that a request belongs to: the first that is under way and is about its keys.
    pub fn ordered(&self, question: &Question) -> u64 {
        let Question::Delete(keys) = question else { return self.step };
        let ours = |record: &&Record| {
            record.op.is_delete() && record.end.is_none() && keys.iter().any(|(key, _)| record.op.covers(key))
        };
        self.ops.iter().find(ours).map_or(self.step, |record| self.joined(record))
    }

    /// (5) A version that came after the last one that was shown is not removed.
    pub fn check_removal(&mut self, key: &'static str, version: u64, ordered: u64, heeds: bool) {
        let shown = &self.shown[key];
        let bound =
            shown.present.is_some_and(|(begin, end)| end < ordered && shown.absent.is_none_or(|absent| absent < begin));
        // What is put where nothing was is new, and a sweep that is under way takes it along.
        let new = self.during(key, ordered).any(|truth| truth.version.is_none());
        if !bound || new || self.loose || shown.versions.contains(&version) {
            return;
        }
        let put = self.truth[key].last().map_or(0, |truth| truth.step);
        // A server that does not look at the condition leaves a window, which opens after the delete was ordered.
        if heeds || put < ordered {
            let shown = format!("{shown:?}");
            self.wrong(|| format!("(5) {key} v{version} is removed, which nobody was shown: {shown}"));
        }
    }
}
