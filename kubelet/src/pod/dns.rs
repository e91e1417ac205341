//! A pod's resolv.conf: the node's, the cluster's or its own, merged with its dnsConfig.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use knarr_runtime::cri::DnsConfig;

use super::spec;

const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

/// What the cluster adds.
#[derive(Debug, Clone, Copy)]
pub struct Cluster<'a> {
    pub servers: &'a [IpAddr],
    pub domain: &'a str,
}

/// Reads a resolv.conf; lines it does not know are left out.
pub fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(ToOwned::to_owned)),
            Some("search") => config.searches = words.map(|s| trim_dot(s).to_owned()).collect(),
            Some("options") => config.options = words.map(ToOwned::to_owned).collect(),
            _ => {}
        }
    }
    config
}

fn trim_dot(domain: &str) -> &str {
    if domain.len() > 1 { domain.trim_end_matches('.') } else { domain }
}

/// The pod's configuration, and warnings for its events.
pub fn config(pod: &Pod, node: &DnsConfig, cluster: Cluster<'_>) -> (DnsConfig, Vec<(&'static str, String)>) {
    let mut warnings = Vec::new();
    let policy = spec::spec(pod).dns_policy.as_deref().unwrap_or("ClusterFirst");
    let of_cluster = policy == "ClusterFirstWithHostNet"
        || (policy != "Default" && policy != "None" && !spec::host_network(pod));
    let mut config = if policy == "None" {
        DnsConfig::default()
    } else if of_cluster && cluster.servers.is_empty() {
        warnings.push((
            "MissingClusterDNS",
            format!(
                "pod: \"{}\". kubelet does not have ClusterDNS IP configured and cannot create Pod using \"{policy}\" \
                 policy. Falling back to \"Default\" policy.",
                spec::display(pod)
            ),
        ));
        node.clone()
    } else if of_cluster {
        cluster_first(pod, node, cluster)
    } else {
        node.clone()
    };
    merge(pod, &mut config);
    limit(&mut config, &mut warnings);
    (config, warnings)
}

fn cluster_first(pod: &Pod, node: &DnsConfig, cluster: Cluster<'_>) -> DnsConfig {
    let (namespace, domain) = (spec::namespace(pod), cluster.domain);
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    searches.extend(node.searches.iter().cloned());
    DnsConfig {
        servers: cluster.servers.iter().map(ToString::to_string).collect(),
        searches: unique(searches),
        options: vec!["ndots:5".to_owned()],
    }
}

fn unique(list: Vec<String>) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(list.len());
    for item in list {
        if !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

fn merge(pod: &Pod, config: &mut DnsConfig) {
    let Some(own) = &spec::spec(pod).dns_config else { return };
    config.servers.extend(own.nameservers.iter().flatten().cloned());
    config.servers = unique(std::mem::take(&mut config.servers));
    config.searches.extend(own.searches.iter().flatten().cloned());
    config.searches = unique(std::mem::take(&mut config.searches));
    for option in own.options.iter().flatten() {
        let Some(name) = &option.name else { continue };
        let written = match option.value.as_deref() {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name.clone(),
        };
        // The pod's value of an option replaces the one it inherits.
        config.options.retain(|have| have.split(':').next() != Some(name));
        config.options.push(written);
    }
}

fn limit(config: &mut DnsConfig, warnings: &mut Vec<(&'static str, String)>) {
    const REASON: &str = "DNSConfigForming";
    if config.servers.len() > MAX_SERVERS {
        config.servers.truncate(MAX_SERVERS);
        warnings.push((
            REASON,
            format!(
                "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line \
                 is: {}",
                config.servers.join(" ")
            ),
        ));
    }
    let before = config.searches.len();
    config.searches.truncate(MAX_SEARCHES);
    while config.searches.join(" ").len() > MAX_SEARCH_CHARS {
        config.searches.pop();
    }
    if config.searches.len() < before {
        warnings.push((
            REASON,
            format!(
                "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: \
                 {}",
                config.searches.join(" ")
            ),
        ));
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{PodDNSConfig, PodDNSConfigOption, PodSpec};

    use super::*;

    fn pod(policy: &str, host_network: bool) -> Pod {
        let mut pod = Pod {
            spec: Some(PodSpec {
                dns_policy: Some(policy.into()),
                host_network: Some(host_network),
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        pod.metadata.namespace = Some("ns".into());
        pod
    }

    fn build(pod: &Pod) -> DnsConfig {
        let node = parse("# x\nnameserver 9.9.9.9\nsearch corp.example.\noptions timeout:1\n");
        let servers = ["10.96.0.10".parse().expect("ip")];
        config(pod, &node, Cluster { servers: &servers, domain: "cluster.local" }).0
    }

    #[test]
    fn policies_choose_where_names_are_asked() {
        let cluster = build(&pod("ClusterFirst", false));
        assert_eq!(cluster.servers, ["10.96.0.10"]);
        assert_eq!(
            cluster.searches,
            ["ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"]
        );
        assert_eq!(cluster.options, ["ndots:5"]);
        assert_eq!(build(&pod("ClusterFirst", true)).servers, ["9.9.9.9"]);
        assert_eq!(build(&pod("ClusterFirstWithHostNet", true)).servers, ["10.96.0.10"]);
        assert_eq!(build(&pod("Default", false)).options, ["timeout:1"]);
        assert!(build(&pod("None", false)).servers.is_empty());
    }

    #[test]
    fn a_pods_own_options_replace_inherited_ones() {
        let mut pod = pod("ClusterFirst", false);
        pod.spec.as_mut().expect("set").dns_config = Some(PodDNSConfig {
            nameservers: Some(vec!["1.1.1.1".into()]),
            searches: Some(vec!["my.example".into()]),
            options: Some(vec![
                PodDNSConfigOption { name: Some("ndots".into()), value: Some("2".into()) },
                PodDNSConfigOption { name: Some("edns0".into()), value: None },
            ]),
        });
        let built = build(&pod);
        assert_eq!(built.servers, ["10.96.0.10", "1.1.1.1"]);
        assert_eq!(built.options, ["ndots:2", "edns0"]);
        assert_eq!(built.searches.last().map(String::as_str), Some("my.example"));
    }
}
