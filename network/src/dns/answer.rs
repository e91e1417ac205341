//! The answer to one question about the cluster's own names. Pure.

use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::name::{CNAME, NS, PTR};
use hickory_proto::rr::rdata::{A, AAAA, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::zone::{Host, Port, Target, Zone, parse_address_label};
use crate::pod::Protocol;

/// Seconds that an answer may be kept.
pub const TTL: u32 = 30;
/// The same where answers follow pods coming and going, and for that there is
/// none.
pub const SHORT_TTL: u32 = 5;
/// The version of the specification, at `dns-version.<zone>`.
const DNS_VERSION: &str = "1.1.0";

/// A reply about our own names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// Whether the name exists; with no answers, it has no such records.
    pub exists: bool,
    pub answers: Vec<Record>,
    pub additionals: Vec<Record>,
    /// A name outside of the cluster that the answer points to, to be resolved
    /// for the client.
    pub follow: Option<Name>,
}

impl Reply {
    pub fn response_code(&self) -> ResponseCode {
        if self.exists { ResponseCode::NoError } else { ResponseCode::NXDomain }
    }

    fn no_data() -> Self {
        Self { exists: true, ..Self::default() }
    }
}

/// The names that this server is the authority for.
#[derive(Debug, Clone)]
pub struct Authority {
    /// `cluster.local.`
    pub domain: Name,
    /// Reverse names of addresses in these ranges belong to the cluster.
    pub ranges: Vec<ipnet::IpNet>,
    /// The server's own addresses, for `ns.dns.<domain>`.
    pub server: Vec<IpAddr>,
}

impl Authority {
    /// The answer, or `None` if the name is not ours.
    pub fn answer(&self, zone: &Zone, name: &Name, kind: RecordType) -> Option<Reply> {
        let lower = name.to_lowercase();
        if self.domain.zone_of_case(&lower) {
            let depth = usize::from(lower.num_labels() - self.domain.num_labels());
            let labels: Option<Vec<&str>> =
                lower.iter().take(depth).map(|label| std::str::from_utf8(label).ok()).collect();
            return Some(
                labels.map_or_else(Reply::default, |labels| self.forward_name(zone, name, &labels, kind)),
            );
        }
        let address = reverse_address(&lower)?;
        let names: Vec<&str> = zone.names_of(address).collect();
        let is_ours = self.ranges.iter().any(|range| range.contains(&address));
        if names.is_empty() {
            return is_ours.then(Reply::default);
        }
        Some(self.pointers(name, &names, kind))
    }

    /// The record that says how long a negative answer holds.
    pub fn soa(&self, name: &Name) -> Record {
        let zone = if self.domain.zone_of(name) { self.domain.clone() } else { name.base_name() };
        let within = |label: &str| self.domain.prepend_label(label).unwrap_or_else(|_| self.domain.clone());
        let primary = within("dns").prepend_label("ns").unwrap_or_else(|_| self.domain.clone());
        let soa = SOA::new(primary, within("hostmaster"), 1, 7200, 1800, 86_400, SHORT_TTL);
        Record::from_rdata(zone, SHORT_TTL, RData::SOA(soa))
    }

    fn forward_name(&self, zone: &Zone, name: &Name, labels: &[&str], kind: RecordType) -> Reply {
        match labels {
            [] => self.apex(name, kind),
            ["dns-version"] => {
                let text = TXT::new(vec![DNS_VERSION.to_owned()]);
                only(name, kind, RecordType::TXT, [RData::TXT(text)])
            }
            ["dns"] => Reply::no_data(),
            ["ns", "dns"] => addresses(name, kind, self.server.iter().copied()),
            ["svc"] | ["pod"] => Reply::no_data(),
            [namespace, "svc" | "pod"] if zone.has_namespace(namespace) => Reply::no_data(),
            [label, namespace, "pod"] if zone.has_namespace(namespace) => match parse_address_label(label) {
                Some(address) => addresses(name, kind, [address]),
                None => Reply::default(),
            },
            [rest @ .., service, namespace, "svc"] if zone.has_namespace(namespace) => {
                match zone.service(namespace, service) {
                    Some(target @ Target::Headless { .. }) => {
                        short_lived(self.service(name, rest, target, kind))
                    }
                    Some(target) => self.service(name, rest, target, kind),
                    None => Reply::default(),
                }
            }
            _ => Reply::default(),
        }
    }

    fn apex(&self, name: &Name, kind: RecordType) -> Reply {
        let primary = self.domain.prepend_label("dns").and_then(|dns| dns.prepend_label("ns"));
        match (kind, primary) {
            (RecordType::SOA, _) => Reply { answers: vec![self.soa(name)], ..Reply::no_data() },
            (RecordType::NS, Ok(primary)) => only(name, kind, RecordType::NS, [RData::NS(NS(primary))]),
            _ => Reply::no_data(),
        }
    }

    /// `rest` are the labels before the Service's: none, `host`, or
    /// `_port._protocol`.
    fn service(&self, name: &Name, rest: &[&str], target: &Target, kind: RecordType) -> Reply {
        match (target, rest) {
            (Target::ExternalName(external), []) => external_name(name, external),
            (Target::ClusterIps { addresses: all, .. }, []) if kind != RecordType::SRV => {
                addresses(name, kind, all.iter().copied())
            }
            (Target::ClusterIps { addresses: all, ports }, []) => {
                services(name, kind, ports.iter().map(|port| (port, name.clone(), all.clone())))
            }
            (Target::ClusterIps { addresses: all, ports }, [port, protocol]) => {
                let base = name.trim_to(usize::from(name.num_labels()) - 2);
                let matching = ports.iter().filter(|p| is_named(p, port, protocol));
                services(name, kind, matching.map(|port| (port, base.clone(), all.clone())))
            }
            (Target::Headless { hosts, .. }, []) if kind != RecordType::SRV => {
                headless(addresses(name, kind, hosts.iter().map(|host| host.address)), !hosts.is_empty())
            }
            (Target::Headless { ports, hosts }, []) => {
                let all = ports.iter().flat_map(|(port, hosts)| with_hosts(name, port, hosts));
                headless(services(name, kind, all), !hosts.is_empty())
            }
            (Target::Headless { ports, .. }, [port, protocol]) => {
                let base = name.trim_to(usize::from(name.num_labels()) - 2);
                let matching = ports.iter().filter(|(p, _)| is_named(p, port, protocol));
                services(name, kind, matching.flat_map(|(port, hosts)| with_hosts(&base, port, hosts)))
            }
            (Target::Headless { hosts, ports }, [label]) => {
                let of_host = |host: &&Host| &*host.label == *label;
                if kind == RecordType::SRV && hosts.iter().any(|host| of_host(&host)) {
                    let base = name.base_name();
                    let all = ports.iter().flat_map(|(port, hosts)| {
                        let hosts: Vec<Host> = hosts.iter().filter(of_host).cloned().collect();
                        with_hosts(&base, port, &hosts)
                    });
                    return services(name, kind, all);
                }
                addresses(name, kind, hosts.iter().filter(of_host).map(|host| host.address))
            }
            _ => Reply::default(),
        }
    }

    fn pointers(&self, name: &Name, names: &[&str], kind: RecordType) -> Reply {
        let full = names.iter().filter_map(|relative| {
            let labels = relative.split('.').map(str::as_bytes);
            Name::from_labels(labels).ok()?.append_domain(&self.domain).ok()
        });
        only(name, kind, RecordType::PTR, full.map(|full| RData::PTR(PTR(full))))
    }
}

fn short_lived(mut reply: Reply) -> Reply {
    for record in reply.answers.iter_mut().chain(&mut reply.additionals) {
        record.ttl = SHORT_TTL;
    }
    reply
}

/// A headless Service without ready endpoints has no name.
fn headless(reply: Reply, has_hosts: bool) -> Reply {
    if has_hosts { reply } else { Reply::default() }
}

fn is_named(port: &Port, label: &str, protocol: &str) -> bool {
    let name = label.strip_prefix('_');
    let protocol_label = match port.protocol {
        Protocol::Tcp => "_tcp",
        Protocol::Udp => "_udp",
        Protocol::Sctp => "_sctp",
    };
    protocol == protocol_label
        && name.is_some_and(|name| !name.is_empty() && name.eq_ignore_ascii_case(&port.name))
}

/// Each host of a port as its own target.
fn with_hosts<'a>(base: &Name, port: &'a Port, hosts: &[Host]) -> Vec<(&'a Port, Name, Vec<IpAddr>)> {
    let target =
        |host: &Host| Some((port, base.prepend_label(host.label.as_bytes()).ok()?, vec![host.address]));
    hosts.iter().filter_map(target).collect()
}

/// Records of one type; a name with other types only has no data.
fn only(name: &Name, kind: RecordType, is: RecordType, data: impl IntoIterator<Item = RData>) -> Reply {
    let wanted = kind == is || kind == RecordType::ANY;
    let answers = data.into_iter().filter(|_| wanted).map(|data| Record::from_rdata(name.clone(), TTL, data));
    Reply { answers: answers.collect(), ..Reply::no_data() }
}

fn addresses(name: &Name, kind: RecordType, all: impl IntoIterator<Item = IpAddr>) -> Reply {
    let mut reply = Reply::default();
    for address in all {
        reply.exists = true;
        let wanted = matches!(
            (address, kind),
            (IpAddr::V4(_), RecordType::A) | (IpAddr::V6(_), RecordType::AAAA) | (_, RecordType::ANY)
        );
        if wanted {
            reply.answers.push(address_record(name, address));
        }
    }
    reply
}

fn address_record(name: &Name, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    };
    Record::from_rdata(name.clone(), TTL, data)
}

fn external_name(name: &Name, external: &str) -> Reply {
    // A name that DNS cannot carry has no records, but the Service exists.
    let Ok(mut target) = Name::from_ascii(external) else { return Reply::no_data() };
    target.set_fqdn(true);
    let record = Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(target.clone())));
    Reply { answers: vec![record], follow: Some(target), ..Reply::no_data() }
}

/// SRV records with equal share of the weight, and their targets' addresses.
fn services<'a>(
    name: &Name,
    kind: RecordType,
    targets: impl IntoIterator<Item = (&'a Port, Name, Vec<IpAddr>)>,
) -> Reply {
    let targets: Vec<_> = targets.into_iter().collect();
    let mut reply = Reply { exists: !targets.is_empty(), ..Reply::default() };
    if !matches!(kind, RecordType::SRV | RecordType::ANY) {
        return reply;
    }
    let weight = u16::try_from(100 / targets.len().max(1)).unwrap_or(1).max(1);
    for (port, target, addresses) in targets {
        let data = RData::SRV(SRV::new(0, weight, port.port, target.clone()));
        reply.answers.push(Record::from_rdata(name.clone(), TTL, data));
        let glue: Vec<Record> = addresses.iter().map(|address| address_record(&target, *address)).collect();
        reply.additionals.extend(
            glue.into_iter().filter(|record| !reply.additionals.contains(record)).collect::<Vec<_>>(),
        );
    }
    reply
}

/// The address of a complete reverse name.
fn reverse_address(name: &Name) -> Option<IpAddr> {
    let network = name.parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

#[cfg(test)]
mod tests;
