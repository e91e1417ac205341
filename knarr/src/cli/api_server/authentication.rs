//! Who may come in besides those whom the cluster knows by itself.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use super::Rendered;

#[derive(Debug, Clone, Default, Args)]
pub struct AuthenticationFlags {
    /// An AuthenticationConfiguration: issuers whose tokens are believed, and requests without credentials; its
    /// changes are taken while the server runs.
    #[arg(long, value_name = "FILE")]
    pub authentication_config: Option<PathBuf>,
    /// Whether requests without credentials are let in, to be judged as system:anonymous [default: only to ask for
    /// the server's health].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub anonymous_auth: Option<bool>,
    #[command(flatten)]
    pub oidc: OidcFlags,
}

/// One issuer, without a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct OidcFlags {
    /// The issuer whose tokens are believed; an https URL.
    #[arg(long, value_name = "URL")]
    pub oidc_issuer_url: Option<String>,
    /// Whom the issuer's tokens must be for.
    #[arg(long, value_name = "ID")]
    pub oidc_client_id: Option<String>,
    /// The authority of the issuer's certificate [default: those of this machine].
    #[arg(long, value_name = "FILE")]
    pub oidc_ca_file: Option<PathBuf>,
    /// The claim that is the user's name [default: sub].
    #[arg(long, value_name = "CLAIM")]
    pub oidc_username_claim: Option<String>,
    /// What names begin with, or - for nothing [default: the issuer's URL and #, but nothing before addresses].
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub oidc_username_prefix: Option<String>,
    /// The claim that lists the user's groups.
    #[arg(long, value_name = "CLAIM")]
    pub oidc_groups_claim: Option<String>,
    /// What groups begin with.
    #[arg(long, value_name = "PREFIX", allow_hyphen_values = true)]
    pub oidc_groups_prefix: Option<String>,
    /// A claim and the value that it must have; may be repeated.
    #[arg(long, value_name = "CLAIM=VALUE")]
    pub oidc_required_claim: Vec<RequiredClaim>,
    /// How tokens may be signed [default: RS256].
    #[arg(long, value_name = "ALG", value_delimiter = ',')]
    pub oidc_signing_algs: Vec<String>,
}

/// `claim=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequiredClaim {
    pub claim: String,
    pub value: String,
}

impl FromStr for RequiredClaim {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (claim, value) = text.split_once('=').ok_or("malformed pair, expect string=string")?;
        Ok(Self { claim: claim.trim().to_owned(), value: value.trim().to_owned() })
    }
}

impl fmt::Display for RequiredClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.claim, self.value)
    }
}

impl AuthenticationFlags {
    pub(super) fn render(&self, args: &mut Rendered) -> std::io::Result<()> {
        let Self { authentication_config, anonymous_auth, oidc } = self;
        args.file("--authentication-config", authentication_config.as_deref())?;
        args.shown("--anonymous-auth", *anonymous_auth);
        let OidcFlags {
            oidc_issuer_url,
            oidc_client_id,
            oidc_ca_file,
            oidc_username_claim,
            oidc_username_prefix,
            oidc_groups_claim,
            oidc_groups_prefix,
            oidc_required_claim,
            oidc_signing_algs,
        } = oidc;
        args.text("--oidc-issuer-url", oidc_issuer_url.as_ref());
        args.text("--oidc-client-id", oidc_client_id.as_ref());
        args.file("--oidc-ca-file", oidc_ca_file.as_deref())?;
        args.text("--oidc-username-claim", oidc_username_claim.as_ref());
        args.text("--oidc-username-prefix", oidc_username_prefix.as_ref());
        args.text("--oidc-groups-claim", oidc_groups_claim.as_ref());
        args.text("--oidc-groups-prefix", oidc_groups_prefix.as_ref());
        for required in oidc_required_claim {
            args.shown("--oidc-required-claim", Some(required));
        }
        let algorithms = (!oidc_signing_algs.is_empty()).then(|| oidc_signing_algs.join(","));
        args.text("--oidc-signing-algs", algorithms);
        Ok(())
    }
}
