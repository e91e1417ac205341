//! Owners the server said are not there, so that a thousand orphans ask once.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;

const REMEMBERED: usize = 500;

/// Uids never come back, so what is absent stays absent; the namespace is where it was looked for.
#[derive(Default)]
pub(super) struct AbsentOwners(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Uid and namespace.
    set: HashSet<(String, String)>,
    /// The same, oldest first.
    order: VecDeque<(String, String)>,
}

impl AbsentOwners {
    pub(super) fn contains(&self, uid: &str, namespace: &str) -> bool {
        self.0.lock().set.contains(&(uid.to_owned(), namespace.to_owned()))
    }

    pub(super) fn add(&self, uid: &str, namespace: &str) {
        let mut known = self.0.lock();
        let key = (uid.to_owned(), namespace.to_owned());
        if known.set.insert(key.clone()) {
            known.order.push_back(key);
            if known.order.len() > REMEMBERED
                && let Some(oldest) = known.order.pop_front()
            {
                known.set.remove(&oldest);
            }
        }
    }
}
