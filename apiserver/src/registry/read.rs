//! Reading: one object, and pages of a list at one consistent revision.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use knarr_api::status::Status;
use knarr_storage::{Error as StoreError, Range, Revision};
use serde::{Deserialize, Serialize};

use super::{Registry, store_failure};
use crate::cache::{Entry, Selection};
use crate::catalogue::Storage;
use crate::stored::Stored;

const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start \
    a new list without the continue parameter, or use the continue token in this response to retrieve the remainder \
    of the results. Continuing with the provided token results in an inconsistent list - objects that were created, \
    modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// How a list's resourceVersion is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionMatch {
    /// The newest state, to the last write acknowledged before the request.
    Latest,
    /// Any state the cache has.
    Any,
    NotOlderThan(u64),
    Exact(u64),
}

pub struct ListRequest<'a> {
    pub selection: &'a Selection,
    pub version: VersionMatch,
    /// 0 for all.
    pub limit: usize,
    pub continue_from: Option<Continue>,
}

/// A page of a list.
pub struct ListPage {
    pub entries: Vec<Arc<Entry>>,
    pub revision: u64,
    pub continue_token: Option<String>,
    pub remaining: Option<usize>,
}

/// Where the next page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continue {
    /// `None`: at whatever is newest, after the consistent list was lost.
    pub revision: Option<u64>,
    /// The last key that was sent, below the resource's prefix.
    pub after: String,
}

#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

impl Continue {
    /// Reads a token that [`Self::encode`] wrote.
    pub fn decode(token: &str) -> Result<Self, Status> {
        let refuse = |why: &str| Status::bad_request(format!("invalid continue token: {why}"));
        let invalid = |_| refuse("continue key is not valid");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|e| invalid(e.to_string()))?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|e| invalid(e.to_string()))?;
        if token.v != "meta.k8s.io/v1" {
            return Err(refuse(&format!(
                "continue key is not valid: server does not recognize this encoded version {}",
                token.v
            )));
        }
        if token.rv == 0 {
            return Err(refuse(
                "continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
            ));
        }
        let after = token.start.strip_suffix('\0').unwrap_or(&token.start);
        let clean = !after.is_empty() && after.split('/').all(|step| !matches!(step, "" | "." | ".."));
        if !clean {
            return Err(refuse(
                "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)",
            ));
        }
        Ok(Self { revision: u64::try_from(token.rv).ok(), after: after.to_owned() })
    }

    pub fn encode(&self) -> String {
        let rv = self.revision.map_or(-1, |revision| i64::try_from(revision).unwrap_or(i64::MAX));
        let token = Token { v: "meta.k8s.io/v1".into(), rv, start: format!("{}\0", self.after) };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).expect("a token of strings and a number encodes"))
    }
}

impl Registry {
    /// The object as the store has it now; `None` where there is none.
    pub async fn get(
        &self,
        storage: &Storage,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Stored>, Status> {
        let (found, _) = self.store.get(&storage.key(namespace, name)).await.map_err(store_failure)?;
        found.map(|kv| Stored::new(kv.value, kv.mod_revision.0).map_err(Status::internal)).transpose()
    }

    /// The object as the cache has it, at least as new as the revision asked for.
    pub async fn get_not_older(
        &self,
        storage: &Storage,
        namespace: &str,
        name: &str,
        revision: u64,
    ) -> Result<Option<Stored>, Status> {
        self.cache_at(revision).await?;
        let key = storage.key(namespace, name);
        match storage.cache.get(&key) {
            Some(entry) => Ok(Some(entry.stored.clone())),
            None if storage.cache.is_unreadable(&key) => self.get(storage, namespace, name).await,
            None => Ok(None),
        }
    }

    /// A list without the objects that cannot be read would be a lie. They are looked at again, as the key they
    /// need may be known by now.
    async fn read_the_unreadable(&self, storage: &Storage, selection: &Selection) -> Result<(), Status> {
        for key in storage.cache.unreadable(selection) {
            let (found, _) = self.store.get(&key).await.map_err(|error| match error {
                StoreError::Unreadable { key, cause } => {
                    Status::internal(format!("unable to transform key {key:?}: {cause}"))
                }
                error => store_failure(error),
            })?;
            if let Some(kv) = found {
                storage.cache.reread(&kv).map_err(|error| Status::internal(format!("{key}: {error}")))?;
            }
        }
        Ok(())
    }

    /// Waits for the cache to have everything up to a revision.
    async fn cache_at(&self, revision: u64) -> Result<(), Status> {
        let waited = self.cache.wait_for(revision).await;
        waited.map_err(|behind| Status::resource_version_too_large(behind.wanted, behind.current, 1))
    }

    /// Waits for the cache to have every write acknowledged so far, and says up to which revision that is.
    pub async fn catch_up(&self) -> Result<u64, Status> {
        let revision = self.store.revision().await.map_err(store_failure)?.0;
        self.cache_at(revision).await?;
        Ok(revision)
    }

    /// A page of the objects that the selection wants.
    pub async fn list(&self, storage: &Storage, request: &ListRequest<'_>) -> Result<ListPage, Status> {
        if let Some(from) = &request.continue_from {
            return self.list_from(storage, request, from).await;
        }
        let now = match request.version {
            VersionMatch::Latest => self.catch_up().await?,
            VersionMatch::Any => self.cache.revision(),
            VersionMatch::NotOlderThan(revision) => {
                self.cache_at(revision).await?;
                self.cache.revision()
            }
            VersionMatch::Exact(revision) => {
                return self.list_at(storage, request, Some(revision), None).await;
            }
        };
        self.read_the_unreadable(storage, request.selection).await?;
        let snapshot = storage.cache.snapshot(request.selection, now);
        Ok(page(storage, request.selection, snapshot.entries, request.limit, snapshot.revision))
    }

    async fn list_from(
        &self,
        storage: &Storage,
        request: &ListRequest<'_>,
        from: &Continue,
    ) -> Result<ListPage, Status> {
        match self.list_at(storage, request, from.revision, Some(&from.after)).await {
            Err(status) if status.code == 410 => {
                let again = Continue { revision: None, after: from.after.clone() };
                Err(Status::expired(EXPIRED).with_continue(again.encode()))
            }
            done => done,
        }
    }

    /// Reads from the store, for lists at a revision of their own.
    async fn list_at(
        &self,
        storage: &Storage,
        request: &ListRequest<'_>,
        revision: Option<u64>,
        after: Option<&str>,
    ) -> Result<ListPage, Status> {
        let prefix = storage.cache.prefix();
        let scope = match &*request.selection.namespace {
            "" => prefix.to_owned(),
            namespace => format!("{prefix}{namespace}/"),
        };
        let mut start_after = after.map(|after| format!("{prefix}{after}"));
        let mut revision = revision.map(Revision);
        let mut entries: Vec<Arc<Entry>> = Vec::new();
        loop {
            // One more than asked tells whether there is a next page.
            let limit = if request.limit == 0 { 0 } else { request.limit + 1 - entries.len() };
            let range = Range { prefix: scope.clone(), start_after: start_after.take(), limit, revision };
            let result = self.store.range(range).await.map_err(store_failure)?;
            revision = Some(result.revision);
            for kv in &result.items {
                let entry = storage.cache.entry(kv).map_err(Status::internal)?;
                if request.selection.matches(&entry) {
                    entries.push(Arc::new(entry));
                }
            }
            start_after = result.items.last().map(|kv| kv.key.to_string());
            let enough = request.limit > 0 && entries.len() > request.limit;
            if enough || result.remaining == 0 {
                let unread = result.remaining;
                let mut page = page(storage, request.selection, entries, request.limit, result.revision.0);
                page.remaining = page.remaining.map(|known| known + unread);
                return Ok(page);
            }
        }
    }
}

impl ListPage {
    /// Leaves so many objects at most, and says where to go on. `limit` 0 is none.
    pub fn cut(mut self, storage: &Storage, limit: usize) -> Self {
        if limit == 0 || self.entries.len() <= limit {
            return self;
        }
        self.entries.truncate(limit);
        let after = self.entries.last().map(|entry| entry.key()[storage.cache.prefix().len()..].to_owned());
        self.continue_token = after.map(|after| Continue { revision: Some(self.revision), after }.encode());
        self
    }
}

/// Cuts a list to a page.
fn page(
    storage: &Storage,
    selection: &Selection,
    entries: Vec<Arc<Entry>>,
    limit: usize,
    revision: u64,
) -> ListPage {
    let beyond = if limit == 0 { 0 } else { entries.len().saturating_sub(limit) };
    let remaining = (beyond > 0 && !selection.has_selectors()).then_some(beyond);
    ListPage { entries, revision, continue_token: None, remaining }.cut(storage, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continue_tokens_round_trip_and_cannot_leave_the_resource() {
        let token = Continue { revision: Some(12), after: "default/web".into() };
        assert_eq!(Continue::decode(&token.encode()).unwrap(), token);
        for start in ["../secrets/x", "", "a//b", "/etc"] {
            let bad = Token { v: "meta.k8s.io/v1".into(), rv: 3, start: start.into() };
            let bad = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&bad).unwrap());
            assert_eq!(Continue::decode(&bad).unwrap_err().code, 400, "{start}");
        }
        assert_eq!(Continue::decode("%%%").unwrap_err().code, 400);
    }
}
