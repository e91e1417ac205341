//! A pod carries the zone and region of its node as labels.

use async_trait::async_trait;
use knarr_api::status::Status;
use serde_json::{Map, Value};

use super::lookup::Lookup;
use super::pod::{object_at, text};
use super::{Admission, Attributes, Operation};
use crate::objects::Resource;

const NODES: Resource<'static> = Resource::core("nodes");
const COPIED: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub struct PodTopologyLabels {
    pub lookup: Lookup,
}

#[async_trait]
impl Admission for PodTopologyLabels {
    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if !attributes.is_resource("", "pods") {
            return Ok(());
        }
        let Some(object) = &mut attributes.object else { return Ok(()) };
        let node = match attributes.subresource.as_str() {
            "" => text(&object["spec"]["nodeName"]),
            // A binding's labels go to the pod.
            "binding" if object["target"]["kind"] == "Node" => text(&object["target"]["name"]),
            _ => "",
        };
        if node.is_empty() {
            return Ok(());
        }
        let Some(node) = self.lookup.cached::<Value>(NODES, "", node)? else { return Ok(()) };
        let labels: Map<String, Value> = COPIED
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), node["metadata"]["labels"].get(key)?.clone())))
            .collect();
        if !labels.is_empty()
            && object_at(object, "metadata").is_some()
            && let Some(present) = object_at(&mut object["metadata"], "labels")
        {
            present.extend(labels);
        }
        Ok(())
    }
}
