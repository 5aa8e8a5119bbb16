//! Mounts: M1 and M3, and what a running sidecar does with its manifests.

use std::os::unix::fs::symlink;
use std::time::Duration;

use anyhow::Result;
use remotemount_tests::manifest::Manifest;
use remotemount_tests::process::free_port;
use remotemount_tests::proxy::Proxy;
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;
use remotemount_tests::sidecar::Sidecar;
use tokio::time::sleep;

use crate::stage::{Stage, bucket, client, names, server};

/// Two polls of the watch.
const NOTICED: Duration = Duration::from_millis(2300);

async fn text(sidecar: &Sidecar, path: &str) -> Result<(u16, String)> {
    let answer = client().get(sidecar.http_url(path)).header("accept", "application/json").send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

async fn listed(sidecar: &Sidecar, path: &str) -> Result<Vec<String>> {
    Ok(names(&serde_json::from_str(&text(sidecar, path).await?.1)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m1_longest_prefix_wins_by_component() -> Result<()> {
    let store = bucket(Kind::Weed, "m1-prefix").await?;
    for (key, body) in [
        ("root.txt", "root"),
        ("database/x", "outer"),
        ("inner/x", "inner"),
        ("inner/deep/x", "inner deep"),
        ("nested/x", "nested"),
        ("data/hidden", "never seen"),
    ] {
        store.put(key, body, None).await?;
    }
    let endpoint = server(Kind::Weed).await?;
    let mount = |name: &str, path: &str, prefix: &str| Manifest::new(name, path, &store.name, &endpoint, prefix);
    let sidecar = Sidecar::builder()
        .mount(&mount("root", "/", ""))
        .mount(&mount("data", "/data/", "inner/"))
        .mount(&mount("nested", "/data/nested", "nested"))
        .mount(&mount("far", "/way/to/far", "nested"))
        .start()
        .await?;
    for (path, body) in [
        ("/root.txt", "root"),
        ("/database/x", "outer"),
        ("/data/x", "inner"),
        ("/data/deep/x", "inner deep"),
        ("/data/nested/x", "nested"),
    ] {
        assert_eq!(text(&sidecar, path).await?, (200, body.to_owned()), "{path}");
    }
    assert_eq!(text(&sidecar, "/data/hidden").await?.0, 404, "the outer mount's key is covered by the inner mount");
    // A mount's own directory belongs to the mount; the way to a nested mount is a directory of the outer.
    assert_eq!(listed(&sidecar, "/data/").await?, ["deep/", "nested/", "x"]);
    assert_eq!(listed(&sidecar, "/data/nested").await?, ["x"]);
    assert_eq!(listed(&sidecar, "/way/").await?, ["to/"]);
    assert_eq!(listed(&sidecar, "/way/to").await?, ["far/"]);
    assert_eq!(text(&sidecar, "/way/to/far/x").await?, (200, "nested".to_owned()));
    assert_eq!(listed(&sidecar, "/").await?, ["data/", "database/", "inner/", "nested/", "root.txt", "way/"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_a_swap_is_whole_and_generations_are_apart() -> Result<()> {
    let stage = Stage::new("m3-first").await?;
    let second = bucket(Kind::Weed, "m3-second").await?;
    stage.bucket.put("same.txt", "first", None).await?;
    stage.bucket.put("only-first.txt", "first", None).await?;
    second.put("same.txt", "second", None).await?;
    assert_eq!(stage.get("/m/same.txt").await?.text().await?, "first");
    assert_eq!(stage.head("/m/only-first.txt").await?.status(), 200);
    // A lookup under the first generation is under way while the mount becomes another bucket.
    stage.bucket.put("racing.txt", "first", None).await?;
    stage.proxy.inject(Rule::new(Action::Delay(Duration::from_secs(3))).operation(Operation::Head).key("racing.txt"));
    let racing = {
        let (client, url) = (stage.client.clone(), stage.sidecar.http_url("/m/racing.txt"));
        tokio::spawn(async move { client.head(url).send().await })
    };
    sleep(Duration::from_millis(100)).await;
    stage
        .sidecar
        .write_manifest("m", &Manifest::new("m", "/m", &second.name, &stage.proxy.endpoint(), "").to_yaml())?;
    sleep(NOTICED).await;
    assert_eq!(stage.get("/m/same.txt").await?.text().await?, "second", "nothing of the old bucket is served");
    assert_eq!(stage.head("/m/only-first.txt").await?.status(), 404);
    assert_eq!(racing.await??.status(), 200, "the operation in flight kept its table");
    sleep(Duration::from_millis(200)).await;
    stage.proxy.clear();
    assert_eq!(stage.head("/m/racing.txt").await?.status(), 404, "and wrote nothing into the new generation");
    assert_eq!(stage.status().await?["mounts"][0]["generation"], 2);
    // Back again: a generation is never used twice.
    stage
        .sidecar
        .write_manifest("m", &Manifest::new("m", "/m", &stage.bucket.name, &stage.proxy.endpoint(), "").to_yaml())?;
    sleep(NOTICED).await;
    assert_eq!(stage.status().await?["mounts"][0]["generation"], 3);
    assert_eq!(stage.get("/m/same.txt").await?.text().await?, "first");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_a_bad_manifest_leaves_the_last_good_table() -> Result<()> {
    let stage = Stage::new("m3-bad").await?;
    stage.bucket.put("a.txt", "content", None).await?;
    let endpoint = stage.proxy.endpoint();
    let huge = format!("# {}", "x".repeat(10 << 20));
    let good = Manifest::new("n", "/n", &stage.bucket.name, &endpoint, "").to_yaml();
    let bad: Vec<(String, &str)> = vec![
        (good.replace("spec:", "spec:\n  colour: red"), "colour"),
        (good.replace("s3:", "gcs: {bucket: abc}\n    s3:"), "exactly one of s3, gcs and azure"),
        (good.replace("/n", "n"), "spec.path"),
        (good.replace("spec:", "spec:\n  expose: {http: {port: 0}}"), "port must be from 1 to 65535"),
        (good.replace("\"/n\"", "\"/m/\""), "is also mounted by"),
        ("{:::".to_owned(), "line 1"),
        (huge, "at most 1048576"),
    ];
    for (yaml, wanted) in bad {
        stage.sidecar.write_manifest("bad", &yaml)?;
        sleep(NOTICED).await;
        let status = stage.status().await?;
        let problems = status["manifestProblems"].to_string();
        assert!(problems.contains(wanted), "{wanted}: {problems}");
        assert_eq!(status["mounts"].as_array().map(Vec::len), Some(1), "{wanted}: the last good table is in force");
        assert_eq!(stage.get("/m/a.txt").await?.text().await?, "content", "{wanted}: and serves");
    }
    stage.sidecar.write_manifest("bad", &good)?;
    sleep(NOTICED).await;
    assert_eq!(stage.status().await?["mounts"].as_array().map(Vec::len), Some(2));
    assert_eq!(stage.get("/n/a.txt").await?.text().await?, "content");
    Ok(())
}

/// As a ConfigMap volume does it: files are links into `..data`, which is a link that is swapped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m3_projected_volumes_swap_their_symlink() -> Result<()> {
    let store = bucket(Kind::Weed, "m3-projected").await?;
    store.put("one/a.txt", "one", None).await?;
    store.put("two/a.txt", "two", None).await?;
    let endpoint = server(Kind::Weed).await?;
    let volume = tempfile::tempdir()?;
    let root = volume.path();
    let write = |version: &str| -> Result<()> {
        std::fs::create_dir(root.join(version))?;
        let yaml = Manifest::new("m", "/m", &store.name, &endpoint, version.trim_start_matches("..")).to_yaml();
        std::fs::write(root.join(version).join("m.yaml"), yaml)?;
        symlink(version, root.join("..data_tmp"))?;
        std::fs::rename(root.join("..data_tmp"), root.join("..data"))?;
        Ok(())
    };
    write("..one")?;
    symlink("..data/m.yaml", root.join("m.yaml"))?;
    let sidecar = Sidecar::builder().mounts_dir(root).start().await?;
    assert_eq!(text(&sidecar, "/m/a.txt").await?, (200, "one".to_owned()));
    write("..two")?;
    sleep(NOTICED).await;
    assert_eq!(text(&sidecar, "/m/a.txt").await?, (200, "two".to_owned()));
    Ok(())
}

/// Without a first good table nothing is served, and nothing is said to be missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_start_is_not_ready_and_heals() -> Result<()> {
    let store = bucket(Kind::Weed, "bad-start").await?;
    store.put("a.txt", "content", None).await?;
    let proxy = Proxy::start(&server(Kind::Weed).await?).await?;
    let mut sidecar = Sidecar::builder().manifest("m", "kind: Nonsense\n").start_unready()?;
    sleep(Duration::from_millis(700)).await;
    assert_eq!(client().get(sidecar.admin_url("/readyz")).send().await?.status(), 503);
    assert_eq!(text(&sidecar, "/m/a.txt").await?.0, 503);
    sidecar.write_credentials(
        "s3-creds",
        remotemount_tests::s3_server::ACCESS_KEY,
        remotemount_tests::s3_server::SECRET_KEY,
    )?;
    sidecar.write_manifest("m", &Manifest::new("m", "/m", &store.name, &proxy.endpoint(), "").to_yaml())?;
    sidecar.wait_ready(Duration::from_secs(5)).await?;
    assert_eq!(text(&sidecar, "/m/a.txt").await?, (200, "content".to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_for_metrics_shows_nothing_else() -> Result<()> {
    let address = format!("127.0.0.1:{}", free_port()?);
    let endpoint = server(Kind::Moto).await?;
    let bucket = bucket(Kind::Moto, "metrics-alone").await?;
    bucket.put("secret-name", "x", None).await?;
    let mount = Manifest::new("m", "/m", "metrics-alone", &endpoint, "");
    let sidecar = Sidecar::builder().mount(&mount).arg("--metrics").arg(&address).start().await?;
    let client = client();
    assert_eq!(client.head(sidecar.http_url("/m/secret-name")).send().await?.status(), 200);
    let metrics = client.get(format!("http://{address}/metrics")).send().await?.text().await?;
    assert!(metrics.contains("remotemount_lookups_total{") && metrics.ends_with("# EOF\n"), "{metrics}");
    assert!(!metrics.contains("secret-name"), "no label holds a key");
    for path in ["/status", "/readyz", "/healthz", "/"] {
        let answer = client.get(format!("http://{address}{path}")).send().await?;
        assert_eq!((answer.status().as_u16(), answer.text().await?.as_str()), (404, "here is /metrics\n"), "{path}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_is_ready_when_it_has_what_it_was_started_for() -> Result<()> {
    let endpoint = server(Kind::Moto).await?;
    bucket(Kind::Moto, "expected").await?;
    let first = Manifest::new("first", "/first", "expected", &endpoint, "");
    let second = Manifest::new("second", "/second", "expected", &endpoint, "");
    let mut sidecar = Sidecar::builder().mount(&first).arg("--expect").arg("first,second").start_unready()?;
    let ready = async || {
        let answer = client().get(sidecar.admin_url("/readyz")).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    };
    let missing = async {
        while ready().await != Some((503, "no manifests yet of second\n".to_owned())) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), missing).await?;
    sidecar.write_manifest("second", &second.to_yaml())?;
    sidecar.wait_ready(Duration::from_secs(10)).await?;
    Ok(())
}
