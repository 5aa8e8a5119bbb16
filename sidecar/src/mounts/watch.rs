//! Watches the manifests and the credentials, and swaps the mount table when they change.
//!
//! By polling once a second and comparing contents: a projected volume swaps a symlink, which file
//! watches miss, and the files are few and small. A bad set of manifests is reported once and leaves
//! the table in force (M3); the sidecar is ready once a first good table is.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use remotemount_crds::effect;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::mounts::source::{self, Sourced};
use crate::mounts::{Mount, MountTable, Mounts};
use crate::remote::ListRequest;
use crate::remote::connect::Connector;
use crate::remote::credentials::Secrets;
use crate::store::{Store, Writer};

const INTERVAL: Duration = Duration::from_secs(1);
/// Between probes of a remote that does not answer.
const PROBE_AGAIN: Duration = Duration::from_secs(30);

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
    /// What is wrong with the manifests on disk, for `/status`.
    pub problems: Arc<Mutex<Vec<String>>>,
    /// Ends the watch and its probes.
    pub stop: CancellationToken,
}

impl Watch {
    /// Reads the manifests now; answers whether that is done: a store that failed may be better in a moment.
    pub async fn reload(&self) -> bool {
        let (problems, done) = match source::read(&self.directory) {
            Ok(sourced) => match self.swap(&sourced).await {
                Ok(()) => (Vec::new(), true),
                Err(problem) => (vec![problem], false),
            },
            Err(problems) => (problems.iter().map(ToString::to_string).collect(), true),
        };
        for problem in &problems {
            tracing::error!(problem, "manifests refused; the last good mount table stays in force");
        }
        if !problems.is_empty() {
            self.metrics.reload_failures.inc();
        }
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner) = problems;
        done
    }

    /// Reloads whenever the manifests change, and re-reads credentials, until stopped.
    pub async fn run(self, mut seen: Vec<(PathBuf, Option<Vec<u8>>)>, mut done: bool) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
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

    async fn swap(&self, sourced: &[Sourced]) -> Result<(), String> {
        let manifests: Vec<_> = sourced.iter().map(|source| source.mount.clone()).collect();
        let old = self.mounts.load();
        let table = self
            .mounts
            .swap(&manifests, &*self.store, &self.connector, &self.metrics)
            .await
            .map_err(|error| error.to_string())?;
        for Sourced { file, mount } in sourced {
            for notice in effect::without_effect(&mount.spec) {
                tracing::warn!(file, field = notice.field, "{}", notice.message);
            }
        }
        self.announce(&old, &table);
        self.writer.purge().await;
        Ok(())
    }

    fn announce(&self, old: &MountTable, new: &MountTable) {
        tracing::info!(table = new.number, mounts = new.iter().count(), "mount table in force");
        for mount in new.iter() {
            if !old.iter().any(|before| Arc::ptr_eq(before, mount)) {
                tracing::info!(mount = mount.name, path = %mount.path, remote = mount.uri, generation = mount.id.0, deletes = ?mount.delete_policy, "mounted");
                tokio::spawn(probe(Arc::clone(mount), Arc::clone(&self.mounts), self.stop.clone()));
            }
        }
    }
}

/// Asks the remote for one key until it answers, so that a wrong endpoint shows before the first lookup.
///
/// After the first answer never again: an idle sidecar makes no requests.
async fn probe(mount: Arc<Mount>, mounts: Arc<Mounts>, stop: CancellationToken) {
    let request = ListRequest { prefix: mount.prefix.as_str().to_owned(), limit: 1, ..ListRequest::default() };
    loop {
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = mount.remote.list(&request) => answer,
        };
        match answer {
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(mount = mount.name, remote = mount.uri, kind = error.kind.as_str(), %error, "remote not reachable")
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PROBE_AGAIN) => {}
        }
        if !mounts.load().iter().any(|live| Arc::ptr_eq(live, &mount)) {
            return; // retired meanwhile
        }
    }
}
