//! What may be said about a task besides its function and arguments.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::clock::now;
use crate::error::FailureKind;
use crate::function::{Args, TaskFn, caller, function_name};
use crate::retry::Retrying;
use crate::runtime::Handle;
use crate::scope::Scope;
use crate::task::Task;
use crate::task::record::create_failed;
use crate::timer;
use crate::worker::domain::Domain;

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

/// The options of one task; tasks without any carry none of this.
#[derive(Debug, Default)]
pub(crate) struct TaskOptions {
    pub(crate) name: Option<String>,
    pub(crate) scope: Scope,
    /// Where its result may be used.
    pub(crate) result_scope: Scope,
    /// Where it may run, once that is worked out; dangling when it may run everywhere.
    pub(crate) domain: Weak<Domain>,
    pub(crate) occupancy: Occupancy,
}

/// A task about to be spawned, with options. Made by [`Handle::task`].
#[must_use = "nothing is spawned before `spawn` is called"]
#[derive(Debug)]
pub struct TaskBuilder<'r, F, A> {
    pub(crate) handle: &'r Handle,
    pub(crate) function: F,
    pub(crate) args: A,
    pub(crate) options: TaskOptions,
    pub(crate) priority: Priority,
    pub(crate) deadline: Option<Instant>,
    pub(crate) timeout: Option<Duration>,
}

impl<F, A> TaskBuilder<'_, F, A> {
    /// The name that errors and traces use, in place of the function's own.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// How urgent it is once it is ready.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Where it may run. What the task takes and what it returns may have scopes, too: it runs where all of them meet.
    /// Where they do not meet the task fails at once, with an error that names two that do not.
    pub fn scope(mut self, scope: Scope) -> Self {
        self.options.scope = scope;
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
        self.options.result_scope = scope;
        self
    }

    /// How much of the machine it takes, in processors: none (`0.0`), a part of one (`0.25`), or several (`2.0`).
    pub fn occupancy(mut self, processors: impl Into<Occupancy>) -> Self {
        self.options.occupancy = processors.into();
        self
    }

    /// When it has to have finished. If it has not, it fails at that time with [`FailureKind::DeadlineExceeded`]: at once for whoever waits for it, and for tasks that
    /// depend on it. One that has not begun never will; one that runs can ask [`is_cancelled`](crate::is_cancelled), and what it returns is dropped.
    /// Only one that has access to a [`Mutable`](crate::Mutable) ends no sooner than those before it, and its own body, have.
    ///
    /// A deadline in the past makes it fail when it is spawned. The first deadline in a program starts a thread that watches them all. With a
    /// [`timeout`](Self::timeout) as well, the earlier one counts.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
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
        self.timeout = Some(timeout);
        self
    }

    /// When it has to have finished, if it is spawned now.
    fn due(&self) -> Option<Instant> {
        // A time that the clock does not reach is no deadline.
        let timeout = self.timeout.and_then(|timeout| now().checked_add(timeout));
        self.deadline.into_iter().chain(timeout).min()
    }

    /// Spawns it.
    #[track_caller]
    pub fn spawn<M>(self) -> Task<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        let due = self.due();
        let options = &self.options;
        let plain =
            options.name.is_none() && options.scope.is_any() && options.result_scope.is_any() && options.occupancy == Occupancy::ONE;
        let options = (!plain).then(|| Box::new(self.options));
        let Some(due) = due else { return self.handle.spawn_with(self.function, self.args, options, self.priority) };
        if due <= now() {
            let runtime = Arc::as_ptr(&self.handle.shared);
            return create_failed(runtime, caller(), options, std::any::type_name::<F>, FailureKind::DeadlineExceeded);
        }
        let task = self.handle.spawn_with(self.function, self.args, options, self.priority);
        if let Err(error) = timer::expire_at(due, task.reference()) {
            task.reference().cancel(FailureKind::NoTimer { reason: error.to_string() });
        }
        task
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
    pub fn retries(mut self, retries: u32) -> TaskBuilder<'r, Retrying<F>, A> {
        self.options.name.get_or_insert_with(|| function_name(std::any::type_name::<F>()));
        let Self { handle, function, args, options, priority, deadline, timeout } = self;
        let function = Retrying { function, retries, backoff: Duration::ZERO };
        TaskBuilder { handle, function, args, options, priority, deadline, timeout }
    }
}

impl<F, A> TaskBuilder<'_, Retrying<F>, A> {
    /// Pauses after each attempt that fails: after the first one so long, then twice as long each time, up to a minute, or to `first` if that is longer. Without this,
    /// the next attempt follows at once. The task takes no processor during a pause, which ends early when the task is cancelled; the last
    /// error is then what the task would have had.
    pub fn backoff(mut self, first: Duration) -> Self {
        self.function.backoff = first;
        self
    }
}
