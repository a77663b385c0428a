//! Where tasks go that have a choice: by what was measured, by what is queued, by where their data is; and by the policies that users name.
//!
//! Devices are stand-ins, and costs are put into a file of models before the runtime begins: hours, so that nothing depends on the time that the tests take.
//!
//! One file because all of it plays on one stage.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use poniard::model::store::Store;
use poniard::model::{Machine, Measurement, Models, ProcessorClass};
use poniard::policy::{POLICIES, Why};
use poniard::{Buffer, DeviceClass, Explanation, Gather, Kernel, Mutable, Runtime, RuntimeBuilder, Scope, Task, buffer, read, write};
use poniard_tests::device::{FakeDevice, FakeDevices, Mode};
use poniard_tests::in_time;
use poniard_tests::stage::{ADD, ramp, scale, scale_or_host, small};

const HOUR_NS: u64 = 3_600_000_000_000;
/// Elements of what kernels work on here, and the size that models know it by: two buffers, and an invocation for each element.
const LEN: usize = 4;
const SIZE: u64 = 9 * LEN as u64;
/// What the device is called in models.
const DEVICE: &str = "vulkan:A device";

/// Has the file in `folder` say what `scale_or_host` takes on the host and on "A device".
fn teach(folder: &Path, host_ns: u64, device_ns: u64) {
    teach_all(folder, &[("cpu", host_ns), (DEVICE, device_ns)]);
}

/// The same of any processors.
fn teach_all(folder: &Path, known: &[(&str, u64)]) {
    let models = Models::new(2);
    let code = scale_or_host().code_id();
    for &(class, wall_ns) in known {
        let known = models.executions.resolve(&code, &ProcessorClass::new(class));
        (0..100).for_each(|_| known.record(SIZE, Measurement { wall_ns, cpu_ns: None }));
    }
    Store::new(Some(folder.to_owned()), Machine::this()).save(&models).expect("a folder");
}

fn builder(devices: &FakeDevices, models: &Path) -> RuntimeBuilder {
    Runtime::builder().threads(2).linked(devices.clone()).models(Some(models.to_owned())).explain(true)
}

fn launch(runtime: &Runtime) -> Task<Buffer<f32>> {
    runtime.spawn(scale_or_host().over(LEN), (ramp(LEN), 2.0))
}

/// Whether a device made it: the host's body has another sign.
fn is_from_device(task: &Task<Buffer<f32>>) -> bool {
    task.fetch().expect("runs")[1] > 0.0
}

fn last(runtime: &Runtime) -> Explanation {
    runtime.explanations().pop().expect("a decision")
}

#[test]
fn a_kernel_goes_where_it_is_expected_to_finish_first() {
    for (host_ns, device_ns, chosen) in [(2 * HOUR_NS, HOUR_NS, "fake-0"), (HOUR_NS, 2 * HOUR_NS, "host")] {
        let folder = tempfile::tempdir().unwrap();
        teach(folder.path(), host_ns, device_ns);
        let runtime = builder(&FakeDevices::new([small()]), folder.path()).build().unwrap();
        assert_eq!(is_from_device(&launch(&runtime)), chosen == "fake-0");
        let explanation = last(&runtime);
        assert_eq!((explanation.chosen.as_deref(), explanation.why), (Some(chosen), Why::EarliestFinish), "{explanation:?}");
        assert_eq!((explanation.task.as_str(), explanation.size), ("scale", SIZE));
        let considered: Vec<_> =
            explanation.considered.iter().map(|one| (one.place.as_str(), one.execution_ns, one.measurements)).collect();
        assert_eq!(considered, [("host", host_ns, 100), ("fake-0", device_ns, 100)]);
        assert!(explanation.took_ns.is_some() && explanation.ran.is_some(), "{explanation:?}");
        let report = runtime.report().placement.expect("there was a choice");
        assert_eq!((report.policy, report.decisions, report.guessed), ("earliest-finish", 1, 0));
        assert_eq!((report.missing_bytes, report.missing_bytes_min), (if chosen == "host" { 0 } else { 16 }, 0));
    }
}

#[test]
fn what_waits_for_a_device_counts() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        teach(folder.path(), 5 * HOUR_NS / 2, HOUR_NS);
        let devices = FakeDevices::new([small()]);
        let runtime = builder(&devices, folder.path()).build().unwrap();
        devices.devices[0].set(Mode::Hold);
        // After one, two and three hours; then the host is sooner.
        let tasks: Vec<_> = (0..4).map(|_| launch(&runtime)).collect();
        assert!(!is_from_device(&tasks[3]) || !is_from_device(&tasks[2]));
        devices.devices[0].set(Mode::Run);
        devices.devices[0].release(devices.host());
        assert!(is_from_device(&tasks[0]) && is_from_device(&tasks[1]));
        let chosen: Vec<_> = runtime.explanations().into_iter().map(|explanation| explanation.chosen).collect();
        assert_eq!(chosen.iter().filter(|chosen| chosen.as_deref() == Some("host")).count(), 2, "{chosen:?}");
    });
}

#[test]
fn data_that_is_on_a_device_draws_tasks_there() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing to choose between the two but what has to be moved.
    teach(folder.path(), 100_000, 100_000);
    let devices = FakeDevices::new([small()]);
    let runtime = builder(&devices, folder.path()).build().unwrap();
    assert!(!is_from_device(&launch(&runtime)));
    let there = runtime.task(scale().over(LEN), (ramp(LEN), 1.0)).scope(Scope::kind("vulkan")).spawn();
    there.wait().expect("runs");
    let _ = runtime.spawn(scale_or_host().over(LEN), (&there, 2.0)).wait();
    let explanation = last(&runtime);
    let missing: Vec<_> = explanation.considered.iter().map(|one| one.missing_bytes).collect();
    assert_eq!(missing, [4 * LEN as u64, 0], "{explanation:?}");
}

#[test]
fn without_measurements_both_are_tried() {
    let devices = FakeDevices::new([small()]);
    let runtime = Runtime::builder().threads(2).linked(devices.clone()).models(None).build().unwrap();
    let mut from_device = 0;
    let mut count = 0;
    // Exploring is paid for by work that is done.
    while from_device == 0 || from_device == count {
        from_device += u32::from(is_from_device(&launch(&runtime)));
        count += 1;
    }
    let report = runtime.report().placement.expect("there was a choice");
    assert_eq!(report.decisions, u64::from(count));
    assert!(report.guessed > 0 && report.guessed + report.explored <= report.decisions, "{report:?}");
}

#[test]
fn what_was_measured_is_there_for_the_next_program() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let runtime = builder(&FakeDevices::new([small()]), folder.path()).build().unwrap();
        launch(&runtime).wait().unwrap();
        let known = last(&runtime).considered.iter().map(|one| one.measurements).max();
        assert_eq!(known, Some(round), "in round {round}");
    }
}

#[test]
fn a_damaged_file_of_models_is_set_aside_and_said() {
    let folder = tempfile::tempdir().unwrap();
    teach(folder.path(), HOUR_NS, HOUR_NS);
    let files = poniard::model::store::files(folder.path()).unwrap();
    let [file] = files.as_slice() else { panic!("one machine, one file: {files:?}") };
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
    let runtime = builder(&FakeDevices::new([small()]), folder.path()).build().unwrap();
    launch(&runtime).wait().unwrap();
    let messages = runtime.report().messages;
    assert!(messages.iter().any(|message| message.starts_with("warning: models of costs")), "{messages:?}");
    assert_eq!(last(&runtime).considered[0].measurements, 0);
}

#[test]
fn what_waits_for_a_device_that_is_lost_runs_on_the_host() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        teach(folder.path(), 20 * HOUR_NS, 1);
        let devices = FakeDevices::new([small()]);
        let runtime = builder(&devices, folder.path()).build().unwrap();
        devices.devices[0].set(Mode::Hold);
        // More than the device takes at a time.
        let tasks: Vec<_> = (0..200).map(|_| launch(&runtime)).collect();
        assert!(devices.devices[0].held() < 200);
        devices.devices[0].lose(devices.host(), "it fell off the bus");
        for task in &tasks {
            assert!(!is_from_device(task));
        }
        runtime.wait_idle();
    });
}

#[test]
fn what_waits_for_a_device_that_hangs_runs_on_the_host() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        teach(folder.path(), HOUR_NS, 1);
        let devices = FakeDevices::new([small()]);
        let runtime = builder(&devices, folder.path()).build().unwrap();
        // It keeps what it has been given, and does none of it before the others are over.
        devices.devices[0].set(Mode::Hold);
        let tasks: Vec<_> = (0..200).map(|_| launch(&runtime)).collect();
        // A worker may still be giving it some.
        let over = || tasks.iter().filter(|task| task.is_finished()).count();
        while over() + devices.devices[0].held() < 200 {
            std::thread::yield_now();
        }
        let held = devices.devices[0].held();
        assert!((1..200).contains(&held), "{held}");
        let (on_host, on_device): (Vec<_>, Vec<_>) = tasks.iter().partition(|task| task.is_finished());
        assert!(on_host.into_iter().all(|task| !is_from_device(task)));
        devices.devices[0].set(Mode::Run);
        devices.devices[0].release(devices.host());
        assert_eq!(on_device.len(), held);
        assert!(on_device.into_iter().all(is_from_device));
    });
}

#[test]
fn a_software_device_is_not_chosen_unless_a_test_says_so() {
    for takes in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        teach(folder.path(), 2 * HOUR_NS, HOUR_NS);
        let devices = FakeDevices::new([small().of_class(DeviceClass::Software)]);
        let runtime = builder(&devices, folder.path()).setting("placement.software", takes.to_string()).build().unwrap();
        assert_eq!(is_from_device(&launch(&runtime)), takes);
    }
}

#[test]
fn of_two_devices_the_one_that_has_the_data_is_taken() {
    let devices = FakeDevices::new([small(), FakeDevice::new("A device", 1 << 20)]);
    let runtime = Runtime::builder().threads(1).linked(devices.clone()).models(None).explain(true).build().unwrap();
    let on = |index: usize| Scope::processor(format!("fake-{index}"));
    for index in [1, 0, 1] {
        let made = runtime.task(scale().over(1000), (ramp(1000), 2.0)).scope(on(index)).spawn();
        let after = runtime.task(scale().over(1000), (&made, 2.0)).scope(Scope::kind("vulkan")).spawn();
        after.wait().expect("runs");
        // Unless it was submitted right behind the first, there is an explanation.
        let launched = [devices.devices[0].launched(), devices.devices[1].launched()];
        assert_eq!(launched[index] % 2, 0, "{launched:?}");
    }
    assert_eq!(devices.devices[0].launched() + devices.devices[1].launched(), 6);
}

/// What the file in `folder` says of a link: bytes and count of each size class, and the mean of the last one.
fn link(folder: &Path, from: &str, to: &str) -> (Vec<(u64, u64)>, f64) {
    let files = poniard::model::store::files(folder).expect("a folder");
    let Some(file) = files.first() else { return (Vec::new(), 0.0) };
    let kept = poniard::model::store::read(file).expect("a whole file");
    let Some(curve) = kept.links.get(&(from.into(), to.into())) else { return (Vec::new(), 0.0) };
    let classes = curve.classes.values();
    (classes.clone().map(|class| (class.bytes, class.count)).collect(), classes.last().map_or(0.0, |class| class.mean_ns))
}

/// Has the file in `folder` say what `bytes` take to devices of these names and back.
fn teach_links(folder: &Path, bytes: u64, links: &[(&str, u64, u64)]) {
    let models = Models::new(2);
    models.links.name_space(0, "host");
    for ((name, up_ns, down_ns), space) in links.iter().zip(1..) {
        models.links.name_space(space, &format!("vulkan:{name}"));
        (0..100).for_each(|_| models.links.record(0, space, bytes, *up_ns));
        (0..100).for_each(|_| models.links.record(space, 0, bytes, *down_ns));
    }
    Store::new(Some(folder.to_owned()), Machine::this()).save(&models).expect("a folder");
}

/// Waits until the runtime has made so many transfers to find out what they take.
fn until_probed(device: &FakeDevice, probes: u64) {
    while device.probes() < probes {
        std::thread::yield_now();
    }
}

#[test]
fn links_are_probed_once_a_task_has_a_choice() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..2 {
            let devices = FakeDevices::new([small()]);
            let runtime = builder(&devices, folder.path()).build().unwrap();
            let made = runtime.task(scale().over(LEN), (ramp(LEN), 1.0)).scope(Scope::kind("vulkan")).spawn();
            made.wait().expect("runs");
            assert_eq!(devices.devices[0].probes(), 0, "that had no choice");
            launch(&runtime).wait().expect("runs");
            if round == 0 {
                // One to get ready and three that count, small ones and a 64th of the memory.
                until_probed(&devices.devices[0], 8);
            }
            drop(runtime);
            assert_eq!(devices.devices[0].probes(), if round == 0 { 8 } else { 0 }, "what the file knows is not asked for again");
            assert_eq!(devices.devices[0].used_bytes(), 0);
            for (from, to) in [("host", DEVICE), (DEVICE, "host")] {
                let (classes, _) = link(folder.path(), from, to);
                assert!(classes.contains(&(4 << 10, 3)) && classes.contains(&(16 << 10, 3)), "{classes:?}");
            }
        }
    });
}

#[test]
fn nothing_is_probed_that_needs_no_transfer() {
    for (device, software) in [(small().of_class(DeviceClass::Software), "false"), (small().importing(), "true")] {
        let devices = FakeDevices::new([device]);
        let builder = Runtime::builder().threads(2).linked(devices.clone()).models(None).setting("placement.software", software);
        let runtime = builder.build().unwrap();
        launch(&runtime).wait().expect("runs");
        drop(runtime);
        assert_eq!(devices.devices[0].probes(), 0);
    }
}

#[test]
fn a_device_at_work_is_probed_when_it_has_nothing_to_do() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        teach(folder.path(), 2 * HOUR_NS, HOUR_NS);
        let devices = FakeDevices::new([small()]);
        let device = &devices.devices[0];
        let runtime = builder(&devices, folder.path()).build().unwrap();
        device.set(Mode::Hold);
        // It is at work before anything has a choice.
        let _first = runtime.task(scale().over(LEN), (ramp(LEN), 1.0)).scope(Scope::kind("vulkan")).spawn();
        let task = launch(&runtime);
        assert_eq!((device.held(), device.probes()), (2, 0));
        device.release(devices.host());
        until_probed(device, 8);
        assert!(is_from_device(&task));
    });
}

#[test]
fn the_end_of_a_runtime_waits_for_one_probe_at_most() {
    in_time(|| {
        let devices = FakeDevices::new([small()]);
        let device = Arc::clone(&devices.devices[0]);
        let runtime = Runtime::builder().threads(2).linked(devices).models(None).build().unwrap();
        let handle = runtime.handle();
        device.in_the_next_probe(move || {
            // Until the runtime is being dropped.
            while handle.spawn(|| (), ()).wait().is_ok() {}
        });
        launch(&runtime).wait().expect("runs");
        drop(runtime);
        assert!(device.probes() <= 1);
        assert_eq!(device.used_bytes(), 0);
        // If there was none the device still has it, and it has the runtime.
        device.in_the_next_probe(|| ());
    });
}

#[test]
fn real_transfers_teach_what_links_give() {
    let folder = tempfile::tempdir().unwrap();
    let devices = FakeDevices::new([small().telling(1000)]);
    let runtime = builder(&devices, folder.path()).build().unwrap();
    let x = Arc::new(ramp(1000));
    for _ in 0..2 {
        let made = runtime.task(scale().over(1000), (Arc::clone(&x), 1.0)).scope(Scope::kind("vulkan")).spawn();
        made.take().expect("runs");
    }
    drop(runtime);
    assert_eq!(link(folder.path(), "host", DEVICE), (vec![(4000, 1)], 4_000_000.0), "it was there for the second");
    assert_eq!(link(folder.path(), DEVICE, "host").0, [(4000, 2)]);
}

#[test]
fn what_a_device_at_work_takes_for_a_transfer_tells_nothing() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let devices = FakeDevices::new([small()]);
        let runtime = builder(&devices, folder.path()).build().unwrap();
        let on_device = || runtime.task(scale().over(1000), (ramp(1000), 1.0)).scope(Scope::kind("vulkan")).spawn();
        let (first, second) = (on_device(), on_device());
        second.wait().expect("runs");
        devices.devices[0].set(Mode::Hold);
        let third = on_device();
        first.fetch().expect("runs");
        devices.devices[0].release(devices.host());
        third.wait().expect("runs");
        second.fetch().expect("runs");
        drop(runtime);
        // The third is brought when the runtime ends.
        assert_eq!(link(folder.path(), DEVICE, "host").0, [(4000, 2)]);
    });
}

#[test]
fn what_it_takes_to_bring_the_data_is_not_the_codes() {
    const LONG: Duration = Duration::from_secs(1);
    let folder = tempfile::tempdir().unwrap();
    let devices = FakeDevices::new([small()]);
    let runtime = builder(&devices, folder.path()).build().unwrap();
    let made = runtime.task(scale().over(LEN), (ramp(LEN), 1.0)).scope(Scope::kind("vulkan")).spawn();
    made.wait().expect("runs");
    // A slow way back.
    devices.devices[0].in_the_next_read(|| std::thread::sleep(LONG));
    runtime.task(scale_or_host().over(LEN), (&made, 2.0)).scope(Scope::host()).spawn().wait().expect("runs");
    drop(runtime);
    let kept = poniard::model::store::read(&poniard::model::store::files(folder.path()).unwrap()[0]).unwrap();
    let on_host = kept.codes.iter().find(|((_, class), _)| class.as_str() == "cpu").expect("it was measured");
    let summary = on_host.1.classes.values().next().expect("once");
    assert!(summary.count == 1 && summary.mean_ns < LONG.as_nanos() as f64, "{summary:?}");
    assert!(link(folder.path(), DEVICE, "host").1 >= LONG.as_nanos() as f64);
}

#[test]
fn what_is_to_be_copied_is_handed_over_while_others_run() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        teach(folder.path(), 20 * HOUR_NS, HOUR_NS);
        let devices = FakeDevices::new([small()]);
        let runtime = builder(&devices, folder.path()).build().unwrap();
        devices.devices[0].set(Mode::Hold);
        let tasks: Vec<_> = (0..3).map(|_| launch(&runtime)).collect();
        // None has ended, and the device has got what all need.
        assert_eq!((devices.devices[0].launched(), devices.devices[0].held_bytes()), (0, 3 * 4 * LEN as u64));
        devices.devices[0].set(Mode::Run);
        devices.devices[0].release(devices.host());
        assert!(tasks.iter().all(is_from_device));
    });
}

#[test]
fn what_another_device_has_is_moved_twice_and_read_once() {
    let (folder, bytes) = (tempfile::tempdir().unwrap(), 4 * LEN as u64);
    // No place is explored.
    teach_all(folder.path(), &[("cpu", HOUR_NS), (DEVICE, 1), ("vulkan:Another device", HOUR_NS), ("vulkan:A third device", HOUR_NS)]);
    let names = ["A device", "Another device", "A third device"];
    teach_links(folder.path(), bytes, &[(names[0], 11_000, 500), (names[1], 2000, 700), (names[2], 3000, 900)]);
    let devices = FakeDevices::new(names.map(|name| FakeDevice::new(name, 1 << 20)));
    let runtime = builder(&devices, folder.path()).build().unwrap();
    let on = |index: usize| Scope::processor(format!("fake-{index}"));
    let made = runtime.task(scale().over(LEN), (ramp(LEN), 1.0)).scope(on(0)).spawn();
    made.wait().expect("runs");
    let missing = |runtime: &Runtime| last(runtime).considered.iter().map(|one| (one.missing_bytes, one.transfer_ns)).collect::<Vec<_>>();
    let launch = || runtime.spawn(scale_or_host().over(LEN), (&made, 2.0)).wait().expect("runs");
    launch();
    assert_eq!(missing(&runtime), [(bytes, 500), (0, 0), (2 * bytes, 500 + 2000), (2 * bytes, 500 + 3000)]);
    for index in [1, 2, 1, 2] {
        let there = runtime.task(scale().over(LEN), (&made, 2.0)).scope(on(index)).spawn();
        there.wait().expect("runs");
    }
    let copied = [0, 1, 2].map(|index| devices.devices[index].copied_bytes());
    assert_eq!(copied, [(bytes, bytes), (bytes, 0), (bytes, 0)]);
    launch();
    assert_eq!(missing(&runtime), [(0, 0); 4]);
    let report = runtime.report().placement.unwrap();
    assert_eq!((report.missing_bytes, report.missing_bytes_min), (0, 0), "they went where the data was");
}

#[test]
fn a_buffer_that_is_taken_twice_is_moved_once() {
    let runtime = builder(&FakeDevices::new([small()]), tempfile::tempdir().unwrap().path()).build().unwrap();
    let add = Kernel::wgsl("add", ADD).host(|x: &Buffer<f32>, y: &Buffer<f32>| buffer::from_fn(x.len(), |i| x[i] + y[i]));
    let x = Arc::new(ramp(LEN));
    let sum = runtime.spawn(add.over(LEN), (Arc::clone(&x), Arc::clone(&x)));
    assert_eq!(sum.fetch().expect("runs")[3], 6.0);
    assert_eq!(last(&runtime).considered.iter().map(|one| one.missing_bytes).collect::<Vec<_>>(), [0, 4 * LEN as u64]);
}

#[test]
fn those_who_want_a_result_at_once_share_one_transfer() {
    in_time(|| {
        let devices = FakeDevices::new([small(), FakeDevice::new("Another device", 1 << 20)]);
        let runtime = Runtime::builder().threads(2).linked(devices.clone()).models(None).build().unwrap();
        let on = |index: usize| Scope::processor(format!("fake-{index}"));
        let made = runtime.task(scale().over(1000), (ramp(1000), 2.0)).scope(on(0)).spawn();
        made.wait().expect("runs");
        let (begins, has_begun) = std::sync::mpsc::channel();
        let (goes_on, may_go_on) = std::sync::mpsc::channel::<()>();
        devices.devices[0].in_the_next_read(move || {
            begins.send(()).expect("somebody waits");
            may_go_on.recv().expect("somebody says so");
        });
        std::thread::scope(|scope| {
            let fetch = || assert_eq!(made.fetch().expect("runs")[3], 6.0);
            scope.spawn(fetch);
            has_begun.recv().expect("one reads");
            // In the middle of the first read: threads of the host, a task of the host and a launch elsewhere.
            (0..3).for_each(|_| drop(scope.spawn(fetch)));
            let sum = runtime.spawn(|z: &Buffer<f32>| z[3], (&made,));
            let there = scope.spawn(|| runtime.task(scale().over(1000), (&made, 2.0)).scope(on(1)).spawn().take().expect("runs")[3]);
            goes_on.send(()).expect("it waits");
            assert_eq!((*sum.fetch().expect("runs"), there.join().expect("runs")), (6.0, 12.0));
        });
        assert_eq!([0, 1].map(|index| devices.devices[index].copied_bytes()), [(4000, 4000), (4000, 4000)]);
    });
}

/// Something of everything: chains, joins, tasks that spawn, priorities, scopes.
fn program(runtime: &Runtime) -> u64 {
    let leaves: Vec<Task<u64>> = (0..40u64).map(|number| runtime.spawn(|number: u64| number * number, (number,))).collect();
    let sums: Vec<Task<u64>> = leaves.chunks(2).map(|pair| runtime.spawn(|a: u64, b: u64| a + b, (&pair[0], &pair[1]))).collect();
    let urgent = runtime.task(|a: u64| a + 1, (&sums[0],)).priority(poniard::Priority::High).spawn();
    let nested =
        runtime.spawn(|| (0..10u64).map(|number| poniard::spawn(|number: u64| number, (number,)).take().expect("runs")).sum::<u64>(), ());
    let local = runtime.task(|a: u64| a, (&sums[1],)).scope(Scope::host()).spawn();
    let mut chain = runtime.spawn(|| 0u64, ());
    for _ in 0..50 {
        chain = runtime.spawn(|value: u64| value + 1, (chain,));
    }
    let total: u64 = sums.into_iter().map(|sum| sum.take().expect("runs")).sum();
    total + urgent.take().expect("runs") + nested.take().expect("runs") + local.take().expect("runs") + chain.take().expect("runs")
}

#[test]
fn every_policy_runs_everything_on_threads_and_processes() {
    in_time(|| {
        let expected: u64 = (0..40u64).map(|number| number * number).sum::<u64>() + (1 + 1) + 45 + (4 + 9) + 50;
        for policy in POLICIES {
            for processes in [0, 1] {
                let builder = Runtime::builder().threads(2).processes(processes).models(None);
                let runtime = builder.policy(policy.name).setting("placement.seed", "7").build().unwrap();
                assert_eq!(program(&runtime), expected, "{}", policy.name);
                runtime.wait_idle();
                let report = runtime.report().placement.expect("every task is placed");
                assert_eq!(report.policy, policy.name);
                assert!(report.decisions >= 110, "{report:?}");
            }
        }
    });
}

#[test]
fn a_kernel_that_only_the_host_can_run_is_placed_as_well() {
    for devices in [vec![], vec![small().of_class(DeviceClass::Software)]] {
        let builder = Runtime::builder().threads(2).linked(FakeDevices::new(devices)).models(None).explain(true);
        let runtime = builder.policy("earliest-finish").build().unwrap();
        assert!((0..3).map(|_| launch(&runtime)).all(|task| !is_from_device(&task)));
        let one = runtime.task(scale_or_host().over(LEN), (ramp(LEN), 2.0)).scope(Scope::processor("threads-1")).spawn();
        assert!(!is_from_device(&one));
        assert_eq!(runtime.report().placement.map(|report| report.decisions), Some(3), "the last one had no choice");
        let explained = runtime.explanations();
        assert_eq!(
            explained.iter().map(|one| (one.size, one.considered.len())).collect::<Vec<_>>(),
            [(SIZE, 2), (SIZE, 2), (SIZE, 2), (SIZE, 1)]
        );
    }
}

#[test]
fn workers_that_come_and_go_lose_no_placed_task() {
    in_time(|| {
        let builder = Runtime::builder().threads(1).processes(2).processes_at_most(2).models(None);
        let runtime = builder.policy("earliest-finish").build().unwrap();
        let tasks: Vec<_> = (0..300u64)
            .map(|number| {
                if number % 50 == 0 {
                    runtime.set_processes(number as usize / 50 % 3).unwrap();
                }
                runtime.spawn(|number: u64| number + 1, (number,))
            })
            .collect();
        for (number, task) in (1..).zip(tasks) {
            assert_eq!(task.take().unwrap(), number);
        }
        runtime.wait_idle();
    });
}

#[test]
fn a_policy_that_does_not_exist_is_told_with_those_that_do() {
    let error = Runtime::builder().policy("earliest-finnish").build().unwrap_err().to_string();
    assert!(error.contains("did you mean `earliest-finish`?") && error.contains("heteroprio"), "{error}");
    for (name, value) in [("placement.polcy", "fifo"), ("placement.seed", "x"), ("placement.devices", "never"), ("placement.models", "")] {
        let error = Runtime::builder().setting(name, value).build().unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[derive(poniard::Data)]
struct Parts {
    _one: Vec<u64>,
    _two: Option<Buffer<u8>>,
}

#[test]
fn the_size_of_a_function_is_the_bytes_of_its_arguments() {
    let runtime = Runtime::builder().threads(1).policy("earliest-finish").models(None).explain(true).build().unwrap();
    let size = |task: &dyn Fn()| {
        task();
        runtime.wait_idle();
        runtime.explanations().pop().unwrap().size
    };
    let filled = |len| buffer::from_fn(len, |_| 0u8);
    let shared = Arc::new(vec![0u16; 7]);
    let place = Mutable::new(filled(300));
    let upstream = runtime.spawn(|| vec![0u32; 25], ());
    let many: Vec<_> = (0..3).map(|_| runtime.spawn(|| vec![0u8; 10], ())).collect();
    runtime.wait_idle();
    let no_argument = size(&|| runtime.spawn(|| (), ()).wait().unwrap());
    let numbers = size(&|| runtime.spawn(|_: u64, _: u8| (), (1, 1)).wait().unwrap());
    let vector = size(&|| runtime.spawn(|_: &[u64]| (), (vec![0u64; 100],)).wait().unwrap());
    let text = size(&|| runtime.spawn(|_: &str| (), ("twelve bytes".to_owned(),)).wait().unwrap());
    let buffers = size(&|| runtime.spawn(|_: &Buffer<u8>, _: Buffer<u8>| (), (filled(1000), filled(24))).wait().unwrap());
    let nested = size(&|| runtime.spawn(|_: &Vec<Vec<u8>>| (), (vec![vec![0u8; 50]; 1000],)).wait().unwrap());
    let of_shared = size(&|| runtime.spawn(|_: &Vec<u16>| (), (Arc::clone(&shared),)).wait().unwrap());
    let result = size(&|| runtime.spawn(|_: &Vec<u32>| (), (&upstream,)).wait().unwrap());
    let gathered = size(&|| runtime.spawn(|_: Gather<'_, Vec<u8>>| (), (&many,)).wait().unwrap());
    let changed = size(&|| runtime.spawn(|_: &mut Buffer<u8>| (), (write(&place),)).wait().unwrap());
    let looked_at = size(&|| runtime.spawn(|_: &Buffer<u8>| (), (read(&place),)).wait().unwrap());
    let derived = || Parts { _one: vec![0; 3], _two: Some(filled(6)) };
    let derived = size(&|| runtime.spawn(|_: &Parts| (), (derived(),)).wait().unwrap());
    assert_eq!([no_argument, numbers, vector, text, buffers, nested], [0, 9, 800, 12, 1024, 50_000]);
    assert_eq!([of_shared, result, gathered, changed, looked_at, derived], [14, 100, 30, 300, 300, 30]);
}

/// What a file of models says of the code whose name ends so: the class, with how often it was measured there and whether CPU time is known.
fn kept(folder: &Path, name: &str) -> Vec<(String, u64, bool)> {
    let files = poniard::model::store::files(folder).expect("a folder");
    let kept = files.iter().map(|file| poniard::model::store::read(file).expect("a file of models"));
    let codes = kept.flat_map(|kept| kept.codes).filter(|((code, _), _)| code.name.ends_with(name));
    let of_class = codes.map(|((_, class), curve)| {
        let count = curve.classes.values().map(|summary| summary.count).sum();
        (class.to_string(), count, curve.classes.values().all(|summary| summary.cpu_share.is_some()))
    });
    of_class.collect()
}

#[test]
fn worker_processes_are_measured_apart_and_nobody_explores_them() {
    fn travels(x: u64) -> u64 {
        x + 1
    }
    let folder = tempfile::tempdir().unwrap();
    let runtime = Runtime::builder().threads(1).processes(1).policy("earliest-finish").models(Some(folder.path().to_owned())).explain(true);
    let runtime = runtime.build().unwrap();
    let on =
        |scope: Scope| (0..5u64).for_each(|x| assert_eq!(runtime.task(travels, (x,)).scope(scope.clone()).spawn().take().unwrap(), x + 1));
    on(Scope::host());
    runtime.spawn(travels, (7,)).wait().unwrap();
    // What is known of one is known of the other.
    let explanation = runtime.explanations().pop().unwrap();
    let measured: Vec<_> = explanation.considered.iter().map(|one| one.measurements).collect();
    assert_eq!((measured, explanation.why), (vec![5, 5], Why::EarliestFinish), "{explanation:?}");
    on(Scope::process(poniard::ProcessId(1)));
    runtime.wait_idle();
    drop(runtime);
    let mut known = kept(folder.path(), "travels");
    known.sort();
    let names: Vec<_> = known.iter().map(|(class, count, has_cpu)| (class.as_str(), *count >= 5, *has_cpu)).collect();
    assert_eq!(names, [("cpu", true, true), ("process", true, true)], "{known:?}");
    assert_eq!(known.iter().map(|(_, count, _)| count).sum::<u64>(), 11, "{known:?}");
}

#[test]
fn a_task_that_stays_is_not_measured_as_one_of_a_process() {
    in_time(|| {
        let folder = tempfile::tempdir().unwrap();
        let builder = Runtime::builder().threads(1).processes(1).policy("fifo").models(Some(folder.path().to_owned())).explain(true);
        let runtime = builder.build().unwrap();
        // The only thread is kept, so the one that stands for the process runs what its process may not.
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let kept_busy = runtime.task(move || gate.recv().unwrap_or_default(), ()).scope(Scope::host()).spawn();
        let captured = String::from("it does not travel");
        assert_eq!(runtime.spawn(move || captured.len() as u64, ()).take().unwrap(), 18);
        open.send(()).unwrap();
        kept_busy.wait().unwrap();
        let ran: Vec<_> = runtime.explanations().into_iter().map(|explanation| explanation.ran.unwrap()).collect();
        assert_ne!(ran[0], ran[1]);
        drop(runtime);
        let known = kept(folder.path(), "{{closure}}");
        assert!(known.len() == 2 && known.iter().all(|(class, ..)| class == "cpu"), "{known:?}");
    });
}

#[test]
fn twenty_launches_tell_what_a_kernel_takes_at_any_size() {
    let folder = tempfile::tempdir().unwrap();
    let devices = FakeDevices::new([small()]);
    // A minute for each hundred bytes, and one more; now and then it takes ten times as long, and once more than anything can.
    let mut count = 0;
    let took = |bytes: u64| HOUR_NS / 60 * (bytes + 100) / 100;
    devices.devices[0].say_it_took(move |bytes| {
        count += 1;
        match count {
            9 => 10 * took(bytes),
            15 => u64::MAX,
            _ => took(bytes),
        }
    });
    let runtime = builder(&devices, folder.path()).build().unwrap();
    let on = |len: usize| runtime.task(scale_or_host().over(len), (ramp(len), 2.0)).scope(Scope::kind("vulkan")).spawn().wait().unwrap();
    (0..20usize).for_each(|index| on(100 + index * 7 % 20 * 50));
    for len in [200usize, 333, 610, 900, 2000] {
        runtime.spawn(scale_or_host().over(len), (ramp(len), 2.0)).wait().unwrap();
        let explanation = last(&runtime);
        let on_device = explanation.considered.iter().find(|one| one.place == "fake-0").unwrap();
        let error = on_device.execution_ns as f64 / took(8 * len as u64) as f64 - 1.0;
        assert!(error.abs() < 0.1 && on_device.measurements > 0, "{len}: {on_device:?}, {error}");
    }
}
