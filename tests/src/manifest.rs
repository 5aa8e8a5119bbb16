//! A RemoteMount manifest, written as the one who mounts a bucket would write it.
//!
//! Owns the YAML's shape and the defaults the tests mean by "a plain mount". Every string is quoted,
//! so odd names, paths and prefixes reach the sidecar as given.
//!
//! Never checks anything: wrong manifests are tests too.

/// The secret the manifests name unless told otherwise.
pub const SECRET: &str = "s3-creds";
/// The secret of someone whom bucket policies bind; every sidecar of the tests has it.
pub const PLAIN_SECRET: &str = "s3-plain";

/// A manifest under construction.
#[derive(Debug, Clone)]
pub struct Manifest {
    name: String,
    path: String,
    bucket: String,
    endpoint: String,
    prefix: String,
    secret: String,
    ttl: u64,
    negative_ttl: u64,
    listing_ttl: u64,
    stale_if_error: Option<u64>,
    timeout: Option<u64>,
    spec_lines: Vec<String>,
}

impl Manifest {
    /// The mount `name` of a bucket's `prefix` (may be empty) at `path`.
    pub fn new(name: &str, path: &str, bucket: &str, endpoint: &str, prefix: &str) -> Manifest {
        Manifest {
            name: name.to_owned(),
            path: path.to_owned(),
            bucket: bucket.to_owned(),
            endpoint: endpoint.to_owned(),
            prefix: prefix.to_owned(),
            secret: SECRET.to_owned(),
            ttl: 300,
            negative_ttl: 10,
            listing_ttl: 60,
            stale_if_error: None,
            timeout: None,
            spec_lines: Vec::new(),
        }
    }

    /// The mount's name, which is also its file's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The secret with the credentials.
    pub fn secret(mut self, secret: &str) -> Manifest {
        self.secret = secret.to_owned();
        self
    }

    /// `spec.metadata.ttlSeconds`
    pub fn ttl_seconds(mut self, seconds: u64) -> Manifest {
        self.ttl = seconds;
        self
    }

    /// `spec.metadata.negativeTTLSeconds`
    pub fn negative_ttl_seconds(mut self, seconds: u64) -> Manifest {
        self.negative_ttl = seconds;
        self
    }

    /// `spec.metadata.listingTTLSeconds`
    pub fn listing_ttl_seconds(mut self, seconds: u64) -> Manifest {
        self.listing_ttl = seconds;
        self
    }

    /// `spec.metadata.staleIfErrorSeconds`
    pub fn stale_if_error_seconds(mut self, seconds: u64) -> Manifest {
        self.stale_if_error = Some(seconds);
        self
    }

    /// `spec.remote.timeoutSeconds`
    pub fn timeout_seconds(mut self, seconds: u64) -> Manifest {
        self.timeout = Some(seconds);
        self
    }

    /// `spec.deletePolicy`
    pub fn delete_policy(self, policy: &str) -> Manifest {
        self.spec_line(&format!("deletePolicy: {policy}"))
    }

    /// A line of YAML under `spec`, such as `readOnly: true`; later lines may be indented further.
    pub fn spec_line(mut self, line: &str) -> Manifest {
        self.spec_lines.push(line.to_owned());
        self
    }

    /// The manifest as YAML.
    pub fn to_yaml(&self) -> String {
        let mut lines = vec![
            "apiVersion: remotemount.dev/v1alpha1".to_owned(),
            "kind: RemoteMount".to_owned(),
            format!("metadata: {{name: {}}}", quote(&self.name)),
            "spec:".to_owned(),
            format!("  path: {}", quote(&self.path)),
            "  remote:".to_owned(),
        ];
        lines.extend(self.timeout.map(|seconds| format!("    timeoutSeconds: {seconds}")));
        lines.push("    s3:".to_owned());
        lines.push(format!("      bucket: {}", quote(&self.bucket)));
        if !self.prefix.is_empty() {
            lines.push(format!("      prefix: {}", quote(&self.prefix)));
        }
        lines.push(format!("      endpoint: {}", quote(&self.endpoint)));
        lines.push("      region: \"us-east-1\"".to_owned());
        lines.push("      addressing: \"Path\"".to_owned());
        lines.push("  credentials:".to_owned());
        lines.push(format!("    secretRef: {{name: {}}}", quote(&self.secret)));
        lines.push("  metadata:".to_owned());
        lines.push(format!("    ttlSeconds: {}", self.ttl));
        lines.push(format!("    negativeTTLSeconds: {}", self.negative_ttl));
        lines.push(format!("    listingTTLSeconds: {}", self.listing_ttl));
        lines.extend(self.stale_if_error.map(|seconds| format!("    staleIfErrorSeconds: {seconds}")));
        lines.extend(self.spec_lines.iter().map(|line| format!("  {line}")));
        lines.join("\n") + "\n"
    }
}

/// A JSON string is a double-quoted YAML string.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
