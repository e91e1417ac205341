//! Cluster addresses: which ranges there are, and IPAddress objects as the claims on them.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;
use knarr_storage::{Durability, Error, Expect, Outcome, Store};
use serde_json::{Value, json};

use crate::object;
use crate::objects::{Objects, Resource};
use crate::registry::{Claim, Context, Registry, host_count, nth_host};
use crate::stored;

const PREFIX: &str = "/registry/ipaddresses/";
pub const FAMILY_LABEL: &str = "ipaddress.kubernetes.io/ip-family";
pub const MANAGER_LABEL: &str = "ipaddress.kubernetes.io/managed-by";
pub const MANAGER: &str = "ipallocator.k8s.io";
/// How many addresses of a range are tried before it counts as full.
const ATTEMPTS: u64 = 4096;

pub fn key(ip: &str) -> String {
    format!("{PREFIX}{ip}")
}

pub fn family(range: &IpNet) -> &'static str {
    if range.addr().is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The ranges that Services get addresses from: those the server was started with, and ServiceCIDRs that are ready.
pub fn ranges(registry: &Registry) -> Vec<IpNet> {
    let mut ranges = registry.pools.service_ranges.clone();
    let objects: &dyn Objects = registry;
    for stored in objects.list(Resource::new("networking.k8s.io", "servicecidrs"), None) {
        let Ok(object) = serde_json::from_slice::<Value>(&stored.json) else { continue };
        if object::is_deleting(&object) || !is_ready(&object) {
            continue;
        }
        let cidrs = object["spec"]["cidrs"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for range in cidrs.filter_map(|text| text.parse::<IpNet>().ok()) {
            if !ranges.contains(&range) {
                ranges.push(range);
            }
        }
    }
    ranges
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// The claim of a Service on an address.
pub fn claim_object(registry: &Registry, ip: &str, namespace: &str, name: &str) -> Value {
    let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
    json!({
        "kind": "IPAddress",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "name": ip,
            "uid": object::new_uid(&*registry.random),
            "creationTimestamp": object::now(&*registry.clock),
            "labels": {FAMILY_LABEL: family, MANAGER_LABEL: MANAGER},
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    })
}

/// Whether the stored IPAddress is the Service's.
fn is_of(value: &Bytes, namespace: &str, name: &str) -> bool {
    let Ok(object) = serde_json::from_slice::<Value>(value) else { return false };
    let parent = &object["spec"]["parentRef"];
    parent["resource"] == "services" && parent["namespace"] == namespace && parent["name"] == name
}

/// Claims an address. A dry run only looks.
pub async fn claim(cx: &Context<'_>, ip: &str, service: &Value) -> Result<Claim, Error> {
    let (namespace, name) = (object::namespace(service), object::name(service));
    let found = match cx.dry_run {
        true => cx.registry.store.get(&key(ip)).await?.0,
        false => {
            let (key, object) = (key(ip), claim_object(cx.registry, ip, namespace, name));
            let put =
                cx.registry.store.put(&key, stored::encode(&object), Expect::Absent, Durability::Durable);
            match put.await? {
                Outcome::Committed(_) => None,
                Outcome::Conflict(found) => found,
            }
        }
    };
    Ok(match found {
        None => Claim::New,
        Some(kv) if is_of(&kv.value, namespace, name) => Claim::Own,
        Some(_) => Claim::Taken,
    })
}

/// Claims any free address of the range. The lower part is left to those who choose for themselves, as long as
/// there is more.
pub async fn claim_any(cx: &Context<'_>, range: &IpNet, service: &Value) -> Result<Option<IpAddr>, Error> {
    let count = host_count(range);
    if count == 0 {
        return Ok(None);
    }
    let reserved = (count / 16).clamp(16.min(count / 2), 256.min(count / 2));
    let start = cx.registry.random.below(count - reserved);
    for step in 0..count.min(ATTEMPTS) {
        let ip = nth_host(range, (reserved + start + step) % count);
        // An address that the Service holds already is none that it needs.
        if claim(cx, &ip.to_string(), service).await? == Claim::New {
            return Ok(Some(ip));
        }
    }
    Ok(None)
}

/// Gives an address back, if the Service has it.
pub async fn release(store: &Arc<dyn Store>, ip: &str, namespace: &str, name: &str) -> Result<(), Error> {
    let key = key(ip);
    let (found, _) = store.get(&key).await?;
    if let Some(kv) = found.filter(|kv| is_of(&kv.value, namespace, name)) {
        // A conflict means that it was given back, or to another, in between: either is fine.
        store.delete(&key, Expect::At(kv.mod_revision), Durability::Durable).await?;
    }
    Ok(())
}
