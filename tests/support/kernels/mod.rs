//! The kernels of the samples: for each a body for devices, in WGSL, and one for the host, a plain function.
//!
//! A `.wgsl` file says what its kernel does, and how many invocations do it. Its buffers are arrays in group 0, what is read first and what is written last;
//! its scalars are one structure. Every size works, none too: each invocation asks the scalars whether there is something for it. The functions below are the host's
//! bodies, in the order in which a device computes, so that the two agree as closely as [`Trial`] says.
//!
//! WGSL has no bytes. A pixel is therefore a word, with channel c in its byte c, counted from the lowest, and a cell of a board is a word as well.

mod trial;

use poniard::{Buffer, buffer};

pub use trial::{Agreement, Trial, short_trials, trials};

/// A kernel's body for devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shader {
    /// The kernel's name.
    pub name: &'static str,
    /// Its source in WGSL.
    pub source: &'static str,
}

macro_rules! shaders {
    ($($constant:ident $name:literal $file:literal,)*) => {
        $(
            #[doc = concat!("The kernel `", $name, "`.")]
            pub const $constant: Shader = Shader { name: $name, source: include_str!($file) };
        )*
        /// All of them.
        pub const SHADERS: &[Shader] = &[$($constant),*];
    };
}
shaders!(
    SAXPY "saxpy" "saxpy.wgsl",
    CONVOLVE "convolve" "convolve.wgsl",
    LIFE "life" "life.wgsl",
    MATMUL "matmul" "matmul.wgsl",
    REDUCE "reduce" "reduce.wgsl",
    HISTOGRAM "histogram" "histogram.wgsl",
    ESTIMATE_PI "estimate-pi" "estimate_pi.wgsl",
    TRANSPOSE "transpose" "transpose.wgsl",
);

/// What a workgroup of `reduce`, `histogram` and `estimate-pi` takes.
const BLOCK: usize = 4096;
/// Values of a channel.
const BINS: usize = 256;

/// Invocations of a kernel that does `n` elements, one each.
pub fn each(n: usize) -> [u64; 3] {
    [n as u64, 1, 1]
}

/// Invocations of a kernel that does 16 elements in each, and writes something if there is none.
pub fn sixteen_each(n: usize) -> [u64; 3] {
    [n.div_ceil(16).max(1) as u64, 1, 1]
}

/// Invocations of a kernel that does one element of a grid in each.
pub fn grid(rows: u32, columns: u32) -> [u64; 3] {
    [columns.into(), rows.into(), 1]
}

/// Invocations of [`MATMUL`].
pub fn matmul_grid(rows: u32, columns: u32) -> [u64; 3] {
    grid(rows.div_ceil(8), columns.div_ceil(8))
}

/// How many results [`reduce`] and [`estimate_pi`] have for `n` elements.
pub fn blocks(n: usize) -> usize {
    n.div_ceil(BLOCK).max(1)
}

/// The kernel [`SAXPY`].
pub fn saxpy(x: &Buffer<f32>, y: &Buffer<f32>, a: f32) -> Buffer<f32> {
    buffer::from_fn(x.len(), |i| a * x[i] + y[i])
}

/// What [`convolve`] and [`CONVOLVE`] do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Rows and columns of the filter: odd.
    pub edge: u32,
    /// How many filters there are: one, or two whose results are the parts of a vector.
    pub filters: u32,
    /// How many channels are filtered.
    pub colours: u32,
}

/// The kernel [`CONVOLVE`]. Sums are `f32`: exact, and so the same on every device, for weights that are multiples of 1/256 and whose sizes sum to less than 256.
/// Other filters may differ by one level.
pub fn convolve(pixels: &Buffer<u32>, weights: &Buffer<f32>, filter: Filter) -> Buffer<u32> {
    let Filter { width, height, edge, filters, colours } = filter;
    let (reach, filter_len) = (edge / 2, (edge * edge) as usize);
    let position = |place: u32, len: u32| place.saturating_sub(reach).min(len - 1);
    let sum = |row: u32, column: u32, weights: &[f32]| {
        let mut total = [0.0; 4];
        for (down, weights) in (row..).zip(weights.chunks_exact(edge as usize)) {
            let line = &pixels[(position(down, height) * width) as usize..];
            for (right, weight) in (column..).zip(weights) {
                for (total, value) in total.iter_mut().zip(line[position(right, width) as usize].to_le_bytes()) {
                    *total += weight * f32::from(value);
                }
            }
        }
        total
    };
    buffer::from_fn(pixels.len(), |at| {
        let (row, column) = (at as u32 / width, at as u32 % width);
        let mut values = sum(row, column, &weights[..filter_len]);
        if filters == 2 {
            for (value, across) in values.iter_mut().zip(sum(row, column, &weights[filter_len..])) {
                *value = (*value * *value + across * across).sqrt();
            }
        }
        let mut bytes = pixels[at].to_le_bytes();
        for (byte, value) in bytes.iter_mut().zip(values).take(colours as usize) {
            *byte = (value + 0.5).floor() as u8;
        }
        u32::from_le_bytes(bytes)
    })
}

/// The kernel [`LIFE`]: the rule is two sets of bits, see there.
pub fn life(cells: &Buffer<u32>, width: u32, height: u32, birth: u32, survival: u32) -> Buffer<u32> {
    let (width, height) = (width as usize, height as usize);
    buffer::from_fn(cells.len(), |at| {
        let (row, column) = (at / width, at % width);
        let rows = [(row + height - 1) % height, row, (row + 1) % height];
        let columns = [(column + width - 1) % width, column, (column + 1) % width];
        let all: u32 = rows.iter().flat_map(|row| columns.map(|column| cells[row * width + column])).sum();
        let rule = if cells[at] == 1 { survival } else { birth };
        rule >> (all - cells[at]) & 1
    })
}

/// The kernel [`MATMUL`].
pub fn matmul(a: &Buffer<f32>, b: &Buffer<f32>, rows: u32, columns: u32, depth: u32) -> Buffer<f32> {
    let (rows, columns, depth) = (rows as usize, columns as usize, depth as usize);
    let mut c: Buffer<f32> = buffer::zeroed(rows * columns);
    for row in 0..rows {
        let line = &mut c[row * columns..][..columns];
        for k in 0..depth {
            let factor = a[row * depth + k];
            for (sum, value) in line.iter_mut().zip(&b[k * columns..][..columns]) {
                *sum += factor * value;
            }
        }
    }
    c
}

/// The kernel [`REDUCE`]: a sum for each block.
pub fn reduce(x: &Buffer<f32>) -> Buffer<f32> {
    buffer::from_fn(blocks(x.len()), |block| {
        let [first, end] = [block, block + 1].map(|block| (block * BLOCK).min(x.len()));
        let mut lanes = [0.0; 256];
        for line in x[first..end].chunks(256) {
            for (sum, value) in lanes.iter_mut().zip(line) {
                *sum += value;
            }
        }
        let mut half = 128;
        while half > 0 {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
            half /= 2;
        }
        lanes[0]
    })
}

/// The kernel [`HISTOGRAM`]: adds to `bins`, which has 256 for each channel.
pub fn histogram(pixels: &Buffer<u32>, mut bins: Buffer<u32>, channels: u32) -> Buffer<u32> {
    for pixel in pixels {
        for (value, bins) in pixel.to_le_bytes().into_iter().zip(bins.chunks_exact_mut(BINS)).take(channels as usize) {
            bins[usize::from(value)] += 1;
        }
    }
    bins
}

/// The kernel [`ESTIMATE_PI`]: how many points of each block lie in the quarter of a circle. Four times their sum over `n` is an estimate of pi.
pub fn estimate_pi(n: u32, seed: u32, stream: u32) -> Buffer<u32> {
    let is_inside = |point: u32| {
        let [x, y, _] = pcg3d([point, seed, stream]).map(|bits| u64::from((bits >> 17) * 2 + 1));
        x * x + y * y < 1 << 32
    };
    buffer::from_fn(blocks(n as usize), |block| {
        let first = (block * BLOCK) as u32;
        (first..n.min(first.saturating_add(BLOCK as u32))).filter(|point| is_inside(*point)).count() as u32
    })
}

/// Three numbers that look random, a function of three others: see `estimate_pi.wgsl`.
fn pcg3d(key: [u32; 3]) -> [u32; 3] {
    let mut v = key.map(|word| word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    let stir = |v: &mut [u32; 3]| {
        for index in 0..3 {
            v[index] = v[index].wrapping_add(v[(index + 1) % 3].wrapping_mul(v[(index + 2) % 3]));
        }
    };
    stir(&mut v);
    v = v.map(|word| word ^ word >> 16);
    stir(&mut v);
    v
}

/// The kernel [`TRANSPOSE`].
pub fn transpose(x: &Buffer<f32>, rows: u32, columns: u32) -> Buffer<f32> {
    let (rows, columns) = (rows as usize, columns as usize);
    buffer::from_fn(x.len(), |at| x[at % rows * columns + at / rows])
}
