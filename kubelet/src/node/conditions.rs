//! The node's conditions, in upstream's words.

use k8s_openapi::api::core::v1::NodeCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What is wrong with the node now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why it cannot run pods; empty when it can.
    pub problems: Vec<String>,
    pub memory_pressure: bool,
    pub disk_pressure: bool,
    pub pid_pressure: bool,
}

fn condition(kind: &str, status: bool, reason: &str, message: &str, now: &Time) -> NodeCondition {
    NodeCondition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: Some(now.clone()),
    }
}

fn pressure(
    kind: &str,
    under: bool,
    (bad, bad_message): (&str, &str),
    (good, good_message): (&str, &str),
    now: &Time,
) -> NodeCondition {
    if under {
        condition(kind, true, bad, bad_message, now)
    } else {
        condition(kind, false, good, good_message, now)
    }
}

/// All conditions, in upstream's order; those whose status is as before keep their transition time.
pub fn all(health: &Health, before: &[NodeCondition], now: &Time) -> Vec<NodeCondition> {
    let ready = if health.problems.is_empty() {
        condition("Ready", true, "KubeletReady", "kubelet is posting ready status", now)
    } else {
        let message = match &health.problems[..] {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        condition("Ready", false, "KubeletNotReady", &message, now)
    };
    let mut conditions = vec![
        pressure(
            "MemoryPressure",
            health.memory_pressure,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            now,
        ),
        pressure(
            "DiskPressure",
            health.disk_pressure,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            now,
        ),
        pressure(
            "PIDPressure",
            health.pid_pressure,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            now,
        ),
        ready,
    ];
    for condition in &mut conditions {
        let old = before.iter().find(|old| old.type_ == condition.type_ && old.status == condition.status);
        if let Some(since) = old.and_then(|old| old.last_transition_time.clone()) {
            condition.last_transition_time = Some(since);
        }
    }
    conditions
}

/// The event that tells a condition's change: `NodeReady`, `NodeHasDiskPressure`, ...
pub fn event(condition: &NodeCondition) -> Option<&'static str> {
    Some(match (condition.type_.as_str(), condition.status == "True") {
        ("Ready", true) => "NodeReady",
        ("Ready", false) => "NodeNotReady",
        ("MemoryPressure", true) => "NodeHasInsufficientMemory",
        ("MemoryPressure", false) => "NodeHasSufficientMemory",
        ("DiskPressure", true) => "NodeHasDiskPressure",
        ("DiskPressure", false) => "NodeHasNoDiskPressure",
        ("PIDPressure", true) => "NodeHasInsufficientPID",
        ("PIDPressure", false) => "NodeHasSufficientPID",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_stays_keeps_its_time() {
        let at = |second| Time(jiff::Timestamp::from_second(second).expect("in range"));
        let first = all(&Health::default(), &[], &at(1));
        let sick = Health { problems: vec!["container runtime is down".into()], ..Health::default() };
        let second = all(&sick, &first, &at(2));
        let ready = second.last().expect("four conditions");
        assert_eq!((ready.status.as_str(), ready.last_transition_time.clone()), ("False", Some(at(2))));
        assert_eq!(ready.message.as_deref(), Some("container runtime is down"));
        assert_eq!(second[0].last_transition_time, Some(at(1)));
        assert_eq!(second[0].last_heartbeat_time, Some(at(2)));
    }
}
