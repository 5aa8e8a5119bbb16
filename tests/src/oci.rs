//! Writes container images as archives, without a container engine: what `make images` gives to users, and what
//! the tests' own node runs.
//!
//! One file that several readers take: an OCI image layout, with the `manifest.json` beside it that `docker load`
//! looks for. So `ctr images import`, `docker load`, `podman load` and `skopeo copy oci-archive:` or
//! `docker-archive:` all read it. The same image gives the same bytes, on every machine and at every time: no clock,
//! no order of a folder and no owner of a host file goes in.
//!
//! ```no_run
//! use remotemount_tests::oci::{File, Image, Layer, Platform, Process};
//!
//! let image = Image {
//!     name: "remotemount-sidecar:0.1.0".to_owned(), // becomes docker.io/library/…, as kubelet reads such a name
//!     platform: Platform::host(),
//!     process: Process { entrypoint: vec!["/usr/bin/remotemount-sidecar".to_owned()], user: "65532:65532".to_owned(), ..Process::default() },
//!     labels: [("org.opencontainers.image.title".to_owned(), "RemoteMount sidecar".to_owned())].into(),
//!     // Parent folders come by themselves (0755, root); one layer or several, as a Dockerfile would have.
//!     layers: vec![Layer::gzip(vec![
//!         File::of_host("/usr/bin/remotemount-sidecar", "target/release/remotemount-sidecar", 0o755),
//!         File::text("/etc/passwd", "nonroot:x:65532:65532::/:/sbin/nologin\n", 0o644),
//!         File::folder("/var/lib/remotemount", 0o700).owned_by(65532, 65532),
//!     ])],
//! };
//! let written = image.archive("dist/sidecar.tar".as_ref())?;
//! println!("{} {} bytes", written.digest, written.size);
//! # anyhow::Ok(())
//! ```
//!
//! Never runs anything, and never reads an image.

mod layer;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use aws_lc_rs::digest;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

pub use layer::{Compression, File, Layer};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// All that is written into an archive.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name with a tag: `name:tag`, or with a registry and folders before it.
    pub name: String,
    /// What it runs on.
    pub platform: Platform,
    /// What is run.
    pub process: Process,
    /// Labels, such as `org.opencontainers.image.version`.
    pub labels: BTreeMap<String, String>,
    /// Its files, from the lowest layer up.
    pub layers: Vec<Layer>,
}

/// What a container of the image runs, where a pod says nothing else.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments that a pod's `args` replace.
    pub command: Vec<String>,
    /// `uid`, `uid:gid`, or a name in the image's `/etc/passwd`; empty is root. A pod with `runAsNonRoot` needs a number.
    pub user: String,
    /// Variables as `NAME=value`.
    pub environment: Vec<String>,
    /// Where it starts; empty is `/`.
    pub folder: String,
    /// Ports it listens at, as `8080/tcp`: for people, no one opens them.
    pub ports: Vec<String>,
}

/// What an image runs on, in the words of OCI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64` or `arm64`.
    pub architecture: String,
}

impl Platform {
    /// Linux on that architecture.
    #[must_use]
    pub fn linux(architecture: &str) -> Platform {
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned() }
    }

    /// The one that this program was built for.
    #[must_use]
    pub fn host() -> Platform {
        Platform::linux(match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        })
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The full name, as a container runtime has it.
    pub name: String,
    /// The manifest's digest: `sha256:…`, what `name@digest` names.
    pub digest: String,
    /// Bytes of the archive.
    pub size: u64,
    /// Bytes that a registry would hold and a node would pull: config and layers, as compressed as they are.
    pub pulled: u64,
}

/// A blob by its digest.
struct Blob {
    digest: String,
    bytes: Vec<u8>,
}

impl Blob {
    fn new(bytes: Vec<u8>) -> Blob {
        Blob { digest: sha256(&bytes), bytes }
    }

    fn of(document: &Value) -> Blob {
        Blob::new(document.to_string().into_bytes())
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.bytes.len()})
    }
}

impl Image {
    /// Writes the archive to the file `to`, whole or not at all.
    ///
    /// # Errors
    /// The name has no tag, a path is not absolute or named twice in a layer, or a file cannot be read or written.
    pub fn archive(&self, to: &Path) -> Result<Written> {
        let name = full_name(&self.name)?;
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for layer in &self.layers {
            let plain = layer.tar()?;
            diff_ids.push(format!("sha256:{}", sha256(&plain)));
            layers.push((Blob::new(layer.compression.apply(plain)?), layer.compression.media_type()));
        }
        let config = Blob::of(&self.config(&diff_ids));
        let descriptors: Vec<Value> = layers.iter().map(|(blob, media_type)| blob.descriptor(media_type)).collect();
        let manifest = Blob::of(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(CONFIG),
            "layers": descriptors,
        }));
        let mut entry = manifest.descriptor(MANIFEST);
        entry["platform"] = json!({"os": self.platform.os, "architecture": self.platform.architecture});
        // containerd takes the name from the first, all others from the second.
        let (_, tag) = name.rsplit_once(':').context("a name without a tag")?;
        entry["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
        let paths: Vec<String> = layers.iter().map(|(blob, _)| blob.path()).collect();
        let docker = json!([{"Config": config.path(), "RepoTags": [familiar(&name)], "Layers": paths}]);

        let mut tar = layer::Tar::new();
        tar.folder("blobs/", 0o755)?;
        tar.folder("blobs/sha256/", 0o755)?;
        let digest = format!("sha256:{}", manifest.digest);
        let mut blobs: Vec<Blob> = layers.into_iter().map(|(blob, _)| blob).collect();
        blobs.extend([config, manifest]);
        blobs.sort_by(|one, other| one.digest.cmp(&other.digest));
        // Two layers may be the same.
        blobs.dedup_by(|one, other| one.digest == other.digest);
        for blob in &blobs {
            tar.file(&blob.path(), &blob.bytes, 0o644)?;
        }
        tar.file("index.json", index.to_string().as_bytes(), 0o644)?;
        tar.file("manifest.json", docker.to_string().as_bytes(), 0o644)?;
        tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644)?;
        let bytes = tar.finish()?;
        write_whole(to, &bytes)?;
        let pulled = blobs.iter().map(|blob| blob.bytes.len() as u64).sum();
        Ok(Written { name, digest, size: bytes.len() as u64, pulled })
    }

    fn config(&self, diff_ids: &[String]) -> Value {
        let process = &self.process;
        let mut config = json!({});
        let lists = [("Entrypoint", &process.entrypoint), ("Cmd", &process.command), ("Env", &process.environment)];
        for (key, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            config[key] = json!(list);
        }
        for (key, text) in [("User", &process.user), ("WorkingDir", &process.folder)] {
            if !text.is_empty() {
                config[key] = json!(text);
            }
        }
        if !process.ports.is_empty() {
            config["ExposedPorts"] = process.ports.iter().map(|port| (port.clone(), json!({}))).collect();
        }
        if !self.labels.is_empty() {
            config["Labels"] = json!(self.labels);
        }
        json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": self.platform.architecture,
            "os": self.platform.os,
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": diff_ids.iter().map(|_| json!({"created": "1970-01-01T00:00:00Z"})).collect::<Vec<_>>(),
        })
    }
}

/// A name as a container runtime has it, which is not as people write it: `a:1` is `docker.io/library/a:1`.
///
/// # Errors
/// It has no tag, or is empty before it.
pub fn full_name(name: &str) -> Result<String> {
    let (path, tag) = name.rsplit_once(':').with_context(|| format!("the image name {name} has no tag"))?;
    // A colon before a slash belongs to a registry's port.
    ensure!(!tag.contains('/') && !tag.is_empty() && !path.is_empty(), "the image name {name} has no tag");
    let full = match path.split_once('/') {
        None => format!("docker.io/library/{path}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => path.to_owned(),
        Some(_) => format!("docker.io/{path}"),
    };
    Ok(format!("{full}:{tag}"))
}

/// The other way round, as Docker lists it.
fn familiar(full: &str) -> &str {
    let path = full.strip_prefix("docker.io/").unwrap_or(full);
    path.strip_prefix("library/").unwrap_or(path)
}

fn sha256(bytes: &[u8]) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn write_whole(to: &Path, bytes: &[u8]) -> Result<()> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut file =
        tempfile::NamedTempFile::new_in(folder).with_context(|| format!("writing to {}", folder.display()))?;
    file.write_all(bytes)?;
    // A temporary file is for its owner alone.
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    file.persist(to).with_context(|| format!("writing {}", to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests;
