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
use self::review::{Question, Verdict};
use super::matching::{matched_version, namespace_selected, object_selected};
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

/// How a request concerns a hook.
struct Concern {
    /// Of the resource, that the hook wants to see.
    version: String,
    /// The request in that version, if it was in another.
    converted: Option<Attributes>,
}

const MUTATION: &str = "mutation";
const VALIDATING: &str = "validating";

/// When a hook is called, for the audit annotations that tell of it.
#[derive(Clone, Copy)]
struct Turn {
    /// [`MUTATION`] or [`VALIDATING`].
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

    /// Calls a hook that the request concerns.
    async fn ask(
        &self,
        hook: &Hook,
        Concern { version, converted }: Concern,
        turn: Turn,
        attributes: &Attributes,
    ) -> Result<Outcome, Status> {
        let attributes = converted.as_ref().unwrap_or(attributes);
        if attributes.dry_run && !hook.supports_dry_run() {
            let name = &hook.name;
            return Err(Status::bad_request(format!("admission webhook {name:?} does not support dry run")));
        }
        let Some(review_version) = hook.review_version() else {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions \
                       (v1, v1beta1)";
            return self.failed(hook, turn, attributes, Failed(why.to_owned()));
        };
        let question = Question::new(review_version, turn.phase == MUTATION);
        let request = review::request(&question, attributes, &version);
        let answered = self.caller.call(hook, &request).await;
        match answered.and_then(|answer| review::verdict(&question, answer)) {
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

    /// Whether the request concerns the hook, and how.
    ///
    /// Errors: the namespace is not there, a selector does not parse, an object cannot be converted, or a condition
    /// cannot be evaluated and the hook may not be passed over.
    async fn concern(&self, hook: &Hook, attributes: &Attributes) -> Result<Option<Concern>, Status> {
        let Some(version) =
            matched_version(&hook.rules, attributes, &*self.objects, hook.matches_equivalent())
        else {
            return Ok(None);
        };
        let selectors = hook.selectors.as_ref().map_err(Status::internal)?;
        if !object_selected(&selectors.objects, attributes)
            || !namespace_selected(&selectors.namespaces, attributes, &*self.objects)?
        {
            return Ok(None);
        }
        let converted = self.versioned(attributes, &version).await?;
        let concerned = converted.as_ref().unwrap_or(attributes);
        match self.conditions_hold(hook, concerned, &version).await {
            Ok(true) => Ok(Some(Concern { version, converted })),
            Ok(false) => Ok(None),
            Err(_) if hook.ignores_failure() => Ok(None),
            Err(why) => {
                let resource = &attributes.resource;
                Err(Status::forbidden(&resource.group, &resource.resource, &attributes.name, why))
            }
        }
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
        let Some(concern) = self.concern(hook, attributes).await? else { return Ok(false) };
        let outcome = match self.ask(hook, concern, turn, attributes).await {
            Ok(Outcome::Passed) => Ok(false),
            Ok(Outcome::Changes { patch, version }) => {
                self.change(hook, turn, &patch, &version, attributes).await
            }
            Err(refused) => Err(refused),
        };
        let (configuration, webhook) = (json!(hook.configuration), json!(hook.name));
        let changed = outcome.as_ref().is_ok_and(|changed| *changed);
        let told = format!(r#"{{"configuration":{configuration},"webhook":{webhook},"mutated":{changed}}}"#);
        attributes.remarks.annotate(turn.annotation(MUTATION), told);
        outcome
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
            let turn = Turn { phase: MUTATION, round: 0, index };
            if self.0.mutate(hook, turn, attributes).await? {
                again.clone_from(&asked);
            }
            if hook.is_reinvocable() {
                asked.push((index, hook));
            }
        }
        // Once more is enough: hooks that undo each other's changes would never end.
        for (index, hook) in again {
            self.0.mutate(hook, Turn { phase: MUTATION, round: 1, index }, attributes).await?;
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
        let mut concerned = Vec::new();
        for hook in &**hooks {
            if let Some(concern) = self.0.concern(hook, attributes).await? {
                concerned.push((hook, concern));
            }
        }
        let answers = concerned.into_iter().enumerate().map(|(index, (hook, concern))| {
            let turn = Turn { phase: VALIDATING, round: 0, index };
            self.0.ask(hook, concern, turn, attributes)
        });
        let answers = join_all(answers).await;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }
}
