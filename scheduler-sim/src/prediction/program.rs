//! A program that spawns tasks one after the other.

use crate::problem::NEVER;
use crate::workload::{Recording, Workload, WorkloadBuilder, WorkloadError};
use crate::world::{self, NotPlayed, Script, ScriptTask};
use crate::{Platform, PlatformError, Problem};

/// A graph, and when the program spawns which of its tasks.
#[derive(Clone, Debug)]
pub struct Program {
    workload: Workload,
    /// The tasks that the program itself spawns, in order, and how long after the one before, in nanoseconds. Others are spawned by tasks.
    spawns: Vec<(u32, u64)>,
}

impl Program {
    /// That of a recorded run, whose tasks take this much each. Where it took many times the usual between two spawns, it waited or had no core: that counts as the usual.
    ///
    /// # Errors
    /// Tasks come after each other in a circle.
    pub fn recorded(recording: &Recording, works_ns: &[u64]) -> Result<Self, WorkloadError> {
        Ok(Self { workload: recording.workload(works_ns)?, spawns: recording.steps_ns() })
    }

    /// One that spawns all tasks of a graph, each after those that it depends on, at one pace. They take this much each.
    #[must_use]
    pub fn of_graph(workload: &Workload, works_ns: &[u64], step_ns: u64) -> Self {
        let order = workload.order();
        let spawns = order.into_iter().enumerate().map(|(place, task)| (task, if place == 0 { 0 } else { step_ns })).collect();
        Self { workload: workload.with_works(works_ns), spawns }
    }

    /// Its tasks.
    #[must_use]
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Whether it spawns all tasks by itself, none before one that it depends on.
    #[must_use]
    pub fn spawns_all(&self) -> bool {
        let mut is_spawned = vec![false; self.workload.len()];
        let in_order = self.spawns.iter().all(|(task, _)| {
            is_spawned[*task as usize] = true;
            self.workload.edges_in(*task as usize).all(|(source, _)| is_spawned[source])
        });
        in_order && is_spawned.into_iter().all(|is| is)
    }

    /// Its graph, and behind its tasks one more for each spawn of the program: it takes as long as the program took since the spawn before, comes after that one, and before the task
    /// that it spawns.
    #[must_use]
    pub fn with_spawns(&self) -> Workload {
        let own = &self.workload;
        let mut builder = WorkloadBuilder::from(own);
        let mut before = None;
        for (task, step_ns) in &self.spawns {
            let spawn = builder.task(&format!("spawn {}", own.task_name(*task as usize)), "spawn", *step_ns);
            if let Some(before) = before.replace(spawn) {
                builder.edge(before, spawn, 0);
            }
            builder.edge(spawn, *task as usize, 0);
        }
        match builder.build() {
            Ok(workload) => workload,
            Err(error) => unreachable!("spawns come in a row: {error}"),
        }
    }

    /// What runs [`with_spawns`](Self::with_spawns): so many workers in one memory space, and the program.
    ///
    /// # Errors
    /// There are more workers than a platform has.
    pub fn platform(workers: usize) -> Result<Platform, PlatformError> {
        let text = format!("[[processor]]\ncount = {workers}\nspace = \"host\"\n[[processor]]\nkind = \"program\"\nspace = \"host\"\n");
        Platform::from_toml(&text)
    }

    /// Spawns on the program, tasks on the workers.
    #[must_use]
    pub fn problem<'w>(&self, with_spawns: &'w Workload, platform: &Platform, workers: usize) -> Problem<'w> {
        let columns = (0..=workers).map(|processor| u32::from(processor == workers)).collect();
        let costs = (0..with_spawns.len()).flat_map(|task| match with_spawns.work_ns(task) {
            work_ns if task < self.workload.len() => [work_ns, NEVER],
            work_ns => [NEVER, work_ns],
        });
        Problem::with_costs(with_spawns, platform, columns, costs.collect())
    }

    /// Has the whole runtime run it on so many workers in virtual time, without a policy: each worker takes its own newest task first, and the oldest of others. How long it takes from the
    /// beginning of the first task to the end of the last one, in nanoseconds.
    ///
    /// # Errors
    /// [`NotPlayed`]: tasks spawn tasks ([`spawns_all`](Self::spawns_all)), or the runtime fails.
    pub fn play(&self, workers: usize, seed: u64) -> Result<u64, NotPlayed> {
        if !self.spawns_all() {
            return Err(NotPlayed::Unfit("tasks spawn tasks, or come after later ones".into()));
        }
        if let Some(task) = self.workload.widest().filter(|task| self.workload.processors(*task) as usize > workers) {
            let (name, takes) = (self.workload.task_name(task), self.workload.processors(task));
            return Err(NotPlayed::Unfit(format!("task `{name}` takes {takes} processors, and there are {workers}")));
        }
        let mut numbers = vec![0; self.workload.len()];
        (0..).zip(&self.spawns).for_each(|(number, (task, _))| numbers[*task as usize] = number);
        let tasks = self.spawns.iter().map(|(task, step_ns)| {
            let task = *task as usize;
            let inputs = self.workload.edges_in(task).map(|(source, _)| numbers[source]).collect();
            let processors = u8::try_from(self.workload.processors(task)).unwrap_or(u8::MAX);
            ScriptTask { pause_ns: *step_ns, processors, ..ScriptTask::new(self.workload.work_ns(task), inputs) }
        });
        let ran = world::run(Script {
            seed,
            policy: None,
            draws: false,
            columns: vec![0; workers].into(),
            processes: 0,
            devices: Vec::new(),
            cells: Vec::new(),
            devices_first: false,
            expects_costs: false,
            fetches_late: false,
            tasks: tasks.collect(),
            chaos: Vec::new(),
        })
        .map_err(NotPlayed::Failed)?;
        let first_ns = ran.schedule.start_ns.iter().min().copied().unwrap_or(0);
        Ok(ran.schedule.end_ns.iter().max().copied().unwrap_or(0) - first_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` and `b` one after the other, then `c`, which takes both.
    fn graph() -> Workload {
        let mut builder = WorkloadBuilder::new("w");
        let tasks = ["c", "a", "b"].map(|name| builder.task(name, name, 0));
        builder.edge(tasks[1], tasks[0], 8);
        builder.edge(tasks[2], tasks[0], 8);
        builder.build().unwrap()
    }

    #[test]
    fn a_graph_is_spawned_at_one_pace_each_task_after_its_sources() {
        let program = Program::of_graph(&graph(), &[100, 10, 10], 15);
        assert!(program.spawns_all());
        let workload = program.with_spawns();
        assert_eq!((0..6).map(|task| workload.work_ns(task)).collect::<Vec<_>>(), [100, 10, 10, 0, 15, 15]);
        assert_eq!((3..6).map(|task| workload.task_name(task)).collect::<Vec<_>>(), ["spawn a", "spawn b", "spawn c"]);
        assert_eq!(workload.edges_in(0).map(|(source, _)| source).collect::<Vec<_>>(), [1, 2, 5]);
        let platform = Program::platform(2).unwrap();
        let problem = program.problem(&workload, &platform, 2);
        assert_eq!(problem.row(4), [NEVER, 15]);
        assert_eq!(problem.processor_count(), 3);
    }

    #[test]
    fn the_runtime_by_itself_takes_as_long_as_can_be_told_by_hand() {
        // `b` is spawned at 15 and `c` at 30: the spawns are what takes time, until `c`.
        for workers in [1, 2] {
            assert_eq!(Program::of_graph(&graph(), &[100, 10, 10], 15).play(workers, 1).unwrap(), 130);
        }
        // Spawned at once, one worker does one after the other, and two the first two at the same time.
        let program = Program::of_graph(&graph(), &[100, 10, 20], 0);
        assert_eq!((program.play(1, 1).unwrap(), program.play(2, 1).unwrap()), (130, 120));
    }
}
