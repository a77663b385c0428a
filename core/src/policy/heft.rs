//! Heterogeneous earliest finish time, as far as one can follow it while the graph runs.
//!
//! Haluk Topcuoglu, Salim Hariri and Min-You Wu, "Performance-effective and low-complexity task scheduling for heterogeneous computing", 2002:
//! tasks by falling upward rank ([`ranks`](super::ranks)), each at the place where it finishes first. The paper plans everything before, and fills gaps of
//! the plan. Here a task is placed when it is ready, with the load as it is then, so there are no gaps to fill: ranks order those that wait.

use super::earliest_finish::Ordered;
use super::priority::by_rank;
use super::{Key, Placement, ReadyTask};

pub(super) fn heft() -> Ordered {
    Ordered::new("heft", key)
}

fn key(task: &ReadyTask<'_>, _placement: Placement) -> Key {
    Key([by_rank(task), i64::from(task.priority).wrapping_neg(), 0])
}
