//! A firewall that the machine already has, as far as it is in the way of pods.
//!
//! What one table accepts, another may still drop: a foreign chain in the forward hook whose policy is to drop
//! swallows the packets of pods, unless its own rules let them pass.

use std::fmt;
use std::path::Path;

use nlink::netlink::nftables::{Family, Policy};

use crate::kernel::Namespace;

/// The kernel's number of the hook that packets between links pass (`NF_INET_FORWARD`).
const FORWARD: u32 = 2;

/// A chain that drops what its rules do not let pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    family: &'static str,
    table: String,
    chain: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} {}, chain {}", self.family, self.table, self.chain)
    }
}

/// The chains of the machine that drop forwarded packets by default.
///
/// # Errors
/// The kernel has no nftables, or refuses to list.
pub async fn obstacles(netns: Option<&Path>) -> Result<Vec<Obstacle>, nlink::Error> {
    let chains = Namespace::open(netns)?.nftables()?.list_chains().await?;
    let dropping = chains.into_iter().filter(|chain| {
        chain.hook == Some(FORWARD)
            && chain.policy == Some(Policy::Drop.to_u32())
            && family(chain.family).is_some()
    });
    Ok(dropping
        .map(|chain| Obstacle {
            family: family(chain.family).unwrap_or_default(),
            table: chain.table,
            chain: chain.name,
        })
        .collect())
}

/// As `nft` writes it; `None` for families whose packets are not routed.
fn family(family: Family) -> Option<&'static str> {
    match family {
        Family::Ip => Some("ip"),
        Family::Ip6 => Some("ip6"),
        Family::Inet => Some("inet"),
        _ => None,
    }
}
