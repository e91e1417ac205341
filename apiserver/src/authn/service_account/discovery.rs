//! The OIDC documents with which others check our tokens.

use serde_json::{Value, json};

use crate::pki::VerifyingKey;

pub const OPENID_CONFIGURATION_PATH: &str = "/.well-known/openid-configuration";
pub const JWKS_PATH: &str = "/openid/v1/jwks";

/// The two documents, rendered once. Both are served with `Cache-Control: public, max-age=3600`; the first as
/// `application/json`, the second as `application/jwk-set+json`.
#[derive(Debug, Clone)]
pub struct Discovery {
    pub configuration: Vec<u8>,
    pub keys: Vec<u8>,
}

impl Discovery {
    /// `jwks_uri` is where others reach [`JWKS_PATH`].
    pub fn new(issuer: &str, jwks_uri: &str, keys: &[VerifyingKey]) -> Self {
        let mut algorithms: Vec<String> = keys.iter().map(|key| format!("{:?}", key.algorithm)).collect();
        algorithms.sort();
        algorithms.dedup();
        let configuration = json!({
            "issuer": issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": algorithms,
        });
        let jwks: Vec<&jsonwebtoken::jwk::Jwk> = keys.iter().map(|key| &key.jwk).collect();
        let keys = json!({ "keys": jwks });
        let bytes = |document: &Value| document.to_string().into_bytes();
        Self { configuration: bytes(&configuration), keys: bytes(&keys) }
    }
}
