//! The images that a node has from its start: the one that holds a pod together, and a workload for tests.
//!
//! Both are made of unmodified programs: Debian's busybox, which is one static file, and curl with the libraries that
//! it needs; and rclone, static too.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::oci::{File, Image, Layer, Platform, Process};
use crate::tools;

/// The name of the image that a pod's sandbox runs.
pub const PAUSE: &str = "remotemount-tests/pause:1";

/// An image for the app containers of tests: a shell, `curl`, `rclone` as an S3 client, and `httpd` to serve a folder.
///
/// It runs as user 65534 and needs neither a writable root nor a capability.
pub const WORKLOAD: &str = "remotemount-tests/workload:1";

/// What of busybox has a name of its own. Not `wget`: as a static program it cannot look up a name, and ends by a fault.
const APPLETS: &[&str] = &[
    "cat",
    "echo",
    "env",
    "find",
    "grep",
    "head",
    "httpd",
    "id",
    "kill",
    "ls",
    "mkdir",
    "nslookup",
    "ps",
    "rm",
    "seq",
    "sh",
    "sha256sum",
    "sleep",
    "stat",
    "tail",
    "test",
    "touch",
    "true",
    "wc",
];

/// What keeps the namespaces of a pod: a program that waits.
///
/// # Errors
/// Its program cannot be had.
pub fn pause() -> Result<Image> {
    let entrypoint = ["/bin/busybox", "tail", "-f", "/dev/null"].map(str::to_owned).to_vec();
    let files = vec![busybox()?];
    Ok(image(PAUSE, Process { entrypoint, user: "65535:65535".to_owned(), ..Process::default() }, files))
}

/// The image [`WORKLOAD`].
///
/// # Errors
/// Its programs cannot be had.
pub fn workload() -> Result<Image> {
    let mut files = vec![busybox()?];
    files.extend(APPLETS.iter().map(|name| File::link(&format!("/bin/{name}"), "busybox")));
    files.push(File::of_host("/bin/rclone", tools::bin("rclone")?, 0o755));
    let curl = tools::node_folder()?.join("workload");
    add_tree(&mut files, &curl, &curl)?;
    files.push(File::text("/etc/passwd", "nobody:x:65534:65534:nobody:/tmp:/bin/sh\n", 0o644));
    files.push(File::text("/etc/group", "nogroup:x:65534:\n", 0o644));
    files.push(File::folder("/tmp", 0o1777));
    let process = Process {
        command: vec!["/bin/sh".to_owned()],
        user: "65534:65534".to_owned(),
        environment: vec!["PATH=/bin:/usr/bin".to_owned(), "HOME=/tmp".to_owned()],
        ..Process::default()
    };
    Ok(image(WORKLOAD, process, files))
}

fn busybox() -> Result<File> {
    Ok(File::of_host("/bin/busybox", tools::node_folder()?.join("busybox"), 0o755))
}

/// Every file below `folder`, at the place that it has below `top`.
fn add_tree(files: &mut Vec<File>, top: &Path, folder: &Path) -> Result<()> {
    let mut entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("reading {}", folder.display()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            add_tree(files, top, &path)?;
        } else {
            let inside = format!("/{}", path.strip_prefix(top)?.display());
            files.push(File::of_host(&inside, &path, 0o755));
        }
    }
    Ok(())
}

fn image(name: &str, process: Process, files: Vec<File>) -> Image {
    // Not compressed: it is unpacked at once, on the same machine.
    let layers = vec![Layer::plain(files)];
    Image { name: name.to_owned(), platform: Platform::host(), process, labels: [].into(), layers }
}
