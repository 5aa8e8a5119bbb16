//! `docs/METRICS.md`, from what the two programs register.
//!
//! Names, types, help and label names are read from the registries as they would be served; the values of a
//! label are the closed sets of the code that counts. A family without a sample is not served, so each is
//! given one here, and one that was forgotten is an error, as is a label whose values nobody knows.
//!
//! Never writes a file and needs no server: the page is a text, the same for the same code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use prometheus_client::registry::Registry;
use remotemount_operator::control::authenticate::Refusal;
use remotemount_operator::control::metrics::ControlMetrics;
use remotemount_operator::metrics::Metrics as OperatorMetrics;
use remotemount_operator::webhook::metrics::Outcome;
use remotemount_sidecar::doors::grpc::tally;
use remotemount_sidecar::filer::FilerError;
use remotemount_sidecar::link::error::LinkError;
use remotemount_sidecar::metrics::{DeleteResult, LinkMetrics, Metrics, RemoteMetrics};
use remotemount_sidecar::remote::{ErrorKind, Operation};

/// One metric family.
#[derive(Clone, Debug)]
pub struct Family {
    /// As it is asked for: with `_total` where it counts.
    pub series: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// One sentence.
    pub help: String,
    /// Its labels, in order, each with the values it may have; `None` where that set is open.
    pub labels: Vec<(String, Option<Vec<String>>)>,
}

/// What the sidecar serves, by name.
///
/// # Errors
/// When a family has no sample, or a label's values are not known.
pub fn sidecar() -> Result<Vec<Family>> {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    let mount = metrics.mount("m");
    for result in DeleteResult::ALL {
        mount.deletes.ended(result, FilerError::DELETE_REASONS[0]);
    }
    metrics.remote("m").answered(Operation::Stat, None, Duration::ZERO);
    metrics.remote("m").cancelled(Operation::Stat, Duration::ZERO);
    metrics.show_intents("m", 0, None);
    let _doors = (metrics.http(), metrics.grpc());
    families(&registry)
}

/// What the operator serves, by name.
///
/// # Errors
/// As [`sidecar`].
pub fn operator() -> Result<Vec<Family>> {
    let mut registry = Registry::default();
    let (own, injections, control) = remotemount_operator::metrics::register(&mut registry);
    own.reconciled(Duration::ZERO, true);
    for outcome in Outcome::ALL {
        outcome.reasons().iter().for_each(|reason| injections.count(outcome, reason));
    }
    Refusal::ALL.into_iter().for_each(|refusal| control.refused(refusal.as_str()));
    ControlMetrics::HANDSHAKE_FAILURES.into_iter().for_each(|reason| control.handshake_failed(reason));
    families(&registry)
}

/// The values that a label of a series may have; the inner `None` where their set is open.
fn values(series: &str, label: &str) -> Option<Option<Vec<String>>> {
    let kinds = || ErrorKind::ALL.map(ErrorKind::as_str);
    let values: Vec<&str> = match (series, label) {
        (_, "mount") | ("remotemount_http_requests_total", "code") => return Some(None),
        (_, "operation") => Operation::ALL.map(Operation::as_str).to_vec(),
        ("remotemount_lookups_total", "result") => Metrics::LOOKUPS.to_vec(),
        ("remotemount_listings_total", "result") => Metrics::LISTINGS.to_vec(),
        ("remotemount_remote_requests_total", "result") => RemoteMetrics::ENDS.into_iter().chain(kinds()).collect(),
        ("remotemount_deletes_total", "result") => DeleteResult::ALL.map(DeleteResult::as_str).to_vec(),
        ("remotemount_delete_failures_total", "reason") => FilerError::DELETE_REASONS.to_vec(),
        ("remotemount_grpc_requests_total", "method") => tally::methods().collect(),
        ("remotemount_grpc_requests_total", "code") => tally::codes().collect(),
        ("remotemount_control_attempts_total", "result") => {
            [LinkMetrics::OK].into_iter().chain(LinkError::KINDS).collect()
        }
        ("remotemount_control_manifests_total", "result") => LinkMetrics::MANIFESTS.to_vec(),
        ("remotemount_operator_reconciles_total", "outcome") => OperatorMetrics::OUTCOMES.to_vec(),
        ("remotemount_operator_injections_total", "result") => Outcome::ALL.map(Outcome::as_str).to_vec(),
        ("remotemount_operator_injections_total", "reason") => {
            let all = Outcome::ALL.into_iter().flat_map(Outcome::reasons).copied();
            all.collect::<BTreeSet<_>>().into_iter().collect()
        }
        ("remotemount_operator_control_refusals_total", "reason") => Refusal::ALL.map(Refusal::as_str).to_vec(),
        ("remotemount_operator_control_handshake_failures_total", "reason") => {
            ControlMetrics::HANDSHAKE_FAILURES.to_vec()
        }
        _ => return None,
    };
    Some(Some(values.into_iter().map(str::to_owned).collect()))
}

fn families(registry: &Registry) -> Result<Vec<Family>> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    let mut families = BTreeMap::new();
    for block in text.split("# HELP ").skip(1) {
        let family = family(block).with_context(|| format!("in {block:?}"))?;
        families.insert(family.series.clone(), family);
    }
    // One without a sample is declared all the same, and shows in nothing but this.
    let declared = format!("{registry:?}").matches("Descriptor {").count();
    let shown: Vec<_> = families.keys().collect();
    ensure!(shown.len() == declared, "{declared} metrics are declared and {shown:?} have a sample: give one here");
    Ok(families.into_values().collect())
}

/// From `name help.\n# TYPE name kind\nsamples…`.
fn family(block: &str) -> Result<Family> {
    let mut lines = block.lines();
    let (name, help) = lines.next().and_then(|line| line.split_once(' ')).context("no help")?;
    let kind = lines.next().and_then(|line| line.rsplit(' ').next()).context("no type")?;
    let series = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
    let mut seen: Vec<(String, BTreeSet<String>)> = Vec::new();
    for (labels, _) in lines.filter_map(|line| line.split_once('{')?.1.split_once('}')) {
        for (label, value) in labels.split(',').filter_map(|label| label.split_once('=')) {
            if label == "le" {
                continue;
            }
            let value = value.trim_matches('"').to_owned();
            match seen.iter_mut().find(|(known, _)| known == label) {
                Some((_, values)) => drop(values.insert(value)),
                None => seen.push((label.to_owned(), BTreeSet::from([value]))),
            }
        }
    }
    let mut labels = Vec::with_capacity(seen.len());
    for (label, seen) in seen {
        let known = values(&series, &label).with_context(|| format!("whose values of {label} are not known here"))?;
        let stranger = known.as_ref().and_then(|known| seen.iter().find(|value| !known.contains(value)));
        ensure!(stranger.is_none(), "whose {label} is {stranger:?}, which is not declared");
        labels.push((label, known));
    }
    Ok(Family { series, kind: kind.to_owned(), help: help.trim_end_matches('.').to_owned(), labels })
}

/// The page.
///
/// # Errors
/// As [`sidecar`].
pub fn page() -> Result<String> {
    let mut page = String::from(HEAD);
    table(&mut page, &sidecar()?)?;
    page.push_str(OPERATOR);
    table(&mut page, &operator()?)?;
    page.push_str(
        "\n`reason` of `remotemount_operator_injections_total`, by `result`; empty where there is nothing to say:\n\n",
    );
    for outcome in Outcome::ALL.into_iter().filter(|outcome| outcome.reasons() != [""]) {
        let reasons = outcome.reasons().iter().filter(|reason| !reason.is_empty());
        writeln!(page, "- `{}`: {}", outcome.as_str(), code(reasons.map(|reason| (*reason).to_owned())))?;
    }
    Ok(page)
}

const HEAD: &str = "\
<!-- Written by `make docs` from what the programs register. Edit the help texts in sidecar/src/metrics.rs and
operator/src/metrics.rs, not this page. -->

# Metrics

Every metric of both programs, at `/metrics` of the admin port, in the OpenMetrics text format. Names and labels are API. No label
holds a path or a key. How to scrape them, and what to ask: [guide/metrics.md](guide/metrics.md).

A histogram has the series `…_bucket`, `…_sum` and `…_count`. `mount` is the name of a RemoteMount.

## The sidecar

";

const OPERATOR: &str = "
## The operator

No label holds the name of a mount, a pod or a namespace: the number of series does not grow with the cluster. A mount's own state is
in its status. `remotemount_operator_control_…` is of the replica that leads; the others have no sidecars.

";

fn table(page: &mut String, families: &[Family]) -> Result<()> {
    page.push_str("| metric | type | labels | what it says |\n|---|---|---|---|\n");
    for Family { series, kind, help, labels } in families {
        let labels = labels.iter().map(|(label, values)| match values {
            // Said in the text, or below the table where it depends on another label.
            None => format!("`{label}`"),
            Some(values) if values.iter().any(String::is_empty) => format!("`{label}`"),
            Some(values) => format!("`{label}` = {}", code(values.iter().cloned())),
        });
        let labels: Vec<_> = labels.collect();
        let labels = if labels.is_empty() { "–".to_owned() } else { labels.join("; ") };
        writeln!(page, "| `{series}` | {kind} | {labels} | {help} |")?;
    }
    Ok(())
}

fn code(words: impl Iterator<Item = String>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
