//! Kernels on the Vulkan devices of the machine, software ones included, through the whole runtime.

use poniard::{Buffer, Kernel, Runtime, RuntimeBuilder, Scope, Task, buffer};
use poniard_backend_vulkan::VulkanBackend;

const SAXPY: &str = "
    struct Numbers { n: u32, a: f32 }
    var<immediate> p: Numbers;
    @group(0) @binding(0) var<storage> x: array<f32>;
    @group(0) @binding(1) var<storage> y: array<f32>;
    @group(0) @binding(2) var<storage, read_write> z: array<f32>;
    @compute @workgroup_size(64)
    fn saxpy(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < p.n { z[id.x] = p.a * x[id.x] + y[id.x]; }
    }
";

fn builder() -> RuntimeBuilder {
    Runtime::builder()
        .threads(2)
        .linked(VulkanBackend::new())
        .setting("vulkan.software", "true")
        .setting("vulkan.validation", "true")
        .setting("vulkan.cache", "")
}

/// Runs `body` with a runtime that has a device, for each way to get data there; where there is none, says so.
fn with_devices(body: impl Fn(&Runtime)) {
    for import in ["true", "false"] {
        let runtime = builder().setting("vulkan.import", import).build().expect("threads");
        if runtime.processors_in(&Scope::kind("vulkan")).is_empty() {
            eprintln!("skipped: {}", runtime.report().messages.join("; "));
            return;
        }
        body(&runtime);
        runtime.wait_idle();
        let complaints: Vec<_> = runtime.report().messages.into_iter().filter(|message| message.starts_with("warning")).collect();
        assert!(complaints.is_empty(), "{complaints:?}");
    }
}

#[test]
fn a_chain_of_kernels_and_host_tasks() {
    with_devices(|runtime| {
        let saxpy = Kernel::wgsl("saxpy", SAXPY).takes::<(&Buffer<f32>, &Buffer<f32>, u32, f32), Buffer<f32>>();
        let x = runtime.spawn(|| buffer::from_fn(10_000, |i| i as f32), ());
        let mut z = runtime.spawn(saxpy.over(10_000), (&x, &x, 10_000, 1.0));
        for _ in 0..100 {
            z = runtime.spawn(saxpy.over(10_000), (&x, &z, 10_000, 1.0));
        }
        let doubled = runtime.spawn(|z: &Buffer<f32>| z.iter().map(|z| f64::from(*z)).sum::<f64>(), (&z,));
        assert_eq!(z.fetch().expect("runs")[9_999], 9_999.0 * 102.0);
        assert_eq!(*doubled.fetch().expect("runs"), 49_995_000.0 * 102.0);
    });
}

#[test]
fn a_chain_that_is_spawned_in_a_bulk_goes_to_the_device_in_a_few_batches() {
    with_devices(|runtime| {
        let saxpy = Kernel::wgsl("saxpy", SAXPY).takes::<(&Buffer<f32>, &Buffer<f32>, u32, f32), Buffer<f32>>();
        let submissions = || {
            let device = &runtime.processors_in(&Scope::kind("vulkan"))[0].name;
            let lines = runtime.describe(device, false);
            lines.into_iter().find(|(name, _)| name == "submissions").map_or(0, |(_, value)| value.parse::<u64>().expect("a number"))
        };
        let x = runtime.value(buffer::from_fn(100, |i| i as f32));
        let next = |z: &Task<Buffer<f32>>| runtime.spawn(saxpy.over(100), (&x, z, 100, 1.0));
        let before = submissions();
        let z = runtime.bulk(|| (0..100).fold(next(&x), |z, _| next(&z)));
        z.wait().expect("runs");
        assert!(submissions() - before < 20, "{before} {}", submissions());
        assert_eq!(z.fetch().expect("runs")[99], 99.0 * 102.0);
    });
}
