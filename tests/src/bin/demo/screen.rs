//! How the demo looks: facts in two columns, and three lines for a step.
//!
//! A step is what it shows, the command that does the same by hand, and one line of what came back,
//! the time, and the requests that reached the remote. No colours: it is read in logs as well.

use std::time::Duration;

use crate::visit::Cost;

/// How wide what came back is.
const ANSWER: usize = 58;

/// A line of the set-up.
pub fn fact(name: &str, value: &str) {
    println!("  {name:<15} {value}");
}

/// A duration in the unit people would choose.
pub fn time(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 1000.0 { format!("{millis:.1} ms") } else { format!("{:.1} s", millis / 1000.0) }
}

/// The line above the first step.
pub fn heading(url: &str) {
    println!("\nReading, with F={url}");
    println!("  {:>2}  {:<ANSWER$}  {:>9}  {:>4} {:>4} {:>4}", "", "", "time", "HEAD", "LIST", "GET");
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
    println!(
        "      {answer}{padding}  {:>9}  {:>4} {:>4} {:>4}  {verdict}",
        time(time_taken),
        cost.head,
        cost.list,
        cost.get
    );
    for problem in problems {
        println!("      !! {problem}");
    }
}

/// A line that belongs to the step before.
pub fn note(text: &str) {
    println!("      {text}");
}
