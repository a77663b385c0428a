//! `wavefront`: the edit distance of two texts. Each tile of the table needs its left and its upper neighbour, so whole diagonals of tiles
//! run at the same time.
//!
//! ```text
//!   ┌───┬───┬───┐
//!   │ 1 │ 2 │ 3 │      the number is the diagonal: tiles with the same one
//!   ├───┼───┼───┤      do not need each other
//!   │ 2 │ 3 │ 4 │
//!   └───┴───┴───┘
//! ```
//!
//! The table itself is never kept, only the borders between tiles: texts of 100 kB would need 40 GB for it. The distance is Levenshtein's: the
//! least number of bytes (not characters) to insert, delete or replace.

use std::ops::Range;

use poniard::{AllocateError, Buffer, Task, buffer};

use super::random::Random;
use super::tiling::Tiling;
use super::{files, limits};
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "wavefront",
    summary: "the edit distance of two texts in bytes: tiles in diagonals",
    options: &[
        SampleOption { name: "input", meaning: "a text file; give two of them" },
        SampleOption { name: "size", meaning: "bytes of the two random texts where no files are given, default 4096" },
        SampleOption { name: "seed", meaning: "what the random texts are drawn from, default 0" },
        SampleOption { name: "tile", meaning: "bytes of either text that a tile covers, default 512" },
    ],
    kernels: false,
    run,
};

/// The longest text: the time grows with the product of both.
const MOST_BYTES: u64 = 1 << 20;

/// What a tile leaves to its neighbours: its last row and its last column of the table. Both start with the corner that the tile itself
/// does not cover, the one to the left and above.
type Borders = (Buffer<u32>, Buffer<u32>);

/// Fills the tile for these parts of the texts, `above` being the border of the tile above and `left` that of the tile to the left.
fn fill(rows: &[u8], columns: &[u8], above: &[u32], left: &[u32]) -> Result<Borders, AllocateError> {
    let mut line = buffer::try_zeroed(columns.len() + 1)?;
    let mut last_column = buffer::try_zeroed(rows.len() + 1)?;
    line.copy_from_slice(above);
    last_column[0] = above[columns.len()];
    for (index, row) in rows.iter().enumerate() {
        let mut diagonal = line[0];
        let mut before = left[index + 1];
        line[0] = before;
        for (cell, column) in line[1..].iter_mut().zip(columns) {
            // What does not need the cell before is found first: cells wait for each other, so a step less in that chain is a third less time.
            let replaced_or_deleted = (diagonal + u32::from(row != column)).min(*cell + 1);
            diagonal = *cell;
            before = replaced_or_deleted.min(before + 1);
            *cell = before;
        }
        last_column[index + 1] = before;
    }
    Ok((line, last_column))
}

/// Fills the tile for these parts of both texts.
fn fill_tile(
    row_text: &Buffer<u8>,
    column_text: &Buffer<u8>,
    rows: Range<usize>,
    columns: Range<usize>,
    above: &Borders,
    left: &Borders,
) -> Result<Borders, AllocateError> {
    fill(&row_text[rows], &column_text[columns], &above.0, &left.1)
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let tile = limits::count("tile", context.tile, 512, u64::MAX)?;
    let (rows, columns) = texts(context)?;
    let (down, across) = (Tiling::new(rows.len(), tile), Tiling::new(columns.len(), tile));
    limits::tasks("tile", (down.count() as u64).checked_mul(across.count() as u64))?;

    let distance = if rows.is_empty() || columns.is_empty() {
        // There is no tile: everything is inserted or deleted.
        rows.len().max(columns.len()) as u32
    } else {
        distance(context, &rows, &columns, down, across)?
    };
    let tiles = down.count() * across.count();
    Ok(Outcome {
        lines: vec![
            format!("distance {distance}"),
            format!("between {} and {} bytes; bytes inserted, deleted or replaced; {tiles} tiles", rows.len(), columns.len()),
        ],
        values: vec![("distance", distance.into()), ("bytes", vec![rows.len(), columns.len()].into()), ("tiles", tiles.into())],
        check: check(distance, &rows, &columns),
        output: None,
    })
}

/// The distance by tasks; neither text is empty.
fn distance(context: &Context<'_>, rows: &[u8], columns: &[u8], down: Tiling, across: Tiling) -> Result<u32, SampleError> {
    let runtime = context.runtime;
    // Beyond the edges of the table: to make n bytes of nothing, or nothing of n bytes, takes n steps.
    let edge = |span: Range<usize>| buffer::from_fn(span.len() + 1, |index| (span.start + index) as u32);
    let (row_text, column_text) = (runtime.value(buffer::from_slice(rows)), runtime.value(buffer::from_slice(columns)));
    let mut above: Vec<Task<Borders>> =
        (0..across.count()).map(|index| runtime.value((edge(across.span(index)), buffer::zeroed(0)))).collect();
    let mut ends = Vec::new();
    for row in 0..down.count() {
        let mut left = runtime.value((buffer::zeroed(0), edge(down.span(row))));
        for (column, above) in above.iter_mut().enumerate() {
            let arguments = (&row_text, &column_text, down.span(row), across.span(column), &*above, left);
            left = runtime.task(fill_tile, arguments).name(format!("tile({row},{column})")).spawn();
            // From here on nobody holds the border above but the tasks that read it: it is freed with the last of them.
            *above = left.clone();
        }
        ends.push(left);
    }
    drop(above);

    let mut distance = 0;
    let rows_of_tiles = ends.len() as u64;
    for (done, end) in (1..).zip(ends) {
        distance = end.fetch()?.1.last().copied().unwrap_or_default();
        context.progress.advance(done, rows_of_tiles);
    }
    Ok(distance)
}

/// Both texts.
fn texts(context: &Context<'_>) -> Result<(Vec<u8>, Vec<u8>), SampleError> {
    match context.inputs {
        [first, second] => {
            if context.size.is_some() {
                return Err(SampleError::Usage { option: "size", reason: "the texts in --input have a size of their own".into() });
            }
            Ok((files::read(first, MOST_BYTES)?, files::read(second, MOST_BYTES)?))
        }
        [] => {
            let size = limits::count("size", context.size, 4096, MOST_BYTES)?;
            Ok(random_texts(size, context.seed))
        }
        files => Err(SampleError::Usage { option: "input", reason: format!("takes two files, or none; not {}", files.len()) }),
    }
}

/// A text of four letters, and a copy in which about one letter in five was changed, left out or doubled.
fn random_texts(size: usize, seed: u64) -> (Vec<u8>, Vec<u8>) {
    let mut random = Random::new(seed, 0);
    let first: Vec<u8> = (0..size).map(|_| b"acgt"[random.below(4) as usize]).collect();
    let mut second = Vec::with_capacity(size);
    for letter in &first {
        match random.below(15) {
            0 => second.push(b"acgt"[random.below(4) as usize]),
            1 => {}
            2 => second.extend([*letter, *letter]),
            _ => second.push(*letter),
        }
    }
    (first, second)
}

/// Computes the distance row by row, two whole rows at a time.
fn check(distance: u32, rows: &[u8], columns: &[u8]) -> Check {
    let mut previous: Vec<u32> = (0..=columns.len() as u32).collect();
    let mut current = previous.clone();
    for (row, letter) in (1..).zip(rows) {
        let mut left = row;
        current[0] = left;
        for (column, other) in columns.iter().enumerate() {
            let replace = if letter == other { previous[column] } else { previous[column] + 1 };
            left = replace.min(previous[column + 1] + 1).min(left + 1);
            current[column + 1] = left;
        }
        std::mem::swap(&mut previous, &mut current);
    }
    let expected = previous[columns.len()];
    Check { passed: distance == expected, text: format!("distance {expected} by a plain loop over two rows") }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;

    /// The distance of two texts.
    fn of_files(first: &[u8], second: &[u8], tile: u64) -> Outcome {
        let folder = tempfile::tempdir().unwrap();
        let inputs = vec![folder.path().join("first"), folder.path().join("second")];
        std::fs::write(&inputs[0], first).unwrap();
        std::fs::write(&inputs[1], second).unwrap();
        Trial { inputs, tile: Some(tile), ..Trial::default() }.passes(&SAMPLE)
    }

    #[test]
    fn knows_textbook_distances() {
        for (first, second, distance) in [
            ("kitten", "sitting", 3),
            ("saturday", "sunday", 3),
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("a", "a", 0),
            ("a", "b", 1),
            ("é", "e", 2),
        ] {
            for tile in [1, 2, 3, 100, u64::MAX] {
                let lines = of_files(first.as_bytes(), second.as_bytes(), tile).lines;
                assert_eq!(lines[0], format!("distance {distance}"), "{first} {second} {tile}");
            }
        }
    }

    #[test]
    fn runs_at_awkward_sizes() {
        for (size, tile) in [(1, 1), (1, 512), (7, 3), (100, 9), (513, 512)] {
            Trial { size: Some(size), tile: Some(tile), seed: size, ..Trial::default() }.passes(&SAMPLE);
        }
    }

    #[test]
    fn refuses_options_without_sense() {
        for size in [0, MOST_BYTES + 1, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
        for tile in [0, 1] {
            Trial { tile: Some(tile), ..Trial::default() }.refused(&SAMPLE, "tile");
        }
        Trial { inputs: vec!["a".into()], ..Trial::default() }.refused(&SAMPLE, "input");
        Trial { inputs: vec!["a".into(); 3], ..Trial::default() }.refused(&SAMPLE, "input");
        Trial { inputs: vec!["a".into(); 2], size: Some(1), ..Trial::default() }.refused(&SAMPLE, "size");
        Trial { inputs: vec!["/none".into(); 2], ..Trial::default() }.refused_file(&SAMPLE);
        assert!(Trial { inputs: vec!["/dev/zero".into(); 2], ..Trial::default() }.refused_file(&SAMPLE).contains("longer than"));
    }

    #[test]
    fn check_notices_a_wrong_distance() {
        assert!(check(3, b"kitten", b"sitting").passed);
        assert!(!check(4, b"kitten", b"sitting").passed);
        assert!(!check(2, b"kitten", b"sitting").passed);
    }
}
