//! One queue, first in, first out.
//!
//! List scheduling without an order of its own: R. L. Graham, "Bounds for certain multiprocessing anomalies", 1966, shows that a schedule in
//! which no like processor idles beside a ready task takes at most 2 - 1/m times the best time on m of them, whatever the order.

use super::{Decision, Policy, ReadyTask, View, Why};

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fifo;

impl Policy for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn place(&mut self, _task: &ReadyTask<'_>, _view: &mut View<'_>) -> Decision {
        Decision::shared(Why::FirstFree)
    }

    fn keeps_all_busy(&self) -> bool {
        true
    }
}
