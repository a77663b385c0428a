//! Kernels on devices, with a stand-in for the device: what is copied when, what is evicted, what becomes of faults.
//!
//! One file because all of it plays on one stage.

use std::sync::Arc;

use poniard::{Buffer, DeviceClass, FailureKind, Gather, Kernel, Mutable, Runtime, Scope, buffer, overwrite, read, write};
use poniard_tests::device::{FakeDevice, FakeDevices, Mode};
use poniard_tests::in_time;
use poniard_tests::stage::{ADD, BUMP, SCALE, one, ramp, runtime_with, scale, scale_or_host, small};

#[test]
fn a_kernel_is_spawned_like_any_task() {
    for device in [small(), small().importing()] {
        let (runtime, device, _) = one(device);
        let x = runtime.spawn(|| ramp(100), ());
        let z = runtime.spawn(scale().over(100), (&x, 2.0));
        let sum = runtime.spawn(|z: &Buffer<f32>| z.iter().sum::<f32>(), (&z,));
        assert_eq!(*sum.fetch().expect("runs"), 9900.0);
        assert_eq!(z.fetch().expect("runs")[99], 198.0);
        assert_eq!((z.name().as_str(), device.launched()), ("scale", 1));
    }
}

#[test]
fn results_stay_on_the_device_until_somebody_of_the_host_wants_them() {
    let (runtime, device, _) = one(small());
    let mut z = runtime.value(ramp(1000));
    for _ in 0..10 {
        z = runtime.spawn(scale().over(1000), (&z, 2.0));
    }
    z.wait().expect("runs");
    assert_eq!(device.copied_bytes(), (4000, 0));
    assert_eq!(z.fetch().expect("runs")[3], 3.0 * 1024.0);
    z.fetch().expect("is there");
    assert_eq!(device.copied_bytes(), (4000, 4000));
    drop(z);
    assert_eq!(device.used_bytes(), 0);
}

#[test]
fn what_several_kernels_read_is_copied_once() {
    let (runtime, device, _) = one(small());
    let x = Arc::new(ramp(1000));
    let add = Kernel::wgsl("add", ADD).takes::<(&Buffer<f32>, &Buffer<f32>), Buffer<f32>>();
    let all: Vec<_> = (0..20).map(|_| runtime.spawn(add.over(1000), (Arc::clone(&x), Arc::clone(&x)))).collect();
    assert!(all.iter().all(|z| z.fetch().expect("runs")[7] == 14.0));
    assert_eq!(device.copied_bytes().0, 4000);
}

#[test]
fn an_imported_buffer_is_never_copied() {
    let (runtime, device, _) = one(small().importing());
    let x = Arc::new(ramp(1000));
    let z = runtime.spawn(scale().over(1000), (Arc::clone(&x), 3.0));
    assert_eq!(z.take().expect("runs")[1], 3.0);
    assert_eq!((device.copied_bytes(), device.used_bytes()), ((0, 0), 0));
}

#[test]
fn what_the_host_changes_is_copied_anew() {
    let (runtime, device, _) = one(small());
    let mut x = ramp(10);
    for round in 0..3 {
        x[1] = round as f32;
        assert_eq!(device.used_bytes(), if round == 0 { 0 } else { 40 }, "its memory there stays");
        let shared = Arc::new(x);
        let z = runtime.spawn(scale().over(10), (Arc::clone(&shared), 2.0));
        assert_eq!(z.take().expect("runs")[1], 2.0 * round as f32);
        // The task has given it up.
        runtime.wait_idle();
        x = Arc::try_unwrap(shared).expect("nobody else has it");
    }
}

#[test]
fn a_result_that_is_moved_out_and_changed_is_no_stale_copy() {
    let (runtime, device, _) = one(small());
    let z = runtime.spawn(scale().over(4), (ramp(4), 2.0));
    let changed = runtime.spawn(
        |mut z: Buffer<f32>| {
            z[0] = 100.0;
            z
        },
        (z,),
    );
    let twice = runtime.spawn(scale().over(4), (&changed, 2.0));
    assert_eq!(**twice.fetch().expect("runs"), [200.0, 4.0, 8.0, 12.0]);
    assert_eq!(device.launched(), 2);
}

#[test]
fn a_kernel_changes_in_place_what_it_is_lent() {
    for device in [small(), small().importing()] {
        let (runtime, device, _) = one(device);
        let bump = Kernel::wgsl("bump", BUMP).takes::<(&mut Buffer<f32>,), ()>();
        let x = Mutable::new(ramp(3));
        let _ = runtime.spawn(bump.over(3), (write(&x),));
        let _ = runtime.spawn(|x: &mut Buffer<f32>| x.iter_mut().for_each(|x| *x *= 10.0), (write(&x),));
        let _ = runtime.spawn(bump.over(3), (write(&x),));
        let _ = runtime.spawn(bump.over(3), (write(&x),));
        let z = runtime.spawn(scale().over(3), (read(&x), 1.0));
        assert_eq!(**z.fetch().expect("runs"), [12.0, 22.0, 32.0]);
        assert_eq!(**x.fetch().expect("runs"), [12.0, 22.0, 32.0]);
        assert_eq!(device.launched(), 4);
    }
}

#[test]
fn what_is_overwritten_is_not_copied_first() {
    let (runtime, device, _) = one(small());
    let into = Kernel::wgsl("copy", "copy\nin x f32\nout z f32").takes::<(&Buffer<f32>, &mut Buffer<f32>), ()>();
    let z = Mutable::new(buffer::zeroed(500));
    let _ = runtime.spawn(into.over(500), (ramp(500), overwrite(&z)));
    assert_eq!(z.fetch().expect("runs")[499], 499.0);
    assert_eq!(device.copied_bytes(), (2000, 2000));
    // With `write`, what the kernel leaves alone stays, so it is copied.
    let _ = runtime.spawn(into.over(3), (ramp(3), write(&z)));
    let _ = runtime.spawn(|z: &mut Buffer<f32>| z[400] = 7.0, (write(&z),));
    let _ = runtime.spawn(into.over(3), (buffer::from_fn(3, |_| -1.0f32), write(&z)));
    let z = z.take().expect("runs");
    assert_eq!((z[0], z[2], z[3], z[400], z[499]), (-1.0, -1.0, 3.0, 7.0, 499.0));
}

#[test]
fn a_result_that_the_kernel_also_reads_begins_at_zero() {
    for device in [small(), small().importing()] {
        let (runtime, _, _) = one(device);
        let count = Kernel::wgsl("count", "count\nin x f32\ninout z f32").takes::<(&Buffer<f32>,), Buffer<f32>>();
        // Memory that was used before.
        drop(buffer::from_fn(1, |_| 5.0f32));
        let z = runtime.spawn(count.over(9).returning([1]), (ramp(9),));
        assert_eq!(**z.fetch().expect("runs"), [9.0]);
    }
}

#[test]
fn memory_is_made_by_what_was_used_longest_ago() {
    // Room for three buffers of 100 KiB.
    let (runtime, device, _) = one(FakeDevice::new("tight", 310 << 10));
    let len = (100 << 10) / 4;
    let mut results = Vec::new();
    for round in 0..8 {
        results.push(runtime.spawn(scale().over(len), (ramp(len), round as f32)));
    }
    for (z, round) in results.iter().zip(0..) {
        let z = z.fetch().expect("runs");
        assert_eq!((z[1], z[len - 1]), (round as f32, round as f32 * (len - 1) as f32));
    }
    assert!(device.used_bytes() <= 310 << 10);
    // A chain is longer than the memory, too.
    let mut z = runtime.value(ramp(len));
    for _ in 0..10 {
        z = runtime.spawn(scale().over(len), (z, 1.0));
    }
    assert_eq!(z.take().expect("runs")[5], 5.0);
}

#[test]
fn launches_wait_for_memory_that_others_use() {
    in_time(|| {
        let (runtime, device, devices) = one(FakeDevice::new("tight", 210 << 10));
        device.set(Mode::Hold);
        let len = (100 << 10) / 4;
        let first = runtime.spawn(scale().over(len), (ramp(len), 1.0));
        let second = runtime.spawn(scale().over(len), (ramp(len), 2.0));
        assert_eq!(device.held(), 1, "there is no room for both");
        device.release(devices.host());
        assert_eq!(first.take().expect("runs")[1], 1.0);
        device.set(Mode::Run);
        device.release(devices.host());
        assert_eq!(second.take().expect("runs")[1], 2.0);
    });
}

#[test]
fn a_launch_that_never_fits_says_by_how_much() {
    let (runtime, _, _) = one(FakeDevice::new("tiny", 1024));
    let error = runtime.spawn(scale().over(1000), (ramp(1000), 1.0)).fetch().expect_err("it is too large");
    assert_eq!(error.reason(), "processor fake-0: its buffers take 8192 bytes, and tiny has 1024: 7168 too many");
    // Where the host may run it, it does.
    let z = runtime.spawn(scale_or_host().over(1000), (ramp(1000), 1.0));
    assert_eq!(z.fetch().expect("runs")[2], -2.0);
    let said: Vec<_> = runtime.report().messages.into_iter().filter(|message| message.contains("did not run")).collect();
    assert_eq!(
        said,
        [
            "warning: kernel `scale` did not run on fake-0, and runs on the host: its buffers take 8192 bytes, and tiny has 1024: 7168 too many"
        ]
    );
}

#[test]
fn a_launch_that_is_refused_runs_elsewhere_in_its_scope_and_says_so_once() {
    let devices = FakeDevices::new([small(), FakeDevice::new("Another", 1 << 20)]);
    let runtime = runtime_with(&devices);
    devices.devices[0].set(Mode::Refuse);
    let scale = scale_or_host();
    for _ in 0..5 {
        assert_eq!(runtime.spawn(scale.over(3), (ramp(3), 2.0)).take().expect("runs")[1], 2.0);
    }
    assert_eq!(devices.devices[1].launched(), 5);
    devices.devices[1].set(Mode::Refuse);
    assert_eq!(runtime.spawn(scale.over(3), (ramp(3), 2.0)).take().expect("runs")[1], -2.0);
    let said = runtime.report().messages.into_iter().filter(|message| message.contains("did not run")).count();
    assert_eq!(said, 1);
    // One that is for devices only fails, with the reason.
    let task = runtime.task(scale.over(3), (ramp(3), 2.0)).scope(Scope::kind("vulkan")).spawn();
    let error = task.fetch().expect_err("both refuse");
    assert!(error.reason().ends_with(": it has no such feature"), "{error}");
}

#[test]
fn what_was_on_a_lost_device_alone_is_computed_again() {
    let devices = FakeDevices::new([small()]);
    let runtime = runtime_with(&devices);
    // The host's body has another sign, so that it can be told who computed what.
    let scale = scale_or_host();
    let a = runtime.spawn(scale.over(3), (ramp(3), 2.0));
    let b = runtime.spawn(scale.over(3), (&a, 10.0));
    b.wait().expect("runs");
    drop(a);
    devices.devices[0].lose(devices.host(), "it fell off the bus");
    let after = runtime.spawn(scale.over(3), (&b, 1.0));
    // Two launches again on the host, and this one there for the first time.
    assert_eq!(**b.fetch().expect("it is computed again"), [0.0, 20.0, 40.0]);
    assert_eq!(**after.fetch().expect("runs"), [0.0, -20.0, -40.0]);
}

#[test]
fn what_cannot_be_computed_again_is_said_to_be_lost() {
    let devices = FakeDevices::new([small()]);
    let runtime = runtime_with(&devices);
    let z = runtime.spawn(scale().over(3), (ramp(3), 2.0));
    z.wait().expect("runs");
    devices.devices[0].lose(devices.host(), "it fell off the bus");
    let sum = runtime.spawn(|z: &Buffer<f32>| z.iter().sum::<f32>(), (&z,));
    let error = sum.fetch().expect_err("the data is gone");
    assert!(matches!(error.kind(), FailureKind::Lost { .. }), "{error}");
    let reason = error.reason();
    let lost = "its data was lost with A device (it fell off the bus), and cannot be computed again: processor fake-0: it fell off the bus";
    assert_eq!(reason, lost);
    z.fetch().expect_err("the same");
    // In place there is nothing to compute it from.
    let devices = FakeDevices::new([small()]);
    let runtime = runtime_with(&devices);
    let x = Mutable::new(ramp(3));
    let bump = Kernel::wgsl("bump", BUMP).takes::<(&mut Buffer<f32>,), ()>();
    runtime.spawn(bump.over(3), (write(&x),)).wait().expect("runs");
    devices.devices[0].lose(devices.host(), "it fell off the bus");
    let error = x.fetch().expect_err("the data is gone");
    assert_eq!(error.reason(), "its data was on A device alone, and cannot be had: it fell off the bus");
}

#[test]
fn a_device_that_is_lost_gets_nothing_more() {
    for mode in [Mode::Lose, Mode::TimeOut] {
        let devices = FakeDevices::new([small(), FakeDevice::new("Another", 1 << 20)]);
        let runtime = runtime_with(&devices);
        devices.devices[0].set(mode.clone());
        let scale = scale_or_host();
        let first = runtime.spawn(scale.over(3), (ramp(3), 2.0)).take().expect("runs");
        // What may have been the ruin of one device is not given to another.
        assert_eq!(first[1], if mode == Mode::TimeOut { -2.0 } else { 2.0 });
        devices.devices[0].set(Mode::Run);
        let launched = devices.devices[1].launched();
        for _ in 0..5 {
            assert_eq!(runtime.spawn(scale.over(3), (ramp(3), 2.0)).take().expect("runs")[1], 2.0);
        }
        assert_eq!((devices.devices[0].launched(), devices.devices[1].launched()), (0, launched + 5));
        let there = runtime.task(scale.over(3), (ramp(3), 2.0)).scope(Scope::processor("fake-0")).spawn();
        let error = there.fetch().expect_err("it is lost");
        assert!(error.reason().starts_with("processor fake-0: it is lost: it "), "{error}");
    }
}

#[test]
fn devices_are_chosen_by_name_and_uuid_and_number() {
    let devices = FakeDevices::new([small(), FakeDevice::new("Another", 1 << 20)]);
    let runtime = runtime_with(&devices);
    for (scope, place) in [(Scope::device("Another"), 1), (Scope::device("UUID-of-A device"), 0), (Scope::processor("fake-1"), 1)] {
        let before = devices.devices[place].launched();
        runtime.task(scale().over(3), (ramp(3), 2.0)).scope(scope).spawn().wait().expect("runs");
        assert_eq!(devices.devices[place].launched(), before + 1);
    }
    // Which one is for the policy to say, by what both have taken.
    runtime.task(scale().over(3), (ramp(3), 2.0)).scope(Scope::backend("fake")).spawn().wait().expect("runs");
    assert_eq!(devices.devices.iter().map(|device| device.launched()).sum::<u64>(), 4);
}

#[test]
fn data_goes_from_one_device_to_another() {
    let devices = FakeDevices::new([small(), FakeDevice::new("Another", 1 << 20)]);
    let runtime = runtime_with(&devices);
    let at = |place: usize| Scope::processor(format!("fake-{place}"));
    let mut z = runtime.value(ramp(5));
    for step in 0..6 {
        z = runtime.task(scale().over(5), (&z, 2.0)).scope(at(step % 2)).spawn();
    }
    assert_eq!(z.fetch().expect("runs")[4], 256.0);
}

#[test]
fn a_software_device_is_used_only_where_somebody_asks_for_it() {
    let (runtime, device, _) = one(small().of_class(DeviceClass::Software));
    assert_eq!(runtime.spawn(scale_or_host().over(3), (ramp(3), 2.0)).take().expect("runs")[1], -2.0);
    let task = runtime.task(scale_or_host().over(3), (ramp(3), 2.0)).scope(Scope::kind("vulkan") | Scope::kind("cpu")).spawn();
    assert_eq!((task.take().expect("runs")[1], device.launched()), (2.0, 1));
}

#[test]
fn without_a_device_the_host_runs_it_or_the_error_says_what_there_is() {
    let runtime = Runtime::builder().threads(1).build().expect("threads");
    assert_eq!(runtime.spawn(scale_or_host().over(3), (ramp(3), 2.0)).take().expect("runs")[1], -2.0);
    let error = runtime.spawn(scale().over(3), (ramp(3), 2.0)).fetch().expect_err("there is no device");
    let reason = error.reason();
    assert!(reason.starts_with("no processor satisfies its scope (processors of kind `vulkan`); there are "), "{reason}");
}

#[test]
fn what_does_not_fit_the_source_is_said_when_it_is_spawned() {
    let (runtime, device, _) = one(small());
    let check = |error: poniard::TaskError, expected: &str| {
        assert!(matches!(error.kind(), FailureKind::Kernel { .. }), "{error}");
        assert_eq!(error.reason(), expected);
        assert!(error.to_string().starts_with("task `k` ("), "{error}");
    };
    let bad = Kernel::wgsl("k", "scale\nin x").takes::<(&Buffer<f32>,), ()>();
    check(runtime.spawn(bad.over(1), (ramp(1),)).fetch().expect_err("bad source"), "line 2: `in x` is not three words");
    let k = Kernel::wgsl("k", SCALE).takes::<(f32,), Buffer<f32>>();
    check(
        runtime.spawn(k.over(1), (1.0,)).fetch().expect_err("no buffer"),
        "its source binds 2 buffers (`x`, `z`), and its signature has 1: 0 in its parameters and 1 in its result",
    );
    let k = Kernel::wgsl("k", SCALE).takes::<(&Buffer<f32>,), Buffer<f32>>();
    check(runtime.spawn(k.over(1), (ramp(1),)).fetch().expect_err("no scalar"), "its source takes 1 scalar (`a`), and its signature has 0");
    let k = Kernel::wgsl("k", SCALE).takes::<(&Buffer<f64>, f32), Buffer<f32>>();
    check(
        runtime.spawn(k.over(1), (buffer::zeroed::<f64>(1), 1.0)).fetch().expect_err("another type"),
        "`x` has elements of f32 and 4 bytes in the source, and parameter 1 is a `Buffer<f64>`, whose elements have 8 bytes",
    );
    let k = Kernel::wgsl("k", SCALE).takes::<(&Buffer<f32>, u32), Buffer<f32>>();
    check(
        runtime.spawn(k.over(1), (ramp(1), 1u32)).fetch().expect_err("another scalar"),
        "`a` is of type f32 in the source, and parameter 2 is of type u32",
    );
    let k = Kernel::wgsl("k", BUMP).takes::<(&Buffer<f32>,), ()>();
    check(
        runtime.spawn(k.over(1), (ramp(1),)).fetch().expect_err("it writes"),
        "its source writes to `x`, and parameter 1 is a `&Buffer`: what a kernel changes in place is a `&mut Buffer`, and what it makes is in its result",
    );
    let k = Kernel::wgsl("k", "copy\nin x f32\nin z f32").takes::<(&Buffer<f32>,), Buffer<f32>>();
    check(
        runtime.spawn(k.over(1), (ramp(1),)).fetch().expect_err("it does not write"),
        "its source does not write to `z`, which is the result",
    );
    let k = Kernel::wgsl("k", SCALE).takes::<(&Buffer<f32>, String), Buffer<f32>>();
    check(
        runtime.spawn(k.over(1), (ramp(1), String::new())).fetch().expect_err("a text"),
        "parameter 2 is a `String`: a kernel's parameters are `&Buffer`, `&mut Buffer`, `View`, `ViewMut` and numbers by value",
    );
    let k = Kernel::wgsl("k", SCALE).takes::<(Gather<'static, Buffer<f32>>, f32), Buffer<f32>>();
    check(
        runtime.spawn(k.over(1), (vec![runtime.value(ramp(1))], 1.0)).fetch().expect_err("a collection"),
        "parameter 1 is a `collection of results`: a kernel's parameters are `&Buffer`, `&mut Buffer`, `View`, `ViewMut` and numbers by value",
    );
    let k = Kernel::wgsl("k", SCALE).takes::<(&Buffer<f32>, f32), f32>();
    check(
        runtime.spawn(k.over(1), (ramp(1), 1.0)).fetch().expect_err("a number"),
        "its result is a `f32`: a kernel returns nothing, a `Buffer`, or a tuple of up to four of them",
    );
    let k = Kernel::wgsl("k", SCALE).takes::<(&Buffer<f32>, f32), (Buffer<f32>, u8)>();
    check(
        runtime.spawn(k.over(1), (ramp(1), 1.0)).fetch().expect_err("a number beside a buffer"),
        "its result is a `(poniard_interface::buffer::Buffer<f32>, u8)`: a kernel returns nothing, a `Buffer`, or a tuple of up to four of them",
    );
    let scale = Kernel::wgsl("k", SCALE).takes::<(&Buffer<f32>, f32), Buffer<f32>>();
    check(
        runtime.spawn(scale.over(1).returning([1, 2]), (ramp(1), 1.0)).fetch().expect_err("too many lengths"),
        "it returns 1 buffers, and `returning` names the lengths of 2",
    );
    assert_eq!(device.launched(), 0);
}

#[test]
fn failures_and_cancellation_reach_launches() {
    let (runtime, device, devices) = one(small());
    let broken = runtime.spawn(|| Err::<Buffer<f32>, _>("no picture"), ());
    let error = runtime.spawn(scale().over(3), (&broken, 2.0)).fetch().expect_err("its argument failed");
    assert!(matches!(error.kind(), FailureKind::Dependency(_)), "{error}");
    device.set(Mode::Hold);
    let held = runtime.spawn(scale().over(3), (ramp(3), 2.0));
    let behind = runtime.spawn(scale().over(3), (&held, 2.0));
    assert!(behind.cancel());
    assert!(held.cancel());
    held.fetch().expect_err("it was cancelled");
    device.release(devices.host());
    runtime.wait_idle();
    assert_eq!(device.used_bytes(), 0, "nothing is kept of it");
}

#[test]
fn results_outlive_the_runtime() {
    let (runtime, _device, _) = one(small());
    let z = runtime.spawn(scale().over(3), (ramp(3), 2.0));
    z.wait().expect("runs");
    drop(runtime);
    assert_eq!(**z.fetch().expect("it was copied to the host"), [0.0, 2.0, 4.0]);
}

#[test]
fn a_long_history_is_cut_and_still_computed_again() {
    let devices = FakeDevices::new([small()]);
    let runtime = runtime_with(&devices);
    let scale = Kernel::wgsl("scale", SCALE).host(|x: &Buffer<f32>, a: f32| buffer::from_fn(x.len(), |i| a * x[i] + 0.5));
    let mut z = runtime.value(ramp(3));
    for _ in 0..200 {
        z = runtime.spawn(scale.over(3), (z, 1.0));
    }
    z.wait().expect("runs");
    let (_, downloaded_bytes) = devices.devices[0].copied_bytes();
    assert_eq!(downloaded_bytes, 3 * 12, "every 64th result comes to the host");
    devices.devices[0].lose(devices.host(), "it fell off the bus");
    // 192 launches on the device, and the last 8 again on the host.
    assert_eq!(**z.fetch().expect("it is computed again"), [4.0, 5.0, 6.0]);
}

#[test]
fn what_only_devices_can_compute_is_computed_again_on_another_one() {
    let devices = FakeDevices::new([small(), FakeDevice::new("Another", 1 << 20)]);
    let runtime = runtime_with(&devices);
    let there = Scope::processor("fake-0") | Scope::processor("fake-1");
    devices.devices[1].set(Mode::Refuse);
    let a = runtime.task(scale().over(3), (ramp(3), 2.0)).scope(there.clone()).spawn();
    let b = runtime.task(scale().over(3), (&a, 10.0)).scope(there).spawn();
    b.wait().expect("runs");
    devices.devices[1].set(Mode::Run);
    devices.devices[0].lose(devices.host(), "it fell off the bus");
    assert_eq!(**b.fetch().expect("it is computed again"), [0.0, 20.0, 40.0]);
    assert_eq!(**a.fetch().expect("that, too"), [0.0, 2.0, 4.0]);
    // The first one came to the host when the other device was tried.
    assert_eq!(devices.devices[1].launched(), 1);
}

#[test]
fn results_of_devices_travel_to_processes_and_back() {
    let devices = FakeDevices::new([small()]);
    let runtime =
        Runtime::builder().threads(2).processes(1).linked(devices.clone()).devices_always(true).models(None).build().expect("threads");
    let z = runtime.spawn(scale().over(1000), (ramp(1000), 2.0));
    let sum = runtime.task(|z: &Buffer<f32>| z.iter().sum::<f32>(), (&z,)).spawn_away();
    assert_eq!(*sum.fetch().expect("runs"), 999_000.0);
    // Changed in place by a process, between two kernels.
    let x = Mutable::new(ramp(3));
    let bump = Kernel::wgsl("bump", BUMP).takes::<(&mut Buffer<f32>,), ()>();
    let _ = runtime.spawn(bump.over(3), (write(&x),));
    let away = runtime.task(|x: &mut Buffer<f32>| x.iter_mut().for_each(|x| *x *= 10.0), (write(&x),)).spawn_away();
    let _ = runtime.spawn(bump.over(3), (write(&x),));
    assert_eq!(**x.fetch().expect("runs"), [11.0, 21.0, 31.0]);
    away.wait().expect("runs");
    // Taken by a process, changed there, and back on the device.
    let taken = runtime.task(
        |mut z: Buffer<f32>| {
            z[0] = 7.0;
            z
        },
        (z,),
    );
    let again = runtime.spawn(scale().over(1000), (taken.once().spawn_away(), 1.0));
    let again = again.fetch().expect("runs");
    assert_eq!((again[0], again[999]), (7.0, 1998.0));
}

#[test]
fn launches_that_are_ready_come_before_those_that_follow_them() {
    // Each of a layer was given with all that follows from it before the next one, so that each had to wait for the one before.
    let (runtime, device, devices) = one(small());
    let add = Kernel::wgsl("add", ADD).takes::<(&Buffer<f32>, &Buffer<f32>), Buffer<f32>>();
    device.set(Mode::Hold);
    let ends = runtime.bulk(|| {
        let layer: Vec<_> = (0..4).map(|_| runtime.spawn(scale().over(3), (ramp(3), 2.0))).collect();
        layer.iter().map(|z| runtime.spawn(add.over(3), (z, z))).collect::<Vec<_>>()
    });
    assert_eq!(device.held_operations(), ["scale", "scale", "scale", "scale", "add", "add", "add", "add"]);
    device.set(Mode::Run);
    device.release(devices.host());
    assert!(ends.iter().all(|z| z.fetch().expect("runs")[1] == 4.0));
}

#[test]
fn a_chain_is_submitted_before_its_first_launch_has_ended() {
    let (runtime, device, devices) = one(small());
    device.set(Mode::Hold);
    // Spawned while what it begins with is not there yet, and afterwards.
    let gate = Arc::new(std::sync::Barrier::new(2));
    let x = runtime.spawn(
        {
            let gate = Arc::clone(&gate);
            move || {
                gate.wait();
                ramp(4)
            }
        },
        (),
    );
    let mut z = runtime.spawn(scale().over(4), (&x, 2.0));
    for _ in 0..4 {
        z = runtime.spawn(scale().over(4), (z, 2.0));
    }
    gate.wait();
    x.wait().expect("runs");
    runtime.spawn(|| (), ()).wait().expect("runs");
    in_time({
        let device = Arc::clone(&device);
        move || {
            while device.held() < 5 {
                std::thread::yield_now();
            }
        }
    });
    for _ in 0..5 {
        z = runtime.spawn(scale().over(4), (z, 2.0));
    }
    assert_eq!(device.held(), 10);
    device.set(Mode::Run);
    device.release(devices.host());
    assert_eq!(**z.fetch().expect("runs"), [0.0, 1024.0, 2048.0, 3072.0]);
    assert_eq!((device.launched(), device.copied_bytes()), (10, (16, 16)));
}

#[test]
fn launches_of_a_bulk_and_of_a_group_are_submitted_right_behind_each_other() {
    let (runtime, device, devices) = one(small());
    device.set(Mode::Hold);
    let chain = |mut z| {
        for _ in 0..5 {
            z = runtime.spawn(scale().over(4), (z, 2.0));
        }
        z
    };
    let x = runtime.value(ramp(4));
    let first = runtime.bulk(|| {
        let z = chain(x);
        assert_eq!(device.held(), 0, "nothing runs before the bulk is over");
        z
    });
    assert_eq!(device.held(), 5);
    // These wait for one that the device has already.
    let second = runtime.bulk(|| chain(first));
    assert_eq!(device.held(), 10);
    let mut third = None;
    let group = runtime.group(|| third = Some(chain(second)));
    assert_eq!(device.held(), 15);
    device.release(devices.host());
    group.wait().expect("runs");
    assert_eq!(third.expect("spawned").fetch().expect("runs")[1], 32768.0);
}

#[test]
fn who_waits_for_a_launch_attends_to_the_device() {
    in_time(|| {
        let (runtime, device, _) = one(small());
        device.set(Mode::Attended);
        let z = runtime.spawn(scale().over(4), (ramp(4), 2.0));
        assert!(!z.is_finished());
        z.wait().expect("runs");
        assert_eq!(z.fetch().expect("runs")[3], 6.0);
    });
}

#[test]
fn places_are_changed_in_place_one_after_the_other() {
    for device in [small(), small().importing()] {
        let (runtime, device, devices) = one(device);
        device.set(Mode::Hold);
        let bump = Kernel::wgsl("bump", BUMP).takes::<(&mut Buffer<f32>,), ()>();
        let x = Mutable::new(ramp(3));
        for _ in 0..6 {
            let _ = runtime.spawn(bump.over(3), (write(&x),));
        }
        // What was changed on top of a launch that failed could not be undone.
        let held = device.held();
        let z = runtime.spawn(scale().over(3), (read(&x), 10.0));
        device.set(Mode::Run);
        device.release(devices.host());
        assert_eq!(**z.fetch().expect("runs"), [60.0, 70.0, 80.0]);
        assert_eq!(**x.fetch().expect("runs"), [6.0, 7.0, 8.0]);
        assert_eq!(held, 1);
    }
}

#[test]
fn what_was_submitted_behind_a_launch_that_fails_is_done_again() {
    // The first is refused and runs on the host, whose result has another sign; those behind it have been submitted by then.
    for importing in [false, true] {
        let device = if importing { small().importing() } else { small() };
        let (runtime, device, devices) = one(device);
        device.set(Mode::Hold);
        let mut all = vec![runtime.spawn(scale_or_host().over(4), (ramp(4), 2.0))];
        for _ in 0..5 {
            let next = runtime.spawn(scale().over(4), (all.last().expect("one"), 2.0));
            all.push(next);
        }
        assert_eq!(device.held(), 6);
        device.set(Mode::Run);
        device.refuse_first(devices.host());
        device.release(devices.host());
        for (z, step) in all.iter().zip(1..) {
            assert_eq!(z.fetch().expect("runs")[1], -f32::powi(2.0, step), "{step}");
        }
        runtime.wait_idle();
        drop(all);
        assert_eq!(device.used_bytes(), 0);
    }
}

#[test]
fn a_chain_on_a_device_that_is_lost_goes_on_elsewhere() {
    for mode in [Mode::Lose, Mode::TimeOut] {
        let devices = FakeDevices::new([small(), FakeDevice::new("Another", 1 << 20)]);
        let runtime = runtime_with(&devices);
        devices.devices[0].set(Mode::Hold);
        let scale = Kernel::wgsl("scale", SCALE).host(|x: &Buffer<f32>, a: f32| buffer::from_fn(x.len(), |i| a * x[i]));
        let mut z = runtime.spawn(scale.over(4), (ramp(4), 2.0));
        for _ in 0..5 {
            z = runtime.spawn(scale.over(4), (z, 2.0));
        }
        assert_eq!(devices.devices[0].held(), 6);
        devices.devices[0].lose(devices.host(), "it fell off the bus");
        assert_eq!(z.fetch().expect("runs")[1], 64.0, "{mode:?}");
        assert_eq!(devices.devices[0].launched(), 0);
    }
}

#[test]
fn a_chain_whose_first_launch_is_cancelled_ends_with_it() {
    let (runtime, device, devices) = one(small());
    device.set(Mode::Hold);
    let first = runtime.spawn(scale().over(4), (ramp(4), 2.0));
    let second = runtime.spawn(scale().over(4), (&first, 2.0));
    let third = runtime.spawn(scale().over(4), (&second, 2.0));
    assert_eq!(device.held(), 3);
    assert!(first.cancel());
    device.set(Mode::Run);
    device.release(devices.host());
    for task in [second, third] {
        let error = task.fetch().expect_err("what it takes was cancelled");
        assert!(matches!(error.root().kind(), FailureKind::Cancelled), "{error}");
    }
    runtime.wait_idle();
    drop(first);
    assert_eq!(device.used_bytes(), 0);
}

#[test]
fn a_launch_waits_for_one_of_another_runtime() {
    in_time(|| {
        for importing in [false, true] {
            let device = |name: &str| if importing { FakeDevice::new(name, 1 << 20).importing() } else { FakeDevice::new(name, 1 << 20) };
            let ((one, held, devices), (other, behind, _)) = (one(device("one")), one(device("other")));
            held.set(Mode::Hold);
            let first = one.spawn(scale().over(4), (ramp(4), 2.0));
            let second = other.spawn(scale().over(4), (&first, 2.0));
            // Those that are spawned before what they wait for is submitted, too.
            let third = one.spawn(scale().over(4), (&second, 2.0));
            assert_eq!((held.held(), behind.launched(), second.is_finished()), (1, 0, false));
            held.set(Mode::Run);
            held.release(devices.host());
            assert_eq!(**third.fetch().expect("runs"), [0.0, 8.0, 16.0, 24.0]);
            assert_eq!((held.launched(), behind.launched()), (2, 1));
        }
    });
}

#[test]
fn devices_are_told_once_of_a_kernel_that_waits() {
    let (runtime, device, _) = one(small());
    let scale = scale();
    let x = runtime.spawn(scale.over(3), (ramp(3), 2.0));
    x.wait().expect("runs");
    assert_eq!(device.expected(), [""; 0], "nothing is gained for one that is submitted at once");
    let gate = Arc::new(std::sync::Barrier::new(2));
    let waits = {
        let gate = Arc::clone(&gate);
        runtime.spawn(
            move || {
                gate.wait();
                ramp(3)
            },
            (),
        )
    };
    let all: Vec<_> = (0..3).map(|_| runtime.spawn(scale.over(3), (&waits, 2.0))).collect();
    assert_eq!(device.expected(), ["scale"]);
    gate.wait();
    all.iter().for_each(|task| task.wait().expect("runs"));
}
