//! Parts of buffers on devices, with a stand-in for the device: only their bytes are copied, and only where they are stale.

use ndarray::s;
use poniard::{Buffer, FailureKind, Kernel, Mutable, Part, PartError, RegionOptions, Scope, View, ViewMut, buffer, overwrite, read, write};
use poniard_tests::device::{FakeDevice, Mode};
use poniard_tests::in_time;
use poniard_tests::stage::{BUMP, MULTIPLY, SCALE, one, ramp, small};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

type Bump = Kernel<fn(ViewMut<'static, f32>)>;
type Scale = Kernel<fn(View<'static, f32>, f32) -> Buffer<f32>>;

/// Adds 1 to each element of a part.
fn bump() -> Bump {
    Kernel::wgsl("bump", BUMP).takes::<(ViewMut<'_, f32>,), ()>()
}

/// The elements of a part times a number.
fn scale() -> Scale {
    Kernel::wgsl("scale", SCALE).takes::<(View<'_, f32>, f32), Buffer<f32>>()
}

fn add(mut view: ViewMut<'_, f32>, more: f32) {
    (0..view.len()).for_each(|at| view[at] += more);
}

fn sum(view: View<'_, f32>) -> f32 {
    (0..view.len()).map(|at| view[at]).sum()
}

#[test]
fn a_launch_has_a_part_and_nothing_else_is_copied() {
    let (runtime, device, _) = one(small());
    let values = Mutable::new(ramp(1000));
    let part = values.rows(100..200).unwrap();
    for _ in 0..3 {
        runtime.spawn(bump().over(100), (write(&part),)).wait().unwrap();
    }
    assert_eq!(device.copied_bytes(), (400, 0));
    // Others of the host are as they were, and looking at them copies nothing.
    assert_eq!(*runtime.spawn(sum, (read(&values.rows(200..202).unwrap()),)).fetch().unwrap(), 401.0);
    runtime.spawn(add, (write(&values.rows(..100).unwrap()), 0.5)).wait().unwrap();
    assert_eq!(device.copied_bytes(), (400, 0));
    let z = runtime.spawn(scale().over(100), (read(&part), 2.0));
    assert_eq!(z.fetch().unwrap()[1], 208.0);
    assert_eq!(device.copied_bytes(), (400, 400), "the result, and not the part");
    assert_eq!(*runtime.spawn(sum, (read(&values.rows(199..201).unwrap()),)).fetch().unwrap(), 402.0);
    assert_eq!(device.copied_bytes(), (400, 800));
    let values = values.take().unwrap();
    assert_eq!((values[99], values[100], values[199], values[200]), (99.5, 103.0, 202.0, 200.0));
    assert_eq!(device.copied_bytes(), (400, 800));
}

#[test]
fn a_part_of_an_imported_buffer_is_copied_only_where_it_cannot_be_bound() {
    let (runtime, device, _) = one(small().importing());
    let values = Mutable::new(ramp(1000));
    for first in [0, 16, 100] {
        runtime.spawn(bump().over(10), (write(&values.rows(first..first + 10).unwrap()),)).wait().unwrap();
    }
    let values = values.take().unwrap();
    assert_eq!((values[0], values[9], values[10], values[16], values[100], values[110]), (1.0, 10.0, 10.0, 17.0, 101.0, 110.0));
    assert_eq!(device.copied_bytes(), (0, 0));
}

#[test]
fn what_the_host_changes_of_a_part_makes_that_one_stale_and_no_other() {
    let (runtime, device, _) = one(small());
    let values = Mutable::new(ramp(100));
    let (left, right) = (values.rows(..50).unwrap(), values.rows(50..).unwrap());
    let both = || {
        for part in [&left, &right] {
            runtime.spawn(bump().over(50), (write(part),)).wait().unwrap();
        }
    };
    both();
    assert_eq!(device.copied_bytes(), (400, 0));
    // Every other element of the left half, and one of its neighbours that no device has changed since.
    runtime.spawn(add, (write(&values.part(s![..50;2]).unwrap()), 10.0)).wait().unwrap();
    assert_eq!(device.copied_bytes(), (400, 200));
    both();
    assert_eq!(device.copied_bytes(), (600, 200));
    // A part between the two meets both.
    runtime.spawn(bump().over(50), (write(&values.rows(25..75).unwrap()),)).wait().unwrap();
    assert_eq!(device.copied_bytes(), (800, 600));
    // As a whole, which the device has not: of what it has changed itself, the host gets what it lacks.
    runtime.spawn(bump_whole().over(100), (write(&values),)).wait().unwrap();
    assert_eq!(device.copied_bytes(), (1200, 800));
    both();
    let values = values.take().unwrap();
    assert_eq!((values[0], values[1], values[30], values[51], values[99]), (14.0, 5.0, 45.0, 56.0, 103.0));
}

#[test]
fn what_comes_from_a_device_is_no_change_to_a_checked_region() {
    let (runtime, device, _) = one(small());
    let values = Mutable::new(ramp(100));
    let halves = [values.rows(..50).unwrap(), values.rows(50..).unwrap()];
    for half in &halves {
        runtime.spawn(bump().over(50), (write(half),)).wait().unwrap();
    }
    assert_eq!(device.copied_bytes(), (400, 0));
    let checked = RegionOptions::new().checked(true);
    let sums = runtime.region_with(&checked, |r| halves.each_ref().map(|half| r.spawn(sum, (read(half),)))).unwrap();
    assert_eq!(sums.map(|sum| *sum.fetch().unwrap()), [1275.0, 3775.0]);
    assert_eq!(device.copied_bytes(), (400, 400));
}

/// Adds 1 to each element of a buffer.
fn bump_whole() -> Kernel<fn(&'static mut Buffer<f32>)> {
    Kernel::wgsl("bump", BUMP).takes::<(&mut Buffer<f32>,), ()>()
}

#[test]
fn launches_of_parts_that_have_nothing_in_common_are_under_way_together_and_beside_the_host() {
    in_time(|| {
        let (runtime, device, devices) = one(small());
        let values = Mutable::new(ramp(30));
        device.set(Mode::Hold);
        let part = |first: usize| values.rows(first..first + 10).unwrap();
        let launches = [0, 10].map(|first| runtime.spawn(bump().over(10), (write(&part(first)),)));
        // What meets both needs the bytes of both, which the host has to have between.
        let seen = runtime.spawn(scale().over(10), (read(&part(5)), 1.0));
        let across = runtime.spawn(bump().over(10), (write(&part(5)),));
        // The host has the rest meanwhile.
        runtime.spawn(add, (write(&part(20)), 100.0)).wait().unwrap();
        assert_eq!(*runtime.spawn(sum, (read(&part(20)),)).fetch().unwrap(), 245.0 + 1000.0);
        assert_eq!(device.held(), 2);
        device.set(Mode::Run);
        device.release(devices.host());
        launches.iter().for_each(|launch| launch.wait().unwrap());
        assert_eq!((seen.fetch().unwrap()[0], seen.fetch().unwrap()[9]), (6.0, 15.0));
        across.wait().unwrap();
        let values = values.take().unwrap();
        assert_eq!((values[0], values[5], values[14], values[15], values[29]), (1.0, 7.0, 16.0, 16.0, 129.0));
    });
}

#[test]
fn what_is_overwritten_of_a_part_is_not_copied_first() {
    let (runtime, device, _) = one(small());
    let into = Kernel::wgsl("copy", "copy\nin x f32\nout z f32").takes::<(View<'_, f32>, ViewMut<'_, f32>), ()>();
    let values = Mutable::new(ramp(100));
    let (from, to) = (values.rows(..10).unwrap(), values.rows(50..60).unwrap());
    runtime.spawn(into.over(10), (read(&from), overwrite(&to))).wait().unwrap();
    assert_eq!(device.copied_bytes(), (40, 0));
    assert_eq!(values.fetch().unwrap()[49..52], [49.0, 0.0, 1.0]);
    assert_eq!(device.copied_bytes(), (40, 40));
}

#[test]
fn a_part_that_is_no_array_of_a_buffer_is_for_the_host() {
    let (runtime, device, _) = one(small());
    let values = Mutable::new(ramp(9));
    let upper = values.whole().unwrap().shaped((3, 3)).unwrap().upper().unwrap();
    let error = runtime.spawn(bump().over(6), (write(&upper),)).wait().unwrap_err();
    assert!(error.to_string().contains("it is given a triangle or a band of a matrix, and a kernel takes rectangles"), "{error}");
    // What failed has left what it was.
    runtime.spawn(|view: ViewMut<'_, f32>| add_to_each(view, 0.0), (overwrite(&upper),)).wait().unwrap();
    let or_host = Kernel::wgsl("bump", BUMP).host(|view: ViewMut<'_, f32>| add_to_each(view, 1.0));
    runtime.spawn(or_host.over(6), (write(&upper),)).wait().unwrap();
    assert_eq!(values.fetch().unwrap()[..], [1.0, 2.0, 3.0, 3.0, 5.0, 6.0, 6.0, 7.0, 9.0]);
    // So is one of no buffer.
    let list = Mutable::new(vec![1.0f32; 4]);
    let error = runtime.spawn(bump().over(4), (write(&list.whole().unwrap()),)).wait().unwrap_err();
    assert!(error.to_string().contains("it is given a part of a value that is no buffer"), "{error}");
    // What is only read is not written.
    let wrong = Kernel::wgsl("bump", BUMP).takes::<(View<'_, f32>,), ()>();
    let error = runtime.spawn(wrong.over(4), (read(&values.rows(..4).unwrap()),)).wait().unwrap_err();
    assert!(error.to_string().contains("its source writes to `x`, which is a part that is read"), "{error}");
    assert_eq!(device.launched(), 0);
}

/// As `add`, of a part of two dimensions, which may be a triangle.
fn add_to_each(mut view: ViewMut<'_, f32>, more: f32) {
    let rows = view.shape()[0];
    (0..rows).for_each(|row| view.row_mut(row).iter_mut().for_each(|value| *value += more));
}

/// A square matrix in a buffer, as a part, and the tiles that it has of so many rows.
fn tiled(values: &Mutable<Buffer<f32>>, size: usize, tile: usize) -> Result<Vec<Vec<Part<f32>>>, PartError> {
    let matrix = values.whole()?.shaped((size, size))?;
    let range = |place: usize| place * tile..(place + 1) * tile;
    let row = |i: usize| (0..size / tile).map(|j| matrix.part(s![range(i), range(j)])).collect();
    (0..size / tile).map(row).collect()
}

#[test]
fn tiles_of_matrices_are_on_a_device_each_by_itself() {
    const SIZE: usize = 12;
    const TILE: usize = 4;
    const COUNT: usize = SIZE / TILE;
    const TILE_BYTES: u64 = (TILE * TILE * 4) as u64;
    let (runtime, device, _) = one(small());
    let multiply = Kernel::wgsl("multiply", MULTIPLY).takes::<(View<'_, f32>, View<'_, f32>, ViewMut<'_, f32>), ()>();
    let of = |number: usize| buffer::from_fn(SIZE * SIZE, |index| ((index * 7 + number * 5) % 11) as f32);
    let matrices = [of(1), of(2), of(3)];
    let mut expected = matrices[2].to_vec();
    let [a, b, c] = matrices.map(Mutable::new);
    let tiles = [&a, &b, &c].map(|values| tiled(values, SIZE, TILE).unwrap());
    for round in 1..3 {
        for i in 0..COUNT {
            for j in 0..COUNT {
                for k in 0..COUNT {
                    let _ =
                        runtime.spawn(multiply.over(TILE * TILE), (read(&tiles[0][i][k]), read(&tiles[1][k][j]), write(&tiles[2][i][j])));
                }
            }
        }
        runtime.wait_idle();
        // The second round finds all of them there.
        let tile_count = (3 * COUNT * COUNT) as u64;
        assert_eq!((device.copies(), device.copied_bytes()), ((tile_count, 0), (tile_count * TILE_BYTES, 0)), "round {round}");
        let (a, b) = (of(1), of(2));
        let product = |index: usize| (0..SIZE).map(|k| a[index / SIZE * SIZE + k] * b[k * SIZE + index % SIZE]).sum::<f32>();
        expected.iter_mut().enumerate().for_each(|(index, value)| *value += product(index));
    }
    // A row of the whole has elements of three tiles, which come back and no others.
    let row = c.whole().unwrap().shaped((SIZE, SIZE)).unwrap().rows(5..6).unwrap();
    let found = *runtime.spawn(|row: View<'_, f32>| row[[0, 2]] + row[[0, 11]], (read(&row),)).fetch().unwrap();
    assert_eq!(found, expected[5 * SIZE + 2] + expected[5 * SIZE + 11]);
    assert_eq!((device.copies().1, device.copied_bytes().1), (3, 3 * TILE_BYTES));
    assert_eq!(c.take().unwrap()[..], expected[..]);
    assert_eq!((device.copies().1, device.copied_bytes().1), (9, 9 * TILE_BYTES));
    // Those that were only read have no need to.
    assert_eq!(a.take().unwrap()[..], of(1)[..]);
    assert_eq!(device.copies().1, 9);
}

#[test]
fn a_device_has_a_part_with_steps_as_an_array_of_its_shape() {
    let (runtime, device, _) = one(small());
    let values = Mutable::new(ramp(60));
    let cube = values.whole().unwrap().shaped((3, 4, 5)).unwrap();
    let expected = ndarray::Array3::from_shape_fn((3, 4, 5), |(i, j, k)| (20 * i + 5 * j + k) as f32);
    let parts = [
        (cube.part(s![.., 1..3, ..]), expected.slice(s![.., 1..3, ..]).iter().copied().collect::<Vec<f32>>()),
        (cube.part(s![..;2, ..;3, 1..;2]), expected.slice(s![..;2, ..;3, 1..;2]).iter().copied().collect()),
        (cube.part(s![1, ..;-1, ..;-2]), expected.slice(s![1, ..;-1, ..;-2]).iter().copied().collect()),
        (cube.part(s![.., 2, 3..4]), expected.slice(s![.., 2, 3..4]).iter().copied().collect()),
    ];
    let mut copied_bytes = 0;
    for (part, expected) in parts {
        let part = part.unwrap();
        let z = runtime.spawn(scale().over(expected.len()), (read(&part), 1.0));
        assert_eq!(z.fetch().unwrap()[..], expected[..], "{part:?}");
        copied_bytes += 4 * expected.len() as u64;
        assert_eq!(device.copied_bytes(), (copied_bytes, copied_bytes), "{part:?}");
    }
    let (part, kept) = (cube.part(s![..;2, ..;3, 1..;2]).unwrap(), copied_bytes);
    runtime.spawn(bump().over(8), (write(&part),)).wait().unwrap();
    assert_eq!(device.copied_bytes(), (kept, kept), "it was there");
    let mut expected = expected;
    expected.slice_mut(s![..;2, ..;3, 1..;2]).iter_mut().for_each(|value| *value += 1.0);
    assert_eq!(&values.take().unwrap()[..], expected.as_slice().unwrap());
    assert_eq!(device.copied_bytes(), (kept, kept + 32));
}

#[test]
fn columns_and_diagonals_are_lists_with_gaps() {
    let (runtime, device, _) = one(small());
    let values = Mutable::new(ramp(16));
    let matrix = values.whole().unwrap().shaped((4, 4)).unwrap();
    let (column, diagonal) = (matrix.part(s![.., 2]).unwrap(), matrix.diagonal().unwrap());
    let (from, to) = (values.part(s![..;5]).unwrap(), values.part(s![4..;4]).unwrap());
    let copy = Kernel::wgsl("copy", "copy\nin x f32\nout z f32").takes::<(View<'_, f32>, ViewMut<'_, f32>), ()>();
    runtime.spawn(bump().over(4), (write(&column),)).wait().unwrap();
    // Named in other words it is the same, and there.
    runtime.spawn(bump().over(4), (write(&matrix.columns(2..3).unwrap()),)).wait().unwrap();
    assert_eq!(device.copied_bytes(), (16, 0));
    // They have element 10 in common, so it comes by way of the host.
    runtime.spawn(bump().over(4), (write(&diagonal),)).wait().unwrap();
    assert_eq!(device.copied_bytes(), (32, 16));
    // Nothing of what is overwritten is copied first, and the diagonal is what `from` names.
    runtime.spawn(copy.over(4), (read(&from), overwrite(&to))).wait().unwrap();
    assert_eq!(device.copied_bytes(), (32, 16));
    let expected = [1.0, 1.0, 4.0, 3.0, 1.0, 6.0, 8.0, 7.0, 6.0, 9.0, 13.0, 11.0, 13.0, 13.0, 16.0, 16.0];
    assert_eq!(values.take().unwrap()[..], expected);
    assert_eq!(device.copied_bytes(), (32, 44));
}

#[test]
fn what_the_host_changes_between_the_elements_of_a_part_is_nothing_to_it() {
    let (runtime, device, _) = one(small());
    let values = Mutable::new(ramp(40));
    let matrix = values.whole().unwrap().shaped((4, 10)).unwrap();
    let (left, right) = (matrix.columns(..3).unwrap(), matrix.columns(3..).unwrap());
    runtime.spawn(bump().over(12), (write(&left),)).wait().unwrap();
    runtime.spawn(add_to_each, (write(&right), 100.0)).wait().unwrap();
    runtime.spawn(bump().over(12), (write(&left),)).wait().unwrap();
    assert_eq!((device.copies(), device.copied_bytes()), ((1, 0), (48, 0)));
    // The host reads what has one element of it: all of it comes, and what it had itself is as it was.
    let across = matrix.part(s![1..3, 2..5]).unwrap();
    assert_eq!(*runtime.spawn(|view: View<'_, f32>| view[[0, 0]] + view[[1, 1]], (read(&across),)).fetch().unwrap(), 14.0 + 123.0);
    assert_eq!((device.copies(), device.copied_bytes()), ((1, 1), (48, 48)));
    // It changes one element of it: what the device has is stale, once.
    runtime.spawn(add_to_each, (write(&across), 1000.0)).wait().unwrap();
    for _ in 0..2 {
        runtime.spawn(bump().over(12), (write(&left),)).wait().unwrap();
    }
    assert_eq!((device.copies(), device.copied_bytes()), ((2, 1), (96, 48)));
    let expected = |index: usize| {
        let (i, j) = (index / 10, index % 10);
        let is_across = (1..3).contains(&i) && (2..5).contains(&j);
        index as f32 + if j < 3 { 4.0 } else { 100.0 } + if is_across { 1000.0 } else { 0.0 }
    };
    assert_eq!(values.take().unwrap()[..], (0..40).map(expected).collect::<Vec<f32>>()[..]);
    assert_eq!((device.copies(), device.copied_bytes()), ((2, 2), (96, 96)));
}

#[test]
fn launches_of_parts_that_lie_between_each_other_are_under_way_together_and_beside_the_host() {
    in_time(|| {
        let (runtime, device, devices) = one(small());
        let values = Mutable::new(ramp(12));
        let third = |first: usize| values.part(s![first..;3]).unwrap();
        device.set(Mode::Hold);
        let launches = [0, 1].map(|first| runtime.spawn(bump().over(4), (write(&third(first)),)));
        // What lies between them is the host's meanwhile, and what it meets of neither waits.
        runtime.spawn(add, (write(&third(2)), 100.0)).wait().unwrap();
        assert_eq!(*runtime.spawn(sum, (read(&third(2)),)).fetch().unwrap(), 426.0);
        let across = runtime.spawn(scale().over(6), (read(&values.rows(3..9).unwrap()), 1.0));
        assert_eq!(device.held(), 2);
        device.set(Mode::Run);
        device.release(devices.host());
        launches.iter().for_each(|launch| launch.wait().unwrap());
        assert_eq!(across.fetch().unwrap()[..], [4.0, 5.0, 105.0, 7.0, 8.0, 108.0]);
        assert_eq!(values.take().unwrap()[..3], [1.0, 2.0, 102.0]);
    });
}

#[test]
fn what_has_gaps_is_copied_where_buffers_are_imported_and_not_before_what_changes_them() {
    in_time(|| {
        let (runtime, device, devices) = one(small().importing());
        let values = Mutable::new(ramp(10));
        let even = values.part(s![..;2]).unwrap();
        device.set(Mode::Hold);
        let all = runtime.spawn(bump_whole().over(10), (write(&values),));
        let z = runtime.spawn(scale().over(5), (read(&even), 2.0));
        // What is copied for it is not there yet, so it is not submitted behind that one.
        assert_eq!(device.held(), 1);
        device.set(Mode::Run);
        device.release(devices.host());
        all.wait().unwrap();
        assert_eq!(z.fetch().unwrap()[..], [2.0, 6.0, 10.0, 14.0, 18.0]);
        runtime.spawn(bump().over(5), (write(&even),)).wait().unwrap();
        assert_eq!(device.copied_bytes(), (20, 0));
        // In its place, which the device has imported, it is what that sees.
        runtime.spawn(bump_whole().over(10), (write(&values),)).wait().unwrap();
        assert_eq!(device.copied_bytes(), (20, 20));
        assert_eq!(values.take().unwrap()[..4], [3.0, 3.0, 5.0, 5.0]);
    });
}

#[test]
fn a_launch_that_does_not_happen_leaves_a_part_with_gaps_as_it_was() {
    let (runtime, device, _) = one(small());
    let values = Mutable::new(ramp(10));
    let (even, odd) = (values.part(s![..;2]).unwrap(), values.part(s![1..;2]).unwrap());
    runtime.spawn(bump().over(5), (write(&even),)).wait().unwrap();
    device.set(Mode::Refuse);
    let or_host = Kernel::wgsl("bump", BUMP).host(|view: ViewMut<'_, f32>| add(view, 10.0));
    for part in [&even, &odd] {
        runtime.spawn(or_host.over(5), (write(part),)).wait().unwrap();
    }
    device.set(Mode::Run);
    runtime.spawn(bump().over(5), (write(&odd),)).wait().unwrap();
    assert_eq!(values.fetch().unwrap()[..], [11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0]);
    // It is lost with what it was writing, which the host has as it was before.
    device.set(Mode::Lose);
    runtime.spawn(or_host.over(5), (write(&odd),)).wait().unwrap();
    assert_eq!(values.take().unwrap()[..], [11.0, 22.0, 13.0, 24.0, 15.0, 26.0, 17.0, 28.0, 19.0, 30.0]);
}

#[test]
fn parts_with_gaps_leave_a_device_that_is_full_for_their_places() {
    // Room for four of the nine.
    let (runtime, device, _) = one(FakeDevice::new("A small device", 4 * 256));
    let values = Mutable::new(ramp(24 * 24));
    let tiles = tiled(&values, 24, 8).unwrap();
    for _ in 0..2 {
        for tile in tiles.iter().flatten() {
            runtime.spawn(bump().over(64), (write(tile),)).wait().unwrap();
        }
    }
    assert!(device.copies().1 > 9, "{:?}", device.copies());
    assert_eq!(values.take().unwrap()[..], ramp(24 * 24).iter().map(|value| value + 2.0).collect::<Vec<f32>>()[..]);
}

#[test]
fn what_was_of_a_part_with_gaps_on_a_lost_device_is_lost_and_what_is_between_is_not() {
    let (runtime, device, devices) = one(small());
    let values = Mutable::new(ramp(30));
    let (even, odd) = (values.part(s![..;2]).unwrap(), values.part(s![1..;2]).unwrap());
    // One was there and is here again.
    runtime.spawn(bump().over(15), (write(&odd),)).wait().unwrap();
    assert_eq!(*runtime.spawn(sum, (read(&odd),)).fetch().unwrap(), 240.0);
    runtime.spawn(bump().over(15), (write(&even),)).wait().unwrap();
    device.lose(devices.host(), "gone");
    assert_eq!(*runtime.spawn(sum, (read(&odd),)).fetch().unwrap(), 240.0);
    let error = runtime.spawn(sum, (read(&values.rows(..2).unwrap()),)).fetch().unwrap_err();
    assert!(matches!(error.kind(), FailureKind::Lost { .. }), "{error:?}");
    assert!(values.fetch().is_err());
}

#[test]
fn what_was_of_a_part_on_a_lost_device_alone_is_lost_and_the_rest_is_not() {
    let (runtime, device, devices) = one(small());
    let values = Mutable::new(ramp(30));
    runtime.spawn(bump().over(10), (write(&values.rows(10..20).unwrap()),)).wait().unwrap();
    device.lose(devices.host(), "gone");
    assert_eq!(*runtime.spawn(sum, (read(&values.rows(..10).unwrap()),)).fetch().unwrap(), 45.0);
    let error = runtime.spawn(sum, (read(&values.rows(19..21).unwrap()),)).fetch().unwrap_err();
    assert!(matches!(error.kind(), FailureKind::Lost { .. }), "{error:?}");
    assert!(values.fetch().is_err());
}

fn sum_there(view: View<'_, f32>) -> (f32, u32) {
    (sum(view), std::process::id())
}

#[test]
fn a_process_reads_what_a_device_has_changed_of_a_part() {
    in_time(|| {
        let devices = poniard_tests::device::FakeDevices::new([small()]);
        let runtime = poniard::Runtime::builder().threads(1).processes(1).linked(devices.clone()).build().unwrap();
        let values = Mutable::new(ramp(1000));
        let part = values.rows(100..200).unwrap();
        runtime.spawn(bump().over(100), (write(&part),)).wait().unwrap();
        let far = Scope::backend("process");
        let there = runtime.task(sum_there, (read(&values.rows(199..201).unwrap()),)).scope(far.clone()).spawn().take().unwrap();
        assert_eq!(there.0, 400.0);
        assert_ne!(there.1, std::process::id());
        assert_eq!(devices.devices[0].copied_bytes(), (400, 400));
        // What it writes there makes the device's stale.
        runtime.task(add, (write(&values.rows(150..160).unwrap()), 5.0)).scope(far).spawn().wait().unwrap();
        assert_eq!(runtime.spawn(scale().over(100), (read(&part), 1.0)).fetch().unwrap()[50], 156.0);
        assert_eq!(devices.devices[0].copied_bytes().0, 800);
    });
}

/// A step of a made-up program.
#[derive(Clone, Debug)]
enum Step {
    Bump(Run),
    Add(Run),
    Scale(Run),
    Sum(Run),
    BumpTile(Tile),
    AddTile(Tile),
    ScaleTile(Tile),
    BumpAll,
    DoubleAll,
}

/// The first element, the number of elements up to behind the last one, and the step.
type Run = (usize, usize, usize);

/// Rows and columns of the matrix that the values are.
type Tile = [Run; 2];

const LEN: usize = 24;
const LENS: [usize; 2] = [4, 6];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let run = |len: usize| (0..len, 1..len, 1usize..4).prop_map(move |(first, many, by)| (first, many.min(len - first), by));
    let tile = || LENS.map(run);
    let step = prop_oneof![
        4 => run(LEN).prop_map(Step::Bump),
        3 => run(LEN).prop_map(Step::Add),
        2 => run(LEN).prop_map(Step::Scale),
        2 => run(LEN).prop_map(Step::Sum),
        4 => tile().prop_map(Step::BumpTile),
        3 => tile().prop_map(Step::AddTile),
        2 => tile().prop_map(Step::ScaleTile),
        1 => Just(Step::BumpAll),
        1 => Just(Step::DoubleAll),
    ];
    prop::collection::vec(step, 0..30)
}

/// The places of the elements of a run, in their order.
fn places((first, many, by): Run) -> Vec<usize> {
    (first..first + many).step_by(by).collect()
}

/// The same of a tile.
fn places_of_tile([rows, columns]: Tile) -> Vec<usize> {
    places(rows).into_iter().flat_map(|row| places(columns).into_iter().map(move |column| LENS[1] * row + column)).collect()
}

fn part_of((first, many, by): Run) -> ndarray::SliceInfoElem {
    s![first..first + many;by as isize][0]
}

fn compare(device: FakeDevice, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (runtime, _device, _devices) = one(device);
    let values = Mutable::new(ramp(LEN));
    let matrix = values.whole()?.shaped(LENS)?;
    let mut expected: Vec<f32> = (0..LEN).map(|value| value as f32).collect();
    let (mut sums, mut scaled) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Bump(run) => {
                let _ = runtime.spawn(bump().over(LEN), (write(&values.part([part_of(run)])?),));
                places(run).into_iter().for_each(|place| expected[place] += 1.0);
            }
            Step::Add(run) => {
                let _ = runtime.spawn(add, (write(&values.part([part_of(run)])?), 3.0));
                places(run).into_iter().for_each(|place| expected[place] += 3.0);
            }
            Step::Scale(run) => {
                let z = runtime.spawn(scale().over(places(run).len()), (read(&values.part([part_of(run)])?), 2.0));
                scaled.push((z, places(run).into_iter().map(|place| expected[place] * 2.0).collect::<Vec<f32>>()));
            }
            Step::Sum(run) => {
                let task = runtime.spawn(sum, (read(&values.part([part_of(run)])?),));
                sums.push((task, places(run).into_iter().map(|place| expected[place]).sum::<f32>()));
            }
            Step::BumpTile(tile) => {
                let _ = runtime.spawn(bump().over(LEN), (write(&matrix.part(tile.map(part_of))?),));
                places_of_tile(tile).into_iter().for_each(|place| expected[place] += 1.0);
            }
            Step::AddTile(tile) => {
                let task = |mut view: ViewMut<'_, f32>| view.array_mut::<ndarray::Ix2>().mapv_inplace(|value| value + 5.0);
                let _ = runtime.spawn(task, (write(&matrix.part(tile.map(part_of))?),));
                places_of_tile(tile).into_iter().for_each(|place| expected[place] += 5.0);
            }
            Step::ScaleTile(tile) => {
                let lens = places_of_tile(tile).len();
                let z = runtime.spawn(scale().over(lens), (read(&matrix.part(tile.map(part_of))?), 2.0));
                scaled.push((z, places_of_tile(tile).into_iter().map(|place| expected[place] * 2.0).collect::<Vec<f32>>()));
            }
            Step::BumpAll => {
                let _ = runtime.spawn(bump_whole().over(LEN), (write(&values),));
                expected.iter_mut().for_each(|value| *value += 1.0);
            }
            Step::DoubleAll => {
                let _ = runtime
                    .spawn(|all: &mut Buffer<f32>| all.iter_mut().for_each(|value| *value = *value * 2.0 % 1024.0), (write(&values),));
                expected.iter_mut().for_each(|value| *value = *value * 2.0 % 1024.0);
            }
        }
    }
    for (task, expected) in sums {
        prop_assert_eq!(*task.fetch()?, expected);
    }
    for (task, expected) in scaled {
        prop_assert_eq!(&**task.fetch()?, &expected[..]);
    }
    prop_assert_eq!(&**values.fetch()?, &expected[..]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_parts_on_a_device_and_here_mean_what_they_would_one_after_the_other(steps in steps(), imports in any::<bool>()) {
        compare(if imports { small().importing() } else { small() }, steps)?;
    }
}
