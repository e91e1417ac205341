//! Who owns whom. Pure: changes go in, uids that need a look come out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use knarr_client::informer::LineageOf;

use super::Uid;
use crate::discovery::ResourceInfo;

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// Where an object is to be found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    /// Seen there.
    Seen { resource: Arc<ResourceInfo>, namespace: Arc<str>, name: Arc<str> },
    /// Only referred to; the namespace is that of who refers to it.
    Referred { api_version: String, kind: String, namespace: Arc<str>, name: String },
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) dependents: BTreeSet<Uid>,
    pub(super) being_deleted: bool,
    /// Being deleted in the foreground: goes when nothing it owns blocks it any more.
    pub(super) deleting_dependents: bool,
}

impl Node {
    pub(super) fn is_virtual(&self) -> bool {
        matches!(self.place, Place::Referred { .. })
    }

    fn matches(&self, reference: &OwnerReference, from: &str) -> bool {
        match &self.place {
            Place::Seen { resource, namespace, name } => {
                let group = |api_version: &str| {
                    api_version.rsplit_once('/').map_or("", |(group, _)| group).to_owned()
                };
                resource.kind == reference.kind
                    && **name == *reference.name
                    && resource.group == group(&reference.api_version)
                    && (namespace.is_empty() || **namespace == *from)
            }
            Place::Referred { .. } => true,
        }
    }
}

/// What a change asks for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Todo {
    /// May be garbage, or may be waited for by nobody any more.
    pub(super) delete: Vec<Uid>,
    /// Its dependents are to be set free.
    pub(super) orphan: Vec<Uid>,
    /// Refer to an owner that exists, but not where they say.
    pub(super) mismatched: Vec<Uid>,
}

#[derive(Default)]
pub(super) struct Graph {
    nodes: BTreeMap<Uid, Node>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Takes in the present state of an object.
    pub(super) fn present(&mut self, resource: &Arc<ResourceInfo>, seen: &LineageOf<'_>) -> Todo {
        let mut todo = Todo::default();
        let uid: Uid = Arc::from(seen.uid);
        let known = self.nodes.get(&uid);
        let was_virtual = known.is_some_and(Node::is_virtual);
        let old_owners = known.map(|node| node.owners.clone()).unwrap_or_default();
        let was_deleted = known.is_some_and(|node| node.being_deleted && !node.is_virtual());
        let was_deleting_dependents = known.is_some_and(|node| node.deleting_dependents);
        let has = |finalizer: &str| seen.lineage.finalizers.iter().any(|other| other == finalizer);
        let being_deleted = seen.lineage.is_being_deleted;
        let node = Node {
            place: Place::Seen {
                resource: Arc::clone(resource),
                namespace: Arc::from(seen.namespace),
                name: Arc::from(seen.name),
            },
            owners: seen.lineage.owners.to_vec(),
            dependents: known.map(|node| node.dependents.clone()).unwrap_or_default(),
            being_deleted,
            deleting_dependents: being_deleted && has(FOREGROUND),
        };
        let deleting_dependents = node.deleting_dependents;
        self.nodes.insert(Arc::clone(&uid), node);
        self.link(&uid, seen, &old_owners, &mut todo);
        if was_virtual {
            self.find_mismatched(&uid, &mut todo);
        }
        if being_deleted && has(ORPHAN) {
            todo.orphan.push(Arc::clone(&uid));
        } else if deleting_dependents && !was_deleting_dependents {
            todo.delete.extend(self.nodes[&uid].dependents.iter().cloned());
            todo.delete.push(uid);
        } else if deleting_dependents || (being_deleted && !was_deleted) {
            todo.delete.push(uid);
        }
        todo
    }

    /// Enters the object with its owners, makes those it refers to that were never seen, and takes it off those
    /// it refers to no more.
    fn link(&mut self, uid: &Uid, seen: &LineageOf<'_>, old: &[OwnerReference], todo: &mut Todo) {
        for reference in seen.lineage.owners {
            let before = old.iter().find(|other| other.uid == reference.uid);
            if before.is_none() {
                self.add_owner(uid, seen.namespace, reference, todo);
            } else if before.and_then(|before| before.block_owner_deletion) == Some(true)
                && reference.block_owner_deletion != Some(true)
            {
                self.unblock(&reference.uid, todo);
            }
        }
        for reference in old.iter().filter(|old| !seen.lineage.owners.iter().any(|new| new.uid == old.uid)) {
            self.remove_dependent(&reference.uid, uid);
            self.unblock(&reference.uid, todo);
        }
    }

    fn add_owner(&mut self, uid: &Uid, namespace: &str, reference: &OwnerReference, todo: &mut Todo) {
        let owner: Uid = Arc::from(reference.uid.as_str());
        if let Some(node) = self.nodes.get_mut(&owner) {
            node.dependents.insert(Arc::clone(uid));
            if !node.matches(reference, namespace) {
                todo.mismatched.push(Arc::clone(uid));
                todo.delete.push(Arc::clone(uid));
            } else if node.deleting_dependents {
                // It came while its owner was on the way out.
                todo.delete.push(Arc::clone(uid));
            }
            return;
        }
        let place = Place::Referred {
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
            namespace: Arc::from(namespace),
            name: reference.name.clone(),
        };
        let node = Node {
            place,
            owners: Vec::new(),
            dependents: BTreeSet::from([Arc::clone(uid)]),
            being_deleted: false,
            deleting_dependents: false,
        };
        self.nodes.insert(Arc::clone(&owner), node);
        todo.delete.push(owner);
    }

    /// An owner that was only known from references has been seen: were they right about where it is?
    fn find_mismatched(&self, uid: &Uid, todo: &mut Todo) {
        let node = &self.nodes[uid];
        for dependent in &node.dependents {
            let Some(Place::Seen { namespace, .. }) = self.nodes.get(dependent).map(|node| &node.place)
            else {
                continue;
            };
            let references = self.nodes[dependent].owners.iter().filter(|reference| *reference.uid == **uid);
            if references.into_iter().any(|reference| !node.matches(reference, namespace)) {
                todo.mismatched.push(Arc::clone(dependent));
                todo.delete.push(Arc::clone(dependent));
            }
        }
    }

    fn unblock(&self, owner: &str, todo: &mut Todo) {
        if let Some((uid, _)) = self.nodes.get_key_value(owner).filter(|(_, node)| node.deleting_dependents) {
            todo.delete.push(Arc::clone(uid));
        }
    }

    fn remove_dependent(&mut self, owner: &str, dependent: &Uid) {
        if let Some(node) = self.nodes.get_mut(owner) {
            node.dependents.remove(dependent);
            // Nobody refers to it any more, and nobody has ever seen it.
            if node.dependents.is_empty() && node.is_virtual() {
                self.nodes.remove(owner);
            }
        }
    }

    /// Takes out an object that is gone. Its dependents, if it has any, may be garbage now.
    pub(super) fn gone(&mut self, uid: &str) -> Todo {
        let mut todo = Todo::default();
        let Some((uid, node)) = self.nodes.remove_entry(uid) else { return todo };
        todo.delete.extend(node.dependents);
        for reference in &node.owners {
            self.remove_dependent(&reference.uid, &uid);
            self.unblock(&reference.uid, &mut todo);
        }
        todo
    }

    /// The dependents that keep `uid` from going: those whose reference says so.
    pub(super) fn blocking(&self, uid: &str) -> Vec<Uid> {
        let Some(node) = self.nodes.get(uid) else { return Vec::new() };
        let blocks = |dependent: &&Uid| {
            self.nodes.get(&***dependent).is_some_and(|node| {
                node.owners
                    .iter()
                    .any(|reference| reference.uid == uid && reference.block_owner_deletion == Some(true))
            })
        };
        node.dependents.iter().filter(blocks).cloned().collect()
    }

    /// Whether something it owns is itself waiting for what it owns, so that the two could wait for each other.
    pub(super) fn has_waiting_dependent(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| {
            node.dependents
                .iter()
                .any(|dependent| self.nodes.get(dependent).is_some_and(|node| node.deleting_dependents))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knarr_client::object::Lineage;

    fn pods() -> Arc<ResourceInfo> {
        Arc::new(ResourceInfo {
            group: String::new(),
            version: "v1".into(),
            plural: "pods".into(),
            kind: "Pod".into(),
            namespaced: true,
            verbs: vec![],
        })
    }

    fn owned_by(uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: uid.into(),
            uid: uid.into(),
            block_owner_deletion: Some(true),
            ..OwnerReference::default()
        }
    }

    fn show(
        graph: &mut Graph,
        uid: &str,
        owners: &[OwnerReference],
        finalizers: &[&str],
        deleted: bool,
    ) -> Todo {
        show_in(graph, "ns", uid, owners, finalizers, deleted)
    }

    fn show_in(
        graph: &mut Graph,
        namespace: &str,
        uid: &str,
        owners: &[OwnerReference],
        finalizers: &[&str],
        is_being_deleted: bool,
    ) -> Todo {
        let finalizers: Vec<String> = finalizers.iter().map(|&finalizer| finalizer.to_owned()).collect();
        let lineage = Lineage { owners, finalizers: &finalizers, is_being_deleted };
        graph.present(&pods(), &LineageOf { namespace, name: uid, uid, lineage })
    }

    fn uids(list: &[Uid]) -> Vec<&str> {
        list.iter().map(|uid| &**uid).collect()
    }

    #[test]
    fn dependents_of_what_is_gone_are_looked_at() {
        let mut graph = Graph::default();
        show(&mut graph, "a", &[], &[], false);
        assert_eq!(show(&mut graph, "b", &[owned_by("a")], &[], false), Todo::default());
        assert_eq!(uids(&graph.gone("a").delete), ["b"]);
    }

    #[test]
    fn an_owner_never_seen_is_verified_and_forgotten_with_its_last_dependent() {
        let mut graph = Graph::default();
        assert_eq!(uids(&show(&mut graph, "b", &[owned_by("a")], &[], false).delete), ["a"]);
        assert!(graph.get("a").unwrap().is_virtual());
        graph.gone("b");
        assert!(graph.get("a").is_none());
    }

    #[test]
    fn an_owner_that_waits_is_looked_at_when_a_dependent_goes_or_stops_blocking() {
        let mut graph = Graph::default();
        show(&mut graph, "a", &[], &[], false);
        for dependent in ["b", "c"] {
            show(&mut graph, dependent, &[owned_by("a")], &[], false);
        }
        assert_eq!(uids(&show(&mut graph, "a", &[], &[FOREGROUND], true).delete), ["b", "c", "a"]);
        assert_eq!(uids(&graph.blocking("a")), ["b", "c"]);
        let free = OwnerReference { block_owner_deletion: Some(false), ..owned_by("a") };
        assert_eq!(uids(&show(&mut graph, "b", &[free], &[], false).delete), ["a"]);
        assert_eq!(uids(&graph.gone("c").delete), ["a"]);
        assert!(graph.blocking("a").is_empty());
    }

    #[test]
    fn orphaning_is_asked_for_by_its_finalizer() {
        let mut graph = Graph::default();
        assert_eq!(uids(&show(&mut graph, "a", &[], &[ORPHAN], true).orphan), ["a"]);
    }

    #[test]
    fn an_owner_in_another_namespace_is_no_owner() {
        let mut graph = Graph::default();
        show(&mut graph, "b", &[owned_by("a")], &[], false);
        assert_eq!(uids(&show_in(&mut graph, "other", "a", &[], &[], false).mismatched), ["b"]);
        assert_eq!(uids(&show(&mut graph, "c", &[owned_by("a")], &[], false).mismatched), ["c"]);
    }
}
