//! Following a file of the operator's while the server runs.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe;

/// The file is looked at this often even where the kernel tells nothing: on some network file systems, and where a
/// directory above it changed.
const LOOK: Duration = Duration::from_secs(60);
/// How soon a file that is not there is looked for again; some editors write a new one in its place.
const MISSING: Duration = Duration::from_secs(5);
/// What one read takes; the changes themselves are not looked at.
const BUFFER: usize = 4096;

/// The moments at which a file should be looked at.
pub struct FileChanges<'a> {
    path: &'a Path,
    watched: Option<io::Result<Watched>>,
}

impl<'a> FileChanges<'a> {
    pub fn new(path: &'a Path) -> Self {
        Self { path, watched: None }
    }

    /// Returns at once when called first, and then whenever the file may have changed since the last call returned.
    pub async fn next(&mut self) {
        if let Some(watched) = self.watched.take() {
            self.wait(watched).await;
        }
        // Watched before it is looked at, so that no change falls between.
        self.watched = Some(Watched::new(self.path));
    }

    async fn wait(&self, watched: io::Result<Watched>) {
        let failed = match watched {
            Ok(watched) => match tokio::time::timeout(LOOK, watched.changed()).await {
                Ok(Err(error)) => error,
                Ok(Ok(())) | Err(_) => return,
            },
            Err(error) if error.kind() == ErrorKind::NotFound => return tokio::time::sleep(MISSING).await,
            Err(error) => error,
        };
        tracing::warn!(path = %self.path.display(), error = %failed, "watching the file");
        tokio::time::sleep(LOOK).await;
    }
}

/// One file, until it is written to, replaced or removed.
struct Watched {
    /// An inotify descriptor; it is polled and read as a pipe is.
    changes: pipe::Receiver,
}

impl Watched {
    fn new(path: &Path) -> io::Result<Self> {
        let descriptor = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        // A file is whole when its writer closes it; one that another takes the place of loses its last name.
        let flags =
            WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB | WatchFlags::MOVE_SELF | WatchFlags::DELETE_SELF;
        inotify::add_watch(&descriptor, path, flags)?;
        Ok(Self { changes: pipe::Receiver::from_owned_fd_unchecked(descriptor)? })
    }

    /// Returns after the first change.
    async fn changed(&self) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn a_file_is_looked_at_when_it_is_written_and_when_another_takes_its_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("configuration");
        std::fs::write(&path, "1").expect("writes");
        let (seen, mut texts) = mpsc::unbounded_channel();
        let followed = path.clone();
        let following = tokio::spawn(async move {
            let mut changes = FileChanges::new(&followed);
            loop {
                changes.next().await;
                let text = std::fs::read_to_string(&followed).unwrap_or_default();
                // The test may be over.
                drop(seen.send(text));
            }
        });
        let mut until = async |wanted: &str| {
            let wait = async { while texts.recv().await.expect("followed") != wanted {} };
            tokio::time::timeout(Duration::from_secs(60), wait).await.expect("in time");
        };
        until("1").await;
        std::fs::write(&path, "2").expect("writes");
        until("2").await;
        for number in ["3", "4"] {
            let other = directory.path().join("other");
            std::fs::write(&other, number).expect("writes");
            std::fs::rename(&other, &path).expect("renames");
            until(number).await;
        }
        following.abort();
    }
}
