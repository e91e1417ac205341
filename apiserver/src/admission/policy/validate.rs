//! Asking validating policies.

use knarr_api::cel::{Check, Decisions, Value as Cel};
use knarr_api::status::{Cause, Details, Status, reason};
use serde_json::{Value, json};

use super::Policies;
use super::compile::Compiled;
use super::conditions::Verdict;
use super::definition::Validation;
use super::evaluate::{Evaluation, Failure, decided};
use super::input::Input;
use super::invocation::{Invocation, collect};
use crate::admission::Attributes;
use crate::admission::matching::namespace;
use crate::objects::Resource;

/// A longer message of an expression is not used.
const MAX_MESSAGE: usize = 5 * 1024;
const MAX_ANNOTATION: usize = 10 * 1024;

/// A validation that did not hold, or could not be told.
struct Denial {
    index: usize,
    message: String,
    reason: Option<String>,
}

#[derive(Default)]
struct Outcome {
    denials: Vec<Denial>,
    annotations: Vec<(String, String)>,
    /// Faults of audit annotations, which deny whatever the binding's actions are.
    annotation_faults: Vec<String>,
}

/// The first denial is the answer.
struct Refusal {
    message: String,
    reason: Option<String>,
}

pub async fn validate(policies: &Policies, attributes: &Attributes) -> Result<(), Status> {
    let all = policies.index.validating();
    let (invocations, failures) = collect(policies, &all, attributes);
    let mut refusals: Vec<Refusal> = Vec::new();
    for failure in failures.into_iter().filter(|failure| !failure.policy.ignores_failure) {
        let by = denied_by(&failure.policy, failure.binding.as_ref().map(|binding| binding.name.as_str()));
        refusals.push(Refusal { message: format!("{by}: {}", failure.message), reason: None });
    }
    let mut annotations: Vec<(String, Vec<String>)> = Vec::new();
    for invocation in &invocations {
        let outcome = evaluate(policies, invocation, attributes).await?;
        let by = denied_by(&invocation.policy, Some(&invocation.binding.name));
        for denial in outcome.denials {
            act(invocation, attributes, denial, &by, &mut refusals);
        }
        for (key, value) in outcome.annotations {
            let key = format!("{}/{key}", invocation.policy.name);
            match annotations.iter_mut().find(|(known, _)| *known == key) {
                Some((_, values)) if values.contains(&value) => {}
                Some((_, values)) => values.push(value),
                None => annotations.push((key, vec![value])),
            }
        }
        for fault in outcome.annotation_faults {
            refusals.push(Refusal { message: format!("{by}: {fault}"), reason: None });
        }
    }
    for (key, values) in annotations {
        attributes.remarks.annotate(key, values.join(", "));
    }
    match refusals.into_iter().next() {
        None => Ok(()),
        Some(refusal) => Err(refused(attributes, refusal)),
    }
}

fn denied_by(policy: &Compiled, binding: Option<&str>) -> String {
    match binding {
        Some(binding) => {
            format!("ValidatingAdmissionPolicy '{}' with binding '{binding}' denied request", policy.name)
        }
        None => format!("ValidatingAdmissionPolicy '{}' denied request", policy.name),
    }
}

/// Does what the binding says about a denial.
fn act(
    invocation: &Invocation,
    attributes: &Attributes,
    denial: Denial,
    by: &str,
    refusals: &mut Vec<Refusal>,
) {
    let (policy, binding) = (&invocation.policy.name, &invocation.binding.name);
    for action in &invocation.binding.source.validation_actions {
        match action.as_str() {
            "Deny" => refusals.push(Refusal {
                message: format!("{by}: {}", denial.message),
                reason: denial.reason.clone(),
            }),
            "Warn" => attributes.remarks.warn(format!(
                "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {}",
                denial.message
            )),
            "Audit" => {
                let failure = json!([{
                    "message": denial.message,
                    "policy": policy,
                    "binding": binding,
                    "expressionIndex": denial.index,
                    "validationActions": invocation.binding.source.validation_actions,
                }]);
                let key = "validation.policy.admission.k8s.io/validation_failure";
                attributes.remarks.annotate(key, failure.to_string());
            }
            other => tracing::warn!(policy, binding, action = other, "unknown validation action"),
        }
    }
}

fn refused(attributes: &Attributes, refusal: Refusal) -> Status {
    let mut status = attributes.forbidden(&refusal.message);
    let reason = refusal.reason.unwrap_or_else(|| reason::INVALID.to_owned());
    status.code = match reason.as_str() {
        reason::UNAUTHORIZED => 401,
        reason::FORBIDDEN => 403,
        reason::REQUEST_ENTITY_TOO_LARGE => 413,
        _ => 422,
    };
    status.reason = reason.into();
    let details = status.details.get_or_insert_with(|| Box::new(Details::default()));
    details.causes.push(Cause { message: refusal.message, ..Cause::default() });
    status
}

/// What a policy sees of a request.
pub async fn input(
    policies: &Policies,
    attributes: &Attributes,
    version: &str,
    object: Value,
) -> Result<Input, Status> {
    let resource = Resource::new(&attributes.resource.group, &attributes.resource.resource);
    let old = attributes.old_object.as_deref().cloned().unwrap_or(Value::Null);
    let (object, old) = if attributes.subresource.is_empty() || attributes.subresource == "status" {
        let convert = |object| policies.objects.convert(resource, version, object);
        (convert(object).await?, convert(old).await?)
    } else {
        (object, old)
    };
    // A Namespace is in no namespace, though requests for it name one.
    let of = match attributes.namespace.as_str() {
        "" => Value::Null,
        _ if attributes.is_resource("", "namespaces") => Value::Null,
        name => namespace(&*policies.objects, name).map_err(|status| Status::internal(status.message))?,
    };
    Ok(Input::new(attributes, version, object, old, of))
}

async fn evaluate(
    policies: &Policies,
    invocation: &Invocation,
    attributes: &Attributes,
) -> Result<Outcome, Status> {
    let object = attributes.object.clone().unwrap_or(Value::Null);
    let input = input(policies, attributes, &invocation.version, object).await?;
    let run = |decisions: &Decisions| run(invocation, &input, decisions);
    Ok(decided(&*policies.authorizer, &attributes.user, run).await)
}

fn run(invocation: &Invocation, input: &Input, decisions: &Decisions) -> Result<Outcome, Box<Check>> {
    let policy = &*invocation.policy;
    let mut outcome = Outcome::default();
    let mut deny = |index: usize, message: String, ignored: bool| {
        if !ignored {
            outcome.denials.push(Denial { index, message, reason: None });
        }
    };
    let mut evaluation = match Evaluation::new(policy, input, &invocation.param, decisions) {
        Ok(evaluation) => evaluation,
        Err(why) => {
            deny(0, why, policy.ignores_failure);
            return Ok(outcome);
        }
    };
    match policy.conditions.evaluate(&mut evaluation.activation, decisions) {
        Verdict::Match => {}
        Verdict::NoMatch => return Ok(outcome),
        Verdict::Undecided(check) => return Err(check),
        Verdict::Failed(why) => {
            deny(0, why, policy.ignores_failure);
            return Ok(outcome);
        }
    }
    for (index, validation) in policy.validations.iter().enumerate() {
        let source = &validation.source;
        match evaluation.value(&validation.program, &source.expression) {
            Ok(Cel::Bool(true)) => {}
            Ok(_) => {
                let made = match &validation.message {
                    None => None,
                    Some(program) => match evaluation.evaluate(program, &source.message_expression) {
                        Ok(value) => usable(&value),
                        Err(Failure::Undecided(check)) => return Err(check),
                        Err(_) => None,
                    },
                };
                let message = made.unwrap_or_else(|| default_message(source));
                let reason = source.reason.clone();
                outcome.denials.push(Denial { index, message, reason });
            }
            Err(Failure::OutOfBudget) => {
                let why = Failure::OutOfBudget.told()?;
                if !policy.ignores_failure {
                    outcome.denials.push(Denial { index, message: why, reason: None });
                }
                return Ok(outcome);
            }
            Err(failure) => {
                let message = failure.told()?;
                if !policy.ignores_failure {
                    outcome.denials.push(Denial { index, message, reason: None });
                }
            }
        }
    }
    for (source, program) in &policy.annotations {
        match evaluation.value(program, &source.value_expression) {
            Ok(Cel::String(text)) => {
                let text = text.trim();
                if !text.is_empty() {
                    let cut = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_ANNOTATION).last();
                    let end = if text.len() > MAX_ANNOTATION { cut.unwrap_or(0) } else { text.len() };
                    outcome.annotations.push((source.key.clone(), text[..end].to_owned()));
                }
            }
            Ok(Cel::Null) => {}
            Ok(_) => outcome.annotation_faults.push(format!(
                "valueExpression '{}' resulted in unsupported return type. Return type must be either string or null.",
                source.value_expression
            )),
            Err(failure) => {
                let why = failure.told()?;
                if !policy.ignores_failure {
                    outcome.annotation_faults.push(why);
                }
            }
        }
    }
    Ok(outcome)
}

/// The message of an expression, if it is one.
fn usable(value: &Cel<'_>) -> Option<String> {
    let Cel::String(text) = value else { return None };
    let text = text.trim();
    (!text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')).then(|| text.to_owned())
}

fn default_message(source: &Validation) -> String {
    match source.message.trim() {
        "" => format!("failed expression: {}", source.expression.trim()),
        message => message.to_owned(),
    }
}
