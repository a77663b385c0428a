//! Graphs that are built once and run often.
//!
//! A task that is spawned costs an allocation, a place in its predecessors' lists and the countdown of its own. Where the same graph is run again and again,
//! with other data, all of that can be done once: [`GraphBuilder`] puts nodes and edges into a few arrays, and a run of the [`TaskGraph`] only counts down.
//!
//! ```
//! use poniard::{GraphBuilder, Runtime};
//!
//! fn scale(values: &[f64], factor: f64) -> Vec<f64> {
//!     values.iter().map(|value| value * factor).collect()
//! }
//! fn sum(values: &[f64]) -> f64 {
//!     values.iter().sum()
//! }
//! let runtime = Runtime::new()?;
//! let mut graph = GraphBuilder::new();
//! let values = graph.input::<Vec<f64>>("values");
//! let scaled = graph.task(scale, (&values, 2.0));
//! let total = graph.task(sum, (&scaled,));
//! let graph = graph.build()?;
//!
//! let run = graph.run(&runtime, ((&values, vec![1.0, 2.0]),))?;
//! assert_eq!(*run.fetch(total)?, 6.0);
//! let run = graph.run(&runtime, ((&values, vec![5.0]),))?;
//! assert_eq!(*run.fetch(total)?, 10.0);
//! assert_eq!(*run.fetch(scaled)?, [10.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is known when a graph is built
//!
//! Functions are `Fn`, and constants that are taken by value are cloned for every run: what cannot be run twice does not compile. There is no other way to run a
//! graph, so none that is slower.
//!
//! A parameter `&T` reads a result where it is. A parameter `T` clones it, as anybody may [`fetch`](GraphRun::fetch) any node; [`Node::moved`] says that nobody
//! will, and moves it.
//!
//! # Cost
//!
//! A run takes nothing from the allocator once the graph has been run before, on as many runs at once; the memory of a run is the graph's, and stays until the
//! graph is dropped. It holds a place for each result that has a size, in steps of 8 bytes, and 5 bytes for each node. A node costs some nanoseconds besides its
//! function, see the benchmark `overhead`.
//!
//! On a runtime with a [policy](crate::RuntimeBuilder::policy) every node that is ready is placed, as tasks are: about a microsecond a node, and memory for those that wait.

use std::alloc::Layout;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::{Arc, Mutex};

mod arguments;
mod bodies;
mod builder;
mod code;
pub(crate) mod drive;
mod error;
mod forecast;
mod pages;
mod placed;
mod places;
mod run;
pub(crate) mod runs;
pub(crate) mod state;

pub use arguments::{IntoNodeArg, NodeArgs, NodeFn};
pub use builder::{GraphBuilder, NodeBuilder};
pub use code::Place;
pub(crate) use code::Places;
pub use error::{GraphError, GraphErrorKind, GraphRunError};
pub use places::PlaceMut;
pub use run::{GraphRun, Inputs, RunInputs};

use crate::error::TaskName;
use crate::function::function_name;
use crate::options::Priority;
use crate::runtime::Handle;
use bodies::Bodies;
use code::Code;
use forecast::Forecast;
use state::RunState;

/// A graph that has been built, to be run any number of times, also at once and on several runtimes. Cheap to clone: clones are the same graph.
#[derive(Clone)]
pub struct TaskGraph {
    graph: Arc<Graph>,
}

impl TaskGraph {
    /// The same as [`GraphBuilder::new`].
    #[track_caller]
    pub fn builder() -> GraphBuilder {
        GraphBuilder::new()
    }

    /// Begins to run it. `inputs` is a tuple of pairs, each an input and its value: `((&x, 1.0), (&y, 2.0))`, `((&x, 1.0),)`, `()`; or what
    /// [`inputs`](Self::inputs) gives.
    ///
    /// Called inside a task, the run begins on the task's own worker.
    ///
    /// # Errors
    /// [`GraphRunError`] when an input is missing, is given twice, or belongs to another graph; when the runtime has been shut down, or has no processor that
    /// takes tasks one by one.
    pub fn run(&self, runtime: &Handle, inputs: impl RunInputs) -> Result<GraphRun, GraphRunError> {
        let mut given = self.inputs();
        inputs.give(&mut given);
        given.run(self, runtime)
    }

    /// Values for the inputs, given one by one: `graph.inputs().set(&x, 1.0).set(&y, 2.0)`. They go straight to where the run will read them.
    pub fn inputs(&self) -> Inputs {
        Inputs::new(&self.graph)
    }

    /// Number of nodes, without the inputs.
    pub fn len(&self) -> usize {
        self.graph.task_count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for TaskGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskGraph({} nodes)", self.len())
    }
}

/// Tells builders apart. Never given twice; in two halves, so that handles are no larger than they have to be.
type BuilderId = [u32; 2];

/// A node of a graph: stands for its result, as an argument of other nodes of the same builder and in [`GraphRun::fetch`].
pub struct Node<T> {
    builder: BuilderId,
    index: u32,
    of: PhantomData<fn() -> T>,
}

impl<T> Node<T> {
    /// As an argument: the result is moved into the node that takes it by value, instead of cloned. That node has to be the only one that uses it, which is checked
    /// when the graph is built, and the result cannot be fetched.
    pub fn moved(self) -> Moved<T> {
        Moved(self)
    }
}

impl<T> Clone for Node<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Node<T> {}

impl<T> fmt::Debug for Node<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.index)
    }
}

impl<T> From<&Node<T>> for Node<T> {
    fn from(node: &Self) -> Self {
        *node
    }
}

/// An input of a graph: what is given for it is different for each run. As an argument it is like a [`Node`].
pub struct Input<T>(Node<T>);

impl<T> Input<T> {
    /// The node that stands for its value.
    pub fn node(self) -> Node<T> {
        self.0
    }

    /// As [`Node::moved`].
    pub fn moved(self) -> Moved<T> {
        Moved(self.0)
    }
}

impl<T> Clone for Input<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Input<T> {}

impl<T> fmt::Debug for Input<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({})", self.0.index)
    }
}

impl<T> From<Input<T>> for Node<T> {
    fn from(input: Input<T>) -> Self {
        input.0
    }
}

impl<T> From<&Input<T>> for Node<T> {
    fn from(input: &Input<T>) -> Self {
        input.0
    }
}

/// What [`Node::moved`] makes.
#[derive(Debug)]
pub struct Moved<T>(Node<T>);

/// What is known of one node.
#[derive(Debug)]
struct NodeRecord {
    /// Place in `Graph::sites`.
    site: u32,
    /// Place in `Graph::bodies`.
    body: u32,
    /// Place of the result in the memory of a run.
    value: u32,
    /// Where its successors begin; they end where the next node's begin. While the graph is built: how many there are.
    successors: u32,
}

/// What nodes have in common that were added by one call in the source with one type of function.
#[derive(Debug)]
struct Site {
    /// That of `code`, one step nearer.
    run: code::Run,
    code: &'static Code,
    location: &'static Location<'static>,
    /// Whether nothing is to be run.
    input: bool,
}

/// A graph that has been built.
#[derive(Debug)]
pub(crate) struct Graph {
    builder: BuilderId,
    /// The nodes in the order in which they were added, inputs included; one for each priority, whose successors are the roots; and one to end the last.
    nodes: Vec<NodeRecord>,
    /// How many others each node depends on.
    needed: Vec<u32>,
    successors: Vec<u32>,
    sites: Vec<Site>,
    bodies: Bodies,
    value_layout: Layout,
    /// Nodes whose results have destructors.
    droppable: Vec<u32>,
    /// Names that were given, by node.
    names: Vec<(u32, Box<str>)>,
    /// The priorities of the nodes; empty when all are normal.
    priorities: Vec<Priority>,
    /// Nodes whose results are moved out, in ascending order.
    moved: Vec<u32>,
    inputs: Vec<u32>,
    /// Nodes that are no inputs.
    task_count: u32,
    /// Where the builder was made.
    location: &'static Location<'static>,
    /// What nodes have access to in place, in the order in which it is locked.
    places: Vec<places::Needed>,
    /// Memory of runs that are over.
    pool: Mutex<Vec<Arc<RunState>>>,
    /// What nodes are expected to cost where they are placed: that of the run that began last.
    forecast: Mutex<Option<Arc<Forecast>>>,
}

impl Graph {
    /// Number of nodes, inputs included.
    fn node_count(&self) -> usize {
        self.nodes.len() - Priority::COUNT - 1
    }

    /// The virtual node whose successors are the roots of a level of priority.
    fn roots(&self, level: usize) -> u32 {
        (self.node_count() + level) as u32
    }

    fn site(&self, node: u32) -> &Site {
        &self.sites[self.nodes[node as usize].site as usize]
    }

    fn priority(&self, node: u32) -> Priority {
        self.priorities.get(node as usize).copied().unwrap_or_default()
    }

    /// The name given by the user, or the function's.
    fn name(&self, node: u32) -> TaskName {
        name_of(node, &self.names, self.site(node))
    }

    /// The graph as a whole, for errors.
    fn own_name(&self) -> TaskName {
        TaskName { name: "graph".into(), location: self.location }
    }

    fn is_moved(&self, node: u32) -> bool {
        self.moved.binary_search(&node).is_ok()
    }
}

fn name_of(node: u32, names: &[(u32, Box<str>)], site: &Site) -> TaskName {
    let name = match names.binary_search_by_key(&node, |(named, _)| *named) {
        Ok(place) => names[place].1.to_string(),
        Err(_) => function_name((site.code.type_name)()),
    };
    TaskName { name, location: site.location }
}
