//! Buffers that are longer than a device binds: kernels reach them by their addresses. Most tests lower the limit, so that small buffers are too long.

use poniard::{Buffer, Kernel, Mutable, Scope, buffer, write};
use poniard_tests::kernels::{SHADERS, short_trials};

use crate::agreement::run;
use crate::stand::{Plain, Stand, source};

/// Reads a long buffer and a short one, through functions, and writes to both ends of a third; counts what it has done in a fourth.
const MIXED: &str = "
struct Pair { value: f32, weight: f32 }
struct List { scale: f32, pairs: array<Pair> }
@group(0) @binding(0) var<storage> a: List;
@group(0) @binding(1) var<storage> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> z: array<f32>;
@group(0) @binding(3) var<storage, read_write> counts: array<atomic<u32>, 8>;
fn of_a(i: u32) -> f32 { let pair = a.pairs[i]; return a.scale * pair.value * pair.weight; }
fn put(i: u32, value: f32) { let place = &z[i]; *place = value; }
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let i = id.x;
    if i >= arrayLength(&z) { return; }
    put(i, of_a(i % arrayLength(&a.pairs)) + b[i % arrayLength(&b)][i % 4u]);
    atomicAdd(&counts[i % 8u], 1u);
}";

fn plain(line: &str) -> Plain {
    Kernel::wgsl("k", source(line)).takes::<(&Buffer<f32>,), Buffer<f32>>()
}

fn ramp(len: usize) -> Buffer<f32> {
    buffer::from_fn(len, |index| index as f32)
}

#[test]
fn kernels_agree_with_the_host_whatever_is_bound() {
    let trials = short_trials();
    // All but the smallest are too long, or only what is long, or very long.
    for (limit, import) in [("16", "true"), ("16", "false"), ("1100", "true"), ("1000000", "false")] {
        let Some(stand) = Stand::new(&[("vulkan.import", import), ("vulkan.binding_limit", limit)]) else { return };
        for trial in &trials {
            let found = run(trial, &stand.runtime, &Scope::kind("vulkan"));
            if let Err(error) = trial.compare(&found) {
                panic!("bound up to {limit}, import {import}: {error}");
            }
        }
        assert!(stand.counted("launches") >= trials.len() as u64, "nothing that devices are for was done elsewhere");
        // Those that have such buffers.
        let least = if limit == "1000000" { 4 } else { SHADERS.len() };
        let (addressed, all) = stand.shaders_with_addresses();
        assert!(addressed >= least && all >= addressed + SHADERS.len(), "{addressed} of {all}, bound up to {limit}");
        stand.finish();
    }
}

/// What `MIXED` makes of lists of `lens` elements: the pairs, the vectors, and the results.
fn mixed(stand: &Stand, [a, b, z]: [usize; 3]) -> (Vec<f32>, Vec<u32>) {
    let kernel = Kernel::wgsl("mixed", MIXED).takes::<(&Buffer<f32>, &Buffer<f32>), (Buffer<f32>, Buffer<u32>)>();
    // The scale, then pairs.
    let list = buffer::from_fn(1 + 2 * a, |index| if index == 0 { 0.5 } else { index as f32 });
    let launch = kernel.over(z).returning([z, 8]);
    let task = stand.runtime.task(launch, (list, ramp(4 * b))).scope(Scope::kind("vulkan")).spawn();
    let (z, counts) = task.take().unwrap_or_else(|error| panic!("{error}"));
    (z.to_vec(), counts.to_vec())
}

#[test]
fn any_of_the_buffers_may_be_too_long() {
    // Buffers of a hundred, a thousand and three thousand elements, in each order: with a limit between, each set of them is too long, the counts among them or not.
    let orders = [[100, 1000, 3000], [3000, 100, 1000], [1000, 3000, 100], [100, 3000, 1000], [1000, 100, 3000], [3000, 1000, 100]];
    for limit in ["16", "900", "4096", "13000"] {
        let Some(stand) = Stand::new(&[("vulkan.import", "false"), ("vulkan.binding_limit", limit)]) else { return };
        for lens in orders {
            let (z, counts) = mixed(&stand, lens);
            let [a, b, len] = lens;
            for (i, value) in z.iter().enumerate() {
                let (pair, lane) = (i % a, 4 * (i % b) + i % 4);
                let expected = 0.5 * (1 + 2 * pair) as f32 * (2 + 2 * pair) as f32 + lane as f32;
                assert_eq!(*value, expected, "element {i} of {lens:?}, bound up to {limit}");
            }
            assert_eq!(counts.iter().sum::<u32>() as usize, len, "{lens:?}, bound up to {limit}");
        }
        assert!(stand.shaders_with_addresses().0 > 0, "bound up to {limit}");
        stand.finish();
    }
}

#[test]
fn a_chain_of_long_and_short_buffers_is_done_in_order() {
    for (import, without) in [("true", ""), ("false", ""), ("false", "push-descriptors")] {
        let settings = [("vulkan.import", import), ("vulkan.without", without), ("vulkan.binding_limit", "1024")];
        let Some(stand) = Stand::new(&settings) else { return };
        let next = plain("if id.x < arrayLength(&z) { z[id.x] = x[id.x % arrayLength(&x)] + 1.0; }");
        let mut x = stand.runtime.value(ramp(1000));
        // Each is long for the launch that makes it and for the one that reads it, or for neither.
        for len in [100, 1000, 1000, 100].repeat(10) {
            x = stand.runtime.task(next.over(len), (&x,)).scope(Scope::kind("vulkan")).spawn();
        }
        let expected: Vec<_> = (0..100).map(|value| (value + 40) as f32).collect();
        assert_eq!(x.take().expect("runs")[..], expected, "import {import}, without {without}");
        assert!(stand.counted("barriers") >= 39, "each waits for the one before");
        assert_eq!(stand.shaders_with_addresses(), (3, 4));
        stand.finish();
    }
}

#[test]
fn launches_in_parts_reach_long_buffers() {
    // More workgroups than a device takes at once.
    let many = 64 * 65535 + 7;
    for limit in ["16", "1048576"] {
        let Some(stand) = Stand::new(&[("vulkan.binding_limit", limit)]) else { return };
        let kernel = plain("if id.x < arrayLength(&z) { z[id.x] = x[id.x % 8u] + f32(id.x / 8u); }");
        let z = stand.runtime.task(kernel.over(many), (ramp(8),)).scope(Scope::kind("vulkan")).spawn().take().expect("in parts");
        for index in (0..many).step_by(4099).chain(64 * 65535 - 9..many) {
            assert_eq!(z[index], (index % 8 + index / 8) as f32, "element {index}, bound up to {limit}");
        }
        // In parts or not, some by address or none: the whole one, and the one that was launched.
        assert_eq!(stand.shaders_with_addresses(), (1, 2));
        stand.finish();
    }
}

/// Longer than the limit of the software driver: nothing is pretended. On others it is a launch like any.
#[test]
fn more_than_a_binding_of_the_software_driver() {
    let len = 160 << 18;
    for import in ["true", "false"] {
        let Some(stand) = Stand::new(&[("vulkan.import", import)]) else { return };
        // 64 elements each, so that few invocations write all.
        let text = "
            @group(0) @binding(0) var<storage, read_write> z: array<u32>;
            @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
                for (var i = id.x; i < arrayLength(&z); i += groups.x * 64u) { z[i] += i ^ 0x5555u; }
            }";
        let kernel = Kernel::wgsl("fill", text).takes::<(&mut Buffer<u32>,), ()>();
        let z = Mutable::new(buffer::zeroed::<u32>(len));
        for _ in 0..2 {
            let task = stand.runtime.task(kernel.over(len / 64), (write(&z),)).scope(Scope::kind("vulkan")).spawn();
            task.wait().unwrap_or_else(|error| panic!("{error}"));
        }
        let z = z.take().expect("written");
        let ends = [0, 128 << 18, len - 1].into_iter().flat_map(|at: usize| at.saturating_sub(65)..len.min(at + 65));
        for index in (0..len).step_by(4099).chain(ends) {
            assert_eq!(z[index], 2 * (index as u32 ^ 0x5555), "element {index}, import {import}");
        }
        stand.finish();
    }
}

#[test]
fn code_that_binds_and_code_that_does_not_are_kept_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().display().to_string();
    let next = plain("if id.x < arrayLength(&z) { z[id.x] = x[id.x] + 1.0; }");
    for found in [0, 3] {
        let Some(stand) = Stand::new(&[("vulkan.binding_limit", "1024"), ("vulkan.cache", &folder)]) else { return };
        // Both, none, and one of them.
        for (len, result_len) in [(257, 257), (256, 256), (257, 256)] {
            let launch = next.over(result_len).returning([result_len]);
            let task = stand.runtime.task(launch, (ramp(len),)).scope(Scope::kind("vulkan")).spawn();
            assert_eq!(task.take().expect("runs")[result_len - 1], result_len as f32);
        }
        assert_eq!((stand.counted("kernels compiled"), stand.counted("kernels from the cache")), (3 - found, found));
        stand.finish();
    }
}

#[test]
fn what_cannot_be_reached_is_refused_with_both_numbers() {
    let double = "if id.x < arrayLength(&z) { z[id.x] = 2.0 * x[id.x]; }";
    let Some(stand) = Stand::new(&[("vulkan.binding_limit", "1024")]) else { return };
    let device = stand.runtime.processors_in(&Scope::kind("vulkan"))[0].device.clone().expect("a device").name;
    let spawn =
        |stand: &Stand, kernel: &Plain, len| stand.runtime.task(kernel.over(len), (ramp(len),)).scope(Scope::kind("vulkan")).spawn();
    // The code that the first launch has made, as a user has it of another compiler.
    assert_eq!(spawn(&stand, &plain(double), 256).take().expect("bound")[255], 510.0);
    assert_eq!(stand.shaders_with_addresses(), (0, 1));
    let compiled = Kernel::spirv("k", stand.shader()).takes::<(&Buffer<f32>,), Buffer<f32>>();
    assert_eq!(spawn(&stand, &compiled, 256).take().expect("bound")[255], 510.0);
    let expected = format!(
        "kernel `k`: buffer `x`: it has 1028 bytes, and `{device}` binds at most 1024; a kernel in SPIR-V does not reach more: one in WGSL does"
    );
    let reason = spawn(&stand, &compiled, 257).fetch().expect_err("too long").reason();
    assert!(reason.ends_with(&expected), "{reason}");
    assert_eq!(spawn(&stand, &plain(double), 257).take().expect("by address")[256], 512.0);
    stand.finish();

    let Some(stand) = Stand::new(&[("vulkan.binding_limit", "1024"), ("vulkan.without", "addresses")]) else { return };
    assert_eq!(spawn(&stand, &plain(double), 256).take().expect("bound")[255], 510.0);
    let reason = spawn(&stand, &plain(double), 257).fetch().expect_err("too long").reason();
    let expected = format!(
        "it has 1028 bytes, and `{device}` binds at most 1024; its buffers have no addresses (bufferDeviceAddress) that would do instead"
    );
    assert!(reason.ends_with(&expected), "{reason}");
    stand.finish();
}
