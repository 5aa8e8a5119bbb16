//! Events as the protocol has them, and which of them a subscriber wants.
//!
//! An event names the directory and, in its entries, the name. Prefixes are text, as the reference has
//! them: `/m` takes `/mother` in, because its clients give the beginning of a name as well as a
//! directory. Directories are exact. What matches one of the three is wanted; an empty prefix matches
//! all. Pure: nothing here follows the log.

use crate::doors::grpc::{entry, proto};
use crate::events::Event;
use crate::mounts::MountTable;
use crate::path::FilerPath;

/// Which events a subscriber wants.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Paths that begin with this.
    pub prefix: String,
    /// Paths that begin with one of these.
    pub prefixes: Vec<String>,
    /// What is directly in one of these.
    pub directories: Vec<String>,
    /// Not what has passed through this filer; 0 for none.
    pub signature: i32,
}

impl Wanted {
    /// Whether the event is wanted.
    #[must_use]
    pub fn holds(&self, event: &Event) -> bool {
        if self.signature != 0 && event.origin.signatures.contains(&self.signature) {
            return false;
        }
        let path = event.path.as_str();
        path.starts_with(&self.prefix)
            || self.prefixes.iter().any(|prefix| path.starts_with(prefix))
            || self.directories.iter().any(|directory| directory == halves(path).0)
    }
}

/// The event as a message; `own` marks this filer.
#[must_use]
pub fn message(event: Event, own: i32, table: &MountTable) -> proto::SubscribeMetadataResponse {
    let (directory, name) = halves(&event.path);
    let path = FilerPath::parse(&event.path).ok();
    let mount = path.and_then(|path| table.resolve(&path).map(|(mount, _)| mount.name.clone()));
    let entry = |known| entry::entry(name.to_owned(), &known, mount.as_deref());
    let (old_entry, new_entry) = (event.old.map(entry), event.new.map(entry));
    let mut signatures = event.origin.signatures;
    if !signatures.contains(&own) {
        signatures.push(own);
    }
    let notification = proto::EventNotification {
        new_parent_path: if new_entry.is_some() { directory.to_owned() } else { String::new() },
        old_entry,
        new_entry,
        delete_chunks: false,
        is_from_other_cluster: event.origin.from_other_cluster,
        signatures,
    };
    proto::SubscribeMetadataResponse {
        directory: directory.to_owned(),
        event_notification: Some(notification),
        ts_ns: time(event.at),
    }
}

/// A message that says only how far the log was read.
#[must_use]
pub fn mark(at: u64) -> proto::SubscribeMetadataResponse {
    let notification = proto::EventNotification::default();
    proto::SubscribeMetadataResponse {
        directory: String::new(),
        event_notification: Some(notification),
        ts_ns: time(at),
    }
}

fn time(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

/// The directory of a path, and the name in it.
fn halves(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(halves) => halves,
        None => ("/", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{Directory, Entry, File, Millis};
    use crate::events::{Cause, Origin};

    fn gone(path: &str, signatures: Vec<i32>) -> Event {
        let origin = Origin { cause: Cause::Door, from_other_cluster: false, signatures };
        Event { at: 7, path: path.to_owned(), old: Some(Entry::File(File::local(Millis(1)))), new: None, origin }
    }

    #[test]
    fn prefixes_are_text_and_directories_exact() {
        let wanted = |prefix: &str, prefixes: &[&str], directories: &[&str]| Wanted {
            prefix: prefix.to_owned(),
            prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
            directories: directories.iter().map(|directory| (*directory).to_owned()).collect(),
            signature: 0,
        };
        let none = "/none";
        for (wanted, path, holds) in [
            (wanted("", &[], &[]), "/a", true),
            (wanted("/", &[], &[]), "/a", true),
            (wanted("/m", &[], &[]), "/m", true),
            (wanted("/m", &[], &[]), "/m/a", true),
            (wanted("/m", &[], &[]), "/mother", true),
            (wanted("/m/", &[], &[]), "/mother", false),
            (wanted("/m/", &[], &[]), "/m", false),
            (wanted(none, &["/x", "/m/a"], &[]), "/m/ab", true),
            (wanted(none, &["/x"], &[]), "/m/a", false),
            (wanted(none, &[], &["/m"]), "/m/a", true),
            (wanted(none, &[], &["/m"]), "/m/a/b", false),
            (wanted(none, &[], &["/m"]), "/mother/a", false),
            (wanted(none, &[], &["/"]), "/a", true),
        ] {
            assert_eq!(wanted.holds(&gone(path, Vec::new())), holds, "{wanted:?} {path}");
        }
    }

    #[test]
    fn what_passed_through_the_subscriber_is_left_out() {
        let event = gone("/m/a", vec![3, 9]);
        for (signature, holds) in [(0, true), (9, false), (4, true)] {
            assert_eq!(Wanted { signature, ..Wanted::default() }.holds(&event), holds, "{signature}");
        }
        assert!(Wanted::default().holds(&gone("/m/a", vec![0])), "0 is no signature");
    }

    #[test]
    fn an_event_is_a_directory_and_two_entries() {
        let table = MountTable::default();
        let made = message(gone("/m/d/a", vec![3]), 5, &table);
        let told = made.event_notification.unwrap();
        assert_eq!((made.directory.as_str(), made.ts_ns), ("/m/d", 7));
        assert_eq!((told.old_entry.unwrap().name.as_str(), told.new_entry), ("a", None));
        assert_eq!((told.new_parent_path.as_str(), told.delete_chunks, told.signatures), ("", false, vec![3, 5]));

        let new = Some(Entry::Directory(Directory::seen(Millis(1))));
        let origin = Origin { cause: Cause::Door, from_other_cluster: true, signatures: vec![5] };
        let made = message(Event { at: 8, path: "/a".to_owned(), old: None, new, origin }, 5, &table);
        let told = made.event_notification.unwrap();
        assert_eq!((made.directory.as_str(), told.new_parent_path.as_str()), ("/", "/"));
        assert!(told.is_from_other_cluster && told.new_entry.unwrap().is_directory && told.old_entry.is_none());
        assert_eq!(told.signatures, [5], "once is enough");
    }
}
