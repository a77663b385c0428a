//! What is known in the middle of a run: what bodies see, and whoever looks at the state of everything.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use poniard::platform::{Platform as _, situation};
use poniard::{Buffer, FailureKind, Gather, Handle, Task, TaskError, buffer};

use super::failure::Failure;
use super::script::{Chaos, Script};
use super::work::{Needs, Work, needs, result, value_of, word};
use super::{World, machine};
use crate::schedule::Schedule;

/// Policies under which nobody is idle while a task waits that it could run.
const CONSERVING: [&str; 4] = ["fifo", "priority", "random", "work-stealing"];

/// How often somebody looks at what a policy holds back.
const LOOK_NS: u64 = 20_000_000;

/// So many moments may pass in which no body begins or ends.
const PATIENCE: u64 = 20_000;

/// What is known of a task in the middle of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Course {
    pub(super) attempts: u32,
    /// Its body has come to its end.
    is_over: bool,
    /// Its handle was dropped, when it had finished.
    is_released: bool,
}

/// A task that was spawned.
#[derive(Clone)]
pub(super) enum Spawned {
    Number(Task<u64>),
    Buffer(Task<Buffer<u64>>),
    Nothing(Task<()>),
}

impl Spawned {
    pub(super) fn is_finished(&self) -> bool {
        match self {
            Self::Number(task) => task.is_finished(),
            Self::Buffer(task) => task.is_finished(),
            Self::Nothing(task) => task.is_finished(),
        }
    }

    /// Waits for it, and not for its data.
    pub(super) fn wait(&self) -> Result<(), TaskError> {
        match self {
            Self::Number(task) => task.wait(),
            Self::Buffer(task) => task.wait(),
            Self::Nothing(task) => task.wait(),
        }
    }
}

/// What the bodies of a run see. They run in the world's thread only.
pub(super) struct Scene {
    pub(super) script: Script,
    pub(super) needs: Vec<Needs>,
    /// Of each task how often it fails before it succeeds; `u32::MAX`: it panics.
    pub(super) failures: Vec<u32>,
    /// Whether a launch may be made more often than once, as one before it may fail.
    may_repeat: bool,
    /// Whether any task may have been cancelled.
    pub(super) is_cancelled: Cell<bool>,
    /// Whether something has gone wrong with a device.
    has_fault: Cell<bool>,
    pub(super) courses: RefCell<Vec<Course>>,
    pub(super) schedule: RefCell<Schedule>,
    /// Of each worker the task whose body ended there last.
    last: RefCell<Vec<u32>>,
    /// Workers that are taken by bodies just now.
    taken: Cell<u32>,
    /// What devices have done, and how often something was computed again.
    pub(super) launches: Cell<u64>,
    pub(super) repeats: Cell<u64>,
    /// The tasks that were spawned; nothing of those whose handles are gone.
    pub(super) spawned: RefCell<Vec<Option<Spawned>>>,
    /// Tasks that have to be over in time, each with when that is.
    pub(super) deadlines: RefCell<Vec<(u32, u64)>>,
    /// How often bodies have begun or ended, and how often it was looked since.
    progress: Cell<(u64, u64)>,
    /// Since when, and for how many looks, a worker has slept beside something that it would do.
    wrong_since: Cell<Option<(u64, u32)>>,
    /// How late wake-ups may be.
    late_ns: u64,
    pub(super) failed: RefCell<Vec<u32>>,
    pub(super) failure: RefCell<Option<Failure>>,
    /// To look at the runtime, while there is one.
    pub(super) handle: RefCell<Option<Handle>>,
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
    /// Sets it, until the guard is dropped.
    pub(super) fn enter(script: Script) -> (Rc<Self>, impl Sized) {
        /// Takes the scene away, however the run ends.
        struct Clear;
        impl Drop for Clear {
            fn drop(&mut self) {
                SCENE.set(None);
                machine::forget();
            }
        }
        let count = script.tasks.len();
        let needs = needs(&script);
        let mut failures = vec![0; count];
        let mut late_ns = 0;
        for chaos in &script.chaos {
            match *chaos {
                // What a launch does is no function of the host that could, and what takes buffers is not tried again.
                Chaos::Fails { task, .. } | Chaos::Panics { task } if script.tasks[task as usize].work.launched_at().is_some() => {}
                Chaos::Fails { task, .. } if script.tasks[task as usize].work != Work::Number => {}
                Chaos::Fails { task, .. } if !needs[task as usize].buffers.is_empty() => {}
                Chaos::Fails { task, times } => failures[task as usize] = times,
                Chaos::Panics { task } => failures[task as usize] = u32::MAX,
                Chaos::LateWakes { by_ns, .. } => late_ns = late_ns.max(by_ns),
                _ => {}
            }
        }
        let has_timeout = script.tasks.iter().any(|task| task.timeout_ns.is_some());
        let scene = Rc::new(Self {
            needs,
            failures,
            may_repeat: has_timeout || script.chaos.iter().any(Chaos::repeats_launches),
            is_cancelled: Cell::new(false),
            has_fault: Cell::new(false),
            courses: RefCell::new(vec![Course::default(); count]),
            schedule: RefCell::new(Schedule::with_room(count)),
            last: RefCell::new(vec![u32::MAX; script.columns.len()]),
            taken: Cell::new(0),
            launches: Cell::new(0),
            repeats: Cell::new(0),
            spawned: RefCell::default(),
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
        (scene, Clear)
    }

    pub(super) fn here() -> Rc<Self> {
        match SCENE.with_borrow(Option::clone) {
            Some(scene) => scene,
            None => unreachable!("bodies run while there is a scene"),
        }
    }

    /// What a task costs on a worker, or on a device, whose numbers come behind those of the workers.
    pub(super) fn cost_ns(&self, task: u32, processor: u32) -> u64 {
        self.script.tasks[task as usize].costs[self.script.column_of(processor) as usize]
    }

    /// When a worker or device that begins something now, which takes so long, is done.
    pub(super) fn end_ns(&self, processor: u32, now_ns: u64, cost_ns: u64) -> u64 {
        let slower = self.script.chaos.iter().find_map(|chaos| match chaos {
            Chaos::Slow { worker: slow, from_ns, to_ns, factor } if *slow == processor && (*from_ns..*to_ns).contains(&now_ns) => {
                Some(*factor)
            }
            _ => None,
        });
        let mut end_ns = now_ns.saturating_add(cost_ns.saturating_mul(slower.unwrap_or(1).into()));
        for chaos in &self.script.chaos {
            if let Chaos::Hang { worker: hung, from_ns, to_ns } = chaos
                && *hung == processor
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

    /// Something has gone wrong with a device: what was there alone may be computed again.
    pub(super) fn note_fault(&self) {
        self.has_fault.set(true);
    }

    pub(super) fn has_fault(&self) -> bool {
        self.has_fault.get()
    }

    /// The handle of a task that has finished is dropped.
    pub(super) fn release(&self, task: u32) {
        self.courses.borrow_mut()[task as usize].is_released = true;
        let gone = self.spawned.borrow_mut()[task as usize].take();
        if gone.is_some_and(|gone| gone.wait().is_err()) {
            self.failed.borrow_mut().push(task);
        }
    }

    /// Whether all know what came of a task.
    fn is_finished(&self, task: u32) -> bool {
        let spawned = self.spawned.borrow().get(task as usize).cloned();
        match spawned {
            Some(Some(spawned)) => spawned.is_finished(),
            Some(None) => self.courses.borrow()[task as usize].is_released,
            None => false,
        }
    }

    /// Counts a body that begins. Whether the result of its task was lost, and is computed again.
    fn begin(&self, task: u32) -> (u32, bool) {
        self.get_on();
        let is_launch = self.script.tasks[task as usize].work.launched_at().is_some();
        let is_again = is_launch && self.has_fault() && self.is_finished(task);
        let course = &mut self.courses.borrow_mut()[task as usize];
        course.attempts += 1;
        self.repeats.set(self.repeats.get() + u64::from(is_again));
        if course.is_over && !is_again && !(is_launch && self.may_repeat) {
            self.fail(Failure::Twice { task });
        }
        (course.attempts, is_again)
    }

    /// Counts a body that ends, on a worker or device, unless all know of it already.
    fn end(&self, task: u32, processor: u32, start_ns: u64) {
        if !self.is_finished(task) || !self.courses.borrow()[task as usize].is_over {
            // The clock may have jumped.
            self.schedule.borrow_mut().set(task as usize, processor as usize, start_ns, World::here().now_ns());
        }
        self.courses.borrow_mut()[task as usize].is_over = true;
    }

    /// A device begins a launch.
    pub(super) fn begin_launch(&self, task: u32) {
        self.begin(task);
    }

    /// A device has done it.
    pub(super) fn end_launch(&self, task: u32, processor: u32, start_ns: u64) {
        self.get_on();
        self.launches.set(self.launches.get() + 1);
        self.end(task, processor, start_ns);
    }

    /// What the body of a task does on a worker: it takes its time, and may fail.
    fn execute(&self, task: u32) -> Result<(), String> {
        let world = World::here();
        let is_away = machine::take_away();
        let (attempt, is_again) = self.begin(task);
        let start_ns = world.now_ns();
        let Some(worker) = world.worker().filter(|_| !is_again) else {
            // By whoever wants it, beside what that one does.
            if !is_again {
                self.fail(Failure::Wrong { task, what: "is run by a thread that is no worker".into() });
            }
            world.compute(self.end_ns(0, start_ns, self.cost_ns(task, 0)));
            return Ok(());
        };
        let processors = self.script.tasks[task as usize].workers();
        let taken = self.taken.get() + processors;
        self.taken.set(taken);
        if taken as usize > self.script.columns.len() && self.repeats.get() == 0 {
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
        self.end(task, worker, start_ns);
        self.last.borrow_mut()[worker as usize] = task;
        Ok(())
    }

    /// What a buffer holds that a task is given.
    fn look(&self, task: u32, buffer: &Buffer<u64>) -> u64 {
        value_of(buffer.iter().copied()).unwrap_or_else(|| {
            self.fail(Failure::Wrong { task, what: "finds a buffer that is no task's result".into() });
            0
        })
    }

    /// The body of a task that returns a number.
    pub(super) fn number(&self, task: u32, numbers: &Gather<'_, u64>, buffers: &[&Buffer<u64>]) -> Result<u64, String> {
        self.execute(task)?;
        Ok(result(task, numbers.iter().copied().chain(buffers.iter().map(|buffer| self.look(task, buffer)))))
    }

    /// The body of one that returns a buffer.
    pub(super) fn fill(&self, task: u32, numbers: &Gather<'_, u64>, buffers: &[&Buffer<u64>]) -> Result<Buffer<u64>, String> {
        self.number(task, numbers, buffers).map(|value| self.buffer_of(task, value))
    }

    fn buffer_of(&self, task: u32, value: u64) -> Buffer<u64> {
        let words = self.script.tasks[task as usize].work.words().unwrap_or(1);
        buffer::from_fn(words as usize, |index| word(value, index))
    }

    /// What a kernel does, on the host.
    fn launch_on_host(&self, task: u32, inputs: impl Iterator<Item = u64>) -> u64 {
        if let Err(reason) = self.execute(task) {
            unreachable!("launches do not fail on the host: {reason}");
        }
        result(task, inputs)
    }

    /// The same of one that makes a buffer.
    pub(super) fn make_on_host(&self, task: u32, inputs: &[&Buffer<u64>]) -> Buffer<u64> {
        let value = self.launch_on_host(task, inputs.iter().map(|input| self.look(task, input)));
        self.buffer_of(task, value)
    }

    /// The same of one that changes a cell.
    pub(super) fn change_on_host(&self, task: u32, cell: &mut Buffer<u64>, inputs: &[&Buffer<u64>]) {
        let before = self.look(task, cell);
        let value = self.launch_on_host(task, std::iter::once(before).chain(inputs.iter().map(|input| self.look(task, input))));
        cell.iter_mut().enumerate().for_each(|(index, place)| *place = word(value, index));
    }

    fn get_on(&self) {
        self.progress.set((self.progress.get().0 + 1, 0));
    }

    /// What the state of everything is like, when nobody goes on.
    pub(super) fn watch(&self, at_ns: u64) -> Result<(), Failure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let (progress, looks) = self.progress.get();
        self.progress.set((progress, looks + 1));
        if looks > PATIENCE {
            return Err(Failure::Endless { at_ns });
        }
        for (task, due_ns) in &*self.deadlines.borrow() {
            let spawned = self.spawned.borrow();
            let Some(Some(spawned)) = spawned.get(*task as usize) else { continue };
            let is_late = || matches!(spawned.wait().map_err(|error| matches!(error.kind(), FailureKind::DeadlineExceeded)), Err(true));
            if at_ns < *due_ns && spawned.is_finished() && is_late() {
                let what = format!("is given up at {at_ns} ns, and had time until {due_ns} ns");
                return Err(Failure::Wrong { task: *task, what });
            }
        }
        let handle = self.handle.borrow();
        let Some(handle) = &*handle else { return Ok(()) };
        let situation = situation(handle);
        for (number, (queue, device)) in situation.queues.iter().zip(machine::devices()).enumerate() {
            let used_bytes = device.used_bytes();
            if queue.reserved_bytes > used_bytes {
                let what = format!("{} bytes of device {number} count as taken, and {used_bytes} are", queue.reserved_bytes);
                return Err(Failure::Memory { at_ns, what });
            }
        }
        let has_devices = !self.script.devices.is_empty();
        // Where tasks have a choice between the host and devices, they are held back for those that are faster.
        let conserves = !has_devices && self.script.policy.as_deref().is_none_or(|policy| CONSERVING.contains(&policy));
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
