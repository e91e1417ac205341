//! Reading a container's log for a user: from where, how much, and following what is still to come.

use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use super::line::{Line, Stream};
use super::notify::Watcher;

/// Read and sent at once.
const CHUNK: usize = 32 * 1024;
/// Lines longer than this are sent in pieces; runtimes split at 16 KiB.
const MAX_LINE: usize = 1024 * 1024;

/// What the user asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    pub follow: bool,
    pub tail_lines: Option<u64>,
    pub since: Option<Timestamp>,
    pub limit_bytes: Option<u64>,
    pub timestamps: bool,
    /// Both where absent.
    pub stream: Option<Stream>,
}

/// Says whether a container still writes; asked when a follower reached the end.
#[async_trait::async_trait]
pub trait Running: Send + Sync {
    /// `true` while more may come.
    async fn running(&self) -> bool;
    /// Returns when the answer may have changed.
    async fn changed(&self);
}

/// Turns stored lines into what users see.
struct Shaper {
    options: Options,
    left: Option<u64>,
    /// The line before was cut: the next one continues it.
    continued: bool,
}

impl Shaper {
    fn new(options: Options) -> Self {
        Self { left: options.limit_bytes, options, continued: false }
    }

    fn done(&self) -> bool {
        self.left == Some(0)
    }

    /// Appends what the line gives, if anything.
    fn push(&mut self, raw: &[u8], out: &mut BytesMut) {
        let Some(line) = Line::parse(raw) else { return };
        if self.options.stream.is_some_and(|stream| stream != line.stream) {
            return;
        }
        if let Some(since) = self.options.since
            && line.timestamp().is_some_and(|time| time < since)
        {
            return;
        }
        if self.options.timestamps && !self.continued {
            self.take(line.time.as_bytes(), out);
            self.take(b" ", out);
        }
        self.take(line.text, out);
        if !line.partial {
            self.take(b"\n", out);
        }
        self.continued = line.partial;
    }

    fn take(&mut self, bytes: &[u8], out: &mut BytesMut) {
        match &mut self.left {
            None => out.extend_from_slice(bytes),
            Some(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                out.extend_from_slice(&bytes[..count]);
                *left -= count as u64;
            }
        }
    }
}

/// Where the last `lines` lines begin.
async fn tail_offset(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let end = file.seek(SeekFrom::End(0)).await?;
    if lines == 0 {
        return Ok(end);
    }
    let (mut position, mut seen) = (end, 0);
    let mut buffer = vec![0; CHUNK];
    while position > 0 {
        let length = position.min(CHUNK as u64) as usize;
        position -= length as u64;
        file.seek(SeekFrom::Start(position)).await?;
        file.read_exact(&mut buffer[..length]).await?;
        for index in (0..length).rev() {
            // The newline at the very end closes the last line and opens none.
            if buffer[index] == b'\n' && position + (index as u64) + 1 < end {
                seen += 1;
                if seen == lines {
                    return Ok(position + index as u64 + 1);
                }
            }
        }
    }
    Ok(0)
}

/// Sends the log into `sender` until its end, or for a follower until the container has ended too. A receiver that
/// goes away ends it.
pub async fn send(
    path: PathBuf,
    options: Options,
    container: &dyn Running,
    sender: mpsc::Sender<std::io::Result<Bytes>>,
) -> std::io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
    // Watching begins before reading: nothing written in between is missed.
    let watcher = options.follow.then(|| Watcher::new(&directory)).transpose()?;
    let mut file = File::open(&path).await?;
    let start = match options.tail_lines {
        Some(lines) => tail_offset(&mut file, lines).await?,
        None => 0,
    };
    file.seek(SeekFrom::Start(start)).await?;
    let mut shaper = Shaper::new(options);
    let mut pending = BytesMut::new();
    loop {
        let running = match &watcher {
            Some(_) => container.running().await,
            None => false,
        };
        if !drain(&mut file, &mut pending, &mut shaper, &sender).await? {
            return Ok(());
        }
        if let Some(next) = rotated(&file, &path).await? {
            // The rest of the old file has been read; the new one begins.
            file = next;
            pending.clear();
            continue;
        }
        let Some(watcher) = watcher.as_ref().filter(|_| running) else { return Ok(()) };
        tokio::select! {
            changed = watcher.changed() => changed?,
            () = container.changed() => {}
            () = sender.closed() => return Ok(()),
        }
    }
}

/// Sends all whole lines there are; `false` when no more is wanted.
async fn drain(
    file: &mut File,
    pending: &mut BytesMut,
    shaper: &mut Shaper,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
) -> std::io::Result<bool> {
    loop {
        pending.reserve(CHUNK);
        if file.read_buf(pending).await? == 0 {
            return Ok(true);
        }
        let mut out = BytesMut::new();
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line = pending.split_to(end + 1);
            shaper.push(&line[..end], &mut out);
            if shaper.done() {
                break;
            }
        }
        if pending.len() > MAX_LINE {
            pending.clear();
        }
        if !out.is_empty() && sender.send(Ok(out.freeze())).await.is_err() {
            return Ok(false);
        }
        if shaper.done() {
            return Ok(false);
        }
    }
}

/// The new file where the path names another one now.
async fn rotated(file: &File, path: &Path) -> std::io::Result<Option<File>> {
    let old = file.metadata().await?;
    match tokio::fs::metadata(path).await {
        Ok(new) if new.ino() != old.ino() => Ok(Some(File::open(path).await?)),
        // Between the rename and the new file there is none.
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::Notify;

    use super::*;

    struct Switch(AtomicBool, Notify);

    #[async_trait::async_trait]
    impl Running for Switch {
        async fn running(&self) -> bool {
            self.0.load(Ordering::SeqCst)
        }

        async fn changed(&self) {
            self.1.notified().await;
        }
    }

    fn stopped() -> Switch {
        Switch(AtomicBool::new(false), Notify::new())
    }

    fn log(lines: &[&str]) -> String {
        lines.iter().enumerate().map(|(n, l)| format!("2026-01-01T00:00:0{n}Z {l}\n")).collect()
    }

    async fn read(text: &str, options: Options) -> String {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("0.log");
        std::fs::write(&path, text).expect("written");
        let (sender, mut receiver) = mpsc::channel(100);
        send(path, options, &stopped(), sender).await.expect("readable");
        let mut out = Vec::new();
        while let Some(Ok(bytes)) = receiver.recv().await {
            out.extend_from_slice(&bytes);
        }
        String::from_utf8(out).expect("text")
    }

    #[tokio::test]
    async fn options_choose_lines_and_bytes() {
        let text = log(&["stdout F a", "stderr F b", "stdout P c", "stdout F d", "stdout F e"]);
        let all = Options::default();
        assert_eq!(read(&text, all.clone()).await, "a\nb\ncd\ne\n");
        assert_eq!(read(&text, Options { tail_lines: Some(2), ..all.clone() }).await, "d\ne\n");
        assert_eq!(read(&text, Options { tail_lines: Some(0), ..all.clone() }).await, "");
        assert_eq!(read(&text, Options { tail_lines: Some(99), ..all.clone() }).await, "a\nb\ncd\ne\n");
        assert_eq!(read(&text, Options { limit_bytes: Some(3), ..all.clone() }).await, "a\nb");
        assert_eq!(read(&text, Options { stream: Some(Stream::Stderr), ..all.clone() }).await, "b\n");
        let since = "2026-01-01T00:00:03Z".parse().ok();
        assert_eq!(read(&text, Options { since, ..all.clone() }).await, "d\ne\n");
        let stamped = read(&text, Options { timestamps: true, tail_lines: Some(1), ..all }).await;
        assert_eq!(stamped, "2026-01-01T00:00:04Z e\n");
    }

    #[tokio::test]
    async fn a_follower_sees_new_lines_across_a_rotation_and_ends_with_the_container() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("0.log");
        std::fs::write(&path, log(&["stdout F a"])).expect("written");
        let (sender, mut receiver) = mpsc::channel(100);
        let switch = Switch(AtomicBool::new(true), Notify::new());
        let options = Options { follow: true, ..Options::default() };
        let follow = send(path.clone(), options, &switch, sender);
        let drive = async {
            let mut next = async || receiver.recv().await.expect("more").expect("readable");
            assert_eq!(next().await, "a\n");
            std::fs::rename(&path, dir.path().join("0.log.old")).expect("renamed");
            std::fs::write(&path, log(&["stdout F b"])).expect("written");
            assert_eq!(next().await, "b\n");
            switch.0.store(false, Ordering::SeqCst);
            switch.1.notify_one();
        };
        let (result, ()) = tokio::join!(follow, drive);
        result.expect("readable");
    }
}
