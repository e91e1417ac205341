//! A PriorityLevelConfiguration at work.

use std::sync::Arc;

use serde_json::Value;

use super::seats::{Queuing, Seats};
use crate::object;

const DEFAULT_SHARES: f64 = 30.0;

/// One level: exempt, or with seats of its own.
pub struct Level {
    uid: Arc<str>,
    seats: Option<Seats>,
}

/// The level's claim on the server's seats; exempt levels claim what they say, which is nothing by default.
pub(super) fn shares(object: &Value) -> f64 {
    let spec = &object["spec"];
    let of = |part: &str| spec[part]["nominalConcurrencyShares"].as_f64();
    match spec["type"].as_str() {
        Some("Exempt") => of("exempt").unwrap_or_default(),
        _ => of("limited").unwrap_or(DEFAULT_SHARES),
    }
}

impl Level {
    /// The level as it is now. Seats and queues of the same level are taken over.
    pub(super) fn of(object: &Value, limit: usize, known: Option<&Arc<Level>>) -> Arc<Self> {
        let uid: Arc<str> = object::uid(object).into();
        if object["spec"]["type"] == "Exempt" {
            return Arc::new(Self { uid, seats: None });
        }
        let response = &object["spec"]["limited"]["limitResponse"];
        let number = |field: &str, default: u64| {
            usize::try_from(response["queuing"][field].as_u64().unwrap_or(default)).unwrap_or(usize::MAX)
        };
        let queuing = (response["type"] == "Queue").then(|| Queuing {
            queues: number("queues", 64).clamp(1, 1024),
            hand: number("handSize", 8).max(1),
            length: number("queueLengthLimit", 50),
        });
        let before = known.filter(|known| known.uid == uid).and_then(|known| known.seats.as_ref());
        let seats = match before {
            Some(seats) => {
                seats.change(limit, queuing);
                seats.clone()
            }
            None => Seats::new(limit, queuing),
        };
        Arc::new(Self { uid, seats: Some(seats) })
    }

    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// `None`: requests of this level never wait.
    pub fn seats(&self) -> Option<&Seats> {
        self.seats.as_ref()
    }
}
