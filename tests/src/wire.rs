//! One raw HTTP/1.1 request over a socket of its own.
//!
//! For what HTTP libraries would tidy up or hide: targets with `..`, `//` or odd escapes go out as
//! given, and a body that ends too early is an observation, not an error. Owns the little parsing
//! this takes: status line, headers, Content-Length and chunked bodies.
//!
//! Never follows, retries, decompresses or normalises anything.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than any answer a test waits for.
const LIMIT: Duration = Duration::from_secs(60);

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct RawResponse {
    /// The status.
    pub status: u16,
    /// The headers in their order and case.
    pub headers: Vec<(String, String)>,
    /// The body, chunks put together; what there was of it if it is not complete.
    pub body: Vec<u8>,
    /// Whether the body reached its Content-Length or its last chunk. A body with neither ends
    /// with the connection and counts as complete unless the connection was reset.
    pub complete: bool,
}

impl RawResponse {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text, lossily.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Sends a request without a body to `addr` (`host:port`) and reads the answer to its end.
///
/// `Host` is added unless given; `Connection: close` is always added.
pub async fn raw(addr: &str, method: &str, target: &str, headers: &[(&str, &str)]) -> Result<RawResponse> {
    timeout(LIMIT, exchange(addr, method, target, headers))
        .await
        .with_context(|| format!("{method} {target} took longer than {LIMIT:?}"))?
        .with_context(|| format!("{method} {target} at {addr}"))
}

async fn exchange(addr: &str, method: &str, target: &str, headers: &[(&str, &str)]) -> Result<RawResponse> {
    let mut stream = TcpStream::connect(addr).await.context("connecting")?;
    stream.set_nodelay(true).context("setting TCP_NODELAY")?;
    let mut request = format!("{method} {target} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request.push_str(&format!("Host: {addr}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("Connection: close\r\n\r\n");
    // A server may answer and close before it has read all: its answer still counts.
    let sent = stream.write_all(request.as_bytes()).await;
    let (bytes, ended) = read_to_end(&mut stream).await;
    if bytes.is_empty() {
        sent.context("sending")?;
        ended.context("reading")?;
        bail!("the connection was closed without an answer");
    }
    parse(&bytes, method == "HEAD", ended.is_ok())
}

async fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, std::io::Result<()>) {
    let mut bytes = Vec::new();
    // What was read before an error stays in the buffer.
    let ended = stream.read_to_end(&mut bytes).await;
    (bytes, ended.map(|_| ()))
}

fn parse(bytes: &[u8], head_only: bool, closed_in_order: bool) -> Result<RawResponse> {
    let mut rest = bytes;
    loop {
        let end = find(rest, b"\r\n\r\n").context("the headers do not end")?;
        let head = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 4..];
        let mut lines = head.split("\r\n");
        let status: u16 = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|status| status.parse().ok())
            .with_context(|| format!("no status line: {head:?}"))?;
        if (100..200).contains(&status) {
            continue;
        }
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').with_context(|| format!("not a header: {line:?}"))?;
                Ok((name.to_owned(), value.trim().to_owned()))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut response = RawResponse { status, headers, body: Vec::new(), complete: true };
        if head_only || status == 204 || status == 304 {
            return Ok(response);
        }
        let chunked =
            response.header("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"));
        if chunked {
            (response.body, response.complete) = unchunk(rest)?;
        } else if let Some(length) = response.header("content-length") {
            let length: usize = length.parse().context("reading Content-Length")?;
            response.complete = rest.len() >= length;
            response.body = rest[..rest.len().min(length)].to_vec();
        } else {
            response.complete = closed_in_order;
            response.body = rest.to_vec();
        }
        return Ok(response);
    }
}

/// The bytes of a chunked body and whether its last chunk was there.
fn unchunk(mut rest: &[u8]) -> Result<(Vec<u8>, bool)> {
    let mut body = Vec::new();
    loop {
        let Some(end) = find(rest, b"\r\n") else {
            return Ok((body, false));
        };
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(digits, 16).with_context(|| format!("not a chunk length: {line:?}"))?;
        rest = &rest[end + 2..];
        if length == 0 {
            // Trailers, if any, end with an empty line.
            let ended = rest.starts_with(b"\r\n") || find(rest, b"\r\n\r\n").is_some();
            return Ok((body, ended));
        }
        let there = rest.len().min(length);
        body.extend_from_slice(&rest[..there]);
        if rest.len() < length + 2 {
            return Ok((body, false));
        }
        rest = &rest[length + 2..];
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_end_too_early_are_not_complete() {
        let whole = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\nabc";
        let response = parse(whole, false, true).unwrap();
        assert_eq!((response.text().as_str(), response.complete), ("abc", true));
        assert_eq!(response.header("a"), Some("b"));
        assert!(!parse(&whole[..whole.len() - 1], false, true).unwrap().complete);

        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let response = parse(chunked, false, true).unwrap();
        assert_eq!((response.text().as_str(), response.complete), ("abc", true));
        for cut in 1..13 {
            let response = parse(&chunked[..chunked.len() - cut], false, true).unwrap();
            assert!(!response.complete, "without the last {cut} bytes");
        }
    }
}
