//! What waits on the board of a runtime is taken, or ends: whoever is late, is removed, or has changed his mind.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use poniard::model::store::Store;
use poniard::model::{Machine, Measurement, Models, ProcessorClass};
use poniard::{Buffer, FailureKind, Runtime, RuntimeBuilder, Scope, Task, buffer, current_processor};
use poniard_tests::device::{FakeDevices, Mode};
use poniard_tests::in_time;
use poniard_tests::stage::{SCALE, ramp, scale, scale_or_host, small};

const HOUR_NS: u64 = 3_600_000_000_000;
const LEN: usize = 4;

/// Has the file in `folder` say what `scale_or_host` takes on the host and on "A device" for so many elements.
fn teach(folder: &Path, len: usize, host_ns: u64, device_ns: u64) {
    let models = Models::new(2);
    let code = scale_or_host().code_id();
    for (class, wall_ns) in [("cpu", host_ns), ("vulkan:A device", device_ns)] {
        let known = models.executions.resolve(&code, &ProcessorClass::new(class));
        (0..100).for_each(|_| known.record(9 * len as u64, Measurement { wall_ns, cpu_ns: None }));
    }
    Store::new(Some(folder.to_owned()), Machine::this()).save(&models).expect("a folder");
}

fn builder(devices: &FakeDevices, models: &Path) -> RuntimeBuilder {
    Runtime::builder().threads(2).linked(devices.clone()).models(Some(models.to_owned())).explain(true)
}

fn launch(runtime: &Runtime, len: usize) -> Task<Buffer<f32>> {
    runtime.spawn(scale_or_host().over(len), (ramp(len), 2.0))
}

#[test]
fn a_launch_that_is_cancelled_while_it_waits_for_memory_is_no_load() {
    in_time(|| {
        // Two of them are more than the device has.
        const MUCH: usize = 70_000;
        let folder = tempfile::tempdir().unwrap();
        teach(folder.path(), MUCH, 20 * HOUR_NS, HOUR_NS);
        let devices = FakeDevices::new([small()]);
        let runtime = builder(&devices, folder.path()).build().unwrap();
        devices.devices[0].set(Mode::Hold);
        let (first, second) = (launch(&runtime, MUCH), launch(&runtime, MUCH));
        assert_eq!(devices.devices[0].held(), 1);
        assert!(second.cancel());
        devices.devices[0].set(Mode::Run);
        devices.devices[0].release(devices.host());
        first.wait().unwrap();
        runtime.wait_idle();
        launch(&runtime, MUCH).wait().unwrap();
        let explanation = runtime.explanations().pop().unwrap();
        assert!(explanation.considered[1].finish_ns < 3 * HOUR_NS / 2, "{explanation:?}");
    });
}

#[test]
fn a_device_whose_launch_went_elsewhere_is_told_of_the_next() {
    in_time(|| {
        let devices = FakeDevices::new([small()]);
        let runtime = Runtime::builder().threads(1).linked(devices.clone()).models(None).policy("fifo").build().unwrap();
        let device = &devices.devices[0];
        device.set(Mode::Hold);
        let (open, gate) = mpsc::channel::<()>();
        let (say, begun) = mpsc::channel();
        let blocker = runtime.spawn(
            move || {
                say.send(()).unwrap();
                let _ = gate.recv();
            },
            (),
        );
        begun.recv().unwrap();
        // The device is full of what follows the one launch that the board knows of, and which is then over.
        let mut all = vec![runtime.spawn(scale().over(LEN), (ramp(LEN), 2.0))];
        let follow = |last: &Task<Buffer<f32>>| runtime.spawn(scale().over(LEN), (last, 2.0));
        (0..63).for_each(|_| all.push(follow(&all[0])));
        device.release_first(devices.host());
        all.push(follow(&all[1]));
        assert_eq!(device.held(), 64);
        // It is the device's by the board, which has no room, and the worker takes it.
        let either = launch(&runtime, LEN);
        drop(open);
        blocker.wait().unwrap();
        assert!(either.fetch().unwrap()[1] < 0.0);
        device.set(Mode::Run);
        device.release(devices.host());
        all[64].wait().unwrap();
        runtime.spawn(scale().over(LEN), (ramp(LEN), 1.0)).wait().unwrap();
    });
}

#[test]
fn a_launch_stays_within_the_scopes_of_its_arguments() {
    in_time(|| {
        let kernel = || {
            poniard::Kernel::wgsl("scale", SCALE).host(|x: &Buffer<f32>, a: f32| {
                assert_eq!(current_processor().unwrap().worker, Some(poniard::WorkerId(0)));
                buffer::from_fn(x.len(), |i| a * x[i])
            })
        };
        let devices = FakeDevices::new([small()]);
        let runtime = Runtime::builder().threads(2).linked(devices.clone()).models(None).build().unwrap();
        let place = Scope::worker(0) | Scope::kind("vulkan");
        let data = runtime.task(|| ramp(LEN), ()).result_scope(place).scope(Scope::worker(0)).spawn();
        data.wait().unwrap();
        let (open, gate) = mpsc::channel::<()>();
        let (say, begun) = mpsc::channel();
        let blocker = runtime
            .task(
                move || {
                    say.send(()).unwrap();
                    let _ = gate.recv();
                },
                (),
            )
            .scope(Scope::worker(0))
            .spawn();
        begun.recv().unwrap();
        // The other worker has nothing to do, and is none that it may run on.
        for _ in 0..20 {
            runtime.spawn(kernel().over(LEN), (&data, 2.0)).wait().unwrap();
        }
        drop(open);
        blocker.wait().unwrap();
    });
}

struct Waits(Task<()>);

impl Drop for Waits {
    fn drop(&mut self) {
        assert!(self.0.wait().is_ok());
    }
}

#[test]
fn what_a_task_leaves_on_the_board_may_wait_when_it_is_dropped() {
    in_time(|| {
        let runtime = Runtime::builder().threads(2).models(None).policy("fifo").build().unwrap();
        let gated = || {
            let (open, gate) = mpsc::channel::<()>();
            let (say, begun) = mpsc::channel();
            let task = runtime.spawn(
                move || {
                    say.send(()).unwrap();
                    let _ = gate.recv();
                },
                (),
            );
            begun.recv().unwrap();
            (open, task)
        };
        let ((open, first), (open_other, other)) = (gated(), gated());
        let waits = Waits(other.clone());
        let late = runtime.task(move || drop(waits), ()).timeout(Duration::from_millis(1)).spawn();
        assert!(matches!(late.fetch().unwrap_err().kind(), FailureKind::DeadlineExceeded));
        let next = runtime.spawn(|| (), ());
        drop(open);
        first.wait().unwrap();
        // Its worker drops what the timer has left, and is lent while that waits.
        next.wait().unwrap();
        drop(open_other);
        other.wait().unwrap();
        runtime.wait_idle();
    });
}

#[test]
fn what_waits_for_a_device_that_stands_still_is_taken_by_a_worker_that_comes_by() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        teach(folder.path(), LEN, 20 * HOUR_NS, 1);
        let devices = FakeDevices::new([small()]);
        let runtime = builder(&devices, folder.path()).build().unwrap();
        devices.devices[0].set(Mode::Hold);
        let tasks: Vec<_> = (0..100).map(|_| launch(&runtime, LEN)).collect();
        while !tasks[99].is_finished() {
            runtime.spawn(|| (), ()).wait().unwrap();
        }
        devices.devices[0].set(Mode::Run);
        devices.devices[0].release(devices.host());
        runtime.wait_idle();
    });
}

#[test]
fn two_that_change_the_number_of_processes_leave_nothing_for_a_removed_one() {
    in_time(|| {
        let builder = Runtime::builder().threads(1).processes(1).processes_at_most(1).models(None);
        let runtime = builder.policy("earliest-finish").build().unwrap();
        for _ in 0..40 {
            std::thread::scope(|scope| {
                scope.spawn(|| runtime.set_processes(0).unwrap());
                scope.spawn(|| runtime.set_processes(1).unwrap());
            });
            match runtime.task(|| 1u64, ()).scope(Scope::worker(1)).spawn().take() {
                Ok(value) => assert_eq!(value, 1),
                Err(error) => assert!(matches!(error.kind(), FailureKind::Removed { .. }), "{error}"),
            }
        }
    });
}
