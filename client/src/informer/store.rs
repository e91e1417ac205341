//! The objects of one informer and the indices over them. Ordered throughout, so that a seeded run repeats.

use std::{collections::BTreeMap, sync::Arc};

use super::{Change, Handler};
use crate::object::{Cached, ObjectKey};

/// What happened to the store, with the objects shared so that handlers run without its lock.
pub(super) enum Applied<K> {
    Added(Arc<K>),
    Updated { old: Arc<K>, new: Arc<K> },
    Deleted { last: Arc<K>, stale: bool },
}

impl<K> Applied<K> {
    pub(super) fn deliver(&self, handlers: &[(u64, Handler<K>)]) {
        for (_, handler) in handlers {
            handler(match self {
                Self::Added(object) => Change::Added(object),
                Self::Updated { old, new } => Change::Updated { old, new },
                Self::Deleted { last, stale } => Change::Deleted { last, stale: *stale },
            });
        }
    }
}

struct Index<K> {
    values: fn(&K) -> Vec<String>,
    entries: BTreeMap<String, BTreeMap<ObjectKey, Arc<K>>>,
}

impl<K> Index<K> {
    fn insert(&mut self, key: &ObjectKey, object: &Arc<K>) {
        for value in (self.values)(object) {
            self.entries.entry(value).or_default().insert(key.clone(), Arc::clone(object));
        }
    }

    fn remove(&mut self, key: &ObjectKey, object: &K) {
        for value in (self.values)(object) {
            if let Some(bucket) = self.entries.get_mut(&value) {
                bucket.remove(key);
                if bucket.is_empty() {
                    self.entries.remove(&value);
                }
            }
        }
    }
}

pub(super) struct Store<K> {
    namespaces: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<K>>>,
    indices: BTreeMap<&'static str, Index<K>>,
    len: usize,
}

impl<K: Cached> Store<K> {
    pub(super) fn new() -> Self {
        Self { namespaces: BTreeMap::new(), indices: BTreeMap::new(), len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.namespaces.get(namespace)?.get(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.namespaces.values().flat_map(BTreeMap::values)
    }

    pub(super) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        self.namespaces.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn by_index(&self, name: &'static str, value: &str) -> Vec<Arc<K>> {
        let index = self.indices.get(name).unwrap_or_else(|| panic!("no index {name} was added"));
        index.entries.get(value).map(|bucket| bucket.values().cloned().collect()).unwrap_or_default()
    }

    pub(super) fn add_index(&mut self, name: &'static str, values: fn(&K) -> Vec<String>) {
        if self.indices.contains_key(name) {
            return;
        }
        let mut index = Index { values, entries: BTreeMap::new() };
        for (namespace, objects) in &self.namespaces {
            for (object_name, object) in objects {
                index.insert(&ObjectKey::new(Arc::clone(namespace), Arc::clone(object_name)), object);
            }
        }
        self.indices.insert(name, index);
    }

    /// Stores a new state; gives two changes when another object of the same name was here.
    pub(super) fn insert(&mut self, object: K) -> Vec<Applied<K>> {
        let new = Arc::new(object);
        let key = self.shared_key(new.namespace(), new.name());
        let objects = self.namespaces.entry(Arc::clone(&key.namespace)).or_default();
        let old = objects.insert(Arc::clone(&key.name), Arc::clone(&new));
        for index in self.indices.values_mut() {
            if let Some(old) = &old {
                index.remove(&key, old);
            }
            index.insert(&key, &new);
        }
        match old {
            None => {
                self.len += 1;
                vec![Applied::Added(new)]
            }
            Some(old) if old.uid() != new.uid() => {
                vec![Applied::Deleted { last: old, stale: true }, Applied::Added(new)]
            }
            Some(old) => vec![Applied::Updated { old, new }],
        }
    }

    /// Removes the object and reports the final state that came with its deletion.
    pub(super) fn remove(&mut self, last: K) -> Option<Applied<K>> {
        self.take(last.namespace(), last.name())?;
        Some(Applied::Deleted { last: Arc::new(last), stale: false })
    }

    /// Makes the content equal to `objects`; unchanged ones (by resourceVersion) give no change.
    pub(super) fn replace(&mut self, objects: Vec<K>) -> Vec<Applied<K>> {
        let mut changes = Vec::new();
        for key in self.missing_from(&objects) {
            if let Some(last) = self.take(&key.namespace, &key.name) {
                changes.push(Applied::Deleted { last, stale: true });
            }
        }
        for object in objects {
            let known = self.get(object.namespace(), object.name());
            if known.is_some_and(|old| {
                old.uid() == object.uid() && old.resource_version() == object.resource_version()
            }) {
                continue;
            }
            changes.extend(self.insert(object));
        }
        changes
    }

    fn missing_from(&self, objects: &[K]) -> Vec<ObjectKey> {
        let listed: std::collections::HashSet<(&str, &str)> =
            objects.iter().map(|object| (object.namespace(), object.name())).collect();
        let names = self.namespaces.iter().flat_map(|(namespace, objects)| {
            objects.keys().map(move |name| ObjectKey::new(Arc::clone(namespace), Arc::clone(name)))
        });
        names.filter(|key| !listed.contains(&(&*key.namespace, &*key.name))).collect()
    }

    fn take(&mut self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let objects = self.namespaces.get_mut(namespace)?;
        let (name, old) = objects.remove_entry(name)?;
        if objects.is_empty() {
            self.namespaces.remove(namespace);
        }
        self.len -= 1;
        let key = ObjectKey::new(namespace, name);
        for index in self.indices.values_mut() {
            index.remove(&key, &old);
        }
        Some(old)
    }

    /// The key of an object, sharing the strings the store already has.
    fn shared_key(&self, namespace: &str, name: &str) -> ObjectKey {
        match self.namespaces.get_key_value(namespace) {
            None => ObjectKey::new(namespace, name),
            Some((namespace, objects)) => {
                let name =
                    objects.get_key_value(name).map_or_else(|| Arc::from(name), |(name, _)| Arc::clone(name));
                ObjectKey::new(Arc::clone(namespace), name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use proptest::prelude::*;

    fn object(name: &str, uid: &str, version: u32) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some("a".into());
        object.metadata.name = Some(name.into());
        object.metadata.uid = Some(uid.into());
        object.metadata.resource_version = Some(version.to_string());
        object.metadata.labels = Some([("v".to_owned(), (version % 3).to_string())].into());
        object
    }

    fn by_label(object: &ConfigMap) -> Vec<String> {
        object.metadata.labels.iter().flatten().map(|(_, value)| value.clone()).collect()
    }

    fn kinds(changes: &[Applied<ConfigMap>]) -> Vec<&'static str> {
        changes
            .iter()
            .map(|change| match change {
                Applied::Added(_) => "added",
                Applied::Updated { .. } => "updated",
                Applied::Deleted { stale: true, .. } => "missed",
                Applied::Deleted { .. } => "deleted",
            })
            .collect()
    }

    #[test]
    fn a_name_used_again_is_a_deletion_and_an_addition() {
        let mut store = Store::new();
        assert_eq!(kinds(&store.insert(object("x", "1", 1))), ["added"]);
        assert_eq!(kinds(&store.insert(object("x", "1", 2))), ["updated"]);
        assert_eq!(kinds(&store.insert(object("x", "2", 3))), ["missed", "added"]);
        assert_eq!(kinds(&store.replace(vec![object("x", "2", 3)])), Vec::<&str>::new());
        assert_eq!(kinds(&store.replace(vec![object("y", "3", 4)])), ["missed", "added"]);
        assert_eq!(store.len(), 1);
    }

    proptest! {
        #[test]
        fn indices_always_agree_with_a_scan(steps in prop::collection::vec((0..6u8, 0..3u8, 0..9u32, 0..4u8), 0..60)) {
            let mut store = Store::new();
            store.add_index("label", by_label);
            for (name, uid, version, action) in steps {
                let object = object(&name.to_string(), &uid.to_string(), version);
                match action {
                    0 => drop(store.remove(object)),
                    1 => drop(store.replace(vec![object])),
                    _ => drop(store.insert(object)),
                }
                prop_assert_eq!(store.len(), store.iter().count());
                for value in ["0", "1", "2"] {
                    let scan: Vec<_> = store.iter().filter(|o| by_label(o) == [value]).map(Arc::as_ptr).collect();
                    let indexed: Vec<_> = store.by_index("label", value).iter().map(Arc::as_ptr).collect();
                    prop_assert_eq!(scan, indexed);
                }
            }
        }
    }
}
