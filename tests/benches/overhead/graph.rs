//! Graphs by hand: `chain`, `wavefront`, `metg`.

use std::time::Instant;

use poniard_bench::spin::spin;
use poniard_bench::{Stencil, System, Wavefront, metg, per_task};
use rayon::ThreadPool;

use crate::countdown::{Countdown, Shape};
use crate::{EFFORT, WORKERS};

/// So many cells, each of which needs the one before.
struct Chain(usize);

impl Shape for Chain {
    fn cell_count(&self) -> usize {
        self.0
    }

    fn needed_count(&self, cell: usize) -> u32 {
        u32::from(cell > 0)
    }

    fn for_successors(&self, cell: usize, mut each: impl FnMut(usize)) {
        if cell + 1 < self.0 {
            each(cell + 1);
        }
    }

    fn value(&self, cell: usize, value_of: impl Fn(usize) -> u64) -> u64 {
        if cell == 0 { 0 } else { value_of(cell - 1) + 1 }
    }
}

pub(crate) fn chain(pool: &ThreadPool) -> System<'_> {
    let count = EFFORT.chain();
    let mut graph = Countdown::new(Chain(count as usize + 1));
    System::new("rayon-countdown", format!("{WORKERS} workers, {count} tasks"), move || {
        graph.reset(|_| {});
        let time = per_task(count, || pool.scope(|scope| graph.run(scope, 0)));
        assert_eq!(graph.value(count as usize), count);
        time
    })
}

impl Shape for Wavefront {
    fn cell_count(&self) -> usize {
        self.edge * self.edge
    }

    fn needed_count(&self, cell: usize) -> u32 {
        u32::from(cell / self.edge > 0) + u32::from(!cell.is_multiple_of(self.edge))
    }

    fn for_successors(&self, cell: usize, mut each: impl FnMut(usize)) {
        if cell / self.edge + 1 < self.edge {
            each(cell + self.edge);
        }
        if cell % self.edge + 1 < self.edge {
            each(cell + 1);
        }
    }

    fn value(&self, cell: usize, value_of: impl Fn(usize) -> u64) -> u64 {
        let above = if cell >= self.edge { value_of(cell - self.edge) } else { u64::from(cell == 0) };
        if cell.is_multiple_of(self.edge) { above } else { above.wrapping_add(value_of(cell - 1)) }
    }
}

pub(crate) fn wavefront(pool: &ThreadPool) -> System<'_> {
    let grid = Wavefront::of(EFFORT);
    let expected = grid.expected();
    let mut graph = Countdown::new(grid);
    System::new("rayon-countdown", format!("{WORKERS} workers, {0} x {0} cells", grid.edge), move || {
        graph.reset(|_| {});
        let time = per_task(grid.cell_count(), || pool.scope(|scope| graph.run(scope, 0)));
        assert_eq!(graph.value(grid.edge * grid.edge - 1), expected);
        time
    })
}

/// A stencil whose cells spin for some iterations.
struct Spinning {
    stencil: Stencil,
    iterations: u64,
}

impl Shape for Spinning {
    fn cell_count(&self) -> usize {
        self.stencil.width * self.stencil.steps
    }

    fn needed_count(&self, cell: usize) -> u32 {
        if cell < self.stencil.width { 0 } else { self.stencil.needed(cell % self.stencil.width).count() as u32 }
    }

    fn for_successors(&self, cell: usize, mut each: impl FnMut(usize)) {
        let (step, column) = (cell / self.stencil.width, cell % self.stencil.width);
        if step + 1 < self.stencil.steps {
            // Neighbours need each other.
            self.stencil.needed(column).for_each(|successor| each((step + 1) * self.stencil.width + successor));
        }
    }

    fn value(&self, cell: usize, value_of: impl Fn(usize) -> u64) -> u64 {
        spin(self.iterations);
        let Some(row) = (cell / self.stencil.width).checked_sub(1) else { return 1 };
        let needed = self.stencil.needed(cell % self.stencil.width);
        needed.fold(1, |sum, column| sum.wrapping_add(value_of(row * self.stencil.width + column)))
    }
}

pub(crate) fn stencil(pool: &ThreadPool, width: usize) -> System<'_> {
    let stencil = Stencil::of_width(width);
    let expected = stencil.expected();
    let mut graph = Countdown::new(Spinning { stencil, iterations: 0 });
    let note = format!("{WORKERS} workers, work in a task at 50 % efficiency, {} steps", stencil.steps);
    System::new("rayon-countdown", note, move || {
        metg(stencil, WORKERS, EFFORT.metg_tries(), |iterations| {
            graph.reset(|spinning| spinning.iterations = iterations);
            let start = Instant::now();
            pool.scope(|scope| {
                for column in 1..width {
                    let graph = &graph;
                    scope.spawn(move |scope| graph.run(scope, column));
                }
                graph.run(scope, 0);
            });
            let time = start.elapsed();
            let last: Vec<u64> = (0..width).map(|column| graph.value((stencil.steps - 1) * width + column)).collect();
            assert_eq!(last, expected);
            time
        })
    })
}
