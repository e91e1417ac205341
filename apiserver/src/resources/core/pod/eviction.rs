//! `pods/eviction`: a delete that respects disruption budgets.

use async_trait::async_trait;
use knarr_api::selector::Selector;
use knarr_api::status::{Cause, Status, reason};
use serde_json::{Value, json};

use crate::cache::Selection;
use crate::catalogue::{CreateSubresource, Storage};
use crate::context::RequestContext;
use crate::object;
use crate::registry::{DeleteOptions, Preconditions};

/// More evictions than this may not wait for the budget's controller.
const MAX_DISRUPTED: usize = 2000;
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// How often a pod that changes under the eviction is looked at again.
const ATTEMPTS: usize = 8;

pub struct Eviction;

#[async_trait]
impl CreateSubresource for Eviction {
    async fn create(&self, cx: &RequestContext, name: &str, eviction: Value) -> Result<Value, Status> {
        if object::name(&eviction) != name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let storage = cx.resource.stored().ok_or_else(Status::path_not_found)?.clone();
        let mut cx = cx.clone();
        let options = delete_options(&mut cx, &eviction)?;
        // What follows is a delete of the pod itself.
        std::sync::Arc::make_mut(&mut cx.info).subresource.clear();
        let mut attempt = 0;
        loop {
            attempt += 1;
            match evict(&cx, &storage, name, &options).await {
                Err(status) if status.is(reason::CONFLICT) && attempt < ATTEMPTS && !is_pinned(&options) => {}
                done => break done?,
            }
        }
        serde_json::to_value(Status::success(201)).map_err(Status::internal)
    }
}

fn is_pinned(options: &DeleteOptions) -> bool {
    options.preconditions.as_ref().is_some_and(|wanted| wanted.resource_version.is_some())
}

fn delete_options(cx: &mut RequestContext, eviction: &Value) -> Result<DeleteOptions, Status> {
    let mut options: DeleteOptions = match eviction.get("deleteOptions").filter(|options| !options.is_null())
    {
        Some(options) => {
            serde_json::from_value(options.clone()).map_err(|e| Status::bad_request(e.to_string()))?
        }
        None => DeleteOptions::default(),
    };
    if cx.dry_run {
        options.dry_run = Some(vec!["All".to_owned()]);
    }
    cx.dry_run = options.is_dry_run();
    Ok(options)
}

async fn evict(
    cx: &RequestContext,
    storage: &Storage,
    name: &str,
    options: &DeleteOptions,
) -> Result<(), Status> {
    let found = cx.registry.get(storage, cx.namespace(), name).await?;
    let pod = found.ok_or_else(|| cx.not_found(name))?.to_value().map_err(Status::internal)?;
    let mut options = options.clone();
    let pinned = |mut options: DeleteOptions| {
        let wanted = options.preconditions.get_or_insert_with(Preconditions::default);
        wanted.resource_version.get_or_insert_with(|| object::meta_str(&pod, "resourceVersion").to_owned());
        options
    };
    if disrupts_nothing(&pod) {
        // A pending pod may become ready in between, and then it is the budget's business.
        if phase(&pod) == "Pending" && !object::is_deleting(&pod) {
            options = pinned(options);
        }
    } else if let Some(budget) = budget_of(cx, &pod).await?
        && !spend(cx, &budget, &pod).await?
    {
        options = pinned(options);
    }
    mark_and_delete(cx, storage, name, options).await
}

fn phase(pod: &Value) -> &str {
    pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default()
}

fn disrupts_nothing(pod: &Value) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed" | "Pending") || object::is_deleting(pod)
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn budgets(cx: &RequestContext) -> Option<std::sync::Arc<Storage>> {
    cx.registry.catalogue().preferred("policy", "poddisruptionbudgets")?.stored().cloned()
}

/// The budget that covers the pod.
async fn budget_of(cx: &RequestContext, pod: &Value) -> Result<Option<Value>, Status> {
    let Some(storage) = budgets(cx) else { return Ok(None) };
    let now = cx.registry.catch_up().await?;
    let selection = Selection { namespace: cx.namespace().into(), ..Selection::all() };
    let empty = json!({});
    let labels = pod.pointer("/metadata/labels").unwrap_or(&empty);
    let mut covering = Vec::new();
    for entry in storage.cache.snapshot(&selection, now).entries {
        let budget = entry.stored.to_value().map_err(Status::internal)?;
        let selector = budget.pointer("/spec/selector");
        if Selector::from_label_selector(selector).is_ok_and(|selector| selector.matches(labels)) {
            covering.push(budget);
        }
    }
    if covering.len() > 1 {
        let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::failure(500, "", message));
    }
    Ok(covering.pop())
}

/// Takes one disruption from the budget. False when the pod is unhealthy and costs none.
async fn spend(cx: &RequestContext, budget: &Value, pod: &Value) -> Result<bool, Status> {
    let number =
        |field: &str| budget.pointer(&format!("/status/{field}")).and_then(Value::as_i64).unwrap_or_default();
    if !is_ready(pod) {
        let always = budget.pointer("/spec/unhealthyPodEvictionPolicy") == Some(&json!("AlwaysAllow"));
        let enough = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
        if always || enough {
            return Ok(false);
        }
    }
    let Some(storage) = budgets(cx) else { return Ok(false) };
    let now = object::now(&*cx.registry.clock);
    let name = object::name(pod).to_owned();
    let change = |budget: &mut Value| decrement(budget, &name, &now);
    cx.registry.modify(cx, &storage, object::name(budget), change).await?;
    Ok(true)
}

fn refuse(message: String, retry_after: u32) -> Status {
    Status::too_many_requests(REFUSED, retry_after).with_causes([Cause::new("DisruptionBudget", "", message)])
}

fn decrement(budget: &mut Value, pod: &str, now: &str) -> Result<(), Status> {
    let name = object::name(budget).to_owned();
    let generation = object::meta_i64(budget, "generation").unwrap_or_default();
    let status = object::map_at(budget, "status");
    let number = |status: &Value, field: &str| status.get(field).and_then(Value::as_i64).unwrap_or_default();
    if number(status, "observedGeneration") < generation {
        return Err(refuse(
            format!("The disruption budget {name} is still being processed by the server."),
            10,
        ));
    }
    let forbid = |why: &str| Err(Status::forbidden("policy", "poddisruptionbudget", &name, why));
    let allowed = number(status, "disruptionsAllowed");
    if allowed < 0 {
        return forbid("pdb disruptions allowed is negative");
    }
    let waiting = status.get("disruptedPods").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    if waiting > MAX_DISRUPTED {
        return forbid("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        let (desired, current) = (number(status, "desiredHealthy"), number(status, "currentHealthy"));
        let message = if current <= desired {
            format!("The disruption budget {name} needs {desired} healthy pods and has {current} currently")
        } else {
            format!("The disruption budget {name} does not allow evicting pods currently")
        };
        return Err(refuse(message, 0));
    }
    status["disruptionsAllowed"] = (allowed - 1).into();
    object::map_at(status, "disruptedPods")[pod] = now.into();
    Ok(())
}

/// Says in the pod why it goes, and deletes it.
async fn mark_and_delete(
    cx: &RequestContext,
    storage: &Storage,
    name: &str,
    mut options: DeleteOptions,
) -> Result<(), Status> {
    if !cx.dry_run {
        let now = object::now(&*cx.registry.clock);
        let wanted = options.preconditions.clone().unwrap_or_default();
        let change = |pod: &mut Value| {
            check(&wanted, pod, name)?;
            add_condition(pod, &now);
            Ok(())
        };
        let written = cx.registry.modify(cx, storage, name, change).await?;
        if let Some(version) =
            options.preconditions.as_mut().and_then(|wanted| wanted.resource_version.as_mut())
        {
            object::meta_str(&written.object, "resourceVersion").clone_into(version);
        }
    }
    cx.registry.delete(cx, storage, name, &options).await.map(drop)
}

fn check(wanted: &Preconditions, pod: &Value, name: &str) -> Result<(), Status> {
    for (field, wanted, at) in
        [("UID", &wanted.uid, "uid"), ("ResourceVersion", &wanted.resource_version, "resourceVersion")]
    {
        let found = object::meta_str(pod, at);
        if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != found) {
            let why = format!(
                "the {field} in the precondition ({wanted}) does not match the {field} in record ({found})"
            );
            return Err(Status::conflict("", "Pod", name, why));
        }
    }
    Ok(())
}

fn add_condition(pod: &mut Value, now: &str) {
    let status = object::map_at(pod, "status");
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastTransitionTime": now});
    match status.get_mut("conditions").and_then(Value::as_array_mut) {
        Some(list) => match list.iter_mut().find(|known| known["type"] == "DisruptionTarget") {
            Some(known) => *known = condition,
            None => list.push(condition),
        },
        None => status["conditions"] = json!([condition]),
    }
}
