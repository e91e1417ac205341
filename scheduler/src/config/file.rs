//! KubeSchedulerConfiguration as people write it, and what the scheduler makes of it.

mod plugin_args;
mod plugin_sets;

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

pub use plugin_args::WireArgs;
pub use plugin_sets::WirePlugins;

use super::{Config, PluginArgs, ProfileConfig};

const GROUP_VERSION: &str = "kubescheduler.config.k8s.io/v1";
const KIND: &str = "KubeSchedulerConfiguration";

/// Why a configuration is refused, with the field's path.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind { api_version: String, kind: String },
    #[error("{path}: Invalid value: {value}: {detail}")]
    Invalid { path: String, value: String, detail: &'static str },
    #[error("{path}: Duplicate value: {value:?}")]
    Duplicate { path: String, value: String },
    #[error("{path}: plugin {name:?} does not exist")]
    UnknownPlugin { path: String, name: String },
    #[error("decoding .profiles[{profile}].pluginConfig[{at}]: decoding args for plugin {name}: {cause}")]
    Args { profile: usize, at: usize, name: String, cause: serde_json::Error },
    #[error("extenders: extenders are not supported")]
    Extenders,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct KubeSchedulerConfiguration {
    api_version: String,
    kind: String,
    percentage_of_nodes_to_score: Option<i64>,
    pod_initial_backoff_seconds: Option<i64>,
    pod_max_backoff_seconds: Option<i64>,
    profiles: Vec<WireProfile>,
    extenders: Vec<IgnoredAny>,
    /// How the process is run, which is knarr's and not the configuration's here.
    #[serde(rename = "parallelism")]
    _parallelism: IgnoredAny,
    #[serde(rename = "leaderElection")]
    _leader_election: IgnoredAny,
    #[serde(rename = "clientConnection")]
    _client_connection: IgnoredAny,
    #[serde(rename = "enableProfiling")]
    _enable_profiling: IgnoredAny,
    #[serde(rename = "enableContentionProfiling")]
    _enable_contention_profiling: IgnoredAny,
    #[serde(rename = "delayCacheUntilActive")]
    _delay_cache_until_active: IgnoredAny,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct WireProfile {
    scheduler_name: Option<String>,
    percentage_of_nodes_to_score: Option<i64>,
    plugins: WirePlugins,
    plugin_config: Vec<WireArgs>,
}

impl TryFrom<KubeSchedulerConfiguration> for Config {
    type Error = ConfigurationError;

    fn try_from(wire: KubeSchedulerConfiguration) -> Result<Self, ConfigurationError> {
        if wire.api_version != GROUP_VERSION || wire.kind != KIND {
            return Err(ConfigurationError::UnknownKind { api_version: wire.api_version, kind: wire.kind });
        }
        if !wire.extenders.is_empty() {
            return Err(ConfigurationError::Extenders);
        }
        let initial = seconds(wire.pod_initial_backoff_seconds.unwrap_or(1), "podInitialBackoffSeconds")?;
        let max = seconds(wire.pod_max_backoff_seconds.unwrap_or(10), "podMaxBackoffSeconds")?;
        if max < initial {
            return Err(ConfigurationError::Invalid {
                path: "podMaxBackoffSeconds".to_owned(),
                value: max.as_secs().to_string(),
                detail: "must be greater than or equal to PodInitialBackoffSeconds",
            });
        }
        let percentage = percentage(wire.percentage_of_nodes_to_score.unwrap_or(0), String::new())?;
        Ok(Self {
            profiles: profiles(wire.profiles)?,
            percentage_of_nodes_to_score: percentage,
            pod_initial_backoff: initial,
            pod_max_backoff: max,
            ..Self::default()
        })
    }
}

fn profiles(wire: Vec<WireProfile>) -> Result<Vec<ProfileConfig>, ConfigurationError> {
    if wire.is_empty() {
        return Ok(vec![ProfileConfig::default()]);
    }
    let several = wire.len() > 1;
    let mut profiles: Vec<ProfileConfig> = Vec::new();
    for (at, wire) in wire.into_iter().enumerate() {
        let path = format!("profiles[{at}]");
        let default = (!several).then(|| "default-scheduler".to_owned());
        let scheduler_name = wire.scheduler_name.or(default).unwrap_or_default();
        if scheduler_name.is_empty() {
            return Err(ConfigurationError::Invalid {
                path: format!("{path}.schedulerName"),
                value: "\"\"".to_owned(),
                detail: "must not be empty",
            });
        }
        if profiles.iter().any(|other| other.scheduler_name == scheduler_name) {
            let path = format!("{path}.schedulerName");
            return Err(ConfigurationError::Duplicate { path, value: scheduler_name });
        }
        let own_percentage = wire.percentage_of_nodes_to_score;
        profiles.push(ProfileConfig {
            scheduler_name,
            percentage_of_nodes_to_score: own_percentage
                .map(|given| percentage(given, format!("{path}.")))
                .transpose()?,
            points: wire.plugins.merged(&path)?,
            args: args(wire.plugin_config, at)?,
        });
    }
    Ok(profiles)
}

fn args(wire: Vec<WireArgs>, profile: usize) -> Result<PluginArgs, ConfigurationError> {
    let mut args = PluginArgs::default();
    for (at, wire) in wire.into_iter().enumerate() {
        let name = wire.name.clone();
        wire.apply(&mut args).map_err(|cause| ConfigurationError::Args { profile, at, name, cause })?;
    }
    Ok(args)
}

fn percentage(given: i64, path: String) -> Result<u32, ConfigurationError> {
    let fits = u32::try_from(given).ok().filter(|given| *given <= 100);
    fits.ok_or_else(|| ConfigurationError::Invalid {
        path: format!("{path}percentageOfNodesToScore"),
        value: given.to_string(),
        detail: "not in valid range [0-100]",
    })
}

fn seconds(given: i64, path: &str) -> Result<Duration, ConfigurationError> {
    let positive = u64::try_from(given).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
    positive.ok_or_else(|| ConfigurationError::Invalid {
        path: path.to_owned(),
        value: given.to_string(),
        detail: "must be greater than 0",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn config(mut parts: Value) -> Result<Config, String> {
        parts["apiVersion"] = GROUP_VERSION.into();
        parts["kind"] = KIND.into();
        let wire: KubeSchedulerConfiguration =
            serde_json::from_value(parts).map_err(|error| error.to_string())?;
        Config::try_from(wire).map_err(|error| error.to_string())
    }

    fn scores(config: &Config) -> Vec<(&str, i64)> {
        let enabled = config.profiles[0].points.score.iter();
        enabled.map(|enabled| (enabled.name.as_str(), enabled.weight)).collect()
    }

    #[test]
    fn an_empty_configuration_is_the_default() {
        let config = config(json!({})).expect("valid");
        assert_eq!(config.profiles[0].scheduler_name, "default-scheduler");
        assert_eq!(config.profiles[0].points, super::super::Points::default());
        assert_eq!(scores(&config)[0], ("TaintToleration", 3));
    }

    #[test]
    fn plugins_are_disabled_enabled_and_weighed_per_point_and_everywhere() {
        let plugins = json!({
            "multiPoint": {"disabled": [{"name": "ImageLocality"}], "enabled": [{"name": "NodeAffinity", "weight": 7}]},
            "score": {"disabled": [{"name": "TaintToleration"}]},
            "postFilter": {"disabled": [{"name": "*"}]},
        });
        let config = config(json!({"profiles": [{"plugins": plugins}]})).expect("valid");
        assert_eq!(
            scores(&config),
            [
                ("NodeAffinity", 7),
                ("NodeResourcesFit", 1),
                ("PodTopologySpread", 2),
                ("InterPodAffinity", 2),
                ("DynamicResources", 2),
                ("NodeResourcesBalancedAllocation", 1),
            ]
        );
        let points = &config.profiles[0].points;
        assert!(points.filter.iter().any(|enabled| enabled.name == "TaintToleration"));
        assert!(points.post_filter.is_empty());
    }

    #[test]
    fn all_can_be_disabled_and_some_enabled_again_in_another_order() {
        let score = json!({
            "disabled": [{"name": "*"}], "enabled": [{"name": "ImageLocality", "weight": 3}, {"name": "NodeAffinity"}],
        });
        let config = config(json!({"profiles": [{"plugins": {"score": score}}]})).expect("valid");
        assert_eq!(scores(&config), [("ImageLocality", 3), ("NodeAffinity", 1)]);
    }

    #[test]
    fn arguments_reach_their_plugins() {
        let strategy = json!({
            "type": "RequestedToCapacityRatio",
            "resources": [{"name": "example.com/gpu", "weight": 5}],
            "requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]},
        });
        let config = config(json!({"profiles": [{"pluginConfig": [
            {"name": "NodeResourcesFit", "args": {"scoringStrategy": strategy}},
            {"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": 9}},
            {"name": "DefaultPreemption", "args": {"minCandidateNodesAbsolute": 5}},
            {"name": "PodTopologySpread", "args": {"defaultingType": "List", "defaultConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}},
        ]}]}))
        .expect("valid");
        let args = &config.profiles[0].args;
        assert_eq!(args.fit.scoring.resources[0].weight, 5);
        assert_eq!(args.inter_pod_affinity.hard_pod_affinity_weight, 9);
        assert_eq!(args.preemption.min_candidate_nodes_absolute, 5);
        assert!(matches!(&args.spread, crate::plugins::SpreadDefaults::List(list) if list[0].hard));
    }

    #[test]
    fn mistakes_are_named() {
        for (parts, message) in [
            (
                json!({"percentageOfNodesToScore": 101}),
                "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
            ),
            (
                json!({"podInitialBackoffSeconds": 0}),
                "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0",
            ),
            (
                json!({"profiles": [{"schedulerName": "a"}, {"schedulerName": "a"}]}),
                "profiles[1].schedulerName: Duplicate value: \"a\"",
            ),
            (
                json!({"profiles": [{"plugins": {"filter": {"enabled": [{"name": "Foo"}]}}}]}),
                "profiles[0].plugins.filter: plugin \"Foo\" does not exist",
            ),
            (
                json!({"profiles": [{"pluginConfig": [{"name": "NodeAffinity", "args": {"foo": 1}}]}]}),
                "decoding .profiles[0].pluginConfig[0]: decoding args for plugin NodeAffinity: unknown field `foo`, expected `addedAffinity`",
            ),
        ] {
            assert_eq!(config(parts).expect_err("a mistake"), message);
        }
        assert!(config(json!({"foo": 1})).expect_err("strict").contains("unknown field `foo`"));
    }
}
