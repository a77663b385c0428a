//! Which commands have to wait for which: barriers within a lane, waits between the two lanes of a device.
//!
//! Pure bookkeeping, without a device: the queue asks where each command can stand, and tells what was submitted and what has ended.
//!
//! **A wait is for a batch that is submitted before.** Between the two open batches at most one direction is allowed, and the one that is waited for is submitted first. So no circle of waits
//! can come about, and whatever a batch waits for is under way, or has ended.

use std::collections::VecDeque;

use crate::tracker::{Access, Tracker};

/// A row of batches, which a device executes one after the other: a queue with a timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Launches, fills, and small uploads. Without a second lane, everything.
    Compute,
    /// Copies between the host and the device.
    Transfer,
}

impl Lane {
    pub(crate) const ALL: [Self; 2] = [Self::Compute, Self::Transfer];

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Compute => Self::Transfer,
            Self::Transfer => Self::Compute,
        }
    }
}

/// For each lane the number of a batch; 0 is before the first.
pub(crate) type Marks = [u64; 2];

/// Where a command can stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stand {
    /// In the open batch of its lane, if need be behind a barrier.
    Here { needs_barrier: bool },
    /// In the next one: what is open has to be submitted before.
    Later,
}

/// The order of what a device is given.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Whether there are two lanes; with one nobody has to know what its batches use.
    is_split: bool,
    rows: [Row; 2],
}

/// What is known of a lane.
#[derive(Debug, Default)]
struct Row {
    tracker: Tracker,
    /// Number of the last batch.
    last: u64,
    is_open: bool,
    /// Whether there is a command in the open batch.
    has_begun: bool,
    /// Number of the last batch that is known to have ended.
    ended: u64,
    /// Batches that are not known to have ended, and what their commands use. A list and no spans: launches only add to it, and it is searched when the other lane has something to do.
    used: VecDeque<(u64, Vec<Access>)>,
    /// The batch of the other lane that the open one waits for, or one before it does.
    waits_for: u64,
    /// What the submitted ones wait for. A wait holds for all that comes later in a lane.
    has_waited_for: u64,
}

impl Row {
    /// The newest batch that such a command has to wait for.
    fn conflict(&self, accesses: &[Access]) -> u64 {
        let conflicts = |used: &[Access]| used.iter().any(|old| accesses.iter().any(|new| old.conflicts(new)));
        self.used.iter().rev().find(|(_, used)| conflicts(used)).map_or(0, |(number, _)| *number)
    }
}

impl Order {
    /// That of a device with one lane or two.
    pub(crate) fn new(is_split: bool) -> Self {
        Self { is_split, ..Self::default() }
    }

    pub(crate) fn is_split(&self) -> bool {
        self.is_split
    }

    /// The tracker of a lane.
    pub(crate) fn tracker(&mut self, lane: Lane) -> &mut Tracker {
        &mut self.rows[lane as usize].tracker
    }

    /// Number of the last batch of a lane that is known to have ended.
    pub(crate) fn ended(&self, lane: Lane) -> u64 {
        self.rows[lane as usize].ended
    }

    /// Begins a batch; its number.
    pub(crate) fn open(&mut self, lane: Lane) -> u64 {
        let row = &mut self.rows[lane as usize];
        row.last += 1;
        (row.is_open, row.has_begun) = (true, false);
        if self.is_split {
            row.used.push_back((row.last, Vec::new()));
        }
        row.last
    }

    /// Takes back the open batch, which has no command.
    pub(crate) fn discard(&mut self, lane: Lane) {
        let row = &mut self.rows[lane as usize];
        if self.is_split {
            row.used.pop_back();
        }
        row.last -= 1;
        row.is_open = false;
    }

    /// Finds the place of a command, and notes it if that is in the open batch.
    pub(crate) fn place(&mut self, lane: Lane, accesses: &[Access]) -> Stand {
        let [row, other] = self.rows(lane);
        let needed = other.conflict(accesses);
        if needed > row.waits_for {
            // What is in the batch already need not wait as well.
            let would_hold_up = row.has_begun && row.waits_for == row.has_waited_for;
            let would_be_a_circle = other.is_open && other.last == needed && row.is_open && other.waits_for == row.last;
            if would_hold_up || would_be_a_circle {
                return Stand::Later;
            }
            row.waits_for = needed;
        }
        row.has_begun = true;
        if let Some((_, used)) = row.used.back_mut() {
            used.extend_from_slice(accesses);
        }
        Stand::Here { needs_barrier: row.tracker.note(accesses) }
    }

    /// Which of the open batches has to be submitted first.
    pub(crate) fn first(&self) -> Lane {
        let [compute, transfer] = &self.rows;
        if transfer.is_open && compute.waits_for == transfer.last { Lane::Transfer } else { Lane::Compute }
    }

    /// Closes a batch, which is to be submitted now: the batch of the other lane that it has to wait for, if there is one.
    ///
    /// It waits as well for what has ended, which takes no time, and shows it what was written there: that the host has seen the end does not.
    pub(crate) fn close(&mut self, lane: Lane) -> Option<u64> {
        let [row, other] = self.rows(lane);
        row.is_open = false;
        row.waits_for = row.waits_for.max(other.ended);
        let waits = (row.waits_for > row.has_waited_for).then_some(row.waits_for);
        row.has_waited_for = row.waits_for;
        waits
    }

    /// The batches of a lane up to `number` have ended.
    pub(crate) fn end(&mut self, lane: Lane, number: u64) {
        let row = &mut self.rows[lane as usize];
        row.ended = number;
        while row.used.pop_front_if(|(batch, _)| *batch <= number).is_some() {}
    }

    /// A lane, and the other one.
    fn rows(&mut self, lane: Lane) -> [&mut Row; 2] {
        let [compute, transfer] = &mut self.rows;
        match lane {
            Lane::Compute => [compute, transfer],
            Lane::Transfer => [transfer, compute],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(memory: u64, writes: bool) -> [Access; 1] {
        [Access { memory, range: 0..8, writes, is_host_visible: false }]
    }

    fn open_both(order: &mut Order) {
        for lane in Lane::ALL {
            order.open(lane);
        }
    }

    const FREE: Stand = Stand::Here { needs_barrier: false };

    /// Submits a batch with one command; what it waits for.
    fn alone(order: &mut Order, lane: Lane, accesses: &[Access]) -> Option<u64> {
        order.open(lane);
        assert!(matches!(order.place(lane, accesses), Stand::Here { .. }));
        order.close(lane)
    }

    #[test]
    fn a_copy_waits_for_launches_that_use_what_it_copies_and_for_no_others() {
        let mut order = Order::new(true);
        for memory in 1..=3 {
            assert_eq!(alone(&mut order, Lane::Compute, &uses(memory, true)), None);
        }
        assert_eq!(alone(&mut order, Lane::Transfer, &uses(9, true)), None, "an upload for what comes next, while three launches run");
        assert_eq!(alone(&mut order, Lane::Transfer, &uses(1, false)), Some(1), "a result that is ready before the others");
        assert_eq!(alone(&mut order, Lane::Transfer, &uses(2, true)), Some(2), "an upload over what is in use");
        assert_eq!(alone(&mut order, Lane::Compute, &uses(9, false)), Some(1), "a launch that reads what was uploaded");
        assert_eq!(alone(&mut order, Lane::Compute, &uses(1, true)), Some(2), "a launch that writes what is downloaded");
        assert_eq!(alone(&mut order, Lane::Compute, &uses(1, true)), None, "it has been waited for");
        assert_eq!(alone(&mut order, Lane::Transfer, &uses(3, false)), Some(3));
    }

    #[test]
    fn what_has_ended_is_waited_for_once_and_with_one_lane_nothing_is() {
        let mut order = Order::new(true);
        alone(&mut order, Lane::Transfer, &uses(1, true));
        order.end(Lane::Transfer, 1);
        assert_eq!(alone(&mut order, Lane::Compute, &uses(2, true)), Some(1), "so that whatever comes later sees it");
        assert_eq!(alone(&mut order, Lane::Compute, &uses(1, true)), None);
        let mut order = Order::new(false);
        for number in 1..4 {
            assert_eq!(alone(&mut order, Lane::Compute, &uses(1, true)), None);
            order.end(Lane::Compute, number);
        }
        assert!(order.rows.iter().all(|row| row.used.is_empty()), "and nobody keeps what is used");
    }

    #[test]
    fn a_batch_that_can_begin_is_not_held_up() {
        let mut order = Order::new(true);
        let [compute, transfer] = Lane::ALL;
        open_both(&mut order);
        assert_eq!(order.place(compute, &uses(1, true)), FREE);
        assert_eq!(order.place(transfer, &uses(2, true)), FREE);
        assert_eq!(order.place(compute, &uses(2, false)), Stand::Later, "the launch before has nothing to wait for");
        assert_eq!((order.close(compute), order.close(transfer)), (None, None));
        open_both(&mut order);
        assert_eq!(order.place(compute, &uses(2, false)), FREE);
        assert_eq!(order.place(transfer, &uses(3, true)), FREE);
        assert_eq!(order.place(compute, &uses(3, false)), FREE, "it waits anyway");
        assert_eq!(order.first(), transfer, "what is waited for is submitted first");
        assert_eq!((order.close(transfer), order.close(compute)), (None, Some(2)));
    }

    #[test]
    fn open_batches_do_not_wait_for_each_other_in_a_circle() {
        let mut order = Order::new(true);
        let [compute, transfer] = Lane::ALL;
        open_both(&mut order);
        assert_eq!(order.place(transfer, &uses(1, true)), FREE);
        assert_eq!(order.place(compute, &uses(1, false)), FREE);
        assert_eq!(order.place(transfer, &uses(1, true)), Stand::Later, "it would wait for a launch that waits for the same batch");
        assert_eq!(order.first(), transfer);
        assert_eq!((order.close(transfer), order.close(compute)), (None, Some(1)));
        order.open(transfer);
        assert_eq!(order.place(transfer, &uses(1, true)), Stand::Here { needs_barrier: true });
        assert_eq!(order.close(transfer), Some(1));

        // The other way round it is the launch that waits: already for another batch, so that it could as well wait for more.
        open_both(&mut order);
        assert_eq!(order.place(compute, &uses(1, false)), FREE);
        assert_eq!(order.place(compute, &uses(5, false)), FREE);
        assert_eq!(order.place(transfer, &uses(5, true)), FREE);
        assert_eq!(order.first(), compute);
        assert_eq!(order.place(compute, &uses(5, false)), Stand::Later);
        assert_eq!((order.close(compute), order.close(transfer)), (Some(2), Some(2)));
    }

    #[test]
    fn a_batch_without_commands_is_taken_back() {
        let mut order = Order::new(true);
        assert_eq!(order.open(Lane::Transfer), 1);
        order.discard(Lane::Transfer);
        assert_eq!(order.open(Lane::Transfer), 1);
        assert_eq!(order.place(Lane::Transfer, &uses(1, true)), FREE);
        order.close(Lane::Transfer);
        assert_eq!(alone(&mut order, Lane::Compute, &uses(1, false)), Some(1));
    }
}
