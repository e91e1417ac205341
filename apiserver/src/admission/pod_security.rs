//! Pod security standards: what the pods of a namespace may ask of their nodes, chosen by the namespace's labels.

mod baseline;
mod checks;
mod policy;
mod restricted;

use async_trait::async_trait;
use knarr_api::status::{Cause, Status};
use serde_json::Value;

use self::checks::{Violation, violations};
use self::policy::{Level, LevelVersion, Policy};
use super::lookup::Lookup;
use super::pod::{items, text};
use super::{Admission, Attributes, Operation};
use crate::objects::Resource;

const NAMESPACES: Resource<'static> = Resource::core("namespaces");
const PODS: Resource<'static> = Resource::core("pods");
const IGNORED_SUBRESOURCES: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];
const AUDIT_PREFIX: &str = "pod-security.kubernetes.io/";
/// Pods looked at when a namespace's level changes.
const MAX_PODS_TO_CHECK: usize = 3000;

/// Enforces, warns and audits. The default for namespaces without labels is `privileged`.
pub struct PodSecurity {
    pub lookup: Lookup,
}

/// Where the pod template is in objects that make pods.
fn template_path(attributes: &Attributes) -> Option<&'static str> {
    Some(match (attributes.resource.group.as_ref(), attributes.resource.resource.as_ref()) {
        ("", "podtemplates") => "/template",
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => "/spec/template",
        ("batch", "cronjobs") => "/spec/jobTemplate/spec/template",
        _ => return None,
    })
}

impl PodSecurity {
    async fn policy(&self, namespace: &str) -> Result<(Policy, Vec<Cause>), Status> {
        let found: Option<Value> = self.lookup.get(NAMESPACES, "", namespace).await?;
        let namespace =
            found.ok_or_else(|| Status::internal(format!("failed to lookup namespace {namespace:?}")))?;
        Ok(Policy::of(&namespace["metadata"]["labels"]))
    }

    async fn pod(&self, attributes: &Attributes, pod: &Value) -> Result<(), Status> {
        let (policy, errors) = self.policy(&attributes.namespace).await?;
        if errors.is_empty() && policy.is_privileged() {
            return Ok(());
        }
        let update = attributes.old_object.as_deref().filter(|_| attributes.operation == Operation::Update);
        if update.is_some_and(|old| !is_significant(pod, old)) {
            return Ok(());
        }
        evaluate(attributes, &policy, &errors, pod, true)
    }

    async fn controller(&self, attributes: &Attributes, template: &Value) -> Result<(), Status> {
        let (policy, errors) = self.policy(&attributes.namespace).await?;
        let silent = policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged;
        if errors.is_empty() && silent {
            return Ok(());
        }
        evaluate(attributes, &policy, &errors, template, false)
    }

    fn namespace(&self, attributes: &Attributes, namespace: &Value) -> Result<(), Status> {
        let (new, errors) = Policy::of(&namespace["metadata"]["labels"]);
        let invalid = |errors: Vec<Cause>| {
            Err(Status::invalid("", "Namespace", text(&namespace["metadata"]["name"]), errors))
        };
        let Some(old) =
            attributes.old_object.as_deref().filter(|_| attributes.operation == Operation::Update)
        else {
            return if errors.is_empty() { Ok(()) } else { invalid(errors) };
        };
        let (old, old_errors) = Policy::of(&old["metadata"]["labels"]);
        if !errors.is_empty() && errors != old_errors {
            return invalid(errors);
        }
        let relaxed = new.enforce.version == old.enforce.version && new.enforce.level <= old.enforce.level;
        if new.enforce.level != Level::Privileged && !relaxed {
            self.warn_of_pods(attributes, new.enforce)?;
        }
        Ok(())
    }

    /// Says which pods there would not be let in any more.
    fn warn_of_pods(&self, attributes: &Attributes, enforce: LevelVersion) -> Result<(), Status> {
        let pods: Vec<Value> = self.lookup.list(PODS, Some(&attributes.name))?;
        let mut found: Vec<(String, Vec<&str>)> = Vec::new();
        for pod in pods.iter().take(MAX_PODS_TO_CHECK) {
            let broken = violations(enforce, pod);
            if broken.is_empty() {
                continue;
            }
            let reasons =
                broken.iter().map(|violation| violation.reason.as_str()).collect::<Vec<_>>().join(", ");
            let name = text(&pod["metadata"]["name"]);
            match found.iter_mut().find(|(known, _)| *known == reasons) {
                Some((_, names)) => names.push(name),
                None => found.push((reasons, vec![name])),
            }
        }
        if pods.len() > MAX_PODS_TO_CHECK {
            attributes.remarks.warn(format!(
                "new PodSecurity enforce level only checked against the first {MAX_PODS_TO_CHECK} of {} existing pods",
                pods.len()
            ));
        }
        if found.is_empty() {
            return Ok(());
        }
        let name = &attributes.name;
        attributes.remarks.warn(format!(
            "existing pods in namespace {name:?} violate the new PodSecurity enforce level \"{enforce}\""
        ));
        let mut lines: Vec<String> =
            found.into_iter().map(|(reasons, names)| line(&reasons, &names)).collect();
        lines.sort();
        for line in lines {
            attributes.remarks.warn(line);
        }
        Ok(())
    }
}

fn line(reasons: &str, names: &[&str]) -> String {
    let first = names.iter().min().copied().unwrap_or_default();
    match names.len() {
        0 | 1 => format!("{first}: {reasons}"),
        2 => format!("{first} (and 1 other pod): {reasons}"),
        more => format!("{first} (and {} other pods): {reasons}", more - 1),
    }
}

fn evaluate(
    attributes: &Attributes,
    policy: &Policy,
    errors: &[Cause],
    pod: &Value,
    enforce: bool,
) -> Result<(), Status> {
    let annotate =
        |key: &str, value: String| attributes.remarks.annotate(format!("{AUDIT_PREFIX}{key}"), value);
    if !errors.is_empty() {
        let errors: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        annotate("error", format!("Failed to parse policy: {}", errors.join(", ")));
    }
    let broken = |level: LevelVersion| violations(level, pod);
    let enforced = if enforce { broken(policy.enforce) } else { Vec::new() };
    if enforce {
        annotate("enforce-policy", policy.enforce.to_string());
    }
    let audited = broken(policy.audit);
    if !audited.is_empty() {
        let audit = policy.audit;
        annotate("audit-violations", format!("would violate PodSecurity \"{audit}\": {}", told(&audited)));
    }
    if !enforced.is_empty() {
        let why = format!("violates PodSecurity \"{}\": {}", policy.enforce, told(&enforced));
        return Err(attributes.forbidden(why));
    }
    let warned = broken(policy.warn);
    if !warned.is_empty() {
        let why = format!("would violate PodSecurity \"{}\": {}", policy.warn, told(&warned));
        attributes.remarks.warn(why);
    }
    Ok(())
}

fn told(violations: &[Violation]) -> String {
    let told: Vec<String> = violations.iter().map(Violation::to_string).collect();
    told.join(", ")
}

/// Whether an update changes what runs: images, and new containers.
fn is_significant(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value, list: &str| -> Vec<String> {
        items(&pod["spec"][list]).map(|container| text(&container["image"]).to_owned()).collect()
    };
    if ["containers", "initContainers"].iter().any(|list| images(new, list) != images(old, list)) {
        return true;
    }
    items(&new["spec"]["ephemeralContainers"]).any(|container| {
        let known = items(&old["spec"]["ephemeralContainers"]).find(|old| old["name"] == container["name"]);
        known.is_none_or(|old| old["image"] != container["image"])
    })
}

#[async_trait]
impl Admission for PodSecurity {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let Some(object) = &attributes.object else { return Ok(()) };
        if attributes.is("", "namespaces") {
            return self.namespace(attributes, object);
        }
        if attributes.is_resource("", "pods") {
            return match IGNORED_SUBRESOURCES.contains(&attributes.subresource.as_str()) {
                true => Ok(()),
                false => self.pod(attributes, object).await,
            };
        }
        let template = template_path(attributes).and_then(|path| object.pointer(path));
        match template.filter(|template| template.is_object() && attributes.subresource.is_empty()) {
            Some(template) => self.controller(attributes, template).await,
            None => Ok(()),
        }
    }
}
