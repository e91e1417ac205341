//! IngressClasses.

use knarr_api::field::{Error, ErrorList};
use knarr_api::names;
use serde_json::Value;

use super::ingress::reference;
use crate::registry::{Context, Strategy};
use crate::resources::at::At;
use crate::resources::fill;

const CONTROLLER_MAX: usize = 250;

pub struct IngressClass;

impl Strategy for IngressClass {
    fn set_defaults(&self, object: &mut Value) {
        if let Some(parameters) = object.pointer_mut("/spec/parameters") {
            fill::nil(parameters, "scope", "Cluster");
        }
    }

    fn validate(&self, _: &Context<'_>, object: &Value) -> ErrorList {
        validate(object)
    }

    fn validate_update(&self, _: &Context<'_>, object: &Value, old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let of = |object| At::root(object).at("spec").at("controller");
        of(object).immutable(&mut errors, &of(old));
        errors.extend(validate(object));
        errors
    }
}

fn validate(object: &Value) -> ErrorList {
    let mut errors = ErrorList::new();
    let spec = At::root(object).at("spec");
    let controller = spec.at("controller");
    if controller.str().len() > CONTROLLER_MAX {
        errors.push(Error::too_long(controller.path(), CONTROLLER_MAX));
    }
    errors.extend(names::domain_prefixed_path(controller.path(), controller.str()));
    let Some(parameters) = spec.some("parameters") else { return errors };
    reference(&parameters, &mut errors);
    let (scope, namespace) = (parameters.at("scope"), parameters.at("namespace"));
    match (scope.value().map(|_| scope.str()), namespace.value()) {
        (None, _) => errors.push(scope.required("")),
        (Some("Namespace"), None) => {
            errors.push(namespace.required("`parameters.scope` is set to 'Namespace'"));
        }
        (Some("Namespace"), Some(_)) => namespace.check(&mut errors, names::dns_label),
        (Some("Cluster"), Some(_)) => {
            errors.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'"));
        }
        (Some("Cluster"), None) => {}
        (Some(_), _) => errors.push(scope.unsupported(&["Cluster", "Namespace"])),
    }
    errors
}
