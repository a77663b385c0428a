//! A policy that is asked everything, and whose word is not taken for where tasks go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poniard::policy::{Decision, End, Key, Offer, Outcome, Place, Placement, Policy, ReadyTask, View, Why};

#[derive(Debug, Default)]
struct Tasks {
    wanted: BTreeMap<u64, Decision>,
    answers: BTreeMap<u64, Decision>,
}

/// Where tasks are to go, and where the policy would have them go.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted(Arc<Mutex<Tasks>>);

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task is to go there when the policy has been asked.
    pub(super) fn want(&self, number: u64, decision: Decision) {
        self.lock().wanted.insert(number, decision);
    }

    /// What the policy has said of a task, if it was asked.
    pub(super) fn take_answer(&self, number: u64) -> Option<Decision> {
        let mut tasks = self.lock();
        tasks.wanted.remove(&number);
        tasks.answers.remove(&number)
    }
}

#[derive(Debug)]
pub(super) struct Followed {
    policy: Box<dyn Policy>,
    wanted: Wanted,
}

impl Followed {
    pub(super) fn new(policy: Box<dyn Policy>, wanted: &Wanted) -> Self {
        Self { policy, wanted: wanted.clone() }
    }
}

impl Policy for Followed {
    fn name(&self) -> &'static str {
        self.policy.name()
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        let answer = self.policy.place(task, view);
        let mut tasks = self.wanted.lock();
        tasks.answers.insert(task.number, answer);
        let can_be = |decision: &Decision| {
            decision.why != Why::NoPlace
                && match decision.placement {
                    Placement::Shared => true,
                    Placement::Place(place) => task.candidates.iter().any(|candidate| candidate.place == place),
                }
        };
        tasks.wanted.get(&task.number).copied().filter(can_be).unwrap_or(answer)
    }

    fn key(&self, task: &ReadyTask<'_>, placement: Placement, places: &[Place]) -> Key {
        self.policy.key(task, placement, places)
    }

    fn end(&self, place: usize, places: &[Place]) -> End {
        self.policy.end(place, places)
    }

    fn accepts(&self, place: usize, key: Key, waiting: usize, places: &[Place]) -> bool {
        self.policy.accepts(place, key, waiting, places)
    }

    fn keeps_all_busy(&self) -> bool {
        self.policy.keeps_all_busy()
    }

    fn victims(&mut self, thief: usize, view: &mut View<'_>, order: &mut Vec<usize>) {
        self.policy.victims(thief, view, order);
    }

    fn steals_last(&self) -> bool {
        self.policy.steals_last()
    }

    fn offers(&self) -> usize {
        self.policy.offers()
    }

    fn steal(&self, offer: &Offer<'_>, places: &[Place]) -> Option<u64> {
        self.policy.steal(offer, places)
    }

    fn share(&self, waiting: usize) -> usize {
        self.policy.share(waiting)
    }

    fn wants_ranks(&self) -> bool {
        self.policy.wants_ranks()
    }

    fn ended(&mut self, outcome: &Outcome) {
        self.policy.ended(outcome);
    }
}
