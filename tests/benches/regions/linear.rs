//! What tiled linear algebra on two threads costs as a region, beside two threads that do nothing but products of the same tiles: what a region adds to its tasks, and what it leaves idle.
//!
//! Figures are times for each floating-point operation of the problem, so those of a factorisation and of products can be compared.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use poniard::{Buffer, Mutable, Reading, Runtime, buffer, read, write};
use poniard_bench::{Effort, System};
use poniard_cli::samples::cholesky;
use poniard_cli::samples::product::accumulate;
use poniard_cli::samples::tile::Tile;

use super::peers::Peer;

/// Of the runtime, and those beside it.
pub(crate) const THREADS: usize = 2;

/// A matrix of `count` × `count` tiles of `edge` × `edge` elements.
#[derive(Clone, Copy)]
struct Shape {
    count: usize,
    edge: usize,
}

impl Shape {
    fn of(effort: Effort) -> Self {
        if effort == Effort::Quick { Self { count: 8, edge: 128 } } else { Self { count: 16, edge: 256 } }
    }

    fn size(self) -> usize {
        self.count * self.edge
    }

    /// Operations of the product of two tiles.
    fn product(self) -> f64 {
        2.0 * (self.edge as f64).powi(3)
    }

    fn tile(self, row: usize, column: usize, element: impl Fn(usize, usize) -> f64) -> Tile {
        let span = |index: usize| index * self.edge..(index + 1) * self.edge;
        let mut tile = Tile::zeroed(span(row), span(column)).expect("there is room");
        for ((offset_row, offset_column), value) in tile.view_mut().indexed_iter_mut() {
            *value = element(span(row).start + offset_row, span(column).start + offset_column);
        }
        tile
    }
}

type Tiles = Vec<Vec<Mutable<Tile>>>;

/// Some numbers from -1 to 1 that are the same each time.
fn element(row: usize, column: usize) -> f64 {
    ((row * 31 + column * 17) % 64) as f64 / 32.0 - 1.0
}

/// Symmetric, and larger on the diagonal than all the rest of a row together.
fn definite(row: usize, column: usize, size: usize) -> f64 {
    if row == column { 2.0 * size as f64 } else { element(row.max(column), row.min(column)) }
}

pub(crate) fn multiply(a: &Tile, b: &Tile, c: &mut Tile) {
    accumulate(c.view_mut(), 1.0, a.view(), b.view());
}

/// Calls `work` with each number below `count` on threads beside each other, which take them in turn; the time in ns.
fn on_threads(count: usize, work: impl Fn(usize) + Sync) -> f64 {
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Relaxed);
                    if index >= count {
                        break;
                    }
                    work(index);
                }
            });
        }
    });
    begin.elapsed().as_nanos() as f64
}

fn picoseconds(ns: f64, operations: f64) -> f64 {
    1000.0 * ns / operations
}

fn runtime() -> Runtime {
    Runtime::builder().threads(THREADS).build().expect("a runtime")
}

/// Bytes that the runtime has copied from memory to memory.
fn copied(runtime: &Runtime) -> u64 {
    let report = runtime.report();
    let processors = report.backends.iter().flat_map(|backend| &backend.processors);
    processors.map(|processor| processor.copied_to_bytes + processor.copied_from_bytes).sum()
}

/// `matrix` times `vector`.
fn times(shape: Shape, vector: &[f64], element: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let row = |row| (0..shape.size()).map(|column| element(row, column) * vector[column]).sum();
    (0..shape.size()).map(row).collect()
}

/// Panics unless the two agree as well as rounding lets them.
fn agree(found: &[f64], expected: &[f64], what: &str) {
    let largest = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 1e-9 * largest, "{what}: element {index} is {found} instead of {expected}");
    }
}

/// L (Lᵀ 1) of the lower tiles of L.
fn product_with_ones(lower: &[&Tile], size: usize) -> Vec<f64> {
    let (mut columns, mut found) = (vec![0.0; size], vec![0.0; size]);
    for tile in lower {
        for row in tile.view().rows() {
            row.iter().zip(&mut columns[tile.columns.clone()]).for_each(|(value, sum)| *sum += value);
        }
    }
    for tile in lower {
        for (row, sum) in tile.view().rows().into_iter().zip(&mut found[tile.rows.clone()]) {
            *sum += row.iter().zip(&columns[tile.columns.clone()]).map(|(value, factor)| value * factor).sum::<f64>();
        }
    }
    found
}

fn ones(shape: Shape) -> Buffer<f64> {
    let mut ones = buffer::zeroed(shape.size());
    ones.fill(1.0);
    ones
}

/// Looks at the tiles of a matrix, row by row: where they lie makes a tenth of a difference, so all systems have the same ones.
fn looks(tiles: &Tiles) -> Vec<Reading<'_, Tile>> {
    tiles.iter().flatten().map(|tile| tile.fetch().expect("no task has failed")).collect()
}

fn tiles_of<'a>(looks: &'a [Reading<'_, Tile>]) -> Vec<&'a Tile> {
    looks.iter().map(|look| &**look).collect()
}

/// The product of two matrices of tiles.
pub(crate) fn matmul(effort: Effort, peers: &[&'static Peer]) -> Vec<System<'static>> {
    let shape = Shape::of(effort);
    let n = shape.count;
    let tiles = |element: fn(usize, usize) -> f64| -> Tiles {
        (0..n).map(|row| (0..n).map(|column| Mutable::new(shape.tile(row, column, element))).collect()).collect()
    };
    let operands = Arc::new((tiles(element), tiles(|row, column| element(column, row + 1))));
    let b_times_one = times(shape, &ones(shape), |row, column| element(column, row + 1));
    let expected = Arc::new(times(shape, &b_times_one, element));
    let operations = shape.product() * (n * n * n) as f64;
    let check = move |c: &mut dyn Iterator<Item = (usize, Vec<f64>)>| {
        let mut found = vec![0.0; shape.size()];
        for (first, sums) in c {
            found[first..].iter_mut().zip(sums).for_each(|(to, sum)| *to += sum);
        }
        agree(&found, &expected, "the product of the product and ones");
    };
    let sums = |tile: &Tile| (tile.rows.start, tile.view().rows().into_iter().map(|row| row.sum()).collect::<Vec<f64>>());
    let zeros = move || (0..n * n).map(move |at| shape.tile(at / n, at % n, |_, _| 0.0));
    let of_peers = peers.iter().copied().map(|peer| {
        let (operands, check) = (Arc::clone(&operands), check.clone());
        System::new(peer.name, "the same loop in its tasks, on the same tiles", move || {
            let (a, b) = (looks(&operands.0), looks(&operands.1));
            let mut c: Vec<Tile> = zeros().collect();
            let ns = peer.matmul(n, &tiles_of(&a), &tiles_of(&b), &mut c);
            check(&mut c.iter().map(sums));
            picoseconds(ns, operations)
        })
    });
    let of_peers: Vec<System<'static>> = of_peers.collect();
    let (others, check_beside) = (Arc::clone(&operands), check.clone());
    let beside = move || {
        let (a, b) = (looks(&others.0), looks(&others.1));
        let (a, b) = (tiles_of(&a), tiles_of(&b));
        let c: Vec<Mutex<Tile>> = zeros().map(Mutex::new).collect();
        let ns = on_threads(n * n, |at| {
            let mut c = c[at].lock().unwrap_or_else(PoisonError::into_inner);
            (0..n).for_each(|k| multiply(a[at / n * n + k], b[k * n + at % n], &mut c));
        });
        check_beside(&mut c.into_iter().map(|tile| sums(&tile.into_inner().unwrap_or_else(PoisonError::into_inner))));
        picoseconds(ns, operations)
    };
    let runtime = runtime();
    let region = move |note: &mut String| {
        let (a, b) = &*operands;
        let c: Tiles = (0..n).map(|i| (0..n).map(|j| Mutable::new(shape.tile(i, j, |_, _| 0.0))).collect()).collect();
        let begin = Instant::now();
        let done = runtime.region(|r| {
            for i in 0..n {
                for j in 0..n {
                    for k in 0..n {
                        r.spawn(multiply, (read(&a[i][k]), read(&b[k][j]), write(&c[i][j])));
                    }
                }
            }
        });
        let ns = begin.elapsed().as_nanos() as f64;
        done.expect("no task fails");
        check(&mut c.iter().flatten().map(|tile| sums(&tile.fetch().expect("no task has failed"))));
        *note = format!("{} x {} in tiles of {}, bytes copied {}", shape.size(), shape.size(), shape.edge, copied(&runtime));
        picoseconds(ns, operations)
    };
    let own =
        [System::new("gemm-threads", "two threads with nothing but products of the same tiles", beside), System::telling("region", region)];
    own.into_iter().chain(of_peers).collect()
}

/// The Cholesky factor of a matrix of tiles.
pub(crate) fn factor(effort: Effort, peers: &[&'static Peer]) -> Vec<System<'static>> {
    let shape = Shape::of(effort);
    let (n, size) = (shape.count, shape.size());
    // As many products as a factorisation has, of as many different tiles.
    let products: Vec<(usize, usize, usize)> =
        (0..n).flat_map(|k| (k + 1..n).flat_map(move |i| (k + 1..=i).map(move |j| (i, j, k)))).collect();
    let beside = move || {
        let a: Vec<Tile> = (0..n * n).map(|at| shape.tile(at / n, at % n, element)).collect();
        let c: Vec<Mutex<Tile>> = (0..n * n).map(|at| Mutex::new(shape.tile(at / n, at % n, |_, _| 0.0))).collect();
        let ns = on_threads(products.len(), |at| {
            let (i, j, k) = products[at];
            let mut c = c[i * n + j].lock().unwrap_or_else(PoisonError::into_inner);
            accumulate(c.view_mut(), -1.0, a[i * n + k].view(), a[j * n + k].view().reversed_axes());
        });
        picoseconds(ns, shape.product() * products.len() as f64)
    };
    let expected = Arc::new(times(shape, &ones(shape), |row, column| definite(row, column, size)));
    let of_peers = peers.iter().copied().map(|peer| {
        let expected = Arc::clone(&expected);
        System::new(peer.name, "the same loop in its tasks, on the same tiles", move || {
            let tile = |at: usize| shape.tile(at / n, at % n, |row, column| definite(row, column, size));
            let mut a: Vec<Tile> = (0..n * n).map(tile).collect();
            let ns = peer.cholesky(n, &mut a);
            let lower: Vec<&Tile> = (0..n).flat_map(|row| (0..=row).map(move |column| row * n + column)).map(|at| &a[at]).collect();
            agree(&product_with_ones(&lower, size), &expected, "the product of the factors and ones");
            picoseconds(ns, (size as f64).powi(3) / 3.0)
        })
    });
    let of_peers: Vec<System<'static>> = of_peers.collect();
    let runtime = runtime();
    let region = move |note: &mut String| {
        let tile = |row, column| Mutable::new(shape.tile(row, column, |row, column| definite(row, column, size)));
        let a: Tiles = (0..n).map(|row| (0..=row).map(|column| tile(row, column)).collect()).collect();
        let begin = Instant::now();
        let done = cholesky::factor(&runtime, &a);
        let ns = begin.elapsed().as_nanos() as f64;
        done.expect("no task fails");
        let fetched: Vec<_> = a.iter().flatten().map(|tile| tile.fetch().expect("no task has failed")).collect();
        let lower: Vec<&Tile> = fetched.iter().map(|tile| &**tile).collect();
        agree(&product_with_ones(&lower, size), &expected, "the product of the factors and ones");
        *note = format!("{size} x {size} in tiles of {}, bytes copied {}", shape.edge, copied(&runtime));
        picoseconds(ns, (size as f64).powi(3) / 3.0)
    };
    let own =
        [System::new("gemm-threads", "two threads with nothing but products of such tiles", beside), System::telling("region", region)];
    own.into_iter().chain(of_peers).collect()
}
