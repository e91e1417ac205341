//! Sets of field paths, as trees, and their form in fieldsV1.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::element::{PathElement, PathElementError};
use super::schema::Schema;

/// A set of field paths. Having children does not make a path a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    pub(super) members: BTreeSet<PathElement>,
    pub(super) children: BTreeMap<PathElement, Set>,
}

impl Set {
    pub const fn new() -> Self {
        Self { members: BTreeSet::new(), children: BTreeMap::new() }
    }

    /// The set of paths that are fields of fields: `[&["metadata", "name"], &["status"]]`.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::new();
        for path in paths {
            let path: Vec<PathElement> = path.iter().map(|name| PathElement::field(*name)).collect();
            set.insert(&path);
        }
        set
    }

    /// Adds a path. The empty path, the object as a whole, is never a member.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        let mut at = self;
        for parent in parents {
            at = at.children.entry(parent.clone()).or_default();
        }
        at.members.insert(last.clone());
    }

    pub fn contains(&self, path: &[PathElement]) -> bool {
        let Some((last, parents)) = path.split_last() else {
            return false;
        };
        let mut at = self;
        for parent in parents {
            match at.children.get(parent) {
                Some(child) => at = child,
                None => return false,
            }
        }
        at.members.contains(last)
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Set::is_empty)
    }

    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.extend(other);
        union
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.members.extend(other.members.iter().cloned());
        for (element, set) in &other.children {
            self.children.entry(element.clone()).or_default().extend(set);
        }
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let members = self.members.intersection(&other.members).cloned().collect();
        let children = self.children.iter().filter_map(|(element, set)| {
            let both = set.intersection(other.children.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self { members, children: children.collect() }
    }

    /// The members that `other` does not have.
    pub fn difference(&self, other: &Self) -> Self {
        let members = self.members.difference(&other.members).cloned().collect();
        let children = self.children.iter().filter_map(|(element, set)| match other.children.get(element) {
            None => Some((element.clone(), set.clone())),
            Some(less) => {
                let rest = set.difference(less);
                (!rest.is_empty()).then(|| (element.clone(), rest))
            }
        });
        Self { members, children: children.collect() }
    }

    /// The members that are neither in `other` nor below a member of it.
    pub fn recursive_difference(&self, other: &Self) -> Self {
        let members = self.members.difference(&other.members).cloned().collect();
        let kept = self.children.iter().filter(|(element, _)| !other.members.contains(element));
        let children = kept.filter_map(|(element, set)| match other.children.get(element) {
            None => Some((element.clone(), set.clone())),
            Some(less) => {
                let rest = set.recursive_difference(less);
                (!rest.is_empty()).then(|| (element.clone(), rest))
            }
        });
        Self { members, children: children.collect() }
    }

    /// Only what is at or below these fields of the object.
    pub(super) fn below(&self, fields: &[Box<str>]) -> Self {
        let wanted =
            |element: &PathElement| matches!(element, PathElement::Field(name) if fields.contains(name));
        Self {
            members: self.members.iter().filter(|element| wanted(element)).cloned().collect(),
            children: self
                .children
                .iter()
                .filter(|(element, _)| wanted(element))
                .map(|(element, set)| (element.clone(), set.clone()))
                .collect(),
        }
    }

    /// The paths below `element`.
    pub(super) fn child(&self, element: &PathElement) -> Option<&Self> {
        self.children.get(element).filter(|set| !set.is_empty())
    }

    /// All members, each with its path.
    pub fn for_each(&self, visit: &mut dyn FnMut(&[PathElement])) {
        self.for_each_below(&mut Vec::new(), visit);
    }

    fn for_each_below(&self, path: &mut Vec<PathElement>, visit: &mut dyn FnMut(&[PathElement])) {
        for member in &self.members {
            path.push(member.clone());
            visit(path);
            path.pop();
        }
        for (element, set) in &self.children {
            path.push(element.clone());
            set.for_each_below(path, visit);
            path.pop();
        }
    }

    /// The set with every declared field that has children made a member: whoever owns something in a struct
    /// owns the struct, for the sake of pruning.
    pub(super) fn with_named_fields(&self, schema: Option<Schema<'_>>) -> Self {
        let mut members = self.members.clone();
        let mut children = BTreeMap::new();
        for (element, set) in &self.children {
            let below = match (element, schema) {
                (PathElement::Field(name), Some(schema)) => {
                    if schema.declares(name) {
                        members.insert(element.clone());
                    }
                    schema.field(name)
                }
                (PathElement::Key(_), Some(schema)) => schema.item(),
                _ => None,
            };
            children.insert(element.clone(), set.with_named_fields(below));
        }
        Self { members, children }
    }

    /// The set as fieldsV1.
    pub fn to_fields_v1(&self) -> Value {
        Value::Object(self.contents(false))
    }

    fn contents(&self, is_member: bool) -> Map<String, Value> {
        let mut map = Map::new();
        if is_member && !(self.members.is_empty() && self.children.is_empty()) {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        let empty = Self::new();
        let elements: BTreeSet<&PathElement> = self.members.iter().chain(self.children.keys()).collect();
        for element in elements {
            let below = self.children.get(element).unwrap_or(&empty);
            map.insert(element.serialize(), Value::Object(below.contents(self.members.contains(element))));
        }
        map
    }

    /// Reads fieldsV1. Elements of unknown kinds are dropped.
    ///
    /// # Errors
    /// An element that is malformed.
    pub fn from_fields_v1(fields: &Value) -> Result<Self, PathElementError> {
        Ok(read(fields)?.0.unwrap_or_default())
    }
}

/// The set below an element, none if nothing is, and whether the element itself is a member.
fn read(fields: &Value) -> Result<(Option<Set>, bool), PathElementError> {
    let mut set: Option<Set> = None;
    let mut is_member = false;
    let empty = Map::new();
    for (key, below) in fields.as_object().unwrap_or(&empty) {
        if key == "." {
            is_member = true;
            continue;
        }
        let element = match PathElement::parse(key) {
            Ok(element) => element,
            Err(PathElementError::Unknown) => continue,
            Err(error) => return Err(error),
        };
        let (children, member) = read(below)?;
        let set = set.get_or_insert_default();
        if member {
            set.members.insert(element.clone());
        }
        if let Some(children) = children {
            set.children.insert(element, children);
        }
    }
    let is_member = is_member || set.is_none();
    Ok((set, is_member))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn sets_survive_fields_v1() {
        let fields = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}, "f:name": {}}}, "f:replicas": {}},
        });
        let set = Set::from_fields_v1(&fields).expect("valid");
        assert_eq!(set.to_fields_v1(), fields);
        assert!(set.contains(&[PathElement::field("spec"), PathElement::field("replicas")]));
        assert!(!set.contains(&[PathElement::field("spec")]));
        assert!(Set::from_fields_v1(&json!({"x:future": {}})).expect("ignored").is_empty());
        assert!(Set::from_fields_v1(&json!({"nocolon": {}})).is_err());
    }

    #[test]
    fn what_lies_below_a_member_goes_recursively() {
        let set = Set::of_fields(&[&["status", "phase"], &["spec", "a"], &["spec", "b"]]);
        let less = Set::of_fields(&[&["status"], &["spec", "a"]]);
        assert_eq!(set.recursive_difference(&less), Set::of_fields(&[&["spec", "b"]]));
        assert_eq!(set.difference(&less), Set::of_fields(&[&["status", "phase"], &["spec", "b"]]));
    }

    fn sets() -> impl Strategy<Value = Set> {
        let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4);
        prop::collection::vec(path, 0..8).prop_map(|paths| {
            let mut set = Set::new();
            for path in paths {
                set.insert(&path.into_iter().map(PathElement::field).collect::<Vec<_>>());
            }
            set
        })
    }

    proptest! {
        #[test]
        fn set_algebra_holds(a in sets(), b in sets()) {
            let both = a.intersection(&b);
            prop_assert_eq!(a.difference(&b).union(&both).to_fields_v1(), a.to_fields_v1());
            prop_assert!(a.difference(&b).intersection(&b).is_empty());
            prop_assert_eq!(a.union(&b), b.union(&a));
            if !a.is_empty() {
                prop_assert_eq!(Set::from_fields_v1(&a.to_fields_v1()), Ok(a));
            }
        }
    }
}
