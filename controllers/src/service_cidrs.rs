//! ServiceCIDRs: ready when made, and kept while addresses of Services are of them alone.

use std::{net::IpAddr, time::Duration};

use futures::future::BoxFuture;
use ipnet::IpNet;
use k8s_openapi::{
    api::networking::v1::{IPAddress, ServiceCIDR},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use knarr_api::time::SharedClock;
use knarr_client::{
    Action, Api, Cached, Client, ObjectKey, Reconcile, SharedInformer,
    error::is_not_found,
    events::{EventRecorder, EventType},
};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::{
    Context,
    error::{Error, Step},
};

const COMPONENT: &str = "service-cidr-controller";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
const READY: &str = "Ready";
const WORKERS: usize = 5;

/// Allocators hear of a deletion a little later; until then they may still give an address.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) fn build(context: Context) -> BoxFuture<'static, ()> {
    let mut wiring = context.wire("ipaddresses");
    let (ranges, addresses) = (wiring.cache::<ServiceCIDR>(), wiring.cache::<IPAddress>());
    let all = ranges.clone();
    wiring.on(&ranges, move |change| {
        // One that comes or goes may free another to go.
        let (range, subnets) = (change.object(), subnets(change.object()));
        let overlaps = |other: &ServiceCIDR| {
            self::subnets(other).iter().any(|other| subnets.iter().any(|net| overlap(net, other)))
        };
        let others = all.filter(|other| overlaps(other)).into_iter().map(|other| ObjectKey::of(&*other));
        others.chain([ObjectKey::of(&**range)]).collect::<Vec<_>>()
    });
    let all = ranges.clone();
    wiring.on(&addresses, move |change| {
        let Some(address) = allocated(change.object()) else { return Vec::new() };
        let containing = all.filter(|range| contains(range, address));
        containing.into_iter().map(|range| ObjectKey::of(&*range)).collect()
    });
    let sync = Sync {
        ranges,
        addresses,
        recorder: context.recorder(COMPONENT),
        client: context.client,
        clock: context.clock,
    };
    wiring.run(WORKERS, sync)
}

fn subnets(range: &ServiceCIDR) -> Vec<IpNet> {
    let cidrs = range.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
    cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect()
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn contains(range: &ServiceCIDR, address: IpAddr) -> bool {
    subnets(range).iter().any(|net| net.contains(&address))
}

/// The address an object stands for, if it was allocated to a Service.
fn allocated(address: &IPAddress) -> Option<IpAddr> {
    let labels = address.metadata.labels.as_ref()?;
    labels.get(MANAGED_BY).filter(|manager| *manager == ALLOCATOR)?;
    address.name().parse().ok()
}

/// Whether a range can go: another covers all of it, or no allocated address would be left without one.
fn may_go<'a>(
    range: &ServiceCIDR,
    all: impl Iterator<Item = &'a ServiceCIDR> + Clone,
    allocated: impl IntoIterator<Item = IpAddr>,
) -> bool {
    let others = all.filter(|other| other.name() != range.name());
    let covered =
        |net: &IpNet| others.clone().any(|other| subnets(other).iter().any(|outer| outer.contains(net)));
    if subnets(range).iter().all(covered) {
        return true;
    }
    let orphaned =
        |address: IpAddr| contains(range, address) && !others.clone().any(|other| contains(other, address));
    !allocated.into_iter().any(orphaned)
}

struct Sync {
    ranges: SharedInformer<ServiceCIDR>,
    addresses: SharedInformer<IPAddress>,
    recorder: EventRecorder,
    client: Client,
    clock: SharedClock,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(range) = self.ranges.get_key(key) else { return Ok(Action::Done) };
        let held = range.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
        let Some(deleted) = &range.metadata.deletion_timestamp else {
            if !held {
                self.patch(&range, json!({ "metadata": { "finalizers": [FINALIZER] } })).await?;
            }
            let told = self.tell(&range, true, "", "Kubernetes Service CIDR is ready").await;
            if told.is_err() {
                let text = "The ServiceCIDR Status can not be set to Ready=True";
                self.recorder.event(&*range, EventType::Warning, "KubernetesServiceCIDRError", text);
            }
            return told.map(|()| Action::Done);
        };
        let (all, addresses) = (self.ranges.list(), self.addresses.list());
        let given = addresses.iter().filter_map(|address| allocated(address));
        if !may_go(&range, all.iter().map(|range| &**range), given) {
            let text = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new \
                        ServiceCIDR";
            return self.tell(&range, false, "Terminating", text).await.map(|()| Action::Done);
        }
        let passed = Duration::try_from(self.clock.now().duration_since(deleted.0)).unwrap_or_default();
        let left = GRACE.saturating_sub(passed);
        if !left.is_zero() {
            return Ok(Action::After(left));
        }
        if held {
            let removal = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": [FINALIZER] } });
            self.patch(&range, removal).await?;
        }
        Ok(Action::Done)
    }
}

impl Sync {
    fn api(&self) -> Api<ServiceCIDR> {
        Api::all(self.client.clone())
    }

    async fn patch(&self, range: &ServiceCIDR, patch: Value) -> Result<(), Error> {
        match self.api().patch(range.name(), &PatchParams::default(), &Patch::Strategic(patch)).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("patch service cidr", range.name()),
        }
    }

    async fn tell(&self, range: &ServiceCIDR, ready: bool, reason: &str, text: &str) -> Result<(), Error> {
        let status = if ready { "True" } else { "False" };
        let known = range.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let same = |known: &Condition| {
            known.type_ == READY && known.status == status && known.reason == reason && known.message == text
        };
        if known.into_iter().any(same) {
            return Ok(());
        }
        let condition = json!({
            "type": READY, "status": status, "reason": reason, "message": text,
            "lastTransitionTime": Time(self.clock.now()),
        });
        let applied = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": { "name": range.name() },
            "status": { "conditions": [condition] },
        });
        let parameters = PatchParams::apply(COMPONENT).force();
        match self.api().patch_status(range.name(), &parameters, &Patch::Apply(applied)).await {
            Err(error) if is_not_found(&error) => Ok(()),
            other => other.map(drop).step("update status of service cidr", range.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::networking::v1::ServiceCIDRSpec;

    fn range(name: &str, cidrs: &[&str]) -> ServiceCIDR {
        let mut range = ServiceCIDR::default();
        range.metadata.name = Some(name.to_owned());
        let cidrs = cidrs.iter().map(|&cidr| cidr.to_owned()).collect();
        range.spec = Some(ServiceCIDRSpec { cidrs: Some(cidrs) });
        range
    }

    #[test]
    fn a_range_goes_when_no_address_is_left_behind() {
        let all = [range("a", &["10.0.0.0/16"]), range("b", &["10.0.1.0/24"]), range("c", &["10.9.0.0/24"])];
        let may_go = |index: usize, addresses: &[&str]| {
            may_go(&all[index], all.iter(), addresses.iter().map(|address| address.parse().unwrap()))
        };
        assert!(may_go(1, &["10.0.1.7"]), "the larger one covers it");
        assert!(!may_go(0, &["10.0.2.7"]));
        assert!(may_go(0, &["10.0.1.7"]), "the smaller one has that address");
        assert!(!may_go(2, &["10.9.0.1"]));
        assert!(may_go(2, &["192.0.2.1"]));
    }
}
