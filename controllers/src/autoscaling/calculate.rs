//! How many replicas a measured load asks for. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use knarr_api::quantity::Quantity;

use crate::pods;

/// A pod's processor use says nothing while it starts: upstream's
/// `--horizontal-pod-autoscaler-cpu-initialization-period` and `--horizontal-pod-autoscaler-initial-readiness-delay`.
const CPU_INITIALIZATION: SignedDuration = SignedDuration::from_secs(5 * 60);
const INITIAL_READINESS: SignedDuration = SignedDuration::from_secs(30);

/// What one pod was measured at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    /// In thousandths.
    pub(super) value: i64,
    pub(super) at: Timestamp,
    /// How long was measured.
    pub(super) window: Duration,
}

/// By the name of the pod.
pub(super) type Samples = BTreeMap<String, Sample>;

/// How far from its goal a load may be without anything being done, as a share of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tolerance {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerance {
    pub(super) fn covers(self, ratio: f64) -> bool {
        (1.0 - self.down..=1.0 + self.up).contains(&ratio)
    }
}

/// What the pods are to be at on average.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal<'a> {
    /// A percentage of what each pod asks for (in thousandths).
    Utilization { percent: i32, requests: &'a BTreeMap<String, i64> },
    /// An amount, in thousandths.
    Usage(i64),
}

/// What the pods are at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    /// Of what they are to be at.
    ratio: f64,
    pub(super) percent: Option<i32>,
    /// Per pod, in thousandths.
    pub(super) usage: i64,
}

impl Goal<'_> {
    fn measure(&self, samples: &Samples) -> Result<Load, String> {
        match *self {
            Self::Usage(target) => {
                let total: i64 = samples.values().map(|sample| sample.value).fold(0, i64::saturating_add);
                let usage = total / i64::try_from(samples.len()).unwrap_or(i64::MAX).max(1);
                Ok(Load { ratio: usage as f64 / target as f64, percent: None, usage })
            }
            Self::Utilization { percent, requests } => {
                let known =
                    samples.iter().filter_map(|(pod, sample)| Some((sample.value, *requests.get(pod)?)));
                let (used, asked, count) =
                    known.fold((0i64, 0i64, 0i64), |(used, asked, count), (value, request)| {
                        (used.saturating_add(value), asked.saturating_add(request), count + 1)
                    });
                if asked == 0 {
                    return Err("no metrics returned matched known pods".to_owned());
                }
                let now = i32::try_from(used.saturating_mul(100) / asked).unwrap_or(i32::MAX);
                Ok(Load {
                    ratio: f64::from(now) / f64::from(percent),
                    percent: Some(now),
                    usage: used / count,
                })
            }
        }
    }

    /// What a pod that was not measured counts for when fewer replicas seem enough: the careful guess.
    fn guess(&self, pod: &str) -> i64 {
        match *self {
            Self::Usage(target) => target,
            Self::Utilization { percent, requests } => {
                let request = requests.get(pod).copied().unwrap_or(0);
                request.saturating_mul(i64::from(percent.max(100))) / 100
            }
        }
    }
}

/// The pods by what their samples are good for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Groups {
    ready: usize,
    unready: BTreeSet<String>,
    missing: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

fn group(pods: &[Arc<Pod>], samples: &Samples, is_cpu: bool, now: Timestamp) -> Groups {
    let mut groups = Groups::default();
    for pod in pods {
        let name = pod.metadata.name.clone().unwrap_or_default();
        if pod.metadata.deletion_timestamp.is_some() || pods::phase(pod) == "Failed" {
            groups.ignored.insert(name);
        } else if pods::phase(pod) == "Pending" {
            groups.unready.insert(name);
        } else if let Some(sample) = samples.get(&name) {
            if is_cpu && is_starting(pod, sample, now) {
                groups.unready.insert(name);
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.insert(name);
        }
    }
    groups
}

/// Whether a pod's use of the processor is that of its start.
fn is_starting(pod: &Pod, sample: &Sample, now: Timestamp) -> bool {
    let condition = pods::condition(pod, "Ready");
    let started = pod.status.as_ref().and_then(|status| status.start_time.as_ref());
    let (Some(condition), Some(started)) = (condition, started) else { return true };
    let unready = condition.status == "False";
    let changed = condition.last_transition_time.as_ref().map_or(Timestamp::MIN, |time| time.0);
    if now.duration_since(started.0) < CPU_INITIALIZATION {
        // A sample must be of a whole window since the pod became what it is.
        unready
            || sample.at.duration_since(changed) < SignedDuration::try_from(sample.window).unwrap_or_default()
    } else {
        unready && changed.duration_since(started.0) < INITIAL_READINESS
    }
}

fn ceil(replicas: f64) -> i32 {
    // Saturates, which is what is wanted of loads without bounds; what is no number is none.
    replicas.ceil() as i32
}

/// The replicas that samples of pods ask for, and the load they were measured at.
pub(super) fn for_pods(
    current: i32,
    pods: &[Arc<Pod>],
    mut samples: Samples,
    is_cpu: bool,
    goal: Goal<'_>,
    tolerance: Tolerance,
    now: Timestamp,
) -> Result<(i32, Load), String> {
    if pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let groups = group(pods, &samples, is_cpu, now);
    samples.retain(|pod, _| !groups.ignored.contains(pod) && !groups.unready.contains(pod));
    if samples.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
    }
    let load = goal.measure(&samples)?;
    let with_unready = !groups.unready.is_empty() && load.ratio > 1.0;
    if !with_unready && groups.missing.is_empty() {
        let replicas =
            if tolerance.covers(load.ratio) { current } else { ceil(load.ratio * groups.ready as f64) };
        return Ok((replicas, load));
    }
    // Whom we know nothing of is guessed so that the change becomes smaller.
    let guess = |value| Sample { value, at: now, window: Duration::ZERO };
    for pod in &groups.missing {
        if load.ratio < 1.0 {
            samples.insert(pod.clone(), guess(goal.guess(pod)));
        } else if load.ratio > 1.0 {
            samples.insert(pod.clone(), guess(0));
        }
    }
    if with_unready {
        samples.extend(groups.unready.iter().map(|pod| (pod.clone(), guess(0))));
    }
    let again = goal.measure(&samples)?.ratio;
    let turns = (load.ratio < 1.0 && again > 1.0) || (load.ratio > 1.0 && again < 1.0);
    if tolerance.covers(again) || turns {
        return Ok((current, load));
    }
    let replicas = ceil(again * samples.len() as f64);
    let turns = (again < 1.0 && replicas > current) || (again > 1.0 && replicas < current);
    Ok((if turns { current } else { replicas }, load))
}

/// The replicas that one value for all pods together asks for, each pod being worth as much as it is now.
pub(super) fn for_value(
    current: i32,
    value: i64,
    target: i64,
    pods: &[Arc<Pod>],
    tolerance: Tolerance,
) -> Result<i32, String> {
    let ratio = value as f64 / target as f64;
    if current == 0 {
        return Ok(ceil(ratio));
    }
    if tolerance.covers(ratio) {
        return Ok(current);
    }
    if pods.is_empty() {
        let why = "no pods returned by selector while calculating replica count";
        return Err(format!("unable to calculate ready pods: {why}"));
    }
    let ready = pods.iter().filter(|pod| pods::phase(pod) == "Running" && pods::is_ready(pod)).count();
    Ok(ceil(ratio * ready as f64))
}

/// The replicas among whom a value is to be shared, and what each has of it now.
pub(super) fn for_shared_value(present: i32, value: i64, target: i64, tolerance: Tolerance) -> (i32, i64) {
    let ratio = value as f64 / (target as f64 * f64::from(present));
    let replicas = if tolerance.covers(ratio) { present } else { ceil(value as f64 / target as f64) };
    // Saturates where nobody is there to share.
    (replicas, (value as f64 / f64::from(present)).ceil() as i64)
}

fn milli(resources: Option<&ResourceRequirements>, resource: &str) -> Option<i64> {
    resources?.requests.as_ref()?.get(resource)?.0.parse::<Quantity>().ok().map(|amount| amount.milli_value())
}

/// What each pod (or one container of it) asks for of a resource, in thousandths.
pub(super) fn requests(
    pods: &[Arc<Pod>],
    container: Option<&str>,
    resource: &str,
) -> Result<BTreeMap<String, i64>, String> {
    let request = |pod: &Arc<Pod>| {
        let name = pod.metadata.name.clone().unwrap_or_default();
        Ok((name.clone(), pod_request(pod, &name, container, resource)?))
    };
    pods.iter().map(request).collect()
}

fn pod_request(pod: &Pod, name: &str, container: Option<&str>, resource: &str) -> Result<i64, String> {
    let Some(spec) = &pod.spec else { return Ok(0) };
    let whole = spec.resources.as_ref().filter(|resources| resources.requests.is_some());
    if container.is_none() && whole.is_some() {
        return milli(whole, resource)
            .ok_or_else(|| format!("missing pod-level request for {resource} in Pod {name}"));
    }
    let is_sidecar = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(is_sidecar));
    let mut meant = all.filter(|other| container.is_none_or(|wanted| wanted == other.name)).peekable();
    if let (Some(wanted), None) = (container, meant.peek()) {
        return Err(format!("container {wanted} not found in Pod {name}"));
    }
    meant
        .map(|container| {
            milli(container.resources.as_ref(), resource).ok_or_else(|| {
                format!("missing request for {resource} in container {} of Pod {name}", container.name)
            })
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pods::tests::pod;

    const TOLERANCE: Tolerance = Tolerance { down: 0.1, up: 0.1 };

    fn now() -> Timestamp {
        Timestamp::from_second(10_000).unwrap()
    }

    fn running(count: usize) -> Vec<Arc<Pod>> {
        (0..count).map(|i| Arc::new(pod(&format!("p{i}"), "n", "Running", Some(1)))).collect()
    }

    fn samples(values: &[i64]) -> Samples {
        let sample = |value| Sample { value, at: now(), window: Duration::from_secs(30) };
        values.iter().enumerate().map(|(i, &value)| (format!("p{i}"), sample(value))).collect()
    }

    #[test]
    fn replicas_follow_the_use_of_what_was_asked_for() {
        let pods = running(3);
        let asked: BTreeMap<_, _> = (0..3).map(|i| (format!("p{i}"), 1000)).collect();
        let goal = Goal::Utilization { percent: 30, requests: &asked };
        for (values, wanted, percent) in
            [([300, 500, 700], 5, 50), ([300, 300, 310], 3, 30), ([100, 100, 100], 1, 10)]
        {
            let (replicas, load) =
                for_pods(3, &pods, samples(&values), false, goal, TOLERANCE, now()).unwrap();
            assert_eq!((replicas, load.percent), (wanted, Some(percent)), "{values:?}");
        }
    }

    #[test]
    fn pods_without_a_measure_make_changes_smaller() {
        let pods = running(4);
        let goal = Goal::Usage(1000);
        let replicas =
            |values: &[i64]| for_pods(4, &pods, samples(values), false, goal, TOLERANCE, now()).unwrap().0;
        assert_eq!(replicas(&[2000, 2000, 2000]), 6, "the fourth counts as idle");
        assert_eq!(replicas(&[500, 500, 500]), 3, "the fourth counts as at its goal");
        assert!(for_pods(4, &pods, Samples::new(), false, goal, TOLERANCE, now()).is_err());
    }

    #[test]
    fn pending_pods_count_as_idle_when_growing_and_not_at_all_when_shrinking() {
        let mut pods = running(2);
        pods.push(Arc::new(pod("p2", "n", "Pending", None)));
        let goal = Goal::Usage(1000);
        let replicas =
            |values: &[i64]| for_pods(3, &pods, samples(values), false, goal, TOLERANCE, now()).unwrap().0;
        assert_eq!(replicas(&[3000, 3000]), 6);
        assert_eq!(replicas(&[500, 500]), 1);
    }

    #[test]
    fn a_value_is_shared_among_replicas() {
        assert_eq!(for_shared_value(2, 10_000, 2000, TOLERANCE), (5, 5000));
        assert_eq!(for_shared_value(5, 10_100, 2000, TOLERANCE), (5, 2020));
        assert_eq!(for_shared_value(0, 10_000, 2000, TOLERANCE).0, 5);
        assert_eq!(for_value(0, 3500, 1000, &[], TOLERANCE), Ok(4));
        assert_eq!(for_value(2, 3000, 1000, &running(2), TOLERANCE), Ok(6));
    }

    #[test]
    fn a_missing_request_is_told_by_name() {
        let mut bare = pod("p0", "n", "Running", Some(1));
        bare.spec.as_mut().unwrap().containers =
            vec![Container { name: "main".to_owned(), ..Container::default() }];
        let pods = [Arc::new(bare)];
        let error = requests(&pods, None, "cpu").unwrap_err();
        assert_eq!(error, "missing request for cpu in container main of Pod p0");
        assert_eq!(requests(&pods, Some("x"), "cpu").unwrap_err(), "container x not found in Pod p0");
    }
}
