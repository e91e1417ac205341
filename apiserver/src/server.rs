//! The server as a whole: built once from its parts, used in process through its router and from outside over TLS.

mod addresses;
mod api_services;
mod compact;
mod config;
mod dispatch;
mod expire;
mod listen;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use knarr_api::status::Status;
use knarr_api::time::{SharedClock, SharedRandom};
use knarr_storage::{Error as StoreError, Store};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, Caller};
use crate::aggregation::Aggregator;
use crate::audit::Auditor;
use crate::authn::{InProcess, SharedAuthenticator};
use crate::authz::SharedAuthorizer;
use crate::cache::WatchCache;
use crate::catalogue::{self, Extensions};
use crate::fairness::Fairness;
use crate::health::Health;
use crate::loopback::Loopback;
use crate::metrics::Metrics;
use crate::objects::Objects;
use crate::registry::Registry;
use crate::user::UserInfo;
use crate::{custom, filters, resources, user::MASTERS_GROUP};

pub use config::Config;
pub use listen::ListenError;

/// Who may come in and what they may do.
pub struct Security {
    pub authenticator: SharedAuthenticator,
    pub authorizer: SharedAuthorizer,
    pub admission: Option<Arc<dyn Admission>>,
    /// What serves reviews, tokens and connections.
    pub extensions: Extensions,
    /// Reaches webhooks that convert custom resources; without it they are not asked.
    pub webhooks: Option<Caller>,
    /// Says which requests wait when there are too many; without it there is one limit for all.
    pub fairness: Option<Arc<Fairness>>,
    /// Knows the groups that other servers serve.
    pub aggregator: Option<Arc<Aggregator>>,
}

/// What security is built on.
pub struct Foundation {
    /// The server's objects, for decisions.
    pub objects: Arc<dyn Objects>,
    /// The server as its own client, usable once the server is built.
    pub loopback: Loopback,
    pub clock: SharedClock,
    pub random: SharedRandom,
    /// Ends with the server.
    pub stop: CancellationToken,
}

/// The API server. Cheap to clone.
#[derive(Clone)]
pub struct ApiServer(Arc<Inner>);

/// What all requests share.
pub struct Inner {
    pub registry: Arc<Registry>,
    pub security: Security,
    pub health: Health,
    pub metrics: Metrics,
    pub audit: Option<Arc<Auditor>>,
    loopback: Loopback,
    readers: Arc<Semaphore>,
    writers: Arc<Semaphore>,
    stop: CancellationToken,
}

impl ApiServer {
    /// Builds the server on a store: reads what is stored, and follows it from then on.
    pub async fn build(
        config: Config,
        store: Arc<dyn Store>,
        clock: SharedClock,
        random: SharedRandom,
        security: impl FnOnce(&Foundation) -> Security,
    ) -> Result<Self, StoreError> {
        let stop = CancellationToken::new();
        let cache = WatchCache::new(store.clone());
        let registry = Registry::new(store, cache.clone(), clock.clone(), random.clone(), config.pools);
        let registry = Arc::new(registry);
        let loopback = Loopback::default();
        let objects: Arc<dyn Objects> = registry.clone();
        let foundation =
            Foundation { objects, loopback: loopback.clone(), clock, random, stop: stop.clone() };
        cache.start(stop.clone()).await?;
        let security = security(&foundation);
        let mut extensions = security.extensions.clone();
        resources::extensions(&mut extensions);
        registry.set_catalogue(catalogue::builtin(&cache, &extensions).await?);
        tokio::spawn(compact::run(registry.store.clone(), stop.clone()));
        tokio::spawn(expire::run(registry.clone(), stop.clone()));
        // What is served from the start is told from the start.
        api_services::settle(&registry).await;
        tokio::spawn(api_services::run(registry.clone(), stop.clone()));
        if let Some(caller) = &security.webhooks {
            registry.webhooks.get_or_init(|| caller.clone());
        }
        tokio::spawn(addresses::run(registry.clone(), stop.clone()));
        custom::start(registry.clone(), stop.clone());
        if let Some(admission) = &security.admission {
            registry.set_admission(admission.clone());
        }
        let health = Health::new();
        let synced =
            move || if cache.is_loaded() { Ok(()) } else { Err("the store is being read".to_owned()) };
        health.add("informer-sync", false, Arc::new(synced));
        let server = Self(Arc::new(Inner {
            registry,
            security,
            health,
            metrics: Metrics::new(),
            audit: config.audit,
            loopback: loopback.clone(),
            readers: Arc::new(Semaphore::new(config.max_requests_inflight)),
            writers: Arc::new(Semaphore::new(config.max_mutating_requests_inflight)),
            stop,
        }));
        loopback.connect(server.router());
        Ok(server)
    }

    /// Everything as one service. Requests without an [`InProcess`] extension must prove who they are.
    pub fn router(&self) -> Router {
        let inner = self.0.clone();
        Router::new().fallback(move |request: Request<Body>| filters::serve(inner.clone(), request))
    }

    /// The service for a component in this process, which is the given user and passes all filters.
    pub fn as_user(&self, user: UserInfo) -> Router {
        let (inner, user) = (self.0.clone(), Arc::new(user));
        Router::new().fallback(move |mut request: Request<Body>| {
            request.extensions_mut().insert(InProcess(user.clone()));
            filters::serve(inner.clone(), request)
        })
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.0.registry
    }

    pub fn health(&self) -> &Health {
        &self.0.health
    }

    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The server as its own client.
    pub fn loopback(&self) -> &Loopback {
        &self.0.loopback
    }

    /// Ends all watches and what runs in the background. Requests being served are finished.
    pub fn stop(&self) {
        self.0.health.drain();
        self.0.stop.cancel();
        self.0.registry.cache.end_watches();
    }
}

impl Inner {
    /// A place among the requests being served, or 429. Components in this process are not held back.
    pub fn take_seat(
        &self,
        method: &Method,
        request: &Request<Body>,
    ) -> Result<Option<OwnedSemaphorePermit>, Status> {
        let exempt = request
            .extensions()
            .get::<InProcess>()
            .is_some_and(|InProcess(user)| user.in_group(MASTERS_GROUP));
        if exempt || self.security.fairness.is_some() {
            return Ok(None);
        }
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let seats = if reads { &self.readers } else { &self.writers };
        let taken = seats.clone().try_acquire_owned().map(Some);
        taken.map_err(|_| Status::too_many_requests("Too many requests, please try again later.", 1))
    }
}
