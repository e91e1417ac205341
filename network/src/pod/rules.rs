//! The nftables rules for pods themselves, whatever Services exist: egress
//! masquerade, host ports, and a pod that talks to itself through either.

use std::net::IpAddr;

use ipnet::IpNet;
use nlink::Connection;
use nlink::netlink::Nftables;
use nlink::netlink::nftables::{
    NatHook, NatStatement, Priority, Rule, Set, SetElement, SetKeyType, Transaction,
};

use super::{Attachment, HostPort, Protocol};
use crate::kernel::nft::{self, Ip, TableRef};

/// `inet_proto . inet_service : address . inet_service`
const HOST_PORTS: &str = "host-ports";
/// The same behind an address, for `hostIP`.
const HOST_IP_PORTS: &str = "host-ip-ports";
/// `pod . pod`: what a pod sends to itself by way of the node.
const HAIRPIN: &str = "hairpin";

/// The table of one address family.
pub struct Rules {
    table: TableRef,
    /// This node's pods.
    pods: Vec<IpNet>,
    /// All pods of the cluster: traffic between them keeps its source.
    cluster: Vec<IpNet>,
}

impl Rules {
    pub fn new(table: String, ip: Ip, pods: &[IpNet], cluster: &[IpNet]) -> Self {
        let of_family =
            |ranges: &[IpNet]| ranges.iter().filter(|r| Ip::of(r.addr()) == ip).copied().collect();
        Self { table: TableRef::new(table, ip), pods: of_family(pods), cluster: of_family(cluster) }
    }

    /// Puts the whole table in place at once, for these pods.
    pub async fn install(
        &self,
        nft: &Connection<Nftables>,
        attachments: &[Attachment],
    ) -> Result<(), nlink::Error> {
        let ip = self.table.ip;
        let batch = self.table.replace(nft).await?;
        let mut batch = batch
            .add_set(self.host_ports())
            .add_set(self.host_ip_ports())
            .add_set(self.hairpin())
            .add_chain(self.table.nat_chain("prerouting", NatHook::Prerouting, Priority::DstNat)?)
            .add_chain(self.table.nat_chain("output", NatHook::Output, Priority::DstNat)?)
            .add_chain(self.table.nat_chain("postrouting", NatHook::Postrouting, Priority::SrcNat)?);
        for chain in ["prerouting", "output"] {
            let by_port = [nft::load_protocol(0), nft::load_destination_port(1), nft::lookup(HOST_PORTS)];
            let by_address = [
                ip.load_destination(0),
                nft::load_protocol(ip.words()),
                nft::load_destination_port(ip.words() + 1),
                nft::lookup(HOST_IP_PORTS),
            ];
            for expressions in [by_address.to_vec(), by_port.to_vec()] {
                let rule = expressions.into_iter().fold(self.table.local_rule(chain), Rule::expr);
                batch = batch.add_rule(rule.expr(ip.dnat_to_answer()));
            }
        }
        let to_itself = [ip.load_source(0), ip.load_destination(ip.words()), nft::is_in(HAIRPIN)];
        batch = batch.add_rule(self.table.rule("postrouting", to_itself).nat(NatStatement::masquerade()));
        for pods in &self.pods {
            batch = batch.add_rule(self.egress(*pods));
        }
        for attachment in attachments {
            batch = self.add(batch, attachment);
        }
        batch.commit(nft).await
    }

    /// Adds what belongs to one pod.
    pub fn add(&self, mut batch: Transaction, attachment: &Attachment) -> Transaction {
        for (set, element) in self.elements(attachment) {
            batch = batch.add_set_elements(&set, &[element]);
        }
        batch
    }

    /// Removes what belongs to one pod; all of it must be there.
    pub fn remove(&self, mut batch: Transaction, attachment: &Attachment) -> Transaction {
        for (set, element) in self.elements(attachment) {
            batch = batch.del_set_elements(&set, &[element]);
        }
        batch
    }

    pub async fn destroy(&self, nft: &Connection<Nftables>) -> Result<(), nlink::Error> {
        self.table.destroy(nft).await
    }

    fn elements(&self, attachment: &Attachment) -> Vec<(Set, SetElement)> {
        let Some(pod) = attachment.addresses.ips.iter().find(|a| Ip::of(**a) == self.table.ip).copied()
        else {
            return Vec::new();
        };
        let mut elements = vec![(self.hairpin(), SetElement::concat([nft::address(pod), nft::address(pod)]))];
        elements.extend(attachment.options.host_ports.iter().filter_map(|port| self.host_port(pod, port)));
        elements
    }

    fn host_port(&self, pod: IpAddr, port: &HostPort) -> Option<(Set, SetElement)> {
        let protocol = SetElement::inet_proto(port.protocol.number());
        let host_port = SetElement::port(port.host_port);
        let target = SetElement::concat([nft::address(pod), SetElement::port(port.container_port)]);
        match port.host_ip.filter(|address| !address.is_unspecified()) {
            None => Some((self.host_ports(), SetElement::concat([protocol, host_port]).value(target))),
            Some(address) if Ip::of(address) == self.table.ip => {
                let key = SetElement::concat([nft::address(address), protocol, host_port]);
                Some((self.host_ip_ports(), key.value(target)))
            }
            Some(_) => None,
        }
    }

    fn egress(&self, pods: IpNet) -> Rule {
        let rule = self.table.empty_rule("postrouting").match_saddr(pods.network(), pods.prefix_len());
        let rule = self
            .cluster
            .iter()
            .fold(rule, |rule, range| rule.match_daddr_not(range.network(), range.prefix_len()));
        rule.nat(NatStatement::masquerade().fully_random())
    }

    fn host_ports(&self) -> Set {
        self.table.map(HOST_PORTS, &[SetKeyType::InetProto, SetKeyType::InetService], &self.target())
    }

    fn host_ip_ports(&self) -> Set {
        let key = [self.table.ip.address_type(), SetKeyType::InetProto, SetKeyType::InetService];
        self.table.map(HOST_IP_PORTS, &key, &self.target())
    }

    fn hairpin(&self) -> Set {
        self.table.set(HAIRPIN, &[self.table.ip.address_type(), self.table.ip.address_type()])
    }

    fn target(&self) -> [SetKeyType; 2] {
        [self.table.ip.address_type(), SetKeyType::InetService]
    }
}

impl Protocol {
    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}
