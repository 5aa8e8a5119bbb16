//! Directories: whether one may go, and what goes with it (X1, X6, X7).
//!
//! Whether a directory is empty is for the remote to say; what this filer happens to know of it says
//! nothing. The mount's own directory can be emptied but not removed.

use remotemount_crds::DeletePolicy;

use crate::clock;
use crate::crash;
use crate::entry::{Entry, Millis, Pointer};
use crate::filer::FilerError;
use crate::filer::delete::{DeleteAnswer, Deleted, Deletion};
use crate::path::{Child, RelPath, child_of};
use crate::remote::{ListPage, ListRequest};
use crate::store::{Change, Cursor, DirectoryDeletion, Extent, FileDeletion};

impl Deletion {
    /// Deletes a directory that the remote has; `page` is the beginning of what lies below it as of `asked`.
    pub(super) async fn directory(&self, page: ListPage, asked: Millis) -> DeleteAnswer {
        if !self.order.recursive {
            let own_marker = self.mount.prefix.below(&self.rel);
            let other = page.objects.iter().any(|(key, pointer)| *key != own_marker || pointer.size > 0);
            if other || page.next.is_some() || self.local_children()? {
                return Err(FilerError::NotEmpty { mount: self.mount.name.clone(), path: self.path() });
            }
            if self.rel.is_root() {
                return Err(FilerError::MountRoot { mount: self.mount.name.clone(), path: self.path() });
            }
        }
        match self.mount.delete_policy {
            DeletePolicy::Retain if self.rel.is_root() => self.hide_children().await,
            DeletePolicy::Retain => self.directory_here(clock::now(), Extent::Whole, true).await,
            _ => self.sweep(page, asked).await,
        }
    }

    /// The remote has nothing of the name; what is known of it goes, and a name that is nowhere is no error.
    ///
    /// Even one that nobody knows is noted as deleted: an answer that is on its way must not bring it back (L8).
    pub(super) async fn nothing_there(&self) -> DeleteAnswer {
        let at = clock::now();
        let local = self.local_children()?;
        if local && !self.order.recursive {
            return Err(FilerError::NotEmpty { mount: self.mount.name.clone(), path: self.path() });
        }
        self.allowed()?;
        let known = local || self.stored()?.directory.is_some();
        let (mount, origin) = (self.mount.id, self.origin());
        let directory = DirectoryDeletion { since: at, at, extent: Extent::Known, hide: false, origin };
        let mut changes = vec![Change::DeleteDirectory(mount, self.rel.clone(), directory)];
        if !self.order.directory {
            let file = FileDeletion { at, ..self.deletion(at, None, false) };
            changes.push(Change::DeleteFile(mount, self.rel.clone(), file));
        }
        self.commit(changes).await?;
        crash::point("local-delete-durable");
        Ok(Deleted { count: u64::from(known) })
    }

    /// It was deleted elsewhere: only what is known goes, and the remote is not asked (X7).
    pub(super) async fn known_only(&self) -> DeleteAnswer {
        let node = self.stored()?;
        match node.file {
            Some(file) if !self.order.directory && self.modified_since(&file) => Ok(Deleted::default()),
            Some(_) if !self.order.directory => self.file_here(None, false).await,
            _ if node.directory.is_none() && !self.children()? => Ok(Deleted::default()),
            _ if !self.order.recursive && self.children()? => {
                Err(FilerError::NotEmpty { mount: self.mount.name.clone(), path: self.path() })
            }
            _ => self.directory_here(clock::now(), Extent::Known, false).await,
        }
    }

    /// Takes away what is known of the directory and of everything below it.
    async fn directory_here(&self, at: Millis, extent: Extent, hide: bool) -> DeleteAnswer {
        self.allowed()?;
        let deletion = DirectoryDeletion { since: at, at, extent, hide, origin: self.origin() };
        self.commit(vec![Change::DeleteDirectory(self.mount.id, self.rel.clone(), deletion)]).await?;
        crash::point("local-delete-durable");
        Ok(Deleted { count: 1 })
    }

    /// Hides each name in the mount's own directory; names that come later are shown (X1).
    async fn hide_children(&self) -> DeleteAnswer {
        let below = self.mount.prefix.below(&self.rel);
        let mut request =
            ListRequest { prefix: below.clone(), directories: true, limit: 1000, ..ListRequest::default() };
        let mut count = 0;
        loop {
            self.allowed()?;
            let page = self.mount.remote.list(&request).await;
            let page = page.map_err(|error| FilerError::remote(&self.mount, &self.rel, error))?;
            let changes: Vec<Change> = page
                .objects
                .iter()
                .map(|(key, pointer)| (child_of(&below, key), Some(pointer.clone())))
                .chain(page.prefixes.iter().map(|prefix| (child_of(&below, prefix), None)))
                .filter_map(|(child, pointer)| self.hide(&child, pointer).transpose())
                .collect::<Result<_, _>>()?;
            count += changes.len() as u64;
            if !changes.is_empty() {
                self.commit(changes).await?;
            }
            request.token = page.next;
            if request.token.is_none() {
                let deletion = self.local_files();
                self.commit(vec![Change::DeleteDirectory(self.mount.id, self.rel.clone(), deletion)]).await?;
                return Ok(Deleted { count });
            }
        }
    }

    /// Hides a child that is not hidden yet.
    fn hide(&self, child: &Child, pointer: Option<Pointer>) -> Result<Option<Change>, FilerError> {
        let (mount, at, origin) = (self.mount.id, clock::now(), self.origin());
        let hidden = |path: &RelPath| {
            let hidden = self.filer.0.store.hidden(mount, path);
            hidden.map_err(|error| FilerError::store(&self.mount, path, error))
        };
        Ok(match child {
            Child::File(name) => {
                let path = self.rel.child(name);
                let deletion = FileDeletion { since: at, at, pointer, hide: true, origin };
                if hidden(&path)?.file { None } else { Some(Change::DeleteFile(mount, path, deletion)) }
            }
            Child::Directory(name) => {
                let path = self.rel.child(name);
                let deletion = DirectoryDeletion { since: at, at, extent: Extent::Whole, hide: true, origin };
                if hidden(&path)?.directory { None } else { Some(Change::DeleteDirectory(mount, path, deletion)) }
            }
            Child::Marker | Child::Unnameable => None,
        })
    }

    /// The files below that exist nowhere else.
    pub(super) fn local_files(&self) -> DirectoryDeletion {
        let now = clock::now();
        DirectoryDeletion { since: now, at: now, extent: Extent::LocalOnly, hide: false, origin: self.origin() }
    }

    /// Whether the store has a file below that exists nowhere else, or a directory that may hold one.
    fn local_children(&self) -> Result<bool, FilerError> {
        let mut directories = vec![self.rel.clone()];
        while let Some(directory) = directories.pop() {
            let mut cursor = Cursor::start();
            loop {
                let children = self.filer.0.store.children(self.mount.id, &directory, &cursor, 1000);
                let children = children.map_err(|error| FilerError::store(&self.mount, &self.rel, error))?;
                let Some(last) = children.last() else { break };
                cursor = last.cursor();
                for child in &children {
                    match &child.entry {
                        Entry::File(file) if file.pointer.is_none() => return Ok(true),
                        Entry::File(_) => {}
                        Entry::Directory(_) => directories.push(directory.child(&child.name)),
                    }
                }
            }
        }
        Ok(false)
    }

    fn children(&self) -> Result<bool, FilerError> {
        let children = self.filer.0.store.children(self.mount.id, &self.rel, &Cursor::start(), 1);
        Ok(!children.map_err(|error| FilerError::store(&self.mount, &self.rel, error))?.is_empty())
    }

    pub(super) fn path(&self) -> String {
        self.mount.path.join(&self.rel).to_string()
    }

    /// The path of a key below the mount, for people.
    pub(super) fn path_of(&self, rel: &RelPath) -> String {
        self.mount.path.join(rel).to_string()
    }
}
