//! Cluster addresses and node ports of a Service.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use knarr_api::field::{Error, ErrorList, Path};
use knarr_api::status::Status;
use knarr_storage::Store;
use serde_json::{Value, json};

use super::addresses::{self, family};
use crate::object;
use crate::registry::{Claim, Claims, Context, Registry, Undo, has_host, invalid, store_failure};

/// Not a pool of claims: addresses are claimed as IPAddress objects.
const ADDRESSES: &str = "ipaddresses";
const NODE_PORTS: &str = "servicenodeports";

pub fn service_type(service: &Value) -> &str {
    service.pointer("/spec/type").and_then(Value::as_str).unwrap_or("ClusterIP")
}

pub fn needs_address(service: &Value) -> bool {
    matches!(service_type(service), "ClusterIP" | "NodePort" | "LoadBalancer")
}

pub fn needs_node_ports(service: &Value) -> bool {
    match service_type(service) {
        "NodePort" => true,
        "LoadBalancer" => {
            service.pointer("/spec/allocateLoadBalancerNodePorts").and_then(Value::as_bool).unwrap_or(true)
        }
        _ => false,
    }
}

pub fn needs_health_port(service: &Value) -> bool {
    service_type(service) == "LoadBalancer"
        && service.pointer("/spec/externalTrafficPolicy").and_then(Value::as_str) == Some("Local")
}

fn holder(service: &Value) -> String {
    format!("{}/{}", object::namespace(service), object::name(service))
}

/// The claimed addresses; a headless Service has none.
fn addresses(service: &Value) -> Vec<String> {
    let list = service.pointer("/spec/clusterIPs").and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).filter(|ip| !matches!(*ip, "" | "None")).map(str::to_owned).collect()
}

/// The claimed ports, the health check's among them.
fn node_ports(service: &Value) -> Vec<String> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten();
    let ports =
        ports.filter_map(|port| port.get("nodePort")).chain(service.pointer("/spec/healthCheckNodePort"));
    let mut ports: Vec<String> =
        ports.filter_map(Value::as_u64).filter(|p| *p != 0).map(|p| p.to_string()).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// What was claimed for a write that may yet fail.
struct Claimed<'a> {
    registry: &'a Registry,
    holder: String,
    new: Vec<(&'static str, String)>,
}

impl Claimed<'_> {
    fn into_undo(self) -> Undo {
        if self.new.is_empty() {
            return None;
        }
        let (claims, store) = (self.registry.claims.clone(), self.registry.store.clone());
        let (holder, new) = (self.holder, self.new);
        Some(Box::pin(async move { release(&claims, &store, &holder, new).await }))
    }
}

async fn release(claims: &Claims, store: &Arc<dyn Store>, holder: &str, what: Vec<(&'static str, String)>) {
    let (namespace, name) = holder.split_once('/').unwrap_or(("", holder));
    for (pool, number) in what {
        let released = match pool {
            ADDRESSES => addresses::release(store, &number, namespace, name).await,
            _ => claims.release(pool, &number, holder).await,
        };
        if let Err(error) = released {
            tracing::warn!(pool, number, %error, "a claim could not be given back");
        }
    }
}

/// Claims what the Service needs and does not hold through `old`, and writes it in.
pub async fn begin(cx: &Context<'_>, service: &mut Value, old: Option<&Value>) -> Result<Undo, Status> {
    let mut claimed = Claimed { registry: cx.registry, holder: holder(service), new: Vec::new() };
    let done = claim(cx, service, old, &mut claimed).await;
    let undo = claimed.into_undo();
    match done {
        Ok(()) => Ok(undo),
        Err(status) => {
            if let Some(undo) = undo {
                undo.await;
            }
            Err(status)
        }
    }
}

async fn claim(
    cx: &Context<'_>,
    service: &mut Value,
    old: Option<&Value>,
    claimed: &mut Claimed<'_>,
) -> Result<(), Status> {
    if needs_address(service) {
        claim_addresses(cx, service, old, claimed).await?;
    }
    let held = old.map(node_ports).unwrap_or_default();
    if needs_node_ports(service) {
        claim_node_ports(cx, service, &held, claimed).await?;
    }
    if needs_health_port(service) {
        let path = Path::new("spec").child("healthCheckNodePort");
        let given = service.pointer("/spec/healthCheckNodePort").and_then(Value::as_u64).unwrap_or_default();
        let port = claim_port(cx, service, given, &path, &held, claimed).await?;
        object::map_at(service, "spec")["healthCheckNodePort"] = port.into();
    }
    Ok(())
}

fn refuse(service: &Value, error: Error) -> Status {
    let refused = invalid("", "Service", object::name(service), ErrorList::from(error));
    refused.err().unwrap_or_else(|| Status::internal("a fault without a cause"))
}

async fn claim_addresses(
    cx: &Context<'_>,
    service: &mut Value,
    old: Option<&Value>,
    claimed: &mut Claimed<'_>,
) -> Result<(), Status> {
    let families = families(cx, service)?;
    let mut given: Vec<String> = service
        .pointer("/spec/clusterIPs")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    let single = service.pointer("/spec/clusterIP").and_then(Value::as_str).unwrap_or_default().to_owned();
    if given.is_empty() && !single.is_empty() {
        given.push(single);
    }
    let headless = given.first().is_some_and(|ip| ip == "None");
    if !headless {
        let held = old.map(addresses).unwrap_or_default();
        for (at, ranges) in families.iter().enumerate() {
            match given.get(at).filter(|ip| !ip.is_empty()) {
                Some(ip) if held.contains(ip) => {}
                Some(ip) => claim_address(cx, service, ranges, ip, &given, claimed).await?,
                None => {
                    let ip = claim_any_address(cx, service, ranges, claimed).await?;
                    given.truncate(at);
                    given.push(ip);
                }
            }
        }
    }
    let spec = object::map_at(service, "spec");
    spec["clusterIP"] = given.first().cloned().unwrap_or_default().into();
    spec["clusterIPs"] = given.into();
    Ok(())
}

/// The families that the Service is to have, each with its ranges, and writes the families in.
fn families(cx: &Context<'_>, service: &mut Value) -> Result<Vec<Vec<IpNet>>, Status> {
    let ranges = addresses::ranges(cx.registry);
    let mut known: Vec<&'static str> = Vec::new();
    for range in &ranges {
        if !known.contains(&family(range)) {
            known.push(family(range));
        }
    }
    let wanted: Vec<String> = service
        .pointer("/spec/ipFamilies")
        .and_then(Value::as_array)
        .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    let path = Path::new("spec").child("ipFamilies");
    let mut chosen: Vec<&'static str> = Vec::new();
    for (at, name) in wanted.iter().enumerate() {
        let found = known.iter().find(|family| *family == name).ok_or_else(|| {
            refuse(service, Error::invalid(&path.index(at), name, "not configured on this cluster"))
        })?;
        chosen.push(found);
    }
    let spec = object::map_at(service, "spec");
    let policy = spec.get("ipFamilyPolicy").and_then(Value::as_str).unwrap_or_default().to_owned();
    let dual = matches!(policy.as_str(), "PreferDualStack" | "RequireDualStack") || chosen.len() > 1;
    let count = if dual { known.len().min(2) } else { 1 };
    for family in known {
        if chosen.len() < count && !chosen.contains(&family) {
            chosen.push(family);
        }
    }
    if policy == "RequireDualStack" && chosen.len() < 2 {
        let path = Path::new("spec").child("ipFamilyPolicy");
        let detail = "this cluster is not configured for dual-stack services";
        return Err(refuse(service, Error::invalid(&path, policy, detail)));
    }
    if policy.is_empty() {
        spec["ipFamilyPolicy"] = json!(if chosen.len() > 1 { "RequireDualStack" } else { "SingleStack" });
    }
    spec["ipFamilies"] = json!(chosen);
    let of = |wanted: &str| ranges.iter().filter(|range| family(range) == wanted).copied().collect();
    Ok(chosen.into_iter().map(of).collect())
}

async fn claim_address(
    cx: &Context<'_>,
    service: &Value,
    ranges: &[IpNet],
    ip: &str,
    given: &[String],
    claimed: &mut Claimed<'_>,
) -> Result<(), Status> {
    let path = Path::new("spec").child("clusterIPs");
    let fail = |why: &str| {
        let detail = format!("failed to allocate IP {ip}: {why}");
        refuse(service, Error::invalid(&path, given.to_vec(), detail))
    };
    let address: IpAddr = ip.parse().map_err(|_| fail("the provided IP is not an IP"))?;
    if !ranges.iter().any(|range| has_host(range, address)) {
        return Err(fail("the provided network does not match the current range"));
    }
    match addresses::claim(cx, ip, service).await.map_err(store_failure)? {
        Claim::Taken => return Err(fail("provided IP is already allocated")),
        Claim::New if !cx.dry_run => claimed.new.push((ADDRESSES, ip.to_owned())),
        Claim::New | Claim::Own => {}
    }
    Ok(())
}

async fn claim_any_address(
    cx: &Context<'_>,
    service: &Value,
    ranges: &[IpNet],
    claimed: &mut Claimed<'_>,
) -> Result<String, Status> {
    for range in ranges {
        if let Some(ip) = addresses::claim_any(cx, range, service).await.map_err(store_failure)? {
            if !cx.dry_run {
                claimed.new.push((ADDRESSES, ip.to_string()));
            }
            return Ok(ip.to_string());
        }
    }
    let path = Path::new("spec").child("clusterIPs");
    let given = service.pointer("/spec/clusterIPs").cloned().unwrap_or_default();
    Err(refuse(service, Error::invalid(&path, given, "failed to allocate a serviceIP: range is full")))
}

async fn claim_node_ports(
    cx: &Context<'_>,
    service: &mut Value,
    held: &[String],
    claimed: &mut Claimed<'_>,
) -> Result<(), Status> {
    let ports = service.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut numbers: Vec<(String, u64)> = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        let text = |field: &str| port.get(field).map(Value::to_string).unwrap_or_default();
        let given = port.get("nodePort").and_then(Value::as_u64).unwrap_or_default();
        // TCP and UDP on the same port share a node port.
        let protocol = text("protocol");
        let twin = numbers.iter().find(|(seen, number)| {
            let (port, other) = seen.split_once('/').unwrap_or((seen, ""));
            port == text("port") && other != protocol && (given == 0 || given == *number)
        });
        let number = match twin {
            Some((_, number)) => *number,
            None => {
                let path = Path::new("spec").child("ports").index(at).child("nodePort");
                claim_port(cx, service, given, &path, held, claimed).await?
            }
        };
        numbers.push((format!("{}/{protocol}", text("port")), number));
        service["spec"]["ports"][at]["nodePort"] = number.into();
    }
    Ok(())
}

async fn claim_port(
    cx: &Context<'_>,
    service: &Value,
    given: u64,
    path: &Path,
    held: &[String],
    claimed: &mut Claimed<'_>,
) -> Result<u64, Status> {
    let range = &cx.registry.pools.node_ports;
    if given == 0 {
        let first = u64::from(*range.start());
        let count = u64::from(*range.end()) - first + 1;
        let random = &*cx.registry.random;
        let any =
            claimed.registry.claims.claim_any(NODE_PORTS, count, &claimed.holder, random, |n| first + n);
        let Some(port) = any.await.map_err(store_failure)? else {
            return Err(Status::internal("failed to allocate a nodePort: range is full"));
        };
        claimed.new.push((NODE_PORTS, port.to_string()));
        return Ok(port);
    }
    let text = given.to_string();
    if held.contains(&text) || claimed.new.iter().any(|(pool, number)| *pool == NODE_PORTS && *number == text)
    {
        return Ok(given);
    }
    if !u16::try_from(given).is_ok_and(|port| range.contains(&port)) {
        let detail = format!(
            "provided port is not in the valid range. The range of valid ports is {}-{}",
            range.start(),
            range.end()
        );
        return Err(refuse(service, Error::invalid(path, given, detail)));
    }
    match claimed.registry.claims.claim(NODE_PORTS, &text, &claimed.holder).await.map_err(store_failure)? {
        Claim::Taken => {
            return Err(refuse(service, Error::invalid(path, given, "provided port is already allocated")));
        }
        // What the Service had before is not given back when this write fails.
        Claim::Own => {}
        Claim::New => claimed.new.push((NODE_PORTS, text)),
    }
    Ok(given)
}

/// Carries over what the writer of an update left out: the addresses and ports the Service has.
pub fn keep_allocated(service: &mut Value, old: &Value) {
    if needs_address(service) && needs_address(old) {
        let spec = object::map_at(service, "spec");
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            let unset = spec
                .get(field)
                .is_none_or(|v| v.is_null() || v == "" || v.as_array().is_some_and(Vec::is_empty));
            if let (true, Some(value)) = (unset, old.pointer(&format!("/spec/{field}"))) {
                spec[field] = value.clone();
            }
        }
    }
    if needs_node_ports(service) && needs_node_ports(old) {
        let known = old.pointer("/spec/ports").and_then(Value::as_array).cloned().unwrap_or_default();
        let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten();
        for port in ports.filter(|port| port.get("nodePort").and_then(Value::as_u64).unwrap_or_default() == 0)
        {
            let same = |other: &&Value| ["port", "protocol"].iter().all(|f| other.get(*f) == port.get(*f));
            if let Some(number) = known.iter().find(same).and_then(|other| other.get("nodePort")) {
                port["nodePort"] = number.clone();
            }
        }
    }
    if needs_health_port(service) && needs_health_port(old) {
        let given = service.pointer("/spec/healthCheckNodePort").and_then(Value::as_u64).unwrap_or_default();
        if let (0, Some(number)) = (given, old.pointer("/spec/healthCheckNodePort")) {
            object::map_at(service, "spec")["healthCheckNodePort"] = number.clone();
        }
    }
}

/// Gives back what the Service held and holds no longer.
pub async fn release_dropped(cx: &Context<'_>, service: Option<&Value>, old: &Value) {
    let (kept_ips, kept_ports) = service.map(|s| (addresses(s), node_ports(s))).unwrap_or_default();
    let ips = addresses(old).into_iter().filter(|ip| !kept_ips.contains(ip)).map(|ip| (ADDRESSES, ip));
    let ports =
        node_ports(old).into_iter().filter(|port| !kept_ports.contains(port)).map(|port| (NODE_PORTS, port));
    let (claims, store) = (&cx.registry.claims, &cx.registry.store);
    release(claims, store, &holder(old), ips.chain(ports).collect()).await;
}
