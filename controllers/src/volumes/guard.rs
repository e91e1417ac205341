//! Finalizers that keep objects from being deleted while others use them.

use std::fmt::Debug;

use knarr_client::{Action, Api, Cached, error::is_not_found};
use kube::api::{ObjectMeta, PostParams};
use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Step};

/// One kind's finalizer.
pub(super) struct Guard {
    pub finalizer: &'static str,
    /// The step that errors name.
    pub update: &'static str,
}

/// What is to be done about an object's finalizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Add,
    Remove,
    Leave,
}

impl Guard {
    /// Gives an object the finalizer, or takes it off one that is to go and that nobody uses any more. `is_used` is
    /// only asked when it matters.
    pub async fn keep<K>(
        &self,
        api: &Api<K>,
        object: &K,
        is_used: impl Future<Output = Result<bool, Error>>,
    ) -> Result<Action, Error>
    where
        K: kube::Resource + Cached + Clone + Debug + Serialize + DeserializeOwned,
    {
        let verdict = self.judge(object.meta());
        if verdict == Verdict::Leave || (verdict == Verdict::Remove && is_used.await?) {
            return Ok(Action::Done);
        }
        let mut updated = object.clone();
        self.change(updated.meta_mut(), verdict);
        match api.replace(object.name(), &PostParams::default(), &updated).await {
            Err(error) if is_not_found(&error) => {}
            other => drop(other.step(self.update, object.name())?),
        }
        Ok(Action::Done)
    }

    fn judge(&self, meta: &ObjectMeta) -> Verdict {
        let has = meta.finalizers.iter().flatten().any(|other| other == self.finalizer);
        match (meta.deletion_timestamp.is_some(), has) {
            (false, false) => Verdict::Add,
            (true, true) => Verdict::Remove,
            _ => Verdict::Leave,
        }
    }

    fn change(&self, meta: &mut ObjectMeta, verdict: Verdict) {
        let finalizers = meta.finalizers.get_or_insert_default();
        finalizers.retain(|other| other != self.finalizer);
        if verdict == Verdict::Add {
            finalizers.push(self.finalizer.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    const GUARD: Guard = Guard { finalizer: "guard", update: "update" };

    fn meta(deleted: bool, finalizers: &[&str]) -> ObjectMeta {
        ObjectMeta {
            deletion_timestamp: deleted.then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
            finalizers: Some(finalizers.iter().map(|name| (*name).to_owned()).collect()),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn finalizers_are_added_while_an_object_stays_and_taken_off_when_it_goes() {
        let after = |mut meta: ObjectMeta| {
            let verdict = GUARD.judge(&meta);
            if verdict != Verdict::Leave {
                GUARD.change(&mut meta, verdict);
            }
            meta.finalizers.unwrap_or_default().join(" ")
        };
        assert_eq!(after(meta(false, &["other"])), "other guard");
        assert_eq!(after(meta(false, &["guard"])), "guard");
        assert_eq!(after(meta(true, &["guard", "other"])), "other");
        assert_eq!(after(meta(true, &["other"])), "other");
    }
}
