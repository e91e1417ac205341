//! Which address of the node's range is whose.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The addresses of one range. Hands out the next free one after the last, so
/// that an address just given back rests while others still remember it.
#[derive(Debug)]
pub struct Pool {
    range: IpNet,
    /// Offset in the range of the address handed out last.
    last: u128,
    used: HashSet<IpAddr>,
}

impl Pool {
    /// The network address and the one after it (the node's own, see
    /// [`Pool::node_address`]) are never handed out, nor is the broadcast address.
    pub fn new(range: IpNet) -> Self {
        Self { range, last: 1, used: HashSet::new() }
    }

    pub fn range(&self) -> IpNet {
        self.range
    }

    /// The address that stands for the node when it has none of its own.
    pub fn node_address(&self) -> IpAddr {
        self.at(1)
    }

    /// Marks an address as used; false if it is not of this range.
    pub fn take(&mut self, address: IpAddr) -> bool {
        if !self.range.contains(&address) {
            return false;
        }
        self.used.insert(address);
        self.last = self.last.max(number(address) - number(self.range.network()));
        true
    }

    /// The next free address, or `None` when all are in use.
    pub fn allocate(&mut self) -> Option<IpAddr> {
        let (first, end) = (2, self.end());
        if end <= first || self.used.len() as u128 >= end - first {
            return None;
        }
        loop {
            self.last = if self.last + 1 < end { self.last + 1 } else { first };
            let address = self.at(self.last);
            if self.used.insert(address) {
                return Some(address);
            }
        }
    }

    pub fn release(&mut self, address: IpAddr) {
        self.used.remove(&address);
    }

    /// One past the last offset that may be handed out.
    fn end(&self) -> u128 {
        let host_bits = u32::from(self.range.max_prefix_len() - self.range.prefix_len());
        let size = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX);
        match self.range {
            IpNet::V4(_) => size.saturating_sub(1),
            IpNet::V6(_) => size,
        }
    }

    fn at(&self, offset: u128) -> IpAddr {
        let number = number(self.range.network()).wrapping_add(offset);
        match self.range {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(number as u32)),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(range: &str) -> Pool {
        Pool::new(range.parse().expect("a range"))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn network_node_and_broadcast_addresses_are_never_handed_out() {
        let mut pool = pool("10.1.0.0/29");
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate()).collect();
        assert_eq!(all, ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"].map(ip));
    }

    #[test]
    fn a_released_address_rests_until_the_others_were_used() {
        let mut pool = pool("10.1.0.0/29");
        let first = pool.allocate().expect("free");
        pool.release(first);
        assert_ne!(pool.allocate(), Some(first));
        while pool.allocate().is_some_and(|a| a != first) {}
        assert_eq!(pool.allocate(), None);
    }

    #[test]
    fn a_taken_address_is_not_handed_out_again() {
        let mut pool = pool("10.1.0.0/29");
        assert!(pool.take(ip("10.1.0.3")));
        assert!(!pool.take(ip("10.2.0.3")));
        let all: Vec<_> = std::iter::from_fn(|| pool.allocate()).collect();
        assert_eq!(all.len(), 4);
        assert!(!all.contains(&ip("10.1.0.3")));
    }

    #[test]
    fn tiny_and_wide_ranges_are_safe() {
        assert_eq!(pool("10.1.0.0/32").allocate(), None);
        assert_eq!(pool("10.1.0.0/31").allocate(), None);
        assert_eq!(pool("fd00::/64").allocate(), Some(ip("fd00::2")));
        assert_eq!(pool("::/0").allocate(), Some(ip("::2")));
    }
}
