//! Regions whose dependencies are found out once, and that are run often.

use std::cell::RefCell;
use std::fmt;

use super::{Failures, RegionError};
use crate::data::Data;
use crate::error::{FailureKind, TaskError, TaskName};
use crate::function::caller;
use crate::graph::{GraphBuilder, GraphError, GraphRun, GraphRunError, Node, NodeArgs, NodeFn, TaskGraph};
use crate::runtime::Handle;

/// A region that has been planned, to be run any number of times: the guarantee that nothing is planned again.
///
/// ```
/// use poniard::{Mutable, RegionPlan, Runtime, read, write};
///
/// let runtime = Runtime::new()?;
/// let cells: Vec<_> = (0..8u64).map(Mutable::new).collect();
/// let sweep = RegionPlan::new(|r| {
///     for pair in cells.windows(2) {
///         r.spawn(|left: &u64, right: &mut u64| *right += left, (read(&pair[0]), write(&pair[1])));
///     }
/// })?;
/// for _ in 0..3 {
///     sweep.run(&runtime)?;
/// }
/// assert_eq!(*cells[2].fetch()?, 2 + 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It works on the very values that were named when it was planned. A run waits for all tasks spawned before that use one of them, and tasks spawned meanwhile that use one wait for the run. Tasks
/// of a plan run on the threads of the host. Cheap to clone; runs of clones come one after the other, as they use the same values.
///
/// Where a task fails, those that come after it by their accesses are not run, and every value that the plan writes fails those who look at it later, until somebody overwrites it.
#[derive(Clone, Debug)]
pub struct RegionPlan {
    graph: TaskGraph,
    location: &'static std::panic::Location<'static>,
}

/// Takes the tasks of a [`RegionPlan`]: what [`RegionPlan::new`] lends to its closure.
pub struct Planning {
    builder: RefCell<GraphBuilder>,
}

impl Planning {
    /// Adds a task: as [`Region::spawn`](crate::Region::spawn), but that it runs in each run of the plan, with the same arguments, and so its function is `Fn` and `Sync`. The result of
    /// another task of the plan may be an argument, which is how it comes after that one.
    #[track_caller]
    pub fn spawn<M, F, A>(&self, function: F, args: A) -> Node<F::Value>
    where
        F: NodeFn<M>,
        A: NodeArgs<F::Params>,
    {
        self.builder.borrow_mut().task(function, args)
    }
}

impl fmt::Debug for Planning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planning").field("tasks", &self.builder.borrow().len()).finish()
    }
}

impl RegionPlan {
    /// Plans what `body` spawns. Nothing is run.
    ///
    /// # Errors
    /// [`GraphError`] when a task has two accesses to the same elements, and not both only read them; when it takes the result of a task of another plan.
    #[track_caller]
    pub fn new(body: impl FnOnce(&Planning)) -> Result<Self, GraphError> {
        let location = caller();
        let planning = Planning { builder: RefCell::new(GraphBuilder::new()) };
        body(&planning);
        Ok(Self { graph: planning.builder.into_inner().build()?, location })
    }

    /// Runs the tasks, and waits for them. Results of tasks can be fetched of what it returns.
    ///
    /// # Errors
    /// [`RegionError`] when a task fails, or one before that was to leave a value; when the runtime has been shut down.
    pub fn run(&self, handle: &Handle) -> Result<RegionRun, RegionError> {
        let fail =
            |first: TaskError| RegionError::new(Failures { first, failed: 1, spawned: self.graph.len() as u64, location: self.location });
        let own = |kind| TaskError::new(TaskName { name: "region".into(), location: self.location }, kind);
        let run = self.graph.run(handle, ()).map_err(|error| match error {
            GraphRunError::Place(error) => fail(error),
            GraphRunError::Shutdown => fail(own(FailureKind::Shutdown)),
            other => fail(own(FailureKind::Lost { reason: other.to_string() })),
        })?;
        match run.wait() {
            Ok(()) => Ok(RegionRun(run)),
            Err(first) => Err(fail(first)),
        }
    }

    /// Number of tasks.
    pub fn len(&self) -> usize {
        self.graph.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.graph.is_empty()
    }
}

/// A run of a [`RegionPlan`], which is over: the results of its tasks.
#[derive(Debug)]
pub struct RegionRun(GraphRun);

impl RegionRun {
    /// The result of a task of the plan.
    ///
    /// # Errors
    /// When it is moved into another task.
    ///
    /// # Panics
    /// When the task is one of another plan.
    #[track_caller]
    pub fn fetch<T: Data>(&self, task: Node<T>) -> Result<&T, TaskError> {
        self.0.fetch(task)
    }
}
