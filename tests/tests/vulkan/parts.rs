//! Parts of buffers on devices: blocks of matrices, which have gaps.

use ndarray::s;
use poniard::{Buffer, Kernel, Mutable, View, ViewMut, buffer, read, write};

use crate::stand::{Stand, WAYS};

const SIZE: usize = 96;
const TILE: usize = 32;
const COUNT: usize = SIZE / TILE;

/// c = c + a b, for tiles of one size.
const MULTIPLY: &str = "
    var<immediate> n: u32;
    @group(0) @binding(0) var<storage> a: array<f32>;
    @group(0) @binding(1) var<storage> b: array<f32>;
    @group(0) @binding(2) var<storage, read_write> c: array<f32>;
    @compute @workgroup_size(8, 8)
    fn multiply(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x >= n || id.y >= n { return; }
        var sum = c[id.y * n + id.x];
        for (var k = 0u; k < n; k++) { sum += a[id.y * n + k] * b[k * n + id.x]; }
        c[id.y * n + id.x] = sum;
    }
";

/// x = 2 x, in place.
const DOUBLE: &str = "
    @group(0) @binding(0) var<storage, read_write> x: array<f32>;
    @compute @workgroup_size(64)
    fn double(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < arrayLength(&x) { x[id.x] *= 2; }
    }
";

fn matrix(number: usize) -> Buffer<f32> {
    buffer::from_fn(SIZE * SIZE, |index| ((index * 7 + number * 5) % 11) as f32)
}

#[test]
fn a_product_of_matrices_by_tiles_that_are_parts_of_them() {
    for way in WAYS {
        let Some(stand) = Stand::new(way) else { return };
        let runtime = &stand.runtime;
        let multiply = Kernel::wgsl("multiply", MULTIPLY).takes::<(View<'_, f32>, View<'_, f32>, ViewMut<'_, f32>, u32), ()>();
        let matrices = [1, 2, 3].map(|number| Mutable::new(matrix(number)));
        let wholes = matrices.each_ref().map(|values| values.whole().and_then(|whole| whole.shaped((SIZE, SIZE))).expect("a matrix"));
        let tile = |of: usize, i: usize, j: usize| {
            let range = |place: usize| place * TILE..(place + 1) * TILE;
            wholes[of].part(s![range(i), range(j)]).expect("a tile")
        };
        for i in 0..COUNT {
            for j in 0..COUNT {
                for k in 0..COUNT {
                    let arguments = (read(&tile(0, i, k)), read(&tile(1, k, j)), write(&tile(2, i, j)), TILE as u32);
                    runtime.spawn(multiply.over_2d(TILE, TILE), arguments).detach();
                }
            }
        }
        // The host has a column of it, and then a device every third row, without the first columns.
        let bump = |mut column: ViewMut<'_, f32>| (0..column.len()).for_each(|row| column[row] += 1.0);
        runtime.spawn(bump, (write(&wholes[2].part(s![.., 50]).expect("a column")),)).detach();
        let double = Kernel::wgsl("double", DOUBLE).takes::<(ViewMut<'_, f32>,), ()>();
        let rows = wholes[2].part(s![..;3, 5..]).expect("rows");
        runtime.spawn(double.over(rows.len()), (write(&rows),)).wait().expect("runs");
        let (a, b, mut expected) = (matrix(1), matrix(2), matrix(3));
        for i in 0..SIZE {
            for j in 0..SIZE {
                let mut sum = expected[SIZE * i + j] + (0..SIZE).map(|k| a[SIZE * i + k] * b[SIZE * k + j]).sum::<f32>();
                sum += if j == 50 { 1.0 } else { 0.0 };
                expected[SIZE * i + j] = if i % 3 == 0 && j >= 5 { 2.0 * sum } else { sum };
            }
        }
        let [.., c] = matrices;
        assert_eq!(c.take().expect("runs")[..], expected[..], "{way:?}");
        stand.finish();
    }
}
