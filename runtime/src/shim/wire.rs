//! Packets with descriptors over a SOCK_SEQPACKET socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    self, AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr,
};

/// Longest message; execs with very long command lines fit.
pub const LIMIT: usize = 4 << 20;
/// Most descriptors in one message.
const MAX_FDS: usize = 4;

/// A listening socket at `path`, which should be relative: the limit of a socket's path is 107 bytes.
pub fn listen(path: &str) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    socket::listen(&socket, Backlog::new(16)?)?;
    Ok(socket)
}

/// Connects; the socket is non-blocking afterwards.
pub fn connect(path: &std::path::Path) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    crate::sys::set_nonblocking(&socket)?;
    Ok(socket)
}

fn new_socket() -> io::Result<OwnedFd> {
    let socket = socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    allow_long_messages(&socket)?;
    Ok(socket)
}

/// A packet must fit the send buffer.
fn allow_long_messages(socket: &OwnedFd) -> io::Result<()> {
    socket::setsockopt(socket, socket::sockopt::SndBufForce, &LIMIT)?;
    Ok(())
}

/// Accepts a connection, of our own user only.
pub fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let raw = socket::accept4(listener.as_raw_fd(), flags)?;
    // SAFETY: accept4 just made it for us.
    let connection = unsafe { OwnedFd::from_raw_fd(raw) };
    let peer = socket::getsockopt(&connection, socket::sockopt::PeerCredentials)?;
    if peer.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "connection from another user"));
    }
    allow_long_messages(&connection)?;
    Ok(connection)
}

/// Sends one packet.
pub fn send(socket: impl AsFd, message: &[u8], fds: &[RawFd]) -> io::Result<()> {
    let control = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &control[..0] } else { &control[..] };
    socket::sendmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(message)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Receives one packet; an empty one means that the other side is gone.
pub fn receive(socket: impl AsFd) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let fd = socket.as_fd().as_raw_fd();
    let length = socket::recv(fd, &mut [], MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC)?;
    if length > LIMIT {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    let mut buffer = vec![0; length.max(1)];
    let mut control = nix::cmsg_space!([RawFd; MAX_FDS]);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let received = socket::recvmsg::<()>(fd, &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let length = received.bytes;
    let mut fds = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = message {
            // SAFETY: the kernel just installed these for us, each once.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    buffer.truncate(length);
    Ok((buffer, fds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_arrives_whole_with_its_descriptors() {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (left, right) = socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
            .expect("a pair of sockets");
        let file = std::fs::File::open("/dev/null").expect("/dev/null opens");
        let message = vec![b'x'; 100_000];
        send(&left, &message, &[file.as_raw_fd()]).expect("sent");
        send(&left, b"second", &[]).expect("sent");
        let (first, fds) = receive(&right).expect("received");
        assert_eq!((first, fds.len()), (message, 1));
        let (second, fds) = receive(&right).expect("received");
        assert_eq!((&second[..], fds.len()), (&b"second"[..], 0));
        drop(left);
        assert!(receive(&right).expect("end of stream").0.is_empty());
    }
}
