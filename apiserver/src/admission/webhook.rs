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
use serde_json::{Value, json};

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

/// When a hook is called, for the audit annotations that tell of it.
#[derive(Clone, Copy)]
struct Turn {
    /// `mutation` or `validating`.
    phase: &'static str,
    round: usize,
    index: usize,
}

impl Turn {
    fn annotation(self, what: &str) -> String {
        let Self { round, index, .. } = self;
        format!("{what}.webhook.admission.k8s.io/round_{round}_index_{index}")
    }
}

/// What one hook came to.
enum Outcome {
    /// It was not concerned.
    NotAsked,
    /// It allowed the request, or failed and may be ignored.
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
    async fn ask(&self, hook: &Hook, turn: Turn, attributes: &Attributes) -> Result<Outcome, Status> {
        let version = match self.concerns(hook, attributes) {
            Ok(None) => return Ok(Outcome::NotAsked),
            Ok(Some(version)) => version,
            Err(why) => return self.failed(hook, turn, attributes, Failed(why)),
        };
        let asked = self.versioned(attributes, &version).await?;
        let attributes = asked.as_ref().unwrap_or(attributes);
        match self.conditions_hold(hook, attributes, &version).await {
            Ok(false) => return Ok(Outcome::NotAsked),
            Ok(true) => {}
            Err(why) => return self.failed(hook, turn, attributes, Failed(why)),
        }
        if attributes.dry_run && !hook.supports_dry_run() {
            let name = &hook.name;
            return Err(Status::bad_request(format!("admission webhook {name:?} does not support dry run")));
        }
        let (uid, request) = review::request(attributes, &version);
        let answered =
            self.caller.call(hook, &request).await.and_then(|answer| review::verdict(&uid, answer));
        match answered {
            Err(failed) => self.failed(hook, turn, attributes, failed),
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
    fn failed(
        &self,
        hook: &Hook,
        turn: Turn,
        attributes: &Attributes,
        Failed(why): Failed,
    ) -> Result<Outcome, Status> {
        let name = &hook.name;
        if hook.ignores_failure() {
            tracing::warn!(webhook = name, why, "failed calling webhook, failing open");
            attributes.remarks.annotate(turn.annotation(&format!("failed-open.{}", turn.phase)), name);
            return Ok(Outcome::Passed);
        }
        Err(Status::internal(format!("failed calling webhook {name:?}: {why}")))
    }

    /// Asks a mutating hook and does what it wants. Says whether anything changed.
    async fn mutate(&self, hook: &Hook, turn: Turn, attributes: &mut Attributes) -> Result<bool, Status> {
        let changed = match self.ask(hook, turn, attributes).await? {
            Outcome::NotAsked => return Ok(false),
            Outcome::Passed => false,
            Outcome::Changes { patch, version } => {
                self.change(hook, turn, &patch, &version, attributes).await?
            }
        };
        let (configuration, webhook) = (&hook.configuration, &hook.name);
        let told = format!(
            r#"{{"configuration":{},"webhook":{},"mutated":{changed}}}"#,
            json!(configuration),
            json!(webhook)
        );
        attributes.remarks.annotate(turn.annotation("mutation"), told);
        Ok(changed)
    }

    /// Applies what a mutating hook wants, and completes the object again. Says whether anything changed.
    async fn change(
        &self,
        hook: &Hook,
        turn: Turn,
        wanted: &Value,
        version: &str,
        attributes: &mut Attributes,
    ) -> Result<bool, Status> {
        let wrong = |error: &dyn std::fmt::Display| Status::internal(error);
        let patch = match JsonPatch::parse(wanted.to_string().as_bytes()) {
            Ok(patch) => patch,
            Err(error) => {
                let why = format!("received undecodable patch in webhook response: {error}");
                return self.failed(hook, turn, attributes, Failed(why)).map(|_| false);
            }
        };
        if wanted.as_array().is_none_or(Vec::is_empty) {
            return Ok(false);
        }
        let resource = (attributes.resource.group.to_string(), attributes.resource.resource.to_string());
        let whole = attributes.subresource.is_empty();
        let resource = Resource::new(&resource.0, &resource.1);
        let Some(object) = &mut attributes.object else {
            let name = &hook.name;
            return Err(Status::internal(format!(
                "admission webhook {name:?} attempted to modify the object, which is not supported for this operation"
            )));
        };
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
        attributes.remarks.annotate_request(turn.annotation("patch"), || {
            let (configuration, webhook) = (json!(hook.configuration), json!(hook.name));
            format!(
                r#"{{"configuration":{configuration},"webhook":{webhook},"patch":{wanted},"patchType":"JSONPatch"}}"#
            )
        });
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
        let mut again: Vec<(usize, &Hook)> = Vec::new();
        let mut asked: Vec<(usize, &Hook)> = Vec::new();
        for (index, hook) in hooks.iter().enumerate() {
            let turn = Turn { phase: "mutation", round: 0, index };
            if self.0.mutate(hook, turn, attributes).await? {
                again.clone_from(&asked);
            }
            if hook.is_reinvocable() {
                asked.push((index, hook));
            }
        }
        // Once more is enough: hooks that undo each other's changes would never end.
        for (index, hook) in again {
            self.0.mutate(hook, Turn { phase: "mutation", round: 1, index }, attributes).await?;
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
        let concerned = hooks.iter().filter(|hook| !matches!(self.0.concerns(hook, attributes), Ok(None)));
        let answers = concerned.enumerate().map(|(index, hook)| {
            let turn = Turn { phase: "validating", round: 0, index };
            self.0.ask(hook, turn, attributes)
        });
        let answers = join_all(answers).await;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }
}
