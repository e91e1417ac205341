//! Values as Go's `%v` prints them, which upstream puts into errors.

use std::fmt::{self, Display, Formatter};

use serde_json::Value;

/// Prints `map[a:1 b:[x y]]`.
pub(super) struct Go<'a>(pub &'a Value);

impl Display for Go<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("<nil>"),
            Value::String(text) => f.write_str(text),
            Value::Array(items) => list(f, items),
            Value::Object(fields) => {
                f.write_str("map[")?;
                for (i, (key, value)) in fields.iter().enumerate() {
                    write!(f, "{}{key}:{}", if i > 0 { " " } else { "" }, Go(value))?;
                }
                f.write_str("]")
            }
            scalar => scalar.fmt(f),
        }
    }
}

fn list(f: &mut Formatter<'_>, items: &[Value]) -> fmt::Result {
    f.write_str("[")?;
    for (i, item) in items.iter().enumerate() {
        write!(f, "{}{}", if i > 0 { " " } else { "" }, Go(item))?;
    }
    f.write_str("]")
}

/// A list in the same form.
pub(super) struct GoList<'a>(pub &'a [Value]);

impl Display for GoList<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        list(f, self.0)
    }
}

/// The name Go gives a JSON value's type.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
