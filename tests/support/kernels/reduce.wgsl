// Sums of blocks of 4096 elements, one for each workgroup, in an order that is always the same; run again over the sums until one is left.
//
// An invocation adds 16 elements that lie 256 apart, then the workgroup's 256 sums are added as a tree.
// One invocation for 16 elements, and at least one: the sum of nothing is 0.

struct Parameters {
    n: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
var<immediate> parameters: Parameters;

var<workgroup> lanes: array<f32, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * 4096u;
    var sum = 0.0;
    for (var step = 0u; step < 16u; step++) {
        let at = first + step * 256u + lane;
        if at < parameters.n {
            sum += x[at];
        }
    }
    lanes[lane] = sum;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if lane < half {
            lanes[lane] += lanes[lane + half];
        }
        workgroupBarrier();
    }
    if lane == 0u && (first < parameters.n || group.x == 0u) {
        sums[group.x] = lanes[0];
    }
}
