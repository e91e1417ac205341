//! Admission by servers that the cluster's users run.
//!
//! Mutating hooks are called one after the other, in the order of their configurations' names, each seeing what
//! those before it changed; those that ask for it are called once more when a later one changed the object.
//! Validating hooks are called at once, and the first refusal counts.

mod call;
mod configuration;
mod index;
mod review;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use knarr_api::cel::Decisions;
use knarr_api::patch::json::JsonPatch;
use knarr_api::status::Status;
use serde_json::Value;

pub use self::call::Caller;
use self::call::Failed;
pub use self::configuration::Client;
use self::configuration::Hook;
pub use self::index::Hooks;
use self::review::Verdict;
use super::matching::{matched_version, namespace_selected, object_selected, selector};
use super::policy::{Input, Verdict as Match, decided, is_exempt};
use super::{Admission, Attributes, Operation};
use crate::authz::SharedAuthorizer;
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
    /// Answers match conditions that ask who may do what.
    pub authorizer: SharedAuthorizer,
    pub hooks: Arc<Hooks>,
    caller: Caller,
}

/// What one hook came to.
enum Outcome {
    /// It was not concerned, allowed the request, or failed and may be ignored.
    Passed,
    /// It allowed the request and wants these changes to the object in this version.
    Changes { patch: Value, version: String },
}

impl Webhooks {
    pub fn new(
        objects: Arc<dyn Objects>,
        authorizer: SharedAuthorizer,
        hooks: Arc<Hooks>,
        dialer: Arc<dyn Dialer>,
    ) -> Self {
        Self { caller: Caller::new(objects.clone(), dialer), objects, authorizer, hooks }
    }

    /// Calls a hook if the request concerns it.
    async fn ask(&self, hook: &Hook, attributes: &Attributes) -> Result<Outcome, Status> {
        let version = match self.concerns(hook, attributes) {
            Ok(None) => return Ok(Outcome::Passed),
            Ok(Some(version)) => version,
            Err(why) => return self.failed(hook, attributes, Failed(why)),
        };
        let asked = self.versioned(attributes, &version).await?;
        let attributes = asked.as_ref().unwrap_or(attributes);
        match self.conditions_hold(hook, attributes, &version).await {
            Ok(false) => return Ok(Outcome::Passed),
            Ok(true) => {}
            Err(why) => return self.failed(hook, attributes, Failed(why)),
        }
        if attributes.dry_run && !hook.supports_dry_run() {
            let name = &hook.name;
            return Err(Status::bad_request(format!("admission webhook {name:?} does not support dry run")));
        }
        let (uid, request) = review::request(attributes, &version);
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
                    (None, Some(patch)) => Ok(Outcome::Changes { patch, version }),
                    (None, None) => Ok(Outcome::Passed),
                }
            }
        }
    }

    /// The version of the resource that the hook wants to see, if the request concerns it.
    ///
    /// Errors: a selector does not parse, or the namespace cannot be found.
    fn concerns(&self, hook: &Hook, attributes: &Attributes) -> Result<Option<String>, String> {
        let Some(version) =
            matched_version(&hook.rules, attributes, &*self.objects, hook.matches_equivalent())
        else {
            return Ok(None);
        };
        let selected = object_selected(&selector(&hook.object_selector)?, attributes)
            && namespace_selected(&selector(&hook.namespace_selector)?, attributes, &*self.objects)?;
        Ok(selected.then_some(version))
    }

    /// The request with its objects in a version; none if they are in it already.
    async fn versioned(&self, attributes: &Attributes, version: &str) -> Result<Option<Attributes>, Status> {
        let whole = matches!(attributes.subresource.as_str(), "" | "status");
        let resource = Resource::new(&attributes.resource.group, &attributes.resource.resource);
        let api_version = crate::catalogue::api_version(&attributes.resource.group, version);
        let differs =
            |object: Option<&Value>| object.is_some_and(|object| object["apiVersion"] != *api_version);
        if !whole || !(differs(attributes.object.as_ref()) || differs(attributes.old_object.as_deref())) {
            return Ok(None);
        }
        let convert = async |object: Option<Value>| match object {
            Some(object) => self.objects.convert(resource, version, object).await.map(Some),
            None => Ok(None),
        };
        let old = convert(attributes.old_object.as_deref().cloned()).await?;
        Ok(Some(Attributes {
            operation: attributes.operation,
            kind: attributes.kind.clone(),
            resource: attributes.resource.clone(),
            subresource: attributes.subresource.clone(),
            namespace: attributes.namespace.clone(),
            name: attributes.name.clone(),
            object: convert(attributes.object.clone()).await?,
            old_object: old.map(Arc::new),
            options: attributes.options.clone(),
            dry_run: attributes.dry_run,
            user: attributes.user.clone(),
            remarks: attributes.remarks.clone(),
        }))
    }

    /// Errors: a condition could not be evaluated and none is false.
    async fn conditions_hold(
        &self,
        hook: &Hook,
        attributes: &Attributes,
        version: &str,
    ) -> Result<bool, String> {
        if hook.conditions.is_empty() {
            return Ok(true);
        }
        let object = attributes.object.clone().unwrap_or(Value::Null);
        let old = attributes.old_object.as_deref().cloned().unwrap_or(Value::Null);
        let input = Input::new(attributes, version, object, old, Value::Null);
        let run = |decisions: &Decisions| {
            let mut activation = match input.activation() {
                Ok(activation) => activation,
                Err(error) => return Ok(Match::Failed(error.to_string())),
            };
            match hook.conditions.evaluate(&mut activation, decisions) {
                Match::Undecided(check) => Err(check),
                verdict => Ok(verdict),
            }
        };
        match decided(&*self.authorizer, &attributes.user, run).await {
            Match::Match => Ok(true),
            Match::NoMatch | Match::Undecided(_) => Ok(false),
            Match::Failed(why) => Err(why),
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
    async fn change(
        &self,
        hook: &Hook,
        patch: &Value,
        version: &str,
        attributes: &mut Attributes,
    ) -> Result<bool, Status> {
        let wrong = |error: &dyn std::fmt::Display| {
            Status::internal(format!(
                "failed calling webhook {:?}: received invalid webhook response: {error}",
                hook.name
            ))
        };
        let patch = JsonPatch::parse(patch.to_string().as_bytes()).map_err(|error| wrong(&error))?;
        let resource = (attributes.resource.group.to_string(), attributes.resource.resource.to_string());
        let whole = attributes.subresource.is_empty();
        let resource = Resource::new(&resource.0, &resource.1);
        let Some(object) = &mut attributes.object else { return Ok(false) };
        let stored = object["apiVersion"].as_str().unwrap_or_default();
        let stored = stored.rsplit('/').next().unwrap_or_default().to_owned();
        let mut changed = match whole {
            true => self.objects.convert(resource, version, object.clone()).await?,
            false => object.clone(),
        };
        patch.apply(&mut changed).map_err(|error| wrong(&error))?;
        if whole {
            changed = self.objects.convert(resource, &stored, changed).await?;
            self.objects.complete(resource, &mut changed).map_err(|error| wrong(&error))?;
        }
        let is_change = *object != changed;
        *object = changed;
        Ok(is_change)
    }
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
            if let Outcome::Changes { patch, version } = self.0.ask(hook, attributes).await?
                && self.0.change(hook, &patch, &version, attributes).await?
            {
                again.clone_from(&asked);
            }
            if hook.is_reinvocable() {
                asked.push(hook);
            }
        }
        // Once more is enough: hooks that undo each other's changes would never end.
        for hook in again {
            if let Outcome::Changes { patch, version } = self.0.ask(hook, attributes).await? {
                self.0.change(hook, &patch, &version, attributes).await?;
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
