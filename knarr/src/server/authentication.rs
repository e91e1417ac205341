//! Who may come in besides those whom the cluster knows by itself, as the flags say.

use anyhow::{Context, bail};
use knarr_apiserver::authn::Anonymous;
use knarr_apiserver::authn::jwt::{Oidc, Setup};

use crate::cli::{AuthenticationFlags, OidcFlags};

/// What the flags come to.
pub struct Authentication {
    /// Tokens of other issuers.
    pub jwt: Option<Setup>,
    /// Requests without credentials.
    pub anonymous: Option<Anonymous>,
}

/// Reads what the flags name. `issuer` is who issues the cluster's own tokens.
pub fn open(flags: &AuthenticationFlags, issuer: &str) -> anyhow::Result<Authentication> {
    let own = [issuer.to_owned()];
    let jwt = match (&flags.authentication_config, flags.oidc != OidcFlags::default()) {
        (Some(_), true) => bail!("authentication-config file and oidc-* flags are mutually exclusive"),
        (Some(file), false) => Some(Setup::from_file(file, &own)?),
        (None, true) => Some(Setup::from_oidc(&oidc(&flags.oidc)?, &own)?),
        (None, false) => None,
    };
    let configured = jwt.as_ref().and_then(Setup::anonymous);
    let anonymous = match (configured, flags.anonymous_auth) {
        (Some(_), Some(_)) => bail!(
            "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in \
             authentication configuration file"
        ),
        (Some(configured), None) => configured,
        (None, Some(true)) => Some(Anonymous::on(None)),
        (None, Some(false)) => None,
        (None, None) => Some(Anonymous::health_only()),
    };
    Ok(Authentication { jwt, anonymous })
}

fn oidc(flags: &OidcFlags) -> anyhow::Result<Oidc> {
    let text = |flag: &Option<String>| flag.clone().unwrap_or_default();
    let or = |flag: &Option<String>, usual: &str| flag.clone().unwrap_or_else(|| usual.to_owned());
    let (issuer_url, client_id) = (text(&flags.oidc_issuer_url), text(&flags.oidc_client_id));
    if issuer_url.is_empty() || client_id.is_empty() {
        bail!("oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set");
    }
    let certificate_authority = match &flags.oidc_ca_file {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?,
        None => String::new(),
    };
    let required = flags.oidc_required_claim.iter().map(|pair| (pair.claim.clone(), pair.value.clone()));
    let signing_algorithms = match flags.oidc_signing_algs.is_empty() {
        true => vec!["RS256".to_owned()],
        false => flags.oidc_signing_algs.clone(),
    };
    Ok(Oidc {
        issuer_url,
        client_id,
        certificate_authority,
        username_claim: or(&flags.oidc_username_claim, "sub"),
        username_prefix: text(&flags.oidc_username_prefix),
        groups_claim: text(&flags.oidc_groups_claim),
        groups_prefix: text(&flags.oidc_groups_prefix),
        required_claims: required.collect(),
        signing_algorithms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(flags: &AuthenticationFlags) -> String {
        match open(flags, "https://own") {
            Ok(_) => String::new(),
            Err(error) => format!("{error:#}"),
        }
    }

    #[test]
    fn flags_that_contradict_each_other_are_refused_in_upstreams_words() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("authentication.yaml");
        let text = "{apiVersion: apiserver.config.k8s.io/v1, kind: AuthenticationConfiguration, anonymous: \
                    {enabled: true}}";
        std::fs::write(&file, text).expect("writes");
        let with = |oidc: OidcFlags, anonymous_auth| AuthenticationFlags {
            authentication_config: Some(file.clone()),
            anonymous_auth,
            oidc,
        };
        let issuer = OidcFlags { oidc_issuer_url: Some("https://a".into()), ..OidcFlags::default() };
        assert_eq!(refused(&with(OidcFlags::default(), None)), "");
        assert_eq!(
            refused(&with(issuer.clone(), None)),
            "authentication-config file and oidc-* flags are mutually exclusive"
        );
        assert!(
            refused(&with(OidcFlags::default(), Some(true)))
                .starts_with("anonymous: Forbidden: --anonymous-auth flag")
        );
        let alone = AuthenticationFlags { oidc: issuer.clone(), ..AuthenticationFlags::default() };
        assert_eq!(
            refused(&alone),
            "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"
        );
        let client = |url: &str, algorithm: &str| AuthenticationFlags {
            oidc: OidcFlags {
                oidc_issuer_url: Some(url.into()),
                oidc_client_id: Some("knarr".into()),
                oidc_signing_algs: vec![algorithm.into()],
                ..OidcFlags::default()
            },
            ..AuthenticationFlags::default()
        };
        assert_eq!(refused(&client("https://a", "ES256")), "");
        assert_eq!(refused(&client("https://a", "HS256")), "oidc: unsupported signing alg: \"HS256\"");
        assert!(
            refused(&client("https://own", "RS256")).contains("must not overlap with disallowed issuers")
        );
    }
}
