//! A pod's quality-of-service class, from its containers' (or its own) CPU and memory.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::pod::spec;
use crate::resources::amount;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QosClass {
    Guaranteed,
    Burstable,
    BestEffort,
}

impl QosClass {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The class the API server stored, computed where it is absent (static pods).
pub fn of(pod: &Pod) -> QosClass {
    match pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) {
        Some("Guaranteed") => QosClass::Guaranteed,
        Some("Burstable") => QosClass::Burstable,
        Some("BestEffort") => QosClass::BestEffort,
        _ => compute(pod),
    }
}

fn compute(pod: &Pod) -> QosClass {
    let of_pod = spec::spec(pod).resources.as_ref().filter(|r| r.requests.is_some() || r.limits.is_some());
    let all: Vec<Option<&ResourceRequirements>> = match of_pod {
        Some(resources) => vec![Some(resources)],
        None => spec::containers(pod)
            .iter()
            .chain(spec::init_containers(pod))
            .map(|c| c.resources.as_ref())
            .collect(),
    };
    let empty = ResourceRequirements::default();
    let (mut any, mut guaranteed) = (false, true);
    for resources in all {
        let resources = resources.unwrap_or(&empty);
        for name in ["cpu", "memory"] {
            let limit = positive(resources.limits.as_ref(), name);
            let request = positive(resources.requests.as_ref(), name);
            any |= limit.is_some() || request.is_some();
            // Requests default to limits where they are absent.
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => QosClass::BestEffort,
        (true, true) => QosClass::Guaranteed,
        (true, false) => QosClass::Burstable,
    }
}

fn positive(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<i64> {
    list.and_then(|list| list.get(name)).map(amount::milli).filter(|milli| *milli > 0)
}
