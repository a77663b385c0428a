//! Kernels on devices that refuse, run out of memory and are lost, while other launches, other devices and the host are in the middle of something.

use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier};

use poniard::{Buffer, FailureKind, Kernel, Mutable, Runtime, Scope, Task, buffer, overwrite, write};
use poniard_tests::device::{FakeDevice, FakeDevices, Mode};
use poniard_tests::in_time;
use poniard_tests::stage::{ADD, BUMP, SCALE, one, ramp, runtime_with, scale, scale_or_host, small};

fn bump() -> Kernel<fn(&'static mut Buffer<f32>)> {
    Kernel::wgsl("bump", BUMP).host(|x: &mut Buffer<f32>| x.iter_mut().for_each(|x| *x += 1.0))
}

/// Elements of a buffer of 100 KiB, of which two have room on a `tight` device.
const LEN: usize = (100 << 10) / 4;

fn tight() -> FakeDevice {
    FakeDevice::new("tight", 210 << 10)
}

fn two() -> FakeDevices {
    FakeDevices::new([small(), FakeDevice::new("Another", 1 << 20)])
}

fn at(place: usize) -> Scope {
    Scope::processor(format!("fake-{place}"))
}

#[test]
fn a_result_is_not_taken_that_was_made_of_one_that_was_withdrawn() {
    // The first one has been done again, on the host, before the device comes to the end of the second.
    let (runtime, device, devices) = one(small());
    device.set(Mode::Hold);
    let a = runtime.spawn(scale_or_host().over(4), (ramp(4), 2.0));
    let b = runtime.spawn(scale().over(4), (&a, 2.0));
    let c = runtime.spawn(scale().over(4), (&b, 2.0));
    assert_eq!(device.held(), 3);
    device.refuse_first(devices.host());
    a.wait().expect("on the host");
    device.set(Mode::Run);
    device.release(devices.host());
    assert_eq!((b.fetch().expect("runs")[1], c.fetch().expect("runs")[1]), (-4.0, -8.0));
}

#[test]
fn launches_of_two_runtimes_keep_to_their_devices_and_wait_for_each_other() {
    in_time(|| {
        let (x, x_device, x_devices) = one(small());
        let (y, y_device, y_devices) = one(small());
        x_device.set(Mode::Hold);
        y_device.set(Mode::Hold);
        let gate = Arc::new(Barrier::new(2));
        let begun = {
            let gate = Arc::clone(&gate);
            x.spawn(
                move || {
                    gate.wait();
                    ramp(4)
                },
                (),
            )
        };
        let first = x.spawn(scale().over(4), (&begun, 2.0));
        let second = y.spawn(scale().over(4), (&first, 2.0));
        gate.wait();
        while x_device.held() == 0 {
            std::thread::yield_now();
        }
        let third = y.spawn(scale().over(4), (&first, 3.0));
        assert_eq!((x_device.held(), y_device.held()), (1, 0));
        x_device.set(Mode::Run);
        x_device.release(x_devices.host());
        y_device.set(Mode::Run);
        y_device.release(y_devices.host());
        assert_eq!((second.fetch().expect("runs")[1], third.fetch().expect("runs")[1]), (4.0, 6.0));
        assert_eq!((x_device.launched(), y_device.launched()), (1, 2));
        drop(y);
        drop(x);
    });
}

#[test]
fn a_failed_argument_beside_one_that_is_under_way_is_an_error() {
    let (runtime, device, devices) = one(small());
    device.set(Mode::Hold);
    let broken = runtime.spawn(|| Err::<Buffer<f32>, _>("no picture"), ());
    broken.wait().expect_err("fails");
    let b = runtime.spawn(scale().over(4), (ramp(4), 2.0));
    let add = Kernel::wgsl("add", ADD).takes::<(&Buffer<f32>, &Buffer<f32>), Buffer<f32>>();
    let c = runtime.spawn(add.over(4), (&broken, &b));
    device.set(Mode::Run);
    device.release(devices.host());
    let error = c.fetch().expect_err("its argument failed");
    assert!(matches!(error.kind(), FailureKind::Dependency(_)), "{error}");
}

#[test]
fn what_only_a_device_has_is_not_lost_by_a_launch_that_it_refuses() {
    for device in [small(), small().importing()] {
        let (runtime, device, devices) = one(device);
        let m = Mutable::new(ramp(3));
        runtime.spawn(bump().over(3), (write(&m),)).wait().expect("device");
        device.set(Mode::Refuse);
        runtime.spawn(bump().over(3), (write(&m),)).wait().expect("host");
        assert_eq!(**m.fetch().expect("runs"), [2.0, 3.0, 4.0]);
        // Others wait meanwhile.
        device.set(Mode::Hold);
        for _ in 0..3 {
            let _ = runtime.spawn(bump().over(3), (write(&m),));
        }
        device.set(Mode::Run);
        device.refuse_first(devices.host());
        device.release(devices.host());
        assert_eq!(**m.fetch().expect("runs"), [5.0, 6.0, 7.0]);
    }
}

#[test]
fn a_device_that_works_in_the_hosts_memory_and_one_that_does_not_see_the_same() {
    let devices = FakeDevices::new([small().importing(), FakeDevice::new("Another", 1 << 20)]);
    let runtime = runtime_with(&devices);
    let m = Mutable::new(ramp(3));
    let _ = runtime.task(bump().over(3), (write(&m),)).scope(at(0)).spawn();
    let _ = runtime.task(bump().over(3), (write(&m),)).scope(at(1)).spawn();
    assert_eq!(m.fetch().expect("runs")[0], 2.0);
    for place in [0, 1, 0, 1] {
        let _ = runtime.task(bump().over(3), (write(&m),)).scope(at(place)).spawn();
    }
    assert_eq!(**m.fetch().expect("runs"), [6.0, 7.0, 8.0]);
}

/// Two devices, of which the first is gone, and with it the result of a launch that the other one could make.
fn with_a_lost_result() -> (FakeDevices, Runtime, Task<Buffer<f32>>) {
    let devices = two();
    let runtime = runtime_with(&devices);
    let a = runtime.task(scale().over(3), (ramp(3), 2.0)).scope(at(0) | at(1)).spawn();
    a.wait().expect("runs");
    assert_eq!(devices.devices[0].launched(), 1);
    devices.devices[0].lose(devices.host(), "it fell off the bus");
    (devices, runtime, a)
}

#[test]
fn a_launch_takes_what_has_to_be_computed_again_first() {
    in_time(|| {
        let (_devices, runtime, a) = with_a_lost_result();
        let b = runtime.task(scale().over(3), (&a, 10.0)).scope(at(1)).spawn();
        assert_eq!(**b.fetch().expect("runs"), [0.0, 20.0, 40.0]);
    });
}

#[test]
fn what_is_computed_again_does_not_wait_for_the_thread_that_reports() {
    // A device's thread reported a launch, and was kept until another one was done, which it was to report.
    in_time(|| {
        let (devices, runtime, a) = with_a_lost_result();
        let device = &devices.devices[1];
        device.set(Mode::Hold);
        let x = runtime.task(scale().over(3), (ramp(3), 1.0)).scope(at(1)).spawn();
        let add = Kernel::wgsl("add", ADD).takes::<(&Buffer<f32>, &Buffer<f32>), Buffer<f32>>();
        let b = runtime.task(add.over(3), (&a, &x)).scope(at(1)).spawn();
        while !b.is_finished() {
            device.release(devices.host());
            std::thread::yield_now();
        }
        assert_eq!(**b.fetch().expect("runs"), [0.0, 3.0, 6.0]);
    });
}

#[test]
fn the_history_of_a_chain_that_is_always_under_way_is_cut() {
    in_time(|| {
        let (runtime, device, devices) = one(small());
        device.set(Mode::Hold);
        let scale = Kernel::wgsl("scale", SCALE).host(|x: &Buffer<f32>, a: f32| buffer::from_fn(x.len(), |i| a * x[i]));
        let mut z = runtime.spawn(scale.over(1), (buffer::from_slice(&[7.0]), 1.0));
        for _ in 1..5000 {
            z = runtime.spawn(scale.over(1), (z, 1.0));
        }
        while !z.is_finished() {
            device.release(devices.host());
        }
        assert!(device.copied_bytes().1 >= 4 * 5000 / 65, "{:?}", device.copied_bytes());
        assert_eq!(z.fetch().expect("runs")[0], 7.0);
    });
}

#[test]
fn launches_that_wait_for_room_keep_no_memory_of_the_host() {
    let (runtime, device, devices) = one(tight());
    device.set(Mode::Hold);
    let x = Arc::new(ramp(LEN));
    let mut all = vec![runtime.spawn(scale().over(LEN), (Arc::clone(&x), 1.0))];
    for _ in 0..200 {
        all.push(runtime.spawn(scale().over(LEN), (Arc::clone(&x), 2.0)));
    }
    // Other tests have buffers, too, but none so many.
    assert!(buffer::memory_usage().in_use_bytes < 12 << 20, "{:?}", buffer::memory_usage());
    device.set(Mode::Run);
    device.release(devices.host());
    all.iter().for_each(|z| z.wait().expect("runs"));
}

#[test]
fn a_device_that_has_less_memory_than_it_said_leaves_a_launch_to_the_host() {
    in_time(|| {
        let (runtime, device, _) = one(small());
        device.fail_after(1);
        let z = runtime.spawn(scale_or_host().over(4), (ramp(4), 2.0));
        assert_eq!(z.fetch().expect("on the host")[1], -2.0);
        // In place, with the contents on the device alone.
        let (runtime, device, _) = one(small());
        let m = Mutable::new(ramp(3));
        runtime.spawn(bump().over(3), (write(&m),)).wait().expect("device");
        device.fail_after(0);
        let source = "add\ninout x f32\nin y f32\nout z f32";
        let sum = Kernel::wgsl("add", source).host(|x: &mut Buffer<f32>, y: &Buffer<f32>| buffer::from_fn(3, |i| x[i] + y[i]));
        let z = runtime.spawn(sum.over(3), (write(&m), ramp(3)));
        assert_eq!(**z.fetch().expect("on the host"), [1.0, 3.0, 5.0]);
        assert_eq!(**m.fetch().expect("is there"), [1.0, 2.0, 3.0]);
    });
}

#[test]
fn a_buffer_that_goes_while_it_leaves_the_device_is_nobody_elses_before_that_is_over() {
    in_time(|| {
        let (runtime, device, _) = one(tight());
        let z = runtime.spawn(scale().over(LEN), (Arc::new(ramp(LEN)), 7.0));
        z.wait().expect("runs");
        let (reading, is_read) = channel();
        let (going, goes) = channel();
        device.in_the_next_read(move || {
            reading.send(()).expect("the other thread");
            goes.recv().expect("the other thread");
        });
        let host = std::thread::spawn(move || {
            is_read.recv().expect("it makes room");
            going.send(()).expect("it reads");
            drop(z);
            // May well be the block that is still written to.
            buffer::from_fn(LEN, |_| -1.0f32)
        });
        let other = runtime.spawn(scale().over(LEN), (ramp(LEN), 1.0));
        other.wait().expect("runs");
        assert!(host.join().expect("no panic").iter().all(|x| *x == -1.0));
    });
}

#[test]
fn what_leaves_a_device_while_another_one_changes_it_is_not_what_the_host_gets() {
    // It was copied from where it was stale by then, and taken for what it should be.
    in_time(|| {
        let devices = FakeDevices::new([tight(), small()]);
        let runtime = Arc::new(runtime_with(&devices));
        let m = Mutable::new(ramp(LEN));
        // The result and what is changed in place fill the device.
        let z = runtime.task(scale().over(LEN), (ramp(LEN), 1.0)).scope(at(0)).spawn();
        z.wait().expect("runs");
        runtime.task(bump().over(LEN), (write(&m),)).scope(at(0)).spawn().wait().expect("runs");
        let (first, second) = (Arc::clone(&devices.devices[0]), Arc::clone(&devices.devices[1]));
        second.set(Mode::Hold);
        // While the result leaves it to make room, the other device is given what is changed; while that leaves it as well, the other one is done.
        let (changes, other, runtime_of_it) = (m.clone(), Arc::clone(&second), Arc::clone(&runtime));
        let all = devices.clone();
        devices.devices[0].in_the_next_read(move || {
            let spawned = std::thread::spawn(move || {
                let _ = runtime_of_it.task(bump().over(LEN), (write(&changes),)).scope(at(1)).spawn();
                while other.held() == 0 {
                    std::thread::yield_now();
                }
            });
            spawned.join().expect("no panic");
            first.in_the_next_read(move || {
                let released = std::thread::spawn(move || second.release(all.host()));
                released.join().expect("no panic");
            });
        });
        runtime.task(scale().over(LEN), (ramp(LEN), 1.0)).scope(at(0)).spawn().wait().expect("runs");
        devices.devices[1].set(Mode::Run);
        devices.devices[1].release(devices.host());
        assert_eq!(m.fetch().expect("runs")[0], 2.0);
        // Where there was no other read, what was to happen in it keeps the devices, and they keep it.
        devices.devices[0].in_the_next_read(|| ());
    });
}

#[test]
fn two_devices_that_refuse_everything_do_not_block_each_other() {
    in_time(|| {
        let devices = two();
        let runtime = runtime_with(&devices);
        devices.devices.iter().for_each(|device| device.set(Mode::Refuse));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        runtime.spawn(scale_or_host().over(3), (ramp(3), 2.0)).wait().expect("host");
                    }
                });
            }
        });
    });
}

/// Spawns a launch when it is dropped, and waits for it.
struct Spawner(poniard::Handle, Scope);

impl Drop for Spawner {
    fn drop(&mut self) {
        let launch = self.0.task(scale().over(3), (ramp(3), 2.0)).scope(self.1.clone()).spawn();
        launch.wait().expect("runs");
    }
}

#[test]
fn a_destructor_may_launch() {
    in_time(|| {
        let devices = two();
        let runtime = runtime_with(&devices);
        let spawner = Arc::new(Spawner(runtime.handle(), at(1)));
        let kernel = Kernel::wgsl("scale", SCALE).host(move |x: &Buffer<f32>, a: f32| {
            let _ = &spawner.1;
            buffer::from_fn(x.len(), |i| a * x[i])
        });
        let broken = runtime.spawn(|| Err::<Buffer<f32>, _>("no picture"), ());
        broken.wait().expect_err("fails");
        let launch = kernel.over(3);
        drop(kernel);
        runtime.task(launch, (&broken, 1.0)).scope(at(0)).spawn().wait().expect_err("its argument failed");
    });
}

#[test]
fn what_a_refused_launch_used_can_leave_the_device() {
    in_time(|| {
        let (runtime, device, _) = one(tight());
        let x = Arc::new(ramp(LEN));
        device.set(Mode::Refuse);
        runtime.spawn(scale_or_host().over(LEN), (Arc::clone(&x), 1.0)).wait().expect("on the host");
        device.set(Mode::Run);
        runtime.spawn(scale().over(LEN), (ramp(LEN), 1.0)).wait().expect("there is room");
    });
}

#[test]
fn results_and_what_is_overwritten_begin_anew_where_a_device_was_lost() {
    for mode in [Mode::Lose, Mode::TimeOut] {
        for device in [small(), small().importing()] {
            let (runtime, device, _) = one(device);
            device.set(mode.clone());
            let z = runtime.spawn(scale_or_host().over(3), (ramp(3), 2.0));
            assert_eq!(z.fetch().expect("on the host")[1], -2.0);
        }
        let (runtime, device, _) = one(small().importing());
        device.set(mode);
        let source = "copy\nin x f32\nout z f32";
        let copy = Kernel::wgsl("copy", source).host(|x: &Buffer<f32>, z: &mut Buffer<f32>| z.copy_from_slice(x));
        let z = Mutable::new(buffer::zeroed(3));
        runtime.spawn(copy.over(3), (ramp(3), overwrite(&z))).wait().expect("on the host");
        assert_eq!(**z.fetch().expect("runs"), [0.0, 1.0, 2.0]);
    }
}
