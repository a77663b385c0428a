//! Launches of the kernels with sizes that meet their edges, and what comes of them on the host: whoever has a device compares.
//!
//! All elements have four bytes, so a buffer is a list of words here, whatever its type.

use poniard::{Buffer, buffer};

use super::*;

/// A number of elements that no workgroup divides.
const MANY: u32 = 1_000_003;
/// Rows and columns of what is a grid: none, one, those around a workgroup's edge.
const GRIDS: [(u32, u32); 6] = [(0, 0), (0, 5), (1, 1), (1, 255), (257, 3), (16, 16)];

/// How close the results of a device and of the host are.
#[derive(Clone, Debug, PartialEq)]
pub enum Agreement {
    /// Bit by bit.
    Exact,
    /// Each byte of each word differs at most by this.
    Levels(u8),
    /// Words are `f32`, and differ at most by so much.
    Within(Vec<f32>),
}

/// A launch of a kernel.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What is launched.
    pub shader: Shader,
    /// Its size, for messages.
    pub size: String,
    /// The buffers before the launch, in their order. What is there of the last one is overwritten, or, by [`HISTOGRAM`], added to.
    pub operands: Vec<Vec<u32>>,
    /// The scalars.
    pub scalars: Vec<u32>,
    /// How many invocations there are.
    pub invocations: [u64; 3],
    /// The last buffer afterwards.
    pub expected: Vec<u32>,
    /// How close to that a device comes.
    pub agreement: Agreement,
}

impl Trial {
    /// The scalars as a block of bytes.
    pub fn scalar_bytes(&self) -> Vec<u8> {
        self.scalars.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// Compares what the last buffer holds after the launch: the greatest difference as a part of what is allowed, none where that is nothing.
    ///
    /// # Errors
    /// A text that says where the first difference is that is too large.
    pub fn compare(&self, found: &[u32]) -> Result<f64, String> {
        let Self { shader: Shader { name, .. }, size, expected, .. } = self;
        if found.len() != expected.len() {
            return Err(format!("{name} of {size}: {} words where {} are expected", found.len(), expected.len()));
        }
        let mut worst: f64 = 0.0;
        for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
            if found == expected {
                continue;
            }
            let (difference, allowed) = match &self.agreement {
                Agreement::Exact => (f64::INFINITY, 0.0),
                Agreement::Levels(levels) => {
                    let levels_of = |word: u32| word.to_le_bytes().into_iter();
                    let difference = levels_of(found).zip(levels_of(expected)).map(|(found, expected)| found.abs_diff(expected)).max();
                    (difference.unwrap_or_default().into(), (*levels).into())
                }
                Agreement::Within(allowed) => {
                    (f64::from((f32::from_bits(found) - f32::from_bits(expected)).abs()), f64::from(allowed[index]))
                }
            };
            if difference.is_nan() || difference > allowed {
                let shown = |word: u32| match self.agreement {
                    Agreement::Within(_) => f32::from_bits(word).to_string(),
                    _ => format!("{word:#x}"),
                };
                let (found, expected) = (shown(found), shown(expected));
                return Err(format!("{name} of {size}: element {index} is {found}, and {expected} on the host"));
            }
            worst = worst.max(difference / allowed);
        }
        Ok(worst)
    }
}

/// Numbers that look random and are always the same.
#[derive(Debug)]
struct Random(u32);

impl Random {
    fn word(&mut self) -> u32 {
        self.0 += 1;
        pcg3d([self.0, 0, 0])[0]
    }

    fn words(&mut self, len: u64) -> Buffer<u32> {
        buffer::from_fn(len as usize, |_| self.word())
    }

    /// From -1 to 1.
    fn floats(&mut self, len: u64) -> Buffer<f32> {
        buffer::from_fn(len as usize, |_| (self.word() >> 8) as f32 / (1 << 23) as f32 - 1.0)
    }
}

fn bits(values: &Buffer<f32>) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// A buffer with something that has to be overwritten.
fn filled(len: usize) -> Vec<u32> {
    vec![0xdead_beef; len]
}

/// What a sum of `count` products may differ by if their sizes sum to `magnitude`: products and sums may be rounded together or one after the other. Source: Higham
/// and Mary, "A new approach to probabilistic rounding error analysis", SIAM J. Sci. Comput. 41(5), 2019.
fn rounding(count: u32, magnitude: f32) -> f32 {
    8.0 * (f64::from(count) + 1.0).sqrt() as f32 * f32::EPSILON * magnitude
}

/// Trials of all kernels. Their making takes a quarter of a minute in a build that is not optimised, as the host computes the results.
pub fn trials() -> Vec<Trial> {
    make(true)
}

/// The same without those that take the host, or a software device, more than a second: the largest of the kernels that do much for each element.
pub fn short_trials() -> Vec<Trial> {
    make(false)
}

fn make(all: bool) -> Vec<Trial> {
    let mut random = Random(0);
    let mut trials = Vec::new();
    for n in [0, 1, 255, 257, MANY] {
        trials.extend([of_saxpy(n, &mut random), of_reduce(n, &mut random), of_histogram(n, &mut random), of_estimate_pi(n)]);
    }
    for (rows, columns) in GRIDS {
        trials.extend([of_life(rows, columns, &mut random), of_transpose(rows, columns, &mut random)]);
    }
    let large = if all { &[(1009, 1001)][..] } else { &[] };
    trials.extend(large.iter().map(|(rows, columns)| of_life(*rows, *columns, &mut random)));
    let lines = if all { MANY } else { 10_007 };
    trials.extend([(1, lines), (lines, 1)].map(|(rows, columns)| of_transpose(rows, columns, &mut random)));
    // What each filter is made of: `edges`, the two of `sobel`, a blur, and weights that are rounded.
    let edges = vec![-1.0, -1.0, -1.0, -1.0, 8.0, -1.0, -1.0, -1.0, -1.0];
    let sobel = vec![-1.0, 0.0, 1.0, -2.0, 0.0, 2.0, -1.0, 0.0, 1.0, -1.0, -2.0, -1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 1.0];
    let row = [1.0, 4.0, 6.0, 4.0, 1.0];
    let blur: Vec<f32> = row.iter().flat_map(|down| row.map(|right| down * right / 256.0)).collect();
    let rounded = random.floats(49).to_vec();
    for (rows, columns) in GRIDS.iter().chain(large).copied() {
        trials.push(of_convolve(rows, columns, (3, 1, 3), &edges, Agreement::Exact, &mut random));
    }
    for (weights, edge, filters, agreement) in
        [(&sobel, 3, 2, Agreement::Exact), (&blur, 5, 1, Agreement::Exact), (&rounded, 7, 1, Agreement::Levels(1))]
    {
        for (rows, columns) in [(2, 1), if all { (257, 255) } else { (33, 31) }] {
            trials.push(of_convolve(rows, columns, (edge, filters, 4), weights, agreement.clone(), &mut random));
        }
    }
    for size in [
        (0, 0, 0),
        (0, 3, 2),
        (3, 2, 0),
        (1, 1, 1),
        (1, 1, 257),
        (255, 257, 16),
        (129, 1, 255),
        (130, 128, 9),
        (1, 1, MANY),
        (1, lines, 1),
        (lines, 1, 1),
    ] {
        trials.push(of_matmul(size, &mut random));
    }
    trials
}

fn of_saxpy(n: u32, random: &mut Random) -> Trial {
    let (x, y, a) = (random.floats(n.into()), random.floats(n.into()), 2.7);
    Trial {
        shader: SAXPY,
        size: n.to_string(),
        operands: vec![bits(&x), bits(&y), filled(n as usize)],
        scalars: vec![n, f32::to_bits(a)],
        invocations: each(n as usize),
        expected: bits(&saxpy(&x, &y, a)),
        agreement: Agreement::Within(x.iter().zip(&y).map(|(x, y)| f32::EPSILON * ((a * x).abs() + y.abs())).collect()),
    }
}

fn of_reduce(n: u32, random: &mut Random) -> Trial {
    let x = random.floats(n.into());
    Trial {
        shader: REDUCE,
        size: n.to_string(),
        operands: vec![bits(&x), filled(blocks(x.len()))],
        scalars: vec![n],
        invocations: sixteen_each(x.len()),
        expected: bits(&reduce(&x)),
        agreement: Agreement::Exact,
    }
}

fn of_histogram(n: u32, random: &mut Random) -> Trial {
    let channels = 1 + n % 4;
    let (pixels, bins) = (random.words(n.into()), random.words(u64::from(channels) * BINS as u64));
    // No bin overflows.
    let bins = buffer::from_fn(bins.len(), |bin| bins[bin] >> 8);
    Trial {
        shader: HISTOGRAM,
        size: format!("{n} pixels, {channels} channel(s)"),
        operands: vec![pixels.to_vec(), bins.to_vec()],
        scalars: vec![n, channels],
        invocations: sixteen_each(pixels.len()),
        expected: histogram(&pixels, bins, channels).to_vec(),
        agreement: Agreement::Exact,
    }
}

fn of_estimate_pi(n: u32) -> Trial {
    let expected = estimate_pi(n, 7, 1).to_vec();
    Trial {
        shader: ESTIMATE_PI,
        size: n.to_string(),
        operands: vec![filled(expected.len())],
        scalars: vec![n, 7, 1],
        invocations: sixteen_each(n as usize),
        expected,
        agreement: Agreement::Exact,
    }
}

fn of_life(rows: u32, columns: u32, random: &mut Random) -> Trial {
    let cells = random.words(u64::from(rows) * u64::from(columns));
    let cells = buffer::from_fn(cells.len(), |cell| cells[cell] >> 31);
    let (birth, survival) = (1 << 3, 1 << 2 | 1 << 3);
    Trial {
        shader: LIFE,
        size: format!("{rows} x {columns}"),
        operands: vec![cells.to_vec(), filled(cells.len())],
        scalars: vec![columns, rows, birth, survival],
        invocations: grid(rows, columns),
        expected: life(&cells, columns, rows, birth, survival).to_vec(),
        agreement: Agreement::Exact,
    }
}

fn of_transpose(rows: u32, columns: u32, random: &mut Random) -> Trial {
    let x = random.floats(u64::from(rows) * u64::from(columns));
    Trial {
        shader: TRANSPOSE,
        size: format!("{rows} x {columns}"),
        operands: vec![bits(&x), filled(x.len())],
        scalars: vec![rows, columns],
        invocations: grid(rows, columns),
        expected: bits(&transpose(&x, rows, columns)),
        agreement: Agreement::Exact,
    }
}

fn of_convolve(
    height: u32,
    width: u32,
    (edge, filters, colours): (u32, u32, u32),
    weights: &[f32],
    agreement: Agreement,
    random: &mut Random,
) -> Trial {
    let (pixels, weights) = (random.words(u64::from(width) * u64::from(height)), buffer::from_slice(weights));
    Trial {
        shader: CONVOLVE,
        size: format!("{width} x {height} pixels, {filters} filter(s) of {edge} x {edge}"),
        operands: vec![pixels.to_vec(), bits(&weights), filled(pixels.len())],
        scalars: vec![width, height, edge, filters, colours],
        invocations: grid(height, width),
        expected: convolve(&pixels, &weights, Filter { width, height, edge, filters, colours }).to_vec(),
        agreement,
    }
}

fn of_matmul((rows, columns, depth): (u32, u32, u32), random: &mut Random) -> Trial {
    let (a, b) = (random.floats(u64::from(rows) * u64::from(depth)), random.floats(u64::from(depth) * u64::from(columns)));
    let sizes = |values: &Buffer<f32>| buffer::from_fn(values.len(), |index| values[index].abs());
    let magnitudes = matmul(&sizes(&a), &sizes(&b), rows, columns, depth);
    Trial {
        shader: MATMUL,
        size: format!("{rows} x {depth} by {depth} x {columns}"),
        operands: vec![bits(&a), bits(&b), filled(rows as usize * columns as usize)],
        scalars: vec![rows, columns, depth],
        invocations: matmul_grid(rows, columns),
        expected: bits(&matmul(&a, &b, rows, columns, depth)),
        agreement: Agreement::Within(magnitudes.iter().map(|magnitude| rounding(depth, *magnitude)).collect()),
    }
}
