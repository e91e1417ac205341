//! Connections to pods and Services from wherever the caller runs.
//!
//! A node can be another network namespace than the process (several nodes on
//! one machine): the socket is made there, and driven from here.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use crate::kernel::Namespace;

/// Makes sockets in one node's network namespace. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Dialer(Namespace);

impl Dialer {
    /// Sockets in the namespace mounted at `netns`; `None` is the process's own.
    ///
    /// # Errors
    /// The namespace is not there.
    pub fn open(netns: Option<&Path>) -> io::Result<Self> {
        Namespace::open(netns).map(Self).map_err(io::Error::other)
    }

    /// Sockets in a namespace that is open already.
    pub fn within(namespace: Namespace) -> Self {
        Self(namespace)
    }

    /// A connection to a pod, a ClusterIP or anything else the node can reach. No
    /// timeout of its own.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket =
            self.0.run(|| if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() })??;
        let stream = socket.connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Listens at an address of the node. Call it inside a tokio runtime.
    pub fn listen(&self, at: SocketAddr) -> io::Result<TcpListener> {
        let listener = self.0.run(|| std::net::TcpListener::bind(at))??;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }

    /// A datagram socket at an address of the node. Call it inside a tokio runtime.
    pub fn bind_udp(&self, at: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.0.run(|| std::net::UdpSocket::bind(at))??;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    }

    /// A datagram socket that speaks only with `to`, from a port of the kernel's
    /// choice.
    pub async fn connect_udp(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let any = match to.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = self.bind_udp(SocketAddr::new(any, 0))?;
        socket.connect(to).await?;
        Ok(socket)
    }
}
