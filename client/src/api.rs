//! Typed requests for one resource.
//!
//! Like `kube::Api`, with two differences: answers are read as upstream's clients read them (see `lenient`), so that
//! an object somebody else wrote oddly can still be read and replaced; and what nobody looks at, the answer to
//! a deletion, is not decoded.

use std::{fmt, marker::PhantomData};

use http_body_util::BodyExt;
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Client, Error, Resource, Result,
    api::{DeleteParams, GetParams, ListParams, ObjectList, Patch, PatchParams, PostParams},
    client::Body,
    core::{Request, Status, response::StatusSummary},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{error::is_not_found, lenient};

/// The objects of one kind, in one namespace or in all.
pub struct Api<K> {
    client: Client,
    request: Request,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Api<K> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), request: self.request.clone(), kind: PhantomData }
    }
}

impl<K> fmt::Debug for Api<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Api").field(&self.request.url_path).finish()
    }
}

impl<K: Resource<DynamicType = ()>> Api<K> {
    fn at(client: Client, namespace: Option<&str>) -> Self {
        Self { client, request: Request::new(K::url_path(&(), namespace)), kind: PhantomData }
    }

    /// The objects of all namespaces, or of a kind that is in none.
    pub fn all(client: Client) -> Self {
        Self::at(client, None)
    }

    pub fn namespaced(client: Client, namespace: &str) -> Self
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Self::at(client, Some(namespace))
    }
}

impl<K: DeserializeOwned> Api<K> {
    pub async fn get(&self, name: &str) -> Result<K> {
        request(&self.client, built(self.request.get(name, &GetParams::default()))?).await
    }

    /// `None` if there is none of this name.
    pub async fn get_opt(&self, name: &str) -> Result<Option<K>> {
        match self.get(name).await {
            Err(error) if is_not_found(&error) => Ok(None),
            found => found.map(Some),
        }
    }

    pub async fn list(&self, parameters: &ListParams) -> Result<ObjectList<K>>
    where
        K: Clone,
    {
        request(&self.client, built(self.request.list(parameters))?).await
    }

    pub async fn create(&self, parameters: &PostParams, object: &K) -> Result<K>
    where
        K: Serialize,
    {
        request(&self.client, built(self.request.create(parameters, written(object)?))?).await
    }

    pub async fn replace(&self, name: &str, parameters: &PostParams, object: &K) -> Result<K>
    where
        K: Serialize,
    {
        request(&self.client, built(self.request.replace(name, parameters, written(object)?))?).await
    }

    pub async fn replace_status(&self, name: &str, parameters: &PostParams, object: &K) -> Result<K>
    where
        K: Serialize,
    {
        self.replace_subresource("status", name, parameters, object).await
    }

    pub async fn replace_subresource<T: Serialize>(
        &self,
        subresource: &str,
        name: &str,
        parameters: &PostParams,
        object: &T,
    ) -> Result<K> {
        let object = written(object)?;
        let replacement = self.request.replace_subresource(subresource, name, parameters, object);
        request(&self.client, built(replacement)?).await
    }

    pub async fn patch<P: Serialize + fmt::Debug>(
        &self,
        name: &str,
        parameters: &PatchParams,
        patch: &Patch<P>,
    ) -> Result<K> {
        request(&self.client, built(self.request.patch(name, parameters, patch))?).await
    }

    pub async fn patch_status<P: Serialize + fmt::Debug>(
        &self,
        name: &str,
        parameters: &PatchParams,
        patch: &Patch<P>,
    ) -> Result<K> {
        let patch = self.request.patch_subresource("status", name, parameters, patch);
        request(&self.client, built(patch)?).await
    }

    /// Asks for the deletion; the object may outlive the answer for its grace period and its finalizers.
    pub async fn delete(&self, name: &str, parameters: &DeleteParams) -> Result<()> {
        send(&self.client, built(self.request.delete(name, parameters))?).await.map(drop)
    }
}

/// Sends a request and reads the answer as upstream's clients do.
///
/// # Errors
/// [`Error::Api`] if the server refused, with its own words.
pub async fn request<T: DeserializeOwned>(client: &Client, request: http::Request<Vec<u8>>) -> Result<T> {
    let answer = send(client, request).await?;
    lenient::read(&answer).map_err(Error::SerdeError)
}

async fn send(client: &Client, request: http::Request<Vec<u8>>) -> Result<bytes::Bytes> {
    let answer = client.send(request.map(Body::from)).await?;
    let code = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    if code.is_success() {
        return Ok(body);
    }
    // What stands between us and the server may answer without a Status.
    let status = serde_json::from_slice::<Status>(&body).unwrap_or_else(|_| Status {
        status: Some(StatusSummary::Failure),
        code: code.as_u16(),
        message: String::from_utf8_lossy(&body).trim().to_owned(),
        reason: code.canonical_reason().unwrap_or_default().to_owned(),
        metadata: None,
        details: None,
    });
    Err(Error::Api(Box::new(status)))
}

fn built(
    request: std::result::Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<http::Request<Vec<u8>>> {
    request.map_err(Error::BuildRequest)
}

fn written<T: Serialize>(object: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(object).map_err(Error::SerdeError)
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use k8s_openapi::api::core::v1::Service;
    use tower::service_fn;

    use super::*;
    use crate::error::{is_forbidden, message};

    fn answering(code: u16, body: &'static str) -> Client {
        Client::new(
            service_fn(move |_: Request<Body>| async move {
                let answer = Response::builder().status(code).body(Body::from(body.as_bytes().to_vec()));
                answer.map_err(kube::Error::HttpError)
            }),
            "default",
        )
    }

    #[tokio::test]
    async fn an_object_with_an_odd_condition_can_be_read() {
        let client = answering(
            200,
            r#"{"metadata": {"name": "s"}, "status": {"conditions": [{"type": "T", "lastTransitionTime": null}]}}"#,
        );
        let service = Api::<Service>::namespaced(client, "default").get("s").await.expect("readable");
        assert_eq!(service.status.and_then(|status| status.conditions).map_or(0, |list| list.len()), 1);
    }

    #[tokio::test]
    async fn refusals_are_told_in_the_words_of_whoever_refused() {
        let status =
            r#"{"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no"}"#;
        let refused = Api::<Service>::all(answering(403, status)).get("s").await.expect_err("refused");
        assert!(is_forbidden(&refused));
        assert_eq!(message(&refused), "no");
        let broken = Api::<Service>::all(answering(502, "bad gateway\n")).get_opt("s").await;
        assert_eq!(message(&broken.expect_err("refused")), "bad gateway");
        let absent = Api::<Service>::all(answering(404, "")).get_opt("s").await;
        assert!(absent.expect("no error").is_none());
    }
}
