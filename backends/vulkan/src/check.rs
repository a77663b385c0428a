//! A second opinion on barriers and waits: looks at the commands that were recorded, and finds those that lack one.
//!
//! The validation layer does not see conflicts between dispatches of the code that kernels are compiled to, nor those between queues, and a software device does everything in order, so
//! what is missing shows nowhere else. It is slower than the tracker and simpler: each command is held against each earlier one.

use std::collections::VecDeque;

use crate::order::Lane;
use crate::tracker::Access;

/// What a batch consists of.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A dispatch, a copy or a fill, with its name.
    Command(String, Vec<Access>),
    /// What comes after waits for all before and sees what it wrote.
    Barrier,
    /// The host sees what was written before, once the batch has ended.
    HostBarrier,
}

/// A batch as it is submitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Submitted<'a> {
    pub(crate) lane: Lane,
    pub(crate) number: u64,
    /// The batch of the other lane that it waits for.
    pub(crate) waits_for: Option<u64>,
    pub(crate) steps: &'a [Step],
}

/// The commands of a device so far.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    rows: [Row; 2],
}

/// Those of a lane.
#[derive(Debug, Default)]
struct Row {
    /// Commands after the last barrier of the batches before.
    before: Vec<Step>,
    /// Commands that the other lane has not waited for, by their batches. None of those that have ended.
    unseen: VecDeque<(u64, Vec<Step>)>,
    last: u64,
    ended: u64,
    has_waited_for: u64,
}

impl Checker {
    /// The batches of a lane up to `number` have ended.
    pub(crate) fn end(&mut self, lane: Lane, number: u64) {
        let row = &mut self.rows[lane as usize];
        row.ended = number;
        row.unseen.retain(|(batch, _)| *batch > number);
    }

    /// Looks at the next batch; says what is wrong with it.
    pub(crate) fn check(&mut self, batch: Submitted<'_>) -> Vec<String> {
        let mut wrong = Vec::new();
        let Submitted { lane, number, waits_for, steps } = batch;
        let commands: Vec<Step> = steps.iter().filter(|step| matches!(step, Step::Command(..))).cloned().collect();
        let waited = self.rows[lane as usize].has_waited_for.max(waits_for.unwrap_or(0));
        let other = &mut self.rows[lane.other() as usize];
        if waited > other.last {
            wrong.push(format!("batch {number} waits for batch {waited} of the other queue, which has not been submitted"));
        }
        if waited < other.ended {
            wrong.push(format!("batch {number} need not see what batch {} of the other queue wrote, which has ended", other.ended));
        }
        other.unseen.retain(|(batch, _)| *batch > waited);
        let unseen = || other.unseen.iter().flat_map(|(_, commands)| commands);
        for (command, earlier) in commands.iter().flat_map(|command| unseen().map(move |earlier| (command, earlier))) {
            wrong.extend(conflict(earlier, command).map(|text| format!("no wait for the other queue stands between {text}")));
        }
        let row = &mut self.rows[lane as usize];
        (row.last, row.has_waited_for) = (number, waited);
        row.unseen.push_back((number, commands));
        row.check(steps, &mut wrong);
        wrong
    }
}

impl Row {
    /// Looks for barriers.
    fn check(&mut self, batch: &[Step], wrong: &mut Vec<String>) {
        let steps: Vec<&Step> = self.before.iter().chain(batch).collect();
        let first = self.before.len();
        for (index, step) in steps.iter().enumerate().skip(first) {
            let Step::Command(name, accesses) = step else { continue };
            let earlier = steps[..index].iter().rev().take_while(|earlier| !matches!(earlier, Step::Barrier));
            wrong.extend(earlier.filter_map(|earlier| conflict(earlier, step)).map(|text| format!("no barrier stands between {text}")));
            let is_seen = || steps[index + 1..].iter().any(|step| matches!(step, Step::HostBarrier));
            if accesses.iter().any(|access| access.writes && access.is_host_visible) && !is_seen() {
                wrong.push(format!("no barrier shows the host what `{name}` writes"));
            }
        }
        let last = steps.iter().rposition(|step| matches!(step, Step::Barrier)).map_or(0, |index| index + 1);
        self.before = steps[last..].iter().filter(|step| matches!(step, Step::Command(..))).map(|step| (*step).clone()).collect();
    }
}

/// Two commands whose order matters, in words.
fn conflict(earlier: &Step, later: &Step) -> Option<String> {
    let (Step::Command(other, used), Step::Command(name, accesses)) = (earlier, later) else { return None };
    let (new, old) = accesses.iter().find_map(|new| used.iter().find(|old| old.conflicts(new)).map(|old| (new, old)))?;
    let (does, did) = (verb(new), verb(old));
    Some(format!("`{other}`, which {did} bytes {:?} of memory {}, and `{name}`, which {does} bytes {:?}", old.range, old.memory, new.range))
}

fn verb(access: &Access) -> &'static str {
    if access.writes { "writes" } else { "reads" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::order::{Order, Stand};

    fn command(accesses: &[(u64, std::ops::Range<u64>, bool)]) -> Step {
        let access = |(memory, range, writes): &(u64, std::ops::Range<u64>, bool)| Access {
            memory: *memory,
            range: range.clone(),
            writes: *writes,
            is_host_visible: *memory == 0,
        };
        Step::Command("k".into(), accesses.iter().map(access).collect())
    }

    /// A batch as it was submitted, or the news that one has ended.
    #[derive(Clone, Debug)]
    enum Event {
        Batch { lane: Lane, number: u64, waits_for: Option<u64>, steps: Vec<Step> },
        End(Lane, u64),
    }

    fn batch(lane: Lane, number: u64, waits_for: Option<u64>, steps: &[&Step]) -> Event {
        Event::Batch { lane, number, waits_for, steps: steps.iter().map(|step| (*step).clone()).collect() }
    }

    fn wrong(events: &[Event]) -> Vec<String> {
        let mut checker = Checker::default();
        let look = |event: &Event| match event {
            Event::Batch { lane, number, waits_for, steps } => {
                checker.check(Submitted { lane: *lane, number: *number, waits_for: *waits_for, steps })
            }
            Event::End(lane, number) => {
                checker.end(*lane, *number);
                Vec::new()
            }
        };
        events.iter().flat_map(look).collect()
    }

    #[test]
    fn planted_faults_are_found() {
        let write = command(&[(1, 0..8, true)]);
        let read = command(&[(1, 4..12, false)]);
        let other = command(&[(1, 8..12, true), (2, 0..8, true)]);
        let of = |steps: &[&Step]| wrong(&[batch(Lane::Compute, 1, None, steps)]).len();
        assert_eq!(of(&[&write, &read]), 1, "written, then read");
        assert_eq!(of(&[&read, &write]), 1, "read, then written");
        assert_eq!(of(&[&write, &write]), 1, "written twice");
        assert_eq!(of(&[&write, &Step::Barrier, &read]), 0);
        assert_eq!(of(&[&write, &Step::HostBarrier, &read]), 1, "a barrier for the host is none for commands");
        assert_eq!(of(&[&write, &other]), 0, "different bytes");
        assert_eq!(of(&[&write, &other, &read]), 2, "a reader of what two wrote");
        assert_eq!(of(&[&Step::Barrier, &write, &read]), 1, "a barrier that is too early");
        let shown = command(&[(0, 0..8, true)]);
        assert_eq!(of(&[&shown]), 1, "the host is shown nothing");
        assert_eq!(of(&[&Step::HostBarrier, &shown]), 1, "a barrier for the host that is too early");
        assert_eq!(of(&[&shown, &Step::HostBarrier]), 0);
    }

    #[test]
    fn faults_between_batches_are_found() {
        let (write, read) = (command(&[(1, 0..8, true)]), command(&[(1, 0..8, false)]));
        let next = |number, steps: &[&Step]| batch(Lane::Compute, number, None, steps);
        let mut events = vec![next(1, &[&write]), next(2, &[&read])];
        let expected = "no barrier stands between `k`, which writes bytes 0..8 of memory 1, and `k`, which reads bytes 0..8";
        assert_eq!(wrong(&events), [expected]);
        events.extend([next(3, &[&Step::Barrier, &read]), next(4, &[&read])]);
        assert_eq!(wrong(&events), [expected]);
        events.push(next(5, &[&write]));
        assert_eq!(wrong(&events).len(), 1 + 2, "both readers");
    }

    #[test]
    fn faults_between_lanes_are_found() {
        use Lane::{Compute, Transfer};
        let (write, read, other) = (command(&[(1, 0..8, true)]), command(&[(1, 0..8, false)]), command(&[(2, 0..8, true)]));
        let up = batch(Transfer, 1, None, &[&write]);
        let run = |waits_for| batch(Compute, 1, waits_for, &[&read]);
        let lacks = "no wait for the other queue stands between `k`, which writes bytes 0..8 of memory 1, and `k`, which reads bytes 0..8";
        assert_eq!(wrong(&[up.clone(), run(None)]), [lacks], "uploaded, then read");
        assert_eq!(wrong(&[up.clone(), run(Some(1))]), Vec::<String>::new());
        assert_eq!(wrong(&[up.clone(), batch(Compute, 1, None, &[&Step::Barrier, &read])]), [lacks], "a barrier does not reach that far");
        assert_eq!(wrong(&[up.clone(), batch(Compute, 1, None, &[&other])]), Vec::<String>::new(), "other memory");
        assert_eq!(wrong(&[run(None), up.clone()]).len(), 1, "read, then uploaded");
        let again = batch(Transfer, 2, None, &[&Step::Barrier, &write]);
        assert_eq!(wrong(&[up.clone(), run(Some(1)), again]).len(), 1, "uploaded again while it is read");
        // A wait holds for what comes later.
        assert_eq!(wrong(&[up.clone(), batch(Compute, 1, Some(1), &[&other]), batch(Compute, 2, None, &[&read])]), Vec::<String>::new());
        let early = wrong(&[run(Some(1)), up.clone()]);
        assert!(early[0].contains("which has not been submitted"), "{early:?}");
        let ended = [up, Event::End(Transfer, 1)];
        assert!(wrong(&[&ended[..], &[run(None)]].concat())[0].contains("which has ended"));
        assert_eq!(wrong(&[&ended[..], &[run(Some(1))]].concat()), Vec::<String>::new());
    }

    /// What is to be done: a command of a lane, both open batches to be submitted, or the oldest batch of a lane to end.
    #[derive(Clone, Debug)]
    enum Deed {
        Command(Lane, Step),
        Submit,
        End(Lane),
    }

    /// Does as the queue does.
    fn ordered(deeds: &[Deed], is_split: bool) -> Vec<Event> {
        let mut order = Order::new(is_split);
        let mut events: Vec<Event> = Vec::new();
        let mut open: [Option<(u64, Vec<Step>)>; 2] = [None, None];
        let mut under_way: [VecDeque<u64>; 2] = Default::default();
        let submit = |order: &mut Order, open: &mut [Option<(u64, Vec<Step>)>; 2], under_way: &mut [VecDeque<u64>; 2]| {
            let mut events = Vec::new();
            for lane in [order.first(), order.first().other()] {
                let Some((number, mut steps)) = open[lane as usize].take() else { continue };
                if order.tracker(lane).end_batch() {
                    steps.push(Step::HostBarrier);
                }
                under_way[lane as usize].push_back(number);
                events.push(Event::Batch { lane, number, waits_for: order.close(lane), steps });
            }
            events
        };
        for deed in deeds {
            match deed {
                Deed::Command(lane, step) => {
                    let Step::Command(_, accesses) = step else { continue };
                    for attempt in 0..2 {
                        let (_, steps) = open[*lane as usize].get_or_insert_with(|| (order.open(*lane), Vec::new()));
                        match order.place(*lane, accesses) {
                            Stand::Here { needs_barrier } => {
                                steps.extend(needs_barrier.then_some(Step::Barrier));
                                steps.push(step.clone());
                                break;
                            }
                            Stand::Later if attempt == 0 => {
                                if steps.is_empty() {
                                    order.discard(*lane);
                                    open[*lane as usize] = None;
                                }
                                events.extend(submit(&mut order, &mut open, &mut under_way));
                            }
                            Stand::Later => panic!("nothing is open, so there is room"),
                        }
                    }
                }
                Deed::Submit => events.extend(submit(&mut order, &mut open, &mut under_way)),
                Deed::End(lane) => {
                    if let Some(number) = under_way[*lane as usize].pop_front() {
                        order.end(*lane, number);
                        events.push(Event::End(*lane, number));
                    }
                }
            }
        }
        events.extend(submit(&mut order, &mut open, &mut under_way));
        events
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let lane = prop_oneof![Just(Lane::Compute), Just(Lane::Transfer)];
        let access =
            (0u64..4, 0u64..6, 1u64..4, any::<bool>()).prop_map(|(memory, start, len, writes)| (memory, start..start + len, writes));
        let step = proptest::collection::vec(access, 1..4).prop_map(|accesses| command(&accesses));
        let deed = prop_oneof![
            6 => (lane.clone(), step).prop_map(|(lane, step)| Deed::Command(lane, step)),
            1 => Just(Deed::Submit),
            1 => lane.prop_map(Deed::End),
        ];
        proptest::collection::vec(deed, 1..60)
    }

    proptest! {
        #[test]
        fn the_order_passes_and_needs_each_of_its_barriers_and_waits(deeds in deeds(), is_split in any::<bool>()) {
            let deeds: Vec<_> = deeds
                .into_iter()
                .map(|deed| match deed {
                    Deed::Command(_, step) if !is_split => Deed::Command(Lane::Compute, step),
                    deed => deed,
                })
                .collect();
            let events = ordered(&deeds, is_split);
            prop_assert_eq!(wrong(&events), Vec::<String>::new());
            for at in 0..events.len() {
                let Event::Batch { waits_for, steps, .. } = &events[at] else { continue };
                let without = |change: &dyn Fn(&mut Option<u64>, &mut Vec<Step>)| {
                    let mut events = events.clone();
                    if let Event::Batch { waits_for, steps, .. } = &mut events[at] {
                        change(waits_for, steps);
                    }
                    wrong(&events)
                };
                if waits_for.is_some() {
                    prop_assert!(!without(&|waits_for, _| *waits_for = None).is_empty(), "the wait of event {} was not needed", at);
                }
                for index in (0..steps.len()).filter(|index| !matches!(steps[*index], Step::Command(..))) {
                    prop_assert!(!without(&|_, steps| drop(steps.remove(index))).is_empty(), "barrier {} of event {} was not needed", index, at);
                }
            }
        }
    }
}
