//! values.yaml: what is in it, by its comments; README.md's table is made of it, and the schema knows the same names.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::stage::file;

/// A value of the chart.
#[derive(Debug)]
pub struct Described {
    /// Where it stands, as `webhook.port`.
    pub path: String,
    /// Its default, as it is written.
    pub default: String,
    /// The comment above it, on one line.
    pub comment: String,
}

/// Every value, in the file's order.
pub fn read() -> Vec<Described> {
    let text = std::fs::read_to_string(file("charts/remotemount/values.yaml")).unwrap();
    let (mut values, mut parents, mut comment) = (Vec::new(), Vec::<(usize, String)>::new(), Vec::<&str>::new());
    for line in text.lines() {
        let depth = line.len() - line.trim_start().len();
        let line = line.trim();
        if line.is_empty() {
            comment.clear();
        } else if let Some(words) = line.strip_prefix('#') {
            comment.push(words.trim());
        } else {
            let (key, default) = line.split_once(':').unwrap_or_else(|| panic!("{line}: one key a line"));
            parents.retain(|(above, _)| *above < depth);
            let path: Vec<&str> = parents.iter().map(|(_, key)| key.as_str()).chain([key]).collect();
            let path = path.join(".");
            if default.is_empty() {
                parents.push((depth, key.to_owned()));
            } else {
                values.push(Described { path, default: default.trim().to_owned(), comment: comment.join(" ") });
            }
            comment.clear();
        }
    }
    values
}

#[test]
fn every_value_is_described_and_the_readme_has_them_all() {
    let values = read();
    assert!(values.len() > 60, "{}", values.len());
    let mut table = String::from("| value | default | |\n|---|---|---|\n");
    for Described { path, default, comment } in &values {
        assert!(!comment.is_empty(), "{path} has no comment above it");
        let escaped = |text: &str| text.replace('|', "\\|");
        writeln!(table, "| `{path}` | `{}` | {} |", escaped(default), escaped(comment)).unwrap();
    }
    let readme = file("charts/remotemount/README.md");
    let text = std::fs::read_to_string(&readme).unwrap();
    let (begin, end) = ("<!-- values: made of values.yaml -->\n", "<!-- end of values -->\n");
    let (before, rest) = text.split_once(begin).expect("README.md marks where its table begins");
    let (standing, after) = rest.split_once(end).expect("README.md marks where its table ends");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(readme, format!("{before}{begin}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(
            standing, table,
            "run `UPDATE_GOLDEN=1 cargo test -p remotemount-tests --test chart values` and read the difference"
        );
    }
}

#[test]
fn the_schema_knows_every_value_and_no_other() -> Result<()> {
    let schema = std::fs::read_to_string(file("charts/remotemount/values.schema.json"))?;
    let schema: Value = serde_json::from_str(&schema)?;
    for value in read() {
        let mut at = &schema;
        for key in value.path.split('.') {
            at = resolved(&schema, at).pointer(&format!("/properties/{key}")).with_context(|| value.path.clone())?;
        }
    }
    // The other way: below each section of values.yaml the schema has nothing more.
    let known: BTreeSet<String> = read().into_iter().map(|value| value.path).collect();
    let sections: BTreeSet<&str> = known.iter().filter_map(|path| Some(path.rsplit_once('.')?.0)).collect();
    let mut waiting = vec![(String::new(), &schema)];
    while let Some((path, at)) = waiting.pop() {
        for (key, below) in resolved(&schema, at)["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            if sections.iter().any(|section| *section == path || section.starts_with(&format!("{path}."))) {
                waiting.push((path, below));
            } else {
                // `enabled` is for a chart that depends on this one.
                assert!(
                    known.contains(&path) || path == "enabled",
                    "values.schema.json has {path}, and values.yaml has not"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn the_schema_is_closed_at_every_level() -> Result<()> {
    let text = std::fs::read_to_string(file("charts/remotemount/values.schema.json"))?;
    let schema: Value = serde_json::from_str(&text)?;
    let mut waiting = vec![("".to_owned(), &schema)];
    let mut closed = 0;
    while let Some((path, at)) = waiting.pop() {
        if at["type"] == "object" {
            let more = &at["additionalProperties"];
            // A map, of labels say, has any key and values of one type. `global` is shared with other charts.
            let open = more.is_object() && at.get("properties").is_none() || path == "/properties/global";
            assert!(*more == false || open, "{path}: additionalProperties is {more}");
            closed += 1;
        }
        match at {
            Value::Object(fields) => waiting.extend(fields.iter().map(|(key, below)| (format!("{path}/{key}"), below))),
            Value::Array(all) => waiting.extend(all.iter().map(|below| (path.clone(), below))),
            _ => {}
        }
    }
    assert!(closed > 50, "{closed}");
    Ok(())
}

/// `tests.remote` is `spec.remote` of a RemoteMount.
#[test]
fn the_schema_has_the_remotes_that_the_crd_has() -> Result<()> {
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(file("charts/remotemount/values.schema.json"))?)?;
    let crd: Value = serde_saphyr::from_str(&std::fs::read_to_string(file("crds/remotemounts.yaml"))?)?;
    let remote = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/remote");
    assert_eq!(fields(&schema, &schema["definitions"]["remote"]), fields(&crd, remote.context("spec.remote")?));
    Ok(())
}

/// The fields of an object, and of those in it, as paths.
fn fields(schema: &Value, at: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (name, below) in resolved(schema, at)["properties"].as_object().into_iter().flatten() {
        all.insert(name.clone());
        all.extend(fields(schema, below).into_iter().map(|path| format!("{name}.{path}")));
    }
    all
}

/// What a schema refers to, or itself.
fn resolved<'s>(schema: &'s Value, at: &'s Value) -> &'s Value {
    let reference = at["$ref"].as_str().and_then(|reference| schema.pointer(reference.trim_start_matches('#')));
    reference.unwrap_or(at)
}
