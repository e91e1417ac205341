//! Priority and fairness: which requests wait when there are too many, by FlowSchemas and
//! PriorityLevelConfigurations.
//!
//! A request is classified by the first schema that fits it; the schema's level has a share of the server's seats and
//! queues for those who find none free, one queue per flow (hashed), served in turn. Who waits too long, or finds the
//! queue full, is answered with 429.

mod classify;
mod level;
mod seats;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::StreamExt;
use futures::stream::select;
use http::{HeaderMap, HeaderName, HeaderValue};
use knarr_api::status::Status;
use serde_json::Value;

use crate::authz::Attributes;
use crate::objects::{Change, Objects, Resource, Stored};
use classify::Schema;
use level::Level;
pub use seats::Seat;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const SCHEMAS: Resource<'static> = Resource::new(GROUP, "flowschemas");
const LEVELS: Resource<'static> = Resource::new(GROUP, "prioritylevelconfigurations");
const FLOW_SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const PRIORITY_LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");
/// A quarter of the time that a request has at all.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Where a request belongs.
#[derive(Clone)]
pub struct Placed {
    schema_uid: Arc<str>,
    level: Arc<Level>,
    /// Which flow of the schema it is of.
    flow: u64,
}

#[derive(Default)]
struct Rules {
    /// In the order in which they are tried.
    schemas: Vec<Schema>,
    levels: HashMap<String, Arc<Level>>,
}

/// Classifies requests and hands out seats.
pub struct Fairness {
    rules: ArcSwap<Rules>,
    /// Seats of all limited levels together.
    seats: usize,
}

impl Fairness {
    /// `seats` is how many requests are served at once (`--max-requests-inflight` and its mutating sibling together).
    pub fn new(seats: usize) -> Self {
        Self { rules: ArcSwap::default(), seats }
    }

    /// Where the request belongs; `None` as long as no schema is known.
    pub fn place(&self, asked: &Attributes<'_>) -> Option<Placed> {
        let rules = self.rules.load();
        rules.schemas.iter().filter(|schema| schema.fits(asked)).find_map(|schema| {
            let level = rules.levels.get(&schema.level)?.clone();
            Some(Placed { schema_uid: schema.uid.clone(), level, flow: schema.flow(asked) })
        })
    }

    /// Follows the objects; runs until dropped.
    pub async fn run(&self, objects: Arc<dyn Objects>) {
        let schemas = objects.watch(SCHEMAS).map(|change| (true, change));
        let levels = objects.watch(LEVELS).map(|change| (false, change));
        let mut changes = select(schemas, levels).ready_chunks(256);
        let (mut schemas, mut levels) = (HashMap::new(), HashMap::new());
        while let Some(batch) = changes.next().await {
            for (is_schema, change) in batch {
                let known: &mut HashMap<String, Value> = if is_schema { &mut schemas } else { &mut levels };
                match change {
                    Change::Set(stored) => drop(known.insert(stored.name.to_string(), parsed(&stored))),
                    Change::Removed(stored) => drop(known.remove(&*stored.name)),
                    Change::Restart => known.clear(),
                    Change::Synced => {}
                }
            }
            self.rebuild(&schemas, &levels);
        }
    }

    /// Levels that are still there keep who is seated and who waits.
    fn rebuild(&self, schemas: &HashMap<String, Value>, levels: &HashMap<String, Value>) {
        let before = self.rules.load_full();
        let shares: f64 = levels.values().map(level::shares).sum();
        let levels = levels
            .iter()
            .map(|(name, object)| {
                let limit = (self.seats as f64 * level::shares(object) / shares.max(1.0)).ceil() as usize;
                let known = before.levels.get(name);
                (name.clone(), Level::of(object, limit.max(1), known))
            })
            .collect();
        let mut schemas: Vec<Schema> = schemas.values().filter_map(Schema::read).collect();
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        self.rules.store(Arc::new(Rules { schemas, levels }));
    }
}

fn parsed(stored: &Stored) -> Value {
    serde_json::from_slice(&stored.json).unwrap_or_default()
}

impl Placed {
    /// A seat, waiting for it if the level lets wait; 429 when there is none.
    pub async fn seat(&self) -> Result<Option<Seat>, Status> {
        let Some(seats) = self.level.seats() else { return Ok(None) };
        let refuse = || Status::too_many_requests("Too many requests, please try again later.", 1);
        let waiting = seats.take(self.flow).ok_or_else(refuse)?;
        match tokio::time::timeout(LONGEST_WAIT, waiting).await {
            Ok(seat) => Ok(Some(seat)),
            Err(_elapsed) => Err(refuse()),
        }
    }

    /// Tells the client where its request was placed.
    pub fn tell(&self, headers: &mut HeaderMap) {
        for (name, uid) in [(FLOW_SCHEMA_UID, &*self.schema_uid), (PRIORITY_LEVEL_UID, self.level.uid())] {
            if let Ok(uid) = HeaderValue::from_str(uid) {
                headers.insert(name, uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::Target;
    use crate::user::UserInfo;
    use serde_json::json;

    fn fairness(limit: Value) -> Fairness {
        let fairness = Fairness::new(10);
        let schema = |name: &str, precedence: u32, user: &str, level: &str| {
            let rules = json!([{"subjects": [{"kind": "User", "user": {"name": user}}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]);
            (
                name.to_owned(),
                json!({"metadata": {"name": name, "uid": format!("{name}-uid")}, "spec": {
                "matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level},
                "distinguisherMethod": {"type": "ByUser"}, "rules": rules}}),
            )
        };
        let schemas = HashMap::from([schema("one", 1, "jane", "free"), schema("all", 9, "*", "narrow")]);
        let level = |name: &str, spec: Value| {
            (name.to_owned(), json!({"metadata": {"name": name, "uid": format!("{name}-uid")}, "spec": spec}))
        };
        let levels = HashMap::from([
            level("free", json!({"type": "Exempt"})),
            level(
                "narrow",
                json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": limit}}),
            ),
            level("wide", json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 9}})),
        ]);
        fairness.rebuild(&schemas, &levels);
        fairness
    }

    fn place(fairness: &Fairness, name: &str) -> Placed {
        let user = UserInfo::new(name, ["dev"]);
        let asked = Attributes { user: &user, verb: "get", target: Target::Path("/version") };
        fairness.place(&asked).expect("a schema fits")
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_schema_decides_and_the_client_is_told() {
        let fairness = fairness(json!({"type": "Reject"}));
        let mut headers = HeaderMap::new();
        place(&fairness, "jane").tell(&mut headers);
        assert_eq!(
            (&headers[FLOW_SCHEMA_UID], &headers[PRIORITY_LEVEL_UID]),
            (&HeaderValue::from_static("one-uid"), &HeaderValue::from_static("free-uid"))
        );
        assert!(place(&fairness, "jane").seat().await.unwrap().is_none(), "exempt");
        place(&fairness, "joe").tell(&mut headers);
        assert_eq!(headers[FLOW_SCHEMA_UID], "all-uid");
    }

    #[tokio::test(start_paused = true)]
    async fn without_queues_who_finds_no_seat_is_refused() {
        let fairness = fairness(json!({"type": "Reject"}));
        let joe = place(&fairness, "joe");
        let seat = joe.seat().await.unwrap();
        let refused = joe.seat().await.expect_err("full");
        assert_eq!((refused.code, refused.details.map(|d| d.retry_after_seconds)), (429, Some(1)));
        drop(seat);
        assert!(joe.seat().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn flows_take_turns_and_nobody_waits_for_ever() {
        let queuing = json!({"queues": 64, "handSize": 1, "queueLengthLimit": 3});
        let fairness = fairness(json!({"type": "Queue", "queuing": queuing}));
        let (loud, quiet) = (place(&fairness, "loud"), place(&fairness, "quiet"));
        let seat = loud.seat().await.unwrap();
        let order = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let wait = |who: &'static str, placed: &Placed| {
            let (placed, order) = (placed.clone(), order.clone());
            tokio::spawn(async move {
                let seat = placed.seat().await;
                order.lock().push(who);
                tokio::time::sleep(Duration::from_secs(1)).await;
                drop(seat);
            })
        };
        let mut waiting: Vec<_> = (0..3).map(|_| wait("loud", &loud)).collect();
        tokio::task::yield_now().await;
        assert!(loud.seat().await.is_err(), "the flow's queue is full");
        waiting.push(wait("quiet", &quiet));
        tokio::task::yield_now().await;
        drop(seat);
        for task in waiting {
            task.await.unwrap();
        }
        let order = order.lock().clone();
        assert!(order[..2].contains(&"quiet"), "{order:?}");

        let held = loud.seat().await.unwrap();
        let begun = tokio::time::Instant::now();
        assert!(quiet.seat().await.is_err());
        assert!(begun.elapsed() >= LONGEST_WAIT);
        drop(held);
        assert!(quiet.seat().await.is_ok(), "who gave up left no hole");
    }
}
