//! A small graph on a small machine, which can be changed a little.

use std::collections::BTreeMap;

use poniard::policy::Random;

use crate::platform::{Platform, PlatformError};
use crate::workload::{Workload, WorkloadBuilder};

const MS: u64 = 1_000_000;
/// Bytes are multiples of so many: a millisecond at 1 GB/s.
const BYTES_STEP: u64 = 1_000_000;

/// Between what an instance lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most tasks, at least one.
    pub tasks: usize,
    /// A task takes a whole number of milliseconds from 1 to this on a processor of speed 1.
    pub work_ms: u64,
    /// An edge has up to so many megabytes (10^6 bytes).
    pub megabytes: u64,
    /// A processor is between 1 and so many times as fast as one of speed 1, in quarters.
    pub speed: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { tasks: 10, work_ms: 100, megabytes: 100, speed: 8 }
    }
}

/// A graph, and the speeds of processors that have a memory each; no speeds where the machine is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    work_ms: Vec<u64>,
    /// Of each edge its megabytes. Edges go to tasks with larger numbers, so there is no circle.
    edges: BTreeMap<(usize, usize), u64>,
    /// In quarters.
    speeds: Vec<u32>,
}

impl Instance {
    /// One by lot: as many tasks as may be, and about as many edges.
    pub(super) fn draw(random: &mut Random, bounds: &Bounds, processors: usize) -> Self {
        let mut instance = Self { work_ms: Vec::new(), edges: BTreeMap::new(), speeds: Vec::new() };
        for _ in 0..bounds.tasks {
            instance.work_ms.push(work(random, bounds));
        }
        for _ in 0..bounds.tasks {
            instance.add_edge(random, bounds);
        }
        for _ in 0..processors {
            instance.speeds.push(speed(random, bounds));
        }
        instance
    }

    /// The number of tasks.
    #[must_use]
    pub fn task_count(&self) -> usize {
        self.work_ms.len()
    }

    /// The number of edges.
    #[must_use]
    pub fn edge_count(&self) -> usize {
        self.edges.len()
    }

    /// The graph.
    #[must_use]
    pub fn workload(&self) -> Workload {
        let mut builder = WorkloadBuilder::new("found");
        for (task, work_ms) in self.work_ms.iter().enumerate() {
            builder.task(&format!("t{task}"), "task", work_ms * MS);
        }
        self.edges.iter().for_each(|((from, to), megabytes)| builder.edge(*from, *to, megabytes * BYTES_STEP));
        match builder.build() {
            Ok(workload) => workload,
            Err(error) => unreachable!("edges go to later tasks: {error}"),
        }
    }

    /// The speeds of the processors; none where the machine is given.
    #[must_use]
    pub fn speeds(&self) -> Vec<f64> {
        self.speeds.iter().map(|quarters| f64::from(*quarters) / 4.0).collect()
    }

    /// The machine, with so many bytes a second between any two processors.
    ///
    /// # Errors
    /// There is no processor, or the bandwidth is none.
    pub fn platform(&self, bytes_per_s: f64) -> Result<Platform, PlatformError> {
        Platform::of_speeds(&self.speeds(), Some(bytes_per_s))
    }

    /// The machine as a platform file (TOML).
    #[must_use]
    pub fn platform_toml(&self, bytes_per_s: f64) -> String {
        let processors: String = self.speeds().iter().map(|speed| format!("\n[[processor]]\nspeed = {speed:?}\n")).collect();
        format!("[link]\nbandwidth = {bytes_per_s:?}\n{processors}")
    }

    fn add_edge(&mut self, random: &mut Random, bounds: &Bounds) {
        let count = self.task_count();
        if count > 1 {
            let (one, other) = (random.below(count), random.below(count));
            if one != other {
                self.edges.insert((one.min(other), one.max(other)), megabytes(random, bounds));
            }
        }
    }

    fn edge_by_lot(&self, random: &mut Random) -> Option<(usize, usize)> {
        if self.edges.is_empty() { None } else { self.edges.keys().nth(random.below(self.edges.len())).copied() }
    }

    /// The same but for one thing: a task's work, an edge's bytes, a speed, an edge more or less, a task more or less.
    pub(super) fn changed(&self, random: &mut Random, bounds: &Bounds) -> Self {
        let mut changed = self.clone();
        match random.below(8) {
            0 | 1 => {
                let task = random.below(self.task_count());
                changed.work_ms[task] = work(random, bounds);
            }
            2 | 3 => {
                if let Some(edge) = self.edge_by_lot(random) {
                    changed.edges.insert(edge, megabytes(random, bounds));
                }
            }
            4 => changed.add_edge(random, bounds),
            5 => {
                if let Some(edge) = self.edge_by_lot(random) {
                    changed.edges.remove(&edge);
                }
            }
            6 if !self.speeds.is_empty() => {
                let processor = random.below(self.speeds.len());
                changed.speeds[processor] = speed(random, bounds);
            }
            _ if random.below(2) == 0 && self.task_count() > 1 => changed = self.without_task(random.below(self.task_count())),
            _ if self.task_count() < bounds.tasks => {
                changed.work_ms.push(work(random, bounds));
                changed.add_edge(random, bounds);
            }
            _ => {}
        }
        changed
    }

    /// Without a task and its edges.
    fn without_task(&self, gone: usize) -> Self {
        let mut less = self.clone();
        less.work_ms.remove(gone);
        let number = |task: usize| task - usize::from(task > gone);
        let kept = self.edges.iter().filter(|((from, to), _)| *from != gone && *to != gone);
        less.edges = kept.map(|((from, to), megabytes)| ((number(*from), number(*to)), *megabytes)).collect();
        less
    }

    /// Everything that has one part less, or a part that says less: the largest parts first.
    pub(super) fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        if self.task_count() > 1 {
            all.extend((0..self.task_count()).map(|task| self.without_task(task)));
        }
        if self.speeds.len() > 1 {
            all.extend((0..self.speeds.len()).map(|processor| {
                let mut less = self.clone();
                less.speeds.remove(processor);
                less
            }));
        }
        for edge in self.edges.keys() {
            let mut less = self.clone();
            less.edges.remove(edge);
            all.push(less);
        }
        for (edge, _) in self.edges.iter().filter(|(_, megabytes)| **megabytes > 0) {
            let mut less = self.clone();
            less.edges.insert(*edge, 0);
            all.push(less);
        }
        all
    }
}

fn work(random: &mut Random, bounds: &Bounds) -> u64 {
    1 + random.below(bounds.work_ms.max(1) as usize) as u64
}

fn megabytes(random: &mut Random, bounds: &Bounds) -> u64 {
    random.below(bounds.megabytes as usize + 1) as u64
}

fn speed(random: &mut Random, bounds: &Bounds) -> u32 {
    4 + random.below(4 * bounds.speed.max(1) as usize - 3) as u32
}
