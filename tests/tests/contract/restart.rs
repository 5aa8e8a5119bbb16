//! Restarts: what was answered outlives a kill -9, a damaged store is set aside, SIGTERM drains.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use remotemount_tests::manifest::Manifest;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;
use remotemount_tests::sidecar::Sidecar;
use tokio::sync::Mutex;
use tokio::time::sleep;

use crate::stage::Stage;

const NAMES: usize = 10_000;
const CALLERS: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_in_the_middle_of_10_000_lookups() -> Result<()> {
    let mut stage = Stage::new("kill-9").await?;
    let keys = (0..NAMES).map(|n| (format!("d{:03}/f{n:05}", n % 97), "x"));
    stage.bucket.put_many(keys).await?;
    // Callers look names up, noting when each was answered, until the process is gone.
    let answered = Arc::new(Mutex::new(Vec::new()));
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (client, answered) = (stage.client.clone(), Arc::clone(&answered));
            let url = stage.sidecar.http_url("/m/");
            tokio::spawn(async move {
                for n in (caller..NAMES).step_by(CALLERS) {
                    let key = format!("d{:03}/f{n:05}", n % 97);
                    let Ok(answer) = client.head(format!("{url}{key}")).send().await else { return };
                    assert_eq!(answer.status(), 200);
                    answered.lock().await.push((Instant::now(), key));
                }
            })
        })
        .collect();
    while answered.lock().await.len() < NAMES / 2 {
        sleep(Duration::from_millis(5)).await;
    }
    let killed = Instant::now();
    stage.sidecar.kill9()?;
    for caller in callers {
        caller.await?;
    }
    let begin = Instant::now();
    stage.sidecar.restart().await?;
    let ready = begin.elapsed();
    assert!(ready < Duration::from_secs(1), "ready in {ready:?}");
    stage.settle().await?;
    let answered = Arc::try_unwrap(answered).map_err(|_| anyhow::anyhow!("a caller is left"))?.into_inner();
    let kept: Vec<_> =
        answered.iter().filter(|(at, _)| killed.saturating_duration_since(*at) > Duration::from_secs(1)).collect();
    println!(
        "{} answered, {} of them more than a second before the kill; ready in {ready:?}",
        answered.len(),
        kept.len()
    );
    assert!(kept.len() > 100, "enough were answered in time: {} of {}", kept.len(), answered.len());
    for (_, key) in &kept {
        assert_eq!(stage.head(&format!("/m/{key}")).await?.status(), 200);
    }
    assert_eq!(stage.proxy.total(), 0, "all from the store");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_is_set_aside_and_rebuilt() -> Result<()> {
    let mut stage = Stage::new("damaged").await?;
    stage.bucket.put("k", "content", None).await?;
    assert_eq!(stage.head("/m/k").await?.status(), 200);
    let file = stage.sidecar.state_dir().join("metadata.redb");
    for damage in ["garbage", "cut", "zeroed"] {
        stage.sidecar.kill9()?;
        let mut bytes = std::fs::read(&file)?;
        match damage {
            "garbage" => bytes = b"not a store at all".repeat(1000),
            "cut" => bytes.truncate(bytes.len() / 3),
            _ => bytes.iter_mut().take(64).for_each(|byte| *byte = 0),
        }
        std::fs::write(&file, bytes)?;
        stage.sidecar.restart().await?;
        assert_eq!(stage.get("/m/k").await?.text().await?, "content", "{damage}");
        let log = stage.sidecar.log();
        assert!(log.contains("store-rebuilt"), "{damage}: an event tells of it: {log}");
        let aside = std::fs::read_dir(stage.sidecar.state_dir())?.filter_map(Result::ok);
        assert!(
            aside.into_iter().any(|f| f.file_name().to_string_lossy().contains("damaged-")),
            "{damage}: kept aside"
        );
    }
    Ok(())
}

/// A disk that is full, and then is not: lookups answer all the while, and are kept again afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_heals_without_a_restart() -> Result<()> {
    let stage = Stage::new("full-disk").await?;
    for key in ["a", "b", "c"] {
        stage.bucket.put(key, "content", None).await?;
    }
    assert_eq!(stage.head("/m/a").await?.status(), 200);
    sleep(Duration::from_millis(300)).await;
    stage.sidecar.limit_file_size(Some(4096))?;
    for asked in 1..=3 {
        assert_eq!(stage.get("/m/b").await?.text().await?, "content");
        sleep(Duration::from_millis(300)).await;
        assert_eq!(stage.heads("b"), asked, "not kept, asked again");
    }
    assert_eq!(stage.client.get(stage.sidecar.admin_url("/healthz")).send().await?.status(), 200);
    stage.sidecar.limit_file_size(None)?;
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(stage.head("/m/b").await?.status(), 200);
    sleep(Duration::from_millis(300)).await;
    stage.proxy.reset();
    for key in ["a", "b"] {
        assert_eq!(stage.head(&format!("/m/{key}")).await?.status(), 200);
    }
    assert_eq!(stage.proxy.total(), 0, "kept again, and what was kept before is still there");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_requests_under_way_end() -> Result<()> {
    let mut stage = Stage::new("drain").await?;
    stage.bucket.put("slow", "content", None).await?;
    stage.proxy.inject(Rule::new(Action::Delay(Duration::from_millis(1500))).operation(Operation::Get));
    let request = {
        let (client, url) = (stage.client.clone(), stage.sidecar.http_url("/m/slow"));
        tokio::spawn(async move { client.get(url).send().await?.text().await })
    };
    sleep(Duration::from_millis(500)).await;
    let status = stage.sidecar.terminate(Duration::from_secs(10)).await?;
    assert!(status.success(), "{status}: {}", stage.sidecar.log());
    assert_eq!(request.await??, "content");
    Ok(())
}

/// Who reads too slowly is cut off when the drain is over, and the sidecar then stops at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_takes_too_long_is_cut() -> Result<()> {
    let bucket = crate::stage::bucket(Kind::Weed, "drain-cut").await?;
    bucket.put("big", vec![7; 32 << 20], None).await?;
    let endpoint = crate::stage::server(Kind::Weed).await?;
    let manifest = Manifest::new("m", "/m", &bucket.name, &endpoint, "");
    let mut sidecar = Sidecar::builder().mount(&manifest).arg("--drain-seconds").arg("1").start().await?;
    let unread = crate::stage::client().get(sidecar.http_url("/m/big")).send().await?;
    let begin = Instant::now();
    assert!(sidecar.terminate(Duration::from_secs(20)).await?.success());
    assert!(begin.elapsed() < Duration::from_secs(4), "stopped in {:?}", begin.elapsed());
    assert!(!sidecar.log().contains("not waited for"), "{}", sidecar.log());
    assert!(unread.bytes().await.is_err(), "cut, and seen to be");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sidecars_cannot_share_a_state_directory() -> Result<()> {
    let stage = Stage::new("shared-state").await?;
    let second = remotemount_tests::sidecar::Sidecar::builder().state_dir(stage.sidecar.state_dir()).start().await;
    let error = format!("{:#}", second.expect_err("it must not start"));
    assert!(error.contains("in use by another process"), "{error}");
    Ok(())
}
