// Counts of each value of each channel of a picture, added to what is in `bins`: channel 0's 256 bins, then channel 1's, up to four.
//
// A pixel is a word: channel c is its byte c, counted from the lowest. A workgroup counts 4096 pixels in memory of its own before it touches `bins`.
// One invocation for 16 pixels.

struct Parameters {
    n: u32,
    channels: u32,
}

@group(0) @binding(0) var<storage, read> pixels: array<u32>;
@group(0) @binding(1) var<storage, read_write> bins: array<atomic<u32>>;
var<immediate> parameters: Parameters;

// Zeros at first, as WGSL has it.
var<workgroup> counts: array<atomic<u32>, 1024>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let first = group.x * 4096u;
    for (var step = 0u; step < 16u; step++) {
        let at = first + step * 256u + lane;
        if at < parameters.n {
            var rest = pixels[at];
            for (var channel = 0u; channel < parameters.channels; channel++) {
                atomicAdd(&counts[channel * 256u + (rest & 255u)], 1u);
                rest >>= 8u;
            }
        }
    }
    workgroupBarrier();
    for (var bin = lane; bin < parameters.channels * 256u; bin += 256u) {
        let count = atomicLoad(&counts[bin]);
        if count > 0u {
            atomicAdd(&bins[bin], count);
        }
    }
}
