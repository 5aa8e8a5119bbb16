//! What deletes leave: tombstones, hidden names and intents.

use remotemount_sidecar::entry::{File, Halves, Listing, Millis};
use remotemount_sidecar::store::{Change, Doomed, DoomedObject, Extent, FileDeletion, Intent, IntentId};

use crate::{adopted, delete_directory, delete_file, directory, each, identity, origin, path, remote, told_paths};

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
