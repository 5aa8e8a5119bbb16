//! RFC 9110 at the door: conditions and ranges (R3).

use anyhow::Result;
use remotemount_tests::s3_server::Kind;
use remotemount_tests::wire;

use crate::stage::Stage;

const CONTENT: &str = "0123456789";

/// Request headers, and the status and body they get.
type Row<'r> = (&'r [(&'r str, &'r str)], u16, &'r str);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_conditions_and_ranges_follow_rfc_9110() -> Result<()> {
    let stage = Stage::with(Kind::Weed, "r3-rfc9110", |m| m).await?;
    stage.bucket.put("k", CONTENT, Some("text/x-digits")).await?;
    // The date is a strong validator only once its second is over.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let head = stage.head("/m/k").await?;
    let etag = head.headers()["etag"].to_str()?.to_owned();
    let date = head.headers()["last-modified"].to_str()?.to_owned();
    let (weak, listed) = (format!("W/{etag}"), format!("\"x\", {etag}, \"y\""));
    let (old, new) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 2100 23:59:59 GMT");
    let table: &[Row<'_>] = &[
        (&[("if-match", &etag)], 200, CONTENT),
        (&[("if-match", &listed)], 200, CONTENT),
        (&[("if-match", "*")], 200, CONTENT),
        (&[("if-match", &weak)], 412, ""),
        (&[("if-match", "\"other\"")], 412, ""),
        (&[("if-none-match", &etag)], 304, ""),
        (&[("if-none-match", &weak)], 304, ""),
        (&[("if-none-match", &listed)], 304, ""),
        (&[("if-none-match", "*")], 304, ""),
        (&[("if-none-match", "\"other\"")], 200, CONTENT),
        (&[("if-modified-since", &date)], 304, ""),
        (&[("if-modified-since", old)], 200, CONTENT),
        (&[("if-modified-since", "tomorrow")], 200, CONTENT),
        (&[("if-unmodified-since", &date)], 200, CONTENT),
        (&[("if-unmodified-since", old)], 412, ""),
        (&[("if-match", &etag), ("if-unmodified-since", old)], 200, CONTENT),
        (&[("if-none-match", "\"other\""), ("if-modified-since", new)], 200, CONTENT),
        (&[("if-none-match", &etag), ("range", "bytes=0-1")], 304, ""),
        (&[("if-match", "\"other\""), ("range", "bytes=0-1")], 412, ""),
        (&[("range", "bytes=0-3")], 206, "0123"),
        (&[("range", "bytes=7-")], 206, "789"),
        (&[("range", "bytes=-2")], 206, "89"),
        (&[("range", "bytes=-99")], 206, CONTENT),
        (&[("range", "bytes=8-99")], 206, "89"),
        (&[("range", "bytes=10-")], 416, ""),
        (&[("range", "bytes=-0")], 416, ""),
        (&[("range", "bytes=3-1")], 200, CONTENT),
        (&[("range", "bytes=x")], 200, CONTENT),
        (&[("range", "lines=1-2")], 200, CONTENT),
        (&[("range", "bytes=0-1"), ("if-range", &etag)], 206, "01"),
        (&[("range", "bytes=0-1"), ("if-range", "\"other\"")], 200, CONTENT),
        (&[("range", "bytes=0-1"), ("if-range", &weak)], 200, CONTENT),
        (&[("range", "bytes=0-1"), ("if-range", &date)], 206, "01"),
        (&[("range", "bytes=0-1"), ("if-range", new)], 200, CONTENT),
        (&[("range", "bytes=0-1"), ("range", "bytes=4-5")], 200, CONTENT),
    ];
    let address = stage.sidecar.http_addr();
    for (headers, status, body) in table {
        let answer = wire::raw(&address, "GET", "/m/k", headers).await?;
        assert_eq!((answer.status, answer.text().as_str()), (*status, *body), "{headers:?}");
        assert!(answer.complete, "{headers:?}");
        assert_eq!(answer.header("etag"), Some(etag.as_str()), "{headers:?}");
        match status {
            200 | 206 => assert_eq!(answer.header("content-type"), Some("text/x-digits"), "{headers:?}"),
            416 => assert_eq!(answer.header("content-range"), Some("bytes */10"), "{headers:?}"),
            _ => {}
        }
    }
    let part = wire::raw(&address, "GET", "/m/k", &[("range", "bytes=2-4")]).await?;
    assert_eq!((part.header("content-range"), part.header("content-length")), (Some("bytes 2-4/10"), Some("3")));
    // HEAD answers as the whole would be, and a Range means nothing to it.
    let head = wire::raw(&address, "HEAD", "/m/k", &[("range", "bytes=2-4")]).await?;
    assert_eq!((head.status, head.header("content-length")), (200, Some("10")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_several_ranges_come_as_multipart() -> Result<()> {
    let stage = Stage::new("r3-multipart").await?;
    stage.bucket.put("k", CONTENT, Some("text/x-digits")).await?;
    let answer =
        wire::raw(&stage.sidecar.http_addr(), "GET", "/m/k", &[("range", "bytes=0-1, 4-4, 20-30, -2")]).await?;
    assert_eq!(answer.status, 206);
    let content_type = answer.header("content-type").unwrap().to_owned();
    let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, body: &str| {
        format!("\r\n--{boundary}\r\nContent-Type: text/x-digits\r\nContent-Range: bytes {range}/10\r\n\r\n{body}")
    };
    let wanted = [part("0-1", "01"), part("4-4", "4"), part("8-9", "89"), format!("\r\n--{boundary}--\r\n")].concat();
    assert_eq!(answer.text(), wanted);
    assert_eq!(answer.header("content-length"), Some(wanted.len().to_string().as_str()));
    // Asking for more than there is gets the whole, once.
    let answer = wire::raw(&stage.sidecar.http_addr(), "GET", "/m/k", &[("range", "bytes=0-9,0-9")]).await?;
    assert_eq!((answer.status, answer.text().as_str()), (200, CONTENT));
    Ok(())
}
