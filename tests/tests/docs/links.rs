//! Links of all pages lead to files that are there, and to headings in them.

use std::path::Path;

use crate::pages::{self, Page};

#[test]
fn every_link_leads_somewhere() {
    let (mut looked_at, mut broken) = (0, Vec::new());
    for page in pages::all() {
        for (line, target) in page.links() {
            if target.contains("://") {
                continue;
            }
            looked_at += 1;
            if let Err(why) = follow(&page, &target) {
                broken.push(format!("{}:{line}: {target}: {why}", page.path.display()));
            }
        }
    }
    assert!(looked_at > 50, "{looked_at} links");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

fn follow(page: &Page, target: &str) -> Result<(), String> {
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = match file {
        "" => page.path.clone(),
        file => page.path.parent().unwrap_or(Path::new("")).join(file),
    };
    let there = pages::root().join(&path);
    if !there.exists() {
        return Err("there is no such file".to_owned());
    }
    let Some(anchor) = anchor else { return Ok(()) };
    let text = std::fs::read_to_string(there).map_err(|error| error.to_string())?;
    let anchors = Page { path, text }.anchors();
    if anchors.contains(anchor) { Ok(()) } else { Err(format!("no such heading; there are {anchors:?}")) }
}

#[test]
fn anchors_are_made_as_github_makes_them() {
    let text = "# `failed calling webhook`\n## What stays, and why\n```\n# no heading\n```\n## Again\n## Again\n";
    let page = Page { path: "x.md".into(), text: text.to_owned() };
    let anchors: Vec<_> = page.anchors().into_iter().collect();
    assert_eq!(anchors, ["again", "again-1", "failed-calling-webhook", "what-stays-and-why"]);
}
