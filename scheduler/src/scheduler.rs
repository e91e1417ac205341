//! The task that owns the state, takes in what happens, and decides pod after pod.

use std::sync::Arc;
use std::time::Duration;

use knarr_api::time::SharedRandom;
use knarr_client::events::EventRecorder;
use knarr_client::informer::Subscription;
use knarr_client::{Change, Client, InformerFactory, Selection, SharedInformer};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bind::Binder;
use crate::config::Config;
use crate::cycle::Cycle;
use crate::object::{Node, Pod};
use crate::queue::Queue;
use crate::state::State;

/// Pods that waited too long are looked for this often.
const FLUSH_INTERVAL: Duration = Duration::from_secs(30);

/// What the task is told.
enum Message {
    Pod(Arc<Pod>),
    PodGone(Arc<Pod>),
    Node(Arc<Node>),
    NodeGone(Arc<Node>),
    /// A binding came back.
    Bound {
        pod: Arc<Pod>,
        error: Option<kube::Error>,
    },
}

/// The scheduler, ready to run.
pub struct Scheduler {
    config: Config,
    pods: SharedInformer<Pod>,
    nodes: SharedInformer<Node>,
    binder: Binder,
    random: SharedRandom,
}

impl Scheduler {
    /// Takes its informers from `informers` (call before they start) and writes with `client`.
    pub fn build(
        config: Config,
        client: Client,
        informers: &InformerFactory,
        recorder: EventRecorder,
        random: SharedRandom,
    ) -> Self {
        let unfinished = "status.phase!=Succeeded,status.phase!=Failed";
        Self {
            pods: informers.select(Selection::of("", "v1", "pods").fields(unfinished)),
            nodes: informers.select(Selection::of("", "v1", "nodes")),
            binder: Binder::new(client, recorder),
            config,
            random,
        }
    }

    /// Decides until `shutdown`; bindings under way then are finished first.
    pub async fn run(self, shutdown: CancellationToken) {
        let (sender, mailbox) = mpsc::unbounded_channel();
        let _subscriptions = self.subscribe(&sender);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = async { tokio::join!(self.nodes.synced(), self.pods.synced()); } => {}
        }
        let bindings = TaskTracker::new();
        let mut worker = Worker {
            state: State::default(),
            queue: Queue::new(self.config.clone()),
            cycle: Cycle::new(self.config.percentage_of_nodes_to_score, self.random),
            binder: self.binder,
            name: self.config.scheduler_name.into(),
            sender,
            bindings: bindings.clone(),
        };
        worker.run(mailbox, &shutdown).await;
        bindings.close();
        bindings.wait().await;
    }

    fn subscribe(&self, sender: &mpsc::UnboundedSender<Message>) -> [Subscription; 2] {
        let (to_pods, to_nodes) = (sender.clone(), sender.clone());
        // The mailbox only closes when the scheduler has stopped: nobody is left to tell.
        let pods = self.pods.subscribe(move |change| {
            let _stopped = to_pods.send(match change {
                Change::Added(pod) | Change::Updated { new: pod, .. } => Message::Pod(pod.clone()),
                Change::Deleted { last, .. } => Message::PodGone(last.clone()),
            });
        });
        let nodes = self.nodes.subscribe(move |change| {
            let _stopped = to_nodes.send(match change {
                Change::Added(node) | Change::Updated { new: node, .. } => Message::Node(node.clone()),
                Change::Deleted { last, .. } => Message::NodeGone(last.clone()),
            });
        });
        [pods, nodes]
    }
}

struct Worker {
    state: State,
    queue: Queue,
    cycle: Cycle,
    binder: Binder,
    name: Box<str>,
    sender: mpsc::UnboundedSender<Message>,
    bindings: TaskTracker,
}

impl Worker {
    async fn run(&mut self, mut mailbox: mpsc::UnboundedReceiver<Message>, shutdown: &CancellationToken) {
        let mut flush = tokio::time::interval(FLUSH_INTERVAL);
        flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !shutdown.is_cancelled() {
            while let Ok(message) = mailbox.try_recv() {
                self.take_in(message);
            }
            if let Some(pod) = self.queue.pop(Instant::now()) {
                self.decide(pod);
                // Bindings and informers need this thread too.
                tokio::task::yield_now().await;
                continue;
            }
            let release = self.queue.next_release();
            tokio::select! {
                () = shutdown.cancelled() => return,
                message = mailbox.recv() => match message {
                    Some(message) => self.take_in(message),
                    None => return,
                },
                () = async { tokio::time::sleep_until(release.unwrap_or_else(Instant::now)).await },
                    if release.is_some() => {}
                _ = flush.tick() => self.queue.flush_stale(Instant::now()),
            }
        }
    }

    fn take_in(&mut self, message: Message) {
        let now = Instant::now();
        let happened = match message {
            Message::Node(node) => self.state.node_added_or_updated(node),
            Message::NodeGone(node) => {
                self.state.node_deleted(&node.metadata.name);
                return;
            }
            Message::Pod(pod) if !pod.node_name.is_empty() => {
                self.queue.remove(&pod.metadata.uid);
                self.state.pod_placed(pod)
            }
            Message::Pod(pod) => return self.waits(pod, now),
            Message::PodGone(pod) => {
                self.queue.remove(&pod.metadata.uid);
                self.state.pod_removed(&pod.metadata.uid)
            }
            Message::Bound { error: None, .. } => return,
            Message::Bound { pod, error: Some(error) } => {
                let happened = self.state.forget(&pod.metadata.uid);
                self.queue.failed(&pod.metadata.uid, now);
                tracing::warn!(namespace = %pod.metadata.namespace, name = %pod.metadata.name, %error, "binding failed");
                self.report(pod, "SchedulerError", format!("binding rejected: {error}"));
                happened
            }
        };
        self.queue.happened(happened, now);
    }

    /// A pod without a node: ours to place, unless it is on its way out.
    fn waits(&mut self, pod: Arc<Pod>, now: Instant) {
        if *pod.scheduler_name != *self.name {
            return;
        }
        if pod.metadata.deletion_timestamp.is_some() {
            return self.queue.remove(&pod.metadata.uid);
        }
        self.queue.add_or_update(pod, now);
    }

    fn decide(&mut self, pod: Arc<Pod>) {
        match self.cycle.decide(&pod, &self.state) {
            Ok(node) => {
                self.state.assume(pod.clone(), &node);
                let (binder, sender) = (self.binder.clone(), self.sender.clone());
                self.bindings.spawn(async move {
                    let error = binder.bind(&pod, &node).await.err();
                    let _stopped = sender.send(Message::Bound { pod, error });
                });
            }
            Err(unschedulable) => {
                self.queue.unschedulable(&pod.metadata.uid, unschedulable.retry_on, Instant::now());
                self.report(pod, "Unschedulable", unschedulable.message);
            }
        }
    }

    fn report(&self, pod: Arc<Pod>, reason: &'static str, message: String) {
        let binder = self.binder.clone();
        self.bindings.spawn(async move {
            if let Err(error) = binder.report(&pod, reason, &message).await {
                let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
                tracing::warn!(%namespace, %name, %error, "could not say why the pod is not scheduled");
            }
        });
    }
}
