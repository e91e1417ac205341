//! The built-in types: an index over the embedded lines, each parsed when first used.

use std::sync::{LazyLock, OnceLock};

use super::{Type, TypeRef, facts};

/// One record a line, sorted by type name: `name TAB group/version/Kind TAB {json}`.
static FACTS: &str = include_str!("../../facts/types.jsonl");

static TABLE: LazyLock<Table> = LazyLock::new(Table::index);

struct Table {
    lines: Vec<Line>,
    /// (group/version/Kind, line), sorted.
    kinds: Vec<(&'static str, u16)>,
}

struct Line {
    name: &'static str,
    gvk: Option<&'static str>,
    json: &'static str,
    parsed: OnceLock<Type>,
}

impl Table {
    fn index() -> Self {
        let lines: Vec<Line> = FACTS.lines().map(Line::split).collect();
        let mut kinds: Vec<_> =
            lines.iter().zip(0..).filter_map(|(line, at)| Some((line.gvk?, at))).collect();
        kinds.sort_unstable();
        Self { lines, kinds }
    }
}

impl Line {
    fn split(line: &'static str) -> Self {
        let mut parts = line.splitn(3, '\t');
        let mut part = || parts.next().expect("the generator writes three columns");
        let (name, gvk, json) = (part(), part(), part());
        Self { name, gvk: (gvk != "-").then_some(gvk), json, parsed: OnceLock::new() }
    }
}

/// The line of a built-in type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeId(u16);

impl TypeId {
    pub(super) fn get(self) -> &'static Type {
        let line = &TABLE.lines[usize::from(self.0)];
        line.parsed.get_or_init(|| facts::parse(line.name, line.gvk, line.json))
    }
}

/// The built-in type with this full name, `io.k8s.api.core.v1.Pod`.
pub fn by_name(name: &str) -> Option<TypeRef> {
    let at = TABLE.lines.binary_search_by(|line| line.name.cmp(name)).ok()?;
    Some(TypeRef::Builtin(TypeId(at as u16)))
}

/// The built-in type of a kind.
pub fn by_gvk(group: &str, version: &str, kind: &str) -> Option<TypeRef> {
    let wanted = [group, version, kind];
    let at = TABLE.kinds.binary_search_by(|(gvk, _)| gvk.split('/').cmp(wanted)).ok()?;
    Some(TypeRef::Builtin(TypeId(TABLE.kinds[at].1)))
}

/// All built-in types, sorted by name. Parses none of them by itself.
pub fn all() -> impl Iterator<Item = TypeRef> {
    (0..TABLE.lines.len() as u16).map(|at| TypeRef::Builtin(TypeId(at)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{ListKind, Shape, WireKind};

    #[test]
    fn every_line_of_the_table_parses() {
        let mut fields = 0;
        for of in all() {
            assert!(!of.name.is_empty());
            fields += of.fields.len();
            for field in &of.fields {
                assert!(std::ptr::eq(of.field(&field.name).expect("a field finds itself"), field));
            }
        }
        assert!(fields > 4000, "{fields} fields");
    }

    #[test]
    fn kinds_are_found_by_coordinates_and_by_name() {
        let pod = by_gvk("", "v1", "Pod").expect("pod");
        assert!(pod.is(&by_name("io.k8s.api.core.v1.Pod").expect("pod")));
        assert_eq!(by_gvk("apps", "v1", "Deployment").expect("deployment").short_name(), "Deployment");
        assert!(by_gvk("apps", "v2", "Deployment").is_none());
        assert!(by_name("io.k8s.api.core.v1.Pot").is_none());
    }

    #[test]
    fn a_field_knows_its_list_semantics_and_its_wire() {
        let spec = by_name("io.k8s.api.core.v1.PodSpec").expect("pod spec");
        let containers = spec.field("containers").expect("containers");
        let Shape::List(list) = &containers.shape else { panic!("{containers:?}") };
        assert_eq!((list.kind, list.keys.as_ref()), (ListKind::Map, &["name".into()][..]));
        assert!(containers.patch.merge && containers.required);
        let wire = containers.wire.as_ref().expect("wire");
        assert_eq!((wire.number, wire.kind), (2, WireKind::Bytes));
        assert!(spec.field("Containers").is_none());
    }
}
