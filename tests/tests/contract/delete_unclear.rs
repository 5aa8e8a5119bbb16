//! X3, X5, X6 and X8 where it is not clear what became of a delete: answers that say nothing, that lie, or that come late.

use std::time::Duration;

use anyhow::Result;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;
use serde_json::Value;

use crate::delete::{propagating, there};
use crate::stage::{Door, How, Stage};

async fn deletes(stage: &Stage) -> Result<Value> {
    Ok(stage.status().await?["mounts"][0]["deletes"].clone())
}

async fn put(stage: &Stage, keys: &[&str]) -> Result<()> {
    for key in keys {
        stage.bucket.put(key, "content", None).await?;
        assert_eq!(stage.head(&format!("/m/{key}")).await?.status(), 200);
    }
    Ok(())
}

/// A 404 to HEAD that is not the bucket's: from a load balancer, or because there is no such bucket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x3_a_404_to_head_alone_is_no_proof_that_it_is_gone() -> Result<()> {
    for kind in [Kind::Weed, Kind::Rclone] {
        let name = format!("x3-astray-{kind:?}").to_lowercase();
        let stage = Stage::with(kind, &name, |m| m.delete_policy("Propagate").timeout_seconds(3)).await?;
        for (round, mode) in ["unknown", if kind == Kind::Weed { "native" } else { "emulated" }].into_iter().enumerate()
        {
            for door in Door::ALL {
                let key = format!("{}{round}/k", door.name());
                put(&stage, &[&key]).await?;
                let known = &stage.status().await?["mounts"][0]["capabilities"]["conditionalDelete"].clone();
                assert_eq!(known, mode);
                stage.proxy.inject(Rule::new(Action::Status(404, None)).operation(Operation::Head));
                stage.proxy.inject(Rule::new(Action::error(404, "NoSuchBucket")));
                let verdict = stage.delete(door, &format!("/m/{key}"), &[]).await?;
                stage.proxy.clear();
                assert_eq!((verdict.done, verdict.status), (false, 502), "{kind:?} {mode}: {}", verdict.told);
                assert!(verdict.told.contains("BucketNotFound"), "{}", verdict.told);
                assert!(there(&stage, &key).await?);
                assert_eq!(stage.get(&format!("/m/{key}")).await?.text().await?, "content", "{kind:?} {mode}");
                // HEAD alone is astray: the listing says that the object is there.
                stage.proxy.inject(Rule::new(Action::Status(404, None)).operation(Operation::Head));
                stage.proxy.inject(Rule::new(Action::error(500, "InternalError")).operation(Operation::Delete));
                let verdict = stage.delete(door, &format!("/m/{key}"), &[]).await?;
                stage.proxy.clear();
                assert_eq!((verdict.done, verdict.status), (false, 503), "{kind:?} {mode}: {}", verdict.told);
                assert_eq!(stage.head(&format!("/m/{key}")).await?.status(), 200, "{kind:?} {mode}");
            }
            put(&stage, &["learns"]).await?;
            assert!(stage.delete(Door::Http, "/m/learns", &[]).await?.done);
        }
        assert_eq!(stage.settled().await?["objectsDeleted"], 2);
    }
    Ok(())
}

/// The same 404 settles nothing: what was left open stays so until the bucket itself is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x8_a_404_to_head_alone_settles_nothing() -> Result<()> {
    let stage = propagating("x8-astray").await?;
    put(&stage, &["d/k"]).await?;
    stage.proxy.inject(Rule::new(Action::Reset));
    assert!(!stage.delete(Door::Http, "/m/d/k", &[]).await?.done);
    stage.proxy.clear();
    stage.proxy.inject(Rule::new(Action::Status(404, None)).operation(Operation::Head));
    stage.proxy.inject(Rule::new(Action::error(503, "ServiceUnavailable")));
    assert_eq!(stage.head("/m/d/k").await?.status(), 503, "not 404: nobody has said so");
    assert_eq!(deletes(&stage).await?["openIntents"], 1);
    stage.proxy.clear();
    assert_eq!(stage.get("/m/d/k").await?.text().await?, "content");
    assert_eq!(stage.settled().await?["settled"], 1);
    Ok(())
}

/// One object that may not be asked for keeps nothing else from being served, over restarts neither.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x8_one_object_that_cannot_be_asked_for_locks_nothing_else() -> Result<()> {
    let mut stage = propagating("x8-poison").await?;
    let keys = ["d/a", "d/b", "d/poison", "d/sub/c"];
    for (status, code) in [(403, "AccessDenied"), (400, "BadRequest")] {
        for listed in [true, false] {
            put(&stage, &keys).await?;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let poison = Rule::new(Action::error(status, code)).key("d/poison");
            // Nothing is clear at first; then only that one object cannot be asked for.
            let unclear = Rule::new(Action::error(500, "InternalError"));
            stage.proxy.inject(unclear.clone().operation(Operation::DeleteMany));
            stage.proxy.inject(unclear.operation(Operation::Head).prefix("d/"));
            let verdict = stage.delete(Door::Http, "/m/d", &[How::Recursive]).await?;
            assert_eq!((verdict.done, verdict.status), (false, 503), "{}", verdict.told);
            assert_eq!(deletes(&stage).await?["openIntents"], 1, "the batch");
            stage.sidecar.kill9()?;
            stage.proxy.clear();
            if listed {
                stage.proxy.inject(poison.operation(Operation::Head));
            } else {
                stage.proxy.inject(poison);
            }
            stage.sidecar.restart().await?;
            for path in ["d/a", "d/b", "d/sub/c", "d/", ""] {
                assert_eq!(stage.list(&format!("/m/{path}")).await?.status(), 200, "{status} {listed} {path}");
            }
            let denied = stage.head("/m/d/poison").await?.status();
            assert_ne!(denied, 404, "{status} {listed}: it is there, and nobody has said otherwise");
            stage.settled().await?;
            assert!(stage.delete(Door::Http, "/m/d/b", &[]).await?.done, "{status} {listed}");
            stage.proxy.clear();
            assert_eq!(stage.get("/m/d/poison").await?.text().await?, "content");
            let verdict = stage.delete(Door::Http, "/m/d", &[How::Recursive]).await?;
            assert!(verdict.done, "{}", verdict.told);
        }
    }
    Ok(())
}

/// What waits to be settled is the objects of the request, and not what lies beside them; those that can be told are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x8_what_is_not_settled_covers_itself_alone() -> Result<()> {
    let stage = propagating("x8-beside").await?;
    put(&stage, &["d/a", "d/b", "d/sub/c"]).await?;
    let unclear = Rule::new(Action::error(500, "InternalError"));
    stage.proxy.inject(unclear.clone().operation(Operation::DeleteMany));
    stage.proxy.inject(unclear.clone().operation(Operation::Head).prefix("d/"));
    assert!(!stage.delete(Door::Http, "/m/d", &[How::Recursive]).await?.done);
    // The first attempt in the background is over; the next is some seconds away.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    stage.proxy.clear();
    stage.proxy.inject(unclear.operation(Operation::Head).key("d/b"));
    stage.bucket.put("d/new", "content", None).await?;
    stage.bucket.put("e/other", "content", None).await?;
    for (path, status) in [("d/new", 200), ("e/other", 200), ("d/a", 200), ("d/sub/c", 200), ("d/b", 503)] {
        assert_eq!(stage.head(&format!("/m/{path}")).await?.status(), status, "{path}");
    }
    assert_eq!(deletes(&stage).await?["openIntents"], 1, "that one is still open");
    // Another delete is settled though that one cannot be.
    put(&stage, &["z"]).await?;
    stage.proxy.inject(Rule::new(Action::Reset).key("z"));
    assert!(!stage.delete(Door::Http, "/m/z", &[]).await?.done);
    stage.proxy.clear();
    assert_eq!(stage.head("/m/z").await?.status(), 200);
    assert_eq!(stage.head("/m/d/b").await?.status(), 200);
    stage.settled().await?;
    Ok(())
}

/// A bulk request is carried out, and its answer of 200 cannot be read, or says that it failed on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x6_a_bulk_answer_that_cannot_be_read_is_asked_about() -> Result<()> {
    let stage = propagating("x6-garbage").await?;
    let error = "<?xml version=\"1.0\"?><Error><Code>InternalError</Code><Message>x</Message></Error>";
    for door in Door::ALL {
        for (n, body) in ["<html>no answer", error].into_iter().enumerate() {
            let top = format!("{}{n}", door.name());
            put(&stage, &[&format!("{top}/a"), &format!("{top}/s/b")]).await?;
            stage.proxy.inject(Rule::new(Action::ReplaceBody(body.to_owned())).operation(Operation::DeleteMany));
            let verdict = stage.delete(door, &format!("/m/{top}"), &[How::Recursive]).await?;
            stage.proxy.clear();
            for key in [format!("{top}/a"), format!("{top}/s/b")] {
                assert!(!there(&stage, &key).await?);
                assert_eq!(stage.head(&format!("/m/{key}")).await?.status(), 404, "{body}: what is gone is not shown");
            }
            assert!(verdict.done, "{body}: {}", verdict.told);
        }
    }
    stage.settled().await?;
    Ok(())
}

/// Part of a bulk request is done, part unclear, and then the disk is full: what is done is not forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x4_what_a_full_disk_kept_from_being_noted_is_settled_later() -> Result<()> {
    let stage = propagating("x4-narrow").await?;
    put(&stage, &["d/gone", "d/unclear"]).await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let unclear = Rule::new(Action::error(500, "InternalError")).operation(Operation::Head).prefix("d/");
    stage.proxy.inject(unclear);
    let body = "<?xml version=\"1.0\"?><DeleteResult><Deleted><Key>d/gone</Key></Deleted>\
                <Error><Key>d/unclear</Key><Code>InternalError</Code><Message>x</Message></Error></DeleteResult>";
    stage.proxy.inject(Rule::new(Action::ReplaceBody(body.to_owned())).operation(Operation::DeleteMany));
    stage.proxy.set_latency(Duration::from_millis(700));
    let (full, verdict) = tokio::join!(
        async {
            while stage.proxy.count(Operation::DeleteMany) == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            stage.sidecar.limit_file_size(Some(4096))
        },
        stage.delete(Door::Http, "/m/d", &[How::Recursive]),
    );
    full?;
    assert!(!verdict?.done);
    stage.proxy.set_latency(Duration::ZERO);
    stage.sidecar.limit_file_size(None)?;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    stage.proxy.clear();
    stage.bucket.put("d/unclear", "content", None).await?;
    assert_eq!(stage.head("/m/d/unclear").await?.status(), 200);
    stage.settled().await?;
    assert!(!there(&stage, "d/gone").await?);
    assert_eq!(stage.head("/m/d/gone").await?.status(), 404, "what is gone is not shown");
    assert_eq!(stage.names("/m/d/").await?, ["unclear"]);
    Ok(())
}

/// A request that was given up is carried out after the remote was asked what became of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x5_a_delete_that_is_carried_out_late_is_noticed_at_the_next_look() -> Result<()> {
    let stage = propagating("x5-late").await?;
    put(&stage, &["warm"]).await?;
    assert!(stage.delete(Door::Http, "/m/warm", &[]).await?.done, "it is known what the server heeds");
    for door in Door::ALL {
        let key = format!("{}/k", door.name());
        put(&stage, &[&key]).await?;
        let late = Action::Later(Duration::from_secs(3));
        stage.proxy.inject(Rule::new(late).operation(Operation::Delete).key(&key));
        let verdict = stage.delete(door, &format!("/m/{key}"), &[]).await?;
        stage.proxy.clear();
        assert!(!verdict.done && there(&stage, &key).await?, "{}", verdict.told);
        while there(&stage, &key).await? {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(stage.head(&format!("/m/{key}")).await?.status(), 404, "what is gone is not shown");
    }
    Ok(())
}

/// Many unclear bulk requests in a row end a sweep, whatever it was told about errors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x6_unclear_batches_in_a_row_end_a_sweep() -> Result<()> {
    let stage = propagating("x6-unclear").await?;
    let keys = (0..10_000).map(|n| (format!("top/f{n:05}"), "x"));
    stage.bucket.put_many(keys).await?;
    let unclear = Rule::new(Action::error(500, "InternalError"));
    stage.proxy.inject(unclear.clone().operation(Operation::DeleteMany));
    stage.proxy.inject(unclear.operation(Operation::Head).prefix("top/"));
    stage.proxy.reset();
    let verdict = stage.delete(Door::Http, "/m/top", &[How::Recursive, How::IgnoreErrors]).await?;
    assert_eq!((verdict.done, verdict.status), (false, 503), "{}", verdict.told);
    let requests = stage.proxy.count(Operation::DeleteMany);
    assert!((3..=7).contains(&requests), "{requests} bulk requests");
    let unclear = format!("{}000 of them", requests);
    assert!(verdict.told.contains(&unclear), "it is said that they may be deleted or not: {}", verdict.told);
    assert_eq!(deletes(&stage).await?["openIntents"], requests);
    Ok(())
}

/// A condition that held because nothing was there binds the delete: what is written in between stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x5_a_condition_on_what_is_not_there_binds_as_well() -> Result<()> {
    let stage = propagating("x5-absent").await?;
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (n, (name, value)) in [("if-none-match", "*"), ("if-unmodified-since", old)].into_iter().enumerate() {
        for directory in [false, true] {
            let key = format!("k{n}{directory}");
            if directory {
                stage.bucket.put(&format!("{key}/below"), "content", None).await?;
            }
            stage.proxy.reset();
            // The first HEAD is the judgement, the second the delete's own.
            let slow = Action::Delay(Duration::from_millis(700));
            stage.proxy.inject(Rule::new(slow).operation(Operation::Head).key(&key).nth(1));
            let order = stage.client.delete(stage.sidecar.http_url(&format!("/m/{key}"))).header(name, value);
            let write = async {
                while stage.heads(&key) < 2 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                stage.bucket.put(&key, "written in between", None).await
            };
            let (answer, written) = tokio::join!(order.send(), write);
            written?;
            stage.proxy.clear();
            assert!(there(&stage, &key).await?, "{name} {directory}: it was not meant");
            assert_eq!(answer?.status(), 409, "{name} {directory}");
        }
        // Nothing comes in between: then there is nothing to delete.
        let order = stage.client.delete(stage.sidecar.http_url(&format!("/m/never{n}"))).header(name, value);
        assert_eq!(order.send().await?.status(), 204);
    }
    Ok(())
}
