//! One look at one autoscaler.

use std::collections::HashMap;

use k8s_openapi::{
    api::{
        autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus, MetricStatus},
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use knarr_api::{selector::Selector, time::SharedClock};
use knarr_client::{
    Action, Api, Cached, Client, ObjectKey, Reconcile, SharedInformer,
    error::is_not_found,
    events::{EventRecorder, EventType},
};
use kube::api::PostParams;
use parking_lot::Mutex;
use tracing::debug;

use super::{
    PERIOD,
    behavior::{History, Range},
    compute::{Computer, Failure, Subject},
    conditions::{self, ABLE_TO_SCALE, SCALING_ACTIVE, SCALING_LIMITED},
    metrics::Metrics,
    target::{Target, Targets},
};
use crate::error::{Error, Step};

pub(super) struct Sync {
    pub(super) scalers: SharedInformer<HorizontalPodAutoscaler>,
    pub(super) pods: SharedInformer<Pod>,
    pub(super) recorder: EventRecorder,
    pub(super) metrics: Metrics,
    pub(super) targets: Targets,
    pub(super) histories: Mutex<HashMap<ObjectKey, History>>,
    /// Whose pods each autoscaler measures: no pod may be measured by two.
    pub(super) selectors: Mutex<HashMap<ObjectKey, Selector>>,
    pub(super) client: Client,
    pub(super) clock: SharedClock,
}

/// What the metrics together say.
struct Wish {
    replicas: i32,
    /// The metric that asked for most.
    metric: String,
    statuses: Vec<MetricStatus>,
    /// Some gave nothing, and the others still count.
    partly: Option<String>,
}

impl Reconcile for Sync {
    type Key = ObjectKey;
    type Error = Error;

    async fn reconcile(&self, key: &ObjectKey) -> Result<Action, Error> {
        let Some(cached) = self.scalers.get_key(key) else {
            self.histories.lock().remove(key);
            self.selectors.lock().remove(key);
            return Ok(Action::Done);
        };
        let mut scaler = (*cached).clone();
        if let Err(why) = self.look(key, &mut scaler).await {
            // Told in the status and in an event; the next look comes in time.
            debug!(%key, why, "cannot scale");
        }
        self.report(&cached, &scaler).await?;
        Ok(Action::After(PERIOD))
    }
}

impl Sync {
    fn warn(&self, scaler: &HorizontalPodAutoscaler, reason: &str, text: String) {
        self.recorder.event(scaler, EventType::Warning, reason, text);
    }

    fn set(&self, scaler: &mut HorizontalPodAutoscaler, kind: &str, holds: bool, reason: &str, text: &str) {
        conditions::set(scaler.status.get_or_insert_default(), kind, holds, reason, text, self.clock.now());
    }

    async fn look(&self, key: &ObjectKey, scaler: &mut HorizontalPodAutoscaler) -> Result<(), String> {
        let reference = scaler.spec.scale_target_ref.clone();
        let api_version = reference.api_version.as_deref().unwrap_or("v1");
        let target =
            match self.targets.find(&key.namespace, api_version, &reference.kind, &reference.name).await {
                Ok(target) => target,
                Err(why) => {
                    self.warn(scaler, "FailedGetScale", why.clone());
                    let text =
                        format!("the HPA controller was unable to get the target's current scale: {why}");
                    self.set(scaler, ABLE_TO_SCALE, false, "FailedGetScale", &text);
                    return Err(why);
                }
            };
        let text = "the HPA controller was able to get the target's current scale";
        self.set(scaler, ABLE_TO_SCALE, true, "SucceededGetScale", text);
        let (current, now) = (target.replicas(), self.clock.now());
        self.histories.lock().entry(key.clone()).or_default().begin(current, now);

        let (least, most) = (scaler.spec.min_replicas.unwrap_or(1), scaler.spec.max_replicas);
        if current == 0 {
            let text = "scaling is disabled since the replica count of the target is zero";
            self.set(scaler, SCALING_ACTIVE, false, "ScalingDisabled", text);
            set_sizes(scaler, current, current, Vec::new());
            return Ok(());
        }
        let (wanted, reason, statuses) = if current > most {
            (most, "Current number of replicas above Spec.MaxReplicas".to_owned(), Vec::new())
        } else if current < least {
            (least, "Current number of replicas below Spec.MinReplicas".to_owned(), Vec::new())
        } else {
            let wish = match self.measure(key, scaler, &target).await {
                Ok(wish) => wish,
                Err((statuses, why)) => {
                    let desired = scaler.status.as_ref().map_or(0, |status| status.desired_replicas);
                    set_sizes(scaler, current, desired, statuses);
                    self.warn(scaler, "FailedComputeMetricsReplicas", why.clone());
                    return Err(why);
                }
            };
            if let Some(why) = &wish.partly {
                debug!(%key, why, "some metrics are missing");
            }
            let reason = match wish.replicas.cmp(&current) {
                std::cmp::Ordering::Greater => format!("{} above target", wish.metric),
                _ => "All metrics below target".to_owned(),
            };
            (
                self.hold_back(key, scaler, wish.replicas, Range { current, least, most }),
                reason,
                wish.statuses,
            )
        };
        if wanted == current {
            set_sizes(scaler, current, current, statuses);
            return Ok(());
        }
        self.resize(key, scaler, &target, wanted, &reason, statuses).await
    }

    fn hold_back(
        &self,
        key: &ObjectKey,
        scaler: &mut HorizontalPodAutoscaler,
        wish: i32,
        range: Range,
    ) -> i32 {
        let behavior = scaler.spec.behavior.clone();
        let decision = {
            let mut histories = self.histories.lock();
            histories.entry(key.clone()).or_default().decide(wish, range, behavior.as_ref(), self.clock.now())
        };
        self.set(scaler, ABLE_TO_SCALE, true, decision.able.0, decision.able.1);
        let (limited, reason, text) = decision.limited;
        self.set(scaler, SCALING_LIMITED, limited, reason, text);
        decision.replicas
    }

    async fn resize(
        &self,
        key: &ObjectKey,
        scaler: &mut HorizontalPodAutoscaler,
        target: &Target,
        wanted: i32,
        reason: &str,
        statuses: Vec<MetricStatus>,
    ) -> Result<(), String> {
        let current = target.replicas();
        if let Err(why) = self.targets.resize(target, wanted).await {
            let text = format!("New size: {wanted}; reason: {reason}; error: {why}");
            self.warn(scaler, "FailedRescale", text);
            let text = format!("the HPA controller was unable to update the target scale: {why}");
            self.set(scaler, ABLE_TO_SCALE, false, "FailedUpdateScale", &text);
            let desired = scaler.status.as_ref().map_or(0, |status| status.desired_replicas);
            set_sizes(scaler, current, desired, statuses);
            return Err(why);
        }
        let text = format!("the HPA controller was able to update the target scale to {wanted}");
        self.set(scaler, ABLE_TO_SCALE, true, "SucceededRescale", &text);
        let text = format!("New size: {wanted}; reason: {reason}");
        self.recorder.event(scaler, EventType::Normal, "SuccessfulRescale", text);
        let now = self.clock.now();
        self.histories.lock().entry(key.clone()).or_default().changed(wanted - current, now);
        set_sizes(scaler, current, wanted, statuses);
        scaler.status.get_or_insert_default().last_scale_time = Some(Time(now));
        Ok(())
    }

    /// Goes through the metrics: the one that asks for most counts. Of those that gave nothing the first is told,
    /// and then nothing is made smaller.
    async fn measure(
        &self,
        key: &ObjectKey,
        scaler: &mut HorizontalPodAutoscaler,
        target: &Target,
    ) -> Result<Wish, (Vec<MetricStatus>, String)> {
        let selector = self.selector(key, scaler, target).map_err(|why| (Vec::new(), why))?;
        let pods = self.pods.in_namespace(&key.namespace);
        let pods: Vec<_> = pods.into_iter().filter(|pod| selector.matches(&pod.metadata.labels)).collect();
        let specs = scaler.spec.metrics.clone().unwrap_or_default();
        let wanted = target.replicas();
        let (mut best, mut statuses, mut failures) =
            (None::<(i32, String)>, Vec::new(), Vec::<Failure>::new());
        let computer = Computer {
            metrics: &self.metrics,
            targets: &self.targets,
            subject: Subject {
                scaler: &*scaler,
                wanted,
                present: target.present(),
                selector: target.selector(),
                pods: &pods,
                now: self.clock.now(),
            },
        };
        for spec in &specs {
            match computer.compute(spec).await {
                Ok(proposal) => {
                    statuses.push(proposal.status);
                    if best.as_ref().is_none_or(|(replicas, _)| proposal.replicas > *replicas) {
                        best = Some((proposal.replicas, proposal.name));
                    }
                }
                Err(failure) => {
                    self.warn(scaler, failure.reason, failure.cause.clone());
                    // Upstream leaves an empty place for each: the statuses stand where their metrics stand.
                    statuses.push(MetricStatus::default());
                    failures.push(failure);
                }
            }
        }
        let partly = failures.first().map(|first| {
            let (invalid, all) = (failures.len(), specs.len());
            format!("invalid metrics ({invalid} invalid out of {all}), first error is: {}", first.error)
        });
        let replicas = best.as_ref().map_or(0, |(replicas, _)| *replicas);
        match (best, partly) {
            (Some((_, metric)), partly) if partly.is_none() || replicas >= wanted => {
                let text =
                    format!("the HPA was able to successfully calculate a replica count from {metric}");
                self.set(scaler, SCALING_ACTIVE, true, "ValidMetricFound", &text);
                Ok(Wish { replicas, metric, statuses, partly })
            }
            (_, partly) => {
                if let Some(first) = failures.first() {
                    let text = format!("the HPA was unable to compute the replica count: {}", first.cause);
                    self.set(scaler, SCALING_ACTIVE, false, first.reason, &text);
                }
                Err((statuses, partly.unwrap_or_else(|| "no metrics are asked for".to_owned())))
            }
        }
    }

    /// The target's selector, if no other autoscaler measures any of its pods.
    fn selector(
        &self,
        key: &ObjectKey,
        scaler: &mut HorizontalPodAutoscaler,
        target: &Target,
    ) -> Result<Selector, String> {
        let invalid =
            |this: &Self, scaler: &mut HorizontalPodAutoscaler, reason: &str, why: &str, shown: &str| {
                this.warn(scaler, reason, why.to_owned());
                let condition = if reason == "SelectorRequired" { "InvalidSelector" } else { reason };
                this.set(scaler, SCALING_ACTIVE, false, condition, shown);
                why.to_owned()
            };
        let text = target.selector();
        if text.is_empty() {
            let shown = "the HPA target's scale is missing a selector";
            return Err(invalid(self, scaler, "SelectorRequired", "selector is required", shown));
        }
        let selector = text.parse::<Selector>().map_err(|error| {
            let why =
                format!("couldn't convert selector into a corresponding internal selector object: {error}");
            invalid(self, scaler, "InvalidSelector", &why, &why)
        })?;
        let mut sharers = self.sharers(key, &selector);
        if !sharers.is_empty() {
            sharers.push(key.clone());
            sharers.sort();
            let shown: Vec<_> =
                sharers.iter().map(|key| format!("{{{} {}}}", key.name, key.namespace)).collect();
            let why =
                format!("pods by selector {text} are controlled by multiple HPAs: [{}]", shown.join(" "));
            return Err(invalid(self, scaler, "AmbiguousSelector", &why, &why));
        }
        Ok(selector)
    }

    /// The other autoscalers that measure a pod of this selector.
    fn sharers(&self, key: &ObjectKey, selector: &Selector) -> Vec<ObjectKey> {
        let mut selectors = self.selectors.lock();
        selectors.insert(key.clone(), selector.clone());
        let others: Vec<_> =
            selectors.iter().filter(|(other, _)| other.namespace == key.namespace && *other != key).collect();
        if others.is_empty() {
            return Vec::new();
        }
        let pods = self.pods.in_namespace(&key.namespace);
        let ours: Vec<_> = pods.iter().filter(|pod| selector.matches(&pod.metadata.labels)).collect();
        let shares = |other: &Selector| ours.iter().any(|pod| other.matches(&pod.metadata.labels));
        others.into_iter().filter(|(_, other)| shares(other)).map(|(other, _)| other.clone()).collect()
    }

    async fn report(
        &self,
        before: &HorizontalPodAutoscaler,
        after: &HorizontalPodAutoscaler,
    ) -> Result<(), Error> {
        if before.status == after.status {
            return Ok(());
        }
        let api = Api::<HorizontalPodAutoscaler>::namespaced(self.client.clone(), after.namespace());
        match api.replace_status(after.name(), &PostParams::default(), after).await {
            Err(error) if is_not_found(&error) => Ok(()),
            Err(error) => {
                let text = knarr_client::error::message(&error);
                self.warn(after, "FailedUpdateStatus", text);
                Err(error).step("update status of", after.name())
            }
            Ok(_) => Ok(()),
        }
    }
}

fn set_sizes(scaler: &mut HorizontalPodAutoscaler, current: i32, desired: i32, statuses: Vec<MetricStatus>) {
    let before = scaler.status.take().unwrap_or_default();
    scaler.status = Some(HorizontalPodAutoscalerStatus {
        current_replicas: Some(current),
        desired_replicas: desired,
        current_metrics: (!statuses.is_empty()).then_some(statuses),
        ..before
    });
}
