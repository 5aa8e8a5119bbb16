//! Manifests that came by the control link, and what they make of those on disk.
//!
//! The files say which mounts there are; the link may only say more recent things of them. The rule: of
//! one `metadata.uid` the highest generation wins, and a removal wins over every generation. A mount
//! that is marked as removed deletes nothing any more, and is read on until its file goes (X9). What
//! comes is judged like a file; what is bad is told of and changes nothing. Whatever the files have
//! caught up with is dropped here, so this never holds more than one text a mount.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use remotemount_crds::DeletePolicy;
use remotemount_crds::control::mount_manifest::State;
use remotemount_crds::control::{MAX_MOUNTS, MountManifest};
use remotemount_crds::manifest::{self, Document, ManifestError};
use tokio::sync::Notify;

use crate::mounts::source::{Origin, Sourced};

/// What came by the control link and is newer than the files.
#[derive(Debug, Default)]
pub struct Newest {
    held: Mutex<BTreeMap<String, Held>>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Held {
    uid: String,
    removed: bool,
    manifest: Option<Box<Document>>,
    /// A generation that was refused, and why.
    refused: Option<(i64, String)>,
}

/// What became of a manifest that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It may change the mount table.
    News,
    /// It says nothing new.
    Old,
    /// It is bad; the reason is told in `/status`.
    Refused(String),
}

impl Newest {
    /// Takes what came of one mount.
    pub fn take(&self, came: MountManifest) -> Taken {
        let mut held = self.held();
        if held.len() >= MAX_MOUNTS && !held.contains_key(&came.name) {
            return Taken::Old;
        }
        let known = held.entry(came.name.clone()).or_default();
        if known.uid != came.uid {
            *known = Held { uid: came.uid.clone(), ..Held::default() };
        }
        let taken = match came.state {
            // Of a later version.
            None => Taken::Old,
            Some(_) if known.removed => Taken::Old,
            Some(State::Removed(_)) => {
                known.removed = true;
                Taken::News
            }
            Some(State::Manifest(newer)) => {
                let before = known.manifest.as_ref().and_then(|known| known.mount.metadata.generation);
                if before.is_some_and(|before| before >= newer.generation) {
                    return Taken::Old;
                }
                match read(&came.name, &came.uid, newer.generation, &newer.yaml) {
                    Ok(document) => {
                        known.manifest = Some(Box::new(document));
                        known.refused = None;
                        Taken::News
                    }
                    Err(message) => {
                        known.refused = Some((newer.generation, message.clone()));
                        Taken::Refused(message)
                    }
                }
            }
        };
        if taken != Taken::Old {
            self.news.notify_one();
        }
        taken
    }

    /// Waits until something has come that changes a table or what is wrong.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    /// What is wrong with what came: the mount and the reason.
    #[must_use]
    pub fn problems(&self) -> Vec<(String, String)> {
        let of = |(name, held): (&String, &Held)| {
            let (generation, message) = held.refused.as_ref()?;
            Some((name.clone(), format!("generation {generation}, by the control link: {message}")))
        };
        self.held().iter().filter_map(of).collect()
    }

    /// `files`, each replaced by what is newer; drops what they have caught up with.
    #[must_use]
    pub fn over(&self, files: &[Sourced]) -> Vec<Sourced> {
        let mut held = self.held();
        let of = |file: &Sourced| (file.mount.metadata.name.clone(), file.mount.metadata.uid.clone());
        held.retain(|name, held| {
            let file = files.iter().find(|file| of(file) == (Some(name.clone()), Some(held.uid.clone())));
            let Some(file) = file else { return false };
            let has = file.mount.metadata.generation.unwrap_or_default();
            held.manifest.take_if(|held| held.mount.metadata.generation.unwrap_or_default() <= has);
            held.refused.take_if(|(generation, _)| *generation <= has);
            held.removed || held.manifest.is_some() || held.refused.is_some()
        });
        files
            .iter()
            .map(|file| newest(file, held.get(file.mount.metadata.name.as_deref().unwrap_or_default())))
            .collect()
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn newest(file: &Sourced, held: Option<&Held>) -> Sourced {
    let mut sourced = file.clone();
    let Some(held) = held else { return sourced };
    if let Some(document) = &held.manifest {
        sourced.mount = document.mount.clone();
        sourced.unknown = document.unknown.clone();
        sourced.origin = Origin::Link;
    }
    if held.removed {
        // Reads are served on; nothing may be deleted through a mount that is being taken away.
        sourced.mount.spec.delete_policy = DeletePolicy::Deny;
        sourced.withdrawn = true;
    }
    sourced
}

/// `files`, with nothing allowed that `newer`, which is [`Newest::over`] them, forbids.
///
/// For texts that cannot be taken: a removal holds all the same, and so does a policy by which less is deleted.
#[must_use]
pub fn no_looser(files: &[Sourced], newer: &[Sourced]) -> Vec<Sourced> {
    let of = |(file, newer): (&Sourced, &Sourced)| {
        let mut sourced = file.clone();
        sourced.withdrawn = newer.withdrawn;
        let policies = [file, newer].map(|sourced| sourced.mount.spec.delete_policy);
        sourced.mount.spec.delete_policy = match policies {
            [DeletePolicy::Deny, _] | [_, DeletePolicy::Deny] => DeletePolicy::Deny,
            [DeletePolicy::Retain, _] | [_, DeletePolicy::Retain] => DeletePolicy::Retain,
            [DeletePolicy::Propagate, DeletePolicy::Propagate] => DeletePolicy::Propagate,
        };
        sourced
    };
    files.iter().zip(newer).map(of).collect()
}

/// Reads a manifest that is to be of that mount and generation.
fn read(name: &str, uid: &str, generation: i64, yaml: &str) -> Result<Document, String> {
    let mut documents = manifest::read(yaml.as_bytes()).map_err(|error: ManifestError| error.to_string())?;
    let Some(document) = documents.pop().filter(|_| documents.is_empty()) else {
        return Err("holds several documents; one was announced".to_owned());
    };
    let metadata = &document.mount.metadata;
    let has = (metadata.name.as_deref(), metadata.uid.as_deref(), metadata.generation);
    if has == (Some(name), Some(uid), Some(generation)) {
        Ok(document)
    } else {
        Err(format!("is of another mount or generation than announced: {has:?}"))
    }
}

#[cfg(test)]
mod tests {
    use remotemount_crds::control::{Manifest, Removed};

    use super::*;

    fn yaml(uid: &str, generation: i64, extra: &str) -> String {
        format!(
            "apiVersion: remotemount.dev/v1alpha1\nkind: RemoteMount\nmetadata: {{name: m, uid: {uid}, generation: {generation}}}\nspec: {{path: /m, deletePolicy: Propagate, {extra} remote: {{s3: {{bucket: bucket}}}}}}\n"
        )
    }

    fn file(uid: &str, generation: i64) -> Sourced {
        let mount = manifest::parse(yaml(uid, generation, "").as_bytes()).unwrap().remove(0);
        Sourced { file: "m.yaml".to_owned(), ..Sourced::from(mount) }
    }

    fn came(uid: &str, generation: i64, extra: &str) -> MountManifest {
        let state = State::Manifest(Manifest { generation, yaml: yaml(uid, generation, extra) });
        MountManifest { name: "m".to_owned(), uid: uid.to_owned(), state: Some(state) }
    }

    fn removed(uid: &str) -> MountManifest {
        MountManifest { name: "m".to_owned(), uid: uid.to_owned(), state: Some(State::Removed(Removed {})) }
    }

    /// What is in force of the file: generation, by link or not, withdrawn or not.
    fn of(newest: &Newest, file: &Sourced) -> (Option<i64>, bool, bool) {
        let over = newest.over(std::slice::from_ref(file)).remove(0);
        (over.mount.metadata.generation, over.origin == Origin::Link, over.withdrawn)
    }

    #[test]
    fn the_highest_generation_of_one_uid_wins() {
        let newest = Newest::default();
        assert_eq!(newest.take(came("u", 3, "")), Taken::News);
        assert_eq!(newest.take(came("u", 2, "")), Taken::Old);
        assert_eq!(of(&newest, &file("u", 1)), (Some(3), true, false));
        assert_eq!(of(&newest, &file("u", 3)), (Some(3), false, false), "the file has caught up");
        assert_eq!(newest.take(came("u", 4, "")), Taken::News);
        assert_eq!(of(&newest, &file("u", 5)), (Some(5), false, false), "and is ahead");
        assert_eq!(newest.take(came("v", 9, "")), Taken::News);
        assert_eq!(of(&newest, &file("u", 5)), (Some(5), false, false), "another mount of that name");
        assert!(newest.held().is_empty());
    }

    #[test]
    fn a_text_of_a_newer_operator_is_taken_but_for_what_is_not_known() {
        let newest = Newest::default();
        assert_eq!(newest.take(came("u", 2, "suspend: true, colour: red,")), Taken::News);
        let over = newest.over(&[file("u", 1)]).remove(0);
        assert_eq!((over.mount.metadata.generation, over.mount.spec.suspend), (Some(2), true));
        assert_eq!(over.unknown, ["spec.colour"]);
    }

    #[test]
    fn a_text_that_cannot_be_taken_loosens_nothing() {
        use DeletePolicy::{Deny, Propagate, Retain};
        for (has, newer, wanted) in [
            (Propagate, Deny, Deny),
            (Propagate, Retain, Retain),
            (Retain, Propagate, Retain),
            (Deny, Propagate, Deny),
            (Retain, Deny, Deny),
            (Propagate, Propagate, Propagate),
        ] {
            let of = |policy| {
                let mut file = file("u", 1);
                file.mount.spec.delete_policy = policy;
                file
            };
            let mut elsewhere = Sourced { withdrawn: has == Propagate, ..of(newer) };
            elsewhere.mount.spec.path = "/elsewhere".to_owned();
            let over = no_looser(&[of(has)], &[elsewhere]).remove(0);
            assert_eq!(
                (over.mount.spec.delete_policy, over.withdrawn),
                (wanted, has == Propagate),
                "{has:?}, {newer:?}"
            );
            assert_eq!(over.mount.spec.path, "/m");
        }
    }

    #[test]
    fn a_removal_stops_deletes_and_nothing_else_until_the_file_goes() {
        let newest = Newest::default();
        assert_eq!((newest.take(came("u", 2, "")), newest.take(removed("u"))), (Taken::News, Taken::News));
        assert_eq!(newest.take(came("u", 3, "")), Taken::Old, "it does not come back");
        let over = newest.over(&[file("u", 1)]).remove(0);
        assert_eq!((over.mount.spec.delete_policy, over.withdrawn), (DeletePolicy::Deny, true));
        assert_eq!(over.mount.metadata.generation, Some(2));
        assert_eq!(of(&newest, &file("v", 1)), (Some(1), false, false), "a new mount of that name is not meant");
        assert_eq!(newest.take(removed("u")), Taken::News);
        assert!(newest.over(&[]).is_empty(), "the file has gone");
        assert!(newest.held().is_empty());
    }

    #[test]
    fn a_bad_one_is_told_of_and_changes_nothing() {
        let newest = Newest::default();
        assert_eq!(newest.take(came("u", 2, "")), Taken::News);
        let bad = [
            came("u", 3, "metadata: {ttlSeconds: -1},"),
            came("u", 3, "suspend: red,"),
            MountManifest { uid: "u".to_owned(), ..came("w", 3, "") },
            MountManifest {
                state: Some(State::Manifest(Manifest { generation: 4, yaml: yaml("u", 3, "") })),
                ..came("u", 3, "")
            },
        ];
        for bad in bad {
            assert!(matches!(newest.take(bad.clone()), Taken::Refused(_)), "{bad:?}");
            assert_eq!(newest.problems().len(), 1);
            assert_eq!(of(&newest, &file("u", 1)), (Some(2), true, false));
        }
        assert_eq!(newest.take(came("u", 5, "")), Taken::News);
        assert!(newest.problems().is_empty(), "a good one mends it");
    }
}
