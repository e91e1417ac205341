//! What a certificate says: whom it names and what it may be used for.

use std::net::IpAddr;

use jiff::SignedDuration;

/// The names a server answers to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
}

impl Names {
    /// What the API server's certificate must name: the `kubernetes` service under all its names, its address,
    /// this machine, and what the operator adds.
    pub fn of_api_server(domain: &str, service_ip: IpAddr, host: &str, extra: &Names) -> Self {
        let mut dns: Vec<String> =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"]
                .map(str::to_owned)
                .into();
        dns.push(format!("kubernetes.default.svc.{domain}"));
        dns.push(host.to_owned());
        dns.extend_from_slice(&extra.dns);
        let mut ips =
            vec![service_ip, IpAddr::from([127, 0, 0, 1]), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];
        ips.extend_from_slice(&extra.ips);
        dns.retain(|name| !name.is_empty());
        dns.sort();
        dns.dedup();
        ips.sort();
        ips.dedup();
        Self { dns, ips }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usage {
    Client,
    Server(Names),
    /// A kubelet serves and asks with the same identity in tests and small set-ups.
    ServerAndClient(Names),
}

/// A certificate to issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The subject's CN: for clients the user's name.
    pub common_name: String,
    /// The subject's O: for clients the user's group.
    pub organization: Option<String>,
    pub usage: Usage,
    pub lifetime: SignedDuration,
}

/// How long what we issue to ourselves is valid. It is replaced after two thirds of that.
pub const SHORT: SignedDuration = SignedDuration::from_hours(24);

/// The client certificate of a control-plane component or user.
pub fn component(user: &str, group: Option<&str>, lifetime: SignedDuration) -> Profile {
    Profile {
        common_name: user.to_owned(),
        organization: group.map(str::to_owned),
        usage: Usage::Client,
        lifetime,
    }
}

/// The client certificate of a node's agent.
pub fn node(name: &str, lifetime: SignedDuration) -> Profile {
    component(&format!("system:node:{name}"), Some("system:nodes"), lifetime)
}
