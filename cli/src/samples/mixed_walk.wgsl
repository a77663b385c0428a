// Where a generator of random numbers ends after so many steps. Each needs the one before, so there is one invocation.

struct Numbers {
    seed: u32,
    count: u32,
}

var<immediate> p: Numbers;
@group(0) @binding(0) var<storage, read_write> end: array<u32>;

@compute @workgroup_size(1)
fn main() {
    var state = p.seed;
    for (var step = 0u; step < p.count; step++) {
        state = state * 1664525u + 1013904223u;
    }
    end[0] = state;
}
