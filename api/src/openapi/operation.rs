//! One operation on a path: a method, what it takes and what it answers.

use serde_json::{Map, Value, json};

use super::Version;
use super::definition::{self, capitalized};
use super::parameter::Parameter;
use crate::gvk::{GroupVersion, GroupVersionKind};

/// The forms objects are answered in.
pub(super) const OBJECTS: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// The forms lists and watches are answered in.
pub(super) const STREAMS: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
/// Custom resources have no protobuf.
pub(super) const CUSTOM_OBJECTS: &[&str] = &["application/json", "application/yaml"];
pub(super) const ANYTHING: &[&str] = &["*/*"];
pub(super) const PLAIN_TEXT: &[&str] =
    &["text/plain", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

pub(super) const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
pub(super) const CUSTOM_PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

#[derive(Clone, Debug)]
pub(super) struct Operation {
    pub id: String,
    pub description: String,
    pub tag: String,
    /// `x-kubernetes-action`
    pub action: Option<&'static str>,
    pub kind: Option<GroupVersionKind>,
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    /// Codes of success, all with the same answer.
    pub codes: &'static [(&'static str, &'static str)],
    pub answer: Answer,
    pub produces: &'static [&'static str],
}

#[derive(Clone, Debug)]
pub(super) struct Body {
    /// Name of the definition.
    pub definition: String,
    pub required: bool,
    pub consumes: &'static [&'static str],
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Definition(String),
    Text,
}

impl Answer {
    fn render(&self, version: Version) -> Value {
        match self {
            Answer::Definition(name) => version.reference(name),
            Answer::Text => json!({"type": "string"}),
        }
    }
}

pub(super) const OK: &[(&str, &str)] = &[("200", "OK")];
pub(super) const WRITTEN: &[(&str, &str)] = &[("200", "OK"), ("201", "Created")];
pub(super) const CREATED: &[(&str, &str)] = &[("200", "OK"), ("201", "Created"), ("202", "Accepted")];
pub(super) const DELETED: &[(&str, &str)] = &[("200", "OK"), ("202", "Accepted")];

impl Operation {
    /// Renders without the parameters that stand at the path.
    pub(super) fn render(&self, version: Version, shared: &[Parameter]) -> Value {
        let mut out = Map::new();
        out.insert("operationId".to_owned(), Value::from(self.id.as_str()));
        out.insert("description".to_owned(), Value::from(self.description.as_str()));
        out.insert("tags".to_owned(), json!([self.tag]));
        if let Some(action) = self.action {
            out.insert("x-kubernetes-action".to_owned(), Value::from(action));
        }
        if let Some(kind) = &self.kind {
            out.insert("x-kubernetes-group-version-kind".to_owned(), definition::kind(kind));
        }
        let own = self.parameters.iter().filter(|parameter| !shared.contains(parameter));
        let mut parameters: Vec<Value> = own.map(|parameter| parameter.render(version)).collect();
        match version {
            Version::V2 => self.finish_v2(&mut out, &mut parameters),
            Version::V3 => self.finish_v3(&mut out),
        }
        if !parameters.is_empty() {
            out.insert("parameters".to_owned(), Value::Array(parameters));
        }
        Value::Object(out)
    }

    fn finish_v2(&self, out: &mut Map<String, Value>, parameters: &mut Vec<Value>) {
        let consumes = self.body.as_ref().map_or(ANYTHING, |body| body.consumes);
        out.insert("consumes".to_owned(), json!(consumes));
        out.insert("produces".to_owned(), json!(self.produces));
        out.insert("schemes".to_owned(), json!(["https"]));
        if let Some(body) = &self.body {
            let schema = Version::V2.reference(&body.definition);
            let mut parameter = json!({"in": "body", "name": "body", "schema": schema});
            if body.required {
                parameter["required"] = Value::Bool(true);
            }
            parameters.insert(0, parameter);
        }
        self.responses(out, |text| json!({"description": text, "schema": self.answer.render(Version::V2)}));
    }

    fn finish_v3(&self, out: &mut Map<String, Value>) {
        let content = |types: &[&str], schema: &Value| -> Value {
            types
                .iter()
                .map(|media| ((*media).to_owned(), json!({"schema": schema})))
                .collect::<Map<_, _>>()
                .into()
        };
        if let Some(body) = &self.body {
            let schema = Version::V3.reference(&body.definition);
            let mut request = json!({"content": content(body.consumes, &schema)});
            if body.required {
                request["required"] = Value::Bool(true);
            }
            out.insert("requestBody".to_owned(), request);
        }
        let answer = self.answer.render(Version::V3);
        self.responses(out, |text| json!({"description": text, "content": content(self.produces, &answer)}));
    }

    fn responses(&self, out: &mut Map<String, Value>, response: impl Fn(&str) -> Value) {
        let mut responses: Map<String, Value> =
            self.codes.iter().map(|(code, text)| ((*code).to_owned(), response(text))).collect();
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        out.insert("responses".to_owned(), Value::Object(responses));
    }
}

/// `core_v1`, `rbacAuthorization_v1`
pub(super) fn tag(gv: &GroupVersion) -> String {
    let camel = camel(&gv.group);
    let mut chars = camel.chars();
    let lower: String =
        chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default();
    format!("{lower}_{}", gv.version)
}

/// `CoreV1`, `RbacAuthorizationV1`: what the ids of a version's operations contain.
pub(super) fn infix(gv: &GroupVersion) -> String {
    camel(&gv.group) + &capitalized(&gv.version)
}

/// `rbac.authorization.k8s.io` as `RbacAuthorization`.
fn camel(group: &str) -> String {
    match group {
        "" => "Core".to_owned(),
        group => {
            let own = group.strip_suffix(".k8s.io").unwrap_or(group);
            own.split(['.', '-']).map(capitalized).collect()
        }
    }
}
