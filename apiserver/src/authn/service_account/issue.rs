//! The `token` subresource of service accounts.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use knarr_api::status::{Cause, Status, reason};
use knarr_api::time::SharedClock;
use serde::Deserialize;
use serde_json::{Value, json};

use super::claims::{Claims, NamedUid, Private};
use super::username;
use crate::admission::Remarks;
use crate::objects::{Objects, Resource};
use crate::pki::SigningKey;

/// Pods' tokens are asked for with just over an hour; such a token warns then but lives a year, so that programs
/// that read it once go on (upstream's `WarnOnlyBoundTokenExpirationSeconds` and its extension).
const WARN_ONLY_SECONDS: i64 = 60 * 60 + 7;
const EXTENDED_SECONDS: i64 = 365 * 24 * 60 * 60;
const DEFAULT_SECONDS: i64 = 60 * 60;
const MIN_SECONDS: i64 = 10 * 60;
const MAX_SECONDS: i64 = 1 << 32;

/// Issues tokens.
pub struct TokenIssuer {
    pub key: Arc<SigningKey>,
    /// The `iss` of what is issued.
    pub issuer: String,
    /// For whom a token is that names no audience.
    pub audiences: Vec<String>,
    /// The longest life of a token; `None` leaves it to the request.
    pub max_expiration: Option<SignedDuration>,
    pub objects: Arc<dyn Objects>,
    pub clock: SharedClock,
}

/// A TokenRequest for one service account.
#[derive(Debug)]
pub struct Request<'a> {
    pub namespace: &'a str,
    /// The service account of the URL.
    pub name: &'a str,
    /// The decoded `authentication.k8s.io/v1 TokenRequest`.
    pub object: Value,
    pub remarks: &'a Remarks,
}

#[derive(Debug, Deserialize)]
struct Object {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Meta {
    #[serde(default)]
    uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(default)]
    service_account_name: String,
    #[serde(default)]
    node_name: String,
}

/// What a token is bound to.
#[derive(Debug, Default)]
struct Binding {
    pod: Option<NamedUid>,
    secret: Option<NamedUid>,
    node: Option<NamedUid>,
}

impl TokenIssuer {
    /// Answers a TokenRequest with the request completed by its status.
    ///
    /// Errors are upstream's: the service account or bound object does not exist, the uid is another's, the
    /// duration is out of range, the object is of a kind that tokens are not bound to.
    pub async fn issue(&self, request: Request<'_>) -> Result<Value, Status> {
        let Request { namespace, name, mut object, remarks } = request;
        check_metadata(&object, namespace, name)?;
        let account = self.read("serviceaccounts", namespace, name).await?;
        let wanted_uid = text(&object["metadata"]["uid"]);
        if !wanted_uid.is_empty() && wanted_uid != account.metadata.uid {
            return Err(Status::conflict(
                "authentication.k8s.io",
                "TokenRequest",
                name,
                format!(
                    "the UID in the token request ({wanted_uid}) does not match the UID of the service account ({})",
                    account.metadata.uid
                ),
            ));
        }
        let now = self.clock.now();
        self.complete(&mut object, namespace, name, &account.metadata.uid, now, remarks)?;
        let binding = self.bind(&object["spec"]["boundObjectRef"], namespace, name).await?;
        let claims = self.claims(&object["spec"], namespace, name, account.metadata.uid, binding, now);
        remarks.annotate("authentication.kubernetes.io/issued-credential-id", format!("JTI={}", claims.jti));
        let token = self
            .key
            .sign(&claims)
            .map_err(|error| Status::internal(format!("failed to generate token: {error}")))?;
        let seconds = object["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
        let expires =
            Timestamp::from_second(now.as_second().saturating_add(seconds)).map_err(Status::internal)?;
        object["status"] = json!({"token": token, "expirationTimestamp": expires.to_string()});
        Ok(object)
    }

    fn complete(
        &self,
        object: &mut Value,
        namespace: &str,
        name: &str,
        uid: &str,
        now: Timestamp,
        remarks: &Remarks,
    ) -> Result<(), Status> {
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        object["metadata"]["name"] = name.into();
        object["metadata"]["namespace"] = namespace.into();
        object["metadata"]["uid"] = uid.into();
        object["metadata"]["creationTimestamp"] = whole_seconds(now).to_string().into();
        let spec = &mut object["spec"];
        if spec["audiences"].as_array().is_none_or(Vec::is_empty) {
            spec["audiences"] = json!(self.audiences);
        }
        let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
        let bad = |message: &str| {
            let message = format!("Invalid value: {seconds}: {message}");
            let cause = Cause::new("FieldValueInvalid", "spec.expirationSeconds", message);
            Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", [cause]))
        };
        if seconds < MIN_SECONDS {
            return bad("may not specify a duration less than 10 minutes");
        }
        if seconds > MAX_SECONDS {
            return bad("may not specify a duration larger than 2^32 seconds");
        }
        let longest = self.max_expiration.map_or(i64::MAX, |longest| longest.as_secs());
        if seconds > longest {
            remarks.warn(format!("requested expiration of {seconds} seconds shortened to {longest} seconds"));
        }
        spec["expirationSeconds"] = seconds.min(longest).into();
        Ok(())
    }

    async fn bind(&self, reference: &Value, namespace: &str, account: &str) -> Result<Binding, Status> {
        if !reference.is_object() {
            return Ok(Binding::default());
        }
        let (version, kind) = (text(&reference["apiVersion"]), text(&reference["kind"]));
        let name = text(&reference["name"]);
        let mut binding = Binding::default();
        let named = |uid: &str| Some(NamedUid { name: name.to_owned(), uid: uid.to_owned() });
        let uid = match (version, kind) {
            ("v1" | "", "Pod") => {
                let pod = self.read("pods", namespace, name).await?;
                if pod.spec.service_account_name != account {
                    return Err(Status::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                binding.pod = named(&pod.metadata.uid);
                binding.node = self.node_of(&pod.spec.node_name).await?;
                pod.metadata.uid
            }
            ("v1" | "", "Node") => {
                let node = self.read("nodes", "", name).await?;
                binding.node = named(&node.metadata.uid);
                node.metadata.uid
            }
            ("v1" | "", "Secret") => {
                let secret = self.read("secrets", namespace, name).await?;
                binding.secret = named(&secret.metadata.uid);
                secret.metadata.uid
            }
            _ => {
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                let separator = if group.is_empty() { "" } else { "/" };
                return Err(Status::bad_request(format!(
                    "cannot bind token to object of type {group}{separator}{version}, Kind={kind}"
                )));
            }
        };
        let wanted = text(&reference["uid"]);
        if !wanted.is_empty() && wanted != uid {
            return Err(Status::conflict(
                "",
                kind,
                name,
                format!(
                    "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
                ),
            ));
        }
        Ok(binding)
    }

    /// The node a bound pod runs on; by name only where the Node object does not exist.
    async fn node_of(&self, name: &str) -> Result<Option<NamedUid>, Status> {
        if name.is_empty() {
            return Ok(None);
        }
        let uid = match self.read("nodes", "", name).await {
            Ok(node) => node.metadata.uid,
            Err(status) if status.is(reason::NOT_FOUND) => String::new(),
            Err(error) => return Err(error),
        };
        Ok(Some(NamedUid { name: name.to_owned(), uid }))
    }

    fn claims(
        &self,
        spec: &Value,
        namespace: &str,
        name: &str,
        uid: String,
        binding: Binding,
        now: Timestamp,
    ) -> Claims {
        let now = now.as_second();
        let aud: Vec<String> =
            spec["audiences"].as_array().into_iter().flatten().map(|a| text(a).to_owned()).collect();
        let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
        let extend = binding.pod.is_some()
            && seconds == WARN_ONLY_SECONDS
            && aud.iter().all(|audience| self.audiences.contains(audience));
        let (seconds, warnafter) = match extend {
            true => (self.longest_extended(), Some(now.saturating_add(seconds))),
            false => (seconds, None),
        };
        Claims {
            aud,
            exp: Some(now.saturating_add(seconds)),
            iat: Some(now),
            iss: self.issuer.clone(),
            jti: random_uuid(),
            kubernetes: Private {
                namespace: namespace.to_owned(),
                node: binding.node,
                pod: binding.pod,
                secret: binding.secret,
                serviceaccount: NamedUid { name: name.to_owned(), uid },
                warnafter,
            },
            nbf: Some(now),
            sub: username(namespace, name),
        }
    }

    fn longest_extended(&self) -> i64 {
        self.max_expiration.map_or(EXTENDED_SECONDS, |longest| longest.as_secs().min(EXTENDED_SECONDS))
    }

    async fn read(&self, plural: &'static str, namespace: &str, name: &str) -> Result<Object, Status> {
        let stored = self
            .objects
            .get_live(Resource::core(plural), namespace, name)
            .await
            .map_err(Status::internal)?
            .ok_or_else(|| Status::not_found("", plural, name))?;
        serde_json::from_slice(&stored.json)
            .map_err(|error| Status::internal(format!("{plural} {namespace}/{name} does not parse: {error}")))
    }
}

fn check_metadata(object: &Value, namespace: &str, name: &str) -> Result<(), Status> {
    for (field, wanted) in [("name", name), ("namespace", namespace)] {
        let given = text(&object["metadata"][field]);
        if !given.is_empty() && given != wanted {
            let message =
                format!("Invalid value: {given:?}: must match the service account {field} if specified");
            let cause = Cause::new("FieldValueInvalid", format!("metadata.{field}"), message);
            return Err(Status::invalid("authentication.k8s.io", "TokenRequest", name, [cause]));
        }
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn whole_seconds(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// A version 4 UUID from the TLS library's generator: a token's id must not be guessable.
pub(crate) fn random_uuid() -> String {
    let mut bytes = [0u8; 16];
    let provider = crate::pki::provider();
    if provider.secure_random.fill(&mut bytes).is_err() {
        // Without randomness no TLS handshake works either; an empty id only loses traceability.
        return String::new();
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
