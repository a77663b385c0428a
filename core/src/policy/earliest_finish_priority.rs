//! Earliest finish, and at each place the most urgent first.
//!
//! Cedric Augonnet, Samuel Thibault, Raymond Namyst and Pierre-Andre Wacrenier, "StarPU: a unified platform for task scheduling on heterogeneous
//! multicore architectures", 2011, and its policy that sorts: tasks go where they finish first with their transfers; there they run by priority,
//! then by the longest way to the end, and of equal ones that with the fewest missing bytes first, while those of the others are brought.

use super::earliest_finish::Ordered;
use super::priority::by_rank;
use super::{Key, Placement, ReadyTask};

pub(super) fn earliest_finish_priority() -> Ordered {
    Ordered::new("earliest-finish-priority", key)
}

fn key(task: &ReadyTask<'_>, placement: Placement) -> Key {
    let here = task.candidates.iter().find(|candidate| placement == Placement::Place(candidate.place));
    let missing = here.map_or(0, |candidate| i64::try_from(candidate.missing_bytes).unwrap_or(i64::MAX));
    Key([i64::from(task.priority).wrapping_neg(), by_rank(task), missing])
}
