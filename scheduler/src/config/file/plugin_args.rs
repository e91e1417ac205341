//! The arguments of plugins.

use std::time::Duration;

use k8s_openapi::api::core::v1::{NodeAffinity, TopologySpreadConstraint};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Error};
use serde_json::Value;

use crate::config::PluginArgs;
use crate::object::{Labels, SpreadConstraint};
use crate::plugins::{
    FitArgs, InterPodAffinityArgs, ScoringStrategy, ShapePoint, SpreadDefaults, StrategyType,
    WeightedResource,
};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WireArgs {
    pub name: String,
    #[serde(default)]
    args: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Preemption {
    min_candidate_nodes_percentage: Option<usize>,
    min_candidate_nodes_absolute: Option<usize>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Affinity {
    hard_pod_affinity_weight: Option<i64>,
    ignore_preferred_terms_of_existing_pods: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Fit {
    ignored_resources: Vec<String>,
    ignored_resource_groups: Vec<String>,
    scoring_strategy: Option<Strategy>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Strategy {
    #[serde(rename = "type")]
    type_: String,
    resources: Vec<Resource>,
    requested_to_capacity_ratio: Ratio,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Ratio {
    shape: Vec<Point>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Point {
    utilization: i64,
    score: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Resource {
    name: String,
    weight: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Balanced {
    resources: Vec<Resource>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Spread {
    default_constraints: Vec<TopologySpreadConstraint>,
    defaulting_type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Added {
    added_affinity: Option<NodeAffinity>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Binding {
    bind_timeout_seconds: Option<u64>,
    #[serde(rename = "shape")]
    _shape: Vec<Point>,
}

impl WireArgs {
    /// Arguments of plugins that are not known are nobody's, and ignored as upstream ignores them.
    pub fn apply(self, args: &mut PluginArgs) -> serde_json::Result<()> {
        match self.name.as_str() {
            "DefaultPreemption" => {
                let wire: Preemption = self.decode()?;
                let preemption = &mut args.preemption;
                if let Some(percentage) = wire.min_candidate_nodes_percentage {
                    preemption.min_candidate_nodes_percentage = percentage;
                }
                if let Some(absolute) = wire.min_candidate_nodes_absolute {
                    preemption.min_candidate_nodes_absolute = absolute;
                }
            }
            "InterPodAffinity" => {
                let wire: Affinity = self.decode()?;
                args.inter_pod_affinity = InterPodAffinityArgs {
                    hard_pod_affinity_weight: wire.hard_pod_affinity_weight.unwrap_or(1),
                    ignore_preferred_terms_of_existing_pods: wire.ignore_preferred_terms_of_existing_pods,
                };
            }
            "NodeResourcesFit" => args.fit = fit(self.decode()?)?,
            "NodeResourcesBalancedAllocation" => {
                args.balanced = weighted(self.decode::<Balanced>()?.resources);
            }
            "PodTopologySpread" => args.spread = spread(self.decode()?)?,
            "NodeAffinity" => {
                args.added_affinity = self.decode::<Added>()?.added_affinity.unwrap_or_default();
            }
            "VolumeBinding" => {
                if let Some(seconds) = self.decode::<Binding>()?.bind_timeout_seconds {
                    args.bind_timeout = Duration::from_secs(seconds);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn decode<T: DeserializeOwned + Default>(mut self) -> serde_json::Result<T> {
        if self.args.is_null() {
            return Ok(T::default());
        }
        if let Some(args) = self.args.as_object_mut() {
            // The type is the plugin's name already.
            args.remove("apiVersion");
            args.remove("kind");
        }
        serde_json::from_value(self.args)
    }
}

fn weighted(resources: Vec<Resource>) -> Vec<WeightedResource> {
    if resources.is_empty() {
        return WeightedResource::defaults();
    }
    let weigh = |resource: Resource| WeightedResource {
        name: resource.name,
        weight: if resource.weight == 0 { 1 } else { resource.weight },
    };
    resources.into_iter().map(weigh).collect()
}

fn fit(wire: Fit) -> serde_json::Result<FitArgs> {
    let scoring = match wire.scoring_strategy {
        None => ScoringStrategy::default(),
        Some(strategy) => {
            ScoringStrategy { type_: strategy_type(&strategy)?, resources: weighted(strategy.resources) }
        }
    };
    Ok(FitArgs {
        ignored_resources: wire.ignored_resources.into_iter().collect(),
        ignored_resource_groups: wire.ignored_resource_groups.into_iter().collect(),
        scoring,
    })
}

fn strategy_type(strategy: &Strategy) -> serde_json::Result<StrategyType> {
    match strategy.type_.as_str() {
        "LeastAllocated" => Ok(StrategyType::LeastAllocated),
        "MostAllocated" => Ok(StrategyType::MostAllocated),
        "RequestedToCapacityRatio" => {
            let shape = &strategy.requested_to_capacity_ratio.shape;
            let rises = shape.windows(2).all(|two| two[0].utilization < two[1].utilization);
            let in_range =
                |point: &Point| (0..=100).contains(&point.utilization) && (0..=10).contains(&point.score);
            if shape.is_empty() || !rises || !shape.iter().all(in_range) {
                return Err(Error::custom(
                    "scoringStrategy.requestedToCapacityRatio.shape: at least one point must be specified, \
                     utilization in [0-100] must be sorted in increasing order, score in [0-10]",
                ));
            }
            // Scores are written from 0 to 10.
            let corner =
                |point: &Point| ShapePoint { utilization: point.utilization, score: point.score * 10 };
            Ok(StrategyType::RequestedToCapacityRatio(shape.iter().map(corner).collect()))
        }
        other => Err(Error::custom(format!("scoringStrategy.type: Unsupported value: {other:?}"))),
    }
}

fn spread(wire: Spread) -> serde_json::Result<SpreadDefaults> {
    match wire.defaulting_type.as_str() {
        "" | "System" if wire.default_constraints.is_empty() => Ok(SpreadDefaults::System),
        "" | "System" => {
            Err(Error::custom("defaultingType: when .defaultConstraints are not empty, must be List"))
        }
        "List" => {
            let own = |wire| SpreadConstraint::of(wire, &Labels::new());
            Ok(SpreadDefaults::List(wire.default_constraints.into_iter().map(own).collect()))
        }
        other => Err(Error::custom(format!("defaultingType: Unsupported value: {other:?}"))),
    }
}
