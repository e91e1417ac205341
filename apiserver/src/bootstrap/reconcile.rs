//! Bringing one object to what it should at least be.

use knarr_api::status::{Status, reason};
use serde_json::{Map, Value};

use crate::loopback::Loopback;

/// Attempts when somebody else writes the same object at the same time; other servers start too.
const ATTEMPTS: usize = 5;

/// What to do with an object as it stands.
pub enum Verdict {
    Leave,
    /// Write this instead; its resourceVersion is the one that was read.
    Update(Value),
    /// It cannot be changed into what it should be.
    Recreate,
}

/// An object that every cluster has.
pub struct Item {
    /// The collection it is in.
    pub collection: String,
    pub object: Value,
    /// What to do when it exists.
    pub exists: fn(existing: &Value, wanted: &Value) -> Verdict,
}

impl Item {
    /// The object's own path. The names of these objects need no escaping in a path.
    pub fn path(&self) -> String {
        format!("{}/{}", self.collection, self.object["metadata"]["name"].as_str().unwrap_or_default())
    }
}

/// For objects that are the user's once they exist.
pub fn leave(_: &Value, _: &Value) -> Verdict {
    Verdict::Leave
}

/// Creates, changes or leaves the object, again when another was faster.
pub async fn apply(loopback: &Loopback, item: &Item) -> Result<(), Status> {
    let path = item.path();
    let mut last = Status::internal("no attempt was made");
    for _ in 0..ATTEMPTS {
        let done = match loopback.get(&path).await? {
            None => loopback.create(&item.collection, &item.object).await.map(drop),
            Some(existing) => match (item.exists)(&existing, &item.object) {
                Verdict::Leave => Ok(()),
                Verdict::Update(object) => loopback.update(&path, &object).await.map(drop),
                Verdict::Recreate => {
                    loopback.delete(&path).await?;
                    loopback.create(&item.collection, &item.object).await.map(drop)
                }
            },
        };
        match done {
            Err(status) if status.is(reason::CONFLICT) || status.is(reason::ALREADY_EXISTS) => last = status,
            done => return done,
        }
    }
    Err(last)
}

/// Adds the labels or annotations that are missing; what is there stays. Says whether anything was added.
pub fn merge_missing(object: &mut Value, wanted: &Value, what: &str) -> bool {
    let Some(wanted) = wanted["metadata"][what].as_object() else { return false };
    let slot = &mut object["metadata"][what];
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    let Some(present) = slot.as_object_mut() else { return false };
    let before = present.len();
    for (key, value) in wanted {
        present.entry(key.clone()).or_insert_with(|| value.clone());
    }
    present.len() != before
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn present_labels_stay_as_they_are() {
        let mut object = json!({"metadata": {"labels": {"a": "mine"}}});
        let wanted = json!({"metadata": {"labels": {"a": "theirs", "b": "new"}}});
        assert!(merge_missing(&mut object, &wanted, "labels"));
        assert_eq!(object["metadata"]["labels"], json!({"a": "mine", "b": "new"}));
        assert!(!merge_missing(&mut object, &wanted, "labels"));
    }
}
