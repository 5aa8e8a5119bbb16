//! Every way a remote fails, at the door: the status is its own, and nothing is remembered (L6).

use std::time::{Duration, Instant};

use anyhow::Result;
use remotemount_tests::manifest::Manifest;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;
use remotemount_tests::sidecar::Sidecar;

use crate::stage::{Stage, bucket, client, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_has_its_status_and_is_forgotten() -> Result<()> {
    let stage = Stage::with(Kind::Weed, "faults-status", |m| m.timeout_seconds(3)).await?;
    let hang = || Action::Hang(Duration::from_secs(30));
    let cases: Vec<(&str, Action, &[u16], &str)> = vec![
        ("denied", Action::Status(403, None), &[403], "Denied"),
        ("failed", Action::Status(500, None), &[503], "Unavailable"),
        ("unavailable", Action::Status(503, None), &[503], "Unavailable"),
        ("throttled", Action::Status(429, None), &[503], "Throttled"),
        ("reset", Action::Reset, &[502, 503], ""),
        ("hang", hang(), &[504], "TimedOut"),
    ];
    for (name, action, statuses, reason) in cases {
        let key = format!("{name}.txt");
        stage.bucket.put(&key, "content", None).await?;
        stage.proxy.inject(Rule::new(action).operation(Operation::Head).key(&key));
        let begin = Instant::now();
        let answer = stage.get(&format!("/m/{key}")).await?;
        let took = begin.elapsed();
        assert!(statuses.contains(&answer.status().as_u16()), "{name}: {}", answer.status());
        assert!(took < Duration::from_secs(4), "{name}: within the mount's timeout, took {took:?}");
        assert_eq!(answer.headers().contains_key("retry-after"), answer.status() == 503, "{name}");
        let body: serde_json::Value = answer.json().await?;
        assert_eq!(body["path"], format!("/m/{key}"), "{name}");
        assert!(reason.is_empty() || body["reason"] == reason, "{name}: {body}");
        stage.proxy.clear();
        let answer = stage.get(&format!("/m/{key}")).await?;
        assert_eq!(
            (answer.status().as_u16(), answer.text().await?.as_str()),
            (200, "content"),
            "{name}: nothing remembered"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passing_failure_is_retried_and_not_seen() -> Result<()> {
    let stage = Stage::new("faults-retry").await?;
    stage.bucket.put("k.txt", "content", None).await?;
    stage.proxy.inject(Rule::new(Action::Status(503, None)).operation(Operation::Head).times(2));
    assert_eq!(stage.get("/m/k.txt").await?.text().await?, "content");
    assert_eq!(stage.heads("k.txt"), 3, "twice refused, then answered");
    Ok(())
}

/// HEAD finds the file, LIST fails: of the directory nothing is known, and that is no 404.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_list_is_no_absence() -> Result<()> {
    let stage = Stage::new("faults-list").await?;
    stage.bucket.put("a", "content", None).await?;
    stage.proxy.inject(Rule::new(Action::Status(503, None)).operation(Operation::List));
    assert_eq!(stage.get("/m/a").await?.text().await?, "content", "the file needs no LIST");
    assert_eq!(stage.get("/m/a/?metadata=true").await?.status(), 503);
    assert_eq!(stage.get("/m/b").await?.status(), 503, "no file, and nobody knows of a directory");
    stage.proxy.clear();
    assert_eq!(stage.get("/m/a/?metadata=true").await?.status(), 404);
    Ok(())
}

/// A reader that hangs up before the first byte says nothing of the remote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_leaves_is_no_failure_of_the_remote() -> Result<()> {
    let stage = Stage::new("faults-leaves").await?;
    stage.bucket.put("a", "content", None).await?;
    assert_eq!(stage.head("/m/a").await?.status(), 200);
    stage.proxy.inject(Rule::new(Action::Delay(Duration::from_millis(500))).operation(Operation::Get));
    let url = stage.sidecar.http_url("/m/a");
    assert!(stage.client.get(url).timeout(Duration::from_millis(100)).send().await.is_err());
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(stage.status().await?["mounts"][0]["health"]["reachable"], true);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_bucket_is_not_an_empty_one() -> Result<()> {
    let endpoint = server(Kind::Weed).await?;
    let manifest = Manifest::new("m", "/m", "no-such-bucket", &endpoint, "");
    let sidecar = Sidecar::builder().mount(&manifest).start().await?;
    let answer = client().get(sidecar.http_url("/m/")).header("accept", "application/json").send().await?;
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.json::<serde_json::Value>().await?["reason"], "BucketNotFound");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_is_unavailable() -> Result<()> {
    let port = remotemount_tests::process::free_port()?;
    let endpoint = format!("http://127.0.0.1:{port}");
    let manifest = Manifest::new("m", "/m", "bucket", &endpoint, "").timeout_seconds(2);
    let sidecar = Sidecar::builder().mount(&manifest).start().await?;
    assert_eq!(client().get(sidecar.http_url("/m/a")).send().await?.status(), 503);
    Ok(())
}

/// Credentials that come late, and are then changed: requests say so until they are right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_read_again() -> Result<()> {
    let store = bucket(Kind::Weed, "faults-credentials").await?;
    store.put("a.txt", "content", None).await?;
    let endpoint = server(Kind::Weed).await?;
    let manifest = Manifest::new("m", "/m", &store.name, &endpoint, "").secret("late");
    let sidecar = Sidecar::builder().mount(&manifest).credentials("late", "wrong", "wrong-too").start().await?;
    let url = sidecar.http_url("/m/a.txt");
    assert_eq!(client().get(&url).send().await?.status(), 403);
    // What no header can carry is no credential, and no reason to fall over; nor is a pipe to be waited for.
    let key = sidecar.credentials_dir().join("late/AWS_ACCESS_KEY_ID");
    sidecar.write_credentials("late", "AK\nIA", "wrong-too")?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let answer = client().get(&url).send().await?;
    assert_eq!(answer.status(), 503);
    let body = answer.text().await?;
    assert!(body.contains("CredentialsMissing") && body.contains("line break"), "{body}");
    std::fs::remove_file(&key)?;
    assert!(std::process::Command::new("mkfifo").arg(&key).status()?.success());
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(client().get(&url).send().await?.text().await?.contains("is not a file"));
    std::fs::remove_file(key)?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let answer = client().get(&url).send().await?;
    assert_eq!(answer.status(), 503);
    let body = answer.text().await?;
    assert!(body.contains("CredentialsMissing") && body.contains("AWS_ACCESS_KEY_ID"), "{body}");
    let (access, secret) = (remotemount_tests::s3_server::ACCESS_KEY, remotemount_tests::s3_server::SECRET_KEY);
    sidecar.write_credentials("late", access, secret)?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(client().get(&url).send().await?.text().await?, "content");
    assert!(!sidecar.log().contains(secret) && !sidecar.log().contains("wrong-too"), "no secret in the log");
    Ok(())
}

/// The two other ways to be known: the pod's own identity, here by the environment, and nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identity_and_anonymity_work() -> Result<()> {
    let (access, secret) = (remotemount_tests::s3_server::ACCESS_KEY, remotemount_tests::s3_server::SECRET_KEY);
    for (kind, way) in [(Kind::Weed, "workloadIdentity"), (Kind::Moto, "anonymous")] {
        let store = bucket(kind, "faults-identity").await?;
        let public = aws_sdk_s3::types::ObjectCannedAcl::PublicRead;
        let body = aws_sdk_s3::primitives::ByteStream::from_static(b"content");
        store.client.put_object().bucket(&store.name).key("a.txt").body(body).acl(public).send().await?;
        let yaml = Manifest::new("m", "/m", &store.name, &server(kind).await?, "").to_yaml();
        let yaml = yaml.replace("secretRef: {name: \"s3-creds\"}", &format!("{way}: {{}}"));
        assert!(yaml.contains(way), "{yaml}");
        let builder = Sidecar::builder().manifest("m", &yaml).env("AWS_EC2_METADATA_DISABLED", "true");
        let sidecar = builder.env("AWS_ACCESS_KEY_ID", access).env("AWS_SECRET_ACCESS_KEY", secret).start().await?;
        let answer = client().get(sidecar.http_url("/m/a.txt")).send().await?;
        assert_eq!((answer.status().as_u16(), answer.text().await?.as_str()), (200, "content"), "{way}");
    }
    Ok(())
}
