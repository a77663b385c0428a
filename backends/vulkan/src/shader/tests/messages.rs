//! What is said about kernels that are wrong, and where it points.

use poniard_interface::Source;
use proptest::prelude::*;

use super::super::{Target, compile, inspect};
use super::GOOD;

/// The lines of a message.
macro_rules! lines {
    ($first:literal $(, $more:literal)*) => { concat!($first $(, "\n", $more)*) };
}

/// A kernel with `body`, and `declarations` before it.
fn kernel(declarations: &str, body: &str) -> String {
    format!(
        "{declarations}\n@group(0) @binding(0) var<storage, read_write> x: array<f32>;\n@compute @workgroup_size(64)\n\
        fn f(@builtin(global_invocation_id) id: vec3u) {{\n    {body}\n}}\n"
    )
}

/// Kernels that are wrong, and what is said about them.
fn bad() -> Vec<(String, &'static str)> {
    vec![
        (String::new(), "the source has no function that is marked with `@compute`"),
        (
            "@vertex fn v() -> @builtin(position) vec4f { return vec4f(); }".to_owned(),
            "the source has no function that is marked with `@compute`",
        ),
        (
            kernel("@compute @workgroup_size(1) fn second() {}", ""),
            "the source has 2 functions that are marked with `@compute`, one is possible: `second`, `f`",
        ),
        // What naga says, shown in the text: the place, two places, tabs and letters of several bytes, a line that is too long to be shown.
        ("fn f( {".to_owned(), lines!("line 1, column 7: expected identifier, found \"{\"", "fn f( {", "      ^")),
        (
            kernel("", "let y: f31 = 1.0;"),
            lines!(
                "line 5, column 12: no definition in scope for identifier: `f31`",
                "    let y: f31 = 1.0;",
                "           ^^^ unknown identifier"
            ),
        ),
        (
            kernel("", "x[id.x] = 1u;"),
            lines!(
                "line 5, column 5: automatic conversions cannot convert elements of `u32` to `f32`",
                "    x[id.x] = 1u;",
                "    ^^^^^^^ a value with elements of type f32 is required here",
                "line 5, column 15:",
                "    x[id.x] = 1u;",
                "              ^^ this expression has type u32"
            ),
        ),
        (
            kernel("", "\tlet größe = x[id.x] + ;"),
            lines!("line 5, column 28: expected expression, found \";\"", "    \tlet größe = x[id.x] + ;", "    \t                      ^"),
        ),
        (
            kernel("", &format!("let y = {}1.0 + z;", "1.0 + ".repeat(60))),
            lines!(
                "line 5, column 379: no definition in scope for identifier: `z`",
                ".0 + 1.0 + 1.0 + 1.0 + 1.0 + 1.0 + 1.0 + 1.0 + 1.0 + 1.0 + z;",
                "                                                           ^ unknown identifier"
            ),
        ),
        (
            kernel("", "f();"),
            lines!(
                "line 4, column 4: declaration of `f` is recursive",
                "fn f(@builtin(global_invocation_id) id: vec3u) {",
                "   ^",
                "line 5, column 5:",
                "    f();",
                "    ^ uses itself here"
            ),
        ),
        (
            kernel("@group(0) @binding(1) var<storage> y: array<f32>;", "y[0] = 1.0;"),
            lines!(
                "line 5, column 5: this cannot be written: buffers that can are declared as `var<storage, read_write>`",
                "    y[0] = 1.0;",
                "    ^^^^"
            ),
        ),
        (
            kernel("@group(0) @binding(1) var<storage> y: array<bool>;", ""),
            lines!(
                "line 1, column 23: `y` is of a type that host and device cannot share, such as bool",
                "@group(0) @binding(1) var<storage> y: array<bool>;",
                "                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^"
            ),
        ),
        // Functions of f64.
        (
            kernel("", "x[id.x] = f32(exp(f64(x[0])));"),
            lines!(
                "line 5, column 19: no Vulkan device has `exp` for f64: compute it in f32, or of sums and products",
                "    x[id.x] = f32(exp(f64(x[0])));",
                "                  ^^^"
            ),
        ),
        (
            kernel("fn g(v: vec3<f64>) -> vec3<f64> { return pow(v, v); }", "x[0] = f32(g(vec3<f64>()).x);"),
            lines!(
                "line 1, column 42: no Vulkan device has `pow` for f64: compute it in f32, or of sums and products",
                "fn g(v: vec3<f64>) -> vec3<f64> { return pow(v, v); }",
                "                                         ^^^"
            ),
        ),
        // What a launch does not give.
        (
            kernel("@group(0) @binding(1) var t: texture_2d<f32>;", ""),
            lines!(
                "line 1, column 23: `t` is a texture, a sampler or the like: a kernel takes buffers and scalars",
                "@group(0) @binding(1) var t: texture_2d<f32>;",
                "                      ^^^^^^^^^^^^^^^^^^^^^^^"
            ),
        ),
        (
            kernel("@group(0) @binding(1) var s: sampler;", ""),
            lines!(
                "line 1, column 23: `s` is a texture, a sampler or the like: a kernel takes buffers and scalars",
                "@group(0) @binding(1) var s: sampler;",
                "                      ^^^^^^^^^^^^^^^"
            ),
        ),
        (
            kernel("@group(1) @binding(1) var<storage> y: array<f32>;", ""),
            lines!(
                "line 1, column 23: `y` is in group 1: a kernel's buffers are in `@group(0)`",
                "@group(1) @binding(1) var<storage> y: array<f32>;",
                "                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^"
            ),
        ),
        (
            kernel("enable wgpu_binding_array;\n@group(0) @binding(1) var<storage> y: binding_array<array<f32>, 4>;", ""),
            lines!(
                "line 2, column 23: `y` is an array of buffers: a kernel takes each by a name of its own",
                "@group(0) @binding(1) var<storage> y: binding_array<array<f32>, 4>;",
                "                      ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^"
            ),
        ),
        (kernel("@group(0) @binding(0) var<storage> y: array<f32>;", ""), "`y` and `x` have the same binding number, 0"),
        (
            kernel(&(1..33).map(|i| format!("@group(0) @binding({i}) var<storage> y{i}: array<f32>;\n")).collect::<String>(), ""),
            "the kernel has 33 buffers, at most 32 are possible",
        ),
        // Scalars.
        (
            kernel("var<immediate> a: f32;\n@group(0) @binding(1) var<uniform> b: f32;", ""),
            lines!(
                "line 2, column 23: `b` is a second block of scalars beside `a`: put all into one structure",
                "@group(0) @binding(1) var<uniform> b: f32;",
                "                      ^^^^^^^^^^^^^^^^^^^^"
            ),
        ),
        (
            kernel("struct P { a: f32, m: vec2f }\nvar<immediate> p: P;", ""),
            lines!(
                "line 2, column 1: `m` is no scalar: a block of scalars has members of the types f32, i32, u32, f64, i64, u64 and f16",
                "var<immediate> p: P;",
                "^^^^^^^^^^^^^^^^^^^^"
            ),
        ),
        (
            kernel("enable wgpu_int16;\nvar<immediate> p: i16;", ""),
            lines!(
                "line 2, column 1: `p` is no scalar: a block of scalars has members of the types f32, i32, u32, f64, i64, u64 and f16",
                "var<immediate> p: i16;",
                "^^^^^^^^^^^^^^^^^^^^^^"
            ),
        ),
        (
            kernel(&format!("struct P {{ {} }}\nvar<immediate> p: P;", (0..33).map(|i| format!("m{i}: u32, ")).collect::<String>()), ""),
            lines!(
                "line 2, column 1: the kernel has 132 bytes of scalars, at most 128 are possible: put them into a buffer",
                "var<immediate> p: P;",
                "^^^^^^^^^^^^^^^^^^^^"
            ),
        ),
        (
            kernel("override n: u32;", "x[n] = 1.0;"),
            lines!(
                "line 1, column 1: `n` has no value: nobody sets it at a launch, so write `const` or give it a default",
                "override n: u32;",
                "^^^^^^^^^^^^^^^^"
            ),
        ),
        // Workgroups.
        (kernel("", "").replace("64", "0"), "a workgroup of 0 x 1 x 1 has 0 invocations: from 1 to 1024 are possible"),
        (kernel("", "").replace("64", "64, 32"), "a workgroup of 64 x 32 x 1 has 2048 invocations: from 1 to 1024 are possible"),
        (
            kernel("", "").replace("64", "4294967295, 4294967295, 4294967295"),
            "a workgroup of 4294967295 x 4294967295 x 4294967295 has 18446744073709551615 invocations: from 1 to 1024 are possible",
        ),
        (
            kernel("override n: u32 = 2048;", "").replace("64", "n"),
            "a workgroup of 2048 x 1 x 1 has 2048 invocations: from 1 to 1024 are possible",
        ),
        // What acts on a terminal is not shown.
        (
            "\u{1b}[31m@compute".to_owned(),
            lines!(
                "line 1, column 1: expected global item (`struct`, `const`, `var`, `alias`, `fn`, `diagnostic`, `enable`, `requires`, `;`) or the end of the file, found \"\\u{1b}\"",
                " [31m@compute",
                "^"
            ),
        ),
    ]
}

#[test]
fn what_is_wrong_is_shown() {
    for (text, expected) in bad() {
        let said = inspect(Source::Wgsl(&text)).expect_err(&text).to_string();
        assert_eq!(said, expected, "\n{said}\n\n{text}");
        assert_eq!(compile(Source::Wgsl(&text), &Target::default()).expect_err(&text).to_string(), said);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// A slip of the keyboard never ends in a panic, and what is said is about the text.
    #[test]
    fn a_damaged_source_is_an_error_or_a_kernel(which in 0..GOOD.len(), at in any::<prop::sample::Index>(), len in 0_usize..12, put in "[a-z0-9 (){};<>,.&*=-]{0,4}") {
        let mut text: Vec<char> = GOOD[which].0.chars().collect();
        let at = at.index(text.len());
        text.splice(at..(at + len).min(text.len()), put.chars());
        let text: String = text.into_iter().collect();
        for parts in [false, true] {
            if let Err(error) = compile(Source::Wgsl(&text), &Target { parts, ..Target::default() }) {
                prop_assert!(!error.reason.is_empty() && !error.reason.ends_with('.'), "{}", error.reason);
            }
        }
    }
}

#[test]
fn deep_sources_do_not_exhaust_the_stack() {
    let deep = |count: usize| kernel("", &format!("{}{}", "{".repeat(count), "}".repeat(count)));
    assert!(inspect(Source::Wgsl(&deep(100))).is_ok());
    assert!(inspect(Source::Wgsl(&deep(1000))).unwrap_err().reason.starts_with("line 5, column 131: brace nesting limit reached"));
    let chain = kernel("", &format!("{} {{}}", "if id.x == 1 {} else ".repeat(3000)));
    assert!(compile(Source::Wgsl(&chain), &Target::default()).is_ok());
    let long = kernel("", &" ".repeat(64 << 10));
    assert_eq!(
        inspect(Source::Wgsl(&long)).unwrap_err().reason,
        format!("the source has {} bytes, at most 65536 are possible", long.len())
    );
}
