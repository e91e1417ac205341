//! Addresses for Services of type LoadBalancer, where no cloud gives them: from a range of the cluster's own, which
//! the service proxy answers on every node.
//!
//! A Service with a `loadBalancerClass` is somebody else's, as upstream has it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use futures::{FutureExt, future::BoxFuture};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use knarr_client::events::{EventRecorder, EventType};
use knarr_client::{Action, Api, Client, ObjectKey, Reconcile, SharedInformer};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    Context,
    error::{Error, Step},
};

/// One, so that no address is given twice.
const WORKERS: usize = 1;

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let Some(range) = context.config.load_balancer_range else {
        return async move { context.shutdown.cancelled().await }.boxed();
    };
    let mut wiring = context.wire("service");
    let services = wiring.root::<Service>();
    let events = context.recorder("service-controller");
    wiring.run(WORKERS, Sync { services, client: context.client, events, range })
}

struct Sync {
    services: SharedInformer<Service>,
    client: Client,
    events: EventRecorder,
    range: Ipv4Net,
}

/// What is to be done about a Service.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Nothing,
    Give,
    Take,
}

/// The addresses of a Service's balancer that are of our range.
fn held(service: &Service, range: Ipv4Net) -> Vec<Ipv4Addr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let addresses = ingress.iter().filter_map(|ingress| ingress.ip.as_deref()?.parse().ok());
    addresses.filter(|address| range.contains(address)).collect()
}

fn judge(service: &Service, range: Ipv4Net) -> Verdict {
    let Some(spec) = &service.spec else { return Verdict::Nothing };
    if spec.load_balancer_class.is_some() || service.metadata.deletion_timestamp.is_some() {
        return Verdict::Nothing;
    }
    let is_balanced = spec.type_.as_deref() == Some("LoadBalancer");
    let has_ipv4 = spec.ip_families.iter().flatten().any(|family| family == "IPv4");
    match (is_balanced && has_ipv4, held(service, range).is_empty()) {
        (true, true) => Verdict::Give,
        (false, false) => Verdict::Take,
        _ => Verdict::Nothing,
    }
}

/// The address that a Service asks for if it is free, or else the first free one.
fn choose(service: &Service, range: Ipv4Net, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let is_free = |address: &Ipv4Addr| range.contains(address) && !taken.contains(address);
    let asked = service.spec.as_ref().and_then(|spec| spec.load_balancer_ip.as_deref());
    match asked.filter(|asked| !asked.is_empty()) {
        Some(asked) => asked.parse().ok().filter(is_free),
        None => range.hosts().find(is_free),
    }
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(service) = self.services.get_key(key) else { return Ok(Action::Done) };
        match judge(&service, self.range) {
            Verdict::Nothing => Ok(Action::Done),
            Verdict::Take => self.write(key, json!(null)).await,
            Verdict::Give => self.give(key, &service).await,
        }
    }
}

impl Sync {
    async fn give(&self, key: &ObjectKey, service: &Service) -> Result<Action, Error> {
        // Asked of the server: the cache may not know yet what was given a moment ago.
        let all = Api::<Service>::all(self.client.clone()).list(&ListParams::default()).await;
        let all = all.step("list services for", &key.name)?;
        let taken = all.items.iter().flat_map(|other| held(other, self.range)).collect();
        let Some(address) = choose(service, self.range, &taken) else {
            let note = format!("no free address for the load balancer in {}", self.range);
            self.events.event(service, EventType::Warning, "SyncLoadBalancerFailed", note);
            return Ok(Action::Retry);
        };
        let ingress = json!([{"ip": address, "ipMode": "VIP"}]);
        let done = self.write(key, ingress).await?;
        self.events.event(service, EventType::Normal, "EnsuredLoadBalancer", "Ensured load balancer");
        Ok(done)
    }

    async fn write(&self, key: &ObjectKey, ingress: Value) -> Result<Action, Error> {
        let services: Api<Service> = Api::namespaced(self.client.clone(), &key.namespace);
        let patch = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": ingress}}}));
        let written = services.patch_status(&key.name, &PatchParams::default(), &patch).await;
        written.map(|_| Action::Done).step("write the load balancer of", &key.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(value: Value) -> Service {
        serde_json::from_value(value).expect("a service")
    }

    fn balanced(extra: Value) -> Service {
        let mut spec = json!({"type": "LoadBalancer", "ipFamilies": ["IPv4"]});
        spec.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        service(json!({"spec": spec}))
    }

    fn range() -> Ipv4Net {
        "10.208.0.0/29".parse().expect("a range")
    }

    #[test]
    fn only_services_that_are_ours_get_an_address_and_only_one() {
        let status = json!({"loadBalancer": {"ingress": [{"ip": "10.208.0.1"}]}});
        assert_eq!(judge(&balanced(json!({})), range()), Verdict::Give);
        assert_eq!(judge(&balanced(json!({"loadBalancerClass": "a/b"})), range()), Verdict::Nothing);
        assert_eq!(judge(&balanced(json!({"ipFamilies": ["IPv6"]})), range()), Verdict::Nothing);
        let mut has_one = balanced(json!({}));
        has_one.status = serde_json::from_value(status.clone()).expect("a status");
        assert_eq!(judge(&has_one, range()), Verdict::Nothing);
        let changed =
            service(json!({"spec": {"type": "ClusterIP", "ipFamilies": ["IPv4"]}, "status": status}));
        assert_eq!(judge(&changed, range()), Verdict::Take);
    }

    #[test]
    fn addresses_are_given_in_order_once_and_as_asked() {
        let address = |last| Ipv4Addr::new(10, 208, 0, last);
        let taken = BTreeSet::from([address(1), address(2)]);
        assert_eq!(choose(&balanced(json!({})), range(), &taken), Some(address(3)));
        let asking = |ip: &str| balanced(json!({"loadBalancerIP": ip}));
        assert_eq!(choose(&asking("10.208.0.5"), range(), &taken), Some(address(5)));
        assert_eq!(choose(&asking("10.208.0.1"), range(), &taken), None, "taken");
        assert_eq!(choose(&asking("192.0.2.1"), range(), &taken), None, "not ours");
        let full = range().hosts().collect();
        assert_eq!(choose(&balanced(json!({})), range(), &full), None);
    }
}
