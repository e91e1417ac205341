//! Which resources the server has, built-in or not.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{Request, header::ACCEPT};
use knarr_client::{Client, InformerFactory, Selection, object::Skeleton};
use serde::Deserialize;
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// One resource in one version.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ResourceInfo {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

impl ResourceInfo {
    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|other| other == verb)
    }

    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    pub(crate) fn selection(&self) -> Selection {
        Selection::of(&self.group, &self.version, &self.plural)
    }

    /// The path of the collection, or of one object in it.
    pub(crate) fn path(&self, namespace: &str, name: Option<&str>) -> String {
        let root = if self.group.is_empty() { "/api" } else { "/apis" };
        let mut path = format!("{root}/{}", self.api_version());
        if self.namespaced && !namespace.is_empty() {
            path += &format!("/namespaces/{namespace}");
        }
        path += &format!("/{}", self.plural);
        if let Some(name) = name {
            path += &format!("/{name}");
        }
        path
    }
}

/// Everything the server has. The first version of a group is the preferred one.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Resources {
    all: Vec<Arc<ResourceInfo>>,
    /// Groups that could not be asked, because the server behind them is away.
    pub(crate) stale: Vec<String>,
}

impl Resources {
    /// Each resource once, in the version its group prefers.
    pub(crate) fn preferred(&self) -> impl Iterator<Item = &Arc<ResourceInfo>> {
        let mut first = BTreeMap::new();
        for resource in &self.all {
            first.entry((&resource.group, &resource.plural)).or_insert(resource);
        }
        first.into_values()
    }

    /// The resources of a kind in any version, as their group prefers them.
    pub(crate) fn of_group_kind(&self, group: &str, kind: &str) -> Vec<Arc<ResourceInfo>> {
        let is_it = |resource: &&Arc<ResourceInfo>| resource.group == group && resource.kind == kind;
        self.all.iter().filter(is_it).cloned().collect()
    }

    /// Whether a version of a group is there at all.
    pub(crate) fn serves(&self, group: &str, version: &str) -> bool {
        self.all.iter().any(|resource| resource.group == group && resource.version == version)
    }

    /// The resource of a kind, in exactly that version.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<ResourceInfo>> {
        self.all.iter().find(|resource| resource.kind == kind && resource.api_version() == api_version)
    }
}

#[derive(Deserialize)]
struct GroupList {
    items: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    metadata: GroupMeta,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct GroupMeta {
    name: String,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    resources: Vec<Resource>,
    #[serde(default)]
    freshness: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    resource: String,
    response_kind: Option<ResponseKind>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    verbs: Vec<String>,
}

#[derive(Deserialize)]
struct ResponseKind {
    kind: String,
}

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Asks the server what it has: two requests.
pub(crate) async fn fetch(client: &Client) -> Result<Resources, kube::Error> {
    let mut resources = Resources::default();
    for path in ["/api", "/apis"] {
        let request = Request::get(path).header(ACCEPT, AGGREGATED).body(Vec::new());
        let request = request.expect("a fixed path and a fixed header make a request");
        let groups: GroupList = client.request(request).await?;
        for group in groups.items {
            resources.add(group);
        }
    }
    Ok(resources)
}

impl Resources {
    fn add(&mut self, group: Group) {
        let name = group.metadata.name;
        for version in group.versions {
            if version.freshness == "Stale" {
                self.stale.push(format!("{name}/{}", version.version));
            }
            self.all.extend(version.resources.into_iter().map(|resource| {
                Arc::new(ResourceInfo {
                    group: name.clone(),
                    version: version.version.clone(),
                    plural: resource.resource,
                    kind: resource.response_kind.map(|kind| kind.kind).unwrap_or_default(),
                    namespaced: resource.scope == "Namespaced",
                    verbs: resource.verbs,
                })
            }));
        }
    }
}

/// Keeps a current view of what the server has: asked again when a CustomResourceDefinition or APIService
/// changes.
pub(crate) struct Follower {
    client: Client,
    changed: Arc<Notify>,
    current: watch::Sender<Arc<Resources>>,
}

/// Several definitions are often applied together, and the server needs a moment to serve them.
const SETTLE: Duration = Duration::from_millis(500);
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

impl Follower {
    pub(crate) fn new(client: Client, informers: &InformerFactory) -> Self {
        let changed = Arc::new(Notify::new());
        let definitions = [
            Selection::of("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
            Selection::of("apiregistration.k8s.io", "v1", "apiservices"),
        ];
        for selection in definitions {
            let changed = Arc::clone(&changed);
            informers.select::<Skeleton>(selection).subscribe(move |_| changed.notify_one()).forever();
        }
        Self { client, changed, current: watch::Sender::new(Arc::default()) }
    }

    /// Empty until the first answer.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Resources>> {
        self.current.subscribe()
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.follow()).await;
    }

    async fn follow(&self) {
        let mut pause = RETRY.0;
        loop {
            match fetch(&self.client).await {
                Ok(resources) => {
                    let stale = !resources.stale.is_empty();
                    self.current.send_if_modified(|current| {
                        let changed = **current != resources;
                        *current = Arc::new(resources);
                        changed
                    });
                    if stale {
                        sleep(pause).await;
                        pause = (pause * 2).min(RETRY.1);
                        continue;
                    }
                    pause = RETRY.0;
                    self.changed.notified().await;
                    sleep(SETTLE).await;
                }
                Err(error) => {
                    warn!(%error, "cannot discover the server's resources");
                    sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_version_of_a_group_is_preferred() {
        let group: Group = serde_json::from_str(
            r#"{"metadata":{"name":"x.io"},"versions":[
                {"version":"v1","resources":[{"resource":"as","responseKind":{"kind":"A"},"scope":"Namespaced","verbs":["list"]}]},
                {"version":"v1beta1","freshness":"Stale","resources":[
                    {"resource":"as","responseKind":{"kind":"A"},"scope":"Namespaced","verbs":["list"]},
                    {"resource":"bs","responseKind":{"kind":"B"},"scope":"Cluster","verbs":[]}]}]}"#,
        )
        .unwrap();
        let mut resources = Resources::default();
        resources.add(group);
        let preferred: Vec<_> =
            resources.preferred().map(|r| (r.plural.as_str(), r.version.as_str())).collect();
        assert_eq!(preferred, [("as", "v1"), ("bs", "v1beta1")]);
        assert_eq!(resources.stale, ["x.io/v1beta1"]);
        let a = resources.of_kind("x.io/v1", "A").unwrap();
        assert_eq!(a.path("ns", Some("n")), "/apis/x.io/v1/namespaces/ns/as/n");
        assert!(a.can("list") && !a.can("watch"));
    }
}
