//! The log of events: bounded, in order, honest about what it dropped.

use remotemount_sidecar::entry::{ETag, File, Millis, Pointer};
use remotemount_sidecar::events::Origin;
use remotemount_sidecar::store::{Change, EVENTS_KEPT, Store as _};

use crate::{adopted, delete_directory, delete_file, directory, each, open, path, remote, told, told_paths};

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

/// More than is written in one portion.
#[test]
fn a_directory_of_many_is_told_of_name_by_name_children_first() {
    each(|store| {
        let m = adopted(store);
        let mut puts = vec![Change::PutDirectory(m, path("d"), directory(1))];
        for below in ["a", "b", "c"] {
            puts.push(Change::PutDirectory(m, path(&format!("d/{below}")), directory(1)));
            let file = |n| Change::PutFile(m, path(&format!("d/{below}/{n:04}")), remote(1, 1));
            puts.extend((0..900).map(file));
        }
        for go in
            [Change::DirectoryGone(m, path("d"), Millis(9)), delete_directory(m, "d", 9, crate::Extent::Whole, true)]
        {
            let before = told_paths(store).len();
            store.apply(&puts).unwrap();
            let applied = store.apply(&[go]).unwrap();
            let told = told_paths(store).split_off(before);
            assert_eq!((told.len() as u64, applied.events), (2704, 2704));
            let mut wanted = told.clone();
            let directory = |path: &String| path.matches('/').count() < 4;
            wanted.sort_by_key(|path| std::cmp::Reverse(format!("{path}{}", if directory(path) { "/" } else { "" })));
            assert_eq!(told, wanted, "children before their directories");
            assert_eq!(told.last().unwrap(), "/m/d");
            assert_eq!(store.entries().unwrap(), 0);
        }
    });
}
