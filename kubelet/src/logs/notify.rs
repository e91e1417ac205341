//! Waiting for changes in a directory, by the kernel's notifications.

use std::io::ErrorKind;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe;

/// What one read takes; the changes themselves are not looked at.
const BUFFER: usize = 4096;

pub struct Watcher {
    /// An inotify descriptor; it is polled and read as a pipe is.
    changes: pipe::Receiver,
}

impl Watcher {
    /// Watches a directory's files being written, made, renamed and removed.
    pub fn new(directory: &Path) -> std::io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::DELETE_SELF;
        inotify::add_watch(&descriptor, directory, flags)?;
        Ok(Self { changes: pipe::Receiver::from_owned_fd_unchecked(descriptor)? })
    }

    /// Returns after one or more changes since the last call.
    pub async fn changed(&self) -> std::io::Result<()> {
        let mut buffer = [0; BUFFER];
        loop {
            self.changes.readable().await?;
            match self.changes.try_read(&mut buffer) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}
