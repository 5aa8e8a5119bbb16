//! The figures as a table, on the terminal and in Markdown.
//!
//! Owns what a figure is: ours, theirs, their ratio, the target and whether it is reached. A figure
//! of several rounds is its median, with the least and the greatest beside it; the ratio is that of
//! the medians. A figure without a target is there to explain the others.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

/// Several rounds of one measurement.
#[derive(Debug, Clone)]
pub struct Rounds(Vec<f64>);

impl Rounds {
    /// None yet.
    pub fn new() -> Rounds {
        Rounds(Vec::new())
    }

    /// Adds a round.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one; of an even number the mean of the two in the middle.
    pub fn median(&self) -> Result<f64> {
        let (low, high) = (self.0.len().saturating_sub(1) / 2, self.0.len() / 2);
        let low = self.0.get(low).context("a figure without rounds")?;
        Ok((low + self.0.get(high).unwrap_or(low)) / 2.0)
    }

    /// `median unit (least–greatest)`
    pub fn show(&self, unit: &str) -> Result<String> {
        let least = self.0.first().copied().context("a figure without rounds")?;
        let greatest = self.0.last().copied().unwrap_or(least);
        Ok(format!("{} {unit} ({}–{})", number(self.median()?), number(least), number(greatest)))
    }
}

/// What a ratio or a figure is held to.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// The ratio, at least.
    RatioAtLeast(f64),
    /// The ratio, at most.
    RatioAtMost(f64),
    /// Our figure, at most, in a unit.
    AtMost(f64, &'static str),
    /// Our figure, exactly.
    Exactly(f64),
    /// None: it explains another.
    None,
}

/// A line of the table.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// Our figure, in words.
    pub ours: String,
    /// Theirs.
    pub theirs: String,
    /// The number the target is about.
    pub value: f64,
    /// The target.
    pub target: Target,
    /// The other side was given up: the ratio is that much at least.
    pub at_least: bool,
}

impl Figure {
    /// Ours against theirs, by the ratio of their medians.
    pub fn ratio(name: &str, unit: &str, ours: &Rounds, theirs: &Rounds, target: Target) -> Result<Figure> {
        Ok(Figure {
            name: name.to_owned(),
            ours: ours.show(unit)?,
            theirs: theirs.show(unit)?,
            value: ours.median()? / theirs.median()?,
            target,
            at_least: false,
        })
    }

    /// Ours against theirs where less is better: how many times theirs is ours.
    pub fn times_less(name: &str, unit: &str, ours: &Rounds, theirs: &Rounds, target: Target) -> Result<Figure> {
        let value = theirs.median()? / ours.median()?;
        Ok(Figure { value, ..Figure::ratio(name, unit, ours, theirs, target)? })
    }

    /// Ours alone.
    pub fn alone(name: &str, unit: &str, ours: &Rounds, target: Target) -> Result<Figure> {
        let theirs = "–".to_owned();
        let (name, value) = (name.to_owned(), ours.median()?);
        Ok(Figure { name, ours: ours.show(unit)?, theirs, value, target, at_least: false })
    }

    /// Whether the target is reached, where there is one.
    pub fn reached(&self) -> Option<bool> {
        match self.target {
            Target::RatioAtLeast(limit) => Some(self.value >= limit),
            Target::RatioAtMost(limit) | Target::AtMost(limit, _) => Some(self.value <= limit),
            Target::Exactly(wanted) => Some((self.value - wanted).abs() < f64::EPSILON),
            Target::None => None,
        }
    }

    fn cells(&self) -> [String; 6] {
        let bound = if self.at_least { "≥ " } else { "" };
        let (ratio, target) = match self.target {
            Target::RatioAtLeast(limit) => (format!("{bound}{:.2}", self.value), format!("≥ {limit}")),
            Target::RatioAtMost(limit) => (format!("{:.2}", self.value), format!("≤ {limit}")),
            Target::AtMost(limit, unit) => ("–".to_owned(), format!("≤ {limit} {unit}")),
            Target::Exactly(wanted) => ("–".to_owned(), format!("{wanted}")),
            Target::None if self.theirs == "–" => ("–".to_owned(), "–".to_owned()),
            Target::None => (format!("{bound}{:.2}", self.value), "–".to_owned()),
        };
        let reached = match self.reached() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "–",
        };
        [self.name.clone(), self.ours.clone(), self.theirs.clone(), ratio, target, reached.to_owned()]
    }
}

/// The table; its text is Markdown and lines up on a terminal too.
pub fn render(figures: &[Figure]) -> String {
    let heading = ["figure", "ours", "theirs", "ratio", "target", "reached"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(heading).chain(figures.iter().map(Figure::cells)).collect();
    let widths: Vec<usize> =
        (0..6).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(text, "| {cell:<width$} ");
        }
        text.push_str("|\n");
        if index == 0 {
            for width in &widths {
                let _ = write!(text, "|{}", "-".repeat(width + 2));
            }
            text.push_str("|\n");
        }
    }
    text
}

/// Large numbers without decimals, small ones with as many as say something.
fn number(value: f64) -> String {
    match value {
        value if value >= 1000.0 => format!("{value:.0}"),
        value if value.fract() == 0.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
