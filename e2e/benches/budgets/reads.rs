//! What reads cost: one object, and lists of thousands, beside what the loopback itself carries.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::figures::line;
use crate::http2::{Connection, Endpoint};
use crate::memory;

const CLIENTS: usize = 64;
/// Requests of many clients share connections, as those of one client do.
const CONNECTIONS: usize = 4;
const MEASURED: Duration = Duration::from_secs(5);
const CHUNK: usize = 64 * 1024;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// `name` is that of an object among those that are listed.
pub async fn measure(endpoint: &Endpoint, pid: u32, name: &str) -> anyhow::Result<()> {
    let gets = gets(endpoint, &format!("{MAPS}/{name}")).await?;
    line("GET of 4 KB, 64 clients on 4 connections", &format!("{gets:.0}/s"), "30,000/s");
    let loopback = loopback()?;
    line("loopback: plain TCP", &format!("{:.0} MB/s", loopback / 1e6), "");
    let mut connection = endpoint.connect().await?;
    let before = memory::resident(pid)?;
    memory::forget_peak(pid)?;
    let plain = lists(&mut connection, "identity").await?;
    let grown = memory::peak(pid)?.saturating_sub(before);
    let shown =
        |list: &Lists| format!("{:.0} MB/s, {:.2} of the loopback", list.rate / 1e6, list.rate / loopback);
    line(&format!("LIST of {:.0} MB", plain.size / 1e6), &shown(&plain), "600 MB/s");
    line("... memory above idle", &format!("{:.1} MB", grown as f64 / 1e6), "16 MB");
    let zipped = lists(&mut connection, "gzip").await?;
    let rate = zipped.rate * plain.size / zipped.size;
    line("LIST with gzip, of what is compressed", &format!("{:.0} MB/s", rate / 1e6), "400 MB/s");
    Ok(())
}

async fn gets(endpoint: &Endpoint, path: &str) -> anyhow::Result<f64> {
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        connections.push(endpoint.connect().await?);
    }
    let started = Instant::now();
    let readers = (0..CLIENTS).map(|reader| {
        let mut connection = connections[reader % CONNECTIONS].clone();
        async move {
            let mut read = 0_usize;
            while started.elapsed() < MEASURED {
                connection.read(path, "identity").await?;
                read += 1;
            }
            anyhow::Ok(read)
        }
    });
    let read = futures::future::try_join_all(readers).await?;
    Ok(read.iter().sum::<usize>() as f64 / started.elapsed().as_secs_f64())
}

/// Bytes of one list, and bytes per second.
struct Lists {
    size: f64,
    rate: f64,
}

async fn lists(connection: &mut Connection, encoding: &str) -> anyhow::Result<Lists> {
    let (started, mut bytes, mut count) = (Instant::now(), 0, 0);
    while started.elapsed() < MEASURED {
        bytes += connection.read(MAPS, encoding).await?;
        count += 1;
    }
    Ok(Lists { size: bytes as f64 / f64::from(count), rate: bytes as f64 / started.elapsed().as_secs_f64() })
}

/// Bytes per second between two threads: what no server can exceed here.
fn loopback() -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let (chunk, started) = (vec![0x5a_u8; CHUNK], Instant::now());
        while started.elapsed() < MEASURED {
            stream.write_all(&chunk)?;
        }
        Ok(())
    });
    let (mut stream, started) = (TcpStream::connect(address)?, Instant::now());
    let (mut buffer, mut bytes) = (vec![0; CHUNK], 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            read => bytes += read,
        }
    }
    let elapsed = started.elapsed();
    sender.join().map_err(|_| anyhow::anyhow!("the sender failed"))??;
    Ok(bytes as f64 / elapsed.as_secs_f64())
}
