//! Questions to the authorizer, built up step by step; `check` itself is the interpreter's.

use super::{Result, no_overload};
use crate::cel::decisions::{Check, CheckTarget};
use crate::cel::error::EvalError;
use crate::cel::functions::Definition;
use crate::cel::value::{Opaque, Value};

pub(super) const FUNCTIONS: &[Definition] = &[
    ("path", path, &[("authorizer_path", ". authorizer, string -> pathcheck")]),
    ("group", group, &[("authorizer_group", ". authorizer, string -> groupcheck")]),
    (
        "serviceAccount",
        service_account,
        &[("authorizer_serviceaccount", ". authorizer, string, string -> authorizer")],
    ),
    ("resource", resource, &[("groupcheck_resource", ". groupcheck, string -> resourcecheck")]),
    (
        "subresource",
        subresource,
        &[("resourcecheck_subresource", ". resourcecheck, string -> resourcecheck")],
    ),
    ("namespace", namespace, &[("resourcecheck_namespace", ". resourcecheck, string -> resourcecheck")]),
    ("name", name, &[("resourcecheck_name", ". resourcecheck, string -> resourcecheck")]),
    (
        "fieldSelector",
        field_selector,
        &[("authorizer_fieldselector", ". resourcecheck, string -> resourcecheck")],
    ),
    (
        "labelSelector",
        label_selector,
        &[("authorizer_labelselector", ". resourcecheck, string -> resourcecheck")],
    ),
    (
        "check",
        unreachable_check,
        &[
            ("pathcheck_check", ". pathcheck, string -> decision"),
            ("resourcecheck_check", ". resourcecheck, string -> decision"),
        ],
    ),
    ("allowed", allowed, &[("decision_allowed", ". decision -> bool")]),
    ("reason", reason, &[("decision_reason", ". decision -> string")]),
    ("errored", errored, &[("decision_errored", ". decision -> bool")]),
    ("error", error, &[("decision_error", ". decision -> string")]),
];

/// The interpreter does not call it.
fn unreachable_check<'a>(_: &[Value<'a>]) -> Result<'a> {
    no_overload()
}

fn path<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::Opaque(value), Value::String(path)] = args else { return no_overload() };
    let Opaque::Authorizer(service_account) = &**value else { return no_overload() };
    if path.is_empty() {
        return Err(EvalError::failed("path must not be empty"));
    }
    let target = CheckTarget::Path(path.to_string());
    let check = Check { verb: String::new(), target, service_account: service_account.clone() };
    Ok(Opaque::Check(Box::new(check)).into())
}

fn group<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::Opaque(value), Value::String(group)] = args else { return no_overload() };
    let Opaque::Authorizer(service_account) = &**value else { return no_overload() };
    Ok(Opaque::GroupCheck { service_account: service_account.clone(), group: group.to_string() }.into())
}

fn service_account<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::Opaque(value), Value::String(namespace), Value::String(name)] = args else {
        return no_overload();
    };
    let Opaque::Authorizer(_) = &**value else { return no_overload() };
    if let Some(fault) = crate::names::name_is_dns_subdomain(name, false).first() {
        return Err(EvalError::failed(format!("Invalid service account name: {fault}")));
    }
    if let Some(fault) = crate::names::name_is_dns_label(namespace, false).first() {
        return Err(EvalError::failed(format!("Invalid service account namespace: {fault}")));
    }
    Ok(Opaque::Authorizer(Some((namespace.to_string(), name.to_string()))).into())
}

fn resource<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::Opaque(value), Value::String(resource)] = args else { return no_overload() };
    let Opaque::GroupCheck { service_account, group } = &**value else { return no_overload() };
    let target = CheckTarget::Resource {
        group: group.clone(),
        resource: resource.to_string(),
        subresource: String::new(),
        namespace: String::new(),
        name: String::new(),
        field_selector: String::new(),
        label_selector: String::new(),
    };
    let check = Check { verb: String::new(), target, service_account: service_account.clone() };
    Ok(Opaque::Check(Box::new(check)).into())
}

/// A check of a resource with one more part.
fn with<'a>(args: &[Value<'a>], set: fn(&mut CheckTarget, String)) -> Result<'a> {
    let [Value::Opaque(value), Value::String(part)] = args else { return no_overload() };
    let Opaque::Check(check) = &**value else { return no_overload() };
    let mut check = check.clone();
    set(&mut check.target, part.to_string());
    Ok(Opaque::Check(check).into())
}

macro_rules! parts {
    ($($field:ident)*) => {$(
        fn $field<'a>(args: &[Value<'a>]) -> Result<'a> {
            with(args, |target, part| {
                if let CheckTarget::Resource { $field, .. } = target {
                    *$field = part;
                }
            })
        }
    )*};
}
parts!(subresource namespace name field_selector label_selector);

fn decision<'a>(args: &[Value<'a>], of: fn(&crate::cel::Decision) -> Value<'static>) -> Result<'a> {
    let [Value::Opaque(value)] = args else { return no_overload() };
    let Opaque::Decision(decision) = &**value else { return no_overload() };
    Ok(of(decision))
}

fn allowed<'a>(args: &[Value<'a>]) -> Result<'a> {
    decision(args, |decision| decision.allowed.into())
}

fn reason<'a>(args: &[Value<'a>]) -> Result<'a> {
    decision(args, |decision| decision.reason.clone().into())
}

fn errored<'a>(args: &[Value<'a>]) -> Result<'a> {
    decision(args, |decision| decision.error.is_some().into())
}

fn error<'a>(args: &[Value<'a>]) -> Result<'a> {
    decision(args, |decision| decision.error.clone().unwrap_or_default().into())
}
