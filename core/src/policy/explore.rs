//! Finding out how long a code takes where it has not run yet, without paying much for it.
//!
//! A bandit problem: T. L. Lai and Herbert Robbins, "Asymptotically efficient adaptive allocation rules", 1985, show that something has to be paid for
//! learning. Here the payment is limited directly. With
//!
//! * `worked`: how long all tasks that are over took,
//! * `spent`: by how much explored tasks that are over took longer than they would have at the best place known, summed; never less for one that was faster,
//! * `at_stake`: the same of those that are not over, as expected before,
//!
//! a task with the expected regret `r` may explore while `spent + at_stake + r <= worked / 10`. What a task will take where nobody has tried it is not
//! known, so it counts as at least as long as at the best place known, and `r` as at least its transfer and overhead: a task whose transfer
//! alone is more than the budget never explores. Before the first task is over, only what costs nothing more is explored. One that turns out worse than expected
//! is paid for afterwards: nothing more is explored until enough has been worked.

use super::{Candidate, Outcome, Why};

/// How many measurements a code needs at a class before they count, unless it has them nowhere.
pub const TRIES: u32 = 3;
/// Exploring may cost this part of the time worked: a tenth.
pub const SHARE_DIVISOR: u128 = 10;

/// What exploring has cost, and may still cost.
#[derive(Clone, Debug, Default)]
pub(super) struct Budget {
    worked_ns: u128,
    spent_ns: u128,
    at_stake_ns: u128,
}

impl Budget {
    /// The regret that trying `unknown` is expected to have, in nanoseconds, if it may be tried. `wait_ns` is how long the task waits there,
    /// `best` is the best of the candidates that are known, which finishes after `best_finish_ns`.
    pub(super) fn regret_ns(&self, unknown: &Candidate, wait_ns: u64, best: &Candidate, best_finish_ns: u64) -> Option<u64> {
        let moving = unknown.transfer_ns.saturating_add(unknown.overhead_ns);
        let execution = unknown.execution.mean_ns.max(best.execution.mean_ns);
        let finish = wait_ns.saturating_add(moving).saturating_add(execution);
        let regret = finish.saturating_sub(best_finish_ns).max(moving);
        let allowed = self.worked_ns / SHARE_DIVISOR;
        (self.spent_ns + self.at_stake_ns + u128::from(regret) <= allowed).then_some(regret)
    }

    /// A task explores with this regret.
    pub(super) fn begin(&mut self, regret_ns: u64) {
        self.at_stake_ns += u128::from(regret_ns);
    }

    /// A task is over.
    pub(super) fn end(&mut self, outcome: &Outcome) {
        let took = outcome.ran.map(|(_, took_ns)| took_ns);
        self.worked_ns += u128::from(took.unwrap_or(0));
        if let Why::Explored { instead_ns, regret_ns } = outcome.why {
            self.at_stake_ns = self.at_stake_ns.saturating_sub(u128::from(regret_ns));
            // If another place has taken it over it was no exploration.
            let explored = outcome.ran.is_some_and(|(class, _)| Some(class) == outcome.placed_class);
            if let (true, Some(took)) = (explored, took) {
                self.spent_ns += u128::from(took.saturating_sub(instead_ns));
            }
        }
    }

    /// `spent`, `at_stake` and `worked` of the module's documentation, in nanoseconds.
    #[cfg(test)]
    pub(super) fn sums(&self) -> [u128; 3] {
        [self.spent_ns, self.at_stake_ns, self.worked_ns]
    }
}
