//! nftables in the words of this crate: registers laid out for our keys, and
//! the expressions that the rule builder of the netlink crate has no name for.
//!
//! Keys are concatenations, one 32-bit word per field (four for an IPv6
//! address), from word 0 on; what a map answers goes to [`ANSWER`], behind
//! the longest key of ours (`saddr . daddr . proto . port` with IPv6).

use std::net::IpAddr;

use nlink::Connection;
use nlink::netlink::Nftables;
use nlink::netlink::nftables::{
    BaseChain, Chain, Expr, Family, FibFlags, FilterHook, LookupExpr, MetaKey, NatHook, PayloadBase,
    Priority, RawExpr, Register, Rule, Set, SetDataType, SetElement, SetKeyType, Transaction,
};
use nlink::netlink::types::route::RouteType;

/// First word of what a map answers: an address, then a port.
pub const ANSWER: usize = 10;

/// Elements per message: a nested attribute ends at 65,535 bytes.
const CHUNK: usize = 500;

/// The address family of a table of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ip {
    V4,
    V6,
}

impl Ip {
    pub const BOTH: [Ip; 2] = [Ip::V4, Ip::V6];

    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Ip::V4 } else { Ip::V6 }
    }

    pub fn family(self) -> Family {
        match self {
            Ip::V4 => Family::Ip,
            Ip::V6 => Family::Ip6,
        }
    }

    /// 32-bit words of an address.
    pub fn words(self) -> usize {
        match self {
            Ip::V4 => 1,
            Ip::V6 => 4,
        }
    }

    pub fn address_type(self) -> SetKeyType {
        match self {
            Ip::V4 => SetKeyType::Ipv4Addr,
            Ip::V6 => SetKeyType::Ipv6Addr,
        }
    }

    fn payload(self, v4_offset: u32, v6_offset: u32, word: usize) -> Expr {
        let (offset, len) = match self {
            Ip::V4 => (v4_offset, 4),
            Ip::V6 => (v6_offset, 16),
        };
        Expr::Payload { dreg: register(word), base: PayloadBase::Network, offset, len }
    }

    /// Loads the source address.
    pub fn load_source(self, word: usize) -> Expr {
        self.payload(12, 8, word)
    }

    /// Loads the destination address.
    pub fn load_destination(self, word: usize) -> Expr {
        self.payload(16, 24, word)
    }

    /// `dnat to` the address and port in [`ANSWER`].
    pub fn dnat_to_answer(self) -> Expr {
        self.nat(1, Some(ANSWER + self.words()))
    }

    /// `snat to` the address in [`ANSWER`], choosing the port fully at random.
    pub fn snat_to_answer(self) -> Expr {
        self.nat(0, None)
    }

    fn nat(self, kind: u32, port_word: Option<usize>) -> Expr {
        const TYPE: u16 = 1;
        const FAMILY: u16 = 2;
        const ADDRESS: [u16; 2] = [3, 4];
        const PORT: [u16; 2] = [5, 6];
        const FLAGS: u16 = 7;
        const MAP_IPS: u32 = 1;
        const PORT_SPECIFIED: u32 = 2;
        const FULLY_RANDOM: u32 = 16;
        let nfproto = match self {
            Ip::V4 => 2,
            Ip::V6 => 10,
        };
        let mut data = Vec::new();
        attribute(&mut data, TYPE, kind);
        attribute(&mut data, FAMILY, nfproto);
        for id in ADDRESS {
            attribute(&mut data, id, register(ANSWER).wire());
        }
        if let Some(word) = port_word {
            for id in PORT {
                attribute(&mut data, id, register(word).wire());
            }
            attribute(&mut data, FLAGS, MAP_IPS | PORT_SPECIFIED);
        } else {
            attribute(&mut data, FLAGS, MAP_IPS | FULLY_RANDOM);
        }
        Expr::Raw(RawExpr::new("nat", data))
    }
}

/// A netlink attribute holding a big-endian number.
fn attribute(data: &mut Vec<u8>, id: u16, value: u32) {
    data.extend_from_slice(&8u16.to_ne_bytes());
    data.extend_from_slice(&id.to_ne_bytes());
    data.extend_from_slice(&value.to_be_bytes());
}

/// The register at a word of the register file.
pub fn register(word: usize) -> Register {
    Register::word(word).expect("our keys and answers end before word 16")
}

/// Loads `meta l4proto`.
pub fn load_protocol(word: usize) -> Expr {
    Expr::Meta { dreg: register(word), key: MetaKey::L4Proto }
}

/// Loads the destination port of TCP, UDP and SCTP alike (`th dport`).
pub fn load_destination_port(word: usize) -> Expr {
    Expr::Payload { dreg: register(word), base: PayloadBase::Transport, offset: 2, len: 2 }
}

/// Looks the key at word 0 up, putting the answer into [`ANSWER`]; a miss ends
/// the rule.
pub fn lookup(map: &str) -> Expr {
    Expr::Lookup(LookupExpr::new(map, register(0)).dreg(register(ANSWER)))
}

/// Looks the key at word 0 up in a verdict map; a miss ends the rule.
pub fn lookup_verdict(map: &str) -> Expr {
    Expr::Lookup(LookupExpr::new(map, register(0)).dreg(Register::Verdict))
}

/// Ends the rule unless the key at word 0 is in the set.
pub fn is_in(set: &str) -> Expr {
    Expr::Lookup(LookupExpr::new(set, register(0)))
}

/// One table of ours, and what is put into it.
#[derive(Debug, Clone)]
pub struct TableRef {
    pub name: String,
    pub ip: Ip,
}

impl TableRef {
    pub fn new(name: impl Into<String>, ip: Ip) -> Self {
        Self { name: name.into(), ip }
    }

    /// A rule of `chain` made of `expressions`.
    pub fn rule(&self, chain: &str, expressions: impl IntoIterator<Item = Expr>) -> Rule {
        expressions.into_iter().fold(self.empty_rule(chain), Rule::expr)
    }

    /// A rule to be filled with the builder's own matches.
    pub fn empty_rule(&self, chain: &str) -> Rule {
        Rule::new(&self.name, chain).family(self.ip.family())
    }

    /// A rule for packets to an address of the node, without loopback, since
    /// the kernel cannot translate 127.0.0.0/8.
    pub fn local_rule(&self, chain: &str) -> Rule {
        let rule = self.empty_rule(chain).match_fib_type(FibFlags::DADDR, RouteType::Local);
        match self.ip {
            Ip::V4 => rule.match_daddr_not(IpAddr::from([127, 0, 0, 0]), 8),
            Ip::V6 => rule.match_daddr_not(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 128),
        }
    }

    /// A chain that is only entered by jump or goto.
    pub fn chain(&self, name: &str) -> Result<Chain, nlink::Error> {
        Ok(Chain::new(self.name.as_str(), name)?.family(self.ip.family()))
    }

    pub fn nat_chain(&self, name: &str, hook: NatHook, priority: Priority) -> Result<Chain, nlink::Error> {
        Ok(self.chain(name)?.base(BaseChain::nat(hook, priority)))
    }

    pub fn filter_chain(
        &self,
        name: &str,
        hook: FilterHook,
        priority: Priority,
    ) -> Result<Chain, nlink::Error> {
        Ok(self.chain(name)?.base(BaseChain::filter(hook, priority)))
    }

    pub fn set(&self, name: &str, key: &[SetKeyType]) -> Set {
        let key = match key {
            [single] => single.clone(),
            several => SetKeyType::Concat(several.to_vec()),
        };
        Set::new(&self.name, name).family(self.ip.family()).key_type(key)
    }

    pub fn map(&self, name: &str, key: &[SetKeyType], value: &[SetKeyType]) -> Set {
        self.set(name, key).map(SetDataType::Value(SetKeyType::Concat(value.to_vec())))
    }

    /// Whether the table is in the kernel.
    pub async fn exists(&self, nft: &Connection<Nftables>) -> Result<bool, nlink::Error> {
        let tables = nft.list_tables_in(self.ip.family()).await?;
        Ok(tables.iter().any(|table| table.name == self.name))
    }

    /// A transaction that starts from an empty table, whether or not one exists:
    /// packets see the old content until the commit and the new one after.
    pub async fn replace(&self, nft: &Connection<Nftables>) -> Result<Transaction, nlink::Error> {
        let mut batch = nft.transaction();
        if self.exists(nft).await? {
            batch = batch.del_table(&self.name, self.ip.family());
        }
        Ok(batch.add_table(&self.name, self.ip.family()))
    }

    /// Removes the table if it is there.
    pub async fn destroy(&self, nft: &Connection<Nftables>) -> Result<(), nlink::Error> {
        nft.del_table_if_exists(self.name.as_str(), self.ip.family()).await.map(drop)
    }
}

/// Adds elements, split into messages the kernel can take.
pub fn add_elements(batch: Transaction, set: &Set, elements: &[SetElement]) -> Transaction {
    elements.chunks(CHUNK).fold(batch, |batch, chunk| batch.add_set_elements(set, chunk))
}

/// Deletes elements, split likewise. Each must exist.
pub fn delete_elements(batch: Transaction, set: &Set, elements: &[SetElement]) -> Transaction {
    elements.chunks(CHUNK).fold(batch, |batch, chunk| batch.del_set_elements(set, chunk))
}

/// An address as a field of a key or answer.
pub fn address(address: IpAddr) -> SetElement {
    match address {
        IpAddr::V4(v4) => SetElement::ipv4(v4),
        IpAddr::V6(v6) => SetElement::ipv6(v6),
    }
}
