//! FlowSchemas and PriorityLevelConfigurations: defaults.

use serde_json::Value;

use super::fill;
use crate::registry::Strategy;

pub struct FlowSchema;

impl Strategy for FlowSchema {
    fn set_defaults(&self, object: &mut Value) {
        if let Some(spec) = object.get_mut("spec") {
            fill::zero(spec, "matchingPrecedence", 1000);
        }
    }
}

pub struct PriorityLevelConfiguration;

impl Strategy for PriorityLevelConfiguration {
    fn set_defaults(&self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec") else { return };
        if let Some(exempt) = spec.get_mut("exempt") {
            fill::nil(exempt, "nominalConcurrencyShares", 0);
            fill::nil(exempt, "lendablePercent", 0);
        }
        if let Some(limited) = spec.get_mut("limited") {
            fill::nil(limited, "nominalConcurrencyShares", 30);
            fill::nil(limited, "lendablePercent", 0);
            if let Some(queuing) = limited.pointer_mut("/limitResponse/queuing") {
                fill::zero(queuing, "handSize", 8);
                fill::zero(queuing, "queues", 64);
                fill::zero(queuing, "queueLengthLimit", 50);
            }
        }
    }
}
