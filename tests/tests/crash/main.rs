//! Crashes: wherever a delete stops for good, nothing is lost, nothing comes back, nothing is told twice (X8, E1).
//!
//! For each crash point a hundred rounds: objects that nobody knows yet, some of them looked up or
//! listed first, a DELETE, the process killed at the point, sometimes another writer meanwhile, a
//! restart. Then what the door says is held against the bucket itself ([`round`]), and at the end of
//! all rounds what the log of events says ([`told`]). Each point has its bucket and its sidecar, whose
//! state lasts through all rounds; the servers are shared.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod round;
mod stage;
mod told;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;

use crate::round::{Case, Kept, Target};
use crate::stage::Stage;

/// Rounds of a point.
const ROUNDS: usize = 100;
/// All of them; a third of them where a point is come to another way as well.
const ALL: usize = 1;
const THIRD: usize = 3;

/// The target is deleted until the process comes to the first of `points`; restarted, it stops at the next.
async fn rounds(target: Target, points: &[&'static str], kept: Kept, every: usize) -> Result<()> {
    let case = Case { target, points: points.to_vec(), kept };
    let mut stage = Stage::new(target.server(), &case.name()).await?;
    let (mut told, mut left, mut meddled) = (Vec::new(), 0, 0);
    for number in (0..ROUNDS).step_by(every) {
        let round = case.round(number);
        let outcome = round.run(&case, &mut stage).await;
        let outcome = outcome.with_context(|| format!("{}, {round:?}:\n{}", case.name(), stage.log_of_this_run()))?;
        left += usize::from(outcome.left > 0);
        meddled += usize::from(outcome.meddled);
        told.push(outcome.expected);
    }
    let events = stage.stop_and_read_events().await?;
    for expected in &told {
        expected.judge(&events).with_context(|| case.name())?;
    }
    println!(
        "{}: {} rounds; after the crash the bucket still had something of it in {left}; another writer came in between in {meddled}; {} events",
        case.name(),
        told.len(),
        events.len()
    );
    Ok(())
}

macro_rules! crashes {
    ($($name:ident: $target:ident [$($point:literal),+] $kept:ident $every:ident;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            rounds(Target::$target, &[$($point),+], Kept::$kept, $every).await
        }
    )+};
}

crashes! {
    a_file_before_anything: File ["delete-begun"] Unguarded ALL;
    a_file_before_the_remote_is_asked: File ["intent-durable"] Guarded ALL;
    a_file_after_the_remote_has_answered: File ["remote-answered"] Guarded ALL;
    a_file_in_the_middle_of_the_transaction: File ["local-delete-not-committed"] Guarded ALL;
    a_file_after_the_transaction: File ["local-delete-durable"] Gone ALL;
    a_file_while_it_is_settled: File ["remote-answered", "settle-asked"] Guarded ALL;
    a_lone_file_after_the_remote_has_answered: LoneFile ["remote-answered"] Guarded THIRD;
    a_lone_file_after_the_transaction: LoneFile ["local-delete-durable"] Gone THIRD;
    a_directory_before_its_batch: Directory ["directory-intent-durable"] Unguarded ALL;
    a_directory_before_the_remote_is_asked: Directory ["batch-intent-durable"] Guarded ALL;
    a_directory_after_the_remote_has_answered: Directory ["batch-answered"] Guarded ALL;
    a_directory_in_the_middle_of_the_batch_s_transaction: Directory ["local-delete-not-committed"] Guarded THIRD;
    a_directory_after_its_batch: Directory ["batch-deleted-locally"] Gone ALL;
    a_directory_found_empty: Directory ["directory-found-empty"] Gone ALL;
    a_directory_after_the_transaction: Directory ["local-delete-durable"] Gone THIRD;
    a_directory_while_it_is_settled: Directory ["batch-answered", "settle-asked"] Guarded THIRD;
}

/// A batch that takes long to settle, and a lookup that settles its directory meanwhile: nothing is told twice or never.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_is_settled_before_its_batch_tells_of_all() -> Result<()> {
    let (mut stage, proxy) = Stage::behind_proxy(Kind::Rclone, "directory-after-batches").await?;
    let keys = ["d/slow", "d/known", "d/never-seen"];
    for key in keys {
        stage.bucket.put(key, "content", None).await?;
    }
    ensure!(stage.head("d/known").await?.0 == 200);
    stage.sidecar.arm("batch-answered")?;
    let request = tokio::spawn(stage.delete("d", "?recursive=true").send());
    stage.sidecar.reached().await?;
    stage.sidecar.kill9()?;
    ensure!(request.await?.is_err());
    let slow = Rule::new(Action::Delay(Duration::from_secs(2))).operation(Operation::Head);
    proxy.inject(slow.key("d/slow").times(1));
    proxy.reset();
    stage.restart().await?;
    while proxy.count_key(Operation::Head, "d/slow") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    ensure!(stage.head("d/known").await?.0 == 404, "the remote says so, and not the store");
    stage.settled().await?;
    let events = stage.stop_and_read_events().await?;
    let mut gone: Vec<&str> = events.iter().filter(|e| e.new.is_none()).map(|event| event.path.as_str()).collect();
    ensure!(gone.last() == Some(&"/m/d"), "a directory after what was in it: {gone:?}");
    gone.sort_unstable();
    ensure!(gone == ["/m/d", "/m/d/known", "/m/d/never-seen", "/m/d/slow"], "each once: {gone:?}");
    Ok(())
}

#[test]
fn every_point_has_its_rounds() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut in_source = BTreeSet::new();
    let mut folders = vec![root.join("../sidecar/src")];
    while let Some(folder) = folders.pop() {
        for file in std::fs::read_dir(folder)? {
            let path = file?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = std::fs::read_to_string(path)?;
            let points = source.split("crash::point(\"").skip(1).filter_map(|rest| rest.split('"').next());
            in_source.extend(points.map(str::to_owned));
        }
    }
    let own = std::fs::read_to_string(root.join("tests/crash/main.rs"))?;
    let table = own.split("crashes! {").nth(1).and_then(|rest| rest.split('}').next()).unwrap_or_default();
    let tested: BTreeSet<String> = table.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(tested.len() > 10, "{tested:?}");
    assert_eq!(in_source, tested, "left: the sidecar, right: the tests");
    Ok(())
}
