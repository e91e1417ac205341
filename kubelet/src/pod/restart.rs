//! Whether a container that ended runs again: container rules first, then the container's policy, then the pod's.

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod};

use super::observed::{Observed, Seen};
use super::spec;
use knarr_runtime::cri::ContainerState;

/// The first rule of the container that speaks about this exit code.
pub fn matching_rule(container: &Container, exit_code: i32) -> Option<&ContainerRestartRule> {
    container.restart_policy_rules.as_deref().unwrap_or_default().iter().find(|rule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let listed = codes.values.as_deref().unwrap_or_default().contains(&exit_code);
        match codes.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    })
}

/// Whether a container that ended with this code is started again.
pub fn should_restart(container: &Container, pod_policy: &str, exit_code: i32) -> bool {
    if let Some(policy) = container.restart_policy.as_deref() {
        if matching_rule(container, exit_code)
            .is_some_and(|rule| matches!(rule.action.as_str(), "Restart" | "RestartAllContainers"))
        {
            return true;
        }
        if let Some(answer) = by_policy(policy, exit_code) {
            return answer;
        }
    }
    by_policy(pod_policy, exit_code).unwrap_or(true)
}

/// Whether the end of this run starts all containers of the pod anew.
pub fn restarts_all(container: &Container, seen: &Seen) -> bool {
    seen.state == ContainerState::Exited
        && matching_rule(container, seen.exit_code).is_some_and(|rule| rule.action == "RestartAllContainers")
}

/// Whether any of the pod's containers has such a rule.
pub fn could_restart_all(pod: &Pod) -> bool {
    let all = spec::containers(pod).iter().chain(spec::init_containers(pod));
    all.flat_map(|c| c.restart_policy_rules.iter().flatten())
        .any(|rule| rule.action == "RestartAllContainers")
}

/// A container has ended in a way that asks all others to start anew too.
pub fn all_are_to_restart(pod: &Pod, observed: &Observed) -> bool {
    let mut all = spec::containers(pod).iter().chain(spec::init_containers(pod));
    !spec::being_deleted(pod)
        && all.any(|c| observed.latest(&c.name).is_some_and(|seen| restarts_all(c, seen)))
}

fn by_policy(policy: &str, exit_code: i32) -> Option<bool> {
    match policy {
        "Always" => Some(true),
        "OnFailure" => Some(exit_code != 0),
        "Never" => Some(false),
        _ => None,
    }
}

/// Whether the next sync starts this container: never one of a pod that is being deleted.
pub fn will_start(container: &Container, pod: &Pod, observed: &Observed) -> bool {
    if spec::being_deleted(pod) {
        return false;
    }
    match observed.latest(&container.name) {
        None => true,
        Some(found) => match found.state {
            ContainerState::Running => false,
            ContainerState::Unknown | ContainerState::Created => true,
            ContainerState::Exited => should_restart(container, spec::restart_policy(pod), found.exit_code),
        },
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ContainerRestartRuleOnExitCodes;

    use super::*;

    fn container(policy: Option<&str>, rules: Vec<ContainerRestartRule>) -> Container {
        Container {
            name: "c".into(),
            restart_policy: policy.map(Into::into),
            restart_policy_rules: Some(rules),
            ..Container::default()
        }
    }

    fn rule(operator: &str, codes: &[i32]) -> ContainerRestartRule {
        ContainerRestartRule {
            action: "Restart".into(),
            exit_codes: Some(ContainerRestartRuleOnExitCodes {
                operator: operator.into(),
                values: Some(codes.to_vec()),
            }),
        }
    }

    #[test]
    fn the_pods_policy_decides_for_containers_without_one() {
        let c = container(None, vec![rule("In", &[3])]);
        for (policy, code, again) in [
            ("Always", 0, true),
            ("OnFailure", 0, false),
            ("OnFailure", 3, true),
            ("Never", 3, false),
            ("", 1, true),
        ] {
            assert_eq!(should_restart(&c, policy, code), again, "{policy} {code}");
        }
    }

    #[test]
    fn a_matching_rule_outranks_the_containers_policy() {
        let c = container(Some("Never"), vec![rule("In", &[42])]);
        assert!(should_restart(&c, "Always", 42));
        assert!(!should_restart(&c, "Always", 1));
        let c = container(Some("Never"), vec![rule("NotIn", &[42])]);
        assert!(!should_restart(&c, "Always", 42));
        assert!(should_restart(&c, "Always", 1));
    }
}
