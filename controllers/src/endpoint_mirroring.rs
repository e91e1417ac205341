//! Writing EndpointSlices for Endpoints that somebody made by hand for a Service without a selector.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;
use k8s_openapi::{
    api::{
        core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use knarr_client::{
    Action, Api, Cached, Change, Client, ObjectKey, Reconcile, SharedInformer, WorkQueue,
    error::{is_already_exists, is_namespace_terminating, is_not_found},
    object::controller_reference,
};
use kube::api::{DeleteParams, PostParams};

use crate::{
    Context,
    context::follow,
    endpoint_slices::{SERVICE_NAME, manager_of},
    endpoints,
    error::{Error, Step},
    services, templates,
};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const WORKERS: usize = 5;
/// Addresses mirrored of one subset; the rest is left out.
const MOST: usize = 1000;
/// Endpoints in one slice.
const PER_SLICE: usize = 100;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let (services, slices) =
        (context.informers.informer::<Service>(), context.informers.informer::<EndpointSlice>());
    let endpoints = context.informers.informer::<Endpoints>();
    let queue = Arc::new(WorkQueue::<ObjectKey>::default());
    follow(&services, &queue);
    follow(&endpoints, &queue);
    {
        let queue = Arc::clone(&queue);
        slices
            .subscribe(move |change| {
                let slice = change.object();
                let labels = slice.metadata.labels.as_ref();
                let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
                // Our own writes come back as additions and updates; what is gone or was changed is put right.
                if let (Some(service), Some(MANAGER), false) =
                    (service, manager_of(slice), matches!(change, Change::Added(_)))
                {
                    queue.add(ObjectKey::new(slice.namespace(), service.as_str()));
                }
            })
            .forever();
    }
    let sync = Arc::new(Sync {
        services: services.clone(),
        endpoints: endpoints.clone(),
        slices: slices.clone(),
        client: context.client.clone(),
    });
    context.work("endpointslice-mirroring-controller", WORKERS, queue, sync, async move {
        tokio::join!(services.synced(), endpoints.synced(), slices.synced());
    })
}

struct Sync {
    services: SharedInformer<Service>,
    endpoints: SharedInformer<Endpoints>,
    slices: SharedInformer<EndpointSlice>,
    client: Client,
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    let (labels, annotations) = (endpoints.metadata.labels.as_ref(), endpoints.metadata.annotations.as_ref());
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).map(String::as_str);
    label(SKIP) != Some("true")
        && label(endpoints::MANAGED_BY.0) != Some(endpoints::MANAGED_BY.1)
        && !annotations.is_some_and(|annotations| annotations.contains_key(LEADER))
        && endpoints.metadata.deletion_timestamp.is_none()
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let mirrored = self.endpoints.get_key(key).filter(|endpoints| is_mirrored(endpoints));
        let service = self.services.get_key(key).filter(|service| services::selector(service).is_none());
        let wanted = match (&mirrored, service) {
            (Some(endpoints), Some(_)) => mirror(endpoints),
            _ => Vec::new(),
        };
        let ours = |slice: &EndpointSlice| {
            let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
            manager_of(slice) == Some(MANAGER) && service.is_some_and(|service| **service == *key.name)
        };
        let present: Vec<_> =
            self.slices.in_namespace(&key.namespace).into_iter().filter(|slice| ours(slice)).collect();
        self.write(key, &present, wanted).await.map(|()| Action::Done)
    }
}

impl Sync {
    async fn write(
        &self,
        key: &ObjectKey,
        present: &[Arc<EndpointSlice>],
        wanted: Vec<EndpointSlice>,
    ) -> Result<(), Error> {
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), &key.namespace);
        for slice in present.iter().filter(|slice| !wanted.iter().any(|other| other.name() == slice.name())) {
            match api.delete(slice.name(), &DeleteParams::default()).await {
                Err(error) if is_not_found(&error) => {}
                other => drop(other.step("delete", slice.name())?),
            }
        }
        for mut slice in wanted {
            match present.iter().find(|other| other.name() == slice.name()) {
                Some(known) if says_the_same(known, &slice) => {}
                Some(known) => {
                    slice.metadata.resource_version.clone_from(&known.metadata.resource_version);
                    api.replace(known.name(), &PostParams::default(), &slice)
                        .await
                        .step("update", known.name())?;
                }
                None => match api.create(&PostParams::default(), &slice).await {
                    // Its cache entry has not come yet, or never will.
                    Err(error) if is_already_exists(&error) || is_namespace_terminating(&error) => {}
                    other => drop(other.step("create", slice.name())?),
                },
            }
        }
        Ok(())
    }
}

fn says_the_same(a: &EndpointSlice, b: &EndpointSlice) -> bool {
    a.endpoints == b.endpoints
        && a.ports == b.ports
        && a.metadata.labels == b.metadata.labels
        && a.metadata.annotations == b.metadata.annotations
}

/// The slices that say what the Endpoints say. Their names follow from their content's shape, so that two looks at
/// once never make two of the same.
fn mirror(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let mut slices = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        for family in ["IPv4", "IPv6"] {
            let all = addresses(subset, family);
            for (number, chunk) in all.chunks(PER_SLICE).enumerate() {
                slices.push(slice(endpoints, subset, family, number, chunk.to_vec()));
            }
        }
    }
    slices
}

fn addresses(subset: &EndpointSubset, family: &str) -> Vec<Endpoint> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let not_ready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    let of_family = |(address, ready): (&EndpointAddress, bool)| {
        let ip: std::net::IpAddr = address.ip.parse().ok()?;
        (ip.is_ipv6() == (family == "IPv6")).then(|| endpoint(address, ready))
    };
    ready.chain(not_ready).filter_map(of_family).take(MOST).collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn slice(
    endpoints: &Endpoints,
    subset: &EndpointSubset,
    family: &str,
    number: usize,
    content: Vec<Endpoint>,
) -> EndpointSlice {
    let ports: Vec<EndpointPort> = subset
        .ports
        .iter()
        .flatten()
        .map(|port| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    let shape = templates::hash(&(family, number, &ports), None);
    let own = |map: &Option<BTreeMap<String, String>>| map.clone().unwrap_or_default();
    let mut labels = own(&endpoints.metadata.labels);
    labels.insert(SERVICE_NAME.to_owned(), endpoints.name().to_owned());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = own(&endpoints.metadata.annotations);
    annotations.remove(LAST_APPLIED);
    annotations.remove(endpoints::OVER_CAPACITY);
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{}-{shape}", endpoints.name())),
            namespace: endpoints.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![controller_reference(endpoints)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        ports: Some(ports).filter(|ports| !ports.is_empty()),
        endpoints: Some(content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::EndpointPort as OldPort;

    #[test]
    fn each_family_and_set_of_ports_has_its_slices() {
        let address = |ip: &str| EndpointAddress { ip: ip.to_owned(), ..EndpointAddress::default() };
        let mut endpoints = Endpoints {
            subsets: Some(vec![EndpointSubset {
                addresses: Some((0..150).map(|i| address(&format!("10.0.0.{i}"))).collect()),
                not_ready_addresses: Some(vec![address("fd00::1")]),
                ports: Some(vec![OldPort { port: 80, ..OldPort::default() }]),
            }]),
            ..Endpoints::default()
        };
        endpoints.metadata.name = Some("db".to_owned());
        let slices = mirror(&endpoints);
        let sizes: Vec<_> = slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect();
        assert_eq!(sizes, [100, 50, 1]);
        assert_eq!(slices[2].address_type, "IPv6");
        let names: std::collections::BTreeSet<_> =
            slices.iter().map(|slice| slice.name().to_owned()).collect();
        assert_eq!(names.len(), 3);
        assert!(is_mirrored(&endpoints));
    }
}
