//! Exec, attach and port-forward: a connection upgraded through to the kubelet.

use axum::body::Body;
use http::{Request, Response};
use knarr_api::status::Status;
use serde::Deserialize;

use super::backend::Location;
use super::options::{self, Query};
use super::{Streams, Subresource, Target, headers, relay};
use crate::authz::{Attributes, ResourceTarget, Target as Asked};
use crate::objects::{Objects, Resource};

/// Reads `null` as absent, which is how Go reads it.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// As much of a pod as streams look at.
#[derive(Deserialize)]
pub(super) struct Pod {
    #[serde(default)]
    pub spec: Spec,
    #[serde(default)]
    pub status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub node_name: String,
    #[serde(deserialize_with = "nullable")]
    init_containers: Vec<Container>,
    #[serde(deserialize_with = "nullable")]
    pub containers: Vec<Container>,
    #[serde(deserialize_with = "nullable")]
    ephemeral_containers: Vec<Container>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Container {
    name: String,
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<Port>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Port {
    pub container_port: u16,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PodStatus {
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs", deserialize_with = "nullable")]
    pub pod_ips: Vec<PodIp>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct PodIp {
    pub ip: String,
}

impl PodStatus {
    pub fn primary_ip(&self) -> &str {
        self.pod_ips.first().map_or(&self.pod_ip, |first| &first.ip)
    }
}

impl Pod {
    /// The pod as the store has it now (who was just told its address may use it at once), 404 if there is none.
    pub async fn read(objects: &dyn Objects, namespace: &str, name: &str) -> Result<Self, Status> {
        let stored =
            objects.get_live(Resource::core("pods"), namespace, name).await.map_err(Status::internal)?;
        let stored = stored.ok_or_else(|| Status::not_found("", "pods", name))?;
        serde_json::from_slice(&stored.json)
            .map_err(|error| Status::internal(format!("pod {namespace}/{name} does not parse: {error}")))
    }

    fn container_names(&self) -> impl Iterator<Item = &str> {
        let Spec { init_containers, containers, ephemeral_containers, .. } = &self.spec;
        init_containers.iter().chain(containers).chain(ephemeral_containers).map(|c| c.name.as_str())
    }

    /// The container that is meant: the one named, or the only one.
    pub fn container<'a>(&'a self, pod: &str, named: Option<&'a str>) -> Result<&'a str, Status> {
        if let Some(named) = named.filter(|named| !named.is_empty()) {
            return match self.container_names().any(|name| name == named) {
                true => Ok(named),
                false => Err(Status::bad_request(format!("container {named} is not valid for pod {pod}"))),
            };
        }
        match self.spec.containers.as_slice() {
            [one] => Ok(&one.name),
            [] => Err(Status::bad_request(format!("a container name must be specified for pod {pod}"))),
            _ => {
                let names: Vec<&str> = self.container_names().collect();
                let names = names.join(" ");
                Err(Status::bad_request(format!(
                    "a container name must be specified for pod {pod}, choose one of: [{names}]"
                )))
            }
        }
    }
}

impl Streams {
    pub(super) async fn open(
        &self,
        subresource: Subresource,
        target: Target<'_>,
        request: Request<Body>,
    ) -> Result<Response<Body>, Status> {
        self.may_create(subresource, target).await?;
        let query = Query::parse(request.uri().query());
        let (location, path) = self.locate_stream(subresource, target, &query).await?;
        let Some(protocol) = headers::upgrade(request.headers()) else {
            return Err(Status::bad_request("Upgrade request required"));
        };
        relay::relay(self, &location, &path, protocol, request).await
    }

    /// Opening a stream runs something, so `get`, which a WebSocket must use, is not enough.
    async fn may_create(&self, subresource: Subresource, target: Target<'_>) -> Result<(), Status> {
        if target.verb == "create" {
            return Ok(());
        }
        let resource = ResourceTarget {
            version: "v1",
            resource: "pods",
            subresource: match subresource {
                Subresource::Log => "log",
                Subresource::Exec => "exec",
                Subresource::Attach => "attach",
                Subresource::PortForward => "portforward",
            },
            namespace: target.namespace,
            name: target.name,
            ..ResourceTarget::default()
        };
        let asked = Attributes { user: target.user, verb: "create", target: Asked::Resource(resource) };
        let decision = self.authorizer.authorize(&asked).await;
        if decision.is_allowed() {
            return Ok(());
        }
        Err(Status::forbidden("", "pods", target.name, decision.reason()))
    }

    async fn locate_stream(
        &self,
        subresource: Subresource,
        target: Target<'_>,
        query: &Query,
    ) -> Result<(Location, String), Status> {
        let Target { namespace, name, .. } = target;
        let pod = Pod::read(&*self.objects, namespace, name).await?;
        let path = match subresource {
            Subresource::PortForward => {
                options::port_forward(query)?.on(&format!("/portForward/{namespace}/{name}"))
            }
            _ => {
                let (endpoint, with_command) = match subresource {
                    Subresource::Exec => ("exec", true),
                    _ => ("attach", false),
                };
                let container = pod.container(name, query.first("container"))?;
                options::session(query, with_command)
                    .on(&format!("/{endpoint}/{namespace}/{name}/{container}"))
            }
        };
        if pod.spec.node_name.is_empty() {
            return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
        }
        let location = self.kubelets.locate(&*self.objects, &pod.spec.node_name, true).await?;
        Ok((location, path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_container_is_chosen_as_upstream_does() {
        let pod = |names: &[&str]| -> Pod {
            let containers: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
            serde_json::from_value(
                json!({"spec": {"containers": containers, "initContainers": [{"name": "init"}]}}),
            )
            .unwrap()
        };
        assert_eq!(pod(&["a"]).container("p", None).unwrap(), "a");
        assert_eq!(pod(&["a", "b"]).container("p", Some("init")).unwrap(), "init");
        let refused = |pod: &Pod, named| pod.container("p", named).err().unwrap().message;
        assert_eq!(
            refused(&pod(&["a", "b"]), None),
            "a container name must be specified for pod p, choose one of: [init a b]"
        );
        assert_eq!(refused(&pod(&["a"]), Some("x")), "container x is not valid for pod p");
    }
}
