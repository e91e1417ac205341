//! Events in a file, one a line. A full file is kept beside the new one under the time it was put away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use knarr_api::time::SharedClock;

use super::Sink;

/// How many events wait for the disk; after that requests wait, because no event may be lost.
const QUEUE: usize = 4096;
/// A file's size where none is said, as upstream's.
const DEFAULT_SIZE: u64 = 100 << 20;
/// The time in the names of files that were put away.
const PUT_AWAY: &str = "%Y-%m-%dT%H-%M-%S%.3f";

/// Where the log is and how long it is kept.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// `-` is standard output.
    pub path: PathBuf,
    /// Days that full files are kept; 0: for ever (`--audit-log-maxage`).
    pub max_age_days: u32,
    /// How many full files are kept; 0: all (`--audit-log-maxbackup`).
    pub max_backups: u32,
    /// Megabytes of a full file; 0: 100 (`--audit-log-maxsize`).
    pub max_size_megabytes: u32,
}

/// The log: a thread that writes, so that no request does.
#[derive(Debug)]
pub struct LogFile {
    lines: SyncSender<Message>,
}

enum Message {
    Event(Vec<u8>),
    /// Answered when everything before has been written.
    Flush(SyncSender<()>),
}

impl LogFile {
    /// Opens the file, which may hold earlier events.
    pub fn open(options: LogOptions, clock: SharedClock) -> io::Result<Self> {
        let mut writer = Writer::open(options, clock)?;
        let (lines, received) = sync_channel(QUEUE);
        std::thread::Builder::new().name("audit log".to_owned()).spawn(move || writer.run(&received))?;
        Ok(Self { lines })
    }
}

impl Sink for LogFile {
    fn write(&self, event: &[u8]) {
        if self.lines.send(Message::Event([event, b"\n"].concat())).is_err() {
            tracing::error!("the audit log's writer has ended: an event is lost");
        }
    }

    fn flush(&self) {
        let (done, waiting) = sync_channel(1);
        if self.lines.send(Message::Flush(done)).is_ok() {
            // Without an answer the writer has ended, and said why.
            let _ended = waiting.recv();
        }
    }
}

enum Output {
    Standard,
    File { file: File, size: u64 },
}

struct Writer {
    options: LogOptions,
    clock: SharedClock,
    output: Output,
}

impl Writer {
    fn open(options: LogOptions, clock: SharedClock) -> io::Result<Self> {
        let output = if options.path == Path::new("-") { Output::Standard } else { open(&options.path)? };
        Ok(Self { options, clock, output })
    }

    fn run(&mut self, received: &Receiver<Message>) {
        while let Ok(message) = received.recv() {
            match message {
                Message::Event(line) => {
                    if let Err(error) = self.write(&line) {
                        tracing::error!(%error, path = %self.options.path.display(), "an audit event is lost");
                    }
                }
                Message::Flush(done) => {
                    // Who asked may have gone.
                    let _gone = done.send(());
                }
            }
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let limit = match self.options.max_size_megabytes {
            0 => DEFAULT_SIZE,
            megabytes => u64::from(megabytes) << 20,
        };
        if let Output::File { size, .. } = &self.output
            && *size > 0
            && size + line.len() as u64 > limit
        {
            self.rotate()?;
        }
        match &mut self.output {
            Output::Standard => io::stdout().write_all(line),
            Output::File { file, size } => {
                file.write_all(line)?;
                *size += line.len() as u64;
                Ok(())
            }
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        let path = &self.options.path;
        let (stem, extension) = parts(path);
        let mut at = self.clock.now();
        let mut away = path.with_file_name(format!("{stem}-{}{extension}", at.strftime(PUT_AWAY)));
        // Two files must not be put away under one name.
        while away.exists() {
            at += SignedDuration::from_millis(1);
            away = path.with_file_name(format!("{stem}-{}{extension}", at.strftime(PUT_AWAY)));
        }
        std::fs::rename(path, away)?;
        self.output = open(path)?;
        self.forget()
    }

    /// Removes the files that are too old or too many.
    fn forget(&self) -> io::Result<()> {
        let path = &self.options.path;
        let (stem, extension) = parts(path);
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(directory.unwrap_or(Path::new(".")))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let time = name.strip_prefix(&format!("{stem}-")).and_then(|rest| rest.strip_suffix(&extension));
            let time = time.and_then(|time| DateTime::strptime(PUT_AWAY, time).ok());
            if let Some(at) = time.and_then(|time| time.to_zoned(TimeZone::UTC).ok()) {
                kept.push((at.timestamp(), entry.path()));
            }
        }
        kept.sort_by(|a, b| b.cmp(a));
        let (count, days) = (self.options.max_backups as usize, i64::from(self.options.max_age_days));
        let now = self.clock.now();
        let gone = kept.iter().enumerate().filter(|(at, (time, _))| {
            let too_many = count > 0 && *at >= count;
            too_many || (days > 0 && now.duration_since(*time) > SignedDuration::from_hours(24 * days))
        });
        for (_, (_, path)) in gone {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<Output> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let size = file.metadata()?.len();
    Ok(Output::File { file, size })
}

/// `audit` and `.log`
fn parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy()));
    (text(path.file_stem()), extension.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use knarr_api::time::SystemClock;

    use super::*;

    #[test]
    fn a_full_log_is_put_away_and_only_as_many_are_kept_as_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/audit.log");
        let options =
            LogOptions { path: path.clone(), max_age_days: 7, max_backups: 2, max_size_megabytes: 1 };
        let log = LogFile::open(options.clone(), Arc::new(SystemClock)).unwrap();
        let logs = path.parent().unwrap();
        std::fs::write(logs.join("audit-2001-01-01T00-00-00.000.log"), "old").unwrap();
        std::fs::write(logs.join("audit-other.log"), "not ours").unwrap();
        let event = vec![b'x'; 400 << 10];
        for _ in 0..5 {
            log.write(&event);
        }
        log.flush();
        let mut names: Vec<String> = std::fs::read_dir(logs)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert!(!names.contains(&"audit-2001-01-01T00-00-00.000.log".to_owned()), "{names:?}");
        assert_eq!(names.len(), 4, "the log, two full ones, and what is not its own: {names:?}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (400 << 10) + 1);
        drop(log);
        let again = LogFile::open(options, Arc::new(SystemClock)).unwrap();
        again.write(b"{}");
        again.flush();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), (400 << 10) + 4, "earlier events stay");
    }
}
