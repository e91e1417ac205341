//! One kubelet's figures.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;

use super::usage::{Figures, Sample, Usage};
use crate::stream::Streams;

const PATH: &str = "/stats/summary?only_cpu_and_memory=true";
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Summary {
    node: Figures,
    #[serde(default)]
    pods: Vec<Pod>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pod {
    pod_ref: PodRef,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct PodRef {
    uid: String,
}

#[derive(Deserialize)]
struct Container {
    name: String,
    #[serde(flatten)]
    figures: Figures,
}

/// What one node and its pods use; pods by uid, containers by name.
#[derive(Debug, Default)]
pub(super) struct NodeUse {
    pub node: Option<Usage>,
    pub pods: HashMap<String, BTreeMap<String, Usage>>,
}

/// A counter: the node's own (empty names), or a container's.
type Counter = (String, String);

pub(super) struct Scraper {
    streams: Streams,
    /// The samples of each node's last answer.
    samples: Mutex<HashMap<String, HashMap<Counter, Sample>>>,
}

impl Scraper {
    pub fn new(streams: Streams) -> Self {
        Self { streams, samples: Mutex::default() }
    }

    /// Asks the node's kubelet.
    pub async fn node(&self, name: &str) -> Result<NodeUse, String> {
        let asked = tokio::time::timeout(PATIENCE, self.streams.ask_kubelet(name, PATH)).await;
        let body = asked.map_err(|_| "no answer in time".to_owned())?.map_err(|status| status.message)?;
        let summary: Summary = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        Ok(self.read(name, summary))
    }

    fn read(&self, node: &str, summary: Summary) -> NodeUse {
        let mut samples = self.samples.lock();
        let before = samples.remove(node).unwrap_or_default();
        let mut now = HashMap::new();
        let mut usage = |counter: Counter, figures: &Figures| {
            let usage = figures.usage(before.get(&counter).copied());
            now.extend(figures.sample().map(|sample| (counter, sample)));
            usage
        };
        let mut found = NodeUse { node: usage(Counter::default(), &summary.node), ..NodeUse::default() };
        for pod in summary.pods {
            let mut containers = BTreeMap::new();
            for container in pod.containers {
                let counter = (pod.pod_ref.uid.clone(), container.name.clone());
                containers.extend(usage(counter, &container.figures).map(|usage| (container.name, usage)));
            }
            found.pods.insert(pod.pod_ref.uid, containers);
        }
        samples.insert(node.to_owned(), now);
        found
    }
}
