//! What users get wrong: each is told what and where, by an error of the task, and nothing else is the worse for it.

use poniard::{Buffer, FailureKind, Kernel, Runtime, Scope, TaskError, buffer};

use crate::stand::{Plain, SPLIT, Stand, WAYS, builder, has_device, source};

fn kernel(source: &str) -> Plain {
    Kernel::wgsl("k", source).takes::<(&Buffer<f32>,), Buffer<f32>>()
}

fn ramp(len: usize) -> Buffer<f32> {
    buffer::from_fn(len, |index| index as f32)
}

fn refused(runtime: &Runtime, source: &str) -> TaskError {
    runtime.spawn(kernel(source).over(10), (ramp(10),)).fetch().expect_err("it is refused")
}

/// Refused as a kernel, when it is spawned, in these words.
fn check_refused(runtime: &Runtime, source: &str, expected: &str) {
    let error = refused(runtime, source);
    assert!(matches!(error.kind(), FailureKind::Kernel { .. }), "{error}");
    assert_eq!(error.reason(), expected);
    let text = error.to_string();
    assert!(text.starts_with("task `k` (") && text.contains("bad_input.rs:") && text.ends_with(expected), "{text}");
}

#[test]
fn what_is_wrong_with_a_source_is_shown_with_its_place() {
    let Some(stand) = Stand::new(&[]) else { return };
    let refuses = |source: &str, expected: &str| check_refused(&stand.runtime, source, expected);
    refuses(&source("z[id.x] = x[id.x;"), "line 4, column 21: expected `]`, found \";\"\n    z[id.x] = x[id.x;\n                    ^");
    refuses(
        &source("z[id.x] = id.x;"),
        "line 4, column 5: automatic conversions cannot convert elements of `u32` to `f32`
    z[id.x] = id.x;
    ^^^^^^^ a value with elements of type f32 is required here
line 4, column 15:
    z[id.x] = id.x;
              ^^^^ this expression has type u32",
    );
    refuses(
        &source("z[0] = f32(exp(f64(x[0])));"),
        "line 4, column 16: no Vulkan device has `exp` for f64: compute it in f32, or of sums and products
    z[0] = f32(exp(f64(x[0])));
               ^^^",
    );
    refuses("", "the source has no function that is marked with `@compute`");
    refuses(
        &format!("{}\n@compute @workgroup_size(1) fn other() {{}}", source("z[0] = x[0];")),
        "the source has 2 functions that are marked with `@compute`, one is possible: `main`, `other`",
    );
    refuses(
        &source("z[0] = x[0];").replace("size(64)", "size(1024, 2)"),
        "a workgroup of 1024 x 2 x 1 has 2048 invocations: from 1 to 1024 are possible",
    );
    assert_eq!(stand.counted("launches"), 0);
    stand.finish();
}

#[test]
fn what_does_not_fit_the_source_is_said() {
    let Some(stand) = Stand::new(&[]) else { return };
    let refuses = |source: &str, expected: &str| check_refused(&stand.runtime, source, expected);
    let fine = source("z[0] = x[0];");
    refuses(
        &fine.replace("@group(0) @binding(0) var<storage> x: array<f32>;", "const x = vec2(1.0);"),
        "its source binds 1 buffer (`z`), and its signature has 2: 1 in its parameters and 1 in its result",
    );
    refuses(
        &fine.replace("x: array<f32>", "x: array<i32>").replace("x[0]", "f32(x[0])"),
        "`x` has elements of i32 and 4 bytes in the source, and parameter 1 is a `Buffer<f32>`, whose elements have 4 bytes",
    );
    refuses(
        &fine.replace("x: array<f32>", "x: array<vec3<f32>>").replace("x[0]", "x[0].x"),
        "its buffer `x` has elements of 16 bytes, and 40 bytes are no whole number of them",
    );
    refuses(&fine.replace("x: array<f32>", "x: array<f32, 4>"), "its buffer `x` has 16 bytes in the source, and 40 were given");
    stand.finish();
}

#[test]
fn a_feature_that_a_device_lacks_is_named() {
    let Some(stand) = Stand::new(&[]) else { return };
    let device = &stand.runtime.processors_in(&Scope::kind("vulkan"))[0];
    let described = stand.runtime.describe(&device.name, false);
    let has_f64 = described.iter().any(|(name, value)| name == "features" && value.split(", ").any(|feature| feature == "f64"));
    let double = kernel(&source("if id.x < arrayLength(&z) { z[id.x] = f32(f64(x[id.x]) * 2.0lf); }"));
    let task = stand.runtime.task(double.over(10), (ramp(10),)).scope(Scope::processor(&device.name)).spawn();
    if has_f64 {
        assert_eq!(task.fetch().expect("it has the feature")[9], 18.0);
    } else {
        let reason = task.fetch().expect_err("it has no such feature").reason();
        assert!(reason.ends_with("kernel `k`: the device has no f64 (shaderFloat64)"), "{reason}");
    }
    stand.finish();
}

#[test]
fn workgroups_that_share_too_much_are_refused() {
    let Some(stand) = Stand::new(&[]) else { return };
    let much = source("much[id.x * 64u] = vec4(x[0]); workgroupBarrier(); z[0] = much[0].x;");
    let much = format!("var<workgroup> much: array<vec4<f32>, 4194304>; var<workgroup> unused: array<u32, 1000>; {much}");
    let reason = refused(&stand.runtime, &much).reason();
    assert!(reason.contains("kernel `k`: its workgroups share 67108864 bytes, and `"), "{reason}");
    stand.finish();
}

/// Indices that are too large, in buffers among others, for each way in which devices get them.
#[test]
fn no_index_leaves_its_buffer() {
    // It reads and writes from far below to far above, and right behind the end.
    let astray = "
        @group(0) @binding(0) var<storage> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> z: array<f32>;
        @group(0) @binding(2) var<storage, read_write> n: array<atomic<u32>>;
        @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            let end = arrayLength(&z);
            z[end + id.x] = 666 + x[arrayLength(&x) + id.x * 64u];
            z[0u - 1u - id.x] = 666;
            z[i32(id.x) - 70] = 666 + x[i32(id.x) - 1000000];
            z[id.x << 24u] = 666;
            atomicAdd(&n[arrayLength(&n) + id.x], 1u);
        }";
    let astray = Kernel::wgsl("astray", astray).takes::<(&Buffer<f32>,), (Buffer<f32>, Buffer<u32>)>();
    let copy = kernel(&source("if id.x < arrayLength(&z) { z[id.x] = x[id.x]; }"));
    for (import, limit) in [("true", "134217728"), ("false", "134217728"), ("true", "16"), ("false", "16")] {
        let Some(stand) = Stand::new(&[("vulkan.import", import), ("vulkan.binding_limit", limit)]) else { return };
        let runtime = &stand.runtime;
        for len in [0, 1, 16, 1000] {
            let there = Scope::kind("vulkan");
            // On the device too, before and behind what goes astray.
            let neighbour = |number: usize| runtime.value(buffer::from_fn(len.max(1), |index| (number * 10_000 + index) as f32));
            let neighbours: Vec<_> = (0..12).map(neighbour).collect();
            let copies = || -> Vec<_> {
                let copied = |x| runtime.task(copy.over(len.max(1)), (x,)).scope(there.clone()).spawn();
                neighbours.iter().map(copied).collect()
            };
            let before = copies();
            for task in &before {
                task.wait().expect("copied");
            }
            for result_len in [len, 16] {
                let lens = [result_len, result_len];
                let task = runtime.task(astray.over(256).returning(lens), (ramp(len),)).scope(there.clone()).spawn();
                let (z, n) = task.take().expect("it goes astray within its own");
                assert_eq!((z.len(), n.len()), (result_len, result_len));
            }
            for (copies, when) in [(before, "before"), (copies(), "after")] {
                for (copy, number) in copies.iter().zip(0..) {
                    let found = copy.fetch().expect("copied");
                    let expected: Vec<_> = (0..len.max(1)).map(|index| (number * 10_000 + index) as f32).collect();
                    assert_eq!(found[..], expected, "neighbour {number} of {len}, copied {when}, import {import}, bound up to {limit}");
                }
            }
            for (neighbour, number) in neighbours.iter().zip(0..) {
                assert_eq!(neighbour.fetch().expect("a value")[0], (number * 10_000) as f32, "neighbour {number}");
            }
        }
        stand.finish();
    }
}

#[test]
fn a_launch_that_never_fits_says_by_how_much() {
    for way in [WAYS[1], SPLIT] {
        check_what_fits(&[way, &[("vulkan.memory", "4194304")]].concat());
    }
}

fn check_what_fits(settings: &[(&str, &str)]) {
    let Some(stand) = Stand::new(settings) else { return };
    let runtime = &stand.runtime;
    let name = runtime.processors_in(&Scope::kind("vulkan"))[0].device.clone().expect("a device").name;
    let double = kernel(&source("if id.x < arrayLength(&z) { z[id.x] = 2 * x[id.x]; }"));
    let error = runtime.spawn(double.over(1 << 20), (ramp(1 << 20),)).fetch().expect_err("it is too large");
    let expected = format!("its buffers take 8388608 bytes, and {name} has 4194304: 4194304 too many");
    assert!(error.reason().starts_with("processor vulkan-") && error.reason().ends_with(&expected), "{error}");
    // What comes to more than the memory one after the other has room for each.
    let len = 1 << 17;
    let all: Vec<_> = (0..20).map(|number| runtime.spawn(double.over(len), (buffer::from_fn(len, |i| (i + number) as f32),))).collect();
    for (task, number) in all.iter().zip(0..) {
        assert_eq!(task.fetch().expect("it fits")[len - 1], 2.0 * (len - 1 + number) as f32);
    }
    stand.finish();
}

#[test]
fn launches_of_nothing_and_of_too_much() {
    let Some(stand) = Stand::new(&[]) else { return };
    let runtime = &stand.runtime;
    let number = kernel(&source("if id.x < arrayLength(&z) { z[id.x] = x[0] + f32(id.x); }"));
    let there = |launch| runtime.task(launch, (ramp(1),)).scope(Scope::kind("vulkan")).spawn().fetch();
    assert_eq!(there(number.over(0)).expect("nothing is done").len(), 0);
    assert_eq!(there(number.over(0).returning([5])).expect("nothing is done").len(), 5);
    assert_eq!(there(number.over_3d(7, 0, 9)).expect("nothing is done").len(), 0);
    // More workgroups than a device takes at once: in parts.
    let many = 64 * 65535 + 7;
    let z = there(number.over(many)).expect("in parts");
    assert_eq!((z.len(), z[64 * 65535 - 1], z[64 * 65535], z[many - 1]), (many, 4_194_239.0, 4_194_240.0, 4_194_246.0));
    let refuses = |launch, expected: &str| {
        let reason = there(launch).expect_err("too much").reason();
        assert!(reason.ends_with(expected), "{reason}");
    };
    let most = usize::MAX;
    refuses(number.over(most), "18446744073709551615 elements of 4 bytes are more than there is");
    refuses(number.over(most).returning([1]), "288230376151711744 workgroups of 64 are more than 2^32 invocations along an axis");
    refuses(number.over_3d(most, 2, 1).returning([1]), "it has more invocations than there are numbers");
    refuses(number.over(1).returning([most]), "18446744073709551615 elements of 4 bytes are more than there is");
    refuses(number.over(1).returning([1, 1]), "it returns 1 buffers, and `returning` names the lengths of 2");
    // Each axis is possible, and all of it is not.
    refuses(
        number.over_3d(1 << 32, 1 << 31, 1).returning([1]),
        "[67108864, 2147483648, 1] workgroups have to be launched in 33588225 parts, and at most 65536 are possible",
    );
    let reason = there(number.over(1 << 40)).expect_err("too much").reason();
    assert!(reason.starts_with("failed to allocate 4398046511104 bytes: ") && reason.contains("`memory.limit`"), "{reason}");
    stand.finish();
}

#[test]
fn settings_are_refused_by_name() {
    for (name, value, expected) in [
        ("vulkan.nonsense", "1", "setting `vulkan.nonsense` is known to no backend in use; there are "),
        ("vulkan.deadline_ms", "soon", "setting `vulkan.deadline_ms` is `soon`: "),
        ("vulkan.memory", "0", "setting `vulkan.memory` is `0`: at least 1048576 bytes are needed"),
        ("vulkan.binding_limit", "1", "setting `vulkan.binding_limit` is `1`: at least 16 bytes are needed"),
        ("vulkan.import", "maybe", "setting `vulkan.import` is `maybe`: provided string was not `true` or `false`"),
        ("vulkan.devices", "", "setting `vulkan.devices` is ``: expected `all`, `none`, or indexes"),
        ("vulkan.without", "x", "setting `vulkan.without` is `x`: expected some of "),
    ] {
        let error = builder().setting(name, value).build().expect_err("it is refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
    // What is there is listed. Without any device nobody can tell that this one is not meant.
    if has_device(&builder().build().expect("threads")) {
        let error = builder().setting("vulkan.devices", "no such").build().expect_err("there is none").to_string();
        assert!(error.contains("setting `vulkan.devices` names `no such`, and there is: 0: "), "{error}");
    }
    // A cache that cannot be written to is none.
    let Some(stand) = Stand::new(&[("vulkan.cache", "/dev/null/x")]) else { return };
    let z = stand.runtime.task(kernel(&source("z[0] = 1;")).over(1), (ramp(1),)).spawn().take();
    assert_eq!(z.expect("runs")[0], 1.0);
    stand.finish();
}

/// Devices are the program's: where a worker process spawns a kernel, its own body for the host runs, or the error says why not.
#[test]
fn in_a_worker_process_kernels_run_on_the_host() {
    let body = || {
        let source = source("if id.x < arrayLength(&z) { z[id.x] = 2 * x[id.x]; }");
        let host = Kernel::wgsl("k", source.as_str()).host(|x: &Buffer<f32>| buffer::from_fn(x.len(), |index| -2.0 * x[index]));
        let current = poniard::current().expect("a task has a runtime");
        let either = Scope::kind("vulkan") | Scope::kind("cpu");
        let here = current.spawn(host.over(10), (ramp(10),)).fetch().map(|z| z[3]);
        let asked = current.task(host.over(10), (ramp(10),)).scope(either).spawn().fetch().map(|z| z[3]);
        let only = current.task(host.over(10), (ramp(10),)).scope(Scope::kind("vulkan")).spawn().fetch().map(|z| z[3]);
        let without = current.spawn(kernel(&source).over(10), (ramp(10),)).fetch().map(|z| z[3]);
        [here, asked, only, without].map(|outcome| outcome.map_or_else(|error| error.reason(), |value| value.to_string())).to_vec()
    };
    let runtime = builder().processes(1).build().expect("threads");
    if !has_device(&runtime) {
        return;
    }
    let outcomes = runtime.task(body, ()).spawn_away().take().expect("it travels");
    let stays = "it is a kernel's launch, and devices are the business of the program's own process";
    let refused = format!("its scope has no processor in this process, and it cannot travel to another one: {stays}");
    assert_eq!(outcomes, ["-6", "-6", &refused, &refused]);
    // The same body in the program uses the device where it may.
    let outcomes = runtime.task(body, ()).scope(Scope::host()).spawn().take().expect("runs");
    assert_eq!(outcomes[1..], ["6", "6", "6"]);
}
