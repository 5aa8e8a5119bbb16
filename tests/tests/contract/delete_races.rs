//! L8, X7, X8 and E1 across doors, crashes and answers that were on their way.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use remotemount_sidecar::entry::{Directory, File, Millis};
use remotemount_sidecar::path::RelPath;
use remotemount_sidecar::store::redb::RedbStore;
use remotemount_sidecar::store::{Change, MountId, Store as _};
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;
use tokio::sync::Notify;

use crate::delete::{propagating, there};
use crate::stage::{Door, How, Stage};

/// The paths of the events that the store holds; the sidecar is stopped for it.
async fn events(stage: &mut Stage) -> Result<Vec<String>> {
    stage.sidecar.kill9()?;
    let store = RedbStore::open(stage.sidecar.state_dir())?.store;
    let events = store.events(0, 10_000)?.events;
    Ok(events.into_iter().filter(|event| event.new.is_none()).map(|event| event.path).collect())
}

/// A listing that was on its way while the name was deleted does not bring it back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l8_a_delete_is_not_undone_by_an_answer_on_its_way() -> Result<()> {
    let stage = Arc::new(Stage::with(Kind::Weed, "l8-delete", |m| m.delete_policy("Propagate")).await?);
    for door in Door::ALL {
        let at = door.name();
        for name in ["d/gone", "d/kept", "s/x"] {
            stage.bucket.put(&format!("{at}/{name}"), "content", None).await?;
        }
        for (deleted, how, listed, left) in
            [("d/gone", &[][..], "d/", vec!["kept"]), ("s", &[How::Recursive][..], "", vec!["d/"])]
        {
            let go_on = Arc::new(Notify::new());
            let pause = Action::PauseBodyAfter(0, Arc::clone(&go_on));
            let listed = format!("{at}/{listed}");
            stage.proxy.reset();
            stage.proxy.inject(Rule::new(pause).operation(Operation::List).key(&listed).times(1));
            let listing = {
                let (stage, path) = (Arc::clone(&stage), format!("/m/{listed}"));
                tokio::spawn(async move { stage.list(&path).await.map(|answer| answer.status().as_u16()) })
            };
            // The server has said what is there; it is deleted while the answer waits.
            while !stage.proxy.seen().iter().any(|seen| seen.operation == Operation::List && seen.status.is_some()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let verdict = stage.delete(door, &format!("/m/{at}/{deleted}"), how).await?;
            assert!(verdict.done, "{}", verdict.told);
            go_on.notify_one();
            assert_eq!(listing.await??, 200);
            stage.proxy.clear();
            assert_eq!(stage.head(&format!("/m/{at}/{deleted}")).await?.status(), 404, "{deleted}");
            assert_eq!(stage.names(&format!("/m/{listed}")).await?, left, "{deleted}");
        }
    }
    Ok(())
}

/// A file that exists only here goes without a word to the remote, by itself or below a directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_local_only_files_make_no_remote_call() -> Result<()> {
    let mut stage = propagating("x2-local").await?;
    stage.bucket.put("d/remote", "content", None).await?;
    stage.sidecar.kill9()?;
    let locals = ["alone", "grpc-alone", "d/local", "e/local"];
    {
        let store = RedbStore::open(stage.sidecar.state_dir())?.store;
        let file = |name: &str| Change::PutFile(MountId(1), RelPath::parse(name).unwrap(), File::local(Millis(1)));
        store.apply(&locals.map(file))?;
        let directory =
            |name: &str| Change::PutDirectory(MountId(1), RelPath::parse(name).unwrap(), Directory::seen(Millis(1)));
        store.apply(&["d", "e"].map(directory))?;
    }
    stage.sidecar.restart().await?;
    stage.settle().await?;
    assert!(stage.delete(Door::Http, "/m/alone", &[]).await?.done);
    assert!(stage.delete(Door::Grpc, "/m/grpc-alone", &[]).await?.done);
    assert_eq!(stage.proxy.total(), 0, "the remote was not asked");
    for path in ["/m/d", "/m/e"] {
        let verdict = stage.delete(Door::Http, path, &[]).await?;
        assert_eq!((verdict.done, verdict.status), (false, 409), "{path} holds something: {}", verdict.told);
        assert!(stage.delete(Door::Http, path, &[How::Recursive]).await?.done, "{path}");
    }
    assert!(!there(&stage, "d/remote").await?);
    let mut told = events(&mut stage).await?;
    told.sort();
    assert_eq!(told, ["/m/alone", "/m/d", "/m/d/local", "/m/d/remote", "/m/e", "/m/e/local", "/m/grpc-alone"]);
    Ok(())
}

/// What was deleted elsewhere changes what is known here, and asks the remote nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x7_a_replicated_delete_changes_only_what_is_known() -> Result<()> {
    let mut stage = Stage::with(Kind::Weed, "x7-replicated", |m| m).await?;
    for key in ["f", "d/a", "d/s/b", "other"] {
        stage.bucket.put(key, "content", None).await?;
    }
    assert_eq!(stage.head("/m/f").await?.status(), 200);
    for path in ["/m/", "/m/d/", "/m/d/s/"] {
        stage.names(path).await?;
    }
    stage.settle().await?;
    let verdict = stage.delete(Door::Grpc, "/m/d", &[How::FromOtherCluster]).await?;
    assert_eq!((verdict.done, verdict.status), (false, 409), "not empty, as far as is known: {}", verdict.told);
    for (path, how) in [("/m/f", vec![]), ("/m/d", vec![How::Recursive]), ("/m/unknown", vec![])] {
        let verdict = stage.delete(Door::Grpc, path, &[how, vec![How::FromOtherCluster]].concat()).await?;
        assert!(verdict.done, "whatever the policy: {}", verdict.told);
    }
    assert_eq!(stage.proxy.total(), 0, "nothing was asked of the remote");
    assert!(there(&stage, "f").await? && there(&stage, "d/s/b").await?, "and it has all it had");
    assert_eq!(stage.head("/m/d/a").await?.status(), 200, "what the bucket has is found again");
    assert_eq!(stage.heads("d/a"), 1, "by asking");
    assert_eq!(events(&mut stage).await?, ["/m/f", "/m/d/s/b", "/m/d/s", "/m/d/a", "/m/d"]);
    Ok(())
}

/// Killed while the remote has the request: after the restart the remote says what became of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x8_a_crash_leaves_an_intent_that_the_remote_settles() -> Result<()> {
    let mut stage = propagating("x8-crash").await?;
    for (round, gone) in [(0, true), (1, false)] {
        for (path, how, operation) in
            [("f", &[][..], Operation::Delete), ("d", &[How::Recursive][..], Operation::DeleteMany)]
        {
            let key = |name: &str| format!("{round}{name}");
            let keys = if path == "f" { vec![key("f")] } else { vec![key("d/a"), key("d/s/b")] };
            for key in &keys {
                stage.bucket.put(key, "content", None).await?;
                assert_eq!(stage.head(&format!("/m/{key}")).await?.status(), 200);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            stage.proxy.reset();
            stage.proxy.inject(Rule::new(Action::Hang(Duration::from_secs(60))).operation(operation));
            let order = {
                let target = format!("/m/{}?recursive={}", key(path), !how.is_empty());
                let (client, url) = (stage.client.clone(), stage.sidecar.http_url(&target));
                tokio::spawn(async move { client.delete(url).send().await.is_err() })
            };
            while stage.proxy.count(operation) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            stage.sidecar.kill9()?;
            assert!(order.await?, "the client learns that there is no answer");
            if gone {
                for key in &keys {
                    stage.bucket.delete(key).await?;
                }
            }
            stage.proxy.clear();
            stage.sidecar.restart().await?;
            for key in &keys {
                let status = stage.head(&format!("/m/{key}")).await?.status();
                assert_eq!(status, if gone { 404 } else { 200 }, "{key}");
            }
            stage.settled().await?;
            let verdict = stage.delete(Door::Http, &format!("/m/{}", key(path)), how).await?;
            assert!(verdict.done, "a retry succeeds: {}", verdict.told);
            for key in &keys {
                assert!(!there(&stage, key).await?);
                assert_eq!(stage.head(&format!("/m/{key}")).await?.status(), 404);
            }
        }
    }
    let mut told = events(&mut stage).await?;
    for (round, directory) in [(0, "/m/0d"), (1, "/m/1d")] {
        let at = |path: &str| told.iter().position(|told| told == path);
        assert!(at(directory) > at(&format!("/m/{round}d/s/b")), "a directory after what was in it: {told:?}");
    }
    told.retain(|path| !path.ends_with("/s"));
    told.sort();
    let wanted = ["/m/0d", "/m/0d/a", "/m/0d/s/b", "/m/0f", "/m/1d", "/m/1d/a", "/m/1d/s/b", "/m/1f"];
    assert_eq!(told, wanted, "each is told of once, whoever finished it");
    Ok(())
}

/// However a delete went, there is one event for what is gone, and none for what is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_there_is_one_event_for_what_is_gone_and_none_for_what_is_not() -> Result<()> {
    let mut stage = Stage::with(Kind::Moto, "e1-one", |m| m.delete_policy("Propagate")).await?;
    for key in ["f", "denied", "t/a", "t/b", "t/s/c", "vanished"] {
        stage.bucket.put(key, "content", None).await?;
        assert_eq!(stage.head(&format!("/m/{key}")).await?.status(), 200);
    }
    stage.bucket.deny_delete("*denied").await?;
    assert!(!stage.delete(Door::Http, "/m/denied", &[]).await?.done);
    let asks = (0..20).map(|_| stage.delete(Door::Http, "/m/f", &[]));
    for verdict in futures_util::future::join_all(asks).await {
        assert!(verdict?.done);
    }
    let (http, grpc) = tokio::join!(
        stage.delete(Door::Http, "/m/t", &[How::Recursive]),
        stage.delete(Door::Grpc, "/m/t", &[How::Recursive, How::IgnoreErrors]),
    );
    assert!(http?.done && grpc?.done, "two orders at once, that are not one");
    stage.bucket.delete("vanished").await?;
    assert!(stage.delete(Door::Http, "/m/vanished", &[]).await?.done);
    assert!(stage.delete(Door::Http, "/m/never", &[]).await?.done);
    let mut told = events(&mut stage).await?;
    assert_eq!(told.iter().filter(|path| *path == "/m/t").count(), 1, "{told:?}");
    told.retain(|path| path != "/m/t/s");
    told.sort();
    assert_eq!(told, ["/m/f", "/m/t", "/m/t/a", "/m/t/b", "/m/t/s/c", "/m/vanished"]);
    Ok(())
}
