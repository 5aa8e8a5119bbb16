//! One round: fresh names, a delete, a crash, a restart, and what the door says held against the bucket.
//!
//! Rounds differ by their number alone, so a round that fails can be run again: what was looked up and
//! listed before, whether anything lies beside what is deleted, what another writer does while the
//! process is down, and whether names are looked up before or after everything is settled. The bucket
//! is always asked directly. What the events must be is noted here and judged in [`crate::told`].

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use remotemount_tests::s3_server::Kind;

use crate::stage::{Stage, Truth};
use crate::told::{Expected, Object};

/// What is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// One file that has company in its directory.
    File,
    /// One file that is alone there.
    LoneFile,
    /// A directory of two dozen files, most of them in three subdirectories.
    Directory,
}

/// What of the files is on disk after the crash, if they were known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Their entries, and for each an open intent: the remote is asked before they are shown.
    Guarded,
    /// Their entries alone: they are good for the mount's TTL, so other writers leave them alone.
    Unguarded,
    /// Nothing.
    Gone,
}

/// A crash point, and how it is come to.
#[derive(Debug)]
pub struct Case {
    pub target: Target,
    pub points: Vec<&'static str>,
    pub kept: Kept,
}

/// What another writer does while the process is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meddling {
    None,
    Deletes,
    Puts,
}

/// What was asked for before the delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    Nothing,
    Parent,
    Directory,
    Both,
}

#[derive(Debug)]
pub struct Round {
    number: usize,
    target: Target,
    looked_up: bool,
    listed: Listed,
    meddling: Meddling,
    /// Something lies beside the directory.
    company: bool,
    settled_first: bool,
}

/// How a round went.
pub struct Outcome {
    /// Objects that the bucket had right after the crash.
    pub left: usize,
    pub meddled: bool,
    pub expected: Expected,
}

impl Target {
    /// weed heeds conditions, but goes on listing a directory for minutes after the last of it was deleted; rclone
    /// does so very rarely.
    pub fn server(self) -> Kind {
        if self == Target::File { Kind::Weed } else { Kind::Rclone }
    }
}

impl Case {
    /// A bucket's name.
    pub fn name(&self) -> String {
        let target = match self.target {
            Target::File => "file",
            Target::LoneFile => "lone-file",
            Target::Directory => "directory",
        };
        format!("{target}-{}", self.points.join("-"))
    }

    /// All that rounds differ by comes in all combinations within 96 of them.
    pub fn round(&self, number: usize) -> Round {
        let looked_up = number.is_multiple_of(2);
        let listed = [Listed::Nothing, Listed::Parent, Listed::Directory, Listed::Both][number / 2 % 4];
        let seen = looked_up || listed != Listed::Nothing;
        let meddling = match [Meddling::None, Meddling::Deletes, Meddling::Puts][number / 8 % 3] {
            // One of many is always left to nobody's eyes.
            _ if self.kept == Kept::Unguarded && self.target != Target::Directory && seen => Meddling::None,
            meddling => meddling,
        };
        let company = (number / 24).is_multiple_of(2);
        let settled_first = (number / 48).is_multiple_of(2);
        Round { number, target: self.target, looked_up, listed, meddling, company, settled_first }
    }
}

impl Round {
    fn parent(&self) -> String {
        format!("r{:03}", self.number)
    }

    fn directory(&self) -> String {
        format!("{}/d", self.parent())
    }

    /// The keys that are deleted.
    fn doomed(&self) -> Vec<String> {
        let directory = self.directory();
        match self.target {
            Target::File | Target::LoneFile => vec![format!("{directory}/doomed ü+&.txt")],
            Target::Directory => (0..24)
                .map(|n| match n % 4 {
                    0 => format!("{directory}/f{n:02}"),
                    sub => format!("{directory}/s{sub}/ü+& f{n:02}"),
                })
                .collect(),
        }
    }

    /// Keys that lie beside them and stay.
    fn others(&self) -> Vec<String> {
        let beside = [format!("{}/keep", self.parent()), format!("{}-/keep", self.directory())];
        let within = format!("{}/keep", self.directory());
        let beside = beside.into_iter().filter(|_| self.company);
        beside.chain(Some(within).filter(|_| self.target == Target::File)).collect()
    }

    /// What another writer puts or deletes: in a directory something of the third subdirectory, which nobody looks at
    /// before, unless anything may be chosen.
    fn victim(&self, case: &Case) -> String {
        let mut doomed = self.doomed();
        let at = if self.target == Target::Directory && case.kept == Kept::Unguarded { 3 } else { 0 };
        doomed.swap_remove(at)
    }

    /// The path and query of the DELETE.
    fn order(&self) -> (String, &'static str) {
        match self.target {
            Target::File | Target::LoneFile => (self.doomed().swap_remove(0), ""),
            Target::Directory if self.number.is_multiple_of(3) => (format!("{}/", self.directory()), "?recursive=true"),
            Target::Directory => (self.directory(), "?recursive=true"),
        }
    }

    pub async fn run(&self, case: &Case, stage: &mut Stage) -> Result<Outcome> {
        let (doomed, others) = (self.doomed(), self.others());
        let objects = doomed.iter().chain(&others);
        stage.bucket.put_many(objects.map(|key| (key.clone(), key.clone()))).await?;
        self.look(stage).await?;

        self.crash(case, stage).await?;
        let after_crash = stage.truth(&self.parent()).await?;
        let left = doomed.iter().filter(|key| after_crash.contains_key(*key)).count();
        let victim = self.victim(case);
        match self.meddling {
            Meddling::None => {}
            Meddling::Deletes => stage.bucket.delete(&victim).await?,
            Meddling::Puts => drop(stage.bucket.put(&victim, "put by another writer", None).await?),
        }
        stage.restart().await?;

        if self.settled_first {
            stage.settled().await?;
        }
        // A name that came back while nothing of it was known is shown as soon as the lookup is on disk.
        let came_back = self.meddling == Meddling::Puts && case.kept == Kept::Gone;
        let names: Vec<&str> = doomed.iter().chain(&others).map(String::as_str).collect();
        let mut shown_empty = BTreeSet::new();
        let truth = self.check(stage, &names, came_back, &mut shown_empty).await?;
        if !self.settled_first {
            stage.settled().await?;
            self.check(stage, &names, came_back, &mut shown_empty).await?;
        }
        let checked = nanos();
        let there = stage.bucket.head(&victim).await?.is_some();
        ensure!(there == truth.contains_key(&victim), "HEAD and LIST of the bucket differ on {victim}");

        let (path, query) = self.order();
        let answer = stage.delete(&path, query).send().await?;
        let status = answer.status();
        ensure!(status == 204, "the DELETE, repeated: {status} {}", answer.text().await?);
        let few: Vec<&str> = names.iter().step_by(3).copied().chain([victim.as_str()]).collect();
        let end = self.check(stage, &few, false, &mut BTreeSet::new()).await?;
        ensure!(end.into_keys().collect::<BTreeSet<_>>() == others.iter().cloned().collect(), "gone after a 204");

        let object = |key: &String| {
            let (there, present) = (truth.contains_key(key), after_crash.contains_key(key));
            let told = match there {
                // It came back after it had been told of.
                true => !present && case.kept == Kept::Gone,
                // Another writer's deed, of a name that nobody here knew of.
                false => !(present && case.kept == Kept::Unguarded),
            };
            Object { path: format!("/m/{key}"), there, told: usize::from(told) }
        };
        let expected = Expected {
            directory: (self.target == Target::Directory).then(|| format!("/m/{}", self.directory())),
            objects: doomed.iter().map(object).collect(),
            others: others.iter().map(|key| format!("/m/{key}")).collect(),
            shown_empty,
            checked,
        };
        Ok(Outcome { left, meddled: self.meddling != Meddling::None, expected })
    }

    /// What is known before.
    async fn look(&self, stage: &Stage) -> Result<()> {
        if self.looked_up {
            for key in self.doomed().iter().take(3) {
                ensure!(stage.head(key).await?.0 == 200, "{key} is there");
            }
        }
        if matches!(self.listed, Listed::Directory | Listed::Both) {
            ensure!(stage.names(&self.directory()).await?.is_some());
            if self.target == Target::Directory {
                ensure!(stage.names(&format!("{}/s2", self.directory())).await?.is_some());
            }
        }
        if matches!(self.listed, Listed::Parent | Listed::Both) {
            ensure!(stage.names(&self.parent()).await?.is_some());
        }
        Ok(())
    }

    /// Deletes, and kills the process at the first point; then lets the next come to its point, and so on.
    async fn crash(&self, case: &Case, stage: &mut Stage) -> Result<()> {
        let (path, query) = self.order();
        for (nth, point) in case.points.iter().enumerate() {
            if nth > 0 {
                stage.sidecar.restart_until(point).await?;
                stage.sidecar.kill9()?;
                continue;
            }
            stage.sidecar.arm(point)?;
            let request = tokio::spawn(stage.delete(&path, query).send());
            stage.sidecar.reached().await?;
            stage.sidecar.kill9()?;
            ensure!(request.await?.is_err(), "nobody is answered before {point}");
        }
        Ok(())
    }

    /// The door against the bucket, whose objects are answered: first the names, then the listings. Directories that are
    /// shown because the server itself goes on listing them, with nothing in them, are noted in `shown_empty`.
    async fn check(
        &self,
        stage: &Stage,
        names: &[&str],
        came_back: bool,
        shown_empty: &mut BTreeSet<String>,
    ) -> Result<Truth> {
        let truth = stage.truth(&self.parent()).await?;
        for key in names {
            let (status, etag) = stage.head(key).await?;
            match truth.get(*key) {
                None => ensure!(status == 404, "{key} is gone and answers {status}"),
                Some(wanted) => {
                    ensure!(status == 200, "{key} is there and answers {status}");
                    ensure!(etag.as_ref() == Some(wanted), "{key} is {wanted} and answers {etag:?}");
                }
            }
        }
        for directory in [self.directory(), self.parent()] {
            let there: BTreeSet<String> = truth.keys().filter_map(|key| child(&directory, key)).collect();
            let mut looks = 0;
            loop {
                let names = stage.names(&directory).await?;
                // Servers may go on listing a directory that holds nothing any more.
                let empty = if names.is_none() { BTreeSet::new() } else { stage.prefixes(&directory).await? };
                let listed = !there.is_empty() || !empty.is_empty();
                ensure!(names.is_none() || listed, "{directory} is gone and shown with {names:?}");
                ensure!(names.is_some() || there.is_empty(), "{directory} has {there:?} and is said to be gone");
                if names.is_some() && there.is_empty() {
                    shown_empty.insert(format!("/m/{directory}"));
                }
                let names: BTreeSet<String> = names.unwrap_or_default().into_iter().collect();
                let gone: Vec<_> = names.difference(&there).filter(|name| !empty.contains(*name)).collect();
                ensure!(gone.is_empty(), "{directory} shows what is gone: {gone:?}");
                let shown = names.difference(&there).filter_map(|name| name.strip_suffix('/'));
                shown_empty.extend(shown.map(|name| format!("/m/{directory}/{name}")));
                looks += 1;
                if names.is_superset(&there) {
                    break;
                }
                ensure!(came_back && looks < 100, "{directory} has {there:?} and shows {names:?}");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        Ok(truth)
    }
}

/// The name that a listing of the directory shows for a key below it.
fn child(directory: &str, key: &str) -> Option<String> {
    let rest = key.strip_prefix(directory)?.strip_prefix('/')?;
    Some(rest.split_inclusive('/').next().unwrap_or_default().to_owned())
}

/// Now, as events are timed.
fn nanos() -> u64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(age.as_nanos()).unwrap()
}
