//! What must hold among the devices of a claim: one value of an attribute for all, or another for each.

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, DeviceConstraint};

use super::request::Request;

pub struct Constraint<'a> {
    /// Empty for all requests of the claim.
    requests: &'a [String],
    attribute: &'a str,
    distinct: bool,
    /// Values of the devices that were added, the last at the end.
    values: Vec<&'a DeviceAttribute>,
}

impl<'a> Constraint<'a> {
    /// `None` for a kind of constraint that is not known.
    pub fn of(constraint: &'a DeviceConstraint) -> Option<Self> {
        let requests = constraint.requests.as_deref().unwrap_or_default();
        let (attribute, distinct) = match (&constraint.match_attribute, &constraint.distinct_attribute) {
            (Some(attribute), _) => (attribute, false),
            (None, Some(attribute)) => (attribute, true),
            (None, None) => return None,
        };
        Some(Self { requests, attribute, distinct, values: Vec::new() })
    }

    fn is_about(&self, request: &Request<'_>) -> bool {
        self.requests.is_empty() || self.requests.iter().any(|name| request.is_named(name))
    }

    /// Adds a device unless the constraint is against it. What is added is removed in reverse.
    pub fn add(&mut self, request: &Request<'_>, driver: &str, device: &'a Device) -> bool {
        if !self.is_about(request) {
            return true;
        }
        let Some(value) = attribute_of(device, driver, self.attribute) else { return false };
        let fits = match (self.distinct, self.values.first()) {
            (_, None) => true,
            (true, _) => is_known(value) && !self.values.iter().any(|other| is_same(value, other)),
            (false, Some(first)) => is_same(value, first),
        };
        if fits {
            self.values.push(value);
        }
        fits
    }

    pub fn remove(&mut self, request: &Request<'_>) {
        if self.is_about(request) {
            self.values.pop();
        }
    }
}

/// An attribute by its full name; those without a domain are of the driver's.
fn attribute_of<'a>(device: &'a Device, driver: &str, name: &str) -> Option<&'a DeviceAttribute> {
    let attributes = device.attributes.as_ref()?;
    attributes.get(name).or_else(|| {
        let (domain, id) = name.split_once('/')?;
        if domain == driver { attributes.get(id) } else { None }
    })
}

fn is_known(value: &DeviceAttribute) -> bool {
    value.string.is_some() || value.int.is_some() || value.bool.is_some() || value.version.is_some()
}

fn is_same(a: &DeviceAttribute, b: &DeviceAttribute) -> bool {
    match a {
        DeviceAttribute { string: Some(_), .. } => a.string == b.string,
        DeviceAttribute { int: Some(_), .. } => a.int == b.int,
        DeviceAttribute { bool: Some(_), .. } => a.bool == b.bool,
        DeviceAttribute { version: Some(_), .. } => a.version == b.version,
        _ => false,
    }
}
