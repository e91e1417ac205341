//! Flow control: FlowSchemas and PriorityLevelConfigurations.

mod level;
mod schema;

pub use level::PriorityLevelConfiguration;
pub use schema::FlowSchema;

use std::collections::BTreeSet;

use knarr_api::field::{Error, ErrorList};
use serde_json::Value;

use super::at::At;

/// Conditions have types, each once.
fn conditions(object: &Value, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for condition in At::root(object).at("status").items("conditions") {
        let kind = condition.at("type");
        if !seen.insert(kind.str()) {
            errors.push(Error::duplicate(kind.path(), kind.str()));
        }
        kind.require_text(errors);
    }
}
