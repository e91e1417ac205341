//! Leader election on a Lease, so that of several servers one runs a component.
//!
//! ```text
//!   stand by --lease free or expired--> lead --renewed every retry period--> lead
//!      ^                                  |
//!      +--- work cancelled, awaited ------+  (not renewed within the deadline, or shutdown: lease given back)
//! ```
//!
//! Guarantee: two candidates lead at the same time only if one's clock runs faster than the other's by more
//! than the difference of lease duration and renew deadline. Expiry is measured on the observer's own clock
//! from when it saw the lease change, never by comparing timestamps of two machines.

use std::{future::Future, time::Duration};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use knarr_api::time::{SharedClock, SharedRandom};
use kube::{Client, api::PostParams};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{Api, error::is_conflict};

/// Which lease is fought for, as whom, and how patiently. Durations are upstream's defaults.
#[derive(Debug, Clone)]
pub struct Config {
    pub namespace: String,
    pub name: String,
    /// Unique per candidate.
    pub identity: String,
    pub lease_duration: Duration,
    pub renew_deadline: Duration,
    pub retry_period: Duration,
}

impl Config {
    /// A lease in `kube-system`.
    pub fn new(name: &str, identity: &str) -> Self {
        Self {
            namespace: "kube-system".to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

pub struct LeaderElector {
    config: Config,
    leases: Api<Lease>,
    clock: SharedClock,
    random: SharedRandom,
}

/// The lease as last seen, and when we saw it change.
struct Observed {
    spec: LeaseSpec,
    at: Instant,
}

#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error("{0}")]
    Request(#[from] kube::Error),
    #[error("lease is held by {0}")]
    Held(String),
    #[error("the server did not answer in time")]
    Late,
}

impl LeaderElector {
    pub fn new(client: Client, config: Config, clock: SharedClock, random: SharedRandom) -> Self {
        Self { leases: Api::namespaced(client, &config.namespace), config, clock, random }
    }

    /// Waits to become leader, runs `work` while leading, and stands by again when leadership is lost, until
    /// `shutdown`. `work` must end when the token it is given is cancelled; it is awaited before anything else.
    pub async fn run<F: Future<Output = ()>>(
        &self,
        shutdown: CancellationToken,
        work: impl Fn(CancellationToken) -> F,
    ) {
        let mut observed = None;
        while !shutdown.is_cancelled() {
            if shutdown.run_until_cancelled(self.acquire(&mut observed)).await.is_none() {
                return;
            }
            info!(lease = self.config.name, identity = self.config.identity, "became leader");
            let leading = shutdown.child_token();
            let renew = async {
                leading.run_until_cancelled(self.keep(&mut observed)).await;
                leading.cancel();
            };
            tokio::join!(renew, async {
                work(leading.clone()).await;
                leading.cancel();
            });
            info!(lease = self.config.name, "no longer leader");
            self.give_back(&mut observed).await;
        }
    }

    async fn acquire(&self, observed: &mut Option<Observed>) {
        while let Err(error) = self.try_once(observed).await {
            debug!(lease = self.config.name, %error, "not leader");
            sleep(self.config.retry_period.mul_f64(1.0 + 1.2 * self.random.unit())).await;
        }
    }

    /// Renews until the deadline passes without success.
    async fn keep(&self, observed: &mut Option<Observed>) {
        let mut renewed = Instant::now();
        loop {
            sleep(self.config.retry_period).await;
            let deadline = renewed + self.config.renew_deadline;
            let tried = timeout_at(deadline, self.try_once(observed)).await.unwrap_or(Err(LeaseError::Late));
            match tried {
                Ok(()) => renewed = Instant::now(),
                Err(LeaseError::Held(other)) => {
                    return warn!(lease = self.config.name, other, "lease was taken");
                }
                Err(error) if Instant::now() >= deadline => {
                    return warn!(lease = self.config.name, %error, "lease not renewed in time");
                }
                Err(error) => debug!(lease = self.config.name, %error, "lease not renewed, retrying"),
            }
        }
    }

    async fn try_once(&self, observed: &mut Option<Observed>) -> Result<(), LeaseError> {
        let now = MicroTime(self.clock.now());
        let Some(mut lease) = self.leases.get_opt(&self.config.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.claim(None, now)),
            };
            let created = self.leases.create(&PostParams::default(), &lease).await?;
            *observed = created.spec.map(|spec| Observed { spec, at: Instant::now() });
            return Ok(());
        };
        let spec = lease.spec.take().unwrap_or_default();
        if observed.as_ref().is_none_or(|observed| observed.spec != spec) {
            *observed = Some(Observed { spec: spec.clone(), at: Instant::now() });
        }
        let seen = observed.as_ref().map_or_else(Instant::now, |observed| observed.at);
        if let Some(holder) = holder(&spec)
            && holder != self.config.identity
            && seen.elapsed() < self.config.lease_duration
        {
            return Err(LeaseError::Held(holder.to_owned()));
        }
        lease.spec = Some(self.claim(Some(spec), now));
        let updated = self.leases.replace(&self.config.name, &PostParams::default(), &lease).await?;
        *observed = updated.spec.map(|spec| Observed { spec, at: Instant::now() });
        Ok(())
    }

    /// The lease as we want it: ours, renewed now; acquired anew if it was another's.
    fn claim(&self, previous: Option<LeaseSpec>, now: MicroTime) -> LeaseSpec {
        let mut spec = previous.unwrap_or_default();
        let ours = holder(&spec) == Some(self.config.identity.as_str());
        if !ours {
            let first = spec.acquire_time.is_none();
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0) + i32::from(!first));
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.config.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.config.lease_duration.as_secs()).ok();
        spec.renew_time = Some(now);
        spec
    }

    /// Lets the next candidate take over at once.
    async fn give_back(&self, observed: &mut Option<Observed>) {
        let released = async {
            let Some(mut lease) = self.leases.get_opt(&self.config.name).await? else { return Ok(()) };
            let Some(spec) =
                lease.spec.as_mut().filter(|spec| holder(spec) == Some(self.config.identity.as_str()))
            else {
                return Ok(());
            };
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(self.clock.now()));
            self.leases.replace(&self.config.name, &PostParams::default(), &lease).await.map(drop)
        };
        let released = tokio::time::timeout(self.config.retry_period, released).await;
        match released {
            Ok(Err(error)) if !is_conflict(&error) => {
                warn!(lease = self.config.name, %error, "cannot release lease")
            }
            Err(_) => warn!(lease = self.config.name, "cannot release lease: no answer in time"),
            Ok(_) => {}
        }
        *observed = None;
    }
}

fn holder(spec: &LeaseSpec) -> Option<&str> {
    spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}
