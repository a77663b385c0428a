//! `vecsum`: the sum of a vector in two ways that need no lock. In one, a task for each block writes its sum to a place of its own, and a last task, which reads all places, adds them up. In the other, tasks reduce:
//! each adds its block to whatever copy of the sum is free, and the copies are added up before anybody looks. Vector and places lie in buffers, which worker processes use where they are.

use ndarray::s;
use poniard::{Buffer, Mutable, PartError, View, ViewMut, buffer, overwrite, read, reduce};

use super::limits;
use super::random::Random;
use super::tiling::Tiling;
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "vecsum",
    summary: "the sum of a vector: blocks that write to places of their own, and a reduction",
    options: &[
        SampleOption { name: "size", meaning: "length of the vector, default 1000000" },
        SampleOption { name: "tile", meaning: "length of a block, default 16384, more for long vectors" },
        SampleOption { name: "seed", meaning: "what the numbers are drawn from, default 0" },
    ],
    kernels: false,
    run,
};

/// What the numbers are below. So no sum is beyond the range of u64, whose sums are the same in every order.
const BOUND: u64 = 1000;
/// The most blocks that are chosen for the user.
const MOST_BLOCKS: u64 = 4096;

fn sum(block: View<'_, u64>) -> u64 {
    block.as_slice().unwrap_or_default().iter().sum()
}

fn write_sum(block: View<'_, u64>, mut place: ViewMut<'_, u64>) {
    place[0] = sum(block);
}

fn add_sum(block: View<'_, u64>, total: &mut u64) {
    *total += sum(block);
}

fn add_up(places: &Buffer<u64>) -> u64 {
    places.iter().sum()
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let size = limits::count("size", context.size, 1_000_000, 1 << 40)?;
    limits::memory("size", (size as u64).checked_mul(8))?;
    let default_tile = (size as u64).div_ceil(MOST_BLOCKS).max(16_384);
    let tiling = Tiling::new(size, limits::count("tile", context.tile, default_tile, u64::MAX)?);
    let blocks = tiling.count();
    limits::tasks("tile", Some(2 * blocks as u64 + 1))?;

    let mut random = Random::new(context.seed, 0);
    let vector = Mutable::new(buffer::from_fn(size, |_| random.below(BOUND)));
    let (places, total) = (Mutable::new(buffer::zeroed(blocks)), Mutable::new(0));
    let planned: Result<_, PartError> = context.runtime.region(|r| {
        for index in 0..blocks {
            let block = vector.part(s![tiling.span(index)])?;
            r.spawn(write_sum, (read(&block), overwrite(&places.part(s![index..=index])?)));
            r.spawn(add_sum, (read(&block), reduce(&total, || 0, |total, more| *total += more)));
        }
        Ok(r.spawn(add_up, (read(&places),)))
    })?;
    let by_places = planned.expect("blocks are parts of the vector").take()?;
    let by_reduction = total.take()?;
    context.progress.advance(2 * blocks as u64 + 1, 2 * blocks as u64 + 1);

    Ok(Outcome {
        lines: vec![format!("sum of {size} numbers in {blocks} blocks: {by_places}; by a reduction: {by_reduction}")],
        values: vec![
            ("size", size.into()),
            ("blocks", blocks.into()),
            ("sum", by_places.into()),
            ("sum_by_reduction", by_reduction.into()),
        ],
        check: check([by_places, by_reduction], size, context.seed),
        output: None,
    })
}

/// Draws the numbers again and adds them up in a plain loop.
fn check(sums: [u64; 2], size: usize, seed: u64) -> Check {
    let mut random = Random::new(seed, 0);
    let mut expected = 0;
    for _ in 0..size {
        expected += random.below(BOUND);
    }
    Check { passed: sums == [expected; 2], text: format!("{} and {} beside {expected} by a plain loop", sums[0], sums[1]) }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    #[test]
    fn runs_at_awkward_sizes() {
        for (size, tile) in [(1, 1), (1, 256), (5, 2), (6, 2), (1000, 7), (1000, 1000), (3, u64::MAX)] {
            Trial { size: Some(size), tile: Some(tile), seed: size, ..Trial::default() }.passes(&SAMPLE);
        }
    }

    #[test]
    fn a_million_numbers_are_the_default() {
        let outcome = Trial::default().passes(&SAMPLE);
        assert!(outcome.values.contains(&("size", 1_000_000.into())) && outcome.values.contains(&("blocks", 62.into())));
    }

    #[test]
    fn refuses_options_without_sense() {
        for size in [0, 1 << 40, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
        for tile in [0, 1] {
            Trial { tile: Some(tile), ..Trial::default() }.refused(&SAMPLE, "tile");
        }
    }

    #[test]
    fn check_notices_either_sum() {
        let right = Random::new(3, 0).below(BOUND);
        assert!(check([right; 2], 1, 3).passed);
        assert!(!check([right + 1, right], 1, 3).passed && !check([right, right + 1], 1, 3).passed);
    }
}
