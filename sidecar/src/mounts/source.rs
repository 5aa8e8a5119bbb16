//! Reads a directory of manifests: all of it or none of it.
//!
//! `*.yaml` and `*.yml` files, each holding RemoteMounts. Names that begin with a dot are skipped:
//! projected volumes keep their data and its symlink there (`..data`). Every problem is told with its
//! file; one bad file refuses the whole set, so that a table is never half of what was meant (M3).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use remotemount_crds::RemoteMount;
use remotemount_crds::manifest::{self, Document, MAX_BYTES, ManifestError};
use serde::Serialize;

use crate::path::FilerPath;

/// One manifest and where it was read.
#[derive(Clone, Debug)]
pub struct Sourced {
    /// The file's name.
    pub file: String,
    /// What it holds.
    pub mount: RemoteMount,
    /// Its fields that are not known here: a newer operator wrote it.
    pub unknown: Vec<String>,
    /// Where that came from.
    pub origin: Origin,
    /// It is marked as removed: nothing may be deleted through it (X9).
    pub withdrawn: bool,
}

/// Where a manifest came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// From a file.
    File,
    /// By the control link ([`super::newest`]).
    Link,
}

impl From<RemoteMount> for Sourced {
    /// A manifest as if from a file without a name.
    fn from(mount: RemoteMount) -> Self {
        Self { file: String::new(), mount, unknown: Vec::new(), origin: Origin::File, withdrawn: false }
    }
}

impl From<Document> for Sourced {
    fn from(Document { mount, unknown }: Document) -> Self {
        Self { unknown, ..Self::from(mount) }
    }
}

/// One problem and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// The file, or the directory.
    pub file: String,
    /// What is wrong and what to change.
    pub message: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.message)
    }
}

/// Reads every manifest in `directory`.
///
/// # Errors
/// Every problem of every file.
pub fn read(directory: &Path) -> Result<Vec<Sourced>, Vec<FileProblem>> {
    let of_directory =
        |error: io::Error| FileProblem { file: directory.display().to_string(), message: reason(&error) };
    let files = files(directory).map_err(|error| vec![of_directory(error)])?;
    let mut sourced = Vec::new();
    let mut problems = Vec::new();
    for path in files {
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match read_file(&path) {
            Ok(documents) => {
                sourced.extend(documents.into_iter().map(|read| Sourced { file: file.clone(), ..Sourced::from(read) }));
            }
            Err(Failure::Manifest(ManifestError::Invalid(broken))) => {
                problems.extend(broken.into_iter().map(|p| FileProblem { file: file.clone(), message: p.to_string() }));
            }
            Err(Failure::Manifest(error)) => problems.push(FileProblem { file, message: error.to_string() }),
            Err(Failure::Io(error)) => problems.push(FileProblem { file, message: of_file(&error) }),
            Err(Failure::NotAFile) => {
                let message = "is not a file: only files are read here; rename it or move it away".to_owned();
                problems.push(FileProblem { file, message });
            }
        }
    }
    problems.extend(clashes(&sourced));
    if problems.is_empty() { Ok(sourced) } else { Err(problems) }
}

/// Names that two manifests both claim: a path, or a mount's name.
pub(super) fn clashes(sourced: &[Sourced]) -> Vec<FileProblem> {
    let mut problems = Vec::new();
    let (mut paths, mut names) = (BTreeMap::new(), BTreeMap::new());
    for Sourced { file, mount, .. } in sourced {
        let name = mount.metadata.name.clone().unwrap_or_default();
        if let Ok(path) = FilerPath::parse(&mount.spec.path)
            && let Some(other) = paths.insert(path.to_string(), file)
        {
            let message = format!("spec.path: {path} is also mounted by {other}: give one of them another path");
            problems.push(FileProblem { file: file.clone(), message });
        }
        if let Some(other) = names.insert(name.clone(), file) {
            let message = format!("metadata.name: {name} is also the name of a mount in {other}: rename one of them");
            problems.push(FileProblem { file: file.clone(), message });
        }
    }
    problems
}

enum Failure {
    NotAFile,
    Io(io::Error),
    Manifest(ManifestError),
}

fn read_file(path: &Path) -> Result<Vec<Document>, Failure> {
    let meta = std::fs::metadata(path).map_err(Failure::Io)?;
    if !meta.is_file() {
        // Opening a pipe would wait for ever.
        return Err(Failure::NotAFile);
    }
    if meta.len() > MAX_BYTES as u64 {
        let size = usize::try_from(meta.len()).unwrap_or(usize::MAX);
        return Err(Failure::Manifest(ManifestError::TooLarge { size }));
    }
    let bytes = std::fs::read(path).map_err(Failure::Io)?;
    manifest::read(&bytes).map_err(Failure::Manifest)
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        let yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn of_file(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "is a link to nothing: mend its target or remove it".to_owned(),
        io::ErrorKind::PermissionDenied => "cannot be read: allow the sidecar's user to read it".to_owned(),
        _ => error.to_string(),
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "does not exist: name the directory that holds the manifests".to_owned(),
        io::ErrorKind::PermissionDenied => "cannot be read: allow the sidecar's user to read it".to_owned(),
        io::ErrorKind::NotADirectory => "is not a directory: name the directory that holds the manifests".to_owned(),
        _ => error.to_string(),
    }
}

/// What a directory of manifests looks like from outside; when it differs, the files are read again.
///
/// By content, because a projected volume swaps symlinks and may keep times and sizes.
#[must_use]
pub fn fingerprint(directory: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let read = |path: PathBuf| {
        let small = std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BYTES as u64);
        let content = small.then(|| std::fs::read(&path).ok()).flatten();
        (path, content)
    };
    files(directory).unwrap_or_default().into_iter().map(read).collect()
}
