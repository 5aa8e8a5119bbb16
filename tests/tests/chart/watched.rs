//! Alerts and dashboard ask for metrics that exist, by labels and values that exist: docs/METRICS.md, which tests hold both
//! programs to, is the judge.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use promql_parser::label::{METRIC_NAME, MatchOp};
use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use remotemount_tests::helm::Helm;
use serde_json::{Value, json};

use crate::stage::{file, object, objects, render};

/// Labels that Prometheus adds.
const ADDED: [&str; 4] = ["namespace", "pod", "job", "le"];

/// A series, and the labels it has; a label's values where they are listed.
type Known = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// Every series of docs/METRICS.md.
fn known() -> Known {
    let text = std::fs::read_to_string(file("docs/METRICS.md")).unwrap();
    let mut known = Known::new();
    for line in text.lines().filter(|line| line.starts_with("| `remotemount_")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (name, kind) = (cells[1].trim_matches('`'), cells[2]);
        let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        // `mount`; `result` = `ok`, `error`
        for label in cells[3].split(';').filter(|label| label.contains('`')) {
            let mut words = label.split('`').skip(1).step_by(2).map(str::to_owned);
            labels.insert(words.next().unwrap(), words.collect());
        }
        let endings: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        known.extend(endings.iter().map(|ending| (format!("{name}{ending}"), labels.clone())));
    }
    known
}

struct Judge<'k> {
    known: &'k Known,
    asked: BTreeSet<String>,
}

impl Judge<'_> {
    fn judge(&mut self, selector: &VectorSelector) -> Result<()> {
        let name = selector.name.clone().context("a selector without a name")?;
        let labels = self.known.get(&name).with_context(|| format!("no metric {name} in docs/METRICS.md"))?;
        for matcher in &selector.matchers.matchers {
            if ADDED.contains(&matcher.name.as_str()) || matcher.name == METRIC_NAME {
                continue;
            }
            let values = labels.get(&matcher.name).with_context(|| format!("{name} has no label {}", matcher.name))?;
            // What Grafana puts there is the user's choice.
            let wanted: Vec<&str> = match matcher.op {
                MatchOp::Equal | MatchOp::NotEqual => vec![&matcher.value],
                _ => matcher.value.split('|').collect(),
            };
            for wanted in wanted.into_iter().filter(|wanted| !values.is_empty() && !wanted.starts_with('$')) {
                anyhow::ensure!(values.contains(wanted), "{name}: no {} is {wanted}", matcher.name);
            }
        }
        self.asked.insert(name);
        Ok(())
    }
}

impl ExprVisitor for Judge<'_> {
    type Error = anyhow::Error;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool> {
        match expression {
            Expr::VectorSelector(selector) => self.judge(selector)?,
            Expr::MatrixSelector(selector) => self.judge(&selector.vs)?,
            Expr::Aggregate(aggregate) => {
                // What is summed by has to be a label of something below.
                for label in aggregate.modifier.iter().flat_map(|modifier| &modifier.labels().labels) {
                    let known = self.known.values().any(|labels| labels.contains_key(label));
                    anyhow::ensure!(known || ADDED.contains(&label.as_str()), "no metric has a label {label}");
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

/// The metrics that an expression asks for.
fn asked(known: &Known, expression: &str) -> Result<BTreeSet<String>> {
    // What Grafana puts there.
    let plain = expression.replace("$__rate_interval", "5m");
    let parsed = parser::parse(&plain).map_err(|error| anyhow::anyhow!("{expression}: {error}"))?;
    let mut judge = Judge { known, asked: BTreeSet::new() };
    walk_expr(&mut judge, &parsed).with_context(|| expression.to_owned())?;
    anyhow::ensure!(!judge.asked.is_empty(), "{expression} asks for nothing");
    Ok(judge.asked)
}

/// The labels that an expression's sums leave.
fn kept(expression: &str) -> BTreeSet<String> {
    let sums = expression.split("by (").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    sums.flat_map(|labels| labels.split(',')).map(|label| label.trim().to_owned()).collect()
}

async fn rendered() -> Result<Vec<Value>> {
    let metrics =
        json!({"prometheusRule": {"enabled": true}, "podMonitor": {"enabled": true}, "dashboard": {"enabled": true}});
    let values = json!({"metrics": metrics, "sidecar": {"metrics": {"enabled": true}}});
    Ok(objects(&render(&Helm::new(None)?, &values).await?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_ask_for_what_there_is() -> Result<()> {
    let known = known();
    let rendered = rendered().await?;
    let rule = object(&rendered, "PrometheusRule", "remotemount");
    let groups = rule["spec"]["groups"].as_array().context("groups")?;
    let alerts: Vec<&Value> = groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
    assert!(alerts.len() >= 14, "{}", alerts.len());
    for alert in alerts {
        asked(&known, alert["expr"].as_str().context("expr")?)?;
        for field in ["summary", "description"] {
            let text = alert["annotations"][field].as_str().with_context(|| format!("{alert} has no {field}"))?;
            // A label that the text shows has to be left by the expression.
            let kept = kept(alert["expr"].as_str().unwrap());
            for (at, found) in text.match_indices("$labels.") {
                let label: String = text[at + found.len()..].chars().take_while(char::is_ascii_alphanumeric).collect();
                assert!(kept.contains(&label), "{alert}: {label} is summed away");
            }
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_asks_for_what_there_is() -> Result<()> {
    let known = known();
    let rendered = rendered().await?;
    let map = object(&rendered, "ConfigMap", "remotemount-dashboard");
    let dashboard: Value = serde_json::from_str(map["data"]["remotemount.json"].as_str().context("a dashboard")?)?;
    let mut shown = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().context("panels")? {
        assert!(ids.insert(panel["id"].to_string()), "{panel}: an id of its own");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().context("expr")?;
            shown.extend(asked(&known, expression)?);
            let legend = target["legendFormat"].as_str().context("a legend")?;
            for label in legend.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0)) {
                assert!(kept(expression).contains(label), "{target}: {label} is summed away");
            }
        }
    }
    // Nothing that either program counts is left out.
    let base =
        |name: &String| name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count").to_owned();
    let shown: BTreeSet<String> = shown.iter().map(base).collect();
    let counted: BTreeSet<String> = known.keys().map(base).collect();
    let missing: Vec<&String> = counted.difference(&shown).collect();
    assert!(missing.is_empty(), "not on the dashboard: {missing:?}");
    Ok(())
}

#[test]
fn the_judge_finds_what_is_wrong() {
    let known = known();
    assert!(known["remotemount_operator_reconciles_total"]["outcome"].contains("error"), "{known:?}");
    assert!(known["remotemount_operator_control_refusals_total"]["reason"].contains("PodGone"), "{known:?}");
    let labels: Vec<&String> = known["remotemount_remote_requests_total"].keys().collect();
    assert_eq!(labels, ["mount", "operation", "result"]);
    let good =
        "sum by (outcome) (rate(remotemount_operator_reconciles_total{outcome=\"error\", namespace=\"x\"}[5m])) > 0";
    assert_eq!(asked(&known, good).unwrap().len(), 1);
    for (wrong, told) in [
        ("rate(remotemount_operator_reconciles[5m])", "no metric"),
        ("remotemount_operator_leader", "no metric"),
        ("remotemount_operator_reconciles_total{result=\"error\"}", "no label result"),
        ("remotemount_operator_reconciles_total{outcome=\"failed\"}", "no outcome is failed"),
        ("remotemount_deletes_total{result=~\"failed|lost\"}", "no result is lost"),
        ("sum by (mounts) (remotemount_operator_leads)", "no metric has a label mounts"),
        ("sum(remotemount_operator_leads", "sum("),
        ("vector(1)", "asks for nothing"),
    ] {
        let error = format!("{:#}", asked(&known, wrong).unwrap_err());
        assert!(error.contains(told), "{wrong}: {error}");
    }
}
