//! The life of all controllers together.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use knarr_api::time::{SharedClock, SharedRandom};
use knarr_client::{ClientFactory, Identity, InformerFactory, events::EventBroadcaster};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{Account, CATALOGUE, Config, Context, Descriptor, discovery::Follower};

/// Pauses before a controller that panicked is started anew: doubling from the first to the last.
const RESTART: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// All enabled controllers, wired up and not yet running.
pub struct Controllers {
    built: Vec<(Descriptor, Context, BoxFuture<'static, ()>)>,
    informers: InformerFactory,
    sending_events: BoxFuture<'static, ()>,
    following_resources: BoxFuture<'static, ()>,
    stop: CancellationToken,
}

impl Controllers {
    /// Makes every enabled controller with a client of its own. Must be called inside a tokio runtime.
    pub fn build(
        config: Config,
        clients: &dyn ClientFactory,
        clock: SharedClock,
        random: SharedRandom,
    ) -> Self {
        let manager = clients.client(&identity(Account::Manager));
        let stop = CancellationToken::new();
        let informers = InformerFactory::new(manager.clone(), Arc::clone(&random));
        let follower = Follower::new(manager.clone(), &informers);
        let resources = follower.subscribe();
        let (events, sending_events) =
            EventBroadcaster::new(manager, Arc::clone(&clock), Arc::clone(&random), stop.clone());
        let config = Arc::new(config);
        let enabled = CATALOGUE.iter().filter(|descriptor| config.runs(descriptor.name));
        let built = enabled
            .map(|descriptor| {
                let context = Context {
                    client: clients.client(&identity(descriptor.account)),
                    informers: informers.clone(),
                    resources: resources.clone(),
                    events: events.clone(),
                    clock: Arc::clone(&clock),
                    random: Arc::clone(&random),
                    config: Arc::clone(&config),
                    shutdown: stop.clone(),
                };
                let task = (descriptor.build)(context.clone());
                (*descriptor, context, task)
            })
            .collect();
        Self {
            built,
            informers,
            sending_events: sending_events.boxed(),
            following_resources: follower.run(stop.clone()).boxed(),
            stop,
        }
    }

    /// Starts the caches and works until `shutdown`, then finishes what is in hand and stops.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        tasks.spawn(self.sending_events);
        tasks.spawn(self.following_resources);
        for (descriptor, context, task) in self.built {
            tasks.spawn(supervise(descriptor, context, task));
        }
        self.informers.start();
        info!("controllers started");
        shutdown.cancelled().await;
        self.stop.cancel();
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                error!(%error, "controller task failed");
            }
        }
        self.informers.stop().await;
    }
}

fn identity(account: Account) -> Identity {
    const PROGRAM: &str = "kube-controller-manager";
    match account {
        Account::Service(name) => Identity::service_account(PROGRAM, "kube-system", name),
        Account::Manager => {
            Identity::user(PROGRAM, "system:kube-controller-manager", &["system:authenticated"])
        }
    }
}

/// Runs one controller, and makes it anew should its task panic.
async fn supervise(descriptor: Descriptor, context: Context, mut task: BoxFuture<'static, ()>) {
    let mut pause = RESTART.0;
    while AssertUnwindSafe(task).catch_unwind().await.is_err() {
        error!(controller = descriptor.name, "controller panicked, starting it again");
        if context.shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(RESTART.1);
        task = (descriptor.build)(context.clone());
    }
}
