//! X1 and M3: policies decide, are switched live, and a mount may go while a delete is under way.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use remotemount_tests::manifest::Manifest;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;
use remotemount_tests::sidecar::Sidecar;
use serde_json::Value;
use tokio::sync::Notify;

use crate::delete::{propagating, there};
use crate::stage::{Door, How, Stage, bucket, client, server};

/// Until the sidecar says that the mount has the policy.
async fn in_force(stage: &Stage, policy: &str) -> Result<()> {
    while stage.status().await?["mounts"][0]["deletes"]["policy"] != policy {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_policies_decide_and_are_switched_live() -> Result<()> {
    let stage = Stage::with(Kind::Weed, "x1-policies", |m| m).await?;
    let policy = async |policy: &str| -> Result<()> {
        let manifest = Manifest::new("m", "/m", "x1-policies", &stage.proxy.endpoint(), "").delete_policy(policy);
        stage.sidecar.write_manifest("m", &manifest.to_yaml())?;
        in_force(&stage, policy).await
    };
    for door in Door::ALL {
        let at = door.name();
        for name in ["a", "b", "c", "dir/x", "dir/y"] {
            stage.bucket.put(&format!("{at}/{name}"), "content", None).await?;
        }
        // Deny is the default, and asks nothing.
        policy("Deny").await?;
        assert_eq!(stage.head(&format!("/m/{at}/a")).await?.status(), 200);
        stage.settle().await?;
        for name in ["a", "missing", ""] {
            let verdict = stage.delete(door, &format!("/m/{at}/{name}"), &[]).await?;
            assert_eq!((verdict.done, verdict.status), (false, 403), "{name}: {}", verdict.told);
            assert!(verdict.told.contains("deletePolicy"), "{}", verdict.told);
        }
        assert_eq!(stage.proxy.total(), 0, "refused at the door");
        // Retain hides here, and leaves the bucket alone; the name stays hidden.
        policy("Retain").await?;
        assert!(stage.delete(door, &format!("/m/{at}/a"), &[]).await?.done);
        assert!(stage.delete(door, &format!("/m/{at}/dir"), &[How::Recursive]).await?.done);
        assert_eq!(stage.deletes(), 0);
        for name in ["a", "dir/x"] {
            assert!(there(&stage, &format!("{at}/{name}")).await?, "{name} stays in the bucket");
        }
        // Propagate deletes in the bucket; what was hidden stays so.
        policy("Propagate").await?;
        assert!(stage.delete(door, &format!("/m/{at}/b"), &[]).await?.done);
        assert!(!there(&stage, &format!("{at}/b")).await?);
        for name in ["a", "b", "dir/x", "dir/", "dir"] {
            assert_eq!(stage.head(&format!("/m/{at}/{name}")).await?.status(), 404, "{name}");
        }
        assert_eq!(stage.names(&format!("/m/{at}/")).await?, ["c"]);
        policy("Deny").await?;
        assert_eq!(stage.head(&format!("/m/{at}/a")).await?.status(), 404, "whatever the policy is by now");
        assert!(!stage.delete(door, &format!("/m/{at}/c"), &[]).await?.done);
    }
    let deletes = &stage.status().await?["mounts"][0]["deletes"];
    assert!(
        deletes["denied"].as_u64() > Some(0) && deletes["attempted"].as_u64() > deletes["denied"].as_u64(),
        "{deletes}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_what_is_hidden_outlives_a_restart() -> Result<()> {
    let mut stage = Stage::with(Kind::Weed, "x1-hidden", |m| m.delete_policy("Retain")).await?;
    for key in ["f", "d/x", "d/y", "kept"] {
        stage.bucket.put(key, "content", None).await?;
    }
    assert!(stage.delete(Door::Http, "/m/f", &[]).await?.done);
    assert!(stage.delete(Door::Http, "/m/d/x", &[]).await?.done);
    stage.sidecar.restart().await?;
    stage.bucket.put("f", "another version", None).await?;
    assert_eq!(
        (stage.head("/m/f").await?.status(), stage.head("/m/d/x").await?.status()),
        (404.try_into()?, 404.try_into()?)
    );
    assert_eq!(stage.names("/m/").await?, ["d/", "kept"]);
    assert_eq!(stage.names("/m/d/").await?, ["y"]);
    // What was hidden to be kept is kept by every later delete, too.
    let manifest = Manifest::new("m", "/m", "x1-hidden", &stage.proxy.endpoint(), "");
    stage.sidecar.write_manifest("m", &manifest.clone().delete_policy("Propagate").to_yaml())?;
    in_force(&stage, "Propagate").await?;
    let verdict = stage.delete(Door::Http, "/m/d", &[How::Recursive]).await?;
    assert_eq!((verdict.done, verdict.status), (false, 409), "{}", verdict.told);
    assert!(verdict.told.contains("HiddenKeys"), "{}", verdict.told);
    let ignoring = [How::Recursive, How::IgnoreErrors];
    assert!(!stage.delete(Door::Http, "/m/d", &ignoring).await?.done);
    assert!(there(&stage, "d/x").await? && !there(&stage, "d/y").await?);
    let deletes = &stage.status().await?["mounts"][0]["deletes"];
    assert_eq!(
        (&deletes["failed"], &deletes["lastFailure"]),
        (&2.into(), &Value::Null),
        "that is no trouble: {deletes}"
    );
    stage.bucket.put("d/y", "content", None).await?;
    stage.sidecar.write_manifest("m", &manifest.delete_policy("Retain").to_yaml())?;
    in_force(&stage, "Retain").await?;
    // The mount's own directory is emptied name by name: what comes later is shown.
    assert!(stage.delete(Door::Http, "/m/", &[How::Recursive]).await?.done);
    stage.bucket.put("new", "content", None).await?;
    assert_eq!(stage.names("/m/").await?, ["new"]);
    assert!(there(&stage, "kept").await? && there(&stage, "d/y").await?);
    Ok(())
}

/// The request was on its way when the mount was taken out: what the remote then did is what is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_a_delete_under_way_tells_what_came_of_it() -> Result<()> {
    for door in Door::ALL {
        for (path, how, objects) in [("/m/f", &[][..], 1), ("/m/d", &[How::Recursive][..], 30)] {
            let name = format!("m3-under-way-{}-{objects}", door.name());
            let stage = Arc::new(propagating(&name).await?);
            stage.bucket.put("f", "content", None).await?;
            for number in 0..30 {
                stage.bucket.put(&format!("d/{number}"), "content", None).await?;
            }
            let go_on = Arc::new(Notify::new());
            let operation = if objects == 1 { Operation::Delete } else { Operation::DeleteMany };
            let pause = Action::PauseBodyAfter(0, Arc::clone(&go_on));
            stage.proxy.inject(Rule::new(pause).operation(operation).times(1));
            let deleting = {
                let stage = Arc::clone(&stage);
                tokio::spawn(async move { stage.delete(door, path, how).await })
            };
            // The server has done it; its answer waits while the mount goes.
            while !stage.proxy.seen().iter().any(|seen| seen.operation == operation && seen.status.is_some()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            stage.sidecar.remove_manifest("m")?;
            while stage.status().await?["mounts"].as_array().is_none_or(|mounts| !mounts.is_empty()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            go_on.notify_one();
            let verdict = deleting.await??;
            assert!(verdict.done, "{name}: {}", verdict.told);
            assert!(!there(&stage, "f").await? || objects != 1);
            assert!(!there(&stage, "d/0").await? || objects == 1);
        }
    }
    Ok(())
}

/// A disk that is full, a reader that is gone: a log that cannot be written keeps nothing from being heeded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x1_a_switch_is_heeded_though_nothing_can_be_logged() -> Result<()> {
    let (store, endpoint) = (bucket(Kind::Weed, "x1-no-log").await?, server(Kind::Weed).await?);
    for key in ["a", "b"] {
        store.put(key, "content", None).await?;
    }
    let manifest = Manifest::new("m", "/m", "x1-no-log", &endpoint, "");
    let builder = Sidecar::builder().mount(&manifest.clone().delete_policy("Propagate"));
    let sidecar = builder.log(Path::new("/dev/full")).start().await?;
    let delete = async |path: &str| -> Result<u16> {
        Ok(client().delete(sidecar.http_url(path)).send().await?.status().as_u16())
    };
    assert_eq!(delete("/m/a").await?, 204);
    assert!(store.head("a").await?.is_none());
    sidecar.write_manifest("m", &manifest.delete_policy("Deny").to_yaml())?;
    tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let status = client().get(sidecar.admin_url("/status")).send().await?;
            let status: serde_json::Value = status.json().await?;
            if status["mounts"][0]["deletes"]["policy"] == "Deny" {
                return anyhow::Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await??;
    assert_eq!(delete("/m/b").await?, 403);
    assert!(store.head("b").await?.is_some());
    Ok(())
}
