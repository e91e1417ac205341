//! The fixed part of a service table: maps, base chains, and one chain per way
//! of handling a connection.
//!
//! ```text
//! prerouting, output (filter) -> restrict: clients that a load balancer does not let in
//! prerouting, output (nat)   -> translate: services, then node ports
//! input, forward, output     -> refuse what has no endpoint, and unused service addresses
//! postrouting (nat)          -> masquerade what was marked
//! ```

use std::net::IpAddr;

use ipnet::IpNet;
use nlink::Connection;
use nlink::netlink::Nftables;
use nlink::netlink::nftables::{
    ChainName, CtState, DynsetExpr, DynsetOp, Expr, FibFlags, FilterHook, NatHook, NatStatement, NumgenKind,
    Priority, Register, Rule, Set, SetKeyType, Transaction, Verdict,
};
use nlink::netlink::types::route::RouteType;
use std::time::Duration;

use super::elements::{Chain, Map, REJECT};
use super::plan::Masquerade;
use crate::config::Config;
use crate::kernel::nft::{self, ANSWER, Ip, TableRef, register};
use crate::kernel::source;

/// Changes when the rules below do: a table made by another version of them is
/// replaced, in one batch.
const VERSION: u32 = 2;
const AFFINITY: &str = "affinity";
const RESTRICT: &str = "restrict";
/// Before translation, so that rules see where clients meant to go.
const BEFORE_TRANSLATION: Priority = Priority::Custom(-110);
const TRANSLATE: &str = "translate";
const REFUSE: &str = "refuse";
const MASQUERADE: &str = "masquerade";

/// One family's table.
pub struct Layout {
    table: TableRef,
    cluster: Vec<IpNet>,
    node_pods: Vec<IpNet>,
    services: Vec<IpNet>,
    source: Option<IpAddr>,
    mark: u32,
}

impl Layout {
    pub fn new(config: &Config, ip: Ip) -> Self {
        let of_family =
            |ranges: &[IpNet]| ranges.iter().filter(|r| Ip::of(r.addr()) == ip).copied().collect();
        Self {
            table: TableRef::new(config.table(), ip),
            cluster: of_family(&config.cluster_cidrs),
            node_pods: of_family(&config.pod_cidrs),
            services: of_family(&config.service_cidrs),
            source: source::address(config, ip),
            mark: config.masquerade_mark,
        }
    }

    pub fn table(&self) -> &TableRef {
        &self.table
    }

    /// A fingerprint of all that [`Layout::install`] depends on, kept as the
    /// table's comment.
    fn fingerprint(&self) -> String {
        let ranges = |ranges: &[IpNet]| ranges.iter().map(IpNet::to_string).collect::<Vec<_>>().join(",");
        let text = format!(
            "{} {} {} {:?} {:#x}",
            ranges(&self.cluster),
            ranges(&self.node_pods),
            ranges(&self.services),
            self.source,
            self.mark
        );
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("knarr services, layout {VERSION}, {hash:016x}")
    }

    /// Whether the table is there and was made for this configuration.
    pub async fn is_installed(&self, nft: &Connection<Nftables>) -> Result<bool, nlink::Error> {
        let tables = nft.list_tables_in(self.table.ip.family()).await?;
        let wanted = self.fingerprint();
        Ok(tables
            .iter()
            .any(|table| table.name == self.table.name && table.comment.as_ref() == Some(&wanted)))
    }

    /// Replaces the table by an empty one with all fixed rules, at once.
    pub async fn install(&self, nft: &Connection<Nftables>) -> Result<(), nlink::Error> {
        let mut batch = nft.transaction();
        let family = self.table.ip.family();
        if self.table.exists(nft).await? {
            batch = batch.del_table(&self.table.name, family);
        }
        batch = batch.add_table_with_comment(&self.table.name, family, 0, Some(&self.fingerprint()));
        for map in Map::ALL {
            batch = batch.add_set(self.map(map));
        }
        batch = batch.add_set(self.affinity());
        for name in [REJECT, RESTRICT, TRANSLATE, REFUSE, MASQUERADE] {
            batch = batch.add_chain(self.table.chain(name)?);
        }
        // The kernel ignores an ICMP error that meets the connecting socket while
        // its owner is still in connect(2); a reset it does not.
        batch = batch
            .add_rule(self.table.empty_rule(REJECT).reject_tcp_reset())
            .add_rule(self.table.empty_rule(REJECT).reject());
        batch = self.add_restriction(batch)?;
        batch = self.add_translation(batch)?;
        batch = self.add_refusal(batch)?;
        batch = self.add_masquerade(batch)?;
        batch.commit(nft).await
    }

    fn add_restriction(&self, mut batch: Transaction) -> Result<Transaction, nlink::Error> {
        let hooks =
            [("restrict-prerouting", FilterHook::Prerouting), ("restrict-output", FilterHook::Output)];
        for (name, hook) in hooks {
            let new = self.table.empty_rule(name).match_ct_state(CtState::NEW);
            batch = batch
                .add_chain(self.table.filter_chain(name, hook, BEFORE_TRANSLATION)?)
                .add_rule(new.jump(ChainName::new(RESTRICT)?));
        }
        let mut client = self.load_front(Map::Clients);
        client.push(self.table.ip.load_source(self.table.ip.words() + 2));
        let admitted = self.table.rule(RESTRICT, client).expr(nft::is_in(Map::Clients.name()));
        Ok(batch
            .add_rule(admitted.expr(Expr::Verdict(Verdict::Return)))
            .add_rule(self.decide(self.table.empty_rule(RESTRICT), Map::Restricted)))
    }

    fn add_translation(&self, mut batch: Transaction) -> Result<Transaction, nlink::Error> {
        for (name, hook) in [("prerouting", NatHook::Prerouting), ("output", NatHook::Output)] {
            batch = batch
                .add_chain(self.table.nat_chain(name, hook, Priority::DstNat)?)
                .add_rule(self.table.empty_rule(name).jump(ChainName::new(TRANSLATE)?));
        }
        for rule in self.cluster_rules(|rule| rule) {
            batch = batch.add_rule(self.decide(rule, Map::Shortcuts));
        }
        // Twice: before Linux 6.17 a lookup could miss an element that an update was
        // just replacing. A hit does not come to the second.
        for _ in 0..2 {
            batch = batch.add_rule(self.decide(self.table.empty_rule(TRANSLATE), Map::Services));
        }
        let local = self.table.local_rule(TRANSLATE);
        for rule in self.cluster_rules(|_| local.clone()) {
            batch = batch.add_rule(self.decide(rule, Map::NodePortShortcuts));
        }
        Ok(batch.add_rule(self.decide(local, Map::NodePorts)))
    }

    /// A rule for each kind of source in the cluster: its pods, and this node.
    fn cluster_rules(&self, start: impl Fn(Rule) -> Rule) -> Vec<Rule> {
        let rule = || start(self.table.empty_rule(TRANSLATE));
        let pods = self.cluster.iter().map(|range| rule().match_saddr(range.network(), range.prefix_len()));
        let node = rule().match_fib_type(FibFlags::SADDR, RouteType::Local);
        pods.chain([node]).collect()
    }

    fn decide(&self, rule: Rule, map: Map) -> Rule {
        self.load_front(map).into_iter().fold(rule, Rule::expr).expr(nft::lookup_verdict(map.name()))
    }

    /// Loads the key of a map, without slot.
    fn load_front(&self, map: Map) -> Vec<Expr> {
        let (mut loads, mut word) = (Vec::new(), 0);
        if map.has_address() {
            loads.push(self.table.ip.load_destination(0));
            word = self.table.ip.words();
        }
        loads.extend([nft::load_protocol(word), nft::load_destination_port(word + 1)]);
        loads
    }

    fn add_refusal(&self, mut batch: Transaction) -> Result<Transaction, nlink::Error> {
        let hooks = [
            ("refuse-input", FilterHook::Input),
            ("refuse-forward", FilterHook::Forward),
            ("refuse-output", FilterHook::Output),
        ];
        for (name, hook) in hooks {
            batch = batch
                .add_chain(self.table.filter_chain(name, hook, Priority::Filter)?)
                .add_rule(self.table.empty_rule(name).jump(ChainName::new(REFUSE)?));
        }
        batch = batch
            .add_rule(self.decide(self.table.empty_rule(REFUSE), Map::NoEndpoints))
            .add_rule(self.decide(self.table.local_rule(REFUSE), Map::NoEndpointNodePorts));
        // An address that is used by the node itself (cluster DNS) is not refused.
        let own = self.table.empty_rule(REFUSE).match_fib_type(FibFlags::DADDR, RouteType::Local);
        batch = batch.add_rule(own.expr(Expr::Verdict(Verdict::Return)));
        for range in &self.services {
            let unused = self.table.empty_rule(REFUSE).match_daddr(range.network(), range.prefix_len());
            batch = batch.add_rule(unused.goto(ChainName::new(REJECT)?));
        }
        Ok(batch)
    }

    fn add_masquerade(&self, mut batch: Transaction) -> Result<Transaction, nlink::Error> {
        let marked = self.table.empty_rule("postrouting").match_mark_masked(self.mark, self.mark);
        batch = batch
            .add_chain(self.table.nat_chain("postrouting", NatHook::Postrouting, Priority::SrcNat)?)
            .add_rule(marked.goto(ChainName::new(MASQUERADE)?))
            // The mark would follow the packet into a tunnel.
            .add_rule(self.table.empty_rule(MASQUERADE).set_mark_masked(0, self.mark));
        if let Some(source) = self.source {
            // Pod links have no address to masquerade with.
            for range in &self.node_pods {
                let to_pod =
                    self.table.empty_rule(MASQUERADE).match_daddr(range.network(), range.prefix_len());
                batch = batch.add_rule(to_pod.nat(NatStatement::snat(source).fully_random()));
            }
        }
        Ok(batch.add_rule(self.table.empty_rule(MASQUERADE).nat(NatStatement::masquerade().fully_random())))
    }

    /// Adds the chain that handles connections in one way.
    pub fn add_chain(&self, mut batch: Transaction, chain: &Chain) -> Result<Transaction, nlink::Error> {
        let name = chain.to_string();
        batch = batch.add_chain(self.table.chain(&name)?);
        let everything = self.table.empty_rule(&name);
        match chain.masquerade {
            Masquerade::Nobody => {}
            Masquerade::Everyone => batch = batch.add_rule(everything.set_mark_masked(self.mark, self.mark)),
            Masquerade::Outsiders => {
                let outsiders = self.cluster.iter().fold(everything, |rule, range| {
                    rule.match_saddr_not(range.network(), range.prefix_len())
                });
                batch = batch.add_rule(outsiders.set_mark_masked(self.mark, self.mark));
            }
        }
        if let Some(seconds) = chain.affinity {
            batch = self.add_affinity(batch, &name, chain, seconds);
        }
        let dnat = self.table.ip.dnat_to_answer();
        let drawn = self.table.rule(&name, self.draw(chain));
        // The decision to come here and the slot are looked up one after the other.
        // If an update that takes endpoints away falls in between, the slot may be
        // gone; the first never is.
        let slot = chain.first_slot().to_ne_bytes().to_vec();
        let first = self.at_slot(chain, |dreg| Expr::Immediate { dreg, data: slot });
        let first = self.table.rule(&name, first);
        Ok(batch.add_rule(drawn.expr(dnat.clone())).add_rule(first.expr(dnat)))
    }

    /// A client goes where it went before, or is remembered with what it draws.
    fn add_affinity(&self, batch: Transaction, name: &str, chain: &Chain, seconds: u32) -> Transaction {
        let dnat = self.table.ip.dnat_to_answer();
        let remember = |op| {
            DynsetExpr::new(op, AFFINITY, register(0))
                .sreg_data(register(ANSWER))
                .timeout(Duration::from_secs(u64::from(seconds)))
        };
        let known = self.load_client().into_iter().chain([nft::lookup(AFFINITY)]);
        let again = self.table.rule(name, known).expr(remember(DynsetOp::Update)).expr(dnat.clone());
        let drawn = self.draw(chain).into_iter().chain(self.load_client());
        // Without room to remember the client, the chain goes on to serve it anyway.
        let first = self.table.rule(name, drawn).expr(remember(DynsetOp::Add)).expr(dnat);
        batch.add_rule(again).add_rule(first)
    }

    /// Draws a slot and looks its endpoint up.
    fn draw(&self, chain: &Chain) -> Vec<Expr> {
        let (modulus, offset) = (chain.endpoints, chain.first_slot());
        self.at_slot(chain, |dreg| Expr::Numgen { dreg, kind: NumgenKind::Random, modulus, offset })
    }

    /// Looks the endpoint of a slot up.
    fn at_slot(&self, chain: &Chain, slot: impl FnOnce(Register) -> Expr) -> Vec<Expr> {
        let map = if chain.node_port { Map::NodePortEndpoints } else { Map::Endpoints };
        let slot_word = if chain.node_port { 2 } else { self.table.ip.words() + 2 };
        let mut lookup = self.load_front(map);
        lookup.extend([slot(register(slot_word)), nft::lookup(map.name())]);
        lookup
    }

    /// Loads `client . destination . protocol . port`.
    fn load_client(&self) -> [Expr; 4] {
        let words = self.table.ip.words();
        [
            self.table.ip.load_source(0),
            self.table.ip.load_destination(words),
            nft::load_protocol(2 * words),
            nft::load_destination_port(2 * words + 1),
        ]
    }

    /// The declaration of a map.
    pub fn map(&self, map: Map) -> Set {
        let mut key = vec![SetKeyType::InetProto, SetKeyType::InetService];
        if map.has_address() {
            key.insert(0, self.table.ip.address_type());
        }
        if map == Map::Clients {
            key.push(self.table.ip.address_type());
            return self.table.set(map.name(), &key).interval();
        }
        if map.is_endpoints() {
            key.push(SetKeyType::Mark);
            return self.table.map(map.name(), &key, &self.endpoint_type());
        }
        self.table.set(map.name(), &key).vmap()
    }

    /// `client . destination . protocol . port : endpoint`, filled by the kernel.
    pub fn affinity(&self) -> Set {
        let address = self.table.ip.address_type();
        let key = [address.clone(), address, SetKeyType::InetProto, SetKeyType::InetService];
        self.table.map(AFFINITY, &key, &self.endpoint_type()).dynamic().per_element_timeouts()
    }

    fn endpoint_type(&self) -> [SetKeyType; 2] {
        [self.table.ip.address_type(), SetKeyType::InetService]
    }
}
