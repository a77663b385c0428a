//! Graphs of a stream as the engine runs them: which arrives next, which is cancelled, and what becomes of their tasks.

use poniard::policy::Ticket;

use super::{ARRIVE, CANCEL, Data, Decider, Engine};
use crate::stream::{Stream, StreamGraph};

/// Where a stream is.
pub(super) struct Streaming<'a> {
    graphs: &'a [StreamGraph],
    /// Of each task the graph that it belongs to.
    graph_of: Vec<u32>,
    /// Of each graph how many of its tasks have neither ended nor been dropped.
    left: Vec<usize>,
    is_cancelled: Vec<bool>,
    /// Which graph arrives next.
    next_arrival: usize,
    /// Which task is submitted next, where that takes time.
    next_submitted: usize,
    /// Graphs by when they are cancelled if they are not over, the last first.
    cancels: Vec<(u64, u32)>,
    /// What the board knows each task by that waits there.
    waiting: Vec<Option<Ticket>>,
}

impl<'a> Streaming<'a> {
    pub(super) fn new(stream: &'a Stream) -> Self {
        let graphs = stream.graphs();
        let mut cancels: Vec<(u64, u32)> =
            graphs.iter().zip(0..).filter_map(|(graph, number)| graph.cancel_ns.map(|at_ns| (at_ns, number))).collect();
        cancels.sort_unstable_by(|one, other| other.cmp(one));
        Self {
            graphs,
            graph_of: graphs.iter().zip(0..).flat_map(|(graph, number)| std::iter::repeat_n(number, graph.tasks.len())).collect(),
            left: graphs.iter().map(|graph| graph.tasks.len()).collect(),
            is_cancelled: vec![false; graphs.len()],
            next_arrival: 0,
            next_submitted: 0,
            cancels,
            waiting: vec![None; stream.workload().len()],
        }
    }

    fn graph(&self, task: usize) -> usize {
        self.graph_of[task] as usize
    }

    pub(super) fn priority(&self, task: usize) -> i32 {
        self.graphs[self.graph(task)].priority
    }

    /// A task waits on the board.
    pub(super) fn waits(&mut self, task: usize, ticket: Ticket) {
        self.waiting[task] = Some(ticket);
    }

    /// A place has taken a task.
    pub(super) fn begins(&mut self, task: usize) {
        self.waiting[task] = None;
    }

    /// A task is over.
    pub(super) fn ended(&mut self, task: usize) {
        let graph = self.graph(task);
        self.left[graph] -= 1;
    }

    /// A task was submitted.
    pub(super) fn submitted(&mut self, task: usize) {
        self.next_submitted = task + 1;
    }

    /// The next task that is submitted, and when its graph arrives.
    pub(super) fn next_submitted(&mut self) -> (usize, u64) {
        while let Some(graph) = self.graph_of.get(self.next_submitted).map(|graph| *graph as usize) {
            if !self.is_cancelled[graph] {
                return (self.next_submitted, self.graphs[graph].arrival_ns);
            }
            self.next_submitted = self.graphs[graph].tasks.end;
        }
        (self.graph_of.len(), 0)
    }

    /// Which graphs were cancelled.
    pub(super) fn cancelled(&self) -> Vec<u32> {
        (0..self.is_cancelled.len() as u32).filter(|graph| self.is_cancelled[*graph as usize]).collect()
    }
}

impl<'a> Engine<'a> {
    pub(super) fn streaming(&mut self) -> Option<&mut Streaming<'a>> {
        if let Decider::Live(live) = &mut self.decider { live.streaming.as_mut() } else { None }
    }

    pub(super) fn is_stream(&mut self) -> bool {
        self.streaming().is_some()
    }

    /// Whether a task is not to begin any more.
    pub(super) fn is_dropped(&mut self, task: usize) -> bool {
        self.streaming().is_some_and(|streaming| streaming.is_cancelled[streaming.graph(task)])
    }

    /// The next graph arrives when it does.
    pub(super) fn arrive_later(&mut self) {
        let Some(streaming) = self.streaming() else { return };
        if let Some(graph) = streaming.graphs.get(streaming.next_arrival) {
            let at_ns = graph.arrival_ns;
            self.queue.push(at_ns, ARRIVE);
        }
    }

    /// A graph is there, with all its tasks.
    pub(super) fn graph_arrives(&mut self) {
        let Some(streaming) = self.streaming() else { return };
        let graph = streaming.next_arrival;
        streaming.next_arrival += 1;
        let tasks = streaming.graphs[graph].tasks.clone();
        self.arrive_later();
        for task in tasks {
            if self.problem.workload().in_degree(task) == 0 && !self.is_dropped(task) {
                self.push(task, None);
            }
        }
        self.wake_pending();
    }

    /// The next graph is cancelled when it is.
    pub(super) fn cancel_later(&mut self) {
        if let Some((at_ns, _)) = self.streaming().and_then(|streaming| streaming.cancels.last().copied()) {
            self.queue.push(at_ns, CANCEL);
        }
    }

    /// A graph is cancelled if it is not over: what has not begun does not begin. How many tasks that is.
    pub(super) fn cancel(&mut self) -> usize {
        let Self { decider, data, outcome, waiting, problem, now_ns, .. } = self;
        let Decider::Live(live) = decider else { return 0 };
        let Some(streaming) = &mut live.streaming else { return 0 };
        let Some((_, graph)) = streaming.cancels.pop() else { return 0 };
        let graph = graph as usize;
        let mut dropped = 0;
        if streaming.left[graph] > 0 {
            streaming.is_cancelled[graph] = true;
            for task in streaming.graphs[graph].tasks.clone() {
                if outcome.schedule.processor[task] != u32::MAX {
                    continue;
                }
                dropped += 1;
                if let Some(ticket) = streaming.waiting[task].take() {
                    let waited = live.board.abandoned(ticket, *now_ns);
                    debug_assert!(waited.is_some(), "it waited");
                    waiting.remove(&(task as u32));
                }
                match data {
                    Data::Alone { arrivals, .. } => {
                        problem.workload().edges_in(task).for_each(|(_, edge)| arrivals.release(edge));
                    }
                    Data::AloneAsPlanned { .. } => {}
                    Data::Shared(spaces) => spaces.dropped(problem, task),
                }
            }
            streaming.left[graph] -= dropped;
        }
        if let Data::Shared(spaces) = data {
            spaces.grant(problem, *now_ns);
        }
        self.begin_ready();
        self.cancel_later();
        self.wake_pending();
        dropped
    }
}
