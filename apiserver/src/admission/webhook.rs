//! Admission by servers that the cluster's users run.
//!
//! Mutating hooks are called one after the other, in the order of their configurations' names, each seeing what
//! those before it changed; those that ask for it are called once more when a later one changed the object.
//! Validating hooks are called at once, and the first refusal counts.

mod call;
mod condition;
mod configuration;
mod index;
mod matching;
mod review;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use knarr_api::patch::json::JsonPatch;
use knarr_api::status::Status;
use serde_json::Value;

use self::call::{Caller, Failed};
use self::configuration::Hook;
pub use self::index::Hooks;
use self::review::Verdict;
use super::{Admission, Attributes, Operation};
use crate::objects::{Objects, Resource};
use crate::stream::Dialer;

/// MutatingAdmissionWebhook.
pub struct MutatingWebhooks(pub Webhooks);

/// ValidatingAdmissionWebhook.
pub struct ValidatingWebhooks(pub Webhooks);

/// What both kinds need.
#[derive(Clone)]
pub struct Webhooks {
    pub objects: Arc<dyn Objects>,
    pub hooks: Arc<Hooks>,
    caller: Caller,
}

/// What one hook came to.
enum Outcome {
    /// It was not concerned, allowed the request, or failed and may be ignored.
    Passed,
    /// It allowed the request and wants these changes.
    Changes(Value),
}

impl Webhooks {
    pub fn new(objects: Arc<dyn Objects>, hooks: Arc<Hooks>, dialer: Arc<dyn Dialer>) -> Self {
        Self { caller: Caller::new(objects.clone(), dialer), objects, hooks }
    }

    /// Calls a hook if the request concerns it.
    async fn ask(&self, hook: &Hook, attributes: &Attributes) -> Result<Outcome, Status> {
        let concerned = matching::concerns(hook, attributes, &*self.objects)
            .and_then(|concerned| if concerned { condition::hold(hook, attributes) } else { Ok(false) });
        match concerned {
            Ok(false) => return Ok(Outcome::Passed),
            Ok(true) => {}
            Err(why) => return self.failed(hook, attributes, Failed(why)),
        }
        if attributes.dry_run && !hook.supports_dry_run() {
            let name = &hook.name;
            return Err(Status::bad_request(format!("admission webhook {name:?} does not support dry run")));
        }
        let (uid, request) = review::request(hook, attributes);
        let answered =
            self.caller.call(hook, &request).await.and_then(|answer| review::verdict(&uid, answer));
        match answered {
            Err(failed) => self.failed(hook, attributes, failed),
            Ok(Verdict { refusal, patch, warnings, audit }) => {
                for warning in warnings {
                    attributes.remarks.warn(warning);
                }
                for (key, value) in audit {
                    attributes.remarks.annotate(format!("{}/{key}", hook.name), value);
                }
                match (refusal, patch) {
                    (Some(refusal), _) => Err(denied(&hook.name, *refusal)),
                    (None, Some(patch)) => Ok(Outcome::Changes(patch)),
                    (None, None) => Ok(Outcome::Passed),
                }
            }
        }
    }

    /// A hook that could not be asked refuses, unless its configuration says to go on without it.
    fn failed(&self, hook: &Hook, attributes: &Attributes, Failed(why): Failed) -> Result<Outcome, Status> {
        let name = &hook.name;
        if hook.ignores_failure() {
            tracing::warn!(webhook = name, why, "failed calling webhook, failing open");
            attributes
                .remarks
                .annotate(format!("failed-open.validating.webhook.admission.k8s.io/{name}"), name);
            return Ok(Outcome::Passed);
        }
        Err(Status::internal(format!("failed calling webhook {name:?}: {why}")))
    }

    /// Applies what a mutating hook wants, and completes the object again. Says whether anything changed.
    fn change(&self, hook: &Hook, patch: &Value, attributes: &mut Attributes) -> Result<bool, Status> {
        let wrong = |error: &dyn std::fmt::Display| {
            Status::internal(format!(
                "failed calling webhook {:?}: received invalid webhook response: {error}",
                hook.name
            ))
        };
        let patch = JsonPatch::parse(patch.to_string().as_bytes()).map_err(|error| wrong(&error))?;
        let resource = (attributes.resource.group.to_string(), attributes.resource.resource.to_string());
        let whole = attributes.subresource.is_empty();
        let Some(object) = &mut attributes.object else { return Ok(false) };
        let mut changed = object.clone();
        patch.apply(&mut changed).map_err(|error| wrong(&error))?;
        if whole {
            let resource = Resource::new(&resource.0, &resource.1);
            self.objects.complete(resource, &mut changed).map_err(|error| wrong(&error))?;
        }
        let is_change = *object != changed;
        *object = changed;
        Ok(is_change)
    }
}

/// Webhooks do not decide about webhooks and policies, or nobody could undo a bad one.
fn is_exempt(attributes: &Attributes) -> bool {
    attributes.resource.group == "admissionregistration.k8s.io"
        && matches!(
            attributes.resource.resource.as_ref(),
            "validatingwebhookconfigurations"
                | "mutatingwebhookconfigurations"
                | "validatingadmissionpolicies"
                | "validatingadmissionpolicybindings"
                | "mutatingadmissionpolicies"
                | "mutatingadmissionpolicybindings"
        )
}

/// The refusal of a hook, in its words.
fn denied(name: &str, mut status: Status) -> Status {
    let by = format!("admission webhook {name:?} denied the request");
    status.code = status.code.max(400);
    status.success = false;
    status.message = match (status.message.as_str(), status.reason.as_ref()) {
        ("", "") => format!("{by} without explanation"),
        ("", reason) => format!("{by}: {reason}"),
        (message, _) => format!("{by}: {message}"),
    };
    status
}

#[async_trait]
impl Admission for MutatingWebhooks {
    fn handles(&self, _: Operation) -> bool {
        !self.0.hooks.mutating().is_empty()
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if is_exempt(attributes) {
            return Ok(());
        }
        let hooks = self.0.hooks.mutating();
        let mut again: Vec<&Hook> = Vec::new();
        let mut asked: Vec<&Hook> = Vec::new();
        for hook in hooks.iter() {
            if let Outcome::Changes(patch) = self.0.ask(hook, attributes).await?
                && self.0.change(hook, &patch, attributes)?
            {
                again.clone_from(&asked);
            }
            if hook.is_reinvocable() {
                asked.push(hook);
            }
        }
        // Once more is enough: hooks that undo each other's changes would never end.
        for hook in again {
            if let Outcome::Changes(patch) = self.0.ask(hook, attributes).await? {
                self.0.change(hook, &patch, attributes)?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Admission for ValidatingWebhooks {
    fn handles(&self, _: Operation) -> bool {
        !self.0.hooks.validating().is_empty()
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        if is_exempt(attributes) {
            return Ok(());
        }
        let hooks = self.0.hooks.validating();
        let answers = join_all(hooks.iter().map(|hook| self.0.ask(hook, attributes))).await;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }
}
