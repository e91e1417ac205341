//! Claims on shared pools (cluster addresses, node ports), made in the store so that several servers agree.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;
use knarr_api::time::Random;
use knarr_storage::{Durability, Error, Expect, Outcome, Store};

/// What there is to claim.
#[derive(Debug, Clone)]
pub struct Pools {
    /// Addresses of Services, the cluster's first family first.
    pub service_ranges: Vec<IpNet>,
    pub node_ports: RangeInclusive<u16>,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It was free, and is the claimant's now.
    New,
    /// The claimant had it already.
    Own,
    /// Another has it.
    Taken,
}

/// Claims keys under one prefix. A claim is a key; its value names its holder.
#[derive(Clone)]
pub struct Claims {
    store: Arc<dyn Store>,
}

/// How many numbers are tried before a pool counts as exhausted.
const ATTEMPTS: u64 = 4096;

impl Claims {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Claims `what` of `pool` for `holder`.
    pub async fn claim(&self, pool: &str, what: &str, holder: &str) -> Result<Claim, Error> {
        let value = Bytes::copy_from_slice(holder.as_bytes());
        let outcome = self.store.put(&key(pool, what), value, Expect::Absent, Durability::Durable).await?;
        Ok(match outcome {
            Outcome::Committed(_) => Claim::New,
            Outcome::Conflict(Some(kv)) if kv.value == holder.as_bytes() => Claim::Own,
            Outcome::Conflict(_) => Claim::Taken,
        })
    }

    /// Claims any of `first..first + count` that is free, beginning somewhere at random; `None` when all are taken.
    /// The lower part is left to those who choose for themselves, as long as there is more.
    pub async fn claim_any<T: ToString>(
        &self,
        pool: &str,
        count: u64,
        holder: &str,
        random: &dyn Random,
        nth: impl Fn(u64) -> T,
    ) -> Result<Option<T>, Error> {
        let reserved = (count / 16).clamp(16.min(count / 2), 256.min(count / 2));
        let start = random.below(count - reserved);
        for step in 0..count.min(ATTEMPTS) {
            // Upwards from the start through the upper part, and through the lower one at last.
            let at = (reserved + start + step) % count;
            let what = nth(at);
            if self.claim_new(pool, &what.to_string(), holder).await? {
                return Ok(Some(what));
            }
        }
        Ok(None)
    }

    async fn claim_new(&self, pool: &str, what: &str, holder: &str) -> Result<bool, Error> {
        let value = Bytes::copy_from_slice(holder.as_bytes());
        let outcome = self.store.put(&key(pool, what), value, Expect::Absent, Durability::Durable).await?;
        Ok(matches!(outcome, Outcome::Committed(_)))
    }

    /// Gives a claim back, if `holder` has it.
    pub async fn release(&self, pool: &str, what: &str, holder: &str) -> Result<(), Error> {
        let key = key(pool, what);
        let (found, _) = self.store.get(&key).await?;
        if let Some(kv) = found.filter(|kv| kv.value == holder.as_bytes()) {
            // A conflict means that it was given back, or to another, in between: either is fine.
            self.store.delete(&key, Expect::At(kv.mod_revision), Durability::Durable).await?;
        }
        Ok(())
    }
}

fn key(pool: &str, what: &str) -> String {
    format!("/registry/ranges/{pool}/{what}")
}

/// How many hosts a range has, without the network's own address and for IPv4 the broadcast address.
pub fn host_count(range: &IpNet) -> u64 {
    let bits = u32::from(range.max_prefix_len() - range.prefix_len()).min(16);
    let all = 1u64 << bits;
    let lost = if range.addr().is_ipv4() && range.prefix_len() >= 16 { 2 } else { 1 };
    all.saturating_sub(lost)
}

/// The host number `n` of a range, from 0.
pub fn nth_host(range: &IpNet, n: u64) -> IpAddr {
    match range {
        IpNet::V4(net) => IpAddr::V4((u32::from(net.network()).wrapping_add(n as u32 + 1)).into()),
        IpNet::V6(net) => IpAddr::V6((u128::from(net.network()).wrapping_add(u128::from(n) + 1)).into()),
    }
}

/// Whether the address is one of the range's hosts.
pub fn has_host(range: &IpNet, address: IpAddr) -> bool {
    let is_broadcast = address.is_ipv4() && range.broadcast() == address;
    range.contains(&address) && range.network() != address && !is_broadcast
}
