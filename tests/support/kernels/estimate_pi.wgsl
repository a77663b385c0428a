// How many of `n` random points of a square lie in the quarter of a circle: one count for each workgroup, of 4096 points. All is done with integers, so
// that the counts are the same everywhere.
//
// A point is a function of its number, `seed` and `stream`: pcg3d of Jarzynski and Olano, "Hash functions for GPU rendering", JCGT 9(3), 2020.
// One invocation for 16 points, and at least one.

struct Parameters {
    n: u32,
    seed: u32,
    stream: u32,
}

@group(0) @binding(0) var<storage, read_write> hits: array<u32>;
var<immediate> parameters: Parameters;

var<workgroup> inside: atomic<u32>;

fn pcg3d(key: vec3<u32>) -> vec3<u32> {
    var v = key * 1664525u + 1013904223u;
    v.x += v.y * v.z;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v ^= v >> vec3(16u);
    v.x += v.y * v.z;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    return v;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * 4096u;
    var count = 0u;
    for (var step = 0u; step < 16u; step++) {
        let point = first + step * 256u + lane;
        if point < parameters.n {
            // Odd numbers below 2^16, the middles of 2^15 steps. The circle's radius is 2^16, whose square is one more than fits.
            let place = (pcg3d(vec3(point, parameters.seed, parameters.stream)) >> vec3(17u)) * 2u + 1u;
            count += select(0u, 1u, place.y * place.y <= 0xffffffffu - place.x * place.x);
        }
    }
    atomicAdd(&inside, count);
    workgroupBarrier();
    if lane == 0u && (first < parameters.n || group.x == 0u) {
        hits[group.x] = atomicLoad(&inside);
    }
}
