//! How long a pod tolerates its node's taints. Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};

use super::super::taints;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tolerance {
    Forever,
    For(Duration),
    No,
}

/// The taints that drive pods away.
pub(super) fn no_execute(node: &Node) -> Vec<Taint> {
    taints(node).iter().filter(|taint| taint.effect == "NoExecute").cloned().collect()
}

pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    let (ours, theirs) = (text(&toleration.value), text(&taint.value));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    let numbers = || Some((theirs.parse::<i64>().ok()?, ours.parse::<i64>().ok()?));
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => ours == theirs,
        Some("Exists") => true,
        Some("Lt") => numbers().is_some_and(|(theirs, ours)| theirs < ours),
        Some("Gt") => numbers().is_some_and(|(theirs, ours)| theirs > ours),
        Some(_) => false,
    }
}

pub(super) fn tolerance(pod: &Pod, taints: &[Taint]) -> Tolerance {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    let mut shortest = None::<i64>;
    for taint in taints {
        let Some(used) = tolerations.iter().find(|toleration| tolerates(toleration, taint)) else {
            return Tolerance::No;
        };
        if let Some(seconds) = used.toleration_seconds {
            shortest = Some(shortest.map_or(seconds, |shortest| shortest.min(seconds)));
        }
    }
    match shortest.map(u64::try_from) {
        None => Tolerance::Forever,
        Some(Ok(seconds @ 1..)) => Tolerance::For(Duration::from_secs(seconds)),
        Some(_) => Tolerance::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;

    fn pod(tolerations: &[(&str, Option<i64>)]) -> Pod {
        let make = |(key, seconds): &(&str, Option<i64>)| Toleration {
            key: Some((*key).to_owned()).filter(|key| !key.is_empty()),
            operator: Some("Exists".to_owned()),
            toleration_seconds: *seconds,
            ..Toleration::default()
        };
        let tolerations = Some(tolerations.iter().map(make).collect());
        Pod { spec: Some(PodSpec { tolerations, ..PodSpec::default() }), ..Pod::default() }
    }

    #[test]
    fn the_shortest_toleration_counts_and_every_taint_needs_one() {
        let taint = |key: &str| Taint { key: key.into(), effect: "NoExecute".into(), ..Taint::default() };
        let (a, b) = (taint("a"), taint("b"));
        let both = [a.clone(), b];
        assert_eq!(tolerance(&pod(&[]), &[]), Tolerance::Forever);
        assert_eq!(tolerance(&pod(&[]), std::slice::from_ref(&a)), Tolerance::No);
        assert_eq!(tolerance(&pod(&[("a", Some(300))]), &both), Tolerance::No);
        let seconds = |n| Tolerance::For(Duration::from_secs(n));
        assert_eq!(tolerance(&pod(&[("a", Some(300)), ("b", Some(60))]), &both), seconds(60));
        assert_eq!(tolerance(&pod(&[("", None)]), &both), Tolerance::Forever);
        assert_eq!(tolerance(&pod(&[("a", Some(0))]), &[a]), Tolerance::No);
    }
}
