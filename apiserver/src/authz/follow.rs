//! Keeps an index equal to a resource, through restarts of the watch.

use std::collections::HashSet;

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;

use crate::objects::{Change, Stored};

/// An index over one resource.
pub trait Index {
    /// The object is now this.
    fn set(&self, stored: &Stored);
    /// There is no such object any more.
    fn remove(&self, namespace: &str, name: &str);
}

/// Applies every change until the stream ends; `synced` becomes true when the index is complete for the first time.
pub async fn follow(mut changes: BoxStream<'static, Change>, index: impl Index, synced: watch::Sender<bool>) {
    let mut known: HashSet<(Box<str>, Box<str>)> = HashSet::new();
    let mut stale: HashSet<(Box<str>, Box<str>)> = HashSet::new();
    while let Some(change) = changes.next().await {
        match change {
            Change::Restart => stale = known.clone(),
            Change::Set(stored) => {
                let key = (stored.namespace.clone(), stored.name.clone());
                stale.remove(&key);
                known.insert(key);
                index.set(&stored);
            }
            Change::Removed(stored) => {
                let key = (stored.namespace, stored.name);
                stale.remove(&key);
                known.remove(&key);
                index.remove(&key.0, &key.1);
            }
            Change::Synced => {
                for key in stale.drain() {
                    known.remove(&key);
                    index.remove(&key.0, &key.1);
                }
                synced.send_replace(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    #[derive(Default)]
    struct Names(Mutex<Vec<String>>);

    impl Index for &Names {
        fn set(&self, stored: &Stored) {
            let name = stored.name.to_string();
            let mut names = self.0.lock();
            if !names.contains(&name) {
                names.push(name);
            }
        }

        fn remove(&self, _: &str, name: &str) {
            self.0.lock().retain(|known| known != name);
        }
    }

    fn stored(name: &str) -> Stored {
        Stored { namespace: "".into(), name: name.into(), json: "{}".into() }
    }

    #[tokio::test]
    async fn what_vanished_while_the_watch_was_down_is_removed() {
        let names = Names::default();
        let (sender, synced) = watch::channel(false);
        let changes = vec![
            Change::Restart,
            Change::Set(stored("a")),
            Change::Set(stored("b")),
            Change::Synced,
            Change::Restart,
            Change::Set(stored("b")),
            Change::Set(stored("c")),
            Change::Synced,
            Change::Removed(stored("c")),
        ];
        follow(futures::stream::iter(changes).boxed(), &names, sender).await;
        assert!(*synced.borrow());
        assert_eq!(*names.0.lock(), ["b"]);
    }
}
