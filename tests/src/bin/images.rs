//! Writes `dist/operator.tar` and `dist/sidecar.tar`: the images of the Dockerfile, without Docker.
//!
//! The programs come from `make programs`, the certificates of public authorities from this machine, as they come
//! from the build stage there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use remotemount_tests::dockerfile;

const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(root.join("Dockerfile")).context("reading the Dockerfile")?;
    let dist = root.join("dist");
    let built = BTreeMap::from([
        (CERTIFICATES, PathBuf::from(CERTIFICATES)),
        ("/out/remotemount-operator", dist.join("remotemount-operator")),
        ("/out/remotemount-sidecar", dist.join("remotemount-sidecar")),
    ]);
    for stage in ["operator", "sidecar"] {
        let name = format!("remotemount-{stage}:{}", env!("CARGO_PKG_VERSION"));
        let image = dockerfile::image(&text, stage, &name, &built)?;
        let file = dist.join(format!("{stage}.tar"));
        let written = image.archive(&file).with_context(|| format!("the image {name}"))?;
        let mib = written.pulled as f64 / f64::from(1 << 20);
        println!("dist/{stage}.tar  {name}  {}  {mib:.1} MiB to pull", written.digest);
    }
    Ok(())
}
