//! What may be said about a task besides its function and arguments.
//!
//! One file because what options say, and what a builder sets, is one list.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::ambient::Inheritance;
use crate::clock::now;
use crate::function::{Args, TaskFn};
use crate::group::CancelToken;
use crate::journal::Noted;
use crate::kernel::Body;
use crate::placement::Placed;
use crate::planted::{self, Bug};
use crate::policy::Estimate;
use crate::region::shadow::Witness;
use crate::retry::Retrying;
use crate::runtime::Handle;
use crate::scope::{ProcessId, Scope};
use crate::task::Task;
use crate::task::bond::Bond;
use crate::task::record::{Order, TaskRef, why_types_stay};
use crate::worker::domain::Domain;
use crate::worker::shared::Shared;

/// How urgent a ready task is. Workers take the highest level first; a running task is never interrupted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// When there is nothing else to do.
    Low,
    /// The default.
    #[default]
    Normal,
    /// Before the others.
    High,
}

impl Priority {
    /// Number of levels.
    pub(crate) const COUNT: usize = 3;
    /// All levels, the most urgent first.
    pub(crate) const ALL: [Self; Self::COUNT] = [Self::High, Self::Normal, Self::Low];

    /// 0 for the most urgent.
    pub(crate) fn level(self) -> usize {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }
}

/// How much of the machine a task takes while it runs, in processors.
///
/// A task that takes none may run at any time, beside all others: one that sleeps, or waits for a file or for another program. Tasks that
/// take part of a processor share one, as far as they fit. One that takes several is run when as many workers have come to it, which then keep still until it
/// is over, or waits for another task: its body may use their processors through threads of its own.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Occupancy(f64);

impl Occupancy {
    /// No processor at all.
    pub const NONE: Self = Self(0.0);
    /// The default: one.
    pub const ONE: Self = Self(1.0);

    /// In thousandths; a task that takes part of a processor takes at least one.
    pub(crate) fn thousandths(self) -> u32 {
        let thousandths = (self.0 * 1000.0).ceil() as u32;
        if self.0 > 0.0 { thousandths.max(1) } else { thousandths }
    }

    /// More than nothing, and less than a processor.
    pub(crate) fn is_part(self) -> bool {
        self.0 > 0.0 && self.0 < 1.0
    }

    /// Whether it needs more than a thread that comes by.
    pub(crate) fn is_unusual(self) -> bool {
        self != Self::NONE && self != Self::ONE
    }

    /// Whether there is such a number of processors.
    pub(crate) fn is_possible(self) -> bool {
        (0.0..=1.0).contains(&self.0) || self.0 > 1.0 && self.0.fract() == 0.0 && self.0 <= 1e6
    }

    /// The number of processors.
    pub fn processors(self) -> f64 {
        self.0
    }
}

impl Default for Occupancy {
    fn default() -> Self {
        Self::ONE
    }
}

/// Between 0 and 1, or a whole number. Anything else makes the task fail when it is spawned.
impl From<f64> for Occupancy {
    fn from(processors: f64) -> Self {
        Self(processors)
    }
}

impl From<u32> for Occupancy {
    fn from(processors: u32) -> Self {
        Self(processors.into())
    }
}

/// What a whole number without a type is. A negative one makes the task fail when it is spawned.
impl From<i32> for Occupancy {
    fn from(processors: i32) -> Self {
        Self(processors.into())
    }
}

/// What may be said about a task, to be used for several: a builder whose settings are all optional.
///
/// They reach a task in four ways. Where two of them say the same thing, the first one counts:
///
/// 1. on the task itself: [`TaskBuilder::options`], and the builder's own methods;
/// 2. on all that a thread spawns in a closure: [`with_options`](crate::with_options), the innermost one first;
/// 3. from the task that spawns it, if that one was given them with [`inherit`](Self::inherit);
/// 4. for all tasks of a function: [`RuntimeBuilder::defaults`](crate::RuntimeBuilder::defaults), then what `#[task(...)]` says.
///
/// Cancel tokens add up instead. Cost: a task with options has one allocation more than one without.
///
/// ```
/// use poniard::{Priority, Runtime, TaskOptions};
///
/// let runtime = Runtime::new()?;
/// let urgent = TaskOptions::new().name("urgent").priority(Priority::High);
/// let task = runtime.task(|x: u64| x + 1, (1,)).options(&urgent).spawn();
/// assert_eq!(task.name(), "urgent");
/// let task = poniard::with_options(urgent, || runtime.spawn(|x: u64| x + 1, (1,)));
/// assert_eq!((task.name().as_str(), *task.fetch()?), ("urgent", 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TaskOptions {
    // What it is called.
    pub(crate) name: Option<String>,

    // Where and when it runs.
    pub(crate) priority: Option<Priority>,
    pub(crate) scope: Option<Scope>,
    pub(crate) result_scope: Option<Scope>,
    pub(crate) occupancy: Option<Occupancy>,
    pub(crate) once: Option<bool>,
    pub(crate) expected: Option<Arc<dyn ExpectedCosts>>,

    // When it ends early.
    pub(crate) deadline: Option<Instant>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) tokens: Vec<CancelToken>,

    // How far this reaches.
    pub(crate) inherit: bool,

    // What the runtime adds for one task. A copy of the options has none of it.
    pub(crate) ties: Ties,
}

impl TaskOptions {
    /// Options that say nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name that errors and traces use, in place of the function's own.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How urgent a task is once it is ready.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Where a task may run. A scope that no processor satisfies makes it fail at once.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }

    /// Where a task's result may be used: see [`TaskBuilder::result_scope`].
    pub fn result_scope(mut self, scope: Scope) -> Self {
        self.result_scope = Some(scope);
        self
    }

    /// How much of the machine a task takes: see [`TaskBuilder::occupancy`].
    pub fn occupancy(mut self, processors: impl Into<Occupancy>) -> Self {
        self.occupancy = Some(processors.into());
        self
    }

    /// Whether a task is begun at most once: see [`TaskBuilder::once`].
    pub fn once(mut self, once: bool) -> Self {
        self.once = Some(once);
        self
    }

    /// What a task is expected to take, in the place of what the runtime has measured. Nobody looks at it without a policy.
    pub fn expected(mut self, costs: Arc<dyn ExpectedCosts>) -> Self {
        self.expected = Some(costs);
        self
    }

    /// When a task has to have finished: see [`TaskBuilder::deadline`].
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// How long after its spawn a task has to have finished: see [`TaskBuilder::timeout`]. With a deadline as well, the earlier one counts.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Something that cancels it. Several add up.
    pub fn cancel_token(mut self, token: &CancelToken) -> Self {
        self.tokens.push(token.clone());
        self
    }

    /// Hands these options on to all tasks that a task with them spawns, and to those that these spawn, and so on, as long as nothing else is said.
    ///
    /// ```
    /// # use poniard::{Priority, Runtime, TaskOptions};
    /// # let runtime = Runtime::new()?;
    /// let named = TaskOptions::new().name("family").inherit();
    /// let outer = runtime.task(|| poniard::spawn(|| (), ()).name(), ()).options(&named).spawn();
    /// assert_eq!(*outer.fetch()?, "family");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn inherit(mut self) -> Self {
        self.inherit = true;
        self
    }

    /// Takes from `lower` what these options do not say.
    pub(crate) fn fill(&mut self, lower: &Self) {
        fn fill<T: Clone>(own: &mut Option<T>, lower: &Option<T>) {
            if own.is_none() {
                own.clone_from(lower);
            }
        }
        fill(&mut self.name, &lower.name);
        fill(&mut self.priority, &lower.priority);
        fill(&mut self.scope, &lower.scope);
        fill(&mut self.result_scope, &lower.result_scope);
        fill(&mut self.occupancy, &lower.occupancy);
        fill(&mut self.once, &lower.once);
        fill(&mut self.expected, &lower.expected);
        fill(&mut self.deadline, &lower.deadline);
        fill(&mut self.timeout, &lower.timeout);
        for token in &lower.tokens {
            if !self.tokens.contains(token) {
                self.tokens.push(token.clone());
            }
        }
    }

    /// These options, with what `lower` says besides.
    pub(crate) fn over(&self, lower: Option<&Self>) -> Self {
        let mut both = self.clone();
        if let Some(lower) = lower {
            both.fill(lower);
        }
        both
    }

    /// What a task with them takes.
    pub(crate) fn taken(&self) -> Occupancy {
        self.occupancy.unwrap_or_default()
    }

    /// Whether a task with them is as one without any.
    pub(crate) fn says_nothing(&self) -> bool {
        self.priority.is_none()
            && self.deadline.is_none()
            && self.timeout.is_none()
            && self.tokens.is_empty()
            && self.ties.bequest.is_none()
            && self.ties.defaults.is_none()
            && !self.is_worth_keeping()
    }

    /// When a task with them has to have finished, if it is spawned now.
    pub(crate) fn due(&self) -> Option<Instant> {
        // A time that the clock does not reach is no deadline.
        let timeout = self.timeout.and_then(|timeout| now().checked_add(timeout));
        self.deadline.into_iter().chain(timeout).min()
    }

    /// Whether a task has to carry them. Its priority it has elsewhere, its deadline is the timer's, and tokens have become bonds.
    pub(crate) fn is_worth_keeping(&self) -> bool {
        self.name.is_some()
            || self.scope.is_some()
            || self.result_scope.is_some()
            || self.occupancy.is_some()
            || self.once.is_some()
            || self.expected.is_some()
            || !self.ties.is_empty()
    }
}

/// What somebody knows of a task's cost before it has run: a user of his own tasks, or a simulator.
pub trait ExpectedCosts: fmt::Debug + Send + Sync {
    /// What the task takes on a processor, by its place among the runtime's: those of [`WorkerId`](crate::WorkerId) first. None: as the runtime estimates it.
    fn on(&self, processor: usize) -> Option<Estimate>;

    /// How long the longest way from the task's begin to the end of everything takes, in nanoseconds, for policies that look at ranks.
    fn rank_ns(&self) -> Option<u64> {
        None
    }
}

/// What ties one task to others.
#[derive(Default)]
pub(crate) struct Ties {
    /// The tasks that it comes after, besides those whose results it takes. They belong to whoever may touch the body: the lock only makes that plain.
    pub(crate) after: Option<Box<Mutex<Vec<Order>>>>,
    /// Who has to be told when it has finished.
    pub(crate) bonds: Vec<Bond>,
    /// What the tasks that it spawns get from it.
    pub(crate) inheritance: Option<Arc<Inheritance>>,
    /// Where it may run, once that is worked out; dangling when it may run everywhere.
    pub(crate) domain: Weak<Domain>,
    /// It runs although no handle is left: its group needs it.
    pub(crate) needed: bool,
    /// It is in a sequence: that it has finished means that its body is over, and all before it.
    pub(crate) holds: bool,
    /// It is made with one predecessor too many, for `TaskRef::release_hold`.
    pub(crate) held: bool,
    /// How often its function has been called so far; for one that is tried again.
    pub(crate) attempts: Option<AtomicU32>,
    /// What it has to do with the board, if it is placed.
    pub(crate) placed: Option<Arc<Placed>>,
    /// Its place in the journal, if one is kept.
    pub(crate) noted: Option<Box<Noted>>,
    /// Looks at what its body changes, in a region that is checked.
    pub(crate) witness: Option<Box<Witness>>,
    /// What there is to know about it if it is a kernel's launch.
    pub(crate) launch: Option<Box<LaunchTies>>,

    /// Until it is spawned: those of its own options that are to be inherited, and what its `#[task(...)]` says.
    pub(crate) bequest: Option<Box<TaskOptions>>,
    pub(crate) defaults: Option<&'static TaskOptions>,
}

/// A launch: where it can run is found out while it waits.
#[derive(Debug)]
pub(crate) struct LaunchTies {
    /// The kernel.
    pub(crate) body: Arc<Body>,
    /// The runtime, for whoever waits for it; the task may finish meanwhile.
    pub(crate) runtime: Weak<Shared>,
    /// When it has to have finished: a device is told.
    pub(crate) due: Option<Instant>,
    /// Queued processors that have not run it, one bit for each, the 64th for those that follow, too.
    pub(crate) tried: AtomicU64,
    /// Whether it is for the host now.
    pub(crate) on_host: AtomicBool,
    /// One more than the number of the queue whose processor has it; 0: none has.
    pub(crate) queue: AtomicUsize,
    /// How often its results were withdrawn, since what was to make them failed.
    pub(crate) withdrawn: AtomicU64,
}

impl Ties {
    fn is_empty(&self) -> bool {
        self.domain.strong_count() == 0
            && self.after.is_none()
            && self.bonds.is_empty()
            && self.inheritance.is_none()
            && !self.needed
            && !self.holds
            && !self.held
            && self.attempts.is_none()
            && self.launch.is_none()
            && self.placed.is_none()
            && self.noted.is_none()
            && self.witness.is_none()
    }

    /// Comes after one more task. Only before it is spawned.
    pub(crate) fn come_after(&mut self, task: &TaskRef) {
        let after = self.after.get_or_insert_default();
        after.get_mut().unwrap_or_else(PoisonError::into_inner).push(Order::new(task.clone()));
    }

    /// Lets `look` see the tasks that it comes after.
    pub(crate) fn with_after(&self, look: impl FnMut(&Order)) {
        if let Some(after) = &self.after {
            after.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(look);
        }
    }

    /// Forgets the tasks that it comes after; for whoever takes the body.
    pub(crate) fn drop_after(&self) {
        if let Some(after) = &self.after {
            let gone = std::mem::take(&mut *after.lock().unwrap_or_else(PoisonError::into_inner));
            // Without the lock: the last reference to a task takes its result along, and that may have a destructor.
            drop(gone);
        }
    }
}

impl Clone for Ties {
    /// Ties are one task's own.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Ties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ties").field("bonds", &self.bonds.len()).field("needed", &self.needed).finish_non_exhaustive()
    }
}

/// A task about to be spawned, with options. Made by [`Handle::task`].
#[must_use = "nothing is spawned before `spawn` is called"]
#[derive(Debug)]
pub struct TaskBuilder<'r, F, A> {
    pub(crate) handle: &'r Handle,
    pub(crate) function: F,
    pub(crate) args: A,
    pub(crate) options: TaskOptions,
}

impl<F, A> TaskBuilder<'_, F, A> {
    /// The name that errors and traces use, in place of the function's own.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// How urgent it is once it is ready.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.options.priority = Some(priority);
        self
    }

    /// Where it may run. What the task takes and what it returns may have scopes, too: it runs where all of them meet.
    /// Where they do not meet the task fails at once, with an error that names two that do not.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.options.scope = Some(scope);
        self
    }

    /// Lets `token` cancel it, besides others that it has. With a token that has been cancelled already, it fails at once.
    pub fn cancel_token(mut self, token: &CancelToken) -> Self {
        self.options.tokens.push(token.clone());
        self
    }

    /// Makes it begin after `task` has finished, whose result it does not take: whatever became of that one, even if it failed. Several add up.
    ///
    /// `task` runs from now on even when all its handles are dropped. One that is cancelled has finished at once, although its body may go on until
    /// it looks. Cost: about that of an argument that is a task.
    ///
    /// ```
    /// use std::sync::Mutex;
    ///
    /// static LOG: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    /// fn write(line: &str) {
    ///     if let Ok(mut log) = LOG.lock() {
    ///         log.push(if line == "one" { "one" } else { "two" });
    ///     }
    /// }
    /// let runtime = poniard::Runtime::new()?;
    /// let one = runtime.spawn(write, ("one".to_owned(),));
    /// let two = runtime.task(write, ("two".to_owned(),)).after(&one).spawn();
    /// two.wait()?;
    /// assert_eq!(*LOG.lock().map_err(|_| "poisoned")?, ["one", "two"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn after<T>(mut self, task: &Task<T>) -> Self {
        if planted::is(Bug::IgnoredOrder) {
            return self;
        }
        let task = task.reference();
        task.require();
        self.options.ties.come_after(task);
        self
    }

    /// Says all that `options` say, in place of what was said before.
    pub fn options(mut self, options: &TaskOptions) -> Self {
        let ties = &mut self.options.ties;
        if options.inherit {
            ties.bequest = Some(Box::new(options.over(ties.bequest.as_deref())));
        }
        let ties = std::mem::take(ties);
        self.options = TaskOptions { ties, ..options.over(Some(&self.options)) };
        self
    }

    /// What counts when nothing else says anything. For `#[task(...)]`.
    #[doc(hidden)]
    pub fn defaults(mut self, defaults: &'static TaskOptions) -> Self {
        self.options.ties.defaults = Some(defaults);
        self
    }

    /// Where its result may be used: the task itself, which makes it, runs inside this scope, and so does every task that takes the result.
    /// Only fetching it is free.
    ///
    /// ```
    /// use poniard::{Runtime, Scope, current_processor};
    ///
    /// let runtime = Runtime::builder().threads(2).build()?;
    /// let here = || current_processor().map(|processor| processor.name).unwrap_or_default();
    /// let made = runtime.task(here, ()).result_scope(Scope::processor("threads-1")).spawn();
    /// let used = runtime.spawn(move |made: &str| (made.to_owned(), here()), (&made,));
    /// assert_eq!(used.take()?, ("threads-1".into(), "threads-1".into()));
    ///
    /// let torn = runtime.task(|_: &str| (), (&made,)).name("torn").scope(Scope::processor("threads-0")).spawn();
    /// let error = torn.wait().expect_err("the argument is not usable there");
    /// assert_eq!(
    ///     error.reason(),
    ///     "its scope (processor `threads-0`) and the scope of argument 1 (processor `threads-1`) do not meet"
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn result_scope(mut self, scope: Scope) -> Self {
        self.options.result_scope = Some(scope);
        self
    }

    /// How much of the machine it takes, in processors: none (`0.0`), a part of one (`0.25`), or several (`2.0`).
    pub fn occupancy(mut self, processors: impl Into<Occupancy>) -> Self {
        self.options.occupancy = Some(processors.into());
        self
    }

    /// Makes sure that it is begun at most once: for bodies that do something to the world outside that must not happen twice.
    ///
    /// Without this, a task whose worker process ends in the middle of it is begun again on another one; with it, the task fails, and its error says how the process
    /// ended. A [`Buffer`](crate::Buffer) that such a task takes by value, and alone has, is not copied for it. For tasks on threads it changes nothing.
    pub fn once(mut self) -> Self {
        self.options.once = Some(true);
        self
    }

    /// When it has to have finished. If it has not, it fails at that time with [`FailureKind::DeadlineExceeded`](crate::FailureKind::DeadlineExceeded): at once for whoever waits for it, and for tasks that
    /// depend on it. One that has not begun never will; one that runs can ask [`is_cancelled`](crate::is_cancelled), and what it returns is dropped.
    /// Only one that has access to a [`Mutable`](crate::Mutable) ends no sooner than those before it, and its own body, have.
    ///
    /// A deadline in the past makes it fail when it is spawned. The first deadline in a program starts a thread that watches them all. With a
    /// [`timeout`](Self::timeout) as well, the earlier one counts.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.options.deadline = Some(deadline);
        self
    }

    /// As [`deadline`](Self::deadline), so much later than the spawn.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use poniard::{FailureKind, Runtime};
    /// let runtime = Runtime::new()?;
    /// let body = || {
    ///     while !poniard::is_cancelled() {
    ///         std::thread::yield_now();
    ///     }
    /// };
    /// let endless = runtime.task(body, ()).timeout(Duration::from_millis(5)).spawn();
    /// let error = endless.fetch().expect_err("it has a deadline");
    /// assert!(matches!(error.kind(), FailureKind::DeadlineExceeded));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }

    /// Spawns it.
    #[track_caller]
    pub fn spawn<M>(self) -> Task<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        let options = (!self.options.says_nothing()).then(|| Box::new(self.options));
        self.handle.spawn_with(self.function, self.args, options)
    }

    /// Spawns it on a worker process and nowhere else: what a scope of worker processes says, and the compiler refuses what it knows to stay. That is a closure which has
    /// captured something, and an argument or a result of a type that stays.
    ///
    /// The program is refused when it is built; `cargo check` does not see it.
    ///
    /// ```
    /// # use poniard::Runtime;
    /// let runtime = Runtime::builder().threads(1).processes(1).build()?;
    /// let place = runtime.task(std::process::id, ()).spawn_away();
    /// assert_ne!(*place.fetch()?, std::process::id());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// ```compile_fail
    /// # use poniard::Runtime;
    /// # let runtime = Runtime::new().unwrap();
    /// let captured = 1;
    /// let _ = runtime.task(move || captured, ()).spawn_away();
    /// ```
    ///
    /// ```compile_fail
    /// # use poniard::Runtime;
    /// #[derive(poniard::Data)]
    /// #[data(local)]
    /// struct Local(u8);
    /// # let runtime = Runtime::new().unwrap();
    /// let _ = runtime.task(|value: &Local| value.0, (Local(1),)).spawn_away();
    /// ```
    #[track_caller]
    pub fn spawn_away<M>(mut self) -> Task<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        const {
            if let Some(reason) = why_types_stay::<M, F>() {
                panic!("{}", reason)
            }
        }
        let away = Scope::any() - Scope::process(ProcessId::HOST);
        self.options.scope = Some(self.options.scope.map_or(away.clone(), |scope| scope & away));
        self.spawn()
    }
}

impl<'r, F, A> TaskBuilder<'r, F, A> {
    /// Calls the function again, up to `retries` times, when it returns an error; not when it panics, and not when the task is to stop.
    ///
    /// The function is cloned for each call, and what it takes by value is cloned for each call but the last. The arguments stay until the last call is over.
    /// The task's error is the last one, and says how often the function was called ([`TaskError::attempts`](crate::TaskError::attempts)).
    ///
    /// ```
    /// # use std::sync::atomic::{AtomicU64, Ordering};
    /// # use poniard::Runtime;
    /// static CALLS: AtomicU64 = AtomicU64::new(0);
    /// fn moody(from: Vec<u64>) -> Result<u64, String> {
    ///     if CALLS.fetch_add(1, Ordering::Relaxed) < 2 { Err("not yet".into()) } else { Ok(from.iter().sum()) }
    /// }
    /// let runtime = Runtime::new()?;
    /// assert_eq!(*runtime.task(moody, (vec![1, 2],)).retries(5).spawn().fetch()?, 3);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retries(self, retries: u32) -> TaskBuilder<'r, Retrying<F>, A> {
        let Self { handle, function, args, mut options } = self;
        options.ties.attempts = Some(AtomicU32::new(0));
        let function = Retrying { function, retries, backoff: Duration::ZERO };
        TaskBuilder { handle, function, args, options }
    }
}

impl<F, A> TaskBuilder<'_, Retrying<F>, A> {
    /// Pauses after each attempt that fails: after the first one so long, then twice as long each time, up to a minute, or to `first` if that is longer. Without this,
    /// the next attempt follows at once. The task takes no processor during a pause, which ends early when the task is cancelled.
    pub fn backoff(mut self, first: Duration) -> Self {
        self.function.backoff = first;
        self
    }
}
