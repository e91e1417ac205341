//! The ciphers, and a chain of them: the first one writes, any of them reads.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rand;
use bytes::Bytes;
use crypto_secretbox::aead::AeadInPlace;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};

/// What every encrypted value begins with.
pub const ENCRYPTED: &[u8] = b"k8s:enc:";

const GCM_NONCE: usize = 12;
const GCM_TAG: usize = 16;
const CBC_BLOCK: usize = 16;
const BOX_NONCE: usize = 24;
const BOX_TAG: usize = 16;

/// Why a value cannot be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the stored data was shorter than the required size")]
    Short,
    #[error("the stored data is not a multiple of the block size")]
    Block,
    #[error("invalid padding on input")]
    Padding,
    #[error("cipher: message authentication failed")]
    Forged,
    #[error("output array was not large enough for encryption")]
    Box,
    #[error("no matching key was found for the provided {0} transformer")]
    NoKey(&'static str),
    #[error("no matching prefix found")]
    NoPrefix,
    #[error("identity transformer tried to read encrypted data")]
    Encrypted,
    #[error("unable to read sufficient random bytes")]
    Random,
    #[error("the cipher refused to encrypt")]
    Refused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    AesGcm,
    AesCbc,
    Secretbox,
}

impl Method {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::AesGcm => b"k8s:enc:aesgcm:v1:",
            Self::AesCbc => b"k8s:enc:aescbc:v1:",
            Self::Secretbox => b"k8s:enc:secretbox:v1:",
        }
    }

    pub fn key_lengths(self) -> &'static [usize] {
        match self {
            Self::AesGcm | Self::AesCbc => &[16, 24, 32],
            Self::Secretbox => &[32],
        }
    }

    fn family(self) -> &'static str {
        match self {
            Self::AesGcm | Self::AesCbc => "AES",
            Self::Secretbox => "Secretbox",
        }
    }
}

/// One key, ready for use.
pub enum Cipher {
    AesGcm(Box<LessSafeKey>),
    AesCbc { sealing: Box<PaddedBlockEncryptingKey>, opening: Box<PaddedBlockDecryptingKey> },
    Secretbox(Box<XSalsa20Poly1305>),
}

impl Cipher {
    /// `None` when the key's length is not one of the method's.
    pub fn new(method: Method, key: &[u8]) -> Option<Self> {
        match method {
            Method::AesGcm => {
                let algorithm = match key.len() {
                    16 => &AES_128_GCM,
                    24 => &AES_192_GCM,
                    32 => &AES_256_GCM,
                    _ => return None,
                };
                Some(Self::AesGcm(Box::new(LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?))))
            }
            Method::AesCbc => {
                let algorithm = match key.len() {
                    16 => &AES_128,
                    24 => &AES_192,
                    32 => &AES_256,
                    _ => return None,
                };
                let key = || UnboundCipherKey::new(algorithm, key).ok();
                let sealing = PaddedBlockEncryptingKey::cbc_pkcs7(key()?).ok()?;
                let opening = PaddedBlockDecryptingKey::cbc_pkcs7(key()?).ok()?;
                Some(Self::AesCbc { sealing: Box::new(sealing), opening: Box::new(opening) })
            }
            Method::Secretbox => {
                XSalsa20Poly1305::new_from_slice(key).ok().map(Box::new).map(Self::Secretbox)
            }
        }
    }

    /// Appends the encrypted value to `out`. `context` is where it will lie, and must be the same to read it.
    fn seal(&self, plain: &[u8], context: &[u8], out: &mut Vec<u8>) -> Result<(), Unreadable> {
        match self {
            Self::AesGcm(key) => {
                let nonce: [u8; GCM_NONCE] = random()?;
                let mut sealed = plain.to_vec();
                key.seal_in_place_append_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(context),
                    &mut sealed,
                )
                .map_err(|_| Unreadable::Refused)?;
                out.extend_from_slice(&nonce);
                out.extend_from_slice(&sealed);
            }
            Self::AesCbc { sealing, .. } => {
                let mut sealed = plain.to_vec();
                let begun = sealing.encrypt(&mut sealed).map_err(|_| Unreadable::Refused)?;
                let vector: &[u8] = (&begun).try_into().map_err(|_| Unreadable::Refused)?;
                out.extend_from_slice(vector);
                out.extend_from_slice(&sealed);
            }
            Self::Secretbox(key) => {
                let nonce: [u8; BOX_NONCE] = random()?;
                out.extend_from_slice(&nonce);
                let tag_at = out.len();
                out.resize(tag_at + BOX_TAG, 0);
                out.extend_from_slice(plain);
                let (tag, sealed) = out[tag_at..].split_at_mut(BOX_TAG);
                let made = key
                    .encrypt_in_place_detached(&nonce.into(), b"", sealed)
                    .map_err(|_| Unreadable::Refused)?;
                tag.copy_from_slice(&made);
            }
        }
        Ok(())
    }

    fn open(&self, stored: &[u8], context: &[u8]) -> Result<Vec<u8>, Unreadable> {
        match self {
            Self::AesGcm(key) => {
                let (nonce, sealed) = stored.split_first_chunk::<GCM_NONCE>().ok_or(Unreadable::Short)?;
                if sealed.len() < GCM_TAG {
                    return Err(Unreadable::Short);
                }
                let mut plain = sealed.to_vec();
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let opened = key.open_in_place(nonce, Aad::from(context), &mut plain);
                let len = opened.map_err(|_| Unreadable::Forged)?.len();
                plain.truncate(len);
                Ok(plain)
            }
            Self::AesCbc { opening, .. } => {
                let (vector, sealed) = stored.split_first_chunk::<CBC_BLOCK>().ok_or(Unreadable::Short)?;
                if sealed.is_empty() || sealed.len() % CBC_BLOCK != 0 {
                    return Err(Unreadable::Block);
                }
                let mut plain = sealed.to_vec();
                let context = DecryptionContext::Iv128(FixedLength::from(*vector));
                let len = opening.decrypt(&mut plain, context).map_err(|_| Unreadable::Padding)?.len();
                plain.truncate(len);
                Ok(plain)
            }
            Self::Secretbox(key) => {
                let (nonce, sealed) = stored.split_first_chunk::<BOX_NONCE>().ok_or(Unreadable::Short)?;
                let (tag, sealed) = sealed.split_first_chunk::<BOX_TAG>().ok_or(Unreadable::Short)?;
                let mut plain = sealed.to_vec();
                key.decrypt_in_place_detached(&(*nonce).into(), b"", &mut plain, &(*tag).into())
                    .map_err(|_| Unreadable::Box)?;
                Ok(plain)
            }
        }
    }
}

/// From the operating system, not from the server's seeded generator: a nonce must never come twice.
fn random<const N: usize>() -> Result<[u8; N], Unreadable> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| Unreadable::Random)?;
    Ok(bytes)
}

/// A method and its keys, or (without a method) plain text.
pub struct Provider {
    method: Option<Method>,
    /// The name under which a value says that it was encrypted with the key, with its colon.
    keys: Vec<(String, Cipher)>,
}

impl Provider {
    pub fn identity() -> Self {
        Self { method: None, keys: Vec::new() }
    }

    pub fn new(method: Method, keys: Vec<(String, Cipher)>) -> Self {
        let keys = keys.into_iter().map(|(name, cipher)| (format!("{name}:"), cipher)).collect();
        Self { method: Some(method), keys }
    }

    /// The value, and whether it was encrypted with another key than the first; `None` when the value is not of
    /// this provider.
    fn open(&self, stored: &Bytes, context: &[u8]) -> Option<Result<(Bytes, bool), Unreadable>> {
        let Some(method) = self.method else {
            return (!stored.starts_with(ENCRYPTED)).then(|| Ok((stored.clone(), false)));
        };
        let rest = stored.strip_prefix(method.prefix())?;
        // Names may be prefixes of one another and repeat; each key that could be meant is tried.
        let mut failed = Unreadable::NoKey(method.family());
        for (at, (name, cipher)) in self.keys.iter().enumerate() {
            let Some(sealed) = rest.strip_prefix(name.as_bytes()) else { continue };
            match cipher.open(sealed, context) {
                Ok(plain) => return Some(Ok((plain.into(), at != 0))),
                Err(why) => failed = why,
            }
        }
        Some(Err(failed))
    }
}

/// The providers of a resource.
#[derive(Clone)]
pub struct Chain(Arc<[Provider]>);

impl Chain {
    pub fn new(providers: Vec<Provider>) -> Self {
        Self(providers.into())
    }

    /// The value as it is to be stored.
    pub fn seal(&self, plain: &Bytes, context: &[u8]) -> Result<Bytes, Unreadable> {
        let first = self.0.first().and_then(|first| Some((first.method?, first.keys.first()?)));
        let Some((method, (name, cipher))) = first else { return Ok(plain.clone()) };
        let mut out = Vec::with_capacity(plain.len() + 96);
        out.extend_from_slice(method.prefix());
        out.extend_from_slice(name.as_bytes());
        cipher.seal(plain, context, &mut out)?;
        Ok(out.into())
    }

    /// The value as it was given to [`Self::seal`], and whether writing it again would store it otherwise.
    pub fn open(&self, stored: &Bytes, context: &[u8]) -> Result<(Bytes, bool), Unreadable> {
        let mut failed = Unreadable::NoPrefix;
        for (at, provider) in self.0.iter().enumerate() {
            match provider.open(stored, context) {
                Some(Ok((plain, stale))) => return Ok((plain, stale || at != 0)),
                Some(Err(why)) => failed = why,
                None => {}
            }
        }
        Err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    const CONTEXT: &[u8] = b"/registry/secrets/default/a";

    fn chain(method: Method, keys: &[(&str, u8, usize)]) -> Chain {
        let cipher = |fill: u8, len: usize| Cipher::new(method, &vec![fill; len]).expect("a valid length");
        let keys = keys.iter().map(|(name, fill, len)| ((*name).to_owned(), cipher(*fill, *len))).collect();
        Chain::new(vec![Provider::new(method, keys)])
    }

    #[test]
    fn every_method_reads_what_it_wrote_and_stores_nothing_plain() {
        let plain = Bytes::from_static(b"{\"data\":{\"password\":\"hunter2\"}}");
        for (method, len) in [
            (Method::AesGcm, 16),
            (Method::AesGcm, 24),
            (Method::AesGcm, 32),
            (Method::AesCbc, 16),
            (Method::AesCbc, 24),
            (Method::AesCbc, 32),
            (Method::Secretbox, 32),
        ] {
            let keys = chain(method, &[("key1", 7, len)]);
            let stored = keys.seal(&plain, CONTEXT).expect("encrypts");
            assert!(stored.starts_with(method.prefix()), "{method:?}");
            assert!(!stored.windows(7).any(|part| part == b"hunter2"), "{method:?}");
            assert_eq!(keys.open(&stored, CONTEXT), Ok((plain.clone(), false)), "{method:?} {len}");
            assert_ne!(stored, keys.seal(&plain, CONTEXT).expect("encrypts"), "never twice the same");
            for end in 0..stored.len() {
                // A cut value is refused; CBC, which carries no proof, may at best give other bytes.
                let cut = keys.open(&stored.slice(..end), CONTEXT);
                assert!(cut.is_err() || (method == Method::AesCbc && cut != Ok((plain.clone(), false))));
            }
        }
    }

    #[test]
    fn values_written_by_upstream_are_read() {
        // NaCl's own example: nonce, then the tag, then the cipher text.
        let stored = [hex(NACL_NONCE), hex(NACL_SEALED)].concat();
        let secretbox = Cipher::new(Method::Secretbox, &hex(NACL_KEY)).expect("key");
        assert_eq!(secretbox.open(&stored, b""), Ok(hex(NACL_PLAIN)));
        // AES-256-CBC of "knarr" by OpenSSL: key 0x01.., vector 0x02.. .
        let stored = [&[2; 16][..], &STANDARD.decode(OPENSSL_CBC).expect("base64")].concat();
        let cbc = Cipher::new(Method::AesCbc, &[1; 32]).expect("key");
        assert_eq!(cbc.open(&stored, b"").as_deref(), Ok(&b"knarr"[..]));
    }

    fn hex(text: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
        (0..text.len()).step_by(2).map(digit).collect()
    }

    const NACL_KEY: &str = "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389";
    const NACL_NONCE: &str = "69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37";
    const NACL_PLAIN: &str = "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728\
        d45e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde\
        048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705";
    const NACL_SEALED: &str = "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb\
        8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526a\
        e90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5";
    const OPENSSL_CBC: &str = "ZcF5ixA19EeD796bJVSSag==";

    #[test]
    fn a_wrong_key_an_unknown_name_and_another_place_are_refused() {
        let plain = Bytes::from_static(b"secret");
        let gcm = chain(Method::AesGcm, &[("a", 1, 32)]);
        let stored = gcm.seal(&plain, CONTEXT).expect("encrypts");
        assert_eq!(gcm.open(&stored, b"/registry/secrets/default/b"), Err(Unreadable::Forged));
        assert_eq!(chain(Method::AesGcm, &[("a", 2, 32)]).open(&stored, CONTEXT), Err(Unreadable::Forged));
        let unknown = chain(Method::AesGcm, &[("b", 1, 32)]).open(&stored, CONTEXT).expect_err("no key");
        assert_eq!(unknown.to_string(), "no matching key was found for the provided AES transformer");
        let other = chain(Method::Secretbox, &[("a", 1, 32)]).open(&stored, CONTEXT).expect_err("no prefix");
        assert_eq!(other.to_string(), "no matching prefix found");
    }

    #[test]
    fn old_keys_and_plain_text_are_read_and_said_to_be_old() {
        let plain = Bytes::from_static(b"secret");
        let old = chain(Method::Secretbox, &[("a", 1, 32)]).seal(&plain, CONTEXT).expect("encrypts");
        let rotated = chain(Method::Secretbox, &[("b", 2, 32), ("a", 1, 32)]);
        assert_eq!(rotated.open(&old, CONTEXT), Ok((plain.clone(), true)));
        let mixed = Chain::new(vec![
            Provider::new(Method::AesCbc, vec![("k".into(), Cipher::new(Method::AesCbc, &[3; 16]).unwrap())]),
            Provider::identity(),
        ]);
        assert_eq!(mixed.open(&plain, CONTEXT), Ok((plain.clone(), true)));
        let decrypting = Chain::new(vec![
            Provider::identity(),
            Provider::new(
                Method::Secretbox,
                vec![("a".into(), Cipher::new(Method::Secretbox, &[1; 32]).unwrap())],
            ),
        ]);
        assert_eq!(decrypting.open(&old, CONTEXT), Ok((plain.clone(), true)));
        assert_eq!(decrypting.seal(&plain, CONTEXT), Ok(plain));
    }
}
