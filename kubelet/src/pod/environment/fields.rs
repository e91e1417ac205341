//! The downward API: a pod's own fields and resources as text.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Source;
use crate::events::go_quote;
use crate::pod::spec;
use crate::resources::amount::{self, List};

#[derive(Debug, thiserror::Error)]
pub enum FieldError {
    #[error("unsupported fieldPath: {0}")]
    Unsupported(String),
    #[error("unsupported container resource : {0}")]
    Resource(String),
    #[error("container {0} not found")]
    Container(String),
}

/// Labels or annotations as files show them: one quoted line each, by name.
pub fn map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={}", go_quote(value))).collect();
    lines.join("\n")
}

fn joined(ips: &[IpAddr]) -> String {
    ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// A field that depends on metadata and spec only, as volumes use it.
pub fn metadata(pod: &Pod, path: &str) -> Result<String, FieldError> {
    let meta = &pod.metadata;
    if let Some((list, key)) = path.strip_suffix("']").and_then(|path| path.split_once("['")) {
        let list = match list {
            "metadata.labels" => meta.labels.as_ref(),
            "metadata.annotations" => meta.annotations.as_ref(),
            _ => return Err(FieldError::Unsupported(path.to_owned())),
        };
        return Ok(list.and_then(|list| list.get(key)).cloned().unwrap_or_default());
    }
    match path {
        "metadata.name" => Ok(spec::name(pod).to_owned()),
        "metadata.namespace" => Ok(spec::namespace(pod).to_owned()),
        "metadata.uid" => Ok(spec::uid(pod).to_owned()),
        "metadata.labels" => Ok(map(meta.labels.as_ref())),
        "metadata.annotations" => Ok(map(meta.annotations.as_ref())),
        _ => Err(FieldError::Unsupported(path.to_owned())),
    }
}

/// A field for an environment variable.
pub fn value(pod: &Pod, path: &str, source: &Source<'_>) -> Result<String, FieldError> {
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    Ok(match path {
        "spec.nodeName" => source.node_name.to_owned(),
        "spec.serviceAccountName" => spec::spec(pod).service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(source.host_ips),
        "status.hostIPs" => joined(source.host_ips),
        "status.podIP" => first(source.pod_ips),
        "status.podIPs" => joined(source.pod_ips),
        _ => return metadata(pod, path),
    })
}

/// A request or limit divided by the divisor and rounded up; what has no limit may use all the node has.
pub fn resource(
    pod: &Pod,
    container: Option<&Container>,
    selector: &ResourceFieldSelector,
    allocatable: &List,
) -> Result<String, FieldError> {
    let named = match (&selector.container_name, container) {
        (Some(name), _) if !name.is_empty() => spec::find_container(pod, name)
            .map(|(_, container)| container)
            .ok_or_else(|| FieldError::Container(name.clone()))?,
        (_, Some(container)) => container.clone(),
        (_, None) => return Err(FieldError::Container(String::new())),
    };
    let unsupported = || FieldError::Resource(selector.resource.clone());
    let (which, name) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let resources = named.resources.unwrap_or_default();
    let found = |list: Option<List>| list.and_then(|list| list.get(name).cloned());
    let quantity: Option<Quantity> = match which {
        "limits" => found(resources.limits)
            .filter(|q| amount::milli(q) > 0)
            .or_else(|| allocatable.get(name).cloned()),
        "requests" => found(resources.requests),
        _ => return Err(unsupported()),
    };
    let divisor = selector.divisor.as_ref().filter(|d| !d.0.is_empty() && d.0 != "0");
    let (value, divisor) = match name {
        "cpu" => (quantity.as_ref().map_or(0, amount::milli), divisor.map_or(1000, amount::milli)),
        "memory" | "ephemeral-storage" => {
            (quantity.as_ref().map_or(0, amount::value), divisor.map_or(1, amount::value))
        }
        _ if name.starts_with("hugepages-") => {
            (quantity.as_ref().map_or(0, amount::value), divisor.map_or(1, amount::value))
        }
        _ => return Err(unsupported()),
    };
    let divisor = divisor.max(1);
    Ok((value / divisor + i64::from(value % divisor != 0)).to_string())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ResourceRequirements;

    use super::*;

    #[test]
    fn maps_are_sorted_quoted_lines() {
        let labels: BTreeMap<String, String> =
            [("b".into(), "two\nlines".into()), ("a".into(), "say \"x\"".into())].into();
        assert_eq!(map(Some(&labels)), "a=\"say \\\"x\\\"\"\nb=\"two\\nlines\"");
    }

    #[test]
    fn resources_are_divided_and_default_to_the_node() {
        let container = Container {
            resources: Some(ResourceRequirements {
                limits: Some([("cpu".to_owned(), Quantity("1500m".into()))].into()),
                ..ResourceRequirements::default()
            }),
            ..Container::default()
        };
        let node: List = [("memory".to_owned(), Quantity("1Gi".into()))].into();
        let ask = |resource: &str, divisor: Option<&str>| {
            let selector = ResourceFieldSelector {
                resource: resource.into(),
                divisor: divisor.map(|d| Quantity(d.into())),
                container_name: None,
            };
            super::resource(&Pod::default(), Some(&container), &selector, &node).expect("supported")
        };
        assert_eq!(ask("limits.cpu", None), "2");
        assert_eq!(ask("limits.cpu", Some("1m")), "1500");
        assert_eq!(ask("limits.memory", Some("1Mi")), "1024");
        assert_eq!(ask("requests.cpu", None), "0");
    }
}
