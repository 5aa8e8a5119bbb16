//! Writes what of `docs/` is made from code: `docs/METRICS.md`.

use std::path::Path;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
    std::fs::write(&file, remotemount_tests::metrics_page::page()?).with_context(|| format!("{}", file.display()))
}
