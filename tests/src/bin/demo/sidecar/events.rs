//! The last step: the events of what was deleted, read by a client that is not ours.
//!
//! SeaweedFS's `weed filer.meta.scan` asks the sidecar's gRPC door as it would ask its own filer, and
//! prints what it is told. The demo shows the beginning and the end of that, and counts all of it:
//! there is one event for each file that went, and one for each directory that was known here.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use remotemount_tests::process::Process;
use remotemount_tests::tools;

use super::visit::NOTHING;
use super::walk::Walk;

const LIMIT: Duration = Duration::from_secs(30);
/// Lines that are shown of each end.
const SHOWN: usize = 3;

impl Walk<'_> {
    /// Has the reference's client print the events of the mount, which should tell of `files` files.
    pub async fn events(&mut self, folder: &Path, files: usize) {
        let arguments = [
            "filer.meta.scan".to_owned(),
            format!("-filer={}", self.sidecar.filer_address()),
            format!("-pathPrefix={}", self.example.path),
            "-timeAgo=1h".to_owned(),
        ];
        let mut lines = Vec::new();
        let work = async {
            lines = scan(folder, &arguments).await?;
            let directories = lines.iter().filter(|line| line.ends_with("\tdir")).count();
            let told = lines.len() - directories;
            ensure!(told == files, "events of {told} files; there should be {files}");
            Ok(format!("{} events: {told} files, {directories} directories known here", lines.len()))
        };
        let command = format!("weed {} | grep DELETE", arguments.join(" "));
        self.visit.step("The events, as SeaweedFS's own client prints them", &command, NOTHING, work).await;
        let end = lines.len().saturating_sub(SHOWN).max(SHOWN);
        for line in lines.iter().take(SHOWN) {
            self.visit.note(&line.replace('\t', "  "));
        }
        self.visit.note("…");
        for line in lines.iter().skip(end) {
            self.visit.note(&line.replace('\t', "  "));
        }
    }
}

/// Runs weed to its end; the lines that tell of deletes.
async fn scan(folder: &Path, arguments: &[String]) -> Result<Vec<String>> {
    let mut weed = Command::new(tools::bin("weed")?);
    weed.current_dir(folder).args(arguments);
    let mut process = Process::spawn(&weed, &folder.join("scan.log"))?;
    let status = process.wait(LIMIT).await.context("waiting for weed")?;
    ensure!(status.success(), "weed: {status}:\n{}", process.log_tail());
    Ok(process.log().lines().filter(|line| line.contains("\tDELETE\t")).map(str::to_owned).collect())
}
