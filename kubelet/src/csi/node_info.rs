//! What the cluster knows of this node's drivers: its CSINode, and the Node's annotation and topology labels.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use knarr_client::Api;
use knarr_client::error::{is_already_exists, is_conflict, is_not_found};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::json;

use super::proto::NodeGetInfoResponse;

const NODE_ID: &str = "csi.volume.kubernetes.io/nodeid";
/// Changes of others between reading and writing are met by trying again.
const ATTEMPTS: u32 = 10;
const FIRST_RETRY: Duration = Duration::from_millis(10);

type Pairs = BTreeMap<String, String>;

#[derive(Debug, thiserror::Error)]
pub enum NodeInfoError {
    #[error("error adding CSI driver node info: driverNodeID must not be empty")]
    NoNodeId,
    #[error("failed to parse node's {NODE_ID:?} annotation value ({value:?}) err={source}")]
    Annotation { value: String, source: serde_json::Error },
    #[error(
        "detected topology value collision: driver reported {key:?}:{reported:?} but existing label is \
         {key:?}:{existing:?}"
    )]
    Topology { key: String, reported: String, existing: String },
    #[error("CSINode {0:?} was owned by different node, deleted it")]
    OtherNode(String),
    #[error("{0}")]
    Api(#[from] kube::Error),
}

/// Writes what concerns one node.
pub struct NodeInfo {
    node: String,
    nodes: Api<Node>,
    csi_nodes: Api<CSINode>,
}

impl NodeInfo {
    pub fn new(client: &kube::Client, node: &str) -> Self {
        let node = node.to_owned();
        Self { node, nodes: Api::all(client.clone()), csi_nodes: Api::all(client.clone()) }
    }

    /// Makes sure that the node has its CSINode.
    pub async fn initialize(&self) -> Result<(), NodeInfoError> {
        self.trying(|| async { self.csi_node().await.map(drop) }).await
    }

    /// A driver has come: its name for the node, where the node is, how many volumes it takes.
    pub async fn install(&self, driver: &str, info: &NodeGetInfoResponse) -> Result<(), NodeInfoError> {
        if info.node_id.is_empty() {
            return Err(NodeInfoError::NoNodeId);
        }
        let none = Pairs::new();
        let topology = info.accessible_topology.as_ref().map_or(&none, |topology| &topology.segments);
        self.trying(|| self.label(driver, Some(&info.node_id), topology)).await?;
        let entry = entry(driver, info, topology);
        self.trying(|| self.update(driver, Some(&entry))).await
    }

    /// A driver is gone. Topology labels stay, volumes still name them.
    pub async fn uninstall(&self, driver: &str) -> Result<(), NodeInfoError> {
        self.trying(|| self.update(driver, None)).await?;
        let none = Pairs::new();
        self.trying(|| self.label(driver, None, &none)).await
    }

    async fn trying<F>(&self, work: impl Fn() -> F + Sync) -> Result<(), NodeInfoError>
    where
        F: Future<Output = Result<(), NodeInfoError>> + Send,
    {
        let mut delay = FIRST_RETRY;
        for _ in 1..ATTEMPTS {
            match work().await {
                Err(NodeInfoError::Api(_) | NodeInfoError::OtherNode(_)) => {}
                done => return done,
            }
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
        work().await
    }

    /// Brings the driver's entry of the annotation up to date, and adds labels.
    async fn label(
        &self,
        driver: &str,
        node_id: Option<&str>,
        topology: &Pairs,
    ) -> Result<(), NodeInfoError> {
        let node = self.nodes.get(&self.node).await?;
        let none = Pairs::new();
        let labels = node.metadata.labels.as_ref().unwrap_or(&none);
        for (key, reported) in topology {
            if let Some(existing) = labels.get(key).filter(|existing| *existing != reported) {
                let (key, reported, existing) = (key.clone(), reported.clone(), existing.clone());
                return Err(NodeInfoError::Topology { key, reported, existing });
            }
        }
        let annotation = node.metadata.annotations.as_ref().and_then(|all| all.get(NODE_ID));
        let known = annotation.filter(|value| !value.is_empty());
        let mut ids: Pairs = match known {
            Some(value) => serde_json::from_str(value)
                .map_err(|source| NodeInfoError::Annotation { value: value.clone(), source })?,
            None => Pairs::new(),
        };
        let before = ids.clone();
        match node_id {
            Some(id) => ids.insert(driver.to_owned(), id.to_owned()),
            None => ids.remove(driver),
        };
        let fresh = topology.iter().any(|(key, _)| !labels.contains_key(key));
        if ids == before && !fresh {
            return Ok(());
        }
        let annotation = if ids.is_empty() { json!(null) } else { json!(json!(ids).to_string()) };
        let patch = json!({ "metadata": {
            // Two drivers may come at once: who wrote second looks again.
            "resourceVersion": node.metadata.resource_version,
            "annotations": { NODE_ID: annotation },
            "labels": topology,
        } });
        self.nodes.patch(&self.node, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// The node's CSINode, made where it is absent.
    async fn csi_node(&self) -> Result<CSINode, NodeInfoError> {
        let node = self.nodes.get(&self.node).await?;
        let uid = node.metadata.uid.unwrap_or_default();
        if let Some(found) = self.csi_nodes.get_opt(&self.node).await? {
            let owners = found.metadata.owner_references.as_deref().unwrap_or_default();
            if owners.iter().any(|owner| owner.kind == "Node" && owner.name == self.node && owner.uid == uid)
            {
                return Ok(found);
            }
            // It was made for a node of this name that is gone.
            let stale = Preconditions { uid: found.metadata.uid, resource_version: None };
            let how = DeleteParams { preconditions: Some(stale), ..DeleteParams::default() };
            return match self.csi_nodes.delete(&self.node, &how).await {
                Err(error) if !is_not_found(&error) && !is_conflict(&error) => Err(error.into()),
                _ => Err(NodeInfoError::OtherNode(self.node.clone())),
            };
        }
        let owner = OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.node.clone(),
            uid,
            ..OwnerReference::default()
        };
        let wanted = CSINode {
            metadata: ObjectMeta {
                name: Some(self.node.clone()),
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: CSINodeSpec { drivers: Vec::new() },
            ..CSINode::default()
        };
        match self.csi_nodes.create(&PostParams::default(), &wanted).await {
            Err(error) if is_already_exists(&error) => Ok(self.csi_nodes.get(&self.node).await?),
            created => Ok(created?),
        }
    }

    /// Puts the driver's entry in, or takes it out.
    async fn update(&self, driver: &str, entry: Option<&CSINodeDriver>) -> Result<(), NodeInfoError> {
        let mut csi_node = self.csi_node().await?;
        let drivers = &mut csi_node.spec.drivers;
        if drivers.iter().find(|known| known.name == driver) == entry {
            return Ok(());
        }
        drivers.retain(|known| known.name != driver);
        drivers.extend(entry.cloned());
        self.csi_nodes.replace(&self.node, &PostParams::default(), &csi_node).await?;
        Ok(())
    }
}

fn entry(driver: &str, info: &NodeGetInfoResponse, topology: &Pairs) -> CSINodeDriver {
    let limit = i32::try_from(info.max_volumes_per_node).unwrap_or(i32::MAX);
    if info.max_volumes_per_node < 0 {
        tracing::error!(driver, limit = info.max_volumes_per_node, "invalid attach limit of a CSI driver");
    }
    CSINodeDriver {
        name: driver.to_owned(),
        node_id: info.node_id.clone(),
        topology_keys: Some(topology.keys().cloned().collect()).filter(|keys: &Vec<String>| !keys.is_empty()),
        allocatable: (info.max_volumes_per_node > 0).then_some(VolumeNodeResources { count: Some(limit) }),
    }
}
