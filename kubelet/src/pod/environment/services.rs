//! Docker-style variables about the services a pod may see.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

fn variable_name(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

fn cluster_ip(service: &Service) -> Option<&str> {
    let ip = service.spec.as_ref()?.cluster_ip.as_deref()?;
    (!ip.is_empty() && ip != "None").then_some(ip)
}

/// Whether a pod of `namespace` sees the service: `kubernetes` always, its own namespace's with service links.
pub fn visible(service: &Service, namespace: &str, links: bool) -> bool {
    let (name, of) = (service.metadata.name.as_deref(), service.metadata.namespace.as_deref());
    (of == Some("default") && name == Some("kubernetes")) || (links && of == Some(namespace))
}

/// Variables of all given services that have an address.
pub fn variables<'a>(services: impl Iterator<Item = &'a Service>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for service in services {
        let (Some(ip), Some(name)) = (cluster_ip(service), service.metadata.name.as_deref()) else {
            continue;
        };
        let ports = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
        let Some(first) = ports.first() else { continue };
        let prefix = variable_name(name);
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
        out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
        out.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
        for (index, port) in ports.iter().enumerate() {
            if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
                out.insert(format!("{prefix}_SERVICE_PORT_{}", variable_name(name)), port.port.to_string());
            }
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let url = format!("{}://{host}:{}", protocol.to_ascii_lowercase(), port.port);
            if index == 0 {
                out.insert(format!("{prefix}_PORT"), url.clone());
            }
            let link = format!("{prefix}_PORT_{}_{protocol}", port.port);
            out.insert(link.clone(), url);
            out.insert(format!("{link}_PROTO"), protocol.to_ascii_lowercase());
            out.insert(format!("{link}_PORT"), port.port.to_string());
            out.insert(format!("{link}_ADDR"), ip.to_owned());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};

    use super::*;

    #[test]
    fn a_service_gives_dockers_variables() {
        let mut service = Service {
            spec: Some(ServiceSpec {
                cluster_ip: Some("10.0.0.9".into()),
                ports: Some(vec![ServicePort {
                    name: Some("http-x".into()),
                    port: 80,
                    protocol: Some("TCP".into()),
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        };
        service.metadata.name = Some("my-web".into());
        let found = variables([&service].into_iter());
        let expected = [
            ("MY_WEB_PORT", "tcp://10.0.0.9:80"),
            ("MY_WEB_PORT_80_TCP", "tcp://10.0.0.9:80"),
            ("MY_WEB_PORT_80_TCP_ADDR", "10.0.0.9"),
            ("MY_WEB_PORT_80_TCP_PORT", "80"),
            ("MY_WEB_PORT_80_TCP_PROTO", "tcp"),
            ("MY_WEB_SERVICE_HOST", "10.0.0.9"),
            ("MY_WEB_SERVICE_PORT", "80"),
            ("MY_WEB_SERVICE_PORT_HTTP_X", "80"),
        ];
        assert_eq!(found, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        service.spec.as_mut().expect("set above").cluster_ip = Some("None".into());
        assert!(variables([&service].into_iter()).is_empty());
    }
}
