//! Match conditions: CEL expressions that spare a hook requests it does not care about.

use cel::{Context, Program, Value as Cel};
use serde_json::{Value, json};

use super::configuration::Hook;
use super::review;
use crate::admission::Attributes;

/// A longer expression is refused unread: what is parsed must be bounded.
const MAX_EXPRESSION: usize = 16 * 1024;

/// Whether all conditions hold. One that is false settles it even when another fails.
///
/// Errors: a condition could not be evaluated and none is false.
pub fn hold(hook: &Hook, attributes: &Attributes) -> Result<bool, String> {
    if hook.match_conditions.is_empty() {
        return Ok(true);
    }
    let context = context(hook, attributes)?;
    let mut failures = Vec::new();
    for condition in &hook.match_conditions {
        match evaluate(&condition.expression, &context) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(why) => {
                failures.push(format!("expression '{}' resulted in error: {why}", condition.expression))
            }
        }
    }
    if failures.is_empty() { Ok(true) } else { Err(failures.join(", ")) }
}

fn context(hook: &Hook, attributes: &Attributes) -> Result<Context<'static, 'static>, String> {
    let mut context = Context::default();
    let (_, review) = review::request(hook, attributes);
    let object = attributes.object.clone().unwrap_or(Value::Null);
    let old = attributes.old_object.as_deref().cloned().unwrap_or(Value::Null);
    let request = json!({
        "kind": review["request"]["kind"],
        "resource": review["request"]["resource"],
        "subResource": attributes.subresource,
        "requestKind": review["request"]["requestKind"],
        "requestResource": review["request"]["requestResource"],
        "requestSubResource": attributes.subresource,
        "name": attributes.name,
        "namespace": attributes.namespace,
        "operation": attributes.operation.as_str(),
        "userInfo": review["request"]["userInfo"],
        "dryRun": attributes.dry_run,
        "options": attributes.options,
    });
    for (name, value) in [("object", object), ("oldObject", old), ("request", request)] {
        context.add_variable(name, value).map_err(|error| error.to_string())?;
    }
    Ok(context)
}

fn evaluate(expression: &str, context: &Context<'_, '_>) -> Result<bool, String> {
    if expression.len() > MAX_EXPRESSION {
        return Err(format!("an expression may have at most {MAX_EXPRESSION} bytes"));
    }
    let program = Program::compile(expression).map_err(|error| error.to_string())?;
    match program.execute(context).map_err(|error| error.to_string())? {
        Cel::Bool(holds) => Ok(holds),
        other => Err(format!("must evaluate to bool, not {:?}", other.type_of())),
    }
}
