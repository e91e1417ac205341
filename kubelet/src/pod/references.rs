//! The ConfigMaps and Secrets a pod refers to, by name.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::spec;

/// Names of ConfigMaps and of Secrets in the pod's namespace.
pub fn of(pod: &Pod) -> (HashSet<String>, HashSet<String>) {
    let (mut config_maps, mut secrets) = (HashSet::new(), HashSet::new());
    let ephemeral: Vec<Container> = spec::ephemeral_containers(pod).iter().map(spec::as_container).collect();
    for container in spec::containers(pod).iter().chain(spec::init_containers(pod)).chain(&ephemeral) {
        of_container(container, &mut config_maps, &mut secrets);
    }
    for reference in spec::spec(pod).image_pull_secrets.iter().flatten() {
        secrets.insert(reference.name.clone());
    }
    for volume in spec::spec(pod).volumes.iter().flatten() {
        if let Some(source) = &volume.config_map {
            config_maps.insert(source.name.clone());
        }
        if let Some(source) = &volume.secret {
            secrets.extend(source.secret_name.clone());
        }
        for source in volume.projected.iter().filter_map(|p| p.sources.as_ref()).flatten() {
            config_maps.extend(source.config_map.as_ref().map(|c| c.name.clone()));
            secrets.extend(source.secret.as_ref().map(|s| s.name.clone()));
        }
    }
    config_maps.remove("");
    secrets.remove("");
    (config_maps, secrets)
}

fn of_container(container: &Container, config_maps: &mut HashSet<String>, secrets: &mut HashSet<String>) {
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        config_maps.extend(from.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
}
