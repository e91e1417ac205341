//! ImageLocality: nodes that have a pod's images already start it sooner.

use crate::cluster::Cluster;
use crate::framework::{MAX_NODE_SCORE, Plugin, Score};
use crate::object::{Pod, Volume};
use crate::state::NodeInfo;

const MEGABYTE: i64 = 1024 * 1024;
/// Images up to this size together count for nothing.
const LEAST: i64 = 23 * MEGABYTE;
/// Per container, more than this counts no more.
const MOST: i64 = 1000 * MEGABYTE;

pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a Pod,
        cluster: &'a Cluster,
        _: &[&NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        let volumes = pod.volumes.iter().filter_map(|volume| match volume {
            Volume::Image(reference) => Some(reference),
            _ => None,
        });
        let nodes = cluster.state.order().len().max(1) as f64;
        let spread = |image: &str| {
            let name = normalized(image);
            let having = cluster.state.nodes_with_image(&name);
            (having > 0).then(|| (name, having as f64 / nodes))
        };
        let images: Vec<_> = pod.images.iter().chain(volumes).filter_map(|image| spread(image)).collect();
        // Without any of them anywhere all nodes get 0, as without this plugin.
        (!images.is_empty()).then(|| Box::new(There { images, containers: pod.images.len() as i64 }) as _)
    }
}

struct There {
    /// With the part of all nodes that have it: what many have draws less, or it would draw ever more pods.
    images: Vec<(String, f64)>,
    containers: i64,
}

impl Score for There {
    fn score(&self, node: &NodeInfo) -> i64 {
        let Some(node) = node.node() else { return 0 };
        let sizes = self
            .images
            .iter()
            .filter_map(|(name, spread)| node.image_size(name).map(|size| (size as f64 * spread) as i64));
        let most = MOST * self.containers;
        MAX_NODE_SCORE * (sizes.sum::<i64>().clamp(LEAST, most.max(LEAST)) - LEAST) / (most - LEAST).max(1)
    }
}

/// The name as nodes report it: with a tag.
fn normalized(name: &str) -> String {
    if name.rfind(':') <= name.rfind('/') { format!("{name}:latest") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::{pod, score, with_node};
    use serde_json::json;

    #[test]
    fn images_count_by_size_and_names_without_a_tag_mean_latest() {
        let images = json!([
            {"names": ["gcr.io/big:latest"], "sizeBytes": 600 * MEGABYTE},
            {"names": ["small:v1"], "sizeBytes": 20 * MEGABYTE},
        ]);
        with_node(json!({"status": {"images": images}}), vec![], |node| {
            let of = |images: &[&str]| {
                let containers: Vec<_> = images.iter().map(|image| json!({"image": image})).collect();
                score(&ImageLocality, &pod(json!({"containers": containers})), node)
            };
            assert_eq!(of(&["gcr.io/big"]), Some(100 * (600 - 23) / (1000 - 23)));
            assert_eq!(of(&["gcr.io/big:latest", "none"]), Some(100 * (600 - 23) / (2000 - 23)));
            assert_eq!(of(&["small:v1"]), Some(0));
            assert_eq!(of(&["none"]), None);
        });
    }
}
