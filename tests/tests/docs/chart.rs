//! Values and alerts of the chart that the guide names are there, and every alert is named.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::pages::{self, Page};

fn chart(file: &str) -> Value {
    let path = pages::root().join("charts/remotemount").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap()
}

/// Whether the chart has a value of that path; below an empty map or list anything may be.
fn has(values: &Value, path: &str) -> bool {
    let mut at = values;
    for segment in path.split('.') {
        let segment = segment.split('[').next().unwrap_or(segment);
        match at {
            Value::Object(map) if map.is_empty() => return true,
            Value::Array(_) => return true,
            _ => {}
        }
        let Some(below) = at.get(segment) else { return false };
        at = below;
    }
    true
}

/// The values that a page names: what `--set` sets, and words in code type that begin like one.
fn named(page: &Page, values: &Value) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for set in page.text.split("--set ").skip(1) {
        let set = set.trim_start_matches('\'').split([' ', '\n', '`', '\'']).next().unwrap_or_default();
        named.extend(set.split(',').filter_map(|part| Some(part.split_once('=')?.0.to_owned())));
    }
    for word in page.text.split('`').skip(1).step_by(2) {
        let word = word.split('=').next().unwrap_or(word);
        let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
        let first = word.split_once('.').map(|(first, _)| first);
        if plain && first.is_some_and(|first| values.get(first).is_some()) {
            named.insert(word.to_owned());
        }
    }
    named
}

#[test]
fn every_value_that_is_named_is_there() {
    let values = chart("values.yaml");
    let (mut strangers, mut looked_at) = (Vec::new(), 0);
    for page in pages::guide().into_iter().chain([pages::page("README.md")]) {
        for value in named(&page, &values) {
            looked_at += 1;
            if !has(&values, &value) {
                strangers.push(format!("{}: {value}", page.path.display()));
            }
        }
    }
    assert!(looked_at > 15, "{looked_at} values");
    assert!(strangers.is_empty(), "no value of the chart:\n{}", strangers.join("\n"));
}

#[test]
fn every_alert_is_named_with_its_severity() {
    let alerts = chart("files/alerts.yaml");
    let alerts = alerts.as_object().unwrap().values().flat_map(|group| group.as_array().unwrap());
    let row = |alert: &Value| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        format!("| `{}` | {} |", text(&alert["alert"]), text(&alert["labels"]["severity"]))
    };
    let alerts: BTreeSet<String> = alerts.map(row).collect();
    let page = pages::page("docs/guide/metrics.md");
    let rows = page.prose().map(|(_, line)| line).filter(|line| line.starts_with("| `RemoteMount"));
    let rows: BTreeSet<String> = rows.map(|line| line.split('|').take(3).collect::<Vec<_>>().join("|") + "|").collect();
    assert_eq!(rows, alerts, "left: docs/guide/metrics.md, right: the chart's alerts");
}

#[test]
fn values_are_found_and_judged() {
    let values = chart("values.yaml");
    assert!(has(&values, "webhook.certManager.issuerRef.name") && has(&values, "imagePullSecrets[0].name"));
    assert!(!has(&values, "webhook.certManger.enabled") && !has(&values, "crds.keeep"));
    let text = "```console\n$ helm x --set a.b=1,c=2 --set 'd={x,y}'\n```\nSay `crds.keep=false`, not `crds`, `sidecar/x.y` or `x.y`.\n";
    let page = Page { path: "x.md".into(), text: text.to_owned() };
    let named: Vec<_> = named(&page, &values).into_iter().collect();
    assert_eq!(named, ["a.b", "c", "crds.keep", "d"]);
}
