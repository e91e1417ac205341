//! A request for devices, be it the only way to satisfy it or one of several alternatives.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{
    Device, DeviceClaim, DeviceRequest, DeviceSelector, DeviceSubRequest, DeviceTaint, DeviceToleration,
    ExactDeviceRequest, ResourceClaim,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What a claim asks for.
pub fn asked_of(claim: &ResourceClaim) -> Option<&DeviceClaim> {
    claim.spec.as_ref()?.devices.as_ref()
}

pub fn requests_of(claim: &ResourceClaim) -> &[DeviceRequest] {
    asked_of(claim).and_then(|asked| asked.requests.as_deref()).unwrap_or_default()
}

#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub name: &'a str,
    /// The request that this is an alternative of.
    pub parent: Option<&'a str>,
    pub class: &'a str,
    mode: Option<&'a str>,
    pub count: i64,
    pub admin_access: bool,
    pub selectors: &'a [DeviceSelector],
    pub tolerations: Option<&'a Vec<DeviceToleration>>,
    pub capacity: Option<&'a BTreeMap<String, Quantity>>,
}

/// How many devices are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    ExactCount,
    All,
}

impl<'a> Request<'a> {
    /// The ways to satisfy a request, the best first; none if it is of a kind that is not known.
    pub fn alternatives(request: &'a DeviceRequest) -> Vec<Self> {
        match (&request.exactly, &request.first_available) {
            (Some(exactly), _) => vec![Self::exactly(&request.name, exactly)],
            (None, Some(list)) => list.iter().map(|sub| Self::alternative(&request.name, sub)).collect(),
            (None, None) => Vec::new(),
        }
    }

    fn exactly(name: &'a str, request: &'a ExactDeviceRequest) -> Self {
        Self {
            name,
            parent: None,
            class: &request.device_class_name,
            mode: request.allocation_mode.as_deref(),
            count: request.count.unwrap_or(1),
            admin_access: request.admin_access == Some(true),
            selectors: request.selectors.as_deref().unwrap_or_default(),
            tolerations: request.tolerations.as_ref(),
            capacity: request.capacity.as_ref().and_then(|capacity| capacity.requests.as_ref()),
        }
    }

    fn alternative(parent: &'a str, request: &'a DeviceSubRequest) -> Self {
        Self {
            name: &request.name,
            parent: Some(parent),
            class: &request.device_class_name,
            mode: request.allocation_mode.as_deref(),
            count: request.count.unwrap_or(1),
            admin_access: false,
            selectors: request.selectors.as_deref().unwrap_or_default(),
            tolerations: request.tolerations.as_ref(),
            capacity: request.capacity.as_ref().and_then(|capacity| capacity.requests.as_ref()),
        }
    }

    /// # Errors
    /// A mode that is not known.
    pub fn mode(&self) -> Result<Mode, &'a str> {
        match self.mode {
            None | Some("ExactCount") => Ok(Mode::ExactCount),
            Some("All") => Ok(Mode::All),
            Some(other) => Err(other),
        }
    }

    /// `request`, or `request/alternative`.
    pub fn full_name(&self) -> String {
        match self.parent {
            None => self.name.to_owned(),
            Some(parent) => format!("{parent}/{}", self.name),
        }
    }

    /// Whether it, or the request that it is an alternative of, has this name.
    pub fn is_named(&self, name: &str) -> bool {
        match self.parent {
            None => name == self.name,
            Some(parent) => name == parent || name.split_once('/') == Some((parent, self.name)),
        }
    }

    /// Whether no taint of the device is against it.
    pub fn tolerates(&self, device: &Device) -> bool {
        let mut taints = device.taints.iter().flatten();
        taints.all(|taint| {
            !matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
                || self.tolerations.into_iter().flatten().any(|toleration| tolerates(toleration, taint))
        })
    }
}

fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let any_or = |wanted: &Option<String>, is: &str| {
        wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == is)
    };
    if !any_or(&toleration.effect, &taint.effect) || !any_or(&toleration.key, &taint.key) {
        return false;
    }
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => {
            toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default()
        }
        Some("Exists") => true,
        Some(_) => false,
    }
}
