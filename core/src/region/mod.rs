//! Regions: code that says of each task what it reads and writes, and means what it would mean one line after the other.
//!
//! ```
//! use ndarray::Array2;
//! use poniard::{Mutable, Runtime, read, write};
//!
//! fn gemm(a: &Array2<f64>, b: &Array2<f64>, c: &mut Array2<f64>) {
//!     *c += &a.dot(b);
//! }
//! let runtime = Runtime::new()?;
//! let tiles = |value: f64| -> Vec<Vec<_>> {
//!     (0..3).map(|_| (0..3).map(|_| Mutable::new(Array2::from_elem((8, 8), value))).collect()).collect()
//! };
//! let (a, b, c) = (tiles(1.0), tiles(2.0), tiles(0.0));
//! runtime.region(|r| {
//!     for i in 0..3 {
//!         for j in 0..3 {
//!             for k in 0..3 {
//!                 r.spawn(gemm, (read(&a[i][k]), read(&b[k][j]), write(&c[i][j])));
//!             }
//!         }
//!     }
//! })?;
//! assert_eq!(c[2][1].fetch()?[[7, 7]], 48.0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Tasks begin while the region is still spawning. It keeps a bounded number of them (a window): where more have been spawned than have run, spawning waits, so a region of
//! any length takes the memory of its window.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::ambient;
use crate::data::Data;
use crate::error::{FailureKind, TaskError};
use crate::function::{Args, Predecessors, TaskFn, caller, check_consumed};
use crate::options::TaskOptions;
use crate::parameter::{IntoArg, Slot};
use crate::runtime::Handle;
use crate::scope;
use crate::task::record::{TaskRef, Unspawned, has_holds};
use crate::task::{Task, Value};
use crate::worker::context::has_ambient;
use crate::worker::fetch;

mod batch;
mod builder;
pub(crate) mod check;
#[cfg(target_os = "linux")]
pub(crate) mod guard;
#[cfg(not(target_os = "linux"))]
#[path = "unguarded.rs"]
pub(crate) mod guard;
mod opening;
mod pages;
mod plan;
mod replay;
mod report;
pub(crate) mod shadow;
mod shape;
mod sites;

pub(crate) use batch::Batch;
pub use builder::RegionTaskBuilder;
use check::{Checker, Unordered};
use opening::Opening;
pub use plan::{Planning, RegionPlan, RegionRun};
use replay::{Outcome, Planned, Replay};
pub use report::{NotReplayed, RegionReport, RegionUse};
use shape::Recorder;
pub(crate) use sites::Sites;
use sites::{Ended, Start};

thread_local! {
    /// Whether this thread is about to order a task of a region, and looks at something itself meanwhile.
    static LOOKING: Cell<bool> = const { Cell::new(false) };
}

/// Whether the task that is being ordered is one of a region, and the thread that will wait for it may look at something that it writes.
pub(crate) fn is_looking() -> bool {
    LOOKING.get()
}

/// Orders a task of a region, before the eyes of its checker if it has one.
pub(crate) fn ordering<T>(looks: bool, checker: &mut Option<Checker>, order: impl FnOnce() -> T) -> T {
    LOOKING.set(looks);
    let ordered = Checker::during(checker, order);
    LOOKING.set(false);
    ordered
}

/// Tasks that a region keeps at most, unless it is told otherwise: enough to keep hundreds of processors busy, and some MB.
pub(crate) const WINDOW: usize = 16_384;

/// Spawns from one look for tasks that have finished to the next.
const RETIRE_EVERY: u64 = 64;

/// How long tasks of a region that may be replayed are held back, unless it is told otherwise.
const HOLD_BACK: Duration = Duration::from_millis(1);

/// Spawns tasks in the order in which they are to be understood: what [`Handle::region`] lends to its closure.
pub struct Region<'h> {
    handle: &'h Handle,
    window: RefCell<Window>,
    checker: RefCell<Option<Checker>>,
    opening: Opening,
    mode: RefCell<Mode>,
}

/// How its tasks are spawned.
enum Mode {
    /// In the ordinary way. Why that is so, if there is a reason.
    Plain(Option<NotReplayed>),
    /// The same, and what they do is noted. Why they are not held back, if they were.
    Learning(Recorder, Option<NotReplayed>),
    /// They are held back.
    Held(Arc<Replay>),
}

/// The tasks that may not have finished, oldest first.
struct Window {
    tasks: VecDeque<TaskRef>,
    limit: usize,
    spawned: u64,
    failed: u64,
    first: Option<TaskError>,
}

impl Window {
    /// Takes the oldest task out, which has finished.
    fn retire(&mut self) {
        if let Some(error) = self.tasks.pop_front().and_then(|task| task.failure()) {
            self.failed += 1;
            self.first.get_or_insert(error);
        }
    }

    /// Takes the oldest tasks out that have finished: their memory is used again while it is in the cache.
    fn retire_finished(&mut self) {
        while self.tasks.front().is_some_and(|task| task.is_finished()) {
            self.retire();
        }
    }
}

impl<'h> Region<'h> {
    fn new(handle: &'h Handle, options: &RegionOptions, location: &'static Location<'static>) -> Self {
        let window = Window { tasks: VecDeque::new(), limit: options.window.max(2), spawned: 0, failed: 0, first: None };
        let checker = options.checked.then(Checker::default);
        let mode = RefCell::new(Mode::new(handle, options, location));
        Self { handle, window: RefCell::new(window), checker: RefCell::new(checker), opening: Opening::new(), mode }
    }

    /// Spawns a task: as [`Handle::spawn`], and the region waits for it, whether its handle is kept or not. It runs as soon as the tasks have that it depends on by
    /// its accesses, and by the results that it takes.
    ///
    /// A task with a name or other options is a [`task`](Self::task).
    #[track_caller]
    pub fn spawn<M, F, A>(&self, function: F, args: A) -> RegionTask<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        self.spawn_with(caller(), function, args, None)
    }

    fn spawn_with<M, F, A>(
        &self,
        location: &'static Location<'static>,
        function: F,
        args: A,
        options: Option<Box<TaskOptions>>,
    ) -> RegionTask<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        const { check_consumed::<M, F, A>() };
        // Before anything else: conversions of arguments are a user's code where he wrote it.
        let mut body = Unspawned::new(function, args.into_params());
        let mut mode = self.mode.borrow_mut();
        let special = if options.is_some() {
            Some("has a name, or other options")
        } else if A::EMPTIES {
            Some("takes a value out of its place, or puts one there")
        } else {
            special::<M, F>(body.function())
        };
        if let Mode::Held(replay) = &*mode {
            match replay.hold_back(&mut body, special, location) {
                Some(task) => return RegionTask { task, opening: self.opening },
                None => *mode = self.go_on(replay.planned()),
            }
        }
        drop(mode);
        RegionTask { task: self.spawn_now(location, &mut body, options, special), opening: self.opening }
    }

    /// Spawns a task in the ordinary way.
    fn spawn_now<M, F: TaskFn<M>>(
        &self,
        location: &'static Location<'static>,
        body: &mut Unspawned<F, F::Params>,
        options: Option<Box<TaskOptions>>,
        special: Option<&'static str>,
    ) -> Task<F::Value> {
        self.make_room();
        let mut mode = self.mode.borrow_mut();
        let mut recorder = match &mut *mode {
            Mode::Learning(recorder, _) if !recorder.is_spoiled() => Some(recorder),
            _ => None,
        };
        if let Some(recorder) = &mut recorder {
            match special {
                Some(reason) => recorder.spoil(NotReplayed::Special { task: recorder.len(), reason }),
                None => body.params().see(&mut |seen| recorder.see(&seen)),
            }
        }
        let task = self.handle.spawn_in_region(location, body, options, &mut self.checker.borrow_mut());
        // A task is told from others by where its record lies, while it is noted what they do.
        let keeps = recorder.is_some_and(|recorder| {
            recorder.note(task.reference(), location);
            !recorder.is_spoiled()
        });
        drop(mode);
        task.keep();
        let mut window = self.window.borrow_mut();
        window.spawned += 1;
        window.tasks.push_back(task.reference().clone());
        if !keeps && window.spawned.is_multiple_of(RETIRE_EVERY) {
            window.retire_finished();
        }
        drop(window);
        task
    }

    /// Takes over the tasks that were held back and are not any more.
    #[cold]
    fn go_on(&self, planned: Planned) -> Mode {
        let mut window = self.window.borrow_mut();
        window.spawned += planned.tasks.len() as u64;
        window.tasks.extend(planned.tasks);
        Mode::Learning(planned.recorder, planned.why)
    }

    /// Waits, where the window is full, until half of it has finished: for each task would mean to sleep and wake up for each.
    #[inline]
    fn make_room(&self) {
        let window = self.window.borrow();
        let (is_full, limit) = (window.tasks.len() >= window.limit, window.limit);
        drop(window);
        if is_full {
            if let Mode::Learning(recorder, _) = &mut *self.mode.borrow_mut() {
                // From here on records of tasks that have ended may lie where others lay.
                recorder.spoil(NotReplayed::Window);
            }
            self.wait_until(limit / 2);
        }
    }

    /// Waits until so many tasks are left at most.
    #[cold]
    fn wait_until(&self, left: usize) {
        ambient::flush();
        loop {
            let window = self.window.borrow();
            let oldest = if window.tasks.len() > left { window.tasks.front().cloned() } else { None };
            drop(window);
            let Some(oldest) = oldest else { return };
            // The region may be entered again meanwhile: this thread runs tasks, but none of them has the region.
            let waited = fetch::wait(&oldest);
            let mut window = self.window.borrow_mut();
            match waited {
                Err(error) if !oldest.is_finished() => {
                    // Waiting would never end, or there is no stack for it: the task is left alone.
                    window.failed += 1;
                    window.first.get_or_insert(error);
                    window.tasks.pop_front();
                }
                _ => window.retire(),
            }
        }
    }

    /// Waits for all tasks.
    fn end(&self, location: &'static Location<'static>, panicked: bool) -> Result<(), RegionError> {
        let mut ended = None;
        let mode = self.mode.replace(Mode::Plain(None));
        let mode = match mode {
            Mode::Held(replay) => {
                if panicked {
                    replay.give_up(NotReplayed::Panicked);
                }
                match replay.finish(self.handle) {
                    Outcome::Replayed { shape, failed, first, spawned } => {
                        let mut window = self.window.borrow_mut();
                        (window.spawned, window.failed, window.first) = (spawned, failed, first);
                        ended = Some(Ended::Replayed(shape));
                        Mode::Plain(None)
                    }
                    Outcome::Planned(planned) => self.go_on(*planned),
                }
            }
            other => other,
        };
        self.wait_until(0);
        let ended = ended.unwrap_or_else(|| match mode {
            Mode::Learning(recorder, why) if !panicked => Ended::Learned(recorder, why),
            Mode::Learning(_, why) | Mode::Plain(why) => Ended::Planned(why),
            Mode::Held(_) => unreachable!("it has given way, or has been replayed"),
        });
        self.handle.shared.regions.end(location, ended);
        self.opening.close();
        let mut window = self.window.borrow_mut();
        for Unordered { task, earlier } in self.checker.take().map(Checker::into_found).unwrap_or_default() {
            window.failed += 1;
            window.first.get_or_insert_with(|| task.error(FailureKind::Unordered { earlier: earlier.name().to_string() }));
        }
        match window.first.take() {
            None => Ok(()),
            Some(first) => Err(RegionError::new(Failures { first, failed: window.failed, spawned: window.spawned, location })),
        }
    }
}

impl fmt::Debug for Region<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let window = self.window.borrow();
        f.debug_struct("Region").field("spawned", &window.spawned).field("kept", &window.tasks.len()).finish_non_exhaustive()
    }
}

impl Mode {
    fn new(handle: &Handle, options: &RegionOptions, location: &'static Location<'static>) -> Self {
        let shared = &handle.shared;
        let why = match shared.why_not_replayed() {
            _ if !options.replay => NotReplayed::Off,
            _ if options.checked => NotReplayed::Checked,
            Some(reason) => NotReplayed::Runtime { reason },
            None => match shared.regions.begin(location, options.window) {
                Start::Plain => return Self::Plain(None),
                Start::Learning(recorder) => return Self::Learning(recorder, None),
                Start::Known(shapes) => return Self::Held(Replay::new(handle, shapes, options.hold_back)),
            },
        };
        Self::Plain(Some(why))
    }
}

/// Why a task cannot be a node, if that is so, by what it is and by what is around it.
#[inline]
fn special<M, F: TaskFn<M>>(function: &F) -> Option<&'static str> {
    if const { F::LAUNCHES } {
        return Some("is a kernel's launch");
    }
    if function.retries().is_some() {
        return Some("may be tried again");
    }
    if has_ambient() {
        return Some("has options, or belongs to something");
    }
    if has_holds() {
        return Some("is spawned by a thread that may be looking at a value");
    }
    scope::run::is_in_play().then_some("is spawned where scopes are in use")
}

/// How a region is to be run.
#[derive(Clone, Debug)]
pub struct RegionOptions {
    window: usize,
    checked: bool,
    replay: bool,
    hold_back: Duration,
}

impl Default for RegionOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl RegionOptions {
    /// As [`Handle::region`].
    pub fn new() -> Self {
        Self { window: WINDOW, checked: false, replay: true, hold_back: HOLD_BACK }
    }

    /// Whether it is checked that each task comes after all that it has to come after, by a look at every earlier access to the same values: [`FailureKind::Unordered`] names two tasks where one does
    /// not. And whether bodies change only what their tasks have access to write: the tasks run one after the other, in this process, and after each one all values of the region whose elements are numbers
    /// (`Vec`, [`Buffer`](crate::Buffer), ndarray's arrays) are compared with copies; a task that has changed something else fails with [`FailureKind::Undeclared`]. On Linux, bodies that read what their tasks have no access to are found in the same way, by whole pages that cannot be touched meanwhile: of a value of less than two pages mostly nothing is seen, and `docs/REGIONS.md` has the other limits. It sets a handler for the signal `SIGSEGV`, which gives all other faults to the one before. For tests of the runtime, and for whoever mistrusts it, with values that only the region uses meanwhile: what others spawn is not seen. Keeps all tasks of the region, and its time grows with their square.
    pub fn checked(mut self, is_checked: bool) -> Self {
        self.checked = is_checked;
        self
    }

    /// Whether it may be replayed: when regions at one place in the source spawn the same tasks on as many values again, what comes after what is not found out anew. It is the default, and changes
    /// nothing but what planning costs, and that tasks are held back for a moment. [`Report::regions`](crate::Report::regions) says what became of it.
    pub fn replay(mut self, may_be: bool) -> Self {
        self.replay = may_be;
        self
    }

    /// How long tasks are held back at most where a region may be replayed, if its closure spawns less than a task a microsecond meanwhile: a millisecond, unless it is told.
    pub fn hold_back(mut self, time: Duration) -> Self {
        self.hold_back = time;
        self
    }

    /// How many tasks the region keeps at most: 16384 unless it is told; at least 2. Some hundred bytes each, besides arguments and results.
    pub fn window(mut self, tasks: usize) -> Self {
        self.window = tasks;
        self
    }
}

impl Handle {
    /// Runs `body` on this thread, waits for all tasks that it spawns in the region that it is lent, and returns what it returned. The tasks mean what they would mean if each ran where it is
    /// spawned: see [`region`](crate::region).
    ///
    /// When `body` panics, the tasks that it has spawned are waited for before the panic goes on.
    ///
    /// # Errors
    /// [`RegionError`] when a task failed: the first one in the order of the spawns.
    #[track_caller]
    pub fn region<R>(&self, body: impl FnOnce(&Region<'_>) -> R) -> Result<R, RegionError> {
        self.region_with(&RegionOptions::new(), body)
    }

    /// The same, with options.
    ///
    /// # Errors
    /// As [`region`](Self::region).
    #[track_caller]
    pub fn region_with<R>(&self, options: &RegionOptions, body: impl FnOnce(&Region<'_>) -> R) -> Result<R, RegionError> {
        let location = caller();
        let region = Region::new(self, options, location);
        let outcome = catch_unwind(AssertUnwindSafe(|| body(&region)));
        let ended = region.end(location, outcome.is_err());
        match outcome {
            Ok(value) => ended.map(|()| value),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// A task of a region: an argument for later ones, and its result once the region has ended. It may be dropped.
pub struct RegionTask<T> {
    task: Task<T>,
    opening: Opening,
}

impl<T> RegionTask<T> {
    /// The task, once the region has ended.
    fn closed(&self) -> Result<&Task<T>, TaskError> {
        if self.opening.is_open() { Err(self.task.reference().error(FailureKind::RegionOpen)) } else { Ok(&self.task) }
    }

    /// Its result: as [`Task::fetch`], after the region.
    ///
    /// # Errors
    /// As [`Task::fetch`]; [`FailureKind::RegionOpen`] while the region has not ended: give the task to another one as an argument instead.
    pub fn fetch(&self) -> Result<Value<T>, TaskError>
    where
        T: Data,
    {
        self.closed()?.fetch()
    }

    /// Its result, moved out if nobody else has it: as [`Task::take`], after the region.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch).
    pub fn take(self) -> Result<T, TaskError>
    where
        T: Data + Clone,
    {
        self.closed()?;
        self.task.take()
    }

    /// The name that errors use: the one given, or the function's.
    pub fn name(&self) -> String {
        self.task.name()
    }
}

impl<T> Clone for RegionTask<T> {
    fn clone(&self) -> Self {
        Self { task: self.task.clone(), opening: self.opening }
    }
}

impl<T> fmt::Debug for RegionTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegionTask").field(&self.task.name()).finish()
    }
}

impl<T: Data> IntoArg<T> for RegionTask<T> {
    fn into_slots(self) -> Slot<T> {
        IntoArg::<T>::into_slots(self.task)
    }
}

impl<T: Data> IntoArg<T> for &RegionTask<T> {
    fn into_slots(self) -> Slot<T> {
        IntoArg::<T>::into_slots(&self.task)
    }
}

/// A task of a region failed. Cheap to clone.
#[derive(Clone)]
pub struct RegionError(Arc<Failures>);

struct Failures {
    first: TaskError,
    failed: u64,
    spawned: u64,
    location: &'static Location<'static>,
}

impl RegionError {
    fn new(failures: Failures) -> Self {
        Self(Arc::new(failures))
    }

    /// The error of the first task that failed, in the order of the spawns.
    pub fn first(&self) -> &TaskError {
        &self.0.first
    }

    /// How many tasks failed, those included that depend on one that did.
    pub fn failed(&self) -> u64 {
        self.0.failed
    }

    /// How many tasks the region spawned.
    pub fn spawned(&self) -> u64 {
        self.0.spawned
    }
}

impl fmt::Display for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failures { first, failed, spawned, location } = &*self.0;
        let place = format_args!("{}:{}:{}", location.file(), location.line(), location.column());
        write!(f, "{failed} of the {spawned} tasks of the region at {place} failed, first this one: {first}")
    }
}

impl fmt::Debug for RegionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegionError({self})")
    }
}

impl std::error::Error for RegionError {}
