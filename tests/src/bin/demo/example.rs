//! What the demo takes from this checkout: above all `examples/remotemount.yaml`, the file a newcomer would copy.
//!
//! Owns reading it and putting the proxy's address in the place of its endpoint, which is all that is
//! changed. Bucket, path and secret are taken from it, so the demo shows what the file says. It is
//! read by the same code as in the sidecar: a file that is wrong is told of here.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use remotemount_crds::manifest;
use remotemount_tests::manifest::SECRET;

/// The example as it stands on disk, and what it says.
pub struct Example {
    /// Its path as people would name it.
    pub shown_path: String,
    /// The mount's name.
    pub name: String,
    /// Where the bucket appears.
    pub path: String,
    /// The bucket.
    pub bucket: String,
    /// The endpoint that stands in the file.
    pub endpoint: String,
    text: String,
}

impl Example {
    /// Reads the file of this checkout.
    pub fn read() -> Result<Example> {
        let shown_path = checkout("examples/remotemount.yaml")?;
        let file = Path::new(&shown_path);
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {shown_path}"))?;
        let mounts = manifest::parse(text.as_bytes()).with_context(|| shown_path.clone())?;
        let [mount] = mounts.as_slice() else { bail!("{shown_path}: one mount is expected, not {}", mounts.len()) };
        let s3 = mount.spec.remote.s3.as_ref().with_context(|| format!("{shown_path}: not a mount of S3"))?;
        let endpoint = s3.endpoint.clone().with_context(|| format!("{shown_path}: no endpoint to replace"))?;
        let secret = mount.spec.credentials.secret_ref.as_ref().map(|secret| secret.name.as_str());
        if secret != Some(SECRET) {
            bail!("{shown_path}: the demo's credentials are in the secret {SECRET:?}, not in {secret:?}");
        }
        Ok(Example {
            name: mount.metadata.name.clone().with_context(|| format!("{shown_path}: no name"))?,
            path: mount.spec.path.trim_end_matches('/').to_owned(),
            bucket: s3.bucket.clone(),
            endpoint,
            shown_path,
            text,
        })
    }

    /// The file's text with another endpoint.
    pub fn at(&self, endpoint: &str) -> Result<String> {
        if self.text.matches(&self.endpoint).count() != 1 {
            bail!("{}: {} stands there more than once", self.shown_path, self.endpoint);
        }
        Ok(self.text.replace(&self.endpoint, endpoint))
    }
}

/// A file or folder of this checkout, relative to the current folder where it lies below it.
pub fn checkout(path: &str) -> Result<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let file = file.canonicalize().with_context(|| format!("looking for {}", file.display()))?;
    let here = std::env::current_dir().and_then(|folder| folder.canonicalize()).unwrap_or_default();
    Ok(file.strip_prefix(&here).unwrap_or(&file).display().to_string())
}
