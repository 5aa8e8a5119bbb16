//! What a table of figures is worth nothing without: where, when and against what it was measured.
//!
//! Reads `/proc` and asks the programs for their versions. What cannot be found out is said to be
//! unknown: it is no reason to lose the figures.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

/// The lines above the table.
pub fn describe(weed: &Path, nginx: &Path) -> String {
    let cores = std::thread::available_parallelism().map_or_else(|_| "unknown".to_owned(), |n| n.to_string());
    let model = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".to_owned());
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok())
        .map_or_else(|| "unknown".to_owned(), |kib| format!("{:.1} GiB", kib / 1024.0 / 1024.0));
    let changed = said(git().args(["status", "--porcelain", "--untracked-files=no"])).is_some();
    let commit = said(git().args(["rev-parse", "--short=12", "HEAD"])).unwrap_or_else(|| "unknown".to_owned());
    [
        format!("- date: {}", said(Command::new("date").args(["-u", "+%F %H:%M UTC"])).unwrap_or_default()),
        format!("- commit: {commit}{}", if changed { ", with changes that are not committed" } else { "" }),
        format!("- machine: {cores} cores of {model}, {memory} of memory, load {} at the start", load()),
        format!("- SeaweedFS: {}", said(Command::new(weed).arg("version")).unwrap_or_else(|| "unknown".to_owned())),
        // It tells its version on stderr.
        format!("- nginx: {}", complained(Command::new(nginx).arg("-v")).unwrap_or_else(|| "unknown".to_owned())),
    ]
    .join("\n")
}

/// CPU time that processes have used, in seconds.
pub fn cpu_seconds(pids: &[u32]) -> Result<f64> {
    // Linux reports in hundredths of a second, whatever its own clock does.
    pids.iter().map(|pid| Ok(ticks(*pid)? / 100.0)).sum()
}

/// The processes that a process has started.
pub fn children(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok(text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

fn ticks(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // The name, in parentheses, may hold spaces; utime and stime are the 12th and 13th after it.
    let (_, rest) = text.rsplit_once(')').with_context(|| format!("reading {path}"))?;
    let fields: Vec<f64> = rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    Ok(fields.iter().sum())
}

/// The load average of the last minute.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}

fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find(|line| line.starts_with(name)).and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()))
}

fn git() -> Command {
    let mut git = Command::new("git");
    git.current_dir(env!("CARGO_MANIFEST_DIR"));
    git
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    first_line(&output.stdout)
}

fn complained(command: &mut Command) -> Option<String> {
    first_line(&command.output().ok()?.stderr)
}

fn first_line(bytes: &[u8]) -> Option<String> {
    String::from_utf8_lossy(bytes).lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}
