//! Workloads of any size, from a name, a size and a seed.

use std::fmt;

use poniard::policy::Random;

use super::{Workload, WorkloadBuilder};

/// Bytes are chosen for links of so many bytes a second.
pub const REFERENCE_BYTES_PER_S: f64 = 1e9;
/// The most tasks that are generated.
pub const MOST_TASKS: u64 = 100_000_000;

/// What kind of graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape {
    /// Layers, as many as each has tasks; a task has up to three predecessors in the layer before. The size is the number of tasks.
    Layered,
    /// Tasks that branch into as many as there are rounds, and join again. The size is the number of tasks, at least.
    ForkJoin,
    /// Cholesky factorisation of a matrix of size x size tiles, right-looking.
    Cholesky,
    /// LU factorisation without pivots.
    Lu,
    /// QR factorisation with a flat tree.
    Qr,
    /// A row of size cells, as many times, each of which needs itself and its neighbours of the time before.
    Stencil,
    /// A butterfly over the next power of two of size points.
    Fft,
    /// Size leaves that are reduced two by two.
    Tree,
    /// Size tasks in a chain.
    Chain,
    /// Size tasks that need nothing.
    Independent,
    /// Tasks with up to six predecessors each among all before. The size is the number of tasks.
    Random,
}

const SHAPES: [(&str, Shape); 11] = [
    ("layered", Shape::Layered),
    ("fork-join", Shape::ForkJoin),
    ("cholesky", Shape::Cholesky),
    ("lu", Shape::Lu),
    ("qr", Shape::Qr),
    ("stencil", Shape::Stencil),
    ("fft", Shape::Fft),
    ("tree", Shape::Tree),
    ("chain", Shape::Chain),
    ("independent", Shape::Independent),
    ("random", Shape::Random),
];

/// What to generate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Generate {
    /// The kind of graph.
    pub shape: Shape,
    /// How large: what it counts depends on the shape.
    pub size: u64,
    /// How long the data of an edge travels at [`REFERENCE_BYTES_PER_S`] in the mean, as a multiple of the mean work of a task.
    pub ccr: f64,
    /// For shapes of tiles: how many rows and columns of 4 bytes a tile has, instead of what the ratio comes to.
    pub tile: Option<u64>,
    /// Where random numbers begin.
    pub seed: u64,
}

/// A text names no workload that can be generated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerateError(String);

impl fmt::Display for GenerateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for GenerateError {}

impl Generate {
    /// Whether a text begins as one does that names a workload: `layered:`.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.split_once(':').is_some_and(|(name, _)| SHAPES.iter().any(|(known, _)| *known == name))
    }

    /// Reads `NAME:SIZE`, with `,ccr=X`, `,tile=N` and `,seed=N` behind it: `cholesky:16,ccr=0.5`.
    ///
    /// # Errors
    /// There is no such shape, or a number is none or out of range.
    pub fn parse(text: &str) -> Result<Self, GenerateError> {
        let fail = |reason: String| GenerateError(format!("`{text}`: {reason}"));
        let names = || SHAPES.map(|(name, _)| name).join(", ");
        let Some((name, rest)) = text.split_once(':') else { return Err(fail("a generated workload is written NAME:SIZE".into())) };
        let Some((_, shape)) = SHAPES.into_iter().find(|(known, _)| *known == name) else {
            return Err(fail(format!("no shape is called `{name}`; there are {}", names())));
        };
        let mut words = rest.split(',');
        let size = words.next().unwrap_or_default();
        let size: u64 = size.parse().map_err(|_| fail(format!("its size is no whole number: `{size}`")))?;
        let mut generate = Self { shape, size, ccr: 0.1, tile: None, seed: 0 };
        for word in words {
            match word.split_once('=') {
                Some(("ccr", value)) => {
                    let ccr = value.parse().ok().filter(|ccr: &f64| ccr.is_finite() && (0.0..=1e6).contains(ccr));
                    generate.ccr = ccr.ok_or_else(|| fail(format!("ccr is no number between 0 and 1e6: `{value}`")))?;
                }
                Some(("seed", value)) => generate.seed = value.parse().map_err(|_| fail(format!("seed is no whole number: `{value}`")))?,
                Some(("tile", value)) => {
                    let tile = value.parse().ok().filter(|tile| (1..=1_000_000).contains(tile));
                    generate.tile = Some(tile.ok_or_else(|| fail(format!("tile is no whole number from 1 to 1e6: `{value}`")))?);
                }
                _ => return Err(fail(format!("`{word}` is none of ccr=X, tile=N and seed=N"))),
            }
        }
        let tasks = generate.task_estimate();
        if tasks > MOST_TASKS as f64 {
            return Err(fail(format!("it has {tasks:.0} tasks, and the most is {MOST_TASKS}")));
        }
        Ok(generate)
    }

    /// About how many tasks it has.
    fn task_estimate(&self) -> f64 {
        let n = self.size as f64;
        match self.shape {
            Shape::Cholesky => n * (n + 1.0) * (n + 2.0) / 6.0,
            Shape::Lu | Shape::Qr => n * (n + 1.0) * (2.0 * n + 1.0) / 6.0,
            Shape::Stencil => n * n,
            Shape::Fft => n * (n.max(2.0).log2() + 1.0),
            Shape::Tree => 2.0 * n,
            _ => n,
        }
    }

    /// About how many bytes of memory a simulation of it takes, at least: what is kept of each task and edge. Tasks that are ready at a time take more under a policy.
    #[must_use]
    pub fn bytes_estimate(&self) -> u64 {
        const TASK_BYTES: f64 = 110.0;
        const EDGE_BYTES: f64 = 40.0;
        let edges_of_task = match self.shape {
            Shape::Independent => 0.0,
            Shape::Chain | Shape::Tree => 1.0,
            Shape::ForkJoin | Shape::Fft => 2.0,
            Shape::Layered | Shape::Cholesky | Shape::Lu | Shape::Qr | Shape::Stencil | Shape::Random => 3.0,
        };
        (self.task_estimate() * (TASK_BYTES + EDGE_BYTES * edges_of_task)) as u64
    }

    /// The workload. Tasks that are no tiles take between 1 and 99 ms.
    #[must_use]
    pub fn workload(&self) -> Workload {
        let name = SHAPES.into_iter().find(|(_, shape)| *shape == self.shape).map_or("workload", |(name, _)| name);
        let mut making = Making {
            builder: WorkloadBuilder::new(&format!("{name}-{}", self.size)),
            random: Random::new(self.seed),
            ccr: self.ccr,
            tile: self.tile,
        };
        let size = self.size as usize;
        match self.shape {
            Shape::Layered => making.layered(size),
            Shape::ForkJoin => making.fork_join(size),
            Shape::Cholesky => making.cholesky(size),
            Shape::Lu => making.lu(size),
            Shape::Qr => making.qr(size),
            Shape::Stencil => making.stencil(size),
            Shape::Fft => making.fft(size),
            Shape::Tree => making.tree(size),
            Shape::Chain => making.chain(size),
            Shape::Independent => (0..size).for_each(|_| _ = making.task()),
            Shape::Random => making.random(size),
        }
        match making.builder.build() {
            Ok(workload) => workload,
            Err(error) => unreachable!("edges go to later tasks: {error}"),
        }
    }
}

const MS: u64 = 1_000_000;
/// The mean work of a task.
const MEAN_NS: u64 = 50 * MS;

struct Making {
    builder: WorkloadBuilder,
    random: Random,
    ccr: f64,
    tile: Option<u64>,
}

/// Which task wrote each tile last, and which have read it since.
struct Tiles {
    size: usize,
    writers: Vec<Option<usize>>,
    readers: Vec<Vec<usize>>,
    bytes: u64,
}

impl Tiles {
    fn new(size: usize, making: &Making) -> Self {
        let bytes = making.tile.map_or_else(|| bytes_of(making.ccr, 6 * 10 * MS), |tile| tile * tile * 4);
        Self { size, writers: vec![None; size * size], readers: vec![Vec::new(); size * size], bytes }
    }
}

/// So many bytes travel for `ccr` times so long.
fn bytes_of(ccr: f64, ns: u64) -> u64 {
    (ccr * ns as f64 / 1e9 * REFERENCE_BYTES_PER_S).round() as u64
}

impl Making {
    fn task(&mut self) -> usize {
        let work_ns = (1 + self.random.below(99) as u64) * MS;
        let name = format!("t{}", self.builder.len());
        self.builder.task(&name, "task", work_ns)
    }

    fn edge(&mut self, from: usize, to: usize) {
        // Between nothing and twice the mean.
        let mean = bytes_of(self.ccr, MEAN_NS);
        let bytes = self.random.below(usize::try_from(2 * mean + 1).unwrap_or(usize::MAX)) as u64;
        self.builder.edge(from, to, bytes);
    }

    fn layered(&mut self, size: usize) {
        let width = ((size as f64).sqrt().round() as usize).max(1);
        for task in 0..size {
            self.task();
            let layer = task / width;
            if layer == 0 {
                continue;
            }
            for _ in 0..3 {
                let from = (layer - 1) * width + self.random.below(width);
                self.edge(from, task);
            }
        }
    }

    fn fork_join(&mut self, size: usize) {
        let width = ((size as f64).sqrt().round() as usize).max(1);
        let mut last = self.task();
        while self.builder.len() < size {
            let branches: Vec<usize> = (0..width).map(|_| self.task()).collect();
            let join = self.task();
            for branch in branches {
                self.edge(last, branch);
                self.edge(branch, join);
            }
            last = join;
        }
    }

    fn chain(&mut self, size: usize) {
        for task in 0..size {
            self.task();
            if task > 0 {
                self.edge(task - 1, task);
            }
        }
    }

    fn stencil(&mut self, size: usize) {
        for time in 0..size {
            for cell in 0..size {
                let task = self.task();
                if time == 0 {
                    continue;
                }
                for near in cell.saturating_sub(1)..=(cell + 1).min(size - 1) {
                    self.edge((time - 1) * size + near, task);
                }
            }
        }
    }

    fn fft(&mut self, size: usize) {
        let points = size.max(1).next_power_of_two();
        for rank in 0..=points.trailing_zeros() as usize {
            for point in 0..points {
                let task = self.task();
                if rank > 0 {
                    let before = (rank - 1) * points;
                    self.edge(before + point, task);
                    self.edge(before + (point ^ (1 << (rank - 1))), task);
                }
            }
        }
    }

    fn tree(&mut self, size: usize) {
        let mut level: Vec<usize> = (0..size).map(|_| self.task()).collect();
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => {
                        let task = self.task();
                        self.edge(*left, task);
                        self.edge(*right, task);
                        task
                    }
                    _ => pair[0],
                })
                .collect();
        }
    }

    fn random(&mut self, size: usize) {
        for task in 0..size {
            self.task();
            if task > 0 {
                for _ in 0..self.random.below(7) {
                    let from = self.random.below(task);
                    self.edge(from, task);
                }
            }
        }
    }

    /// A task on tiles: it reads some, and changes some. `units` of ten milliseconds.
    fn tile_task(&mut self, tiles: &mut Tiles, code: &str, units: u64, at: &[usize], reads: &[(usize, usize)], writes: &[(usize, usize)]) {
        let name = at.iter().fold(code.to_owned(), |name, index| format!("{name}-{index}"));
        let task = self.builder.task(&name, code, units * 10 * MS);
        for (row, column) in reads.iter().chain(writes) {
            if let Some(writer) = tiles.writers[row * tiles.size + column] {
                self.builder.edge(writer, task, tiles.bytes);
            }
        }
        for (row, column) in reads {
            tiles.readers[row * tiles.size + column].push(task);
        }
        for (row, column) in writes {
            let tile = row * tiles.size + column;
            for reader in std::mem::take(&mut tiles.readers[tile]) {
                if reader != task {
                    self.builder.edge(reader, task, 0);
                }
            }
            tiles.writers[tile] = Some(task);
        }
    }

    fn cholesky(&mut self, size: usize) {
        let tiles = &mut Tiles::new(size, self);
        for k in 0..size {
            self.tile_task(tiles, "potrf", 1, &[k], &[], &[(k, k)]);
            for m in k + 1..size {
                self.tile_task(tiles, "trsm", 3, &[m, k], &[(k, k)], &[(m, k)]);
            }
            for n in k + 1..size {
                for m in n..size {
                    if m == n {
                        self.tile_task(tiles, "syrk", 3, &[n, k], &[(n, k)], &[(n, n)]);
                    } else {
                        self.tile_task(tiles, "gemm", 6, &[m, n, k], &[(m, k), (n, k)], &[(m, n)]);
                    }
                }
            }
        }
    }

    fn lu(&mut self, size: usize) {
        let tiles = &mut Tiles::new(size, self);
        for k in 0..size {
            self.tile_task(tiles, "getrf", 2, &[k], &[], &[(k, k)]);
            for n in k + 1..size {
                self.tile_task(tiles, "trsm-row", 3, &[k, n], &[(k, k)], &[(k, n)]);
            }
            for m in k + 1..size {
                self.tile_task(tiles, "trsm-column", 3, &[m, k], &[(k, k)], &[(m, k)]);
            }
            for m in k + 1..size {
                for n in k + 1..size {
                    self.tile_task(tiles, "gemm", 6, &[m, n, k], &[(m, k), (k, n)], &[(m, n)]);
                }
            }
        }
    }

    fn qr(&mut self, size: usize) {
        let tiles = &mut Tiles::new(size, self);
        for k in 0..size {
            self.tile_task(tiles, "geqrt", 4, &[k], &[], &[(k, k)]);
            for n in k + 1..size {
                self.tile_task(tiles, "unmqr", 6, &[k, n], &[(k, k)], &[(k, n)]);
            }
            for m in k + 1..size {
                self.tile_task(tiles, "tsqrt", 6, &[m, k], &[], &[(k, k), (m, k)]);
                for n in k + 1..size {
                    self.tile_task(tiles, "tsmqr", 12, &[m, n, k], &[(m, k)], &[(k, n), (m, n)]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(text: &str) -> Workload {
        Generate::parse(text).unwrap().workload()
    }

    #[test]
    fn shapes_have_the_tasks_and_edges_that_they_should() {
        for (text, tasks, edges) in [
            ("chain:5", 5, 4),
            ("independent:7", 7, 0),
            ("tree:5", 9, 8),
            ("stencil:3", 9, 14),
            ("fft:4", 12, 16),
            ("fft:3", 12, 16),
            ("cholesky:4", 20, 30),
            ("lu:3", 14, 0),
            ("qr:3", 14, 0),
            ("layered:0", 0, 0),
            ("layered:1000", 1000, 0),
            ("random:50", 50, 0),
        ] {
            let workload = made(text);
            assert_eq!(workload.len(), tasks, "{text}");
            if edges > 0 {
                assert_eq!(workload.edge_count(), edges, "{text}");
            }
        }
        // Every tile task but the first needs something.
        for text in ["cholesky:5", "lu:5", "qr:5"] {
            let workload = made(text);
            assert_eq!((0..workload.len()).filter(|task| workload.in_degree(*task) == 0).count(), 1, "{text}");
        }
    }

    #[test]
    fn the_seed_says_what_comes_and_the_ratio_how_many_bytes() {
        assert_eq!(made("random:100,seed=3"), made("random:100,seed=3"));
        assert_ne!(made("random:100,seed=3"), made("random:100,seed=4"));
        let workload = made("layered:10000,ccr=2");
        let edges = workload.edge_count();
        let bytes: u64 = (0..edges).map(|edge| workload.bytes(edge)).sum();
        let work: u64 = (0..workload.len()).map(|task| workload.work_ns(task)).sum();
        let ratio = bytes as f64 / REFERENCE_BYTES_PER_S * 1e9 / edges as f64 / (work as f64 / workload.len() as f64);
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
        assert_eq!(made("cholesky:2,tile=960").bytes(0), 3_686_400);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let wrong = |text: &str| Generate::parse(text).unwrap_err().to_string();
        assert_eq!(wrong("layered"), "`layered`: a generated workload is written NAME:SIZE");
        assert!(wrong("layerd:3").starts_with("`layerd:3`: no shape is called `layerd`; there are layered, fork-join, "));
        assert_eq!(wrong("layered:x"), "`layered:x`: its size is no whole number: `x`");
        assert_eq!(wrong("layered:3,ccr=-1"), "`layered:3,ccr=-1`: ccr is no number between 0 and 1e6: `-1`");
        assert_eq!(wrong("layered:3,width=2"), "`layered:3,width=2`: `width=2` is none of ccr=X, tile=N and seed=N");
        assert_eq!(wrong("lu:3,tile=0"), "`lu:3,tile=0`: tile is no whole number from 1 to 1e6: `0`");
        assert_eq!(wrong("cholesky:10000"), "`cholesky:10000`: it has 166716670000 tasks, and the most is 100000000");
        assert!(Generate::is_meant("fft:2") && !Generate::is_meant("a.json"));
    }
}
