//! A script played by the runtime itself in a world.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use poniard::platform::{Platform as _, situation};
use poniard::policy::Estimate;
use poniard::{BuildError, ExpectedCosts, FailureKind, Gather, Handle, Priority, Runtime, Task, TaskOptions};

use super::machine::{self, SimBackend};
use super::script::{Chaos, Script, ScriptTask};
use super::{Stuck, World};
use crate::schedule::{Fault, Schedule};

/// Policies under which nobody is idle while a task waits that it could run.
const CONSERVING: [&str; 4] = ["fifo", "priority", "random", "work-stealing"];

/// How often somebody looks at what a policy holds back.
const LOOK_NS: u64 = 20_000_000;

/// So many moments may pass in which no body begins or ends.
const PATIENCE: u64 = 20_000;

/// A task that was begun so often on processes that ended then is not begun again.
const ATTEMPTS: u32 = 3;

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// Where and when each task ran, the last time. One that did not has nobody as its processor.
    pub schedule: Schedule,
    /// Tasks without a result, as something went wrong.
    pub failed: Vec<u32>,
    /// When all was over, in nanoseconds.
    pub end_ns: u64,
    /// How many events there were.
    pub events: u64,
    /// How often the body of a task was begun.
    pub attempts: u64,
}

/// What is wrong with the runtime.
#[derive(Debug)]
#[non_exhaustive]
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
    /// Time goes on and on, and no task begins or ends.
    Endless {
        /// When that was noticed, in nanoseconds.
        at_ns: u64,
    },
    /// More tasks ran than there are workers for.
    Crowded {
        /// When, in nanoseconds.
        at_ns: u64,
        /// How many workers they took.
        taken: u32,
    },
    /// A task ran before another one that it depends on was over, or two at once on one worker.
    Schedule(Fault),
    /// The policy has failed, and another one went on in its place: what it said.
    Policy(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => error.fmt(f),
            Self::Stuck(stuck) => stuck.fmt(f),
            Self::Idle { at_ns, what } => write!(f, "at {at_ns} ns {what}"),
            Self::Twice { task } => write!(f, "task {task} is run again after it was over"),
            Self::Wrong { task, what } => write!(f, "task {task} {what}"),
            Self::Endless { at_ns } => write!(f, "at {at_ns} ns no task has begun or ended for very long"),
            Self::Crowded { at_ns, taken } => write!(f, "at {at_ns} ns tasks take {taken} workers, more than there are"),
            Self::Schedule(fault) => fault.fmt(f),
            Self::Policy(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Failure {}

impl From<Stuck> for Failure {
    fn from(stuck: Stuck) -> Self {
        Self::Stuck(stuck)
    }
}

impl Failure {
    /// What kind it is, in a word: the shrinker keeps to it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Build(_) => "build",
            Self::Stuck(_) => "stuck",
            Self::Idle { .. } => "idle",
            Self::Twice { .. } => "twice",
            Self::Wrong { .. } => "wrong",
            Self::Endless { .. } => "endless",
            Self::Crowded { .. } => "crowded",
            Self::Schedule(_) => "schedule",
            Self::Policy(_) => "policy",
        }
    }
}

/// What is known of a task in the middle of a run.
#[derive(Clone, Copy, Debug, Default)]
struct Course {
    attempts: u32,
    is_over: bool,
}

/// What the bodies of a run see. They run in the world's thread only.
pub(super) struct Scene {
    pub(super) script: Script,
    /// Of each task how often it fails before it succeeds; `u32::MAX`: it panics.
    failures: Vec<u32>,
    /// Whether any task may have been cancelled.
    is_cancelled: Cell<bool>,
    courses: RefCell<Vec<Course>>,
    schedule: RefCell<Schedule>,
    /// Of each worker the task whose body ended there last.
    last: RefCell<Vec<u32>>,
    /// Workers that are taken by bodies just now.
    taken: Cell<u32>,
    /// Tasks that have to be over in time, each with its number and when that is.
    deadlines: RefCell<Vec<(Task<u64>, u32, u64)>>,
    /// How often bodies have begun or ended, and how often it was looked since.
    progress: Cell<(u64, u64)>,
    /// Since when, and for how many looks, a worker has slept beside something that it would do.
    wrong_since: Cell<Option<(u64, u32)>>,
    /// How late wake-ups may be.
    late_ns: u64,
    failed: RefCell<Vec<u32>>,
    failure: RefCell<Option<Failure>>,
    /// To look at the runtime, while there is one.
    handle: RefCell<Option<Handle>>,
}

thread_local! {
    static SCENE: RefCell<Option<Rc<Scene>>> = const { RefCell::new(None) };
    /// Whether the process that runs the body at hand was killed.
    static IS_KILLED: Cell<bool> = const { Cell::new(false) };
}

/// Whether the process was killed that ran the last call on this thread.
pub(super) fn take_killed() -> bool {
    IS_KILLED.take()
}

impl Scene {
    pub(super) fn here() -> Rc<Self> {
        match SCENE.with_borrow(Option::clone) {
            Some(scene) => scene,
            None => unreachable!("bodies run while there is a scene"),
        }
    }

    fn cost_ns(&self, task: u32, worker: u32) -> u64 {
        self.script.tasks[task as usize].costs[self.script.columns[worker as usize] as usize]
    }

    /// When a worker that begins something now, which takes so long, is done.
    fn end_ns(&self, worker: u32, now_ns: u64, cost_ns: u64) -> u64 {
        let slower = self.script.chaos.iter().find_map(|chaos| match chaos {
            Chaos::Slow { worker: slow, from_ns, to_ns, factor } if *slow == worker && (*from_ns..*to_ns).contains(&now_ns) => {
                Some(*factor)
            }
            _ => None,
        });
        let mut end_ns = now_ns.saturating_add(cost_ns.saturating_mul(slower.unwrap_or(1).into()));
        for chaos in &self.script.chaos {
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

    /// When the process of a worker is killed next, if it is, not before `from_ns`.
    pub(super) fn kill_ns(&self, worker: u32, from_ns: u64) -> Option<u64> {
        let kills = self.script.chaos.iter().filter_map(|chaos| match chaos {
            Chaos::Kill { worker: killed, at_ns } if *killed == worker && *at_ns >= from_ns => Some(*at_ns),
            _ => None,
        });
        kills.min()
    }

    /// The last body that ended on a worker has done so where nobody will hear of it.
    pub(super) fn forget_last(&self, worker: u32) {
        let last = self.last.borrow()[worker as usize];
        if let Some(course) = self.courses.borrow_mut().get_mut(last as usize) {
            course.is_over = false;
            self.schedule.borrow_mut().processor[last as usize] = u32::MAX;
        }
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.failure.borrow_mut().get_or_insert(failure);
    }

    /// The body of a task: its result is made of those of all that it depends on.
    fn compute(&self, task: u32, inputs: &Gather<'_, u64>) -> Result<u64, String> {
        let world = World::here();
        let Some(worker) = world.worker() else { unreachable!("bodies run on workers") };
        let is_away = machine::take_away();
        self.get_on();
        let attempt = {
            let course = &mut self.courses.borrow_mut()[task as usize];
            course.attempts += 1;
            if course.is_over {
                self.fail(Failure::Twice { task });
            }
            course.attempts
        };
        let processors = u32::from(self.script.tasks[task as usize].processors);
        let taken = self.taken.get() + processors;
        self.taken.set(taken);
        let start_ns = world.now_ns();
        if taken as usize > self.script.columns.len() {
            self.fail(Failure::Crowded { at_ns: start_ns, taken });
        }
        let end_ns = self.end_ns(worker, start_ns, self.cost_ns(task, worker));
        let kill_ns = self.kill_ns(worker, start_ns).filter(|kill_ns| is_away && *kill_ns < end_ns);
        world.compute(kill_ns.unwrap_or(end_ns));
        self.taken.set(self.taken.get() - processors);
        self.get_on();
        if kill_ns.is_some() {
            IS_KILLED.set(true);
            return Err("killed".into());
        }
        match self.failures[task as usize] {
            // Without a word from the hook: it is meant.
            u32::MAX => std::panic::resume_unwind(Box::new(format!("task {task} panics"))),
            times if attempt <= times => return Err(format!("attempt {attempt} fails")),
            _ => {}
        }
        // The clock may have jumped.
        self.schedule.borrow_mut().set(task as usize, worker as usize, start_ns, world.now_ns());
        self.courses.borrow_mut()[task as usize].is_over = true;
        self.last.borrow_mut()[worker as usize] = task;
        Ok(result(task, inputs.iter().copied()))
    }

    fn get_on(&self) {
        self.progress.set((self.progress.get().0 + 1, 0));
    }

    /// What the state of everything is like, when nobody goes on.
    fn watch(&self, at_ns: u64) -> Result<(), Failure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let (progress, looks) = self.progress.get();
        self.progress.set((progress, looks + 1));
        if looks > PATIENCE {
            return Err(Failure::Endless { at_ns });
        }
        for (task, number, due_ns) in &*self.deadlines.borrow() {
            let is_late = || matches!(task.fetch().map_err(|error| matches!(error.kind(), FailureKind::DeadlineExceeded)), Err(true));
            if at_ns < *due_ns && task.is_finished() && is_late() {
                let what = format!("is given up at {at_ns} ns, and had time until {due_ns} ns");
                return Err(Failure::Wrong { task: *number, what });
            }
        }
        let handle = self.handle.borrow();
        let Some(handle) = &*handle else { return Ok(()) };
        let situation = situation(handle);
        let conserves = self.script.policy.as_deref().is_none_or(|policy| CONSERVING.contains(&policy));
        if let Some(what) = situation.wrong() {
            // Where a policy holds tasks back, time alone may change its mind, and somebody looks from time to time.
            let (since_ns, looks) = self.wrong_since.get().unwrap_or((at_ns, 0));
            self.wrong_since.set(Some((since_ns, looks + 1)));
            if conserves || looks > 3 && at_ns - since_ns > 2 * LOOK_NS + self.late_ns {
                return Err(Failure::Idle { at_ns, what });
            }
        } else {
            self.wrong_since.set(None);
        }
        let has_policy = self.script.policy.is_some();
        if has_policy && conserves && situation.placed > 0 && situation.searchers == 0 && !situation.sleepers.is_empty() {
            let what = format!("worker {} sleeps, nobody looks for tasks, and {} wait", situation.sleepers[0].0, situation.placed);
            return Err(Failure::Idle { at_ns, what });
        }
        Ok(())
    }
}

/// The result of a task, made of those of its inputs.
fn result(task: u32, inputs: impl Iterator<Item = u64>) -> u64 {
    let own = (u64::from(task) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    inputs.fold(own, |sum, input| sum.wrapping_add(input).rotate_left(7))
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

/// Has the runtime play a script in a world of its own.
///
/// # Errors
/// [`Failure`]: the runtime does not do what it promises, or cannot be built.
pub fn run(script: Script) -> Result<Ran, Failure> {
    let world = World::new(script.seed, script.draws);
    run_in(script, &world)
}

/// The same in a world at hand, in which nobody has been.
pub(super) fn run_in(script: Script, world: &Rc<World>) -> Result<Ran, Failure> {
    /// Takes the scene away, however the run ends.
    struct Clear;
    impl Drop for Clear {
        fn drop(&mut self) {
            SCENE.set(None);
            machine::forget();
        }
    }
    let count = script.tasks.len();
    let mut failures = vec![0; count];
    let mut late_ns = 0;
    for chaos in &script.chaos {
        match *chaos {
            Chaos::Fails { task, times } => failures[task as usize] = times,
            Chaos::Panics { task } => failures[task as usize] = u32::MAX,
            Chaos::LateWakes { by_ns, of_256 } => {
                late_ns = late_ns.max(by_ns);
                world.delay_wakes(by_ns, of_256);
            }
            Chaos::ClockJump { at_ns, by_ns } => world.jump(at_ns, by_ns),
            _ => {}
        }
    }
    let scene = Rc::new(Scene {
        failures,
        is_cancelled: Cell::new(false),
        courses: RefCell::new(vec![Course::default(); count]),
        schedule: RefCell::new(Schedule::with_room(count)),
        last: RefCell::new(vec![u32::MAX; script.columns.len()]),
        taken: Cell::new(0),
        deadlines: RefCell::default(),
        progress: Cell::default(),
        wrong_since: Cell::new(None),
        late_ns,
        failed: RefCell::default(),
        failure: RefCell::default(),
        handle: RefCell::default(),
        script,
    });
    SCENE.set(Some(Rc::clone(&scene)));
    let _clear = Clear;
    let played = world.run(
        {
            let scene = Rc::clone(&scene);
            move || play(&scene)
        },
        |at_ns| scene.watch(at_ns),
    );
    // What is wrong in the first place may be why nobody gets on.
    if let Some(failure) = scene.failure.take() {
        return Err(failure);
    }
    played?;
    let schedule = scene.schedule.take();
    let failed = scene.failed.take();
    check_order(&schedule, &scene.script.tasks, &failed).map_err(Failure::Schedule)?;
    let attempts = scene.courses.borrow().iter().map(|course| u64::from(course.attempts)).sum();
    Ok(Ran { failed, end_ns: world.now_ns(), events: world.event_count(), schedule, attempts })
}

/// Whether everything that ran came after what it depends on, and nothing ran beside another on its worker.
fn check_order(schedule: &Schedule, tasks: &[ScriptTask], failed: &[u32]) -> Result<(), Fault> {
    let ran = |task: usize| schedule.processor[task] != u32::MAX;
    for task in (0..tasks.len()).filter(|task| ran(*task)) {
        for source in tasks[task].inputs.iter().chain(&tasks[task].after).map(|source| *source as usize) {
            // One that was given up has finished, and its body may go on.
            if ran(source) && failed.binary_search(&(source as u32)).is_err() && schedule.end_ns[source] > schedule.start_ns[task] {
                return Err(Fault::Early { task, needs: source, by_ns: schedule.end_ns[source] - schedule.start_ns[task] });
            }
        }
    }
    schedule.check_overlap((0..tasks.len()).filter(|task| ran(*task)).collect())
}

/// The program: spawns everything and waits for it.
fn play(scene: &Rc<Scene>) {
    let script = &scene.script;
    let builder =
        Runtime::builder().builtin(false).linked(SimBackend { workers: script.columns.len(), processes: script.processes }).models(None);
    let builder = match &script.policy {
        Some(policy) => builder.policy(policy).setting("placement.seed", script.seed.to_string()),
        None => builder,
    };
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => return scene.fail(Failure::Build(error)),
    };
    scene.handle.replace(Some(runtime.handle()));
    let world = World::here();
    for chaos in &script.chaos {
        if let Chaos::Cancel { at_ns } = *chaos {
            let (scene, handle) = (Rc::clone(scene), runtime.handle());
            world.spawn(
                "canceller",
                Box::new(move || {
                    World::here().compute(at_ns);
                    scene.is_cancelled.set(true);
                    handle.cancel_all();
                }),
            );
        }
    }
    let mut tasks: Vec<Task<u64>> = Vec::with_capacity(script.tasks.len());
    for (number, task) in script.tasks.iter().enumerate() {
        world.compute(world.now_ns() + task.pause_ns);
        let inputs: Vec<Task<u64>> = task.inputs.iter().map(|source| tasks[*source as usize].clone()).collect();
        let failures = scene.failures[number];
        let mut builder = runtime.task(compute, (inputs, number as u32));
        if script.policy.is_some() {
            let row = if task.estimates.is_empty() { &task.costs } else { &task.estimates };
            let costs = Costs { row: row.clone(), columns: Arc::clone(&script.columns), rank_ns: task.rank_ns };
            builder = builder.options(&TaskOptions::new().expected(Arc::new(costs)));
        }
        match task.priority {
            0 => {}
            1.. => builder = builder.priority(Priority::High),
            _ => builder = builder.priority(Priority::Low),
        }
        if task.processors != 1 {
            builder = builder.occupancy(u32::from(task.processors));
        }
        if let Some(timeout_ns) = task.timeout_ns {
            builder = builder.timeout(Duration::from_nanos(timeout_ns));
        }
        for source in &task.after {
            builder = builder.after(&tasks[*source as usize]);
        }
        let spawned_ns = world.now_ns();
        tasks.push(if failures > 0 && failures < u32::MAX { builder.retries(failures + 1).spawn() } else { builder.spawn() });
        if let Some(timeout_ns) = task.timeout_ns {
            scene.deadlines.borrow_mut().push((tasks[number].clone(), number as u32, spawned_ns + timeout_ns));
        }
    }
    runtime.wait_idle();
    scene.deadlines.take();
    check(scene, &tasks);
    drop(tasks);
    if script.policy.is_some()
        && let Some(text) = runtime.report().messages.iter().find_map(|message| message.strip_prefix("warning: the policy `"))
    {
        scene.fail(Failure::Policy(format!("the policy `{text}")));
    }
    scene.handle.replace(None);
    drop(runtime);
}

/// Whether each task has the result that it should have.
fn check(scene: &Scene, tasks: &[Task<u64>]) {
    let script = &scene.script;
    let mut results: Vec<Option<u64>> = Vec::with_capacity(tasks.len());
    for (number, (task, handle)) in script.tasks.iter().zip(tasks).enumerate() {
        if !handle.is_finished() {
            return scene.fail(Failure::Wrong { task: number as u32, what: "is not over, and the runtime is idle".into() });
        }
        let inputs: Option<Vec<u64>> = task.inputs.iter().map(|source| results[*source as usize]).collect();
        let fails = scene.failures[number] == u32::MAX;
        let right = inputs.filter(|_| !fails).map(|inputs| result(number as u32, inputs.into_iter()));
        let outcome = handle.fetch().map(|value| *value);
        let what = match (&outcome, right) {
            (Ok(value), Some(right)) if *value == right => None,
            (Err(_), None) => None,
            // What ends it early may, and need not.
            (Err(error), Some(_)) => match error.kind() {
                FailureKind::Cancelled if scene.is_cancelled.get() => None,
                FailureKind::DeadlineExceeded if task.timeout_ns.is_some() => None,
                // It is not tried again when nobody wants it any more.
                FailureKind::Returned(_) if scene.failures[number] > 0 && (scene.is_cancelled.get() || task.timeout_ns.is_some()) => None,
                // It may be what ends processes.
                FailureKind::Processor { .. } if scene.courses.borrow()[number].attempts >= ATTEMPTS => None,
                _ => Some(format!("has failed and should not have: {error}")),
            },
            (Ok(value), Some(right)) => Some(format!("has the result {value} and should have {right}")),
            (Ok(_), None) => Some("has a result, and one that it depends on has none".into()),
        };
        if let Some(what) = what {
            scene.fail(Failure::Wrong { task: number as u32, what });
        }
        if outcome.is_err() {
            scene.failed.borrow_mut().push(number as u32);
        }
        results.push(outcome.ok());
    }
}
