//! The tiled Cholesky factorisation as a region: its updates are kernels' launches, the rest are tasks of the host, and tiles go to and fro as they read and write them.

use poniard::{BoxError, Buffer, Kernel, Mutable, buffer, read, write};

use crate::stand::{Stand, WAYS};

const TILE: usize = 16;
const COUNT: usize = 5;
const SIZE: usize = TILE * COUNT;

/// c = c - a bᵀ, for tiles of one size.
const UPDATE: &str = "
    var<immediate> n: u32;
    @group(0) @binding(0) var<storage> a: array<f32>;
    @group(0) @binding(1) var<storage> b: array<f32>;
    @group(0) @binding(2) var<storage, read_write> c: array<f32>;
    @compute @workgroup_size(8, 8)
    fn update(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x >= n || id.y >= n { return; }
        var sum = c[id.y * n + id.x];
        for (var k = 0u; k < n; k++) { sum -= a[id.y * n + k] * b[id.x * n + k]; }
        c[id.y * n + id.x] = sum;
    }
";

/// Symmetric, and larger on the diagonal than all the rest of a row together.
fn element(row: usize, column: usize) -> f32 {
    if row == column { 2.0 * SIZE as f32 } else { ((row + column) * 7 % 13) as f32 / 13.0 }
}

fn potrf(a: &mut Buffer<f32>) -> Result<(), BoxError> {
    for column in 0..TILE {
        for row in column..TILE {
            let below: f32 = (0..column).map(|k| a[row * TILE + k] * a[column * TILE + k]).sum();
            let left = a[row * TILE + column] - below;
            if row == column && left <= 0.0 {
                return Err(format!("pivot {column} is {left}").into());
            }
            a[row * TILE + column] = if row == column { left.sqrt() } else { left / a[column * TILE + column] };
        }
    }
    Ok(())
}

/// a = a l⁻ᵀ, with what is on the diagonal of `l` and below it.
fn trsm(l: &Buffer<f32>, a: &mut Buffer<f32>) {
    for row in 0..TILE {
        for column in 0..TILE {
            let before: f32 = (0..column).map(|k| a[row * TILE + k] * l[column * TILE + k]).sum();
            a[row * TILE + column] = (a[row * TILE + column] - before) / l[column * TILE + column];
        }
    }
}

#[test]
fn a_region_factors_a_matrix_with_its_updates_on_a_device() {
    for way in WAYS {
        let Some(stand) = Stand::new(way) else { return };
        let update = Kernel::wgsl("update", UPDATE).takes::<(&Buffer<f32>, &Buffer<f32>, &mut Buffer<f32>, u32), ()>();
        let tile = |i: usize, j: usize| {
            Mutable::new(buffer::from_fn(TILE * TILE, |index| element(i * TILE + index / TILE, j * TILE + index % TILE)))
        };
        let a: Vec<Vec<_>> = (0..COUNT).map(|i| (0..=i).map(|j| tile(i, j)).collect()).collect();
        let done = stand.runtime.region(|r| {
            for k in 0..COUNT {
                r.spawn(potrf, (write(&a[k][k]),));
                for i in k + 1..COUNT {
                    r.spawn(trsm, (read(&a[k][k]), write(&a[i][k])));
                }
                for i in k + 1..COUNT {
                    for j in k + 1..=i {
                        r.spawn(update.over_2d(TILE, TILE), (read(&a[i][k]), read(&a[j][k]), write(&a[i][j]), TILE as u32));
                    }
                }
            }
        });
        done.expect("the matrix is positive definite");
        let tiles: Vec<Vec<Buffer<f32>>> =
            a.into_iter().map(|row| row.into_iter().map(|tile| tile.take().expect("runs")).collect()).collect();
        let factor = |row: usize, column: usize| {
            if column > row { 0.0 } else { tiles[row / TILE][column / TILE][row % TILE * TILE + column % TILE] }
        };
        for row in 0..SIZE {
            for column in 0..=row {
                let product: f32 = (0..SIZE).map(|k| factor(row, k) * factor(column, k)).sum();
                let error = (product - element(row, column)).abs();
                assert!(error <= 1e-3, "{way:?}: element ({row}, {column}) is {product} instead of {}", element(row, column));
            }
        }
        stand.finish();
    }
}
