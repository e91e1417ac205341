//! Which plugins are enabled at which extension point.

use crate::plugins::{DEFAULT_PREEMPTION, DYNAMIC_RESOURCES, PLUGINS};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enabled {
    pub name: String,
    /// Counts where scores are added.
    pub weight: i64,
}

/// By extension point, in order. Filter stands for PreFilter too, Score for PreScore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Points {
    pub pre_enqueue: Vec<Enabled>,
    pub filter: Vec<Enabled>,
    pub post_filter: Vec<Enabled>,
    pub score: Vec<Enabled>,
}

impl Default for Points {
    fn default() -> Self {
        let with = |point: fn(&crate::plugins::Descriptor) -> bool| {
            let chosen = PLUGINS.iter().filter(|plugin| point(plugin));
            chosen
                .map(|plugin| Enabled { name: plugin.name.to_owned(), weight: plugin.weight })
                .collect::<Vec<_>>()
        };
        Self {
            pre_enqueue: with(|plugin| plugin.pre_enqueues),
            filter: with(|plugin| plugin.filters),
            // It is better to give up a claim that nobody uses than to have pods leave.
            post_filter: [DYNAMIC_RESOURCES, DEFAULT_PREEMPTION]
                .map(|name| Enabled { name: name.to_owned(), weight: 0 })
                .into(),
            score: with(|plugin| plugin.scores),
        }
    }
}
