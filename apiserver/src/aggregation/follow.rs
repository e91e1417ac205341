//! Keeps the remotes in line with the APIServices, and checks each of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::select_all;
use serde_json::Value;
use tokio::task::{AbortHandle, JoinSet};

use super::{Aggregator, Remote};
use crate::objects::{Change, Resource, Stored};

const API_SERVICES: Resource<'static> = Resource::new("apiregistration.k8s.io", "apiservices");
const SERVICES: Resource<'static> = Resource::core("services");
const SLICES: Resource<'static> = Resource::new("discovery.k8s.io", "endpointslices");

/// A remote that nothing is heard of is checked this often.
const RESYNC: Duration = Duration::from_secs(30);
/// A check that failed is repeated sooner, and then less and less so.
const FIRST_RETRY: Duration = Duration::from_millis(250);

#[derive(Clone, Copy)]
enum Source {
    ApiServices,
    Behind,
}

impl Aggregator {
    /// Runs until dropped.
    pub async fn run(self: Arc<Self>) {
        let tagged =
            [(API_SERVICES, Source::ApiServices), (SERVICES, Source::Behind), (SLICES, Source::Behind)].map(
                |(resource, source)| {
                    self.config.objects.watch(resource).map(move |change| (source, change)).boxed()
                },
            );
        let mut changes = select_all(tagged);
        // Dropped, and with it every check, when this is.
        let mut checks = JoinSet::new();
        let mut running: HashMap<String, AbortHandle> = HashMap::new();
        loop {
            let (source, change) = tokio::select! {
                change = changes.next() => match change {
                    Some(change) => change,
                    None => return,
                },
                Some(ended) = checks.join_next() => {
                    if let Err(error) = ended && error.is_panic() {
                        tracing::error!(%error, "checking an APIService failed");
                    }
                    continue;
                }
            };
            match (source, change) {
                (Source::ApiServices, Change::Set(stored)) => self.set(&stored, &mut checks, &mut running),
                (Source::ApiServices, Change::Removed(stored)) => self.forget(&stored.name, &mut running),
                (Source::Behind, Change::Set(stored) | Change::Removed(stored)) => self.wake(&stored),
                (_, Change::Restart | Change::Synced) => {}
            }
        }
    }

    fn set(
        self: &Arc<Self>,
        stored: &Stored,
        checks: &mut JoinSet<()>,
        running: &mut HashMap<String, AbortHandle>,
    ) {
        let Ok(object) = serde_json::from_slice::<Value>(&stored.json) else { return };
        let known = self.remotes.load().get(&*stored.name).cloned();
        if known.as_ref().is_some_and(|known| known.spec == object["spec"]) {
            return;
        }
        let Some(remote) = Remote::read(&object, &self.config.client) else {
            return self.forget(&stored.name, running);
        };
        let remote = Arc::new(remote);
        if let Some(documents) = known.and_then(|known| known.documents()) {
            remote.set_documents((*documents).clone());
        }
        self.change(|remotes| drop(remotes.insert(remote.name.clone(), remote.clone())));
        let check = checks.spawn(self.clone().keep_checking(remote));
        if let Some(before) = running.insert(stored.name.to_string(), check) {
            before.abort();
        }
    }

    fn forget(&self, name: &str, running: &mut HashMap<String, AbortHandle>) {
        if let Some(check) = running.remove(name) {
            check.abort();
            self.change(|remotes| drop(remotes.remove(name)));
        }
    }

    /// Something behind a remote changed.
    fn wake(&self, stored: &Stored) {
        for remote in self.remotes.load().values() {
            // Slices are named after their service.
            if *remote.namespace == *stored.namespace && stored.name.starts_with(&remote.service) {
                remote.wake.notify_one();
            }
        }
    }

    async fn keep_checking(self: Arc<Self>, remote: Arc<Remote>) {
        let mut retry = FIRST_RETRY;
        loop {
            let verdict = self.check(&remote).await;
            remote.set_available(verdict.available);
            let recorded = self.record(&remote, &verdict).await;
            if let Err(status) = &recorded {
                tracing::debug!(api_service = remote.name, %status, "its condition could not be written");
            }
            if verdict.available {
                self.read_documents(&remote).await;
            }
            let wait = match verdict.available && recorded.is_ok() {
                true => {
                    retry = FIRST_RETRY;
                    RESYNC
                }
                false => {
                    retry = (retry * 2).min(RESYNC);
                    retry
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = remote.wake.notified() => {}
            }
        }
    }
}
