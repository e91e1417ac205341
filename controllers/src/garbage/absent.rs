//! Owners the server said are not there, so that a thousand orphans ask once.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;

const REMEMBERED: usize = 500;

/// Uids never come back, so what is absent stays absent; the namespace is where it was looked for.
#[derive(Default)]
pub(super) struct AbsentOwners(Mutex<(HashSet<(String, String)>, VecDeque<(String, String)>)>);

impl AbsentOwners {
    pub(super) fn contains(&self, uid: &str, namespace: &str) -> bool {
        self.0.lock().0.contains(&(uid.to_owned(), namespace.to_owned()))
    }

    pub(super) fn add(&self, uid: &str, namespace: &str) {
        let (known, order) = &mut *self.0.lock();
        let key = (uid.to_owned(), namespace.to_owned());
        if known.insert(key.clone()) {
            order.push_back(key);
            if order.len() > REMEMBERED
                && let Some(oldest) = order.pop_front()
            {
                known.remove(&oldest);
            }
        }
    }
}
