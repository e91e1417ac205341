//! The distribution protocol, as far as pulling and pushing need it.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION, WWW_AUTHENTICATE,
};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;

use super::auth::{Challenge, Credentials};
use super::hosts::Endpoint;
use super::manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use super::reference::Reference;

const CONNECT: Duration = Duration::from_secs(30);
/// A transfer that brings nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(60);
/// Errors and tokens are short.
const MAX_ANSWER: usize = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{reference}: not found")]
    NotFound { reference: String },
    #[error("pull access denied, repository does not exist or may require authorization: {reason}")]
    Denied { reason: String },
    #[error("unexpected status from GET request to {url}: {status}{body}")]
    Status { url: String, status: StatusCode, body: String },
    #[error("unexpected status from the registry at {url}: {status}{body}")]
    Refused { url: String, status: StatusCode, body: String },
    #[error("failed to do request: {0}")]
    Unreachable(String),
    #[error("{0}")]
    Transfer(String),
    #[error("429 Too Many Requests: {0}")]
    TooManyRequests(String),
    #[error("registry client: {0}")]
    Client(String),
}

type Result<T> = std::result::Result<T, Error>;

/// Longest file that [`download`] fetches, in bytes.
const MAX_DOWNLOAD: usize = 256 << 20;

/// A connection to one endpoint for one repository.
pub struct Registry {
    client: Client,
    endpoint: Endpoint,
    credentials: Credentials,
    repository: String,
    /// The header that was accepted last.
    authorization: Mutex<Option<HeaderValue>>,
}

impl Registry {
    pub fn new(endpoint: Endpoint, reference: &Reference, credentials: Credentials) -> Result<Self> {
        let authorization = credentials
            .registry_token
            .as_ref()
            .and_then(|token| HeaderValue::from_str(&format!("Bearer {token}")).ok());
        Ok(Registry {
            client: client(&endpoint)?,
            endpoint,
            credentials,
            repository: reference.repository().to_owned(),
            authorization: Mutex::new(authorization),
        })
    }

    /// A manifest or index by tag or digest: media type and the answer.
    pub async fn manifest(&self, reference: &Reference, wanted: &str) -> Result<(String, Response)> {
        let path = format!("{}/manifests/{wanted}", self.repository);
        let accept = [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST].join(", ");
        let response = self.get(&path, &accept, reference).await?;
        let header = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = header.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
        Ok((media_type, response))
    }

    pub async fn blob(&self, reference: &Reference, digest: &str) -> Result<Response> {
        self.get(&format!("{}/blobs/{digest}", self.repository), "*/*", reference).await
    }

    async fn get(&self, path: &str, accept: &str, reference: &Reference) -> Result<Response> {
        let response = self.send(path, accept).await?;
        let response = if response.status() == StatusCode::UNAUTHORIZED {
            self.authorize(&response).await?;
            self.send(path, accept).await?
        } else {
            response
        };
        match response.status() {
            StatusCode::OK => Ok(response),
            StatusCode::NOT_FOUND => Err(Error::NotFound { reference: reference.to_string() }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(Error::Denied { reason: format!("authorization failed{}", body(response).await) })
            }
            StatusCode::TOO_MANY_REQUESTS => Err(Error::TooManyRequests(body(response).await)),
            status => {
                let url = response.url().to_string();
                Err(Error::Status { url, status, body: body(response).await })
            }
        }
    }

    /// Whether the registry has a blob.
    pub async fn has_blob(&self, digest: &str) -> Result<bool> {
        let url = format!("{}/{}/blobs/{digest}", self.endpoint.base, self.repository);
        Ok(self.authorized(|| self.client.head(&url)).await?.status().is_success())
    }

    /// Brings a blob; `body` is read once.
    pub async fn put_blob(&self, digest: &str, size: u64, body: reqwest::Body) -> Result<()> {
        let url = format!("{}/{}/blobs/uploads/", self.endpoint.base, self.repository);
        let response = self.authorized(|| self.client.post(&url).header(CONTENT_LENGTH, 0)).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(refused(response).await);
        }
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.and_then(|location| response.url().join(location).ok());
        let mut target =
            location.ok_or_else(|| Error::Transfer("the registry names no place to upload to".to_owned()))?;
        target.query_pairs_mut().append_pair("digest", digest);
        let request = self
            .client
            .put(target)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size)
            .body(body);
        let response = self.with_authorization(request).send().await.map_err(unreachable)?;
        if response.status() == StatusCode::CREATED { Ok(()) } else { Err(refused(response).await) }
    }

    /// Brings a manifest under a tag or digest.
    pub async fn put_manifest(&self, wanted: &str, media_type: &str, text: &[u8]) -> Result<()> {
        let url = format!("{}/{}/manifests/{wanted}", self.endpoint.base, self.repository);
        let put = || self.client.put(&url).header(CONTENT_TYPE, media_type).body(text.to_vec());
        let response = self.authorized(put).await?;
        if response.status() == StatusCode::CREATED { Ok(()) } else { Err(refused(response).await) }
    }

    /// Sends a request, and once more where the registry asks who we are.
    async fn authorized(&self, request: impl Fn() -> reqwest::RequestBuilder) -> Result<Response> {
        let response = self.with_authorization(request()).send().await.map_err(unreachable)?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        self.authorize(&response).await?;
        self.with_authorization(request()).send().await.map_err(unreachable)
    }

    fn with_authorization(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let headers = self.endpoint.headers.iter();
        let request = headers.fold(request, |request, (name, value)| request.header(name, value));
        match self.authorization.lock().clone() {
            Some(authorization) => request.header(AUTHORIZATION, authorization),
            None => request,
        }
    }

    async fn send(&self, path: &str, accept: &str) -> Result<Response> {
        let mut request = self.client.get(format!("{}/{path}", self.endpoint.base)).header(ACCEPT, accept);
        if let Some(namespace) = &self.endpoint.namespace {
            request = request.query(&[("ns", namespace)]);
        }
        for (name, value) in &self.endpoint.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = self.authorization.lock().clone() {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.send().await.map_err(unreachable)
    }

    /// Answers a challenge; the next request carries the result.
    async fn authorize(&self, response: &Response) -> Result<()> {
        let challenges = response.headers().get_all(WWW_AUTHENTICATE);
        let parsed: Vec<Challenge> =
            challenges.iter().filter_map(|header| Challenge::parse(header.to_str().ok()?)).collect();
        let bearer = parsed.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        let header = match bearer.or(parsed.first()) {
            Some(Challenge::Bearer { realm, service, scope }) => {
                let token = self.token(realm, service.as_deref(), scope.as_deref()).await?;
                format!("Bearer {token}")
            }
            Some(Challenge::Basic) => {
                let (name, password) = self.credentials.basic.as_ref().ok_or_else(|| Error::Denied {
                    reason: "authorization failed: no basic auth credentials".to_owned(),
                })?;
                use base64::Engine;
                let pair = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{password}"));
                format!("Basic {pair}")
            }
            None => return Err(Error::Denied { reason: "authorization failed".to_owned() }),
        };
        let mut header = HeaderValue::from_str(&header)
            .map_err(|_| Error::Denied { reason: "the registry gave an unusable token".to_owned() })?;
        header.set_sensitive(true);
        *self.authorization.lock() = Some(header);
        Ok(())
    }

    async fn token(&self, realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<String> {
        let scope = match scope {
            Some(scope) => scope.to_owned(),
            None => format!("repository:{}:pull", self.repository),
        };
        let mut parameters: HashMap<&str, &str> = HashMap::from([("scope", scope.as_str())]);
        if let Some(service) = service {
            parameters.insert("service", service);
        }
        let request = if let Some(token) = &self.credentials.identity_token {
            parameters.extend([
                ("grant_type", "refresh_token"),
                ("refresh_token", token),
                ("client_id", "knarr"),
            ]);
            let form = reqwest::Url::parse_with_params("http://form/", &parameters)
                .map_err(|error| Error::Client(error.to_string()))?;
            self.client
                .post(realm)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.query().unwrap_or_default().to_owned())
        } else {
            let request = self.client.get(realm).query(&parameters);
            match &self.credentials.basic {
                Some((name, password)) => request.basic_auth(name, Some(password)),
                None => request,
            }
        };
        let response = request.send().await.map_err(unreachable)?;
        if !response.status().is_success() {
            let reason = format!("failed to fetch token: {}{}", response.status(), body(response).await);
            return Err(Error::Denied { reason });
        }
        let text = limited(response, MAX_ANSWER).await?;
        #[derive(Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let token: Token = serde_json::from_slice(&text).map_err(|error| Error::Denied {
            reason: format!("the token service's answer is no token: {error}"),
        })?;
        token
            .token
            .or(token.access_token)
            .ok_or_else(|| Error::Denied { reason: "the token service gave no token".to_owned() })
    }
}

/// Fetches a file that an ADD names.
pub async fn download(url: &str) -> Result<Vec<u8>> {
    // Whichever part of the process comes first installs it; a second time changes nothing.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = Client::builder().connect_timeout(CONNECT).read_timeout(SILENCE).build();
    let client = client.map_err(|error| Error::Client(error.to_string()))?;
    let response = client.get(url).send().await.map_err(unreachable)?;
    match response.status() {
        StatusCode::OK => limited(response, MAX_DOWNLOAD).await,
        status => Err(Error::Status { url: url.to_owned(), status, body: body(response).await }),
    }
}

fn client(endpoint: &Endpoint) -> Result<Client> {
    let failed = |error: reqwest::Error| Error::Client(error.to_string());
    // Whichever part of the process comes first installs it; a second time changes nothing.
    let _installed = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("knarr/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .tls_danger_accept_invalid_certs(endpoint.skip_verify);
    let mut certificates = Vec::new();
    for path in &endpoint.authorities {
        let text =
            std::fs::read(path).map_err(|error| Error::Client(format!("{}: {error}", path.display())))?;
        certificates.extend(reqwest::Certificate::from_pem_bundle(&text).map_err(failed)?);
    }
    if !certificates.is_empty() {
        builder = builder.tls_certs_merge(certificates);
    }
    builder.build().map_err(failed)
}

async fn refused(response: Response) -> Error {
    let (url, status) = (response.url().to_string(), response.status());
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Error::Denied { reason: format!("authorization failed{}", body(response).await) }
        }
        _ => Error::Refused { url, status, body: body(response).await },
    }
}

/// With the causes, which is where a refused connection is named.
fn unreachable(error: reqwest::Error) -> Error {
    use std::error::Error as _;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    if error.is_connect() || error.is_timeout() { Error::Unreachable(text) } else { Error::Transfer(text) }
}

/// The start of an error's body, for the message.
async fn body(response: Response) -> String {
    match limited(response, MAX_ANSWER).await {
        Ok(text) if !text.is_empty() => {
            let text: String = String::from_utf8_lossy(&text).chars().take(256).collect();
            format!(": {}", text.trim())
        }
        _ => String::new(),
    }
}

/// A whole body, refused when longer than `limit`.
pub async fn limited(mut response: Response, limit: usize) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if data.len() + chunk.len() > limit {
            return Err(Error::Transfer(format!("answer is longer than {limit} bytes")));
        }
        data.extend_from_slice(&chunk);
    }
    Ok(data)
}

/// The next piece of a body.
pub async fn chunk(response: &mut Response) -> Result<Option<bytes::Bytes>> {
    response.chunk().await.map_err(unreachable)
}
