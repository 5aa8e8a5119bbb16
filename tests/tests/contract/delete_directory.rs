//! X6 and X7: directories, empty or swept; what fails stays, and is named.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use remotemount_tests::manifest::Manifest;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;
use remotemount_tests::sidecar::Sidecar;
use tokio::sync::Notify;

use crate::delete::{propagating, there};
use crate::stage::{Door, How, Stage, bucket, client, server};

const OBJECTS: usize = 5000;
const DIRECTORIES: usize = 50;

async fn fill(stage: &Stage, top: &str, objects: usize) -> Result<BTreeSet<String>> {
    let keys: BTreeSet<String> = (0..objects).map(|n| format!("{top}/d{:02}/f{n:04}", n % DIRECTORIES)).collect();
    stage.bucket.put_many(keys.iter().map(|key| (key.clone(), "x"))).await?;
    Ok(keys)
}

async fn keys(stage: &Stage, prefix: &str) -> Result<BTreeSet<String>> {
    Ok(stage.bucket.keys(prefix).await?.into_iter().collect())
}

/// 5,000 objects in 50 directories that nobody ever listed: the remote says what is there, in bulk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x6_a_sweep_asks_the_remote_and_goes_in_bulk() -> Result<()> {
    for (kind, objects) in [(Kind::Weed, OBJECTS), (Kind::Moto, 1200)] {
        let name = format!("x6-sweep-{kind:?}").to_lowercase();
        let stage = Stage::with(kind, &name, |m| m.delete_policy("Propagate")).await?;
        for door in Door::ALL {
            let top = door.name();
            fill(&stage, top, objects).await?;
            stage.bucket.put(&format!("{top}-beside"), "x", None).await?;
            stage.proxy.reset();
            let verdict = stage.delete(door, &format!("/m/{top}"), &[How::Recursive]).await?;
            assert!(verdict.done, "{}", verdict.told);
            let (lists, bulks) = (stage.proxy.count(Operation::List), stage.proxy.count(Operation::DeleteMany));
            let total = stage.proxy.total();
            println!("{kind:?}, {door:?}: {lists} LIST, {bulks} DeleteObjects, {total} requests for {objects} keys");
            assert!(total <= 2 * objects.div_ceil(1000) + 2, "{lists} LIST, {bulks} DeleteObjects, {total} in all");
            assert_eq!(keys(&stage, &format!("{top}/")).await?.len(), 0, "the bucket is empty below it");
            assert!(there(&stage, &format!("{top}-beside")).await?, "and its neighbour is left");
            for path in [format!("/m/{top}"), format!("/m/{top}/"), format!("/m/{top}/d00/f0000")] {
                assert_eq!(stage.head(&path).await?.status(), 404, "{path}");
            }
            let again = stage.delete(door, &format!("/m/{top}"), &[How::Recursive]).await?;
            assert!(again.done, "what is gone already is no error: {}", again.told);
        }
    }
    Ok(())
}

/// A server denies one key in the middle: it is named, still there and still shown; nothing claims success.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x6_a_failed_key_stays_and_is_named() -> Result<()> {
    let stage = Stage::with(Kind::Moto, "x6-denied", |m| m.delete_policy("Propagate").listing_ttl_seconds(600)).await?;
    for door in Door::ALL {
        let top = door.name();
        let all = fill(&stage, top, 1100).await?;
        let denied = format!("{top}/d07/f0007");
        stage.bucket.deny_delete(&denied).await?;
        // Known beforehand: the listing must not tell of what is gone later.
        assert_eq!(stage.names(&format!("/m/{top}/d07/")).await?.len(), 22);
        // The second page is held back until the first was answered.
        let go_on = Arc::new(Notify::new());
        stage.proxy.reset();
        let pause = Action::PauseBodyAfter(10, Arc::clone(&go_on));
        stage.proxy.inject(Rule::new(pause).operation(Operation::List).nth(1).times(1));
        let answered = async {
            while stage.deletes() == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // The batch is done with when only the directory's intent is open.
            while stage.status().await?["mounts"][0]["deletes"]["openIntents"] != 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            go_on.notify_one();
            anyhow::Ok(())
        };
        let path = format!("/m/{top}");
        let (verdict, answered) = tokio::join!(stage.delete(door, &path, &[How::Recursive]), answered);
        answered?;
        let verdict = verdict?;
        stage.proxy.clear();
        assert_eq!((verdict.done, verdict.status), (false, 403), "{}", verdict.told);
        assert!(verdict.told.contains(&format!("/m/{denied}")) && verdict.told.contains("Denied"), "{}", verdict.told);
        let left = keys(&stage, &format!("{top}/")).await?;
        assert!(left.contains(&denied) && left.len() > 1, "the first failure stops further pages: {} left", left.len());
        agrees(&stage, &all, &left).await?;
        let verdict = stage.delete(door, &format!("/m/{top}"), &[How::Recursive, How::IgnoreErrors]).await?;
        assert_eq!((verdict.done, verdict.status), (false, 403), "no error is lost: {}", verdict.told);
        assert!(verdict.told.contains(&format!("/m/{denied}")), "{}", verdict.told);
        let left = keys(&stage, &format!("{top}/")).await?;
        assert_eq!(left, BTreeSet::from([denied.clone()]), "everything else is gone");
        agrees(&stage, &all, &left).await?;
        assert_eq!(stage.names(&format!("/m/{top}/")).await?, ["d07/"]);
        assert_eq!(stage.names(&format!("/m/{top}/d07/")).await?, ["f0007"]);
        stage.bucket.allow_deletes().await?;
        assert!(stage.delete(door, &format!("/m/{top}"), &[How::Recursive]).await?.done);
        assert_eq!(stage.head(&format!("/m/{top}/")).await?.status(), 404);
    }
    stage.settled().await?;
    Ok(())
}

/// What the bucket has is shown, and what it has not is not.
async fn agrees(stage: &Stage, all: &BTreeSet<String>, left: &BTreeSet<String>) -> Result<()> {
    for key in all.iter().step_by(97).chain(left.iter().take(20)) {
        let status = stage.head(&format!("/m/{key}")).await?.status();
        assert_eq!(status == 200, left.contains(key), "{key}: {status}");
    }
    Ok(())
}

/// Whole requests fail, in every way: nothing is lost on either side, and the error is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x6_a_page_that_fails_loses_no_error() -> Result<()> {
    let stage = propagating("x6-page").await?;
    let cases = [
        (Operation::List, Action::error(403, "AccessDenied"), 1, 403),
        (Operation::List, Action::error(500, "InternalError"), 1, 503),
        (Operation::DeleteMany, Action::error(403, "AccessDenied"), 1, 403),
        (Operation::DeleteMany, Action::error(503, "SlowDown"), 0, 503),
        (Operation::DeleteMany, Action::error(500, "InternalError"), 0, 503),
        (Operation::DeleteMany, Action::Reset, 1, 503),
    ];
    for door in Door::ALL {
        for (n, (operation, action, nth, status)) in cases.clone().into_iter().enumerate() {
            let top = format!("{}{n}", door.name());
            let all = fill(&stage, &top, if nth == 0 { 100 } else { 1100 }).await?;
            stage.proxy.inject(Rule::new(action.clone()).operation(operation).nth(nth));
            let verdict = stage.delete(door, &format!("/m/{top}"), &[How::Recursive]).await?;
            stage.proxy.clear();
            let told = &verdict.told;
            assert!(
                !verdict.done && (verdict.status == status || verdict.status == 502),
                "{operation:?} {action:?}: {told}"
            );
            assert!(told.contains(&format!("/m/{top}")), "{told}");
            let left = keys(&stage, &format!("{top}/")).await?;
            assert!(!left.is_empty(), "{operation:?} {action:?}");
            agrees(&stage, &all, &left).await?;
            let again = stage.delete(door, &format!("/m/{top}"), &[How::Recursive]).await?;
            assert!(again.done, "{operation:?} {action:?}: a retry succeeds: {}", again.told);
            assert_eq!(keys(&stage, &format!("{top}/")).await?.len(), 0);
        }
    }
    stage.settled().await?;
    Ok(())
}

/// Carried out, and the answer lost: the remote is asked what became of each key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x6_a_lost_answer_is_no_failure() -> Result<()> {
    let stage = propagating("x6-lost").await?;
    for door in Door::ALL {
        let top = door.name();
        stage.bucket.put(&format!("{top}-first"), "x", None).await?;
        assert!(stage.delete(door, &format!("/m/{top}-first"), &[]).await?.done, "it is known what the server heeds");
        fill(&stage, top, 100).await?;
        stage.proxy.inject(Rule::new(Action::LoseAnswer).operation(Operation::DeleteMany));
        let verdict = stage.delete(door, &format!("/m/{top}"), &[How::Recursive]).await?;
        stage.proxy.clear();
        assert!(verdict.done, "{}", verdict.told);
        assert_eq!(keys(&stage, &format!("{top}/")).await?.len(), 0);
        stage.bucket.put(&format!("{top}-file"), "x", None).await?;
        assert_eq!(stage.head(&format!("/m/{top}-file")).await?.status(), 200);
        stage.proxy.inject(Rule::new(Action::LoseAnswer).operation(Operation::Delete));
        let verdict = stage.delete(door, &format!("/m/{top}-file"), &[]).await?;
        stage.proxy.clear();
        assert!(verdict.done && !there(&stage, &format!("{top}-file")).await?, "{}", verdict.told);
    }
    Ok(())
}

/// What looks empty here may not be: the remote is asked, and only what is empty there goes without `recursive`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x6_emptiness_is_for_the_remote_to_say() -> Result<()> {
    let stage = Stage::with(Kind::Moto, "x6-empty", |m| m.delete_policy("Propagate").listing_ttl_seconds(600)).await?;
    for door in Door::ALL {
        let at = door.name();
        stage.bucket.put(&format!("{at}/looks-empty/"), "", None).await?;
        assert_eq!(stage.names(&format!("/m/{at}/looks-empty/")).await?, Vec::<String>::new());
        stage.bucket.put(&format!("{at}/looks-empty/new"), "x", None).await?;
        let verdict = stage.delete(door, &format!("/m/{at}/looks-empty"), &[]).await?;
        assert_eq!((verdict.done, verdict.status), (false, 409), "{}", verdict.told);
        assert!(there(&stage, &format!("{at}/looks-empty/new")).await?, "what was never listed is not swept");
        assert!(stage.delete(door, &format!("/m/{at}/looks-empty/new"), &[]).await?.done);
        let verdict = stage.delete(door, &format!("/m/{at}/looks-empty"), &[]).await?;
        assert!(verdict.done, "only its marker is left: {}", verdict.told);
        assert_eq!(keys(&stage, &format!("{at}/looks-empty")).await?.len(), 0);
        assert_eq!(stage.head(&format!("/m/{at}/looks-empty/")).await?.status(), 404);
        // A file and a directory of one name: the order must say which, because repeated it would mean the other.
        stage.bucket.put(&format!("{at}/both"), "file", None).await?;
        stage.bucket.put(&format!("{at}/both/below"), "x", None).await?;
        assert_eq!(stage.head(&format!("/m/{at}/both")).await?.status(), 200);
        let verdict = stage.delete(door, &format!("/m/{at}/both"), &[How::Recursive]).await?;
        assert_eq!((verdict.done, verdict.status), (false, 409), "{}", verdict.told);
        assert!(verdict.told.contains("FileAndDirectory"), "{}", verdict.told);
        assert!(stage.delete(door, &format!("/m/{at}/both"), &[]).await?.done);
        assert!(!there(&stage, &format!("{at}/both")).await? && there(&stage, &format!("{at}/both/below")).await?);
        assert!(stage.delete(door, &format!("/m/{at}/both"), &[How::Recursive]).await?.done);
        assert_eq!(keys(&stage, &format!("{at}/both")).await?.len(), 0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x6_the_mounts_own_directory_is_emptied_and_stays() -> Result<()> {
    let contents = bucket(Kind::Moto, "x6-root").await?;
    let proxy = Proxy::start(&server(Kind::Moto).await?).await?;
    let manifest = Manifest::new("m", "/m", "x6-root", &proxy.endpoint(), "inside/").delete_policy("Propagate");
    let inner =
        Manifest::new("inner", "/way/to/inner", "x6-root", &proxy.endpoint(), "inner/").delete_policy("Propagate");
    let sidecar = Sidecar::builder().mount(&manifest).mount(&inner).start().await?;
    let stage = Stage { bucket: contents, proxy, sidecar, client: client() };
    for door in Door::ALL {
        for key in ["inside/a", "inside/d/b", "outside", "inside-out", "inner/x"] {
            stage.bucket.put(key, "x", None).await?;
        }
        let verdict = stage.delete(door, "/m", &[]).await?;
        assert_eq!((verdict.done, verdict.status), (false, 409), "{}", verdict.told);
        let verdict = stage.delete(door, "/m", &[How::Recursive]).await?;
        assert!(verdict.done, "{}", verdict.told);
        assert_eq!(keys(&stage, "").await?, ["inner/x", "inside-out", "outside"].map(str::to_owned).into());
        assert_eq!(stage.names("/m/").await?, Vec::<String>::new(), "empty, and still there");
        let verdict = stage.delete(door, "/m", &[]).await?;
        assert_eq!((verdict.done, verdict.status), (false, 409), "{}", verdict.told);
        assert!(verdict.told.contains("own directory"), "{}", verdict.told);
        // What leads to a mount is nobody's to delete (the gRPC door has no name for `/`); below the inner mount, its own remote is used.
        for path in ["/", "/way", "/way/to"].into_iter().skip(usize::from(door == Door::Grpc)) {
            let verdict = stage.delete(door, path, &[How::Recursive]).await?;
            assert_eq!((verdict.done, verdict.status), (false, 409), "{path}: {}", verdict.told);
        }
        assert!(stage.delete(door, "/way/to/inner/x", &[]).await?.done);
        assert_eq!(keys(&stage, "").await?, ["inside-out", "outside"].map(str::to_owned).into());
    }
    Ok(())
}

/// What comes into a directory that was found empty was not meant by an order that is not recursive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x6_what_comes_meanwhile_is_not_swept() -> Result<()> {
    let stage = Stage::with(Kind::Moto, "x6-meanwhile", |m| m.delete_policy("Propagate")).await?;
    for door in Door::ALL {
        let at = door.name();
        stage.bucket.put(&format!("{at}/d/"), "", None).await?;
        let go_on = Arc::new(Notify::new());
        let pause = Action::PauseBodyAfter(0, Arc::clone(&go_on));
        stage.proxy.reset();
        stage.proxy.inject(Rule::new(pause).operation(Operation::DeleteMany).times(1));
        let comes = async {
            while stage.deletes() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            stage.bucket.put(&format!("{at}/d/new"), "content", None).await?;
            go_on.notify_one();
            anyhow::Ok(())
        };
        let path = format!("/m/{at}/d");
        let (verdict, came) = tokio::join!(stage.delete(door, &path, &[]), comes);
        came?;
        let verdict = verdict?;
        assert_eq!((verdict.done, verdict.status), (false, 409), "{}", verdict.told);
        assert!(there(&stage, &format!("{at}/d/new")).await?);
        assert_eq!(stage.head(&format!("/m/{at}/d/new")).await?.status(), 200);
    }
    Ok(())
}

/// Keys that no path can name were never shown to anyone: they are left, and the delete says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x6_keys_that_no_path_names_are_never_swept() -> Result<()> {
    let stage = Stage::with(Kind::Moto, "x6-unnameable", |m| m.delete_policy("Propagate")).await?;
    for door in Door::ALL {
        let at = door.name();
        let odd = [format!("{at}//x"), format!("{at}/../y"), format!("{at}/full/")];
        for key in &odd {
            stage.bucket.put(key, "content", None).await?;
        }
        stage.bucket.put(&format!("{at}/plain"), "x", None).await?;
        for how in [vec![How::Recursive], vec![How::Recursive, How::IgnoreErrors]] {
            let verdict = stage.delete(door, &format!("/m/{at}"), &how).await?;
            assert_eq!((verdict.done, verdict.status), (false, 409), "{}", verdict.told);
            assert!(verdict.told.contains("3 key(s)"), "{}", verdict.told);
        }
        assert_eq!(keys(&stage, &format!("{at}/")).await?, odd.into(), "all else is gone");
    }
    // The mount's own directory: its marker goes, and what only looks like it stays.
    let odd = ["/", "//", "x//y"];
    for (prefix, keys_there, left) in [
        ("", vec!["/", "//", "x//y", "plain"], odd.to_vec()),
        ("p/", vec!["p/", "p//", "p/x"], vec!["p//"]),
        ("q/", vec!["q/x"], vec![]),
    ] {
        let name = format!("x6-odd-root-{}", prefix.len() + usize::from(prefix == "q/"));
        let stage = Stage::with(Kind::Moto, &name, |_| {
            Manifest::new("m", "/m", &name, &stage.proxy.endpoint(), prefix).delete_policy("Propagate")
        })
        .await?;
        for key in &keys_there {
            stage.bucket.put(key, if *key == "p/" || *key == "//" { "" } else { "content" }, None).await?;
        }
        let verdict = stage.delete(Door::Http, "/m/", &[How::Recursive, How::IgnoreErrors]).await?;
        assert_eq!(verdict.done, left.is_empty(), "{prefix:?}: {}", verdict.told);
        assert_eq!(keys(&stage, "").await?, left.into_iter().map(str::to_owned).collect(), "{prefix:?}");
    }
    Ok(())
}

/// An object that was replaced after it was shown stays, and is shown as it is now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x6_a_sweep_spares_what_was_changed_since_it_was_shown() -> Result<()> {
    let stage =
        Stage::with(Kind::Weed, "x6-changed", |m| m.delete_policy("Propagate").listing_ttl_seconds(600)).await?;
    for door in Door::ALL {
        let top = door.name();
        fill(&stage, top, 60).await?;
        stage.names(&format!("/m/{top}/d03/")).await?;
        let replaced = format!("{top}/d03/f0003");
        stage.bucket.put(&replaced, "another version", None).await?;
        let verdict = stage.delete(door, &format!("/m/{top}"), &[How::Recursive, How::IgnoreErrors]).await?;
        assert_eq!((verdict.done, verdict.status), (false, 409), "{}", verdict.told);
        assert!(verdict.told.contains(&format!("/m/{replaced}")), "{}", verdict.told);
        assert_eq!(keys(&stage, &format!("{top}/")).await?, BTreeSet::from([replaced.clone()]));
        assert_eq!(stage.get(&format!("/m/{replaced}")).await?.text().await?, "another version");
        assert!(stage.delete(door, &format!("/m/{top}"), &[How::Recursive]).await?.done, "now it was shown");
    }
    Ok(())
}

/// A sweep goes on only under the policy and the mount it began with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x9_unmounting_stops_propagation_and_deletes_nothing() -> Result<()> {
    let stage = Stage::with(Kind::Weed, "x9-unmount", |m| m.delete_policy("Propagate")).await?;
    fill(&stage, "top", 4500).await?;
    stage
        .proxy
        .inject(Rule::new(Action::Delay(Duration::from_millis(1500))).operation(Operation::List).nth(1).times(1));
    let sweep = async { stage.client.delete(stage.sidecar.http_url("/m/top?recursive=true")).send().await };
    let unmount = async {
        while stage.proxy.count(Operation::DeleteMany) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stage.sidecar.remove_manifest("m")
    };
    let (answer, unmounted) = tokio::join!(sweep, unmount);
    unmounted?;
    let answer = answer?;
    assert_eq!(answer.status(), 503);
    assert!(answer.text().await?.contains("Interrupted"));
    let left = keys(&stage, "top/").await?.len();
    assert!(left >= 2000, "further pages were not deleted: {left} left");
    stage.proxy.reset();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(keys(&stage, "top/").await?.len(), left);
    assert_eq!(stage.deletes(), 0, "and nothing is deleted because a mount goes");
    let verdict = stage.delete(Door::Http, "/m/top", &[How::Recursive]).await?;
    assert_eq!(verdict.status, 404, "{}", verdict.told);
    Ok(())
}
