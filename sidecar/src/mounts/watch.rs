//! Watches the manifests and the credentials, and swaps the mount table when they change.
//!
//! By polling once a second and comparing contents: a projected volume swaps a symlink, which file
//! watches miss, and the files are few and small. What comes by the control link is taken at once, over
//! the files ([`super::newest`]). A bad set of manifests is reported once and leaves the table in force
//! (M3), but for what comes by the link: that is taken over the last good set, so that a file that is bad
//! never keeps a mount deleting. The sidecar is ready once a first good table is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use remotemount_crds::effect;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::mounts::newest::{self, Newest};
use crate::mounts::probe;
use crate::mounts::source::{self, Sourced};
use crate::mounts::{MountTable, Mounts};
use crate::remote::connect::Connector;
use crate::remote::credentials::Secrets;
use crate::store::{Store, Writer};

const INTERVAL: Duration = Duration::from_secs(1);

/// What is wrong with manifests, for `/status` and the operator.
pub type Problems = Arc<Mutex<Vec<ManifestProblem>>>;

/// Something that is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestProblem {
    /// The mount, where only this one is concerned; a bad file concerns them all.
    pub mount: Option<String>,
    /// Where it is, what is wrong and what to change.
    pub message: String,
}

/// Keeps the mount table as the manifests say.
pub struct Watch {
    /// Where the manifests are.
    pub directory: PathBuf,
    /// The table in force.
    pub mounts: Arc<Mounts>,
    /// Where generations are kept.
    pub store: Arc<dyn Store>,
    /// Frees what retired mounts leave.
    pub writer: Writer,
    /// Makes remotes.
    pub connector: Connector,
    /// The secrets that mounts refer to.
    pub secrets: Arc<Secrets>,
    /// All metrics.
    pub metrics: Metrics,
    /// What came by the control link and is newer than the files.
    pub newest: Arc<Newest>,
    /// The last set of files that was good; nothing before there was one.
    pub good: Mutex<Option<Vec<Sourced>>>,
    /// What is wrong with the manifests.
    pub problems: Problems,
    /// Ends the watch and its probes.
    pub stop: CancellationToken,
}

impl Watch {
    /// Reads the manifests now; answers whether that is done: a store that failed may be better in a moment.
    pub async fn reload(&self) -> bool {
        let (mut problems, done) = match source::read(&self.directory) {
            Ok(files) => {
                *self.good.lock().unwrap_or_else(PoisonError::into_inner) = Some(files.clone());
                self.swap(&files, self.newest.over(&files)).await
            }
            Err(problems) => {
                let (clashes, done) = self.swap_newer().await;
                (problems.iter().map(ToString::to_string).chain(clashes).collect(), done)
            }
        };
        for problem in &problems {
            tracing::error!(problem, "manifests refused; the last good mount table stays in force");
        }
        if !problems.is_empty() {
            self.metrics.reload_failures.inc();
        }
        let of_files = problems.drain(..).map(|message| ManifestProblem { mount: None, message });
        let by_link = self.newest.problems().into_iter();
        let by_link = by_link.map(|(mount, message)| ManifestProblem { mount: Some(mount), message });
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner) = of_files.chain(by_link).collect();
        done
    }

    /// Reloads whenever the manifests change, and re-reads credentials, until stopped.
    pub async fn run(self, mut seen: Vec<(PathBuf, Option<Vec<u8>>)>, mut done: bool) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.newest.news() => {
                    done = self.reload().await;
                    continue;
                }
                () = tokio::time::sleep(INTERVAL) => {}
            }
            // Off the threads that serve: a volume that hangs must not take the doors with it.
            let (secrets, directory) = (Arc::clone(&self.secrets), self.directory.clone());
            let look = tokio::task::spawn_blocking(move || (secrets.refresh(), source::fingerprint(&directory)));
            let looked = tokio::select! {
                () = self.stop.cancelled() => return,
                looked = look => looked,
            };
            let Ok((changed, now)) = looked else { continue };
            for name in changed {
                tracing::info!(secret = name, "credentials changed");
            }
            if now != seen || !done {
                seen = now;
                done = self.reload().await;
            }
        }
    }

    /// While the files are bad: puts in force what is newer than the last good ones, if the table does not say it yet.
    ///
    /// A removal and a stricter policy must not wait for another mount's file to be mended.
    async fn swap_newer(&self) -> (Vec<String>, bool) {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(good) = good else { return (Vec::new(), true) };
        let newer = self.newest.over(&good);
        if self.mounts.load().says(&newer) { (Vec::new(), true) } else { self.swap(&good, newer).await }
    }

    /// Puts the table of `newer` in force, which is `files` with what came since; answers what is wrong, and whether
    /// that is done.
    ///
    /// Where texts that came clash, none of them is taken, but what they forbid is: see [`newest::no_looser`].
    async fn swap(&self, files: &[Sourced], newer: Vec<Sourced>) -> (Vec<String>, bool) {
        let clashes: Vec<String> = source::clashes(&newer)
            .iter()
            .map(|clash| format!("by the control link, and not taken: {clash}"))
            .collect();
        let sourced = if clashes.is_empty() { newer } else { newest::no_looser(files, &newer) };
        let old = self.mounts.load();
        let table = match self.mounts.swap(&sourced, &self.store, &self.connector, &self.metrics).await {
            Ok(table) => table,
            Err(error) => return (vec![error.to_string()], false),
        };
        for Sourced { file, mount, unknown, .. } in &sourced {
            // Once a text: those that stay as they are were told of before.
            let name = mount.metadata.name.as_deref().unwrap_or_default();
            if old.iter().any(|before| before.name == name && table.iter().any(|now| Arc::ptr_eq(before, now))) {
                continue;
            }
            if !unknown.is_empty() {
                tracing::warn!(
                    mount = name,
                    fields = unknown.join(", "),
                    "the manifest has fields that this version does not know: they have no effect here; upgrade the sidecar"
                );
            }
            for notice in effect::without_effect(&mount.spec) {
                tracing::warn!(file, field = notice.field, "{}", notice.message);
            }
        }
        self.announce(&old, &table);
        self.writer.purge().await;
        (clashes, true)
    }

    fn announce(&self, old: &MountTable, new: &MountTable) {
        tracing::info!(table = new.number, mounts = new.iter().count(), "mount table in force");
        for mount in new.iter() {
            if !old.iter().any(|before| Arc::ptr_eq(before, mount)) {
                tracing::info!(mount = mount.name, path = %mount.path, remote = mount.uri, generation = mount.id.0, deletes = ?mount.delete_policy, "mounted");
                if mount.withdrawn {
                    tracing::info!(
                        mount = mount.name,
                        "the RemoteMount is being deleted: nothing is deleted through it any more"
                    );
                }
                tokio::spawn(probe::run(Arc::clone(mount), Arc::clone(&self.mounts), self.stop.clone()));
            }
        }
    }
}
