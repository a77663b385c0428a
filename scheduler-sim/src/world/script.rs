//! What is computed in a world, on what, and what goes wrong.

use std::fmt;
use std::sync::Arc;

use super::work::{ScriptDevice, Work};
use crate::problem::Problem;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Chaos {
    /// A worker does nothing at all between two times, in nanoseconds.
    Hang {
        /// Which.
        worker: u32,
        /// Since when.
        from_ns: u64,
        /// Until when.
        to_ns: u64,
    },
    /// What a worker begins between two times takes so many times as long.
    Slow {
        /// Which.
        worker: u32,
        /// Since when.
        from_ns: u64,
        /// Until when.
        to_ns: u64,
        /// How many times.
        factor: u32,
    },
    /// Threads that are woken go on up to so much later: so many of 256.
    LateWakes {
        /// The longest time, in nanoseconds.
        by_ns: u64,
        /// How many of 256.
        of_256: u8,
    },
    /// The clock jumps forward.
    ClockJump {
        /// When, in nanoseconds.
        at_ns: u64,
        /// By how much.
        by_ns: u64,
    },
    /// A task returns an error the first so many times, and is tried again.
    Fails {
        /// Which.
        task: u32,
        /// How often.
        times: u32,
    },
    /// A task panics, for good: what depends on it fails.
    Panics {
        /// Which.
        task: u32,
    },
    /// Everything is cancelled.
    Cancel {
        /// When, in nanoseconds.
        at_ns: u64,
    },
    /// The process of a worker is killed, and another one takes its place when there is something for it.
    Kill {
        /// The worker.
        worker: u32,
        /// When, in nanoseconds.
        at_ns: u64,
    },
    /// No process can be started for a worker between two times, in nanoseconds.
    NoProcess {
        /// The worker.
        worker: u32,
        /// Since when.
        from_ns: u64,
        /// Until when.
        to_ns: u64,
    },
    /// A reply of a worker's process comes later: that of each so many-th call.
    LateReplies {
        /// The worker.
        worker: u32,
        /// Every so many-th.
        every: u32,
        /// By how much, in nanoseconds.
        by_ns: u64,
    },
    /// A reply of a worker's process is lost, that of the so many-th call: it is killed when nothing has come for long.
    LostReply {
        /// The worker.
        worker: u32,
        /// Which.
        call: u32,
    },
    /// A device is lost, with all that is in its memory.
    DeviceLost {
        /// Which.
        device: u32,
        /// When, in nanoseconds.
        at_ns: u64,
    },
    /// Others have all memory of a device that is free between two times, in nanoseconds.
    MemoryFull {
        /// Which device.
        device: u32,
        /// Since when.
        from_ns: u64,
        /// Until when.
        to_ns: u64,
    },
    /// A copy from a device to the host breaks off: each so many-th.
    TransferFails {
        /// Which device.
        device: u32,
        /// Every so many-th.
        every: u32,
    },
    /// A device refuses launches: each so many-th.
    Refuses {
        /// Which device.
        device: u32,
        /// Every so many-th.
        every: u32,
    },
    /// A device says later that a launch is done: each so many-th.
    LateCompletions {
        /// Which device.
        device: u32,
        /// Every so many-th.
        every: u32,
        /// By how much, in nanoseconds.
        by_ns: u64,
    },
    /// A device does not say that its so many-th launch is done: it is taken for lost when nothing has come for long.
    LostCompletion {
        /// Which device.
        device: u32,
        /// Which launch.
        launch: u32,
    },
    /// The program ends its runtime, and goes on with another one. A device that was lost is back then, with nothing in its memory.
    Restart {
        /// Before which task.
        task: u32,
    },
}

impl Chaos {
    /// All kinds: those that any world may have, then those of processes, then those of devices.
    pub const KINDS: [&'static str; 18] = [
        "hang",
        "slow",
        "late-wakes",
        "clock-jump",
        "fails",
        "panics",
        "cancel",
        "kill",
        "no-process",
        "late-replies",
        "lost-reply",
        "device-lost",
        "memory-full",
        "transfer-fails",
        "refuses",
        "late-completions",
        "lost-completion",
        "restart",
    ];

    /// What kind it is, in a word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Hang { .. } => "hang",
            Self::Slow { .. } => "slow",
            Self::LateWakes { .. } => "late-wakes",
            Self::ClockJump { .. } => "clock-jump",
            Self::Fails { .. } => "fails",
            Self::Panics { .. } => "panics",
            Self::Cancel { .. } => "cancel",
            Self::Kill { .. } => "kill",
            Self::NoProcess { .. } => "no-process",
            Self::LateReplies { .. } => "late-replies",
            Self::LostReply { .. } => "lost-reply",
            Self::DeviceLost { .. } => "device-lost",
            Self::MemoryFull { .. } => "memory-full",
            Self::TransferFails { .. } => "transfer-fails",
            Self::Refuses { .. } => "refuses",
            Self::LateCompletions { .. } => "late-completions",
            Self::LostCompletion { .. } => "lost-completion",
            Self::Restart { .. } => "restart",
        }
    }

    /// Whether a launch may be made more often than once for it: one that was submitted behind another one, which then was not done.
    pub(super) fn repeats_launches(&self) -> bool {
        matches!(
            self,
            Self::Panics { .. }
                | Self::Cancel { .. }
                | Self::DeviceLost { .. }
                | Self::MemoryFull { .. }
                | Self::TransferFails { .. }
                | Self::Refuses { .. }
                | Self::LostCompletion { .. }
        )
    }
}

impl fmt::Display for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hang { worker, from_ns, to_ns } => write!(f, "worker {worker} hangs from {from_ns} to {to_ns} ns"),
            Self::Slow { worker, from_ns, to_ns, factor } => {
                write!(f, "worker {worker} takes {factor} times as long from {from_ns} to {to_ns} ns")
            }
            Self::LateWakes { by_ns, of_256 } => write!(f, "{of_256} of 256 wake-ups come up to {by_ns} ns late"),
            Self::ClockJump { at_ns, by_ns } => write!(f, "the clock jumps by {by_ns} ns at {at_ns} ns"),
            Self::Fails { task, times } => write!(f, "task {task} returns an error the first {times} times"),
            Self::Panics { task } => write!(f, "task {task} panics"),
            Self::Cancel { at_ns } => write!(f, "everything is cancelled at {at_ns} ns"),
            Self::Kill { worker, at_ns } => write!(f, "the process of worker {worker} is killed at {at_ns} ns"),
            Self::NoProcess { worker, from_ns, to_ns } => write!(f, "worker {worker} can have no process from {from_ns} to {to_ns} ns"),
            Self::LateReplies { worker, every, by_ns } => {
                write!(f, "one of {every} replies of the process of worker {worker} comes {by_ns} ns late")
            }
            Self::LostReply { worker, call } => write!(f, "the reply to call {call} of the process of worker {worker} is lost"),
            Self::DeviceLost { device, at_ns } => write!(f, "device {device} is lost at {at_ns} ns"),
            Self::MemoryFull { device, from_ns, to_ns } => write!(f, "device {device} has no free memory from {from_ns} to {to_ns} ns"),
            Self::TransferFails { device, every } => write!(f, "one of {every} copies from device {device} breaks off"),
            Self::Refuses { device, every } => write!(f, "device {device} refuses one of {every} launches"),
            Self::LateCompletions { device, every, by_ns } => {
                write!(f, "device {device} says of one of {every} launches {by_ns} ns late that it is done")
            }
            Self::LostCompletion { device, launch } => write!(f, "device {device} does not say that launch {launch} is done"),
            Self::Restart { task } => write!(f, "the runtime ends before task {task}, and another one begins"),
        }
    }
}

/// One task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptTask {
    /// What it takes on each column of processors, in nanoseconds.
    pub costs: Box<[u64]>,
    /// What a policy takes that for; nothing: as it is.
    pub estimates: Box<[u64]>,
    /// The tasks whose results it takes. They have smaller numbers.
    pub inputs: Vec<u32>,
    /// The tasks that it comes after besides. They have smaller numbers, too.
    pub after: Vec<u32>,
    /// -1, 0 or 1: before others if larger.
    pub priority: i8,
    /// How many workers it takes, if it returns a number: others take one.
    pub processors: u8,
    /// How long after it was spawned it has to be over, in nanoseconds.
    pub timeout_ns: Option<u64>,
    /// For policies that look at it.
    pub rank_ns: u64,
    /// How long after the one before it is spawned, in nanoseconds.
    pub pause_ns: u64,
    /// What it does.
    pub work: Work,
    /// Whether the program drops its handle when no later task names it and it has finished.
    pub is_released: bool,
}

impl ScriptTask {
    /// One that takes so long everywhere, and nothing else.
    #[must_use]
    pub fn new(cost_ns: u64, inputs: Vec<u32>) -> Self {
        Self {
            costs: [cost_ns].into(),
            estimates: Box::default(),
            inputs,
            after: Vec::new(),
            priority: 0,
            processors: 1,
            timeout_ns: None,
            rank_ns: 0,
            pause_ns: 0,
            work: Work::Number,
            is_released: false,
        }
    }

    /// How many workers it takes while it runs on the host.
    pub(super) fn workers(&self) -> u32 {
        if self.work == Work::Number { self.processors.into() } else { 1 }
    }
}

/// What is computed in a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Where all random numbers begin.
    pub seed: u64,
    /// The policy for all tasks; none: as the runtime does by itself, each worker its own newest first, and the others' oldest.
    pub policy: Option<String>,
    /// Whether it is drawn who goes on when several logical threads can.
    pub draws: bool,
    /// Of each worker its column of costs.
    pub columns: Arc<[u32]>,
    /// The last so many workers stand for processes.
    pub processes: usize,
    /// Devices with memories of their own, whose numbers come behind those of the workers.
    pub devices: Vec<ScriptDevice>,
    /// How many words of 8 bytes each cell has, which tasks change in place.
    pub cells: Vec<u32>,
    /// Whether launches go to devices also where the host would be faster.
    pub devices_first: bool,
    /// Whether somebody tells what tasks cost; otherwise the runtime finds out.
    pub expects_costs: bool,
    /// Whether the program fetches results when its runtime has ended.
    pub fetches_late: bool,
    /// What is computed, in the order in which it is spawned.
    pub tasks: Vec<ScriptTask>,
    /// What goes wrong.
    pub chaos: Vec<Chaos>,
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policy = self.policy.as_deref().unwrap_or("no policy");
        writeln!(f, "{} workers, of which the last {} stand for processes; {policy}", self.columns.len(), self.processes)?;
        if self.draws {
            writeln!(f, "who goes on of several is drawn with {}", self.seed)?;
        }
        for (number, device) in self.devices.iter().enumerate() {
            writeln!(f, "device {number}: {device}")?;
        }
        for (number, words) in self.cells.iter().enumerate() {
            writeln!(f, "cell {number}: {words} words")?;
        }
        if self.devices_first {
            writeln!(f, "launches go to devices first")?;
        }
        if self.fetches_late {
            writeln!(f, "results are fetched when the runtime has ended")?;
        }
        for (number, task) in self.tasks.iter().enumerate() {
            let columns = self.columns.iter().copied().chain(self.devices.iter().map(|device| device.column));
            let costs: std::collections::BTreeSet<u64> = columns.map(|column| task.costs[column as usize]).collect();
            let costs: Vec<String> = costs.into_iter().map(|cost| cost.to_string()).collect();
            write!(f, "task {number}: {} ns", costs.join(" or "))?;
            for (tasks, word) in [(&task.inputs, "takes"), (&task.after, "after")] {
                if !tasks.is_empty() {
                    let tasks: Vec<String> = tasks.iter().map(u32::to_string).collect();
                    write!(f, ", {word} {}", tasks.join(" "))?;
                }
            }
            if task.work != Work::Number {
                write!(f, ", {}", task.work)?;
            }
            if task.is_released {
                write!(f, ", its handle is dropped")?;
            }
            match task.priority {
                0 => {}
                1.. => write!(f, ", urgent")?,
                _ => write!(f, ", not urgent")?,
            }
            if task.processors != 1 {
                write!(f, ", on {} workers", task.processors)?;
            }
            if let Some(timeout_ns) = task.timeout_ns {
                write!(f, ", within {timeout_ns} ns")?;
            }
            if task.pause_ns > 0 {
                write!(f, ", spawned {} ns after the one before", task.pause_ns)?;
            }
            writeln!(f)?;
        }
        self.chaos.iter().try_for_each(|chaos| writeln!(f, "{chaos}"))
    }
}

impl Script {
    /// A problem on workers of one machine: data is everywhere at once. Of each task also its number in the workload: tasks of a script come after those that they depend on.
    #[must_use]
    pub fn of(problem: &Problem<'_>, policy: Option<&str>, seed: u64) -> (Self, Vec<u32>) {
        let workload = problem.workload();
        let order = workload.order();
        let mut numbers = vec![0; order.len()];
        order.iter().zip(0..).for_each(|(task, number)| numbers[*task as usize] = number);
        let count = problem.processor_count().max(1) as u64;
        let ranks = policy.map(|_| problem.upward_rank_sums());
        let tasks = order.iter().map(|task| {
            let task = *task as usize;
            let inputs = workload.edges_in(task).map(|(source, _)| numbers[source]).collect();
            let rank_ns = ranks.as_ref().map_or(0, |ranks| ranks[task] / count);
            let costs: Box<[u64]> = problem.duration_row(task).into();
            let estimates = if costs[..] == *problem.row(task) { Box::default() } else { problem.row(task).into() };
            let processors = u8::try_from(workload.processors(task)).unwrap_or(u8::MAX);
            ScriptTask { costs, estimates, rank_ns, processors, ..ScriptTask::new(0, inputs) }
        });
        let script = Self {
            seed,
            policy: policy.map(str::to_owned),
            draws: false,
            columns: (0..problem.processor_count()).map(|processor| problem.column(processor) as u32).collect(),
            processes: 0,
            devices: Vec::new(),
            cells: Vec::new(),
            devices_first: false,
            expects_costs: policy.is_some(),
            fetches_late: false,
            tasks: tasks.collect(),
            chaos: Vec::new(),
        };
        (script, order)
    }

    /// The column of costs of a worker, or of a device, whose numbers come behind those of the workers.
    #[must_use]
    pub fn column_of(&self, processor: u32) -> u32 {
        let processor = processor as usize;
        match processor.checked_sub(self.columns.len()) {
            None => self.columns[processor],
            Some(device) => self.devices[device].column,
        }
    }

    /// Takes tasks out, and what depends on them keeps the rest of its inputs.
    #[must_use]
    pub fn without(&self, is_gone: impl Fn(u32) -> bool) -> Self {
        let mut numbers: Vec<Option<u32>> = Vec::with_capacity(self.tasks.len());
        let mut next = 0;
        for task in 0..self.tasks.len() as u32 {
            numbers.push((!is_gone(task)).then_some(next));
            next += u32::from(!is_gone(task));
        }
        let renumbered = |tasks: &[u32]| tasks.iter().filter_map(|task| numbers[*task as usize]).collect();
        let kept = self.tasks.iter().zip(&numbers).filter(|(_, number)| number.is_some());
        let tasks =
            kept.map(|(task, _)| ScriptTask { inputs: renumbered(&task.inputs), after: renumbered(&task.after), ..task.clone() }).collect();
        let chaos = self.chaos.iter().filter_map(|chaos| match *chaos {
            Chaos::Fails { task, times } => Some(Chaos::Fails { task: numbers[task as usize]?, times }),
            Chaos::Panics { task } => Some(Chaos::Panics { task: numbers[task as usize]? }),
            // Before the next one that is left.
            Chaos::Restart { task } => Some(Chaos::Restart { task: numbers[task as usize..].iter().flatten().next().copied()? }),
            other => Some(other),
        });
        Self { chaos: chaos.collect(), tasks, ..self.clone() }
    }
}
