//! Building a node agent from its parts, and running it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use knarr_api::time::{SharedClock, SharedRandom};
use knarr_client::events::EventBroadcaster;
use knarr_client::informer::{Change, InformerFactory, Selection, SharedInformer};
use knarr_network::pod::PodNetwork;
use knarr_runtime::cri::{self, ContainerRuntime, SandboxState};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agent::Agent;
use crate::config::{Config, Machine};
use crate::csi::node_info::NodeInfo;
use crate::csi::registration::{self, Registration};
use crate::events::Recorder;
use crate::eviction::{self, Pressure};
use crate::images::{ImageManager, collect};
use crate::lifecycle::hooks::Hooks;
use crate::node::updates::Reporter;
use crate::node::{self, lease, object, register};
use crate::objects::Objects;
use crate::plugins;
use crate::pod::manifests::Manifests;
use crate::pod::mirror::Mirrors;
use crate::pod::users::{Users, UsersError};
use crate::pod::workers::Workers;
use crate::pod::{cleanup, dns, spec};
use crate::probes::run::NetworkProber;
use crate::probes::{ProbeManager, Prober};
use crate::resize::queue::Queue;
use crate::resize::{Allocations, ResizeConditions};
use crate::resources::cgroups;
use crate::sim::SimProber;
use crate::stats::rate::Rates;
use crate::status::manager::StatusManager;
use crate::status::qos::QosClass;
use crate::volumes::VolumeManager;
use crate::volumes::csi::Csi;
use crate::volumes::token::Tokens;

/// Before the event stream is opened again after it broke.
const EVENTS_RETRY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("cannot read what this machine offers: {0}")]
    Machine(std::io::Error),
    #[error("container runtime does not answer: {0}")]
    Runtime(#[from] cri::Error),
    #[error("cannot make {path}: {source}")]
    Directory { path: String, source: std::io::Error },
    #[error("{0}")]
    Disk(#[from] collect::CollectError),
    #[error("{0}")]
    Users(#[from] UsersError),
    #[error("{0}")]
    Server(#[from] crate::server::ServerError),
}

/// The parts a node agent is given.
pub struct Parts {
    pub client: kube::Client,
    pub runtime: Arc<dyn ContainerRuntime>,
    /// Absent where the runtime gives pods their addresses.
    pub network: Option<Arc<dyn PodNetwork>>,
    pub clock: SharedClock,
    pub random: SharedRandom,
}

/// A node agent, built and not yet running.
pub struct Kubelet {
    agent: Arc<Agent>,
    workers: Workers,
    factory: InformerFactory,
    pods: SharedInformer<Pod>,
    sending_events: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    server: Option<crate::server::Bound>,
    /// Stops everything that belongs to this agent.
    stop: CancellationToken,
    node_changed: Arc<Notify>,
}

impl Kubelet {
    /// Puts the parts together: reads the machine, makes directories, binds the server's port. Nothing runs yet.
    pub async fn build(config: Config, parts: Parts) -> Result<Self, BuildError> {
        let Parts { client, runtime, network, clock, random } = parts;
        let config = Arc::new(config);
        let machine = match &config.machine {
            Some(machine) => machine.clone(),
            None => Machine::read().map_err(BuildError::Machine)?,
        };
        if config.host {
            make_directories(&config)?;
        }
        let disk = config.host.then(|| collect::disk(&config.root_dir)).transpose()?;
        let allocatable = object::allocatable(&config, &object::capacity(&config, &machine, disk));
        let info = runtime.info().await?;
        let stop = CancellationToken::new();

        let (broadcaster, sending_events) =
            EventBroadcaster::new(client.clone(), Arc::clone(&clock), Arc::clone(&random), stop.clone());
        let recorder = Recorder::new(broadcaster.recorder("kubelet", Some(&config.node_name)));
        let factory = InformerFactory::new(client.clone(), Arc::clone(&random));
        let here = Selection::all::<Pod>().fields(format!("spec.nodeName={}", config.node_name));
        let pods = factory.select::<Pod>(here);
        let nodes = factory
            .select::<Node>(Selection::all::<Node>().fields(format!("metadata.name={}", config.node_name)));
        let initial_node = Arc::new(object::node(&config, &machine, Default::default()));
        let services = config.host.then(|| factory.informer::<Service>());
        let objects = Arc::new(Objects::new(client.clone(), factory.clone()));
        let status = StatusManager::new(client.clone(), Arc::clone(&clock), stop.clone());
        let prober: Arc<dyn Prober> =
            if config.host { Arc::new(NetworkProber::new()) } else { Arc::new(SimProber) };
        let probes = Arc::new(ProbeManager::new(
            Arc::clone(&runtime),
            Arc::clone(&prober),
            status.clone(),
            recorder.clone(),
            Arc::clone(&clock),
            Arc::clone(&random),
            stop.clone(),
        ));
        let parallel = if config.serialize_image_pulls { Some(1) } else { config.max_parallel_image_pulls };
        let images =
            Arc::new(ImageManager::new(Arc::clone(&runtime), recorder.clone(), Arc::clone(&clock), parallel));
        let tokens = Tokens::new(client.clone(), Arc::clone(&clock), Arc::clone(&random));
        let node_changed = Arc::new(Notify::new());
        let storage =
            Csi::new(Arc::clone(&config), client.clone(), Arc::clone(&clock), Arc::clone(&node_changed));
        let volumes = Arc::new(VolumeManager::new(
            Arc::clone(&config),
            client.clone(),
            Arc::clone(&objects),
            tokens,
            storage,
            Arc::clone(&clock),
            machine.memory_bytes,
        ));
        let hooks = Hooks::new(Arc::clone(&runtime), prober, recorder.clone());
        let workers = Workers::new(stop.clone());
        let resolv_conf = std::fs::read_to_string(&config.resolv_conf).unwrap_or_default();
        let agent = Arc::new(Agent {
            started: clock.now(),
            machine,
            allocatable,
            client,
            runtime,
            runtime_name: info.name,
            network,
            recorder,
            status,
            probes,
            images,
            volumes,
            objects,
            hooks,
            burstable: cgroups::Burstable::default(),
            allocations: Allocations::new(Arc::clone(&config)),
            resizes: ResizeConditions::default(),
            users: Users::open(Arc::clone(&config))?,
            resize_queue: Queue::default(),
            cpu_rates: Rates::default(),
            pressure: Pressure::default(),
            services,
            dns: dns::parse(&resolv_conf),
            nodes,
            initial_node,
            clock,
            random,
            config,
        });
        let server = crate::server::bind(&agent, &workers).await?;
        let waker = workers.clone();
        let wake: Arc<dyn Fn(&str) + Send + Sync> = Arc::new(move |uid| waker.wake(uid));
        agent.probes.tell(Arc::clone(&wake));
        agent.objects.tell(wake);
        wake_when_attached(&agent, &workers);
        Ok(Self {
            agent,
            workers,
            factory,
            pods,
            sending_events: Box::pin(sending_events),
            server,
            stop,
            node_changed,
        })
    }

    /// Runs until `shutdown`. Containers go on running without the agent.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { agent, workers, factory, pods, sending_events, server, stop, node_changed } = self;
        // Should this task be dropped, what it started does not outlive it.
        let _guard = stop.clone().drop_guard();
        let tasks = TaskTracker::new();
        let spawn = |name: &'static str, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            let stop = stop.clone();
            tasks.spawn(async move {
                if stop.run_until_cancelled(task).await.is_some() {
                    tracing::debug!(task = name, "ended");
                }
            });
        };
        tasks.spawn(sending_events);
        if let Some(server) = server {
            let stop = stop.clone();
            tasks.spawn(async move { server.serve(stop).await });
        }
        let message = "Starting kubelet.";
        agent.recorder.normal(node::reference(&agent.config.node_name), "Starting", message);
        make_hierarchy(&agent).await;
        spawn("runtime events", Box::pin(follow_runtime(Arc::clone(&agent), workers.clone())));
        let node = node_tasks(Arc::clone(&agent), workers.clone(), Arc::clone(&node_changed));
        spawn("node", Box::pin(node));
        if agent.config.host {
            let collector = Arc::new(collect::Collector::new(
                Arc::clone(&agent.config),
                Arc::clone(&agent.runtime),
                agent.recorder.clone(),
                node::reference(&agent.config.node_name),
                Arc::clone(&agent.clock),
            ));
            let evictions = eviction::Manager::new(
                Arc::clone(&agent),
                workers.clone(),
                Arc::clone(&collector),
                Arc::clone(&node_changed),
            );
            spawn("image collection", Box::pin(collect_images(collector)));
            spawn("eviction", Box::pin(evictions.run()));
            spawn("log rotation", Box::pin(crate::logs::rotate::run(Arc::clone(&agent))));
        }
        spawn("pods", Box::pin(follow_pods(Arc::clone(&agent), workers.clone(), factory.clone(), pods)));

        shutdown.cancelled().await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        workers.drain().await;
        agent.probes.drain().await;
        agent.status.drain().await;
        factory.stop().await;
    }

    /// Where the server listens, if there is one.
    pub fn server_address(&self) -> Option<std::net::SocketAddr> {
        self.server.as_ref().and_then(|server| server.address().ok())
    }

    /// The pods this agent looks after, for tests and tools.
    pub fn workers(&self) -> Workers {
        self.workers.clone()
    }
}

fn make_directories(config: &Config) -> Result<(), BuildError> {
    use std::os::unix::fs::DirBuilderExt;
    let below = |name: &str| config.root_dir.join(name);
    for (path, mode) in [
        (below("pods"), 0o750),
        (below("plugins"), 0o750),
        (below(plugins::DIRECTORY), 0o750),
        (config.pod_logs_dir.clone(), 0o755),
    ] {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(&path)
            .map_err(|source| BuildError::Directory { path: path.display().to_string(), source })?;
    }
    Ok(())
}

/// The root of all pods' cgroups and its branches.
async fn make_hierarchy(agent: &Agent) {
    let root = &agent.config.cgroup_root;
    let whole = cri::Resources {
        cpu_shares: crate::resources::container::shares(agent.machine.milli_cpu),
        ..cri::Resources::default()
    };
    let branches = [QosClass::Burstable, QosClass::BestEffort]
        .map(|class| (cgroups::branch(root, class), cgroups::class_resources(class, 0)));
    for (cgroup, resources) in [(root.clone(), whole)].into_iter().chain(branches) {
        if let Err(error) = agent.runtime.apply_pod_cgroup(&cgroup, &resources).await {
            tracing::error!(%cgroup, %error, "cannot make cgroup");
        }
    }
}

/// Containers' changes wake their pods' workers.
async fn follow_runtime(agent: Arc<Agent>, workers: Workers) {
    loop {
        match agent.runtime.events().await {
            Ok(mut events) => {
                // What happened before we listened is found by looking.
                workers.wake_all();
                while let Some(event) = events.next().await {
                    workers.wake(&event.pod_uid);
                }
                tracing::warn!("the container runtime's event stream ended, opening it again");
            }
            Err(error) => tracing::warn!(%error, "cannot follow the container runtime's events"),
        }
        tokio::time::sleep(EVENTS_RETRY).await;
    }
}

/// Pods that wait for volumes look again when the node says something else of them.
fn wake_when_attached(agent: &Agent, workers: &Workers) {
    let workers = workers.clone();
    let volumes = |node: &Node| {
        node.status.as_ref().map(|status| (status.volumes_attached.clone(), status.volumes_in_use.clone()))
    };
    agent
        .nodes
        .subscribe(move |change| {
            if let Change::Updated { old, new } = change
                && volumes(old) != volumes(new)
            {
                workers.wake_all();
            }
        })
        .forever();
}

/// Lets storage drivers register, and takes volumes off the node that no pod has.
async fn storage_tasks(agent: Arc<Agent>, workers: Workers) {
    let node = NodeInfo::new(&agent.client, &agent.config.node_name);
    if let Err(error) = node.initialize().await {
        // Drivers that register try again.
        tracing::warn!(%error, "cannot make this node's CSINode");
    }
    let drivers = Arc::clone(&agent.volumes.csi.drivers);
    let mut come = drivers.follow();
    let handler = Registration { drivers, node, root: agent.config.root() };
    let handlers: plugins::Handlers =
        Arc::new([(registration::KIND, Arc::new(handler) as Arc<dyn plugins::Handler>)].into());
    let waking = async {
        while come.changed().await.is_ok() {
            workers.wake_all();
        }
    };
    let directory = agent.config.root_dir.join(plugins::DIRECTORY);
    tokio::join!(plugins::run(directory, handlers), agent.volumes.csi.keep_clean(), waking);
}

/// Registers the node, then keeps its lease and status, and its storage.
async fn node_tasks(agent: Arc<Agent>, workers: Workers, changed: Arc<Notify>) {
    let status = node::updates::current(&agent, &[], agent.now()).await;
    let wanted: Node = object::node(&agent.config, &agent.machine, status);
    let name = agent.config.node_name.clone();
    let node = if agent.config.register_node {
        register::register(&agent.client, &wanted).await
    } else {
        Node::default()
    };
    let renewer = lease::Renewer {
        client: agent.client.clone(),
        clock: Arc::clone(&agent.clock),
        node_name: name,
        node_uid: node.metadata.uid.clone().unwrap_or_default(),
        duration_seconds: agent.config.node_lease_duration_seconds,
    };
    let in_use = node.status.as_ref().and_then(|status| status.volumes_in_use.clone());
    agent.volumes.csi.in_use.remember(in_use.into_iter().flatten());
    let storage = async {
        if agent.config.host {
            storage_tasks(Arc::clone(&agent), workers).await;
        }
    };
    let reporter = Reporter::new(Arc::clone(&agent), changed, node.status);
    tokio::join!(renewer.run(), reporter.run(), storage);
}

async fn collect_images(collector: Arc<collect::Collector>) {
    loop {
        tokio::time::sleep(collect::PERIOD).await;
        collector.run_once().await;
    }
}

/// Whom the API's news are for.
struct News {
    agent: Arc<Agent>,
    workers: Workers,
    mirrors: Arc<Mirrors>,
}

impl News {
    fn tell(&self, change: Change<'_, Pod>) {
        match change {
            Change::Added(pod) | Change::Updated { new: pod, .. } if spec::is_mirror(pod) => {
                self.mirrors.observe(&self.agent, pod);
            }
            Change::Deleted { last, .. } if spec::is_mirror(last) => self.mirrors.lost(&self.agent, last),
            Change::Added(pod) | Change::Updated { new: pod, .. } => self.workers.apply(&self.agent, pod),
            Change::Deleted { last, .. } => self.workers.remove(&self.agent, last),
        }
    }
}

/// Pods of this node, from manifests and from the API, to their workers; what the runtime has and nobody knows is
/// removed.
async fn follow_pods(
    agent: Arc<Agent>,
    workers: Workers,
    factory: InformerFactory,
    pods: SharedInformer<Pod>,
) {
    let sandboxes = adopt(&agent, &workers).await;
    let mirrors = Arc::new(Mirrors::default());
    let directory = agent.config.static_pod_path.clone();
    let mut manifests = directory.map(|directory| {
        Manifests::new(Arc::clone(&agent), workers.clone(), Arc::clone(&mirrors), directory)
    });
    if let Some(manifests) = &mut manifests {
        manifests.look();
    }
    let news = News { agent: Arc::clone(&agent), workers: workers.clone(), mirrors: Arc::clone(&mirrors) };
    factory.start();
    let of_manifests = async {
        match manifests {
            Some(manifests) => {
                tokio::join!(manifests.follow(), mirrors.run(Arc::clone(&agent), pods.clone()));
            }
            None => std::future::pending().await,
        }
    };
    let of_api = async {
        // Pods are held against the node's labels and taints, so these come first.
        agent.nodes.synced().await;
        pods.subscribe(move |change| news.tell(change)).forever();
        pods.synced().await;
        cleanup::remove_orphans(&agent, &workers, sandboxes).await;
    };
    tokio::join!(of_manifests, of_api);
}

/// Finds what an earlier agent left running, before the first pod is met.
async fn adopt(agent: &Agent, workers: &Workers) -> BTreeMap<String, Vec<cri::SandboxStatus>> {
    let sandboxes = loop {
        match cleanup::sandboxes_by_pod(agent).await {
            Ok(found) => break found,
            Err(error) => tracing::warn!(%error, "cannot list the container runtime's sandboxes"),
        }
        tokio::time::sleep(EVENTS_RETRY).await;
    };
    if let Some(network) = &agent.network {
        // Before the first new pod: what is not live here loses its network.
        let has_live =
            |of_pod: &&Vec<cri::SandboxStatus>| of_pod.iter().any(|s| s.state == SandboxState::Ready);
        let live = sandboxes.iter().filter(|(_, of_pod)| has_live(of_pod)).map(|(uid, _)| uid.clone());
        let live: Vec<String> = live.collect();
        if let Err(error) = network.reconcile(&live).await {
            tracing::warn!(%error, "cannot reconcile the pod network");
        }
    }
    let ids = sandboxes.iter().map(|(uid, list)| (uid.clone(), list.iter().map(|s| s.id.clone()).collect()));
    workers.adopt(ids.collect());
    sandboxes
}
