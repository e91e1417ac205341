//! Compiling the rules of a schema.

use std::sync::Arc;

use super::declare::{Declared, declare};
use super::{Node, Rule, Source, field_path};
use crate::cel::{Environment, Type};
use crate::schema::ListKind;
use crate::structural::{Additional, Structural};

pub(super) fn compile(schema: &Structural) -> Option<Node> {
    if !has_rules(schema) {
        return None;
    }
    let declared = declare(schema, true, "selfType");
    node(schema, schema, declared.as_ref())
}

fn has_rules(schema: &Structural) -> bool {
    !schema.rules.is_empty()
        || schema.properties.values().any(has_rules)
        || schema.items.as_deref().is_some_and(has_rules)
        || matches!(&schema.additional, Some(Additional::Of(value)) if has_rules(value))
        || schema.constraints().all_of.iter().any(has_rules)
}

/// The rules that stand in one schema about the values of another: those of `allOf` are about the whole.
fn node(rules: &Structural, schema: &Structural, declared: Option<&Declared>) -> Option<Node> {
    let declared = declared?;
    let below = declared.items.as_deref();
    let items = rules.items.as_deref().zip(schema.items.as_deref());
    let items = items.and_then(|(rules, schema)| node(rules, schema, below));
    let additional = match (&rules.additional, &schema.additional) {
        (Some(Additional::Of(rules)), Some(Additional::Of(schema))) => node(rules, schema, below),
        _ => None,
    };
    let properties = rules.properties.iter().filter_map(|(name, rules)| {
        let schema = schema.properties.get(name)?;
        Some((name.clone(), node(rules, schema, declared.fields.get(name))?))
    });
    let all_of = rules.constraints().all_of.iter().filter_map(|rules| node(rules, schema, Some(declared)));
    let own = rules.rules.iter().map(|rule| compile_rule(&Source::read(rule), schema, declared));
    let node = Node {
        rules: own.collect(),
        of: Arc::new(declared.of.clone()),
        form: schema.form,
        item_keys: (schema.list_type == Some(ListKind::Map)).then(|| schema.list_map_keys.clone()),
        items: items.map(Box::new),
        additional: additional.map(Box::new),
        properties: properties.collect(),
        all_of: all_of.collect(),
    };
    let is_empty = node.rules.is_empty()
        && node.items.is_none()
        && node.additional.is_none()
        && node.properties.is_empty()
        && node.all_of.is_empty();
    (!is_empty).then_some(node)
}

/// What the rules of one place may name.
pub(super) fn environment(declared: &Declared, optional_old: bool) -> Environment {
    let old = if optional_old { Type::optional(declared.of.clone()) } else { declared.of.clone() };
    Environment::new()
        .with("self", declared.of.clone())
        .with("oldSelf", old)
        .with_sizes(declared.sizes.clone())
}

fn compile_rule(source: &Source, schema: &Structural, declared: &Declared) -> Rule {
    let env = environment(declared, source.optional_old_self == Some(true));
    let program = env.compile(source.rule.trim()).map_err(|error| format!("compilation failed: {error}"));
    let program = program.and_then(|program| match program.output() {
        Type::Bool => Ok(program),
        _ => Err("cel expression must evaluate to a bool".to_owned()),
    });
    let message = match source.message_expression.as_str() {
        "" => None,
        expression => env.compile(expression).ok().filter(|program| matches!(program.output(), Type::String)),
    };
    let uses_old = program.as_ref().is_ok_and(|program| program.uses("oldSelf"));
    let field_path = match source.field_path.as_str() {
        "" => String::new(),
        path => field_path::resolve(path, schema).unwrap_or_default(),
    };
    Rule { source: source.clone(), program, message, uses_old, field_path }
}
