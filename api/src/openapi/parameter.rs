//! Query and path parameters of operations.

use serde_json::{Map, Value, json};

use super::Version;
use crate::schema::{Shape, Type};

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    name: String,
    description: String,
    place: &'static str,
    form: &'static str,
}

impl Parameter {
    pub(super) fn query(name: &str, form: &'static str, description: &str) -> Self {
        Self { name: name.to_owned(), description: description.to_owned(), place: "query", form }
    }

    pub(super) fn path(name: &str, description: &str) -> Self {
        Self { name: name.to_owned(), description: description.to_owned(), place: "path", form: "string" }
    }

    /// What parameters are sorted by.
    pub(super) fn order(&self) -> (&str, &str) {
        (&self.name, self.place)
    }

    pub(super) fn render(&self, version: Version) -> Value {
        let mut out = Map::new();
        out.insert("name".to_owned(), Value::from(self.name.as_str()));
        out.insert("in".to_owned(), Value::from(self.place));
        out.insert("description".to_owned(), Value::from(self.description.as_str()));
        if self.place == "path" {
            out.insert("required".to_owned(), Value::Bool(true));
        }
        match version {
            Version::V2 => {
                out.insert("type".to_owned(), Value::from(self.form));
                out.insert("uniqueItems".to_owned(), Value::Bool(true));
            }
            Version::V3 => {
                out.insert("schema".to_owned(), json!({"type": self.form, "uniqueItems": true}));
            }
        }
        Value::Object(out)
    }
}

pub(super) fn pretty() -> Parameter {
    Parameter::query(
        "pretty",
        "string",
        "If 'true', the output is indented. Browsers and command-line clients get that by default.",
    )
}

pub(super) fn namespace() -> Parameter {
    Parameter::path("namespace", "object name and auth scope, such as for teams and projects")
}

pub(super) fn name(kind: &str) -> Parameter {
    Parameter::path("name", &format!("name of the {kind}"))
}

/// Parameters of lists and watches.
pub(super) fn list() -> Vec<Parameter> {
    let mut all = selection();
    all.extend([
        Parameter::query(
            "allowWatchBookmarks",
            "boolean",
            "Whether a watch may send events of type BOOKMARK.",
        ),
        Parameter::query("watch", "boolean", "Send changes as a stream of events instead of a list."),
    ]);
    all
}

/// Parameters that select objects.
pub(super) fn selection() -> Vec<Parameter> {
    vec![
        Parameter::query("continue", "string", "Token of an earlier answer from which to continue the list."),
        Parameter::query(
            "fieldSelector",
            "string",
            "Restricts the objects by their fields. Defaults to everything.",
        ),
        Parameter::query(
            "labelSelector",
            "string",
            "Restricts the objects by their labels. Defaults to everything.",
        ),
        Parameter::query(
            "limit",
            "integer",
            "The largest number of objects to answer with; more are fetched with 'continue'.",
        ),
        Parameter::query(
            "resourceVersion",
            "string",
            "Constrains which resource versions may be answered with. Defaults to unset.",
        ),
        Parameter::query(
            "resourceVersionMatch",
            "string",
            "How resourceVersion is applied to lists: Exact or NotOlderThan. Defaults to unset.",
        ),
        Parameter::query(
            "sendInitialEvents",
            "boolean",
            "Begin a watch with events for the present state, ended by a bookmark.",
        ),
        Parameter::query(
            "shardSelector",
            "string",
            "Restricts the objects to a range of hashes of their uid or namespace.",
        ),
        Parameter::query("timeoutSeconds", "integer", "Limits the duration of the call."),
    ]
}

fn dry_run() -> Parameter {
    Parameter::query("dryRun", "string", "When 'All', changes are validated and admitted but not persisted.")
}

/// Parameters of creations and replacements.
pub(super) fn write() -> Vec<Parameter> {
    vec![
        dry_run(),
        Parameter::query(
            "fieldManager",
            "string",
            "Name of the actor or entity that makes the changes, at most 128 printable characters.",
        ),
        Parameter::query(
            "fieldValidation",
            "string",
            "What to do about unknown and duplicate fields: Ignore, Warn (the default) or Strict.",
        ),
    ]
}

pub(super) fn patch() -> Vec<Parameter> {
    let mut all = write();
    all.push(Parameter::query(
        "force",
        "boolean",
        "Whether an apply takes over fields that are owned by other managers.",
    ));
    all
}

pub(super) fn delete() -> Vec<Parameter> {
    vec![
        dry_run(),
        Parameter::query(
            "gracePeriodSeconds",
            "integer",
            "Seconds before the object is deleted; zero deletes immediately.",
        ),
        Parameter::query(
            "ignoreStoreReadErrorWithClusterBreakingPotential",
            "boolean",
            "Delete an object even if it cannot be read from the store. Skips finalizers and preconditions.",
        ),
        Parameter::query(
            "orphanDependents",
            "boolean",
            "Deprecated: use propagationPolicy. Whether dependents are left behind.",
        ),
        Parameter::query(
            "propagationPolicy",
            "string",
            "What happens to dependents: Orphan, Background or Foreground.",
        ),
    ]
}

/// The fields of an options kind as query parameters.
pub(super) fn options<'a>(
    of: &'a Type,
    text: &'a dyn Fn(&str) -> Option<&'a str>,
) -> impl Iterator<Item = Parameter> + 'a {
    of.fields.iter().filter(|field| !matches!(field.name.as_ref(), "kind" | "apiVersion")).map(move |field| {
        let form = match &field.shape {
            Shape::Bool => "boolean",
            Shape::Int32 | Shape::Int64 => "integer",
            _ => "string",
        };
        Parameter::query(&field.name, form, text(&field.name).unwrap_or_default())
    })
}
