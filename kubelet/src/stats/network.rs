//! Bytes and errors per network interface, as the kernel counts them.

use std::fs;

use super::ContainerUse;
use crate::agent::Agent;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// Interfaces of a pod, seen through the first of its containers that has a process.
pub async fn of_containers(agent: &Agent, containers: &[ContainerUse]) -> Vec<Interface> {
    for container in containers {
        let Ok(status) = agent.runtime.container_status(&container.seen.id).await else { continue };
        if let Some(found) = status.pid.map(|pid| read(&format!("/proc/{pid}/net/dev"))) {
            return found;
        }
    }
    Vec::new()
}

/// Interfaces of the node.
pub fn of_node() -> Vec<Interface> {
    read("/proc/self/net/dev")
}

fn read(path: &str) -> Vec<Interface> {
    parse(&fs::read_to_string(path).unwrap_or_default())
}

/// Without the loopback, which carries nothing to or from anywhere.
fn parse(text: &str) -> Vec<Interface> {
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let at = |index: usize| counters.get(index).copied().unwrap_or(0);
        Some(Interface {
            name: name.trim().to_owned(),
            rx_bytes: at(0),
            rx_packets: at(1),
            rx_errors: at(2),
            rx_dropped: at(3),
            tx_bytes: at(8),
            tx_packets: at(9),
            tx_errors: at(10),
            tx_dropped: at(11),
        })
    };
    text.lines().filter_map(interface).filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_by_their_place() {
        let text = "Inter-|   Receive                            |  Transmit\n \
                    face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop\n\
                    lo: 1 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0\n\
                    eth0: 100 2 3 4 0 0 0 0 500 6 7 8 0 0 0 0\n";
        let found = parse(text);
        assert_eq!(found.len(), 1);
        let eth0 = &found[0];
        assert_eq!((eth0.rx_bytes, eth0.rx_dropped, eth0.tx_bytes, eth0.tx_dropped), (100, 4, 500, 8));
    }
}
