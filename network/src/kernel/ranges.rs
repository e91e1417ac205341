//! Address ranges without overlaps, as an interval set wants them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::nft::Ip;

/// Disjoint, ordered, inclusive ranges of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    /// Adds a block without the blocks taken out of it.
    pub fn add_block(&mut self, block: IpNet, except: impl IntoIterator<Item = IpNet>) {
        let mut pieces = vec![bounds(block)];
        for (first, last) in except.into_iter().map(bounds) {
            pieces = pieces.into_iter().flat_map(|piece| without(piece, first, last)).collect();
        }
        self.0.extend(pieces);
        self.merge();
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// First and last address of each range.
    pub fn iter(&self, ip: Ip) -> impl Iterator<Item = (IpAddr, IpAddr)> + '_ {
        self.0.iter().map(move |(first, last)| (address(ip, *first), address(ip, *last)))
    }

    fn merge(&mut self) {
        self.0.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(self.0.len());
        for (first, last) in self.0.drain(..) {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        self.0 = merged;
    }
}

fn without((first, last): (u128, u128), from: u128, to: u128) -> Vec<(u128, u128)> {
    if to < first || from > last {
        return vec![(first, last)];
    }
    let before = (from > first).then(|| (first, from - 1));
    let after = (to < last).then(|| (to + 1, last));
    before.into_iter().chain(after).collect()
}

fn bounds(block: IpNet) -> (u128, u128) {
    match block {
        IpNet::V4(v4) => (u32::from(v4.network()).into(), u32::from(v4.broadcast()).into()),
        IpNet::V6(v6) => (v6.network().into(), v6.broadcast().into()),
    }
}

fn address(ip: Ip, number: u128) -> IpAddr {
    match ip {
        Ip::V4 => IpAddr::V4(Ipv4Addr::from(number as u32)),
        Ip::V6 => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(text: &str) -> IpNet {
        text.parse().expect("a block")
    }

    fn text(ranges: &Ranges) -> Vec<String> {
        ranges.iter(Ip::V4).map(|(first, last)| format!("{first}-{last}")).collect()
    }

    #[test]
    fn exceptions_are_cut_out_and_neighbours_joined() {
        let mut ranges = Ranges::default();
        ranges.add_block(block("10.0.0.0/24"), [block("10.0.0.0/32"), block("10.0.0.64/26")]);
        assert_eq!(text(&ranges), ["10.0.0.1-10.0.0.63", "10.0.0.128-10.0.0.255"]);
        ranges.add_block(block("10.0.1.0/24"), []);
        assert_eq!(text(&ranges), ["10.0.0.1-10.0.0.63", "10.0.0.128-10.0.1.255"]);
        ranges.add_block(block("0.0.0.0/0"), []);
        assert_eq!(text(&ranges), ["0.0.0.0-255.255.255.255"]);
    }

    proptest! {
        #[test]
        fn an_address_is_in_exactly_when_a_block_has_it_and_no_exception(
            blocks in proptest::collection::vec((any::<u8>(), 24u8..=32, any::<u8>(), 24u8..=32), 1..5),
            probe: u8,
        ) {
            let net = |last: u8, prefix| IpNet::new(IpAddr::from([10, 0, 0, last]), prefix).expect("a prefix").trunc();
            let mut ranges = Ranges::default();
            let mut expected = false;
            let probe = IpAddr::from([10, 0, 0, probe]);
            for (base, prefix, cut, cut_prefix) in blocks {
                ranges.add_block(net(base, prefix), [net(cut, cut_prefix)]);
                expected |= net(base, prefix).contains(&probe) && !net(cut, cut_prefix).contains(&probe);
            }
            let all: Vec<_> = ranges.iter(Ip::V4).collect();
            prop_assert_eq!(all.iter().any(|(first, last)| (*first..=*last).contains(&probe)), expected);
            prop_assert!(all.windows(2).all(|pair| pair[0].1 < pair[1].0), "disjoint and ordered");
        }
    }
}
