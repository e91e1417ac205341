//! Which plugins a profile enables and disables, at single extension points and at all.

use serde::Deserialize;

use super::ConfigurationError;
use crate::config::{Enabled, Points};
use crate::plugins::{DEFAULT_BINDER, DEFAULT_PREEMPTION, PLUGINS, PRIORITY_SORT};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WirePlugins {
    multi_point: PluginSet,
    pre_enqueue: PluginSet,
    queue_sort: PluginSet,
    pre_filter: PluginSet,
    filter: PluginSet,
    post_filter: PluginSet,
    pre_score: PluginSet,
    score: PluginSet,
    reserve: PluginSet,
    permit: PluginSet,
    pre_bind: PluginSet,
    bind: PluginSet,
    post_bind: PluginSet,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PluginSet {
    enabled: Vec<Plugin>,
    disabled: Vec<Plugin>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    name: String,
    weight: Option<i64>,
}

impl PluginSet {
    fn disables(&self, name: &str) -> bool {
        self.disabled.iter().any(|plugin| plugin.name == name || plugin.name == "*")
    }

    fn enabled(&self, name: &str) -> Option<&Plugin> {
        self.enabled.iter().find(|plugin| plugin.name == name)
    }

    /// `default` with what this set changes for all points.
    fn over(&self, default: Vec<Enabled>, possible: &[Enabled]) -> Vec<Enabled> {
        let mut kept: Vec<Enabled> =
            default.into_iter().filter(|enabled| !self.disables(&enabled.name)).collect();
        for plugin in &self.enabled {
            let weight = |usual: i64| plugin.weight.filter(|weight| *weight != 0).unwrap_or(usual);
            if let Some(known) = kept.iter_mut().find(|enabled| enabled.name == plugin.name) {
                known.weight = weight(1);
            } else if possible.iter().any(|possible| possible.name == plugin.name) {
                kept.push(Enabled { name: plugin.name.clone(), weight: weight(1) });
            }
        }
        kept
    }

    /// `everywhere` with what this set changes for its point: what it names itself comes first if it was there
    /// before, and last if it was not.
    fn at_point(&self, everywhere: Vec<Enabled>) -> Vec<Enabled> {
        let was_there = |name: &str| everywhere.iter().any(|enabled| enabled.name == name);
        let own = |plugin: &Plugin| Enabled {
            name: plugin.name.clone(),
            weight: plugin.weight.filter(|weight| *weight != 0).unwrap_or(1),
        };
        let (first, last): (Vec<_>, Vec<_>) = self.enabled.iter().partition(|plugin| was_there(&plugin.name));
        let others = everywhere
            .iter()
            .filter(|enabled| !self.disables(&enabled.name) && self.enabled(&enabled.name).is_none());
        first.into_iter().map(own).chain(others.cloned()).chain(last.into_iter().map(own)).collect()
    }

    fn unknown(&self) -> Option<&str> {
        let known = |name: &str| {
            [DEFAULT_PREEMPTION, DEFAULT_BINDER, PRIORITY_SORT].contains(&name)
                || PLUGINS.iter().any(|plugin| plugin.name == name)
        };
        self.enabled.iter().map(|plugin| plugin.name.as_str()).find(|name| !known(name))
    }
}

impl WirePlugins {
    /// The default plugins with these changes. `path` is the profile's.
    pub fn merged(&self, path: &str) -> Result<Points, ConfigurationError> {
        for (point, set) in self.named() {
            if let Some(name) = set.unknown() {
                let path = format!("{path}.plugins.{point}");
                return Err(ConfigurationError::UnknownPlugin { path, name: name.to_owned() });
            }
        }
        let possible = Points::default();
        let merge = |set: &PluginSet, default: &Vec<Enabled>| {
            set.at_point(self.multi_point.over(default.clone(), default))
        };
        Ok(Points {
            pre_enqueue: merge(&self.pre_enqueue, &possible.pre_enqueue),
            filter: merge(&self.filter, &possible.filter),
            post_filter: merge(&self.post_filter, &possible.post_filter),
            score: merge(&self.score, &possible.score),
        })
    }

    fn named(&self) -> [(&'static str, &PluginSet); 13] {
        [
            ("multiPoint", &self.multi_point),
            ("preEnqueue", &self.pre_enqueue),
            ("queueSort", &self.queue_sort),
            ("preFilter", &self.pre_filter),
            ("filter", &self.filter),
            ("postFilter", &self.post_filter),
            ("preScore", &self.pre_score),
            ("score", &self.score),
            ("reserve", &self.reserve),
            ("permit", &self.permit),
            ("preBind", &self.pre_bind),
            ("bind", &self.bind),
            ("postBind", &self.post_bind),
        ]
    }
}
