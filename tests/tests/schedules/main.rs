//! Schedules: lookups, listings, deletes and another writer, all about one name, in every order that
//! chance finds.
//!
//! Each schedule is a simulation on one thread: the real filer over the memory store, a simulated
//! remote, and a clock that moves when the schedule says so. Everything follows from one seed. What
//! must hold is in `history` (during the race) and `verdict` (after it):
//!
//! 1. What a delete has taken away is not shown again, unless it was put again.
//! 2. A delete that failed leaves the name as the remote has it.
//! 3. Once all is quiet, what is shown is what is there, and no delete is left open.
//! 4. One event for each removal, none without one.
//! 5. A version that was not shown is not deleted, where the server looks at conditions.
//!
//! `REMOTEMOUNT_SEED=<variant>:<number>` runs one schedule and tells what happened in it;
//! `REMOTEMOUNT_SCHEDULES=<percent>` runs more of them than usual, or fewer.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod chance;
mod history;
mod perform;
mod plan;
mod run;
mod verdict;
mod world;

use chance::Chance;
use plan::{Plan, Variant};
use run::{Kit, Run};

/// Tasks that wait for the same thing are woken in an order that is tokio's own; a seed is tried so often.
const TRIES: u32 = 50;

/// One schedule: what was wrong, and what happened.
fn schedule(kit: &Kit, variant: Variant, seed: u64, traced: bool) -> Option<(String, Vec<String>)> {
    let mut chance = Chance::new(seed.wrapping_mul(0x0100_0000_01B3) ^ variant as u64);
    let plan = Plan::draw(variant, &mut chance);
    let mut run = Run::new(kit, plan, chance, traced);
    run.race();
    run.verdict();
    let mut world = run.world();
    let trace = world.trace.take().unwrap_or_default();
    world.wrong.take().map(|wrong| (wrong, trace))
}

fn run(variant: Variant, name: &str, count: u64) {
    let kit = Kit::new();
    let chosen = std::env::var("REMOTEMOUNT_SEED").ok();
    if let Some(chosen) = chosen {
        let Some((_, seed)) = chosen.split_once(':').filter(|(wanted, _)| *wanted == name) else { return };
        return again(&kit, variant, name, seed.parse().unwrap(), 1);
    }
    let percent = std::env::var("REMOTEMOUNT_SCHEDULES").ok().and_then(|percent| percent.parse().ok()).unwrap_or(100);
    let wrong: Vec<(u64, String)> =
        (0..count * percent / 100).filter_map(|seed| Some((seed, schedule(&kit, variant, seed, false)?.0))).collect();
    if let Some((seed, _)) = wrong.first() {
        for (seed, wrong) in wrong.iter().take(20) {
            println!("REMOTEMOUNT_SEED={name}:{seed}: {wrong}");
        }
        again(&kit, variant, name, *seed, wrong.len());
    }
}

/// Runs a schedule that went wrong once more, and tells of it.
fn again(kit: &Kit, variant: Variant, name: &str, seed: u64, others: usize) {
    let told = (0..TRIES).find_map(|_| schedule(kit, variant, seed, true));
    let (wrong, trace) = told.unwrap_or_default();
    assert!(wrong.is_empty(), "{}\nREMOTEMOUNT_SEED={name}:{seed}: {wrong} (one of {others})", trace.join("\n"));
}

#[test]
fn deletes_of_a_file() {
    run(Variant::File, "file", 22_000);
}

#[test]
fn deletes_of_its_directory() {
    run(Variant::Tree, "tree", 18_000);
}

#[test]
fn deletes_against_deletes() {
    run(Variant::Deletes, "deletes", 18_000);
}

#[test]
fn deletes_at_a_server_that_looks_at_no_condition() {
    run(Variant::Heedless, "heedless", 12_000);
}

#[test]
fn deletes_with_faults() {
    run(Variant::Faults, "faults", 18_000);
}

#[test]
fn deletes_and_crashes() {
    run(Variant::Crash, "crash", 12_000);
}
