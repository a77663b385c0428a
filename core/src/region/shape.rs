//! What a region spawned, apart from what its tasks do: which of them has which access to which of its values. Regions of one shape have one graph.
//!
//! Values have no identity here: they are numbered as the region names them. Parts are their elements. So a shape keeps no value alive, and fits whatever values a region works on, as long as they
//! are as many, and are named in the same order.

use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::Arc;

use poniard_interface::Access;

use super::batch::Batch;
use super::report::{NotReplayed, RegionUse};
use crate::graph::{GraphBuilder, Input, Node, TaskGraph};
use crate::mutable::{Mode, Seen, SeenAs, SeenPlace};
use crate::part::{Near, Spans};
use crate::task::record::Header;

/// In the place of a part: the whole value.
pub(super) const WHOLE: u32 = u32::MAX;

/// What one argument of a task depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arg {
    /// The result of the task with this number.
    Result(u32),
    /// The result of a task that is none of the region.
    Earlier,
    /// A value.
    Place { value: u32, part: u32, access: Access },
}

/// The shape of a region, and the graph that it comes to.
pub(super) struct Shape {
    tasks: Vec<TaskShape>,
    args: Vec<Arg>,
    /// For each task, those whose errors are its own, in the order of its arguments.
    needed: Vec<u32>,
    pub(super) values: Vec<ValueShape>,
    /// The value of each part, and its elements.
    parts: Vec<(u32, Arc<Spans>)>,
    pub(super) graph: TaskGraph,
    pub(super) input: Input<Arc<Batch>>,
}

struct TaskShape {
    location: &'static Location<'static>,
    /// Behind the last one in `args`, and in `needed`.
    args_end: u32,
    needed_end: u32,
}

pub(super) struct ValueShape {
    pub(super) is_written: bool,
    /// The accesses that are of interest to who comes after the region: task, part, access.
    last: Vec<(u32, u32, Access)>,
}

impl Shape {
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    pub(super) fn location(&self, task: usize) -> &'static Location<'static> {
        self.tasks[task].location
    }

    /// What the arguments of a task depend on.
    #[inline]
    pub(super) fn args(&self, task: usize) -> &[Arg] {
        let start = task.checked_sub(1).map_or(0, |before| self.tasks[before].args_end);
        &self.args[start as usize..self.tasks[task].args_end as usize]
    }

    /// The tasks whose errors are those of a task, in the order of its arguments.
    pub(super) fn needed(&self, task: usize) -> &[u32] {
        let start = task.checked_sub(1).map_or(0, |before| self.tasks[before].needed_end);
        &self.needed[start as usize..self.tasks[task].needed_end as usize]
    }

    /// The elements of a part; none of the whole.
    #[inline]
    pub(super) fn spans(&self, part: u32) -> Option<&Arc<Spans>> {
        self.parts.get(part as usize).map(|(_, spans)| spans)
    }

    /// The accesses to a value that are of interest to who comes after the region.
    pub(super) fn last(&self, value: u32) -> impl Iterator<Item = (Option<&Spans>, Mode, usize)> {
        let last = self.values[value as usize].last.iter();
        last.map(|(task, part, access)| (self.spans(*part).map(|spans| &**spans), Mode::from(*access), *task as usize))
    }

    /// Whether two shapes are the same as far as so many tasks go, and so many values.
    pub(super) fn begins_like(&self, other: &Self, task_count: usize, value_count: usize) -> bool {
        if self.len() < task_count || other.len() < task_count || self.values.len() < value_count {
            return false;
        }
        let ends = |shape: &Self| shape.tasks[..task_count].last().map_or(0, |task| task.args_end as usize);
        let parts = |shape: &Self| {
            let used = |arg: &Arg| if let Arg::Place { part, .. } = arg { (*part != WHOLE).then(|| *part + 1) } else { None };
            shape.args[..ends(shape)].iter().filter_map(used).max().unwrap_or_default() as usize
        };
        ends(self) == ends(other)
            && (0..task_count).all(|task| self.tasks[task].args_end == other.tasks[task].args_end)
            && self.args[..ends(self)] == other.args[..ends(other)]
            && (0..value_count).all(|value| self.values[value].is_written == other.values[value].is_written)
            && self.parts[..parts(self)] == other.parts[..parts(other)]
    }

    /// Whether an argument depends on what it depends on here; `addresses` gives those of the values.
    #[inline]
    pub(super) fn fits(&self, expected: Arg, seen: &SeenPlace<'_>) -> bool {
        let Arg::Place { part, access, .. } = expected else { return false };
        if seen.mode != Mode::from(access) {
            return false;
        }
        match (seen.spans, self.spans(part)) {
            (None, None) => true,
            (Some(seen), Some(expected)) => Arc::ptr_eq(seen, expected) || seen == expected,
            _ => false,
        }
    }

    /// For people.
    pub(super) fn describe(&self, arg: Arg) -> RegionUse {
        match arg {
            Arg::Result(task) => RegionUse::OfTask { task: task as usize },
            Arg::Earlier => RegionUse::Earlier,
            Arg::Place { value, part, access } => {
                RegionUse::Value { access, value: Some(value as usize), part: self.spans(part).map(|spans| format!("{spans:?}")) }
            }
        }
    }
}

/// Takes down what a region spawns.
#[derive(Default)]
pub(super) struct Recorder {
    tasks: Vec<Recorded>,
    args: Vec<RawArg>,
    unfit: Option<NotReplayed>,
}

struct Recorded {
    location: &'static Location<'static>,
    args_end: usize,
    /// The address of its record, once it has one.
    record: usize,
}

enum RawArg {
    /// The address of the record.
    Result(usize),
    Place {
        address: usize,
        spans: Option<Arc<Spans>>,
        access: Access,
    },
}

impl Recorder {
    /// Of the beginning of a region, which had this shape: its values and its tasks' records by their addresses, as far as they go.
    pub(super) fn resume(shape: &Shape, values: &[usize], records: impl Iterator<Item = usize>) -> Self {
        let mut recorder = Self::default();
        for (task, record) in records.enumerate() {
            for arg in shape.args(task) {
                recorder.args.push(match *arg {
                    Arg::Result(other) => RawArg::Result(recorder.tasks[other as usize].record),
                    Arg::Earlier => RawArg::Result(0),
                    Arg::Place { value, part, access } => {
                        RawArg::Place { address: values[value as usize], spans: shape.spans(part).cloned(), access }
                    }
                });
            }
            recorder.tasks.push(Recorded { location: shape.location(task), args_end: recorder.args.len(), record });
        }
        recorder
    }

    /// A task is about to be spawned, with an argument that depends on this.
    #[inline]
    pub(super) fn see(&mut self, seen: &Seen<'_>) {
        let task = self.tasks.len();
        self.args.push(match &seen.0 {
            SeenAs::Result(task) => RawArg::Result(std::ptr::from_ref::<Header>(task).addr()),
            SeenAs::Place(place) => {
                let access = match place.mode {
                    Mode::Read => Access::Read,
                    Mode::Write => Access::Write,
                    Mode::Overwrite => Access::Overwrite,
                    Mode::Commute | Mode::Reduce(_) => {
                        self.unfit.get_or_insert(NotReplayed::AnyOrder { task });
                        Access::Write
                    }
                };
                RawArg::Place { address: place.address(), spans: place.spans.cloned(), access }
            }
        });
    }

    /// Number of tasks.
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// It has been spawned.
    #[inline]
    pub(super) fn note(&mut self, record: &Header, location: &'static Location<'static>) {
        let record = std::ptr::from_ref(record).addr();
        self.tasks.push(Recorded { location, args_end: self.args.len(), record });
    }

    /// Something makes it a region that cannot be replayed. What was noted is of no use then.
    pub(super) fn spoil(&mut self, why: NotReplayed) {
        self.unfit.get_or_insert(why);
        (self.tasks, self.args) = (Vec::new(), Vec::new());
    }

    pub(super) fn is_spoiled(&self) -> bool {
        self.unfit.is_some()
    }

    /// The shape, if the region can be replayed.
    pub(super) fn compile(self) -> Result<Shape, NotReplayed> {
        match self.unfit {
            Some(why) => Err(why),
            None => Compiler::default().compile(self.tasks, self.args),
        }
    }
}

/// Accesses to the same elements.
#[derive(Default)]
struct Uses {
    writer: Option<(u32, Access)>,
    readers: Vec<u32>,
}

/// A value, while a shape is compiled.
#[derive(Default)]
struct Value {
    is_written: bool,
    whole: Uses,
    /// In the order in which they were named.
    parts: Vec<Part>,
    /// Their places there.
    places: Near,
}

struct Part {
    /// Its number in the shape.
    number: u32,
    uses: Uses,
    /// The other parts that have an element in common with it.
    meets: Vec<usize>,
}

impl Uses {
    /// Adds the tasks that an access comes after, and those of them whose errors are its own.
    fn conflicts(&self, access: Access, before: &mut Vec<u32>, needed: &mut Vec<u32>) {
        if let Some((writer, _)) = self.writer {
            before.push(writer);
            if access != Access::Overwrite {
                needed.push(writer);
            }
        }
        if access != Access::Read {
            before.extend(&self.readers);
        }
    }

    fn add(&mut self, access: Access, task: u32) {
        if access != Access::Read {
            self.readers.clear();
            self.writer = Some((task, access));
        } else if self.readers.last() != Some(&task) {
            self.readers.push(task);
        }
    }

    fn last(&self, part: u32) -> impl Iterator<Item = (u32, u32, Access)> {
        let writer = self.writer.iter().map(move |(task, access)| (*task, part, *access));
        writer.chain(self.readers.iter().map(move |task| (*task, part, Access::Read)))
    }
}

impl Value {
    /// The place in `parts` of the part with these elements.
    fn part(&mut self, spans: &Arc<Spans>, next: &mut Vec<(u32, Arc<Spans>)>, value: u32) -> usize {
        if let Some(place) = self.places.get(spans) {
            return place as usize;
        }
        let near = self.places.around(spans).map(|place| place as usize);
        let meets: Vec<usize> = near.filter(|place| next[self.parts[*place].number as usize].1.meets(spans)).collect();
        let place = self.parts.len();
        for other in &meets {
            self.parts[*other].meets.push(place);
        }
        self.parts.push(Part { number: next.len() as u32, uses: Uses::default(), meets });
        self.places.insert(spans, place as u32);
        next.push((value, Arc::clone(spans)));
        place
    }

    /// Enters an access; adds what it comes after.
    fn touch(&mut self, part: Option<usize>, access: Access, task: u32, before: &mut Vec<u32>, needed: &mut Vec<u32>) {
        self.is_written |= access != Access::Read;
        self.whole.conflicts(access, before, needed);
        match part {
            None => {
                self.parts.iter().for_each(|part| part.uses.conflicts(access, before, needed));
                if access != Access::Read {
                    self.parts.iter_mut().for_each(|part| part.uses = Uses::default());
                }
                self.whole.add(access, task);
            }
            Some(place) => {
                self.parts[place].uses.conflicts(access, before, needed);
                self.parts[place].meets.iter().for_each(|other| self.parts[*other].uses.conflicts(access, before, needed));
                self.parts[place].uses.add(access, task);
            }
        }
    }
}

#[derive(Default)]
struct Compiler {
    values: Vec<Value>,
    /// By the addresses of the values.
    numbers: BTreeMap<usize, u32>,
    parts: Vec<(u32, Arc<Spans>)>,
}

impl Compiler {
    fn compile(mut self, recorded: Vec<Recorded>, raw: Vec<RawArg>) -> Result<Shape, NotReplayed> {
        let mut builder = GraphBuilder::new();
        let input = builder.input::<Arc<Batch>>("tasks");
        let mut nodes: Vec<Node<()>> = Vec::with_capacity(recorded.len());
        let (mut tasks, mut args, mut all_needed) = (Vec::with_capacity(recorded.len()), Vec::with_capacity(raw.len()), Vec::new());
        let mut records = BTreeMap::new();
        let mut raw = raw.into_iter();
        let (mut before, mut needed) = (Vec::new(), Vec::new());
        for (index, Recorded { location, args_end, record }) in recorded.into_iter().enumerate() {
            let task = index as u32;
            while args.len() < args_end {
                args.push(match raw.next() {
                    Some(RawArg::Place { address, spans, access }) => {
                        self.touch(address, spans.as_ref(), access, task, &mut before, &mut needed)
                    }
                    // An argument keeps the record, so the address is that of the newest one there.
                    Some(RawArg::Result(address)) => match records.get(&address) {
                        Some(other) => {
                            before.push(*other);
                            needed.push(*other);
                            Arg::Result(*other)
                        }
                        None => Arg::Earlier,
                    },
                    None => unreachable!("each task has noted how many there are"),
                });
            }
            if before.contains(&task) {
                return Err(NotReplayed::SamePlace { task: index });
            }
            records.insert(record, task);
            before.sort_unstable();
            before.dedup();
            let after: Vec<Node<()>> = before.drain(..).map(|other| nodes[other as usize]).collect();
            nodes.push(builder.task_after(move |batch: &Arc<Batch>| batch.run(task), (input,), location, &after));
            all_needed.append(&mut needed);
            tasks.push(TaskShape { location, args_end: args.len() as u32, needed_end: all_needed.len() as u32 });
        }
        let graph = match builder.build() {
            Ok(graph) => graph,
            Err(error) => unreachable!("edges lead from older tasks to newer ones: {error}"),
        };
        let values = self.values.into_iter().map(|value| {
            let parts = value.parts.iter().flat_map(|part| part.uses.last(part.number));
            ValueShape { is_written: value.is_written, last: value.whole.last(WHOLE).chain(parts).collect() }
        });
        Ok(Shape { tasks, args, needed: all_needed, values: values.collect(), parts: self.parts, graph, input })
    }

    fn touch(
        &mut self,
        address: usize,
        spans: Option<&Arc<Spans>>,
        access: Access,
        task: u32,
        before: &mut Vec<u32>,
        needed: &mut Vec<u32>,
    ) -> Arg {
        let number = *self.numbers.entry(address).or_insert_with(|| {
            self.values.push(Value::default());
            self.values.len() as u32 - 1
        });
        let value = &mut self.values[number as usize];
        let place = spans.map(|spans| value.part(spans, &mut self.parts, number));
        value.touch(place, access, task, before, needed);
        Arg::Place { value: number, part: place.map_or(WHOLE, |place| value.parts[place].number), access }
    }
}
