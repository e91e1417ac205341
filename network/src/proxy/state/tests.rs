use std::net::IpAddr;

use super::*;
use crate::kernel::nft::Ip;
use crate::proxy::plan::{Masquerade, Place};

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn udp(port: u16, endpoints: &[u8], affinity: Option<u32>) -> Frontend {
    let endpoints = endpoints.iter().map(|n| SocketAddr::from(([10, 244, 1, *n], 53)));
    let front = Front { place: Place::Address(IpAddr::from([10, 96, 0, 20])), protocol: Protocol::Udp, port };
    let main = Destination {
        endpoints: endpoints.collect(),
        masquerade: Masquerade::Outsiders,
        affinity,
        drop_when_empty: false,
    };
    Frontend { front, inside: SocketAddr::from(([10, 96, 0, 20], port)), main, shortcut: None, clients: None }
}

fn set(state: &mut State, name: &str, wanted: Vec<Frontend>) -> Update {
    let mut update = Update::default();
    state.set(&key(name), wanted, &mut update);
    update
}

#[test]
fn what_was_applied_step_by_step_equals_the_whole() {
    let mut state = State::default();
    let mut kernel = Elements::new();
    let steps = [
        ("a", vec![udp(53, &[1, 2], None)]),
        ("b", vec![udp(54, &[3], None)]),
        ("a", vec![udp(53, &[2], None), udp(55, &[1], None)]),
        ("b", vec![]),
    ];
    for (name, wanted) in steps {
        let update = set(&mut state, name, wanted);
        for (key, _) in &update.difference.delete {
            assert!(kernel.remove(key).is_some(), "only what is there is deleted");
        }
        kernel.extend(update.difference.add);
    }
    assert_eq!(kernel, state.elements());
    assert_eq!(state.services().count(), 1);
}

#[test]
fn an_unchanged_service_needs_nothing() {
    let mut state = State::default();
    set(&mut state, "a", vec![udp(53, &[1, 2], None)]);
    let update = set(&mut state, "a", vec![udp(53, &[1, 2], None)]);
    assert!(update.difference.is_empty() && update.stale_flows.is_empty());
}

#[test]
fn lost_endpoints_and_first_endpoints_make_flows_stale() {
    let mut state = State::default();
    let update = set(&mut state, "a", vec![udp(53, &[], Some(60))]);
    assert!(update.stale_flows.is_empty());
    let update = set(&mut state, "a", vec![udp(53, &[1, 2], Some(60))]);
    assert_eq!(update.stale_flows.iter().map(|flow| flow.endpoint).collect::<Vec<_>>(), [None]);
    let update = set(&mut state, "a", vec![udp(53, &[2], Some(60))]);
    let gone = SocketAddr::from(([10, 244, 1, 1], 53));
    assert_eq!(update.stale_flows.iter().map(|flow| flow.endpoint).collect::<Vec<_>>(), [Some(gone)]);
    assert_eq!(update.lost_affinity.iter().map(|(_, endpoint)| *endpoint).collect::<Vec<_>>(), [gone]);
    let update = set(&mut state, "a", vec![]);
    assert_eq!(update.stale_flows.len(), 1);
}

#[test]
fn the_first_service_keeps_a_front_and_the_other_gets_it_when_it_goes() {
    let mut state = State::default();
    set(&mut state, "a", vec![udp(53, &[1], None)]);
    let update = set(&mut state, "b", vec![udp(53, &[2], None)]);
    assert!(update.difference.is_empty());
    let update = set(&mut state, "a", vec![]);
    assert_eq!(update.retry, HashSet::from([key("b")]));
    let update = set(&mut state, "b", vec![udp(53, &[2], None)]);
    assert!(!update.difference.add.is_empty());
    let node = Frontend {
        front: Front { place: Place::Node(Ip::V4), protocol: Protocol::Udp, port: 30053 },
        ..udp(53, &[2], None)
    };
    assert!(!set(&mut state, "c", vec![node]).difference.is_empty());
}

#[test]
fn an_address_withdrawn_twice_is_free_after_both() {
    let address = IpAddr::from([10, 244, 1, 1]);
    let mut withdrawn = Withdrawn::default();
    withdrawn.add(&[address]);
    withdrawn.add(&[address]);
    withdrawn.remove(&[address]);
    assert!(withdrawn.addresses().contains(&address));
    withdrawn.remove(&[address]);
    withdrawn.remove(&[address]);
    assert!(withdrawn.addresses().is_empty());
}
