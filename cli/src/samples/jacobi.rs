//! `jacobi`: heat spreads over a plate, sweep by sweep. A task reads a tile of one matrix and one cell around it, and writes the same tile of another; there is no barrier between sweeps, and nothing is
//! copied from tile to tile: what a tile's neighbours read of it are parts of the matrix that overlap it. Worker processes take part, as the matrices lie in buffers.
//!
//! The cells at the edge of the plate keep their heat: the upper ones are hot, the others cold. Source: Jacobi's method for the five-point stencil of Laplace's equation.

use ndarray::s;
use poniard::{Buffer, Handle, Mutable, Part, PartError, RegionError, View, ViewMut, buffer, overwrite, read};

use super::picture::encode;
use super::tiling::Tiling;
use super::{files, limits};
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "jacobi",
    summary: "heat on a plate: tiles of two whole matrices, with halos that overlap their neighbours",
    options: &[
        SampleOption { name: "size", meaning: "rows and columns of the plate, at least 3, default 512" },
        SampleOption { name: "tile", meaning: "rows and columns of a tile, default 128" },
        SampleOption { name: "generations", meaning: "number of sweeps, default 100" },
        SampleOption { name: "output", meaning: "a .png file; a pixel a cell, hot ones bright" },
    ],
    kernels: false,
    run,
};

/// The tasks of a region need no memory of their own for long, but somebody has to wait for them.
const MOST_TASKS: u64 = 1 << 30;

/// A sweep over one tile: each cell becomes the mean of its four neighbours.
fn relax(from: View<'_, f64>, mut to: ViewMut<'_, f64>) {
    for row in 0..to.shape()[0] {
        let (above, here, below) = (from.row(row), from.row(row + 1), from.row(row + 2));
        for (column, cell) in to.row_mut(row).iter_mut().enumerate() {
            *cell = mean(above[column + 1], below[column + 1], here[column], here[column + 2]);
        }
    }
}

/// Rounded, so its order is part of what it means.
fn mean(above: f64, below: f64, left: f64, right: f64) -> f64 {
    ((above + below) + (left + right)) / 4.0
}

/// Row by row: hot above, cold elsewhere.
fn plate(size: usize) -> Buffer<f64> {
    let mut plate = buffer::zeroed(size * size);
    plate[..size].fill(1.0);
    plate
}

/// A tile with its halo, and without it.
type Both = (Part<f64>, Part<f64>);

/// The tiles of what is not at the edge of the plate.
fn tiles(plate: &Mutable<Buffer<f64>>, size: usize, tiling: Tiling) -> Result<Vec<Both>, PartError> {
    let plate = plate.whole()?.shaped((size, size))?;
    let mut tiles = Vec::new();
    for row in 0..tiling.count() {
        for column in 0..tiling.count() {
            let inside = |span: std::ops::Range<usize>| span.start + 1..span.end + 1;
            let tile = plate.part(s![inside(tiling.span(row)), inside(tiling.span(column))])?;
            tiles.push((tile.with_halo(1)?, tile));
        }
    }
    Ok(tiles)
}

/// Sweeps to and fro between two plates.
fn sweep(
    handle: &Handle,
    plates: &[Mutable<Buffer<f64>>; 2],
    size: usize,
    tiling: Tiling,
    sweeps: u64,
) -> Result<Result<(), PartError>, RegionError> {
    handle.region(|r| {
        let [one, two] = [tiles(&plates[0], size, tiling)?, tiles(&plates[1], size, tiling)?];
        for sweep in 0..sweeps {
            let (from, to) = if sweep % 2 == 0 { (&one, &two) } else { (&two, &one) };
            for ((halo, _), (_, tile)) in from.iter().zip(to) {
                r.spawn(relax, (read(halo), overwrite(tile)));
            }
        }
        Ok(())
    })
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = limits::count("size", context.size, 512, 1 << 16)?;
    if size < 3 {
        return Err(SampleError::Usage {
            option: "size",
            reason: format!("{size} is too small: a plate without its edge has cells from 3 on"),
        });
    }
    let tiling = Tiling::new(size - 2, limits::count("tile", context.tile, 128, u64::MAX)?);
    let sweeps = context.generations.unwrap_or(100);
    let tiles = (tiling.count() as u64).pow(2);
    // Each is known to its matrix as a part, with and without its halo.
    limits::tasks("tile", Some(2 * tiles))?;
    if tiles.checked_mul(sweeps).is_none_or(|tasks| tasks > MOST_TASKS) {
        let reason = format!("{sweeps} sweeps over {tiles} tiles are too many tasks: at most {MOST_TASKS}");
        return Err(SampleError::Usage { option: "generations", reason });
    }
    files::check_output(context, &["png"])?;
    // Two plates, two of the check, and a picture.
    limits::memory("size", (size as u64).pow(2).checked_mul(4 * 8 + 2))?;

    let plates = [(); 2].map(|()| Mutable::new(plate(size)));
    sweep(context.runtime, &plates, size, tiling, sweeps)?.expect("tiles are inside their plates");
    let last = plates[(sweeps % 2) as usize].fetch()?;
    context.progress.advance(tiles * sweeps, tiles * sweeps);

    let (middle, mean) = (last[size / 2 * size + size / 2], last.iter().sum::<f64>() / last.len() as f64);
    let pixels = || last.iter().map(|heat| (heat * 255.0).round() as u8).collect::<Vec<u8>>();
    Ok(Outcome {
        lines: vec![
            format!("after {sweeps} sweeps of {size} x {size} cells: mean {mean:.6}, in the middle {middle:.3e}"),
            format!("{tiles} tiles, each with a halo"),
        ],
        values: vec![
            ("sweeps", sweeps.into()),
            ("size", size.into()),
            ("tiles", tiles.into()),
            ("mean", mean.into()),
            ("middle", middle.into()),
        ],
        check: check(&last, size, sweeps),
        output: context.output.map(|_| encode(&pixels(), size, size, 1)),
    })
}

/// Computes on a whole plate, cell by cell; the operations are the same, so the plain loop must agree to the last bit.
fn check(last: &[f64], size: usize, sweeps: u64) -> Check {
    let at = |row: usize, column: usize| row * size + column;
    let mut now: Vec<f64> = (0..size * size).map(|cell| f64::from(cell < size)).collect();
    let mut next = now.clone();
    for _ in 0..sweeps {
        for row in 1..size - 1 {
            for column in 1..size - 1 {
                let vertical = now[at(row - 1, column)] + now[at(row + 1, column)];
                let horizontal = now[at(row, column - 1)] + now[at(row, column + 1)];
                next[at(row, column)] = (vertical + horizontal) / 4.0;
            }
        }
        std::mem::swap(&mut now, &mut next);
    }
    // NaN differs from everything.
    let different = last.iter().zip(&now).filter(|(heat, expected)| heat != expected).count();
    Check { passed: different == 0, text: format!("{different} of {} cells differ from a plain loop", size * size) }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn runs_at_awkward_sizes() {
        for (size, tile, sweeps) in [(3, 1, 5), (4, 1, 4), (9, 3, 7), (10, 3, 7), (10, 100, 3), (40, 7, 20), (5, u64::MAX, 1), (8, 2, 0)] {
            Trial { size: Some(size), tile: Some(tile), generations: Some(sweeps), ..Trial::default() }.passes(&SAMPLE);
        }
    }

    #[test]
    fn one_sweep_is_what_pencil_and_paper_say() {
        let outcome = Trial { size: Some(3), generations: Some(1), output: Some("heat.png".into()), ..Trial::default() }.passes(&SAMPLE);
        assert!(outcome.values.contains(&("middle", 0.25.into())), "{:?}", outcome.values);
        assert_eq!(outcome.output.unwrap(), encode(&[255, 255, 255, 0, 64, 0, 0, 0, 0], 3, 3, 1));
    }

    #[test]
    fn refuses_options_without_sense() {
        for size in [0, 1, 2, 1 << 20, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
        Trial { tile: Some(0), ..Trial::default() }.refused(&SAMPLE, "tile");
        Trial { size: Some(2048), tile: Some(1), ..Trial::default() }.refused(&SAMPLE, "tile");
        for sweeps in [1 << 29, u64::MAX] {
            Trial { generations: Some(sweeps), ..Trial::default() }.refused(&SAMPLE, "generations");
        }
        Trial { output: Some("heat.npy".into()), ..Trial::default() }.refused(&SAMPLE, "output");
    }

    #[test]
    fn check_notices_one_wrong_cell() {
        let mut once = plate(3);
        once[4] = 0.25;
        assert!(check(&once, 3, 1).passed);
        assert!(check(&plate(3), 3, 0).passed && !check(&plate(3), 3, 1).passed);
        for wrong in [0.25 + f64::EPSILON, f64::NAN] {
            once[4] = wrong;
            assert!(!check(&once, 3, 1).passed, "{wrong}");
        }
    }
}
