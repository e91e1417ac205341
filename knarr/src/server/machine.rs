//! What the machine is called and reached at.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Context;
use nix::ifaddrs::getifaddrs;

/// The host's name in the form that node names have.
pub fn node_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("asking for the host's name")?;
    let name = name.to_string_lossy().trim().to_lowercase();
    Ok(if name.is_empty() { "localhost".to_owned() } else { name })
}

/// The machine's addresses: the one that the default route uses first, then other global ones. Empty on a machine
/// that has only loopback.
pub fn addresses() -> anyhow::Result<Vec<IpAddr>> {
    let uplink = default_route_link(&std::fs::read_to_string("/proc/net/route").unwrap_or_default());
    let mut found = Vec::new();
    for interface in getifaddrs().context("listing the machine's addresses")? {
        let Some(address) = interface.address.as_ref().and_then(|a| a.as_sockaddr_in()).map(|a| a.ip())
        else {
            continue;
        };
        // What loopback carries are addresses of clusters (their DNS), not of the machine.
        if is_usable(address) && interface.interface_name != "lo" {
            found.push((uplink.as_deref() != Some(interface.interface_name.as_str()), IpAddr::V4(address)));
        }
    }
    // Stable: addresses of one link stay in the kernel's order.
    found.sort_by_key(|(not_uplink, _)| *not_uplink);
    Ok(found.into_iter().map(|(_, address)| address).collect())
}

fn is_usable(address: Ipv4Addr) -> bool {
    !address.is_loopback() && !address.is_link_local() && !address.is_unspecified()
}

/// The link of the default route with the lowest metric, from the kernel's routing table.
fn default_route_link(table: &str) -> Option<String> {
    let routes = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let defaults =
        routes.filter(|fields| fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000"));
    let best = defaults.min_by_key(|fields| fields.get(6).and_then(|metric| metric.parse::<u32>().ok()))?;
    best.first().map(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_with_the_lowest_metric_names_the_uplink() {
        let header = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
        let routes = "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
                      eth1\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                      eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
        assert_eq!(default_route_link(&format!("{header}{routes}")).as_deref(), Some("eth0"));
        assert_eq!(default_route_link(header), None);
    }
}
