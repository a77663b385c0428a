//! Kernels of all kinds, good and bad, by table. What comes out is given to `spirv-val` where that is installed.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use poniard_interface::{KernelInterface, Source};
use spirv::Op;

use super::{COMPILER, DeviceFeatures, Target, compile, entry_point, inspect, missing, parts_offset};

mod addresses;
mod messages;
mod words;

/// What the kernel takes, in one line.
fn line(interface: &KernelInterface) -> String {
    let mut line = String::new();
    for binding in &interface.bindings {
        let sized = if binding.is_sized { "=" } else { ">=" };
        let _ = write!(
            line,
            "{}@{} {:?}/{} {sized}{} {:?}; ",
            binding.name, binding.number, binding.element, binding.element_bytes, binding.len_bytes_min, binding.access
        );
    }
    for scalar in &interface.scalars {
        let _ = write!(line, "{} {:?}+{}; ", scalar.name, scalar.kind, scalar.offset_bytes);
    }
    let _ = write!(line, "{} bytes; {:?}", interface.scalars_bytes, interface.workgroup);
    if !interface.features.is_empty() {
        let _ = write!(line, "; {}", interface.features.join(", "));
    }
    line
}

/// All ways to compile.
fn targets() -> impl Iterator<Item = Target> {
    (0..8).map(|bits| Target { unchecked: bits & 1 != 0, zeroes_workgroup_memory: bits & 2 != 0, parts: bits & 4 != 0, addressed: 0 })
}

/// Gives the words to `spirv-val`, or says once that it is not there.
#[expect(clippy::print_stdout, reason = "says why it does nothing")]
fn validate(words: &[u32], about: &str) {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        let found = Command::new("spirv-val").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
        if !found {
            println!("skipped: spirv-val is not installed, so nobody checks the modules");
        }
        found
    });
    if !installed {
        return;
    }
    let mut child = Command::new("spirv-val")
        .args(["--target-env", "vulkan1.2", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{about}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

const SAXPY: &str = "
struct Scalars { n: u32, a: f32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> z: array<f32>;
var<immediate> p: Scalars;
@compute @workgroup_size(256) fn saxpy(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < p.n) { z[id.x] = p.a * x[id.x] + y[id.x]; }
}";

const MATMUL: &str = "
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
struct Size { m: u32, n: u32, k: u32 }
var<immediate> size: Size;
var<workgroup> tile_a: array<array<f32, 16>, 16>;
var<workgroup> tile_b: array<array<f32, 16>, 16>;
@compute @workgroup_size(16, 16)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_id) local: vec3<u32>) {
    var sum = 0.0;
    for (var t = 0u; t < (size.k + 15) / 16; t++) {
        tile_a[local.y][local.x] = a[id.y * size.k + t * 16 + local.x];
        tile_b[local.y][local.x] = b[(t * 16 + local.y) * size.n + id.x];
        workgroupBarrier();
        for (var k = 0u; k < 16; k++) { sum += tile_a[local.y][k] * tile_b[k][local.x]; }
        workgroupBarrier();
    }
    if (id.x < size.n && id.y < size.m) { c[id.y * size.n + id.x] = sum; }
}";

const REDUCE: &str = "
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
var<workgroup> part: array<f32, 128>;
@compute @workgroup_size(128)
fn reduce(@builtin(local_invocation_index) i: u32, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    var sum = 0.0;
    for (var at = group.x * 128 + i; at < arrayLength(&x); at += groups.x * 128) { sum += x[at]; }
    part[i] = sum;
    for (var half = 64u; half > 0; half /= 2) {
        workgroupBarrier();
        if (i < half) { part[i] += part[i + half]; }
    }
    if (i == 0) { sums[group.x] = part[0]; }
}";

/// Good kernels, and what they take.
const GOOD: &[(&str, &str)] = &[
    (
        SAXPY,
        "x@0 F32/4 >=4 Read; y@1 F32/4 >=4 Read; z@2 F32/4 >=4 Overwrite; n U32+0; a F32+4; 8 bytes; [256, 1, 1]",
    ),
    (
        MATMUL,
        "a@0 F32/4 >=4 Read; b@1 F32/4 >=4 Read; c@2 F32/4 >=4 Overwrite; m U32+0; n U32+4; k U32+8; 12 bytes; [16, 16, 1]",
    ),
    (REDUCE, "x@0 F32/4 >=4 Read; sums@1 F32/4 >=4 Overwrite; 0 bytes; [128, 1, 1]"),
    // Bindings in any order, with gaps, one of them never used; nothing but a length is asked of another.
    (
        "@group(0) @binding(7) var<storage, read_write> unused: array<u32>;
        @group(0) @binding(3) var<storage, read_write> b: array<u32>;
        @group(0) @binding(1) var<storage> a: array<i32>;
        @compute @workgroup_size(1) fn f() { b[0] = arrayLength(&a); }",
        "a@1 I32/4 >=4 Read; b@3 U32/4 >=4 Overwrite; unused@7 U32/4 >=4 Read; 0 bytes; [1, 1, 1]",
    ),
    // Read and written; written through a function and a pointer; written only here and there.
    (
        "@group(0) @binding(0) var<storage, read_write> a: array<f32>;
        @group(0) @binding(1) var<storage, read_write> b: array<f32>;
        @group(0) @binding(2) var<storage, read_write> c: array<f32>;
        fn put(i: u32, v: f32) { let p = &b[i]; *p = v; }
        fn never() { c[1] = b[0]; } // differs as SPIR-V
        @compute @workgroup_size(4, 2, 2) fn f(@builtin(global_invocation_id) id: vec3u) {
            a[id.x] += 1.0; put(id.x, 2.0); if (id.y == 3) { c[id.x] = 1.0; }
        }",
        "a@0 F32/4 >=4 Write; b@1 F32/4 >=4 Overwrite; c@2 F32/4 >=4 Overwrite; 0 bytes; [4, 2, 2]",
    ),
    // Atomics, of which some only store.
    (
        "@group(0) @binding(0) var<storage, read_write> bins: array<atomic<u32>>;
        @group(0) @binding(1) var<storage, read_write> flag: atomic<i32>;
        @group(0) @binding(2) var<storage, read_write> seen: array<atomic<u32>, 4>;
        @compute @workgroup_size(64) fn f(@builtin(global_invocation_id) id: vec3u) {
            atomicAdd(&bins[id.x & 255], 1u); atomicStore(&flag, 1); _ = atomicLoad(&seen[2]);
        }",
        "bins@0 U32/4 >=4 Write; flag@1 I32/4 =4 Overwrite; seen@2 U32/4 =16 Read; 0 bytes; [64, 1, 1]",
    ),
    // Vectors, matrices, nested arrays and structures.
    (
        "struct Pair { a: f32, b: f32 }
        struct Mixed { a: f32, b: u32 }
        struct Tail { count: u32, pad: u32, items: array<vec2u> }
        struct MixedTail { scale: f32, items: array<Mixed> }
        struct Sized { a: vec4f, b: f32 }
        @group(0) @binding(0) var<storage> v3: array<vec3f>;
        @group(0) @binding(1) var<storage> v4: array<vec4i>;
        @group(0) @binding(2) var<storage> m: array<mat3x2f>;
        @group(0) @binding(3) var<storage> nested: array<array<f32, 5>>;
        @group(0) @binding(4) var<storage> pairs: array<Pair>;
        @group(0) @binding(5) var<storage> mixed: array<Mixed>;
        @group(0) @binding(6) var<storage> tail: Tail;
        @group(0) @binding(7) var<storage> mixed_tail: MixedTail;
        @group(0) @binding(8) var<storage> fixed: array<f32, 9>;
        @group(0) @binding(9) var<storage> sized: Sized;
        @group(0) @binding(10) var<storage> one: u32;
        @group(0) @binding(11) var<storage> vector: vec3f;
        @group(0) @binding(12) var<storage, read_write> out: array<f32>;
        @compute @workgroup_size(1) fn f(@builtin(global_invocation_id) id: vec3u) {
            let i = id.x;
            out[i] = v3[i].x + f32(v4[i].y) + m[i][1].x + nested[i][2] + pairs[i].b + mixed[i].a + f32(tail.items[i].y + tail.count)
                + mixed_tail.items[i].a + fixed[i] + sized.b + f32(one) + vector.z;
        }",
        "v3@0 F32/16 >=16 Read; v4@1 I32/16 >=16 Read; m@2 F32/24 >=24 Read; nested@3 F32/20 >=20 Read; pairs@4 F32/8 >=8 Read; \
        mixed@5 Opaque/8 >=8 Read; tail@6 U32/8 >=16 Read; mixed_tail@7 Opaque/8 >=12 Read; fixed@8 F32/4 =36 Read; sized@9 F32/32 =32 Read; \
        one@10 U32/4 =4 Read; vector@11 F32/12 =12 Read; out@12 F32/4 >=4 Overwrite; 0 bytes; [1, 1, 1]",
    ),
    // Scalars: one alone, as a uniform in any group, with gaps; never used.
    (
        "var<immediate> n: u32;
        @group(0) @binding(0) var<storage, read_write> x: array<u32>;
        @compute @workgroup_size(1) fn f() { x[0] = n; }",
        "x@0 U32/4 >=4 Overwrite; n U32+0; 4 bytes; [1, 1, 1]",
    ),
    (
        "struct P { a: f32, @align(16) b: i32, c: u32 }
        @group(3) @binding(5) var<uniform> p: P;
        @group(0) @binding(0) var<storage, read_write> x: array<f32>;
        @compute @workgroup_size(1) fn f() { let q = &p; x[0] = p.a + f32((*q).b) + f32(p.c); }",
        "x@0 F32/4 >=4 Overwrite; a F32+0; b I32+16; c U32+20; 24 bytes; [1, 1, 1]",
    ),
    (
        "struct P { n: u32 }
        @group(0) @binding(0) var<uniform> p: P;
        @compute @workgroup_size(1) fn f() {}",
        "n U32+0; 4 bytes; [1, 1, 1]",
    ),
    // Other types of numbers.
    (
        "struct P { n: i64, a: f64, m: u64 }
        var<immediate> p: P;
        @group(0) @binding(0) var<storage, read_write> x: array<f64>;
        @group(0) @binding(1) var<storage, read_write> y: array<i64>;
        @group(0) @binding(2) var<storage, read_write> z: array<u64>;
        @compute @workgroup_size(1) fn f(@builtin(global_invocation_id) id: vec3u) {
            x[id.x] = sqrt(abs(fma(p.a, x[id.x], 1.5lf))) + floor(x[id.x + 1]) + max(x[0], f64(p.n)) + x[3] % 2.0lf;
            y[id.x] = p.n / y[id.x] % 3li; z[id.x] = p.m << 3u;
        }",
        "x@0 F64/8 >=8 Write; y@1 I64/8 >=8 Write; z@2 U64/8 >=8 Overwrite; n I64+0; a F64+8; m U64+16; 24 bytes; [1, 1, 1]; f64, i64",
    ),
    (
        "enable f16;
        @group(0) @binding(0) var<storage, read_write> x: array<f16>;
        @group(0) @binding(1) var<storage, read> y: array<vec4<f16>>;
        @compute @workgroup_size(1) fn f(@builtin(global_invocation_id) id: vec3u) { x[id.x] = exp(y[id.x].x) * 2.0h; }",
        "x@0 F16/2 >=2 Overwrite; y@1 F16/8 >=8 Read; 0 bytes; [1, 1, 1]; f16, 16-bit storage",
    ),
    (
        "enable wgpu_int16;
        @group(0) @binding(0) var<storage, read_write> x: array<i16>;
        @compute @workgroup_size(1) fn f(@builtin(global_invocation_id) id: vec3u) { x[id.x] = x[id.x] + x[0]; }",
        "x@0 I16/2 >=2 Write; 0 bytes; [1, 1, 1]; i16, 16-bit storage",
    ),
    // Scalars of 16 bits, two to a word, and alone.
    (
        "// differs as SPIR-V: the scalars are read as words
        enable f16;
        struct P { a: f16, b: f16, n: u32, c: f16 }
        var<immediate> p: P;
        @group(0) @binding(0) var<storage, read_write> x: array<f32>;
        @compute @workgroup_size(1) fn f() { x[p.n] = f32(p.a + p.b * p.c); }",
        "x@0 F32/4 >=4 Overwrite; a F16+0; b F16+2; n U32+4; c F16+8; 12 bytes; [1, 1, 1]; f16, 16-bit storage",
    ),
    (
        "// differs as SPIR-V: the scalars are read as words
        enable f16;
        @group(0) @binding(0) var<uniform> a: f16;
        @group(0) @binding(0) var<storage, read_write> x: array<f32>;
        var<workgroup> part: array<f32, 64>;
        @compute @workgroup_size(64) fn f(@builtin(local_invocation_index) i: u32) {
            for (var k = 0u; k < u32(a); k++) { part[i] += 1.0; workgroupBarrier(); }
            x[i] = part[63 - i];
        }",
        "x@0 F32/4 >=4 Overwrite; a F16+0; 4 bytes; [64, 1, 1]; f16, 16-bit storage",
    ),
    // What not every device has.
    (
        "@group(0) @binding(0) var<storage, read_write> x: array<atomic<f32>>;
        @group(0) @binding(1) var<storage, read_write> y: array<atomic<u64>>;
        @compute @workgroup_size(1) fn f() { atomicAdd(&x[0], 1.0); atomicMax(&y[0], 7lu); }",
        "x@0 F32/4 >=4 Write; y@1 U64/8 >=8 Write; 0 bytes; [1, 1, 1]; i64, f32 atomics, i64 atomics",
    ),
    (
        "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
        @compute @workgroup_size(64) fn f(@builtin(global_invocation_id) id: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
            let sum = subgroupAdd(x[id.x]); let other = subgroupShuffleDown(sum, 1u); if (subgroupAny(lane == 0)) { x[id.x] = sum + other; }
        }",
        "x@0 F32/4 >=4 Write; 0 bytes; [64, 1, 1]; subgroups, subgroup arithmetic, subgroup shuffle",
    ),
    // Packed dot products are computed by what every device has.
    (
        "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
        @compute @workgroup_size(1) fn f() { x[0] = dot4U8Packed(x[1], x[2]) + pack4xU8(vec4u(x[3])); }",
        "x@0 U32/4 >=4 Write; 0 bytes; [1, 1, 1]",
    ),
    // Values that may be set from outside have their defaults; other stages are none of ours.
    (
        "// differs as SPIR-V: the unused buffer is gone
        override width: u32 = 8;
        override factor: f32 = 2.0;
        @group(0) @binding(0) var<storage, read_write> x: array<f32>;
        @group(0) @binding(1) var<storage, read_write> unused: array<f32>;
        var<workgroup> part: array<f32, width>;
        @vertex fn v() -> @builtin(position) vec4f { return vec4f(); }
        @compute @workgroup_size(width * 2, 2) fn f(@builtin(local_invocation_index) i: u32) { part[i] = factor; x[i] = part[i + 1]; }",
        "x@0 F32/4 >=4 Overwrite; unused@1 F32/4 >=4 Read; 0 bytes; [16, 2, 1]",
    ),
    // Arguments in a structure.
    (
        "struct In { @builtin(global_invocation_id) id: vec3u, @builtin(local_invocation_index) i: u32, @builtin(num_workgroups) groups: vec3u }
        @group(0) @binding(0) var<storage, read_write> x: array<u32>;
        @compute @workgroup_size(8, 8) fn f(in: In, @builtin(workgroup_id) group: vec3u) { x[in.id.x] = in.i + in.groups.y + group.z; }",
        "x@0 U32/4 >=4 Overwrite; 0 bytes; [8, 8, 1]",
    ),
];

#[test]
fn what_kernels_take() {
    for (text, expected) in GOOD {
        let interface = inspect(Source::Wgsl(text)).unwrap_or_else(|error| panic!("{text}\n{error}"));
        assert_eq!(line(&interface), *expected, "{text}");
    }
}

#[test]
fn what_is_compiled_is_valid_and_takes_the_same() {
    for (text, expected) in GOOD {
        for target in targets() {
            let words = compile(Source::Wgsl(text), &target).unwrap_or_else(|error| panic!("{text}\n{target:?}: {error}"));
            validate(&words, &format!("{text}\n{target:?}"));
            if !target.parts && !text.contains("// differs as SPIR-V") {
                let read = inspect(Source::SpirV(&words)).unwrap_or_else(|error| panic!("{text}\n{target:?}: {error}"));
                assert_eq!(line(&read), *expected, "{text}\n{target:?}");
            }
        }
    }
}

#[test]
fn a_part_finds_its_place_behind_the_scalars() {
    for (text, scalars_bytes, at) in [(REDUCE, 0, 0), (SAXPY, 8, 16), (GOOD[8].0, 24, 32)] {
        let interface = inspect(Source::Wgsl(text)).unwrap();
        assert_eq!((interface.scalars_bytes, parts_offset(&interface)), (scalars_bytes, at), "{text}");
        let words = compile(Source::Wgsl(text), &Target { parts: true, ..Target::default() }).unwrap();
        let offsets = words::offsets_of_launch(&words);
        assert_eq!(offsets[offsets.len() - 2..], [at, at + 16], "{text}");
    }
}

#[test]
fn checks_are_there_unless_they_are_declined() {
    let count = |unchecked, op| {
        let words = compile(Source::Wgsl(MATMUL), &Target { unchecked, ..Target::default() }).unwrap();
        words::count(&words, op)
    };
    // The length of each buffer; a call of the division that looks at its divisor; a counter for each of the two loops, beside its own variable.
    assert_eq!((count(false, Op::ArrayLength), count(true, Op::ArrayLength)), (3, 0));
    assert_eq!((count(false, Op::UDiv), count(true, Op::UDiv)), (1, 1));
    assert_eq!((count(false, Op::FunctionCall), count(true, Op::FunctionCall)), (1, 0));
    assert!(count(false, Op::Variable) == count(true, Op::Variable) + 2);
}

#[test]
fn a_device_is_told_what_it_lacks() {
    let interface = inspect(Source::Wgsl(
        "
        @group(0) @binding(0) var<storage, read_write> x: array<f64>;
        @group(0) @binding(1) var<storage, read_write> y: array<atomic<f32>>;
        @compute @workgroup_size(1) fn f() { x[0] += 1.0lf; atomicAdd(&y[0], 1.0); }",
    ))
    .unwrap();
    let with = |f64, f32_atomics| missing(&interface, &DeviceFeatures { f64, f32_atomics, ..DeviceFeatures::default() });
    assert_eq!(with(true, true), None);
    assert_eq!(with(false, true).unwrap(), "the device has no f64 (shaderFloat64)");
    assert_eq!(with(false, false).unwrap(), "the device has no f64 (shaderFloat64), no f32 atomics (shaderBufferFloat32AtomicAdd)");
    let unknown = KernelInterface { features: vec!["SPIR-V Kernel".to_owned()], ..KernelInterface::default() };
    assert_eq!(missing(&unknown, &DeviceFeatures::default()).unwrap(), "the device has no SPIR-V Kernel");
}

#[test]
fn an_entry_point_keeps_its_name() {
    let words = compile(Source::Wgsl(SAXPY), &Target::default()).unwrap();
    assert_eq!(entry_point(&words).unwrap(), "saxpy");
    let words = compile(Source::Wgsl(SAXPY), &Target { parts: true, ..Target::default() }).unwrap();
    assert_eq!(entry_point(&words).unwrap(), "saxpy");
}

#[test]
fn the_same_source_makes_the_same_words() {
    for (text, _) in GOOD {
        for target in targets() {
            assert_eq!(compile(Source::Wgsl(text), &target).unwrap(), compile(Source::Wgsl(text), &target).unwrap(), "{text}\n{target:?}");
        }
    }
}

/// What keeps compiled kernels notices when the compiler is another one.
#[test]
fn the_compiler_is_named_with_its_version() {
    let lock = include_str!("../../../../Cargo.lock");
    let version = lock.split("name = \"naga\"\nversion = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(COMPILER.starts_with(&format!("naga {version}, ")), "{COMPILER} says nothing of {version}");
}
