//! Ways to reach nodes and pods.

use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Opens connections. Pods may be in network namespaces that only the binary knows how to reach.
#[async_trait]
pub trait Dialer: Send + Sync + 'static {
    /// Connects to an address or name, without TLS.
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Io>>;
}

/// Connects over the network this process is in.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpDialer;

#[async_trait]
impl Dialer for TcpDialer {
    async fn dial(&self, host: &str, port: u16) -> io::Result<Box<dyn Io>> {
        let stream = TcpStream::connect((host, port)).await?;
        // Keystrokes of an exec session must not wait for more of them.
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
