//! Looks for an instance on which one policy loses most to another.
//!
//! Averages over many workloads hide where a policy is bad. Simulated annealing over small graphs and machines finds such places: works, bytes, edges and speeds are changed one at a time, and a change is kept
//! if the ratio of the two makespans grows, or with a probability that falls. What is found is then made smaller as long as the ratio stays, but for a hundredth. Source: Coleman and Krishnamachari, "PISA: an adversarial
//! approach to comparing task graph scheduling algorithms", arXiv:2403.07120, 2024.

mod instance;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use poniard::policy::Random;

use crate::platform::Platform;
use crate::problem::Problem;
use crate::uncertainty::{exp, ln};

pub use instance::{Bounds, Instance};

/// So many searches that know nothing of each other, whatever the number of threads, share the budget.
const CHAINS: u64 = 8;
/// Bytes a second between any two processors of a machine that is searched for.
pub const BYTES_PER_S: f64 = 1e9;
/// A ratio that is less by this factor is taken with a probability of 1/e: at the beginning, and at the end.
const TEMPERATURES: (f64, f64) = (0.3, 0.003);
/// How much of the ratio an instance keeps that is made smaller.
pub const KEPT: f64 = 0.99;
/// Runs at most, to make an instance smaller.
const SHRINKS_MOST: u64 = 10_000;

/// What is searched.
#[derive(Clone, Debug)]
pub struct Search {
    /// Where random numbers begin.
    pub seed: u64,
    /// How many instances are looked at, besides those that are looked at to make the one that was found smaller.
    pub budget: u64,
    /// Between what they lie.
    pub bounds: Bounds,
    /// What they run on.
    pub machine: Machine,
}

/// What instances run on.
#[derive(Clone, Debug)]
pub enum Machine {
    /// This one.
    Given(Box<Platform>),
    /// Up to so many processors, with a memory each and [`BYTES_PER_S`] between any two. Their speeds are searched for.
    Searched {
        /// How many, at least one.
        processors: usize,
    },
}

impl Machine {
    /// The platform of an instance.
    #[must_use]
    pub fn platform(&self, instance: &Instance) -> Platform {
        match self {
            Self::Given(platform) => (**platform).clone(),
            Self::Searched { .. } => match instance.platform(BYTES_PER_S) {
                Ok(platform) => platform,
                Err(error) => unreachable!("speeds are within bounds: {error}"),
            },
        }
    }
}

/// The makespans of the two policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// Of the one that is to lose, in nanoseconds.
    pub policy_ns: u64,
    /// Of the other one.
    pub against_ns: u64,
}

impl Score {
    /// How many times as long as the other one the one takes.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.policy_ns.max(1) as f64 / self.against_ns.max(1) as f64
    }

    /// Compares the ratios, exactly.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        let product = |policy_ns: u64, against_ns: u64| u128::from(policy_ns.max(1)) * u128::from(against_ns.max(1));
        product(self.policy_ns, other.against_ns).cmp(&product(other.policy_ns, self.against_ns))
    }
}

/// An instance, and how it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The instance.
    pub instance: Instance,
    /// What the policies make of it.
    pub score: Score,
    /// As it was before it was made smaller.
    pub before: Instance,
    /// What the policies made of it then.
    pub score_before: Score,
    /// How many instances were looked at.
    pub looked_at: u64,
}

/// One of those.
#[derive(Clone, Debug)]
struct Candidate {
    instance: Instance,
    score: Score,
}

/// Searches, on so many threads; what is found does not depend on their number. `measure` runs both policies, and gives nothing where one cannot. `progress` is told how many instances have been
/// looked at. Gives nothing if the policies could run none.
pub fn search(
    search: &Search,
    threads: usize,
    measure: &(dyn Fn(&Problem<'_>) -> Option<Score> + Sync),
    progress: &(dyn Fn(u64) + Sync),
) -> Option<Found> {
    let (next, looked_at) = (AtomicUsize::new(0), AtomicU64::new(0));
    let ends: Mutex<Vec<Option<Candidate>>> = Mutex::new(vec![None; CHAINS as usize]);
    let look = |instance: Instance| {
        progress(looked_at.fetch_add(1, Relaxed) + 1);
        scored(search, measure, instance)
    };
    let work = || {
        loop {
            let chain = next.fetch_add(1, Relaxed) as u64;
            if chain >= CHAINS {
                return;
            }
            let budget = search.budget / CHAINS + u64::from(chain < search.budget % CHAINS);
            let best = anneal(search, chain, budget, &look);
            ends.lock().unwrap_or_else(PoisonError::into_inner)[chain as usize] = best;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, CHAINS as usize) {
            scope.spawn(work);
        }
    });
    let ends = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
    // Of several with the same ratio the one of the first chain.
    let best = ends.into_iter().flatten().reduce(|best, other| if other.score.compare(&best.score).is_gt() { other } else { best })?;
    let (shrunk, runs) = shrink(search, measure, best.clone());
    Some(Found {
        instance: shrunk.instance,
        score: shrunk.score,
        before: best.instance,
        score_before: best.score,
        looked_at: looked_at.into_inner() + runs,
    })
}

fn scored(search: &Search, measure: &(dyn Fn(&Problem<'_>) -> Option<Score> + Sync), instance: Instance) -> Option<Candidate> {
    let (workload, platform) = (instance.workload(), search.machine.platform(&instance));
    let problem = Problem::new(&workload, &platform);
    problem.check(&platform).ok()?;
    let score = measure(&problem)?;
    Some(Candidate { instance, score })
}

/// One search.
fn anneal(search: &Search, chain: u64, budget: u64, look: &dyn Fn(Instance) -> Option<Candidate>) -> Option<Candidate> {
    let mut random = Random::new(search.seed.wrapping_mul(CHAINS).wrapping_add(chain));
    let processors = if let Machine::Searched { processors } = search.machine { processors } else { 0 };
    let mut current: Option<Candidate> = None;
    let mut best: Option<Candidate> = None;
    for step in 0..budget {
        let instance = match &current {
            None => Instance::draw(&mut random, &search.bounds, processors),
            Some(current) => current.instance.changed(&mut random, &search.bounds),
        };
        // Drawn in any case: what comes later does not depend on whether it is needed.
        let luck = (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        let Some(next) = look(instance) else { continue };
        if best.as_ref().is_none_or(|best| next.score.compare(&best.score).is_gt()) {
            best = Some(next.clone());
        }
        let (hot, cold) = TEMPERATURES;
        let temperature = hot * exp(ln(cold / hot) * step as f64 / budget as f64);
        let is_taken = current.as_ref().is_none_or(|current| {
            next.score.compare(&current.score).is_ge() || luck < exp((ln(next.score.ratio()) - ln(current.score.ratio())) / temperature)
        });
        if is_taken {
            current = Some(next);
        }
    }
    best
}

/// Takes parts away as long as [`KEPT`] of the ratio is left; also how many instances were looked at.
fn shrink(search: &Search, measure: &(dyn Fn(&Problem<'_>) -> Option<Score> + Sync), mut best: Candidate) -> (Candidate, u64) {
    let mut runs = 0;
    let least = best.score.ratio() * KEPT;
    loop {
        let smaller = best.instance.smaller().into_iter().find_map(|instance| {
            if runs >= SHRINKS_MOST {
                return None;
            }
            runs += 1;
            scored(search, measure, instance).filter(|candidate| candidate.score.ratio() >= least)
        });
        match smaller {
            Some(smaller) => best = smaller,
            None => return (best, runs),
        }
    }
}
