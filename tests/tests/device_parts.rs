//! Parts of buffers on devices, with a stand-in for the device: only their bytes are copied, and only where they are stale.

use poniard::{Buffer, FailureKind, Kernel, Mutable, Scope, View, ViewMut, overwrite, read, write};
use poniard_tests::device::{FakeDevice, Mode};
use poniard_tests::in_time;
use poniard_tests::stage::{BUMP, SCALE, one, ramp, small};
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
    runtime.spawn(add, (write(&values.part(ndarray::s![..50;2]).unwrap()), 10.0)).wait().unwrap();
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
fn a_part_that_is_no_run_of_bytes_is_for_the_host() {
    let (runtime, device, _) = one(small());
    let values = Mutable::new(ramp(10));
    let even = values.part(ndarray::s![..;2]).unwrap();
    let error = runtime.spawn(bump().over(5), (write(&even),)).wait().unwrap_err();
    assert!(error.to_string().contains("it is given a part whose elements do not lie side by side in their order"), "{error}");
    let or_host = Kernel::wgsl("bump", BUMP).host(|view: ViewMut<'_, f32>| add(view, 1.0));
    // What failed has left what it was.
    runtime.spawn(|view: ViewMut<'_, f32>| add(view, 0.0), (overwrite(&even),)).wait().unwrap();
    runtime.spawn(or_host.over(5), (write(&even),)).wait().unwrap();
    assert_eq!(values.fetch().unwrap()[..4], [1.0, 1.0, 3.0, 3.0]);
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
    Bump(usize, usize),
    Add(usize, usize, usize),
    Scale(usize, usize),
    Sum(usize, usize, usize),
    BumpAll,
    DoubleAll,
}

const LEN: usize = 24;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let run = || (0..LEN, 1..LEN).prop_map(|(first, len)| (first, len.min(LEN - first)));
    let step = prop_oneof![
        4 => run().prop_map(|(first, len)| Step::Bump(first, len)),
        3 => (run(), 1usize..4).prop_map(|((first, len), by)| Step::Add(first, len, by)),
        2 => run().prop_map(|(first, len)| Step::Scale(first, len)),
        2 => (run(), 1usize..4).prop_map(|((first, len), by)| Step::Sum(first, len, by)),
        1 => Just(Step::BumpAll),
        1 => Just(Step::DoubleAll),
    ];
    prop::collection::vec(step, 0..30)
}

fn compare(device: FakeDevice, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (runtime, _device, _devices) = one(device);
    let values = Mutable::new(ramp(LEN));
    let mut expected: Vec<f32> = (0..LEN).map(|value| value as f32).collect();
    let (mut sums, mut scaled) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Bump(first, len) => {
                let _ = runtime.spawn(bump().over(len), (write(&values.rows(first..first + len)?),));
                expected[first..first + len].iter_mut().for_each(|value| *value += 1.0);
            }
            Step::Add(first, len, by) => {
                let part = values.part(ndarray::s![first..first + len;by as isize])?;
                let _ = runtime.spawn(add, (write(&part), 3.0));
                expected[first..first + len].iter_mut().step_by(by).for_each(|value| *value += 3.0);
            }
            Step::Scale(first, len) => {
                let z = runtime.spawn(scale().over(len), (read(&values.rows(first..first + len)?), 2.0));
                scaled.push((z, expected[first..first + len].iter().map(|value| value * 2.0).collect::<Vec<f32>>()));
            }
            Step::Sum(first, len, by) => {
                let part = values.part(ndarray::s![first..first + len;by as isize])?;
                sums.push((runtime.spawn(sum, (read(&part),)), expected[first..first + len].iter().step_by(by).sum::<f32>()));
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
