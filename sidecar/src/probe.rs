//! `probe`: asks a sidecar's admin port and ends with the answer, for the kubelet's exec probes and hooks.
//!
//! The admin port listens on loopback, where the kubelet cannot ask it; a command in the container can.
//! One request by hand over a plain socket: a probe runs every few seconds in every pod, so it starts no
//! runtime and no HTTP client. What it prints is what `kubectl describe` shows of a failed probe.

use std::io::{Read as _, Write as _};
use std::net::{AddrParseError, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// How long all of it may take; below the kubelet's own limit, so that the reason is told.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between two questions, where the answer is waited for.
const PAUSE: Duration = Duration::from_millis(20);
/// How much of an answer is read.
const MAX_BYTES: u64 = 64 << 10;

/// An address to ask, where one of IPv4 may be in brackets, too: whoever fills in a host need not know its kind.
///
/// # Errors
/// When it is none.
pub fn address(text: &str) -> Result<SocketAddr, AddrParseError> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let four = bare.and_then(|(host, port)| format!("{}{port}", host.parse::<Ipv4Addr>().ok()?).parse().ok());
    four.map_or_else(|| text.parse(), Ok)
}

/// Asks for `path` at `admin`, again and again for as long as `wait`, until the answer is 200.
///
/// # Errors
/// The last answer, when it is not 200, or there is none.
pub fn until(admin: SocketAddr, path: &str, wait: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        match probe(admin, path) {
            Err(_) if begun.elapsed() < wait => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
}

/// Asks for `path` at `admin`.
///
/// # Errors
/// When the answer is not 200, or there is none.
pub fn probe(admin: SocketAddr, path: &str) -> anyhow::Result<()> {
    if !path.starts_with('/') || path.contains(|c: char| c.is_ascii_whitespace() || c.is_control()) {
        bail!("--path {path:?}: must begin with '/' and hold no spaces");
    }
    let asked = || format!("http://{admin}{path}");
    let answer = ask(admin, path).with_context(asked)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split_ascii_whitespace().nth(1) {
        Some("200") => Ok(()),
        Some(status) => bail!("{} answers {status}: {}", asked(), body.trim()),
        None => bail!("{} does not speak HTTP", asked()),
    }
}

fn ask(admin: SocketAddr, path: &str) -> std::io::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let left = || Some(deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_write_timeout(left())?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").as_bytes())?;
    stream.set_read_timeout(left())?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one connection with `answer`.
    fn server(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /readyz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn an_address_of_either_kind_may_be_in_brackets() {
        for (text, wanted) in [
            ("10.0.0.1:80", Some("10.0.0.1:80")),
            ("[10.0.0.1]:80", Some("10.0.0.1:80")),
            ("[::1]:80", Some("[::1]:80")),
            ("::1:80", None),
            ("[10.0.0.1:80", None),
            ("[10.0.0.1]", None),
            ("[]:80", None),
        ] {
            assert_eq!(address(text).ok().map(|address| address.to_string()).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn only_200_is_well() {
        assert!(probe(server("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nready\n"), "/readyz").is_ok());
        let cases = [
            ("HTTP/1.1 503 Service Unavailable\r\n\r\ndraining\n", "answers 503: draining"),
            ("SSH-2.0-what\r\n", "does not speak HTTP"),
            ("", "does not speak HTTP"),
        ];
        for (answer, told) in cases {
            let error = format!("{:#}", probe(server(answer), "/readyz").unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn an_answer_is_waited_for_and_no_longer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for answer in ["HTTP/1.1 503 Later\r\n\r\nnot yet\n", "", "HTTP/1.1 200 OK\r\n\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 512]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        assert!(until(address, "/readyz", Duration::from_secs(60)).is_ok());
        server.join().unwrap();
        assert!(until(address, "/readyz", Duration::from_millis(50)).is_err(), "nobody is there any more");
    }

    #[test]
    fn nobody_there_is_told() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = format!("{:#}", probe(free, "/healthz").unwrap_err());
        assert!(error.contains(&format!("http://{free}/healthz: ")), "{error}");
        for path in ["readyz", "/a b", "/\r\nHost: x"] {
            assert!(probe(free, path).is_err_and(|error| error.to_string().contains("--path")), "{path:?}");
        }
    }
}
