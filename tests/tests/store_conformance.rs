//! The store conformance suite: every implementation of `Store` keeps the same rules.
//!
//! Named cases run on the memory and the redb store; then proptest drives both with the same random
//! changes and asserts that nothing a reader can see tells them apart. redb is reopened on the way.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use proptest::prelude::*;
use remotemount_sidecar::entry::{Directory, ETag, File, Listing, Millis, Pointer};
use remotemount_sidecar::path::RelPath;
use remotemount_sidecar::store::memory::MemoryStore;
use remotemount_sidecar::store::redb::RedbStore;
use remotemount_sidecar::store::{Change, Cursor, Identity, MountId, Store};

fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

fn remote(size: u64, asked: u64) -> File {
    let pointer = Pointer { size, etag: ETag::from_header("\"e\""), modified: 1 };
    File { pointer: Some(pointer), description: None, asked: Millis(asked), doubted: false }
}

fn directory(asked: u64) -> Directory {
    Directory::seen(Millis(asked))
}

fn identity(path: &str, remote: &str) -> Identity {
    Identity { path: path.to_owned(), remote: remote.to_owned() }
}

fn each(case: impl Fn(&dyn Store)) {
    case(&MemoryStore::default());
    let state = tempfile::tempdir().unwrap();
    case(&RedbStore::open(state.path()).unwrap().store);
}

fn adopted(store: &dyn Store) -> MountId {
    store.adopt(&[identity("/m", "s3://a/")]).unwrap()[0]
}

#[test]
fn puts_are_read_back_and_the_later_question_wins() {
    each(|store| {
        let m = adopted(store);
        store
            .apply(&[Change::PutFile(m, path("a/b"), remote(1, 20)), Change::PutDirectory(m, path("a"), directory(20))])
            .unwrap();
        assert_eq!(store.file(m, &path("a/b")).unwrap(), Some(remote(1, 20)));
        assert_eq!(store.directory(m, &path("a")).unwrap(), Some(directory(20)));
        assert_eq!((store.file(m, &path("a")).unwrap(), store.directory(m, &path("a/b")).unwrap()), (None, None));
        store.apply(&[Change::PutFile(m, path("a/b"), remote(2, 10))]).unwrap();
        assert_eq!(store.file(m, &path("a/b")).unwrap(), Some(remote(1, 20)), "an older answer changes nothing");
        assert_eq!(store.entries().unwrap(), 2);
    });
}

#[test]
fn children_come_in_the_remotes_order_and_resume() {
    each(|store| {
        let m = adopted(store);
        for name in ["d/a", "d/a-b", "d/a.txt", "d/a0", "d", "e", "d/x/y"] {
            store.apply(&[Change::PutFile(m, path(name), remote(1, 1))]).unwrap();
        }
        store.apply(&[Change::PutDirectory(m, path("d/a"), directory(1))]).unwrap();
        let list = |after: Cursor, limit| {
            let children = store.children(m, &path("d"), &after, limit).unwrap();
            children.iter().map(|child| child.cursor().as_str().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(list(Cursor::start(), 10), ["a", "a-b", "a.txt", "a/", "a0"]);
        assert_eq!(list(Cursor::after_file("a"), 2), ["a-b", "a.txt"]);
        assert_eq!(list(Cursor::after_directory("a"), 2), ["a0"]);
        assert_eq!(list(Cursor::after_file("zz"), 2), Vec::<String>::new());
    });
}

#[test]
fn a_complete_listing_removes_what_it_did_not_confirm() {
    each(|store| {
        let m = adopted(store);
        let changes = [
            Change::PutFile(m, path("d/old"), remote(1, 10)),
            Change::PutFile(m, path("d/seen"), remote(1, 30)),
            Change::PutFile(m, path("d/local"), File::local(Millis(1))),
            Change::PutDirectory(m, path("d/gone"), directory(10)),
            Change::PutFile(m, path("d/gone/x"), remote(1, 10)),
            Change::PutFile(m, path("d/gone/deep/x"), remote(1, 10)),
            Change::PutDirectory(m, path("d/gone/deep"), directory(10)),
            Change::PutDirectory(m, path("d/holds"), directory(10)),
            Change::PutFile(m, path("d/holds/local"), File::local(Millis(1))),
            Change::PutFile(m, path("other/x"), remote(1, 10)),
        ];
        store.apply(&changes).unwrap();
        let listing = Listing { asked: Millis(20), unnameable: 3 };
        let applied = store.apply(&[Change::Listed(m, path("d"), listing)]).unwrap();
        assert_eq!(applied.removed, 5);
        let left = store.children(m, &path("d"), &Cursor::start(), 10).unwrap();
        assert_eq!(left.iter().map(|child| child.name.as_str()).collect::<Vec<_>>(), ["holds", "local", "seen"]);
        assert!(store.file(m, &path("other/x")).unwrap().is_some());
        assert_eq!((store.listing(m, &path("d")).unwrap(), store.unnameable(m).unwrap()), (Some(listing), 3));
    });
}

#[test]
fn gone_respects_later_answers_and_local_files() {
    each(|store| {
        let m = adopted(store);
        store
            .apply(&[
                Change::PutFile(m, path("a"), remote(1, 20)),
                Change::PutFile(m, path("l"), File::local(Millis(1))),
            ])
            .unwrap();
        store.apply(&[Change::FileGone(m, path("a"), Millis(19)), Change::FileGone(m, path("l"), Millis(99))]).unwrap();
        assert!(store.file(m, &path("a")).unwrap().is_some() && store.file(m, &path("l")).unwrap().is_some());
        store.apply(&[Change::FileGone(m, path("a"), Millis(20))]).unwrap();
        assert!(store.file(m, &path("a")).unwrap().is_none());
    });
}

#[test]
fn an_answer_older_than_the_listing_brings_nothing_back() {
    each(|store| {
        let m = adopted(store);
        store.apply(&[Change::Listed(m, path("d"), Listing { asked: Millis(20), unnameable: 0 })]).unwrap();
        let put = |asked| {
            [Change::PutFile(m, path("d/f"), remote(1, asked)), Change::PutDirectory(m, path("d/s"), directory(asked))]
        };
        store.apply(&put(19)).unwrap();
        assert_eq!(store.entries().unwrap(), 0);
        store.apply(&put(20)).unwrap();
        assert_eq!(store.entries().unwrap(), 2);
    });
}

#[test]
fn doubt_makes_a_file_ask_again() {
    each(|store| {
        let m = adopted(store);
        store
            .apply(&[
                Change::PutFile(m, path("a"), remote(1, 20)),
                Change::Doubt(m, path("a")),
                Change::Doubt(m, path("b")),
            ])
            .unwrap();
        let doubted = |store: &dyn Store| store.file(m, &path("a")).unwrap().unwrap().doubted;
        assert!(doubted(store));
        store.apply(&[Change::PutFile(m, path("a"), remote(2, 21))]).unwrap();
        assert!(!doubted(store), "a newer answer clears it");
    });
}

#[test]
fn generations_are_kept_by_remote_and_never_used_twice() {
    each(|store| {
        let first = store.adopt(&[identity("/a", "s3://one/"), identity("/b", "s3://two/")]).unwrap();
        let again = store.adopt(&[identity("/b", "s3://two/"), identity("/a", "s3://one/")]).unwrap();
        assert_eq!((again[0], again[1]), (first[1], first[0]), "kept, in the order asked");
        store.apply(&[Change::PutFile(first[0], path("x"), remote(1, 1))]).unwrap();
        let other = store.adopt(&[identity("/a", "s3://other/")]).unwrap();
        assert!(!first.contains(&other[0]));
        // What comes late for a retired generation is dropped, and what it had is freed.
        let applied = store.apply(&[Change::PutFile(first[0], path("late"), remote(1, 1))]).unwrap();
        assert_eq!((applied.dropped, store.file(first[0], &path("late")).unwrap()), (1, None));
        while store.purge(1).unwrap() {}
        assert_eq!(store.entries().unwrap(), 0);
        let back = store.adopt(&[identity("/a", "s3://one/")]).unwrap();
        assert!(!first.contains(&back[0]) && back != other);
    });
}

#[derive(Clone, Debug)]
enum Step {
    Change(Box<Change>),
    Reopen,
}

fn names() -> impl Strategy<Value = RelPath> {
    let segment = prop::sample::select(vec!["a", "a-", "a.b", "b", "ab", "ü"]);
    prop::collection::vec(segment, 1..4).prop_map(|segments| path(&segments.join("/")))
}

fn steps() -> impl Strategy<Value = Step> {
    const M: MountId = MountId(1);
    let put = (names(), 0u64..4, 0u64..50).prop_map(|(p, size, asked)| Change::PutFile(M, p, remote(size, asked)));
    let local = (names(), 0u64..50).prop_map(|(p, asked)| Change::PutFile(M, p, File::local(Millis(asked))));
    let dir = (names(), 0u64..50).prop_map(|(p, asked)| Change::PutDirectory(M, p, directory(asked)));
    let gone = (names(), 0u64..50).prop_map(|(p, asked)| Change::FileGone(M, p, Millis(asked)));
    let dir_gone = (names(), 0u64..50).prop_map(|(p, asked)| Change::DirectoryGone(M, p, Millis(asked)));
    let at = prop_oneof![names(), Just(RelPath::default())];
    let listed = (at, 0u64..50, 0u64..3)
        .prop_map(|(p, asked, unnameable)| Change::Listed(M, p, Listing { asked: Millis(asked), unnameable }));
    let doubt = names().prop_map(|p| Change::Doubt(M, p));
    let change = prop_oneof![4 => put, 1 => local, 3 => dir, 2 => gone, 2 => dir_gone, 2 => listed, 1 => doubt];
    prop_oneof![30 => change.prop_map(|change| Step::Change(Box::new(change))), 1 => Just(Step::Reopen)]
}

fn open(state: &Path) -> RedbStore {
    RedbStore::open(state).unwrap().store
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn redb_and_the_model_cannot_be_told_apart(steps in prop::collection::vec(steps(), 1..60)) {
        let (model, state) = (MemoryStore::default(), tempfile::tempdir().unwrap());
        let mut real = open(state.path());
        let m = adopted(&model);
        prop_assert_eq!(adopted(&real), m);
        for step in steps {
            match step {
                Step::Change(change) => {
                    let change = [*change];
                    prop_assert_eq!(real.apply(&change).unwrap(), model.apply(&change).unwrap(), "{:?}", change);
                }
                Step::Reopen => {
                    drop(real);
                    real = open(state.path());
                }
            }
            prop_assert_eq!(real.entries().unwrap(), model.entries().unwrap());
        }
        for directory in ["", "a", "a-", "a/b", "b", "a/a", "a.b", "a/a-", "ab/ü"] {
            let directory = path(directory);
            for limit in [1, 2, 100] {
                let all = Cursor::start();
                prop_assert_eq!(real.children(m, &directory, &all, limit).unwrap(), model.children(m, &directory, &all, limit).unwrap());
                let after = Cursor::after_directory("a");
                prop_assert_eq!(real.children(m, &directory, &after, limit).unwrap(), model.children(m, &directory, &after, limit).unwrap());
            }
            prop_assert_eq!(real.listing(m, &directory).unwrap(), model.listing(m, &directory).unwrap());
        }
        prop_assert_eq!(real.unnameable(m).unwrap(), model.unnameable(m).unwrap());
    }
}
