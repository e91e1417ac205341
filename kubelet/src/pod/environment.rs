//! A container's environment: env, envFrom, downward API, services, and the expansion of `$(NAME)`.

pub mod fields;
pub mod file_keys;
pub mod services;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, FileKeySelector, Pod, Secret};

use super::spec;
use crate::objects::{ObjectError, Objects};
use crate::resources::amount::List;
use crate::volumes::Mounted;
use crate::volumes::manager::MountedVolumes;

#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error("{0}")]
    Object(#[from] ObjectError),
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    NoKey { key: String, kind: &'static str, namespace: String, name: String },
    #[error("{0}")]
    Field(#[from] fields::FieldError),
    #[error("cannot find the volume {0:?} referenced by FileKeyRef")]
    NoVolume(String),
    #[error("couldn't parse env file")]
    File(#[from] file_keys::ParseError),
    #[error("environment variable key {key:?} not found in file {path:?}")]
    NoFileKey { key: String, path: String },
    #[error("services have not yet been read at least once, cannot construct envvars")]
    ServicesNotRead,
}

/// What names in values may refer to.
pub struct Source<'a> {
    pub objects: &'a Objects,
    pub services: BTreeMap<String, String>,
    pub allocatable: &'a List,
    pub pod_ips: &'a [IpAddr],
    pub host_ips: &'a [IpAddr],
    pub node_name: &'a str,
    pub volumes: &'a MountedVolumes,
}

/// Replaces `$(NAME)` where `lookup` knows the name; `$$` is a dollar, and what is unknown stays as written.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(inside) = after.strip_prefix('(') {
            match inside.find(')') {
                Some(end) => {
                    let name = &inside[..end];
                    match lookup(name) {
                        Some(value) => out.push_str(&value),
                        None => out.push_str(&rest[at..at + 3 + end]),
                    }
                    rest = &inside[end + 1..];
                }
                None => {
                    out.push_str("$(");
                    rest = inside;
                }
            }
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// Expands with literal values of `env` only, as probes' commands are.
pub fn expand_static(parts: &[String], env: &[EnvVar]) -> Vec<String> {
    let lookup =
        |name: &str| env.iter().rev().find(|e| e.name == name).map(|e| e.value.clone().unwrap_or_default());
    parts.iter().map(|part| expand(part, &lookup)).collect()
}

/// Expands with a container's whole environment, as commands and arguments are.
pub fn expand_all(parts: &[String], env: &[(String, String)]) -> Vec<String> {
    let map: HashMap<&str, &str> = env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let lookup = |name: &str| map.get(name).map(|v| (*v).to_owned());
    parts.iter().map(|part| expand(part, &lookup)).collect()
}

struct Builder<'a> {
    pod: &'a Pod,
    source: &'a Source<'a>,
    config_maps: HashMap<String, Option<Arc<ConfigMap>>>,
    secrets: HashMap<String, Option<Arc<Secret>>>,
}

/// The environment in order: declared variables first, then envFrom's, then services'.
pub async fn build(
    pod: &Pod,
    container: &Container,
    source: &Source<'_>,
) -> Result<Vec<(String, String)>, EnvironmentError> {
    let mut builder = Builder { pod, source, config_maps: HashMap::new(), secrets: HashMap::new() };
    let mut known = builder.env_from(container).await?;
    let mut order: Vec<String> = Vec::new();
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => {
                let lookup = |name: &str| known.get(name).or_else(|| source.services.get(name)).cloned();
                Some(expand(value, &lookup))
            }
            (_, Some(from)) => builder.value_from(container, from).await?,
            _ => Some(String::new()),
        };
        // An optional reference to nothing leaves the variable unset.
        if let Some(value) = value {
            known.insert(variable.name.clone(), value);
            if !order.contains(&variable.name) {
                order.push(variable.name.clone());
            }
        }
    }
    let mut result: Vec<(String, String)> =
        order.into_iter().filter_map(|name| known.remove_entry(&name)).collect();
    let declared: Vec<String> = result.iter().map(|(name, _)| name.clone()).collect();
    let services =
        source.services.iter().filter(|(name, _)| !known.contains_key(*name) && !declared.contains(name));
    let services: Vec<_> = services.map(|(k, v)| (k.clone(), v.clone())).collect();
    result.extend(known);
    result.extend(services);
    Ok(result)
}

impl Builder<'_> {
    async fn config_map(
        &mut self,
        name: &str,
        optional: bool,
    ) -> Result<Option<Arc<ConfigMap>>, ObjectError> {
        if let Some(found) = self.config_maps.get(name).filter(|found| found.is_some() || optional) {
            return Ok(found.clone());
        }
        let found = self.source.objects.config_map(spec::namespace(self.pod), name).await;
        let found = unless_optional(found, optional)?;
        self.config_maps.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    async fn secret(&mut self, name: &str, optional: bool) -> Result<Option<Arc<Secret>>, ObjectError> {
        if let Some(found) = self.secrets.get(name).filter(|found| found.is_some() || optional) {
            return Ok(found.clone());
        }
        let found = self.source.objects.secret(spec::namespace(self.pod), name).await;
        let found = unless_optional(found, optional)?;
        self.secrets.insert(name.to_owned(), found.clone());
        Ok(found)
    }

    async fn env_from(
        &mut self,
        container: &Container,
    ) -> Result<BTreeMap<String, String>, EnvironmentError> {
        let mut known = BTreeMap::new();
        for from in container.env_from.iter().flatten() {
            let prefix = from.prefix.as_deref().unwrap_or_default();
            if let Some(reference) = &from.config_map_ref {
                let found = self.config_map(&reference.name, reference.optional.unwrap_or(false)).await?;
                for (key, value) in found.iter().filter_map(|map| map.data.as_ref()).flatten() {
                    known.insert(format!("{prefix}{key}"), value.clone());
                }
            } else if let Some(reference) = &from.secret_ref {
                let found = self.secret(&reference.name, reference.optional.unwrap_or(false)).await?;
                for (key, value) in found.iter().filter_map(|secret| secret.data.as_ref()).flatten() {
                    known.insert(format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned());
                }
            }
        }
        Ok(known)
    }

    async fn value_from(
        &mut self,
        container: &Container,
        from: &EnvVarSource,
    ) -> Result<Option<String>, EnvironmentError> {
        let source = self.source;
        if let Some(field) = &from.field_ref {
            return Ok(Some(fields::value(self.pod, &field.field_path, source)?));
        }
        if let Some(resource) = &from.resource_field_ref {
            let value = fields::resource(self.pod, Some(container), resource, source.allocatable)?;
            return Ok(Some(value));
        }
        let no_key = |key: &str, kind, name: &str| EnvironmentError::NoKey {
            key: key.to_owned(),
            kind,
            namespace: spec::namespace(self.pod).to_owned(),
            name: name.to_owned(),
        };
        if let Some(reference) = &from.config_map_key_ref {
            let optional = reference.optional.unwrap_or(false);
            let missing = no_key(&reference.key, "ConfigMap", &reference.name);
            let found = self.config_map(&reference.name, optional).await?;
            let value = found.and_then(|map| map.data.as_ref()?.get(&reference.key).cloned());
            return if value.is_some() || optional { Ok(value) } else { Err(missing) };
        }
        if let Some(reference) = &from.secret_key_ref {
            let optional = reference.optional.unwrap_or(false);
            let missing = no_key(&reference.key, "Secret", &reference.name);
            let found = self.secret(&reference.name, optional).await?;
            let value = found.and_then(|secret| secret.data.as_ref()?.get(&reference.key).cloned());
            let value = value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
            return if value.is_some() || optional { Ok(value) } else { Err(missing) };
        }
        if let Some(reference) = &from.file_key_ref {
            return self.file_key(reference);
        }
        Ok(Some(String::new()))
    }

    fn file_key(&self, reference: &FileKeySelector) -> Result<Option<String>, EnvironmentError> {
        let volume = self.source.volumes.get(&reference.volume_name);
        let Some(Mounted::Path { path, .. }) = volume else {
            return Err(EnvironmentError::NoVolume(reference.volume_name.clone()));
        };
        let value = file_keys::read(path, &reference.path, &reference.key)?;
        if !value.is_empty() {
            return Ok(Some(value));
        }
        if reference.optional.unwrap_or(false) {
            return Ok(None);
        }
        Err(EnvironmentError::NoFileKey { key: reference.key.clone(), path: reference.path.clone() })
    }
}

/// A missing object that is optional is no error.
pub fn unless_optional<T>(found: Result<T, ObjectError>, optional: bool) -> Result<Option<T>, ObjectError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(ObjectError::NotFound { .. }) if optional => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expansion_knows_escapes_and_leaves_the_unknown() {
        let lookup = |name: &str| (name == "A").then(|| "x".to_owned());
        for (text, expected) in [
            ("$(A)", "x"),
            ("a$(A)b", "axb"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$x"),
            ("$(B)", "$(B)"),
            ("$(A", "$(A"),
            ("$A", "$A"),
            ("$", "$"),
            ("$()", "$()"),
            ("$($(A))", "$($(A))"),
        ] {
            assert_eq!(expand(text, &lookup), expected, "{text}");
        }
    }
}
