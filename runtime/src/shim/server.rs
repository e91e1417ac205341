//! The shim's loop: one thread, poll(2), no timers.

mod children;
mod io;
mod requests;

use std::io as stdio;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};

use super::create::{self, Created};
use super::launch::{Kind, Launch};
use super::log::{Log, Stream};
use super::protocol::{self, Exit, Failure, ProcessId, ShimFile, Started};
use super::streams::{Attached, Sink, Source};
use super::wire;

/// Relative to the container's directory, which is the working directory: socket paths are short.
const CONSOLE_SOCKET: &str = "console.sock";

/// A running container and those who talk to its shim.
#[derive(Debug)]
pub struct Shim {
    directory: PathBuf,
    launch: Launch,
    filter: Option<Vec<u8>>,
    boot_id: String,
    listener: OwnedFd,
    signals: SignalFd,
    connections: Vec<Connection>,
    init: Option<Init>,
    exit: Option<Exit>,
    execs: Vec<ExecProcess>,
    log: Option<Log>,
    sources: Vec<Source>,
    terminal: Option<OwnedFd>,
    stdin: Option<Sink>,
    close_stdin_when_idle: bool,
    attached: Vec<Attached>,
    /// Sources to drop at the end of the round.
    ended_sources: Vec<usize>,
    /// Who asked for Delete, to be answered when init is gone.
    deleting: Option<(usize, u64)>,
    leaving: bool,
}

#[derive(Debug)]
struct Init {
    pid: i32,
    pidfd: OwnedFd,
    started_at: i64,
}

#[derive(Debug)]
struct ExecProcess {
    exec: String,
    pid: i32,
    exit_code: Option<i32>,
}

#[derive(Debug)]
struct Connection {
    fd: Option<OwnedFd>,
    /// Has said Hello, so gets events.
    greeted: bool,
}

/// What a ready descriptor belongs to; indexes are into the vectors of [`Shim`].
#[derive(Debug, Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Connection(usize),
    Source(usize),
    Stdin,
    AttachedStdin(usize),
    AttachedSink(usize, Stream),
}

/// What to poll for, and what each descriptor belongs to.
#[derive(Default)]
struct Interests<'a> {
    tokens: Vec<Token>,
    descriptors: Vec<PollFd<'a>>,
}

impl<'a> Interests<'a> {
    fn add(&mut self, token: Token, fd: BorrowedFd<'a>, flags: PollFlags) {
        self.tokens.push(token);
        self.descriptors.push(PollFd::from_borrowed_fd(fd, flags));
    }
}

impl Shim {
    /// Everything that must be there before the container is created.
    pub fn prepare(directory: PathBuf, launch: Launch) -> stdio::Result<Self> {
        for procs in &launch.shim_cgroups {
            std::fs::write(procs, "0")?;
        }
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        let signals = take_signals()?;
        // Protects the container from losing its parent to the OOM killer; nested hosts may not allow it.
        create::set_oom_score(-998);
        let filter = launch.process.seccomp.as_ref().map(std::fs::read).transpose()?;
        let log = launch.log_path.clone().map(Log::open).transpose()?;
        match std::fs::remove_file(protocol::SOCKET) {
            Err(error) if error.kind() != stdio::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = wire::listen(protocol::SOCKET)?;
        let shim = Shim {
            directory,
            launch,
            filter,
            boot_id: crate::sys::boot_id()?,
            listener,
            signals,
            connections: Vec::new(),
            init: None,
            exit: None,
            execs: Vec::new(),
            log,
            sources: Vec::new(),
            terminal: None,
            stdin: None,
            close_stdin_when_idle: false,
            attached: Vec::new(),
            ended_sources: Vec::new(),
            deleting: None,
            leaving: false,
        };
        shim.write_shim_file()?;
        Ok(shim)
    }

    /// Creates and starts the container; says how that went.
    pub fn start(&mut self) -> Started {
        match self.create_and_start() {
            Ok((pid, started_at)) => Started::Running { pid, started_at },
            Err(failure) => {
                self.abandon();
                Started::Failed { message: failure.message, exit_code: failure.exit_code.unwrap_or(128) }
            }
        }
    }

    fn create_and_start(&mut self) -> Result<(i32, i64), Failure> {
        let created = if self.launch.tty { self.create_with_terminal() } else { self.create_with_pipes() }?;
        let pid = created.pid;
        let pidfd = crate::sys::pidfd_open(pid)?;
        let started_at = crate::sys::now_nanos();
        self.init = Some(Init { pid, pidfd, started_at });
        // Before the program runs: whoever finds this container later must know its init.
        self.write_shim_file()?;
        created.start(&self.directory, &self.launch.id)?;
        Ok((pid, started_at))
    }

    fn create_with_terminal(&mut self) -> Result<Created, Failure> {
        let listener = std::os::unix::net::UnixListener::bind(CONSOLE_SOCKET)?;
        let console = self.directory.join(CONSOLE_SOCKET);
        let created =
            create::create(&self.directory, &self.launch, None, Some(&console), self.filter.clone())?;
        // Connected since before the container was made, so this cannot block.
        let (connection, _) = listener.accept()?;
        let (_, mut descriptors) = wire::receive(&connection)?;
        std::fs::remove_file(CONSOLE_SOCKET)?;
        let terminal =
            descriptors.pop().ok_or_else(|| stdio::Error::other("the container sent no terminal"))?;
        crate::sys::set_nonblocking(&terminal)?;
        self.sources.push(Source { fd: terminal.try_clone()?, stream: Stream::Stdout });
        self.stdin = Some(Sink::new(terminal.try_clone()?)?);
        self.terminal = Some(terminal);
        Ok(created)
    }

    fn create_with_pipes(&mut self) -> Result<Created, Failure> {
        let (stdin, input) = self.input()?;
        let (stdout, stderr) = if self.launch.kind == Kind::Pause {
            (null()?, null()?)
        } else {
            (self.output(Stream::Stdout)?, self.output(Stream::Stderr)?)
        };
        // A program that opens /dev/stdout needs to own what is behind it.
        let first = self.launch.users.as_ref().map_or(0, |users| users.host_id);
        let owner = rustix::process::Uid::from_raw(first.saturating_add(self.launch.process.uid));
        if self.launch.kind == Kind::Container {
            for pipe in [&stdout, &stderr] {
                rustix::fs::fchown(pipe, Some(owner), None).map_err(stdio::Error::from)?;
            }
        }
        self.stdin = input;
        let given = create::Stdio { stdin, stdout, stderr };
        create::create(&self.directory, &self.launch, Some(given), None, self.filter.clone())
    }

    fn input(&self) -> stdio::Result<(OwnedFd, Option<Sink>)> {
        if !self.launch.stdin {
            return Ok((null()?, None));
        }
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Ok((read, Some(Sink::new(write)?)))
    }

    fn output(&mut self, stream: Stream) -> stdio::Result<OwnedFd> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        crate::sys::set_nonblocking(&read)?;
        self.sources.push(Source { fd: read, stream });
        Ok(write)
    }

    /// The container never ran: leave no process behind.
    fn abandon(&mut self) {
        if let Some(init) = &self.init {
            // Gone already is as good.
            let _gone = crate::sys::pidfd_signal(init.pidfd.as_fd(), libc::SIGKILL);
        }
        self.kill_cgroup();
    }

    fn write_shim_file(&self) -> stdio::Result<()> {
        let file = ShimFile {
            version: protocol::VERSION,
            boot_id: self.boot_id.clone(),
            shim: ProcessId::of(std::process::id() as i32)
                .ok_or_else(|| stdio::Error::other("/proc shows no start time"))?,
            init: self.init.as_ref().and_then(|init| ProcessId::of(init.pid)),
            started_at: self.init.as_ref().map_or(0, |init| init.started_at),
        };
        // Not synced: it only speaks of this boot.
        let temporary = self.directory.join("shim.json.new");
        std::fs::write(&temporary, serde_json::to_vec(&file)?)?;
        std::fs::rename(&temporary, self.directory.join(protocol::SHIM_FILE))
    }

    /// Serves until Delete is answered.
    pub fn serve(mut self) -> stdio::Result<()> {
        while !self.leaving {
            let ready = {
                let (tokens, mut descriptors) = self.interests();
                match poll(&mut descriptors, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    other => other?,
                };
                tokens
                    .into_iter()
                    .zip(descriptors.iter().map(PollFd::revents))
                    .filter(|(_, events)| !events.is_empty())
                    .collect::<Vec<_>>()
            };
            for (token, _) in ready {
                self.handle(token)?;
            }
            self.forget_the_gone();
        }
        Ok(())
    }

    fn interests(&self) -> (Vec<Token>, Vec<PollFd<'_>>) {
        let mut interests = Interests::default();
        interests.add(Token::Signals, self.signals.as_fd(), PollFlags::IN);
        interests.add(Token::Listener, self.listener.as_fd(), PollFlags::IN);
        for (index, connection) in self.connections.iter().enumerate() {
            if let Some(fd) = &connection.fd {
                interests.add(Token::Connection(index), fd.as_fd(), PollFlags::IN);
            }
        }
        if !self.attached.iter().any(Attached::is_congested) {
            for (index, source) in self.sources.iter().enumerate() {
                interests.add(Token::Source(index), source.fd.as_fd(), PollFlags::IN);
            }
        }
        let busy = self.stdin.as_ref().filter(|stdin| !stdin.is_idle());
        if let Some(stdin) = busy {
            interests.add(Token::Stdin, stdin.fd(), PollFlags::OUT);
        }
        for (index, attached) in self.attached.iter().enumerate() {
            if let (Some(stdin), None) = (&attached.stdin, busy) {
                interests.add(Token::AttachedStdin(index), stdin.as_fd(), PollFlags::IN);
            }
            for (sink, stream) in [(&attached.stdout, Stream::Stdout), (&attached.stderr, Stream::Stderr)] {
                if let Some(sink) = sink {
                    // Without anything to write this still tells when the reader leaves.
                    let flags = if sink.is_idle() { PollFlags::empty() } else { PollFlags::OUT };
                    interests.add(Token::AttachedSink(index, stream), sink.fd(), flags);
                }
            }
        }
        (interests.tokens, interests.descriptors)
    }

    fn handle(&mut self, token: Token) -> stdio::Result<()> {
        match token {
            Token::Signals => {
                while self.signals.read_signal()?.is_some() {}
                self.reap()?;
            }
            Token::Listener => {
                // A client that left again is no reason to stop.
                if let Ok(fd) = wire::accept(&self.listener) {
                    self.connections.push(Connection { fd: Some(fd), greeted: false });
                }
            }
            Token::Connection(index) => self.receive(index),
            Token::Source(index) => self.read_source(index),
            Token::Stdin => self.flush_stdin(),
            Token::AttachedStdin(index) => self.read_attached(index),
            Token::AttachedSink(index, stream) => self.flush_attached(index, stream),
        }
        Ok(())
    }

    /// Only here do indexes change.
    fn forget_the_gone(&mut self) {
        self.remove_ended_sources();
        self.attached.retain(|attached| !attached.is_gone());
        if self.deleting.is_none() {
            self.connections.retain(|connection| connection.fd.is_some());
        }
    }
}

fn null() -> stdio::Result<OwnedFd> {
    Ok(std::fs::File::options().read(true).write(true).open("/dev/null")?.into())
}

/// SIGCHLD arrives as a descriptor; a terminal's hang-up or a reader that left must not end the shim.
fn take_signals() -> stdio::Result<SignalFd> {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: ignoring runs no code of ours.
        unsafe { sigaction(signal, &ignore) }?;
    }
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}
