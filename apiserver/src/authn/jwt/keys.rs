//! The keys of an issuer: read from its document, checked against, and fetched again when they may have changed.

mod remote;

use std::borrow::Cow;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, EcdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use super::token::Token;

pub use remote::RemoteKeys;

/// The algorithms that an issuer may sign with; all of them have a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    Es256,
    Es384,
    Es512,
    Ps256,
    Ps384,
    Ps512,
    Rs256,
    Rs384,
    Rs512,
}

enum Check {
    Rsa(&'static RsaParameters),
    /// And how many bytes a coordinate has.
    Ecdsa(&'static EcdsaVerificationAlgorithm, usize),
}

impl Algorithm {
    /// In the order in which messages list them.
    pub const ALL: &[Self] = &[
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
    ];

    /// As tokens name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|algorithm| algorithm.name() == name)
    }

    fn check(self) -> Check {
        match self {
            Self::Es256 => Check::Ecdsa(&ECDSA_P256_SHA256_FIXED, 32),
            Self::Es384 => Check::Ecdsa(&ECDSA_P384_SHA384_FIXED, 48),
            Self::Es512 => Check::Ecdsa(&ECDSA_P521_SHA512_FIXED, 66),
            Self::Ps256 => Check::Rsa(&RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Check::Rsa(&RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Check::Rsa(&RSA_PSS_2048_8192_SHA512),
            Self::Rs256 => Check::Rsa(&RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Check::Rsa(&RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Check::Rsa(&RSA_PKCS1_2048_8192_SHA512),
        }
    }
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    id: String,
    material: Material,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Material {
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// Both coordinates, of equal length.
    Ec {
        coordinates: Vec<u8>,
    },
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    kid: String,
    kty: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

impl Key {
    /// The keys of a JWKS document; those of kinds that sign no tokens here are passed over.
    pub fn read_all(document: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        let Document { keys } = serde_json::from_slice(document)?;
        Ok(keys.into_iter().filter_map(|key| Self::read(serde_json::from_value(key).ok()?)).collect())
    }

    fn read(entry: Entry) -> Option<Self> {
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok();
        let material = match entry.kty.as_str() {
            "RSA" => Material::Rsa {
                modulus: number(&decode(&entry.n)?)?.to_vec(),
                exponent: number(&decode(&entry.e)?)?.to_vec(),
            },
            "EC" => {
                let (x, y) = (decode(&entry.x)?, decode(&entry.y)?);
                if x.is_empty() || x.len() != y.len() {
                    return None;
                }
                Material::Ec { coordinates: [x, y].concat() }
            }
            _ => return None,
        };
        Some(Self { id: entry.kid, material })
    }

    /// Whether this key signed the token.
    pub fn signed(&self, token: &Token<'_>) -> bool {
        let (message, signature) = (token.signed, &token.signature);
        match (&self.material, token.algorithm.check()) {
            (Material::Rsa { modulus, exponent }, Check::Rsa(parameters)) => {
                let (n, e) = (Cow::Borrowed(&modulus[..]), Cow::Borrowed(&exponent[..]));
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }
            (Material::Ec { coordinates }, Check::Ecdsa(algorithm, length))
                if coordinates.len() == 2 * length =>
            {
                let point = [&[UNCOMPRESSED], &coordinates[..]].concat();
                UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }

    /// Whether a token that names this key, or none, may be signed with it.
    fn is_named(&self, id: &str) -> bool {
        id.is_empty() || self.id == id
    }
}

/// What a point on a curve begins with where both coordinates follow.
const UNCOMPRESSED: u8 = 4;

/// A number without zeros in front; none for zero.
fn number(bytes: &[u8]) -> Option<&[u8]> {
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some(&bytes[first..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
    use aws_lc_rs::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256,
        RSA_PSS_SHA384, RSA_PSS_SHA512,
    };
    use serde_json::json;

    fn encode(bytes: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn message(algorithm: Algorithm) -> String {
        let header = json!({"alg": algorithm.name(), "kid": "k"}).to_string();
        format!("{}.{}", encode(header.as_bytes()), encode(b"{}"))
    }

    fn believed(keys: &[Key], token: &str) -> bool {
        let token = Token::parse(token, Algorithm::ALL).expect("a token");
        keys.iter().any(|key| key.is_named(&token.key_id) && key.signed(&token))
    }

    #[test]
    fn every_algorithm_is_checked_with_its_own_kind_of_key() {
        let random = SystemRandom::new();
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let public = rsa.public_key();
        let (n, e) = (public.modulus().big_endian_without_leading_zero(), public.exponent());
        let mut keys = vec![
            json!({"kid": "k", "kty": "RSA", "n": encode(n), "e": encode(e.big_endian_without_leading_zero())}),
        ];
        let mut tokens = Vec::new();
        for (algorithm, padding) in [
            (Algorithm::Rs256, &RSA_PKCS1_SHA256 as &dyn aws_lc_rs::signature::RsaEncoding),
            (Algorithm::Rs384, &RSA_PKCS1_SHA384),
            (Algorithm::Rs512, &RSA_PKCS1_SHA512),
            (Algorithm::Ps256, &RSA_PSS_SHA256),
            (Algorithm::Ps384, &RSA_PSS_SHA384),
            (Algorithm::Ps512, &RSA_PSS_SHA512),
        ] {
            let message = message(algorithm);
            let mut signature = vec![0; rsa.public_modulus_len()];
            rsa.sign(padding, &random, message.as_bytes(), &mut signature).expect("signs");
            tokens.push(format!("{message}.{}", encode(&signature)));
        }
        for (algorithm, signing) in [
            (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED_SIGNING),
            (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED_SIGNING),
            (Algorithm::Es512, &ECDSA_P521_SHA512_FIXED_SIGNING),
        ] {
            let pair = EcdsaKeyPair::generate(signing).expect("a key");
            let point = &pair.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            keys.push(json!({"kid": "k", "kty": "EC", "x": encode(x), "y": encode(y)}));
            let message = message(algorithm);
            let signature = pair.sign(&random, message.as_bytes()).expect("signs");
            tokens.push(format!("{message}.{}", encode(signature.as_ref())));
        }
        // Keys of other kinds, and ones that cannot be, do no harm.
        keys.extend([json!({"kty": "oct", "k": "x"}), json!({"kty": "OKP"}), json!({"kty": "EC"}), json!(1)]);
        let keys = Key::read_all(json!({ "keys": keys }).to_string().as_bytes()).expect("a document");
        assert_eq!((keys.len(), tokens.len()), (4, Algorithm::ALL.len()));
        for token in &tokens {
            assert!(believed(&keys, token), "{token}");
            let (signed, signature) = token.rsplit_once('.').expect("a signature");
            assert!(!believed(&keys, &format!("{signed}x.{signature}")), "{token}");
            assert!(!believed(&keys, &format!("{signed}.")), "{token}");
        }
        let named = Key { id: "other".into(), ..keys[0].clone() };
        assert!(!believed(&[named], &tokens[0]), "another key was named");
    }
}
