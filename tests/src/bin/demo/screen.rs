//! How the demo looks: facts in two columns, and a few lines for a step.
//!
//! A step is what it shows, the command that does the same by hand, what that printed where it is worth
//! it, and one line of what came back, the time, and what was counted. No colours: it is read in logs
//! as well.

use std::time::Duration;

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

/// The lines above the first step of a part; `counts` names what is counted for each step.
pub fn heading(text: &str, counts: &[&str]) {
    println!("\n{text}");
    if counts.is_empty() {
        return;
    }
    let columns: Vec<String> = counts.iter().map(|name| format!("{name:>WIDTH$}")).collect();
    println!("  {:>2}  {:<ANSWER$}  {:>9}{}", "", "", "time", space(&columns.concat()));
}

/// A step, before it is done; `command` may have several lines, each with its own prompt.
pub fn step(number: usize, title: &str, command: &str) {
    println!("  {number:>2}  {title}");
    for line in command.lines() {
        println!("      {line}");
    }
}

/// What a step came to.
pub fn outcome(answer: &str, time_taken: Duration, counts: &[usize], problems: &[String]) {
    let verdict = if problems.is_empty() { "ok" } else { "NOT AS EXPECTED" };
    let length = answer.chars().count();
    let padding = " ".repeat(ANSWER.saturating_sub(length));
    let columns: Vec<String> = counts.iter().map(|count| format!("{count:>WIDTH$}")).collect();
    println!("      {answer}{padding}  {:>9}{}  {verdict}", time(time_taken), space(&columns.concat()));
    for line in problems.iter().flat_map(|problem| problem.lines()) {
        println!("      !! {line}");
    }
}

fn space(columns: &str) -> String {
    if columns.is_empty() { String::new() } else { format!(" {columns}") }
}

/// A line that belongs to the step before.
pub fn note(text: &str) {
    println!("      {text}");
}
