//! Keys and paths: M2, against a server that keeps keys byte for byte.

use anyhow::Result;
use remotemount_tests::s3_server::Kind;
use remotemount_tests::wire;

use crate::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_keys_are_byte_exact_or_counted() -> Result<()> {
    let stage = Stage::with(Kind::Moto, "m2-names", |m| m).await?;
    let long = "n".repeat(300);
    let unicode = "ünï☃/ключ";
    let nameable = [
        "a",
        "a/b",
        "sp ace",
        "pl+us",
        "per%cent",
        "p%2Fq",
        "q?x#y",
        "amp&<>\"'",
        "...",
        "tail ",
        long.as_str(),
        unicode,
        "ctl\u{1}\u{7f}x",
    ];
    let unnameable = ["a//b", "/lead", "x/../y", "x/./z", "full-marker/"];
    for key in nameable.iter().chain(&unnameable) {
        stage.bucket.put(key, format!("content of {key}"), Some("text/x-test")).await?;
    }
    stage.bucket.put("dir/", "", None).await?;
    // Twice: by lookups on an empty store, then by what listings left in it.
    for round in 0..2 {
        for key in nameable {
            let encoded = percent_encoding::utf8_percent_encode(key, percent_encoding::NON_ALPHANUMERIC).to_string();
            let target = format!("/m/{}", encoded.replace("%2F", "/").replace("p%25/q", "p%252Fq"));
            let answer = wire::raw(&stage.sidecar.http_addr(), "GET", &target, &[]).await?;
            assert_eq!(answer.status, 200, "round {round}: {key:?} as {target}");
            assert_eq!(answer.text(), format!("content of {key}"), "round {round}: {key:?}");
            assert_eq!(answer.header("content-type"), Some("text/x-test"), "round {round}: {key:?}");
        }
        let mut names = stage.names("/m/").await?;
        names.retain(|name| !name.is_empty());
        assert_eq!(stage.names("/m/a/").await?, ["b"]);
        assert_eq!(stage.names("/m/dir/").await?, Vec::<String>::new());
        assert_eq!(stage.names("/m/x/").await?, Vec::<String>::new());
        let mut wanted: Vec<String> =
            nameable.iter().filter(|key| !key.contains('/')).map(|key| (*key).to_owned()).collect();
        wanted.extend(["a/", "dir/", "full-marker/", "x/", "ünï☃/"].map(str::to_owned));
        wanted.sort();
        names.sort();
        assert_eq!(names, wanted, "round {round}");
    }
    // What no path can name answers as such, whoever asks how, and never as another key.
    for target in ["/m/a//b", "/m//lead", "/m/x/../y", "/m/x/%2e%2e/y", "/m/x/./z", "/m/a%00", "/m/%ff"] {
        let answer = wire::raw(&stage.sidecar.http_addr(), "GET", target, &[]).await?;
        assert_eq!(answer.status, 400, "{target}: {}", answer.text());
        assert!(answer.text().contains("InvalidPath"), "{target}");
    }
    assert_eq!(stage.names("/m/full-marker/").await?, Vec::<String>::new());
    // Root: `/`. In a: `a//`. In x: `x/../`, `x/./`. The marker with content.
    let status = stage.status().await?;
    assert_eq!(status["mounts"][0]["unnameableKeys"], 5, "{status}");
    let page = stage.list("/m/x/").await?;
    assert_eq!(page.headers()["x-remotemount-unnameable-keys"], "2");
    Ok(())
}

/// A directory that is known only from what lies below it says nothing of a file of its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn m2_what_lies_below_hides_no_file() -> Result<()> {
    let stage = Stage::with(Kind::Moto, "m2-beside", |m| m).await?;
    stage.bucket.put("a", "the file", None).await?;
    stage.bucket.put("a/b", "below it", None).await?;
    stage.bucket.put("d/e", "below", None).await?;
    assert_eq!(stage.get("/m/a/b").await?.text().await?, "below it");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(stage.get("/m/a").await?.text().await?, "the file");
    assert_eq!(stage.names("/m/a/").await?, ["b"]);
    assert_eq!(stage.get("/m/a").await?.text().await?, "the file");
    // Without such a file it is asked for once, and the directory then answers by itself.
    assert_eq!(stage.get("/m/d/e").await?.text().await?, "below");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    stage.proxy.reset();
    for _ in 0..3 {
        assert_eq!(stage.get("/m/d?metadata=true").await?.status(), 200);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!((stage.heads("d"), stage.proxy.total()), (1, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_get_one_clear_answer() -> Result<()> {
    let stage = Stage::new("bad-requests").await?;
    let address = stage.sidecar.http_addr();
    let long = format!("/m/{}", "x/".repeat(30_000));
    for (method, target, status) in [
        ("GET", long.as_str(), 414),
        ("GET", "/m/?limit=0", 400),
        ("GET", "/m/?limit=many", 400),
        ("PUT", "/m/a", 405),
        ("POST", "/m/a", 405),
        ("PATCH", "/m/a", 405),
        ("OPTIONS", "/m/a", 204),
    ] {
        let answer = wire::raw(&address, method, target, &[("content-length", "0")]).await?;
        assert_eq!(answer.status, status, "{method} {}", &target[..target.len().min(60)]);
        if status == 405 || status == 204 {
            assert_eq!(answer.header("allow"), Some("GET, HEAD, DELETE, OPTIONS"), "{method}");
        }
        if status != 204 {
            let body: serde_json::Value = serde_json::from_str(&answer.text())?;
            assert!(body["error"].as_str().is_some_and(|error| error.len() > 10), "{method}: {body}");
        }
    }
    // A key longer than any can be is simply not there, and no one is asked.
    stage.proxy.reset();
    let answer = wire::raw(&address, "GET", &format!("/m/{}", "k".repeat(1100)), &[]).await?;
    assert_eq!((answer.status, stage.proxy.total()), (404, 0));
    Ok(())
}
