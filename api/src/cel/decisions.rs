//! Authorization asked by expressions.
//!
//! An authorizer may take time, evaluation may not wait. So an expression that asks for something nobody decided yet
//! ends with [`EvalError::Undecided`]; whoever evaluates it asks the authorizer, adds the answer here, and evaluates
//! again. What was decided once is not asked again.
//!
//! [`EvalError::Undecided`]: super::EvalError::Undecided

use std::collections::BTreeMap;

/// A question to the authorizer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Check {
    pub verb: String,
    pub target: CheckTarget,
    /// Namespace and name of the service account that is asked about instead of the request's user.
    pub service_account: Option<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckTarget {
    Path(String),
    Resource {
        group: String,
        resource: String,
        subresource: String,
        namespace: String,
        name: String,
        field_selector: String,
        label_selector: String,
    },
}

/// An authorizer's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    /// Why the question could not be decided.
    pub error: Option<String>,
}

/// The answers there are.
#[derive(Debug, Default)]
pub struct Decisions(BTreeMap<Check, Decision>);

impl Decisions {
    pub fn add(&mut self, check: Check, decision: Decision) {
        self.0.insert(check, decision);
    }

    pub(super) fn get(&self, check: &Check) -> Option<&Decision> {
        self.0.get(check)
    }
}
