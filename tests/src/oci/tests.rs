//! What is in an archive, by reading it as its readers do; that containerd takes it is shown in `tests/tests/node`.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::GzDecoder;
use tar::EntryType;
use tempfile::TempDir;

use super::*;

fn image(compression: Compression) -> Image {
    Image {
        name: "photo-viewer:1.2".to_owned(),
        platform: Platform::linux("arm64"),
        process: Process {
            entrypoint: vec!["/app/view".to_owned()],
            user: "65532:65532".to_owned(),
            environment: vec!["A=b".to_owned()],
            folder: "/work".to_owned(),
            ports: vec!["8080/tcp".to_owned()],
            ..Process::default()
        },
        labels: [("org.opencontainers.image.version".to_owned(), "1.2".to_owned())].into(),
        layers: vec![
            Layer {
                files: vec![File::text("/etc/passwd", "x", 0o644), File::folder("/work", 0o700).owned_by(7, 8)],
                compression,
            },
            Layer {
                files: vec![File::text("/app/view", "program", 0o755), File::link("/app/see", "view")],
                compression,
            },
        ],
    }
}

/// A tar's entries, by name.
fn entries(bytes: &[u8]) -> BTreeMap<String, (EntryType, u32, u64, u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!(header.mtime().unwrap(), 0);
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let facts =
            (header.entry_type(), header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap(), content);
        assert!(found.insert(name.clone(), facts).is_none(), "{name} comes twice");
    }
    found
}

fn document(archive: &BTreeMap<String, (EntryType, u32, u64, u64, Vec<u8>)>, path: &str) -> Value {
    serde_json::from_slice(&archive[path].4).unwrap()
}

fn blob(descriptor: &Value) -> String {
    descriptor["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/")
}

#[test]
fn every_reader_finds_the_same_image() {
    let folder = TempDir::new().unwrap();
    let to = folder.path().join("new/image.tar");
    let written = image(Compression::Gzip).archive(&to).unwrap();
    let bytes = fs::read(&to).unwrap();
    assert_eq!(written.size, bytes.len() as u64);
    assert_eq!(written.name, "docker.io/library/photo-viewer:1.2");

    let archive = entries(&bytes);
    for (name, entry) in archive.iter().filter(|(name, _)| name.starts_with("blobs/sha256/") && name.len() > 60) {
        assert_eq!(*name, format!("blobs/sha256/{}", sha256(&entry.4)));
    }
    // The OCI way.
    let entry = &document(&archive, "index.json")["manifests"][0];
    assert_eq!(entry["digest"], written.digest);
    assert_eq!(entry["platform"], json!({"os": "linux", "architecture": "arm64"}));
    assert_eq!(entry["annotations"]["io.containerd.image.name"], "docker.io/library/photo-viewer:1.2");
    assert_eq!(entry["annotations"]["org.opencontainers.image.ref.name"], "1.2");
    let manifest = document(&archive, &blob(entry));
    let config = document(&archive, &blob(&manifest["config"]));
    assert_eq!(
        config["config"],
        json!({
            "Entrypoint": ["/app/view"],
            "User": "65532:65532",
            "Env": ["A=b"],
            "WorkingDir": "/work",
            "ExposedPorts": {"8080/tcp": {}},
            "Labels": {"org.opencontainers.image.version": "1.2"},
        })
    );
    // Docker's way leads to the same blobs.
    let docker = &document(&archive, "manifest.json")[0];
    assert_eq!(docker["RepoTags"], json!(["photo-viewer:1.2"]));
    assert_eq!(docker["Config"], blob(&manifest["config"]));
    let layers: Vec<String> = manifest["layers"].as_array().unwrap().iter().map(blob).collect();
    assert_eq!(docker["Layers"], json!(layers));
    let pulled: u64 = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum();
    assert!(written.pulled > pulled && written.pulled < written.size);

    for (number, layer) in layers.iter().enumerate() {
        let mut plain = Vec::new();
        GzDecoder::new(archive[layer].4.as_slice()).read_to_end(&mut plain).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][number], format!("sha256:{}", sha256(&plain)));
    }
}

#[test]
fn a_layer_has_what_was_named_and_the_folders_above_it() {
    let layers = image(Compression::None).layers;
    let lower = entries(&layers[0].tar().unwrap());
    assert_eq!(lower.keys().collect::<Vec<_>>(), ["etc/", "etc/passwd", "work/"]);
    assert_eq!(lower["etc/"], (EntryType::Directory, 0o755, 0, 0, Vec::new()));
    assert_eq!(lower["etc/passwd"], (EntryType::Regular, 0o644, 0, 0, b"x".to_vec()));
    assert_eq!(lower["work/"], (EntryType::Directory, 0o700, 7, 8, Vec::new()));
    let upper = entries(&layers[1].tar().unwrap());
    assert_eq!(upper["app/see"].0, EntryType::Symlink);
    assert_eq!(upper["app/view"].1, 0o755);
}

#[test]
fn the_same_image_is_the_same_bytes() {
    let folder = TempDir::new().unwrap();
    let host = folder.path().join("host");
    let archive = |mode: u32| {
        fs::write(&host, "program").unwrap();
        fs::set_permissions(&host, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let mut image = image(Compression::Gzip);
        image.layers[1].files[0] = File::of_host("/app/view", &host, 0o755);
        let to = folder.path().join("image.tar");
        image.archive(&to).unwrap();
        fs::read(to).unwrap()
    };
    let first = archive(0o600);
    assert_eq!(first, archive(0o777));
    let mut other = image(Compression::Gzip);
    other.process.user = "1".to_owned();
    let to = folder.path().join("other.tar");
    other.archive(&to).unwrap();
    assert_ne!(first, fs::read(to).unwrap());
}

#[test]
fn a_name_is_read_as_kubelet_reads_it() {
    for (name, full) in [
        ("a:1", "docker.io/library/a:1"),
        ("a/b:1", "docker.io/a/b:1"),
        ("localhost/b:1", "localhost/b:1"),
        ("example.com/a/b:1", "example.com/a/b:1"),
        ("example:5000/b:1", "example:5000/b:1"),
    ] {
        assert_eq!(full_name(name).unwrap(), full);
    }
    for name in ["a", "example:5000/b", ":1", "a:"] {
        assert!(full_name(name).is_err(), "{name}");
    }
}

#[test]
fn a_path_that_no_image_can_have_is_refused() {
    for path in ["relative", "/a/../b", "/"] {
        assert!(Layer::plain(vec![File::text(path, "", 0o644)]).tar().is_err(), "{path}");
    }
    let twice = vec![File::text("/a", "", 0o644), File::text("/a", "", 0o644)];
    assert!(Layer::plain(twice).tar().is_err());
    let late = vec![File::text("/a/b", "", 0o644), File::folder("/a", 0o700)];
    assert!(Layer::plain(late).tar().is_err());
}
