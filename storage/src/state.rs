//! The multi-version map both in-process engines keep in memory, and the log of changes behind watches.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::store::{Change, Error, EventKind, Expect, KeyValue, Range, RangeResult, Result, Revision};

/// One value a key had.
#[derive(Debug, Clone)]
struct Version {
    modified: Revision,
    created: Revision,
    /// `None` for a deletion.
    value: Option<Bytes>,
}

/// A write that waits for its turn.
#[derive(Debug)]
pub(crate) struct Write {
    pub key: Arc<str>,
    /// The new value; `None` deletes.
    pub value: Option<Bytes>,
    pub expect: Expect,
}

/// Writes decided but not applied yet: the later ones of a batch must see the earlier ones.
pub(crate) type Overlay = HashMap<Arc<str>, Option<KeyValue>>;

#[derive(Debug, Default)]
pub(crate) struct State {
    /// Oldest version first. A key whose last version is a deletion stays until that deletion is compacted.
    keys: BTreeMap<Arc<str>, Vec<Version>>,
    /// Every change after `compacted`, densely by revision.
    log: VecDeque<Change>,
    revision: Revision,
    compacted: Revision,
    /// Bytes of keys and values held, superseded ones too.
    bytes: u64,
}

impl State {
    /// An empty state whose history begins after `revision`.
    pub fn starting_at(revision: Revision, compacted: Revision) -> Self {
        Self { revision, compacted, ..Self::default() }
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn compacted(&self) -> Revision {
        self.compacted
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn get(&self, key: &str) -> Option<KeyValue> {
        let (key, versions) = self.keys.get_key_value(key)?;
        as_key_value(key, versions.last()?)
    }

    /// Decides a write: the change it makes at `revision`, or the key as it stands where the expectation fails.
    pub fn decide(
        &self,
        overlay: &Overlay,
        write: &Write,
        revision: Revision,
    ) -> Result<Change, Option<KeyValue>> {
        let present = match overlay.get(&write.key) {
            Some(pending) => pending.clone(),
            None => self.get(&write.key),
        };
        let (kind, created) = match (&present, write.expect, &write.value) {
            (None, Expect::Absent, Some(_)) => (EventKind::Created, revision),
            (Some(now), Expect::At(at), Some(_)) if now.mod_revision == at => {
                (EventKind::Modified, now.create_revision)
            }
            (Some(now), Expect::At(at), None) if now.mod_revision == at => {
                (EventKind::Deleted, now.create_revision)
            }
            _ => return Err(present),
        };
        let value = match (&write.value, &present) {
            (Some(value), _) => value.clone(),
            (None, Some(last)) => last.value.clone(),
            (None, None) => Bytes::new(),
        };
        let key = present.as_ref().map_or_else(|| write.key.clone(), |p| p.key.clone());
        let current = KeyValue { key, value, create_revision: created, mod_revision: revision };
        Ok(Change { kind, current, previous: present })
    }

    /// Applies a decided change. Changes come in revision order, without gaps.
    pub fn apply(&mut self, change: Change) {
        let now = &change.current;
        debug_assert_eq!(now.mod_revision.0, self.revision.0 + 1, "revisions are dense");
        let deleted = change.kind == EventKind::Deleted;
        let version = Version {
            modified: now.mod_revision,
            created: now.create_revision,
            value: (!deleted).then(|| now.value.clone()),
        };
        self.bytes += weight(&now.key, &version);
        self.revision = now.mod_revision;
        match self.keys.get_mut(&now.key) {
            Some(versions) => versions.push(version),
            None => {
                self.keys.insert(now.key.clone(), vec![version]);
            }
        }
        self.log.push_back(change);
    }

    /// Rebuilds one kept version at start. Versions come in revision order, with gaps where history was compacted.
    /// Changes newer than the compaction go to the log again, so that watches can resume over a restart.
    pub fn restore(&mut self, key: &str, value: Option<Bytes>, created: Revision, modified: Revision) {
        let (key, previous) = match self.keys.get_key_value(key) {
            Some((key, versions)) => (key.clone(), versions.last().and_then(|v| as_key_value(key, v))),
            None => (Arc::from(key), None),
        };
        if modified > self.compacted {
            let kind = match (&value, created == modified) {
                (None, _) => EventKind::Deleted,
                (Some(_), true) => EventKind::Created,
                (Some(_), false) => EventKind::Modified,
            };
            let shown = match (&value, &previous) {
                (Some(value), _) => value.clone(),
                (None, Some(last)) => last.value.clone(),
                (None, None) => Bytes::new(),
            };
            let current =
                KeyValue { key: key.clone(), value: shown, create_revision: created, mod_revision: modified };
            self.log.push_back(Change { kind, current, previous });
        }
        let version = Version { modified, created, value };
        self.bytes += weight(&key, &version);
        self.revision = self.revision.max(modified);
        self.keys.entry(key).or_default().push(version);
    }

    pub fn range(&self, range: &Range) -> Result<RangeResult> {
        let at = range.revision.unwrap_or(self.revision);
        self.check_readable(at)?;
        let start: Bound<&str> = match &range.start_after {
            Some(key) if key.as_str() >= range.prefix.as_str() => Bound::Excluded(key),
            _ => Bound::Included(&range.prefix),
        };
        let mut items = Vec::new();
        let mut remaining = 0;
        let in_range = self.keys.range::<str, _>((start, Bound::Unbounded));
        for (key, versions) in in_range.take_while(|(key, _)| key.starts_with(range.prefix.as_str())) {
            let Some(version) = versions.iter().rev().find(|v| v.modified <= at) else { continue };
            if range.limit > 0 && items.len() == range.limit {
                remaining += usize::from(version.value.is_some());
            } else {
                items.extend(as_key_value(key, version));
            }
        }
        Ok(RangeResult { items, remaining, revision: at })
    }

    /// The changes after `after`, oldest first.
    pub fn changes_after(&self, after: Revision) -> Result<impl Iterator<Item = &Change>> {
        self.check_readable(after)?;
        let skip = (after.0 - self.compacted.0) as usize;
        Ok(self.log.iter().skip(skip))
    }

    /// Forgets what was superseded at or before `below`, and names the revisions whose records nobody needs now.
    pub fn compact(&mut self, below: Revision) -> Vec<Revision> {
        let below = below.min(self.revision);
        let mut dropped = Vec::new();
        while self.log.front().is_some_and(|change| change.current.mod_revision <= below) {
            let Some(change) = self.log.pop_front() else { break };
            self.forget_before(&change, &mut dropped);
        }
        self.compacted = self.compacted.max(below);
        dropped
    }

    /// Drops the versions of the change's key that this change superseded, and the key with a deletion.
    fn forget_before(&mut self, change: &Change, dropped: &mut Vec<Revision>) {
        let key = &change.current.key;
        let Some(versions) = self.keys.get_mut(key) else { return };
        let keep_from = change.current.mod_revision;
        let deleted = change.kind == EventKind::Deleted;
        let mut freed = 0;
        versions.retain(|version| {
            let keep = version.modified > keep_from || (version.modified == keep_from && !deleted);
            if !keep {
                dropped.push(version.modified);
                freed += weight(key, version);
            }
            keep
        });
        if versions.is_empty() {
            self.keys.remove(key);
        }
        self.bytes -= freed;
    }

    fn check_readable(&self, at: Revision) -> Result<()> {
        if at < self.compacted {
            return Err(Error::Compacted { requested: at, oldest: self.compacted });
        }
        if at > self.revision {
            return Err(Error::Future { requested: at, current: self.revision });
        }
        Ok(())
    }
}

fn as_key_value(key: &Arc<str>, version: &Version) -> Option<KeyValue> {
    Some(KeyValue {
        key: key.clone(),
        value: version.value.clone()?,
        create_revision: version.created,
        mod_revision: version.modified,
    })
}

fn weight(key: &str, version: &Version) -> u64 {
    (key.len() + version.value.as_ref().map_or(0, Bytes::len)) as u64
}
