//! What is to be run: tasks with their work, and edges with the bytes that go along them.

mod dax;
mod dot;
mod generate;
mod graph_file;
mod read;
mod recording;
mod stg;
mod wfformat;
mod written;

use std::fmt;
use std::hash::{Hash, Hasher};

pub use generate::{Generate, GenerateError, MOST_TASKS, REFERENCE_BYTES_PER_S, Shape};
pub use read::{Format, ReadError, ReadOptions, read, read_text, text_of};
pub use recording::{RecordedProcessor, RecordedTask, Recording};

/// A graph of tasks. Nothing in it says where they run.
///
/// Tasks and edges are numbered from 0. The edges of a task that go out lie together, those that come in are named by the numbers of those.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    name: String,
    names: Names,
    work_ns: Vec<u64>,
    codes: Vec<u32>,
    code_names: Vec<String>,
    /// How many processors each task takes; nothing if all take one.
    processors: Vec<u32>,
    /// For each task where its edges out begin, and at last how many edges there are.
    starts: Vec<usize>,
    targets: Vec<u32>,
    bytes: Vec<u64>,
    /// For each task where its edges in begin.
    in_starts: Vec<usize>,
    /// The task that an edge in comes from, and the number of the edge.
    sources: Vec<(u32, u32)>,
}

/// All names one behind the other.
#[derive(Clone, Debug, Default, PartialEq)]
struct Names {
    text: String,
    ends: Vec<usize>,
}

impl Names {
    fn push(&mut self, name: &str) {
        self.text.push_str(name);
        self.ends.push(self.text.len());
    }

    fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[index]]
    }
}

/// What determines a run: works, codes, edges and bytes. Names of the workload and of tasks do not.
impl Hash for Workload {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.work_ns.hash(state);
        self.codes.hash(state);
        self.code_names.hash(state);
        self.processors.hash(state);
        self.starts.hash(state);
        self.targets.hash(state);
        self.bytes.hash(state);
    }
}

impl Workload {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of tasks.
    #[must_use]
    pub fn len(&self) -> usize {
        self.work_ns.len()
    }

    /// Whether there is no task.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.work_ns.is_empty()
    }

    /// The number of edges.
    #[must_use]
    pub fn edge_count(&self) -> usize {
        self.targets.len()
    }

    /// What a task is called.
    #[must_use]
    pub fn task_name(&self, task: usize) -> &str {
        self.names.get(task)
    }

    /// How long a task takes on a processor of speed 1, in nanoseconds.
    #[must_use]
    pub fn work_ns(&self, task: usize) -> u64 {
        self.work_ns[task]
    }

    /// What kind of work a task is: an index into [`code_names`](Self::code_names). Tasks of one code are measured together.
    #[must_use]
    pub fn code(&self, task: usize) -> u32 {
        self.codes[task]
    }

    /// The kinds of work.
    #[must_use]
    pub fn code_names(&self) -> &[String] {
        &self.code_names
    }

    /// The numbers of the edges that go out of a task.
    #[must_use]
    pub fn edges_out(&self, task: usize) -> std::ops::Range<usize> {
        self.starts[task]..self.starts[task + 1]
    }

    /// Where an edge goes.
    #[must_use]
    pub fn target(&self, edge: usize) -> usize {
        self.targets[edge] as usize
    }

    /// How many bytes go along an edge.
    #[must_use]
    pub fn bytes(&self, edge: usize) -> u64 {
        self.bytes[edge]
    }

    /// The edges that come into a task: where each comes from, and its number.
    pub fn edges_in(&self, task: usize) -> impl ExactSizeIterator<Item = (usize, usize)> + '_ {
        self.sources[self.in_starts[task]..self.in_starts[task + 1]].iter().map(|&(source, edge)| (source as usize, edge as usize))
    }

    /// How many edges come into a task.
    #[must_use]
    pub fn in_degree(&self, task: usize) -> usize {
        self.in_starts[task + 1] - self.in_starts[task]
    }

    /// The same graph with other works, one for each task.
    ///
    /// # Panics
    /// There are more or fewer works than tasks.
    #[must_use]
    pub fn with_works(&self, works_ns: &[u64]) -> Self {
        assert_eq!(works_ns.len(), self.len(), "each task has one");
        Self { work_ns: works_ns.into(), ..self.clone() }
    }

    /// A part of the tasks, in the order of their numbers, and the edges between them.
    #[must_use]
    pub fn only(&self, tasks: &[u32]) -> Self {
        let mut builder = WorkloadBuilder::new(&self.name);
        let mut numbers = vec![u32::MAX; self.len()];
        // All codes, so that each keeps its number.
        builder.code_names.clone_from(&self.code_names);
        builder.code_of = self.code_names.iter().cloned().zip(0..).collect();
        for task in tasks.iter().map(|task| *task as usize) {
            let number = builder.task(self.task_name(task), &self.code_names[self.codes[task] as usize], self.work_ns[task]);
            builder.processors(number, self.processors(task));
            numbers[task] = number as u32;
        }
        for task in tasks.iter().map(|task| *task as usize) {
            for edge in self.edges_out(task) {
                let target = numbers[self.target(edge)];
                if target != u32::MAX {
                    builder.edge(numbers[task] as usize, target as usize, self.bytes(edge));
                }
            }
        }
        match builder.build() {
            Ok(part) => part,
            Err(error) => unreachable!("a part of a graph without circles has none: {error}"),
        }
    }

    /// How many processors a task takes while it runs.
    #[must_use]
    pub fn processors(&self, task: usize) -> u32 {
        self.processors.get(task).copied().unwrap_or(1)
    }

    /// The task that takes most processors, if some take more than one.
    #[must_use]
    pub fn widest(&self) -> Option<usize> {
        (0..self.processors.len()).max_by_key(|task| self.processors[*task])
    }

    /// The graph as the runtime's own functions want it.
    #[must_use]
    pub fn successors(&self) -> poniard::policy::ranks::Successors<'_> {
        poniard::policy::ranks::Successors { starts: &self.starts, successors: &self.targets }
    }

    /// The tasks in an order in which each comes behind those that it depends on; of those that could be next the one with the smallest number.
    #[must_use]
    pub fn order(&self) -> Vec<u32> {
        let mut missing: Vec<u32> = (0..self.len()).map(|task| self.in_degree(task) as u32).collect();
        let mut ready: std::collections::BinaryHeap<_> =
            (0..self.len() as u32).filter(|task| missing[*task as usize] == 0).map(std::cmp::Reverse).collect();
        let mut order = Vec::with_capacity(self.len());
        while let Some(std::cmp::Reverse(task)) = ready.pop() {
            order.push(task);
            for edge in self.edges_out(task as usize) {
                let target = self.target(edge);
                missing[target] -= 1;
                if missing[target] == 0 {
                    ready.push(std::cmp::Reverse(target as u32));
                }
            }
        }
        order
    }
}

/// Why tasks and edges are no workload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkloadError {
    /// An edge names a task that is not there.
    NoSuchTask {
        /// The number of the edge, in the order in which edges were added.
        edge: usize,
        /// The task.
        task: usize,
    },
    /// Tasks depend on each other in a circle.
    Cycle {
        /// Their names, each before the one that depends on it; the last one's successor is the first.
        tasks: Vec<String>,
    },
    /// More tasks or edges than 2^32 - 1.
    TooLarge,
}

impl fmt::Display for WorkloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchTask { edge, task } => write!(f, "edge {edge} names task {task}, which is not there"),
            Self::Cycle { tasks } => {
                const SHOWN: usize = 8;
                f.write_str("tasks depend on each other in a circle: ")?;
                for task in tasks.iter().take(SHOWN) {
                    write!(f, "`{task}` -> ")?;
                }
                if tasks.len() > SHOWN {
                    write!(f, "… ({} more) -> ", tasks.len() - SHOWN)?;
                }
                write!(f, "`{}`", tasks.first().map_or("", String::as_str))
            }
            Self::TooLarge => f.write_str("there are more than 4294967295 tasks or edges"),
        }
    }
}

impl std::error::Error for WorkloadError {}

/// Puts a [`Workload`] together.
#[derive(Clone, Debug, Default)]
pub struct WorkloadBuilder {
    name: String,
    names: Names,
    work_ns: Vec<u64>,
    codes: Vec<u32>,
    code_names: Vec<String>,
    code_of: std::collections::BTreeMap<String, u32>,
    /// Those of tasks that take several.
    processors: std::collections::BTreeMap<usize, u32>,
    edges: Vec<(u32, u32, u64)>,
}

impl From<&Workload> for WorkloadBuilder {
    /// What there is, for more to be added: tasks keep their numbers.
    fn from(workload: &Workload) -> Self {
        let mut builder = Self::new(workload.name());
        for task in 0..workload.len() {
            builder.task(workload.task_name(task), &workload.code_names()[workload.code(task) as usize], workload.work_ns(task));
            builder.processors(task, workload.processors(task));
            workload.edges_out(task).for_each(|edge| builder.edge(task, workload.target(edge), workload.bytes(edge)));
        }
        builder
    }
}

impl WorkloadBuilder {
    /// No tasks yet.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Adds a task, which takes so many nanoseconds on a processor of speed 1, and gives its number.
    pub fn task(&mut self, name: &str, code: &str, work_ns: u64) -> usize {
        let number = match self.code_of.get(code) {
            Some(number) => *number,
            None => {
                let number = self.code_names.len() as u32;
                self.code_names.push(code.to_owned());
                self.code_of.insert(code.to_owned(), number);
                number
            }
        };
        self.names.push(name);
        self.codes.push(number);
        self.work_ns.push(work_ns);
        self.work_ns.len() - 1
    }

    /// Says that a task takes so many processors while it runs, and not one.
    pub fn processors(&mut self, task: usize, count: u32) {
        if count > 1 {
            self.processors.insert(task, count);
        }
    }

    /// Adds an edge: `to` needs so many bytes of `from`. Of several edges between the same two tasks the bytes are added.
    pub fn edge(&mut self, from: usize, to: usize, bytes: u64) {
        let number = |task: usize| u32::try_from(task).unwrap_or(u32::MAX);
        self.edges.push((number(from), number(to), bytes));
    }

    /// The number of tasks so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.work_ns.len()
    }

    /// Whether there is no task yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.work_ns.is_empty()
    }

    /// The workload.
    ///
    /// # Errors
    /// An edge names a task that is not there, tasks depend on each other in a circle, or there are too many.
    pub fn build(self) -> Result<Workload, WorkloadError> {
        let count = self.work_ns.len();
        if count >= u32::MAX as usize || self.edges.len() >= u32::MAX as usize {
            return Err(WorkloadError::TooLarge);
        }
        let Self { name, mut names, mut work_ns, mut codes, code_names, edges, processors: several, .. } = self;
        // They have grown by doubling.
        names.text.shrink_to_fit();
        names.ends.shrink_to_fit();
        work_ns.shrink_to_fit();
        codes.shrink_to_fit();
        for (edge, (from, to, _)) in edges.iter().enumerate() {
            if let Some(task) = [*from, *to].into_iter().find(|task| *task as usize >= count) {
                return Err(WorkloadError::NoSuchTask { edge, task: task as usize });
            }
        }
        let (starts, targets, bytes) = by_source(count, edges);
        let mut in_starts = vec![0; count + 1];
        targets.iter().for_each(|to| in_starts[*to as usize + 1] += 1);
        for task in 0..count {
            in_starts[task + 1] += in_starts[task];
        }
        let mut sources = vec![(0, 0); targets.len()];
        for from in 0..count {
            for edge in starts[from]..starts[from + 1] {
                let next = &mut in_starts[targets[edge] as usize];
                sources[*next] = (from as u32, edge as u32);
                *next += 1;
            }
        }
        // Each is now where the next one begins.
        in_starts.copy_within(0..count, 1);
        in_starts[0] = 0;
        let mut processors = if several.is_empty() { Vec::new() } else { vec![1; count] };
        several.into_iter().filter(|(task, _)| *task < count).for_each(|(task, several)| processors[task] = several);
        let workload = Workload { name, names, work_ns, codes, code_names, processors, starts, targets, bytes, in_starts, sources };
        match circle(&workload) {
            Some(tasks) => Err(WorkloadError::Cycle { tasks }),
            None => Ok(workload),
        }
    }
}

/// Edges by the task that they come from, and of each by where they go: where those of each task begin, where each goes, and its bytes. Of equal edges the bytes are added.
/// Counted and not sorted as a whole, which would take more time and half as much memory again.
fn by_source(count: usize, edges: Vec<(u32, u32, u64)>) -> (Vec<usize>, Vec<u32>, Vec<u64>) {
    let mut starts = vec![0; count + 1];
    edges.iter().for_each(|(from, ..)| starts[*from as usize + 1] += 1);
    for task in 0..count {
        starts[task + 1] += starts[task];
    }
    let mut sorted = vec![(0_u32, 0_u64); edges.len()];
    for (from, to, bytes) in edges {
        let next = &mut starts[from as usize];
        sorted[*next] = (to, bytes);
        *next += 1;
    }
    // Each is now where the next one begins.
    starts.copy_within(0..count, 1);
    starts[0] = 0;
    let (mut targets, mut bytes) = (Vec::with_capacity(sorted.len()), Vec::with_capacity(sorted.len()));
    for task in 0..count {
        let own = &mut sorted[starts[task]..starts[task + 1]];
        own.sort_unstable();
        starts[task] = targets.len();
        for (to, more) in own.iter().copied() {
            match bytes.last_mut() {
                Some(sum) if targets.len() > starts[task] && targets.last() == Some(&to) => *sum = u64::saturating_add(*sum, more),
                _ => {
                    targets.push(to);
                    bytes.push(more);
                }
            }
        }
    }
    starts[count] = targets.len();
    (starts, targets, bytes)
}

/// The names of tasks that depend on each other in a circle, if some do.
fn circle(workload: &Workload) -> Option<Vec<String>> {
    let mut missing: Vec<u32> = (0..workload.len()).map(|task| workload.in_degree(task) as u32).collect();
    let mut ready: Vec<u32> = (0..workload.len() as u32).filter(|task| missing[*task as usize] == 0).collect();
    let mut is_ordered = vec![false; workload.len()];
    let mut ordered = 0;
    while let Some(task) = ready.pop() {
        is_ordered[task as usize] = true;
        ordered += 1;
        for edge in workload.edges_out(task as usize) {
            let target = workload.target(edge);
            missing[target] -= 1;
            if missing[target] == 0 {
                ready.push(target as u32);
            }
        }
    }
    if ordered == workload.len() {
        return None;
    }
    // Every task that is left needs another one that is left: going back comes round.
    let first = is_ordered.iter().position(|ordered| !ordered)?;
    let mut seen_at = std::collections::BTreeMap::new();
    let mut way = Vec::new();
    let mut task = first;
    loop {
        if let Some(start) = seen_at.insert(task, way.len()) {
            let circle = way.drain(start..).rev().map(|task| workload.task_name(task).to_owned()).collect();
            return Some(circle);
        }
        way.push(task);
        task = workload.edges_in(task).map(|(source, _)| source).find(|source| !is_ordered[*source])?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(tasks: usize, edges: &[(usize, usize, u64)]) -> Result<Workload, WorkloadError> {
        let mut builder = WorkloadBuilder::new("w");
        for task in 0..tasks {
            builder.task(&format!("t{task}"), "code", task as u64);
        }
        edges.iter().for_each(|&(from, to, bytes)| builder.edge(from, to, bytes));
        builder.build()
    }

    #[test]
    fn edges_are_found_from_both_ends_and_equal_ones_are_one() {
        let workload = built(3, &[(1, 2, 5), (0, 2, 1), (0, 1, 3), (0, 2, 7)]).unwrap();
        assert_eq!(workload.edge_count(), 3);
        assert_eq!(workload.edges_out(0).map(|edge| (workload.target(edge), workload.bytes(edge))).collect::<Vec<_>>(), [(1, 3), (2, 8)]);
        assert_eq!(workload.edges_in(2).map(|(from, edge)| (from, workload.bytes(edge))).collect::<Vec<_>>(), [(0, 8), (1, 5)]);
        assert_eq!((workload.in_degree(0), workload.in_degree(2), workload.task_name(1)), (0, 2, "t1"));
    }

    #[test]
    fn a_circle_is_named_in_its_order() {
        let error = built(6, &[(0, 1, 0), (1, 2, 0), (2, 3, 0), (3, 1, 0), (3, 4, 0)]).unwrap_err();
        let WorkloadError::Cycle { tasks } = &error else { panic!("{error}") };
        let at = tasks.iter().position(|task| task == "t1").unwrap();
        assert_eq!([0, 1, 2].map(|step| tasks[(at + step) % 3].as_str()), ["t1", "t2", "t3"]);
        assert_eq!(built(1, &[(0, 0, 0)]).unwrap_err().to_string(), "tasks depend on each other in a circle: `t0` -> `t0`");
        assert_eq!(built(1, &[(0, 4, 0)]).unwrap_err(), WorkloadError::NoSuchTask { edge: 0, task: 4 });
    }

    #[test]
    fn the_order_is_the_smallest_that_respects_the_edges() {
        assert_eq!(built(4, &[(3, 0, 0), (2, 1, 0)]).unwrap().order(), [2, 1, 3, 0]);
        assert!(built(0, &[]).unwrap().order().is_empty());
    }
}
