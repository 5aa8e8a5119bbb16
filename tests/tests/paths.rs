//! Path algebra by proptest: path ↔ key, and the mount table against a naive scan (M1, M2).
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;

use proptest::prelude::*;
use remotemount_crds::manifest;
use remotemount_sidecar::metrics::Metrics;
use remotemount_sidecar::mounts::Mounts;
use remotemount_sidecar::mounts::source::Sourced;
use remotemount_sidecar::path::{Child, FilerPath, Prefix, RelPath, child_of};
use remotemount_sidecar::remote::connect::Connector;
use remotemount_sidecar::remote::credentials::Secrets;
use remotemount_sidecar::store::Store;
use remotemount_sidecar::store::memory::MemoryStore;

/// Anything that a key may hold, with what is troublesome more often.
fn keys() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        3 => "[a-c]{1,2}",
        1 => prop::sample::select(vec!["/", "//", ".", "..", "/../", " ", "+", "%2F", "\u{0}", "ü", "\n"]).prop_map(str::to_owned),
        1 => "\\PC{0,3}",
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_key_has_one_path_and_gives_it_back_or_none(key in keys(), prefix in prop::sample::select(vec!["", "p/", "p/q/"])) {
        let prefix = Prefix::new(prefix);
        let full = format!("{}{key}", prefix.as_str());
        match prefix.path(&full) {
            Some(path) => {
                prop_assert_eq!(prefix.key(&path), full);
                let mount = FilerPath::parse("/m").unwrap();
                let joined = mount.join(&path);
                prop_assert_eq!(FilerPath::parse(joined.as_str()), Ok(joined.clone()));
                prop_assert_eq!(joined.below("/m"), Some(path));
            }
            None => {
                let odd = key.split('/').any(|s| s.is_empty() || s == "." || s == "..") || key.contains('\0');
                prop_assert!(odd && !key.is_empty(), "{:?} could be named", key);
            }
        }
    }

    #[test]
    fn two_paths_never_share_a_key(a in keys(), b in keys()) {
        if let (Ok(a), Ok(b)) = (RelPath::parse(&a), RelPath::parse(&b)) {
            let prefix = Prefix::new("p");
            prop_assert_eq!(a == b, prefix.key(&a) == prefix.key(&b));
        }
    }

    #[test]
    fn a_listed_child_is_what_its_key_says(directory in "[a-c]{1,2}(/[a-c]{1,2}){0,2}", key in keys()) {
        let directory = RelPath::parse(&directory).unwrap();
        let below = Prefix::new("p").below(&directory);
        let full = format!("{below}{key}");
        match child_of(&below, &full) {
            Child::File(name) => prop_assert_eq!(Prefix::new("p").key(&directory.child(&name)), full),
            Child::Directory(name) => prop_assert_eq!(Prefix::new("p").below(&directory.child(&name)), full),
            Child::Marker => prop_assert_eq!(full, below),
            Child::Unnameable => {
                let name = key.strip_suffix('/').unwrap_or(&key);
                prop_assert!(name.contains('/') || RelPath::parse(name).is_err() || name.is_empty(), "{:?}", key);
            }
        }
    }
}

/// The slow and obvious rule: of the mounts that are the path or above it by component, the longest.
fn naive<'m>(mounts: &'m [String], path: &str) -> Option<&'m String> {
    let segments = |text: &str| text.split('/').filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let path = segments(path);
    mounts.iter().filter(|mount| path.starts_with(&segments(mount))).max_by_key(|mount| segments(mount).len())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_table_agrees_with_a_naive_scan(
        mounts in prop::collection::btree_set("(/[ab]{1,2}){0,3}", 1..6),
        paths in prop::collection::vec("(/[ab]{1,2}){0,5}", 1..20),
    ) {
        let normal = |text: &String| if text.is_empty() { "/".to_owned() } else { text.clone() };
        let mounts: Vec<String> = mounts.iter().map(normal).collect();
        let yaml: Vec<String> = mounts.iter().enumerate().map(|(n, path)| format!(
            "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {{name: m{n}}}\nspec: {{path: {path}, remote: {{s3: {{bucket: bucket, endpoint: 'http://127.0.0.1:1'}}}}, credentials: {{anonymous: {{}}}}}}\n"
        )).collect();
        let manifests: Vec<Sourced> =
            manifest::parse(yaml.join("---\n").as_bytes()).unwrap().into_iter().map(Sourced::from).collect();
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let connector = Connector::new(Arc::new(Secrets::new("/nowhere".into())), metrics.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let holder = Mounts::default();
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let table = runtime.block_on(holder.swap(&manifests, &store, &connector, &metrics)).unwrap();
        for path in paths.iter().map(normal) {
            let found = table.resolve(&FilerPath::parse(&path).unwrap());
            let wanted = naive(&mounts, &path);
            prop_assert_eq!(found.as_ref().map(|(mount, _)| mount.path.to_string()), wanted.cloned(), "{}", path);
            if let Some((mount, rel)) = found {
                prop_assert_eq!(mount.path.join(&rel).to_string(), path);
            }
        }
    }
}
