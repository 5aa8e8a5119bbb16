//! Verdict: what must hold once nothing moves any more and the remote is well again.

use remotemount_sidecar::entry::{Entry, File};
use remotemount_sidecar::events::{Cause, Event};
use remotemount_sidecar::store::{MountId, Store};

use crate::history::{Outcome, Record};
use crate::plan::{KEYS, Op};
use crate::run::Run;
use crate::world::{Truth, World, version_of};

/// Longer than anything is good for.
const LONG: u64 = 4_000_000;

impl Run<'_> {
    /// The end of a schedule.
    pub fn verdict(&mut self) {
        self.settle();
        self.quiet();
        self.pass(1);
        for key in KEYS {
            let seen = self.alone(Op::Describe(key));
            self.check_soon(key, seen);
        }
        let open = self.filer().intents().summary(MountId(1)).0;
        let kept = self.store.intents().unwrap();
        if open > 0 || !kept.is_empty() {
            self.world().wrong(|| format!("(3) {open} intents are open, the store has {kept:?}"));
        }
        self.check_events();
        // Past its time everything is asked for again, and what is there is what is shown.
        self.pass(LONG);
        let now = KEYS.map(|key| (key, self.world().version(key)));
        let listed = self.alone(Op::List);
        if listed != Some(Outcome::Showed(now.into())) {
            self.world().wrong(|| format!("(3) listed as {listed:?}, there is {now:?}"));
        }
        self.pass(LONG);
        for (key, version) in now {
            let seen = self.alone(Op::Describe(key));
            if seen != Some(Outcome::Showed(vec![(key, version)])) {
                self.world().wrong(|| format!("(3) {key} is shown as {seen:?}, there is {version:?}"));
            }
        }
        let there = now.iter().any(|(_, version)| version.is_some());
        let directory = self.alone(Op::LookupDirectory);
        if directory != Some(Outcome::Directory(there)) {
            self.world().wrong(|| format!("(3) the directory is shown as {directory:?}, there is {now:?}"));
        }
    }

    /// (2, 3) The first look after a race: only another writer's doing may not be known yet.
    fn check_soon(&self, key: &'static str, seen: Option<Outcome>) {
        let mut world = self.world();
        let truth = world.truth[key].clone();
        let now = world.version(key);
        let Some(Outcome::Showed(names)) = &seen else {
            return world.wrong(|| format!("(2) {key} cannot be looked up: {seen:?}"));
        };
        let shown = names.first().and_then(|(_, version)| *version);
        if shown == now {
            return;
        }
        let last = world.removals.iter().rev().find(|removal| removal.key == key).copied();
        match (shown, now) {
            // What we have removed is gone here, too; only what was carried out unseen may be found later.
            (Some(shown), None) if ours(&truth, last.map(|removal| removal.step)) && !last.is_some_and(|r| r.late) => {
                world.wrong(|| format!("(3) {key} v{shown} is shown, and we have removed it"));
            }
            // It was never gone, so nobody can have said so.
            (None, Some(version)) if truth.iter().all(|truth| truth.version.is_some()) => {
                world.wrong(|| format!("(2) {key} v{version} was there all the while, and is not shown"));
            }
            (None, Some(version)) if self.plan.negative_ttl == 0 => {
                world.wrong(|| format!("(3) {key} v{version} is there, no absence is remembered, and it is not shown"));
            }
            (Some(shown), _) if self.plan.ttl == 0 && self.plan.stale_if_error == 0 => {
                world.wrong(|| format!("(3) {key} v{shown} is shown, there is {now:?}, and nothing is good for long"));
            }
            _ => {}
        }
    }

    /// (4) One event for each removal, and none without one.
    fn check_events(&self) {
        let events = self.store.events(0, 1_000).unwrap().events;
        let mut world = self.world();
        for event in &events {
            world.note(|| format!("event: {} {:?} → {:?}, {:?}", event.path, event.old, event.new, event.origin.cause));
        }
        for key in KEYS {
            let path = format!("/m/{key}");
            let own: Vec<&Event> = events.iter().filter(|event| event.path == path).collect();
            world.check_events_of(key, &own);
        }
        let directory: Vec<&Event> = events.iter().filter(|event| event.path == "/m/d").collect();
        let ordered = world.ops.iter().filter(|record| record.op == Op::DeleteTree).count();
        let door = directory.iter().filter(|event| event.origin.cause == Cause::Door).count();
        if door > ordered {
            world.wrong(|| format!("(4) a directory is told deleted {door} times, and was {ordered} times"));
        }
    }
}

impl World {
    fn check_events_of(&mut self, key: &'static str, events: &[&Event]) {
        let gone: Vec<&&Event> = events.iter().filter(|event| event.new.is_none()).collect();
        let truth = self.truth[key].clone();
        // Which of two answers is the later one is guessed by when they were asked for: where another writer comes in
        // between, what is told may be told again.
        let lives = lives(&truth);
        let touched = self.touched.iter().filter(|(_, touched)| *touched == key).count();
        if gone.len() > lives + touched {
            self.wrong(|| format!("(4) {key} was there {lives} times, and is told gone {} times", gone.len()));
        }
        // What we have removed, and nobody put meanwhile, was told of; twice within a millisecond is once.
        let mut told = 0;
        for removal in self.removals.clone().iter().filter(|removal| removal.key == key && !removal.late) {
            let over = self.over(removal.step, key);
            let put = |truth: &Truth| truth.version.is_some() && truth.step >= removal.ordered && truth.step <= over;
            // After a crash, a directory may be settled beside what was in it: what nobody knew of goes without a word.
            let unknown = self.shown[key].present.is_none() && self.killed;
            told += usize::from(!unknown && !truth.iter().any(put) && !self.tied(removal.step, key));
        }
        if gone.len() < told {
            self.wrong(|| format!("(4) {key} was removed by us {told} times, and is told gone {} times", gone.len()));
        }
        for event in &gone {
            let old = version(event.old.as_ref());
            if old.is_some() && !truth.iter().any(|truth| truth.version == old) {
                self.wrong(|| format!("(4) {key} {old:?} is told gone, and never was"));
            }
        }
        if !gone.is_empty() && truth.iter().all(|truth| truth.version.is_some()) {
            self.wrong(|| format!("(4) {key} is told gone, and was there all the while"));
        }
        let asked = self.ops.iter().any(|record| record.op.is_delete() && record.op.covers(key));
        if !asked && gone.iter().any(|event| event.origin.cause == Cause::Door) {
            self.wrong(|| format!("(4) {key} is told deleted, and nobody asked for that"));
        }
        for pair in events.windows(2) {
            let (before, after) = (version(pair[0].new.as_ref()), version(pair[1].old.as_ref()));
            if before.is_some() && before != after {
                self.wrong(|| format!("(4) {key} became {before:?}, and was {after:?} at the next event"));
            }
        }
    }

    /// Whether another delete of the key was not over a millisecond before the one that was under way at `step`.
    fn tied(&self, step: u64, key: &str) -> bool {
        let ours = |record: &&Record| record.op.is_delete() && record.op.covers(key) && record.begin <= step;
        let last = self.ops.iter().filter(ours).max_by_key(|record| record.begin);
        let Some(last) = last else { return false };
        self.ops.iter().filter(ours).any(|record| record.begin < last.begin && record.millis.1 >= last.millis.0)
    }

    /// When the delete had ended that was under way at `step`; the end of all when it failed or was left.
    fn over(&self, step: u64, key: &str) -> u64 {
        let ours = |record: &&Record| {
            record.begin <= step
                && record.op.is_delete()
                && record.op.covers(key)
                && record.end.is_none_or(|e| e >= step)
        };
        let end = |record: &Record| record.end.filter(|_| record.outcome == Some(Outcome::Deleted)).unwrap_or(u64::MAX);
        self.ops.iter().filter(ours).map(end).max().unwrap_or(u64::MAX)
    }
}

/// Whether the last that happened to the name was a removal of ours.
fn ours(truth: &[Truth], removed: Option<u64>) -> bool {
    truth.last().is_some_and(|truth| truth.version.is_none() && Some(truth.step) == removed)
}

/// How often the name came to be.
fn lives(truth: &[Truth]) -> usize {
    let first = usize::from(truth.first().is_some_and(|truth| truth.version.is_some()));
    first + truth.windows(2).filter(|pair| pair[0].version.is_none() && pair[1].version.is_some()).count()
}

fn version(entry: Option<&Entry>) -> Option<u64> {
    match entry {
        Some(Entry::File(File { pointer: Some(pointer), .. })) => version_of(pointer),
        _ => None,
    }
}
