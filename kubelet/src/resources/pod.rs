//! What a whole pod asks for: the larger of its containers together and its init containers at their worst, plus
//! overhead; or what the pod itself says.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::amount::{self, List};
use crate::pod::spec;

/// Thousandths by resource name.
pub type Milli = BTreeMap<String, i64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Requests,
    Limits,
}

fn list(container: &Container, which: Which) -> Option<&List> {
    let resources = container.resources.as_ref()?;
    match which {
        Which::Requests => resources.requests.as_ref(),
        Which::Limits => resources.limits.as_ref(),
    }
}

fn add(total: &mut Milli, more: Option<&List>) {
    for (name, quantity) in more.into_iter().flatten() {
        let sum = total.entry(name.clone()).or_default();
        *sum = sum.saturating_add(amount::milli(quantity));
    }
}

fn raise(total: &mut Milli, other: &Milli) {
    for (name, value) in other {
        let current = total.entry(name.clone()).or_default();
        *current = (*current).max(*value);
    }
}

/// Sum over the pod's life: sidecars run beside every later init container and all regular ones.
pub fn total(pod: &Pod, which: Which) -> Milli {
    let mut total = Milli::new();
    for container in spec::containers(pod) {
        add(&mut total, list(container, which));
    }
    let (mut sidecars, mut worst_init) = (Milli::new(), Milli::new());
    for container in spec::init_containers(pod) {
        if spec::is_restartable_init(container) {
            add(&mut total, list(container, which));
            add(&mut sidecars, list(container, which));
            raise(&mut worst_init, &sidecars);
        } else {
            let mut now = sidecars.clone();
            add(&mut now, list(container, which));
            raise(&mut worst_init, &now);
        }
    }
    raise(&mut total, &worst_init);
    let own = spec::spec(pod).resources.as_ref();
    let own =
        own.and_then(|r| if which == Which::Requests { r.requests.as_ref() } else { r.limits.as_ref() });
    for (name, quantity) in own.into_iter().flatten() {
        total.insert(name.clone(), amount::milli(quantity));
    }
    let overhead: Option<&BTreeMap<String, Quantity>> = spec::spec(pod).overhead.as_ref();
    for (name, quantity) in overhead.into_iter().flatten() {
        // Overhead raises limits only where there is one.
        if which == Which::Requests || total.contains_key(name) {
            *total.entry(name.clone()).or_default() += amount::milli(quantity);
        }
    }
    total
}

/// Whether every container (or the pod itself) limits this resource.
pub fn all_limited(pod: &Pod, name: &str) -> bool {
    let own = spec::spec(pod).resources.as_ref().and_then(|r| r.limits.as_ref());
    if own.is_some_and(|limits| limits.contains_key(name)) {
        return true;
    }
    spec::containers(pod)
        .iter()
        .chain(spec::init_containers(pod))
        .all(|c| list(c, Which::Limits).is_some_and(|l| l.get(name).is_some_and(|q| amount::milli(q) > 0)))
}

/// Bytes or counts from thousandths.
pub fn whole(milli: i64) -> i64 {
    milli.div_euclid(1000) + i64::from(milli.rem_euclid(1000) != 0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};

    use super::*;

    fn container(cpu: &str, sidecar: bool) -> Container {
        Container {
            resources: Some(ResourceRequirements {
                requests: Some([("cpu".to_owned(), Quantity(cpu.into()))].into()),
                ..ResourceRequirements::default()
            }),
            restart_policy: sidecar.then(|| "Always".into()),
            ..Container::default()
        }
    }

    #[test]
    fn init_containers_count_at_their_worst_and_sidecars_stay() {
        let pod = |inits: Vec<Container>| Pod {
            spec: Some(PodSpec {
                containers: vec![container("1", false), container("500m", false)],
                init_containers: Some(inits),
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        let cpu = |inits| total(&pod(inits), Which::Requests)["cpu"];
        assert_eq!(cpu(vec![]), 1500);
        assert_eq!(cpu(vec![container("1", false), container("2", false)]), 2000);
        assert_eq!(cpu(vec![container("1", true), container("2", false)]), 3000);
        assert_eq!(cpu(vec![container("1", true)]), 2500);
    }
}
