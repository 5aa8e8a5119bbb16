//! Listing: D1 and D2.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;
use serde_json::Value;
use tokio::time::sleep;

use crate::stage::{Stage, names};

async fn fill(stage: &Stage, count: usize) -> Result<BTreeSet<String>> {
    let names: BTreeSet<String> = (0..count).map(|n| format!("f{n:05}.txt")).collect();
    stage.bucket.put_many(names.iter().map(|name| (format!("d/{name}"), "x"))).await?;
    Ok(names)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_listings_merge_and_are_good_for_their_time() -> Result<()> {
    let stage = Stage::with(Kind::Weed, "d1-merge", |m| m.listing_ttl_seconds(2)).await?;
    for key in ["d/a.txt", "d/b.txt", "d/sub/x", "d/sub/y"] {
        stage.bucket.put(key, "x", None).await?;
    }
    assert_eq!(stage.names("/m/d/").await?, ["a.txt", "b.txt", "sub/"]);
    assert_eq!((stage.lists("d/"), stage.proxy.total()), (1, 1), "one page, nothing else");
    assert_eq!(stage.names("/m/d/").await?, ["a.txt", "b.txt", "sub/"]);
    assert_eq!(stage.proxy.total(), 1, "good for its time");
    // What a listing brought is known to lookups.
    assert_eq!(stage.get_with("/m/d/sub?metadata=true", &[]).await?.status(), 200);
    assert_eq!(stage.proxy.total(), 1);
    // Names vanish and appear with the remote; a whole directory does too.
    stage.bucket.delete("d/a.txt").await?;
    stage.bucket.delete("d/sub/x").await?;
    stage.bucket.delete("d/sub/y").await?;
    stage.bucket.put("d/c.txt", "x", None).await?;
    sleep(Duration::from_millis(2200)).await;
    let after = stage.names("/m/d/").await?;
    assert!(after.starts_with(&["b.txt".to_owned(), "c.txt".to_owned()]), "{after:?}");
    assert_eq!(stage.get_with("/m/d/a.txt?metadata=true", &[]).await?.status(), 404);
    assert!(stage.sidecar.log().contains("names vanished remotely"));
    // A directory that is not there.
    assert_eq!(stage.list("/m/nowhere/").await?.status(), 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l2_a_head_of_a_directory_looks_and_does_not_list() -> Result<()> {
    let stage = Stage::with(Kind::Moto, "l2-head-of-directory", |m| m).await?;
    fill(&stage, 1200).await?;
    for path in ["/m/d/", "/m/d"] {
        let head = stage.head(path).await?;
        assert_eq!(head.status(), 200);
        assert_eq!(head.headers().get("content-length"), None, "nobody knows how long the listing is");
        assert_eq!(head.headers()["content-type"], "text/html; charset=utf-8");
        assert_eq!(head.headers()["vary"], "Accept");
    }
    let asked = stage.proxy.seen();
    let lists = asked.iter().filter(|seen| seen.operation == Operation::List);
    let limits: Vec<_> = lists.map(|seen| seen.parameter("max-keys")).collect();
    assert_eq!(limits, [Some("1".to_owned()), Some("1".to_owned())], "one object tells that it is there");
    assert_eq!(stage.proxy.total(), 3, "the second time the file of that name was asked for, too");
    assert_eq!(stage.head("/m/nowhere/").await?.status(), 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_listings_stream_and_resume_by_name() -> Result<()> {
    let stage = Stage::with(Kind::Moto, "d1-resume", |m| m).await?;
    let mut wanted: Vec<String> = fill(&stage, 2300).await?.into_iter().collect();
    // A file and a directory of one name, with names between the two in key order.
    for key in ["d/twin", "d/twin-a", "d/twin.b", "d/twin/x", "d/twin0"] {
        stage.bucket.put(key, "x", None).await?;
    }
    wanted.extend(["twin", "twin-a", "twin.b", "twin/", "twin0"].map(str::to_owned));
    // The first entries come with the first page; the rest of the directory is not asked for.
    let first: Value = stage.list("/m/d/?limit=10").await?.json().await?;
    assert_eq!(names(&first), wanted[..10]);
    assert_eq!((&first["ShouldDisplayLoadMore"], &first["LastFileName"]), (&true.into(), &"f00009.txt".into()));
    assert_eq!(stage.lists("d/"), 1);
    // Pages of any size, resumed by name, give every name once.
    for limit in [1000, 7, 333] {
        let (mut seen, mut last) = (Vec::new(), String::new());
        let rounds = if limit == 7 { 40 } else { usize::MAX };
        for _ in 0..rounds {
            let last_encoded = percent_encoding::utf8_percent_encode(&last, percent_encoding::NON_ALPHANUMERIC);
            let page: Value =
                stage.list(&format!("/m/d/?limit={limit}&lastFileName={last_encoded}")).await?.json().await?;
            seen.extend(names(&page));
            last = page["LastFileName"].as_str().unwrap_or_default().to_owned();
            if page["ShouldDisplayLoadMore"] == false {
                break;
            }
        }
        assert_eq!(seen, wanted[..seen.len()], "limit {limit}");
        assert!(limit == 7 || seen.len() == wanted.len(), "limit {limit}");
    }
    // Past the last name there is nothing, in a directory that is there.
    let page = stage.list("/m/d/?lastFileName=zzzz").await?;
    assert_eq!(page.status(), 200);
    // Patterns choose names, and the limit counts what is chosen.
    let page: Value =
        stage.list("/m/d/?namePattern=f0000*.txt&namePatternExclude=*5.txt&limit=3").await?.json().await?;
    assert_eq!(names(&page), ["f00000.txt", "f00001.txt", "f00002.txt"]);
    let page: Value = stage.list("/m/d/?namePattern=f0000?.txt&namePatternExclude=*5.txt").await?.json().await?;
    assert_eq!(names(&page).len(), 9);
    // From the middle, on a store that never saw the beginning.
    let other = Stage::with(Kind::Moto, "d1-resume", |m| m).await?;
    let page: Value = other.list("/m/d/?limit=4&lastFileName=twin").await?.json().await?;
    assert_eq!(names(&page), ["twin-a", "twin.b", "twin/", "twin0"]);
    let page: Value = other.list("/m/d/?limit=4&lastFileName=twin/").await?.json().await?;
    assert_eq!(names(&page), ["twin0"]);
    Ok(())
}

/// weed lists a directory before the files whose names begin with its name and a smaller byte than `/`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_a_remote_that_lists_out_of_order_loses_no_name() -> Result<()> {
    let stage = Stage::with(Kind::Weed, "d1-order", |m| m).await?;
    let mut wanted: BTreeSet<String> = (0..1500).map(|n| format!("p-{n:05}")).collect();
    stage.bucket.put_many(wanted.iter().map(|name| (format!("d/{name}"), "x"))).await?;
    stage.bucket.put("d/p/inside", "x", None).await?;
    wanted.insert("p/".to_owned());
    let listed: BTreeSet<String> = stage.names("/m/d/").await?.into_iter().collect();
    assert_eq!(listed, wanted);
    assert_eq!(stage.status().await?["mounts"][0]["listingOrder"], "unordered", "it was noticed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_a_failed_listing_is_never_a_shorter_directory() -> Result<()> {
    let stage = Stage::with(Kind::Weed, "d2-whole", |m| m.timeout_seconds(2).listing_ttl_seconds(1)).await?;
    let wanted = fill(&stage, 2500).await?;
    for action in
        [Action::Status(500, None), Action::Reset, Action::BreakBodyAfter(200), Action::Hang(Duration::from_secs(30))]
    {
        let name = format!("{action:?}");
        stage.proxy.inject(Rule::new(action).operation(Operation::List).key("d/").nth(1));
        let answer = stage.list("/m/d/").await?;
        assert!(matches!(answer.status().as_u16(), 502..=504), "{name}: {}", answer.status());
        stage.proxy.clear();
    }
    let listed: BTreeSet<String> = stage.names("/m/d/").await?.into_iter().collect();
    assert_eq!(listed, wanted, "the next one is whole");
    // With a whole listing to fall back to, an old one is served and marked.
    sleep(Duration::from_millis(1200)).await;
    stage.proxy.inject(Rule::new(Action::Status(500, None)).operation(Operation::List));
    let answer = stage.list("/m/d/").await?;
    assert_eq!(answer.headers()["warning"], "110 - \"Response is Stale\"");
    let listed: BTreeSet<String> = names(&answer.json().await?).into_iter().collect();
    assert_eq!(listed, wanted, "old, and whole");
    Ok(())
}

/// The last name that a paused walk told of is gone when the next reader comes: it reads on behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_walk_whose_last_name_is_gone_goes_on() -> Result<()> {
    let mut stage = Stage::with(Kind::Moto, "walk-goes-on", |m| m.listing_ttl_seconds(1)).await?;
    let mut wanted = fill(&stage, 3200).await?;
    assert_eq!(stage.names("/m/d/").await?.len(), wanted.len());
    sleep(Duration::from_millis(1200)).await;
    let first: Value = stage.list("/m/d/?limit=10").await?.json().await?;
    assert_eq!(names(&first).len(), 10);
    stage.bucket.delete("d/f00999.txt").await?;
    wanted.remove("f00999.txt");
    assert_eq!(stage.head("/m/d/f00999.txt").await?.status(), 404);
    sleep(Duration::from_millis(200)).await;
    let listed: BTreeSet<String> =
        tokio::time::timeout(Duration::from_secs(20), stage.names("/m/d/")).await??.into_iter().collect();
    assert_eq!(listed, wanted);
    // A walk that waits for its reader does not keep the sidecar from stopping.
    sleep(Duration::from_millis(1200)).await;
    stage.list("/m/d/?limit=10").await?;
    let begin = std::time::Instant::now();
    assert!(stage.sidecar.terminate(Duration::from_secs(20)).await?.success());
    assert!(begin.elapsed() < Duration::from_secs(4), "stopped in {:?}", begin.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_a_page_for_people() -> Result<()> {
    let stage = Stage::new("page").await?;
    stage.bucket.put("<script>alert(1)</script>.txt", "x", None).await?;
    stage.bucket.put("dir/one", "x", None).await?;
    let answer = stage.get("/m/").await?;
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    let page = answer.text().await?;
    assert!(page.contains("href=\"/m/dir/\"") && !page.contains("<script>alert"), "{page}");
    Ok(())
}
