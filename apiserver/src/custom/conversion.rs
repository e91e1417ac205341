//! Custom resources from one of their versions to another: by renaming, or by a webhook.

use std::time::Duration;

use knarr_api::field::quote;
use knarr_api::status::Status;
use serde_json::{Value, json};

use super::definition::WebhookConversion;
use crate::admission::Caller;
use crate::object;

const TIMEOUT: Duration = Duration::from_secs(30);

/// How objects of one definition get from one version to another.
pub enum Conversion {
    /// All versions have the same schema.
    Rename,
    Webhook {
        webhook: WebhookConversion,
        /// Absent in a server that reaches nobody.
        caller: Option<Caller>,
    },
}

impl Conversion {
    /// Objects in another version. Those that are in it already are not touched.
    pub async fn convert(&self, mut objects: Vec<Value>, api_version: &str) -> Result<Vec<Value>, Status> {
        let differing: Vec<usize> =
            (0..objects.len()).filter(|at| objects[*at]["apiVersion"] != *api_version).collect();
        if differing.is_empty() {
            return Ok(objects);
        }
        let Self::Webhook { webhook, caller } = self else {
            for at in differing {
                objects[at]["apiVersion"] = api_version.into();
            }
            return Ok(objects);
        };
        let originals: Vec<Value> = differing.iter().map(|at| objects[*at].take()).collect();
        let by = format!("conversion webhook for {}", kind_of(&originals[0]));
        let failed = |why: String| Status::failure(500, "", format!("{by} {why}"));
        let converted = ask(webhook, caller.as_ref(), &originals, api_version)
            .await
            .map_err(|why| failed(format!("failed: {why}")))?;
        if converted.len() != originals.len() {
            let (found, wanted) = (converted.len(), originals.len());
            return Err(failed(format!("returned {found} objects, expected {wanted}")));
        }
        for (index, (original, converted)) in originals.iter().zip(converted).enumerate() {
            let checked = restored(original, converted, api_version);
            objects[differing[index]] =
                checked.map_err(|why| failed(format!("returned invalid object at index {index}: {why}")))?;
        }
        Ok(objects)
    }
}

/// `stable.example.com/v1, Kind=CronTab`
fn kind_of(object: &Value) -> String {
    let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
    format!("{}, Kind={}", text("apiVersion"), text("kind"))
}

async fn ask(
    webhook: &WebhookConversion,
    caller: Option<&Caller>,
    objects: &[Value],
    api_version: &str,
) -> Result<Vec<Value>, String> {
    let versions = &webhook.conversion_review_versions;
    let review = versions.iter().find(|version| matches!(version.as_str(), "v1" | "v1beta1"));
    let review = review.ok_or("no supported conversion review versions")?;
    let uid = crate::authn::service_account::random_uuid();
    let review_version = format!("apiextensions.k8s.io/{review}");
    let question = json!({
        "kind": "ConversionReview",
        "apiVersion": review_version,
        "request": {"uid": uid, "desiredAPIVersion": api_version, "objects": objects},
    });
    let caller = caller.ok_or("this server cannot reach webhooks")?;
    let mut answer =
        caller.call_client(&webhook.client_config, TIMEOUT, &question).await.map_err(|failed| failed.0)?;
    // Reviews of the old version are taken as they are, as upstream takes them.
    let strict = review == "v1";
    if strict && (answer["apiVersion"] != review_version || answer["kind"] != "ConversionReview") {
        let (wanted, found) = (kind_of(&question), kind_of(&answer));
        return Err(format!("expected webhook response of {wanted}, got {found}"));
    }
    let mut response = answer["response"].take();
    if !response.is_object() {
        return Err("no response provided".to_owned());
    }
    if strict && response["uid"] != *uid {
        let found = response["uid"].as_str().unwrap_or_default();
        return Err(format!("expected response.uid={}, got {}", quote(&uid), quote(found)));
    }
    let result = response["result"].take();
    if result["status"] != "Success" {
        return Err(match result["message"].as_str().filter(|message| !message.is_empty()) {
            Some(message) => message.to_owned(),
            None => {
                let found = result["status"].as_str().unwrap_or_default();
                format!("response.result.status was '{found}', not 'Success'")
            }
        });
    }
    match response["convertedObjects"].take() {
        Value::Array(objects) => Ok(objects),
        _ => Ok(Vec::new()),
    }
}

/// The converted object with the metadata it had: a webhook changes labels and annotations only.
fn restored(original: &Value, mut converted: Value, api_version: &str) -> Result<Value, String> {
    let found = converted["apiVersion"].as_str().unwrap_or_default();
    if found != api_version {
        return Err(format!("invalid groupVersion (expected {api_version}, received {found})"));
    }
    if converted["kind"] != original["kind"] {
        let text = |object: &Value| object["kind"].as_str().unwrap_or_default().to_owned();
        return Err(format!("invalid kind (expected {}, received {})", text(original), text(&converted)));
    }
    for (what, of) in
        [("name", object::name as fn(&Value) -> &str), ("namespace", object::namespace), ("UID", object::uid)]
    {
        if of(original) != of(&converted) {
            return Err(format!("must have the same {what}: {} != {}", of(original), of(&converted)));
        }
    }
    let mut metadata = original["metadata"].clone();
    let Some(answered) = converted.get("metadata").and_then(Value::as_object) else {
        return Err("missing metadata in converted object".to_owned());
    };
    for field in ["labels", "annotations"] {
        match answered.get(field) {
            None | Some(Value::Null) => {
                if let Some(metadata) = metadata.as_object_mut() {
                    metadata.remove(field);
                }
            }
            Some(Value::Object(texts)) => {
                if let Some((key, _)) = texts.iter().find(|(_, value)| !value.is_string()) {
                    return Err(format!("metadata.{field}[{key}] must be a string"));
                }
                metadata[field] = Value::Object(texts.clone());
            }
            Some(_) => return Err(format!("invalid metadata.{field} in converted object")),
        }
    }
    converted["metadata"] = metadata;
    Ok(converted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_change_no_metadata_but_labels_and_annotations() {
        let original = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "a", "uid": "u",
            "labels": {"x": "y"}, "resourceVersion": "5"}});
        let answer = |metadata: Value| json!({"apiVersion": "g/v2", "kind": "K", "metadata": metadata});
        let good =
            restored(&original, answer(json!({"name": "a", "uid": "u", "annotations": {"b": "c"}})), "g/v2");
        let metadata = json!({"name": "a", "uid": "u", "resourceVersion": "5", "annotations": {"b": "c"}});
        assert_eq!(good.unwrap()["metadata"], metadata);
        let renamed = restored(&original, answer(json!({"name": "b", "uid": "u"})), "g/v2");
        assert_eq!(renamed.unwrap_err(), "must have the same name: a != b");
        let late = restored(&original, answer(json!({"name": "a", "uid": "u"})), "g/v3");
        assert_eq!(late.unwrap_err(), "invalid groupVersion (expected g/v3, received g/v2)");
        let wrong = restored(&original, answer(json!({"name": "a", "uid": "u", "labels": {"x": 1}})), "g/v2");
        assert_eq!(wrong.unwrap_err(), "metadata.labels[x] must be a string");
    }

    #[tokio::test]
    async fn without_a_webhook_only_the_version_changes() {
        let object = json!({"apiVersion": "g/v1", "kind": "K", "spec": {"a": 1}});
        let converted = Conversion::Rename.convert(vec![object], "g/v2").await.unwrap();
        assert_eq!(converted, [json!({"apiVersion": "g/v2", "kind": "K", "spec": {"a": 1}})]);
    }
}
