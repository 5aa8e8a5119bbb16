//! The store conformance suite: every implementation of `Store` keeps the same rules.
//!
//! Named cases run on the memory and the redb store; then proptest drives both with the same random
//! changes and asserts that nothing a reader can see tells them apart. redb is reopened on the way.
// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use proptest::prelude::*;
use remotemount_sidecar::entry::{Directory, ETag, File, Halves, Listing, Millis, Pointer};
use remotemount_sidecar::events::{Cause, Event, Origin};
use remotemount_sidecar::path::RelPath;
use remotemount_sidecar::store::memory::MemoryStore;
use remotemount_sidecar::store::redb::RedbStore;
use remotemount_sidecar::store::{
    Change, Cursor, DirectoryDeletion, Doomed, DoomedObject, EVENTS_KEPT, Extent, FileDeletion, Identity, Intent,
    IntentId, MountId, Store,
};

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
        assert_eq!((applied.retired, store.file(first[0], &path("late")).unwrap()), ([first[0]].into(), None));
        while store.purge(1, Millis(0)).unwrap() {}
        assert_eq!(store.entries().unwrap(), 0);
        let back = store.adopt(&[identity("/a", "s3://one/")]).unwrap();
        assert!(!first.contains(&back[0]) && back != other);
    });
}

fn origin() -> Origin {
    Origin { cause: Cause::Door, from_other_cluster: false, signatures: vec![7] }
}

fn delete_file(m: MountId, name: &str, since: u64, at: u64) -> Change {
    let pointer = remote(1, 0).pointer;
    let deletion = FileDeletion { since: Millis(since), at: Millis(at), pointer, hide: false, origin: origin() };
    Change::DeleteFile(m, path(name), deletion)
}

fn delete_directory(m: MountId, name: &str, at: u64, extent: Extent, hide: bool) -> Change {
    Change::DeleteDirectory(
        m,
        path(name),
        DirectoryDeletion { since: Millis(at), at: Millis(at), extent, hide, origin: origin() },
    )
}

/// What happened, without its time.
fn told(store: &dyn Store) -> Vec<Event> {
    let events = store.events(0, 10_000).unwrap().events;
    assert!(events.is_sorted_by(|a, b| a.at < b.at), "times rise");
    events.into_iter().map(|event| Event { at: 0, ..event }).collect()
}

fn told_paths(store: &dyn Store) -> Vec<String> {
    told(store).into_iter().map(|event| event.path).collect()
}

#[test]
fn a_deleted_file_stays_away_from_answers_that_were_on_their_way() {
    each(|store| {
        let m = adopted(store);
        let put = |asked| Change::PutFile(m, path("d/f"), remote(1, asked));
        store.apply(&[put(10), delete_file(m, "d/f", 15, 20)]).unwrap();
        assert_eq!(store.file(m, &path("d/f")).unwrap(), None);
        assert!(store.buried(m, &path("d/f"), Millis(20)).unwrap().file);
        assert_eq!(store.buried(m, &path("d/f"), Millis(21)).unwrap(), Halves::default());
        store.apply(&[put(20)]).unwrap();
        assert_eq!(store.file(m, &path("d/f")).unwrap(), None, "asked before the delete was done");
        store.apply(&[put(21)]).unwrap();
        assert!(store.file(m, &path("d/f")).unwrap().is_some(), "made anew since");
        store.apply(&[delete_file(m, "d/f", 18, 20)]).unwrap();
        assert!(store.file(m, &path("d/f")).unwrap().is_some(), "a later row stays");
        assert_eq!(told_paths(store), ["/m/d/f"], "and the delete was told of once");
    });
}

#[test]
fn a_deleted_directory_takes_what_is_below_and_tells_of_children_first() {
    each(|store| {
        let m = adopted(store);
        let rows = [
            Change::PutFile(m, path("d/a"), remote(1, 10)),
            Change::PutFile(m, path("d/s/b"), remote(1, 10)),
            Change::PutFile(m, path("d/s/local"), File::local(Millis(10))),
            Change::PutDirectory(m, path("d/s"), directory(10)),
            Change::PutDirectory(m, path("d"), directory(10)),
            Change::PutFile(m, path("d-"), remote(1, 10)),
        ];
        store.apply(&rows).unwrap();
        store.apply(&[delete_directory(m, "d", 20, Extent::LocalOnly, false)]).unwrap();
        assert_eq!(told_paths(store), ["/m/d/s/local"]);
        store.apply(&[delete_directory(m, "d", 20, Extent::Whole, false)]).unwrap();
        assert_eq!(told_paths(store)[1..], ["/m/d/s/b", "/m/d/s", "/m/d/a", "/m/d"]);
        assert_eq!(store.entries().unwrap(), 1, "the neighbour is left");
        store.apply(&[Change::PutFile(m, path("d/s/b"), remote(1, 20))]).unwrap();
        assert_eq!(store.entries().unwrap(), 1, "no late answer brings back what was below");
        store.apply(&[delete_directory(m, "d", 30, Extent::Whole, false)]).unwrap();
        store.apply(&[delete_directory(m, "x", 30, Extent::Known, false)]).unwrap();
        assert_eq!(told_paths(store)[5..], ["/m/d"], "a known directory is told of only if it is known");
    });
}

#[test]
fn a_hidden_name_stays_hidden() {
    each(|store| {
        let m = adopted(store);
        let hide = FileDeletion { since: Millis(1), at: Millis(1), pointer: None, hide: true, origin: origin() };
        store
            .apply(&[Change::DeleteFile(m, path("f"), hide), delete_directory(m, "d", 1, Extent::Whole, true)])
            .unwrap();
        let late = [Change::PutFile(m, path("f"), remote(1, 99)), Change::PutFile(m, path("d/x"), remote(1, 99))];
        store.apply(&late).unwrap();
        assert_eq!(store.entries().unwrap(), 0);
        store.purge(100, Millis(10_000_000)).unwrap();
        assert_eq!(store.hidden(m, &path("f")).unwrap(), Halves { file: true, directory: false });
        assert_eq!(store.hidden(m, &path("d")).unwrap(), Halves { file: false, directory: true });
        assert_eq!(store.hidden(m, &path("d/x/y")).unwrap(), Halves { file: true, directory: true });
        assert_eq!(store.hidden(m, &path("da")).unwrap(), Halves::default());
    });
}

#[test]
fn what_a_delete_may_have_emptied_is_asked_for_again() {
    each(|store| {
        let m = adopted(store);
        let rows = ["a", "a/b", "a/b/c"].map(|name| Change::PutDirectory(m, path(name), directory(10)));
        store.apply(&rows).unwrap();
        let files = ["a/b/c/x", "a/b/c/y", "a/z"].map(|name| Change::PutFile(m, path(name), remote(1, 10)));
        store.apply(&files).unwrap();
        let all = ["", "a", "a/b", "a/b/c"];
        let listing = Listing { asked: Millis(10), unnameable: 0 };
        store.apply(&all.map(|name| Change::Listed(m, path(name), listing))).unwrap();
        let asked = |name| store.directory(m, &path(name)).unwrap().unwrap().asked.0;
        let listed = || all.map(|name| store.listing(m, &path(name)).unwrap().is_some());
        store.apply(&[delete_file(m, "a/b/c/x", 20, 20)]).unwrap();
        assert_eq!((asked("a/b/c"), listed()), (10, [true; 4]), "it still holds y");
        store.apply(&[delete_file(m, "a/b/c/y", 20, 20)]).unwrap();
        assert_eq!((asked("a/b/c"), asked("a/b")), (0, 0), "and what holds nothing else");
        assert_eq!((asked("a"), listed()), (10, [true, false, false, false]), "a holds z, but may show b no more");
    });
}

#[test]
fn a_late_answer_does_not_bring_back_what_a_delete_may_have_emptied() {
    each(|store| {
        let m = adopted(store);
        let put = |asked| Change::PutDirectory(m, path("a"), directory(asked));
        store.apply(&[put(10), Change::PutFile(m, path("a/x"), remote(1, 10)), delete_file(m, "a/x", 20, 20)]).unwrap();
        let asked = || store.directory(m, &path("a")).unwrap().unwrap().asked;
        store.apply(&[put(20)]).unwrap();
        assert_eq!(asked(), Millis(0), "asked before the delete was done");
        store.apply(&[put(21)]).unwrap();
        assert_eq!(asked(), Millis(21));
        // And a listing that was on its way makes no empty directory of one that was deleted.
        store.apply(&[delete_directory(m, "a", 30, Extent::Whole, false)]).unwrap();
        store.apply(&[Change::Listed(m, path("a"), Listing { asked: Millis(25), unnameable: 0 })]).unwrap();
        assert_eq!(store.listing(m, &path("a")).unwrap(), None);
    });
}

#[test]
fn a_tombstone_far_ahead_of_the_clock_says_nothing() {
    each(|store| {
        let m = adopted(store);
        store.apply(&[delete_directory(m, "d", 10_000_000, Extent::Whole, false)]).unwrap();
        assert_eq!(store.buried(m, &path("d/f"), Millis(1)).unwrap(), Halves::default(), "the clock was set back");
        assert!(store.buried(m, &path("d/f"), Millis(9_999_999)).unwrap().file);
    });
}

#[test]
fn intents_outlive_everything_but_their_mount() {
    each(|store| {
        let m = adopted(store);
        let doomed = Doomed::File(remote(1, 1).pointer.unwrap());
        let intent = Intent { path: path("f"), doomed, begun: Millis(5), since: Millis(5), origin: origin() };
        store
            .apply(&[Change::Intend(m, IntentId(3), intent.clone()), Change::Intend(m, IntentId(2), intent.clone())])
            .unwrap();
        store.purge(100, Millis(u64::MAX)).unwrap();
        assert_eq!(store.intents().unwrap(), [(m, IntentId(2), intent.clone()), (m, IntentId(3), intent.clone())]);
        store.apply(&[Change::Settled(m, IntentId(2))]).unwrap();
        assert_eq!(store.intents().unwrap(), [(m, IntentId(3), intent)]);
        store.adopt(&[identity("/m", "s3://other/")]).unwrap();
        while store.purge(1, Millis(0)).unwrap() {}
        assert_eq!(store.intents().unwrap(), []);
    });
}

#[test]
fn what_a_delete_is_at_work_on_does_not_vanish_under_it() {
    each(|store| {
        let m = adopted(store);
        for name in ["f", "d/x", "d/s/y", "other"] {
            store.apply(&[Change::PutFile(m, path(name), remote(1, 10))]).unwrap();
        }
        let intend = |id, name, doomed| {
            Change::Intend(
                m,
                IntentId(id),
                Intent { path: path(name), doomed, begun: Millis(11), since: Millis(11), origin: origin() },
            )
        };
        let pointer = remote(1, 1).pointer.unwrap();
        store.apply(&[intend(1, "f", Doomed::File(pointer)), intend(2, "d", Doomed::Directory)]).unwrap();
        let gone = Millis(20);
        let vanish = [
            Change::FileGone(m, path("f"), gone),
            Change::DirectoryGone(m, path("d"), gone),
            Change::Listed(m, path("d"), Listing { asked: gone, unnameable: 0 }),
            Change::FileGone(m, path("other"), gone),
        ];
        assert_eq!(store.apply(&vanish).unwrap().removed, 1);
        assert_eq!(told_paths(store), ["/m/other"]);
        store.apply(&[delete_file(m, "f", 11, 21), Change::Settled(m, IntentId(1))]).unwrap();
        assert_eq!(told_paths(store), ["/m/other", "/m/f"], "told of once, by the delete");
    });
}

#[test]
fn a_directory_that_is_gone_tells_of_what_open_deletes_below_it_take() {
    each(|store| {
        let m = adopted(store);
        let pointer = || remote(1, 0).pointer.unwrap();
        let object =
            |name: &str, marker| DoomedObject { path: path(name), marker, pointer: remote(1, 0).pointer.unwrap() };
        let intend = |id, name: &str, since, doomed| {
            let intent =
                Intent { path: path(name), doomed, begun: Millis(since), since: Millis(since), origin: origin() };
            Change::Intend(m, IntentId(id), intent)
        };
        let batch = vec![object("d/known", false), object("d/unknown", false), object("d/s", true)];
        let begin = [
            Change::PutFile(m, path("d/known"), remote(1, 5)),
            intend(1, "d", 10, Doomed::Directory),
            intend(2, "d", 10, Doomed::Batch(batch)),
            intend(3, "d/s/file", 15, Doomed::File(pointer())),
            intend(4, "d/later", 25, Doomed::File(pointer())),
            intend(5, "d-", 15, Doomed::File(pointer())),
        ];
        store.apply(&begin).unwrap();
        store.apply(&[delete_directory(m, "d", 20, Extent::Whole, false), Change::Settled(m, IntentId(1))]).unwrap();
        let told = ["/m/d/unknown", "/m/d/s/file", "/m/d/known", "/m/d"];
        assert_eq!(told_paths(store), told, "the directory last");
        for (name, since) in [("d/known", 10), ("d/unknown", 10), ("d/s/file", 15)] {
            store.apply(&[delete_file(m, name, since, 21)]).unwrap();
        }
        assert_eq!(told_paths(store), told, "and nobody tells of them again");
        store.apply(&[delete_file(m, "d/later", 25, 26), delete_file(m, "d-", 15, 21)]).unwrap();
        assert_eq!(told_paths(store)[4..], ["/m/d/later", "/m/d-"]);
    });
}

#[test]
fn the_log_is_bounded_and_says_what_it_dropped() {
    each(|store| {
        let m = adopted(store);
        let deletes: Vec<Change> = (0..EVENTS_KEPT + 10).map(|n| delete_file(m, &format!("f{n}"), 1, 1)).collect();
        store.apply(&deletes).unwrap();
        while store.purge(1000, Millis(u64::MAX)).unwrap() {}
        let page = store.events(0, 1).unwrap();
        assert_eq!(page.events[0].path, "/m/f10");
        assert!(page.dropped > 0 && page.dropped < page.events[0].at);
        assert_eq!(store.events(store.last_event().unwrap(), 1).unwrap().events, []);
        assert_eq!(store.signature().unwrap(), store.signature().unwrap());
    });
}

#[test]
fn a_log_that_was_lost_is_no_empty_one() {
    let state = tempfile::tempdir().unwrap();
    assert_eq!(open(state.path()).events(0, 1).unwrap().dropped, 0, "a new store has lost nothing");
    std::fs::write(state.path().join("metadata.redb"), b"not a store at all".repeat(1000)).unwrap();
    assert!(open(state.path()).events(0, 1).unwrap().dropped > 0);
}

#[test]
fn remote_changes_are_told() {
    each(|store| {
        let m = adopted(store);
        let other = |asked| {
            let pointer = Pointer { size: 9, etag: ETag::from_header("\"other\""), modified: 2 };
            Change::PutFile(m, path("f"), File::of(pointer, Millis(asked)))
        };
        store
            .apply(&[
                Change::PutFile(m, path("f"), remote(1, 10)),
                other(11),
                other(12),
                Change::FileGone(m, path("f"), Millis(13)),
            ])
            .unwrap();
        let told = told(store);
        assert_eq!(told.len(), 2, "one for the other version, one for its end: {told:?}");
        assert!(told[0].old.is_some() && told[0].new.is_some() && told[1].new.is_none());
        assert_eq!(told[0].origin, Origin::remote());
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
    let deletion = (names(), 0u64..50, 0u64..50, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(p, since, at, known, hide)| {
            let pointer = remote(1, 0).pointer.filter(|_| known);
            Change::DeleteFile(
                M,
                p,
                FileDeletion { since: Millis(since), at: Millis(at), pointer, hide, origin: origin() },
            )
        },
    );
    let extent = prop::sample::select(vec![Extent::Whole, Extent::Known, Extent::LocalOnly]);
    let at = prop_oneof![names(), Just(RelPath::default())];
    let dir_deletion =
        (at, 0u64..50, 0u64..50, extent, prop::bool::weighted(0.1)).prop_map(|(p, since, at, extent, hide)| {
            let hide = hide && !p.is_root();
            Change::DeleteDirectory(
                M,
                p,
                DirectoryDeletion { since: Millis(since), at: Millis(at), extent, hide, origin: origin() },
            )
        });
    let doomed = prop_oneof![
        Just(Doomed::Directory),
        prop::collection::vec((names(), any::<bool>()), 0..3).prop_map(|objects| {
            let pointer = Pointer { size: 1, etag: None, modified: 1 };
            let object = |(path, marker)| DoomedObject { path, marker, pointer: pointer.clone() };
            Doomed::Batch(objects.into_iter().map(object).collect())
        }),
        Just(Doomed::File(Pointer { size: 1, etag: None, modified: 1 })),
    ];
    let intend = (names(), 0u64..4, doomed, 0u64..50).prop_map(|(path, id, doomed, since)| {
        Change::Intend(
            M,
            IntentId(id),
            Intent { path, doomed, begun: Millis(since), since: Millis(since), origin: origin() },
        )
    });
    let settled = (0u64..4).prop_map(|id| Change::Settled(M, IntentId(id)));
    let age = (names(), 0u64..50).prop_map(|(p, at)| Change::Age(M, p, Millis(at)));
    let change = prop_oneof![
        6 => put, 1 => local, 3 => dir, 2 => gone, 2 => dir_gone, 2 => listed, 1 => doubt, 2 => deletion, 2 => dir_deletion, 1 => age, 1 => intend, 2 => settled
    ];
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
            prop_assert_eq!(real.hidden(m, &directory).unwrap(), model.hidden(m, &directory).unwrap());
            for asked in [0, 10, 25, 49] {
                let asked = Millis(asked);
                prop_assert_eq!(real.buried(m, &directory, asked).unwrap(), model.buried(m, &directory, asked).unwrap());
            }
        }
        prop_assert_eq!(told(&real), told(&model));
        prop_assert_eq!(real.unnameable(m).unwrap(), model.unnameable(m).unwrap());
    }
}
