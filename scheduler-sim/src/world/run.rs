//! A problem computed by the runtime itself in a world.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use poniard::platform::situation;
use poniard::policy::Estimate;
use poniard::{BuildError, ExpectedCosts, Gather, Handle, Runtime, Task, TaskOptions};

use super::machine::{self, SimBackend};
use super::{Stuck, World};
use crate::problem::{NEVER, Problem};
use crate::schedule::{Fault, Schedule};

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct RunOptions {
    /// Where all random numbers begin.
    pub seed: u64,
    /// The policy for all tasks; none: as the runtime does by itself, each worker its own newest first, and the others' oldest.
    pub policy: Option<String>,
    /// Whether it is drawn who goes on when several logical threads can.
    pub draws: bool,
    /// What goes wrong.
    pub chaos: Vec<Chaos>,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// A thread that is woken goes on up to so much later: so many of 256.
    LateWakes {
        /// The longest time, in nanoseconds.
        by_ns: u64,
        /// How many of 256.
        of_256: u8,
    },
    /// A task fails the first so many times, and is tried again.
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
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Where and when each task ran. One that did not has nobody as its processor.
    pub schedule: Schedule,
    /// Tasks that were not to have a result, as something went wrong, and have none.
    pub failed: Vec<u32>,
    /// When all was over, in nanoseconds.
    pub end_ns: u64,
    /// How many events there were.
    pub events: u64,
}

/// What is wrong with the runtime.
#[derive(Debug)]
pub enum Failure {
    /// The runtime could not be built.
    Build(BuildError),
    /// Threads are left that nobody wakes.
    Stuck(Stuck),
    /// A worker sleeps although there is something that it would do.
    Idle {
        /// When, in nanoseconds.
        at_ns: u64,
        /// Which, and beside what.
        what: String,
    },
    /// A task was begun again, although it had been over.
    Twice {
        /// Which.
        task: u32,
    },
    /// A task was run that should not have been, or its result is not the right one.
    Wrong {
        /// Which.
        task: u32,
        /// What is wrong.
        what: String,
    },
    /// A task ran before another one that it depends on was over, or two at once on one worker.
    Schedule(Fault),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => error.fmt(f),
            Self::Stuck(stuck) => stuck.fmt(f),
            Self::Idle { at_ns, what } => write!(f, "at {at_ns} ns {what}"),
            Self::Twice { task } => write!(f, "task {task} ran again after it was over"),
            Self::Wrong { task, what } => write!(f, "task {task} {what}"),
            Self::Schedule(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Stuck> for Failure {
    fn from(stuck: Stuck) -> Self {
        Self::Stuck(stuck)
    }
}

/// What is known of a task in the middle of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Course {
    attempts: u32,
    is_over: bool,
}

/// What the bodies of a run see. Bodies run in the world's thread only.
struct Scene {
    /// Costs, by task and column of the processor.
    costs: Vec<u64>,
    columns: Vec<u32>,
    column_count: usize,
    chaos: Vec<Chaos>,
    /// Of each task how often it fails before it succeeds; `u32::MAX`: it panics.
    failures: Vec<u32>,
    courses: RefCell<Vec<Course>>,
    schedule: RefCell<Schedule>,
    failure: RefCell<Option<Failure>>,
    /// To look at the runtime, while there is one.
    handle: RefCell<Option<Handle>>,
}

thread_local! {
    static SCENE: RefCell<Option<Rc<Scene>>> = const { RefCell::new(None) };
}

impl Scene {
    fn here() -> Rc<Self> {
        match SCENE.with_borrow(Option::clone) {
            Some(scene) => scene,
            None => unreachable!("bodies run while there is a scene"),
        }
    }

    fn cost_ns(&self, task: u32, worker: u32) -> u64 {
        self.costs[task as usize * self.column_count + self.columns[worker as usize] as usize]
    }

    /// When a worker that begins something now, which takes so long, is done.
    fn end_ns(&self, worker: u32, now_ns: u64, cost_ns: u64) -> u64 {
        let slower = self.chaos.iter().find_map(|chaos| match chaos {
            Chaos::Slow { worker: slow, from_ns, to_ns, factor } if *slow == worker && (*from_ns..*to_ns).contains(&now_ns) => {
                Some(*factor)
            }
            _ => None,
        });
        let mut end_ns = now_ns.saturating_add(cost_ns.saturating_mul(slower.unwrap_or(1).into()));
        for chaos in &self.chaos {
            if let Chaos::Hang { worker: hung, from_ns, to_ns } = chaos
                && *hung == worker
                && now_ns < *to_ns
                && end_ns > *from_ns
            {
                end_ns = end_ns.saturating_add(to_ns - now_ns.max(*from_ns));
            }
        }
        end_ns
    }

    fn fail(&self, failure: Failure) {
        self.failure.borrow_mut().get_or_insert(failure);
    }

    /// The body of a task: its result is made of those of all that it depends on.
    fn compute(&self, task: u32, inputs: &Gather<'_, u64>) -> Result<u64, String> {
        let world = World::here();
        let Some(worker) = world.worker() else { unreachable!("bodies run on workers") };
        let attempt = {
            let course = &mut self.courses.borrow_mut()[task as usize];
            course.attempts += 1;
            if course.is_over {
                self.fail(Failure::Twice { task });
            }
            course.attempts
        };
        let start_ns = poniard::platform::Platform::now_ns(&*world);
        let end_ns = self.end_ns(worker, start_ns, self.cost_ns(task, worker));
        world.compute(end_ns);
        match self.failures[task as usize] {
            u32::MAX => panic!("task {task} panics"),
            times if attempt <= times => return Err(format!("attempt {attempt} fails")),
            _ => {}
        }
        self.schedule.borrow_mut().set(task as usize, worker as usize, start_ns, end_ns);
        self.courses.borrow_mut()[task as usize].is_over = true;
        Ok(inputs.iter().fold(own_result(task), |sum, input| sum.wrapping_add(*input).rotate_left(7)))
    }
}

/// A task's part of its result.
fn own_result(task: u32) -> u64 {
    (u64::from(task) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn compute(inputs: Gather<'_, u64>, task: u32) -> Result<u64, String> {
    Scene::here().compute(task, &inputs)
}

/// The costs of one task, as a policy sees them.
#[derive(Debug)]
struct Costs {
    row: Box<[u64]>,
    columns: Arc<[u32]>,
    rank_ns: u64,
}

impl ExpectedCosts for Costs {
    fn on(&self, processor: usize) -> Option<Estimate> {
        let mean_ns = self.row[self.columns[processor] as usize];
        Some(Estimate { mean_ns, spread_ns: 0, count: 1 << 20 })
    }

    fn rank_ns(&self) -> Option<u64> {
        Some(self.rank_ns)
    }
}

/// Has the runtime compute a problem in a world of its own. Data is everywhere at once: all workers are of one machine.
///
/// # Errors
/// [`Failure`]: the runtime does not do what it promises, or cannot be built.
pub fn run(problem: &Problem<'_>, options: &RunOptions) -> Result<Ran, Failure> {
    /// Takes the scene away, however the run ends.
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            SCENE.set(None);
            machine::forget();
        }
    }
    let workload = problem.workload();
    let count = problem.len();
    let columns: Vec<u32> = (0..problem.processor_count()).map(|processor| problem.column(processor) as u32).collect();
    let mut failures = vec![0; count];
    for chaos in &options.chaos {
        match chaos {
            Chaos::Fails { task, times } => failures[*task as usize] = *times,
            Chaos::Panics { task } => failures[*task as usize] = u32::MAX,
            _ => {}
        }
    }
    let scene = Rc::new(Scene {
        costs: (0..count).flat_map(|task| problem.row(task).iter().copied()).collect(),
        column_count: problem.row(0).len(),
        columns: columns.clone(),
        chaos: options.chaos.clone(),
        failures,
        courses: RefCell::new(vec![Course::default(); count]),
        schedule: RefCell::new(Schedule::with_room(count)),
        failure: RefCell::default(),
        handle: RefCell::default(),
    });
    SCENE.set(Some(Rc::clone(&scene)));
    let _clear = Clear;
    let world = World::new(options.seed, options.draws);
    for chaos in &options.chaos {
        if let Chaos::LateWakes { by_ns, of_256 } = chaos {
            world.delay_wakes(*by_ns, *of_256);
        }
    }
    let plan = Plan::of(problem, options, columns.into());
    let watched = Rc::clone(&scene);
    world.run(
        {
            let scene = Rc::clone(&scene);
            move || plan.play(&scene)
        },
        move |at_ns| {
            if let Some(handle) = &*watched.handle.borrow()
                && let Some(what) = situation(handle).wrong()
            {
                return Err(Failure::Idle { at_ns, what });
            }
            Ok(())
        },
    )?;
    if let Some(failure) = scene.failure.take() {
        return Err(failure);
    }
    let schedule = scene.schedule.take();
    let ran = Ran {
        failed: (0..count as u32).filter(|task| schedule.processor[*task as usize] == u32::MAX).collect(),
        end_ns: poniard::platform::Platform::now_ns(&*world),
        events: world.event_count(),
        schedule,
    };
    if ran.failed.is_empty() && options.chaos.is_empty() {
        ran.schedule.check(problem).map_err(Failure::Schedule)?;
    } else {
        check_order(&ran.schedule, workload).map_err(Failure::Schedule)?;
    }
    Ok(ran)
}

/// Whether everything that ran came after what it depends on.
fn check_order(schedule: &Schedule, workload: &crate::workload::Workload) -> Result<(), Fault> {
    let ran = |task: usize| schedule.processor[task] != u32::MAX;
    for task in (0..workload.len()).filter(|task| ran(*task)) {
        for (source, _) in workload.edges_in(task) {
            if !ran(source) || schedule.end_ns[source] > schedule.start_ns[task] {
                let by_ns = schedule.end_ns[source].saturating_sub(schedule.start_ns[task]);
                return Err(Fault::Early { task, needs: source, by_ns });
            }
        }
    }
    Ok(())
}

/// What the program of a world does.
struct Plan {
    policy: Option<String>,
    workers: usize,
    seed: u64,
    /// In an order in which each comes after those that it depends on.
    order: Vec<u32>,
    sources: Vec<Vec<u32>>,
    rows: Vec<Box<[u64]>>,
    ranks: Vec<u64>,
    columns: Arc<[u32]>,
}

impl Plan {
    fn of(problem: &Problem<'_>, options: &RunOptions, columns: Arc<[u32]>) -> Self {
        let workload = problem.workload();
        let has_policy = options.policy.is_some();
        let workers = problem.processor_count();
        Self {
            policy: options.policy.clone(),
            workers,
            seed: options.seed,
            order: workload.order(),
            sources: (0..problem.len()).map(|task| workload.edges_in(task).map(|(source, _)| source as u32).collect()).collect(),
            rows: if has_policy { (0..problem.len()).map(|task| problem.row(task).into()).collect() } else { Vec::new() },
            ranks: if has_policy {
                problem.upward_rank_sums().into_iter().map(|sum| sum / workers.max(1) as u64).collect()
            } else {
                Vec::new()
            },
            columns,
        }
    }

    /// Spawns everything and waits for it.
    fn play(mut self, scene: &Rc<Scene>) {
        let builder = Runtime::builder().builtin(false).linked(SimBackend { workers: self.workers }).models(None);
        let builder = match &self.policy {
            Some(policy) => builder.policy(policy).setting("placement.seed", self.seed.to_string()),
            None => builder,
        };
        let runtime = match builder.build() {
            Ok(runtime) => runtime,
            Err(error) => return scene.fail(Failure::Build(error)),
        };
        scene.handle.replace(Some(runtime.handle()));
        let mut tasks: Vec<Option<Task<u64>>> = vec![None; self.sources.len()];
        for task in std::mem::take(&mut self.order) {
            let inputs: Vec<Task<u64>> = self.sources[task as usize].iter().filter_map(|source| tasks[*source as usize].clone()).collect();
            let failures = scene.failures[task as usize];
            let mut builder = runtime.task(compute, (inputs, task));
            if !self.rows.is_empty() {
                let row = std::mem::take(&mut self.rows[task as usize]);
                let costs = Costs { row, columns: Arc::clone(&self.columns), rank_ns: self.ranks[task as usize] };
                builder = builder.options(&TaskOptions::new().expected(Arc::new(costs)));
            }
            let spawned = if failures > 0 && failures < u32::MAX { builder.retries(failures).spawn() } else { builder.spawn() };
            tasks[task as usize] = Some(spawned);
        }
        runtime.wait_idle();
        self.check(scene, &tasks);
        drop(tasks);
        scene.handle.replace(None);
        drop(runtime);
    }

    /// Whether each task has the result that it should have.
    fn check(&self, scene: &Scene, tasks: &[Option<Task<u64>>]) {
        let workload_order = (0..tasks.len()).collect::<Vec<_>>();
        let mut right: Vec<Option<u64>> = vec![None; tasks.len()];
        let mut pending = workload_order;
        // Sources may have larger numbers: whoever lacks one comes again.
        while !pending.is_empty() {
            let before = pending.len();
            let mut known = vec![true; tasks.len()];
            pending.iter().for_each(|task| known[*task] = false);
            let (now, later) =
                pending.into_iter().partition(|task: &usize| self.sources[*task].iter().all(|source| known[*source as usize]));
            pending = later;
            for task in now as Vec<usize> {
                let inputs: Option<Vec<u64>> = self.sources[task].iter().map(|source| right[*source as usize]).collect();
                let fails = scene.failures[task] == u32::MAX;
                let sum =
                    |inputs: Vec<u64>| inputs.iter().fold(own_result(task as u32), |sum, input| sum.wrapping_add(*input).rotate_left(7));
                right[task] = inputs.filter(|_| !fails).map(sum);
                let Some(Some(handle)) = tasks.get(task).map(Option::as_ref) else { unreachable!("all were spawned") };
                let what = match (handle.fetch(), right[task]) {
                    (Ok(value), Some(right)) if *value == right => continue,
                    (Err(_), None) => continue,
                    (Ok(value), right) => format!("has the result {} and should have {right:?}", *value),
                    (Err(error), Some(_)) => format!("has failed and should not have: {error}"),
                };
                scene.fail(Failure::Wrong { task: task as u32, what });
            }
            assert!(pending.len() < before, "a workload has no circle");
        }
    }
}

/// Whether a task can run on every worker: the runtime is not told where one cannot.
#[must_use]
pub fn runs_everywhere(problem: &Problem<'_>) -> bool {
    (0..problem.len()).all(|task| problem.row(task).iter().all(|cost| *cost != NEVER))
}
