//! The store in etcd, as upstream keeps it: several API servers may share one, and see one history.
//!
//! A key is etcd's key and a revision etcd's revision. Every write is one transaction on the key's `mod_revision`. An
//! etcd that goes away is asked again, at its next endpoint; watches go on where they were.

mod connection;
mod options;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use etcd_client::{
    Compare, CompareOp, GetOptions, KeyValue as EtcdKeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use futures::stream::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::store::{
    Durability, Error, Event, Expect, KeyValue, Outcome, Range, RangeResult, Result, Revision, Store,
    WatchStream,
};
use connection::{Connection, Endpoint, revision_of, wire};
use watch::{QUEUE, Watch, Watches};

pub use options::EtcdOptions;

/// How many keys are asked for at once. Lists of more are read page by page, all at one revision.
const PAGE: usize = 500;

/// A client of etcd that is a store.
pub struct Etcd {
    connection: Arc<Connection>,
    watches: Arc<Watches>,
}

impl Etcd {
    /// Connects, and returns once etcd has answered.
    ///
    /// Errors: a file of the options cannot be read or used; no endpoint answers.
    pub async fn open(options: &EtcdOptions) -> Result<Self> {
        let connection = Arc::new(Connection::open(options).await?);
        Ok(Self { connection, watches: Arc::default() })
    }

    fn key_value(&self, kv: EtcdKeyValue) -> Result<KeyValue> {
        let (create_revision, mod_revision) = (wire(kv.create_revision()), wire(kv.mod_revision()));
        let (key, value) = kv.into_key_value();
        Ok(KeyValue { key: self.connection.inner(&key)?, value: value.into(), create_revision, mod_revision })
    }

    async fn transact(&self, doing: &'static str, txn: Txn) -> Result<TxnResponse> {
        self.connection.write(doing, |endpoint| async move { endpoint.kv.clone().txn(txn).await }).await
    }

    /// The key as the last of a transaction's answers has it.
    fn last(&self, answer: &TxnResponse) -> Result<Option<KeyValue>> {
        let found = answer.op_responses().into_iter().rev().find_map(|response| match response {
            TxnOpResponse::Get(mut found) => found.take_kvs().pop(),
            _ => None,
        });
        found.map(|kv| self.key_value(kv)).transpose()
    }

    /// The present revision, having made sure that what happened after `after` is still known.
    async fn revision_after(&self, after: Option<Revision>) -> Result<Revision> {
        let at = after.map_or(0, |after| after.0.max(1));
        let options = GetOptions::new().with_count_only().with_revision(signed(Revision(at)));
        // The key matters little: what is asked for is the answer's header.
        let key = self.connection.outer("");
        let key = if key.is_empty() { "/".to_owned() } else { key };
        let answer = self
            .connection
            .read("asking for the revision", after, |endpoint| {
                let (key, options) = (key.clone(), options.clone());
                async move { endpoint.kv.clone().get(key, Some(options)).await }
            })
            .await?;
        revision_of(answer.header())
    }
}

/// Revisions as etcd has them on the wire.
fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// The expectation as etcd compares it.
fn holds(key: &str, expect: Expect) -> Compare {
    let revision = match expect {
        Expect::Absent => 0,
        Expect::At(revision) => signed(revision),
    };
    Compare::mod_revision(key, CompareOp::Equal, revision)
}

/// The first key behind all those with this prefix; `\0` means there is none such.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    vec![0]
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &str) -> Result<(Option<KeyValue>, Revision)> {
        let outer = self.connection.outer(key);
        let mut answer = self
            .connection
            .read("reading", None, |endpoint| {
                let key = outer.clone();
                async move { endpoint.kv.clone().get(key, None).await }
            })
            .await?;
        let revision = revision_of(answer.header())?;
        let found = answer.take_kvs().pop().map(|kv| self.key_value(kv)).transpose()?;
        Ok((found, revision))
    }

    async fn range(&self, range: Range) -> Result<RangeResult> {
        let prefix = self.connection.outer(&range.prefix);
        let end = end_of(&prefix);
        let mut begin = match &range.start_after {
            Some(after) => [self.connection.outer(after).as_bytes(), b"\0"].concat(),
            // Nothing at all is etcd's word for one empty key.
            None if prefix.is_empty() => vec![0],
            None => prefix.into_bytes(),
        };
        let mut items = Vec::new();
        let mut at = range.revision;
        loop {
            let page = if range.limit == 0 { PAGE } else { PAGE.min(range.limit - items.len()) };
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_limit(page as i64)
                .with_revision(at.map_or(0, signed));
            let mut answer = self
                .connection
                .read("listing", at, |endpoint| {
                    let (begin, options) = (begin.clone(), options.clone());
                    async move { endpoint.kv.clone().get(begin, Some(options)).await }
                })
                .await?;
            let revision = *at.get_or_insert(revision_of(answer.header())?);
            let (more, count) = (answer.more(), usize::try_from(answer.count()).unwrap_or_default());
            let found = answer.take_kvs();
            let got = found.len();
            if let Some(last) = found.last() {
                begin = [last.key(), b"\0"].concat();
            }
            for kv in found {
                items.push(self.key_value(kv)?);
            }
            if !more || got == 0 || items.len() == range.limit {
                return Ok(RangeResult { items, remaining: count.saturating_sub(got), revision });
            }
        }
    }

    async fn put(&self, key: &str, value: Bytes, expect: Expect, _: Durability) -> Result<Outcome> {
        let outer = self.connection.outer(key);
        let txn = Txn::new()
            .when([holds(&outer, expect)])
            .and_then([
                TxnOp::put(outer.as_str(), value.to_vec(), None),
                TxnOp::get(outer.as_str(), Some(GetOptions::new().with_keys_only())),
            ])
            .or_else([TxnOp::get(outer.as_str(), None)]);
        let answer = self.transact("writing", txn).await?;
        let found = self.last(&answer)?;
        if !answer.succeeded() {
            return Ok(Outcome::Conflict(found));
        }
        let written = found.ok_or_else(|| Error::unavailable("writing", Missing))?;
        Ok(Outcome::Committed(KeyValue { value, ..written }))
    }

    async fn delete(&self, key: &str, expect: Expect, _: Durability) -> Result<Outcome> {
        let Expect::At(_) = expect else { return Ok(Outcome::Conflict(self.get(key).await?.0)) };
        let outer = self.connection.outer(key);
        let txn = Txn::new()
            .when([holds(&outer, expect)])
            .and_then([TxnOp::get(outer.as_str(), None), TxnOp::delete(outer.as_str(), None)])
            .or_else([TxnOp::get(outer.as_str(), None)]);
        let answer = self.transact("deleting", txn).await?;
        let found = self.last(&answer)?;
        if !answer.succeeded() {
            return Ok(Outcome::Conflict(found));
        }
        let gone = found.ok_or_else(|| Error::unavailable("deleting", Missing))?;
        Ok(Outcome::Committed(KeyValue { mod_revision: revision_of(answer.header())?, ..gone }))
    }

    async fn watch(&self, prefix: &str, after: Option<Revision>) -> Result<WatchStream> {
        let now = self.revision_after(after).await?;
        let after = after.unwrap_or(now);
        let (events, receiver) = mpsc::channel(QUEUE);
        if after == now {
            // The queue is new and has room.
            let _sent = events.try_send(Ok(Event::Progress(now)));
        }
        let asked = self.watches.add(prefix, after < now);
        let watch = Watch::new(self.connection.clone(), prefix, after, events, asked);
        // Ends with its receiver, or with the store.
        tokio::spawn(watch.run());
        Ok(ReceiverStream::new(receiver).boxed())
    }

    async fn request_progress(&self, prefix: &str) -> Result<()> {
        self.connection.check_open()?;
        self.watches.ask(prefix);
        Ok(())
    }

    async fn revision(&self) -> Result<Revision> {
        self.revision_after(None).await
    }

    async fn compact(&self, below: Revision) -> Result<()> {
        let ask = |endpoint: Arc<Endpoint>| async move {
            endpoint.kv.clone().compact(signed(below), None).await.map(drop)
        };
        match self.connection.read("compacting", Some(below), ask).await {
            // Another server was here before.
            Err(Error::Compacted { .. }) => Ok(()),
            other => other,
        }
    }

    async fn size(&self) -> Result<u64> {
        let ask = |endpoint: Arc<Endpoint>| async move { endpoint.maintenance.clone().status().await };
        let status = self.connection.read("asking for the size", None, ask).await?;
        Ok(u64::try_from(status.db_size()).unwrap_or_default())
    }

    async fn close(&self) -> Result<()> {
        self.connection.close();
        Ok(())
    }
}

/// A transaction went through whose own key its answer does not show.
#[derive(Debug, thiserror::Error)]
#[error("etcd's answer to a transaction lacks the key")]
struct Missing;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_behind_the_last_key_of_its_prefix() {
        assert_eq!(end_of("/registry/pods/"), b"/registry/pods0");
        assert_eq!(end_of(""), [0]);
        assert_eq!(end_of("\u{7f}"), [0x80]);
    }
}
