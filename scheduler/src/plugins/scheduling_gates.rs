//! SchedulingGates: a pod with gates is not even tried.

use crate::framework::{Plugin, Rejection, Verdict};
use crate::object::Pod;

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn pre_enqueue(&self, pod: &Pod) -> Verdict {
        if pod.scheduling_gates.is_empty() {
            return Ok(());
        }
        let gates = pod.scheduling_gates.join(" ");
        Err(Rejection::unresolvable(format!("waiting for scheduling gates: [{gates}]")))
    }
}
