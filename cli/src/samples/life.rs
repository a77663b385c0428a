//! `life`: a cellular automaton in tiles, from one board to another and back: each task reads a tile and the cells around it, and writes the same tile of the other board. There is no barrier
//! between generations, so one corner of the board may be ahead of another.
//!
//! The board is a torus: what leaves it on one side comes back on the other. So it has a rim, a copy of what is on the other side, which tasks of their own copy as soon as the tiles there are done.
//!
//! Where there is a device, tiles are bands of whole rows, which need three each, and their next generation is a kernel: the board stays on the device.

use ndarray::{Array2, Ix2, s};
use poniard::{
    AllocateError, Buffer, Handle, Kernel, Mutable, Part, PartError, Region, RegionError, RegionTask, TaskOptions, View, ViewMut, buffer,
    overwrite, read,
};

use super::pattern::{Pattern, Rule};
use super::picture::{WORD_BYTES, encode};
use super::tiling::{TileTasks, Tiling, cut, paste};
use super::{files, limits};
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "life",
    summary: "Conway's Life, or another rule: tiles with halos over generations, without a barrier",
    options: &[
        SampleOption { name: "input", meaning: "a pattern file, .rle; default the Gosper glider gun" },
        SampleOption { name: "generations", meaning: "how many to compute, default 120" },
        SampleOption { name: "size", meaning: "cells an edge of the board; by default it has room for the pattern to grow" },
        SampleOption {
            name: "tile",
            meaning: "cells an edge of a tile, default a sixteenth of the board, at least 64, more for long runs",
        },
        SampleOption {
            name: "output",
            meaning: "a .png file for the last generation, or an .apng file for all; a pixel a cell, living ones black",
        },
    ],
    kernels: true,
    run,
};

const GLIDER_GUN: &str = "\
#N Gosper glider gun
#O Bill Gosper, 1970
x = 36, y = 9, rule = B3/S23
24bo11b$22bobo11b$12b2o6b2o12b2o$11bo3bo4b2o12b2o$2o8bo5bo3b2o14b$2o8b
o3bob2o4bobo11b$10bo5bo7bo11b$11bo3bo20b$12b2o!";

/// The longest edge of a board.
const MOST_EDGE: u64 = 1 << 16;
/// The longest edge that is chosen for the user.
const MOST_DEFAULT_EDGE: usize = 1024;
/// The longest pattern file.
const MOST_FILE_BYTES: u64 = 64 << 20;
/// The most frames of an animation: beyond it, generations are left out evenly.
const MOST_FRAMES: usize = 500;

/// The next generation of a tile, of the tile and what lies around it.
fn next_tile(around: View<'_, u8>, mut tile: ViewMut<'_, u8>, rule: Rule) {
    let (around, mut tile) = (around.array::<Ix2>(), tile.array_mut::<Ix2>());
    let in_row = "the cells of a row lie side by side";
    for (row, mut line) in tile.rows_mut().into_iter().enumerate() {
        let three = [0, 1, 2].map(|offset| around.row(row + offset).to_slice().expect(in_row));
        next_line(line.as_slice_mut().expect(in_row), three, rule);
    }
}

/// Copies cells from one side of the board to the rim of the other.
fn copy(from: View<'_, u8>, mut to: ViewMut<'_, u8>) {
    to.array_mut::<Ix2>().assign(&from.array::<Ix2>());
}

/// The board without its rim.
fn inner(board: &Array2<u8>) -> Result<Buffer<u8>, AllocateError> {
    let edge = board.nrows() - 2;
    let mut cells = buffer::try_zeroed(edge * edge)?;
    for (line, row) in cells.chunks_exact_mut(edge).zip(board.slice(s![1..=edge, 1..=edge]).rows()) {
        line.iter_mut().zip(row).for_each(|(to, from)| *to = *from);
    }
    Ok(cells)
}

/// A board with a rim, and what tasks have of it.
struct Board {
    cells: Mutable<Array2<u8>>,
    /// Row by row: each tile with the cells around it, and without.
    tiles: Vec<(Part<u8>, Part<u8>)>,
    /// What is copied to which part of the rim.
    rim: Vec<(Part<u8>, Part<u8>)>,
}

impl Board {
    fn new(cells: Array2<u8>, tiling: Tiling) -> Result<Self, PartError> {
        let edge = cells.nrows() - 2;
        let cells = Mutable::new(cells);
        let inside = |index| tiling.span(index).start + 1..tiling.span(index).end + 1;
        let (mut tiles, mut rim) = (Vec::new(), Vec::new());
        // The last row or column before the rim, and the rim on the other side.
        let sides = [(edge, 0), (1, edge + 1)];
        for row in 0..tiling.count() {
            for column in 0..tiling.count() {
                let tile = cells.part(s![inside(row), inside(column)])?;
                tiles.push((tile.with_halo(1)?, tile));
            }
            for (from, to) in sides {
                rim.push((cells.part(s![from..=from, inside(row)])?, cells.part(s![to..=to, inside(row)])?));
                rim.push((cells.part(s![inside(row), from..=from])?, cells.part(s![inside(row), to..=to])?));
            }
        }
        for (from_row, to_row) in sides {
            for (from, to) in sides {
                rim.push((cells.part(s![from_row..=from_row, from..=from])?, cells.part(s![to_row..=to_row, to..=to])?));
            }
        }
        Ok(Self { cells, tiles, rim })
    }

    /// Lets the rim become what is on the other side.
    fn wrap(&self, r: &Region<'_>) {
        for (from, to) in &self.rim {
            r.spawn(copy, (read(from), overwrite(to)));
        }
    }
}

/// The boards of the generations that are kept, each as a task.
type Kept = Result<Vec<(usize, RegionTask<Buffer<u8>>)>, PartError>;

/// Computes on two boards, to and fro.
fn play(handle: &Handle, first: &[u8], edge: usize, tiling: Tiling, rule: Rule, kept: &[usize]) -> Result<Kept, RegionError> {
    let mut cells = Array2::zeros((edge + 2, edge + 2));
    for (mut row, line) in cells.slice_mut(s![1..=edge, 1..=edge]).rows_mut().into_iter().zip(first.chunks_exact(edge)) {
        row.iter_mut().zip(line).for_each(|(to, from)| *to = *from);
    }
    handle.region(|r| {
        let boards = [Board::new(cells.clone(), tiling)?, Board::new(cells, tiling)?];
        let mut tasks = Vec::new();
        let last = kept.last().copied().unwrap_or(0);
        for generation in 0..=last {
            let [now, before] = [0, 1].map(|back| &boards[(generation + back) % 2]);
            if generation > 0 {
                for (index, ((around, _), (_, tile))) in before.tiles.iter().zip(&now.tiles).enumerate() {
                    let (row, column) = (index / tiling.count(), index % tiling.count());
                    let name = format!("generation({generation},{row},{column})");
                    r.task(next_tile, (read(around), overwrite(tile), rule)).name(name).spawn();
                }
            }
            now.wrap(r);
            if kept.contains(&generation) {
                tasks.push((generation, r.spawn(inner, (read(&now.cells),))));
            }
        }
        Ok(tasks)
    })
}

/// What `life.wgsl` does: the next generation of a band of the board, between two others.
#[expect(clippy::too_many_arguments, reason = "a kernel takes buffers and numbers")]
fn next_band(
    above: &Buffer<u8>,
    here: &Buffer<u8>,
    below: &Buffer<u8>,
    width: u32,
    above_rows: u32,
    rows: u32,
    birth: u32,
    survival: u32,
) -> Result<Buffer<u8>, AllocateError> {
    let [width, above_rows, rows] = [width, above_rows, rows].map(|number| number as usize);
    let mut cells = Vec::with_capacity((rows + 2) * (width + 2));
    for line in
        above[(above_rows - 1) * width..].chunks_exact(width).take(1).chain(here.chunks_exact(width).take(rows)).chain([&below[..width]])
    {
        cells.push(line[width - 1]);
        cells.extend_from_slice(line);
        cells.push(line[0]);
    }
    step(&cells, rows, width, Rule { birth, survival })
}

/// The next generation of `cells` without its outermost ones. Whole words, as a device wants them.
fn step(cells: &[u8], height: usize, width: usize, rule: Rule) -> Result<Buffer<u8>, AllocateError> {
    let line_len = width + 2;
    let mut next: Buffer<u8> = buffer::try_zeroed((height * width).next_multiple_of(WORD_BYTES))?;
    for (row, line) in next[..height * width].chunks_exact_mut(width).enumerate() {
        let [above, here, below] = [0, 1, 2].map(|offset| &cells[(row + offset) * line_len..][..line_len]);
        next_line(line, [above, here, below], rule);
    }
    Ok(next)
}

/// The next generation of a line, of itself between two others, each with a cell more at both ends.
fn next_line(line: &mut [u8], [above, here, below]: [&[u8]; 3], rule: Rule) {
    let three = |cells: &[u8]| cells[0] + cells[1] + cells[2];
    for (((cell, above), here), below) in line.iter_mut().zip(above.windows(3)).zip(here.windows(3)).zip(below.windows(3)) {
        let alive = here[1];
        *cell = rule.next(alive == 1, (three(above) + three(here) + three(below) - alive).into()).into();
    }
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let runtime = context.runtime;
    let pattern = pattern(context)?;
    let generations = context.generations.unwrap_or(120);
    let edge = edge(context, &pattern, generations)?;
    // As many tiles as keep a machine busy, and fewer for a long run, whose graph would not fit.
    let boards = generations.saturating_add(1);
    let default_count = (limits::MOST_TASKS / boards).isqrt().clamp(1, 16);
    let default_tile = (edge as u64).div_ceil(default_count).max(64);
    let tiling = Tiling::new(edge, limits::count("tile", context.tile, default_tile, u64::MAX)?);
    let across = if context.kernels.is_some() { Tiling::new(edge, edge) } else { tiling };
    let (tiles, columns) = (tiling.count(), across.count());
    let too_long = if context.tile.is_some() { "tile" } else { "generations" };
    limits::tasks(too_long, (tiles as u64).checked_mul(columns as u64).and_then(|per_board| boards.checked_mul(per_board)))?;
    files::check_output(context, &["png", "apng"])?;
    let generations = generations as usize;
    let animated = context.output.is_some_and(|path| files::has_extension(path, "apng"));
    let stride = generations.div_ceil(MOST_FRAMES - 1).max(1);
    let is_kept = |generation: usize| generation == generations || (animated && generation.is_multiple_of(stride));
    let kept_count = (0..=generations).filter(|generation| is_kept(*generation)).count();
    // A kept board is there in tiles and whole; besides, there is the plain loop's and some of those between.
    limits::memory("size", (edge as u64).pow(2).checked_mul(2 * kept_count as u64 + 8))?;

    let first = first_board(&pattern, edge)?;
    let rule = pattern.rule;
    let kept: Vec<usize> = (0..=generations).filter(|generation| is_kept(*generation)).collect();
    let mut boards = Vec::new();
    if let Some(options) = context.kernels {
        for (generation, mut bands) in play_on_devices(runtime, options, &first, edge, tiling, rule, &kept)? {
            let mut board: Buffer<u8> = limits::zeroed("size", edge * edge)?;
            for row in 0..tiles {
                paste(&mut board, edge, tiling.span(row), 0..edge, &bands.take(row, 0).fetch()?);
            }
            boards.push((generation, board));
            context.progress.advance(boards.len() as u64, kept_count as u64);
        }
    } else {
        for (generation, board) in play(runtime, &first, edge, tiling, rule, &kept)?.expect("tiles are inside their boards") {
            boards.push((generation, board.take()?));
            context.progress.advance(boards.len() as u64, kept_count as u64);
        }
    }

    let last = &boards.last().expect("the last generation is kept").1;
    let alive = last.iter().filter(|cell| **cell == 1).count();
    let mut lines = vec![
        format!("generation {generations}: {alive} living cells"),
        format!("rule {rule}, board {edge} x {edge}, {} tiles", tiles * columns),
    ];
    if animated {
        lines.push(format!("{kept_count} frames, one every {stride} generation(s)"));
    }
    let output = context.output.map(|_| if animated { animation(&boards, edge) } else { encode(&pixels(last), edge, edge, 1) });
    Ok(Outcome {
        lines,
        values: vec![
            ("generations", generations.into()),
            ("alive", alive.into()),
            ("size", edge.into()),
            ("tiles", (tiles * columns).into()),
            ("rule", rule.to_string().into()),
        ],
        check: check(&boards, first, edge, rule),
        output,
    })
}

/// The boards of the generations that are kept, in bands.
type Bands = Vec<(usize, TileTasks<Buffer<u8>>)>;

/// Computes on devices, in bands; those of the generations that are kept.
fn play_on_devices(
    handle: &Handle,
    options: &TaskOptions,
    first: &[u8],
    edge: usize,
    tiling: Tiling,
    rule: Rule,
    kept: &[usize],
) -> Result<Bands, SampleError> {
    let count = tiling.count();
    let mut bands = TileTasks::new(count, 1);
    for row in 0..count {
        let mut band = limits::zeroed("size", (tiling.len_of(row) * edge).next_multiple_of(WORD_BYTES))?;
        cut(first, edge, tiling.span(row), 0..edge, &mut band);
        bands.put(row, 0, handle.value(band));
    }
    let kernel = Kernel::wgsl("generation", include_str!("life.wgsl")).host(next_band);
    let mut boards = Vec::new();
    for generation in 0..=kept.last().copied().unwrap_or(0) {
        if generation > 0 {
            let mut next = TileTasks::new(count, 1);
            for row in 0..count {
                let rows = [(row + count - 1) % count, row, (row + 1) % count];
                let [above, here, below] = rows.map(|row| bands.get(row, 0));
                let heights = rows.map(|row| tiling.len_of(row));
                let words = (heights[1] * edge).div_ceil(WORD_BYTES);
                let numbers = (edge as u32, heights[0] as u32, heights[1] as u32);
                let arguments = (above, here, below, numbers.0, numbers.1, numbers.2, rule.birth, rule.survival);
                let launch = kernel.over(words).returning([words * WORD_BYTES]);
                let name = format!("generation({generation},{row},0)");
                next.put(row, 0, handle.task(launch, arguments).options(options).name(name).spawn());
            }
            bands = next;
        }
        if kept.contains(&generation) {
            boards.push((generation, bands.clone()));
        }
    }
    Ok(boards)
}

/// The pattern of the input file, or the glider gun.
fn pattern(context: &Context<'_>) -> Result<Pattern, SampleError> {
    let Some(file) = files::optional_input(context)? else {
        return Ok(Pattern::parse(GLIDER_GUN).expect("the built-in pattern is one"));
    };
    // Comments may be in any encoding; the pattern itself is ASCII.
    let content = files::read(file, MOST_FILE_BYTES)?;
    Pattern::parse(&String::from_utf8_lossy(&content)).map_err(|error| files::refuse(file, error.to_string()))
}

/// The edge of the board. Nothing in Life grows faster than half a cell a generation, so unless that makes a very large board, nothing
/// comes back around the torus to disturb what it left.
fn edge(context: &Context<'_>, pattern: &Pattern, generations: u64) -> Result<usize, SampleError> {
    let longest = pattern.width.max(pattern.height);
    let Some(size) = context.size else {
        let room = usize::try_from(generations).unwrap_or(usize::MAX);
        return Ok(longest.saturating_add(room).clamp(64, longest.max(MOST_DEFAULT_EDGE)));
    };
    let size = limits::count("size", Some(size), 1, MOST_EDGE)?;
    if size < longest {
        let reason = format!("{size} is smaller than the pattern, which has {} x {} cells", pattern.width, pattern.height);
        return Err(SampleError::Usage { option: "size", reason });
    }
    Ok(size)
}

/// The pattern in the middle of an empty board.
fn first_board(pattern: &Pattern, edge: usize) -> Result<Buffer<u8>, SampleError> {
    let mut board = limits::zeroed("size", edge * edge)?;
    let (top, left) = ((edge - pattern.height) / 2, (edge - pattern.width) / 2);
    for (row, column) in &pattern.alive {
        board[(top + row) * edge + left + column] = 1;
    }
    Ok(board)
}

/// Grey values: living cells black, dead ones white.
fn pixels(board: &[u8]) -> Vec<u8> {
    board.iter().map(|cell| 255 * (1 - cell)).collect()
}

/// The content of an animated PNG file, repeated for ever: a picture for programs that show no animations.
fn animation(boards: &[(usize, Buffer<u8>)], edge: usize) -> Vec<u8> {
    let mut file = Vec::new();
    let mut write = || -> Result<(), png::EncodingError> {
        let mut encoder = png::Encoder::new(&mut file, edge as u32, edge as u32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_animated(boards.len() as u32, 0)?;
        encoder.set_frame_delay(1, 20)?;
        let mut writer = encoder.write_header()?;
        for (_, board) in boards {
            writer.write_image_data(&pixels(board))?;
        }
        writer.finish()
    };
    write().expect("writing to memory does not fail, and there are as many frames as announced");
    file
}

/// Computes on a whole board, cell by cell, and compares each board that was kept.
fn check(boards: &[(usize, Buffer<u8>)], first: Buffer<u8>, edge: usize, rule: Rule) -> Check {
    let mut board = first;
    let (mut generation, mut different) = (0, 0);
    for (kept, result) in boards {
        while generation < *kept {
            let mut next = buffer::zeroed(edge * edge);
            for row in 0..edge {
                let (above, below) = ((row + edge - 1) % edge, (row + 1) % edge);
                for column in 0..edge {
                    let left = if column == 0 { edge - 1 } else { column - 1 };
                    let right = if column == edge - 1 { 0 } else { column + 1 };
                    let at = |row: usize, column: usize| u32::from(board[row * edge + column]);
                    let neighbours = at(above, left)
                        + at(above, column)
                        + at(above, right)
                        + at(row, left)
                        + at(row, right)
                        + at(below, left)
                        + at(below, column)
                        + at(below, right);
                    next[row * edge + column] = rule.next(at(row, column) == 1, neighbours).into();
                }
            }
            board = next;
            generation += 1;
        }
        different += (0..edge * edge).filter(|cell| result.get(*cell) != Some(&board[*cell])).count();
    }
    let cells = edge * edge * boards.len();
    Check { passed: different == 0, text: format!("{different} of {cells} cells differ from a plain loop over a whole board") }
}

#[cfg(test)]
mod tests {
    use super::super::trial::{Trial, with_and_without_devices};
    use super::*;

    /// Runs a pattern file.
    fn life(content: &str, trial: Trial) -> Outcome {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pattern.rle");
        std::fs::write(&file, content).unwrap();
        Trial { inputs: vec![file], ..trial }.passes(&SAMPLE)
    }

    #[test]
    fn the_gun_shoots() {
        // The gun has 36 living cells and the period 30, in which it adds a glider of 5.
        for (generations, alive) in [(0, 36), (30, 41), (120, 56)] {
            let outcome = Trial { generations: Some(generations), ..Trial::default() }.passes(&SAMPLE);
            assert_eq!(outcome.lines[0], format!("generation {generations}: {alive} living cells"));
        }
        if with_and_without_devices().contains(&true) {
            let outcome = Trial { on_devices: true, ..Trial::default() }.passes(&SAMPLE);
            assert_eq!(outcome.lines[0], "generation 120: 56 living cells");
        }
    }

    #[test]
    fn runs_on_awkward_boards_and_tiles() {
        let places = with_and_without_devices();
        for (size, tile) in [(1, 1), (1, 64), (2, 1), (3, 2), (7, 3), (8, 8), (9, 64), (20, 6), (13, u64::MAX)] {
            for rule in ["B3/S23", "B36/S23", "B2/S", "B0123/S45678"] {
                for on_devices in places {
                    let (size, tile, on_devices) = (Some(size), Some(tile), *on_devices);
                    let trial = Trial { size, tile, on_devices, generations: Some(9), ..Trial::default() };
                    life(&format!("x = 1, y = 1, rule = {rule}\no!"), trial);
                }
            }
        }
        let trial = Trial { size: Some(5), tile: Some(2), generations: Some(20), ..Trial::default() };
        assert!(life("x = 3, y = 3\nbob$2bo$3o!", trial).lines[0].starts_with("generation 20: 5 "), "a glider is back after 20 steps");
    }

    #[test]
    fn writes_the_last_board() {
        let trial = Trial { size: Some(3), generations: Some(1), output: Some("o.png".into()), ..Trial::default() };
        let image = image::load_from_memory(&life("x = 3, y = 1, rule = B/S012\no!", trial).output.unwrap()).unwrap();
        assert_eq!(image.into_luma8().into_raw(), [255, 255, 255, 0, 255, 255, 255, 255, 255]);
    }

    #[test]
    fn writes_all_boards_as_an_animation() {
        for (generations, frames) in [(0, 1), (10, 11), (499, 500), (501, 252), (3000, 430)] {
            let trial = Trial { size: Some(4), generations: Some(generations), output: Some("o.apng".into()), ..Trial::default() };
            let file = life("x = 3, y = 3\nbob$2bo$3o!", trial).output.unwrap();
            let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().unwrap();
            assert_eq!(reader.info().animation_control().unwrap().num_frames, frames);
            let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
            for _ in 0..frames {
                reader.next_frame(&mut pixels).unwrap();
            }
        }
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        for size in [0, 35, MOST_EDGE + 1, u64::MAX] {
            Trial { size: Some(size), ..Trial::default() }.refused(&SAMPLE, "size");
        }
        for tile in [0, 1] {
            Trial { tile: Some(tile), size: Some(1000), ..Trial::default() }.refused(&SAMPLE, "tile");
        }
        for generations in [limits::MOST_TASKS, u64::MAX] {
            Trial { generations: Some(generations), ..Trial::default() }.refused(&SAMPLE, "generations");
        }
        Trial { output: Some("o.gif".into()), ..Trial::default() }.refused(&SAMPLE, "output");
        Trial { inputs: vec!["a".into(); 2], ..Trial::default() }.refused(&SAMPLE, "input");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bad.rle");
        std::fs::write(&file, "x = 3, y = 3\nbob$2bo").unwrap();
        assert!(Trial { inputs: vec![file], ..Trial::default() }.refused_file(&SAMPLE).starts_with("line 2"));
    }

    #[test]
    fn check_notices_one_wrong_cell() {
        let blinker = || buffer::from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut boards = vec![(2, blinker())];
        assert!(check(&boards, blinker(), 5, Rule::LIFE).passed);
        boards[0].1[24] = 1;
        assert!(!check(&boards, blinker(), 5, Rule::LIFE).passed);
        assert!(!check(&[(1, blinker())], blinker(), 5, Rule::LIFE).passed);
        assert!(!check(&[(2, buffer::zeroed(3))], blinker(), 5, Rule::LIFE).passed);
    }
}
