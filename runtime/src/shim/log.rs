//! The CRI log: `<time> <stream> <F|P> <line>`.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longer lines are cut in partial ones, as containerd does.
const MAX_LINE: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Cuts a byte stream into log lines. Holds at most one line of each stream.
#[derive(Debug, Default)]
pub struct LineCutter {
    pending: Vec<u8>,
}

impl LineCutter {
    /// Appends the log entries of `data` to `out`, all with the same time.
    fn cut(&mut self, stream: Stream, time: &str, mut data: &[u8], out: &mut Vec<u8>) {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = data.split_at(end);
            self.take(stream, time, line, out);
            if self.pending.last() == Some(&b'\r') {
                self.pending.pop();
            }
            entry(stream, time, b'F', &self.pending, out);
            self.pending.clear();
            data = &rest[1..];
        }
        self.take(stream, time, data, out);
    }

    /// Moves part of a line to `pending`, writing what overflows.
    fn take(&mut self, stream: Stream, time: &str, mut part: &[u8], out: &mut Vec<u8>) {
        while self.pending.len() + part.len() > MAX_LINE {
            let (now, later) = part.split_at(MAX_LINE - self.pending.len());
            self.pending.extend_from_slice(now);
            entry(stream, time, b'P', &self.pending, out);
            self.pending.clear();
            part = later;
        }
        self.pending.extend_from_slice(part);
    }

    /// At the end of the stream: what came without a newline is a partial line.
    fn finish(&mut self, stream: Stream, time: &str, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            entry(stream, time, b'P', &self.pending, out);
        }
        self.pending = Vec::new();
    }
}

fn entry(stream: Stream, time: &str, tag: u8, line: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(match stream {
        Stream::Stdout => b" stdout ",
        Stream::Stderr => b" stderr ",
    });
    out.extend_from_slice(&[tag, b' ']);
    out.extend_from_slice(line);
    out.push(b'\n');
}

/// The log file of one container.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    stdout: LineCutter,
    stderr: LineCutter,
    buffer: Vec<u8>,
}

impl Log {
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = append(&path)?;
        Ok(Log {
            path,
            file,
            stdout: LineCutter::default(),
            stderr: LineCutter::default(),
            buffer: Vec::new(),
        })
    }

    /// The file was renamed away: go on in a new one.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = append(&self.path)?;
        Ok(())
    }

    /// Logs output. A full disk loses log lines, never output or the container.
    pub fn write(&mut self, stream: Stream, data: &[u8]) {
        let time = timestamp(crate::sys::now_nanos());
        let Log { stdout, stderr, buffer, .. } = self;
        let cutter = if stream == Stream::Stdout { stdout } else { stderr };
        cutter.cut(stream, &time, data, buffer);
        self.flush();
    }

    pub fn finish(&mut self, stream: Stream) {
        let time = timestamp(crate::sys::now_nanos());
        let Log { stdout, stderr, buffer, .. } = self;
        let cutter = if stream == Stream::Stdout { stdout } else { stderr };
        cutter.finish(stream, &time, buffer);
        self.flush();
    }

    fn flush(&mut self) {
        // Nobody could be told: the log itself is what failed. The next write tries again.
        let _lost = self.file.write_all(&self.buffer);
        self.buffer.clear();
        if self.buffer.capacity() > 4 * MAX_LINE {
            self.buffer = Vec::new();
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    File::options().create(true).append(true).mode(0o640).open(path)
}

/// RFC 3339 with nanoseconds, in UTC.
pub fn timestamp(nanos: i64) -> String {
    let seconds = nanos.div_euclid(1_000_000_000);
    let fraction = nanos.rem_euclid(1_000_000_000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Days since 1970-01-01 to year, month, day (proleptic Gregorian calendar, years that begin in March).
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(pieces: &[&[u8]]) -> String {
        let mut cutter = LineCutter::default();
        let mut out = Vec::new();
        for piece in pieces {
            cutter.cut(Stream::Stdout, "T", piece, &mut out);
        }
        cutter.finish(Stream::Stdout, "T", &mut out);
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn whole_lines_are_full_and_a_rest_is_partial() {
        assert_eq!(
            cut(&[b"one\ntw", b"o\r\n\nrest"]),
            "T stdout F one\nT stdout F two\nT stdout F \nT stdout P rest\n"
        );
    }

    #[test]
    fn long_lines_are_cut_at_sixteen_kibibytes() {
        let long = vec![b'a'; MAX_LINE + 1];
        let text = cut(&[&long, b"\n"]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].len(), "T stdout P ".len() + MAX_LINE);
        assert_eq!(lines[1], "T stdout F a");
        let exact = vec![b'a'; MAX_LINE];
        assert_eq!(cut(&[&exact, b"\n"]).lines().count(), 1);
    }

    #[test]
    fn times_are_rfc3339() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(timestamp(1_735_689_599_999_999_999), "2024-12-31T23:59:59.999999999Z");
    }
}
