//! Files of an image, and the tar they become.
//!
//! Owns the order (as given, folders before what is in them), owners and modes, and that nothing of the machine gets
//! in: every time is the beginning of 1970, every folder that no one named is root's.
//!
//! Takes of a host file its bytes alone, never its mode or owner.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use flate2::GzBuilder;
use tar::{EntryType, Header};

/// Files that are stored as one.
#[derive(Debug, Clone)]
pub struct Layer {
    /// What is in it.
    pub files: Vec<File>,
    /// How it is stored.
    pub compression: Compression,
}

impl Layer {
    /// A layer as registries have them.
    #[must_use]
    pub fn gzip(files: Vec<File>) -> Layer {
        Layer { files, compression: Compression::Gzip }
    }

    /// A layer that is quicker to make and to import.
    #[must_use]
    pub fn plain(files: Vec<File>) -> Layer {
        Layer { files, compression: Compression::None }
    }

    pub(super) fn tar(&self) -> Result<Vec<u8>> {
        let mut tar = Tar::new();
        let mut there = BTreeSet::new();
        for file in &self.files {
            let path = inside(&file.path)?;
            let folders: Vec<&Path> = path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
            for folder in folders.into_iter().rev() {
                if there.insert(folder.to_path_buf()) {
                    tar.folder(&format!("{}/", folder.display()), 0o755)?;
                }
            }
            ensure!(there.insert(path.clone()), "{} is named twice, or after what is in it", file.path);
            let name = path.to_str().with_context(|| format!("{} is not text", file.path))?;
            tar.add(name, file).with_context(|| format!("adding {}", file.path))?;
        }
        tar.finish()
    }
}

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// gzip, as strong as it can.
    Gzip,
}

impl Compression {
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        }
    }

    pub(super) fn apply(self, plain: Vec<u8>) -> Result<Vec<u8>> {
        match self {
            Compression::None => Ok(plain),
            Compression::Gzip => {
                // Neither a time nor the system it was made on.
                let mut gzip =
                    GzBuilder::new().mtime(0).operating_system(255).write(Vec::new(), flate2::Compression::best());
                gzip.write_all(&plain)?;
                gzip.finish().context("compressing a layer")
            }
        }
    }
}

/// A file, folder or link of an image.
#[derive(Debug, Clone)]
pub struct File {
    /// Absolute, in the image.
    pub path: String,
    /// What it is.
    pub content: Content,
    /// Its permissions, such as `0o755`.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What a [`File`] is.
#[derive(Debug, Clone)]
pub enum Content {
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A file with the bytes of a file of the host.
    Host(PathBuf),
    /// A folder.
    Folder,
    /// A symbolic link to that path.
    Link(String),
}

impl File {
    /// A file with that text, of root's.
    #[must_use]
    pub fn text(path: &str, text: &str, mode: u32) -> File {
        File::new(path, Content::Bytes(text.as_bytes().to_vec()), mode)
    }

    /// A file of the host, of root's in the image.
    #[must_use]
    pub fn of_host(path: &str, host: impl Into<PathBuf>, mode: u32) -> File {
        File::new(path, Content::Host(host.into()), mode)
    }

    /// A folder, of root's.
    #[must_use]
    pub fn folder(path: &str, mode: u32) -> File {
        File::new(path, Content::Folder, mode)
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(path: &str, target: &str) -> File {
        File::new(path, Content::Link(target.to_owned()), 0o777)
    }

    /// The same, of someone else's.
    #[must_use]
    pub fn owned_by(self, uid: u32, gid: u32) -> File {
        File { uid, gid, ..self }
    }

    fn new(path: &str, content: Content, mode: u32) -> File {
        File { path: path.to_owned(), content, mode, uid: 0, gid: 0 }
    }
}

/// A tar that is the same whenever it is made.
pub(super) struct Tar {
    builder: tar::Builder<Vec<u8>>,
}

impl Tar {
    pub fn new() -> Tar {
        Tar { builder: tar::Builder::new(Vec::new()) }
    }

    pub fn file(&mut self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        self.builder.append_data(&mut header(EntryType::Regular, bytes.len(), mode, 0, 0), name, bytes)?;
        Ok(())
    }

    pub fn folder(&mut self, name: &str, mode: u32) -> Result<()> {
        self.builder.append_data(&mut header(EntryType::Directory, 0, mode, 0, 0), name, &[][..])?;
        Ok(())
    }

    fn add(&mut self, name: &str, file: &File) -> Result<()> {
        let made = |entry: EntryType, size: usize| header(entry, size, file.mode, file.uid, file.gid);
        match &file.content {
            Content::Bytes(bytes) => {
                self.builder.append_data(&mut made(EntryType::Regular, bytes.len()), name, bytes.as_slice())?;
            }
            Content::Host(host) => {
                let bytes = fs::read(host).with_context(|| format!("reading {}", host.display()))?;
                self.builder.append_data(&mut made(EntryType::Regular, bytes.len()), name, bytes.as_slice())?;
            }
            Content::Folder => {
                self.builder.append_data(&mut made(EntryType::Directory, 0), format!("{name}/"), &[][..])?;
            }
            Content::Link(target) => self.builder.append_link(&mut made(EntryType::Symlink, 0), name, target)?,
        }
        Ok(())
    }

    pub fn finish(self) -> Result<Vec<u8>> {
        self.builder.into_inner().context("ending a tar")
    }
}

fn header(entry: EntryType, size: usize, mode: u32, uid: u32, gid: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(entry);
    header.set_size(size as u64);
    header.set_mode(mode);
    header.set_uid(u64::from(uid));
    header.set_gid(u64::from(gid));
    header.set_mtime(0);
    header
}

/// The path as a tar has it: without the first slash.
fn inside(path: &str) -> Result<PathBuf> {
    let mut parts = Path::new(path).components();
    ensure!(parts.next() == Some(Component::RootDir), "{path} is not absolute");
    let inside: PathBuf = parts
        .map(|part| match part {
            Component::Normal(part) => Ok(part),
            _ => bail!("{path} has a part that is no name"),
        })
        .collect::<Result<_>>()?;
    ensure!(!inside.as_os_str().is_empty(), "the root folder is always there");
    Ok(inside)
}
