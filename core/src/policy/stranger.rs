//! Policies that are not the runtime's own: how they are made, and what stands between them and the board.
//!
//! The board is under a lock, and its invariants rest on what a policy decides. So a stranger's answers are looked at, and its panics are caught. At the first thing that cannot be, the default policy
//! takes over for the rest of the run: tasks that wait keep their places in the queues, and every policy takes from all queues that there are.

use std::any::Any;
use std::cell::OnceCell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use poniard_interface::stable::EntryFailed;

use super::{Decision, End, Key, KnownPolicy, Offer, Outcome, Place, Placement, Policy, ReadyTask, View, Why, default_policy};

/// Makes a policy; in words why it cannot.
pub(crate) type MakePolicy = Arc<dyn Fn() -> Result<Box<dyn Policy>, String> + Send + Sync>;

/// A policy that was chosen.
#[derive(Clone)]
pub(crate) enum ChosenPolicy {
    /// It comes with the runtime.
    BuiltIn(KnownPolicy),
    /// It comes from a plugin file, or with the program.
    Stranger { name: &'static str, make: MakePolicy },
}

impl fmt::Debug for ChosenPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::BuiltIn(KnownPolicy { name, .. }) | Self::Stranger { name, .. }) = self;
        f.debug_tuple("ChosenPolicy").field(name).finish()
    }
}

impl ChosenPolicy {
    /// Makes it. `warn` is told, once, that another one goes on in its place; under the board's lock.
    pub(crate) fn make(&self, warn: impl Fn(String) + Send + 'static) -> Box<dyn Policy> {
        match self {
            Self::BuiltIn(known) => (known.make)(),
            Self::Stranger { name, make } => Box::new(Stranger::new(name, make, warn)),
        }
    }
}

/// What a policy cannot mean: fewer than this many offers are as good as all.
const OFFERS_MAX: usize = u32::MAX as usize;

/// A stranger's policy, or since it has failed the default one.
pub(super) struct Stranger {
    name: &'static str,
    policy: Option<Box<dyn Policy>>,
    /// There once the policy has failed.
    fallback: OnceCell<Box<dyn Policy>>,
    warn: Box<dyn Fn(String) + Send>,
}

impl fmt::Debug for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stranger").field("name", &self.name).field("has_failed", &self.fallback.get().is_some()).finish_non_exhaustive()
    }
}

impl Stranger {
    pub(super) fn new(name: &'static str, make: &MakePolicy, warn: impl Fn(String) + Send + 'static) -> Self {
        let mut stranger = Self { name, policy: None, fallback: OnceCell::new(), warn: Box::new(warn) };
        match caught(|| make()).and_then(|made| made) {
            Ok(policy) => stranger.policy = Some(policy),
            Err(reason) => stranger.give_up(&reason),
        }
        stranger
    }

    /// It is not asked any more.
    #[cold]
    fn give_up(&self, reason: &str) {
        // Where a look at a place tells of its failure twice, once is enough.
        self.fallback.get_or_init(|| {
            let fallback = default_policy();
            let name = fallback.name();
            (self.warn)(format!("the policy `{}` is not used any more: {reason}; `{name}` goes on in its place", self.name));
            fallback
        });
    }

    /// What the policy answers, if that can be; otherwise what the default one does. `check` says in words why it cannot.
    fn ask<R>(&self, ask: impl Fn(&dyn Policy) -> R, check: impl FnOnce(&R) -> Result<(), String>) -> R {
        if let (Some(policy), None) = (&self.policy, self.fallback.get()) {
            match caught(|| ask(&**policy)).and_then(|answer| check(&answer).map(|()| answer)) {
                Ok(answer) => return answer,
                Err(reason) => self.give_up(&reason),
            }
        }
        ask(&**self.fallback.get_or_init(default_policy))
    }

    /// The same where the policy changes.
    fn ask_mut<R>(&mut self, mut ask: impl FnMut(&mut dyn Policy) -> R, check: impl FnOnce(&R) -> Result<(), String>) -> R {
        if let (Some(policy), None) = (&mut self.policy, self.fallback.get()) {
            match caught(|| ask(&mut **policy)).and_then(|answer| check(&answer).map(|()| answer)) {
                Ok(answer) => return answer,
                Err(reason) => self.give_up(&reason),
            }
        }
        self.fallback.get_or_init(default_policy);
        match self.fallback.get_mut() {
            Some(fallback) => ask(&mut **fallback),
            None => unreachable!("it was made a line before"),
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let policy = self.policy.take();
        // The runtime ends; there is nobody to tell.
        let _ = caught(|| drop(policy));
    }
}

/// What a policy answers; in words what it panicked with.
fn caught<R>(ask: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(ask)).map_err(|payload| {
        let text = words(&*payload);
        // A payload whose destructor panics would unwind under the lock.
        std::mem::forget(payload);
        text
    })
}

fn words(payload: &(dyn Any + Send)) -> String {
    if let Some(EntryFailed(said)) = payload.downcast_ref() {
        return said.clone();
    }
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", text.unwrap_or("no message"))
}

/// Why a decision cannot be.
fn check_decision(decision: &Decision, task: &ReadyTask<'_>, places: &[Place]) -> Result<(), String> {
    if let Placement::Place(place) = decision.placement
        && task.candidates.iter().all(|candidate| candidate.place != place)
    {
        let candidates: Vec<_> = task.candidates.iter().map(|candidate| candidate.place.to_string()).collect();
        return Err(format!("it placed a task at {place}, whose candidates are {}", candidates.join(", ")));
    }
    match decision.why {
        Why::NoPlace => Err("it said that no place takes a task that has candidates".into()),
        Why::Hysteresis { instead } if instead >= places.len() => Err(format!("it spoke of the place {instead} of {}", places.len())),
        _ => Ok(()),
    }
}

/// For answers that all can be.
fn any<R>(_: &R) -> Result<(), String> {
    Ok(())
}

impl Policy for Stranger {
    fn name(&self) -> &'static str {
        self.name
    }

    fn place(&mut self, task: &ReadyTask<'_>, view: &mut View<'_>) -> Decision {
        // A view of its own each time: who has it may change it.
        let (now_ns, places) = (view.now_ns, view.places);
        self.ask_mut(
            |policy| policy.place(task, &mut View { now_ns, places, random: &mut *view.random }),
            |decision| check_decision(decision, task, places),
        )
    }

    fn key(&self, task: &ReadyTask<'_>, placement: Placement, places: &[Place]) -> Key {
        self.ask(|policy| policy.key(task, placement, places), any)
    }

    fn end(&self, place: usize, places: &[Place]) -> End {
        self.ask(|policy| policy.end(place, places), any)
    }

    fn accepts(&self, place: usize, key: Key, waiting: usize, places: &[Place]) -> bool {
        let nothing_else = || places.iter().all(|place| place.queued == 0 && place.backlog_ns == 0);
        let (accepts, _) = self.ask(
            |policy| {
                let accepts = policy.accepts(place, key, waiting, places);
                // Nothing is going to happen after which it could be asked again.
                let mut others = (0..places.len()).filter(|other| places[*other].active);
                (accepts, !accepts && nothing_else() && !others.any(|other| policy.accepts(other, key, waiting, places)))
            },
            |(_, is_stuck)| if *is_stuck { Err("it lets no place take a task, and nothing runs".into()) } else { Ok(()) },
        );
        accepts
    }

    fn keeps_all_busy(&self) -> bool {
        self.ask(|policy| policy.keeps_all_busy(), any)
    }

    fn victims(&mut self, thief: usize, view: &mut View<'_>, order: &mut Vec<usize>) {
        let (now_ns, places) = (view.now_ns, view.places);
        *order = self.ask_mut(
            |policy| {
                let mut order = std::mem::take(order);
                order.clear();
                policy.victims(thief, &mut View { now_ns, places, random: &mut *view.random }, &mut order);
                order
            },
            |order| match order.iter().find(|victim| **victim >= places.len()) {
                Some(victim) => Err(format!("it would steal from the place {victim} of {}", places.len())),
                None => Ok(()),
            },
        );
    }

    fn steals_last(&self) -> bool {
        self.ask(|policy| policy.steals_last(), any)
    }

    fn offers(&self) -> usize {
        self.ask(|policy| policy.offers(), any).min(OFFERS_MAX)
    }

    fn steal(&self, offer: &Offer<'_>, places: &[Place]) -> Option<u64> {
        self.ask(|policy| policy.steal(offer, places), any)
    }

    fn share(&self, waiting: usize) -> usize {
        self.ask(|policy| policy.share(waiting), any)
    }

    fn wants_ranks(&self) -> bool {
        self.ask(|policy| policy.wants_ranks(), any)
    }

    fn ended(&mut self, outcome: &Outcome) {
        self.ask_mut(|policy| policy.ended(outcome), any);
    }
}
