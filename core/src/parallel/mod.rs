//! Structured parallelism over borrowed data: pieces of one computation that end before the call returns.
//!
//! A task owns what it works on, since it may run at any time. Where the pieces of a computation are waited for on the spot, they may borrow: [`join`] runs two
//! closures, [`scope`] as many as it is given, [`parallel_for`] and its relatives a loop, [`map_reduce`] a loop with a result. All of them are there as methods of
//! [`Handle`], for every thread, and as functions for use inside a task.
//!
//! ```
//! let runtime = poniard::Runtime::new()?;
//! let mut values: Vec<u64> = (0..1000).collect();
//! let (left, right) = values.split_at_mut(500);
//! let (low, high) = runtime.join(|| left.iter().sum::<u64>(), || right.iter().max().copied());
//! assert_eq!((low, high), (124_750, Some(999)));
//! # Ok::<(), poniard::BuildError>(())
//! ```
//!
//! # What runs where
//!
//! The pieces are *jobs*, and belong to the task that the caller is in the middle of. The caller runs them itself, newest first, and any worker with nothing to do
//! takes the oldest. A worker that has to wait for a piece which another one took runs further jobs *of the same task* meanwhile, never one of another
//! task; with none left it lends its place to another thread. A thread that is no worker of the runtime hands the whole call to one, and sleeps.
//!
//! **Do not hold a lock, or a `RefCell`'s borrow, across one of these calls**: the calling thread may run any other job of the same task before it returns, and if that
//! wants the lock, it waits for itself.
//!
//! A job may spawn tasks and wait for them, and use everything in this module. One that waits for the task it belongs to, directly or through others, gets
//! [`FailureKind::WaitsForItself`](crate::FailureKind::WaitsForItself), as that task would.
//!
//! What a piece spawns is in the groups around the call and gets the options around it. A bulk or a sequence around the call does not reach into a join or a loop, and what it
//! has held back is submitted before.
//!
//! # Panics
//!
//! A panic in a closure reaches the caller with its payload, after every piece has ended that had begun. Of several, one is kept. Calls
//! may be nested as deeply as memory allows; beyond 4 GiB of stack they panic.
//!
//! # After the end of the runtime
//!
//! A [`Handle`] may outlive its runtime. Then the caller does everything itself, one piece after the other, with the same result. The same holds for a runtime
//! that has no inline processors. A runtime that is dropped waits for calls that have begun.
//!
//! # Cost
//!
//! A `join` whose second half nobody takes costs a few nanoseconds and no allocation: less than half of what a lock costs. When a worker sleeps, the first pieces wake
//! it, which costs microseconds. So a piece should be worth at least about a microsecond; the loops choose the length of their pieces themselves.

mod join;
mod range;
mod scope;

pub use scope::JobScope;

use std::ops::Range;

use join::{join_on, outside};

use crate::ambient::Carried;
use crate::runtime::Handle;
use crate::worker::context::{Context, has_ambient};
use crate::worker::shared::Shared;

/// Runs `body` on a worker of `shared`: here, if this thread is one.
#[inline]
fn inside<R: Send>(shared: &Shared, body: impl FnOnce() -> R + Send) -> R {
    if Context::with_of(shared, |context| context.is_some_and(|context| context.jobs().is_some())) { body() } else { outside(shared, body) }
}

#[inline]
fn join_in<A, B, RA, RB>(shared: &Shared, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    if has_ambient() { join_carrying(shared, a, b) } else { join_plain(shared, a, b) }
}

/// Both halves bring along what their spawns pick up. Apart, so that the usual way stays small enough to be inlined.
#[cold]
#[inline(never)]
fn join_carrying<A, B, RA, RB>(shared: &Shared, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    let carried = Carried::from_here();
    // The first half, too, although it stays here: what it spawned might be held back while the other one waits for it.
    join_plain(shared, || carried.clone().around(a), || carried.clone().around(b))
}

#[inline]
fn join_plain<A, B, RA, RB>(shared: &Shared, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    Context::with_of(shared, |context| match context.and_then(|context| Some((context, context.jobs()?))) {
        Some((context, jobs)) => join_on(context, jobs, a, b),
        None => join_outside(shared, a, b),
    })
}

/// On a thread that holds no slot of the runtime.
#[cold]
#[inline(never)]
fn join_outside<A, B, RA, RB>(shared: &Shared, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    outside(shared, || {
        Context::with_of(shared, |context| match context.and_then(|context| Some((context, context.jobs()?))) {
            Some((context, jobs)) => join_on(context, jobs, a, b),
            None => (a(), b()),
        })
    })
}

impl Handle {
    /// Runs two closures, maybe at the same time, and gives both results. They may borrow whatever lives longer than the call.
    ///
    /// The caller runs `a`; `b` is run by a worker that has nothing to do, else by the caller after `a`. See [the module](crate::parallel) for what else the thread
    /// may do meanwhile, and for calls from threads that are no workers.
    ///
    /// Cost: a few nanoseconds, and no allocation, when nobody takes `b`; about a microsecond when somebody does. From a thread that is no worker of the runtime, the
    /// time for another thread to wake up, twice.
    ///
    /// ```
    /// fn sort(values: &mut [u32], handle: &poniard::Handle) {
    ///     if values.len() < 2 {
    ///         return;
    ///     }
    ///     let pivot = values.len() - 1;
    ///     let mut middle = 0;
    ///     for index in 0..pivot {
    ///         if values[index] < values[pivot] {
    ///             values.swap(index, middle);
    ///             middle += 1;
    ///         }
    ///     }
    ///     values.swap(middle, pivot);
    ///     let (low, high) = values.split_at_mut(middle);
    ///     handle.join(|| sort(low, handle), || sort(&mut high[1..], handle));
    /// }
    ///
    /// let runtime = poniard::Runtime::new()?;
    /// let mut values = [5, 3, 8, 1, 9, 2];
    /// sort(&mut values, &runtime);
    /// assert_eq!(values, [1, 2, 3, 5, 8, 9]);
    /// # Ok::<(), poniard::BuildError>(())
    /// ```
    ///
    /// # Panics
    /// With the payload of `a`, if that panics, else with that of `b`. If `a` panics before anybody has taken `b`, `b` is not run.
    #[inline]
    pub fn join<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA + Send,
        B: FnOnce() -> RB + Send,
        RA: Send,
        RB: Send,
    {
        join_in(&self.shared, a, b)
    }

    /// Runs `body`, which may spawn closures that borrow whatever lives longer than the call, and waits until all of them have ended.
    ///
    /// Spawned closures may spawn more in the same scope. Cost: one allocation for each, and some tens of nanoseconds; where there are two, [`join`](Self::join) is cheaper.
    ///
    /// ```
    /// let runtime = poniard::Runtime::new()?;
    /// let mut squares = [0u64; 100];
    /// runtime.scope(|scope| {
    ///     for (index, square) in squares.iter_mut().enumerate() {
    ///         scope.spawn(move |_| *square = (index * index) as u64);
    ///     }
    /// });
    /// assert_eq!(squares[9], 81);
    /// # Ok::<(), poniard::BuildError>(())
    /// ```
    ///
    /// # Panics
    /// With the payload of the first closure that panicked, `body` included, after all have ended.
    pub fn scope<'scope, R: Send>(&self, body: impl FnOnce(&JobScope<'scope>) -> R + Send) -> R {
        inside(&self.shared, || scope::scope_in(&self.shared, body))
    }

    /// Calls `body` for each index, maybe several at the same time.
    ///
    /// The range is halved until there are some pieces for each worker, and a piece that another worker has taken is halved again; inside a piece it is a plain loop,
    /// and on a runtime with one worker the range is one piece.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    ///
    /// let runtime = poniard::Runtime::new()?;
    /// let sum = AtomicU64::new(0);
    /// runtime.parallel_for(0..1000, |index| {
    ///     sum.fetch_add(index as u64, Relaxed);
    /// });
    /// assert_eq!(sum.into_inner(), 499_500);
    /// # Ok::<(), poniard::BuildError>(())
    /// ```
    ///
    /// # Panics
    /// With the payload of a call that panicked; how many others are made then is not said.
    pub fn parallel_for(&self, range: Range<usize>, body: impl Fn(usize) + Sync) {
        self.parallel_chunks(range, |chunk| chunk.for_each(&body));
    }

    /// Calls `body` with parts of the range that together make it up, maybe several at the same time; for loops that have something to prepare.
    /// Which parts is not said. They are not empty. Otherwise as [`parallel_for`](Self::parallel_for).
    ///
    /// ```
    /// use std::sync::Mutex;
    ///
    /// let runtime = poniard::Runtime::new()?;
    /// let words = ["one", "two", "three", "four"];
    /// let longest = Mutex::new(0);
    /// runtime.parallel_chunks(0..words.len(), |chunk| {
    ///     let own = words[chunk].iter().map(|word| word.len()).max().unwrap_or(0);
    ///     let mut longest = longest.lock().unwrap();
    ///     *longest = own.max(*longest);
    /// });
    /// assert_eq!(longest.into_inner().unwrap(), 5);
    /// # Ok::<(), poniard::BuildError>(())
    /// ```
    ///
    /// # Panics
    /// As [`parallel_for`](Self::parallel_for).
    pub fn parallel_chunks(&self, range: Range<usize>, body: impl Fn(Range<usize>) + Sync) {
        inside(&self.shared, || range::chunks(&self.shared, range, &body));
    }

    /// Calls `body` with each element of a slice and its index, maybe several at the same time. Otherwise as [`parallel_for`](Self::parallel_for).
    ///
    /// ```
    /// let runtime = poniard::Runtime::new()?;
    /// let mut values = vec![1.0; 1000];
    /// runtime.parallel_for_each_mut(&mut values, |index, value| *value *= index as f64);
    /// assert_eq!(values[500], 500.0);
    /// # Ok::<(), poniard::BuildError>(())
    /// ```
    ///
    /// # Panics
    /// As [`parallel_for`](Self::parallel_for).
    pub fn parallel_for_each_mut<T: Send>(&self, values: &mut [T], body: impl Fn(usize, &mut T) + Sync) {
        inside(&self.shared, || {
            range::slices(&self.shared, values, 1, &|first, values: &mut [T]| {
                for (offset, value) in values.iter_mut().enumerate() {
                    body(first + offset, value);
                }
            })
        });
    }

    /// Calls `body` with each run of `chunk_len` neighbouring elements, the rows of a matrix for instance, and the number of the run. The last one is shorter when
    /// the length is no multiple. Otherwise as [`parallel_for`](Self::parallel_for).
    ///
    /// ```
    /// let runtime = poniard::Runtime::new()?;
    /// let mut matrix = vec![0; 4 * 3];
    /// runtime.parallel_chunks_mut(&mut matrix, 3, |row, values| values.fill(row));
    /// assert_eq!(matrix, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    /// # Ok::<(), poniard::BuildError>(())
    /// ```
    ///
    /// # Panics
    /// When `chunk_len` is 0; else as [`parallel_for`](Self::parallel_for).
    #[track_caller]
    pub fn parallel_chunks_mut<T: Send>(&self, values: &mut [T], chunk_len: usize, body: impl Fn(usize, &mut [T]) + Sync) {
        assert!(chunk_len > 0, "a chunk has at least one element");
        inside(&self.shared, || {
            range::slices(&self.shared, values, chunk_len, &|first, values: &mut [T]| {
                for (offset, chunk) in values.chunks_mut(chunk_len).enumerate() {
                    body(first / chunk_len + offset, chunk);
                }
            })
        });
    }

    /// Calls `map` for each index, maybe several at the same time, and combines the results with `reduce`: always neighbours, the left one first, so `reduce` need not
    /// be commutative. It has to be associative, and `identity` neutral: how the results are grouped, and how often `identity` is called, differs from run to run,
    /// which sums of floating-point numbers show in the last digits. An empty range gives `identity`.
    ///
    /// ```
    /// let runtime = poniard::Runtime::new()?;
    /// let values: Vec<u64> = (1..=20).collect();
    /// let product = runtime.map_reduce(0..values.len(), || 1, |index| values[index], |left, right| left * right);
    /// assert_eq!(product, (1..=20).product());
    /// # Ok::<(), poniard::BuildError>(())
    /// ```
    ///
    /// # Panics
    /// As [`parallel_for`](Self::parallel_for).
    pub fn map_reduce<T: Send>(
        &self,
        range: Range<usize>,
        identity: impl Fn() -> T + Sync,
        map: impl Fn(usize) -> T + Sync,
        reduce: impl Fn(T, T) -> T + Sync,
    ) -> T {
        inside(&self.shared, || range::map_reduce(&self.shared, range, &identity, &map, &reduce))
    }
}

/// Gives `body` the runtime whose task the calling thread is in the middle of.
#[inline]
#[track_caller]
fn with_current<R>(name: &str, body: impl FnOnce(&Shared) -> R) -> R {
    // The panic is out here, where it names the caller's place: closures do not.
    match Context::with(|context| context.map(|context| body(&context.shared))) {
        Some(result) => result,
        None => nowhere(name),
    }
}

#[cold]
#[track_caller]
fn nowhere(name: &str) -> ! {
    panic!("`poniard::{name}` works inside a task; elsewhere, use the method of the `Runtime` or a `Handle` of it")
}

/// The handle of the runtime whose task the calling thread is in the middle of.
#[track_caller]
fn current(name: &str) -> Handle {
    match crate::current() {
        Some(handle) => handle,
        None => nowhere(name),
    }
}

/// Runs two closures, maybe at the same time, inside a task. See [`Handle::join`].
///
/// # Panics
/// When the calling thread is not in the middle of a task; else as [`Handle::join`].
#[inline]
#[track_caller]
pub fn join<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    with_current("join", |shared| join_in(shared, a, b))
}

/// Runs closures that borrow, as many as it is given, inside a task. See [`Handle::scope`].
///
/// # Panics
/// When the calling thread is not in the middle of a task; else as [`Handle::scope`].
#[track_caller]
pub fn scope<'scope, R: Send>(body: impl FnOnce(&JobScope<'scope>) -> R + Send) -> R {
    current("scope").scope(body)
}

/// Calls `body` for each index, inside a task. See [`Handle::parallel_for`].
///
/// # Panics
/// When the calling thread is not in the middle of a task; else as [`Handle::parallel_for`].
#[track_caller]
pub fn parallel_for(range: Range<usize>, body: impl Fn(usize) + Sync) {
    current("parallel_for").parallel_for(range, body);
}

/// Calls `body` with parts of a range, inside a task. See [`Handle::parallel_chunks`].
///
/// # Panics
/// When the calling thread is not in the middle of a task; else as [`Handle::parallel_for`].
#[track_caller]
pub fn parallel_chunks(range: Range<usize>, body: impl Fn(Range<usize>) + Sync) {
    current("parallel_chunks").parallel_chunks(range, body);
}

/// Calls `body` with each element of a slice, inside a task. See [`Handle::parallel_for_each_mut`].
///
/// # Panics
/// When the calling thread is not in the middle of a task; else as [`Handle::parallel_for`].
#[track_caller]
pub fn parallel_for_each_mut<T: Send>(values: &mut [T], body: impl Fn(usize, &mut T) + Sync) {
    current("parallel_for_each_mut").parallel_for_each_mut(values, body);
}

/// Calls `body` with runs of neighbouring elements, inside a task. See [`Handle::parallel_chunks_mut`].
///
/// # Panics
/// When the calling thread is not in the middle of a task; else as [`Handle::parallel_chunks_mut`].
#[track_caller]
pub fn parallel_chunks_mut<T: Send>(values: &mut [T], chunk_len: usize, body: impl Fn(usize, &mut [T]) + Sync) {
    current("parallel_chunks_mut").parallel_chunks_mut(values, chunk_len, body);
}

/// Combines the results of `map` for each index, inside a task. See [`Handle::map_reduce`].
///
/// # Panics
/// When the calling thread is not in the middle of a task; else as [`Handle::map_reduce`].
#[track_caller]
pub fn map_reduce<T: Send>(
    range: Range<usize>,
    identity: impl Fn() -> T + Sync,
    map: impl Fn(usize) -> T + Sync,
    reduce: impl Fn(T, T) -> T + Sync,
) -> T {
    current("map_reduce").map_reduce(range, identity, map, reduce)
}
