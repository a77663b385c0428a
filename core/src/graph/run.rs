//! What users hold of a run.
#![expect(unsafe_code, reason = "results of erased type, in memory that a run lends")]

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::{Arc, PoisonError};

use super::state::{self, RunState};
use super::{Graph, GraphRunError, Input, Node, TaskGraph, drive, places};
use crate::data::Data;
use crate::error::{FailureKind, TaskError};
use crate::runtime::Handle;

/// A run of a [`TaskGraph`]: results that are there, or will be.
///
/// Results live as long as this: [`fetch`](Self::fetch) borrows them. Dropped before the run is over, it cancels what has not begun, as nobody could see a result;
/// [`detach`](Self::detach) lets it go on. It need not be dropped before the runtime.
#[must_use = "a run that is dropped is cancelled; `wait` for it, fetch a result, or `detach` it"]
pub struct GraphRun {
    /// None once it is given up.
    state: Option<Arc<RunState>>,
    graph: Arc<Graph>,
}

impl GraphRun {
    fn state(&self) -> &Arc<RunState> {
        match &self.state {
            Some(state) => state,
            None => unreachable!("given up at the end only"),
        }
    }

    /// Waits for a node's result and borrows it; other nodes may still run. An input can be fetched, too.
    ///
    /// Inside a task or a node, the worker meanwhile runs what it knows of this run and nothing else; when there is nothing, another thread takes the
    /// worker's place. Works on a runtime with one thread.
    ///
    /// # Errors
    /// [`TaskError`] when the node, or one that it depends on, failed; when it was not run as the run was cancelled; when its result is moved into another
    /// node ([`Node::moved`]). When the node is not over and the calling thread is in the middle of another one of this run, or some thread that is waits for what the
    /// calling one is in the middle of, directly or through others: waiting might never end. Of runs that wait for each other, the last one to wait gets the error.
    ///
    /// # Panics
    /// When the node belongs to another graph.
    #[track_caller]
    pub fn fetch<T: Data>(&self, node: impl Into<Node<T>>) -> Result<&T, TaskError> {
        let index = self.index(node.into());
        let state = self.state();
        if self.graph.is_moved(index) {
            return Err(TaskError::new(self.graph.name(index), FailureKind::Moved));
        }
        if !drive::wait(state, Some(index)) {
            return Err(TaskError::new(self.graph.name(index), FailureKind::WaitsForItself));
        }
        // Acquire: pairs with the Release of who has run the node.
        if state.states[index as usize].load(Acquire) != state::VALUE {
            return Err(state.error(index));
        }
        let value = state.value::<T>(self.graph.nodes[index as usize].value);
        // SAFETY: the node gives a `T`, since it was made by this graph's builder, and the state says that it is there. It is taken out by nobody: no node moves it
        // (above), and `take` has the run to itself.
        Ok(unsafe { value.as_ref() })
    }

    /// Waits for the whole run, and moves a node's result out.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch), and when it was taken before.
    ///
    /// # Panics
    /// As [`fetch`](Self::fetch).
    #[track_caller]
    pub fn take<T: Data>(&mut self, node: impl Into<Node<T>>) -> Result<T, TaskError> {
        let index = self.index(node.into());
        let state = self.state();
        if !drive::wait(state, None) {
            return Err(TaskError::new(self.graph.name(index), FailureKind::WaitsForItself));
        }
        if state.states[index as usize].load(Acquire) != state::VALUE {
            return Err(state.error(index));
        }
        // Relaxed: this thread has the run to itself.
        state.states[index as usize].store(state::MOVED, Relaxed);
        let value = state.value::<T>(self.graph.nodes[index as usize].value);
        // SAFETY: as in `fetch`; all nodes are over, nobody borrows the run, and the state above keeps the value from being dropped again.
        Ok(unsafe { value.read() })
    }

    /// Waits until all nodes are over.
    ///
    /// # Errors
    /// The error of the node that failed first; or that of one that was not run, as the run was cancelled. Inside a node of this run, or
    /// in what one waits for, that it would wait for itself.
    pub fn wait(&self) -> Result<(), TaskError> {
        let state = self.state();
        if !drive::wait(state, None) {
            return Err(TaskError::new(self.graph.own_name(), FailureKind::WaitsForItself));
        }
        state.first_trouble().map_or(Ok(()), Err)
    }

    /// Whether all nodes are over. Does not wait.
    pub fn is_finished(&self) -> bool {
        self.state().is_over()
    }

    /// Keeps nodes from being run that have not begun. Those that are being run can ask whether they were cancelled. The run is over when they are.
    pub fn cancel(&self) {
        self.state().cancel();
    }

    /// Gives the handle up and lets the run go on.
    pub fn detach(mut self) {
        self.give_up();
    }

    fn give_up(&mut self) {
        if let Some(state) = self.state.take() {
            state.release();
        }
    }

    #[track_caller]
    fn index<T>(&self, node: Node<T>) -> u32 {
        assert!(node.builder == self.graph.builder, "this node belongs to another graph than the one that is run");
        node.index
    }
}

impl Drop for GraphRun {
    fn drop(&mut self) {
        if let Some(state) = &self.state
            && !state.is_over()
        {
            state.cancel();
        }
        self.give_up();
    }
}

impl fmt::Debug for GraphRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GraphRun({} nodes, {})", self.graph.task_count, if self.is_finished() { "over" } else { "not over" })
    }
}

/// Values for the inputs of one run. Made by [`TaskGraph::inputs`].
#[must_use = "a run begins when this is given to `TaskGraph::run`"]
pub struct Inputs {
    /// None once it has been given to a run.
    state: Option<Arc<RunState>>,
    graph: Arc<Graph>,
    /// What is wrong with them.
    wrong: Option<GraphRunError>,
}

impl Inputs {
    pub(super) fn new(graph: &Arc<Graph>) -> Self {
        let pooled = graph.pool.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let state = pooled.unwrap_or_else(|| RunState::new(graph));
        Self { state: Some(state), graph: Arc::clone(graph), wrong: None }
    }

    /// Gives an input its value.
    pub fn set<T: Data>(mut self, input: &Input<T>, value: T) -> Self {
        self.put(input, value);
        self
    }

    fn put<T: Data>(&mut self, input: &Input<T>, value: T) {
        let Some(state) = &self.state else { return };
        let node = input.0;
        if node.builder != self.graph.builder {
            self.wrong.get_or_insert(GraphRunError::OtherGraph);
            return;
        }
        let of_node = &state.states[node.index as usize];
        // Relaxed, here and below: this thread has the memory to itself.
        if of_node.load(Relaxed) == state::VALUE {
            let input = self.graph.name(node.index).name;
            self.wrong.get_or_insert(GraphRunError::InputGivenTwice { input });
            return;
        }
        let place = state.value::<T>(self.graph.nodes[node.index as usize].value);
        // SAFETY: the place is this input's, which holds a `T` since it was made by this graph's builder, and there is nothing in it.
        unsafe { place.write(value) };
        of_node.store(state::VALUE, Relaxed);
    }

    pub(super) fn run(mut self, graph: &TaskGraph, runtime: &Handle) -> Result<GraphRun, GraphRunError> {
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        if !Arc::ptr_eq(&self.graph, &graph.graph) {
            return Err(GraphRunError::OtherGraph);
        }
        let shared = &*runtime.shared;
        if shared.slots.is_empty() {
            return Err(GraphRunError::NoWorker);
        }
        let Some(state) = &self.state else { unreachable!("given to one run") };
        let is_missing = |input: &&u32| state.states[**input as usize].load(Relaxed) != state::VALUE;
        if let Some(missing) = self.graph.inputs.iter().find(is_missing) {
            return Err(GraphRunError::MissingInput { input: self.graph.name(*missing).name });
        }
        if !self.graph.places.is_empty() {
            let hold = places::acquire(&self.graph.places, self.graph.location).map_err(GraphRunError::Place)?;
            state.set_hold(hold);
        }
        if !drive::begin(state, &self.graph, shared) {
            state.end_hold();
            return Err(GraphRunError::Shutdown);
        }
        Ok(GraphRun { state: self.state.take(), graph: Arc::clone(&self.graph) })
    }
}

impl Drop for Inputs {
    fn drop(&mut self) {
        if let Some(state) = self.state.take() {
            // Never begun.
            state.recycle(&self.graph);
        }
    }
}

impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inputs({:?})", self.wrong)
    }
}

/// What may be given to [`TaskGraph::run`]: a tuple of pairs, each a reference to an [`Input`] and its value, or [`Inputs`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not give values for inputs of a graph",
    note = "give a tuple of pairs, as in `graph.run(&runtime, ((&x, 1.0), (&y, 2.0)))`; `((&x, 1.0),)` for one, `()` for none; or `graph.inputs().set(&x, 1.0)`"
)]
pub trait RunInputs {
    /// Gives them.
    #[doc(hidden)]
    fn give(self, inputs: &mut Inputs);
}

impl RunInputs for Inputs {
    fn give(self, inputs: &mut Inputs) {
        *inputs = self;
    }
}

macro_rules! pairs {
    ($($type:ident $index:tt),*) => {
        impl<$($type: Data),*> RunInputs for ($((&Input<$type>, $type),)*) {
            #[allow(unused_variables, clippy::allow_attributes, reason = "no inputs")]
            fn give(self, inputs: &mut Inputs) {
                $(inputs.put(self.$index.0, self.$index.1);)*
            }
        }
    };
}
pairs!();
pairs!(A 0);
pairs!(A 0, B 1);
pairs!(A 0, B 1, C 2);
pairs!(A 0, B 1, C 2, D 3);
pairs!(A 0, B 1, C 2, D 3, E 4);
pairs!(A 0, B 1, C 2, D 3, E 4, F 5);
pairs!(A 0, B 1, C 2, D 3, E 4, F 5, G 6);
pairs!(A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7);
