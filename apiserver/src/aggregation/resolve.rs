//! From a service to one of the servers behind it.

use serde_json::Value;

use super::{Aggregator, Remote};
use crate::objects::{Objects, Resource};
use crate::stream::Location;

/// A service as the checks see it.
pub(super) struct Service {
    object: Value,
    slices: Vec<Value>,
}

impl Service {
    /// The remote's service, `None` when there is none.
    pub fn of(remote: &Remote, objects: &dyn Objects) -> Option<Self> {
        let stored = objects.get(Resource::core("services"), &remote.namespace, &remote.service)?;
        let object = serde_json::from_slice(&stored.json).ok()?;
        let resource = Resource::new("discovery.k8s.io", "endpointslices");
        let all = objects.list(resource, Some(&remote.namespace));
        let slices = all.iter().filter_map(|stored| serde_json::from_slice::<Value>(&stored.json).ok());
        let is_ours = |slice: &Value| {
            slice["metadata"]["labels"]["kubernetes.io/service-name"] == remote.service.as_str()
        };
        Some(Self { object, slices: slices.filter(is_ours).collect() })
    }

    pub fn has_slices(&self) -> bool {
        !self.slices.is_empty()
    }

    /// Whether it has an address of its own, behind which endpoints must be.
    pub fn is_cluster_ip(&self) -> bool {
        matches!(self.object["spec"]["type"].as_str(), None | Some("ClusterIP"))
    }

    fn external_name(&self) -> Option<&str> {
        (self.object["spec"]["type"] == "ExternalName")
            .then(|| self.object["spec"]["externalName"].as_str())?
    }

    /// The name of the port with this number.
    pub fn port_name(&self, port: u16) -> Option<&str> {
        let ports = self.object["spec"]["ports"].as_array()?;
        let found = ports.iter().find(|known| known["port"] == port)?;
        Some(found["name"].as_str().unwrap_or_default())
    }

    /// Addresses that are ready, with the number behind the named port.
    pub fn endpoints(&self, port_name: &str) -> Vec<(String, u16)> {
        let mut found = Vec::new();
        for slice in &self.slices {
            let ports = slice["ports"].as_array().into_iter().flatten();
            let named = ports.filter(|port| port["name"].as_str().unwrap_or_default() == port_name);
            let numbers: Vec<u16> = named.filter_map(|port| port["port"].as_u64()?.try_into().ok()).collect();
            let ready = slice["endpoints"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|endpoint| endpoint["conditions"]["ready"] != false);
            let addresses = ready.filter_map(|endpoint| endpoint["addresses"].as_array()?.first()?.as_str());
            let pairs = addresses.flat_map(|ip| numbers.iter().map(move |port| (ip.to_owned(), *port)));
            found.extend(pairs);
        }
        found
    }
}

impl Aggregator {
    /// Where the next request to the remote goes.
    pub(super) fn resolve(&self, remote: &Remote) -> Result<Location, String> {
        let tls = remote.tls.clone()?;
        let service = Service::of(remote, &*self.config.objects)
            .ok_or_else(|| format!("service {:?} not found", remote.service))?;
        let at = |host: String, port: u16| {
            let name = Some(remote.server_name());
            Location { host, port, tls: Some(tls.clone()), name }
        };
        if let Some(name) = service.external_name() {
            return Ok(at(name.to_owned(), remote.port));
        }
        let port_name = service.port_name(remote.port).ok_or_else(|| {
            format!("no service port {} found for service {:?}", remote.port, remote.service)
        })?;
        let mut endpoints = service.endpoints(port_name);
        if endpoints.is_empty() {
            return Err(format!("no endpoints available for service {:?}", remote.service));
        }
        let (host, port) = endpoints.swap_remove(self.config.random.below(endpoints.len() as u64) as usize);
        Ok(at(host, port))
    }
}
