//! Nodes of graphs on the board. A node has no record of its own, so what it has to do with the board is noted here.
//!
//! Nodes run on the program's threads, whatever those stand for: everywhere they cost the same, and there is nothing to move.

use std::panic::Location;
use std::sync::Arc;

use super::costs::{function_id, or_guess};
use super::explain::Considered;
use super::{GUESS_NS, Placement, State};
use crate::clock::now_ns;
use crate::error::TaskName;
use crate::model::{CodeModel, ProcessorClass};
use crate::options::Priority;
use crate::policy::{Candidate, Estimate, ReadyTask, Ticket, Why};
use crate::worker::entry::Entry;
use crate::worker::shared::Shared;

/// The number of a run, and a node of its graph.
pub(super) type Key = (u32, u32);

/// A node that is on the board, or runs.
#[derive(Debug)]
pub(super) struct OnBoard {
    ticket: Ticket,
    /// One more than the index of its explanation; 0: there is none.
    explained: usize,
    /// Whether a place has taken it.
    is_taken: bool,
}

impl OnBoard {
    /// A place has taken it; its explanation.
    pub(super) fn take(&mut self) -> usize {
        self.is_taken = true;
        self.explained
    }
}

/// A node that is ready, with what its graph knows of it.
pub(crate) struct ReadyNode<'a> {
    pub(crate) run: u32,
    pub(crate) node: u32,
    pub(crate) code: &'a NodeCode,
    pub(crate) priority: Priority,
    /// The longest way from its beginning to the end of the graph.
    pub(crate) rank_ns: Option<u64>,
    /// The worker that made it ready, if one did.
    pub(crate) origin: Option<usize>,
    pub(crate) name: &'a dyn Fn() -> TaskName,
}

/// The function of a node.
#[derive(Debug)]
pub(crate) struct NodeCode {
    number: u64,
    pub(crate) model: Arc<CodeModel>,
}

impl NodeCode {
    /// Functions with one number cost the same.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// How long it takes, as far as is known.
    pub(crate) fn expected(&self) -> Estimate {
        or_guess(self.model.estimate(0), GUESS_NS)
    }
}

impl Placement {
    /// What is known of a function, by the name of its type and where it was made a node: the same as of tasks that run it.
    pub(crate) fn node_code(&self, type_name: &str, at: &Location<'_>) -> NodeCode {
        let id = function_id(type_name, at);
        NodeCode { number: id.identity, model: self.models.executions.resolve(&id, &ProcessorClass::new("cpu")) }
    }

    /// Places a node at one of these workers, by rising place. Gives the worker that is to be woken for it, if one is; or the node, if none of them takes tasks, since a moment ago.
    pub(crate) fn place_node(&self, shared: &Shared, ready: &ReadyNode<'_>, workers: &[usize]) -> Result<Option<usize>, Entry> {
        let now_ns = now_ns();
        let execution = ready.code.expected();
        let key = (ready.run, ready.node);
        let mut state = self.lock();
        let State { board, next_number, candidates, nodes, .. } = &mut *state;
        // It was taken by somebody who could not run it after all.
        if let Some(before) = nodes.remove(&key) {
            let left = board.abandoned(before.ticket, now_ns);
            debug_assert!(left.is_none(), "a node waits in one place");
        }
        candidates.clear();
        candidates.extend(workers.iter().map(|place| Candidate { place: *place, execution, ..Candidate::default() }));
        let number = *next_number;
        *next_number += 1;
        let task = ReadyTask {
            number,
            code: ready.code.number,
            priority: 1 - ready.priority.level() as i32,
            rank_ns: ready.rank_ns,
            bytes: 0,
            origin: ready.origin,
            candidates,
        };
        let considered = self.log.is_on().then(|| {
            let considered = board.consider(&task, now_ns);
            considered.map(|(candidate, finish_ns)| Considered::new(self.name(shared, candidate.place), &candidate, finish_ns)).collect()
        });
        let pushed = board.push(&task, Entry::node(ready.run, ready.node), now_ns);
        let explained = considered.map_or(0, |considered| {
            let TaskName { name, location } = (ready.name)();
            self.log.begin(name, location, 0, considered, pushed.decision, |place| self.name(shared, place))
        });
        self.log.count(&pushed.decision, candidates);
        let left = if pushed.decision.why == Why::NoPlace { board.abandoned(pushed.ticket, now_ns) } else { None };
        if left.is_none() {
            nodes.insert(key, OnBoard { ticket: pushed.ticket, explained, is_taken: false });
        }
        self.note_waiting(board);
        drop(state);
        self.watch.set();
        left.map_or(Ok(pushed.wake), Err)
    }

    /// Takes a node of a run that waits, for a thread of a worker that waits for the run.
    pub(crate) fn take_node_of(&self, shared: &Shared, run: u32, worker: usize) -> Option<Entry> {
        let now_ns = now_ns();
        let mut state = self.lock();
        let State { board, nodes, .. } = &mut *state;
        let (key, ticket) =
            nodes.range((run, 0)..=(run, u32::MAX)).find(|(_, node)| !node.is_taken).map(|(key, node)| (*key, node.ticket))?;
        // A worker that has come since may be none of the node's places.
        let (entry, explained) = match board.run_unasked(ticket, self.place_of(worker), now_ns) {
            Some(entry) => (Some(entry), nodes.get_mut(&key).map_or(0, OnBoard::take)),
            None => {
                nodes.remove(&key);
                (board.abandoned(ticket, now_ns), 0)
            }
        };
        self.note_waiting(board);
        drop(state);
        if self.log.keeps() && explained > 0 {
            self.log.ran(explained, &shared.processors[worker].info.name);
        }
        entry
    }

    /// A node is over: it took so long, or was not run to its end.
    pub(crate) fn node_ended(&self, run: u32, node: u32, took_ns: Option<u64>) {
        let now_ns = now_ns();
        let mut state = self.lock();
        let State { board, nodes, .. } = &mut *state;
        let Some(OnBoard { ticket, explained, .. }) = nodes.remove(&(run, node)) else { return };
        let ended = took_ns.and_then(|took_ns| Some((board.finished(ticket, now_ns)?.expected_ns, took_ns)));
        let left = if ended.is_none() { board.abandoned(ticket, now_ns) } else { None };
        debug_assert!(left.is_none(), "whoever runs a node has taken it");
        self.note_waiting(board);
        drop(state);
        if let Some((expected_ns, took_ns)) = ended {
            self.log.end(explained, expected_ns, took_ns);
        }
    }
}
