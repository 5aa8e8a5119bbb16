//! How the demo looks: facts in two columns, and three lines for a step.
//!
//! A step is what it shows, the command that does the same by hand, and one line of what came back,
//! the time, and the requests that reached the remote. No colours: it is read in logs as well.

use std::time::Duration;

use crate::visit::{Cost, NOTHING};

/// How wide what came back is.
const ANSWER: usize = 58;
/// How wide a count of requests is.
const WIDTH: usize = 7;

/// A line of the set-up.
pub fn fact(name: &str, value: &str) {
    println!("  {name:<15} {value}");
}

/// A duration in the unit people would choose.
pub fn time(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 1000.0 { format!("{millis:.1} ms") } else { format!("{:.1} s", millis / 1000.0) }
}

/// The lines above the first step of a part.
pub fn heading(text: &str) {
    println!("\n{text}");
    let columns: Vec<String> = NOTHING.columns().iter().map(|(name, _)| format!("{name:>WIDTH$}")).collect();
    println!("  {:>2}  {:<ANSWER$}  {:>9} {}", "", "", "time", columns.concat());
}

/// A step, before it is done.
pub fn step(number: usize, title: &str, command: &str) {
    println!("  {number:>2}  {title}");
    println!("      $ {command}");
}

/// What a step came to.
pub fn outcome(answer: &str, time_taken: Duration, cost: Cost, problems: &[String]) {
    let verdict = if problems.is_empty() { "ok" } else { "NOT AS EXPECTED" };
    let length = answer.chars().count();
    let padding = " ".repeat(ANSWER.saturating_sub(length));
    let columns: Vec<String> = cost.columns().iter().map(|(_, count)| format!("{count:>WIDTH$}")).collect();
    println!("      {answer}{padding}  {:>9} {}  {verdict}", time(time_taken), columns.concat());
    for problem in problems {
        println!("      !! {problem}");
    }
}

/// A line that belongs to the step before.
pub fn note(text: &str) {
    println!("      {text}");
}
