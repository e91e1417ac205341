//! The conditions of a pod that the scheduler writes, and so must know.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    #[serde(rename = "type")]
    pub type_: Box<str>,
    pub status: Box<str>,
    pub reason: Box<str>,
    pub message: Box<str>,
    last_transition_time: Option<Time>,
}

impl Condition {
    pub fn changed_at(&self) -> Option<Timestamp> {
        self.last_transition_time.as_ref().map(|time| time.0)
    }

    /// Whether it says the same, whenever it began to.
    pub fn says(&self, status: &str, reason: &str, message: &str) -> bool {
        &*self.status == status && &*self.reason == reason && &*self.message == message
    }
}
