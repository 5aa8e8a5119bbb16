//! The pages: every Markdown file of the repository, with its headings, links and blocks of code.
//!
//! As much of Markdown as these pages use: fences of three backticks, `#` headings, inline links.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// One page.
pub struct Page {
    /// Where it is, from the repository's root.
    pub path: PathBuf,
    /// All of it.
    pub text: String,
}

/// A fenced block.
pub struct Block<'p> {
    /// `yaml`, `console`, …
    pub language: &'p str,
    /// What stands in it.
    pub text: String,
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The page at `path`, from the root.
pub fn page(path: &str) -> Page {
    let text = std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Page { path: path.into(), text }
}

/// Every page.
pub fn all() -> Vec<Page> {
    let mut pages = Vec::new();
    collect(&root(), Path::new(""), &mut pages);
    assert!(pages.len() > 20, "{} pages", pages.len());
    pages
}

/// The guide's pages.
pub fn guide() -> Vec<Page> {
    let pages: Vec<_> = all().into_iter().filter(|page| page.path.starts_with("docs/guide")).collect();
    assert!(pages.len() > 8, "{} pages", pages.len());
    pages
}

fn collect(root: &Path, below: &Path, pages: &mut Vec<Page>) {
    for entry in std::fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let (name, path) = (entry.file_name(), below.join(entry.file_name()));
        let hidden = name.to_string_lossy().starts_with('.');
        if entry.file_type().unwrap().is_dir() {
            if !hidden && name != "target" && name != "dist" {
                collect(root, &path, pages);
            }
        } else if path.extension().is_some_and(|ending| ending == "md") {
            pages.push(Page { text: std::fs::read_to_string(root.join(&path)).unwrap(), path });
        }
    }
}

impl Page {
    /// The lines outside fences, each with its number.
    pub fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut fenced = false;
        self.text.lines().enumerate().filter_map(move |(at, line)| {
            let fence = line.trim_start().starts_with("```");
            fenced ^= fence;
            (!fenced && !fence).then_some((at + 1, line))
        })
    }

    /// The fenced blocks.
    pub fn blocks(&self) -> Vec<Block<'_>> {
        let (mut blocks, mut open): (Vec<Block<'_>>, Option<Block<'_>>) = (Vec::new(), None);
        for line in self.text.lines() {
            match (line.trim_start().strip_prefix("```"), open.take()) {
                (Some(language), None) => open = Some(Block { language: language.trim(), text: String::new() }),
                (Some(_), Some(block)) => blocks.push(block),
                (None, Some(mut block)) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                    open = Some(block);
                }
                (None, None) => {}
            }
        }
        assert!(open.is_none(), "{}: a fence is open", self.path.display());
        blocks
    }

    /// The headings, without their marks.
    pub fn headings(&self) -> Vec<&str> {
        let heading = |line: &'_ str| line.starts_with('#').then(|| line.trim_start_matches('#').len());
        self.prose().filter_map(|(_, line)| heading(line).map(|length| line[line.len() - length..].trim())).collect()
    }

    /// What links may name after `#`: headings as GitHub makes anchors of them.
    pub fn anchors(&self) -> BTreeSet<String> {
        let mut anchors = BTreeSet::new();
        for heading in self.headings() {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            let anchor: String = kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect();
            let again = (1..).map(|number| format!("{anchor}-{number}"));
            let free = std::iter::once(anchor.clone()).chain(again).find(|anchor| !anchors.contains(anchor));
            anchors.extend(free);
        }
        anchors
    }

    /// The targets of inline links, each with its line.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (number, line) in self.prose() {
            // What stands between backticks is no link.
            let text: String = line.split('`').step_by(2).collect::<Vec<_>>().join("``");
            for rest in text.split("](").skip(1) {
                let target = rest.split(')').next().unwrap_or_default();
                links.push((number, target.to_owned()));
            }
        }
        links
    }
}
