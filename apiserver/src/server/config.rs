//! What the server is told at its start.

use std::sync::Arc;

use crate::audit::Auditor;
use crate::registry::Pools;

#[derive(Debug, Clone)]
pub struct Config {
    /// Service addresses (`--service-cluster-ip-range`) and node ports (`--service-node-port-range`).
    pub pools: Pools,
    /// `--max-requests-inflight`
    pub max_requests_inflight: usize,
    /// `--max-mutating-requests-inflight`
    pub max_mutating_requests_inflight: usize,
    /// Tells of requests; without it nothing is told.
    pub audit: Option<Arc<Auditor>>,
}

impl Default for Config {
    fn default() -> Self {
        let range = ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 96, 0, 0), 16);
        Self {
            pools: Pools { service_ranges: vec![range.into()], node_ports: 30000..=32767 },
            max_requests_inflight: 400,
            max_mutating_requests_inflight: 200,
            audit: None,
        }
    }
}
