//! The network namespace that is the node.
//!
//! A socket belongs to the namespace in which it was made, for good; so
//! only its making has to happen inside, on a thread that is in no runtime.

use std::io;
use std::path::Path;
use std::sync::Arc;

use nix::sys::socket::{setsockopt, sockopt};
use nlink::Connection;
use nlink::netlink::namespace::Netns;
use nlink::netlink::{Netfilter, Nftables, Route};

/// Send buffer for one nftables batch. 10,000 services with 5 endpoints take
/// about 6 MB; the kernel only accounts what is in flight.
const BATCH_BUFFER: usize = 64 << 20;

/// The network namespace a node's links, rules and sockets live in.
#[derive(Debug, Clone)]
pub struct Namespace {
    netns: Arc<Netns>,
    /// Whether all threads of the process are in it anyway.
    is_own: bool,
}

impl Namespace {
    /// The namespace mounted at `path`, or the process's own.
    pub fn open(path: Option<&Path>) -> Result<Self, nlink::Error> {
        let netns = match path {
            Some(path) => Netns::from_path(path)?,
            None => Netns::current()?,
        };
        Ok(Self { netns: Arc::new(netns), is_own: path.is_none() })
    }

    /// Runs `f` inside, if need be on a thread of its own. For making sockets and
    /// writing sysctls; anything long blocks the caller.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> io::Result<T> {
        if self.is_own { Ok(f()) } else { self.netns.run(f).map_err(io::Error::other) }
    }

    /// Links, addresses and routes.
    pub fn route(&self) -> Result<Connection<Route>, nlink::Error> {
        Connection::new_in(&*self.netns)
    }

    /// The connection-tracking table.
    pub fn conntrack(&self) -> Result<Connection<Netfilter>, nlink::Error> {
        Connection::new_in(&*self.netns)
    }

    /// nftables, with room for a large batch.
    pub fn nftables(&self) -> Result<Connection<Nftables>, nlink::Error> {
        let connection: Connection<Nftables> = Connection::new_in(&*self.netns)?;
        setsockopt(connection.socket(), sockopt::SndBufForce, &BATCH_BUFFER)
            .map_err(|errno| nlink::Error::from(io::Error::from(errno)))?;
        Ok(connection)
    }

    /// Reads `key` (`net/ipv4/ip_forward`) as this namespace has it.
    pub fn sysctl(&self, key: &str) -> io::Result<String> {
        let path = format!("/proc/sys/{key}");
        self.run(move || std::fs::read_to_string(path).map(|value| value.trim().to_owned()))?
    }

    /// Writes `key` unless it has the value already: some keys have effects when
    /// written at all (`ip_forward` resets others).
    pub fn set_sysctl(&self, key: &str, value: &str) -> io::Result<()> {
        if self.sysctl(key)? == value {
            return Ok(());
        }
        let path = format!("/proc/sys/{key}");
        self.run(move || std::fs::write(path, value))?
    }
}

/// Whether a namespace is mounted at `path`. The file that it was mounted on
/// may outlive it.
pub fn is_mounted(path: &Path) -> bool {
    nlink::netlink::namespace::is_namespace_path(path)
}
