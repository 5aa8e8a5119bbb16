//! The gRPC door's other half: deletes, the events they make, and the reference's clients that follow them.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use remotemount_sidecar::doors::grpc::proto::seaweed_filer_client::SeaweedFilerClient;
use remotemount_sidecar::doors::grpc::proto::{
    DeleteEntryRequest, DeleteEntryResponse, GetFilerConfigurationRequest, SubscribeMetadataRequest,
    SubscribeMetadataResponse,
};
use remotemount_tests::process::Process;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use crate::grpc::{client, lookup, reason};
use crate::stage::Stage;

type Filer = SeaweedFilerClient<Channel>;

async fn stage(name: &str, policy: &str) -> Result<Stage> {
    Stage::with(Kind::Weed, name, |manifest| manifest.delete_policy(policy)).await
}

fn order(directory: &str, name: &str) -> DeleteEntryRequest {
    let (directory, name) = (directory.to_owned(), name.to_owned());
    DeleteEntryRequest { directory, name, is_delete_data: true, ..Default::default() }
}

async fn delete(filer: &mut Filer, order: DeleteEntryRequest) -> Result<DeleteEntryResponse> {
    Ok(filer.delete_entry(order).await?.into_inner())
}

async fn signature(filer: &mut Filer) -> Result<i32> {
    Ok(filer.get_filer_configuration(GetFilerConfigurationRequest {}).await?.into_inner().signature)
}

/// Kind, path and old size of an event.
fn told(event: SubscribeMetadataResponse) -> (String, u64) {
    let notification = event.event_notification.unwrap();
    assert!(notification.new_entry.is_none() && !notification.delete_chunks, "a delete");
    let old = notification.old_entry.unwrap();
    let slash = if old.is_directory { "/" } else { "" };
    (format!("{}/{}{slash}", event.directory, old.name), old.attributes.unwrap_or_default().file_size)
}

async fn next(changes: &mut Streaming<SubscribeMetadataResponse>) -> Result<(String, u64)> {
    let next = tokio::time::timeout(Duration::from_secs(10), changes.message()).await??;
    Ok(told(next.expect("an event")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_reach_the_bucket_or_say_why_not() -> Result<()> {
    let stage = stage("grpc-delete", "Propagate").await?;
    for key in ["a.txt", "b.txt", "kept.txt", "d/x", "d/deep/y", "other/z"] {
        stage.bucket.put(key, key, None).await?;
    }
    let mut filer = client(&stage).await?;
    let own = signature(&mut filer).await?;
    assert_ne!(own, 0);

    // Whether data is to be deleted makes no difference: there is nothing but the object.
    for (name, is_delete_data) in [("a.txt", true), ("b.txt", false)] {
        let answer = delete(&mut filer, DeleteEntryRequest { is_delete_data, ..order("/m", name) }).await?;
        assert_eq!(answer.error, "", "{name}");
        assert!(stage.bucket.head(name).await?.is_none(), "{name} is gone from the bucket");
        let event = answer.metadata_event.expect("the event is at hand");
        assert_eq!(event.event_notification.as_ref().unwrap().signatures, [own]);
        assert_eq!(told(event), (format!("/m/{name}"), 5));
        assert_eq!(lookup(&mut filer, "/m", name).await.unwrap_err().code(), Code::NotFound);
    }
    for name in ["a.txt", "never-was"] {
        let answer = delete(&mut filer, order("/m", name)).await?;
        assert_eq!((answer.error.as_str(), answer.metadata_event), ("", None), "{name}: gone is gone");
    }

    // A directory goes whole or not at all.
    let answer = delete(&mut filer, order("/m", "d")).await?;
    assert!(answer.error.contains("/m/d: the directory is not empty"), "{answer:?}");
    assert!(stage.bucket.head("d/x").await?.is_some());
    let answer = delete(&mut filer, DeleteEntryRequest { is_recursive: true, ..order("/m", "d") }).await?;
    assert_eq!(answer.error, "");
    assert_eq!(stage.bucket.keys("d/").await?, [""; 0]);
    assert_eq!(told(answer.metadata_event.expect("the directory's own")).0, "/m/d/");

    // What was modified later than the client knows is left alone.
    let old = DeleteEntryRequest { if_not_modified_after: 1_000_000_000, ..order("/m", "kept.txt") };
    assert_eq!(delete(&mut filer, old).await?.error, "");
    assert!(stage.bucket.head("kept.txt").await?.is_some());
    // What was deleted elsewhere goes from what is known, and from nowhere else. What is being learnt
    // just now is not known yet.
    lookup(&mut filer, "/m", "kept.txt").await?;
    let elsewhere = DeleteEntryRequest { is_from_other_cluster: true, signatures: vec![7], ..order("/m", "kept.txt") };
    let deadline = Instant::now() + Duration::from_secs(5);
    let event = loop {
        let answer = delete(&mut filer, elsewhere.clone()).await?;
        assert!(answer.error.is_empty() && Instant::now() < deadline, "{answer:?}");
        if let Some(event) = answer.metadata_event {
            break event.event_notification.unwrap();
        }
    };
    assert!(event.is_from_other_cluster && event.signatures == [7, own], "{event:?}");
    assert!(stage.bucket.head("kept.txt").await?.is_some(), "the bucket was not asked");

    // No failure is silent.
    stage.proxy.inject(Rule::new(Action::error(403, "AccessDenied")).operation(Operation::Delete));
    lookup(&mut filer, "/m/other", "z").await?;
    let answer = filer.delete_entry(order("/m/other", "z")).await?;
    assert_eq!(answer.metadata().get("x-remotemount-reason").unwrap(), "Denied");
    assert!(answer.get_ref().error.contains("/m/other/z: the remote denies it"), "{answer:?}");
    lookup(&mut filer, "/m/other", "z").await?;
    let outside = delete(&mut filer, order("/elsewhere", "z")).await?;
    assert!(outside.error.contains("no mount covers this path"), "{outside:?}");
    let root = delete(&mut filer, DeleteEntryRequest { is_recursive: true, ..order("/", "") }).await?;
    assert!(root.error.contains("/m leads to another mount"), "{root:?}");
    for (directory, name) in [("/m", ""), ("/m", ".."), ("/m", "a/b"), ("m", "a"), ("", "")] {
        let status = filer.delete_entry(order(directory, name)).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{directory} {name}: {status}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_does_not_delete_says_so() -> Result<()> {
    let stage = stage("grpc-deny", "Deny").await?;
    stage.bucket.put("a.txt", "x", None).await?;
    let mut filer = client(&stage).await?;
    let answer = delete(&mut filer, order("/m", "a.txt")).await?;
    assert!(answer.error.contains("spec.deletePolicy is Deny"), "{answer:?}");
    assert!(stage.bucket.head("a.txt").await?.is_some());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_subscribers_hear_of_each_change_in_order() -> Result<()> {
    let mut stage = stage("e1-follow", "Propagate").await?;
    for key in ["a.txt", "b.txt", "d/x", "d/y", "mother/z", "m2.txt"] {
        stage.bucket.put(key, "12345", None).await?;
    }
    let mut filer = client(&stage).await?;
    let own = signature(&mut filer).await?;
    let mut all = filer.subscribe_metadata(SubscribeMetadataRequest::default()).await?.into_inner();
    let asked = |prefix: &str| SubscribeMetadataRequest { path_prefix: prefix.to_owned(), ..Default::default() };
    let mut some = filer.subscribe_local_metadata(asked("/m/m")).await?.into_inner();
    let exact = SubscribeMetadataRequest { directories: vec!["/m/d".to_owned()], ..asked("/none") };
    let mut exact = filer.subscribe_metadata(exact).await?.into_inner();
    let not_own = SubscribeMetadataRequest { signature: own, ..asked("/") };
    let mut not_own = filer.subscribe_metadata(not_own).await?.into_inner();

    for (name, is_recursive) in [("a.txt", false), ("d", true), ("mother", true), ("m2.txt", false)] {
        let answer = delete(&mut filer, DeleteEntryRequest { is_recursive, ..order("/m", name) }).await?;
        assert_eq!(answer.error, "", "{name}");
    }
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(next(&mut all).await?.0);
    }
    assert_eq!(seen[0], "/m/a.txt");
    assert_eq!((seen[3].as_str(), seen[5].as_str()), ("/m/d/", "/m/mother/"), "a directory after what was in it");
    assert_eq!(seen[6], "/m/m2.txt");
    assert_eq!(next(&mut some).await?, ("/m/mother/z".to_owned(), 5), "a prefix is text");
    assert_eq!(next(&mut some).await?.0, "/m/mother/");
    assert_eq!(next(&mut some).await?, ("/m/m2.txt".to_owned(), 5));
    let mut within = [next(&mut exact).await?.0, next(&mut exact).await?.0];
    within.sort();
    assert_eq!(within, ["/m/d/x", "/m/d/y"]);

    // Events are kept over a restart; after means after, and a range ends.
    let from = filer.subscribe_metadata(asked("/m/a")).await?.into_inner().message().await?.unwrap().ts_ns;
    stage.sidecar.restart().await?;
    let mut filer = client(&stage).await?;
    assert_eq!(signature(&mut filer).await?, own);
    let after = SubscribeMetadataRequest { since_ns: from, ..asked("/") };
    let mut after = filer.subscribe_metadata(after).await?.into_inner();
    assert_ne!(next(&mut after).await?.0, "/m/a.txt");
    let range = SubscribeMetadataRequest { until_ns: from, ..asked("/") };
    let mut range = filer.subscribe_metadata(range).await?.into_inner();
    assert_eq!(next(&mut range).await?.0, "/m/a.txt");
    assert_eq!(range.message().await?, None);
    assert!(not_own.message().await.is_err(), "nothing but its own came, until the crash");

    // Who follows is let go at the stop, is told that there may be more, and does not hold up the drain.
    for _ in 0..5 {
        next(&mut after).await?;
    }
    let begun = Instant::now();
    assert!(stage.sidecar.terminate(Duration::from_secs(20)).await?.success());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let status = after.message().await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, "Stopping"), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_the_reference_client_tails_and_scans_our_events() -> Result<()> {
    let stage = stage("e1-reference", "Propagate").await?;
    for key in ["before.txt", "d/x", "after.txt"] {
        stage.bucket.put(key, "12345", None).await?;
    }
    let mut filer = client(&stage).await?;
    assert_eq!(delete(&mut filer, order("/m", "before.txt")).await?.error, "");
    let folder = tempfile::tempdir()?;
    let program = tokio::task::spawn_blocking(|| remotemount_tests::tools::bin("weed")).await??;
    let start = |command: &str, prefix: &str| {
        let log = folder.path().join(command);
        let mut weed = Command::new(&program);
        weed.current_dir(folder.path()).arg(command).arg(format!("-filer={}", stage.sidecar.filer_address()));
        weed.args([&format!("-pathPrefix={prefix}"), "-timeAgo=1h"]);
        Process::spawn(&weed, &log)
    };

    let mut tail = start("filer.meta.tail", "/m/")?;
    let says = async |tail: &Process, text: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !tail.log().contains(text) {
            assert!(Instant::now() < deadline, "the tail does not say {text}:\n{}", tail.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    says(&tail, "before.txt").await;
    // What comes while it follows is told as it comes.
    for (name, is_recursive) in [("d", true), ("after.txt", false)] {
        let answer = delete(&mut filer, DeleteEntryRequest { is_recursive, ..order("/m", name) }).await?;
        assert_eq!(answer.error, "");
    }
    says(&tail, "after.txt").await;
    let said: String = tail.log().split_whitespace().collect();
    assert!(said.contains("\"directory\":\"/m/d\"") && said.contains("\"oldEntry\":{\"name\":\"x\""), "{said}");
    assert!(!said.contains("\"newEntry\":{"), "{said}");
    assert!(tail.try_wait()?.is_none(), "and it follows on");
    tail.kill()?;

    let mut scan = start("filer.meta.scan", "/m")?;
    assert!(scan.wait(Duration::from_secs(30)).await?.success(), "{}", scan.log());
    let said = scan.log();
    for line in
        ["DELETE\t/m/before.txt\tsize=5", "DELETE\t/m/d/x\tsize=5", "DELETE\t/m/d\tdir", "DELETE\t/m/after.txt\tsize=5"]
    {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.contains("4 matching change(s)"), "{said}");
    Ok(())
}
