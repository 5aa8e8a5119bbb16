//! The reference model: a plain map and the contract, against the real thing.
//!
//! Random cases of lookups, listings, reads, deletes, another writer, a failing remote and a process
//! that is killed run against one sidecar, one S3 server and the proxy between them; each has a
//! directory of its own. Of every answer the model in `facts` knows whether it may be. Requests follow
//! one upon the other: what races do is for the schedules.

mod facts;
mod play;

use std::cell::Cell;

use anyhow::Result;
use play::{Case, Stage, case};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// So many cases.
const CASES: u32 = 60;

#[test]
fn whatever_is_told_is_what_may_be_told() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stage = Cell::new(Some(runtime.block_on(Stage::start())?));
    let number = Cell::new(0);
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let outcome = TestRunner::new(config).run(&case(), |case: Case| {
        number.set(number.get() + 1);
        let mut taken = stage.take().ok_or_else(|| TestCaseError::fail("no stage"))?;
        let played = runtime.block_on(taken.play(number.get(), &case));
        stage.set(Some(taken));
        played.map_err(|error| TestCaseError::fail(format!("{error:#}")))
    });
    outcome.map_err(|error| anyhow::anyhow!("{error}"))
}
