//! Workloads that keep pods running.

use super::super::Cell;
use super::View;
use crate::selector::Selector;

fn extended<'a>(mut cells: Vec<Cell<'a>>, more: impl IntoIterator<Item = Cell<'a>>) -> Vec<Cell<'a>> {
    cells.extend(more);
    cells
}

const POD_SPEC: &str = "spec.template.spec";

pub(super) fn deployment(object: View<'_>) -> Vec<Cell<'_>> {
    let ready = format!("{}/{}", object.int("status.readyReplicas"), object.int("spec.replicas"));
    let selector = match Selector::from_label_selector(Some(object.at("spec.selector").value())) {
        Ok(selector) => selector.to_string(),
        Err(_) => "<invalid>".to_owned(),
    };
    let cells = vec![
        object.name(),
        ready.into(),
        object.int("status.updatedReplicas").into(),
        object.int("status.availableReplicas").into(),
        object.age(),
    ];
    extended(extended(cells, object.containers(POD_SPEC)), [selector.into()])
}

pub(super) fn replica_set(object: View<'_>) -> Vec<Cell<'_>> {
    let cells = replicas(object);
    extended(extended(cells, object.containers(POD_SPEC)), [object.selector("spec.selector").into()])
}

pub(super) fn replication_controller(object: View<'_>) -> Vec<Cell<'_>> {
    let cells = replicas(object);
    extended(extended(cells, object.containers(POD_SPEC)), [object.labels("spec.selector").into()])
}

fn replicas(object: View<'_>) -> Vec<Cell<'_>> {
    vec![
        object.name(),
        object.int("spec.replicas").into(),
        object.int("status.replicas").into(),
        object.int("status.readyReplicas").into(),
        object.age(),
    ]
}

pub(super) fn stateful_set(object: View<'_>) -> Vec<Cell<'_>> {
    let ready = format!("{}/{}", object.int("status.readyReplicas"), object.int("spec.replicas"));
    extended(vec![object.name(), ready.into(), object.age()], object.containers(POD_SPEC))
}

pub(super) fn daemon_set(object: View<'_>) -> Vec<Cell<'_>> {
    let cells = vec![
        object.name(),
        object.int("status.desiredNumberScheduled").into(),
        object.int("status.currentNumberScheduled").into(),
        object.int("status.numberReady").into(),
        object.int("status.updatedNumberScheduled").into(),
        object.int("status.numberAvailable").into(),
        object.labels("spec.template.spec.nodeSelector").into(),
        object.age(),
    ];
    extended(extended(cells, object.containers(POD_SPEC)), [object.selector("spec.selector").into()])
}

pub(super) fn pod_template(object: View<'_>) -> Vec<Cell<'_>> {
    let cells = extended(vec![object.name()], object.containers("template.spec"));
    extended(cells, [object.labels("template.metadata.labels").into()])
}

pub(super) fn controller_revision(object: View<'_>) -> Vec<Cell<'_>> {
    let owner = object.items("metadata.ownerReferences").find(|owner| owner.bool("controller"));
    let controller = match owner {
        None => "<none>".into(),
        Some(owner) => {
            let kind = owner.str("kind").to_lowercase();
            let name = owner.str("name");
            match owner.str("apiVersion").split_once('/') {
                Some((group, _)) => format!("{kind}.{}/{name}", group.to_lowercase()).into(),
                None => format!("{kind}/{name}").into(),
            }
        }
    };
    vec![object.name(), controller, object.int("revision").into(), object.age()]
}
