//! A plan as an nftables table.

use std::collections::BTreeMap;
use std::net::IpAddr;

use nlink::Connection;
use nlink::netlink::Nftables;
use nlink::netlink::nftables::{
    ChainName, CtState, Expr, FilterHook, Priority, Rule, Set, SetElement, SetKeyType, Transaction, Verdict,
};

use super::plan::{Allowed, Direction, Group, Peers, Plan, Ports};
use crate::config::Config;
use crate::kernel::Namespace;
use crate::kernel::nft::{self, Ip, TableRef};

/// `pod . pod`: a pod reaches itself whatever policies say.
const SELF: &str = "self";
const FORWARD: &str = "forward";
/// Before the service table refuses anything, after translation.
const PRIORITY: Priority = Priority::Custom(-10);

/// The kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("policy table {table}: {step}: {source}")]
pub struct Error {
    pub table: String,
    pub step: &'static str,
    pub source: nlink::Error,
}

/// The policy tables of one cluster in one node's kernel.
pub struct Tables {
    nft: Connection<Nftables>,
    tables: Vec<TableRef>,
}

impl Tables {
    pub fn open(config: &Config) -> Result<Self, Error> {
        let name = format!("{}-policy", config.table());
        let failed = |step| {
            let table = name.clone();
            move |source| Error { table, step, source }
        };
        let namespace =
            Namespace::open(config.netns.as_deref()).map_err(failed("open the network namespace"))?;
        let nft = namespace.nftables().map_err(failed("open nftables"))?;
        let has = |ip: &Ip| config.cluster_cidrs.iter().any(|range| Ip::of(range.addr()) == *ip);
        let tables = Ip::BOTH.into_iter().filter(has).map(|ip| TableRef::new(name.clone(), ip)).collect();
        Ok(Self { nft, tables })
    }

    /// Replaces what is there by `plan`, at once. Established connections go on.
    pub async fn apply(&self, plan: &Plan) -> Result<(), Error> {
        for table in &self.tables {
            let failed = |source| Error { table: table.name.clone(), step: "replace", source };
            self.replace(table, plan).await.map_err(failed)?;
        }
        Ok(())
    }

    pub async fn destroy(&self) -> Result<(), Error> {
        for table in &self.tables {
            let failed = |source| Error { table: table.name.clone(), step: "remove", source };
            table.destroy(&self.nft).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn replace(&self, table: &TableRef, plan: &Plan) -> Result<(), nlink::Error> {
        let groups: Vec<_> = plan.iter().filter(|((ip, ..), _)| *ip == table.ip).collect();
        if groups.is_empty() {
            return table.destroy(&self.nft).await;
        }
        let own = table.set(SELF, &[table.ip.address_type(), table.ip.address_type()]);
        let mut batch = table
            .replace(&self.nft)
            .await?
            .add_set(own.clone())
            .add_set(map_of(table, Direction::Ingress))
            .add_set(map_of(table, Direction::Egress))
            .add_chain(table.filter_chain(FORWARD, FilterHook::Forward, PRIORITY)?);
        let mut decisions: BTreeMap<Direction, Vec<SetElement>> = BTreeMap::new();
        let mut selves = Vec::new();
        for (number, ((_, direction, names), group)) in groups.into_iter().enumerate() {
            let chain = format!("{}-{number}", map_name(*direction));
            batch = add_group(batch, table, &chain, *direction, names, group)?;
            for pod in &group.pods {
                let jump = Verdict::JumpTo(ChainName::new(chain.as_str())?);
                decisions.entry(*direction).or_default().push(nft::address(*pod).verdict(jump));
                selves.push(SetElement::concat([nft::address(*pod), nft::address(*pod)]));
            }
        }
        batch = nft::add_elements(batch, &own, &selves);
        for (direction, elements) in decisions {
            batch = nft::add_elements(batch, &map_of(table, direction), &elements);
        }
        for rule in dispatch(table) {
            batch = batch.add_rule(rule);
        }
        batch.commit(&self.nft).await
    }
}

fn map_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    }
}

fn map_of(table: &TableRef, direction: Direction) -> Set {
    table.set(map_name(direction), &[table.ip.address_type()]).vmap()
}

fn dispatch(table: &TableRef) -> [Rule; 4] {
    let ip = table.ip;
    let answered = CtState(CtState::ESTABLISHED.bits() | CtState::RELATED.bits());
    [
        table.empty_rule(FORWARD).match_ct_state(answered).accept(),
        table.rule(FORWARD, [ip.load_source(0), ip.load_destination(ip.words()), nft::is_in(SELF)]).accept(),
        table.rule(FORWARD, [ip.load_source(0), nft::lookup_verdict(map_name(Direction::Egress))]),
        table.rule(FORWARD, [ip.load_destination(0), nft::lookup_verdict(map_name(Direction::Ingress))]),
    ]
}

fn add_group(
    mut batch: Transaction,
    table: &TableRef,
    chain: &str,
    direction: Direction,
    names: &[String],
    group: &Group,
) -> Result<Transaction, nlink::Error> {
    batch = batch.add_chain(table.chain(chain)?.comment(comment(names)));
    for (number, allowed) in group.allowed.iter().enumerate() {
        let prefix = format!("{chain}-{number}");
        let (next, matches) = add_peers(batch, table, &prefix, direction, &allowed.peers)?;
        let (next, targets) = add_ports(next, table, &prefix, allowed)?;
        batch = next;
        for peer in &matches {
            for target in &targets {
                let rule = target.apply(peer.apply(table.empty_rule(chain), table.ip), table.ip);
                batch = batch.add_rule(rule.expr(Expr::Verdict(Verdict::Return)));
            }
        }
    }
    Ok(batch.add_rule(table.empty_rule(chain).drop()))
}

/// The policies of a group, as far as a comment may go.
fn comment(names: &[String]) -> String {
    const LONGEST: usize = 127;
    let mut text = names.join(", ");
    while text.len() > LONGEST {
        text.pop();
    }
    text
}

/// How a rule recognizes the other end.
enum PeerMatch {
    Anyone,
    InSet { set: String, direction: Direction },
}

impl PeerMatch {
    fn apply(&self, rule: Rule, ip: Ip) -> Rule {
        match self {
            PeerMatch::Anyone => rule,
            PeerMatch::InSet { set, direction: Direction::Ingress } => {
                rule.expr(ip.load_source(0)).expr(nft::is_in(set))
            }
            PeerMatch::InSet { set, direction: Direction::Egress } => {
                rule.expr(ip.load_destination(0)).expr(nft::is_in(set))
            }
        }
    }
}

/// How a rule recognizes the port.
enum PortMatch {
    Any,
    Ports(Ports),
    /// `destination . protocol . port` in a set.
    Named(String),
}

impl PortMatch {
    fn apply(&self, rule: Rule, ip: Ip) -> Rule {
        match self {
            PortMatch::Any => rule,
            PortMatch::Ports(Ports::All(protocol)) => rule.match_l4proto(protocol.number()),
            PortMatch::Ports(Ports::Range(protocol, first, last)) => {
                let from = first.to_be_bytes().to_vec();
                let to = last.to_be_bytes().to_vec();
                rule.match_l4proto(protocol.number()).expr(nft::load_destination_port(0)).expr(Expr::Range {
                    sreg: nft::register(0),
                    op: nlink::netlink::nftables::RangeOp::Eq,
                    from,
                    to,
                })
            }
            PortMatch::Named(set) => [
                ip.load_destination(0),
                nft::load_protocol(ip.words()),
                nft::load_destination_port(ip.words() + 1),
                nft::is_in(set),
            ]
            .into_iter()
            .fold(rule, Rule::expr),
        }
    }
}

fn add_peers(
    mut batch: Transaction,
    table: &TableRef,
    prefix: &str,
    direction: Direction,
    peers: &Peers,
) -> Result<(Transaction, Vec<PeerMatch>), nlink::Error> {
    let Peers::Some { pods, blocks } = peers else { return Ok((batch, vec![PeerMatch::Anyone])) };
    let mut matches = Vec::new();
    if !pods.is_empty() {
        let set = table.set(&format!("{prefix}-pods"), &[table.ip.address_type()]);
        let elements: Vec<SetElement> = pods.iter().map(|pod| nft::address(*pod)).collect();
        batch = nft::add_elements(batch.add_set(set.clone()), &set, &elements);
        matches.push(PeerMatch::InSet { set: set.name().to_owned(), direction });
    }
    if !blocks.is_empty() {
        let set = table.set(&format!("{prefix}-blocks"), &[table.ip.address_type()]).interval();
        let elements: Vec<SetElement> =
            blocks.iter(table.ip).map(|(first, last)| range(first, last)).collect();
        batch = nft::add_elements(batch.add_set(set.clone()), &set, &elements);
        matches.push(PeerMatch::InSet { set: set.name().to_owned(), direction });
    }
    Ok((batch, matches))
}

fn range(first: IpAddr, last: IpAddr) -> SetElement {
    SetElement::range(nft::address(first).key().to_vec(), nft::address(last).key().to_vec())
}

fn add_ports(
    mut batch: Transaction,
    table: &TableRef,
    prefix: &str,
    allowed: &Allowed,
) -> Result<(Transaction, Vec<PortMatch>), nlink::Error> {
    let Some(ports) = &allowed.ports else { return Ok((batch, vec![PortMatch::Any])) };
    let mut matches: Vec<PortMatch> = ports.iter().cloned().map(PortMatch::Ports).collect();
    if !allowed.named.is_empty() {
        let key = [table.ip.address_type(), SetKeyType::InetProto, SetKeyType::InetService];
        let set = table.set(&format!("{prefix}-ports"), &key);
        let element = |(address, protocol, port): &(IpAddr, crate::pod::Protocol, u16)| {
            let protocol = SetElement::inet_proto(protocol.number());
            SetElement::concat([nft::address(*address), protocol, SetElement::port(*port)])
        };
        let elements: Vec<SetElement> = allowed.named.iter().map(element).collect();
        batch = nft::add_elements(batch.add_set(set.clone()), &set, &elements);
        matches.push(PortMatch::Named(set.name().to_owned()));
    }
    Ok((batch, matches))
}
