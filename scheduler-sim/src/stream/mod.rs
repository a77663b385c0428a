//! Graphs that arrive over time, and how they fare: an online workload.
//!
//! All graphs of a stream are one [`Workload`], in which no edge leads from one graph to another. The engine releases the tasks of a graph when it arrives
//! ([`engine::run_stream`](crate::engine::run_stream)), gives them its priority, and drops those that have not begun when it is cancelled. What comes of it is measured by graph: how long it took from its
//! arrival ([`Fates`]), as a multiple of what it would take at least if it had the machine for itself, and how evenly that is spread.

mod arrivals;
mod fates;

use std::fmt;
use std::ops::Range;

use poniard::policy::Random;

pub use arrivals::{Arrivals, ArrivalsError, TraceRow};
pub use fates::{Fate, Fates, Spread, jain_index};

use crate::problem::Problem;
use crate::schedule::Schedule;
use crate::workload::{MOST_TASKS, Workload, WorkloadBuilder, WorkloadError};

/// A graph of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamGraph {
    /// Which of the workloads it is, by number.
    pub workload: usize,
    /// Its tasks, by their numbers in the stream's workload.
    pub tasks: Range<usize>,
    /// When it arrives, in nanoseconds from the beginning.
    pub arrival_ns: u64,
    /// The priority of its tasks. Larger comes first, under policies that look at it.
    pub priority: i32,
    /// When it is cancelled if it is not over by then, in nanoseconds from the beginning.
    pub cancel_ns: Option<u64>,
}

/// What is drawn by lot for each graph, where the arrivals do not say it.
#[derive(Clone, Debug, Default)]
pub struct StreamOptions {
    /// How many graphs arrive, unless a trace says when each does.
    pub graph_count: usize,
    /// A graph has one of these priorities; 0 without any.
    pub priorities: Vec<i32>,
    /// A graph that is not over so long after its arrival is cancelled, in nanoseconds.
    pub patience_ns: Option<u64>,
    /// Where random numbers begin.
    pub seed: u64,
}

/// Graphs in the order in which they arrive.
#[derive(Clone, Debug)]
pub struct Stream {
    workload: Workload,
    graphs: Vec<StreamGraph>,
}

/// Why workloads and arrivals make no stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// There is no graph, or none of them has a task.
    Empty,
    /// There are too many tasks in all graphs together.
    TooLarge {
        /// How many there are, at least.
        task_count: u64,
    },
    /// They are no workload together.
    Workload(WorkloadError),
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the stream has no graph with a task"),
            Self::TooLarge { task_count } => {
                write!(f, "the graphs of the stream have {task_count} tasks or more, and the most is {MOST_TASKS}")
            }
            Self::Workload(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StreamError {}

impl Stream {
    /// Has graphs arrive. Which of `workloads` each is comes by lot, unless a trace says so.
    ///
    /// # Errors
    /// There is nothing to run, or too much.
    ///
    /// # Panics
    /// There is no workload, or a trace has the number of none.
    pub fn new(workloads: &[Workload], arrivals: &Arrivals, options: &StreamOptions) -> Result<Self, StreamError> {
        let mut random = Random::new(options.seed);
        let times = arrivals.times_ns(options.graph_count, &mut random);
        let mut order: Vec<usize> = (0..times.len()).collect();
        order.sort_by_key(|graph| times[*graph]);
        let mut graphs = Vec::with_capacity(order.len());
        let mut builder = WorkloadBuilder::new(&name(workloads, order.len()));
        let mut name = String::new();
        for number in order {
            // Drawn for each graph whether it counts or not, so that what else is said changes nothing else.
            let lots = [random.below(workloads.len()), random.below(options.priorities.len())];
            let row = arrivals.row(number);
            let chosen = row.and_then(|row| row.workload).unwrap_or(lots[0]);
            let workload = &workloads[chosen];
            let first = builder.len();
            let task_count = first as u64 + workload.len() as u64;
            if task_count > MOST_TASKS {
                return Err(StreamError::TooLarge { task_count });
            }
            for task in 0..workload.len() {
                use fmt::Write as _;
                name.clear();
                // Writing to a string does not fail.
                let _ = write!(name, "{}/{}", graphs.len(), workload.task_name(task));
                builder.task(&name, &workload.code_names()[workload.code(task) as usize], workload.work_ns(task));
            }
            for task in 0..workload.len() {
                for edge in workload.edges_out(task) {
                    builder.edge(first + task, first + workload.target(edge), workload.bytes(edge));
                }
            }
            let priority = row.and_then(|row| row.priority).or(options.priorities.get(lots[1]).copied()).unwrap_or(0);
            let patience_ns = row.and_then(|row| row.patience_ns).or(options.patience_ns);
            let arrival_ns = times[number];
            let cancel_ns = patience_ns.map(|patience_ns| arrival_ns.saturating_add(patience_ns));
            graphs.push(StreamGraph { workload: chosen, tasks: first..builder.len(), arrival_ns, priority, cancel_ns });
        }
        if builder.is_empty() {
            return Err(StreamError::Empty);
        }
        Ok(Self { workload: builder.build().map_err(StreamError::Workload)?, graphs })
    }

    /// All tasks of all graphs.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// The graphs, by arrival.
    #[must_use]
    pub fn graphs(&self) -> &[StreamGraph] {
        &self.graphs
    }

    /// Of each task when it may begin at the earliest, in nanoseconds.
    #[must_use]
    pub fn releases_ns(&self) -> Vec<u64> {
        self.graphs.iter().flat_map(|graph| std::iter::repeat_n(graph.arrival_ns, graph.tasks.len())).collect()
    }

    /// How each graph fared. `cancelled` has the numbers of those that were cancelled, rising.
    #[must_use]
    pub fn fates(&self, problem: &Problem<'_>, schedule: &Schedule, cancelled: &[u32]) -> Fates {
        let bounds = problem.lower_bounds_ns(self.graphs.iter().map(|graph| graph.tasks.clone()));
        let fates = self.graphs.iter().zip(bounds).enumerate().map(|(number, (graph, alone_ns))| {
            let ran = graph.tasks.clone().filter(|task| schedule.processor[*task] != u32::MAX);
            let is_cancelled = cancelled.binary_search(&(number as u32)).is_ok();
            let end_ns = graph.tasks.clone().map(|task| schedule.end_ns[task]).max().unwrap_or(graph.arrival_ns);
            Fate {
                alone_ns,
                response_ns: (!is_cancelled).then(|| end_ns.max(graph.arrival_ns) - graph.arrival_ns),
                ran: ran.clone().count(),
                worked_ns: ran.map(|task| schedule.end_ns[task] - schedule.start_ns[task]).sum(),
            }
        });
        Fates(fates.collect())
    }
}

/// What a stream is called.
fn name(workloads: &[Workload], graph_count: usize) -> String {
    let names: Vec<&str> = workloads.iter().map(Workload::name).collect();
    format!("{graph_count} x {}", names.join(" | "))
}

#[cfg(test)]
mod tests;
