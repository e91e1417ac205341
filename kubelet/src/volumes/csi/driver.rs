//! What the cluster says of a driver, in its CSIDriver object.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Secret, SecretReference, ServiceAccountTokenProjection};
use k8s_openapi::api::storage::v1::{CSIDriver, CSIDriverSpec};
use knarr_client::Api;
use serde_json::json;

use super::wanted::{EPHEMERAL, Wanted};
use super::{VolumeError, log};
use crate::pod::spec;
use crate::volumes::ownership::Ownership;
use crate::volumes::token::Tokens;

type Pairs = BTreeMap<String, String>;

const DEFAULT_FS_GROUP_POLICY: &str = "ReadWriteOnceWithFSType";

/// A driver's object; there need not be one.
pub struct Facts(Option<CSIDriverSpec>);

impl Facts {
    pub async fn read(client: &kube::Client, driver: &str) -> kube::Result<Self> {
        let found = Api::<CSIDriver>::all(client.clone()).get_opt(driver).await?;
        Ok(Self(found.map(|driver| driver.spec)))
    }

    fn is_set(&self, field: impl Fn(&CSIDriverSpec) -> Option<bool>) -> Option<bool> {
        self.0.as_ref().and_then(field)
    }

    /// A driver that says nothing wants its volumes attached.
    pub fn attach_required(&self) -> bool {
        self.is_set(|driver| driver.attach_required).unwrap_or(true)
    }

    pub fn requires_republish(&self) -> bool {
        self.is_set(|driver| driver.requires_republish).unwrap_or(false)
    }

    /// Whether the driver has volumes of this lifecycle.
    pub fn check_lifecycle(&self, wanted: &Wanted) -> Result<(), String> {
        let (mode, driver) = (wanted.lifecycle, &wanted.driver);
        match &self.0 {
            None if wanted.is_persistent() => Ok(()),
            None => {
                Err(format!("volume mode {mode:?} not supported by driver {driver} (no CSIDriver object)"))
            }
            Some(found) => {
                let modes = found.volume_lifecycle_modes.as_deref().unwrap_or_default();
                if modes.iter().any(|known| known == mode) {
                    return Ok(());
                }
                let quoted: Vec<String> = modes.iter().map(|mode| format!("{mode:?}")).collect();
                let only = quoted.join(" ");
                Err(format!("volume mode {mode:?} not supported by driver {driver} (only supports [{only}])"))
            }
        }
    }

    /// Whether the files are given to the pod's group by us.
    pub fn supports_group(&self, wanted: &Wanted, owner: &Ownership) -> bool {
        let policy = self.0.as_ref().and_then(|driver| driver.fs_group_policy.as_deref());
        match policy.unwrap_or(DEFAULT_FS_GROUP_POLICY) {
            _ if owner.group.is_none() || wanted.read_only => false,
            "None" => false,
            "File" => true,
            _ if wanted.fs_type.is_empty() => false,
            _ => wanted.access_modes.as_ref().is_none_or(|modes| {
                modes.iter().any(|mode| matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod"))
            }),
        }
    }

    /// What the driver is told of the pod, if it wants to be.
    pub fn pod_info(&self, pod: &Pod, wanted: &Wanted) -> Pairs {
        if !self.is_set(|driver| driver.pod_info_on_mount).unwrap_or(false) {
            return Pairs::new();
        }
        let account = spec::spec(pod).service_account_name.clone().unwrap_or_default();
        [
            ("csi.storage.k8s.io/pod.name", spec::name(pod).to_owned()),
            ("csi.storage.k8s.io/pod.namespace", spec::namespace(pod).to_owned()),
            ("csi.storage.k8s.io/pod.uid", spec::uid(pod).to_owned()),
            ("csi.storage.k8s.io/serviceAccount.name", account),
            ("csi.storage.k8s.io/ephemeral", (wanted.lifecycle == EPHEMERAL).to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into()
    }

    /// Tokens of the pod's service account that the driver asks for, and whether they go among the secrets.
    pub async fn tokens(&self, pod: &Pod, tokens: &Tokens) -> Result<(Pairs, bool), VolumeError> {
        let Some(driver) = &self.0 else { return Ok((Pairs::new(), false)) };
        let requests = driver.token_requests.as_deref().unwrap_or_default();
        if requests.is_empty() {
            return Ok((Pairs::new(), false));
        }
        let mut issued = serde_json::Map::new();
        for request in requests {
            let projection = ServiceAccountTokenProjection {
                audience: Some(request.audience.clone()),
                expiration_seconds: request.expiration_seconds,
                ..ServiceAccountTokenProjection::default()
            };
            let token = tokens.issue(pod, &projection).await?;
            let expires = token.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            issued.insert(
                request.audience.clone(),
                json!({ "token": token.token, "expirationTimestamp": expires }),
            );
        }
        let all = serde_json::Value::Object(issued).to_string();
        let secret = driver.service_account_token_in_secrets.unwrap_or(false);
        Ok(([("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), all)].into(), secret))
    }
}

/// A secret's data, for a driver.
pub async fn credentials(client: &kube::Client, secret: &SecretReference) -> Result<Pairs, VolumeError> {
    let name = secret.name.as_deref().unwrap_or_default();
    let namespace = secret.namespace.as_deref().unwrap_or_default();
    let found = Api::<Secret>::namespaced(client.clone(), namespace).get(name).await.map_err(|error| {
        log(format_args!("failed to find the secret {name} in the namespace {namespace} with error: {error}"))
    })?;
    let mut pairs = Pairs::new();
    for (key, value) in found.data.into_iter().flatten() {
        let value = String::from_utf8(value.0).map_err(|_| {
            log(format_args!("value of {key} in the secret {name} in the namespace {namespace} is not UTF-8"))
        })?;
        pairs.insert(key, value);
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(fs_type: &str, modes: Option<&[&str]>) -> Wanted {
        let mut wanted = Wanted::persistent(&Default::default(), &Default::default(), false);
        wanted.fs_type = fs_type.to_owned();
        wanted.driver = "d".to_owned();
        wanted.access_modes = modes.map(|modes| modes.iter().map(ToString::to_string).collect());
        wanted
    }

    fn facts(policy: &str, modes: &[&str]) -> Facts {
        Facts(Some(CSIDriverSpec {
            fs_group_policy: Some(policy.to_owned()),
            volume_lifecycle_modes: Some(modes.iter().map(ToString::to_string).collect()),
            ..CSIDriverSpec::default()
        }))
    }

    #[test]
    fn files_go_to_the_group_as_the_policy_says() {
        let owner = Ownership { group: Some(7), ..Ownership::default() };
        let once = wanted("ext4", Some(&["ReadWriteOnce"]));
        assert!(Facts(None).supports_group(&once, &owner));
        assert!(!Facts(None).supports_group(&once, &Ownership::default()));
        assert!(!Facts(None).supports_group(&wanted("", Some(&["ReadWriteOnce"])), &owner));
        assert!(!Facts(None).supports_group(&wanted("ext4", Some(&["ReadWriteMany"])), &owner));
        assert!(Facts(None).supports_group(&wanted("ext4", None), &owner));
        assert!(facts("File", &[]).supports_group(&wanted("", Some(&["ReadWriteMany"])), &owner));
        assert!(!facts("None", &[]).supports_group(&once, &owner));
        assert!(!facts("File", &[]).supports_group(&Wanted { read_only: true, ..once }, &owner));
    }

    #[test]
    fn lifecycles_must_be_listed() {
        let inline = Wanted { lifecycle: EPHEMERAL, ..wanted("", None) };
        assert_eq!(
            Facts(None).check_lifecycle(&inline).expect_err("unknown driver"),
            "volume mode \"Ephemeral\" not supported by driver d (no CSIDriver object)"
        );
        assert_eq!(
            facts("File", &["Persistent"]).check_lifecycle(&inline).expect_err("not listed"),
            "volume mode \"Ephemeral\" not supported by driver d (only supports [\"Persistent\"])"
        );
        assert!(facts("File", &["Persistent", "Ephemeral"]).check_lifecycle(&inline).is_ok());
        assert!(Facts(None).check_lifecycle(&wanted("", None)).is_ok());
    }
}
