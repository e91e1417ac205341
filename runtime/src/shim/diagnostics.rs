//! libcontainer says what went wrong only to its log: the error it returns is "failed to prepare rootfs". So the
//! creator collects what it logs as errors, from itself and the processes it clones, in one shared memory file.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, Write};

use rustix::fs::MemfdFlags;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Enough for the first, telling error.
const LIMIT: u64 = 16 * 1024;

#[derive(Debug)]
pub struct Diagnostics {
    file: File,
}

impl Diagnostics {
    pub fn new() -> io::Result<Self> {
        Ok(Diagnostics { file: File::from(rustix::fs::memfd_create("diagnostics", MemfdFlags::CLOEXEC)?) })
    }

    /// Collects from now on, in this process and those it forks.
    pub fn collect(&self) -> io::Result<()> {
        let collector = Collector { file: self.file.try_clone()? };
        tracing::subscriber::set_global_default(collector).map_err(io::Error::other)
    }

    /// The first error logged: later ones only say what that broke.
    pub fn first(&mut self) -> Option<String> {
        self.file.rewind().ok()?;
        let mut text = String::new();
        Read::by_ref(&mut self.file).take(LIMIT).read_to_string(&mut text).ok()?;
        text.lines().next().map(str::to_owned).filter(|line| !line.is_empty())
    }
}

struct Collector {
    file: File,
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let mut text = line.message;
        text.push_str(&line.fields);
        let mut text = text.replace('\n', " ");
        text.push('\n');
        // One write per line keeps lines of several processes apart; a lost line costs only a worse message.
        let _lost = (&self.file).write_all(text.as_bytes());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let written = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {}={value:?}", field.name())
        };
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }
}
