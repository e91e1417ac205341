//! Join tokens: `<id>.<secret>@sha256:<hash>`, a bootstrap token and the fingerprint of the authority to believe.

use std::fmt;
use std::str::FromStr;

use anyhow::Context;
use knarr_apiserver::pki::Pin;

/// What a machine must know to join a cluster, besides the address of its API server.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The Secret's: `bootstrap-token-<id>` in kube-system.
    pub id: String,
    pub secret: String,
    pub pin: Pin,
}

impl JoinToken {
    /// What the API server takes as a bearer token.
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

/// Without the secret, so that it can be logged.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}@{}", self.id, self.secret, self.pin)
    }
}

impl FromStr for JoinToken {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        const FORM: &str = "a join token is <id>.<secret>@sha256:<hash>, as `knarr token create` prints it";
        let plain = |part: &str, length| {
            part.len() == length && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let (bearer, pin) = text.trim().split_once('@').context(FORM)?;
        let (id, secret) = bearer.split_once('.').context(FORM)?;
        anyhow::ensure!(plain(id, 6) && plain(secret, 16), FORM);
        let pin = pin.parse().ok().context(FORM)?;
        Ok(Self { id: id.to_owned(), secret: secret.to_owned(), pin })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_printed_and_its_secret_is_not_logged() {
        let text = format!("abc123.0123456789abcdef@sha256:{}", "0f".repeat(32));
        let token: JoinToken = text.parse().expect("a token");
        assert_eq!(token.bearer(), "abc123.0123456789abcdef");
        assert_eq!(token.to_string(), text);
        assert!(!format!("{token:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn what_is_no_token_is_explained() {
        let hash = "0f".repeat(32);
        let bad = ["", "a.b", "abc123.0123456789abcdef", "abc123.0123456789abcdef@sha256:0f"];
        let bad =
            bad.map(str::to_owned).into_iter().chain([format!("ABC123.0123456789abcdef@sha256:{hash}")]);
        for text in bad {
            let error = text.parse::<JoinToken>().expect_err(&text).to_string();
            assert!(error.starts_with("a join token is"), "{error}");
        }
    }
}
