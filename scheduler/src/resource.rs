//! Amounts of resources: what a pod asks for and what a node has.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use knarr_api::quantity::Quantity;

use crate::object::Container;

/// Requests of a container that asks for nothing, for scoring only: many such pods would otherwise pile up.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY: i64 = 200 << 20;

pub type WireResources = BTreeMap<String, WireQuantity>;

/// CPU in thousandths, everything else in whole units (bytes for memory and storage).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amounts {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    pub pods: i64,
    /// Huge pages and extended resources, sorted by name.
    pub scalars: Vec<(Box<str>, i64)>,
}

impl Amounts {
    /// Amounts as an object states them. What does not parse was refused by the API server and counts as nothing.
    pub fn parse(wire: &WireResources) -> Self {
        let mut amounts = Self::default();
        for (name, quantity) in wire {
            let Ok(quantity) = quantity.0.parse::<Quantity>() else { continue };
            match name.as_str() {
                "cpu" => amounts.milli_cpu = quantity.milli_value(),
                _ => *amounts.entry(name) = quantity.value(),
            }
        }
        amounts
    }

    fn entry(&mut self, name: &str) -> &mut i64 {
        match name {
            "cpu" => &mut self.milli_cpu,
            "memory" => &mut self.memory,
            "ephemeral-storage" => &mut self.ephemeral_storage,
            "pods" => &mut self.pods,
            scalar => {
                let at = match self.scalars.binary_search_by(|(other, _)| (**other).cmp(scalar)) {
                    Ok(at) => at,
                    Err(at) => {
                        self.scalars.insert(at, (scalar.into(), 0));
                        at
                    }
                };
                &mut self.scalars[at].1
            }
        }
    }

    /// The amount of a resource by its name.
    pub fn of(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            "pods" => self.pods,
            scalar => self.scalar(scalar),
        }
    }

    pub fn scalar(&self, name: &str) -> i64 {
        let found = self.scalars.binary_search_by(|(other, _)| (**other).cmp(name));
        found.map_or(0, |at| self.scalars[at].1)
    }

    /// Whether any amount is more than the other's.
    pub fn exceeds(&self, other: &Self) -> bool {
        self.milli_cpu > other.milli_cpu
            || self.memory > other.memory
            || self.ephemeral_storage > other.ephemeral_storage
            || self.scalars.iter().any(|(name, amount)| *amount > other.scalar(name))
    }

    pub fn add(&mut self, other: &Self) {
        self.merge(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Self) {
        self.merge(other, i64::saturating_sub);
    }

    /// Raises each amount to the other's where that is larger.
    pub fn raise_to(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    fn merge(&mut self, other: &Self, combine: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = combine(self.milli_cpu, other.milli_cpu);
        self.memory = combine(self.memory, other.memory);
        self.ephemeral_storage = combine(self.ephemeral_storage, other.ephemeral_storage);
        self.pods = combine(self.pods, other.pods);
        for (name, amount) in &other.scalars {
            let mine = self.entry(name);
            *mine = combine(*mine, *amount);
        }
    }
}

/// What a pod needs on its node, and the same with defaults for containers that ask for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    pub exact: Amounts,
    /// CPU and memory for scoring.
    pub nonzero_milli_cpu: i64,
    pub nonzero_memory: i64,
}

impl Request {
    /// The larger of what runs together (containers and sidecars) and of what each init container needs beside the
    /// sidecars started before it, plus the overhead; pod-level requests replace the sum for their resources.
    pub fn of_pod(
        containers: &[Container],
        init_containers: &[Container],
        pod_level: Option<&WireResources>,
        overhead: &WireResources,
    ) -> Self {
        let overhead = Amounts::parse(overhead);
        let mut exact = together(containers, init_containers, Container::requests);
        let mut nonzero = together(containers, init_containers, Container::nonzero_requests);
        if let Some(pod_level) = pod_level {
            let stated = Amounts::parse(pod_level);
            for name in pod_level.keys() {
                let mut copy = stated.clone();
                *exact.entry(name) = *copy.entry(name);
                *nonzero.entry(name) = *copy.entry(name);
            }
        }
        exact.add(&overhead);
        nonzero.add(&overhead);
        Self { exact, nonzero_milli_cpu: nonzero.milli_cpu, nonzero_memory: nonzero.memory }
    }
}

fn together(containers: &[Container], init: &[Container], of: impl Fn(&Container) -> Amounts) -> Amounts {
    let mut running = Amounts::default();
    for container in containers {
        running.add(&of(container));
    }
    let mut sidecars = Amounts::default();
    let mut starting = Amounts::default();
    for container in init {
        let mut needed = of(container);
        if container.is_sidecar() {
            sidecars.add(&needed);
            running.add(&needed);
            needed = sidecars.clone();
        } else {
            needed.add(&sidecars);
        }
        starting.raise_to(&needed);
    }
    running.raise_to(&starting);
    running
}

impl Container {
    fn requests(&self) -> Amounts {
        Amounts::parse(&self.resources.requests)
    }

    fn nonzero_requests(&self) -> Amounts {
        let mut amounts = self.requests();
        if !self.resources.requests.contains_key("cpu") {
            amounts.milli_cpu = DEFAULT_MILLI_CPU;
        }
        if !self.resources.requests.contains_key("memory") {
            amounts.memory = DEFAULT_MEMORY;
        }
        amounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(pairs: &[(&str, &str)]) -> WireResources {
        pairs.iter().map(|(name, quantity)| (name.to_string(), WireQuantity(quantity.to_string()))).collect()
    }

    fn container(cpu: &str, sidecar: bool) -> Container {
        let mut container = Container::default();
        container.resources.requests = wire(&[("cpu", cpu)]);
        container.restart_policy = sidecar.then(|| "Always".into());
        container
    }

    #[test]
    fn init_containers_count_beside_the_sidecars_started_before_them() {
        let none = WireResources::new();
        let running = [container("100m", false), container("200m", false)];
        let of = |init: &[Container]| Request::of_pod(&running, init, None, &none).exact.milli_cpu;
        assert_eq!(of(&[]), 300);
        assert_eq!(of(&[container("1", false)]), 1_000);
        assert_eq!(of(&[container("500m", true)]), 800);
        assert_eq!(of(&[container("500m", true), container("1", false)]), 1_500);
        assert_eq!(of(&[container("1", false), container("500m", true)]), 1_000);
    }

    #[test]
    fn pod_level_requests_replace_the_sum_and_overhead_is_added() {
        let request = Request::of_pod(
            &[container("100m", false)],
            &[],
            Some(&wire(&[("cpu", "2")])),
            &wire(&[("cpu", "50m"), ("memory", "1Mi")]),
        );
        assert_eq!((request.exact.milli_cpu, request.exact.memory), (2_050, 1 << 20));
    }

    #[test]
    fn containers_that_ask_for_nothing_weigh_something_when_scored() {
        let request = Request::of_pod(&[Container::default()], &[], None, &WireResources::new());
        assert_eq!(request.exact, Amounts::default());
        assert_eq!((request.nonzero_milli_cpu, request.nonzero_memory), (100, 200 << 20));
    }

    #[test]
    fn amounts_add_and_subtract_per_resource() {
        let mut amounts = Amounts::parse(&wire(&[("cpu", "1"), ("example.com/gpu", "2"), ("memory", "1Gi")]));
        let some = Amounts::parse(&wire(&[("example.com/gpu", "1"), ("hugepages-2Mi", "4Mi")]));
        amounts.add(&some);
        assert_eq!((amounts.scalar("example.com/gpu"), amounts.scalar("hugepages-2Mi")), (3, 4 << 20));
        amounts.subtract(&some);
        assert_eq!((amounts.scalar("example.com/gpu"), amounts.scalar("hugepages-2Mi")), (2, 0));
        assert_eq!(amounts.scalar("absent"), 0);
    }
}
