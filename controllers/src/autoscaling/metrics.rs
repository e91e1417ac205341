//! The three APIs that tell what pods use and how busy other things are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::Request;
use jiff::{SignedDuration, Timestamp};
use knarr_api::quantity::Quantity;
use knarr_client::{Client, error::message};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::calculate::{Sample, Samples};
use crate::discovery::Resources;

const RESOURCE: &str = "/apis/metrics.k8s.io/v1beta1";
const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1";

/// How long custom metrics are measured where they do not say.
const WINDOW: Duration = Duration::from_secs(60);

/// What may not stand in a part of a path.
const SEGMENT: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'/').add(b'<').add(b'>').add(b'?');

pub(super) struct Metrics {
    client: Client,
    resources: watch::Receiver<Arc<Resources>>,
}

#[derive(Deserialize)]
struct List<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct PodMetrics {
    metadata: Named,
    timestamp: Timestamp,
    #[serde(default)]
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    described_object: Named,
    timestamp: Timestamp,
    #[serde(default)]
    window_seconds: Option<u64>,
    value: String,
}

#[derive(Deserialize)]
struct ExternalValue {
    value: String,
}

fn milli(text: &str) -> Option<i64> {
    text.parse::<Quantity>().ok().map(|amount| amount.milli_value())
}

fn encode(segment: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(segment, SEGMENT)
}

fn query(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// What one pod uses of a resource, in one container or in all; `None` if it was not measured.
fn usage(pod: &PodMetrics, resource: &str, container: Option<&str>) -> Option<i64> {
    let of = |container: &ContainerMetrics| milli(container.usage.get(resource)?);
    match container {
        Some(name) => of(pod.containers.iter().find(|container| container.name == name)?),
        None if pod.containers.is_empty() => None,
        None => pod.containers.iter().map(of).sum(),
    }
}

fn sample(pod: &PodMetrics, value: i64) -> Sample {
    let window = pod.window.parse::<SignedDuration>().ok().and_then(|window| Duration::try_from(window).ok());
    Sample { value, at: pod.timestamp, window: window.unwrap_or(WINDOW) }
}

impl Metrics {
    pub(super) fn new(client: Client, resources: watch::Receiver<Arc<Resources>>) -> Self {
        Self { client, resources }
    }

    async fn get<T: DeserializeOwned>(&self, api: &str, path: &str) -> Result<T, String> {
        let failed = |why: String| format!("unable to fetch metrics from {api} metrics API: {why}");
        let request = Request::get(path).body(Vec::new()).map_err(|error| failed(error.to_string()))?;
        self.client.request(request).await.map_err(|error| failed(message(&error)))
    }

    async fn list<T: DeserializeOwned>(&self, api: &str, path: &str) -> Result<Vec<T>, String> {
        let list: List<T> = self.get(api, path).await?;
        if list.items.is_empty() {
            return Err(format!("no metrics returned from {api} metrics API"));
        }
        Ok(list.items)
    }

    /// What the pods of a selector use of a resource, in one container or in all.
    pub(super) async fn resource(
        &self,
        namespace: &str,
        selector: &str,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Samples, String> {
        let query = query(&[("labelSelector", selector)]);
        let path = format!("{RESOURCE}/namespaces/{}/pods?{query}", encode(namespace));
        let pods: Vec<PodMetrics> = self.list("resource", &path).await?;
        let measured = pods.iter().filter_map(|pod| {
            Some((pod.metadata.name.clone(), sample(pod, usage(pod, resource, container)?)))
        });
        Ok(measured.collect())
    }

    /// The version of the custom metrics that is served.
    fn custom(&self) -> &'static str {
        let resources = self.resources.borrow();
        if resources.serves(CUSTOM, "v1beta2") || !resources.serves(CUSTOM, "v1beta1") {
            "/apis/custom.metrics.k8s.io/v1beta2"
        } else {
            "/apis/custom.metrics.k8s.io/v1beta1"
        }
    }

    /// A metric of each pod of a selector.
    pub(super) async fn pods(
        &self,
        namespace: &str,
        selector: &str,
        metric: &str,
        labels: &str,
    ) -> Result<Samples, String> {
        let query = query(&[("labelSelector", selector), ("metricLabelSelector", labels)]);
        let (root, namespace, metric) = (self.custom(), encode(namespace), encode(metric));
        let path = format!("{root}/namespaces/{namespace}/pods/*/{metric}?{query}");
        let values: Vec<MetricValue> = self.list("custom", &path).await?;
        let sampled = values.into_iter().filter_map(|value| {
            let window = value.window_seconds.map_or(WINDOW, Duration::from_secs);
            let sample = Sample { value: milli(&value.value)?, at: value.timestamp, window };
            Some((value.described_object.name, sample))
        });
        Ok(sampled.collect())
    }

    /// A metric, in thousandths, of one object, or of the namespace itself.
    pub(super) async fn object(
        &self,
        namespace: &str,
        resource: &str,
        name: &str,
        metric: &str,
        labels: &str,
    ) -> Result<i64, String> {
        let query = query(&[("metricLabelSelector", labels)]);
        let (root, namespace, metric) = (self.custom(), encode(namespace), encode(metric));
        let path = match resource {
            "namespaces" => format!("{root}/namespaces/{namespace}/metrics/{metric}?{query}"),
            _ => format!(
                "{root}/namespaces/{namespace}/{}/{}/{metric}?{query}",
                encode(resource),
                encode(name)
            ),
        };
        let values: Vec<MetricValue> = self.list("custom", &path).await?;
        let value = values.first().and_then(|value| milli(&value.value));
        value.ok_or_else(|| {
            "unable to fetch metrics from custom metrics API: the value is no quantity".to_owned()
        })
    }

    /// The sum, in thousandths, of the values of a metric that is nobody's in the cluster.
    pub(super) async fn external(&self, namespace: &str, metric: &str, labels: &str) -> Result<i64, String> {
        let query = query(&[("labelSelector", labels)]);
        let path = format!("{EXTERNAL}/namespaces/{}/{}?{query}", encode(namespace), encode(metric));
        let values: Vec<ExternalValue> = self.list("external", &path).await?;
        Ok(values.iter().filter_map(|value| milli(&value.value)).fold(0, i64::saturating_add))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_measured_when_all_its_containers_are() {
        let pod: PodMetrics = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "a" }, "timestamp": "2026-01-01T00:00:00Z", "window": "15.5s",
            "containers": [
                { "name": "x", "usage": { "cpu": "150m", "memory": "1Ki" } },
                { "name": "y", "usage": { "cpu": "1" } },
            ],
        }))
        .unwrap();
        assert_eq!(usage(&pod, "cpu", None), Some(1150));
        assert_eq!(usage(&pod, "cpu", Some("y")), Some(1000));
        assert_eq!(usage(&pod, "memory", None), None);
        assert_eq!(usage(&pod, "memory", Some("x")), Some(1_024_000));
        assert_eq!(sample(&pod, 1).window, Duration::from_millis(15_500));
    }

    #[test]
    fn names_are_encoded() {
        assert_eq!(encode("a/b c").to_string(), "a%2Fb%20c");
        assert_eq!(
            query(&[("labelSelector", "a=b,c"), ("metricLabelSelector", "")]),
            "labelSelector=a%3Db%2Cc"
        );
    }
}
