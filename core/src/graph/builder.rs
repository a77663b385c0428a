//! Puts nodes and edges into arrays.
//!
//! One file because each way to add a node fills the same arrays, which `build` turns around together.

use std::alloc::Layout;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};

use super::arguments::{NodeArgs, NodeFn};
use super::bodies::Bodies;
use super::code::{Code, Linked, LinkedMany, MovedOut, UNIT_BYTES};
use super::error::GraphError;
use super::pages::prefer_large_for;
use super::places::Places;
use super::{BuilderId, Graph, Input, Node, NodeRecord, Site, TaskGraph, name_of};
use crate::data::Data;
use crate::error::TaskName;
use crate::function::caller;
use crate::options::Priority;
use crate::residency::can_be_elsewhere;

/// Nodes of a graph at most: the rest of the numbers mean something else.
const NODES_MAX: usize = u32::MAX as usize - 16;
/// Sites that were met last, by their addresses; a power of two.
const SITES_CACHED: usize = 16;

/// Elements of a list from which on it grows by more than by half: what it has too much is given back by `build`, and is never touched until then, while each step
/// may copy all there is.
const LARGE: usize = 1 << 14;
/// The factor by which a large list grows.
const GROWTH: usize = 8;

/// Adds to a list that may become large.
#[inline]
fn push<T>(list: &mut Vec<T>, element: T) {
    if list.len() == list.capacity() {
        grow(list);
    }
    list.push(element);
}

#[cold]
fn grow<T>(list: &mut Vec<T>) {
    if list.len() >= LARGE {
        list.reserve_exact((GROWTH - 1) * list.len());
        prefer_large_for(list);
    } else {
        list.reserve(1);
    }
}

/// Builds a [`TaskGraph`]: [`input`](Self::input) and [`task`](Self::task) add nodes, [`build`](Self::build) makes the graph.
///
/// Cost: some nanoseconds and some 30 bytes for a node, and 8 bytes for each edge; no allocation for a single node, except for [`Gather`](crate::Gather).
#[derive(Debug)]
pub struct GraphBuilder {
    id: BuilderId,
    location: &'static Location<'static>,
    nodes: Vec<NodeRecord>,
    /// How many others each node depends on.
    needed: Vec<u32>,
    /// Those that each node depends on, one node after the other; without those of `order`.
    predecessors: Vec<u32>,
    /// Further edges: before, after.
    orders: Vec<(u32, u32)>,
    sites: Vec<Site>,
    cached: [u32; SITES_CACHED],
    bodies: Bodies,
    value_units: u64,
    value_align: usize,
    droppable: Vec<u32>,
    names: Vec<(u32, Box<str>)>,
    priorities: Vec<Priority>,
    /// Whether some result has buffers.
    has_blocks: bool,
    /// Nodes whose results are moved out.
    moved: Vec<u32>,
    /// The inputs, and how many arguments use each; the `body` of an input is its place here.
    inputs: Vec<(u32, u32)>,
    /// What nodes have access to in place.
    places: Places,
    /// Where something of another builder was given first.
    stranger: Option<&'static Location<'static>>,
}

impl Default for GraphBuilder {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl GraphBuilder {
    /// An empty graph.
    #[track_caller]
    pub fn new() -> Self {
        // Two builders never have the same: at one for each nanosecond, the numbers last for centuries.
        static BUILDERS: AtomicU64 = AtomicU64::new(0);
        let id = BUILDERS.fetch_add(1, Relaxed);
        Self {
            id: [id as u32, (id >> 32) as u32],
            location: caller(),
            nodes: Vec::new(),
            needed: Vec::new(),
            predecessors: Vec::new(),
            orders: Vec::new(),
            sites: Vec::new(),
            cached: [0; SITES_CACHED],
            bodies: Bodies::new(),
            value_units: 0,
            value_align: UNIT_BYTES,
            droppable: Vec::new(),
            names: Vec::new(),
            priorities: Vec::new(),
            has_blocks: false,
            moved: Vec::new(),
            inputs: Vec::new(),
            places: Places::default(),
            stranger: None,
        }
    }

    /// An input: a value that is given anew for each run. The name is for errors.
    ///
    /// # Panics
    /// As [`task`](Self::task).
    #[track_caller]
    pub fn input<T: Data>(&mut self, name: impl Into<String>) -> Input<T> {
        let place = self.inputs.len() as u32;
        let node = self.add::<T>(const { &Code::of_input::<T>() }, true, place, 0, caller());
        self.names.push((node.index, name.into().into_boxed_str()));
        self.inputs.push((node.index, 0));
        Input(node)
    }

    /// Adds a node: `function` with `args`, to be run once in each run of the graph, as soon as all that it depends on is there.
    ///
    /// An argument is a value, which is used in every run; a [`Node`] or an [`Input`], or a reference to one; [`Node::moved`]; an `Arc<T>`. The function's
    /// parameters are `T`, `&T` or [`Gather`](crate::Gather), for which a `Vec<Node<T>>` or a `&[Node<T>]` is given.
    ///
    /// # Panics
    /// When the graph has more than four thousand million nodes or edges, or more than 16 GiB of functions and constants, or 32 GiB of results.
    #[track_caller]
    pub fn task<M, F, A>(&mut self, function: F, args: A) -> Node<F::Value>
    where
        F: NodeFn<M>,
        A: NodeArgs<F::Params>,
    {
        self.add_task(function, args, caller())
    }

    /// A node with options: `graph.task_with(f, (a, b)).name("x").priority(Priority::High).after(c).add()`.
    pub fn task_with<F, A>(&mut self, function: F, args: A) -> NodeBuilder<'_, F, A> {
        NodeBuilder { graph: self, function, args, name: None, priority: Priority::Normal, after: Vec::new() }
    }

    /// Lets `then` begin only when `first` is over. When `first` fails, `then` is not run.
    #[track_caller]
    pub fn order<S, T>(&mut self, first: impl Into<Node<S>>, then: impl Into<Node<T>>) {
        let (first, then) = (first.into(), then.into());
        let location = caller();
        if let (Some(first), Some(then)) = (self.own(first, location), self.own(then, location)) {
            self.add_order(first, then);
        }
    }

    /// Number of nodes so far, inputs included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Makes the graph.
    ///
    /// # Errors
    /// [`GraphError`] when nodes would wait for each other in a circle, or an input for a node; when a node was given one of another builder; and when a result
    /// that is moved into one node is used elsewhere too.
    ///
    /// # Panics
    /// When the graph has more than four thousand million nodes and edges.
    pub fn build(mut self) -> Result<TaskGraph, GraphError> {
        if let Some(location) = self.stranger {
            return Err(GraphError::other_builder(location));
        }
        if let Some(location) = self.places.twice {
            return Err(GraphError::same_place(location));
        }
        self.check_moved()?;
        if let Some((_, input)) = self.orders.iter().find(|(_, then)| self.site_of(*then).input) {
            return Err(GraphError::input_waits(&self.name(*input)));
        }
        let successors = self.wire_successors();
        if self.orders.iter().any(|(first, then)| first >= then) {
            self.check_circles(&successors)?;
        }
        let bytes = self.value_units as usize * UNIT_BYTES;
        let Ok(value_layout) = Layout::from_size_align(bytes, self.value_align) else { unreachable!("at most 32 GiB (`add_value`)") };
        let task_count = (self.needed.len() - self.inputs.len()) as u32;
        self.predecessors = Vec::new();
        self.nodes.shrink_to_fit();
        self.needed.shrink_to_fit();
        self.droppable.shrink_to_fit();
        self.bodies.shrink_to_fit();
        let graph = Graph {
            builder: self.id,
            nodes: self.nodes,
            needed: self.needed,
            successors,
            sites: self.sites,
            bodies: self.bodies,
            value_layout,
            droppable: self.droppable,
            names: self.names,
            priorities: self.priorities,
            moved: self.moved,
            inputs: self.inputs.into_iter().map(|(node, _)| node).collect(),
            task_count,
            location: self.location,
            places: self.places.finish(),
            pool: Mutex::default(),
            forecast: Mutex::default(),
        };
        Ok(TaskGraph { graph: Arc::new(graph) })
    }

    /// As `task`, for a node that comes after others, each named once.
    pub(crate) fn task_after<M, F, A>(
        &mut self,
        function: F,
        args: A,
        location: &'static Location<'static>,
        after: &[Node<F::Value>],
    ) -> Node<F::Value>
    where
        F: NodeFn<M>,
        A: NodeArgs<F::Params>,
    {
        let before = self.predecessors.len();
        after.iter().for_each(|first| Wiring { graph: self, location }.come_after(first.index));
        self.add_wired(function, args, location, before)
    }

    #[inline]
    fn add_task<M, F, A>(&mut self, function: F, args: A, location: &'static Location<'static>) -> Node<F::Value>
    where
        F: NodeFn<M>,
        A: NodeArgs<F::Params>,
    {
        let before = self.predecessors.len();
        self.add_wired(function, args, location, before)
    }

    /// The same when a part of the predecessors has been noted, from the place `before` on.
    #[inline]
    fn add_wired<M, F, A>(&mut self, function: F, args: A, location: &'static Location<'static>, before: usize) -> Node<F::Value>
    where
        F: NodeFn<M>,
        A: NodeArgs<F::Params>,
    {
        let wired = args.wire(&mut Wiring { graph: self, location });
        let code = const { &Code::of::<M, F, A::Wired>() };
        let body = self.bodies.push((function, wired), code.drop_body);
        let needed = self.predecessors.len() - before;
        self.add::<F::Value>(code, false, body, needed, location)
    }

    #[inline]
    fn add<T: Data>(
        &mut self,
        code: &'static Code,
        input: bool,
        body: u32,
        needed: usize,
        location: &'static Location<'static>,
    ) -> Node<T> {
        let index = self.nodes.len();
        assert!(index < NODES_MAX && self.predecessors.len() < NODES_MAX, "a graph has more than four thousand million nodes or edges");
        let index = index as u32;
        // Also for what has no size: it is aligned, too.
        self.value_align = self.value_align.max(align_of::<T>());
        let value = if size_of::<T>() == 0 { 0 } else { self.add_value(Layout::new::<T>()) };
        let site = self.site(code, input, location);
        push(&mut self.nodes, NodeRecord { site, body, value, successors: 0 });
        push(&mut self.needed, needed as u32);
        if const { std::mem::needs_drop::<T>() } {
            push(&mut self.droppable, index);
        }
        self.has_blocks |= const { can_be_elsewhere::<T>() };
        if !self.priorities.is_empty() {
            self.priorities.push(Priority::Normal);
        }
        Node { builder: self.id, index, of: PhantomData }
    }

    /// A place for a result.
    #[inline]
    fn add_value(&mut self, layout: Layout) -> u32 {
        let units_align = (layout.align().max(UNIT_BYTES) / UNIT_BYTES) as u64;
        let start = self.value_units.next_multiple_of(units_align);
        self.value_units = start + layout.size().div_ceil(UNIT_BYTES) as u64;
        assert!(self.value_units <= u64::from(u32::MAX), "the results of a graph take more than 32 GiB");
        start as u32
    }

    /// The site of a call. One that has left the cache is noted again.
    #[inline]
    fn site(&mut self, code: &'static Code, input: bool, location: &'static Location<'static>) -> u32 {
        let hash = (std::ptr::from_ref(code).addr() / 32 + std::ptr::from_ref(location).addr() / 8) % SITES_CACHED;
        let cached = self.cached[hash];
        if let Some(site) = self.sites.get(cached as usize)
            && std::ptr::eq(site.code, code)
            && std::ptr::eq(site.location, location)
        {
            return cached;
        }
        // No more than there are nodes.
        let site = self.sites.len() as u32;
        self.sites.push(Site { run: code.run, code, location, input });
        self.cached[hash] = site;
        site
    }

    /// The index of a node of this builder; notes it otherwise.
    #[inline]
    fn own<T>(&mut self, node: Node<T>, location: &'static Location<'static>) -> Option<u32> {
        if node.builder == self.id {
            return Some(node.index);
        }
        self.stranger.get_or_insert(location);
        None
    }

    fn add_order(&mut self, first: u32, then: u32) {
        // An input is over from the start. One that would wait is found in `build`.
        if !self.site_of(first).input || self.site_of(then).input {
            self.orders.push((first, then));
        }
    }

    /// The site of a node.
    fn site_of(&self, node: u32) -> &Site {
        &self.sites[self.nodes[node as usize].site as usize]
    }

    fn name(&self, node: u32) -> TaskName {
        name_of(node, &self.names, self.site_of(node))
    }

    /// A result that is moved out has one user.
    fn check_moved(&mut self) -> Result<(), GraphError> {
        self.moved.sort_unstable();
        for (place, node) in self.moved.iter().enumerate() {
            let record = &self.nodes[*node as usize];
            let users = if self.site_of(*node).input { self.inputs[record.body as usize].1 } else { record.successors };
            if users != 1 || self.moved.get(place + 1) == Some(node) {
                return Err(GraphError::moved_and_used(&self.name(*node), users));
            }
        }
        Ok(())
    }

    /// Turns the lists of predecessors into lists of successors, with the roots of each priority at the end, and completes `nodes` and `needed`.
    fn wire_successors(&mut self) -> Vec<u32> {
        let node_count = self.nodes.len();
        let most = self.predecessors.len() + self.orders.len() + node_count;
        assert!(most < NODES_MAX, "a graph has more than four thousand million nodes and edges");
        for (first, _) in &self.orders {
            self.nodes[*first as usize].successors += 1;
        }
        let mut total = 0u32;
        for node in &mut self.nodes {
            total += node.successors;
            // The end, for now: each edge below takes one off.
            node.successors = total;
        }
        let unneedy_count = self.needed.iter().filter(|needed| **needed == 0).count();
        let mut successors = Vec::with_capacity(total as usize + unneedy_count);
        prefer_large_for(&mut successors);
        successors.resize(total as usize, 0);
        let mut put = |first: u32, then: u32| {
            let place = &mut self.nodes[first as usize].successors;
            *place -= 1;
            successors[*place as usize] = then;
        };
        // From the back, so that successors stand in the order in which they were added.
        self.orders.iter().rev().for_each(|(first, then)| put(*first, *then));
        let mut rest = &self.predecessors[..];
        for (then, needed) in self.needed.iter().enumerate().rev() {
            let (before, own) = rest.split_at(rest.len() - *needed as usize);
            own.iter().rev().for_each(|first| put(*first, then as u32));
            rest = before;
        }
        // One root after the other as their results are used: so there are few results at a time that nobody has used yet.
        let order = if self.has_blocks { self.depth_first() } else { (0..node_count as u32).collect() };
        for (_, then) in &self.orders {
            self.needed[*then as usize] += 1;
        }
        for level in 0..Priority::COUNT {
            self.nodes.push(NodeRecord { site: 0, body: 0, value: 0, successors: successors.len() as u32 });
            let is_root = |node: u32| {
                let node = node as usize;
                let priority = self.priorities.get(node).copied().unwrap_or_default();
                self.needed[node] == 0 && priority.level() == level && !self.site_of(node as u32).input
            };
            if level == Priority::Normal.level() || !self.priorities.is_empty() {
                successors.extend(order.iter().filter(|node| is_root(**node)));
            }
        }
        self.nodes.push(NodeRecord { site: 0, body: 0, value: 0, successors: successors.len() as u32 });
        successors
    }

    /// The nodes in an order in which each comes right after what it depends on, as far as that goes. `order` has no say in it.
    fn depth_first(&self) -> Vec<u32> {
        let mut ends = self.needed.iter().scan(0, |end, needed| {
            *end += *needed as usize;
            Some(*end)
        });
        let of: Vec<_> = self.needed.iter().map(|needed| (ends.next().unwrap_or_default() - *needed as usize, *needed)).collect();
        let mut is_used = vec![false; of.len()];
        self.predecessors.iter().for_each(|node| is_used[*node as usize] = true);
        let mut seen = vec![false; of.len()];
        let mut order = Vec::with_capacity(of.len());
        // Nodes whose predecessors are being looked at, each with how many have been.
        let mut path = Vec::new();
        for last in (0..of.len()).filter(|node| !is_used[*node]) {
            path.push((last, 0));
            seen[last] = true;
            while let Some((node, looked)) = path.last_mut() {
                let (start, needed) = of[*node];
                if *looked == needed {
                    order.push(*node as u32);
                    path.pop();
                    continue;
                }
                let before = self.predecessors[start + *looked as usize] as usize;
                *looked += 1;
                if !std::mem::replace(&mut seen[before], true) {
                    path.push((before, 0));
                }
            }
        }
        order
    }

    /// Goes through the graph as a run would; what is never reached waits for itself.
    #[cold]
    fn check_circles(&self, successors: &[u32]) -> Result<(), GraphError> {
        let of = |node: usize| &successors[self.nodes[node].successors as usize..self.nodes[node + 1].successors as usize];
        let node_count = self.needed.len();
        let mut needed = self.needed.clone();
        let mut ready: Vec<u32> = (0..).zip(&needed).filter(|(_, needed)| **needed == 0).map(|(node, _)| node).collect();
        while let Some(node) = ready.pop() {
            for successor in of(node as usize) {
                needed[*successor as usize] -= 1;
                if needed[*successor as usize] == 0 {
                    ready.push(*successor);
                }
            }
        }
        // Of those that are left each waits for another one: going back from any leads into a circle.
        let mut waits_for = vec![None; node_count];
        for node in (0..node_count).filter(|node| needed[*node] > 0) {
            for successor in of(node) {
                waits_for[*successor as usize] = Some(node as u32);
            }
        }
        let Some(mut node) = needed.iter().position(|needed| *needed > 0).map(|node| node as u32) else { return Ok(()) };
        let mut seen = vec![false; node_count];
        let mut way = Vec::new();
        while !std::mem::replace(&mut seen[node as usize], true) {
            way.push(node);
            let Some(before) = waits_for[node as usize] else { unreachable!("it waits for one that waits too") };
            node = before;
        }
        let start = way.iter().position(|other| *other == node).unwrap_or_default();
        // The way goes backwards.
        let circle: Vec<TaskName> = way[start..].iter().rev().map(|node| self.name(*node)).collect();
        Err(GraphError::circle(&circle))
    }
}

/// What a node's arguments depend on, while it is added.
#[doc(hidden)]
#[derive(Debug)]
pub struct Wiring<'b> {
    graph: &'b mut GraphBuilder,
    location: &'static Location<'static>,
}

impl Wiring<'_> {
    /// Notes a predecessor, and gives the place of its result.
    #[inline]
    fn predecessor<T>(&mut self, node: Node<T>) -> Option<(u32, u32)> {
        let index = self.graph.own(node, self.location)?;
        let record = &mut self.graph.nodes[index as usize];
        let units = record.value;
        if self.graph.sites[record.site as usize].input {
            // It is there before a run begins.
            self.graph.inputs[record.body as usize].1 += 1;
        } else {
            record.successors += 1;
            push(&mut self.graph.predecessors, index);
        }
        Some((index, units))
    }

    /// The node that is added.
    pub(super) fn node(&self) -> u32 {
        self.graph.nodes.len() as u32
    }

    pub(super) fn places(&mut self) -> &mut Places {
        &mut self.graph.places
    }

    /// The node has access to the same twice, and not only to read.
    #[cold]
    pub(super) fn note_twice(&mut self) {
        self.graph.places.twice.get_or_insert(self.location);
    }

    /// The node comes after another one, which is none of its arguments.
    pub(super) fn come_after(&mut self, index: u32) {
        self.graph.nodes[index as usize].successors += 1;
        push(&mut self.graph.predecessors, index);
    }

    #[inline]
    pub(super) fn link<T>(&mut self, node: Node<T>) -> Linked<T> {
        // A graph with a stranger in it is not built.
        let (_, units) = self.predecessor(node).unwrap_or_default();
        Linked { units, of: PhantomData }
    }

    pub(super) fn link_many<T>(&mut self, nodes: &[Node<T>]) -> LinkedMany<T> {
        LinkedMany { units: nodes.iter().map(|node| self.link(*node).units).collect(), of: PhantomData }
    }

    pub(super) fn move_out<T>(&mut self, node: Node<T>) -> MovedOut<T> {
        let (node, units) = self.predecessor(node).unwrap_or_default();
        self.graph.moved.push(node);
        MovedOut { units, node, of: PhantomData }
    }
}

/// A node about to be added, with options. Made by [`GraphBuilder::task_with`].
#[must_use = "nothing is added before `add` is called"]
#[derive(Debug)]
pub struct NodeBuilder<'b, F, A> {
    graph: &'b mut GraphBuilder,
    function: F,
    args: A,
    name: Option<String>,
    priority: Priority,
    after: Vec<(BuilderId, u32)>,
}

impl<F, A> NodeBuilder<'_, F, A> {
    /// The name that errors use, in place of the function's own.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How urgent it is once it is ready. From the first priority on that is not normal, a ready node of this graph goes through a queue.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// Begins only when `first` is over. When `first` fails, this one is not run.
    pub fn after<T>(mut self, first: impl Into<Node<T>>) -> Self {
        let first = first.into();
        self.after.push((first.builder, first.index));
        self
    }

    /// Adds it.
    ///
    /// # Panics
    /// As [`GraphBuilder::task`].
    #[track_caller]
    pub fn add<M>(self) -> Node<F::Value>
    where
        F: NodeFn<M>,
        A: NodeArgs<F::Params>,
    {
        let location = caller();
        let node = self.graph.add_task(self.function, self.args, location);
        for (builder, index) in self.after {
            let first: Node<()> = Node { builder, index, of: PhantomData };
            if let Some(first) = self.graph.own(first, location) {
                self.graph.add_order(first, node.index);
            }
        }
        if let Some(name) = self.name {
            self.graph.names.push((node.index, name.into_boxed_str()));
        }
        if self.priority != Priority::Normal {
            self.graph.priorities.resize(self.graph.nodes.len(), Priority::Normal);
            self.graph.priorities[node.index as usize] = self.priority;
        }
        node
    }
}
