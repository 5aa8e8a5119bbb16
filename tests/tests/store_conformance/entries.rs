//! What is known of names: the later question wins, and listings say what is not there.

use remotemount_sidecar::entry::{File, Listing, Millis};
use remotemount_sidecar::store::{Change, Cursor, Store};

use crate::{adopted, directory, each, identity, path, remote};

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
