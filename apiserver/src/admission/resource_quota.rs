//! Quotas: what a namespace may use in all.
//!
//! Usage is counted in the quota's status, written with the resourceVersion that was read, so that two writers never
//! spend the same allowance. The controller corrects what was counted for writes that then failed.

mod scopes;
mod usage;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::quantity::{Format, Quantity};
use knarr_api::status::{Status, reason};
use parking_lot::Mutex;
use serde_json::Value;

use self::usage::{Kind, usage};
use super::lookup::Lookup;
use super::pod::{items, text};
use super::pod_resources::{Resources, resources};
use super::{Admission, Attributes, Operation};
use crate::loopback::Loopback;
use crate::objects::Resource;

const QUOTAS: Resource<'static> = Resource::core("resourcequotas");
const ATTEMPTS: usize = 10;

pub struct ResourceQuota {
    lookup: Lookup,
    loopback: Loopback,
    /// One writer per namespace at a time; others would only make conflicts.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A quota that a write counts against, and what it would use then.
struct Charge {
    quota: Value,
    used: Resources,
}

impl ResourceQuota {
    pub fn new(lookup: Lookup, loopback: Loopback) -> Self {
        Self { lookup, loopback, turns: Mutex::default() }
    }

    fn turn(&self, namespace: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock();
        // Only this map holds a turn that nobody waits for.
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        turns.entry(namespace.to_owned()).or_default().clone()
    }

    /// The quotas of the namespace as the store has them, read through the cache for their names.
    async fn quotas(&self, namespace: &str) -> Result<Vec<Value>, Status> {
        let known: Vec<Value> = self.lookup.list(QUOTAS, Some(namespace))?;
        let mut live = Vec::with_capacity(known.len());
        for quota in known {
            live.extend(
                self.lookup.live::<Value>(QUOTAS, namespace, text(&quota["metadata"]["name"])).await?,
            );
        }
        Ok(live)
    }

    async fn charge(&self, attributes: &Attributes, kind: Kind) -> Result<(), Status> {
        for _ in 0..ATTEMPTS {
            let charges = charges(attributes, kind, self.quotas(&attributes.namespace).await?)?;
            if attributes.dry_run || self.write(attributes, charges).await? {
                return Ok(());
            }
        }
        let why = "unable to charge the resource quota: it is being changed by too many requests";
        Err(Status::conflict("", "resourcequotas", &attributes.namespace, why))
    }

    /// Writes the new usage. False: another server was faster, look again.
    async fn write(&self, attributes: &Attributes, charges: Vec<Charge>) -> Result<bool, Status> {
        for Charge { mut quota, used } in charges {
            let used: serde_json::Map<String, Value> =
                used.iter().map(|(name, amount)| (name.clone(), amount.to_string().into())).collect();
            quota["status"]["used"] = used.into();
            let name = text(&quota["metadata"]["name"]);
            let path = format!("/api/v1/namespaces/{}/resourcequotas/{name}/status", attributes.namespace);
            match self.loopback.update(&path, &quota).await {
                Ok(_) => {}
                // What was charged to other quotas before stays until the controller counts again.
                Err(status) if status.is(reason::CONFLICT) || status.is(reason::NOT_FOUND) => {
                    return Ok(false);
                }
                Err(status) => return Err(status),
            }
        }
        Ok(true)
    }
}

/// What the write adds to each quota that it counts against.
fn charges(attributes: &Attributes, kind: Kind, quotas: Vec<Value>) -> Result<Vec<Charge>, Status> {
    let Some(object) = &attributes.object else { return Ok(Vec::new()) };
    let new = usage(kind, attributes, object);
    let old = attributes.old_object.as_deref().filter(|_| attributes.operation == Operation::Update);
    let mut charges = Vec::new();
    for quota in quotas {
        let hard = resources(&quota["status"]["hard"]);
        let counted = |usage: &Resources| -> Resources {
            usage
                .iter()
                .filter(|(name, _)| hard.contains_key(*name))
                .map(|(n, a)| (n.clone(), a.clone()))
                .collect()
        };
        let restricted: Vec<&String> =
            hard.keys().filter(|name| new.contains_key(*name) || kind.counts(name)).collect();
        if restricted.is_empty() || !scopes::select(&quota["spec"], kind, object) {
            continue;
        }
        let name = text(&quota["metadata"]["name"]).to_owned();
        if kind == Kind::Pod {
            constrain(object, &restricted)
                .map_err(|why| attributes.forbidden(format!("failed quota: {name}: {why}")))?;
        }
        let used = resources(&quota["status"]["used"]);
        if let Some(unknown) = unknown(&restricted, &used) {
            let why = format!("status unknown for quota: {name}, resources: {unknown}");
            return Err(attributes.forbidden(why));
        }
        let mut delta = counted(&new);
        if let Some(old) = old.filter(|old| scopes::select(&quota["spec"], kind, old)) {
            subtract(&mut delta, &usage(kind, attributes, old));
        }
        delta.retain(|_, amount| !amount.is_zero());
        if delta.is_empty() {
            continue;
        }
        let mut total = used.clone();
        super::pod_resources::add(&mut total, &delta);
        let exceeded: Vec<&String> = delta.keys().filter(|name| total[*name] > hard[*name]).collect();
        if !exceeded.is_empty() {
            let shown = |amounts: &Resources| {
                let parts: Vec<String> =
                    exceeded.iter().map(|name| format!("{name}={}", amounts[*name])).collect();
                parts.join(",")
            };
            return Err(attributes.forbidden(format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                shown(&delta),
                shown(&used),
                shown(&hard)
            )));
        }
        charges.push(Charge { quota, used: total });
    }
    Ok(charges)
}

fn unknown(restricted: &[&String], used: &Resources) -> Option<String> {
    let unknown: Vec<&str> =
        restricted.iter().filter(|name| !used.contains_key(**name)).map(|name| name.as_str()).collect();
    (!unknown.is_empty()).then(|| unknown.join(","))
}

/// What an update adds: never less than nothing, since the controller gives back.
fn subtract(delta: &mut Resources, old: &Resources) {
    for (name, amount) in delta.iter_mut() {
        if let Some(old) = old.get(name) {
            let left = amount.sub(old);
            *amount = if left.is_negative() { Quantity::new(0, Format::DecimalSi) } else { left };
        }
    }
}

/// Where compute is limited, every container says what it needs.
fn constrain(pod: &Value, restricted: &[&String]) -> Result<(), String> {
    const CHECKED: [(&str, &str, &str); 6] = [
        ("cpu", "requests", "cpu"),
        ("limits.cpu", "limits", "cpu"),
        ("limits.memory", "limits", "memory"),
        ("memory", "requests", "memory"),
        ("requests.cpu", "requests", "cpu"),
        ("requests.memory", "requests", "memory"),
    ];
    if pod["spec"]["resources"].is_object() {
        return Ok(());
    }
    let mut missing = Vec::new();
    for (name, side, resource) in
        CHECKED.iter().filter(|(name, ..)| restricted.iter().any(|known| known == name))
    {
        let mut silent: Vec<&str> = ["containers", "initContainers"]
            .iter()
            .flat_map(|list| items(&pod["spec"][*list]))
            .filter(|container| container["resources"][*side].get(*resource).is_none())
            .map(|container| text(&container["name"]))
            .collect();
        silent.sort_unstable();
        if !silent.is_empty() {
            missing.push(format!("{name} for: {}", silent.join(",")));
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("must specify {}", missing.join("; "))) }
}

#[async_trait]
impl Admission for ResourceQuota {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        if attributes.namespace.is_empty() || attributes.is_resource("", "namespaces") {
            return Ok(());
        }
        let Some(kind) = Kind::of(attributes) else { return Ok(()) };
        if self.lookup.0.list(QUOTAS, Some(&attributes.namespace)).is_empty() {
            return Ok(());
        }
        let turn = self.turn(&attributes.namespace);
        let _mine = turn.lock().await;
        self.charge(attributes, kind).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::UserInfo;
    use knarr_api::gvk::{GroupVersionKind, GroupVersionResource};
    use serde_json::json;

    fn create(object: Value) -> Attributes {
        Attributes {
            operation: Operation::Create,
            kind: GroupVersionKind::new("", "v1", "Pod"),
            resource: GroupVersionResource::new("", "v1", "pods"),
            subresource: String::new(),
            namespace: "default".into(),
            name: "web".into(),
            object: Some(object),
            old_object: None,
            options: None,
            dry_run: false,
            user: Arc::new(UserInfo::loopback()),
            remarks: Arc::default(),
        }
    }

    fn pod(requests: Value) -> Attributes {
        create(json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}}))
    }

    fn quota(hard: Value, used: Value) -> Vec<Value> {
        vec![json!({"metadata": {"name": "q"}, "spec": {}, "status": {"hard": hard, "used": used}})]
    }

    #[test]
    fn usage_is_added_until_it_is_too_much() {
        let quotas =
            quota(json!({"pods": "2", "requests.cpu": "1"}), json!({"pods": "1", "requests.cpu": "500m"}));
        let fits = charges(&pod(json!({"cpu": "500m"})), Kind::Pod, quotas.clone()).unwrap();
        assert_eq!(fits[0].used["requests.cpu"].to_string(), "1");
        assert_eq!(fits[0].used["pods"].to_string(), "2");
        let refused = charges(&pod(json!({"cpu": "600m"})), Kind::Pod, quotas.clone()).err().unwrap();
        assert_eq!(
            refused.message,
            r#"pods "web" is forbidden: exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=500m, limited: requests.cpu=1"#
        );
        let silent = charges(&pod(json!({})), Kind::Pod, quotas).err().unwrap();
        assert_eq!(
            silent.message,
            r#"pods "web" is forbidden: failed quota: q: must specify requests.cpu for: c"#
        );
    }

    #[test]
    fn a_quota_that_was_not_counted_yet_lets_nothing_in() {
        let refused =
            charges(&pod(json!({})), Kind::Pod, quota(json!({"pods": "2"}), json!({}))).err().unwrap();
        assert_eq!(
            refused.message,
            r#"pods "web" is forbidden: status unknown for quota: q, resources: pods"#
        );
    }
}
