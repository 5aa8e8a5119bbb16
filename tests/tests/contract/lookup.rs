//! Lookup: L1 to L8.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::stage::{Stage, crowd};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_fresh_hits_ask_nothing() -> Result<()> {
    let stage = Stage::new("l1-fresh").await?;
    stage.bucket.put("a/b.txt", "hello", None).await?;
    assert_eq!(stage.head("/m/a/b.txt").await?.status(), 200);
    stage.proxy.quiet().await;
    stage.proxy.reset();
    for _ in 0..100 {
        assert_eq!(stage.head("/m/a/b.txt").await?.status(), 200);
    }
    assert_eq!(stage.proxy.total(), 0, "{:?}", stage.proxy.seen());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l2_a_miss_asks_once_for_file_and_directory() -> Result<()> {
    let stage = Stage::new("l2-miss").await?;
    stage.bucket.put("x/y/z.txt", "hello", None).await?;
    // A directory that was never listed, by a bare lookup.
    let answer = stage.get_with("/m/x/y?metadata=true", &[]).await?;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<serde_json::Value>().await?["Mode"], 0x8000_01EDu32, "a directory");
    assert_eq!((stage.heads("x/y"), stage.lists("x/y/"), stage.proxy.total()), (1, 1, 2));
    let page = stage.proxy.seen().into_iter().find(|seen| seen.operation == Operation::List).unwrap();
    assert_eq!(page.parameter("max-keys").as_deref(), Some("1"));
    // Its ancestors exist too, and cost nothing more once the answer is persisted.
    sleep(Duration::from_millis(300)).await;
    assert_eq!(stage.get_with("/m/x/?metadata=true", &[]).await?.status(), 200);
    assert_eq!(stage.proxy.total(), 2);
    // Outside every mount nothing is asked.
    assert_eq!(stage.head("/elsewhere/x").await?.status(), 404);
    assert_eq!(stage.proxy.total(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l3_concurrent_misses_share_one_flight() -> Result<()> {
    let stage = Arc::new(Stage::new("l3-flight").await?);
    stage.bucket.put("deep/one.txt", "hello", None).await?;
    let statuses = crowd(&stage, 1000, "/m/deep/one.txt").await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1000, "{statuses:?}");
    stage.proxy.quiet().await;
    assert_eq!((stage.heads("deep/one.txt"), stage.lists("deep/one.txt/"), stage.proxy.total()), (1, 1, 2));
    stage.proxy.reset();
    let statuses = crowd(&stage, 200, "/m/deep/missing.txt").await;
    assert!(statuses.iter().all(|status| *status == 404), "{statuses:?}");
    assert_eq!((stage.heads("deep/missing.txt"), stage.proxy.total()), (1, 2));
    Ok(())
}

/// The first caller hangs up while the remote still thinks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l3_a_caller_that_leaves_cancels_nothing() -> Result<()> {
    let stage = Arc::new(Stage::new("l3-leaves").await?);
    stage.bucket.put("slow.txt", "hello", None).await?;
    stage.proxy.inject(Rule::new(Action::Delay(Duration::from_millis(600))).operation(Operation::Head));
    let first = {
        let (client, url) = (stage.client.clone(), stage.sidecar.http_url("/m/slow.txt"));
        tokio::spawn(async move { client.head(url).timeout(Duration::from_millis(100)).send().await })
    };
    sleep(Duration::from_millis(30)).await;
    let others = crowd(&stage, 50, "/m/slow.txt").await;
    assert!(first.await?.is_err(), "the first caller gave up");
    assert!(others.iter().all(|status| *status == 200), "{others:?}");
    assert_eq!(stage.heads("slow.txt"), 1);
    assert_eq!(stage.head("/m/slow.txt").await?.status(), 200);
    assert_eq!(stage.heads("slow.txt"), 1, "kept");
    Ok(())
}

/// Everyone hangs up; what was found is persisted all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l4_found_is_persisted_without_its_callers() -> Result<()> {
    let stage = Stage::new("l4-persist").await?;
    stage.bucket.put("late.txt", "hello", None).await?;
    stage.proxy.inject(Rule::new(Action::Delay(Duration::from_millis(400))).operation(Operation::Head));
    let url = stage.sidecar.http_url("/m/late.txt");
    assert!(stage.client.head(url).timeout(Duration::from_millis(100)).send().await.is_err());
    sleep(Duration::from_millis(800)).await;
    stage.proxy.clear();
    assert_eq!(stage.heads("late.txt"), 1);
    assert_eq!(stage.head("/m/late.txt").await?.status(), 200);
    assert_eq!(stage.proxy.total(), 2, "the answer came from the store: {:?}", stage.proxy.seen());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l5_persisting_asks_nothing() -> Result<()> {
    let stage = Stage::new("l5-persisting").await?;
    stage.bucket.put("a/b/c/d/e/f.txt", "hello", None).await?;
    assert_eq!(stage.head("/m/a/b/c/d/e/f.txt").await?.status(), 200);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(stage.proxy.total(), 2, "one HEAD, one LIST, none for five ancestors: {:?}", stage.proxy.seen());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l6_absence_is_remembered_and_failure_is_not() -> Result<()> {
    let stage = Stage::with(Kind::Weed, "l6-absence", |m| m.negative_ttl_seconds(1)).await?;
    for _ in 0..20 {
        assert_eq!(stage.head("/m/soon.txt").await?.status(), 404);
    }
    assert_eq!(stage.heads("soon.txt"), 1);
    stage.bucket.put("soon.txt", "now", None).await?;
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(stage.head("/m/soon.txt").await?.status(), 200, "forgotten after its time");

    // A failure is told as what it is, and the next good answer is served at once.
    stage.bucket.put("there.txt", "yes", None).await?;
    stage.proxy.inject(Rule::new(Action::Status(403, None)).operation(Operation::Head).key("there.txt").times(1));
    let denied = stage.get("/m/there.txt").await?;
    assert_eq!(denied.status(), 403);
    let body: serde_json::Value = denied.json().await?;
    assert_eq!(
        (&body["reason"], &body["mount"], &body["path"]),
        (&"Denied".into(), &"m".into(), &"/m/there.txt".into())
    );
    assert_eq!(stage.head("/m/there.txt").await?.status(), 200);
    Ok(())
}

/// A login page, or a proxy, says 200 to every name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l6_what_has_no_version_is_no_object() -> Result<()> {
    let stage = Stage::new("l6-version").await?;
    stage.bucket.put("there.txt", "yes", None).await?;
    stage.proxy.inject(Rule::new(Action::StripHeader("ETag".to_owned())).operation(Operation::Head).key("there.txt"));
    for _ in 0..2 {
        let refused = stage.get("/m/there.txt").await?;
        assert_eq!(refused.status(), 502);
        let body: serde_json::Value = refused.json().await?;
        assert_eq!(body["reason"], "Rejected", "{body}");
        assert!(body["error"].as_str().is_some_and(|error| error.contains("no ETag")), "{body}");
    }
    stage.proxy.clear();
    assert_eq!(stage.head("/m/there.txt").await?.status(), 200, "and it is not remembered");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l7_old_entries_are_revalidated() -> Result<()> {
    let stage = Stage::with(Kind::Weed, "l7-revalidate", |m| m.ttl_seconds(1).negative_ttl_seconds(0)).await?;
    let first = stage.bucket.put("v.txt", "one", None).await?;
    stage.bucket.put("gone.txt", "x", None).await?;
    assert_eq!(stage.head("/m/gone.txt").await?.status(), 200);
    let etag = |answer: &reqwest::Response| answer.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(etag(&stage.head("/m/v.txt").await?).trim_matches('"'), first.trim_matches('"'));
    let second = stage.bucket.put("v.txt", "two is longer", None).await?;
    stage.bucket.delete("gone.txt").await?;
    sleep(Duration::from_millis(1200)).await;
    let answer = stage.head("/m/v.txt").await?;
    assert_eq!(etag(&answer).trim_matches('"'), second.trim_matches('"'));
    assert_eq!(answer.headers()["content-length"], "13");
    assert_eq!(stage.get("/m/v.txt").await?.text().await?, "two is longer");
    assert_eq!(stage.head("/m/gone.txt").await?.status(), 404);
    assert!(stage.sidecar.log().contains("event=\"removed\""), "gone with an event");
    // A file is revalidated by one HEAD and no LIST.
    sleep(Duration::from_millis(1200)).await;
    stage.proxy.reset();
    assert_eq!(stage.head("/m/v.txt").await?.status(), 200);
    assert_eq!((stage.heads("v.txt"), stage.proxy.total()), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l7_a_remote_that_is_down_serves_old_entries_and_says_so() -> Result<()> {
    let configure = |m: remotemount_tests::manifest::Manifest| m.ttl_seconds(1).timeout_seconds(2);
    let stage = Stage::with(Kind::Weed, "l7-stale", configure).await?;
    stage.bucket.put("kept.txt", "hello", None).await?;
    assert_eq!(stage.head("/m/kept.txt").await?.status(), 200);
    sleep(Duration::from_millis(1200)).await;
    stage.proxy.inject(Rule::new(Action::Status(500, None)));
    let answer = stage.head("/m/kept.txt").await?;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["warning"], "110 - \"Response is Stale\"");
    let status = stage.status().await?;
    assert_eq!(status["mounts"][0]["health"]["reachable"], false);
    assert_eq!(status["mounts"][0]["health"]["reason"], "Unavailable");
    assert_eq!(status["mounts"][0]["counters"]["servedStale"], 1);
    // For a moment nobody waits for a remote that has just failed.
    stage.proxy.reset();
    assert_eq!(stage.head("/m/kept.txt").await?.headers()["warning"], "110 - \"Response is Stale\"");
    assert_eq!(stage.proxy.total(), 0, "{:?}", stage.proxy.seen());
    // What was never seen cannot be served, and is not "not found".
    assert_eq!(stage.head("/m/never.txt").await?.status(), 503);
    stage.proxy.clear();
    sleep(Duration::from_secs(5)).await;
    let answer = stage.head("/m/kept.txt").await?;
    assert!(answer.status() == 200 && !answer.headers().contains_key("warning"), "fresh again");
    assert_eq!(stage.status().await?["mounts"][0]["health"]["reachable"], true);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l7_denied_is_an_answer() -> Result<()> {
    let stage = Stage::with(Kind::Weed, "l7-denied", |m| m.ttl_seconds(1)).await?;
    stage.bucket.put("k", "hello", None).await?;
    assert_eq!(stage.head("/m/k").await?.status(), 200);
    sleep(Duration::from_millis(1200)).await;
    stage.proxy.inject(Rule::new(Action::Status(403, None)));
    assert_eq!(stage.head("/m/k").await?.status(), 403, "what was taken away is not served from memory");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l7_stale_entries_end_with_their_time() -> Result<()> {
    let configure =
        |m: remotemount_tests::manifest::Manifest| m.ttl_seconds(1).stale_if_error_seconds(1).timeout_seconds(1);
    let stage = Stage::with(Kind::Weed, "l7-stale-end", configure).await?;
    stage.bucket.put("kept.txt", "hello", None).await?;
    assert_eq!(stage.head("/m/kept.txt").await?.status(), 200);
    stage.proxy.inject(Rule::new(Action::Status(503, None)));
    sleep(Duration::from_millis(2200)).await;
    assert_eq!(stage.head("/m/kept.txt").await?.status(), 503);
    Ok(())
}

/// A listing page that was on its way while a lookup learnt that a name is gone does not bring it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l8_a_raced_answer_never_brings_a_name_back() -> Result<()> {
    let stage = Arc::new(Stage::with(Kind::Weed, "l8-race", |m| m.ttl_seconds(300)).await?);
    stage.bucket.put("d/ghost.txt", "boo", None).await?;
    stage.bucket.put("d/other.txt", "here", None).await?;
    let go = Arc::new(Notify::new());
    let held = Action::PauseBodyAfter(0, Arc::clone(&go));
    stage.proxy.inject(Rule::new(held).operation(Operation::List).key("d/").times(1));
    let listing = {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move { stage.names("/m/d/").await })
    };
    while stage.lists("d/") == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_millis(100)).await;
    stage.bucket.delete("d/ghost.txt").await?;
    assert_eq!(stage.head("/m/d/ghost.txt").await?.status(), 404);
    go.notify_one();
    assert_eq!(listing.await??, ["other.txt"]);
    assert_eq!(stage.head("/m/d/ghost.txt").await?.status(), 404, "not brought back");
    Ok(())
}
