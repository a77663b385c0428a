//! Where data is, and when it gets to where it is needed.

use super::arrivals::Arrivals;
use super::spaces::Spaces;
use super::{Decider, Engine, Transfer};

/// Where data is.
pub(super) enum Data {
    /// Nothing but time passes until it is there.
    Alone {
        arrivals: Arrivals,
        /// Of each task that was placed: where its data goes, and when all of it is there.
        homes: Vec<(u32, u64)>,
    },
    /// The same under a plan, which says where data is needed: it goes there when it is made. A task's edges out lie together in memory, and its edges in do not, so whoever
    /// makes data looks when it is there, and not who needs it.
    AloneAsPlanned {
        arrivals: Arrivals,
        /// Of each task when all of its data that was made is there.
        there_ns: Vec<u64>,
    },
    Shared(Box<Spaces>),
}

impl Engine<'_> {
    /// Looks how long it takes to bring what a task needs to each space, and how many bytes that is. As estimates, transfers that share links follow each other.
    pub(super) fn look_what_lacks(&mut self, task: usize) {
        let problem = self.problem;
        if self.looked_at_once(task) {
            return;
        }
        self.lacks.fill((0, 0));
        for (source, edge) in problem.workload().edges_in(task) {
            let bytes = problem.workload().bytes(edge);
            if bytes == 0 {
                continue;
            }
            let from = problem.space(self.outcome.schedule.processor[source] as usize);
            let uniform_ns = problem.uniform_transfer_ns(edge);
            let time_ns = |space: usize| uniform_ns.unwrap_or_else(|| problem.transfer_ns(edge, from, space));
            let spaces = self.lacks.iter_mut().enumerate().filter(|(space, _)| *space != from);
            match &self.data {
                Data::Alone { arrivals, .. } => {
                    let block = arrivals.block(edge);
                    for (space, lacks) in spaces {
                        match block.and_then(|block| arrivals.at_ns(block, space)) {
                            Some(at_ns) => lacks.0 = lacks.0.max(at_ns.saturating_sub(self.now_ns)),
                            None => *lacks = (lacks.0.max(time_ns(space)), lacks.1.saturating_add(bytes)),
                        }
                    }
                }
                // A plan asks for nothing.
                Data::AloneAsPlanned { .. } => {}
                Data::Shared(shared) => {
                    for (space, lacks) in spaces.filter(|(space, _)| !shared.has(edge, *space)) {
                        *lacks = (lacks.0.saturating_add(time_ns(space)), lacks.1.saturating_add(bytes));
                    }
                }
            }
        }
    }

    /// The same where all spaces are alike and no other task needs what this one does: what comes from everywhere is summed up once, and of the spaces where
    /// something comes from what is there is left out.
    fn looked_at_once(&mut self, task: usize) -> bool {
        let Self { problem, data, lacks, outcome, .. } = self;
        let Data::Alone { arrivals, .. } = data else { return false };
        let workload = problem.workload();
        // Who needs more than there are spaces looks at each space for each of them.
        if workload.in_degree(task) > lacks.len() {
            return false;
        }
        let (mut longest_ns, mut sum) = (0, 0_u64);
        for (_, edge) in workload.edges_in(task) {
            let Some(transfer_ns) = problem.uniform_transfer_ns(edge).filter(|_| arrivals.block(edge).is_none()) else { return false };
            let bytes = workload.bytes(edge);
            if bytes > 0 {
                (longest_ns, sum) = (longest_ns.max(transfer_ns), sum.saturating_add(bytes));
            }
        }
        lacks.fill((longest_ns, sum));
        let from = |source: usize| problem.space(outcome.schedule.processor[source] as usize);
        for (source, _) in workload.edges_in(task) {
            let here = from(source);
            let others = workload.edges_in(task).filter(|(other, edge)| from(*other) != here && workload.bytes(*edge) > 0);
            lacks[here] = others.fold((0, 0), |(longest_ns, sum): (u64, u64), (_, edge)| {
                let transfer_ns = problem.uniform_transfer_ns(edge).unwrap_or(0);
                (longest_ns.max(transfer_ns), sum.saturating_add(workload.bytes(edge)))
            });
        }
        true
    }

    /// What a task needs goes to a place, from now on.
    pub(super) fn send(&mut self, task: usize, place: usize) {
        let (problem, now_ns) = (self.problem, self.now_ns);
        let space = problem.space(place);
        match &mut self.data {
            Data::Alone { arrivals, homes } => {
                let schedule = &self.outcome.schedule;
                let mut there_ns = now_ns;
                for (source, edge) in problem.workload().edges_in(task) {
                    let from = problem.space(schedule.processor[source] as usize);
                    if from == space {
                        continue;
                    }
                    let block = arrivals.block(edge);
                    let at_ns = block.and_then(|block| arrivals.at_ns(block, space)).unwrap_or_else(|| {
                        let at_ns = now_ns + problem.transfer_ns(edge, from, space);
                        if let Some(block) = block {
                            arrivals.set(block, space, at_ns);
                        }
                        let bytes = problem.workload().bytes(edge);
                        self.outcome.moved_bytes = self.outcome.moved_bytes.saturating_add(bytes);
                        if self.options.keeps_decisions && bytes > 0 {
                            let (task, from, to) = (source as u32, from as u32, space as u32);
                            self.outcome.transfers.push(Transfer { task, from, to, bytes, start_ns: now_ns, end_ns: at_ns });
                        }
                        at_ns
                    });
                    there_ns = there_ns.max(at_ns);
                }
                homes[task] = (place as u32, there_ns);
            }
            Data::AloneAsPlanned { .. } => {}
            Data::Shared(spaces) => spaces.send_ahead(problem, task, space, now_ns),
        }
    }

    /// What a task has made goes to where the plan has it needed.
    pub(super) fn deliver(&mut self, source: usize, processor: usize) {
        let Self { problem, decider, data, outcome, options, now_ns, .. } = self;
        let (Data::AloneAsPlanned { arrivals, there_ns }, Decider::Planned(planned)) = (data, decider) else { return };
        let (workload, from) = (problem.workload(), problem.space(processor));
        for edge in workload.edges_out(source) {
            let target = workload.target(edge);
            let to = problem.space(planned.processor[target] as usize);
            if to == from {
                continue;
            }
            let at_ns = *now_ns + problem.transfer_ns(edge, from, to);
            there_ns[target] = there_ns[target].max(at_ns);
            // Once for all tasks of that space.
            if let Some(block) = arrivals.block(edge) {
                if arrivals.at_ns(block, to).is_some() {
                    continue;
                }
                arrivals.set(block, to, at_ns);
            }
            let bytes = workload.bytes(edge);
            outcome.moved_bytes = outcome.moved_bytes.saturating_add(bytes);
            if options.keeps_decisions && bytes > 0 {
                let (task, from, to) = (source as u32, from as u32, to as u32);
                outcome.transfers.push(Transfer { task, from, to, bytes, start_ns: *now_ns, end_ns: at_ns });
            }
        }
        if arrivals.has_blocks() {
            workload.edges_out(source).for_each(|edge| arrivals.release(edge));
        }
    }

    /// How many blocks are allocated for a task.
    pub(super) fn allocations(&self, task: usize, place: usize) -> u64 {
        let (problem, workload) = (self.problem, self.problem.workload());
        let space_of = |task: usize| problem.space(self.outcome.schedule.processor[task] as usize);
        let brought =
            workload.edges_in(task).filter(|(source, edge)| workload.bytes(*edge) > 0 && space_of(*source) != problem.space(place));
        brought.count() as u64 + u64::from(workload.edges_out(task).any(|edge| workload.bytes(edge) > 0))
    }
}
