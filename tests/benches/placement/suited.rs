//! Two kernels that suit different processors, beside a stand-in for a device that takes nothing of the host's cores, as a software device does: `automatic-suited`.
//!
//! Bodies sleep for as long as they would compute, on the host as on the device, so cores that others use as well count for nothing.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use poniard::{Buffer, DeviceClass, Kernel, Runtime, RuntimeBuilder, Task, buffer};
use poniard_bench::System;
use poniard_tests::device::{FakeDevice, FakeDevices, Mode};
use poniard_tests::stage::{ADD, SCALE, ramp};

use crate::automatic::LESSONS;

/// Tasks of each kernel.
const TASKS: usize = 400;
const THREADS: usize = 2;
/// How long the first takes on the host and on the device, and the second.
const FIRST: (Duration, Duration) = (Duration::from_micros(1000), Duration::from_micros(250));
const SECOND: (Duration, Duration) = (Duration::from_micros(250), Duration::from_micros(2000));
/// Between two looks for work.
const PAUSE: Duration = Duration::from_micros(20);
const LEN: usize = 4;

/// A runtime, and a device that works for it, if there is one.
struct Stand {
    runtime: Runtime,
    device: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
}

impl Stand {
    fn new(builder: RuntimeBuilder) -> Self {
        let devices = FakeDevices::new([FakeDevice::new("A device", 1 << 20).of_class(DeviceClass::Discrete)]);
        devices.devices[0].set(Mode::Hold);
        let runtime = builder.threads(THREADS).linked(devices.clone()).models(None).build().expect("a runtime");
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let work = move || {
            while !seen.load(Relaxed) {
                let Some(operation) = devices.devices[0].held_operations().into_iter().next() else {
                    sleep(PAUSE);
                    continue;
                };
                sleep(if operation == "scale" { FIRST.1 } else { SECOND.1 });
                devices.devices[0].release_first(devices.host());
            }
        };
        Self { runtime, device: Some((is_over, thread::spawn(work))) }
    }

    fn without_device() -> Self {
        Self { runtime: Runtime::builder().threads(THREADS).build().expect("a runtime"), device: None }
    }

    fn time_ms(&self) -> f64 {
        let first = Kernel::wgsl("first", SCALE).host(|x: &Buffer<f32>, a: f32| {
            sleep(FIRST.0);
            buffer::from_fn(x.len(), |i| a * x[i])
        });
        let second = Kernel::wgsl("second", ADD).host(|x: &Buffer<f32>, y: &Buffer<f32>| {
            sleep(SECOND.0);
            buffer::from_fn(x.len(), |i| x[i] + y[i])
        });
        let x = self.runtime.value(ramp(LEN));
        let begin = Instant::now();
        let launched: Vec<[Task<Buffer<f32>>; 2]> =
            (0..TASKS).map(|_| [self.runtime.spawn(first.over(LEN), (&x, 2.0)), self.runtime.spawn(second.over(LEN), (&x, &x))]).collect();
        launched.iter().flatten().for_each(|launched| launched.wait().expect("it runs"));
        begin.elapsed().as_secs_f64() * 1e3
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if let Some((is_over, device)) = self.device.take() {
            self.runtime.wait_idle();
            is_over.store(true, Relaxed);
            device.join().expect("it works");
        }
    }
}

pub(crate) fn systems() -> Vec<System<'static>> {
    let learnt = |name: &'static str, note: &'static str, stand: Stand| {
        for _ in 0..LESSONS {
            stand.time_ms();
        }
        System::new(name, note, move || stand.time_ms())
    };
    vec![
        learnt("threads", "2 threads", Stand::without_device()),
        learnt("device", "launches always on the device", Stand::new(Runtime::builder().devices_always(true))),
        learnt("poniard", "2 threads and a device", Stand::new(Runtime::builder())),
        System::new("poniard-first", "the same, which has measured nothing", || Stand::new(Runtime::builder()).time_ms()),
    ]
}
