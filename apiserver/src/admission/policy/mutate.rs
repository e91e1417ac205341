//! Asking mutating policies, one after the other, each seeing what those before it changed. Those that ask for it
//! are asked once more when a later one changed the object.

use knarr_api::cel::Decisions;
use knarr_api::status::{Cause, Details, Status, reason};
use serde_json::Value;

use super::Policies;
use super::conditions::Verdict;
use super::evaluate::{Evaluation, decided};
use super::input::Input;
use super::invocation::{Invocation, collect};
use super::patch::{Patched, patched};
use super::validate::input;
use crate::admission::Attributes;
use crate::objects::Resource;

/// A fault of a policy that its failure policy does not forgive.
struct Fault {
    message: String,
    invalid: bool,
}

pub async fn mutate(policies: &Policies, attributes: &mut Attributes) -> Result<(), Status> {
    let all = policies.index.mutating();
    let (invocations, failures) = collect(policies, &all, attributes);
    let mut faults: Vec<Fault> = Vec::new();
    for failure in failures.into_iter().filter(|failure| !failure.policy.ignores_failure) {
        let by = match &failure.binding {
            Some(binding) => format!("policy '{}' with binding '{}'", failure.policy.name, binding.name),
            None => format!("policy {:?}", failure.policy.name),
        };
        faults.push(Fault { message: format!("{by} denied request: {}", failure.message), invalid: false });
    }
    let (mut asked, mut again): (Vec<&Invocation>, Vec<&Invocation>) = (Vec::new(), Vec::new());
    for invocation in &invocations {
        if ask(policies, invocation, attributes, &mut faults).await? {
            again.clone_from(&asked);
        }
        if invocation.policy.is_reinvocable {
            asked.push(invocation);
        }
    }
    // Once more is enough: policies that undo each other's changes would never end.
    for invocation in again {
        ask(policies, invocation, attributes, &mut faults).await?;
    }
    if faults.is_empty() { Ok(()) } else { Err(refused(attributes, faults)) }
}

fn refused(attributes: &Attributes, faults: Vec<Fault>) -> Status {
    let mut status = attributes.forbidden("admission request denied by policy");
    if let Some(first) = faults.first() {
        status.message.clone_from(&first.message);
        if first.invalid {
            status.reason = reason::INVALID.into();
        }
    }
    let details = status.details.get_or_insert_with(|| Box::new(Details::default()));
    details
        .causes
        .extend(faults.into_iter().map(|fault| Cause { message: fault.message, ..Cause::default() }));
    status
}

/// Whether the policy's conditions hold.
fn concerned(invocation: &Invocation, input: &Input, decisions: &Decisions) -> Verdict {
    match Evaluation::new(&invocation.policy, input, &invocation.param, decisions) {
        Err(why) => Verdict::Failed(why),
        Ok(mut evaluation) => invocation.policy.conditions.evaluate(&mut evaluation.activation, decisions),
    }
}

/// Applies the mutations of a policy. Says whether anything changed.
async fn ask(
    policies: &Policies,
    invocation: &Invocation,
    attributes: &mut Attributes,
    faults: &mut Vec<Fault>,
) -> Result<bool, Status> {
    let Some(before) = attributes.object.clone() else { return Ok(false) };
    let policy = &invocation.policy;
    let mut fail = |why: String| {
        if !policy.ignores_failure {
            let binding = &invocation.binding.name;
            let message = format!("policy '{}' with binding '{binding}' denied request: {why}", policy.name);
            faults.push(Fault { message, invalid: true });
        }
    };
    let resource = Resource::new(&attributes.resource.group, &attributes.resource.resource);
    let stored_version = before["apiVersion"].as_str().unwrap_or_default();
    let stored_version = stored_version.rsplit('/').next().unwrap_or_default().to_owned();
    let user = attributes.user.clone();
    let mut current = input(policies, attributes, &invocation.version, before.clone()).await?;
    let verdict = decided(&*policies.authorizer, &user, |decisions: &Decisions| {
        match concerned(invocation, &current, decisions) {
            Verdict::Undecided(check) => Err(check),
            verdict => Ok(verdict),
        }
    });
    match verdict.await {
        Verdict::NoMatch | Verdict::Undecided(_) => return Ok(false),
        Verdict::Failed(why) => {
            fail(why);
            return Ok(false);
        }
        Verdict::Match => {}
    }
    let schema = policies.objects.described(resource, &invocation.version).and_then(|served| served.schema);
    let whole = attributes.subresource.is_empty();
    for mutation in &policy.mutations {
        let run = |decisions: &Decisions| patched(invocation, mutation, &current, schema.as_ref(), decisions);
        let mut object = match decided(&*policies.authorizer, &user, run).await {
            Patched::Object(object) => object,
            Patched::Failed(why) => {
                fail(why);
                continue;
            }
        };
        if whole {
            object = policies.objects.convert(resource, &stored_version, object).await?;
            if let Err(why) = policies.objects.complete(resource, &mut object) {
                fail(why);
                continue;
            }
        }
        current = input(policies, attributes, &invocation.version, object).await?;
    }
    let mut after: Value = current.object().clone();
    if whole {
        after = policies.objects.convert(resource, &stored_version, after).await?;
    }
    let changed = after != before;
    attributes.object = Some(after);
    Ok(changed)
}
