//! The faults of a policy's expressions that only show when the types of the objects are known. They are no reason to
//! refuse the policy: they stand in its status, for its author to see.

use std::sync::Arc;

use knarr_api::cel::{Field, ListType, Object, Type};
use knarr_api::schema::{self, Shape};
use serde_json::{Value, json};

use super::compile::compile_variables;
use super::definition::{ParamKind, PolicySpec};
use super::environment::{Scope, environment};
use crate::admission::matching::Rule;
use crate::objects::{Described, Objects, Resource};

/// So many kinds are checked at most.
const MAX_KINDS: usize = 10;

/// A kind that a policy's rules name.
struct Checked {
    /// As warnings call it.
    name: String,
    of: Type,
}

/// The entries of `status.typeChecking.expressionWarnings`.
pub fn warnings(spec: &PolicySpec, objects: &dyn Objects) -> Vec<Value> {
    let kinds = kinds(&spec.match_constraints.resource_rules, objects);
    let params = spec.param_kind.as_ref().and_then(|kind| params(kind, objects)).unwrap_or(Type::Dyn);
    let mut found = Vec::new();
    let mut check = |field: String, expression: &str| {
        let faults: Vec<String> = kinds
            .iter()
            .filter_map(|kind| Some(format!("{}: {}\n", kind.name, fault(spec, kind, &params, expression)?)))
            .collect();
        if !faults.is_empty() {
            found.push(json!({"fieldRef": field, "warning": faults.join("\n")}));
        }
    };
    for (index, validation) in spec.validations.iter().enumerate() {
        check(format!("spec.validations[{index}].expression"), &validation.expression);
        if !validation.message_expression.is_empty() {
            check(format!("spec.validations[{index}].messageExpression"), &validation.message_expression);
        }
    }
    found
}

fn fault(spec: &PolicySpec, kind: &Checked, params: &Type, expression: &str) -> Option<String> {
    let scope = Scope {
        params: spec.param_kind.is_some(),
        authorizer: true,
        namespace: true,
        mutation: !spec.mutations.is_empty(),
    };
    let (_, variables) = compile_variables(spec, scope, &kind.of, params);
    let env = environment(scope, &kind.of, params).with("variables", variables);
    env.compile(expression).err().map(|error| error.to_string())
}

/// The kinds that rules name without stars.
fn kinds(rules: &[Rule], objects: &dyn Objects) -> Vec<Checked> {
    let mut found: Vec<Checked> = Vec::new();
    for rule in rules {
        for group in rule.api_groups.iter().filter(|group| *group != "*") {
            for version in rule.api_versions.iter().filter(|version| *version != "*") {
                for resource in rule.resources.iter().filter(|resource| !resource.contains(['*', '/'])) {
                    let Some(served) = objects.described(Resource::new(group, resource), version) else {
                        continue;
                    };
                    let name = format!("{}, Kind={}", api_version(group, version), served.kind);
                    if found.len() < MAX_KINDS && !found.iter().any(|known| known.name == name) {
                        found.push(Checked { name, of: of_described(&served) });
                    }
                }
            }
        }
    }
    found
}

fn api_version(group: &str, version: &str) -> String {
    crate::catalogue::api_version(group, version)
}

fn params(kind: &ParamKind, objects: &dyn Objects) -> Option<Type> {
    let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
    Some(of_described(&objects.of_kind(group, version, &kind.kind)?))
}

fn of_described(served: &Described) -> Type {
    served.schema.as_ref().map_or(Type::Dyn, |of| of_struct(of, &served.kind, &mut Vec::new()))
}

/// The type of a struct. Structs inside of themselves are not followed.
fn of_struct(of: &schema::Type, path: &str, above: &mut Vec<String>) -> Type {
    let name = of.name.to_string();
    if (!name.is_empty() && above.contains(&name)) || of.unknown == schema::UnknownFields::Keep {
        return Type::Dyn;
    }
    above.push(name);
    let fields = of.fields.iter().filter_map(|field| {
        let name = knarr_api::cel::escape(&field.name)?;
        let of = of_shape(&field.shape, &format!("{path}.{}", field.name), above);
        Some((name, Field { json: field.name.as_ref().into(), of }))
    });
    let fields = fields.collect();
    above.pop();
    Type::Object(Arc::new(Object { name: path.to_owned(), fields, open: false }))
}

fn of_shape(shape: &Shape, path: &str, above: &mut Vec<String>) -> Type {
    match shape {
        Shape::String | Shape::Duration => Type::String,
        Shape::Bool => Type::Bool,
        Shape::Int32 | Shape::Int64 => Type::Int,
        Shape::Number => Type::Double,
        Shape::Bytes => Type::Bytes,
        Shape::Time | Shape::MicroTime => Type::Timestamp,
        Shape::Quantity | Shape::IntOrString | Shape::Any | Shape::Object | Shape::OneOf(_) => Type::Dyn,
        Shape::Struct(of) => of_struct(of, path, above),
        Shape::List(list) => Type::List(Arc::new(ListType {
            item: of_shape(&list.item, &format!("{path}.@idx"), above),
            kind: list.kind,
            keys: list.keys.iter().map(ToString::to_string).collect(),
        })),
        Shape::Map(map) => Type::map(Type::String, of_shape(&map.value, &format!("{path}.@elem"), above)),
    }
}
