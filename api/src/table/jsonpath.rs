//! The JSONPath of printer columns: fields, indices, slices, wildcards, filters and recursive descent.
//!
//! Examples: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`, `.metadata.labels.app\.kubernetes\.io/name`,
//! `.a['b.c'][0]`, `.a[*].b`.

use std::str::FromStr;

use serde_json::Value;

/// Longest path, in bytes.
const MAX_LENGTH: usize = 4096;

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPathError {
    #[error("path is longer than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("unterminated {0}")]
    Unterminated(&'static str),
    #[error("invalid array index {0}")]
    Index(String),
    #[error("unrecognized character in action: {0:?}")]
    Unexpected(char),
    #[error("unrecognized filter {0}")]
    Filter(String),
}

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    /// Everything below.
    Descend,
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        by: Option<i64>,
    },
    Index(Vec<i64>),
    Fields(Vec<String>),
    Filter(Filter),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Operand,
    comparison: Option<(Comparison, Operand)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    /// A path from the element under test.
    Path(JsonPath),
    Literal(Value),
}

impl JsonPath {
    /// The first value the path finds in `root`.
    pub fn first<'a>(&self, root: &'a Value) -> Option<&'a Value> {
        let mut found = None;
        walk(&self.0, root, &mut |value| {
            found = Some(value);
            false
        });
        found
    }

    /// All values the path finds in `root`, in order.
    pub fn all<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = Vec::new();
        walk(&self.0, root, &mut |value| {
            found.push(value);
            true
        });
        found
    }
}

/// Calls `visit` with what `steps` find below `value`, until it says false.
fn walk<'a>(steps: &[Step], value: &'a Value, visit: &mut dyn FnMut(&'a Value) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else {
        return visit(value);
    };
    match step {
        Step::Field(name) => value.get(name).is_none_or(|value| walk(rest, value, visit)),
        Step::Fields(names) => {
            names.iter().filter_map(|name| value.get(name)).all(|value| walk(rest, value, visit))
        }
        Step::Wildcard => children(value).all(|value| walk(rest, value, visit)),
        Step::Descend => walk(rest, value, visit) && children(value).all(|child| walk(steps, child, visit)),
        Step::Index(indices) => {
            let items = value.as_array().map_or(&[][..], Vec::as_slice);
            indices
                .iter()
                .filter_map(|index| items.get(position(*index, items.len())?))
                .all(|item| walk(rest, item, visit))
        }
        Step::Slice { from, to, by } => {
            let items = value.as_array().map_or(&[][..], Vec::as_slice);
            let clamp = |bound: Option<i64>, other: usize| match bound {
                None => other,
                Some(bound) => position(bound, items.len()).unwrap_or(0).min(items.len()),
            };
            let (from, to) = (clamp(*from, 0), clamp(*to, items.len()));
            let by = by.and_then(|by| usize::try_from(by).ok()).filter(|by| *by > 0).unwrap_or(1);
            items.get(from..to).unwrap_or_default().iter().step_by(by).all(|item| walk(rest, item, visit))
        }
        Step::Filter(filter) => {
            children(value).filter(|item| filter.holds(item)).all(|item| walk(rest, item, visit))
        }
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// The position `index` means in a list of `length`; from the end where it is negative.
fn position(index: i64, length: usize) -> Option<usize> {
    if index >= 0 {
        usize::try_from(index).ok()
    } else {
        length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?)
    }
}

impl Filter {
    fn holds(&self, item: &Value) -> bool {
        let Some(left) = self.left.value(item) else {
            return false;
        };
        let Some((comparison, right)) = &self.comparison else {
            return true;
        };
        let Some(right) = right.value(item) else {
            return false;
        };
        use std::cmp::Ordering::{Equal, Greater, Less};
        let order = match (left, right) {
            (Value::Number(left), Value::Number(right)) => {
                left.as_f64().zip(right.as_f64()).and_then(|(left, right)| left.partial_cmp(&right))
            }
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            _ => (left == right).then_some(Equal),
        };
        match comparison {
            Comparison::Equal => order == Some(Equal),
            Comparison::NotEqual => order != Some(Equal),
            Comparison::Less => order == Some(Less),
            Comparison::LessOrEqual => matches!(order, Some(Less | Equal)),
            Comparison::Greater => order == Some(Greater),
            Comparison::GreaterOrEqual => matches!(order, Some(Greater | Equal)),
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, item: &'a Value) -> Option<&'a Value> {
        match self {
            Self::Literal(value) => Some(value),
            Self::Path(path) => path.first(item),
        }
    }
}

impl FromStr for JsonPath {
    type Err = JsonPathError;

    fn from_str(text: &str) -> Result<Self, JsonPathError> {
        if text.len() > MAX_LENGTH {
            return Err(JsonPathError::TooLong);
        }
        let text = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
        let text = text.strip_prefix(['$', '@']).unwrap_or(text);
        let mut steps = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = match c {
                '.' if rest.starts_with("..") => {
                    steps.push(Step::Descend);
                    // The second dot begins the field that is looked for.
                    if rest[2..].starts_with('[') { &rest[2..] } else { &rest[1..] }
                }
                '.' => field(&rest[1..], &mut steps),
                '[' => {
                    let (inside, after) = bracketed(&rest[1..])?;
                    steps.push(subscript(inside)?);
                    after
                }
                other => return Err(JsonPathError::Unexpected(other)),
            };
        }
        Ok(Self(steps))
    }
}

/// A field's name up to the next dot or bracket; a backslash takes the next character as it is.
fn field<'a>(text: &'a str, steps: &mut Vec<Step>) -> &'a str {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut rest = "";
    while let Some((i, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, escaped)| escaped)),
            '.' | '[' => {
                rest = &text[i..];
                break;
            }
            c => name.push(c),
        }
    }
    match name.as_str() {
        "" => {}
        "*" => steps.push(Step::Wildcard),
        _ => steps.push(Step::Field(name)),
    }
    rest
}

/// What stands before the closing bracket, and what after it. Quotes and inner brackets are skipped.
fn bracketed(text: &str) -> Result<(&str, &str), JsonPathError> {
    let (mut depth, mut quote) = (0, None);
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Ok((&text[..i], &text[i + 1..])),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    Err(JsonPathError::Unterminated("array"))
}

fn subscript(inside: &str) -> Result<Step, JsonPathError> {
    let inside = inside.trim();
    if inside == "*" {
        return Ok(Step::Wildcard);
    }
    if let Some(filter) = inside.strip_prefix("?(") {
        let filter = filter.strip_suffix(')').ok_or(JsonPathError::Unterminated("filter"))?;
        return self::filter(filter).map(Step::Filter);
    }
    if inside.starts_with(['\'', '"']) {
        let names = inside.split(',').map(|name| quoted(name.trim()).map(str::to_owned));
        return names
            .collect::<Option<_>>()
            .map(Step::Fields)
            .ok_or(JsonPathError::Unterminated("quoted string"));
    }
    let number = |text: &str| match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| JsonPathError::Index(inside.to_owned())),
    };
    if inside.contains(':') {
        let mut parts = inside.splitn(3, ':').map(number);
        let mut next = || parts.next().transpose().map(Option::flatten);
        return Ok(Step::Slice { from: next()?, to: next()?, by: next()? });
    }
    let indices =
        inside.split(',').map(|index| number(index)?.ok_or(JsonPathError::Index(inside.to_owned())));
    indices.collect::<Result<_, _>>().map(Step::Index)
}

fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text.strip_prefix(quote)?.strip_suffix(quote)
}

fn filter(text: &str) -> Result<Filter, JsonPathError> {
    const OPERATORS: [(&str, Comparison); 6] = [
        ("==", Comparison::Equal),
        ("!=", Comparison::NotEqual),
        ("<=", Comparison::LessOrEqual),
        (">=", Comparison::GreaterOrEqual),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
    ];
    let mut quote = None;
    for (i, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            _ => {
                let found = OPERATORS.iter().find(|(operator, _)| text[i..].starts_with(operator));
                if let Some((operator, comparison)) = found {
                    let right = operand(&text[i + operator.len()..])?;
                    return Ok(Filter { left: operand(&text[..i])?, comparison: Some((*comparison, right)) });
                }
            }
        }
    }
    Ok(Filter { left: operand(text)?, comparison: None })
}

fn operand(text: &str) -> Result<Operand, JsonPathError> {
    let text = text.trim();
    if text.starts_with('@') {
        return text.parse().map(Operand::Path);
    }
    if let Some(literal) = quoted(text) {
        return Ok(Operand::Literal(Value::from(literal)));
    }
    match serde_json::from_str(text) {
        Ok(literal @ (Value::Bool(_) | Value::Number(_))) => Ok(Operand::Literal(literal)),
        _ => Err(JsonPathError::Filter(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_what_they_name() {
        let object = json!({
            "a": {"b": [1, 2, 3], "c.d": "x", "e/f": true},
            "list": [{"k": "x", "v": 1}, {"k": "y", "v": 2}, {"v": 3}],
        });
        for (path, found) in [
            (".a.b[0]", json!([1])),
            ("{.a.b[-1]}", json!([3])),
            ("$.a.b[0:2]", json!([1, 2])),
            (".a.b[*]", json!([1, 2, 3])),
            (".a.b[0,2]", json!([1, 3])),
            (r".a.c\.d", json!(["x"])),
            (".a['c.d']", json!(["x"])),
            (".a.e/f", json!([true])),
            (".list[?(@.k==\"y\")].v", json!([2])),
            (".list[?(@.v>=2)].v", json!([2, 3])),
            (".list[?(@.k)].v", json!([1, 2])),
            (".list[?(@.k!='x')].k", json!(["y"])),
            ("..v", json!([1, 2, 3])),
            (".none.x", json!([])),
        ] {
            let parsed: JsonPath = path.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
            assert_eq!(json!(parsed.all(&object)), found, "{path}");
            assert_eq!(parsed.first(&object).cloned(), found.get(0).cloned(), "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for path in [".a[", ".a[x]", ".a['b]", ".a[?(@.b==c)]", "a", ".a[?(@.b]"] {
            assert!(path.parse::<JsonPath>().is_err(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails(text in "[.\\[\\]@?()='\"*:,a0-]{0,24}|.*") {
            if let Ok(path) = text.parse::<JsonPath>() {
                path.all(&json!({"a": [{"a": 1}, [0]]}));
            }
        }
    }
}
