//! The rules of [`crate::remote_mount`] as plain Rust, for readers that have no API server.
//!
//! Each rule has a CEL twin beside its field; `tests/tests/crd.rs` runs both over one table of
//! documents and asserts one answer. Rules about a change have no twin: only the API server sees both
//! the old and the new document. A [`Problem`] names the field and says what to change. Pure.

use crate::{Credentials, Expose, Metadata, Remote, RemoteMountSpec, S3Remote};

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field, as a path from the document's root: `spec.remote.s3.bucket`.
    pub field: String,
    /// What is wrong and what to change.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Everything that is wrong with `spec`; empty when it can be served.
#[must_use]
pub fn validate(spec: &RemoteMountSpec) -> Vec<Problem> {
    if let Some(problem) = &spec.unreadable {
        // What was filled in for it is nobody's word.
        return vec![problem.clone()];
    }
    let mut problems = Problems::default();
    path(&spec.path, &mut problems);
    remote(&spec.remote, &mut problems);
    credentials(&spec.credentials, &mut problems);
    metadata(&spec.metadata, &mut problems);
    problems.check(
        quantity(&spec.cache.size_limit) && spec.cache.size_limit.len() <= 32,
        "spec.cache.sizeLimit",
        "sizeLimit must be a quantity such as 512Mi or 1Gi",
    );
    expose(&spec.expose, &mut problems);
    problems.0
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn check(&mut self, holds: bool, field: &str, message: &str) {
        if !holds {
            self.0.push(Problem { field: field.to_owned(), message: message.to_owned() });
        }
    }

    fn within(&mut self, value: i64, low: i64, high: i64, field: &str) {
        if !(low..=high).contains(&value) {
            let name = field.rsplit('.').next().unwrap_or(field);
            self.check(false, field, &format!("{name} must be from {low} to {high}; it is {value}"));
        }
    }

    fn length(&mut self, value: &str, low: usize, high: usize, field: &str) {
        let length = value.chars().count();
        if !(low..=high).contains(&length) {
            self.check(false, field, &format!("must be {low} to {high} characters long; it has {length}"));
        }
    }
}

fn path(path: &str, problems: &mut Problems) {
    let field = "spec.path";
    problems.length(path, 1, 512, field);
    let body = path.strip_prefix('/');
    let whole = body.is_some_and(|body| {
        let body = body.strip_suffix('/').unwrap_or(body);
        path == "/" || (!body.is_empty() && body.split('/').all(|s| !s.is_empty())) && !path.contains('\0')
    });
    problems.check(
        whole,
        field,
        "path must be absolute and without empty segments: begin it with one '/' and remove any '//'",
    );
    problems.check(
        !path.split('/').any(|segment| segment == "." || segment == ".."),
        field,
        "path must not have '.' or '..' as a segment: write the path they stand for",
    );
}

fn remote(remote: &Remote, problems: &mut Problems) {
    let named = [remote.s3.is_some(), remote.gcs.is_some(), remote.azure.is_some()];
    let count = named.iter().filter(|set| **set).count();
    problems.check(count == 1, "spec.remote", "remote must name exactly one of s3, gcs and azure");
    problems.within(remote.timeout_seconds, 1, 300, "spec.remote.timeoutSeconds");
    if let Some(remote) = &remote.s3 {
        s3(remote, problems);
    }
    if let Some(gcs) = &remote.gcs {
        problems.length(&gcs.bucket, 3, 222, "spec.remote.gcs.bucket");
        problems.length(&gcs.prefix, 0, 900, "spec.remote.gcs.prefix");
    }
    if let Some(azure) = &remote.azure {
        problems.length(&azure.account, 3, 24, "spec.remote.azure.account");
        problems.length(&azure.container, 3, 63, "spec.remote.azure.container");
        problems.length(&azure.prefix, 0, 900, "spec.remote.azure.prefix");
    }
}

fn s3(s3: &S3Remote, problems: &mut Problems) {
    let bucket = &s3.bucket;
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    problems.check(
        (2..=255).contains(&bucket.len())
            && bucket.chars().all(word)
            && bucket.starts_with(|c: char| c.is_ascii_alphanumeric()),
        "spec.remote.s3.bucket",
        "bucket must be a bucket name: letters, digits, '.', '_' and '-', two or more, no path",
    );
    let prefix = &s3.prefix;
    problems.length(prefix, 0, 900, "spec.remote.s3.prefix");
    problems.check(
        !prefix.starts_with('/')
            && !prefix.contains("//")
            && !prefix.contains('\0')
            && !prefix.split('/').any(|segment| segment == "." || segment == ".."),
        "spec.remote.s3.prefix",
        "prefix must not begin with '/' nor hold '//', '.' or '..' segments: no path could name its keys",
    );
    if let Some(endpoint) = &s3.endpoint {
        problems.check(
            endpoint.len() <= 512 && is_endpoint(endpoint),
            "spec.remote.s3.endpoint",
            "endpoint must be a URL such as https://s3.example.com:9000: a host, a port from 1 to 65535 if any, no path, query or user",
        );
    }
    if let Some(region) = &s3.region {
        problems.length(region, 0, 64, "spec.remote.s3.region");
        // What cannot stand in a header cannot be signed for.
        problems.check(
            region.chars().all(word),
            "spec.remote.s3.region",
            "region must be a name such as eu-central-1: letters, digits, '.', '_' and '-'",
        );
    }
    if let Some(source) = &s3.ca_bundle {
        problems.length(&source.config_map_key_ref.name, 1, 253, "spec.remote.s3.caBundle.configMapKeyRef.name");
        problems.length(&source.config_map_key_ref.key, 1, 253, "spec.remote.s3.caBundle.configMapKeyRef.key");
    }
}

fn is_endpoint(endpoint: &str) -> bool {
    let authority = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
    let Some(authority) = authority.map(|authority| authority.strip_suffix('/').unwrap_or(authority)) else {
        return false;
    };
    let (host, rest) = match authority.strip_prefix('[').and_then(|six| six.split_once(']')) {
        Some((host, rest)) => (host.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c)).then_some(host), rest),
        None => {
            let (host, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let stray = |c: char| "[]/?#@".contains(c) || c.is_ascii_whitespace() || c == '\x0b';
            ((!host.contains(stray)).then_some(host), rest)
        }
    };
    let port = match rest.strip_prefix(':') {
        Some(port) => port.starts_with(|c: char| c.is_ascii_digit() && c != '0') && port.parse::<u16>().is_ok(),
        None => rest.is_empty(),
    };
    host.is_some_and(|host| !host.is_empty()) && port
}

fn credentials(credentials: &Credentials, problems: &mut Problems) {
    let named =
        [credentials.secret_ref.is_some(), credentials.workload_identity.is_some(), credentials.anonymous.is_some()];
    problems.check(
        named.iter().filter(|set| **set).count() == 1,
        "spec.credentials",
        "credentials must name exactly one of secretRef, workloadIdentity and anonymous",
    );
    if let Some(secret) = &credentials.secret_ref {
        let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let name = &secret.name;
        problems.check(
            name.len() <= 253
                && name.starts_with(edge)
                && name.ends_with(edge)
                && name.chars().all(|c| edge(c) || c == '-' || c == '.'),
            "spec.credentials.secretRef.name",
            "secretRef.name must be the name of a Secret: lower-case letters, digits, '-' and '.'",
        );
    }
}

fn metadata(metadata: &Metadata, problems: &mut Problems) {
    const YEAR: i64 = 31_536_000;
    problems.within(metadata.ttl_seconds, 0, YEAR, "spec.metadata.ttlSeconds");
    problems.within(metadata.negative_ttl_seconds, 0, 86_400, "spec.metadata.negativeTTLSeconds");
    problems.within(metadata.listing_ttl_seconds, 0, YEAR, "spec.metadata.listingTTLSeconds");
    problems.within(metadata.stale_if_error_seconds, 0, YEAR, "spec.metadata.staleIfErrorSeconds");
    problems.within(metadata.max_entries, 1000, 100_000_000, "spec.metadata.maxEntries");
}

fn expose(expose: &Expose, problems: &mut Problems) {
    let doors = [("http", expose.http), ("s3", expose.s3), ("grpc", expose.grpc)];
    for (name, door) in doors {
        if let Some(door) = door {
            problems.within(i64::from(door.port), 1, 65_535, &format!("spec.expose.{name}.port"));
        }
    }
    let mut ports: Vec<i32> = doors.iter().filter_map(|(_, door)| door.map(|door| door.port)).collect();
    ports.sort_unstable();
    problems.check(
        ports.windows(2).all(|pair| pair[0] != pair[1]),
        "spec.expose",
        "http, s3 and grpc must have different ports",
    );
    if let Some(fuse) = &expose.fuse {
        let second = fuse.mount_path.strip_prefix('/').and_then(|rest| rest.chars().next());
        problems.check(
            second.is_some_and(|c| c != '/') && fuse.mount_path.chars().count() <= 512,
            "spec.expose.fuse.mountPath",
            "mountPath must be absolute and not '/'",
        );
    }
}

/// Whether `text` is a quantity of bytes: digits, an optional fraction, an optional suffix.
fn quantity(text: &str) -> bool {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = &text[number.len()..];
    let suffixes = ["", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let digits = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    let whole = match number.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(number),
    };
    whole && suffixes.contains(&suffix)
}
