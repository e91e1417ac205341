//! Objects as rows of a `meta.k8s.io` Table, which is what `kubectl get` shows.
//!
//! A [`Printer`] is made once per resource: for a built-in kind from the facts and the cells written here, for a
//! custom resource from its printer columns. Rows borrow from the object; nothing of it is cloned. All columns are
//! rendered, also those that clients show only when asked for wide output.

mod columns;
mod custom;
mod duration;
mod jsonpath;
mod kinds;
mod view;

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::Value;

pub use columns::Column;
pub use duration::{age, human_duration};
pub use jsonpath::{JsonPath, JsonPathError};

use kinds::Cells;
use view::View;

/// One value in a row.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell<'a> {
    None,
    Bool(bool),
    Int(i64),
    Number(f64),
    Text(Cow<'a, str>),
}

impl<'a> From<&'a str> for Cell<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Cell<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl<'a> From<Cow<'a, str>> for Cell<'a> {
    fn from(text: Cow<'a, str>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Cell<'_> {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Cell<'_> {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

/// How much of the object comes with its row (`?includeObject=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

/// A row, in the form clients get it.
#[derive(Clone, Debug, Serialize)]
pub struct Row<'a> {
    pub cells: Vec<Cell<'a>>,
    #[serde(skip_serializing_if = "<[RowCondition]>::is_empty")]
    pub conditions: &'static [RowCondition],
    pub object: RowObject<'a>,
}

/// A remark on a row: that the object has come to an end.
#[derive(Debug, Serialize)]
pub struct RowCondition {
    #[serde(rename = "type")]
    kind: &'static str,
    status: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'static str,
}

/// What comes with a row.
#[derive(Clone, Copy, Debug)]
pub enum RowObject<'a> {
    None,
    /// The object's metadata, as PartialObjectMetadata.
    Metadata(&'a Value),
    Object(&'a Value),
}

impl Serialize for RowObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_unit(),
            Self::Object(object) => object.serialize(serializer),
            Self::Metadata(object) => {
                let mut map = serializer.serialize_map(Some(3))?;
                map.serialize_entry("kind", "PartialObjectMetadata")?;
                map.serialize_entry("apiVersion", "meta.k8s.io/v1")?;
                map.serialize_entry("metadata", &object["metadata"])?;
                map.end()
            }
        }
    }
}

/// A whole table. Later events of a watch leave the columns out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Table<'a> {
    kind: &'static str,
    api_version: &'static str,
    /// The list's metadata: resourceVersion, continue, remainingItemCount.
    pub metadata: &'a Value,
    pub column_definitions: Option<&'a [Column]>,
    pub rows: Vec<Row<'a>>,
}

impl<'a> Table<'a> {
    /// A table in `meta.k8s.io/v1`.
    pub fn new(metadata: &'a Value, columns: Option<&'a [Column]>, rows: Vec<Row<'a>>) -> Self {
        Self { kind: "Table", api_version: "meta.k8s.io/v1", metadata, column_definitions: columns, rows }
    }

    /// The same in `meta.k8s.io/v1beta1`, for clients that ask for it.
    pub fn v1beta1(self) -> Self {
        Self { api_version: "meta.k8s.io/v1beta1", ..self }
    }
}

/// Renders the objects of one resource.
#[derive(Debug)]
pub struct Printer {
    columns: Cow<'static, [Column]>,
    cells: Source,
}

#[derive(Debug)]
enum Source {
    BuiltIn(Cells),
    Custom(Vec<custom::CustomColumn>),
}

impl Printer {
    /// The printer of a built-in kind; kinds without one of their own get name and creation time.
    pub fn built_in(group: &str, kind: &str) -> Self {
        match (columns::of(group, kind), kinds::cells(group, kind)) {
            (Some(columns), Some(cells)) => {
                Self { columns: Cow::Borrowed(columns), cells: Source::BuiltIn(cells) }
            }
            _ => Self { columns: Cow::Borrowed(columns::DEFAULT), cells: Source::BuiltIn(kinds::DEFAULT) },
        }
    }

    /// The printer of a custom resource, from `additionalPrinterColumns` of its version.
    ///
    /// # Errors
    /// A column whose path is no JSONPath.
    pub fn custom(additional: &[Value]) -> Result<Self, JsonPathError> {
        let (columns, cells) = custom::columns(additional)?;
        Ok(Self { columns: Cow::Owned(columns), cells: Source::Custom(cells) })
    }

    /// The columns, for the table's head.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The row of one object; ages are counted to `now`.
    pub fn row<'a>(&self, object: &'a Value, include: IncludeObject, now: Timestamp) -> Row<'a> {
        let view = View::new(object, now);
        let cells = match &self.cells {
            Source::BuiltIn(cells) => cells.render(view),
            Source::Custom(columns) => custom::cells(columns, view),
        };
        let object = match include {
            IncludeObject::None => RowObject::None,
            IncludeObject::Metadata => RowObject::Metadata(object),
            IncludeObject::Object => RowObject::Object(object),
        };
        let conditions = match &self.cells {
            Source::BuiltIn(cells) => cells.conditions(view),
            Source::Custom(_) => &[],
        };
        Row { cells, conditions, object }
    }

    /// The rows of a list. Some kinds mark an object only among others: the default storage class.
    pub fn rows<'a>(&self, objects: &[&'a Value], include: IncludeObject, now: Timestamp) -> Vec<Row<'a>> {
        let mut rows: Vec<Row<'a>> = objects.iter().map(|object| self.row(object, include, now)).collect();
        if let Source::BuiltIn(cells) = &self.cells {
            cells.mark_list(objects, &mut rows);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_borrow_and_serialise_as_tables() {
        let now: Timestamp = "2024-01-01T00:02:00Z".parse().expect("valid");
        let pod = json!({
            "metadata": {"name": "a", "creationTimestamp": "2024-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "c"}], "nodeName": "n"},
            "status": {"phase": "Succeeded", "podIPs": [{"ip": "10.0.0.1"}]},
        });
        let printer = Printer::built_in("", "Pod");
        let row = serde_json::to_value(printer.row(&pod, IncludeObject::Metadata, now)).expect("plain data");
        assert_eq!(
            row["cells"],
            json!(["a", "0/1", "Succeeded", "0", "2m", "10.0.0.1", "n", "<none>", "<none>"])
        );
        assert_eq!(row["conditions"][0]["reason"], "Succeeded");
        assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
        let metadata = json!({"resourceVersion": "7"});
        let rows = printer.rows(&[&pod], IncludeObject::None, now);
        let table =
            serde_json::to_value(Table::new(&metadata, Some(printer.columns()), rows)).expect("plain data");
        assert_eq!(table["kind"], "Table");
        assert_eq!(
            table["columnDefinitions"][0],
            json!({"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0})
        );
        assert_eq!(table["rows"][0]["object"], json!(null));
    }

    #[test]
    fn unknown_kinds_have_the_default_table() {
        let object = json!({"metadata": {"name": "a", "creationTimestamp": "2024-01-01T00:00:00Z"}});
        let row = Printer::built_in("x", "Y").row(&object, IncludeObject::None, Timestamp::UNIX_EPOCH).cells;
        assert_eq!(row, [Cell::from("a"), Cell::from("2024-01-01T00:00:00Z")]);
    }
}
