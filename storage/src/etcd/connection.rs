//! The ways to etcd, and what goes wrong on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_client::{Client, Error as EtcdError, KvClient, MaintenanceClient, ResponseHeader, WatchClient};
use tokio::sync::watch;

use super::options::EtcdOptions;
use crate::store::{Error, Result, Revision};

/// What keys begin with here.
const REGISTRY: &str = "/registry";
/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The clients of one of etcd's servers.
pub struct Endpoint {
    pub kv: KvClient,
    pub watch: WatchClient,
    pub maintenance: MaintenanceClient,
}

/// All of etcd's servers, of which one is asked until it fails.
pub struct Connection {
    endpoints: Vec<Arc<Endpoint>>,
    current: AtomicUsize,
    prefix: Box<str>,
    /// Whether etcd tells how far a watch is when it is asked, and is right.
    pub tells_progress: bool,
    closed: watch::Sender<bool>,
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("etcd did not answer in time")]
    Late,
    #[error("{}", .0.message())]
    Refused(#[source] Box<Refusal>),
    #[error("{0}")]
    Broken(EtcdError),
}

/// What etcd itself said.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Refusal(EtcdError);

impl Refusal {
    fn message(&self) -> &str {
        match &self.0 {
            EtcdError::GRpcStatus(status) => status.message(),
            _ => "etcd refused",
        }
    }
}

impl Unanswered {
    fn of(error: EtcdError) -> Self {
        match error {
            EtcdError::GRpcStatus(_) => Self::Refused(Box::new(Refusal(error))),
            other => Self::Broken(other),
        }
    }

    fn says(&self, what: &str) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.message().contains(what))
    }

    /// Another of etcd's servers may do better.
    fn is_of_the_endpoint(&self) -> bool {
        match self {
            Self::Late | Self::Broken(_) => true,
            // Everything that etcd says of a request itself begins with its name.
            Self::Refused(refusal) => {
                !refusal.message().starts_with("etcdserver: mvcc") && !self.says("permission denied")
            }
        }
    }
}

impl Connection {
    pub async fn open(options: &EtcdOptions) -> Result<Self> {
        let failed = |error| Error::unavailable("connecting to etcd", Unanswered::of(error));
        let connect = options.connect()?;
        let mut endpoints = Vec::new();
        for server in &options.servers {
            let client = Client::connect([server], Some(connect.clone())).await.map_err(failed)?;
            endpoints.push(Arc::new(Endpoint {
                kv: client.kv_client().max_decoding_message_size(usize::MAX),
                watch: client.watch_client().max_decoding_message_size(usize::MAX),
                maintenance: client.maintenance_client(),
            }));
        }
        let prefix = format!("/{}", options.prefix.trim_matches('/'));
        let mut connection = Self {
            endpoints,
            current: AtomicUsize::new(0),
            prefix: prefix.into(),
            tells_progress: false,
            closed: watch::Sender::new(false),
        };
        let ask = |endpoint: Arc<Endpoint>| async move { endpoint.maintenance.clone().status().await };
        let status = connection.read("connecting to etcd", None, ask).await?;
        connection.tells_progress = tells_progress(status.version());
        Ok(connection)
    }

    /// A key, or the beginning of keys, as etcd has it.
    pub fn outer(&self, key: &str) -> String {
        match key.strip_prefix(REGISTRY) {
            _ if &*self.prefix == REGISTRY => key.to_owned(),
            Some(rest) => format!("{}{rest}", self.prefix),
            None => format!("{}{key}", self.prefix),
        }
    }

    pub fn inner(&self, key: &[u8]) -> Result<Arc<str>> {
        let key = std::str::from_utf8(key).map_err(|error| Error::unavailable("reading a key", error))?;
        match key.strip_prefix(&*self.prefix) {
            Some(rest) if &*self.prefix != REGISTRY => Ok(format!("{REGISTRY}{rest}").into()),
            _ => Ok(key.into()),
        }
    }

    pub fn endpoint(&self) -> Arc<Endpoint> {
        let current = self.current.load(Ordering::Relaxed) % self.endpoints.len().max(1);
        self.endpoints[current].clone()
    }

    /// From now on the next endpoint is asked.
    pub fn turn(&self) {
        self.current.fetch_add(1, Ordering::Relaxed);
    }

    pub fn check_open(&self) -> Result<()> {
        if *self.closed.borrow() { Err(Error::Closed) } else { Ok(()) }
    }

    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    /// Returns when the store is closed.
    pub async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        // The sender lives as long as `self`, so there is no other end to wait for.
        drop(closed.wait_for(|closed| *closed).await);
    }

    /// Asks what may be asked twice: of every endpoint, until one answers. `at` is the revision that is asked about.
    pub async fn read<T, F>(
        &self,
        doing: &'static str,
        at: Option<Revision>,
        ask: impl Fn(Arc<Endpoint>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, EtcdError>>,
    {
        let mut left = self.endpoints.len();
        loop {
            let failure = match self.ask(&ask).await? {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            left = left.saturating_sub(1);
            if left == 0 || !failure.is_of_the_endpoint() {
                return Err(error(doing, at, failure));
            }
        }
    }

    /// Asks what must not be done twice. After a failure nobody knows whether it was done.
    pub async fn write<T, F>(&self, doing: &'static str, ask: impl FnOnce(Arc<Endpoint>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, EtcdError>>,
    {
        self.ask(ask).await?.map_err(|failure| error(doing, None, failure))
    }

    async fn ask<T, F>(&self, ask: impl FnOnce(Arc<Endpoint>) -> F) -> Result<Result<T, Unanswered>>
    where
        F: Future<Output = Result<T, EtcdError>>,
    {
        self.check_open()?;
        let answered = tokio::time::timeout(PATIENCE, ask(self.endpoint())).await;
        let answered = answered.map_or(Err(Unanswered::Late), |answer| answer.map_err(Unanswered::of));
        if answered.as_ref().is_err_and(Unanswered::is_of_the_endpoint) {
            self.turn();
        }
        Ok(answered)
    }
}

fn error(doing: &'static str, at: Option<Revision>, failure: Unanswered) -> Error {
    let requested = at.unwrap_or_default();
    if failure.says("has been compacted") {
        // How far etcd keeps history it does not say here; what was asked for is too old in any case.
        return Error::Compacted { requested, oldest: Revision(requested.0 + 1) };
    }
    if failure.says("is a future revision") {
        return Error::Future { requested, current: Revision(requested.0.saturating_sub(1)) };
    }
    Error::unavailable(doing, failure)
}

/// A revision from the wire.
pub fn wire(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap_or_default())
}

/// The revision at which an answer is true.
pub fn revision_of(header: Option<&ResponseHeader>) -> Result<Revision> {
    let header = header.ok_or_else(|| Error::unavailable("asking etcd", NoHeader))?;
    Ok(wire(header.revision()))
}

#[derive(Debug, thiserror::Error)]
#[error("etcd's answer has no header")]
struct NoHeader;

/// Before these versions etcd could say that a watch was further than it was.
fn tells_progress(version: &str) -> bool {
    let mut parts = version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or_default());
    let mut next = || parts.next().unwrap_or_default();
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 31,
        (3, 5, patch) => patch >= 13,
        (major, minor, _) => (major, minor) >= (3, 6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_versions_that_tell_progress_truly_are_asked_for_it() {
        for (version, tells) in [
            ("3.4.23", false),
            ("3.4.31", true),
            ("3.5.12", false),
            ("3.5.16", true),
            ("3.6.0-rc.1", true),
            ("4.0", true),
            ("", false),
        ] {
            assert_eq!(tells_progress(version), tells, "{version}");
        }
    }
}
