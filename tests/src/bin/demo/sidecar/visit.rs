//! One step of the walk: do it, time it, count what it cost, compare.
//!
//! Owns the count of steps and of those that went otherwise than expected. The proxy is reset before
//! each step, so the counts are the step's own. A step that fails is shown and counted like one that
//! cost too much, and the walk goes on.

use std::fmt;
use std::future::Future;
use std::time::Instant;

use anyhow::{Context as _, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use remotemount_tests::proxy::Proxy;
use remotemount_tests::proxy::count::Operation;

use crate::screen;

/// Everything but what RFC 3986 leaves unreserved, and the slash.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Requests that reached the remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// HEAD of objects.
    pub head: usize,
    /// Listings.
    pub list: usize,
    /// GET of objects.
    pub get: usize,
    /// DELETE of one object.
    pub delete: usize,
    /// DeleteObjects: up to 1,000 in a request.
    pub bulk: usize,
}

/// Nothing.
pub const NOTHING: Cost = Cost { head: 0, list: 0, get: 0, delete: 0, bulk: 0 };
/// A HEAD and a LIST: what it takes to know a name.
pub const LOOKUP: Cost = Cost { head: 1, list: 1, ..NOTHING };

impl Cost {
    /// In the order of the columns.
    pub fn columns(self) -> [(&'static str, usize); 5] {
        [("HEAD", self.head), ("LIST", self.list), ("GET", self.get), ("DELETE", self.delete), ("BULK", self.bulk)]
    }

    fn total(self) -> usize {
        self.columns().iter().map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<String> = self.columns().iter().map(|(name, count)| format!("{name} {count}")).collect();
        f.write_str(&columns.join(", "))
    }
}

/// The walk as far as it has come.
pub struct Visit<'p> {
    /// For the steps.
    pub client: reqwest::Client,
    proxy: &'p Proxy,
    steps: usize,
    missed: usize,
}

impl<'p> Visit<'p> {
    /// The beginning.
    pub fn new(proxy: &'p Proxy) -> Result<Visit<'p>> {
        // All of this is on loopback; a proxy from the environment would not find it.
        let client = reqwest::Client::builder().no_proxy().build().context("making an HTTP client")?;
        Ok(Visit { client, proxy, steps: 0, missed: 0 })
    }

    /// Begins a part: what it is about, and what commands call `$F` and the like.
    pub fn heading(&self, text: &str) {
        screen::heading(text, &NOTHING.columns().map(|(name, _)| name));
    }

    /// A line that belongs to the step before.
    pub fn note(&self, text: &str) {
        screen::note(text);
    }

    /// Takes one step; `work` answers what came back, or what is wrong with it.
    pub async fn step(
        &mut self,
        title: &str,
        command: &str,
        expected: Cost,
        work: impl Future<Output = Result<String>>,
    ) {
        self.step_and_look(title, command, expected, work, async { Ok(String::new()) }).await;
    }

    /// The same; `look` sees what it did to the bucket, and takes none of its time.
    pub async fn step_and_look(
        &mut self,
        title: &str,
        command: &str,
        expected: Cost,
        work: impl Future<Output = Result<String>>,
        look: impl Future<Output = Result<String>>,
    ) {
        self.steps += 1;
        screen::step(self.steps, title, &format!("$ {command}"));
        self.proxy.reset();
        let begun = Instant::now();
        let outcome = work.await;
        let elapsed = begun.elapsed();
        // A file that HEAD has found is answered at once; the LIST beside it may still be on its way.
        self.proxy.quiet().await;
        let cost = self.cost();
        let mut problems = Vec::new();
        let mut told = |outcome: Result<String>| {
            outcome.unwrap_or_else(|error| {
                problems.push(format!("{error:#}"));
                "failed".to_owned()
            })
        };
        let answer = told(outcome) + &told(look.await);
        if cost != expected {
            problems.push(format!("expected {expected}; it cost {cost}"));
        }
        let others = self.proxy.total().saturating_sub(cost.total());
        if others > 0 {
            problems.push(format!("{others} requests of other kinds reached the remote"));
        }
        self.missed += usize::from(!problems.is_empty());
        screen::outcome(&answer, elapsed, &cost.columns().map(|(_, count)| count), &problems);
    }

    /// The Range headers of the GETs of this step, as they reached the remote.
    pub fn ranges(&self) -> Vec<String> {
        let gets = self.proxy.seen().into_iter().filter(|seen| seen.operation == Operation::Get);
        gets.map(|seen| seen.range.unwrap_or_else(|| "all of it".to_owned())).collect()
    }

    /// How many steps went otherwise than expected.
    pub fn missed(&self) -> usize {
        self.missed
    }

    fn cost(&self) -> Cost {
        Cost {
            head: self.proxy.count(Operation::Head),
            list: self.proxy.count(Operation::List),
            get: self.proxy.count(Operation::Get),
            delete: self.proxy.count(Operation::Delete),
            bulk: self.proxy.count(Operation::DeleteMany),
        }
    }
}

/// A path as it stands in a URL.
pub fn escape(path: &str) -> String {
    utf8_percent_encode(path, PATH).to_string()
}
