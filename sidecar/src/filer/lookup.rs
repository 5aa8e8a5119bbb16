//! Lookup: store hit and fresh → answer; else one flight asks the remote (L1–L8).
//!
//! On a miss HEAD of the key and LIST of `key/` go side by side, so that a directory that was never
//! listed is found too (L2). Once HEAD has found a file, callers have their answer; the LIST, slower on
//! most servers, only completes what is kept. A file that is being revalidated costs a HEAD alone, and
//! the LIST only if it is gone. The flight publishes first and persists then, so a slow disk never
//! makes a caller wait (L4). Persisting asks no one: it writes what is known, ancestors included (L5).

use std::sync::Arc;

use futures_util::future::{Either, select};

use crate::clock;
use crate::entry::{Directory, File, Millis, Node};
use crate::filer::flight::Publisher;
use crate::filer::{Filer, FilerError, Found, Want};
use crate::mounts::Mount;
use crate::path::{FilerPath, MAX_KEY_BYTES, RelPath};
use crate::remote::{ListPage, ListRequest, RemoteError, Stat};
use crate::store::{Change, MountId};

/// What a flight is about: one name, and how it is asked for.
pub type FlightKey = (MountId, RelPath, Question);

/// How a name is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// Nothing is known: both ways at once; a file that is found answers at once.
    Name,
    /// A file is known: HEAD, and LIST only if it is gone.
    File,
    /// The directory is wanted, whatever file has the name: LIST.
    Directory,
}

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
        let hidden = self.hidden(mount, &rel)?;
        if hidden.directory && (hidden.file || want == Want::Directory) {
            return Err(FilerError::not_found(mount, &rel));
        }
        // What a delete has left open is for the remote to say, and one that is under way may be done by now (X8).
        self.settle_what_covers(mount, &rel).await?;
        let undecided = self.0.intents.covers(mount.id, &rel);
        let now = clock::now();
        let known = if undecided { Node::default() } else { self.known(mount, &rel, want) };
        let age = Age::of(&known, want, mount, now);
        if age == Age::Fresh {
            mount.metrics.hit.inc();
            return Ok(found(known.without(hidden), false));
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
        let question = match want {
            Want::Directory => Question::Directory,
            Want::Any | Want::Described if known.file.is_some() => Question::File,
            Want::Any | Want::Described => Question::Name,
        };
        match self.fly(mount, &rel, want, question).await {
            Some(Ok(node)) => {
                mount.set_failed(None);
                let node = self.unburied(mount, &rel, node).without(hidden);
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
    ///
    /// A row that a later question found absent is none: it was on its way then (L8).
    fn known(&self, mount: &Mount, rel: &RelPath, want: Want) -> Node {
        let gone = |asked| self.0.negatives.absent_since(mount.id, rel, asked);
        let file = self.stored(mount, rel, self.0.store.file(mount.id, rel));
        let file = file.filter(|file| file.pointer.is_none() || !gone(file.asked));
        if file.is_some() && want != Want::Directory {
            return Node { file, directory: None };
        }
        let directory = self.stored(mount, rel, self.0.store.directory(mount.id, rel));
        Node { file, directory: directory.filter(|directory| !gone(directory.asked)) }
    }

    /// An answer without what was deleted since its question was asked: the flight was on its way then (L8).
    fn unburied(&self, mount: &Mount, rel: &RelPath, node: Node) -> Node {
        let asked = node.file.as_ref().map(|file| file.asked).or(node.directory.map(|directory| directory.asked));
        let Some(asked) = asked else { return node };
        node.without(self.stored(mount, rel, self.0.store.buried(mount.id, rel, asked)))
    }

    async fn fly(&self, mount: &Arc<Mount>, rel: &RelPath, want: Want, question: Question) -> Option<Answer> {
        let key = (mount.id, rel.clone(), question);
        // Others may join who want it described.
        let want = if want == Want::Any { Want::Described } else { want };
        let good = |answer: &Answer| answer.as_ref().is_ok_and(|node| self.holds(mount, rel, want, node, clock::now()));
        let (filer, of, at) = (self.clone(), Arc::clone(mount), rel.clone());
        let start = move |publisher: Publisher<Answer>| async move {
            let asked = clock::now();
            // A flight may have landed between this caller's look at the store and now.
            let known = filer.known(&of, &at, want);
            if filer.holds(&of, &at, want, &known, asked) {
                return publisher.publish(Ok(known));
            }
            Flight { filer: &filer, mount: &of, rel: &at, known, asked }.fly(question, publisher).await;
        };
        self.0.flights.join(&self.0.tasks, key, good, start).await
    }

    /// Whether this can be told without asking the remote.
    fn holds(&self, mount: &Mount, rel: &RelPath, want: Want, known: &Node, now: Millis) -> bool {
        let decided = !self.0.intents.covers(mount.id, rel);
        (decided && Age::of(known, want, mount, now) == Age::Fresh)
            || (known.is_empty() && self.0.negatives.absent(mount.id, rel, now))
    }
}

/// What the remote said of one half of a name.
enum Told<T> {
    /// It was not asked, or could not be told.
    Unknown,
    Absent,
    Present(T),
}

/// What the remote said of one name.
struct Seen {
    file: Told<Stat>,
    directory: Told<()>,
}

impl Seen {
    const fn file(stat: Stat) -> Self {
        Self { file: Told::Present(stat), directory: Told::Unknown }
    }

    fn node(&self, asked: Millis) -> Node {
        let file = match &self.file {
            Told::Present(Stat { pointer, description }) => {
                let (pointer, description) = (Some(pointer.clone()), Some(description.clone()));
                Some(File { pointer, description, asked, doubted: false })
            }
            Told::Unknown | Told::Absent => None,
        };
        let file_absent = matches!(self.file, Told::Absent).then_some(asked);
        let directory = matches!(self.directory, Told::Present(()));
        Node { file, directory: directory.then_some(Directory { file_absent, ..Directory::seen(asked) }) }
    }
}

/// One flight, under way.
struct Flight<'f> {
    filer: &'f Filer,
    mount: &'f Mount,
    rel: &'f RelPath,
    known: Node,
    asked: Millis,
}

impl Flight<'_> {
    async fn fly(&self, question: Question, publisher: Publisher<Answer>) {
        let key = self.mount.prefix.key(self.rel);
        let request = ListRequest { prefix: self.mount.prefix.below(self.rel), limit: 1, ..ListRequest::default() };
        let list = || self.mount.remote.list(&request);
        let seen = match question {
            Question::File => match self.mount.remote.stat(&key).await {
                Ok(Some(stat)) => Ok(Seen::file(stat)),
                Ok(None) => both(Ok(None), list().await),
                Err(error) => Err(error),
            },
            Question::Directory => list().await.map(|page| Seen { file: Told::Unknown, directory: told(&page) }),
            Question::Name => match select(self.mount.remote.stat(&key), list()).await {
                Either::Left((Ok(Some(stat)), list)) => return self.found(stat, list, publisher).await,
                Either::Left((stat, list)) => both(stat, list.await),
                Either::Right((page, stat)) => both(stat.await, page),
            },
        };
        let changes = seen.as_ref().map(|seen| self.learn(seen)).unwrap_or_default();
        publisher.publish(seen.map(|seen| seen.node(self.asked)));
        self.filer.persist(self.mount, self.rel, changes).await;
    }

    /// A file: whoever asked has the answer; the LIST only completes what is kept.
    async fn found(
        &self,
        stat: Stat,
        list: impl Future<Output = Result<ListPage, RemoteError>>,
        publisher: Publisher<Answer>,
    ) {
        let seen = Seen::file(stat);
        let changes = self.learn(&seen);
        publisher.publish(Ok(seen.node(self.asked)));
        let ((), page) = tokio::join!(self.filer.persist(self.mount, self.rel, changes), list);
        if let Ok(page) = page {
            let changes = self.learn_directory(&Seen { file: seen.file, directory: told(&page) });
            self.filer.persist(self.mount, self.rel, changes).await;
        }
    }

    /// What an answer means for the store and the remembered absences.
    fn learn(&self, seen: &Seen) -> Vec<Change> {
        let (mount, rel, negatives) = (self.mount, self.rel, &self.filer.0.negatives);
        let mut changes = self.learn_directory(seen);
        match (&seen.file, seen.node(self.asked).file) {
            (_, Some(file)) => changes.push(Change::PutFile(mount.id, rel.clone(), file)),
            (Told::Absent, None) if self.known.file.is_some() || self.row_is_left() => {
                self.gone("file");
                changes.push(Change::FileGone(mount.id, rel.clone(), self.asked));
            }
            _ => {}
        }
        match (&seen.file, &seen.directory) {
            (Told::Present(_), _) | (_, Told::Present(())) => {
                negatives.forget(mount.id, rel, self.asked);
                changes.extend(rel.ancestors().map(|above| put_directory(mount.id, above, self.asked)));
            }
            (Told::Absent, Told::Absent) => {
                let until = clock::now().plus_seconds(mount.freshness.negative);
                negatives.remember(mount.id, rel, self.asked, until);
            }
            _ => {}
        }
        changes
    }

    fn learn_directory(&self, seen: &Seen) -> Vec<Change> {
        match (&seen.directory, seen.node(self.asked).directory) {
            (_, Some(directory)) => vec![Change::PutDirectory(self.mount.id, self.rel.clone(), directory)],
            // The directory half of a known file was not looked at: it may be there.
            (Told::Absent, None) if !self.known.is_empty() => {
                if self.known.directory.is_some() {
                    self.gone("directory");
                }
                vec![Change::DirectoryGone(self.mount.id, self.rel.clone(), self.asked)]
            }
            _ => Vec::new(),
        }
    }

    /// Whether a row is left that an earlier answer found absent while a delete was at work on it, and that delete has
    /// not taken away.
    fn row_is_left(&self) -> bool {
        let file = self.filer.0.store.file(self.mount.id, self.rel);
        file.is_ok_and(|file| file.is_some_and(|file| file.pointer.is_some()))
    }

    fn gone(&self, what: &str) {
        let path = self.mount.path.join(self.rel);
        tracing::info!(event = "removed", mount = self.mount.name, %path, "the remote no longer has the {what}");
        self.mount.metrics.removed.inc();
    }
}

/// What the two answers come to. Without the right to list, a file that HEAD found is still a file.
fn both(stat: Result<Option<Stat>, RemoteError>, page: Result<ListPage, RemoteError>) -> Result<Seen, RemoteError> {
    match (stat?, page) {
        (Some(stat), Err(_)) => Ok(Seen::file(stat)),
        (file, page) => Ok(Seen { file: file.map_or(Told::Absent, Told::Present), directory: told(&page?) }),
    }
}

fn told(page: &ListPage) -> Told<()> {
    if page.objects.is_empty() && page.prefixes.is_empty() { Told::Absent } else { Told::Present(()) }
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
            (_, Some(directory), Want::Directory) => directory.asked,
            (_, None, Want::Directory) | (None, None, _) => return Self::Unknown,
            (Some(File { pointer: None, .. }), _, _) => return Self::Fresh,
            // Known, but not well enough: it must be asked for.
            (Some(file), _, _) if file.doubted => return Self::Unknown,
            (Some(file), _, Want::Described) if file.description.is_none() => return Self::Unknown,
            (Some(file), _, _) => file.asked,
            // A file of the same name would come first; whether there is one must be known as well.
            (None, Some(directory), _) => match directory.file_absent {
                Some(asked) => asked.min(directory.asked),
                None => return Self::Unknown,
            },
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
    Node { file: None, directory: Some(Directory::seen(Millis(0))) }
}

/// A directory as of `asked`.
pub fn put_directory(mount: MountId, path: RelPath, asked: Millis) -> Change {
    Change::PutDirectory(mount, path, Directory::seen(asked))
}
