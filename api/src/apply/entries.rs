//! `metadata.managedFields`: reading and writing the entries.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::set::Set;

/// Who an entry belongs to. Appliers have one entry whatever version they apply in, so theirs is empty here.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    pub name: String,
    /// Apply rather than Update.
    pub applies: bool,
    pub api_version: String,
    pub subresource: String,
}

/// What a manager owns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Owned {
    pub set: Set,
    /// The version whose fields the set names.
    pub api_version: String,
    pub applied: bool,
}

/// The decoded entries. Times are kept apart because they outlive what was owned.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Managed {
    pub owned: BTreeMap<Manager, Owned>,
    pub times: BTreeMap<Manager, String>,
}

impl Managed {
    /// Reads the entries; none is none.
    pub fn decode(entries: &Value) -> Result<Self, String> {
        let mut managed = Self::default();
        for (i, entry) in entries.as_array().into_iter().flatten().enumerate() {
            let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
            let applies = match entry["operation"].as_str() {
                Some("Apply") => true,
                Some("Update") => false,
                _ => return Err("operation must be `Apply` or `Update`".to_owned()),
            };
            let api_version = text("apiVersion");
            if api_version.is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            match entry["fieldsType"].as_str().unwrap_or_default() {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {i}")),
                other => {
                    let other = crate::field::quote(other);
                    return Err(format!("invalid fieldsType {other} in managed fields entry {i}"));
                }
            }
            let manager = Manager {
                name: text("manager"),
                applies,
                api_version: if applies { String::new() } else { api_version.clone() },
                subresource: text("subresource"),
            };
            let set = Set::from_fields_v1(&entry["fieldsV1"])
                .map_err(|error| format!("error decoding versioned set: error decoding set: {error}"))?;
            if let Some(time) = entry["time"].as_str() {
                managed.times.insert(manager.clone(), time.to_owned());
            }
            managed.owned.insert(manager, Owned { set, api_version, applied: applies });
        }
        Ok(managed)
    }

    /// The entries in canonical order; none when nobody owns anything.
    pub fn encode(&self) -> Option<Value> {
        if self.owned.is_empty() {
            return None;
        }
        let mut entries: Vec<(&Manager, &Owned)> = self.owned.iter().collect();
        entries.sort_by(|a, b| {
            let key = |(manager, owned): &(&Manager, &Owned)| (!owned.applied, self.seconds(manager));
            key(a)
                .cmp(&key(b))
                .then_with(|| a.0.name.cmp(&b.0.name))
                .then_with(|| a.1.api_version.cmp(&b.1.api_version))
                .then_with(|| a.0.subresource.cmp(&b.0.subresource))
        });
        Some(entries.into_iter().map(|(manager, owned)| self.entry(manager, owned)).collect())
    }

    fn entry(&self, manager: &Manager, owned: &Owned) -> Value {
        let mut entry = Map::new();
        entry.insert("manager".to_owned(), json!(manager.name));
        entry.insert("operation".to_owned(), json!(if owned.applied { "Apply" } else { "Update" }));
        entry.insert("apiVersion".to_owned(), json!(owned.api_version));
        if let Some(time) = self.times.get(manager) {
            entry.insert("time".to_owned(), json!(time));
        }
        entry.insert("fieldsType".to_owned(), json!("FieldsV1"));
        entry.insert("fieldsV1".to_owned(), owned.set.to_fields_v1());
        if !manager.subresource.is_empty() {
            entry.insert("subresource".to_owned(), json!(manager.subresource));
        }
        Value::Object(entry)
    }

    fn seconds(&self, manager: &Manager) -> i64 {
        let time = self.times.get(manager).and_then(|time| time.parse::<Timestamp>().ok());
        time.map_or(0, Timestamp::as_second)
    }

    /// Notes that the manager changed something now. Times have whole seconds.
    pub fn touch(&mut self, manager: &Manager, now: Timestamp) {
        let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
        self.times.insert(manager.clone(), whole.to_string());
    }

    /// Puts the oldest updates of one version into one entry until at most `most` managers with updates are left.
    pub fn cap(&mut self, most: usize) {
        let updaters = self.owned.iter().filter(|(_, owned)| !owned.applied);
        let mut updaters: Vec<Manager> = updaters.map(|(manager, _)| manager.clone()).collect();
        updaters.sort_by_key(|manager| (self.seconds(manager), manager.clone()));
        let mut count = updaters.len();
        let mut firsts: BTreeMap<String, Manager> = BTreeMap::new();
        for manager in updaters {
            if count <= most {
                return;
            }
            let Some(owned) = self.owned.get(&manager).cloned() else {
                continue;
            };
            let bucket = Manager {
                name: "ancient-changes".to_owned(),
                applies: false,
                api_version: owned.api_version.clone(),
                subresource: String::new(),
            };
            let Some(first) = firsts.get(&owned.api_version) else {
                firsts.insert(owned.api_version.clone(), manager);
                continue;
            };
            if !self.owned.contains_key(&bucket)
                && let Some(oldest) = self.owned.remove(first)
            {
                self.owned.insert(bucket.clone(), oldest);
            }
            let into = self
                .owned
                .entry(bucket.clone())
                .or_insert_with(|| Owned { set: Set::new(), ..owned.clone() });
            into.set.extend(&owned.set);
            self.owned.remove(&manager);
            count -= 1;
            // What was merged last is the most recent.
            match self.times.get(&manager).cloned() {
                Some(time) => self.times.insert(bucket, time),
                None => self.times.remove(&bucket),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, time: &str, fields: Value) -> Value {
        json!({
            "manager": manager, "operation": operation, "apiVersion": "v1", "time": time,
            "fieldsType": "FieldsV1", "fieldsV1": fields,
        })
    }

    #[test]
    fn entries_are_sorted_by_operation_time_and_name() {
        let a = entry("b", "Apply", "2024-01-02T00:00:00Z", json!({"f:x": {}}));
        let b = entry("a", "Update", "2024-01-01T00:00:00Z", json!({"f:x": {}}));
        let c = entry("c", "Update", "2024-01-01T00:00:00Z", json!({"f:x": {}}));
        let managed = Managed::decode(&json!([c, b, a])).expect("valid");
        assert_eq!(managed.encode(), Some(json!([a, b, c])));
    }

    #[test]
    fn old_updates_are_put_together() {
        let mut entries: Vec<Value> = (10..20)
            .map(|i| {
                entry(
                    &format!("m{i}"),
                    "Update",
                    &format!("2024-01-{i}T00:00:00Z"),
                    json!({format!("f:x{i}"): {}}),
                )
            })
            .collect();
        entries.push(entry("late", "Update", "2024-01-21T00:00:00Z", json!({"f:y": {}})));
        let mut managed = Managed::decode(&Value::Array(entries)).expect("valid");
        managed.cap(10);
        let encoded = managed.encode().expect("not empty");
        assert_eq!(encoded.as_array().map(Vec::len), Some(10));
        let ancient = &encoded[0];
        assert_eq!(ancient["manager"], "ancient-changes");
        assert_eq!(ancient["fieldsV1"], json!({"f:x10": {}, "f:x11": {}}));
        assert_eq!(ancient["time"], "2024-01-11T00:00:00Z");
    }

    #[test]
    fn malformed_entries_are_refused() {
        for entry in
            [json!({}), json!({"operation": "Apply"}), json!({"operation": "Apply", "apiVersion": "v1"})]
        {
            assert!(Managed::decode(&json!([entry])).is_err());
        }
    }
}
