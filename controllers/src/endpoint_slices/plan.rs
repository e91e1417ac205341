//! The fewest writes that make the slices say what they should. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::Service,
        discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::object::controller_reference;

use super::{
    desired::{Desired, Group, shape},
    labels,
};
use crate::services::TRIGGER_TIME;

/// Endpoints in one slice.
const MOST: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<EndpointSlice>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

pub(super) fn plan(
    service: &Service,
    desired: &Desired,
    existing: &[Arc<EndpointSlice>],
    triggered: Option<Timestamp>,
) -> Plan {
    let mut plan = Plan::default();
    for &family in &desired.families {
        plan_family(service, desired, family, existing, triggered, &mut plan);
    }
    let of_no_family = |slice: &&Arc<EndpointSlice>| !desired.families.contains(&slice.address_type.as_str());
    plan.delete.extend(existing.iter().filter(of_no_family).cloned());
    reuse(&mut plan);
    plan
}

/// A slice to be created takes the place of one to be deleted: one write instead of two.
fn reuse(plan: &mut Plan) {
    let mut index = 0;
    while index < plan.delete.len() {
        let doomed = &plan.delete[index];
        match plan
            .create
            .iter()
            .position(|slice| slice.address_type == doomed.address_type && is_owned_alike(slice, doomed))
        {
            Some(position) => {
                let doomed = plan.delete.remove(index);
                let mut slice = plan.create.remove(position);
                slice.metadata.name.clone_from(&doomed.metadata.name);
                slice.metadata.resource_version.clone_from(&doomed.metadata.resource_version);
                slice.metadata.uid.clone_from(&doomed.metadata.uid);
                slice.metadata.generate_name = None;
                plan.update.push(slice);
            }
            None => index += 1,
        }
    }
}

fn is_owned_alike(a: &EndpointSlice, b: &EndpointSlice) -> bool {
    let uid = |slice: &EndpointSlice| {
        slice.metadata.owner_references.as_ref()?.first().map(|owner| owner.uid.clone())
    };
    uid(a) == uid(b)
}

fn plan_family(
    service: &Service,
    desired: &Desired,
    family: &'static str,
    existing: &[Arc<EndpointSlice>],
    triggered: Option<Timestamp>,
    plan: &mut Plan,
) {
    let mut by_ports = BTreeMap::<_, Vec<Arc<EndpointSlice>>>::new();
    let mut kept = 0;
    for slice in existing.iter().filter(|slice| slice.address_type == family) {
        if is_owned_by(slice, service) {
            let key = shape(family, slice.ports.as_deref().unwrap_or_default());
            by_ports.entry(key).or_default().push(Arc::clone(slice));
        } else {
            plan.delete.push(Arc::clone(slice));
        }
    }
    let before = plan.create.len();
    for (key, group) in desired.shapes.iter().filter(|((other, _), _)| *other == family) {
        let slices = by_ports.remove(key).unwrap_or_default();
        let (total, deleted) = (slices.len(), plan.delete.len());
        plan_group(service, family, group, slices, triggered, plan);
        kept += total - (plan.delete.len() - deleted);
    }
    let mut left: Vec<_> = by_ports.into_values().flatten().collect();
    if kept == 0 && plan.create.len() == before {
        // A Service without endpoints says so in one empty slice.
        let empty = new_slice(service, family, &[], Vec::new(), None);
        match left.iter().position(|slice| is_same_but_for_name(slice, &empty)) {
            Some(position) => drop(left.remove(position)),
            None => plan.create.push(empty),
        }
    }
    plan.delete.extend(left);
}

fn is_owned_by(slice: &EndpointSlice, service: &Service) -> bool {
    slice
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|owner| Some(&owner.uid) == service.metadata.uid.as_ref())
}

fn is_same_but_for_name(have: &EndpointSlice, want: &EndpointSlice) -> bool {
    have.endpoints.as_ref().is_none_or(Vec::is_empty)
        && have.ports.as_ref().is_none_or(Vec::is_empty)
        && have.metadata.labels == want.metadata.labels
        && have.metadata.owner_references == want.metadata.owner_references
}

/// Keeps endpoints where they are, puts new ones where there is room, and makes new slices for the rest.
fn plan_group(
    service: &Service,
    family: &'static str,
    group: &Group,
    slices: Vec<Arc<EndpointSlice>>,
    triggered: Option<Timestamp>,
    plan: &mut Plan,
) {
    let mut missing = group.endpoints.clone();
    let mut kept: Vec<(Arc<EndpointSlice>, Vec<Endpoint>, bool)> = Vec::new();
    let wanted_labels = labels(service);
    for slice in slices {
        let (endpoints, mut changed) = keep(&slice, &mut missing);
        changed |= slice.metadata.labels.as_ref() != Some(&wanted_labels);
        kept.push((slice, endpoints, changed));
    }
    // Slices that are written anyway are filled first, the fullest before the others.
    kept.sort_by_key(|(_, endpoints, changed)| (!changed, std::cmp::Reverse(endpoints.len())));
    let mut missing: Vec<Endpoint> = missing.into_values().collect();
    let any_changed = kept.iter().any(|(_, _, changed)| *changed);
    for (_, endpoints, changed) in &mut kept {
        // An unchanged slice is only touched to take all that is left, which saves a new slice.
        let room = MOST.saturating_sub(endpoints.len());
        let take_all = !any_changed || missing.len() % MOST <= room;
        if missing.is_empty() || room == 0 || !(*changed || take_all && missing.len() <= room) {
            continue;
        }
        let rest = missing.split_off(missing.len().min(room));
        endpoints.append(&mut missing);
        missing = rest;
        *changed = true;
    }
    for (slice, endpoints, changed) in kept {
        if endpoints.is_empty() {
            plan.delete.push(slice);
        } else if changed {
            let mut updated = (*slice).clone();
            updated.endpoints = Some(endpoints);
            updated.metadata.labels = Some(wanted_labels.clone());
            set_trigger(&mut updated.metadata, triggered);
            plan.update.push(updated);
        }
    }
    for chunk in missing.chunks(MOST) {
        plan.create.push(new_slice(service, family, &group.ports, chunk.to_vec(), triggered));
    }
}

/// The endpoints of a slice that stay, brought up to date and taken from `missing`; whether any changed.
fn keep(slice: &EndpointSlice, missing: &mut BTreeMap<String, Endpoint>) -> (Vec<Endpoint>, bool) {
    let mut changed = false;
    let mut seen = BTreeSet::new();
    let mut endpoints = Vec::with_capacity(slice.endpoints.as_ref().map_or(0, Vec::len));
    for endpoint in slice.endpoints.iter().flatten() {
        let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone()).unwrap_or_default();
        match missing.remove(&uid).filter(|_| seen.insert(uid)) {
            Some(wanted) => {
                changed |= wanted != *endpoint;
                endpoints.push(wanted);
            }
            None => changed = true,
        }
    }
    (endpoints, changed)
}

fn set_trigger(metadata: &mut ObjectMeta, triggered: Option<Timestamp>) {
    match triggered {
        Some(time) => {
            metadata.annotations.get_or_insert_default().insert(TRIGGER_TIME.to_owned(), time.to_string());
        }
        None => {
            if let Some(annotations) = &mut metadata.annotations {
                annotations.remove(TRIGGER_TIME);
            }
        }
    }
}

fn new_slice(
    service: &Service,
    family: &str,
    ports: &[EndpointPort],
    endpoints: Vec<Endpoint>,
    triggered: Option<Timestamp>,
) -> EndpointSlice {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let mut metadata = ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: service.metadata.namespace.clone(),
        labels: Some(labels(service)),
        owner_references: Some(vec![controller_reference(service)]),
        ..ObjectMeta::default()
    };
    set_trigger(&mut metadata, triggered);
    EndpointSlice {
        metadata,
        address_type: family.to_owned(),
        ports: Some(ports.to_vec()).filter(|ports| !ports.is_empty()),
        endpoints: Some(endpoints),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::desired::desired, *};
    use crate::pods::tests::pod;
    use k8s_openapi::api::core::v1::{Node, Pod, PodIP, ServicePort, ServiceSpec};
    use proptest::prelude::*;

    fn service() -> Service {
        let mut service = Service {
            spec: Some(ServiceSpec {
                cluster_ip: Some("10.0.0.1".into()),
                ip_families: Some(vec!["IPv4".into()]),
                ports: Some(vec![ServicePort { port: 80, ..ServicePort::default() }]),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        };
        service.metadata.name = Some("web".into());
        service.metadata.uid = Some("service".into());
        service
    }

    fn pods(ids: &BTreeSet<u16>) -> Vec<Arc<Pod>> {
        let make = |id: &u16| {
            let mut pod = pod(&format!("p{id}"), "n", "Running", Some(1));
            let ip = format!("10.1.{}.{}", id / 256, id % 256);
            pod.status.as_mut().unwrap().pod_ips = Some(vec![PodIP { ip }]);
            Arc::new(pod)
        };
        ids.iter().map(make).collect()
    }

    /// Applies a plan as a server would.
    fn apply(plan: Plan, mut slices: Vec<Arc<EndpointSlice>>, next: &mut u32) -> Vec<Arc<EndpointSlice>> {
        slices.retain(|slice| !plan.delete.iter().any(|gone| gone.metadata.name == slice.metadata.name));
        for updated in plan.update {
            slices.retain(|slice| slice.metadata.name != updated.metadata.name);
            slices.push(Arc::new(updated));
        }
        for mut created in plan.create {
            *next += 1;
            created.metadata.name = Some(format!("web-{next}"));
            slices.push(Arc::new(created));
        }
        slices
    }

    fn planned(ids: &BTreeSet<u16>, slices: &[Arc<EndpointSlice>]) -> Plan {
        let service = service();
        let node = Arc::new(Node::default());
        plan(&service, &desired(&service, &pods(ids), |_| Some(Arc::clone(&node))), slices, None)
    }

    #[test]
    fn a_service_without_pods_has_one_empty_slice() {
        let plan = planned(&BTreeSet::new(), &[]);
        assert_eq!((plan.create.len(), plan.create[0].endpoints.as_ref().unwrap().len()), (1, 0));
        let slices = apply(plan, vec![], &mut 0);
        let again = planned(&BTreeSet::new(), &slices);
        assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
        // And the first pod moves into it.
        let filled = planned(&BTreeSet::from([1]), &slices);
        assert_eq!((filled.create.len(), filled.update.len(), filled.delete.len()), (0, 1, 0));
    }

    #[test]
    fn one_more_pod_is_one_write() {
        let slices = apply(planned(&(0..150).collect(), &[]), vec![], &mut 0);
        assert_eq!(slices.len(), 2);
        let plan = planned(&(0..151).collect(), &slices);
        assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (0, 1, 0));
    }

    proptest! {
        #[test]
        fn every_pod_is_in_exactly_one_slice_and_none_is_too_full(
            steps in prop::collection::vec(prop::collection::btree_set(0..400u16, 0..320), 1..5)
        ) {
            let (mut slices, mut next) = (vec![], 0);
            for ids in steps {
                slices = apply(planned(&ids, &slices), slices, &mut next);
                let mut seen: Vec<String> = slices
                    .iter()
                    .flat_map(|slice| slice.endpoints.iter().flatten())
                    .map(|endpoint| endpoint.target_ref.as_ref().unwrap().uid.clone().unwrap())
                    .collect();
                seen.sort();
                let mut wanted: Vec<String> = ids.iter().map(|id| format!("p{id}")).collect();
                wanted.sort();
                prop_assert_eq!(seen, wanted);
                prop_assert!(slices.iter().all(|slice| slice.endpoints.as_ref().map_or(0, Vec::len) <= MOST));
                let again = planned(&ids, &slices);
                prop_assert!(again.create.is_empty() && again.update.is_empty() && again.delete.is_empty());
            }
        }
    }
}
