//! The plugins that are on by default, in upstream's order.

use std::sync::Arc;

use async_trait::async_trait;
use knarr_api::status::Status;
use knarr_api::time::{SharedClock, SharedRandom};

use super::certificates::{CertificateSubjectRestriction, Signers};
use super::default_class::{ingress_class, storage_class};
use super::default_toleration_seconds::DefaultTolerationSeconds;
use super::limit_ranger::LimitRanger;
use super::lookup::Lookup;
use super::namespace_lifecycle::NamespaceLifecycle;
use super::node_restriction::NodeRestriction;
use super::persistent_volume_claim_resize::PersistentVolumeClaimResize;
use super::pod_security::PodSecurity;
use super::pod_topology_labels::PodTopologyLabels;
use super::policy::{Index, MutatingPolicies, Policies, ValidatingPolicies};
use super::priority::Priority;
use super::rbac_escalation::RbacEscalation;
use super::resource_quota::ResourceQuota;
use super::runtime_class::RuntimeClass;
use super::service_account::ServiceAccount;
use super::storage_object_in_use_protection::StorageObjectInUseProtection;
use super::taint_nodes_by_condition::TaintNodesByCondition;
use super::webhook::{Hooks, MutatingWebhooks, ValidatingWebhooks, Webhooks};
use super::{Admission, Attributes, Operation};
use crate::authz::{Rbac, SharedAuthorizer};
use crate::loopback::Loopback;
use crate::objects::Objects;
use crate::stream::Dialer;

/// What plugins need of the server.
#[derive(Clone)]
pub struct Context {
    pub objects: Arc<dyn Objects>,
    pub authorizer: SharedAuthorizer,
    pub rbac: Arc<Rbac>,
    pub clock: SharedClock,
    pub random: SharedRandom,
    /// The webhooks there are, kept up to date by whoever runs them.
    pub hooks: Arc<Hooks>,
    /// The policies there are, likewise.
    pub policies: Arc<Index>,
    /// Writes what quotas have used.
    pub loopback: Loopback,
    /// Reaches webhooks.
    pub dialer: Arc<dyn Dialer>,
}

/// The plugins that every server has on.
pub fn standard(context: &Context) -> Chain {
    let lookup = Lookup(context.objects.clone());
    let Context { authorizer, rbac, clock, random, objects, hooks, policies, loopback, dialer } =
        context.clone();
    let policies = Policies { objects: objects.clone(), authorizer: authorizer.clone(), index: policies };
    let webhooks = Webhooks::new(objects, authorizer.clone(), hooks, dialer);
    Chain(vec![
        Arc::new(NamespaceLifecycle::new(lookup.clone(), clock)),
        Arc::new(LimitRanger { lookup: lookup.clone() }),
        Arc::new(ServiceAccount { lookup: lookup.clone(), random }),
        Arc::new(NodeRestriction { lookup: lookup.clone(), authorizer: authorizer.clone() }),
        Arc::new(TaintNodesByCondition),
        Arc::new(PodSecurity { lookup: lookup.clone() }),
        Arc::new(Priority { lookup: lookup.clone() }),
        Arc::new(DefaultTolerationSeconds),
        Arc::new(storage_class(lookup.clone())),
        Arc::new(StorageObjectInUseProtection),
        Arc::new(PersistentVolumeClaimResize { lookup: lookup.clone() }),
        Arc::new(RuntimeClass { lookup: lookup.clone() }),
        Arc::new(Signers { authorizer: authorizer.clone() }),
        Arc::new(CertificateSubjectRestriction),
        Arc::new(ingress_class(lookup.clone())),
        Arc::new(PodTopologyLabels { lookup: lookup.clone() }),
        Arc::new(MutatingPolicies(policies.clone())),
        Arc::new(MutatingWebhooks(webhooks.clone())),
        Arc::new(RbacEscalation { authorizer, rbac, lookup: lookup.clone() }),
        Arc::new(ValidatingPolicies(policies)),
        Arc::new(ValidatingWebhooks(webhooks)),
        Arc::new(ResourceQuota::new(lookup, loopback)),
    ])
}

/// Plugins one after the other; the first refusal ends it.
pub struct Chain(pub Vec<Arc<dyn Admission>>);

#[async_trait]
impl Admission for Chain {
    fn handles(&self, operation: Operation) -> bool {
        self.0.iter().any(|plugin| plugin.handles(operation))
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        for plugin in &self.0 {
            if plugin.handles(attributes.operation) {
                plugin.admit(attributes).await?;
            }
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        for plugin in &self.0 {
            if plugin.handles(attributes.operation) {
                plugin.validate(attributes).await?;
            }
        }
        Ok(())
    }
}
