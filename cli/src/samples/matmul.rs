//! `matmul`: C = A B in tiles. Tasks that update the same tile form a chain; chains of different tiles run at the same time.
//!
//! Nobody says which task comes before which: each update takes the tile's last task as its argument. Where there is a device, updates are kernels.

use ndarray::{ArrayView1, ArrayView2};
use poniard::{AllocateError, Buffer, Kernel, buffer};

use super::product::add_product;
use super::random::Random;
use super::tiling::{TileTasks, Tiling, cut_out, paste};
use super::{files, limits, npy};
use crate::sample::{Check, Context, Outcome, Sample, SampleError, SampleOption};

pub(crate) static SAMPLE: Sample = Sample {
    name: "matmul",
    summary: "the product of two random matrices in tiles: chains of updates",
    options: &[
        SampleOption { name: "size", meaning: "rows and columns, default 1024" },
        SampleOption { name: "tile", meaning: "rows and columns of a tile, default 256" },
        SampleOption { name: "seed", meaning: "what the matrices are drawn from, default 0" },
        SampleOption { name: "output", meaning: "a .npy file for the product" },
    ],
    kernels: true,
    run,
};

/// Rows and columns of what one invocation of the kernel makes.
const KERNEL_EDGE: usize = 4;

/// Numbers from -1 to 1.
fn random_matrix(size: usize, seed: u64, stream: u64) -> Result<Buffer<f64>, SampleError> {
    let mut random = Random::new(seed, stream);
    let mut matrix = limits::zeroed("size", size * size)?;
    matrix.fill_with(|| 2.0 * random.unit() - 1.0);
    Ok(matrix)
}

/// The first product of a tile of C.
fn begin(a: &Buffer<f64>, b: &Buffer<f64>, height: usize, width: usize, depth: usize) -> Result<Buffer<f64>, AllocateError> {
    let mut c = buffer::try_zeroed(height * width)?;
    add_product(&mut c, a, b, width, depth);
    Ok(c)
}

/// Adds a further product to a tile of C in place.
fn update(mut c: Buffer<f64>, a: &Buffer<f64>, b: &Buffer<f64>, width: usize, depth: usize) -> Buffer<f64> {
    add_product(&mut c, a, b, width, depth);
    c
}

/// What `matmul.wgsl` does: a tile of C with a further product.
fn updated(c: &Buffer<f64>, a: &Buffer<f64>, b: &Buffer<f64>, width: u32, depth: u32) -> Result<Buffer<f64>, AllocateError> {
    let mut after = buffer::try_zeroed(c.len())?;
    after.copy_from_slice(c);
    Ok(update(after, a, b, width as usize, depth as usize))
}

fn run(context: &Context<'_>) -> Result<Outcome, SampleError> {
    let runtime = context.runtime;
    let size = limits::count("size", context.size, 1024, 1 << 20)?;
    let tile = limits::count("tile", context.tile, 256, u64::MAX)?;
    let tiling = Tiling::new(size, tile);
    let tiles = tiling.count();
    let per_matrix = (tiles as u64).checked_pow(2);
    limits::tasks("tile", (tiles as u64).checked_pow(3).and_then(|products| products.checked_add(2 * per_matrix?)))?;
    // A and B, whole and in tiles; C in tiles and whole.
    limits::memory("size", (size as u64).checked_pow(2).and_then(|elements| elements.checked_mul(6 * 8)))?;
    files::check_output(context, &["npy"])?;

    let a = runtime.value(random_matrix(size, context.seed, 0)?);
    let b = runtime.value(random_matrix(size, context.seed, 1)?);
    let cut_all = |matrix| {
        let mut cuts = TileTasks::new(tiles, tiles);
        for row in 0..tiles {
            for column in 0..tiles {
                let arguments = (matrix, size, tiling.span(row), tiling.span(column));
                cuts.put(row, column, runtime.task(cut_out, arguments).name("cut").spawn());
            }
        }
        cuts
    };
    let (a_tiles, b_tiles) = (cut_all(&a), cut_all(&b));

    let kernel = Kernel::wgsl("updated", include_str!("matmul.wgsl")).host(updated);
    let mut c_tiles = TileTasks::new(tiles, tiles);
    for row in 0..tiles {
        for column in 0..tiles {
            let (height, width) = (tiling.len_of(row), tiling.len_of(column));
            if context.kernels.is_some() {
                c_tiles.put(row, column, runtime.value(limits::zeroed("size", height * width)?));
            }
            for inner in 0..tiles {
                let depth = tiling.len_of(inner);
                let (a, b) = (a_tiles.get(row, inner), b_tiles.get(inner, column));
                let task = if let Some(options) = context.kernels {
                    let arguments = (c_tiles.take(row, column), a, b, width as u32, depth as u32);
                    let launch = kernel.over_2d(width.div_ceil(KERNEL_EDGE), height.div_ceil(KERNEL_EDGE));
                    runtime.task(launch.returning([height * width]), arguments).options(options).name("update").spawn()
                } else if inner == 0 {
                    runtime.task(begin, (a, b, height, width, depth)).name("begin").spawn()
                } else {
                    // The old tile is taken out and handed over: the task owns it alone and updates it in place.
                    runtime.task(update, (c_tiles.take(row, column), a, b, width, depth)).name("update").spawn()
                };
                c_tiles.put(row, column, task);
            }
        }
    }
    drop((a_tiles, b_tiles));

    let mut product: Buffer<f64> = limits::zeroed("size", size * size)?;
    for row in 0..tiles {
        for column in 0..tiles {
            let tile = c_tiles.take(row, column).fetch()?;
            paste(&mut product, size, tiling.span(row), tiling.span(column), &tile);
            context.progress.advance((row * tiles + column + 1) as u64, (tiles * tiles) as u64);
        }
    }

    let square = |values| ArrayView2::from_shape((size, size), values).expect("the buffer has size x size elements");
    let (a, b) = (a.fetch()?, b.fetch()?);
    let corner = product[0];
    Ok(Outcome {
        lines: vec![format!("C = A B, {size} x {size} in {tiles} x {tiles} tiles; C[0][0] = {corner:.6}")],
        values: vec![("size", size.into()), ("tiles", (tiles * tiles).into()), ("corner", corner.into())],
        check: check(square(&a[..]), square(&b[..]), square(&product[..]), context.seed),
        output: context.output.map(|_| npy::write(square(&product[..]))),
    })
}

/// Freivalds' check: C x = A (B x) for random x of ±1, which takes three products of a matrix and a vector instead of one of two matrices.
///
/// A wrong element of C changes one element of C x by just as much, for every x. Wrong elements in one row could cancel; ten vectors make
/// that less likely than 1 in 1000. What rounding may add up to is bounded as in Higham & Mary, "A new approach to probabilistic
/// rounding error analysis", SIAM J. Sci. Comput. 41(5), 2019.
fn check(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>, c: ArrayView2<'_, f64>, seed: u64) -> Check {
    const VECTORS: u64 = 10;
    let size = a.nrows();
    let ones = vec![1.0; size];
    let magnitude = times(a, &times(b, &ones, f64::abs), f64::abs);
    let rounding = 8.0 * (size as f64).sqrt() * f64::EPSILON;
    let (mut worst, mut allowed, mut passed) = (0.0, 0.0, true);
    for vector in 0..VECTORS {
        let mut random = Random::new(seed, 2 + vector);
        let x: Vec<f64> = ones.iter().map(|one| if random.below(2) == 0 { *one } else { -one }).collect();
        let (left, right) = (times(c, &x, |value| value), times(a, &times(b, &x, |value| value), |value| value));
        for ((left, right), magnitude) in left.iter().zip(&right).zip(&magnitude) {
            let (difference, bound) = ((left - right).abs(), rounding * magnitude);
            // Written so that NaN does not pass.
            passed &= difference <= bound;
            worst = f64::max(worst, difference);
            allowed = f64::max(allowed, bound);
        }
    }
    Check { passed, text: format!("max |C x - A (B x)| {worst:.1e} for {VECTORS} random x of ±1 (allowed {allowed:.1e})") }
}

/// `matrix` times `vector` in plain loops, with `change` applied to every element of the matrix.
fn times(matrix: ArrayView2<'_, f64>, vector: &[f64], change: fn(f64) -> f64) -> Vec<f64> {
    let dot = |row: ArrayView1<'_, f64>| row.iter().zip(vector).map(|(element, value)| change(*element) * value).sum();
    matrix.rows().into_iter().map(dot).collect()
}

#[cfg(test)]
mod tests {
    use super::super::trial::{Trial, with_and_without_devices};
    use super::*;
    use ndarray::array;

    #[test]
    fn runs_at_awkward_sizes() {
        let places = with_and_without_devices();
        for (size, tile) in [(1, 1), (1, 256), (5, 2), (7, 7), (7, 100), (64, 16), (65, 16), (3, u64::MAX)] {
            for on_devices in places {
                Trial { on_devices: *on_devices, size: Some(size), tile: Some(tile), seed: size, ..Trial::default() }.passes(&SAMPLE);
            }
        }
    }

    #[test]
    fn agrees_with_a_triple_loop_and_writes_it() {
        let outcome = Trial { size: Some(9), tile: Some(4), seed: 3, output: Some("c.npy".into()), ..Trial::default() }.passes(&SAMPLE);
        let (a, b) = (random_matrix(9, 3, 0).unwrap(), random_matrix(9, 3, 1).unwrap());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("c.npy"), outcome.output.unwrap()).unwrap();
        let c = npy::read_square(&folder.path().join("c.npy")).unwrap();
        for row in 0..9 {
            for column in 0..9 {
                let expected: f64 = (0..9).map(|inner| a[row * 9 + inner] * b[inner * 9 + column]).sum();
                assert!((c.values[row * 9 + column] - expected).abs() < 1e-14);
            }
        }
    }

    #[test]
    fn refuses_options_without_sense() {
        for size in [0, 1 << 20, u64::MAX] {
            Trial { size: Some(size), tile: Some(u64::MAX), ..Trial::default() }.refused(&SAMPLE, "size");
        }
        for tile in [0, 1] {
            Trial { tile: Some(tile), ..Trial::default() }.refused(&SAMPLE, "tile");
        }
        Trial { output: Some("c.png".into()), ..Trial::default() }.refused(&SAMPLE, "output");
    }

    #[test]
    fn check_notices_one_wrong_element() {
        let (a, b) = (array![[0.5, 1.0], [0.25, -1.0]], array![[1.0, 0.5], [-0.5, 1.0]]);
        let mut c = array![[0.0, 1.25], [0.75, -0.875]];
        assert!(check(a.view(), b.view(), c.view(), 0).passed);
        for wrong in [1e-12, f64::NAN, f64::INFINITY] {
            c[[1, 0]] = 0.75 + wrong;
            assert!(!check(a.view(), b.view(), c.view(), 0).passed, "{wrong}");
        }
    }
}
