//! A pod's name as it sees it, and the /etc/hosts file its containers share.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{HostAlias, Pod};

use super::spec;

pub const ETC_HOSTS: &str = "/etc/hosts";
const MAX_HOSTNAME: usize = 63;
/// The kernel's limit, without the terminating zero.
const MAX_FQDN: usize = 64;

/// Hostname and, for pods with a subdomain, domain.
pub fn name_and_domain(pod: &Pod, cluster_domain: &str) -> Result<(String, String), String> {
    let spec = spec::spec(pod);
    if let Some(name) = &spec.hostname_override {
        return Ok((truncated(name)?, String::new()));
    }
    let name = spec.hostname.as_deref().filter(|name| !name.is_empty()).unwrap_or_else(|| spec::name(pod));
    let domain = match spec.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty()) {
        Some(subdomain) => format!("{subdomain}.{}.svc.{cluster_domain}", spec::namespace(pod)),
        None => String::new(),
    };
    Ok((truncated(name)?, domain))
}

fn truncated(name: &str) -> Result<String, String> {
    if name.len() <= MAX_HOSTNAME {
        return Ok(name.to_owned());
    }
    let cut: String = name.chars().take(MAX_HOSTNAME).collect();
    let cut = cut.trim_end_matches(['-', '.']);
    if cut.is_empty() { Err(format!("hostname for pod was invalid: {name:?}")) } else { Ok(cut.to_owned()) }
}

/// What `hostname` prints: the short name, or with `setHostnameAsFQDN` the full one.
pub fn kernel_hostname(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let (name, domain) = name_and_domain(pod, cluster_domain)?;
    if domain.is_empty() || !spec::spec(pod).set_hostname_as_fqdn.unwrap_or(false) {
        return Ok(name);
    }
    let full = format!("{name}.{domain}");
    if full.len() > MAX_FQDN {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long ({MAX_FQDN} is \
             the max characters allowed)"
        ));
    }
    Ok(full)
}

/// The file's text for a pod with a network of its own.
pub fn managed(ips: &[IpAddr], name: &str, domain: &str, aliases: &[HostAlias]) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n",
    );
    for ip in ips {
        if domain.is_empty() {
            text.push_str(&format!("{ip}\t{name}\n"));
        } else {
            text.push_str(&format!("{ip}\t{name}.{domain}\t{name}\n"));
        }
    }
    text + &of_aliases(aliases)
}

/// The file's text for a pod on the node's network.
pub fn of_node(hosts: &str, aliases: &[HostAlias]) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{hosts}{}", of_aliases(aliases))
}

fn of_aliases(aliases: &[HostAlias]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
        text.push_str(&format!("{}\t{names}\n", alias.ip));
    }
    text
}

/// Writes the pod's hosts file and says where it is.
pub fn write(pod: &Pod, pod_dir: &Path, ips: &[IpAddr], cluster_domain: &str) -> io::Result<PathBuf> {
    let aliases = spec::spec(pod).host_aliases.as_deref().unwrap_or_default();
    let text = if spec::host_network(pod) {
        of_node(&fs::read_to_string(ETC_HOSTS)?, aliases)
    } else {
        let (name, domain) = name_and_domain(pod, cluster_domain).map_err(io::Error::other)?;
        managed(ips, &name, &domain, aliases)
    };
    let path = pod_dir.join("etc-hosts");
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;

    use super::*;

    #[test]
    fn subdomains_give_a_full_name() {
        let mut pod = Pod {
            spec: Some(PodSpec {
                hostname: Some("web-0".into()),
                subdomain: Some("db".into()),
                set_hostname_as_fqdn: Some(true),
                ..PodSpec::default()
            }),
            ..Pod::default()
        };
        pod.metadata.name = Some("p".into());
        pod.metadata.namespace = Some("n".into());
        assert_eq!(kernel_hostname(&pod, "cluster.local").expect("short"), "web-0.db.n.svc.cluster.local");
        let text = managed(&["10.1.0.5".parse().expect("ip")], "web-0", "db.n.svc.cluster.local", &[]);
        assert!(text.ends_with("10.1.0.5\tweb-0.db.n.svc.cluster.local\tweb-0\n"));
        pod.spec.as_mut().expect("set").subdomain = Some("s".repeat(60));
        assert!(kernel_hostname(&pod, "cluster.local").is_err());
    }

    #[test]
    fn long_names_are_cut_to_what_the_kernel_takes() {
        let mut pod = Pod::default();
        pod.metadata.name = Some(format!("{}-{}", "a".repeat(62), "b".repeat(10)));
        assert_eq!(name_and_domain(&pod, "x").expect("valid").0, "a".repeat(62));
    }
}
