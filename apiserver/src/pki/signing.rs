//! The key that signs service-account tokens, and the keys that tokens are checked with.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData};
use sha2::{Digest, Sha256};

use super::{Error, files};

/// Signs tokens. ES256 when made by us, RS256 when the operator brings an RSA key.
pub struct SigningKey {
    pub algorithm: Algorithm,
    pub key: EncodingKey,
    pub verifying: VerifyingKey,
}

/// Checks tokens of one signing key.
#[derive(Clone)]
pub struct VerifyingKey {
    /// base64url of the SHA-256 of the public key's DER, as upstream names keys.
    pub id: String,
    pub algorithm: Algorithm,
    pub key: DecodingKey,
    /// The key as published in the JWKS document.
    pub jwk: Jwk,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.verifying.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The key in `<dir>/sa.key`, made now if there is none. `sa.pub` beside it is for others to read.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("sa.key");
        let pem = match files::read(&path)? {
            Some(pem) => pem,
            None => {
                let key = KeyPair::generate()
                    .map_err(|cause| Error::Issue { name: "service account tokens".into(), cause })?;
                files::write(&path, &key.serialize_pem())?;
                files::write(&dir.join("sa.pub"), &key.public_key_pem())?;
                key.serialize_pem()
            }
        };
        Self::from_pem(&pem).map_err(|cause| Error::Malformed { path, cause })
    }

    /// The claims as a signed token in its compact form.
    pub fn sign(&self, claims: &impl serde::Serialize) -> Result<String, jsonwebtoken::errors::Error> {
        let (alg, kid) = (self.algorithm, Some(self.verifying.id.clone()));
        jsonwebtoken::encode(&Header { typ: None, alg, kid, ..Header::default() }, claims, &self.key)
    }

    /// A PKCS#8, SEC1 or PKCS#1 private key: P-256 or RSA.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let pair = KeyPair::from_pem(pem).map_err(|e| e.to_string())?;
        let pkcs8 = pair.serialize_pem();
        let (algorithm, key) = if pair.is_compatible(&rcgen::PKCS_ECDSA_P256_SHA256) {
            (Algorithm::ES256, EncodingKey::from_ec_pem(pkcs8.as_bytes()))
        } else if pair.is_compatible(&rcgen::PKCS_RSA_SHA256) {
            (Algorithm::RS256, EncodingKey::from_rsa_pem(pkcs8.as_bytes()))
        } else {
            return Err("only P-256 and RSA keys sign service account tokens".into());
        };
        let key = key.map_err(|e| e.to_string())?;
        let id = URL_SAFE_NO_PAD.encode(Sha256::digest(pair.subject_public_key_info()));
        let mut jwk = Jwk::from_encoding_key(&key, algorithm).map_err(|e| e.to_string())?;
        jwk.common.key_id = Some(id.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let decoding = DecodingKey::from_jwk(&jwk).map_err(|e| e.to_string())?;
        Ok(Self { algorithm, key, verifying: VerifyingKey { id, algorithm, key: decoding, jwk } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signing_key_survives_a_restart_and_says_which_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let first = SigningKey::open(dir.path()).unwrap();
        let second = SigningKey::open(dir.path()).unwrap();
        assert_eq!(first.verifying.id, second.verifying.id);
        let published = serde_json::to_value(&first.verifying.jwk).unwrap();
        assert_eq!(published["kid"], first.verifying.id);
        assert_eq!(published["use"], "sig");
        assert_eq!(published["alg"], "ES256");
        assert!(published.get("d").is_none(), "the private part stays private");
    }
}
