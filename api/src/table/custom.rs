//! Tables of custom resources.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;

use super::columns::{Column, NAME};
use super::jsonpath::{JsonPath, JsonPathError};
use super::view::View;
use super::{Cell, duration};

/// Where a column's cells come from.
#[derive(Debug)]
pub(super) struct CustomColumn {
    kind: Kind,
    path: JsonPath,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Text,
    Integer,
    Number,
    Boolean,
    Date,
    Other,
}

/// Head and cells of a table: the name, then the additional columns, or the age when there are none.
pub(super) fn columns(additional: &[Value]) -> Result<(Vec<Column>, Vec<CustomColumn>), JsonPathError> {
    let mut heads = vec![NAME];
    let mut cells = Vec::with_capacity(additional.len().max(1));
    if additional.is_empty() {
        let path = ".metadata.creationTimestamp";
        heads.push(head("Age", "date", String::new(), String::new(), 0));
        cells.push(CustomColumn { kind: Kind::Date, path: path.parse()? });
    }
    for column in additional {
        let text = |name: &str| column[name].as_str().unwrap_or_default();
        let kind = match text("type") {
            "string" => Kind::Text,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            "date" => Kind::Date,
            _ => Kind::Other,
        };
        let path = text("jsonPath");
        let description = match text("description") {
            "" => format!("Custom resource definition column (in JSONPath format): {path}"),
            own => own.to_owned(),
        };
        let priority = column["priority"].as_i64().and_then(|priority| i32::try_from(priority).ok());
        let format = text("format").to_owned();
        heads.push(head(text("name"), text("type"), format, description, priority.unwrap_or_default()));
        cells.push(CustomColumn { kind, path: path.parse()? });
    }
    Ok((heads, cells))
}

fn head(name: &str, kind: &str, format: String, description: String, priority: i32) -> Column {
    Column {
        name: Cow::Owned(name.to_owned()),
        kind: Cow::Owned(kind.to_owned()),
        format: Cow::Owned(format),
        description: Cow::Owned(description),
        priority,
    }
}

/// The cells of one object. What a path does not find is an empty cell.
pub(super) fn cells<'a>(columns: &[CustomColumn], view: View<'a>) -> Vec<Cell<'a>> {
    let mut cells = vec![view.name()];
    cells.extend(columns.iter().map(|column| match column.path.first(view.value()) {
        Some(found) => cell(column.kind, found, view.now),
        None => Cell::None,
    }));
    cells
}

fn cell(kind: Kind, value: &Value, now: Timestamp) -> Cell<'_> {
    match (kind, value) {
        (Kind::Text, Value::String(text)) => text.as_str().into(),
        (Kind::Text, Value::Null) => "".into(),
        (Kind::Text, other) => crate::field::go_json(other).into(),
        (Kind::Integer, Value::Number(number)) => number
            .as_i64()
            .or_else(|| number.as_f64().map(|float| float as i64))
            .map_or(Cell::None, Cell::Int),
        (Kind::Number, Value::Number(number)) => number.as_f64().map_or(Cell::None, Cell::Number),
        (Kind::Boolean, Value::Bool(truth)) => (*truth).into(),
        (Kind::Date, Value::String(text)) => match text.parse() {
            Ok(time) => duration::age(Some(time), now).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Cell::None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{IncludeObject, Printer};
    use super::*;

    #[test]
    fn columns_are_read_by_path_and_type() {
        let printer = Printer::custom(&[
            json!({"name": "Size", "type": "integer", "jsonPath": ".spec.size"}),
            json!({"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}),
            json!({"name": "Labels", "type": "string", "jsonPath": ".metadata.labels", "priority": 1}),
            json!({"name": "Since", "type": "date", "jsonPath": ".status.since"}),
            json!({"name": "None", "type": "boolean", "jsonPath": ".spec.none"}),
        ])
        .expect("valid paths");
        let object = json!({
            "metadata": {"name": "a", "labels": {"x": "y"}},
            "spec": {"size": 3},
            "status": {"since": "1970-01-01T00:00:00Z", "conditions": [{"type": "Other", "status": "x"}, {"type": "Ready", "status": "True"}]},
        });
        let now = Timestamp::from_second(60).expect("in range");
        assert_eq!(
            serde_json::to_value(printer.row(&object, IncludeObject::None, now).cells).expect("plain data"),
            json!(["a", 3, "True", "{\"x\":\"y\"}", "60s", null])
        );
        assert_eq!(printer.columns()[3].priority, 1);
        let ages = Printer::custom(&[]).expect("valid");
        assert_eq!(ages.columns()[1].name, "Age");
    }
}
