//! The runtime as its user sees it.

use std::panic::Location;
use std::sync::Arc;

use poniard_interface::{Erased, Kernel, KernelError, ProcessorKind};

mod builder;
mod host;
mod report;

pub(crate) use builder::Backends;
pub use builder::{BuildError, BuildErrorKind, RuntimeBuilder};
pub use report::{BackendReport, ProcessorReport, Refused, Report};

use crate::data::Data;
use crate::error::{BoxError, FailureKind};
use crate::function::{Args, Predecessors, TaskFn, caller};
use crate::mutable::create_ordered;
use crate::options::{Priority, Scope, TaskBuilder, TaskOptions};
use crate::parameter::Gather;
use crate::task::Task;
use crate::task::record::{create, create_detached, create_failed, create_finished};
use crate::worker::context::Context;
use crate::worker::fetch::{wait_for_room, wait_until_fired};
use crate::worker::shared::Shared;
use crate::worker::waiter::Waiter;

/// Owns the workers and processors. Derefs to [`Handle`], which has the methods that spawn.
///
/// Dropping it waits for all tasks, then ends the threads; inside a task of another runtime, that one's worker meanwhile does other work. Dropped inside one of its own tasks it does both on a thread of its own, and the task goes on.
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

impl Drop for Runtime {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.handle.shared);
        Context::with(|context| {
            let Some(context) = context else {
                shared.shut_down();
                return;
            };
            let own = std::ptr::eq(&*context.shared, &*shared);
            let ended = Waiter::for_this_thread();
            let thread = std::thread::Builder::new().name("poniard-shutdown".into()).spawn({
                let ended = Arc::clone(&ended);
                move || {
                    shared.shut_down();
                    ended.fire();
                }
            });
            match thread {
                // The task that drops the runtime is one of those that have to finish first. Without a thread the workers stay until the
                // program ends, and every task still runs.
                _ if own => {}
                // Tasks of this thread's own runtime may have to finish first: its slot is lent meanwhile.
                Ok(_) => wait_until_fired(context, &ended),
                Err(_) => self.handle.shared.shut_down(),
            }
        });
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
    /// A task whose argument failed fails as well, and is not run. Cost: one allocation, and about ten nanoseconds for each argument that is a task.
    #[track_caller]
    pub fn spawn<M, F, A>(&self, function: F, args: A) -> Task<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        self.spawn_with(function, args, None, Priority::Normal)
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
        Context::with_of(&self.shared, |context| spawn_detached_in(&self.shared, context, function, args, location));
    }

    /// A task with options: `handle.task(f, (a, b)).name("x").priority(Priority::High).spawn()`.
    pub fn task<F, A>(&self, function: F, args: A) -> TaskBuilder<'_, F, A> {
        TaskBuilder { handle: self, function, args, options: TaskOptions::default(), priority: Priority::default() }
    }

    /// A task that is finished from the start.
    #[track_caller]
    pub fn value<T: Data>(&self, value: T) -> Task<T> {
        create_finished(value, Arc::as_ptr(&self.shared), caller())
    }

    /// Spawns a kernel with arguments whose types are known at run time only. They are checked against the kernel's parameters when it runs.
    ///
    /// The task runs on a processor that the kernel has a body for.
    #[track_caller]
    pub fn spawn_kernel(&self, kernel: &Arc<Kernel>, args: Vec<Task<Erased>>) -> Task<Erased> {
        let mut options = TaskOptions { name: Some(kernel.name().into()), scope: Scope::Any, ..TaskOptions::default() };
        let cpu = ProcessorKind::cpu();
        if kernel.code(&cpu).is_none()
            && let Some(kind) = kernel.kinds().next()
        {
            options.scope = Scope::Kind(kind.clone());
        }
        let kernel = Arc::clone(kernel);
        let body = move |args: Gather<'_, Erased>| -> Result<Erased, BoxError> { Ok(run_host_body(&kernel, &args)?) };
        self.spawn_with(body, (args,), Some(Box::new(options)), Priority::Normal)
    }

    /// Number of processors, of all kinds.
    pub fn processor_count(&self) -> usize {
        self.shared.processors.len()
    }

    /// Waits until every task that was spawned on the runtime, by anybody, has finished. For a thread that is in the middle of no task: its own would never have.
    pub fn wait_idle(&self) {
        self.shared.wait_until_quiet();
    }

    /// What there is and what ran where since the runtime began.
    pub fn report(&self) -> Report {
        Report::of(&self.shared)
    }

    #[inline]
    #[track_caller]
    pub(crate) fn spawn_with<M, F, A>(&self, function: F, args: A, options: Option<Box<TaskOptions>>, priority: Priority) -> Task<F::Value>
    where
        F: TaskFn<M>,
        A: Args<F::Params>,
    {
        let location = caller();
        Context::with_of(&self.shared, |context| spawn_in(&self.shared, context, function, args, location, options, priority))
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
    priority: Priority,
) -> Task<F::Value>
where
    F: TaskFn<M>,
    A: Args<F::Params>,
{
    // Before the task is counted: the conversion of an argument is a user's code where he wrote it, and may panic.
    let mut body = (function, args.into_params());
    // The common case, on a worker and without options, in one look at its slot. Counted first: a predecessor's thread may finish the task at once.
    if options.is_none()
        && priority == Priority::Normal
        && !body.1.touches_places()
        && let Some(context) = context
    {
        let spawned = context.try_local(body, |slot, local, (function, params)| {
            let crowded = shared.count_spawn(slot);
            let (task, ready) = create(function, params, Arc::as_ptr(shared), shared.epoch(), location, None, priority);
            if let Some(entry) = ready {
                shared.push_own(slot, local, priority, entry);
            }
            (task, crowded)
        });
        match spawned {
            Ok((task, crowded)) => {
                if crowded {
                    wait_for_room(context);
                }
                return task;
            }
            Err(unspawned) => body = unspawned,
        }
    }
    let (function, params) = body;
    spawn_slowly(shared, context, function, params, location, options, priority)
}

#[inline]
fn spawn_detached_in<M, F, A>(shared: &Arc<Shared>, context: Option<&Context>, function: F, args: A, location: &'static Location<'static>)
where
    F: TaskFn<M>,
    A: Args<F::Params>,
{
    let mut body = (function, args.into_params());
    if !body.1.touches_places()
        && let Some(context) = context
    {
        let spawned = context.try_local(body, |slot, local, (function, params)| {
            let crowded = shared.count_spawn(slot);
            if let Some(entry) = create_detached(function, params, Arc::as_ptr(shared), shared.epoch(), location) {
                shared.push_own(slot, local, Priority::Normal, entry);
            }
            crowded
        });
        match spawned {
            Ok(true) => return wait_for_room(context),
            Ok(false) => return,
            Err(unspawned) => body = unspawned,
        }
    }
    let (function, params) = body;
    spawn_slowly(shared, context, function, params, location, None, Priority::Normal).detach();
}

/// Spawns a task that has options, or from a thread that is no worker.
fn spawn_slowly<M, F>(
    shared: &Arc<Shared>,
    context: Option<&Context>,
    function: F,
    params: F::Params,
    location: &'static Location<'static>,
    options: Option<Box<TaskOptions>>,
    priority: Priority,
) -> Task<F::Value>
where
    F: TaskFn<M>,
{
    if !shared.admit(context) {
        return create_failed(Arc::as_ptr(shared), location, options, std::any::type_name::<F>, FailureKind::Shutdown);
    }
    let refusal = options.as_ref().and_then(|options| shared.refusal(options));
    if let Some(kind) = refusal {
        shared.retract(context);
        return create_failed(Arc::as_ptr(shared), location, options, std::any::type_name::<F>, kind);
    }
    let created = if params.touches_places() {
        create_ordered(function, params, shared, location, options, priority)
    } else {
        Ok(create(function, params, Arc::as_ptr(shared), shared.epoch(), location, options, priority))
    };
    match created {
        Ok((task, ready)) => {
            if let Some(entry) = ready {
                shared.enqueue(context, entry);
            }
            task
        }
        Err((options, kind)) => {
            shared.retract(context);
            create_failed(Arc::as_ptr(shared), location, options, std::any::type_name::<F>, kind)
        }
    }
}

/// Checks the arguments and runs the kernel's body for the host.
fn run_host_body(kernel: &Kernel, args: &Gather<'_, Erased>) -> Result<Erased, KernelError> {
    let parameters = kernel.parameters();
    if args.len() != parameters.len() {
        return Err(KernelError::new(format!(
            "kernel `{}` takes {} arguments, and {} were given",
            kernel.name(),
            parameters.len(),
            args.len()
        )));
    }
    for (parameter, value) in parameters.iter().zip(args.iter()) {
        if value.key() != parameter.key {
            return Err(KernelError::new(format!(
                "parameter `{}` of kernel `{}` is a `{}`, and a `{}` was given",
                parameter.name,
                kernel.name(),
                parameter.type_name,
                value.type_name()
            )));
        }
    }
    match kernel.code(&ProcessorKind::cpu()) {
        Some(poniard_interface::Code::Host(body)) => body(&args.iter().collect::<Vec<_>>()),
        _ => Err(KernelError::new(format!("kernel `{}` has no body for this processor", kernel.name()))),
    }
}

/// The runtime whose task the calling thread is in the middle of.
pub fn current() -> Option<Handle> {
    Context::with(|context| context.map(|context| Handle { shared: Arc::clone(&context.shared) }))
}

/// Spawns a task from inside another one, on the same runtime. See [`Handle::spawn`].
///
/// # Panics
/// When the calling thread is not in the middle of a task; there, use a [`Handle`].
#[track_caller]
pub fn spawn<M, F, A>(function: F, args: A) -> Task<F::Value>
where
    F: TaskFn<M>,
    A: Args<F::Params>,
{
    let location = caller();
    Context::with(|context| match context {
        Some(context) => spawn_in(&context.shared, Some(context), function, args, location, None, Priority::Normal),
        None => panic!("`poniard::spawn` works inside a task; elsewhere, spawn with the `Runtime` or a `Handle` of it"),
    })
}

/// Spawns a task from inside another one, on the same runtime, that nobody waits for. See [`Handle::spawn_detached`].
///
/// # Panics
/// As [`spawn`].
#[track_caller]
pub fn spawn_detached<M, F, A>(function: F, args: A)
where
    F: TaskFn<M>,
    A: Args<F::Params>,
{
    let location = caller();
    Context::with(|context| match context {
        Some(context) => spawn_detached_in(&context.shared, Some(context), function, args, location),
        None => panic!("`poniard::spawn_detached` works inside a task; elsewhere, spawn with the `Runtime` or a `Handle` of it"),
    });
}
