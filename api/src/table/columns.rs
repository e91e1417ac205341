//! The columns of built-in kinds, from the facts.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// The head of one column.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Column {
    pub name: Cow<'static, str>,
    /// The OpenAPI type: string, integer, number, boolean, date.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    #[serde(default)]
    pub format: Cow<'static, str>,
    #[serde(default)]
    pub description: Cow<'static, str>,
    /// Columns above zero are shown in wide output only.
    #[serde(default)]
    pub priority: i32,
}

const fn column(name: &'static str, kind: &'static str, format: &'static str) -> Column {
    Column {
        name: Cow::Borrowed(name),
        kind: Cow::Borrowed(kind),
        format: Cow::Borrowed(format),
        description: Cow::Borrowed(""),
        priority: 0,
    }
}

pub(super) const NAME: Column = column("Name", "string", "name");

/// Columns of kinds without any of their own.
pub(super) static DEFAULT: &[Column] = &[NAME, column("Created At", "date", "")];

#[derive(Deserialize)]
struct Kind {
    group: &'static str,
    kind: &'static str,
    columns: Vec<Column>,
}

static FACTS: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let parse = |line| serde_json::from_str(line).expect("a test reads the facts");
    include_str!("../../facts/printcolumns.jsonl").lines().map(parse).collect()
});

/// The columns of a built-in kind.
pub(super) fn of(group: &str, kind: &str) -> Option<&'static [Column]> {
    FACTS
        .iter()
        .find(|facts| facts.group == group && facts.kind == kind)
        .map(|facts| facts.columns.as_slice())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::super::{IncludeObject, Printer, kinds};
    use super::*;

    #[test]
    fn every_kind_has_a_cell_for_every_column_even_of_an_empty_object() {
        for Kind { group, kind, columns } in &*FACTS {
            assert!(kinds::cells(group, kind).is_some(), "{group}/{kind} has no cells");
            let object = json!({});
            let row = Printer::built_in(group, kind).row(&object, IncludeObject::None, Timestamp::UNIX_EPOCH);
            assert_eq!(row.cells.len(), columns.len(), "{group}/{kind}");
        }
    }
}
