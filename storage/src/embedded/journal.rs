//! The file: a redb table from revision to record, trimmed of what compaction forgot.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use crate::state::State;
use crate::store::{Change, Error, EventKind, KeyValue, Result, Revision};

const RECORDS: TableDefinition<u64, &[u8]> = TableDefinition::new("records");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
/// Everything superseded at or before this revision may be missing.
const COMPACTED: &str = "compacted";
/// The layout of the two tables.
const FORMAT: (&str, u64) = ("format", 1);

/// A file this much larger than what lives in it is compacted at the next start.
const WORTH_COMPACTING: u64 = 64 << 20;

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    cache_bytes: usize,
    /// `None` after an I/O error: the engine wants to be opened again.
    database: Option<Database>,
}

/// One write as it stands in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    revision: Revision,
    created: Revision,
    key: String,
    value: Option<Bytes>,
}

impl Record {
    /// Layout: created revision (8, little-endian), 1 for a value or 0 for a deletion, key length (4), key, value.
    fn encode(change: &Change) -> Vec<u8> {
        let now = &change.current;
        let value: &[u8] = if change.kind == EventKind::Deleted { &[] } else { &now.value };
        let mut bytes = Vec::with_capacity(13 + now.key.len() + value.len());
        bytes.extend_from_slice(&now.create_revision.0.to_le_bytes());
        bytes.push(u8::from(change.kind != EventKind::Deleted));
        bytes.extend_from_slice(&(now.key.len() as u32).to_le_bytes());
        bytes.extend_from_slice(now.key.as_bytes());
        bytes.extend_from_slice(value);
        bytes
    }

    fn decode(revision: u64, bytes: &[u8]) -> Option<Self> {
        let (created, rest) = bytes.split_first_chunk::<8>()?;
        let (&live, rest) = rest.split_first()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (key, value) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        Some(Self {
            revision: Revision(revision),
            created: Revision(u64::from_le_bytes(*created)),
            key: std::str::from_utf8(key).ok()?.to_owned(),
            value: (live == 1).then(|| Bytes::copy_from_slice(value)),
        })
    }

    pub fn into_change(self, state: &State) -> Change {
        let previous = state.get(&self.key);
        let kind = match (&self.value, &previous) {
            (None, _) => EventKind::Deleted,
            (Some(_), Some(_)) => EventKind::Modified,
            (Some(_), None) => EventKind::Created,
        };
        let last = previous.as_ref().map(|p| p.value.clone()).unwrap_or_default();
        let current = KeyValue {
            key: self.key.into(),
            value: self.value.unwrap_or(last),
            create_revision: self.created,
            mod_revision: self.revision,
        };
        Change { kind, current, previous }
    }
}

impl Journal {
    pub fn open(path: &Path, cache_bytes: usize) -> Result<(Self, State)> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)
                .map_err(|e| Error::unavailable("creating the store's directory", e))?;
        }
        let mut database = open_database(path, cache_bytes)?;
        let state = load(&database).map_err(|e| classify("loading the store", e))?;
        let length = std::fs::metadata(path).map_or(0, |m| m.len());
        if length > WORTH_COMPACTING && length > state.bytes().saturating_mul(4) {
            database.compact().map_err(|e| Error::unavailable("compacting the store file", e))?;
        }
        Ok((Self { path: path.to_owned(), cache_bytes, database: Some(database) }, state))
    }

    pub fn is_broken(&self) -> bool {
        self.database.is_none()
    }

    /// Opens the file again after an error; gives the records newer than `known`.
    pub fn reopen(&mut self, known: Revision) -> Result<Vec<Record>> {
        let database = open_database(&self.path, self.cache_bytes)?;
        let newer = read_after(&database, known).map_err(|e| classify("reading the store again", e))?;
        self.database = Some(database);
        Ok(newer)
    }

    /// Appends a batch; when `durable`, this and everything before it is on stable storage afterwards.
    pub fn append(&mut self, changes: &[Change], durable: bool) -> Result<()> {
        self.transact("writing to the store", durable, |transaction| {
            let mut records = transaction.open_table(RECORDS)?;
            for change in changes {
                records.insert(change.current.mod_revision.0, Record::encode(change).as_slice())?;
            }
            Ok(())
        })
    }

    /// Forgets records and remembers how far. Not synced by itself: it rides on the next durable batch.
    pub fn trim(&mut self, dropped: &[Revision], compacted: Revision) -> Result<()> {
        self.transact("compacting the store", false, |transaction| {
            let mut records = transaction.open_table(RECORDS)?;
            for revision in dropped {
                records.remove(revision.0)?;
            }
            transaction.open_table(META)?.insert(COMPACTED, compacted.0)?;
            Ok(())
        })
    }

    /// Puts everything written so far on stable storage.
    pub fn sync(&mut self) -> Result<()> {
        if self.is_broken() {
            return Ok(());
        }
        self.transact("syncing the store", true, |_| Ok(()))
    }

    fn transact(
        &mut self,
        doing: &'static str,
        durable: bool,
        work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<()> {
        let Some(database) = &self.database else {
            return Err(Error::unavailable(
                doing,
                io::Error::other("the store file failed and is not open again yet"),
            ));
        };
        transact(database, durable, work).map_err(|error| {
            self.database = None;
            classify(doing, error)
        })
    }
}

fn transact(
    database: &Database,
    durable: bool,
    work: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(if durable { redb::Durability::Immediate } else { redb::Durability::None })?;
    // Without this a kill -9 means a full scan of the file at the next start.
    transaction.set_quick_repair(durable);
    work(&transaction)?;
    transaction.commit()?;
    Ok(())
}

fn open_database(path: &Path, cache_bytes: usize) -> Result<Database> {
    // Made here, because the engine would make it readable for everyone.
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    drop(file.map_err(|cause| Error::unavailable("opening the store file", cause))?);
    let opened = Database::builder().set_cache_size(cache_bytes).create(path);
    opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => Error::InUse { path: path.display().to_string() },
        other => Error::unavailable("opening the store file", other),
    })
}

fn load(database: &Database) -> Result<State, redb::Error> {
    transact(database, true, |transaction| {
        transaction.open_table(RECORDS)?;
        let mut meta = transaction.open_table(META)?;
        let format = meta.get(FORMAT.0)?.map(|found| found.value());
        match format {
            Some(found) if found != FORMAT.1 => Err(redb::Error::Corrupted(format!(
                "the store file has layout {found}, this program knows {}",
                FORMAT.1
            ))),
            Some(_) => Ok(()),
            None => meta.insert(FORMAT.0, FORMAT.1).map(drop).map_err(Into::into),
        }
    })?;
    read_state(database)
}

/// Reads a file that is no running store's, without changing what it says.
pub(super) fn read(file: &Path) -> Result<State> {
    let database = Database::builder().open(file).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => Error::InUse { path: file.display().to_string() },
        other => Error::unavailable("opening the snapshot", other),
    })?;
    let format = || -> Result<Option<u64>, redb::Error> {
        let transaction = database.begin_read()?;
        let found = transaction.open_table(META)?.get(FORMAT.0)?.map(|found| found.value());
        Ok(found)
    };
    if format().map_err(|e| classify("reading the snapshot", e))? != Some(FORMAT.1) {
        let cause = io::Error::new(io::ErrorKind::InvalidData, "its layout is not one this program knows");
        return Err(Error::unavailable("reading the snapshot", cause));
    }
    read_state(&database).map_err(|e| classify("reading the snapshot", e))
}

fn read_state(database: &Database) -> Result<State, redb::Error> {
    let transaction = database.begin_read()?;
    let compacted = transaction.open_table(META)?.get(COMPACTED)?.map_or(0, |found| found.value());
    let mut state = State::starting_at(Revision(compacted), Revision(compacted));
    for entry in transaction.open_table(RECORDS)?.iter()? {
        let (revision, bytes) = entry?;
        let record = decode(revision.value(), bytes.value())?;
        state.restore(&record.key, record.value, record.created, record.revision);
    }
    Ok(state)
}

fn read_after(database: &Database, known: Revision) -> Result<Vec<Record>, redb::Error> {
    let transaction = database.begin_read()?;
    let records = transaction.open_table(RECORDS)?;
    let newer = records.range(known.0 + 1..)?;
    newer
        .map(|entry| {
            entry.map_err(Into::into).and_then(|(revision, bytes)| decode(revision.value(), bytes.value()))
        })
        .collect()
}

fn decode(revision: u64, bytes: &[u8]) -> Result<Record, redb::Error> {
    Record::decode(revision, bytes)
        .ok_or_else(|| redb::Error::Corrupted(format!("the record of revision {revision} does not parse")))
}

/// Writes `items` as a store file of its own.
pub(super) fn write_snapshot(file: &Path, items: &[KeyValue], revision: Revision) -> Result<()> {
    let database = open_database(file, 1 << 20)?;
    load(&database).map_err(|e| classify("creating the snapshot", e))?;
    let mut items: Vec<&KeyValue> = items.iter().collect();
    items.sort_unstable_by_key(|item| item.mod_revision);
    let written = transact(&database, true, |transaction| {
        let mut records = transaction.open_table(RECORDS)?;
        for item in items {
            let change = Change { kind: EventKind::Modified, current: item.clone(), previous: None };
            records.insert(item.mod_revision.0, Record::encode(&change).as_slice())?;
        }
        transaction.open_table(META)?.insert(COMPACTED, revision.0)?;
        Ok(())
    });
    written.map_err(|e| classify("writing the snapshot", e))
}

fn classify(doing: &'static str, error: redb::Error) -> Error {
    if let redb::Error::Io(io) = &error
        && io.kind() == io::ErrorKind::StorageFull
    {
        return Error::unavailable(doing, io::Error::new(io::ErrorKind::StorageFull, "the disk is full"));
    }
    Error::Unavailable { doing, cause: Arc::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(kind: EventKind, value: &'static str) -> Change {
        let current = KeyValue {
            key: "/registry/pods/default/web".into(),
            value: Bytes::from_static(value.as_bytes()),
            create_revision: Revision(3),
            mod_revision: Revision(9),
        };
        Change { kind, current, previous: None }
    }

    #[test]
    fn records_read_back_as_they_were_written() {
        let record = Record::decode(9, &Record::encode(&change(EventKind::Modified, "{}"))).expect("decodes");
        assert_eq!((record.revision, record.created), (Revision(9), Revision(3)));
        assert_eq!(record.key, "/registry/pods/default/web");
        assert_eq!(record.value.as_deref(), Some(b"{}".as_slice()));
        let deleted = Record::decode(9, &Record::encode(&change(EventKind::Deleted, "{}"))).expect("decodes");
        assert_eq!(deleted.value, None);
    }

    #[test]
    fn cut_records_do_not_decode() {
        let whole = Record::encode(&change(EventKind::Modified, ""));
        assert!((0..whole.len()).all(|cut| Record::decode(9, &whole[..cut]).is_none()));
    }
}
