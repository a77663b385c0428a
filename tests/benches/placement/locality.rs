//! Bytes that are moved although nobody said where: `locality`, `locality-devices`.

use poniard::{DeviceClass, Runtime, Scope, Task};
use poniard_bench::{Effort, System};
use poniard_tests::device::{FakeDevice, FakeDevices};
use poniard_tests::stage::{ramp, scale};

use crate::sample_run::{On, SampleRun};
use crate::sleeps::warm;

/// Sums over two matrices, of which each is made in another process.
pub(crate) fn on_processes(effort: Effort) -> Vec<System<'static>> {
    let size = if effort == Effort::Quick { 1024 } else { 4096 };
    let runtime = warm(Runtime::builder().threads(1), 2);
    let run = SampleRun { size: Some(size), tile: Some(size / 8), ..SampleRun::of("locality") };
    vec![
        System::new("limit", "processes share the memory of buffers", || 0.0),
        System::telling("poniard", move |note| {
            let outcome = run.outcome(&runtime, On::Host);
            let of = |name: &str| outcome.values.iter().find(|(other, _)| *other == name).and_then(|(_, value)| value.as_f64());
            let (moved, data) = (of("moved_bytes").expect("it counts them"), of("data_bytes").expect("it counts them"));
            *note = format!("{moved} bytes besides {:.0} MiB of elements: what calls and replies say", data / f64::from(1 << 20));
            100.0 * moved / data
        }),
    ]
}

/// Elements of a block, 256 KiB, and how many launches look at each.
const LEN: usize = 1 << 16;
const LAUNCHES: usize = 16;

/// Launches that read two blocks, of which each was made on another device.
pub(crate) fn on_devices() -> Vec<System<'static>> {
    let kib = |bytes: u64| bytes as f64 / 1024.0;
    let least = kib(2 * 4 * LEN as u64);
    vec![
        System::new("limit", "what both devices begin with", move || least),
        System::telling("poniard", move |note| {
            let one = || FakeDevice::new("A device", 64 << 20).of_class(DeviceClass::Discrete);
            let devices = FakeDevices::new([one(), one()]);
            let runtime = Runtime::builder().threads(1).linked(devices.clone()).models(None).build().expect("a runtime");
            let on = |index: usize| Scope::processor(format!("fake-{index}"));
            let made: Vec<Task<_>> =
                (0..2).map(|index| runtime.task(scale().over(LEN), (ramp(LEN), 2.0)).scope(on(index)).spawn()).collect();
            made.iter().for_each(|made| made.wait().expect("it is made"));
            let read: Vec<Task<_>> = (0..2 * LAUNCHES)
                .map(|index| runtime.task(scale().over(LEN), (&made[index % 2], 3.0)).scope(Scope::kind("vulkan")).spawn())
                .collect();
            read.iter().for_each(|read| read.wait().expect("it is read"));
            let launched = devices.devices.iter().map(|device| device.launched());
            *note = format!("{:?} launches", launched.collect::<Vec<_>>());
            kib(devices.devices.iter().map(|device| device.copied_bytes()).map(|(to, from)| to + from).sum())
        }),
    ]
}
