//! Generations of mounts: which are live, and under which number their rows are kept.
//!
//! A path whose remote is the same keeps its generation; every other one gets a number never used
//! before (M3). A change is looked at inside the transaction that would make it.

use ::redb::{Error, ReadableTable as _, TableDefinition, WriteTransaction};

use crate::path::FilerPath;
use crate::store::{Identity, MountId};

/// Path → (generation, remote).
const MOUNTS: TableDefinition<'_, &str, (u32, &str)> = TableDefinition::new("mounts");
const COUNTERS: TableDefinition<'_, &str, u32> = TableDefinition::new("counters");
const NEXT: &str = "next generation";

/// Makes the tables.
pub fn open(transaction: &WriteTransaction) -> Result<(), Error> {
    transaction.open_table(MOUNTS)?;
    transaction.open_table(COUNTERS)?;
    Ok(())
}

/// The mounts in force, and where they are.
pub fn live(transaction: &WriteTransaction) -> Result<Vec<(MountId, FilerPath)>, Error> {
    let mut mounts = Vec::new();
    for row in transaction.open_table(MOUNTS)?.iter()? {
        let (path, value) = row?;
        // Only paths that a mount has are ever written.
        mounts.extend(FilerPath::parse(path.value()).ok().map(|path| (MountId(value.value().0), path)));
    }
    Ok(mounts)
}

/// Makes `mounts` the live ones; answers their generations, in order.
pub fn adopt(transaction: &WriteTransaction, mounts: &[Identity]) -> Result<Vec<MountId>, Error> {
    let mut table = transaction.open_table(MOUNTS)?;
    let mut counters = transaction.open_table(COUNTERS)?;
    let mut next = counters.get(NEXT)?.map_or(1, |value| value.value());
    let mut ids = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let kept = table.get(mount.path.as_str())?.and_then(|row| {
            let (id, remote) = row.value();
            (remote == mount.remote).then_some(id)
        });
        let id = match kept {
            Some(id) => id,
            None => {
                table.insert(mount.path.as_str(), (next, mount.remote.as_str()))?;
                next += 1;
                next - 1
            }
        };
        ids.push(MountId(id));
    }
    counters.insert(NEXT, next)?;
    table.retain(|path, _| mounts.iter().any(|mount| mount.path == path))?;
    Ok(ids)
}
