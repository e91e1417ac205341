//! The replicas that the metrics of one autoscaler ask for together.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        autoscaling::v2::{
            ContainerResourceMetricStatus, ExternalMetricSource, ExternalMetricStatus,
            HorizontalPodAutoscaler, MetricSpec, MetricStatus, MetricTarget, MetricValueStatus,
            ObjectMetricSource, ObjectMetricStatus, PodsMetricSource, PodsMetricStatus, ResourceMetricStatus,
        },
        core::v1::Pod,
    },
    apimachinery::pkg::{api::resource, apis::meta::v1::LabelSelector},
};
use knarr_api::quantity::{Format, Quantity};
use knarr_client::{Cached, ownership::selector};

use super::{
    calculate::{self, Goal, Tolerance},
    metrics::Metrics,
    target::Targets,
};

/// Upstream's `--horizontal-pod-autoscaler-tolerance`.
const TOLERANCE: f64 = 0.1;

/// What one metric asks for.
#[derive(Debug)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// What it is called in events and conditions.
    pub(super) name: String,
    pub(super) status: MetricStatus,
}

/// Why a metric gave nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) reason: &'static str,
    /// What the event and the condition say.
    pub(super) cause: String,
    /// What the reconcile fails with.
    pub(super) error: String,
}

/// What the metrics are computed for.
pub(super) struct Subject<'a> {
    pub(super) scaler: &'a HorizontalPodAutoscaler,
    /// What the target asks for, and what it has.
    pub(super) wanted: i32,
    pub(super) present: i32,
    /// Of the target's pods, in its written form.
    pub(super) selector: &'a str,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) now: Timestamp,
}

/// The tolerance the autoscaler sets, or the usual one.
pub(super) fn tolerance(scaler: &HorizontalPodAutoscaler) -> Tolerance {
    let behavior = scaler.spec.behavior.as_ref();
    let said = |rules: Option<&k8s_openapi::api::autoscaling::v2::HPAScalingRules>| {
        let text = &rules?.tolerance.as_ref()?.0;
        text.parse::<Quantity>().ok().map(|share| share.as_f64())
    };
    Tolerance {
        down: said(behavior.and_then(|behavior| behavior.scale_down.as_ref())).unwrap_or(TOLERANCE),
        up: said(behavior.and_then(|behavior| behavior.scale_up.as_ref())).unwrap_or(TOLERANCE),
    }
}

fn milli(amount: &resource::Quantity) -> i64 {
    amount.0.parse::<Quantity>().map_or(0, |amount| amount.milli_value())
}

fn written(milli: i64, format: Format) -> resource::Quantity {
    resource::Quantity(Quantity::from_milli(milli, format).to_string())
}

/// How the name of a metric's selector is written into events.
fn described(selector: Option<&LabelSelector>) -> String {
    let Some(labels) = selector else { return "nil".to_owned() };
    let pairs = labels.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},"));
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{}},}}",
        pairs.collect::<String>()
    )
}

fn labels(of: Option<&LabelSelector>) -> Result<String, String> {
    match of {
        None => Ok(String::new()),
        Some(labels) => {
            selector(labels).map(|selector| selector.to_string()).map_err(|error| error.to_string())
        }
    }
}

fn average(usage: i64) -> MetricValueStatus {
    MetricValueStatus {
        average_value: Some(written(usage, Format::DecimalSi)),
        ..MetricValueStatus::default()
    }
}

fn whole(usage: i64) -> MetricValueStatus {
    MetricValueStatus { value: Some(written(usage, Format::DecimalSi)), ..MetricValueStatus::default() }
}

/// Reads metrics and computes what they ask for.
pub(super) struct Computer<'a> {
    pub(super) metrics: &'a Metrics,
    pub(super) targets: &'a Targets,
    pub(super) subject: Subject<'a>,
}

impl Computer<'_> {
    pub(super) async fn compute(&self, spec: &MetricSpec) -> Result<Proposal, Failure> {
        let (reason, prefix, result) = match spec.type_.as_str() {
            "Resource" => {
                let Some(source) = &spec.resource else { return Err(unknown(&spec.type_)) };
                let result = self.resource(&source.name, None, &source.target).await;
                let result = result.map(|(replicas, name, current)| Proposal {
                    replicas,
                    name,
                    status: MetricStatus {
                        type_: spec.type_.clone(),
                        resource: Some(ResourceMetricStatus { name: source.name.clone(), current }),
                        ..MetricStatus::default()
                    },
                });
                ("FailedGetResourceMetric", format!("{} resource metric value", source.name), result)
            }
            "ContainerResource" => {
                let Some(source) = &spec.container_resource else { return Err(unknown(&spec.type_)) };
                let result = self.resource(&source.name, Some(&source.container), &source.target).await;
                let result = result.map(|(replicas, name, current)| Proposal {
                    replicas,
                    name,
                    status: MetricStatus {
                        type_: spec.type_.clone(),
                        container_resource: Some(ContainerResourceMetricStatus {
                            container: source.container.clone(),
                            name: source.name.clone(),
                            current,
                        }),
                        ..MetricStatus::default()
                    },
                });
                let prefix = format!("{} container metric value", source.container);
                ("FailedGetContainerResourceMetric", prefix, result)
            }
            "Pods" => {
                let Some(source) = &spec.pods else { return Err(unknown(&spec.type_)) };
                ("FailedGetPodsMetric", "pods metric value".to_owned(), self.pods(source).await)
            }
            "Object" => {
                let Some(source) = &spec.object else { return Err(unknown(&spec.type_)) };
                ("FailedGetObjectMetric", "object metric value".to_owned(), self.object(source).await)
            }
            "External" => {
                let Some(source) = &spec.external else { return Err(unknown(&spec.type_)) };
                let prefix = format!("{} external metric value", source.metric.name);
                ("FailedGetExternalMetric", prefix, self.external(source).await)
            }
            other => return Err(unknown(other)),
        };
        result.map_err(|cause| Failure { reason, error: format!("failed to get {prefix}: {cause}"), cause })
    }

    fn namespace(&self) -> &str {
        self.subject.scaler.namespace()
    }

    async fn resource(
        &self,
        resource: &str,
        container: Option<&str>,
        target: &MetricTarget,
    ) -> Result<(i32, String, MetricValueStatus), String> {
        let kind = if target.average_value.is_some() { "usage" } else { "utilization" };
        let format = if resource == "memory" { Format::BinarySi } else { Format::DecimalSi };
        if target.average_value.is_none() && target.average_utilization.is_none() {
            let why = "neither an average utilization target nor an average value (usage) target was set";
            return Err(format!("invalid resource metric source: {why}"));
        }
        let subject = &self.subject;
        let compute = async {
            let samples =
                self.metrics.resource(self.namespace(), subject.selector, resource, container).await;
            let samples =
                samples.map_err(|why| format!("unable to get metrics for resource {resource}: {why}"))?;
            let requests;
            let goal = match (&target.average_value, target.average_utilization) {
                (None, Some(percent)) => {
                    requests = calculate::requests(subject.pods, container, resource)?;
                    Goal::Utilization { percent, requests: &requests }
                }
                (Some(amount), _) => Goal::Usage(milli(amount)),
                (None, None) => Goal::Usage(0),
            };
            let (tolerance, is_cpu) = (tolerance(subject.scaler), resource == "cpu");
            calculate::for_pods(subject.wanted, subject.pods, samples, is_cpu, goal, tolerance, subject.now)
        };
        let (replicas, load) =
            compute.await.map_err(|why| format!("failed to get {resource} {kind}: {why}"))?;
        let name = match (load.percent, container) {
            (None, _) => format!("{resource} resource"),
            (Some(_), None) => format!("{resource} resource utilization (percentage of request)"),
            (Some(_), Some(_)) => {
                format!("{resource} container resource utilization (percentage of request)")
            }
        };
        let current = MetricValueStatus {
            average_utilization: load.percent,
            average_value: Some(written(load.usage, format)),
            value: None,
        };
        Ok((replicas, name, current))
    }

    async fn pods(&self, source: &PodsMetricSource) -> Result<Proposal, String> {
        let (subject, metric) = (&self.subject, &source.metric);
        let labels = labels(metric.selector.as_ref())?;
        let samples = self.metrics.pods(self.namespace(), subject.selector, &metric.name, &labels).await;
        let samples = samples.map_err(|why| format!("unable to get metric {}: {why}", metric.name))?;
        let goal = Goal::Usage(source.target.average_value.as_ref().map_or(0, milli));
        let tolerance = tolerance(subject.scaler);
        let (replicas, load) =
            calculate::for_pods(subject.wanted, subject.pods, samples, false, goal, tolerance, subject.now)?;
        let status = PodsMetricStatus { metric: metric.clone(), current: average(load.usage) };
        Ok(Proposal {
            replicas,
            name: format!("pods metric {}", metric.name),
            status: MetricStatus { type_: "Pods".to_owned(), pods: Some(status), ..MetricStatus::default() },
        })
    }

    async fn object(&self, source: &ObjectMetricSource) -> Result<Proposal, String> {
        let (subject, metric, object) = (&self.subject, &source.metric, &source.described_object);
        let labels = labels(metric.selector.as_ref())?;
        let read = async {
            let api_version = object.api_version.as_deref().unwrap_or("v1");
            let resource = self.targets.resources_of(api_version, &object.kind)?;
            let resource = resource.first().map(|resource| match resource.group.as_str() {
                "" => resource.plural.clone(),
                group => format!("{}.{group}", resource.plural),
            });
            let resource = resource.unwrap_or_default();
            self.metrics.object(self.namespace(), &resource, &object.name, &metric.name, &labels).await
        };
        let value = read.await.map_err(|why| {
            let (namespace, name) = (self.namespace(), &object.name);
            format!("unable to get metric {}: {why} on {} {namespace}/{name}", metric.name, object.kind)
        });
        let tolerance = tolerance(subject.scaler);
        let (replicas, name, current) = match (&source.target.value, &source.target.average_value) {
            (Some(target), _) if source.target.type_ == "Value" => {
                let value = value?;
                let replicas =
                    calculate::for_value(subject.wanted, value, milli(target), subject.pods, tolerance)?;
                (replicas, format!("{} metric {}", object.kind, metric.name), whole(value))
            }
            (_, Some(target)) if source.target.type_ == "AverageValue" => {
                let value =
                    value.map_err(|why| format!("failed to get {} object metric: {why}", metric.name))?;
                let (replicas, each) =
                    calculate::for_shared_value(subject.present, value, milli(target), tolerance);
                (replicas, external_name(metric), average(each))
            }
            _ => {
                let why = "neither a value target nor an average value target was set";
                return Err(format!("invalid object metric source: {why}"));
            }
        };
        let status = ObjectMetricStatus { described_object: object.clone(), metric: metric.clone(), current };
        Ok(Proposal {
            replicas,
            name,
            status: MetricStatus {
                type_: "Object".to_owned(),
                object: Some(status),
                ..MetricStatus::default()
            },
        })
    }

    async fn external(&self, source: &ExternalMetricSource) -> Result<Proposal, String> {
        let (subject, metric) = (&self.subject, &source.metric);
        let (namespace, name) = (self.namespace(), &metric.name);
        let labels = labels(metric.selector.as_ref())?;
        let value = self.metrics.external(namespace, name, &labels).await.map_err(|why| {
            let shown = described(metric.selector.as_ref());
            format!("unable to get external metric {namespace}/{name}/{shown}: {why}")
        });
        let tolerance = tolerance(subject.scaler);
        let (replicas, current) = match (&source.target.average_value, &source.target.value) {
            (Some(target), _) => {
                let value = value.map_err(|why| format!("failed to get {name} external metric: {why}"))?;
                let (replicas, each) =
                    calculate::for_shared_value(subject.present, value, milli(target), tolerance);
                (replicas, average(each))
            }
            (None, Some(target)) => {
                let value = value.map_err(|why| format!("failed to get external metric {name}: {why}"))?;
                let replicas =
                    calculate::for_value(subject.wanted, value, milli(target), subject.pods, tolerance)?;
                (replicas, whole(value))
            }
            (None, None) => {
                let why = "neither a value target nor an average value target was set";
                return Err(format!("invalid external metric source: {why}"));
            }
        };
        let status = ExternalMetricStatus { metric: metric.clone(), current };
        Ok(Proposal {
            replicas,
            name: external_name(metric),
            status: MetricStatus {
                type_: "External".to_owned(),
                external: Some(status),
                ..MetricStatus::default()
            },
        })
    }
}

fn external_name(metric: &k8s_openapi::api::autoscaling::v2::MetricIdentifier) -> String {
    format!("external metric {}({})", metric.name, described(metric.selector.as_ref()))
}

fn unknown(kind: &str) -> Failure {
    let error = format!("unknown metric source type {kind:?}");
    Failure { reason: "InvalidMetricSourceType", cause: error.clone(), error }
}
