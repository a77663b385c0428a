// Multiplies and adds, and nothing else: 128 times for each invocation and round, in eight chains of four. All end at 2. Greater numbers stay as they are, so that it can be seen what was there.

struct Parameters {
    rounds: u32,
    half: f32,
    one: f32,
}

@group(0) @binding(0) var<storage, read_write> results: array<vec4<f32>>;
var<immediate> parameters: Parameters;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let half = vec4(parameters.half);
    let one = vec4(parameters.one);
    var a = vec4(f32(id.x % 64u));
    var b = a + 1.0;
    var c = a + 2.0;
    var d = a + 3.0;
    var e = a + 4.0;
    var f = a + 5.0;
    var g = a + 6.0;
    var h = a + 7.0;
    for (var round = 0u; round < parameters.rounds; round++) {
        a = fma(fma(a, half, one), half, one);
        b = fma(fma(b, half, one), half, one);
        c = fma(fma(c, half, one), half, one);
        d = fma(fma(d, half, one), half, one);
        e = fma(fma(e, half, one), half, one);
        f = fma(fma(f, half, one), half, one);
        g = fma(fma(g, half, one), half, one);
        h = fma(fma(h, half, one), half, one);
        a = fma(fma(a, half, one), half, one);
        b = fma(fma(b, half, one), half, one);
        c = fma(fma(c, half, one), half, one);
        d = fma(fma(d, half, one), half, one);
        e = fma(fma(e, half, one), half, one);
        f = fma(fma(f, half, one), half, one);
        g = fma(fma(g, half, one), half, one);
        h = fma(fma(h, half, one), half, one);
    }
    let mean = ((a + b) + (c + d) + (e + f) + (g + h)) / 8.0;
    results[id.x] = max(results[id.x], mean);
}
