//! The event log's tables: events by their time, and two marks.
//!
//! Times rise strictly, whatever the clock does, so a time is a place in the log. The log is bounded by
//! count; what was dropped is remembered by the time of the last of it, so that whoever followed it can
//! be told of the gap. The signature that marks this store's events is chosen here, once.

use std::hash::{BuildHasher as _, RandomState};

use ::redb::{
    Error, ReadOnlyTable, ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
    WriteTransaction,
};

use crate::events::{Event, EventPage};
use crate::store::redb::tables::encode;
use crate::store::{EVENTS_KEPT, layout};

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const MARKS: TableDefinition<'_, &str, u64> = TableDefinition::new("marks");
const DROPPED: &str = "events dropped up to";
const SIGNATURE: &str = "signature";

/// The log as of one commit.
pub struct Snapshot {
    events: ReadOnlyTable<u64, &'static [u8]>,
    marks: ReadOnlyTable<&'static str, u64>,
}

/// Makes the tables.
pub fn open(transaction: &WriteTransaction) -> Result<(), Error> {
    transaction.open_table(EVENTS)?;
    transaction.open_table(MARKS)?;
    Ok(())
}

/// Writes events, at `now` or as soon after the last as there is room.
pub fn append(transaction: &WriteTransaction, events: Vec<Event>, now: u64) -> Result<(), Error> {
    if events.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(EVENTS)?;
    let last = table.last()?.map_or(0, |(at, _)| at.value());
    for (at, event) in (now.max(last + 1)..).zip(events) {
        table.insert(at, encode(&Event { at, ..event })?.as_slice())?;
    }
    Ok(())
}

/// Says that events up to `at` are not kept.
pub fn begin_at(transaction: &WriteTransaction, at: u64) -> Result<(), Error> {
    transaction.open_table(MARKS)?.insert(DROPPED, at)?;
    Ok(())
}

/// Drops up to `limit` of the oldest events beyond those that are kept; answers whether there are more.
pub fn prune(transaction: &WriteTransaction, limit: usize) -> Result<bool, Error> {
    let mut table = transaction.open_table(EVENTS)?;
    let beyond = table.len()?.saturating_sub(EVENTS_KEPT);
    let mut last = None;
    for _ in 0..beyond.min(limit as u64) {
        last = table.pop_first()?.map(|(at, _)| at.value());
    }
    if let Some(last) = last {
        transaction.open_table(MARKS)?.insert(DROPPED, last)?;
    }
    Ok(beyond > limit as u64)
}

/// The signature, chosen now if there is none.
pub fn signature(transaction: &WriteTransaction) -> Result<i32, Error> {
    let mut marks = transaction.open_table(MARKS)?;
    let known = marks.get(SIGNATURE)?.map(|mark| mark.value());
    let mark = match known {
        Some(mark) => mark,
        None => {
            // The standard library's hash seed is random; 31 bits of it tell filers apart.
            let mark = (RandomState::new().hash_one(SIGNATURE) & 0x7fff_ffff).max(1);
            marks.insert(SIGNATURE, mark)?;
            mark
        }
    };
    Ok(i32::try_from(mark).unwrap_or(1))
}

impl Snapshot {
    /// The log as `transaction` sees it.
    pub fn take(transaction: &ReadTransaction) -> Result<Self, Error> {
        Ok(Self { events: transaction.open_table(EVENTS)?, marks: transaction.open_table(MARKS)? })
    }

    /// Up to `limit` events after `after`.
    pub fn read(&self, after: u64, limit: usize) -> Result<EventPage, Error> {
        let dropped = self.marks.get(DROPPED)?.map_or(0, |mark| mark.value());
        let mut events = Vec::new();
        for row in self.events.range(after.saturating_add(1)..)? {
            if events.len() == limit {
                break;
            }
            // What an older version wrote and this one cannot read is passed over.
            events.extend(layout::decode(row?.1.value()));
        }
        Ok(EventPage { events, dropped })
    }

    /// The time of the last event; 0 without one.
    pub fn last(&self) -> Result<u64, Error> {
        Ok(self.events.last()?.map_or(0, |(at, _)| at.value()))
    }
}
