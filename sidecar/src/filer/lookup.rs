//! Lookup: store hit and fresh → answer; else one flight asks the remote (L1–L8).
//!
//! On a miss HEAD of the key and LIST of `key/` go side by side, so that a directory that was never
//! listed is found too (L2). A file that is only being revalidated costs a HEAD alone, and the LIST
//! only if the file is gone. The flight publishes first and persists then, so a slow disk never makes
//! a caller wait (L4). Persisting asks no one: it writes what is known, ancestors included (L5).

use std::sync::Arc;

use crate::clock;
use crate::entry::{Directory, File, Millis, Node};
use crate::filer::{Filer, FilerError, Found, Want};
use crate::mounts::Mount;
use crate::path::{FilerPath, MAX_KEY_BYTES, RelPath};
use crate::remote::{ListRequest, RemoteError};
use crate::store::{Change, MountId};

/// What a flight is about: one name, or one name's directory half.
pub type FlightKey = (MountId, RelPath, bool);

/// What a flight answers: what the remote has, or why it could not be asked.
pub type Answer = Result<Node, RemoteError>;

impl Filer {
    /// What `path` is.
    ///
    /// # Errors
    /// [`FilerError::NotFound`] only when the remote says so, or no mount covers the path.
    pub async fn lookup(&self, path: &FilerPath, want: Want) -> Result<Found, FilerError> {
        let table = self.table(path)?;
        let Some((mount, rel)) = table.resolve(path) else {
            if !table.leads_to_mount(path) {
                return Err(FilerError::NotFound { mount: None, path: path.to_string() });
            }
            let node = synthetic_directory();
            return Ok(Found { mount: None, path: path.clone(), rel: RelPath::default(), node, stale: false });
        };
        let found =
            |node, stale| Found { mount: Some(Arc::clone(mount)), path: path.clone(), rel: rel.clone(), node, stale };
        // A mount's own directory is there because the mount is, and so is the way to a nested mount.
        if rel.is_root() || table.leads_to_mount(path) {
            return Ok(found(synthetic_directory(), false));
        }
        let now = clock::now();
        let known = self.known(mount, &rel, want);
        let age = Age::of(&known, want, mount, now);
        if age == Age::Fresh {
            mount.metrics.hit.inc();
            return Ok(found(known, false));
        }
        if mount.prefix.key(&rel).len() > MAX_KEY_BYTES {
            return Err(FilerError::not_found(mount, &rel));
        }
        if known.is_empty() && self.0.negatives.absent(mount.id, &rel, now) {
            mount.metrics.negative_hit.inc();
            return Err(FilerError::not_found(mount, &rel));
        }
        if age == Age::Stale && mount.failed_lately(now) {
            mount.metrics.stale.inc();
            return Ok(found(known, true));
        }
        mount.metrics.miss.inc();
        let head_only = want != Want::Directory && known.file.is_some();
        match self.fly(mount, &rel, want, head_only).await {
            Some(Ok(node)) => {
                mount.set_failed(None);
                if satisfies(&node, want) { Ok(found(node, false)) } else { Err(FilerError::not_found(mount, &rel)) }
            }
            Some(Err(error)) if error.kind.is_transient() && age == Age::Stale => {
                mount.set_failed(Some(clock::now()));
                mount.metrics.stale.inc();
                tracing::warn!(mount = mount.name, %path, %error, "old entry served: the remote cannot be asked");
                Ok(found(known, true))
            }
            Some(Err(error)) => {
                mount.metrics.error.inc();
                Err(FilerError::remote(mount, &rel, error))
            }
            None => {
                mount.metrics.error.inc();
                Err(FilerError::lost(mount, &rel))
            }
        }
    }

    /// Reads only the half that matters, where that is enough.
    fn known(&self, mount: &Mount, rel: &RelPath, want: Want) -> Node {
        let file = self.stored(mount, rel, self.0.store.file(mount.id, rel));
        if file.is_some() && want != Want::Directory {
            return Node { file, directory: None };
        }
        let directory = self.stored(mount, rel, self.0.store.directory(mount.id, rel));
        Node { file, directory }
    }

    /// A file alone is revalidated by HEAD alone; all else asks both ways, in a flight of its own kind.
    async fn fly(&self, mount: &Arc<Mount>, rel: &RelPath, want: Want, head_only: bool) -> Option<Answer> {
        let key = (mount.id, rel.clone(), head_only);
        let (filer, mount, rel) = (self.clone(), Arc::clone(mount), rel.clone());
        self.0
            .flights
            .join(&self.0.tasks, key, move |publisher| async move {
                let asked = clock::now();
                // A flight may have landed between this caller's look at the store and now.
                let known = filer.known(&mount, &rel, want);
                let landed = Age::of(&known, want, &mount, asked) == Age::Fresh;
                if landed || (known.is_empty() && filer.0.negatives.absent(mount.id, &rel, asked)) {
                    return publisher.publish(Ok(known));
                }
                let answer = ask(&mount, &rel, head_only).await;
                let changes = match &answer {
                    Ok(seen) => filer.learn(&mount, &rel, &known, seen, asked),
                    Err(_) => Vec::new(),
                };
                publisher.publish(answer.map(|seen| seen.node(asked)));
                filer.persist(&mount, &rel, changes).await;
            })
            .await
    }

    /// What an answer means for the store and the remembered absences.
    fn learn(&self, mount: &Mount, rel: &RelPath, known: &Node, seen: &Seen, asked: Millis) -> Vec<Change> {
        let mut changes = Vec::new();
        let node = seen.node(asked);
        match node.file {
            Some(file) => changes.push(Change::PutFile(mount.id, rel.clone(), file)),
            None if known.file.is_some() => {
                tracing::info!(event = "removed", mount = mount.name, path = %mount.path.join(rel), "the remote no longer has the file");
                mount.metrics.removed.inc();
                changes.push(Change::FileGone(mount.id, rel.clone(), asked));
            }
            None => {}
        }
        match seen.directory {
            Some(true) => changes.push(put_directory(mount.id, rel.clone(), asked)),
            Some(false) if known.directory.is_some() => {
                tracing::info!(event = "removed", mount = mount.name, path = %mount.path.join(rel), "the remote no longer has the directory");
                mount.metrics.removed.inc();
                changes.push(Change::DirectoryGone(mount.id, rel.clone(), asked));
            }
            _ => {}
        }
        if seen.file.is_some() || seen.directory == Some(true) {
            self.0.negatives.forget(mount.id, rel);
            changes.extend(rel.ancestors().map(|above| put_directory(mount.id, above, asked)));
        } else {
            let until = clock::now().plus_seconds(mount.freshness.negative);
            self.0.negatives.remember(mount.id, rel, asked, until);
        }
        changes
    }
}

/// What the remote said of one name.
struct Seen {
    file: Option<crate::remote::Stat>,
    /// `None` when it was not asked, or could not be told.
    directory: Option<bool>,
}

impl Seen {
    fn node(&self, asked: Millis) -> Node {
        let file = self.file.as_ref().map(|stat| File {
            pointer: Some(stat.pointer.clone()),
            description: Some(stat.description.clone()),
            asked,
        });
        let directory = (self.directory == Some(true)).then_some(Directory { asked, first_seen: asked });
        Node { file, directory }
    }
}

async fn ask(mount: &Mount, rel: &RelPath, head_only: bool) -> Result<Seen, RemoteError> {
    let key = mount.prefix.key(rel);
    let below = ListRequest { prefix: mount.prefix.below(rel), limit: 1, ..ListRequest::default() };
    if head_only && let Some(stat) = mount.remote.stat(&key).await? {
        return Ok(Seen { file: Some(stat), directory: None });
    }
    let (stat, page) = if head_only {
        (Ok(None), mount.remote.list(&below).await)
    } else {
        tokio::join!(mount.remote.stat(&key), mount.remote.list(&below))
    };
    let file = stat?;
    let directory = page.map(|page| !page.objects.is_empty() || !page.prefixes.is_empty());
    // Without the right to list, a file that HEAD found is still a file.
    match (file, directory) {
        (Some(file), Err(_)) => Ok(Seen { file: Some(file), directory: None }),
        (file, directory) => Ok(Seen { file, directory: Some(directory?) }),
    }
}

/// How far what is known can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Fresh,
    /// Past its time, but good while the remote cannot be asked.
    Stale,
    Unknown,
}

impl Age {
    fn of(known: &Node, want: Want, mount: &Mount, now: Millis) -> Self {
        let asked = match (&known.file, known.directory, want) {
            (Some(File { pointer: None, .. }), _, Want::Any | Want::Described) => return Self::Fresh,
            (Some(file), _, Want::Any) => file.asked,
            (Some(file), _, Want::Described) if file.description.is_some() => file.asked,
            // Known, but not well enough: it must be asked for.
            (Some(_), _, Want::Described) => return Self::Unknown,
            (None, Some(directory), _) | (Some(_), Some(directory), Want::Directory) => directory.asked,
            (_, None, _) => return Self::Unknown,
        };
        let freshness = mount.freshness;
        if asked.fresh(freshness.entry, now) {
            Self::Fresh
        } else if asked.fresh(freshness.entry.saturating_add(freshness.stale_if_error), now) {
            Self::Stale
        } else {
            Self::Unknown
        }
    }
}

fn satisfies(node: &Node, want: Want) -> bool {
    match want {
        Want::Any | Want::Described => !node.is_empty(),
        Want::Directory => node.directory.is_some(),
    }
}

fn synthetic_directory() -> Node {
    let start = Directory { asked: Millis(0), first_seen: Millis(0) };
    Node { file: None, directory: Some(start) }
}

/// A directory as of `asked`.
pub fn put_directory(mount: MountId, path: RelPath, asked: Millis) -> Change {
    Change::PutDirectory(mount, path, Directory { asked, first_seen: asked })
}
