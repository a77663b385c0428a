//! Why tasks went where they went.

use std::panic::Location;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::policy::{Candidate, Decision, Placement as Where, Why};

/// What was decided about where tasks run, in numbers. Tasks that could run in one way only are not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlacementReport {
    /// The policy.
    pub policy: &'static str,
    /// How often a task was given a place.
    pub decisions: u64,
    /// Of those, how often nothing had been measured that could have told.
    pub guessed: u64,
    /// How often a task was used to find out how long its code takes somewhere.
    pub explored: u64,
    /// How often a task stayed with the kind of processor that its code ran on before, although another was a little better.
    pub kept: u64,
    /// How often a task ran elsewhere than where it was given a place, as that had become better.
    pub moved: u64,
    /// Bytes that had to be moved to where their tasks were given a place, summed over the tasks. From one device to another they are moved twice.
    pub missing_bytes: u64,
    /// What that would have been had each task been given the place where the least was missing.
    pub missing_bytes_min: u64,
}

/// A place that a task could have run at, as it looked when it was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// The processor; `host` for any worker of the host.
    pub place: String,
    /// How long the task was expected to run there, in ns.
    pub execution_ns: u64,
    /// How many measurements said so; 0: it was a guess.
    pub measurements: u32,
    /// How long bringing its data there was expected to take, in ns.
    pub transfer_ns: u64,
    /// How many bytes had to be moved for it. From one device to another they are moved twice.
    pub missing_bytes: u64,
    /// When the task was expected to be over there, in ns from then: what waited and ran there before it included.
    pub finish_ns: u64,
}

impl Considered {
    pub(super) fn new(place: String, candidate: &Candidate, finish_ns: u64) -> Self {
        Self {
            place,
            execution_ns: candidate.execution.mean_ns,
            measurements: candidate.execution.count,
            transfer_ns: candidate.transfer_ns,
            missing_bytes: candidate.missing_bytes,
            finish_ns,
        }
    }
}

/// Why a task ran where it ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The task's name.
    pub task: String,
    /// Where it was spawned.
    pub location: &'static Location<'static>,
    /// How much it works on: of a launch the bytes of its buffers and its invocations, of a function the bytes of its arguments.
    pub size: u64,
    /// Where it could have run.
    pub considered: Vec<Considered>,
    /// The place that it was given; `None`: the first that is free.
    pub chosen: Option<String>,
    /// Why.
    pub why: Why,
    /// The processor that took it. Another one than was chosen if that had become better.
    pub ran: Option<String>,
    /// How long it was expected to take there, and how long it took, in ns, with what it waited for there.
    pub took_ns: Option<(u64, u64)>,
}

/// Explanations beyond this number are not kept: a long run has more than anybody reads.
const KEPT_MAX: usize = 100_000;

/// What is kept of decisions.
#[derive(Debug, Default)]
pub(super) struct Log {
    kept: Option<Mutex<Vec<Explanation>>>,
    decisions: AtomicU64,
    guessed: AtomicU64,
    explored: AtomicU64,
    held: AtomicU64,
    moved: AtomicU64,
    missing: AtomicU64,
    missing_min: AtomicU64,
}

impl Log {
    pub(super) fn new(is_on: bool) -> Self {
        Self { kept: is_on.then(Mutex::default), ..Self::default() }
    }

    /// Whether decisions are kept.
    pub(super) fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether one more decision would be kept.
    pub(super) fn is_on(&self) -> bool {
        self.lock().is_some_and(|kept| kept.len() < KEPT_MAX)
    }

    fn lock(&self) -> Option<MutexGuard<'_, Vec<Explanation>>> {
        Some(self.kept.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a decision.
    pub(super) fn count(&self, decision: &Decision, candidates: &[Candidate]) {
        if candidates.len() < 2 {
            return;
        }
        let add = |counter: &AtomicU64, by: u64| {
            counter.fetch_add(by, Relaxed);
        };
        add(&self.decisions, 1);
        add(&self.guessed, (decision.why == Why::Guessed).into());
        add(&self.explored, matches!(decision.why, Why::Explored { .. }).into());
        add(&self.held, matches!(decision.why, Why::Hysteresis { .. }).into());
        let least = candidates.iter().map(|candidate| candidate.missing_bytes).min().unwrap_or_default();
        let there = match decision.placement {
            Where::Place(place) => {
                candidates.iter().find(|candidate| candidate.place == place).map_or(least, |candidate| candidate.missing_bytes)
            }
            Where::Shared => least,
        };
        add(&self.missing, there);
        add(&self.missing_min, least);
    }

    pub(super) fn taken(&self, is_stolen: bool) {
        if is_stolen {
            self.moved.fetch_add(1, Relaxed);
        }
    }

    /// Keeps what was decided; one more than its index, or 0.
    pub(super) fn begin(
        &self,
        task: String,
        location: &'static Location<'static>,
        size: u64,
        considered: Vec<Considered>,
        decision: Decision,
        name: impl Fn(usize) -> String,
    ) -> usize {
        let Some(mut kept) = self.lock().filter(|kept| kept.len() < KEPT_MAX) else { return 0 };
        let chosen = match decision.placement {
            Where::Place(place) => Some(name(place)),
            Where::Shared => None,
        };
        kept.push(Explanation { task, location, size, considered, chosen, why: decision.why, ran: None, took_ns: None });
        kept.len()
    }

    fn change(&self, index: usize, change: impl FnOnce(&mut Explanation)) {
        if let Some(mut kept) = self.lock()
            && let Some(explanation) = index.checked_sub(1).and_then(|index| kept.get_mut(index))
        {
            change(explanation);
        }
    }

    /// Notes who took it.
    pub(super) fn ran(&self, index: usize, processor: &str) {
        self.change(index, |explanation| explanation.ran = Some(processor.into()));
    }

    /// Notes how long it took.
    pub(super) fn end(&self, index: usize, expected_ns: u64, took_ns: u64) {
        self.change(index, |explanation| explanation.took_ns = Some((expected_ns, took_ns)));
    }

    pub(super) fn explanations(&self) -> Vec<Explanation> {
        self.lock().map(|kept| kept.clone()).unwrap_or_default()
    }

    pub(super) fn report(&self) -> PlacementReport {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        PlacementReport {
            policy: "",
            decisions: read(&self.decisions),
            guessed: read(&self.guessed),
            explored: read(&self.explored),
            kept: read(&self.held),
            moved: read(&self.moved),
            missing_bytes: read(&self.missing),
            missing_bytes_min: read(&self.missing_min),
        }
    }
}
