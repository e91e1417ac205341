//! projected volumes: several sources in one directory.

use k8s_openapi::api::core::v1::{Pod, ProjectedVolumeSource, VolumeProjection};

use super::payload::{self, File, Payload};
use super::token::Tokens;
use super::{VolumeError, downward, trust_bundle};
use crate::objects::Objects;
use crate::pod::{environment::unless_optional, spec};
use crate::resources::amount::List;

pub const PLUGIN: &str = "kubernetes.io/projected";

/// What projections are read from.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    pub objects: &'a Objects,
    pub tokens: &'a Tokens,
    pub client: &'a kube::Client,
    pub allocatable: &'a List,
}

/// All sources' files; errors of all sources are told together.
pub async fn payload(
    sources: Sources<'_>,
    pod: &Pod,
    volume: &ProjectedVolumeSource,
) -> Result<Payload, VolumeError> {
    let mode = payload::mode(volume.default_mode, 0o644);
    let (mut files, mut errors) = (Payload::new(), Vec::new());
    for projection in volume.sources.iter().flatten() {
        match one(sources, pod, projection, mode).await {
            Ok(more) => files.extend(more),
            Err(error) => errors.push(error),
        }
    }
    match errors.len() {
        0 => Ok(files),
        1 => Err(errors.remove(0)),
        _ => {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Err(VolumeError::Invalid(format!("[{}]", texts.join(", "))))
        }
    }
}

async fn one(
    sources: Sources<'_>,
    pod: &Pod,
    projection: &VolumeProjection,
    mode: u32,
) -> Result<Payload, VolumeError> {
    let namespace = spec::namespace(pod);
    if let Some(source) = &projection.secret {
        let optional = source.optional.unwrap_or(false);
        let found = unless_optional(sources.objects.secret(namespace, &source.name).await, optional)?;
        return payload::of_secret(found.as_deref(), source.items.as_deref(), mode, optional);
    }
    if let Some(source) = &projection.config_map {
        let optional = source.optional.unwrap_or(false);
        let found = unless_optional(sources.objects.config_map(namespace, &source.name).await, optional)?;
        return payload::of_config_map(found.as_deref(), source.items.as_deref(), mode, optional);
    }
    if let Some(source) = &projection.downward_api {
        let items = source.items.as_deref().unwrap_or_default();
        return downward::payload(pod, items, mode, sources.allocatable);
    }
    if let Some(source) = &projection.service_account_token {
        let token = sources.tokens.get(pod, source).await?;
        let owner = only_user(pod);
        let group = spec::spec(pod).security_context.as_ref().and_then(|c| c.fs_group);
        let private = owner.is_some() || group.is_some();
        let file = File { data: token.into_bytes(), mode: if private { 0o600 } else { mode }, uid: owner };
        return Ok(Payload::from([(source.path.clone(), file)]));
    }
    if let Some(source) = &projection.cluster_trust_bundle {
        let data = trust_bundle::read(sources.client, source).await?;
        let file = File { data: data.into_bytes(), mode, uid: None };
        return Ok(Payload::from([(source.path.clone(), file)]));
    }
    Ok(Payload::new())
}

/// The user all containers run as, where it is one: it alone then owns tokens.
fn only_user(pod: &Pod) -> Option<u32> {
    let of_pod = spec::spec(pod).security_context.as_ref().and_then(|c| c.run_as_user);
    let mut users = spec::containers(pod)
        .iter()
        .chain(spec::init_containers(pod))
        .map(|container| container.security_context.as_ref().and_then(|c| c.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then(|| u32::try_from(first).ok())?
}
