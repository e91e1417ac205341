//! A real etcd on loopback, and what is asked of the store on it beyond the suite.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use futures::StreamExt;
use knarr_storage::{Durability::Durable, Error, Etcd, EtcdOptions, Expect, Outcome, Range, Store};

use super::suite::steps::{next_change, put};

/// An etcd of its own; it ends with the test, and what it kept is removed.
pub struct Server {
    directory: tempfile::TempDir,
    client_port: u16,
    peer_port: u16,
    scheme: &'static str,
    flags: Vec<String>,
    process: Option<Child>,
}

/// Below the ports that the kernel gives to connections, of which the tests beside this one make many: one of those
/// could take the port before etcd does.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let offset = u16::try_from(std::process::id() % 900).expect("small");
    let mut ports = (0..900).map(|_| 29_050 + (offset + NEXT.fetch_add(1, Ordering::Relaxed)) % 900);
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a port that nobody has")
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Server {
    pub fn start() -> Self {
        Self::start_with("http", |_| Vec::new())
    }

    /// With further flags, which may name files of the directory.
    fn start_with(scheme: &'static str, flags: impl FnOnce(&Path) -> Vec<String>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let flags = flags(directory.path());
        let (client_port, peer_port) = (free_port(), free_port());
        let mut server = Self { directory, client_port, peer_port, scheme, flags, process: None };
        server.run();
        server
    }

    /// Runs etcd until it says that it serves.
    fn run(&mut self) {
        let client = format!("{}://127.0.0.1:{}", self.scheme, self.client_port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let mut process = Command::new("etcd")
            .arg("--data-dir")
            .arg(self.directory.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--heartbeat-interval", "10", "--election-timeout", "100", "--logger", "zap"])
            .args(&self.flags)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcd is installed: setup/packages etcd-server");
        let mut log = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        let mut said = Vec::new();
        loop {
            let line = log.next().and_then(Result::ok);
            let Some(line) = line else { panic!("etcd ended:\n{}", said.join("\n")) };
            if line.contains("serving insecure client requests")
                || line.contains("serving client requests")
                || line.contains("serving client traffic")
            {
                break;
            }
            said.push(line);
        }
        // A pipe that nobody reads would stop etcd; the thread ends with it.
        std::thread::spawn(move || log.for_each(drop));
        self.process = Some(process);
    }

    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("etcd was started by this test");
            process.wait().expect("etcd ends");
        }
    }

    fn options(&self) -> EtcdOptions {
        EtcdOptions {
            servers: vec![format!("{}://127.0.0.1:{}", self.scheme, self.client_port)],
            ca_file: None,
            cert_file: None,
            key_file: None,
            prefix: "/registry".into(),
        }
    }

    pub async fn store(&self) -> Arc<dyn Store> {
        Arc::new(Etcd::open(&self.options()).await.expect("etcd answers"))
    }
}

#[tokio::test]
async fn several_stores_on_one_etcd_have_one_history() {
    let server = Server::start();
    let (one, other) = (server.store().await, server.store().await);
    let mut seen = other.watch("/registry/", None).await.expect("watch");
    let a = put(&*one, "/registry/a", "1", Expect::Absent).await;
    let late = other.put("/registry/a", "2".into(), Expect::Absent, Durable).await.expect("put");
    assert_eq!(late, Outcome::Conflict(Some(a.clone())));
    let a2 = put(&*other, "/registry/a", "2", Expect::At(a.mod_revision)).await;
    for at in [a.mod_revision, a2.mod_revision] {
        assert_eq!(next_change(&mut seen).await.2, at);
    }
    one.close().await.expect("close");
    assert_eq!(other.get("/registry/a").await.expect("get").0, Some(a2));
}

#[tokio::test]
async fn a_prefix_is_seen_in_etcd_only() {
    let server = Server::start();
    let elsewhere = EtcdOptions { prefix: "/clusters/one".into(), ..server.options() };
    let store = Etcd::open(&elsewhere).await.expect("etcd answers");
    let whole = server.store().await;
    let a = put(&store, "/registry/a", "1", Expect::Absent).await;
    put(&*whole, "/registry/b", "1", Expect::Absent).await;
    assert_eq!(&*a.key, "/registry/a");
    let keys = async |store: &dyn Store, prefix: &str| -> Vec<String> {
        let range = Range { prefix: prefix.to_owned(), ..Range::default() };
        store.range(range).await.expect("range").items.iter().map(|kv| kv.key.to_string()).collect()
    };
    assert_eq!(keys(&store, "/registry/").await, ["/registry/a"]);
    assert_eq!(keys(&store, "").await, ["/registry/a"]);
    assert_eq!(keys(&*whole, "").await, ["/clusters/one/a", "/registry/b"]);
}

#[tokio::test]
async fn long_lists_are_read_page_by_page_at_one_revision() {
    let server = Server::start();
    let store = server.store().await;
    let writing = (0..1203).map(|number| {
        let (store, key) = (store.clone(), format!("/registry/things/{number:04}"));
        async move { put(&*store, &key, "1", Expect::Absent).await }
    });
    futures::stream::iter(writing).for_each_concurrent(100, async |written| drop(written.await)).await;
    let all = Range { prefix: "/registry/things/".into(), ..Range::default() };
    let list = store.range(all.clone()).await.expect("range");
    assert_eq!((list.items.len(), list.remaining), (1203, 0));
    let some = store.range(Range { limit: 700, ..all }).await.expect("range");
    assert_eq!((some.items.len(), some.remaining), (700, 503));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_etcd() {
    let mut server = Server::start();
    let store = server.store().await;
    let mut seen = store.watch("/registry/", None).await.expect("watch");
    let a = put(&*store, "/registry/a", "1", Expect::Absent).await;
    assert_eq!(next_change(&mut seen).await.2, a.mod_revision);
    server.stop();
    let gone = store.put("/registry/b", "1".into(), Expect::Absent, Durable).await;
    assert!(matches!(gone, Err(Error::Unavailable { .. })), "{gone:?}");
    server.run();
    let back = server.store().await;
    let b = put(&*back, "/registry/b", "1", Expect::Absent).await;
    assert_eq!(next_change(&mut seen).await.2, b.mod_revision);
    let again = tokio::time::timeout(Duration::from_secs(30), async {
        // The first question after an end may still meet the dead connection.
        loop {
            if let Ok((found, _)) = store.get("/registry/b").await {
                return found;
            }
        }
    });
    assert_eq!(again.await.expect("etcd is asked again"), Some(b));
}

#[tokio::test]
async fn the_next_endpoint_is_asked_when_one_is_dead() {
    let server = Server::start();
    let mut options = server.options();
    options.servers.insert(0, format!("http://127.0.0.1:{}", free_port()));
    let store = Etcd::open(&options).await.expect("the other answers");
    put(&store, "/registry/a", "1", Expect::Absent).await;
}

#[tokio::test]
async fn etcd_and_the_store_prove_themselves_to_each_other() {
    let issue = |directory: &Path| {
        let write = |name: &str, pem: String| {
            let file = directory.join(name);
            std::fs::write(&file, pem).expect("written");
            file.display().to_string()
        };
        let authority_key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = write("ca.crt", params.self_signed(&authority_key).expect("a certificate").pem());
        let issuer = rcgen::Issuer::new(params, authority_key);
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        params.extended_key_usages =
            vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth, rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let (cert, key) = (write("etcd.crt", certificate.pem()), write("etcd.key", key.serialize_pem()));
        let flags =
            ["--cert-file", &cert, "--key-file", &key, "--client-cert-auth", "--trusted-ca-file", &ca];
        flags.map(str::to_owned).to_vec()
    };
    let server = Server::start_with("https", issue);
    let file = |name: &str| -> Option<PathBuf> { Some(server.directory.path().join(name)) };
    let known = EtcdOptions {
        ca_file: file("ca.crt"),
        cert_file: file("etcd.crt"),
        key_file: file("etcd.key"),
        ..server.options()
    };
    let store = Etcd::open(&known).await.expect("both are who they say");
    put(&store, "/registry/a", "1", Expect::Absent).await;
    let mut seen = store.watch("/registry/", None).await.expect("watch");
    assert!(seen.next().await.is_some_and(|event| event.is_ok()));
    let stranger = EtcdOptions { cert_file: None, key_file: None, ..known };
    assert!(Etcd::open(&stranger).await.is_err(), "etcd believes only who shows a certificate");
}
