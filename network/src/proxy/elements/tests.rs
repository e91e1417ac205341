use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::kernel::ranges::Ranges;
use crate::pod::Protocol;

fn destination(endpoints: usize, affinity: Option<u32>) -> Destination {
    let all = (0..endpoints).map(|n| SocketAddr::from(([10, 244, 1, n as u8], 8080)));
    Destination {
        endpoints: all.collect(),
        masquerade: Masquerade::Outsiders,
        affinity,
        drop_when_empty: false,
    }
}

fn frontend(place: Place, endpoints: usize, shortcut: Option<usize>) -> Frontend {
    Frontend {
        front: Front { place, protocol: Protocol::Tcp, port: 80 },
        inside: SocketAddr::from(([10, 96, 0, 20], 80)),
        main: destination(endpoints, None),
        shortcut: shortcut.map(|count| destination(count, None)),
        clients: None,
    }
}

fn expanded(frontend: &Frontend) -> Elements {
    let mut elements = Elements::new();
    expand(frontend, &mut elements);
    elements
}

fn count(elements: &Elements, map: Map) -> usize {
    elements.keys().filter(|key| key.map == map).count()
}

#[test]
fn a_front_has_one_decision_and_a_slot_per_endpoint() {
    let cluster_ip = Place::Address(IpAddr::from([10, 96, 0, 20]));
    let elements = expanded(&frontend(cluster_ip, 3, None));
    assert_eq!(
        (count(&elements, Map::Services), count(&elements, Map::Endpoints), elements.len()),
        (1, 3, 4)
    );
    let elements = expanded(&frontend(Place::Node(Ip::V4), 3, Some(5)));
    assert_eq!(count(&elements, Map::NodePorts), 1);
    assert_eq!(count(&elements, Map::NodePortShortcuts), 1);
    assert_eq!(count(&elements, Map::NodePortEndpoints), 8, "shortcut slots are their own");
}

#[test]
fn a_front_without_endpoints_refuses_but_keeps_its_shortcut() {
    let elements = expanded(&frontend(Place::Node(Ip::V4), 0, Some(2)));
    assert_eq!(count(&elements, Map::NoEndpointNodePorts), 1);
    assert_eq!(count(&elements, Map::NodePorts), 0);
    assert_eq!(count(&elements, Map::NodePortShortcuts), 1);
}

#[test]
fn a_restricted_front_drops_all_but_its_ranges_of_clients() {
    let mut ranges = Ranges::default();
    ranges.add_block("10.0.0.0/24".parse().expect("a block"), []);
    ranges.add_block("203.0.113.9/32".parse().expect("a block"), []);
    let mut restricted = frontend(Place::Address(IpAddr::from([192, 0, 2, 8])), 1, None);
    restricted.clients = Some(Arc::new(ranges));
    let elements = expanded(&restricted);
    let of = |map| elements.iter().filter(move |(key, _)| key.map == map).collect::<Vec<_>>();
    assert_eq!(of(Map::Restricted).iter().map(|(_, value)| **value).collect::<Vec<_>>(), [Value::Drop]);
    for ((key, value), (first, last)) in
        of(Map::Clients).into_iter().zip([("10.0.0.0", "10.0.0.255"), ("203.0.113.9", "203.0.113.9")])
    {
        let (first, last): (IpAddr, IpAddr) =
            (first.parse().expect("an address"), last.parse().expect("one"));
        assert_eq!((decode_last(&key.bytes, Ip::V4), *value), (Some(first), Value::UpTo(last)));
        assert_eq!(decode_last(&encode_last(&key.bytes, last), Ip::V4), Some(last));
    }
    assert_eq!(of(Map::Clients).len(), 2);
}

fn chains() -> impl Strategy<Value = Chain> {
    let masquerade =
        prop_oneof![Just(Masquerade::Outsiders), Just(Masquerade::Everyone), Just(Masquerade::Nobody)];
    (any::<bool>(), any::<bool>(), masquerade, 1u32..2000, proptest::option::of(1u32..86_401)).prop_map(
        |(node_port, shortcut, masquerade, endpoints, affinity)| Chain {
            node_port,
            shortcut,
            masquerade,
            endpoints,
            affinity,
        },
    )
}

fn frontends() -> impl Strategy<Value = Vec<Frontend>> {
    let place = prop_oneof![
        (0u8..4).prop_map(|last| Place::Address(IpAddr::from([10, 96, 0, last]))),
        Just(Place::Node(Ip::V4)),
        Just(Place::Address("fd00::1".parse().expect("an address"))),
    ];
    proptest::collection::vec(
        (place, 0usize..6, proptest::option::of(0usize..4))
            .prop_map(|(place, main, shortcut)| frontend(place, main, shortcut)),
        0..6,
    )
}

fn all(frontends: &[Frontend]) -> Elements {
    let mut elements = Elements::new();
    frontends.iter().for_each(|frontend| expand(frontend, &mut elements));
    elements
}

proptest! {
    #[test]
    fn chain_names_read_back_and_fit_the_kernel(chain in chains()) {
        let name = chain.to_string();
        prop_assert!(name.len() < 128);
        prop_assert_eq!(Chain::parse(&name), Some(chain));
    }

    #[test]
    fn foreign_chain_names_are_not_taken_for_ours(name in "[a-z0-9-]{0,30}") {
        if let Some(chain) = Chain::parse(&name) {
            prop_assert_eq!(Chain::parse(&chain.to_string()), Some(chain));
        }
    }

    #[test]
    fn endpoints_read_back(address: [u8; 16], v4: bool, port: u16) {
        let ip = if v4 { IpAddr::from([address[0], address[1], address[2], address[3]]) } else { IpAddr::from(address) };
        let endpoint = SocketAddr::new(ip, port);
        prop_assert_eq!(decode_endpoint(&encode_endpoint(endpoint)), Some(endpoint));
    }

    #[test]
    fn a_difference_applied_gives_exactly_what_is_wanted(before in frontends(), after in frontends()) {
        let (mut present, wanted) = (all(&before), all(&after));
        let difference = Difference::between(&present, &wanted);
        for (key, value) in &difference.delete {
            prop_assert_eq!(present.remove(key), Some(*value), "only what is there is deleted");
        }
        for (key, value) in &difference.add {
            prop_assert_eq!(present.insert(key.clone(), *value), None, "only what is missing is added");
        }
        prop_assert_eq!(&present, &wanted);
        prop_assert!(Difference::between(&wanted, &wanted).is_empty());
    }

    #[test]
    fn every_chain_gone_to_finds_all_its_slots(wanted in frontends()) {
        for frontend in &wanted {
            let elements = expanded(frontend);
            for (ip, chain) in Difference::between(&Elements::new(), &elements).chains() {
                let slots = if chain.node_port { Map::NodePortEndpoints } else { Map::Endpoints };
                for slot in chain.first_slot()..chain.first_slot() + chain.endpoints {
                    let found = elements.keys().any(|key| {
                        key.ip == ip && key.map == slots && key.bytes.ends_with(&slot.to_ne_bytes())
                    });
                    prop_assert!(found, "slot {} of {}", slot, chain);
                }
            }
        }
    }
}
