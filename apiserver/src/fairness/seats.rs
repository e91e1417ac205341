//! The seats of one level, and the queues before them.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// How those who find no seat wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queuing {
    pub queues: usize,
    /// From this many queues a flow takes the shortest.
    pub hand: usize,
    /// Who may wait in one queue.
    pub length: usize,
}

/// Seats of one level. Cheap to clone: the same seats.
#[derive(Clone)]
pub struct Seats(Arc<Mutex<State>>);

struct State {
    limit: usize,
    taken: usize,
    queuing: Option<Queuing>,
    queues: Vec<VecDeque<oneshot::Sender<Seat>>>,
    /// The queue whose turn it is.
    turn: usize,
}

/// One seat; given back when dropped.
pub struct Seat(Option<Arc<Mutex<State>>>);

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seat")
    }
}

impl Seats {
    pub fn new(limit: usize, queuing: Option<Queuing>) -> Self {
        let queues = queues(queuing);
        Self(Arc::new(Mutex::new(State { limit, taken: 0, queuing, queues, turn: 0 })))
    }

    /// Takes new limits over. Who waits keeps waiting.
    pub fn change(&self, limit: usize, queuing: Option<Queuing>) {
        let mut state = self.0.lock();
        state.limit = limit;
        if state.queuing != queuing {
            state.queuing = queuing;
            let waiting: Vec<_> =
                std::mem::replace(&mut state.queues, queues(queuing)).into_iter().flatten().collect();
            if state.queues.is_empty() && !waiting.is_empty() {
                state.queues.push(VecDeque::new());
            }
            let count = state.queues.len().max(1);
            for (at, waiter) in waiting.into_iter().enumerate() {
                state.queues[at % count].push_back(waiter);
            }
            state.turn = 0;
        }
        seat_the_next(&self.0, &mut state);
    }

    /// A seat now or later; `None` when the queue is full, or there is none.
    pub fn take(&self, flow: u64) -> Option<impl Future<Output = Seat> + use<>> {
        let mut state = self.0.lock();
        let nobody_waits = state.queues.iter().all(VecDeque::is_empty);
        let (sender, receiver) = oneshot::channel();
        if state.taken < state.limit && nobody_waits {
            state.taken += 1;
            // The receiver is right here.
            drop(sender.send(Seat(Some(self.0.clone()))));
        } else {
            let queuing = state.queuing?;
            let queue = shortest(&mut state.queues, queuing.hand, flow)?;
            // Those who gave up make room.
            queue.retain(|waiter| !waiter.is_closed());
            if queue.len() >= queuing.length {
                return None;
            }
            queue.push_back(sender);
        }
        drop(state);
        Some(async move {
            match receiver.await {
                Ok(seat) => seat,
                // The sender is dropped only with the level, and then nobody counts.
                Err(_) => Seat(None),
            }
        })
    }
}

fn queues(queuing: Option<Queuing>) -> Vec<VecDeque<oneshot::Sender<Seat>>> {
    (0..queuing.map_or(0, |queuing| queuing.queues)).map(|_| VecDeque::new()).collect()
}

/// Deals the flow its hand of queues, always the same, and takes the one with the fewest waiting.
fn shortest<T>(queues: &mut [VecDeque<T>], hand: usize, flow: u64) -> Option<&mut VecDeque<T>> {
    let count = queues.len() as u64;
    let mut hash = flow;
    let dealt = (0..hand.min(queues.len())).map(|_| {
        let card = (hash % count) as usize;
        hash = hash.rotate_right(17).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        card
    });
    let best = dealt.min_by_key(|card| queues[*card].len())?;
    queues.get_mut(best)
}

/// Seats those whose turn it is, as long as there are seats.
fn seat_the_next(seats: &Arc<Mutex<State>>, state: &mut State) {
    let count = state.queues.len();
    let mut looked = 0;
    while state.taken < state.limit && looked < count {
        let at = state.turn % count;
        state.turn = (at + 1) % count;
        looked += 1;
        while let Some(waiter) = state.queues[at].pop_front() {
            match waiter.send(Seat(Some(seats.clone()))) {
                Ok(()) => {
                    state.taken += 1;
                    looked = 0;
                    break;
                }
                // Gave up. The seat it was offered was never counted.
                Err(mut unused) => drop(unused.0.take()),
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(seats) = self.0.take() {
            let mut state = seats.lock();
            state.taken -= 1;
            seat_the_next(&seats, &mut state);
        }
    }
}
