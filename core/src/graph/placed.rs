//! Runs of a runtime with a policy: each node that is ready goes to the board, and whoever takes it from there runs that one node.
//!
//! No part of such a run lies in a worker's queue, and there are no entries for successors: who has run a node looks at all of them.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Graph;
use super::drive::{Driver, count};
use super::forecast::Forecast;
use super::state::{RunState, VALUE};
use crate::arena;
use crate::model::Measurement;
use crate::options::Priority;
use crate::placement::{Placement, ReadyNode, Went};
use crate::worker::context::Context;
use crate::worker::entry::Entry;
use crate::worker::shared::Shared;

/// Begins a run that was admitted and has nodes, by placing its roots.
pub(super) fn begin(context: Option<&Context>, run: &Arc<RunState>, graph: &Arc<Graph>, shared: &Shared, placement: &Placement) {
    // One part is this thread's, which keeps the run until all roots are placed.
    run.begin(graph, shared, 2, 1);
    run.set_forecast(Forecast::of(graph, placement));
    let number = shared.runs.insert(Arc::clone(run));
    // Whoever cancelled everything before it was there has not seen it.
    run.cancel_if_outdated(shared);
    let [first, last] = [0, Priority::COUNT].map(|level| graph.nodes[graph.roots(level) as usize].successors as usize);
    let roots = graph.successors[first..last].to_vec();
    place(shared, run, number, roots, None);
    count(context, shared, run, 1);
}

/// Places nodes that are ready, those with the longest way to the end first. `origin` is the worker that has made them so and looks at the board next, if it does. The caller has something
/// of the run that is not counted.
pub(super) fn place(shared: &Shared, run: &RunState, number: u32, mut ready: Vec<u32>, origin: Option<usize>) {
    let (graph, forecast) = (run.graph(), run.forecast());
    let (Some(placement), Some(forecast)) = (&shared.placement, forecast) else { unreachable!("the run was begun with a forecast") };
    ready.sort_by_key(|node| Reverse(forecast.rank_ns(*node)));
    let workers: Vec<usize> = (0..shared.slots.len()).filter(|slot| !shared.slots[*slot].is_dormant()).collect();
    // From now on workers look at the board.
    shared.special.store(true, Relaxed);
    for node in ready {
        let ready = ReadyNode {
            run: number,
            node,
            code: forecast.code(graph, node),
            priority: graph.priority(node),
            rank_ns: forecast.rank_ns(node),
            origin,
            name: &|| graph.name(node),
        };
        let placed = if workers.is_empty() { Err(Entry::node(number, node)) } else { placement.place_node(shared, &ready, &workers) };
        match placed {
            // This thread comes by itself.
            Ok(Some(worker)) if origin == Some(worker) => {}
            Ok(wake) => {
                // A worker's place has no queue to submit from.
                let _ = shared.after_placing(Went::ToWorkers(wake));
            }
            // They were removed since one has looked: whoever is there takes it.
            Err(entry) => shared.push_part(None, Priority::Normal, entry),
        }
    }
}

impl Driver<'_> {
    /// Runs a node that was taken from the board, and places what becomes ready by it. While memory is short one of those is run next, whatever the policy: it may give some up.
    pub(super) fn run_placed(&mut self, node: u32) {
        let mut next = Some(node);
        while let Some(node) = next {
            let mut ready = self.run_one(node);
            next = if arena::is_short() { ready.pop() } else { None };
            if !ready.is_empty() {
                place(self.shared, self.run, self.number, ready, self.context.slot_index());
            }
        }
    }

    /// Runs a node. Gives those that become ready by it.
    fn run_one(&mut self, node: u32) -> Vec<u32> {
        let context = self.context;
        let (state, lap) = context.stopwatch.measure(false, || self.outcome(node));
        let took_ns = (state == VALUE).then_some(lap.wall_ns);
        if let (Some(wall_ns), Some(forecast)) = (took_ns, self.run.forecast()) {
            forecast.code(self.graph, node).model.record(0, Measurement { wall_ns, cpu_ns: None });
        }
        if let Some(placement) = &self.shared.placement {
            // Before the result can be seen: whoever has it may ask why it was made where.
            placement.node_ended(self.number, node, took_ns);
        }
        self.publish(node, state);
        let (mut over, mut ready) = (vec![node], Vec::new());
        while let Some(node) = over.pop() {
            for place in self.successors(node) {
                let successor = self.successor(place);
                if !self.arrive(successor) {
                    continue;
                }
                // What is not to be run need not be placed.
                match self.skip(successor) {
                    Some(state) => {
                        self.publish(successor, state);
                        over.push(successor);
                    }
                    None => ready.push(successor),
                }
            }
        }
        ready
    }
}
