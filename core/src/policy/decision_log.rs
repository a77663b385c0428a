//! A decision log as a whole: what there was, where chance began, and all that was asked and decided.

use serde::{Deserialize, Serialize};

use super::{Event, Place};

/// All that a policy was asked and told, and what was decided, in the order of the board: see [`Board::keep_log`](super::Board::keep_log). It is enough to ask another policy, or the
/// same one again, the same things.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionLog {
    /// The policy that decided.
    pub policy: String,
    /// Where its random numbers began.
    pub seed: u64,
    /// What the clock of the events said when the first task was spawned, in nanoseconds: times of a journal are from then on. 0 if there is no journal.
    #[serde(default)]
    pub first_spawn_ns: u64,
    /// The places.
    pub places: Vec<LoggedPlace>,
    /// What was asked and decided.
    pub events: Vec<Event>,
}

/// A place as it is to policies, but for what waits there: [`Place`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedPlace {
    /// What it is called; its number if it has no name.
    pub name: String,
    /// [`Place::class`].
    pub class: u32,
    /// [`Place::space`].
    pub space: u32,
    /// [`Place::parallel`].
    pub parallel: u32,
    /// [`Place::prefetches`].
    pub prefetches: bool,
}

impl LoggedPlace {
    pub(super) fn new(index: usize, place: &Place) -> Self {
        let Place { class, space, parallel, prefetches, .. } = *place;
        Self { name: index.to_string(), class, space, parallel, prefetches }
    }

    /// The place before anything was placed.
    #[must_use]
    pub fn place(&self) -> Place {
        Place { prefetches: self.prefetches, ..Place::new(self.class, self.space, self.parallel) }
    }
}
