//! Waiting for many tasks: for all of them, for one of them, for one after the other as they finish.

use std::borrow::Borrow;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use super::{Task, Value};
use crate::ambient;
use crate::data::Data;
use crate::error::{FailureKind, TaskError};
use crate::worker::context::Context;
use crate::worker::fetch::{Helped, help, wait_until_fired};
use crate::worker::stopwatch;
use crate::worker::waiter::Waiter;
use crate::worker::waits::{Target, Wait};

/// A thread that waits for one of more tasks than this is not looked at in the search for circles.
const CIRCLE_MAX: usize = 64;

/// Waits for all tasks and shares their results, in the order in which they are given: `Task`s or `&Task`s.
///
/// Waits as [`Task::fetch`] does: inside a task, for what others run, the worker's place is lent.
///
/// ```
/// # use poniard::{Runtime, Task};
/// let runtime = Runtime::new()?;
/// let squares: Vec<Task<u64>> = (0..10).map(|x| runtime.spawn(|x: u64| x * x, (x,))).collect();
/// let sum: u64 = poniard::fetch_all(&squares)?.iter().map(|square| **square).sum();
/// assert_eq!(sum, 285);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`Task::fetch`]: of the first task that failed, in that order. Those after it are not waited for.
pub fn fetch_all<T: Data>(tasks: impl IntoIterator<Item: Borrow<Task<T>>>) -> Result<Vec<Value<T>>, TaskError> {
    tasks.into_iter().map(|task| task.borrow().fetch()).collect()
}

/// Waits until one of the tasks has finished, and says which: its place among them, the first one if there are several. Nothing when there are no tasks.
///
/// A task that failed has finished, too. Waits as [`as_finished`] does; who calls this again and again for the rest of the same tasks
/// wants that, since each call leaves a few bytes in each task until it finishes.
///
/// # Errors
/// As [`Task::fetch`], when waiting could never end: this thread is in the middle of each of the tasks, or of one that it depends on.
pub fn wait_any<T>(tasks: &[impl Borrow<Task<T>>]) -> Result<Option<usize>, TaskError> {
    match tasks.iter().position(|task| task.borrow().is_finished()) {
        Some(index) => Ok(Some(index)),
        None => match as_finished(tasks.iter().map(|task| task.borrow().clone())).next_place() {
            Some((index, waited)) => waited.map(|()| Some(index)),
            None => Ok(None),
        },
    }
}

/// The tasks in the order in which they finish: for each its place among those given, and its result or error.
///
/// Inside a task, [`next`](Iterator::next) first runs what the tasks need and nobody has begun yet, one task after the other; for what others run, the worker's
/// place is lent. Dropped before its end, it leaves the other tasks alone. Cost: two small allocations for each task, all when it is made.
///
/// A task that this thread is in the middle of, or that depends on such a one, comes last, with [`FailureKind::WaitsForItself`]. Of tasks that wait in a
/// circle, one gets that error; circles through a task that waits for one of more than 64 are not found.
///
/// ```
/// # use poniard::Runtime;
/// let runtime = Runtime::new()?;
/// let squares = (0..10).map(|x| runtime.spawn(|x: u64| x * x, (x,)));
/// for (index, square) in poniard::as_finished(squares) {
///     assert_eq!(*square?, (index * index) as u64);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn as_finished<T>(tasks: impl IntoIterator<Item = Task<T>>) -> AsFinished<T> {
    let tasks: Vec<_> = tasks.into_iter().map(Some).collect();
    let arrivals = Arc::new(Arrivals::default());
    for (index, task) in tasks.iter().enumerate() {
        let arrival = Arc::new(Arrival { index, arrivals: Arc::clone(&arrivals) });
        if task.as_ref().is_some_and(|task| !task.reference().add_waiter(&Waker::from(Arc::clone(&arrival)))) {
            arrival.wake();
        }
    }
    AsFinished { left: tasks.len(), tasks, arrivals, helped: 0, hopeless: Vec::new() }
}

/// What [`as_finished`] makes.
#[must_use = "it waits when it is asked for the next one"]
pub struct AsFinished<T> {
    /// Those that have not been given out.
    tasks: Vec<Option<Task<T>>>,
    left: usize,
    arrivals: Arc<Arrivals>,
    /// So many of them this thread has run as far as it could.
    helped: usize,
    /// Places of those that this thread cannot wait for.
    hopeless: Vec<usize>,
}

/// The places of tasks that have finished, in that order.
#[derive(Debug, Default)]
struct Arrivals(Mutex<Arrived>);

#[derive(Debug, Default)]
struct Arrived {
    indices: VecDeque<usize>,
    waiting: Option<Waker>,
}

impl Arrivals {
    fn lock(&self) -> MutexGuard<'_, Arrived> {
        // Single operations on the fields; none of them panics half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a task tells when it finishes.
struct Arrival {
    index: usize,
    arrivals: Arc<Arrivals>,
}

impl Wake for Arrival {
    fn wake(self: Arc<Self>) {
        let waiting = {
            let mut arrived = self.arrivals.lock();
            arrived.indices.push_back(self.index);
            arrived.waiting.take()
        };
        if let Some(waker) = waiting {
            waker.wake();
        }
    }
}

impl<T> AsFinished<T> {
    /// The place of the next one, and the error of waiting for it if that would never end; waits for it.
    fn next_place(&mut self) -> Option<(usize, Result<(), TaskError>)> {
        loop {
            let arrived = self.arrivals.lock().indices.pop_front();
            if let Some(index) = arrived {
                // It may have been given out as hopeless before.
                if self.tasks[index].is_some() {
                    return Some((index, Ok(())));
                }
                continue;
            }
            self.hopeless.retain(|index| self.tasks[*index].is_some());
            if self.hopeless.len() == self.left {
                let index = self.hopeless.pop()?;
                let name = self.tasks[index].as_ref()?.reference.name();
                return Some((index, Err(TaskError::new(name, FailureKind::WaitsForItself))));
            }
            Context::with(|context| self.wait(context));
        }
    }

    /// Does something for the tasks, or waits until one arrives.
    fn wait(&mut self, context: Option<&Context>) {
        ambient::aside(|| stopwatch::aside(|| self.wait_aside(context)));
    }

    fn wait_aside(&mut self, context: Option<&Context>) {
        if let Some(context) = context
            && let Some(task) = self.tasks.get(self.helped)
        {
            if task.as_ref().is_some_and(|task| help(context, task.reference()) == Helped::Stuck) {
                self.hopeless.push(self.helped);
            }
            self.helped += 1;
            return;
        }
        let waiter = Waiter::for_this_thread();
        {
            let mut arrived = self.arrivals.lock();
            if !arrived.indices.is_empty() {
                return;
            }
            arrived.waiting = Some(waiter.waker());
        }
        let Some(context) = context else { return waiter.wait_outside() };
        let awaited = || {
            let waits = |(index, task): (usize, &Option<Task<T>>)| {
                Some(task.as_ref()?.reference().clone()).filter(|_| !self.hopeless.contains(&index))
            };
            self.tasks.iter().enumerate().filter_map(waits).collect()
        };
        let wait = (self.left <= CIRCLE_MAX).then(|| Wait::begin(context, Target::Tasks(awaited())));
        match wait {
            // Every one of them waits for this thread, and this thread for one of them.
            Some(None) => self.hopeless = (0..self.tasks.len()).filter(|index| self.tasks[*index].is_some()).collect(),
            Some(Some(_)) | None => wait_until_fired(context, &waiter),
        }
    }
}

impl<T: Data> Iterator for AsFinished<T> {
    type Item = (usize, Result<Value<T>, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        let (index, waited) = self.next_place()?;
        let task = self.tasks[index].take()?;
        self.left -= 1;
        Some((index, waited.and_then(|()| task.outcome())))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<T: Data> ExactSizeIterator for AsFinished<T> {}

impl<T> fmt::Debug for AsFinished<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsFinished").field("left", &self.left).finish_non_exhaustive()
    }
}
