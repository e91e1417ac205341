//! Where a registry's content comes from: containerd's layout, `<directory>/<registry>/hosts.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Error, Result};

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// Directory with one directory per registry, and `_default` for all others; `None` is no configuration.
    pub directory: Option<PathBuf>,
}

/// One place to ask, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Up to and with `/v2`.
    pub base: String,
    pub skip_verify: bool,
    pub authorities: Vec<PathBuf>,
    pub headers: Vec<(String, String)>,
    /// The registry a mirror stands for.
    pub namespace: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct File {
    server: Option<String>,
    #[serde(flatten)]
    fallback: Host,
    /// In the order of the file, which decides; see [`order`].
    #[serde(default)]
    host: BTreeMap<String, Host>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Host {
    capabilities: Option<Vec<String>>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    ca: OneOrMany,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn iter(&self) -> impl Iterator<Item = &String> {
        match self {
            OneOrMany::None => [].iter(),
            OneOrMany::One(one) => std::slice::from_ref(one).iter(),
            OneOrMany::Many(many) => many.iter(),
        }
    }
}

impl RegistryConfig {
    /// Mirrors that may serve what is asked for, then the registry itself. `resolve`: to learn what a tag means.
    pub fn endpoints(&self, registry: &str, resolve: bool) -> Result<Vec<Endpoint>> {
        let Some((directory, text)) = self.read(registry)? else { return Ok(vec![direct(registry)]) };
        let invalid = |reason: String| Error::InvalidDocument {
            what: directory.join("hosts.toml").display().to_string(),
            reason,
        };
        let file: File = toml::from_str(&text).map_err(|error| invalid(error.message().to_owned()))?;
        let mut found = Vec::new();
        for name in order(&text, &file) {
            let host = &file.host[&name];
            let may = |what: &str| host.capabilities.as_ref().is_none_or(|all| all.iter().any(|c| c == what));
            if may("pull") && (!resolve || may("resolve")) {
                found.push(endpoint(&directory, &name, host, registry, true));
            }
        }
        match &file.server {
            Some(server) => found.push(endpoint(&directory, server, &file.fallback, registry, false)),
            None => found.push(direct(registry)),
        }
        Ok(found)
    }

    fn read(&self, registry: &str) -> Result<Option<(PathBuf, String)>> {
        let Some(base) = &self.directory else { return Ok(None) };
        // A colon is not possible in names everywhere: containerd knows `host_port_` too.
        for name in [registry.to_owned(), format!("{}_", registry.replace(':', "_")), "_default".to_owned()] {
            let directory = base.join(&name);
            match std::fs::read_to_string(directory.join("hosts.toml")) {
                Ok(text) => return Ok(Some((directory, text))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(Error::Io { doing: format!("read hosts.toml of {registry}"), source });
                }
            }
        }
        Ok(None)
    }
}

/// Mirrors are tried as the file lists them, which a map forgets.
fn order(text: &str, file: &File) -> Vec<String> {
    let mut names: Vec<String> = file.host.keys().cloned().collect();
    names.sort_by_key(|name| text.find(&format!("\"{name}\"")).unwrap_or(usize::MAX));
    names
}

fn endpoint(directory: &Path, url: &str, host: &Host, registry: &str, mirror: bool) -> Endpoint {
    let scheme = if url.contains("://") { "" } else { "https://" };
    let plain = format!("{scheme}{}", url.trim_end_matches('/'));
    let base = if host.override_path || plain.ends_with("/v2") { plain } else { format!("{plain}/v2") };
    Endpoint {
        base,
        skip_verify: host.skip_verify,
        authorities: host.ca.iter().map(|path| directory.join(path)).collect(),
        headers: host
            .header
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name.clone(), value.clone())))
            .collect(),
        namespace: mirror.then(|| registry.to_owned()),
    }
}

/// The registry itself; plain HTTP on the loopback, where nobody listens in.
fn direct(registry: &str) -> Endpoint {
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let scheme = if is_loopback(host) { "http" } else { "https" };
    Endpoint {
        base: format!("{scheme}://{host}/v2"),
        skip_verify: false,
        authorities: Vec::new(),
        headers: Vec::new(),
        namespace: None,
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_configuration_the_registry_is_asked() {
        let config = RegistryConfig::default();
        let base = |registry: &str| config.endpoints(registry, true).expect("endpoints")[0].base.clone();
        assert_eq!(base("docker.io"), "https://registry-1.docker.io/v2");
        assert_eq!(base("localhost:5000"), "http://localhost:5000/v2");
        assert_eq!(base("[::1]:5000"), "http://[::1]:5000/v2");
        assert_eq!(base("ghcr.io"), "https://ghcr.io/v2");
    }

    #[test]
    fn mirrors_come_in_the_order_of_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let registry = directory.path().join("docker.io");
        std::fs::create_dir(&registry).expect("a directory");
        std::fs::write(
            registry.join("hosts.toml"),
            "server = \"https://up.example\"\n\
             [host.\"https://z.example\"]\n capabilities = [\"pull\", \"resolve\"]\n ca = \"z.crt\"\n\
             [host.\"http://a.example/x/v2\"]\n capabilities = [\"pull\"]\n override_path = true\n skip_verify = true\n",
        )
        .expect("a file");
        let config = RegistryConfig { directory: Some(directory.path().to_owned()) };
        let all = config.endpoints("docker.io", false).expect("endpoints");
        let bases: Vec<&str> = all.iter().map(|endpoint| endpoint.base.as_str()).collect();
        assert_eq!(bases, ["https://z.example/v2", "http://a.example/x/v2", "https://up.example/v2"]);
        assert_eq!(all[0].authorities, [registry.join("z.crt")]);
        assert!(all[1].skip_verify && all[1].namespace.as_deref() == Some("docker.io"));
        assert_eq!(config.endpoints("docker.io", true).expect("endpoints").len(), 2);
    }
}
