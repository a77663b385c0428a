//! The runtime as its user sees it.
//!
//! One file because all ways to spawn a task are one path with branches.

use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Instant;

use poniard_interface::{Erased, ErasedKernel, KernelError, ProcessorKind};

mod builder;
mod host;
mod report;

pub(crate) use builder::{BackendRecord, Backends, builtin_backend};
pub use builder::{BuildError, BuildErrorKind, RuntimeBuilder};
pub use report::{BackendReport, IdleReport, ProcessReport, ProcessorReport, Refused, Report};

use crate::ambient;
use crate::clock::now;
use crate::data::Data;
use crate::error::{BoxError, FailureKind};
use crate::function::{Args, Predecessors, TaskFn, caller, check_consumed};
use crate::journal::JournalEntry;
use crate::mutable::{Gone, create_ordered};
use crate::options::{LaunchTies, Priority, TaskBuilder, TaskOptions};
use crate::parameter::Gather;
use crate::placement::{Explanation, Placed, Placement};
use crate::platform;
use crate::policy::DecisionLog;
use crate::region;
use crate::scope::{ProcessorIdentity, Scope, run};
use crate::task::Task;
use crate::task::record::{Unspawned, create, create_detached, create_failed, create_finished, has_holds, parts_that_stay, why_it_stays};
use crate::timer;
use crate::worker::context::{self, Context};
use crate::worker::entry::Entry;
use crate::worker::fetch::{wait_for_room, wait_until_fired};
use crate::worker::room::ForeignRoom;
pub use crate::worker::roster::ProcessesError;
use crate::worker::shared::Shared;
use crate::worker::waiter::Waiter;

/// Owns the workers and processors. Derefs to [`Handle`], which has the methods that spawn.
///
/// Dropping it waits for all tasks, then ends the threads, as [`shutdown`](Self::shutdown) does; inside a task of another runtime, that one's worker meanwhile does other work. Dropped inside one of its own tasks it does both on a thread of its own, and the task goes on.
#[derive(Debug)]
pub struct Runtime {
    handle: Handle,
}

impl Runtime {
    /// A runtime with everything at its default: the backends linked into the program, one thread for each core.
    ///
    /// # Errors
    /// [`BuildError`] when there is no backend or no thread could be started.
    pub fn new() -> Result<Self, BuildError> {
        Self::builder().build()
    }

    #[cfg(test)]
    pub(crate) fn of(handle: Handle) -> Self {
        Self { handle }
    }

    /// Chooses backends, number of threads and settings.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::new()
    }

    /// A handle that can be kept and given away.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl std::ops::Deref for Runtime {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Runtime {
    /// Takes no more tasks from outside, waits for all that there are, and ends the threads. What dropping the runtime does, too. Tasks spawned
    /// afterwards fail with [`FailureKind::Shutdown`]; until the last one has finished, running tasks may spawn.
    ///
    /// May be called by several threads, each of which waits for the end. Inside a task of the runtime it cannot wait, and returns at once; tasks spawned from outside
    /// afterwards fail there, too.
    pub fn shutdown(&self) {
        self.end();
    }

    /// As [`shutdown`](Self::shutdown), and cancels everything: waits only for bodies that run, which can see that they are to stop. Nothing is run any more,
    /// also of what those spawn. A task that depends on one of another runtime ends when that one has.
    pub fn shutdown_now(&self) {
        self.handle.shared.cancel_for_good();
        self.end();
    }

    fn end(&self) {
        ambient::flush();
        let shared = Arc::clone(&self.handle.shared);
        if shared.has_ended() {
            return;
        }
        Context::with(|context| {
            let Some(context) = context else {
                shared.shut_down();
                return;
            };
            let own = std::ptr::eq(&*context.shared, &*shared);
            // Before this returns, whoever does the waiting: it takes no more tasks from outside.
            shared.close();
            let ended = Waiter::for_this_thread();
            let thread = platform::spawn("poniard-shutdown", {
                let ended = Arc::clone(&ended);
                move || {
                    shared.shut_down();
                    ended.fire();
                }
            });
            match thread {
                // The task that ends the runtime is one of those that have to finish first. Without a thread the workers stay until the
                // program ends, and every task still runs.
                _ if own => {}
                // Tasks of this thread's own runtime may have to finish first: its slot is lent meanwhile.
                Ok(_) => wait_until_fired(context, &ended),
                Err(_) => self.handle.shared.shut_down(),
            }
        });
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.end();
    }
}

/// Spawns tasks on a runtime. Cheap to clone; usable from every thread. Does not keep the runtime running: once it has been dropped, new tasks fail.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    /// Spawns a task: `function` with `args`, as soon as every argument that is another task's result is there.
    ///
    /// An argument is a value, a `Task<T>`, a `&Task<T>` or an `Arc<T>`; the function's parameters are `T`, `&T` or [`Gather`]. Which function returns
    /// what is checked by the compiler.
    ///
    /// A task whose argument failed fails as well, and is not run. Whoever has spawned some thousands of tasks more than have run waits until there are fewer, or until
    /// none has ended for a while. Cost: one allocation, and about ten nanoseconds for each argument that is a task.
    #[track_caller]
    pub fn spawn<M, F, A>(&self, function: F, args: A) -> Task<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        self.spawn_with(function, args, None)
    }

    /// As [`spawn`](Self::spawn), for a thread that runs an executor of asynchronous code: where `spawn` would make the thread wait, since it has spawned much more
    /// than has run, this waits without a thread. Nothing is spawned before it is polled.
    #[track_caller]
    pub fn spawn_async<M, F, A>(&self, function: F, args: A) -> impl Future<Output = Task<F::Value>> + use<M, F, A>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        let location = caller();
        let shared = Arc::clone(&self.shared);
        async move {
            let (task, foreign) =
                Context::with_of(&shared, |context| (spawn_in(&shared, context, function, args, location, None), context.is_none()));
            if foreign && shared.is_crowded() {
                ForeignRoom::new(shared).await;
            }
            task
        }
    }

    /// Spawns a task that nobody waits for: as [`spawn`](Self::spawn) and [`Task::detach`], and cheaper than both by what a handle costs. What it
    /// returns is dropped, its error too.
    #[track_caller]
    pub fn spawn_detached<M, F, A>(&self, function: F, args: A)
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        let location = caller();
        Context::with_of(&self.shared, |context| {
            spawn_detached_in(&self.shared, context, function, args, location);
            self.shared.make_foreign_room(context);
        });
    }

    /// Cancels everything that has been spawned so far. Tasks that have not begun fail with [`FailureKind::Cancelled`] when it would have been their turn; those that run can
    /// see that they are to stop ([`is_cancelled`](crate::is_cancelled)), and those that do not end as ever. New ones may be spawned.
    ///
    /// Cost: nothing for each task. A task that has been waiting while everything was cancelled 65,536 times may be taken for a new one.
    pub fn cancel_all(&self) {
        self.shared.cancel_all();
    }

    /// A task with options: `handle.task(f, (a, b)).name("x").priority(Priority::High).spawn()`.
    pub fn task<F, A>(&self, function: F, args: A) -> TaskBuilder<'_, F, A> {
        TaskBuilder { handle: self, function, args, options: TaskOptions::default() }
    }

    /// A task that is finished from the start.
    #[track_caller]
    pub fn value<T: Data>(&self, value: T) -> Task<T> {
        create_finished(value, Arc::as_ptr(&self.shared), caller(), None)
    }

    /// As [`value`](Self::value), for a value that may be used in a scope only: every task that takes it runs there.
    ///
    /// Where no processor of the runtime is in the scope, the task that comes back has failed.
    ///
    /// ```
    /// use poniard::{Runtime, Scope};
    ///
    /// let runtime = Runtime::builder().threads(2).build()?;
    /// let pinned = runtime.scoped_value(7u64, Scope::processor("threads-1"));
    /// let there = runtime.spawn(|_: &u64| poniard::current_processor().map(|processor| processor.name), (&pinned,));
    /// assert_eq!(there.take()?.as_deref(), Some("threads-1"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn scoped_value<T: Data>(&self, value: T, scope: Scope) -> Task<T> {
        match run::of_value(&self.shared, scope) {
            Ok(options) => create_finished(value, Arc::as_ptr(&self.shared), caller(), options),
            Err(kind) => {
                let name = TaskOptions { name: Some("value".into()), ..TaskOptions::default() };
                create_failed(Arc::as_ptr(&self.shared), caller(), Some(Box::new(name)), std::any::type_name::<T>, kind)
            }
        }
    }

    /// Spawns a kernel with arguments whose types are known at run time only. They are checked against the kernel's parameters when it runs.
    ///
    /// The task runs on a processor that the kernel has a body for.
    #[track_caller]
    pub fn spawn_kernel(&self, kernel: &Arc<ErasedKernel>, args: Vec<Task<Erased>>) -> Task<Erased> {
        let mut options = TaskOptions::new().name(kernel.name());
        let cpu = ProcessorKind::cpu();
        if kernel.code(&cpu).is_none()
            && let Some(kind) = kernel.kinds().next()
        {
            options = options.scope(Scope::kind(kind.clone()));
        }
        let kernel = Arc::clone(kernel);
        let body = move |args: Gather<'_, Erased>| -> Result<Erased, BoxError> { Ok(run_host_body(&kernel, &args)?) };
        self.spawn_with(body, (args,), Some(Box::new(options)))
    }

    /// Number of processors, of all kinds, those included that a later [`set_processes`](Self::set_processes) may add.
    pub fn processor_count(&self) -> usize {
        self.shared.processors.len()
    }

    /// The processors that are in a scope, in the runtime's order; none, where it selects nothing here. Their number is how many can run a task
    /// of that scope: without those that [`set_processes`](Self::set_processes) has removed.
    pub fn processors_in(&self, scope: &Scope) -> Vec<ProcessorIdentity> {
        let set = scope.select(&self.shared.identities);
        let there = set.iter().filter(|place| self.shared.slots.get(*place).is_none_or(|slot| !slot.is_dormant()));
        let mut there: Vec<_> = there.map(|place| self.shared.identities[place].clone()).collect();
        there.sort_by_key(ProcessorIdentity::order);
        there
    }

    /// From now on the runtime has `count` worker processes: the first so many of those that it can have ([`RuntimeBuilder::processes_at_most`]). May be called by
    /// every thread, inside tasks, too. Does not wait.
    ///
    /// A processor that is added takes its share of what there is to do; its process is started by the first task that travels. One that is removed
    /// finishes its task, others run what lies in its queues, and its process ends. Tasks whose scope has no processor left, or fewer than they take, fail, also those that wait for
    /// others still: with [`FailureKind::Removed`] or [`FailureKind::Occupancy`].
    ///
    /// # Errors
    /// [`ProcessesError`] when there cannot be so many, when nothing would be left to run tasks, when the runtime ends, or when a thread could not be started.
    ///
    /// ```
    /// use poniard::{Runtime, Scope};
    ///
    /// let runtime = Runtime::builder().threads(1).processes(0).processes_at_most(2).build()?;
    /// runtime.set_processes(2)?;
    /// assert_eq!(runtime.processors_in(&Scope::backend("process")).len(), 2);
    /// runtime.set_processes(0)?;
    /// assert_eq!(*runtime.spawn(|| 1u64, ()).fetch()?, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_processes(&self, count: usize) -> Result<(), ProcessesError> {
        self.shared.set_processes(count)
    }

    /// Whether every processor in `inner` is in `outer`, among those of this runtime.
    pub fn scope_is_subset(&self, inner: &Scope, outer: &Scope) -> bool {
        let processors = &self.shared.identities;
        inner.select(processors).is_subset_of(&outer.select(processors))
    }

    /// Whether two scopes come to the same processors of this runtime, however they are written.
    pub fn scopes_are_same(&self, one: &Scope, other: &Scope) -> bool {
        one.select(&self.shared.identities) == other.select(&self.shared.identities)
    }

    /// Waits until every task that was spawned on the runtime, by anybody, has finished.
    ///
    /// # Panics
    /// On a thread that is in the middle of one of them, or of a piece of a `join` or a loop that the runtime runs: it would wait for itself.
    #[track_caller]
    pub fn wait_idle(&self) {
        if let Some(place) = context::inside(&self.shared) {
            panic!(
                "`wait_idle` was called inside {place}: it waits for that too, and so for ever; wait for the tasks that are meant, or for a group of them"
            );
        }
        ambient::flush();
        self.shared.wait_until_quiet();
    }

    /// What people want to know of a processor, by its name: driver, memory, features, as names and values. With `measure` also what has to be measured, which takes up to a
    /// second of its work. Nothing of a thread; nothing where no processor has this name.
    pub fn describe(&self, processor: &str, measure: bool) -> Vec<(String, String)> {
        let record = self.shared.processors.iter().find(|record| record.info.name == processor);
        record.map(|record| record.processor.describe(measure)).unwrap_or_default()
    }

    /// Why tasks ran where they ran, in the order in which that was decided: of the first 100 000 that were placed. Empty without [`RuntimeBuilder::explain`], and where no task has a
    /// choice.
    pub fn explanations(&self) -> Vec<Explanation> {
        self.shared.placement.as_ref().map(Placement::explanations).unwrap_or_default()
    }

    /// Which tasks were spawned, after which others, and when and where each ran, in the order of the spawns. Empty without [`RuntimeBuilder::journal`]. Nodes of compiled graphs and jobs
    /// are no tasks, and what bodies on worker processes spawn there is not seen.
    ///
    /// ```
    /// let runtime = poniard::Runtime::builder().threads(2).journal(true).build()?;
    /// let one = runtime.spawn(|| 1, ());
    /// let two = runtime.spawn(|one: u32| one + 1, (&one,));
    /// assert_eq!(two.take()?, 2);
    /// runtime.wait_idle();
    /// let journal = runtime.journal();
    /// assert_eq!(journal[1].after, [0]);
    /// let ran = |at: usize| journal[at].ran.as_ref().expect("it has run on a worker");
    /// assert!(ran(1).began_ns >= ran(0).ended_ns);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn journal(&self) -> Vec<JournalEntry> {
        self.shared.journal.as_ref().map(|journal| journal.entries()).unwrap_or_default()
    }

    /// All that the policy was asked and told, and what was decided, in this order: enough to have it, or another one, decide again. `None` without [`RuntimeBuilder::decision_log`], and
    /// where no task has a choice. With a [journal](Self::journal) it says which task is which.
    ///
    /// ```
    /// use poniard::policy::Event;
    ///
    /// let runtime = poniard::Runtime::builder().threads(2).policy("fifo").decision_log(true).build()?;
    /// runtime.spawn(|| 1, ()).wait()?;
    /// runtime.wait_idle();
    /// let log = runtime.decision_log().expect("it was asked for");
    /// assert!(matches!(log.events[0], Event::Ready { number: 0, .. }));
    /// assert_eq!((log.policy.as_str(), log.places.len()), ("fifo", 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn decision_log(&self) -> Option<DecisionLog> {
        self.shared.placement.as_ref()?.decision_log(&self.shared)
    }

    /// What there is and what ran where since the runtime began.
    pub fn report(&self) -> Report {
        Report::of(&self.shared)
    }

    #[inline]
    #[track_caller]
    pub(crate) fn spawn_with<M, F, A>(&self, function: F, args: A, options: Option<Box<TaskOptions>>) -> Task<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        self.spawn_at(caller(), function, args, options)
    }

    #[inline]
    pub(crate) fn spawn_at<M, F, A>(
        &self,
        location: &'static Location<'static>,
        function: F,
        args: A,
        options: Option<Box<TaskOptions>>,
    ) -> Task<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        Context::with_of(&self.shared, |context| {
            let task = spawn_in(&self.shared, context, function, args, location, options);
            self.shared.make_foreign_room(context);
            task
        })
    }
}

impl Handle {
    /// Spawns a task of a region.
    pub(crate) fn spawn_in_region<M, F>(
        &self,
        location: &'static Location<'static>,
        body: &mut Unspawned<F, F::Params>,
        options: Option<Box<TaskOptions>>,
        checker: &mut Option<region::check::Checker>,
    ) -> Task<F::Value>
    where
        F: TaskFn<M>,
    {
        let looks = has_holds() && body.params().touches_places();
        Context::with_of(&self.shared, |context| {
            let spawn = || spawn_at_once(&self.shared, context, body, location, options);
            let (task, crowded) = region::ordering(looks, checker, spawn);
            wait_if_crowded(context, crowded);
            self.shared.make_foreign_room(context);
            task
        })
    }
}

#[inline]
fn spawn_in<M, F, A>(
    shared: &Arc<Shared>,
    context: Option<&Context>,
    function: F,
    args: A,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
) -> Task<F::Value>
where
    F: TaskFn<M>,
    A: Args<F::Params>,
{
    // Before the task is counted: the conversion of an argument is a user's code where he wrote it, and may panic.
    const { check_consumed::<M, F, A>() };
    let mut body = Unspawned::new(function, args.into_params());
    let plain = const { !F::LAUNCHES } && options.is_none() && !body.params().touches_places();
    let create = || create(&mut body, Arc::as_ptr(shared), shared.epoch(), location, None, Priority::Normal);
    match spawn_plain(shared, context, plain, create) {
        Some(task) => task,
        None => spawn_slowly(shared, context, &mut body, location, options),
    }
}

/// Spawns in the common case: on a worker, a task that is `plain`, with nothing around that it picks up, and no scopes. One look at the worker's slot. Nothing
/// in other cases.
#[inline]
fn spawn_plain<T>(shared: &Shared, context: Option<&Context>, plain: bool, create: impl FnOnce() -> (T, Option<Entry>)) -> Option<T> {
    let context = context.filter(|_| plain && !run::is_in_play() && !context::has_ambient())?;
    let (task, crowded) = context.with_local(|slot, local| {
        // Counted first: a predecessor's thread may finish the task at once.
        let crowded = shared.count_spawn(slot);
        let (task, ready) = create();
        match ready {
            Some(entry) => shared.push_own(slot, local, Priority::Normal, entry),
            None => shared.show_if_wanted(slot, local),
        }
        (task, crowded)
    })?;
    if crowded {
        wait_for_room(context);
    }
    Some(task)
}

#[inline]
fn spawn_detached_in<M, F, A>(shared: &Arc<Shared>, context: Option<&Context>, function: F, args: A, location: &'static Location<'static>)
where
    F: TaskFn<M>,
    A: Args<F::Params>,
{
    const { check_consumed::<M, F, A>() };
    let mut body = Unspawned::new(function, args.into_params());
    let plain = const { !F::LAUNCHES } && !body.params().touches_places();
    let create = || ((), create_detached(&mut body, Arc::as_ptr(shared), shared.epoch(), location));
    if spawn_plain(shared, context, plain, create).is_some() {
        return;
    }
    // Without a handle from any other thread as well: it might be the last reference, and the destructor of what the task returns would run here.
    let places_all = shared.placement.as_ref().is_some_and(|placement| placement.places_all);
    let picks_up = context::has_ambient() || !shared.defaults.is_empty() || places_all || shared.journal.is_some();
    if plain && context.is_none() && !picks_up && !run::is_in_play() && !shared.slots.is_empty() && shared.admit(None) {
        if let Some(entry) = create_detached(&mut body, Arc::as_ptr(shared), shared.epoch(), location) {
            shared.enqueue(None, entry);
        }
        return;
    }
    spawn_slowly(shared, context, &mut body, location, None).detach();
}

/// Spawns a task that has options or gets some from where it is spawned, or whose arguments may have scopes, or from a thread that is no worker. Apart,
/// so that the common case stays small enough to be inlined.
#[inline(never)]
fn spawn_slowly<M, F>(
    shared: &Arc<Shared>,
    context: Option<&Context>,
    body: &mut Unspawned<F, F::Params>,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
) -> Task<F::Value>
where
    F: TaskFn<M>,
{
    let (task, crowded) = spawn_at_once(shared, context, body, location, options);
    wait_if_crowded(context, crowded);
    task
}

/// Waits for room on a worker that should, unless what it spawns is held back.
fn wait_if_crowded(context: Option<&Context>, crowded: bool) {
    if crowded
        && !ambient::holds_back()
        && let Some(context) = context
    {
        wait_for_room(context);
    }
}

/// The same without waiting for room; whether the caller should.
pub(crate) fn spawn_at_once<M, F>(
    shared: &Arc<Shared>,
    context: Option<&Context>,
    body: &mut Unspawned<F, F::Params>,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
) -> (Task<F::Value>, bool)
where
    F: TaskFn<M>,
{
    let fail = |options, type_name, kind| (fail(shared, location, options, type_name, kind), false);
    let (function_type, type_name) = F::known_as();
    let options = ambient::furnish(shared, function_type, options);
    let due = options.as_deref().and_then(TaskOptions::due);
    if due.is_some_and(|due| due <= now()) {
        return fail(options, type_name, FailureKind::DeadlineExceeded);
    }
    let options = if const { F::LAUNCHES } { launch_options(shared, body.function(), options, due) } else { options };
    let options = match &shared.journal {
        Some(journal) => Some(journal.enter(options, type_name(), location)),
        None => options,
    };
    let options = match &shared.placement {
        Some(placement) if placement.places_all || const { F::LAUNCHES } => {
            let mut options = options.unwrap_or_default();
            options.ties.placed = Some(Arc::new(Placed::new(shared)));
            Some(options)
        }
        _ => options,
    };
    let mut options = match run::settle(shared, body.params(), options) {
        Ok(options) => options,
        Err(refusal) => return fail(refusal.options, type_name, refusal.kind),
    };
    let counted = context.and_then(|context| context.with_local(|slot, _| shared.count_spawn(slot)));
    let crowded = counted.unwrap_or(false);
    if counted.is_none() && !shared.admit(context) {
        return fail(options, type_name, FailureKind::Shutdown);
    }
    if const { F::LAUNCHES }
        && let Some(kernel) = options.as_ref().and_then(|options| options.ties.launch.as_ref()).map(|launch| &launch.body)
        && let Some(reason) = kernel.fault(|code| shared.inspect(code), F::shapes)
    {
        shared.retract(context);
        return fail(options, type_name, FailureKind::Kernel { reason });
    }
    let stays = || {
        options.as_deref().filter(|options| shared.is_for_processes(options))?;
        let checked = || region::check::is_on().then(|| "its region is checked, which is done in the program's own process".to_owned());
        let reason = checked().or_else(why_it_stays::<M, F>).or_else(|| parts_that_stay::<M, F>().map(Into::into))?;
        Some(FailureKind::Stays { reason })
    };
    let refusal = options.as_ref().and_then(|options| shared.refusal(options)).or_else(stays);
    if let Some(kind) = refusal {
        shared.retract(context);
        return fail(options, type_name, kind);
    }
    let priority = options.as_ref().and_then(|options| options.priority).unwrap_or_default();
    let block = ambient::block();
    let held = ambient::prepare(&mut options, block.as_deref());
    let options = options.filter(|options| options.is_worth_keeping());
    let mut gone = Gone::new();
    let created = if body.params().touches_places() || region::check::is_on() {
        create_ordered(body, shared, location, options, priority, &mut gone)
    } else {
        Ok(create(body, Arc::as_ptr(shared), shared.epoch(), location, options, priority))
    };
    let (task, mut ready) = match created {
        Ok(created) => created,
        Err((options, kind)) => {
            shared.retract(context);
            return fail(options, type_name, kind);
        }
    };
    if let Some(block) = &block {
        block.note(std::slice::from_ref(task.reference()));
    }
    if held {
        ready = ambient::bind(task.reference(), block.as_deref());
    }
    if let Some(entry) = ready {
        shared.enqueue(context, entry);
    } else {
        if const { F::LAUNCHES } {
            shared.expect(task.reference());
            shared.queued.offer_ahead(shared, task.reference());
        }
        context.and_then(|context| context.with_local(|slot, local| shared.show_if_wanted(slot, local)));
    }
    drop(gone);
    if let Some(due) = due
        && let Err(error) = timer::expire_at(due, task.reference())
    {
        task.reference().cancel(FailureKind::NoTimer { reason: error.to_string() });
    }
    (task, crowded)
}

/// The options of a kernel's launch.
#[cold]
fn launch_options<M, F: TaskFn<M>>(
    shared: &Arc<Shared>,
    function: &F,
    options: Option<Box<TaskOptions>>,
    due: Option<Instant>,
) -> Option<Box<TaskOptions>> {
    let Some(body) = function.body() else { return options };
    let mut options = options.unwrap_or_default();
    options.name.get_or_insert_with(|| body.name.clone());
    if !body.has_host {
        let kind = Scope::kind(body.kind.clone());
        options.scope = Some(options.scope.map_or(kind.clone(), |scope| scope & kind));
    }
    options.ties.launch = Some(Box::new(LaunchTies {
        body,
        runtime: Arc::downgrade(shared),
        due,
        tried: AtomicU64::new(0),
        on_host: AtomicBool::new(false),
        queue: AtomicUsize::new(0),
        withdrawn: AtomicU64::new(0),
    }));
    Some(options)
}

/// A task that cannot be spawned. Its groups learn of it.
#[cold]
fn fail<T: Data>(
    shared: &Arc<Shared>,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
    type_name: fn() -> &'static str,
    kind: FailureKind,
) -> Task<T> {
    let task = create_failed(Arc::as_ptr(shared), location, options, type_name, kind);
    let reference = task.reference();
    if let Some(error) = reference.failure() {
        reference.bonds().iter().for_each(|bond| bond.note_failure(&error));
    }
    task
}

/// Checks the arguments and runs the kernel's body for the host.
fn run_host_body(kernel: &ErasedKernel, args: &Gather<'_, Erased>) -> Result<Erased, KernelError> {
    let parameters = kernel.parameters();
    let (name, asked, given) = (kernel.name(), parameters.len(), args.len());
    if asked != given {
        return Err(KernelError::new(format!("kernel `{name}` takes {asked} arguments, and {given} were given")));
    }
    for (parameter, value) in parameters.iter().zip(args.iter()) {
        if value.key() != parameter.key {
            return Err(KernelError::new(format!(
                "parameter `{}` of kernel `{name}` is a `{}`, and a `{}` was given",
                parameter.name,
                parameter.type_name,
                value.type_name()
            )));
        }
    }
    match kernel.code(&ProcessorKind::cpu()) {
        Some(poniard_interface::Code::Host(body)) => body(&args.iter().collect::<Vec<_>>()),
        _ => Err(KernelError::new(format!("kernel `{name}` has no body for this processor"))),
    }
}

/// The runtime whose task the calling thread is in the middle of.
pub fn current() -> Option<Handle> {
    Context::with(|context| context.map(|context| Handle { shared: Arc::clone(&context.shared) }))
}

/// The processor that the calling thread runs a task on, if it is in the middle of one.
pub fn current_processor() -> Option<ProcessorIdentity> {
    let stands_for = crate::ship::identity();
    stands_for.or_else(|| Context::with(|context| context.map(|context| context.shared.identities[context.processor].clone())))
}

/// Spawns a task from inside another one, on the same runtime. See [`Handle::spawn`].
///
/// # Panics
/// When the calling thread is not in the middle of a task; there, use a [`Handle`].
#[inline]
#[track_caller]
pub fn spawn<M, F, A>(function: F, args: A) -> Task<F::Value>
where
    F: TaskFn<M>,
    A: Args<F::Params>,
{
    let location = caller();
    // The panic is out here, where it names the caller's place: closures do not.
    match Context::with(|context| context.map(|context| spawn_in(&context.shared, Some(context), function, args, location, None))) {
        Some(task) => task,
        None => panic!("`poniard::spawn` works inside a task; elsewhere, spawn with the `Runtime` or a `Handle` of it"),
    }
}

/// Spawns a task from inside another one, on the same runtime, that nobody waits for. See [`Handle::spawn_detached`].
///
/// # Panics
/// As [`spawn`].
#[inline]
#[track_caller]
pub fn spawn_detached<M, F, A>(function: F, args: A)
where
    F: TaskFn<M>,
    A: Args<F::Params>,
{
    let location = caller();
    let spawn = |context: &Context| spawn_detached_in(&context.shared, Some(context), function, args, location);
    if Context::with(|context| context.map(spawn)).is_none() {
        panic!("`poniard::spawn_detached` works inside a task; elsewhere, spawn with the `Runtime` or a `Handle` of it");
    }
}
