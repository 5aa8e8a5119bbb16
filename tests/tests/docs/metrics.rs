//! `docs/METRICS.md` is what the programs register, and the guide asks for what is there.

use remotemount_tests::metrics_page::{self, Family};

use crate::pages;

#[test]
fn the_committed_page_is_what_is_written() {
    let committed = pages::page("docs/METRICS.md").text;
    assert!(metrics_page::page().unwrap() == committed, "run `make docs` and commit docs/METRICS.md");
}

#[test]
fn every_metric_that_the_guide_names_is_served() {
    let families = [metrics_page::sidecar().unwrap(), metrics_page::operator().unwrap()].concat();
    let (mut strangers, mut looked_at) = (Vec::new(), 0);
    for page in pages::guide().into_iter().chain([pages::page("README.md")]) {
        for (at, _) in page.text.match_indices("remotemount_") {
            let rest = &page.text[at..];
            let name = &rest[..rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len())];
            // The crates' names in a log filter are no metrics.
            if ["remotemount_operator", "remotemount_sidecar"].contains(&name) {
                continue;
            }
            looked_at += 1;
            let labels = rest[name.len()..].strip_prefix('{').and_then(|rest| rest.split('}').next());
            // In a table a bar is written as `\|`.
            if let Err(why) = served(&families, name, &labels.unwrap_or_default().replace('\\', "")) {
                strangers.push(format!("{}: {name}: {why}", page.path.display()));
            }
        }
    }
    assert!(looked_at > 10, "{looked_at} metrics");
    assert!(strangers.is_empty(), "{}", strangers.join("\n"));
}

/// Whether such a series may be there, by the labels that a query asks for.
fn served(families: &[Family], name: &str, asked: &str) -> Result<(), String> {
    let part = |family: &&Family| {
        let tail = name.strip_prefix(&family.series);
        tail == Some("") || (family.kind == "histogram" && matches!(tail, Some("_bucket" | "_sum" | "_count")))
    };
    let family = families.iter().find(part).ok_or("no such metric")?;
    for matcher in asked.split(',').map(str::trim).filter(|matcher| !matcher.is_empty()) {
        let end = matcher.find(['=', '!']).ok_or(format!("{matcher} is no matcher"))?;
        let (label, value) = (&matcher[..end], matcher[end..].trim_start_matches(['=', '!', '~']).trim_matches('"'));
        let (_, values) =
            family.labels.iter().find(|(known, _)| known == label).ok_or(format!("it has no label {label}"))?;
        let stranger = |value: &&str| values.as_ref().is_some_and(|values| !values.iter().any(|known| known == value));
        if let Some(stranger) = value.split('|').find(stranger) {
            return Err(format!("{label} is never {stranger}"));
        }
    }
    Ok(())
}

#[test]
fn a_query_for_what_is_not_there_is_noticed() {
    let families = metrics_page::sidecar().unwrap();
    let served = |name, labels| served(&families, name, labels).is_ok();
    assert!(served("remotemount_lookups_total", "mount=\"a\", result=~\"hit|miss\""));
    assert!(served("remotemount_remote_request_seconds_bucket", ""));
    assert!(!served("remotemount_lookups", ""), "a counter is asked for by its series");
    assert!(!served("remotemount_lookups_total_bucket", ""));
    assert!(!served("remotemount_lookups_total", "result=\"hitt\""));
    assert!(!served("remotemount_lookups_total", "reason=\"hit\""));
}
