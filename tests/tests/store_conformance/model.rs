//! Both stores, driven by the same random changes, look the same.

use proptest::prelude::*;
use remotemount_sidecar::entry::{File, Listing, Millis, Pointer};
use remotemount_sidecar::path::RelPath;
use remotemount_sidecar::store::memory::MemoryStore;
use remotemount_sidecar::store::{
    Change, Cursor, DirectoryDeletion, Doomed, DoomedObject, Extent, FileDeletion, Intent, IntentId, MountId,
    Store as _,
};

use crate::{adopted, directory, open, origin, path, remote, told};

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
