//! Drivers that are missing, devices that fail, code that does not end. What needs another environment, or costs a device, is in a process of its own.

use std::time::{Duration, Instant};

use poniard::{Buffer, FailureKind, Kernel, Runtime, Scope, buffer};

use crate::stand::{builder, child, child_with_devices, has_device, is_child, quick, warnings};

pub(crate) const DOUBLE: &str = "
    @group(0) @binding(0) var<storage> x: array<f32>;
    @group(0) @binding(1) var<storage, read_write> z: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < arrayLength(&z) { z[id.x] = 2 * x[id.x]; }
    }";

/// Ends when `z[1]` becomes 77, which nobody makes it.
pub(crate) const ENDLESS: &str = "
    @group(0) @binding(0) var<storage, read_write> z: array<atomic<u32>>;
    @compute @workgroup_size(1) fn main() {
        loop {
            if atomicLoad(&z[1]) == 77u { break; }
            atomicAdd(&z[0], 1u);
        }
    }";

/// How many invocations of it, each way: the software driver ends each loop by itself after some time.
pub(crate) const FOR_EVER: usize = 65_535;

type Double = Kernel<fn(&'static Buffer<f32>) -> Buffer<f32>>;

/// The host's body has another sign, so that it can be told who computed what.
pub(crate) fn double() -> Double {
    Kernel::wgsl("double", DOUBLE).host(|x: &Buffer<f32>| buffer::from_fn(x.len(), |index| -2.0 * x[index]))
}

pub(crate) fn ramp(len: usize) -> Buffer<f32> {
    buffer::from_fn(len, |index| index as f32)
}

/// Where a kernel may run on either; a software device runs only what is asked of it.
fn either() -> Scope {
    Scope::kind("vulkan") | Scope::kind("cpu")
}

#[test]
fn without_a_driver_one_message_says_so_and_kernels_run_elsewhere() {
    if !is_child() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("libvulkan.so.1"), "no library").expect("a file");
        let no_loader = folder.path().display().to_string();
        for (file, libraries, why) in [
            ("/nonexistent", "", "no Vulkan driver is installed"),
            // A file that is there and names no driver.
            ("/dev/null", "", "no Vulkan driver is installed"),
            // No loader that could look for it.
            ("/nonexistent", &no_loader, "the Vulkan loader cannot be opened: "),
        ] {
            let variables = [("VK_ICD_FILENAMES", file), ("VK_DRIVER_FILES", file), ("LD_LIBRARY_PATH", libraries), ("PONIARD_WHY", why)];
            child("failures::without_a_driver_one_message_says_so_and_kernels_run_elsewhere", &variables);
        }
        return;
    }
    let why = std::env::var("PONIARD_WHY").expect("it was set");
    let runtime = builder().build().expect("threads");
    for scope in [either(), Scope::any()] {
        assert_eq!(runtime.task(double().over(10), (ramp(10),)).scope(scope).spawn().take().expect("on the host")[3], -6.0);
    }
    let device_only = Kernel::wgsl("device only", DOUBLE).takes::<(&Buffer<f32>,), Buffer<f32>>();
    for task in [
        runtime.spawn(device_only.over(10), (ramp(10),)),
        runtime.task(double().over(10), (ramp(10),)).scope(Scope::kind("vulkan")).spawn(),
    ] {
        let error = task.fetch().expect_err("there is no device");
        assert!(matches!(error.kind(), FailureKind::NoProcessor { .. }), "{error}");
        let expected = "no processor satisfies its scope (processors of kind `vulkan`); there are threads-0 (kind cpu, backend threads), \
                        threads-1 (kind cpu, backend threads)";
        assert_eq!(error.reason(), expected);
    }
    let messages = runtime.report().messages;
    assert!(messages.len() == 1 && messages[0].starts_with(&format!("backend vulkan: vulkan: none found ({why}")), "{messages:?}");
}

#[test]
fn a_device_that_cannot_be_made_is_said_once_and_kernels_run_elsewhere() {
    let runtime = builder().setting("vulkan.without", "device").build().expect("threads");
    if !has_device(&runtime) {
        return;
    }
    let double = double();
    for _ in 0..3 {
        let z = runtime.task(double.over(10), (ramp(10),)).scope(either()).spawn();
        assert_eq!(z.take().expect("on the host")[3], -6.0);
        let error =
            runtime.task(double.over(10), (ramp(10),)).scope(Scope::processor("vulkan-0")).spawn().fetch().expect_err("never there");
        assert!(error.reason().contains("setting `vulkan.without` says that no device can be made"), "{error}");
    }
    let said = warnings(&runtime);
    let about = |part: &str| said.iter().filter(|message| message.contains(part)).count();
    let devices = runtime.processors_in(&Scope::kind("vulkan")).len();
    assert_eq!((about("is of no use: "), about("kernel `double` did not run on vulkan-0")), (devices, 1), "{said:?}");
}

/// Code that does not end, within its task's time and within the device's.
#[test]
fn code_that_does_not_end_costs_its_device_and_nothing_else() {
    if !is_child() {
        child_with_devices("failures::code_that_does_not_end_costs_its_device_and_nothing_else", 1);
        return;
    }
    let endless = || Kernel::wgsl("endless", ENDLESS).host(|| buffer::from_slice(&[5u32, 5]));
    let start = |deadline_ms: &str| quick().setting("vulkan.deadline_ms", deadline_ms).build().expect("threads");
    let there = Scope::kind("vulkan");

    let by_task = start("60000");
    let launch = endless().over_2d(FOR_EVER, FOR_EVER).returning([2]);
    let begin = Instant::now();
    let error =
        by_task.task(launch, ()).scope(there.clone()).timeout(Duration::from_millis(300)).spawn().fetch().expect_err("it takes too long");
    assert!(matches!(error.kind(), FailureKind::DeadlineExceeded), "{error}");
    assert_eq!(error.reason(), "its deadline has passed");
    assert!(begin.elapsed() < Duration::from_secs(30), "whoever waits is told long before the device's own time is over");

    let by_device = start("700");
    let launch = endless().over_2d(FOR_EVER, FOR_EVER).returning([2]);
    let z = by_device.task(launch.clone(), ()).scope(either()).spawn();
    assert_eq!(z.take().expect("on the host")[0], 5);
    let error = by_device.task(launch, ()).scope(there).spawn().fetch().expect_err("the device is lost");
    assert!(
        error.reason().starts_with("processor vulkan-0: it is lost: ") && error.reason().contains("has not ended after 700 ms"),
        "{error}"
    );

    // Both runtimes go on without it.
    for runtime in [&by_task, &by_device] {
        assert_eq!(runtime.task(double().over(10), (ramp(10),)).scope(either()).spawn().take().expect("on the host")[3], -6.0);
        let report = runtime.report();
        let lost: Vec<_> = report.backends.iter().flat_map(|backend| &backend.processors).filter_map(|one| one.lost.clone()).collect();
        assert!(lost.len() == 1 && lost[0].contains("is lost: a batch has not ended after"), "{lost:?}");
    }
    end_in_time(vec![by_task, by_device]);
}

/// Ends runtimes whose devices are lost: nothing waits for those. Then the process ends, or its parent waits for it in vain.
pub(crate) fn end_in_time(runtimes: Vec<Runtime>) {
    let begin = Instant::now();
    drop(runtimes);
    // Ten times as long as is promised: others may keep the machine busy.
    assert!(begin.elapsed() < Duration::from_secs(10), "ending takes {:?}", begin.elapsed());
}
