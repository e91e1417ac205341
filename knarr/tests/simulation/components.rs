//! The components, each of which may crash and be started again.

use std::sync::Arc;
use std::time::Duration;

use knarr_api::time::{SharedClock, SharedRandom};
use knarr_client::events::EventBroadcaster;
use knarr_client::{Client, Identity, InformerFactory};
use knarr_controllers::Controllers;
use knarr_kubelet::sim::Fleet;
use knarr_scheduler::Scheduler;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::faults::{Faults, Link};
use crate::servers::Servers;

pub const NODES: u32 = 6;
/// How long a component may take to end when it is told to, however often its requests fail.
const STOPS_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Controllers,
    Scheduler,
    Nodes,
}

pub const KINDS: [Kind; 3] = [Kind::Controllers, Kind::Scheduler, Kind::Nodes];

/// What components are made of.
pub struct Parts {
    pub servers: Servers,
    pub faults: Arc<Faults>,
    pub clock: SharedClock,
    pub random: SharedRandom,
}

/// One incarnation of a component.
pub struct Component {
    kind: Kind,
    link: Arc<Link>,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Component {
    pub fn start(kind: Kind, parts: &Parts) -> Self {
        let (link, stop) = (Arc::new(Link::default()), CancellationToken::new());
        let running = match kind {
            Kind::Controllers => controllers(parts, &link, stop.clone()),
            Kind::Scheduler => scheduler(parts, &link, stop.clone()),
            Kind::Nodes => nodes(parts, &link, stop.clone()),
        };
        Self { kind, link, stop, running }
    }

    /// Nothing it does reaches anybody any more, and it ends.
    pub async fn crash(&mut self) {
        self.link.cut();
        self.stop().await;
    }

    pub async fn stop(&mut self) {
        self.stop.cancel();
        let ended = timeout(STOPS_WITHIN, &mut self.running).await;
        let ended = ended.unwrap_or_else(|_| panic!("{:?} did not stop", self.kind));
        ended.unwrap_or_else(|error| panic!("{:?} failed: {error}", self.kind));
    }
}

impl Parts {
    fn client(&self, identity: &Identity, link: &Arc<Link>) -> Client {
        self.faults.between(self.servers.client(identity), link)
    }
}

fn controllers(parts: &Parts, link: &Arc<Link>, stop: CancellationToken) -> JoinHandle<()> {
    let config = knarr_controllers::Config {
        root_ca: Some("certificate".to_owned()),
        ..knarr_controllers::Config::default()
    };
    let factory = {
        let (servers, faults, link) = (parts.servers.clone(), parts.faults.clone(), link.clone());
        move |identity: &Identity| faults.between(servers.client(identity), &link)
    };
    let controllers = Controllers::build(config, &factory, parts.clock.clone(), parts.random.clone());
    tokio::spawn(controllers.run(stop))
}

fn scheduler(parts: &Parts, link: &Arc<Link>, stop: CancellationToken) -> JoinHandle<()> {
    let identity = Identity::user("kube-scheduler", "system:kube-scheduler", &["system:authenticated"]);
    let client = parts.client(&identity, link);
    let (clock, random) = (parts.clock.clone(), parts.random.clone());
    tokio::spawn(async move {
        let informers = InformerFactory::new(client.clone(), random.clone());
        let (events, sending) =
            EventBroadcaster::new(client.clone(), clock.clone(), random.clone(), stop.clone());
        let config = knarr_scheduler::Config::default();
        let scheduler = Scheduler::build(config, client, &informers, events, clock, random);
        informers.start();
        tokio::join!(scheduler.run(stop), sending);
        informers.stop().await;
    })
}

fn nodes(parts: &Parts, link: &Arc<Link>, stop: CancellationToken) -> JoinHandle<()> {
    let client = parts.client(&Identity::user("kubelet", "nodes", &["system:masters"]), link);
    let fleet = Fleet::new(client, NODES, parts.clock.clone(), parts.random.clone());
    tokio::spawn(async move {
        let registered = async {
            while fleet.register().await.is_err() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        if stop.run_until_cancelled(registered).await.is_some() {
            fleet.run(stop).await;
        }
    })
}
