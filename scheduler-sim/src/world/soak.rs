//! Many scenarios, on all cores.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, PoisonError};

use super::run::run;
use super::scenario::{ScenarioOptions, scenario};
use super::shrink::{Shrunk, shrink};

/// What many scenarios came to.
#[derive(Debug, Default)]
pub struct Soaked {
    /// How many were played.
    pub scenarios: u64,
    /// How many tasks they had.
    pub tasks: u64,
    /// How often a task's body was begun.
    pub attempts: u64,
    /// How often devices have done a launch.
    pub launches: u64,
    /// How often a result was computed again that had been lost with a device.
    pub repeats: u64,
    /// How many events there were.
    pub events: u64,
    /// In how many scenarios each kind of thing went wrong.
    pub faults: BTreeMap<&'static str, u64>,
    /// In how many each policy decided.
    pub policies: BTreeMap<String, u64>,
    /// The first scenario that went wrong in a way that it should not have.
    pub found: Option<Found>,
}

/// A scenario that the runtime does not get through.
#[derive(Debug)]
pub struct Found {
    /// Its number.
    pub seed: u64,
    /// What is wrong in it.
    pub text: String,
    /// The least one in which the same is wrong.
    pub shrunk: Shrunk,
}

/// Plays the scenarios with the numbers from `first` on, on so many threads, until one goes wrong; of several the one with the least number, whatever the threads do. `progress` is told how many
/// have been played.
pub fn soak(first: u64, count: u64, options: ScenarioOptions, threads: usize, progress: impl Fn(u64) + Sync) -> Soaked {
    let (next, played) = (AtomicU64::new(0), AtomicU64::new(0));
    let worst = AtomicU64::new(u64::MAX);
    let all = Mutex::new(Soaked::default());
    let work = || {
        let mut own = Soaked::default();
        loop {
            let offset = next.fetch_add(1, Relaxed);
            let seed = first.saturating_add(offset);
            if offset >= count || seed > worst.load(Relaxed) {
                break;
            }
            let script = scenario(seed, options);
            own.scenarios += 1;
            own.tasks += script.tasks.len() as u64;
            let kinds: std::collections::BTreeSet<_> = script.chaos.iter().map(|chaos| chaos.kind()).collect();
            kinds.into_iter().for_each(|kind| *own.faults.entry(kind).or_default() += 1);
            *own.policies.entry(script.policy.clone().unwrap_or_else(|| "none".into())).or_default() += 1;
            match run(script.clone()) {
                Ok(ran) => {
                    own.attempts += ran.attempts;
                    own.events += ran.events;
                    own.launches += ran.launches;
                    own.repeats += ran.repeats;
                }
                Err(failure) if own.found.as_ref().is_none_or(|found| seed < found.seed) => {
                    worst.fetch_min(seed, Relaxed);
                    let text = failure.to_string();
                    own.found = Some(Found { seed, text, shrunk: shrink(script, failure) });
                }
                Err(_) => {}
            }
            progress(played.fetch_add(1, Relaxed) + 1);
        }
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(own);
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    all.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Soaked {
    fn add(&mut self, other: Self) {
        self.scenarios += other.scenarios;
        self.tasks += other.tasks;
        self.attempts += other.attempts;
        self.events += other.events;
        self.launches += other.launches;
        self.repeats += other.repeats;
        other.faults.into_iter().for_each(|(kind, count)| *self.faults.entry(kind).or_default() += count);
        other.policies.into_iter().for_each(|(policy, count)| *self.policies.entry(policy).or_default() += count);
        let is_first = |found: &Found| self.found.as_ref().is_none_or(|known| found.seed < known.seed);
        if other.found.as_ref().is_some_and(is_first) {
            self.found = other.found;
        }
    }
}
