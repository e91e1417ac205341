//! Policies and bindings as they are written.

use serde::Deserialize;
use serde_json::Value;

use crate::admission::matching::Rule;

#[derive(Deserialize)]
pub struct Policy {
    pub metadata: Metadata,
    pub spec: PolicySpec,
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
pub struct Metadata {
    pub name: String,
    pub generation: i64,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicySpec {
    pub param_kind: Option<ParamKind>,
    pub match_constraints: MatchResources,
    pub validations: Vec<Validation>,
    pub mutations: Vec<Mutation>,
    pub failure_policy: Option<String>,
    pub audit_annotations: Vec<AuditAnnotation>,
    pub match_conditions: Vec<Condition>,
    pub variables: Vec<Variable>,
    pub reinvocation_policy: Option<String>,
}

#[derive(Clone, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ParamKind {
    pub api_version: String,
    pub kind: String,
}

#[derive(Clone, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct MatchResources {
    pub namespace_selector: Value,
    pub object_selector: Value,
    pub resource_rules: Vec<Rule>,
    pub exclude_resource_rules: Vec<Rule>,
    pub match_policy: Option<String>,
}

#[derive(Clone, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Validation {
    pub expression: String,
    pub message: String,
    pub reason: Option<String>,
    pub message_expression: String,
}

#[derive(Clone, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct Mutation {
    pub patch_type: String,
    pub apply_configuration: Option<Expression>,
    pub json_patch: Option<Expression>,
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
pub struct Expression {
    pub expression: String,
}

#[derive(Clone, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditAnnotation {
    pub key: String,
    pub value_expression: String,
}

/// A condition under which a webhook or policy is asked.
#[derive(Clone, Deserialize, Default)]
#[serde(default)]
pub struct Condition {
    pub name: String,
    pub expression: String,
}

#[derive(Clone, Deserialize, Default)]
#[serde(default)]
pub struct Variable {
    pub name: String,
    pub expression: String,
}

#[derive(Deserialize)]
pub struct Binding {
    pub metadata: Metadata,
    pub spec: BindingSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct BindingSpec {
    pub policy_name: String,
    pub param_ref: Option<ParamRef>,
    pub match_resources: Option<MatchResources>,
    pub validation_actions: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ParamRef {
    pub name: String,
    pub namespace: String,
    pub selector: Option<Value>,
    pub parameter_not_found_action: Option<String>,
}

impl PolicySpec {
    pub fn ignores_failure(&self) -> bool {
        self.failure_policy.as_deref() == Some("Ignore")
    }

    pub fn is_reinvocable(&self) -> bool {
        self.reinvocation_policy.as_deref() == Some("IfNeeded")
    }
}
