//! Where a task goes, and which task a processor takes next: the policies that come with the runtime, and the [`Board`] that holds what they have placed. The [`Policy`] trait and what
//! policies see are the contract's, so that others can write one.
//!
//! All of it is pure: the time and the random numbers are arguments, and nothing unordered is iterated. The same calls give the same decisions,
//! so a simulator runs this code as it is. Every duration is in nanoseconds; there is no second unit to mix it up with.

mod board;
mod decision_log;
mod earliest_finish;
mod earliest_finish_priority;
mod explore;
mod fifo;
mod heft;
mod heteroprio;
mod hysteresis;
mod late_binding;
mod locality_stealing;
mod priority;
mod random;
pub mod ranks;
mod stranger;
#[cfg(test)]
mod tests;
mod work_stealing;

use std::fmt;

pub use board::{Board, Ended, Event, How, LoggedCandidates, Pushed, Replaced, Source, Subject, Taken, Ticket, Took};
pub use decision_log::{DecisionLog, LoggedPlace};
pub use explore::{SHARE_DIVISOR, TRIES};
pub use poniard_interface::policy::{
    Candidate, Decision, End, Estimate, Key, Offer, Outcome, Place, Placement, Policy, Random, ReadyTask, View, Why,
};
pub(crate) use stranger::{ChosenPolicy, MakePolicy};

/// A policy that can be asked for by name.
#[derive(Clone, Copy, Debug)]
pub struct KnownPolicy {
    /// What it is called.
    pub name: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Makes one.
    pub make: fn() -> Box<dyn Policy>,
}

/// The policy that is used if none is asked for.
pub const DEFAULT: &str = "earliest-finish";

/// All policies that come with the runtime.
pub const POLICIES: [KnownPolicy; 10] = [
    KnownPolicy {
        name: "earliest-finish",
        summary: "where it is expected to finish first, with transfers and what waits there",
        make: || Box::new(earliest_finish::EarliestFinish::default()),
    },
    KnownPolicy {
        name: "earliest-finish-priority",
        summary: "the same, and a place runs the most urgent first, then what has its data there",
        make: || Box::new(earliest_finish_priority::earliest_finish_priority()),
    },
    KnownPolicy { name: "fifo", summary: "one queue, the oldest task first", make: || Box::new(fifo::Fifo) },
    KnownPolicy {
        name: "heft",
        summary: "for compiled graphs: the longest way to the end first, where it finishes first",
        make: || Box::new(heft::heft()),
    },
    KnownPolicy {
        name: "heteroprio",
        summary: "one queue by how much a device speeds a task up; devices take from its top, the host from its bottom",
        make: || Box::new(heteroprio::Heteroprio),
    },
    KnownPolicy {
        name: "late-binding",
        summary: "for compiled graphs: the longest way to the end first, where it finishes first as of when a place is free",
        make: || Box::new(late_binding::LateBinding::default()),
    },
    KnownPolicy {
        name: "locality-stealing",
        summary: "where most of the data is; idle places steal from near ones, the least to move first",
        make: || Box::new(locality_stealing::LocalityStealing),
    },
    KnownPolicy { name: "priority", summary: "one queue, the highest priority first", make: || Box::new(priority::Priority) },
    KnownPolicy { name: "random", summary: "anywhere, idle places first", make: || Box::new(random::Anywhere) },
    KnownPolicy {
        name: "work-stealing",
        summary: "where it became ready; idle places steal half of the queue of a random other one",
        make: || Box::new(work_stealing::WorkStealing),
    },
];

/// The policy that is used if none is asked for.
pub(crate) fn default_policy() -> Box<dyn Policy> {
    Box::new(earliest_finish::EarliestFinish::default())
}

/// No policy has the name that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownPolicy {
    /// The name.
    pub name: String,
    /// The one that is most like it, if one is.
    pub nearest: Option<String>,
    /// Those that there are besides the ones that come with the runtime: of the program's own, and in plugin files.
    pub others: Vec<String>,
}

impl UnknownPolicy {
    /// There is none of this name among those that come with the runtime and `others`.
    pub(crate) fn new(name: &str, others: Vec<String>) -> Self {
        let known = POLICIES.iter().map(|known| known.name).chain(others.iter().map(String::as_str));
        let near = known.map(|known| (strsim::osa_distance(name, known), known)).min();
        // As many slips as a third of the name; more are another word.
        let nearest = near.filter(|(distance, near)| distance * 3 <= near.len().max(name.len())).map(|(_, near)| near.to_owned());
        Self { name: name.to_owned(), nearest, others }
    }
}

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no policy is called `{}`", self.name)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        write!(f, "; there are {}", POLICIES.map(|known| known.name).join(", "))?;
        if self.others.is_empty() { Ok(()) } else { write!(f, ", and besides {}", self.others.join(", ")) }
    }
}

impl std::error::Error for UnknownPolicy {}

/// Makes the policy with this name, of those that come with the runtime.
///
/// # Errors
/// No policy is called that.
pub fn by_name(name: &str) -> Result<Box<dyn Policy>, UnknownPolicy> {
    let known = POLICIES.iter().find(|known| known.name == name);
    known.map(|known| (known.make)()).ok_or_else(|| UnknownPolicy::new(name, Vec::new()))
}
