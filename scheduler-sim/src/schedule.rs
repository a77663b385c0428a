//! Which task runs where and when, and whether that can be.

use std::fmt;

use crate::network::Sharing;
use crate::problem::{NEVER, Problem};

/// Where and when each task runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The processor of each task.
    pub processor: Vec<u32>,
    /// When each begins, in nanoseconds from the beginning.
    pub start_ns: Vec<u64>,
    /// When each is over.
    pub end_ns: Vec<u64>,
}

/// Why a schedule cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A task is where it cannot run, or for another time than it takes there.
    Duration {
        /// The task.
        task: usize,
    },
    /// A task begins before something that it needs is there.
    Early {
        /// The task.
        task: usize,
        /// What it needs.
        needs: usize,
        /// How much too early, in nanoseconds.
        by_ns: u64,
    },
    /// A task begins before it may.
    Unreleased {
        /// The task.
        task: usize,
        /// How much too early, in nanoseconds.
        by_ns: u64,
    },
    /// Two tasks run on one processor at a time.
    Overlap {
        /// The one that began first.
        first: usize,
        /// The other one.
        second: usize,
    },
    /// There are more or fewer entries than tasks.
    Count,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duration { task } => write!(f, "task {task} runs for a time that it does not take there"),
            Self::Early { task, needs, by_ns } => write!(f, "task {task} begins {by_ns} ns before what it needs of task {needs} is there"),
            Self::Unreleased { task, by_ns } => write!(f, "task {task} begins {by_ns} ns before it may"),
            Self::Overlap { first, second } => write!(f, "tasks {first} and {second} run on one processor at a time"),
            Self::Count => f.write_str("there is not one entry for each task"),
        }
    }
}

impl std::error::Error for Fault {}

impl Schedule {
    /// Nothing placed, with room for so many tasks.
    pub(crate) fn with_room(count: usize) -> Self {
        Self { processor: vec![u32::MAX; count], start_ns: vec![0; count], end_ns: vec![0; count] }
    }

    pub(crate) fn set(&mut self, task: usize, processor: usize, start_ns: u64, end_ns: u64) {
        self.processor[task] = processor as u32;
        self.start_ns[task] = start_ns;
        self.end_ns[task] = end_ns;
    }

    /// Where and when a part of the tasks runs, in the order of their numbers.
    #[must_use]
    pub fn only(&self, tasks: &[u32]) -> Self {
        let of = |all: &[u64]| tasks.iter().map(|task| all[*task as usize]).collect();
        Self {
            processor: tasks.iter().map(|task| self.processor[*task as usize]).collect(),
            start_ns: of(&self.start_ns),
            end_ns: of(&self.end_ns),
        }
    }

    /// When all is over.
    #[must_use]
    pub fn makespan_ns(&self) -> u64 {
        self.end_ns.iter().copied().max().unwrap_or(0)
    }

    /// How long each processor works.
    #[must_use]
    pub fn busy_ns(&self, processor_count: usize) -> Vec<u64> {
        let mut busy = vec![0; processor_count];
        for (task, processor) in self.processor.iter().enumerate() {
            busy[*processor as usize] += self.end_ns[task] - self.start_ns[task];
        }
        busy
    }

    /// Checks that every task takes what it takes, waits for what it needs, and has its processor for itself. Nothing arrives earlier
    /// than it would alone, except where memory is limited: there it may come from where it was written back to.
    ///
    /// # Errors
    /// The first fault, by task.
    pub fn check(&self, problem: &Problem<'_>) -> Result<(), Fault> {
        let count = problem.len();
        if [self.processor.len(), self.start_ns.len(), self.end_ns.len()] != [count; 3] {
            return Err(Fault::Count);
        }
        for task in 0..count {
            let processor = self.processor[task] as usize;
            let cost = if processor < problem.processor_count() { problem.duration_ns(task, processor) } else { NEVER };
            if cost == NEVER || self.end_ns[task].checked_sub(self.start_ns[task]) != Some(cost) {
                return Err(Fault::Duration { task });
            }
        }
        let platform = problem.platform();
        let is_limited = (0..problem.space_count()).any(|space| platform.memory(space).is_some());
        // Where rates change in between, the sum of the parts is rounded.
        let slack_ns = u64::from(platform.sharing() == Sharing::MaxMin);
        for task in 0..count {
            if self.start_ns[task] < problem.release_ns(task) {
                return Err(Fault::Unreleased { task, by_ns: problem.release_ns(task) - self.start_ns[task] });
            }
            let space = problem.space(self.processor[task] as usize);
            for (needs, edge) in problem.workload().edges_in(task) {
                let alone_ns = problem.transfer_ns(edge, problem.space(self.processor[needs] as usize), space);
                let there_ns = self.end_ns[needs] + if is_limited { 0 } else { alone_ns.saturating_sub(slack_ns) };
                if self.start_ns[task] < there_ns {
                    return Err(Fault::Early { task, needs, by_ns: there_ns - self.start_ns[task] });
                }
            }
        }
        self.check_overlap((0..count).collect())
    }

    /// Whether of these tasks two run on one processor at a time.
    pub(crate) fn check_overlap(&self, mut order: Vec<usize>) -> Result<(), Fault> {
        order.sort_by_key(|&task| (self.processor[task], self.start_ns[task], self.end_ns[task]));
        for pair in order.windows(2) {
            let [first, second] = [pair[0], pair[1]];
            if self.processor[first] == self.processor[second] && self.end_ns[first] > self.start_ns[second] {
                return Err(Fault::Overlap { first, second });
            }
        }
        Ok(())
    }
}
