//! The tables of a database: values, their keys beside them, and what each service uses.

use super::database::{Broken, broken};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageError, Table, TableDefinition};

/// Service, bucket and key.
pub(super) type Spot = (&'static str, &'static str, &'static str);
/// Every value.
pub(super) const ENTRIES: TableDefinition<'_, Spot, &[u8]> = TableDefinition::new("entries");
/// The bytes that each value has. Values lie beside their keys on the disk, and who asks for keys alone need not read those.
pub(super) const KEYS: TableDefinition<'_, Spot, u64> = TableDefinition::new("keys");
/// Bytes that each service uses of its quota.
pub(super) const USAGE: TableDefinition<'_, &str, u64> = TableDefinition::new("usage");

/// Makes those that are missing, so that who reads finds them, in one transaction.
pub(super) fn make_tables(database: &Database) -> Result<(), Broken> {
    let reading = database.begin_read().map_err(broken)?;
    if let (Ok(entries), Ok(keys), Ok(_)) = (reading.open_table(ENTRIES), reading.open_table(KEYS), reading.open_table(USAGE))
        && entries.len().map_err(broken)? == keys.len().map_err(broken)?
    {
        return Ok(());
    }
    drop(reading);
    let writing = database.begin_write().map_err(broken)?;
    writing.open_table(USAGE).map_err(broken)?;
    let entries = writing.open_table(ENTRIES).map_err(broken)?;
    let mut keys = writing.open_table(KEYS).map_err(broken)?;
    complete(&entries, &mut keys).map_err(broken)?;
    drop((entries, keys));
    writing.commit().map_err(broken)
}

/// Makes the keys those that have values, where a host of a version wrote that had no table of them. Whether that was so.
pub(super) fn complete(
    entries: &impl ReadableTable<Spot, &'static [u8]>,
    keys: &mut Table<'_, Spot, u64>,
) -> Result<bool, StorageError> {
    if entries.len()? == keys.len()? {
        return Ok(false);
    }
    keys.retain(|_, _| false)?;
    for entry in entries.iter()? {
        let (spot, value) = entry?;
        keys.insert(spot.value(), size(value.value()))?;
    }
    Ok(true)
}

/// The bytes of a value.
pub(super) fn size(value: &[u8]) -> u64 {
    u64::try_from(value.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    /// As a host of a version does that has no table of keys.
    fn write(database: &Database, key: &str, value: &[u8]) {
        let writing = database.begin_write().unwrap();
        writing.open_table(ENTRIES).unwrap().insert(("service", "bucket", key), value).unwrap();
        writing.open_table(USAGE).unwrap().insert("service", 100).unwrap();
        writing.commit().unwrap();
    }

    fn keys(database: &Database) -> Vec<(String, u64)> {
        let reading = database.begin_read().unwrap();
        let keys = reading.open_table(KEYS).unwrap();
        let all = keys.iter().unwrap().map(Result::unwrap);
        all.map(|(spot, size)| (spot.value().2.to_owned(), size.value())).collect()
    }

    #[test]
    fn a_database_of_an_older_version_gets_its_keys() {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        write(&database, "a", b"1");
        make_tables(&database).unwrap();
        assert_eq!(keys(&database), [("a".to_owned(), 1)]);
        // The older host wrote on while this one took over.
        write(&database, "b", b"22");
        make_tables(&database).unwrap();
        assert_eq!(keys(&database), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    }
}
