//! X1–X5, X7 and X8 for one file: remote first, then local, no error lost, nothing brought back.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use remotemount_tests::manifest::Manifest;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;
use remotemount_tests::sidecar::Sidecar;
use remotemount_tests::wire;
use serde_json::Value;

use crate::stage::{Door, Stage, bucket, client, server};

pub async fn propagating(name: &str) -> Result<Stage> {
    Stage::with(Kind::Weed, name, |m| m.delete_policy("Propagate").timeout_seconds(3)).await
}

/// Whether the bucket has the key, asked past the sidecar.
pub async fn there(stage: &Stage, key: &str) -> Result<bool> {
    Ok(stage.bucket.head(key).await?.is_some())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x2_the_test_is_the_pointer_not_the_bytes() -> Result<()> {
    let stage = propagating("x2-pointer").await?;
    for door in Door::ALL {
        let key = |name: &str| format!("{}/{name}", door.name());
        stage.bucket.put(&key("read"), "content", None).await?;
        stage.bucket.put(&key("empty"), "", None).await?;
        stage.bucket.put(&key("unseen"), "content", None).await?;
        assert_eq!(stage.get(&format!("/m/{}", key("read"))).await?.text().await?, "content");
        assert_eq!(stage.get(&format!("/m/{}", key("empty"))).await?.text().await?, "");
        for name in ["read", "empty", "unseen"] {
            let verdict = stage.delete(door, &format!("/m/{}", key(name)), &[]).await?;
            assert!(verdict.done, "{name}: {}", verdict.told);
            assert!(!there(&stage, &key(name)).await?, "{name} is gone from the bucket");
            assert_eq!(stage.head(&format!("/m/{}", key(name))).await?.status(), 404);
            assert!(stage.delete(door, &format!("/m/{}", key(name)), &[]).await?.done, "gone already is no error");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x3_a_remote_error_keeps_what_is_known_and_is_returned() -> Result<()> {
    let stage = propagating("x3-errors").await?;
    let cases = [
        ("denied", Action::error(403, "AccessDenied"), 403, "Denied"),
        ("throttled", Action::error(503, "SlowDown"), 503, "Throttled"),
        ("failed", Action::error(500, "InternalError"), 503, "Unavailable"),
        ("odd", Action::error(400, "InvalidRequest"), 502, "Rejected"),
        ("hang", Action::Hang(Duration::from_secs(30)), 504, "TimedOut"),
    ];
    let mut times = 0;
    for door in Door::ALL {
        for (name, action, status, reason) in cases.clone() {
            let key = format!("{}/{name}", door.name());
            stage.bucket.put(&key, "content", None).await?;
            assert_eq!(stage.head(&format!("/m/{key}")).await?.status(), 200);
            stage.proxy.inject(Rule::new(action).operation(Operation::Delete).key(&key));
            let verdict = stage.delete(door, &format!("/m/{key}"), &[]).await?;
            assert_eq!((verdict.done, verdict.status), (false, status), "{name}: {}", verdict.told);
            assert!(verdict.told.contains(&format!("/m/{key}")) && verdict.told.contains(reason), "{}", verdict.told);
            assert_eq!(stage.get(&format!("/m/{key}")).await?.text().await?, "content", "{name}: still shown");
            assert!(there(&stage, &key).await?);
            stage.proxy.clear();
            assert!(stage.delete(door, &format!("/m/{key}"), &[]).await?.done, "{name}: a retry succeeds");
            assert!(!there(&stage, &key).await?);
            // Two successes end a failure; what goes on failing now and then is told on.
            times += 1;
            let told = stage.status().await?["mounts"][0]["deletes"]["lastFailure"].clone();
            assert_eq!(told["reason"], if times <= 2 { Value::Null } else { reason.into() }, "{name}: {told}");
        }
        // Somebody else was faster.
        let key = format!("{}/raced", door.name());
        stage.bucket.put(&key, "content", None).await?;
        assert_eq!(stage.head(&format!("/m/{key}")).await?.status(), 200);
        stage.bucket.delete(&key).await?;
        assert!(stage.delete(door, &format!("/m/{key}"), &[]).await?.done, "remote 404 is success");
        assert_eq!(stage.head(&format!("/m/{key}")).await?.status(), 404);
    }
    assert_eq!(stage.settled().await?["failedByReason"]["Denied"], Door::ALL.len());
    Ok(())
}

/// Nothing to ask with, and nothing that could ask: two errors, and neither deletes anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x3_no_credentials_and_no_client_are_two_errors() -> Result<()> {
    let contents = bucket(Kind::Weed, "x3-no-client").await?;
    contents.put("k", "content", None).await?;
    let endpoint = server(Kind::Weed).await?;
    let without = Manifest::new("without", "/without", &contents.name, &endpoint, "").secret("no-such-secret");
    let gcs = "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {name: gcs}\n\
               spec: {path: /gcs, deletePolicy: Propagate, remote: {gcs: {bucket: bucket}}}\n";
    let sidecar = Sidecar::builder().mount(&without.delete_policy("Propagate")).start().await?;
    sidecar.write_manifest("gcs", gcs)?;
    while client().get(sidecar.admin_url("/status")).send().await?.text().await?.matches("\"path\"").count() < 2 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for (path, status, reason) in [("/without/k", 503, "CredentialsMissing"), ("/gcs/k", 501, "NotSupported")] {
        let answer = client().delete(sidecar.http_url(path)).send().await?;
        assert_eq!(answer.status(), status, "{path}");
        let body: Value = answer.json().await?;
        assert_eq!((&body["reason"], &body["path"]), (&reason.into(), &path.into()));
    }
    assert!(contents.head("k").await?.is_some());
    Ok(())
}

/// The remote is done, the disk is full: that is an error, nothing is shown that is gone, and a retry succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x4_a_local_failure_is_returned_and_a_retry_succeeds() -> Result<()> {
    let stage = propagating("x4-local").await?;
    for door in Door::ALL {
        let key = format!("{}/k", door.name());
        let path = format!("/m/{key}");
        stage.bucket.put(&key, "content", None).await?;
        assert_eq!(stage.head(&path).await?.status(), 200);
        tokio::time::sleep(Duration::from_millis(300)).await;
        // No intent can be kept: then the remote is not asked at all.
        stage.sidecar.limit_file_size(Some(4096))?;
        stage.proxy.reset();
        let verdict = stage.delete(door, &path, &[]).await?;
        assert_eq!((verdict.done, verdict.status, stage.deletes()), (false, 500, 0), "{}", verdict.told);
        stage.sidecar.limit_file_size(None)?;
        tokio::time::sleep(Duration::from_millis(1200)).await;
        // The intent is kept, and the disk is full when the remote is done.
        stage.proxy.inject(Rule::new(Action::Delay(Duration::from_millis(700))).operation(Operation::Delete).key(&key));
        let (full, verdict) = tokio::join!(
            async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                stage.sidecar.limit_file_size(Some(4096))
            },
            stage.delete(door, &path, &[]),
        );
        full?;
        let verdict = verdict?;
        assert_eq!((verdict.done, verdict.status), (false, 500), "{}", verdict.told);
        assert!(!there(&stage, &key).await?, "the remote is done");
        assert_ne!(stage.head(&path).await?.status(), 200, "what is gone is not shown");
        stage.sidecar.limit_file_size(None)?;
        stage.proxy.clear();
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert!(stage.delete(door, &path, &[]).await?.done, "a retry succeeds");
        assert_eq!(stage.head(&path).await?.status(), 404);
        stage.settled().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x5_what_was_changed_remotely_is_not_deleted() -> Result<()> {
    for (kind, mode) in [(Kind::Weed, "native"), (Kind::Moto, "native"), (Kind::Rclone, "emulated")] {
        let name = format!("x5-{kind:?}").to_lowercase();
        let stage = Stage::with(kind, &name, |m| m.delete_policy("Propagate")).await?;
        for door in Door::ALL {
            let key = format!("{}/k", door.name());
            let path = format!("/m/{key}");
            for round in 0..3 {
                stage.bucket.put(&key, format!("shown {round}"), None).await?;
                assert_eq!(stage.get(&path).await?.status(), 200);
                stage.bucket.put(&key, format!("replaced {round}"), None).await?;
                let verdict = stage.delete(door, &path, &[]).await?;
                assert_eq!((verdict.done, verdict.status), (false, 409), "{kind:?} {round}: {}", verdict.told);
                assert!(verdict.told.contains("Conflict"), "{}", verdict.told);
                assert_eq!(stage.bucket.get(&key).await?, format!("replaced {round}"), "it is still there");
                assert_eq!(stage.get(&path).await?.text().await?, format!("replaced {round}"), "and is shown now");
                let verdict = stage.delete(door, &path, &[]).await?;
                assert!(verdict.done && !there(&stage, &key).await?, "what is shown can be deleted: {}", verdict.told);
            }
        }
        let mount = &stage.status().await?["mounts"][0];
        assert_eq!(mount["capabilities"]["conditionalDelete"], mode, "{kind:?}");
        assert_eq!(mount["deletes"]["conflicts"], 3 * Door::ALL.len());
    }
    Ok(())
}

/// RFC 9110: what the client says of the version is heeded, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x5_a_client_may_name_the_version() -> Result<()> {
    let stage = propagating("x5-client").await?;
    let etag = stage.bucket.put("k", "content", None).await?;
    let url = stage.sidecar.http_url("/m/k");
    let delete = async |name: &str, value: &str| stage.client.delete(&url).header(name, value).send().await;
    assert_eq!(delete("if-match", "\"other\"").await?.status(), 412);
    assert_eq!(delete("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT").await?.status(), 412);
    assert!(there(&stage, "k").await?);
    for order in ["/m/k/", "/m/k%2F"] {
        // A slash means the directory, however it is written, and that has no version.
        let order = stage.client.delete(stage.sidecar.http_url(order));
        assert_eq!(order.try_clone().unwrap().header("if-match", &etag).send().await?.status(), 412);
        assert_eq!(order.send().await?.status(), 204);
    }
    assert!(there(&stage, "k").await?, "the file is another thing than the directory");
    assert_eq!(delete("if-match", &etag).await?.status(), 204);
    assert!(!there(&stage, "k").await?);
    assert_eq!(delete("if-match", &etag).await?.status(), 412, "there is no version any more");
    Ok(())
}

/// Many ask for one delete: the remote is asked once, there is one event, and everyone has the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_deletes_of_one_path_are_one() -> Result<()> {
    let stage = Arc::new(propagating("x-concurrent").await?);
    for key in ["warm", "k"] {
        stage.bucket.put(key, "content", None).await?;
        assert_eq!(stage.head(&format!("/m/{key}")).await?.status(), 200);
    }
    assert!(stage.delete(Door::Http, "/m/warm", &[]).await?.done, "it is known by now what the server heeds");
    stage.proxy.reset();
    stage.proxy.inject(Rule::new(Action::Delay(Duration::from_millis(500))).operation(Operation::Delete));
    let asks: Vec<_> = (0..100)
        .map(|_| {
            let stage = Arc::clone(&stage);
            tokio::spawn(async move { stage.delete(Door::Http, "/m/k", &[]).await })
        })
        .collect();
    for ask in asks {
        assert!(ask.await??.done);
    }
    assert_eq!((stage.deletes(), stage.proxy.total()), (1, 1));
    Ok(())
}

/// A client that hangs up stops nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_belongs_to_no_caller() -> Result<()> {
    let stage = propagating("x-hang-up").await?;
    stage.bucket.put("k", "content", None).await?;
    stage.proxy.inject(Rule::new(Action::Delay(Duration::from_millis(500))).operation(Operation::Delete));
    let request = stage.client.delete(stage.sidecar.http_url("/m/k")).timeout(Duration::from_millis(200)).send();
    assert!(request.await.is_err_and(|error| error.is_timeout()));
    for _ in 0..200 {
        if !there(&stage, "k").await? {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!there(&stage, "k").await?);
    assert_eq!(stage.head("/m/k").await?.status(), 404);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_deletes_get_one_clear_answer_and_delete_nothing() -> Result<()> {
    let stage = propagating("x-bad").await?;
    stage.bucket.put("k", "content", None).await?;
    stage.bucket.put("d/x", "content", None).await?;
    let address = stage.sidecar.http_addr();
    let long = format!("/m/{}", "x/".repeat(32_768));
    let key = format!("/m/{}", "k".repeat(1100));
    for (target, status, told) in [
        ("/", 409, "mount"),
        ("//", 400, "segment"),
        ("/m/../m/k", 400, "'..'"),
        ("/m/%2e%2e/k", 400, "'..'"),
        ("/m//k", 400, "segment"),
        ("/m", 409, "recursive"),
        ("/m/", 409, "recursive"),
        ("/elsewhere/k", 404, "no mount"),
        (long.as_str(), 414, ""),
        ("/m/d", 409, "recursive=true"),
        ("/m/d/", 409, "recursive=true"),
        ("/m/k?recursive=yes", 400, "true or false"),
        ("/m/k/", 204, ""),
        ("/m/nothing", 204, ""),
        (key.as_str(), 204, ""),
    ] {
        let answer = wire::raw(&address, "DELETE", target, &[("content-length", "0")]).await?;
        let shown = &target[..target.len().min(60)];
        assert_eq!(answer.status, status, "{shown}: {}", answer.text());
        assert!(answer.text().contains(told), "{shown}: {}", answer.text());
    }
    assert!(there(&stage, "k").await? && there(&stage, "d/x").await?);
    assert_eq!(stage.deletes(), 0);
    // On a file, `recursive` means nothing.
    assert!(stage.delete(Door::Http, "/m/k", &[crate::stage::How::Recursive]).await?.done);
    assert!(!there(&stage, "k").await?);
    Ok(())
}

/// The answer is lost, or never comes: the path is not served from the store until the remote has said what became of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn x8_an_unclear_delete_is_settled_by_the_remote() -> Result<()> {
    let stage = propagating("x8-unclear").await?;
    stage.bucket.put("d/k", "content", None).await?;
    assert_eq!(stage.names("/m/d/").await?, ["k"]);
    // Nothing gets through: neither the delete nor the question what became of it.
    stage.proxy.inject(Rule::new(Action::Reset));
    let verdict = stage.delete(Door::Http, "/m/d/k", &[]).await?;
    assert!(!verdict.done && [502, 503].contains(&verdict.status), "{}", verdict.told);
    assert_eq!(stage.status().await?["mounts"][0]["deletes"]["openIntents"], 1);
    for path in ["/m/d/k", "/m/d/"] {
        let status = stage.list(path).await?.status().as_u16();
        assert!([502, 503].contains(&status), "{path} is not served from the store: {status}");
    }
    // The bucket lost it meanwhile, as if the delete had got through.
    stage.bucket.delete("d/k").await?;
    stage.proxy.clear();
    assert_eq!(stage.head("/m/d/k").await?.status(), 404);
    assert_eq!(stage.settled().await?["settled"], 1);
    Ok(())
}
