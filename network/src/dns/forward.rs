//! Names outside the cluster: passed on as they came to the resolvers that the
//! machine itself uses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use knarr_api::time::SharedRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::dialer::Dialer;

/// How long one resolver may take, and all together.
const ONE_RESOLVER: Duration = Duration::from_secs(2);
const ALTOGETHER: Duration = Duration::from_secs(5);
/// Questions under way, as upstream's `max_concurrent`; more are refused.
const MAX_CONCURRENT: usize = 1000;
/// Upstream takes no more from a resolver file.
const MAX_RESOLVERS: usize = 15;
const MAX_MESSAGE: usize = 65_535;

/// How a question came, and is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no resolvers in {}", path.display())]
    NoResolvers { path: PathBuf },
    #[error("too many questions under way")]
    Busy,
    #[error("no resolver answered, the last: {0}")]
    Unanswered(#[source] io::Error),
}

/// Passes questions on.
pub struct Forwarder {
    dialer: Dialer,
    resolv_conf: PathBuf,
    /// Our own addresses: asking ourselves would go round for ever.
    own: Vec<IpAddr>,
    random: SharedRandom,
    slots: Semaphore,
}

impl Forwarder {
    pub fn new(dialer: Dialer, resolv_conf: PathBuf, own: Vec<IpAddr>, random: SharedRandom) -> Self {
        Self { dialer, resolv_conf, own, random, slots: Semaphore::new(MAX_CONCURRENT) }
    }

    /// The answer to an encoded question, under the question's own id.
    pub async fn ask(&self, question: &[u8], transport: Transport) -> Result<Vec<u8>, Error> {
        let _slot = self.slots.try_acquire().map_err(|_| Error::Busy)?;
        let resolvers = self.resolvers();
        if resolvers.is_empty() {
            return Err(Error::NoResolvers { path: self.resolv_conf.clone() });
        }
        let deadline = tokio::time::Instant::now() + ALTOGETHER;
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for resolver in resolvers {
            if tokio::time::Instant::now() >= deadline {
                break;
            }
            match timeout(ONE_RESOLVER, self.ask_one(question, resolver, transport)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(Error::Unanswered(last))
    }

    /// The file is small and in memory; reading it each time needs no watch on a
    /// name that is usually replaced as a whole.
    fn resolvers(&self) -> Vec<SocketAddr> {
        let text = match std::fs::read_to_string(&self.resolv_conf) {
            Ok(text) => text,
            Err(error) => {
                tracing::warn!(path = %self.resolv_conf.display(), %error, "cannot read the resolver file");
                return Vec::new();
            }
        };
        parse_resolvers(&text)
            .filter(|address| !self.own.contains(&address.ip()))
            .take(MAX_RESOLVERS)
            .collect()
    }

    async fn ask_one(
        &self,
        question: &[u8],
        resolver: SocketAddr,
        transport: Transport,
    ) -> io::Result<Vec<u8>> {
        let mut ours = question.to_vec();
        let Some(id) = question.first_chunk::<2>().copied() else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        // An id that the asker of the question does not know makes a forged answer
        // harder.
        let our_id = (self.random.next_u64() as u16).to_be_bytes();
        ours[..2].copy_from_slice(&our_id);
        let mut answer = match transport {
            Transport::Udp => self.over_udp(&ours, resolver, our_id).await?,
            Transport::Tcp => self.over_tcp(&ours, resolver).await?,
        };
        if answer.len() < 12 || answer[..2] != our_id {
            return Err(io::ErrorKind::InvalidData.into());
        }
        answer[..2].copy_from_slice(&id);
        Ok(answer)
    }

    async fn over_udp(&self, question: &[u8], resolver: SocketAddr, id: [u8; 2]) -> io::Result<Vec<u8>> {
        let socket = self.dialer.connect_udp(resolver).await?;
        socket.send(question).await?;
        let mut buffer = vec![0; 4096];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if buffer[..length].starts_with(&id) {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }

    async fn over_tcp(&self, question: &[u8], resolver: SocketAddr) -> io::Result<Vec<u8>> {
        let mut stream = self.dialer.connect(resolver).await?;
        write_message(&mut stream, question).await?;
        read_message(&mut stream).await?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// Writes a message with its length before it.
pub async fn write_message(stream: &mut (impl AsyncWriteExt + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut framed = Vec::with_capacity(2 + message.len());
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    stream.write_all(&framed).await
}

/// Reads such a message; `None` at the end of the stream.
pub async fn read_message(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let mut message = vec![0; usize::from(u16::from_be_bytes(length)).min(MAX_MESSAGE)];
    stream.read_exact(&mut message).await?;
    Ok(Some(message))
}

fn parse_resolvers(text: &str) -> impl Iterator<Item = SocketAddr> + '_ {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let is_server = words.next() == Some("nameserver");
        // A zone index (`fe80::1%eth0`) names a link that the answer may not come by.
        let address = words.next()?.parse().ok()?;
        is_server.then(|| SocketAddr::new(address, 53))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nameserver_lines_with_addresses_are_resolvers() {
        let text = "# a comment\nsearch example.org\nnameserver 192.0.2.1\nnameserver  fd00::1 \nnameserver\nnameserver x\n#nameserver 192.0.2.9\n";
        let found: Vec<_> = parse_resolvers(text).map(|address| address.ip().to_string()).collect();
        assert_eq!(found, ["192.0.2.1", "fd00::1"]);
    }
}
