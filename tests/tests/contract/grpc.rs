//! The gRPC door: the SeaweedFS filer's protocol over the real process, and its real clients.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use remotemount_sidecar::doors::grpc::proto::seaweed_filer_client::SeaweedFilerClient;
use remotemount_sidecar::doors::grpc::proto::{self, ListEntriesRequest, LookupDirectoryEntryRequest};
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;
use remotemount_tests::sidecar::Sidecar;
use tokio::process::Command;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::stage::{self, Stage};

const SERVICE: &str = "filer_pb.SeaweedFiler";
const NO_ENTRY: &str = "filer: no entry is found in filer store";

pub async fn connect(sidecar: &Sidecar) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", sidecar.grpc_address()))?;
    Ok(endpoint.timeout(Duration::from_secs(60)).connect().await?)
}

pub async fn client(stage: &Stage) -> Result<SeaweedFilerClient<Channel>> {
    Ok(SeaweedFilerClient::new(connect(&stage.sidecar).await?))
}

fn at(directory: &str, name: &str) -> LookupDirectoryEntryRequest {
    LookupDirectoryEntryRequest { directory: directory.to_owned(), name: name.to_owned() }
}

pub async fn lookup(
    filer: &mut SeaweedFilerClient<Channel>,
    directory: &str,
    name: &str,
) -> Result<proto::Entry, Status> {
    let answer = filer.lookup_directory_entry(at(directory, name)).await?.into_inner();
    answer.entry.ok_or_else(|| Status::internal("an answer without an entry"))
}

fn listing(directory: &str) -> ListEntriesRequest {
    ListEntriesRequest { directory: directory.to_owned(), ..Default::default() }
}

/// The names, a directory's with a slash; the status if the stream broke off.
async fn names(filer: &mut SeaweedFilerClient<Channel>, asked: ListEntriesRequest) -> Result<Vec<String>, Status> {
    let mut entries = filer.list_entries(asked).await?.into_inner();
    let mut names = Vec::new();
    while let Some(answer) = entries.message().await? {
        let entry = answer.entry.unwrap_or_default();
        names.push(format!("{}{}", entry.name, if entry.is_directory { "/" } else { "" }));
    }
    Ok(names)
}

pub fn reason(status: &Status) -> &str {
    status.metadata().get("x-remotemount-reason").map_or("", |reason| reason.to_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lookup_tells_what_the_bucket_has() -> Result<()> {
    let stage = Stage::new("grpc-lookup").await?;
    let etag = stage.bucket.put("dir/a b.txt", "content", Some("text/plain")).await?;
    stage.bucket.put("dir", "a file beside a directory", None).await?;
    stage.bucket.put("only/below", "x", None).await?;
    let mut filer = client(&stage).await?;

    let entry = lookup(&mut filer, "/m/dir", "a b.txt").await?;
    assert_eq!((entry.name.as_str(), entry.is_directory), ("a b.txt", false));
    let (attributes, remote) = (entry.attributes.unwrap(), entry.remote_entry.unwrap());
    let md5: String = attributes.md5.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(format!("\"{md5}\""), etag, "a client makes the ETag it shows from this");
    assert_eq!((attributes.file_size, attributes.file_mode, attributes.mime.as_str()), (7, 0o644, "text/plain"));
    assert_eq!(remote.remote_e_tag, etag);
    assert_eq!((remote.storage_name.as_str(), remote.remote_size), ("m", 7));
    assert_eq!((remote.remote_mtime, remote.remote_content_encoding.as_deref()), (attributes.mtime, Some("")));
    // The answer is out before the LIST beside the HEAD is.
    while stage.proxy.total() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let seen = stage.proxy.total();
    lookup(&mut filer, "/m/dir", "a b.txt").await?;
    assert_eq!(stage.proxy.total(), seen, "known by now, at every door");
    assert_eq!(stage.head("/m/dir/a%20b.txt").await?.headers()["etag"].to_str()?, etag);
    assert_eq!(stage.proxy.total(), seen);

    for (directory, name, kind) in [
        ("/", "", true),
        ("/", "m", true),
        ("/m", "", true),
        ("/m", "only", true),
        ("/m", "dir", false), // a file comes before a directory
    ] {
        let entry = lookup(&mut filer, directory, name).await?;
        assert_eq!(entry.is_directory, kind, "{directory} {name}");
        assert_eq!(entry.attributes.unwrap().file_mode >> 31 == 1, kind, "{directory} {name}: Go's directory bit");
    }
    for (directory, name) in [("/m", "nothing"), ("/m/dir", "nothing"), ("/elsewhere", "x")] {
        let status = lookup(&mut filer, directory, name).await.unwrap_err();
        assert_eq!((status.code(), reason(&status)), (Code::NotFound, "NotFound"), "{directory} {name}");
        assert!(status.message().contains(NO_ENTRY), "{status}");
    }
    // What cannot be asked is something else, and says so.
    stage.proxy.inject(Rule::new(Action::error(403, "AccessDenied")));
    let status = lookup(&mut filer, "/m", "denied").await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::PermissionDenied, "Denied"), "{status}");
    assert!(!status.message().contains(NO_ENTRY), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listings_stream_whole_or_by_part() -> Result<()> {
    let stage = Stage::with(Kind::Moto, "grpc-list", |manifest| manifest).await?;
    let mut wanted: Vec<String> = (0..2500).map(|n| format!("f{n:04}.txt")).collect();
    stage.bucket.put_many(wanted.iter().map(|name| (format!("d/{name}"), "x"))).await?;
    for key in ["d/twin", "d/twin-a", "d/twin/x", "d/twin0", "d/zoo/x", "d/zoo/y"] {
        stage.bucket.put(key, "x", None).await?;
    }
    wanted.extend(["twin", "twin-a", "twin/", "twin0", "zoo/"].map(str::to_owned));
    let mut filer = client(&stage).await?;

    // The first entry is there before the last page is asked for.
    let mut entries = filer.list_entries(listing("/m/d")).await?.into_inner();
    let first = entries.message().await?.context("no entry")?.entry.unwrap_or_default();
    assert_eq!(first.name, wanted[0]);
    assert!(first.attributes.is_some_and(|attributes| attributes.file_size == 1 && attributes.md5.len() == 16));
    drop(entries);
    assert_eq!(names(&mut filer, listing("/m/d")).await?, wanted);
    assert_eq!(stage.lists("d/"), 3, "each of the remote's pages once, however many the stream is made of");
    assert_eq!(names(&mut filer, listing("/")).await?, ["m/"]);

    let part = |prefix: &str, start: &str, inclusive: bool, limit: u32| ListEntriesRequest {
        prefix: prefix.to_owned(),
        start_from_file_name: start.to_owned(),
        inclusive_start_from: inclusive,
        limit,
        ..listing("/m/d")
    };
    assert_eq!(names(&mut filer, part("", "", false, 2)).await?, wanted[..2]);
    assert_eq!(names(&mut filer, part("", "f0998.txt", false, 1500)).await?, wanted[999..2499]);
    assert_eq!(names(&mut filer, part("", "f0998.txt", true, 3)).await?, wanted[998..1001]);
    assert_eq!(names(&mut filer, part("", "f0998", true, 1)).await?, [wanted[998].as_str()], "no such name: the next");
    assert_eq!(names(&mut filer, part("f2", "", false, 0)).await?, wanted[2000..2500]);
    assert_eq!(names(&mut filer, part("f2", "f0001.txt", false, 1)).await?, ["f2000.txt"]);
    assert_eq!(names(&mut filer, part("f2", "f2498.txt", true, 9)).await?, ["f2498.txt", "f2499.txt"]);
    assert_eq!(names(&mut filer, part("f2", "twin", true, 0)).await?, [""; 0]);
    assert_eq!(names(&mut filer, part("nothing", "", false, 0)).await?, [""; 0]);
    // A file and a directory of one name: a bare name means the file, a slash the directory.
    assert_eq!(names(&mut filer, part("twin", "", false, 0)).await?, ["twin", "twin-a", "twin/", "twin0"]);
    assert_eq!(names(&mut filer, part("", "twin", false, 0)).await?, wanted[2501..]);
    assert_eq!(names(&mut filer, part("", "twin/", false, 0)).await?, ["twin0", "zoo/"]);
    assert_eq!(names(&mut filer, part("", "twin", true, 1)).await?, ["twin"]);
    assert_eq!(names(&mut filer, part("", "zoo", true, 0)).await?, ["zoo/"]);
    assert_eq!(names(&mut filer, part("", "zoo", false, 0)).await?, [""; 0]);

    // There is no such directory: that is no empty one.
    for directory in ["/m/nowhere", "/m/d/f0000.txt", "/elsewhere"] {
        let status = names(&mut filer, listing(directory)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{directory}: {status}");
        assert!(status.message().contains(NO_ENTRY), "{status}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_that_fails_half_way_ends_with_its_error() -> Result<()> {
    let stage = Stage::with(Kind::Moto, "grpc-half", |manifest| manifest).await?;
    stage.bucket.put_many((0..2500).map(|n| (format!("d/f{n:04}"), "x"))).await?;
    stage.proxy.inject(Rule::new(Action::error(403, "AccessDenied")).operation(Operation::List).nth(1));
    let mut filer = client(&stage).await?;
    let mut entries = filer.list_entries(listing("/m/d")).await?.into_inner();
    let mut count = 0;
    let status = loop {
        match entries.message().await {
            Ok(Some(_)) => count += 1,
            Ok(None) => panic!("ended after {count} entries as if that were all"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), reason(&status)), (Code::PermissionDenied, "Denied"), "{status}");
    assert!((1..2500).contains(&count), "{count}");
    // From the start it is the call's own status.
    let status = filer.list_entries(listing("/m/other")).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_key_can_be_named_by_is_refused() -> Result<()> {
    let stage = Stage::new("grpc-bad").await?;
    let mut filer = client(&stage).await?;
    let long = "x".repeat(65_536);
    let long = long.as_str();
    let bad = [
        ("", "a", "begins with '/'"),
        ("m", "a", "begins with '/'"),
        ("/m//a", "b", "empty segment"),
        ("/m/../a", "b", "'..'"),
        ("/m", "..", "'..'"),
        ("/m", ".", "'..'"),
        ("/m", "a/b", "no '/'"),
        ("/m", "a\0b", "NUL"),
        ("/m", long, "no key is that long"),
    ];
    for (directory, name, wanted) in bad {
        let status = lookup(&mut filer, directory, name).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(wanted), "{wanted}: {status}");
        if name != "a/b" {
            let start = ListEntriesRequest { start_from_file_name: name.to_owned(), ..listing(directory) };
            let status = names(&mut filer, start).await.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        }
    }
    assert_eq!(stage.proxy.total(), 0, "and nothing was asked");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn facts_and_refusals() -> Result<()> {
    let stage = Stage::new("grpc-facts").await?;
    stage.bucket.put("a.txt", "x", None).await?;
    let mut filer = client(&stage).await?;
    let configuration = filer.get_filer_configuration(proto::GetFilerConfigurationRequest {}).await?.into_inner();
    assert!(configuration.version.starts_with("RemoteMount "), "{configuration:?}");
    assert_eq!((configuration.dir_buckets.as_str(), configuration.masters.len()), ("/buckets", 0));

    let count = |answer: tonic::Response<proto::StatisticsResponse>| answer.into_inner().file_count;
    assert_eq!(count(filer.statistics(proto::StatisticsRequest::default()).await?), 0);
    lookup(&mut filer, "/m", "a.txt").await?;
    let deadline = Instant::now() + Duration::from_secs(5);
    while count(filer.statistics(proto::StatisticsRequest::default()).await?) == 0 {
        assert!(Instant::now() < deadline, "what was found is persisted");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    for target in [String::new(), stage.sidecar.grpc_address(), stage.sidecar.filer_address()] {
        let asked = proto::PingRequest { target, target_type: "filer".to_owned() };
        let answer = filer.ping(asked).await?.into_inner();
        assert!(answer.start_time_ns > 1_700_000_000_000_000_000 && answer.stop_time_ns >= answer.start_time_ns);
    }
    let asked = proto::PingRequest { target: "192.0.2.1:1".to_owned(), target_type: "filer".to_owned() };
    assert_eq!(filer.ping(asked).await.unwrap_err().code(), Code::InvalidArgument);

    let refused = [
        filer.kv_get(proto::KvGetRequest { key: b"k".to_vec() }).await.unwrap_err(),
        filer.kv_put(proto::KvPutRequest { key: b"k".to_vec(), value: b"v".to_vec() }).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::Unimplemented, "{status}");
        assert!(status.message().contains("keeps no keys"), "{status}");
    }
    // What the protocol has and this filer does not, and what nobody has.
    for path in ["/filer_pb.SeaweedFiler/CreateEntry", "/filer_pb.SeaweedFiler/CacheRemoteObjectToLocalCluster", "/x/y"]
    {
        let mut raw = tonic::client::Grpc::new(connect(&stage.sidecar).await?);
        raw.ready().await?;
        let codec =
            tonic_prost::ProstCodec::<LookupDirectoryEntryRequest, proto::LookupDirectoryEntryResponse>::default();
        let answer = raw.unary(tonic::Request::new(at("/m", "a.txt")), path.try_into()?, codec).await;
        assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{path}");
    }
    let text = stage.client.get(stage.sidecar.admin_url("/metrics")).send().await?.text().await?;
    for sample in [
        "{method=\"LookupDirectoryEntry\",code=\"OK\"} 1",
        "{method=\"KvPut\",code=\"Unimplemented\"} 1",
        "{method=\"Ping\",code=\"InvalidArgument\"} 1",
        "{method=\"other\",code=\"Unimplemented\"} 3",
    ] {
        assert!(text.contains(&format!("remotemount_grpc_requests_total{sample}")), "{sample}: {text}");
    }
    Ok(())
}

async fn health(filer: &mut HealthClient<Channel>, service: &str) -> Result<ServingStatus, Status> {
    let asked = HealthCheckRequest { service: service.to_owned() };
    Ok(filer.check(asked).await?.into_inner().status())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_readiness() -> Result<()> {
    let mut sidecar = Sidecar::builder().manifest("m", "kind: Nonsense\n").start_unready()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let channel = loop {
        match connect(&sidecar).await {
            Ok(channel) => break channel,
            Err(error) => assert!(Instant::now() < deadline, "{error:#}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut filer = HealthClient::new(channel.clone());
    for service in ["", SERVICE] {
        assert_eq!(health(&mut filer, service).await?, ServingStatus::NotServing, "no table is in force yet");
    }
    let status = lookup(&mut SeaweedFilerClient::new(channel), "/m", "a").await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unavailable, "NotReady"), "{status}");
    assert_eq!(health(&mut filer, "other").await.unwrap_err().code(), Code::NotFound);
    let mut watched = filer.watch(HealthCheckRequest { service: SERVICE.to_owned() }).await?.into_inner();
    let status = |answer: Option<HealthCheckResponse>| answer.map(|answer| answer.status());
    assert_eq!(status(watched.message().await?), Some(ServingStatus::NotServing));
    sidecar.remove_manifest("m")?;
    sidecar.wait_ready(Duration::from_secs(10)).await?;
    assert_eq!(status(watched.message().await?), Some(ServingStatus::Serving));
    for service in ["", SERVICE] {
        assert_eq!(health(&mut filer, service).await?, ServingStatus::Serving);
    }
    // The watcher is told, let go, and does not hold up the drain.
    let began = Instant::now();
    let ended = sidecar.terminate(Duration::from_secs(20)).await?;
    assert!(ended.success() && began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(status(watched.message().await?), Some(ServingStatus::NotServing));
    assert_eq!(status(watched.message().await?), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_under_way_may_end_after_the_stop() -> Result<()> {
    let mut stage = Stage::new("grpc-drain").await?;
    stage.bucket.put("slow.txt", "x", None).await?;
    stage.proxy.inject(Rule::new(Action::Delay(Duration::from_secs(2))));
    let mut filer = client(&stage).await?;
    let call = tokio::spawn(async move { lookup(&mut filer, "/m", "slow.txt").await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let ended = stage.sidecar.terminate(Duration::from_secs(20)).await?;
    assert!(ended.success());
    assert_eq!(call.await??.name, "slow.txt");
    Ok(())
}

/// The reference's own comparison of two filers, run against the one whose bucket is mounted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_client_sees_the_same_tree() -> Result<()> {
    let stage = Stage::new("grpc-verify").await?;
    for key in ["a.txt", "d/b.txt", "d/deep/er/c.txt", "d/empty", "e.txt"] {
        let body = if key.ends_with("empty") { "" } else { key };
        stage.bucket.put(key, body, None).await?;
    }
    stage.bucket.put_many((0..1200).map(|n| (format!("many/f{n:04}"), format!("{n}")))).await?;
    let reference = stage::filer_client_address().await?;
    let program = tokio::task::spawn_blocking(|| remotemount_tests::tools::bin("weed")).await??;
    let verify = async || -> Result<(Option<i32>, String)> {
        let mut command = Command::new(&program);
        command
            .arg("filer.sync.verify")
            .args([format!("-a={reference}"), "-a.path=/buckets/grpc-verify".to_owned()])
            .args([format!("-b={}", stage.sidecar.filer_address()), "-b.path=/m".to_owned()])
            .kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await??;
        let text = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        Ok((output.status.code(), text))
    };
    let (code, text) = verify().await?;
    assert!(code == Some(0) && text.contains("Files verified:       1205"), "{text}");
    // It does look: what changes behind the mount's back is a difference until it is learnt.
    stage.bucket.put("a.txt", "another content", None).await?;
    let (code, text) = verify().await?;
    assert!(code == Some(2) && text.contains("a.txt"), "{text}");
    Ok(())
}
