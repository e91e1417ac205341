//! What a mutation makes of an object.

use knarr_api::apply::merge_configuration;
use knarr_api::cel::{Check, Decisions, Value as Cel};
use knarr_api::patch::PatchError;
use knarr_api::patch::json::JsonPatch;
use knarr_api::schema::TypeRef;
use serde_json::{Map, Value};

use super::compile::{Compilation, CompiledMutation};
use super::evaluate::Evaluation;
use super::input::Input;
use super::invocation::Invocation;

/// What one mutation came to.
pub enum Patched {
    /// The object after it.
    Object(Value),
    Failed(String),
}

/// Evaluates a mutation and applies what it says.
pub fn patched(
    invocation: &Invocation,
    mutation: &CompiledMutation,
    input: &Input,
    schema: Option<&TypeRef>,
    decisions: &Decisions,
) -> Result<Patched, Box<Check>> {
    let mut evaluation = match Evaluation::new(&invocation.policy, input, &invocation.param, decisions) {
        Ok(evaluation) => evaluation,
        Err(why) => return Ok(Patched::Failed(why)),
    };
    let mut value = |program| match evaluate(&mut evaluation, program) {
        Ok(value) => Ok(Ok(value)),
        Err(failure) => failure.told().map(Err),
    };
    let done = match mutation {
        CompiledMutation::Apply(program) => {
            value(program)?.and_then(|configuration| apply(input.object(), configuration, schema))
        }
        CompiledMutation::JsonPatch(program) => {
            value(program)?.and_then(|patch| json(input.object(), &patch))
        }
    };
    Ok(done.map_or_else(Patched::Failed, Patched::Object))
}

fn evaluate<'a>(
    evaluation: &mut Evaluation<'a>,
    program: &'a Compilation,
) -> Result<Value, super::evaluate::Failure> {
    let value: Cel<'a> = evaluation.value(program, "mutation")?;
    value.to_json().map_err(|error| super::evaluate::Failure::Failed(error.to_string()))
}

fn apply(live: &Value, configuration: Value, schema: Option<&TypeRef>) -> Result<Value, String> {
    let Value::Object(mut configuration) = configuration else {
        return Err("unsupported return type from ApplyConfiguration expression".to_owned());
    };
    let Some(schema) = schema else { return Err("the kind has no schema to apply by".to_owned()) };
    for field in ["apiVersion", "kind"] {
        configuration.insert(field.to_owned(), live[field].clone());
    }
    merge_configuration(live, &Value::Object(configuration), schema)
        .map_err(|why| format!("error applying patch: {why}"))
}

fn json(live: &Value, patch: &Value) -> Result<Value, String> {
    let operations = patch.as_array().ok_or("JSONPatchType.expression should evaluate to array")?;
    // What an operation does not set it does not have.
    let filled = |operation: &Value| -> Map<String, Value> {
        let members = operation.as_object().into_iter().flatten();
        let kept = members.filter(|(name, value)| *name != "from" || value.as_str() != Some(""));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let operations: Vec<Value> =
        operations.iter().map(|operation| Value::Object(filled(operation))).collect();
    let bytes = Value::Array(operations).to_string();
    let patch = JsonPatch::parse(bytes.as_bytes()).map_err(|error| format!("JSON Patch: {error}"))?;
    let mut object = live.clone();
    match patch.apply(&mut object) {
        Ok(()) => Ok(object),
        // A patch whose test fails is not applied, and that is no fault.
        Err(PatchError::Unprocessable(why)) if why.contains("test") && why.contains("failed") => {
            Ok(live.clone())
        }
        Err(error) => Err(format!("JSON Patch: {error}")),
    }
}
