//! Every pod runs as a service account that exists, with its token mounted and its pull secrets.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use knarr_api::names::generate_name;
use knarr_api::status::Status;
use knarr_api::time::SharedRandom;
use serde_json::{Value, json};

use super::lookup::Lookup;
use super::pod::{CONTAINER_LISTS, environment_secrets, is_mirror, items, list_at, text};
use super::{Admission, Attributes, Operation};
use crate::objects::{Change, Resource};

const ACCOUNTS: Resource<'static> = Resource::core("serviceaccounts");
const DEFAULT: &str = "default";
const VOLUME_PREFIX: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Just over an hour, by which the token issuer knows pods' own tokens.
const TOKEN_SECONDS: i64 = 60 * 60 + 7;
const MODE: i64 = 0o644;
const ENFORCE_ANNOTATION: &str = "kubernetes.io/enforce-mountable-secrets";
/// A controller makes the default account of a new namespace; a pod that is faster waits for it this long.
const PATIENCE: Duration = Duration::from_secs(1);

pub struct ServiceAccount {
    pub lookup: Lookup,
    pub random: SharedRandom,
}

impl ServiceAccount {
    async fn account(&self, attributes: &Attributes, name: &str) -> Result<Value, Status> {
        let namespace = attributes.namespace.as_str();
        let mut found = self.lookup.get(ACCOUNTS, namespace, name).await?;
        if found.is_none() && name == DEFAULT {
            // Running out of patience is the answer "not found", which is given below.
            found = tokio::time::timeout(PATIENCE, self.appearing(namespace, name)).await.ok().flatten();
        }
        found.ok_or_else(|| {
            attributes.forbidden(format!(
                "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
            ))
        })
    }

    async fn appearing(&self, namespace: &str, name: &str) -> Option<Value> {
        let mut changes = self.lookup.0.watch(ACCOUNTS);
        while let Some(change) = changes.next().await {
            if let Change::Set(stored) = change
                && *stored.namespace == *namespace
                && *stored.name == *name
            {
                return serde_json::from_slice(&stored.json).ok();
            }
        }
        None
    }

    fn complete(&self, pod: &mut Value, account: &Value) {
        let preference = pod["spec"]["automountServiceAccountToken"].as_bool();
        if preference.or(account["automountServiceAccountToken"].as_bool()).unwrap_or(true) {
            self.mount_token(&mut pod["spec"]);
        }
        let none = pod["spec"]["imagePullSecrets"].as_array().is_none_or(Vec::is_empty);
        let secrets: Vec<Value> =
            items(&account["imagePullSecrets"]).map(|secret| json!({"name": secret["name"]})).collect();
        if none && !secrets.is_empty() {
            pod["spec"]["imagePullSecrets"] = secrets.into();
        }
    }

    fn mount_token(&self, spec: &mut Value) {
        let present = items(&spec["volumes"])
            .map(|volume| text(&volume["name"]))
            .find(|name| name.starts_with(VOLUME_PREFIX));
        let (name, is_new) = match present {
            Some(name) => (name.to_owned(), false),
            None => (generate_name(VOLUME_PREFIX, &*self.random), true),
        };
        let mut mounted = false;
        for list in ["initContainers", "containers"] {
            let containers = spec.get_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                // A container that mounts something there itself does not get the token.
                if items(&container["volumeMounts"]).any(|mount| mount["mountPath"] == MOUNT_PATH) {
                    continue;
                }
                if let Some(mounts) = list_at(container, "volumeMounts") {
                    mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
                    mounted = true;
                }
            }
        }
        if is_new
            && mounted
            && let Some(volumes) = list_at(spec, "volumes")
        {
            volumes.push(token_volume(&name));
        }
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": MODE, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
        ]}},
    ]}})
}

/// What a node's own pods may not have.
fn check_mirror(attributes: &Attributes, pod: &Value) -> Result<(), Status> {
    let spec = &pod["spec"];
    if !text(&spec["serviceAccountName"]).is_empty() {
        return Err(attributes.forbidden("a mirror pod may not reference service accounts"));
    }
    let in_environment = CONTAINER_LISTS
        .iter()
        .flat_map(|(list, _)| items(&spec[*list]))
        .any(|container| environment_secrets(container).next().is_some());
    let volume_secret =
        |volume: &Value| {
            volume["secret"].is_object()
                || volume["azureFile"].is_object()
                || items(&volume["projected"]["sources"]).any(|source| source["secret"].is_object())
                || volume.as_object().into_iter().flat_map(|v| v.values()).any(|source| {
                    source["secretRef"].is_object() || source["nodePublishSecretRef"].is_object()
                })
        };
    let pulls = items(&spec["imagePullSecrets"]).next().is_some();
    if in_environment || pulls || items(&spec["volumes"]).any(volume_secret) {
        return Err(attributes.forbidden("a mirror pod may not reference secrets"));
    }
    let tokens = items(&spec["volumes"])
        .flat_map(|volume| items(&volume["projected"]["sources"]))
        .any(|source| source["serviceAccountToken"].is_object());
    if tokens {
        return Err(attributes.forbidden("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

fn enforces(account: &Value) -> bool {
    matches!(
        text(&account["metadata"]["annotations"][ENFORCE_ANNOTATION]),
        "1" | "t" | "T" | "true" | "TRUE" | "True"
    )
}

fn names(list: &Value) -> BTreeSet<&str> {
    items(list).map(|reference| text(&reference["name"])).collect()
}

/// For accounts that say so: a pod uses only the secrets its account names.
fn limit_secrets(account: &Value, pod: &Value, lists: &[(&str, &str)]) -> Result<(), String> {
    let account_name = text(&account["metadata"]["name"]);
    let mountable = names(&account["secrets"]);
    for (list, what) in lists {
        for container in items(&pod["spec"][*list]) {
            let name = text(&container["name"]);
            let mut secrets = environment_secrets(container);
            if let Some((variable, secret)) = secrets.find(|(_, secret)| !mountable.contains(secret)) {
                let by = variable.map_or("envFrom".to_owned(), |variable| format!("envVar {variable}"));
                return Err(format!(
                    "{what} {name} with {by} referencing secret.secretName=\"{secret}\" is not allowed because service account {account_name} does not reference that secret"
                ));
            }
        }
    }
    Ok(())
}

fn limit_pod(account: &Value, pod: &Value) -> Result<(), String> {
    let account_name = text(&account["metadata"]["name"]);
    let mountable = names(&account["secrets"]);
    let volumes = items(&pod["spec"]["volumes"]).filter_map(|volume| volume["secret"]["secretName"].as_str());
    if let Some(secret) = volumes.into_iter().find(|secret| !mountable.contains(secret)) {
        return Err(format!(
            "volume with secret.secretName=\"{secret}\" is not allowed because service account {account_name} does not reference that secret"
        ));
    }
    limit_secrets(account, pod, &CONTAINER_LISTS[..2])?;
    let pulls = names(&account["imagePullSecrets"]);
    for (index, secret) in items(&pod["spec"]["imagePullSecrets"]).map(|s| text(&s["name"])).enumerate() {
        if !pulls.contains(secret) {
            return Err(format!(
                "imagePullSecrets[{index}].name=\"{secret}\" is not allowed because service account {account_name} does not reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}

#[async_trait]
impl Admission for ServiceAccount {
    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        if !attributes.is("", "pods") || attributes.operation != Operation::Create {
            return Ok(());
        }
        let Some(pod) = attributes.object.as_ref().filter(|pod| pod["spec"].is_object()) else {
            return Ok(());
        };
        if is_mirror(pod) {
            return Ok(());
        }
        // The field's old name is kept in step with the new one.
        let given = [&pod["spec"]["serviceAccountName"], &pod["spec"]["serviceAccount"]];
        let name = given.into_iter().map(text).find(|name| !name.is_empty()).unwrap_or(DEFAULT).to_owned();
        let account = self.account(attributes, &name).await?;
        if let Some(pod) = &mut attributes.object {
            pod["spec"]["serviceAccountName"] = name.as_str().into();
            pod["spec"]["serviceAccount"] = name.into();
            self.complete(pod, &account);
        }
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        let ephemeral =
            attributes.operation == Operation::Update && attributes.subresource == "ephemeralcontainers";
        let create = attributes.operation == Operation::Create && attributes.subresource.is_empty();
        let Some(pod) = &attributes.object else { return Ok(()) };
        if !attributes.is_resource("", "pods") || !(create || ephemeral) {
            return Ok(());
        }
        if create && is_mirror(pod) {
            return check_mirror(attributes, pod);
        }
        let name = text(&pod["spec"]["serviceAccountName"]);
        if name.is_empty() {
            let pod = text(&pod["metadata"]["name"]);
            return Err(attributes
                .forbidden(format!("no service account specified for pod {}/{pod}", attributes.namespace)));
        }
        let account = self.account(attributes, name).await?;
        if !enforces(&account) {
            return Ok(());
        }
        match ephemeral {
            true => limit_secrets(&account, pod, &CONTAINER_LISTS[2..]),
            false => limit_pod(&account, pod),
        }
        .map_err(|why| attributes.forbidden(why))
    }
}
