//! Disruption budgets: victims that no budget protects go first.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use knarr_api::selector::Selector;

use crate::object::Pod;
use crate::objects::Objects;

struct Budget<'a> {
    object: &'a PodDisruptionBudget,
    selector: Selector,
    allowed: i32,
}

pub struct Budgets<'a>(Vec<Budget<'a>>);

impl<'a> Budgets<'a> {
    /// Budgets that select nothing, or everything, protect nobody.
    pub fn of(objects: &'a Objects) -> Self {
        let usable = objects.budgets.all().filter_map(|budget| {
            let spec = budget.spec.as_ref()?;
            let selector = Selector::try_from(spec.selector.as_ref()?).ok()?;
            let allowed = budget.status.as_ref().and_then(|status| status.disruptions_allowed);
            let allowed = allowed.unwrap_or(0);
            (!selector.is_everything()).then_some(Budget { object: budget, selector, allowed })
        });
        Self(usable.collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For each pod whether a budget is overdrawn if it goes after those before it.
    pub fn violated_by<'p>(&self, pods: impl Iterator<Item = &'p Pod>) -> Vec<bool> {
        let mut left: Vec<i32> = self.0.iter().map(|budget| budget.allowed).collect();
        pods.map(|pod| {
            let mut violated = false;
            for (budget, left) in self.0.iter().zip(&mut left) {
                if budget.protects(pod) {
                    *left -= 1;
                    violated |= *left < 0;
                }
            }
            violated
        })
        .collect()
    }
}

impl Budget<'_> {
    fn protects(&self, pod: &Pod) -> bool {
        let meta = &pod.metadata;
        let counted = self.object.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
        self.object.metadata.namespace.as_deref() == Some(&*meta.namespace)
            && !meta.labels.is_empty()
            && self.selector.matches(&meta.labels)
            // The API server has taken these into account already.
            && !counted.is_some_and(|pods| pods.contains_key(&*meta.name))
    }
}
