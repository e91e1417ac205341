//! Ranges of the host's user and group ids for pods with users of their own (`hostUsers: false`). Which pod has which
//! range is kept in the pod's directory, where an upstream kubelet keeps it too.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use knarr_runtime::cri::IdMapping;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::config::Config;

const FILE: &str = "userns";
/// Ids of one pod. The first range of the host is the host's own.
const LENGTH: u32 = 1 << 16;
const RANGES: u32 = u32::MAX / LENGTH;

#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    #[error("could not find an empty slot to allocate a user namespace")]
    Exhausted,
    #[error("could not {doing} user namespace of pod {uid}: {source}")]
    Record { doing: &'static str, uid: String, source: io::Error },
}

/// The record's form is upstream's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

/// Which ranges are given out.
pub struct Users {
    config: Arc<Config>,
    /// Number of the range by pod uid.
    ranges: Mutex<HashMap<String, u32>>,
}

impl Users {
    /// Takes up the ranges of pods that an earlier agent started.
    ///
    /// # Errors
    /// A record cannot be read: its pod may be running with ids that nobody else must get.
    pub fn open(config: Arc<Config>) -> Result<Self, UsersError> {
        let mut ranges = HashMap::new();
        if config.host {
            let pods = config.root_dir.join("pods");
            for entry in fs::read_dir(&pods).into_iter().flatten().flatten() {
                let uid = entry.file_name().to_string_lossy().into_owned();
                match read(&entry.path().join(FILE)) {
                    Ok(range) => {
                        ranges.insert(uid, range);
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(source) => return Err(UsersError::Record { doing: "read", uid, source }),
                }
            }
        }
        Ok(Self { config, ranges: Mutex::new(ranges) })
    }

    /// The pod's ids; the same every time until they are given back. The pod's directory must be there.
    pub fn assign(&self, uid: &str) -> Result<IdMapping, UsersError> {
        let mut ranges = self.ranges.lock();
        if let Some(range) = ranges.get(uid) {
            return Ok(mapping(*range));
        }
        let taken: std::collections::HashSet<u32> = ranges.values().copied().collect();
        let range = (1..RANGES).find(|range| !taken.contains(range)).ok_or(UsersError::Exhausted)?;
        if self.config.host {
            write(&self.config.pod_dir(uid), range).map_err(|source| UsersError::Record {
                doing: "record",
                uid: uid.to_owned(),
                source,
            })?;
        }
        ranges.insert(uid.to_owned(), range);
        Ok(mapping(range))
    }

    /// The pod and its directory are gone.
    pub fn release(&self, uid: &str) {
        self.ranges.lock().remove(uid);
    }
}

fn mapping(range: u32) -> IdMapping {
    IdMapping { host_id: range * LENGTH, length: LENGTH }
}

fn read(path: &Path) -> io::Result<u32> {
    let record: Record = serde_json::from_slice(&fs::read(path)?)?;
    let [ids] = record.uid_mappings[..] else { return Err(invalid(&record)) };
    let range = ids.host_id / LENGTH;
    if record != self::record(range) || range == 0 {
        return Err(invalid(&record));
    }
    Ok(range)
}

fn invalid(record: &Record) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not a range of {LENGTH} ids: {record:?}"))
}

fn record(range: u32) -> Record {
    let ids = vec![Mapping { host_id: range * LENGTH, container_id: 0, length: LENGTH }];
    Record { uid_mappings: ids.clone(), gid_mappings: ids }
}

fn write(pod_dir: &Path, range: u32) -> io::Result<()> {
    let (new, path) = (pod_dir.join(format!("{FILE}.new")), pod_dir.join(FILE));
    fs::write(&new, serde_json::to_vec(&record(range))?)?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(root: &Path) -> Result<Users, UsersError> {
        let config = Config::new("node", root);
        Users::open(Arc::new(config))
    }

    fn with_pods(uids: &[&str]) -> (tempfile::TempDir, Users) {
        let root = tempfile::tempdir().expect("a directory");
        let users = open(root.path()).expect("nothing is recorded");
        for uid in uids {
            fs::create_dir_all(users.config.pod_dir(uid)).expect("created");
        }
        (root, users)
    }

    #[test]
    fn pods_get_ranges_of_their_own_and_keep_them_over_a_restart() {
        let (root, users) = with_pods(&["a", "b"]);
        let a = users.assign("a").expect("assigned");
        assert_eq!((a.host_id, a.length), (65536, 65536));
        assert_eq!(users.assign("b").expect("assigned").host_id, 2 * 65536);
        assert_eq!(users.assign("a").expect("the same"), a);
        let again = open(root.path()).expect("opened");
        assert_eq!(again.assign("b").expect("known").host_id, 2 * 65536);
        let text = fs::read_to_string(users.config.pod_dir("a").join(FILE)).expect("recorded");
        let ids = r#"[{"hostId":65536,"containerId":0,"length":65536}]"#;
        assert_eq!(text, format!(r#"{{"uidMappings":{ids},"gidMappings":{ids}}}"#));
    }

    #[test]
    fn a_range_that_was_given_back_is_given_out_again() {
        let (_root, users) = with_pods(&["a", "b"]);
        let a = users.assign("a").expect("assigned");
        users.release("a");
        assert_eq!(users.assign("b").expect("assigned"), a);
    }

    #[test]
    fn a_record_that_nobody_can_read_is_not_ignored() {
        let (root, users) = with_pods(&["a"]);
        let ids = r#"[{"hostId":1,"containerId":0,"length":65536}]"#;
        let text = format!(r#"{{"uidMappings":{ids},"gidMappings":{ids}}}"#);
        fs::write(users.config.pod_dir("a").join(FILE), text).expect("written");
        assert!(matches!(open(root.path()), Err(UsersError::Record { doing: "read", .. })));
    }
}
