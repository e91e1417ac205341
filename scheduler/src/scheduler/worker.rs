//! The task that owns the state, takes in what happens, and decides pod after pod.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::resource::v1::ResourceClaim;
use knarr_api::time::SharedRandom;
use knarr_client::Cached;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::intake::Message;
use crate::bind::{Binder, BoundClaims};
use crate::cluster::Cluster;
use crate::config::Config;
use crate::cycle::{Cycle, Unschedulable};
use crate::devices::uid_of;
use crate::event::{Event, Kinds, Subject};
use crate::metrics::{self, Binding, Gauges, Outcome, Status};
use crate::object::{Pod, ResourceClaimRef};
use crate::plugins::ResourceClaims;
use crate::preemption::Preemption;
use crate::profile::Profile;
use crate::queue::{Attempt, Queue};
use crate::volumes::{self, Plan, VolumeBinder};

/// Pods that waited too long are looked for this often.
const FLUSH_INTERVAL: Duration = Duration::from_secs(30);

type Profiles = HashMap<Box<str>, Profile>;

/// What a pod got with the decision, to be written before it is bound.
struct Reserved {
    plan: Plan,
    claims: BoundClaims,
}

fn status_of(error: &Option<String>) -> Status {
    if error.is_none() { Status::Success } else { Status::Error }
}

pub struct Worker {
    cluster: Cluster,
    queue: Queue,
    cycle: Cycle,
    binder: Binder,
    volumes: Arc<VolumeBinder>,
    random: SharedRandom,
    profiles: Profiles,
    gauges: Gauges,
    sender: mpsc::UnboundedSender<Message>,
    /// Requests to the API server that are under way.
    requests: TaskTracker,
}

impl Worker {
    pub fn new(
        config: Config,
        binder: Binder,
        volumes: VolumeBinder,
        random: SharedRandom,
        sender: mpsc::UnboundedSender<Message>,
        requests: TaskTracker,
    ) -> Self {
        let percentage = config.percentage_of_nodes_to_score;
        let profiles = config
            .profiles
            .iter()
            .map(|profile| (profile.scheduler_name.as_str().into(), Profile::new(profile, percentage)));
        Self {
            cluster: Cluster::default(),
            profiles: profiles.collect(),
            queue: Queue::new(config),
            cycle: Cycle::new(random.clone()),
            random,
            binder,
            volumes: Arc::new(volumes),
            gauges: Gauges::new(),
            sender,
            requests,
        }
    }

    pub async fn run(&mut self, mut mailbox: mpsc::UnboundedReceiver<Message>, shutdown: &CancellationToken) {
        let mut flush = tokio::time::interval(FLUSH_INTERVAL);
        flush.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !shutdown.is_cancelled() {
            while let Ok(message) = mailbox.try_recv() {
                self.take_in(message);
            }
            self.gauges.waiting(self.queue.sizes());
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
                _ = flush.tick() => {
                    let (nodes, pods, assumed) = self.cluster.state.sizes();
                    self.gauges.known(nodes, pods, assumed);
                    self.queue.flush_stale(Instant::now());
                }
            }
        }
    }

    fn take_in(&mut self, message: Message) {
        let happened = match message {
            Message::Node(node) => Some(self.cluster.state.node_added_or_updated(node)),
            Message::NodeGone(node) => {
                self.cluster.state.node_deleted(&node.metadata.name);
                None
            }
            Message::Pod(pod) if !pod.node_name.is_empty() => {
                self.queue.remove(&pod.metadata.uid);
                self.cluster.nominated.remove(&pod.metadata.uid);
                self.cluster.state.pod_placed(pod)
            }
            Message::Pod(pod) => return self.waits(pod),
            Message::PodGone(pod) => {
                let went = self.waits_no_more(&pod);
                self.cluster.state.pod_removed(&pod.metadata.uid).or(went)
            }
            Message::Object(apply) => apply(&mut self.cluster.objects),
            Message::Bound { pod, plan, claims, error } => {
                self.cluster.assumed.give_back(&plan);
                self.settle_claims(claims);
                error.and_then(|error| self.binding_failed(pod, error))
            }
            Message::Preempted { pod, worked } => {
                return self.queue.preempted(&pod.metadata.uid, worked, Instant::now());
            }
        };
        if let Some(event) = happened {
            self.tell_waiting(&event);
        }
    }

    /// Claims are as they were written; what was decided about others is void, and pods may wait for that.
    fn settle_claims(&mut self, claims: BoundClaims) {
        for written in &claims.written {
            if let Some(old) = self.cluster.objects.claim_seen(written) {
                let new = written.clone();
                let subject = Subject::ResourceClaim { old, new };
                self.tell_waiting(&Event { kinds: Kinds::RESOURCE_CLAIM, subject });
            }
        }
        for (claim, allocation) in claims.decided {
            if self.cluster.objects.devices.settle(uid_of(&claim)) {
                let mut held = (*claim).clone();
                held.status.get_or_insert_default().allocation = Some((*allocation).clone());
                let subject = Subject::ResourceClaim { old: Some(Arc::new(held)), new: claim };
                self.tell_waiting(&Event { kinds: Kinds::RESOURCE_CLAIM, subject });
            }
        }
    }

    fn binding_failed(&mut self, pod: Arc<Pod>, error: String) -> Option<Event> {
        let happened = self.cluster.state.forget(&pod.metadata.uid);
        self.queue.failed(&pod.metadata.uid, Instant::now());
        let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
        tracing::warn!(%namespace, %name, error, "binding failed");
        self.report(pod, "SchedulerError", error, Some(String::new()));
        happened
    }

    fn tell_waiting(&mut self, event: &Event) {
        if event.kinds.is_empty() {
            return;
        }
        let (profiles, cluster) = (&self.profiles, &self.cluster);
        self.queue.happened(event.kinds, Instant::now(), |pod, rejectors| {
            helps(profiles, cluster, pod, rejectors, event)
        });
    }

    /// A pod without a node: ours to place, unless it is on its way out.
    fn waits(&mut self, pod: Arc<Pod>) {
        let Some(profile) = self.profiles.get(&pod.scheduler_name) else { return };
        if pod.metadata.deletion_timestamp.is_some() {
            if let Some(went) = self.waits_no_more(&pod) {
                self.tell_waiting(&went);
            }
            return;
        }
        // Later on it is we who nominate, and what the object says may be older than what we decided.
        if !self.queue.knows(&pod.metadata.uid) {
            self.cluster.nominated.set(&pod, &pod.nominated_node);
        }
        let gated = profile.pre_enqueue(&pod).is_err();
        let (profiles, cluster) = (&self.profiles, &self.cluster);
        self.queue.add_or_update(pod.clone(), gated, Instant::now(), |before, rejectors| {
            let kinds = own_changes(before, &pod);
            let event = Event::pod(kinds, Some(before.clone()), Some(pod.clone()));
            !kinds.is_empty() && helps(profiles, cluster, &pod, rejectors, &event)
        });
    }

    /// The pod is going. If room was being made for it, that is for others now.
    fn waits_no_more(&mut self, pod: &Arc<Pod>) -> Option<Event> {
        let uid = &pod.metadata.uid;
        let had_room = self.cluster.nominated.node_of(uid).is_some();
        self.queue.remove(uid);
        self.cluster.nominated.remove(uid);
        had_room.then(|| Event::pod(Kinds::POD_DELETE, Some(pod.clone()), None))
    }

    fn decide(&mut self, pod: Arc<Pod>) {
        let Some(profile) = self.profiles.get(&pod.scheduler_name) else { return };
        let Some(attempt) = self.queue.attempt(&pod.metadata.uid) else { return };
        let timeout = profile.binds_volumes();
        match self.cycle.decide(&pod, profile, &mut self.cluster) {
            Ok(node) => {
                metrics::chosen(attempt.began.elapsed());
                let plan = timeout.map(|_| self.reserve_volumes(&pod, &node)).unwrap_or_default();
                let claims = self.reserve_devices(&pod, &node);
                self.cluster.state.assume(pod.clone(), &node);
                self.cluster.nominated.remove(&pod.metadata.uid);
                self.bind(pod, node, Reserved { plan, claims }, timeout.unwrap_or_default(), attempt);
            }
            Err(unschedulable) => {
                let took = attempt.began.elapsed();
                metrics::attempted(Outcome::Unschedulable, &pod.scheduler_name, took);
                self.give_up(pod, unschedulable);
            }
        }
    }

    /// Takes the volumes that the pod gets on the node, which the filter has found to be there.
    fn reserve_volumes(&mut self, pod: &Pod, node: &str) -> Plan {
        let Cluster { state, objects, assumed, .. } = &mut self.cluster;
        if pod.claims().next().is_none() {
            return Plan::default();
        }
        let info = state.node(node).and_then(|info| info.node());
        let claims = volumes::sort_out(pod, objects).unwrap_or_default();
        let plan = info.and_then(|info| Plan::of(&claims, info, objects, assumed).ok()).unwrap_or_default();
        assumed.take(&plan, node);
        plan
    }

    /// Takes the devices that the pod's claims get on the node, which the filter has found to be there.
    fn reserve_devices(&mut self, pod: &Pod, node: &str) -> BoundClaims {
        let Ok(claims) = ResourceClaims::of(pod, &self.cluster) else { return BoundClaims::default() };
        let all = pod.resource_claims.iter().filter_map(|claim| {
            let ResourceClaimRef::Named(name) = claim else { return None };
            self.cluster.objects.resource_claims.get(&pod.metadata.namespace, name).cloned()
        });
        let all: Vec<_> = all.collect();
        let open: Vec<&ResourceClaim> = claims.open().iter().map(|claim| &***claim).collect();
        let place = self.cluster.state.node(node).and_then(|info| info.node());
        let found = place.filter(|_| !open.is_empty());
        let found = found.and_then(|node| self.cluster.objects.devices.find(&open, node).ok().flatten());
        let allocations = found.map(|solution| solution.allocations(&*self.random)).unwrap_or_default();
        let decided = claims.open().iter().zip(allocations);
        let decided: Vec<_> = decided.map(|(claim, made)| ((*claim).clone(), Arc::new(made))).collect();
        self.cluster.objects.devices.take(&decided);
        BoundClaims { all, decided, written: Vec::new() }
    }

    fn bind(&self, pod: Arc<Pod>, node: Arc<str>, reserved: Reserved, timeout: Duration, attempt: Attempt) {
        let (binder, volumes, sender) = (self.binder.clone(), self.volumes.clone(), self.sender.clone());
        let Reserved { plan, mut claims } = reserved;
        let under_way = Binding::begins();
        self.requests.spawn(async move {
            let began = Instant::now();
            let mut error = None;
            if !plan.is_empty() {
                // Others that watch the pod learn where it is about to go while its volumes are prepared.
                if let Err(error) = binder.nominate(&pod, &node).await {
                    tracing::debug!(name = %pod.metadata.name, %error, "could not nominate the node");
                }
                let bound = volumes.carry_out(&plan, &node, timeout).await.err();
                error = bound.map(|error| format!("running PreBind plugin \"VolumeBinding\": {error}"));
            }
            if error.is_none() {
                let reserved = binder.bind_claims(&pod, &mut claims).await.err();
                error = reserved.map(|error| format!("running PreBind plugin \"DynamicResources\": {error}"));
            }
            let prepared = Instant::now();
            metrics::ran("PreBind", status_of(&error), &pod.scheduler_name, prepared - began);
            if error.is_none() {
                let bound = binder.bind(&pod, &node).await.err();
                error = bound.map(|error| format!("running Bind plugin \"DefaultBinder\": {error}"));
                metrics::ran("Bind", status_of(&error), &pod.scheduler_name, prepared.elapsed());
            }
            if error.is_some() {
                binder.unreserve_claims(&pod, &mut claims).await;
            } else {
                metrics::bound(attempt.number, attempt.first.elapsed());
            }
            let outcome = if error.is_none() { Outcome::Scheduled } else { Outcome::Error };
            metrics::attempted(outcome, &pod.scheduler_name, attempt.began.elapsed());
            drop(under_way);
            let _stopped = sender.send(Message::Bound { pod, plan, claims, error });
        });
    }

    fn give_up(&mut self, pod: Arc<Pod>, unschedulable: Unschedulable) {
        let Unschedulable { message, rejectors, preemption, deallocate } = unschedulable;
        let retry_on = self.events_for(&pod, &rejectors);
        let nomination = preemption.nomination().map(str::to_owned);
        if let Some(node) = &nomination {
            self.cluster.nominated.set(&pod, node);
        }
        let victims = match preemption {
            Preemption::MakeRoom { node, victims } => Some((node, victims)),
            _ => None,
        };
        let uid = &pod.metadata.uid;
        self.queue.unschedulable(uid, rejectors, retry_on, victims.is_some(), Instant::now());
        if let Some((node, victims)) = victims {
            self.make_room(pod.clone(), node, victims);
        }
        if let Some(claim) = deallocate {
            self.deallocate(claim);
        }
        self.report(pod, "Unschedulable", message, nomination);
    }

    fn deallocate(&self, claim: Arc<ResourceClaim>) {
        let binder = self.binder.clone();
        self.requests.spawn(async move {
            if let Err(error) = binder.deallocate(&claim).await {
                let (namespace, name) = (claim.namespace(), claim.name());
                tracing::warn!(%namespace, %name, %error, "could not deallocate the resource claim");
            }
        });
    }

    /// What may turn the no of these plugins into a yes; of nobody's no, anything.
    fn events_for(&self, pod: &Pod, rejectors: &[&'static str]) -> Kinds {
        let profile = self.profiles.get(&pod.scheduler_name);
        let plugins = rejectors.iter().filter_map(|name| profile.and_then(|profile| profile.filter(name)));
        let events = plugins.map(|plugin| plugin.events());
        if rejectors.is_empty() { Kinds::ALL } else { events.fold(Kinds::default(), Kinds::or) }
    }

    /// Tells the victims to go, and pods of less importance that they were promised the node in vain.
    fn make_room(&mut self, pod: Arc<Pod>, node: Arc<str>, victims: Vec<Arc<Pod>>) {
        let promised = self.cluster.nominated.on(&node).iter();
        let lesser: Vec<Arc<Pod>> = promised.filter(|other| other.priority < pod.priority).cloned().collect();
        for other in &lesser {
            self.cluster.nominated.remove(&other.metadata.uid);
        }
        let (binder, sender) = (self.binder.clone(), self.sender.clone());
        if victims.iter().any(|victim| victim.metadata.deletion_timestamp.is_none()) {
            metrics::preempting(victims.len());
        }
        self.requests.spawn(async move {
            let (began, mut worked) = (Instant::now(), true);
            let clear = lesser.iter().map(|other| binder.nominate(other, ""));
            let leaving = victims.iter().filter(|victim| victim.metadata.deletion_timestamp.is_none());
            let preempt = leaving.map(|victim| binder.preempt(victim, &pod, &node));
            let cleared = futures::future::join_all(clear).await;
            let preempted = futures::future::join_all(preempt).await;
            for error in cleared.into_iter().chain(preempted).filter_map(Result::err) {
                let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
                tracing::warn!(%namespace, %name, %error, "could not make room for the pod");
                worked = false;
            }
            metrics::preempted(worked, began.elapsed());
            let _stopped = sender.send(Message::Preempted { pod, worked });
        });
    }

    fn report(&self, pod: Arc<Pod>, reason: &'static str, message: String, nominate: Option<String>) {
        let binder = self.binder.clone();
        self.requests.spawn(async move {
            if let Err(error) = binder.report(&pod, reason, &message, nominate.as_deref()).await {
                let (namespace, name) = (&pod.metadata.namespace, &pod.metadata.name);
                tracing::warn!(%namespace, %name, %error, "could not say why the pod is not scheduled");
            }
        });
    }
}

/// Whether one of the plugins that said no may now say yes.
fn helps(
    profiles: &Profiles,
    cluster: &Cluster,
    pod: &Pod,
    rejectors: &[&'static str],
    event: &Event,
) -> bool {
    let Some(profile) = profiles.get(&pod.scheduler_name) else { return false };
    let mut plugins = rejectors.iter().filter_map(|name| profile.filter(name));
    rejectors.is_empty()
        || plugins.any(|plugin| plugin.events().intersects(event.kinds) && plugin.helps(pod, event, cluster))
}

/// What a pod changed about itself that plugins mind.
fn own_changes(before: &Pod, now: &Pod) -> Kinds {
    let mut kinds = Kinds::default();
    if before.metadata.labels != now.metadata.labels {
        kinds = kinds.or(Kinds::POD_LABEL);
    }
    if before.tolerations != now.tolerations {
        kinds = kinds.or(Kinds::POD_TOLERATION);
    }
    if before.resource_claims != now.resource_claims {
        kinds = kinds.or(Kinds::POD_CLAIMS);
    }
    if before.request.exact.exceeds(&now.request.exact) {
        kinds = kinds.or(Kinds::POD_SCALE_DOWN);
    }
    kinds
}
