//! The parts of who-may-do-what, put together as every cluster runs them.
//!
//! Build it with [`Standard::new`], hand [`Standard::assemble`] to [`crate::server::ApiServer::build`], run the
//! [`Background`] for as long as the server lives, and [`crate::bootstrap::run`] once when it answers.

mod connects;
mod reviews;

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::SignedDuration;
use knarr_api::time::SharedClock;
use tokio::sync::watch;

use crate::admission::{self, Caller, Hooks, PolicyIndex};
use crate::aggregation::{self, Aggregator};
use crate::authn::jwt::{self, JwtTokens};
use crate::authn::service_account::{
    Discovery, JWKS_PATH, LegacyTokens, OPENID_CONFIGURATION_PATH, ServiceAccountTokens, TokenIssuer,
};
use crate::authn::{
    Anonymous, Authenticators, BootstrapTokens, ClientCertificates, Config as Authentication, FrontProxy,
    Headers, TokenAuthenticator, Tokens, Trust,
};
use crate::authz::{Chain, NodeAuthorizer, Rbac, SharedAuthorizer};
use crate::bootstrap::{self, KubernetesService, node_rules};
use crate::catalogue::Extensions;
use crate::fairness::Fairness;
use crate::loopback::Loopback;
use crate::node_metrics;
use crate::objects::Objects;
use crate::pki::Pki;
use crate::server::{Foundation, Security};
use crate::stream::{self, Dialer, Kubelets, Streams};

/// Requests served at once: upstream's defaults of `--max-requests-inflight` and `--max-mutating-requests-inflight`
/// together.
const SEATS: usize = 600;

/// What the operator decides.
pub struct Settings {
    pub pki: Arc<Pki>,
    /// The `iss` of service-account tokens (`--service-account-issuer`).
    pub issuer: String,
    /// Where others find the keys of tokens (`--service-account-jwks-uri`).
    pub jwks_uri: String,
    /// Whom tokens that name no audience are for (`--api-audiences`); the issuer by default.
    pub audiences: Vec<String>,
    /// The longest life of a token (`--service-account-max-token-expiration`).
    pub max_token_expiration: Option<SignedDuration>,
    /// Tokens of other issuers.
    pub jwt: Option<jwt::Setup>,
    /// Requests without credentials; `None` refuses them all.
    pub anonymous: Option<Anonymous>,
    pub front_proxy_headers: Headers,
    /// Whether kubelets must show a certificate of the cluster's authority.
    pub verify_kubelets: bool,
    pub dialer: Arc<dyn Dialer>,
    pub bootstrap: bootstrap::Settings,
}

/// Everything that can fail is built here, before the server is.
pub struct Standard {
    settings: Settings,
    clients: Arc<Trust>,
    proxies: Arc<Trust>,
    kubelets: Kubelets,
    rbac: Arc<Rbac>,
    nodes: Arc<NodeAuthorizer>,
    hooks: Arc<Hooks>,
    policies: Arc<PolicyIndex>,
}

/// What keeps decisions up to date.
pub struct Background {
    objects: Arc<dyn Objects>,
    rbac: Arc<Rbac>,
    nodes: Arc<NodeAuthorizer>,
    hooks: Arc<Hooks>,
    policies: Arc<PolicyIndex>,
    loopback: Loopback,
    pki: Arc<Pki>,
    kubernetes: KubernetesService,
    jwt: Option<Arc<JwtTokens>>,
    ready: watch::Sender<bool>,
    aggregator: Arc<Aggregator>,
    fairness: Arc<Fairness>,
    /// Answers streams; waits for them at the end.
    pub streams: Streams,
}

impl Standard {
    pub fn new(settings: Settings) -> Result<Self, rustls::Error> {
        let pki = &settings.pki;
        let authority = [pki.ca.der().clone()];
        let trusted = settings.verify_kubelets.then_some(&authority[..]);
        Ok(Self {
            clients: Arc::new(Trust::new(&authority)?),
            proxies: Arc::new(Trust::new(&[pki.front_proxy_ca.der().clone()])?),
            kubelets: Kubelets::new(pki.kubelet_client.clone(), trusted)?,
            rbac: Arc::default(),
            nodes: Arc::new(NodeAuthorizer::new(node_rules())),
            hooks: Arc::default(),
            policies: Arc::default(),
            settings,
        })
    }

    /// Puts the parts on the server's foundation.
    pub fn assemble(mut self, foundation: &Foundation) -> (Security, Background) {
        let authorizer: SharedAuthorizer = Arc::new(Chain(vec![self.nodes.clone(), self.rbac.clone()]));
        let (tokens, jwt) = self.tokens(foundation);
        let issuer = Arc::new(self.issuer(foundation));
        let streams = Streams::new(stream::Config {
            objects: foundation.objects.clone(),
            authorizer: authorizer.clone(),
            kubelets: self.kubelets.clone(),
            dialer: self.settings.dialer.clone(),
            random: foundation.random.clone(),
            stop: foundation.stop.clone(),
        });
        let plugins = admission::standard(&admission::Context {
            objects: foundation.objects.clone(),
            authorizer: authorizer.clone(),
            rbac: self.rbac.clone(),
            clock: foundation.clock.clone(),
            random: foundation.random.clone(),
            hooks: self.hooks.clone(),
            policies: self.policies.clone(),
            loopback: foundation.loopback.clone(),
            dialer: self.settings.dialer.clone(),
        });
        let webhooks = Caller::new(foundation.objects.clone(), self.settings.dialer.clone());
        let mut extensions = Extensions::default();
        reviews::extend(&mut extensions, &authorizer, &self.rbac, &tokens, &issuer, &foundation.clock);
        connects::extend(&mut extensions, &streams);
        node_metrics::extend(&mut extensions, &streams, &foundation.objects);
        self.documents(&mut extensions);
        let aggregator = Arc::new(Aggregator::new(aggregation::Config {
            objects: foundation.objects.clone(),
            streams: streams.clone(),
            loopback: foundation.loopback.clone(),
            client: self.settings.pki.front_proxy_client.clone(),
            clock: foundation.clock.clone(),
            random: foundation.random.clone(),
        }));
        let fairness = Arc::new(Fairness::new(SEATS));
        let background = Background {
            fairness: fairness.clone(),
            aggregator: aggregator.clone(),
            objects: foundation.objects.clone(),
            rbac: self.rbac.clone(),
            nodes: self.nodes.clone(),
            hooks: self.hooks.clone(),
            policies: self.policies.clone(),
            loopback: foundation.loopback.clone(),
            pki: self.settings.pki.clone(),
            kubernetes: KubernetesService {
                loopback: foundation.loopback.clone(),
                objects: foundation.objects.clone(),
                settings: self.settings.bootstrap.clone(),
            },
            jwt,
            ready: watch::channel(false).0,
            streams,
        };
        let authenticator = Arc::new(self.authenticators(tokens, foundation.clock.clone()));
        let admission: Option<Arc<dyn admission::Admission>> = Some(Arc::new(plugins));
        let (aggregator, webhooks) = (Some(aggregator), Some(webhooks));
        (
            Security {
                authenticator,
                authorizer,
                admission,
                extensions,
                aggregator,
                fairness: Some(fairness),
                webhooks,
            },
            background,
        )
    }

    fn audiences(&self) -> Vec<String> {
        match self.settings.audiences.is_empty() {
            true => vec![self.settings.issuer.clone()],
            false => self.settings.audiences.clone(),
        }
    }

    fn tokens(&mut self, foundation: &Foundation) -> (Arc<Tokens>, Option<Arc<JwtTokens>>) {
        let (objects, clock) = (&foundation.objects, &foundation.clock);
        let verifying = self.settings.pki.service_accounts.verifying.clone();
        let accounts = ServiceAccountTokens {
            keys: Arc::new(ArcSwap::from_pointee(vec![verifying])),
            issuers: vec![self.settings.issuer.clone()],
            objects: objects.clone(),
            clock: clock.clone(),
        };
        let bootstrap = BootstrapTokens { objects: objects.clone(), clock: clock.clone() };
        let accounts = Arc::new(accounts);
        let legacy = LegacyTokens(accounts.clone());
        let mut kinds: Vec<Arc<dyn TokenAuthenticator>> =
            vec![Arc::new(legacy), accounts, Arc::new(bootstrap)];
        // After the server's own tokens, for which no issuer elsewhere must be asked.
        let jwt = self.settings.jwt.take().map(|setup| {
            let dialer = self.settings.dialer.clone();
            Arc::new(JwtTokens::new(setup, self.audiences(), dialer, clock.clone()))
        });
        kinds.extend(jwt.clone().map(|jwt| -> Arc<dyn TokenAuthenticator> { jwt }));
        (Arc::new(Tokens::new(kinds, self.audiences(), clock.clone())), jwt)
    }

    fn issuer(&self, foundation: &Foundation) -> TokenIssuer {
        TokenIssuer {
            key: self.settings.pki.service_accounts.clone(),
            issuer: self.settings.issuer.clone(),
            audiences: self.audiences(),
            max_expiration: self.settings.max_token_expiration,
            objects: foundation.objects.clone(),
            clock: foundation.clock.clone(),
        }
    }

    fn authenticators(self, tokens: Arc<Tokens>, clock: SharedClock) -> Authenticators {
        Authenticators::new(Authentication {
            front_proxy: Some(FrontProxy {
                headers: self.settings.front_proxy_headers,
                trust: self.proxies,
                clock: clock.clone(),
            }),
            client_certificates: Some(ClientCertificates { trust: self.clients, clock }),
            tokens: Some(tokens),
            anonymous: self.settings.anonymous,
        })
    }

    fn documents(&self, extensions: &mut Extensions) {
        let Settings { issuer, jwks_uri, pki, .. } = &self.settings;
        let discovery =
            Discovery::new(issuer, jwks_uri, std::slice::from_ref(&pki.service_accounts.verifying));
        extensions.document(OPENID_CONFIGURATION_PATH, "application/json", discovery.configuration);
        extensions.document(JWKS_PATH, "application/jwk-set+json", discovery.keys);
    }
}

impl Background {
    /// Becomes true when every decision is made on complete knowledge.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Runs until dropped.
    pub async fn run(&self) {
        let (rbac_ready, mut rbac_synced) = watch::channel(false);
        let (nodes_ready, mut nodes_synced) = watch::channel(false);
        let both = async {
            for synced in [&mut rbac_synced, &mut nodes_synced] {
                // An error means that a follower ended, which happens only when the server does.
                if synced.wait_for(|ready| *ready).await.is_err() {
                    return;
                }
            }
            self.ready.send_replace(true);
        };
        let issuers = async {
            if let Some(jwt) = &self.jwt {
                jwt.run().await;
            }
        };
        tokio::join!(
            self.rbac.run(self.objects.clone(), rbac_ready),
            self.nodes.run(self.objects.clone(), nodes_ready),
            self.hooks.run(self.objects.clone()),
            self.policies.run(self.objects.clone()),
            admission::report_policy_status(self.objects.clone(), self.loopback.clone()),
            self.kubernetes.run(),
            self.pki.rotate(),
            self.aggregator.clone().run(),
            self.fairness.run(self.objects.clone()),
            issuers,
            both
        );
    }
}
