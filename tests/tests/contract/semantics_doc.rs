//! `docs/SEMANTICS.md` and the tests say the same: each paragraph has its tests, each such test its paragraph.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result};
use remotemount_tests::proxy::count::Operation;
use remotemount_tests::proxy::faults::{Action, Rule};
use remotemount_tests::s3_server::Kind;

use crate::stage::Stage;

#[test]
fn every_paragraph_has_its_tests() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("../docs/SEMANTICS.md"))?;
    let named: BTreeSet<String> =
        document.split('`').filter(|word| is_contract_test(word)).map(str::to_owned).collect();
    let mut written = BTreeSet::new();
    for file in std::fs::read_dir(root.join("tests/contract"))? {
        let source = std::fs::read_to_string(file?.path())?;
        let functions = source.split("fn ").skip(1).filter_map(|rest| rest.split('(').next());
        written.extend(functions.filter(|name| is_contract_test(name)).map(str::to_owned));
    }
    assert!(written.len() > 20, "{written:?}");
    assert_eq!(named, written, "left: the document, right: the tests");
    Ok(())
}

/// `m1_…`, `l7_…`, `d2_…`, `r3_…`, `x1_…`, `e1_…`
fn is_contract_test(name: &str) -> bool {
    let mut chars = name.chars();
    let (letter, digit, bar) = (chars.next(), chars.next(), chars.next());
    letter.is_some_and(|c| "mldrxe".contains(c)) && digit.is_some_and(|c| c.is_ascii_digit()) && bar == Some('_')
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_documented() -> Result<()> {
    let stage = Stage::with(Kind::Weed, "metrics-doc", |m| m.delete_policy("Propagate")).await?;
    // A family without a sample does not show.
    stage.head("/m/nothing").await?;
    stage.bucket.put("kept", "x", None).await?;
    stage.proxy.inject(Rule::new(Action::error(403, "AccessDenied")).operation(Operation::Delete));
    assert_eq!(stage.client.delete(stage.sidecar.http_url("/m/kept")).send().await?.status(), 403);
    let text = stage.client.get(stage.sidecar.admin_url("/metrics")).send().await?.text().await?;
    let served: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let document = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md"))?;
    let (document, _) = document.split_once("\n## The operator\n").context("no part about the operator")?;
    let words = document.split('`').filter(|word| word.starts_with("remotemount_"));
    let documented: BTreeSet<&str> = words.map(|word| word.trim_end_matches("_total")).collect();
    assert_eq!(documented, served, "left: docs/METRICS.md, right: /metrics");
    Ok(())
}
