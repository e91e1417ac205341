//! Admission by expressions: ValidatingAdmissionPolicies, MutatingAdmissionPolicies, and what webhooks share with
//! them.
//!
//! Policies are compiled when they are read. A request walks the policies whose rules match it, their bindings that
//! match it, and the parameters of each binding, and evaluates what it finds there.

mod compile;
mod conditions;
mod definition;
mod environment;
mod evaluate;
mod index;
mod input;
mod invocation;
mod mutate;
mod patch;
mod status;
mod typing;
mod validate;

use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::Status;

pub use conditions::{Conditions, Verdict};
pub use definition::Condition;
pub use environment::{Scope, environment, variables};
pub use evaluate::decided;
pub use index::Index;
pub use input::Input;
pub use status::report as report_status;

use super::{Admission, Attributes, Operation};
use crate::authz::SharedAuthorizer;
use crate::objects::Objects;

/// What both kinds of policies need.
#[derive(Clone)]
pub struct Policies {
    pub objects: Arc<dyn Objects>,
    pub authorizer: SharedAuthorizer,
    pub index: Arc<Index>,
}

/// MutatingAdmissionPolicy.
pub struct MutatingPolicies(pub Policies);

/// ValidatingAdmissionPolicy.
pub struct ValidatingPolicies(pub Policies);

/// Policies and webhooks do not decide about policies and webhooks, or nobody could undo a bad one.
pub fn is_exempt(attributes: &Attributes) -> bool {
    attributes.resource.group == index::GROUP
        && matches!(
            attributes.resource.resource.as_ref(),
            "validatingwebhookconfigurations"
                | "mutatingwebhookconfigurations"
                | "validatingadmissionpolicies"
                | "validatingadmissionpolicybindings"
                | "mutatingadmissionpolicies"
                | "mutatingadmissionpolicybindings"
        )
}

#[async_trait]
impl Admission for ValidatingPolicies {
    fn handles(&self, _: Operation) -> bool {
        !self.0.index.validating().is_empty()
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        if is_exempt(attributes) {
            return Ok(());
        }
        validate::validate(&self.0, attributes).await
    }
}

#[async_trait]
impl Admission for MutatingPolicies {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update | Operation::Connect)
            && !self.0.index.mutating().is_empty()
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if is_exempt(attributes) {
            return Ok(());
        }
        mutate::mutate(&self.0, attributes).await
    }
}
