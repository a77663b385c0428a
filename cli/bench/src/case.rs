//! What can be measured, by name.

/// One thing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Case {
    /// Its name on the command line.
    pub name: &'static str,
    /// What its figures count.
    pub unit: &'static str,
    /// What is measured, in a few words.
    pub summary: &'static str,
    /// The same for programs.
    pub kind: Kind,
}

/// What a case measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Tasks that depend on nothing, spawned inside a task.
    Independent,
    /// Tasks of which each depends on the one before.
    Chain,
    /// A binary tree of spawns inside tasks.
    Tree,
    /// A Fibonacci number by fork and join.
    Join,
    /// Tasks with two dependencies, spawned inside one task.
    TwoDeps,
    /// A square grid of cells that need the one above and the one to the left.
    Wavefront,
    /// Tasks that depend on nothing, spawned by one thread that is no worker.
    Flood,
    /// The smallest worthwhile task of a stencil of this many columns.
    Metg(usize),
    /// So many tasks that depend on nothing: does a task's cost grow with their number?
    Growth(u64),
    /// Processor time of a runtime that has nothing to do.
    Idle,
    /// What the machine takes to bring word from one core to another.
    PingPong,
    /// Calls of the allocator.
    Allocations,
    /// Memory of tasks that wait.
    BytesPerTask,
}

/// A case of the table below.
const fn case(name: &'static str, unit: &'static str, kind: Kind, summary: &'static str) -> Case {
    Case { name, unit, summary, kind }
}

/// All cases, in the order in which they are measured.
pub static CASES: [Case; 17] = [
    case("independent", "ns/task", Kind::Independent, "tasks that depend on nothing, spawned inside a task"),
    case("chain", "ns/task", Kind::Chain, "tasks of which each depends on the one before"),
    case("tree", "ns/task", Kind::Tree, "a tree of tasks that spawn two tasks each, 2^20 leaves"),
    case("join", "ns/join", Kind::Join, "fib(25) by fork and join"),
    case("two-deps", "ns/task", Kind::TwoDeps, "tasks with two dependencies each, spawned inside one task"),
    case("wavefront", "ns/task", Kind::Wavefront, "1000 x 1000 cells that need the one above and the one to the left"),
    case("flood", "ns/task", Kind::Flood, "10^6 tasks from one thread that is no worker"),
    case("metg-w2", "us", Kind::Metg(2), "the smallest task for which half of the time is work, if below 20: a stencil of 2 columns"),
    case("metg-w8", "us", Kind::Metg(8), "the same, 8 columns"),
    case("growth-1e4", "ns/task", Kind::Growth(10_000), "10^4 tasks that depend on nothing"),
    case("growth-1e5", "ns/task", Kind::Growth(100_000), "10^5 of them"),
    case("growth-1e6", "ns/task", Kind::Growth(1_000_000), "10^6 of them"),
    case("growth-1e7", "ns/task", Kind::Growth(10_000_000), "10^7 of them"),
    case("idle", "%", Kind::Idle, "processor time of a runtime without tasks, in per cent of one core"),
    case("ping-pong", "ns", Kind::PingPong, "word from one core to another and back, without any runtime"),
    case("allocations", "allocs/task", Kind::Allocations, "calls of the allocator for a task, in the long run"),
    case("bytes-per-task", "bytes/task", Kind::BytesPerTask, "memory of a task that waits for another"),
];

impl Case {
    /// The case called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        CASES.iter().find(|case| case.name == name)
    }
}

/// How much time to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// A few seconds for all cases: an eighth of the tasks, few samples, and the larger sizes of `growth` only by name.
    Quick,
    /// Some ten seconds.
    Normal,
    /// Half a minute.
    Thorough,
}

impl Effort {
    /// How often each system of a case is measured.
    pub fn sample_count(self, case: &Case) -> usize {
        let [quick, normal, thorough] = match case.kind {
            Kind::Growth(10_000_000) => [1, 1, 3],
            Kind::Idle => [1, 3, 5],
            Kind::Metg(_) => [1, 3, 7],
            Kind::Allocations | Kind::BytesPerTask => [1, 3, 5],
            _ => [3, 5, 11],
        };
        match self {
            Self::Quick => quick,
            Self::Normal => normal,
            Self::Thorough => thorough,
        }
    }

    /// Whether a case is measured when none is named.
    pub fn includes(self, case: &Case) -> bool {
        self != Self::Quick || !matches!(case.kind, Kind::Growth(count) if count > 100_000)
    }

    /// A number of tasks: `full`, or an eighth of it.
    pub fn scaled(self, full: u64) -> u64 {
        if self == Self::Quick { full / 8 } else { full }
    }

    /// Tasks of the cases `independent` and `flood`.
    pub fn flood(self) -> u64 {
        self.scaled(1_000_000)
    }

    /// Tasks of the case `chain`, without the first.
    pub fn chain(self) -> u64 {
        self.scaled(300_000)
    }

    /// Levels of the case `tree` below its root: it has two to the power of this many leaves.
    pub fn tree_depth(self) -> u32 {
        if self == Self::Quick { 17 } else { 20 }
    }

    /// Which Fibonacci number the case `join` computes, what it is, and how many joins that takes.
    pub fn fib(self) -> Fib {
        let n = if self == Self::Quick { 20 } else { 25 };
        let (mut value, mut next) = (0, 1);
        for _ in 0..n {
            (value, next) = (next, value + next);
        }
        Fib { n, value, join_count: next - 1 }
    }

    /// How often a stencil runs for one efficiency in the cases `metg`: the shortest time counts.
    pub fn metg_tries(self) -> usize {
        match self {
            Self::Quick => 1,
            Self::Normal => 2,
            Self::Thorough => 3,
        }
    }
}

/// A Fibonacci number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fib {
    /// Which one.
    pub n: u64,
    /// What it is.
    pub value: u64,
    /// Calls with `n` of 2 or more in the plain recursion: F(n + 1) - 1.
    pub join_count: u64,
}
