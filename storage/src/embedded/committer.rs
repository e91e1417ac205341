//! The one thread that writes: it decides, journals, publishes and answers, batch by batch.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::journal::Journal;
use crate::shared::Shared;
use crate::state::{Overlay, State, Write};
use crate::store::{Change, Durability, Error, Outcome, Result, Revision};

/// Writes that share one transaction. More would only make the first of them wait longer.
const MAX_BATCH: usize = 512;

/// How long a batched-class write may be acknowledged but not yet on stable storage.
const MAX_UNSYNCED: Duration = Duration::from_secs(1);

/// Revisions compacted between two batches, so that writers never wait for a long history to go.
const COMPACTION_STEP: u64 = 1_000;

pub(super) enum Request {
    Write { write: Write, durability: Durability, reply: oneshot::Sender<Result<Outcome>> },
    Compact { below: Revision, reply: oneshot::Sender<Result<()>> },
    Close { reply: oneshot::Sender<Result<()>> },
}

type Answer = (oneshot::Sender<Result<Outcome>>, Result<Outcome>);

pub(super) struct Committer {
    journal: Journal,
    shared: Arc<Shared>,
    max_bytes: u64,
    /// When the oldest write that is not yet synced must be.
    sync_by: Option<Instant>,
    compaction: Option<(Revision, Vec<oneshot::Sender<Result<()>>>)>,
}

impl Committer {
    pub fn start(journal: Journal, shared: Arc<Shared>, max_bytes: u64) -> Result<mpsc::Sender<Request>> {
        let (sender, receiver) = mpsc::channel();
        let committer = Self { journal, shared, max_bytes, sync_by: None, compaction: None };
        std::thread::Builder::new()
            .name("store-commit".into())
            .spawn(move || committer.run(&receiver))
            .map_err(|cause| Error::unavailable("starting the committer", cause))?;
        Ok(sender)
    }

    /// Runs until it is told to close or every handle to the store is gone.
    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let mut batch = Vec::new();
            match self.wait(requests) {
                Ok(request) => batch.push(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    if let Err(error) = self.finish() {
                        tracing::error!(%error, "could not sync the store while closing");
                    }
                    return;
                }
            }
            batch.extend(requests.try_iter().take(MAX_BATCH - 1));
            if let Some(close) = self.handle(batch) {
                let finished = self.finish();
                let _caller_may_be_gone = close.send(finished);
                return;
            }
            self.sync_if_due();
            self.compaction_step();
        }
    }

    fn wait(&self, requests: &Receiver<Request>) -> Result<Request, RecvTimeoutError> {
        if self.compaction.is_some() {
            return requests.recv_timeout(Duration::ZERO);
        }
        match self.sync_by {
            Some(by) => requests.recv_timeout(by.saturating_duration_since(Instant::now())),
            None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Commits the writes of a batch in one transaction; gives back the caller that asked to close.
    fn handle(&mut self, batch: Vec<Request>) -> Option<oneshot::Sender<Result<()>>> {
        let mut writes = Vec::with_capacity(batch.len());
        let mut close = None;
        for request in batch {
            match request {
                Request::Write { write, durability, reply } => writes.push((write, durability, reply)),
                Request::Compact { below, reply } => self.plan_compaction(below, reply),
                Request::Close { reply } => close = Some(reply),
            }
        }
        if !writes.is_empty() {
            self.commit(writes);
        }
        close
    }

    fn commit(&mut self, writes: Vec<(Write, Durability, oneshot::Sender<Result<Outcome>>)>) {
        if let Err(error) = self.recover() {
            for (_, _, reply) in writes {
                let _caller_may_be_gone = reply.send(Err(error.clone()));
            }
            return;
        }
        let durable = writes.iter().any(|(_, durability, _)| *durability == Durability::Durable);
        let max_bytes = self.max_bytes;
        let (changes, mut answers) = self.shared.with_state(|state| decide(state, writes, max_bytes));
        if !changes.is_empty() {
            match self.journal.append(&changes, durable) {
                Ok(()) => self.publish(changes, durable),
                Err(error) => fail_committed(&mut answers, &error),
            }
        }
        for (reply, answer) in answers {
            let _caller_may_be_gone = reply.send(answer);
        }
    }

    fn publish(&mut self, changes: Vec<Change>, durable: bool) {
        self.shared.commit(changes);
        self.sync_by = match (durable, self.sync_by) {
            (true, _) => None,
            (false, None) => Some(Instant::now() + MAX_UNSYNCED),
            (false, earlier) => earlier,
        };
    }

    /// After an I/O error the journal is opened again. Writes of the failed batch that did reach the disk, and whose
    /// callers were told that nothing is known, become visible here.
    fn recover(&mut self) -> Result<()> {
        if !self.journal.is_broken() {
            return Ok(());
        }
        let revision = self.shared.revision()?;
        for record in self.journal.reopen(revision)? {
            let change = self.shared.with_state(|state| record.into_change(state));
            self.shared.commit([change]);
        }
        Ok(())
    }

    fn sync_if_due(&mut self) {
        if self.sync_by.is_some_and(|by| by <= Instant::now()) {
            match self.journal.sync() {
                Ok(()) => self.sync_by = None,
                // The journal is broken now and is reopened before the next write; what was acknowledged in the
                // batched class is still in memory, and the next start may miss at most the last second of it.
                Err(error) => {
                    tracing::error!(%error, "could not sync the store");
                    self.sync_by = None;
                }
            }
        }
    }

    fn plan_compaction(&mut self, below: Revision, reply: oneshot::Sender<Result<()>>) {
        let (target, waiting) = self.compaction.get_or_insert((below, Vec::new()));
        *target = below.max(*target);
        waiting.push(reply);
    }

    fn compaction_step(&mut self) {
        let Some((target, waiting)) = self.compaction.take() else { return };
        let (from, newest) = self.shared.with_state(|state| (state.compacted(), state.revision()));
        let target = target.min(newest);
        let step = Revision(target.0.min(from.0 + COMPACTION_STEP));
        let done = if step > from {
            let dropped = self.shared.compact(step);
            self.journal.trim(&dropped, step)
        } else {
            Ok(())
        };
        if done.is_ok() && step < target {
            self.compaction = Some((target, waiting));
            return;
        }
        for reply in waiting {
            let _caller_may_be_gone = reply.send(done.clone());
        }
    }

    /// Syncs and lets go of the file: whoever is told that the store is closed may open it again.
    fn finish(mut self) -> Result<()> {
        self.shared.close();
        self.journal.sync()
    }
}

/// Decides every write of a batch in the order they came, each seeing the ones before it.
fn decide(
    state: &State,
    writes: Vec<(Write, Durability, oneshot::Sender<Result<Outcome>>)>,
    max_bytes: u64,
) -> (Vec<Change>, Vec<Answer>) {
    let mut overlay = Overlay::new();
    let mut changes: Vec<Change> = Vec::with_capacity(writes.len());
    let mut answers = Vec::with_capacity(writes.len());
    let mut used = state.bytes();
    for (write, _, reply) in writes {
        let adds = write.value.as_ref().map_or(0, |value| (value.len() + write.key.len()) as u64);
        if adds > 0 && used + adds > max_bytes {
            answers.push((reply, Err(Error::NoSpace { used, limit: max_bytes })));
            continue;
        }
        let revision = Revision(state.revision().0 + changes.len() as u64 + 1);
        let answer = match state.decide(&overlay, &write, revision) {
            Err(present) => Outcome::Conflict(present),
            Ok(change) => {
                used += adds;
                let key = change.current.key.clone();
                overlay.insert(key, write.value.is_some().then(|| change.current.clone()));
                let outcome = Outcome::Committed(change.current.clone());
                changes.push(change);
                outcome
            }
        };
        answers.push((reply, Ok(answer)));
    }
    (changes, answers)
}

/// The journal refused the batch: nobody hears "committed", and conflicts that were decided against writes of this
/// same batch are not true either.
fn fail_committed(answers: &mut [Answer], error: &Error) {
    for (_, answer) in answers.iter_mut().filter(|(_, answer)| answer.is_ok()) {
        *answer = Err(error.clone());
    }
}
