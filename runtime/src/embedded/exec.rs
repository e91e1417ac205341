//! Streams into containers: exec, attach, port-forward.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

use super::client::{self, Client};
use super::container::{Container, Phase};
use super::error::{blocking, failed};
use super::namespaces::Kind;
use super::state::Inner;
use crate::cri::*;
use crate::shim::launch::{Launch, Process};
use crate::shim::protocol::Op;

/// Output of [`Inner::exec_sync`] beyond this is cut.
const SYNC_OUTPUT: u64 = 16 << 20;
/// How long output may still come after a process that was run to its end: children of it hold its streams open.
const AFTER_EXIT: Duration = Duration::from_secs(10);

static NEXT_EXEC: AtomicU64 = AtomicU64::new(1);

/// A running exec.
struct Running {
    exec: String,
    client: Arc<Client>,
    exit: oneshot::Receiver<i32>,
}

/// Our ends of a process's streams.
#[derive(Default)]
struct Ends {
    stdin: Option<Writer>,
    stdout: Option<Reader>,
    stderr: Option<Reader>,
}

impl Inner {
    async fn client_of(self: &Arc<Self>, container: &Arc<Container>) -> Result<Arc<Client>> {
        let not_running = || Error::Invalid(format!("container {} is not running", container.record.id));
        if !container.is_running() {
            return Err(not_running());
        }
        container.client().ok_or_else(not_running)
    }

    fn process(&self, id: &str, command: &[String], tty: bool) -> Result<Process> {
        if command.is_empty() {
            return Err(Error::Invalid("no command specified".to_owned()));
        }
        let launch =
            Launch::load(&self.container_directory(id)).map_err(failed(format!("read container {id}")))?;
        let mut process = Process { args: command.to_vec(), tty, ..launch.process };
        if tty && !process.env.iter().any(|entry| entry.starts_with("TERM=")) {
            process.env.push("TERM=xterm".to_owned());
        }
        Ok(process)
    }

    async fn start_exec(
        self: &Arc<Self>,
        id: &str,
        command: &[String],
        options: &StreamOptions,
    ) -> Result<(Running, Ends, Option<OwnedFd>)> {
        let container = self.container(id)?;
        let client = self.client_of(&container).await?;
        let process = Box::new(self.process(id, command, options.tty)?);
        let exec = format!("{}-{}", std::process::id(), NEXT_EXEC.fetch_add(1, Ordering::Relaxed));
        let (sender, exit) = oneshot::channel();
        container.execs.lock().insert(exec.clone(), sender);
        // With a terminal the shim makes it, and sends its master.
        let wanted =
            if options.tty { StreamOptions { tty: true, ..Default::default() } } else { options.clone() };
        let (ends, given) = pipes(&wanted).map_err(failed("make pipes for exec"))?;
        let descriptors: Vec<RawFd> = given.iter().map(AsRawFd::as_raw_fd).collect();
        let op = Op::Exec {
            exec: exec.clone(),
            process,
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr: wanted.stderr,
        };
        match client.call(op, &descriptors).await {
            Ok((_, mut received)) => Ok((Running { exec, client, exit }, ends, received.pop())),
            Err(error) => {
                container.execs.lock().remove(&exec);
                Err(exec_failed(&exec, error))
            }
        }
    }

    /// Runs a command to its end.
    pub async fn exec_sync(
        self: &Arc<Self>,
        id: &str,
        command: &[String],
        timeout: Duration,
    ) -> Result<ExecResult> {
        let options = StreamOptions { stdin: false, stdout: true, stderr: true, tty: false };
        let (mut running, ends, _) = self.start_exec(id, command, &options).await?;
        let mut collected = (Vec::new(), Vec::new());
        let outcome = {
            let read = async {
                let (stdout, stderr) = (&mut collected.0, &mut collected.1);
                tokio::join!(collect(ends.stdout, stdout), collect(ends.stderr, stderr));
            };
            tokio::pin!(read);
            let finish = async {
                let mut drained = false;
                let code = loop {
                    tokio::select! {
                        code = &mut running.exit => break code,
                        () = &mut read, if !drained => drained = true,
                    }
                };
                if !drained {
                    // Late output of children is not worth more than this.
                    let _cut = tokio::time::timeout(AFTER_EXIT, &mut read).await;
                }
                code
            };
            if timeout.is_zero() { Ok(finish.await) } else { tokio::time::timeout(timeout, finish).await }
        };
        match outcome {
            Ok(code) => {
                let exit_code =
                    code.map_err(|_| failed(format!("exec in container {id}"))(client::Error::Gone))?;
                Ok(ExecResult { stdout: collected.0, stderr: collected.1, exit_code })
            }
            Err(_) => {
                let kill = Op::KillExec { exec: running.exec, signal: libc::SIGKILL };
                running
                    .client
                    .call(kill, &[])
                    .await
                    .map_err(failed(format!("kill exec in container {id}")))?;
                // The shim says when it is gone, or leaves itself; a process that hangs in the kernel is left to it.
                let _gone = tokio::time::timeout(AFTER_EXIT, running.exit).await;
                Err(Error::Timeout { doing: format!("command {:?}", command.join(" ")), after: timeout })
            }
        }
    }

    /// Runs a command with streams.
    pub async fn exec(
        self: &Arc<Self>,
        id: &str,
        command: &[String],
        options: StreamOptions,
    ) -> Result<Streams> {
        let (running, mut ends, master) = self.start_exec(id, command, &options).await?;
        let mut resize = None;
        if let Some(master) = master {
            let terminal = Terminal::new(master).map_err(failed("use the terminal of exec"))?;
            resize = Some(resizer(Arc::clone(&terminal.0)));
            ends = terminal.ends(&options);
        }
        let id = id.to_owned();
        let (sender, exit) = oneshot::channel();
        tokio::spawn(async move {
            let code = running
                .exit
                .await
                .map_err(|_| failed(format!("exec in container {id}"))(client::Error::Gone));
            // Who asked may have hung up.
            let _unwanted = sender.send(code);
        });
        Ok(Streams { stdin: ends.stdin, stdout: ends.stdout, stderr: ends.stderr, resize, exit })
    }

    /// Joins the container's own streams.
    pub async fn attach(self: &Arc<Self>, id: &str, options: StreamOptions) -> Result<Streams> {
        let container = self.container(id)?;
        let client = self.client_of(&container).await?;
        let tty = container.record.config.tty;
        let wanted = StreamOptions {
            stdin: options.stdin && container.record.config.stdin,
            stdout: options.stdout,
            // A terminal has one output.
            stderr: options.stderr && !tty,
            tty,
        };
        let (ends, given) = pipes(&wanted).map_err(failed("make pipes for attach"))?;
        let descriptors: Vec<RawFd> = given.iter().map(AsRawFd::as_raw_fd).collect();
        let op = Op::Attach { stdin: wanted.stdin, stdout: wanted.stdout, stderr: wanted.stderr };
        client.call(op, &descriptors).await.map_err(failed(format!("attach to container {id}")))?;
        let resize = tty.then(|| {
            let (sender, mut sizes) = mpsc::channel(4);
            let client = Arc::clone(&client);
            tokio::spawn(async move {
                while let Some((columns, rows)) = sizes.recv().await {
                    if client.call(Op::Resize { columns, rows }, &[]).await.is_err() {
                        break;
                    }
                }
            });
            sender
        });
        let (mut sender, exit) = oneshot::channel();
        tokio::spawn(async move {
            tokio::select! {
                () = container.ended() => {
                    let code = match container.phase() {
                        Phase::Exited { exit, .. } => exit.exit_code,
                        _ => 137,
                    };
                    let _unwanted = sender.send(Ok(code));
                }
                () = sender.closed() => {}
            }
        });
        Ok(Streams { stdin: ends.stdin, stdout: ends.stdout, stderr: ends.stderr, resize, exit })
    }

    /// Connects to a port on the sandbox's loopback, IPv4 first, as upstream.
    pub async fn port_forward(self: &Arc<Self>, sandbox: &str, port: u16) -> Result<tokio::net::TcpStream> {
        let sandbox = self.sandbox(sandbox)?;
        if sandbox.status().state != SandboxState::Ready {
            return Err(Error::Invalid(format!("sandbox {} is not running", sandbox.id())));
        }
        let mut last = None;
        for address in
            [std::net::IpAddr::from([127, 0, 0, 1]), std::net::IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])]
        {
            let pin = sandbox.pin(Kind::Network);
            let socket =
                blocking("make a socket in the pod", move || socket_inside(pin.as_deref(), address)).await?;
            match socket.connect((address, port).into()).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = last.or(Some(error)),
            }
        }
        let cause = last.unwrap_or_else(|| std::io::Error::other("no address"));
        Err(failed(format!("failed to connect to localhost:{port} inside namespace {:?}", sandbox.id()))(
            cause,
        ))
    }
}

/// containerd's words, which `kubectl exec` shows.
fn exec_failed(exec: &str, error: client::Error) -> Error {
    let client::Error::Refused(failure) = error else { return failed("failed to exec in container")(error) };
    match failure.exit_code {
        Some(exit_code) => Error::Start {
            message: format!(
                "failed to exec in container: failed to start exec {exec:?}: OCI runtime exec failed: exec failed: \
                 unable to start container process: {}",
                failure.message
            ),
            exit_code,
        },
        None => Error::Invalid(format!("failed to exec in container: {}", failure.message)),
    }
}

/// A socket belongs to the network namespace of the thread that makes it.
fn socket_inside(
    namespace: Option<&std::path::Path>,
    address: std::net::IpAddr,
) -> std::io::Result<tokio::net::TcpSocket> {
    let make = move || {
        if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }
    };
    let Some(namespace) = namespace else { return make() };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("pod socket".to_owned());
        let work = move || {
            use std::os::fd::AsFd;
            crate::sys::setns(std::fs::File::open(namespace)?.as_fd(), libc::CLONE_NEWNET)?;
            make()
        };
        thread
            .spawn_scoped(scope, work)?
            .join()
            .map_err(|_| std::io::Error::other("the thread in the pod panicked"))?
    })
}

/// Pipes for the wanted streams: our ends, and the process's in the order stdin, stdout, stderr.
fn pipes(wanted: &StreamOptions) -> std::io::Result<(Ends, Vec<OwnedFd>)> {
    let mut ends = Ends::default();
    let mut given = Vec::with_capacity(3);
    let pair = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    if wanted.stdin {
        let (read, write) = pair()?;
        crate::sys::set_nonblocking(&write)?;
        ends.stdin = Some(Box::new(pipe::Sender::from_owned_fd(write)?));
        given.push(read);
    }
    for (wanted, end) in [(wanted.stdout, &mut ends.stdout), (wanted.stderr, &mut ends.stderr)] {
        if wanted {
            let (read, write) = pair()?;
            crate::sys::set_nonblocking(&read)?;
            *end = Some(Box::new(pipe::Receiver::from_owned_fd(read)?));
            given.push(write);
        }
    }
    Ok((ends, given))
}

/// Reads to the end; keeps as much as is allowed.
async fn collect(reader: Option<Reader>, into: &mut Vec<u8>) {
    let Some(mut reader) = reader else { return };
    // What came before an error is the output.
    let _kept = (&mut reader).take(SYNC_OUTPUT).read_to_end(into).await;
    // The process must not block on what nobody wants.
    let _dropped = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
}

/// The master of an exec's terminal.
#[derive(Clone)]
struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    fn new(master: OwnedFd) -> std::io::Result<Self> {
        crate::sys::set_nonblocking(&master)?;
        Ok(Terminal(Arc::new(crate::sys::watch(master, Interest::READABLE | Interest::WRITABLE)?)))
    }

    fn ends(self, options: &StreamOptions) -> Ends {
        Ends {
            stdin: options.stdin.then(|| Box::new(self.clone()) as Writer),
            stdout: options.stdout.then(|| Box::new(self) as Reader),
            stderr: None,
        }
    }
}

impl AsyncRead for Terminal {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buffer.initialize_unfilled();
            match guard.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut *unfilled)?)) {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // The last process that had the terminal has left.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), data)?)) {
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// A terminal has no half-close: the end of input is a character the user types.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn resizer(terminal: Arc<AsyncFd<OwnedFd>>) -> mpsc::Sender<(u16, u16)> {
    let (sender, mut sizes) = mpsc::channel::<(u16, u16)>(4);
    tokio::spawn(async move {
        while let Some((columns, rows)) = sizes.recv().await {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            if rustix::termios::tcsetwinsize(terminal.get_ref(), size).is_err() {
                break;
            }
        }
    });
    sender
}
