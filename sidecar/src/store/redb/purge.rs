//! Housekeeping of the tables: rows of retired mounts and tombstones that are over.
//!
//! In small portions, between commits. It never touches a row of a mount in force that still says
//! something, and nothing here ever reaches a remote (X8).

use ::redb::{Error, ReadableTable as _};

use crate::entry::Millis;
use crate::store::redb::tables::Bytes;
use crate::store::{MountId, TOMBSTONE_MILLIS, Tombstone, layout};

/// Frees up to `limit` rows of one generation that is not live; answers whether there may be more.
pub fn retired(table: &mut Bytes<'_>, live: &[MountId], limit: usize) -> Result<bool, Error> {
    let mut from: Vec<u8> = Vec::new();
    loop {
        let first = table.range(from.as_slice()..)?.next().transpose()?.map(|(key, _)| key.value().to_vec());
        let Some(mount) = first.as_deref().and_then(layout::mount_of) else { return Ok(false) };
        let range = layout::generation(mount);
        if live.contains(&mount) {
            from = range.end;
            continue;
        }
        // Up to the row that is beyond the limit, so that no row is read that stays.
        let beyond = table.range(range.start.as_slice()..range.end.as_slice())?.nth(limit).transpose()?;
        let end = beyond.map_or(range.end, |(key, _)| key.value().to_vec());
        table.retain_in(range.start.as_slice()..end.as_slice(), |_, _| false)?;
        return Ok(true);
    }
}

/// Frees the tombstones that no answer on its way can still run into; in one pass, because each pass reads them all.
pub fn tombstones(table: &mut Bytes<'_>, now: Millis) -> Result<(), Error> {
    Ok(table.retain(|_, value| {
        layout::decode(value).is_some_and(|t: Tombstone| t.until.0.saturating_add(TOMBSTONE_MILLIS) >= now.0)
    })?)
}
