//! The last settled result of each probe of each container.

use std::collections::HashMap;

use parking_lot::RwLock;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    Liveness,
    Readiness,
    Startup,
}

impl ProbeKind {
    pub const ALL: [Self; 3] = [Self::Liveness, Self::Readiness, Self::Startup];

    /// As events and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
            Self::Startup => "Startup",
        }
    }
}

/// Which probe of which container, for counting.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeLabels {
    pub namespace: String,
    pub pod: String,
    pub pod_uid: String,
    pub container: String,
    pub kind: ProbeKind,
}

/// Outcomes counted by probe and result (`successful`, `failed`, `unknown`).
pub type ProbeCounts = std::collections::BTreeMap<(ProbeLabels, &'static str), u64>;

/// What a probe last settled on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeResult {
    Success,
    Failure,
    /// A startup probe that has not been decided.
    Unknown,
}

/// By container id. Shared by probe workers (who write) and pod workers (who read).
#[derive(Debug, Default)]
pub struct ProbeResults {
    results: RwLock<HashMap<(String, ProbeKind), ProbeResult>>,
}

impl ProbeResults {
    pub fn get(&self, container_id: &str, kind: ProbeKind) -> Option<ProbeResult> {
        self.results.read().get(&(container_id.to_owned(), kind)).copied()
    }

    /// Records a result; `true` when it is another than before.
    pub fn set(&self, container_id: &str, kind: ProbeKind, result: ProbeResult) -> bool {
        self.results.write().insert((container_id.to_owned(), kind), result) != Some(result)
    }

    pub fn remove(&self, container_id: &str, kind: ProbeKind) {
        self.results.write().remove(&(container_id.to_owned(), kind));
    }

    /// `Some(false)`: the container failed its liveness probe and must be restarted.
    pub fn liveness(&self, container_id: &str) -> Option<bool> {
        self.decided(container_id, ProbeKind::Liveness)
    }

    /// `Some(true)`: the container has started; `None`: it is not known yet.
    pub fn startup(&self, container_id: &str) -> Option<bool> {
        self.decided(container_id, ProbeKind::Startup)
    }

    fn decided(&self, container_id: &str, kind: ProbeKind) -> Option<bool> {
        match self.get(container_id, kind)? {
            ProbeResult::Success => Some(true),
            ProbeResult::Failure => Some(false),
            ProbeResult::Unknown => None,
        }
    }
}
