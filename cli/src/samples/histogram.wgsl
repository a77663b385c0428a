// Counts the values of each channel in a part of a picture. Bytes lie four to a word; an invocation looks at a run of words.

struct Numbers {
    // The part: its first byte, which is the first of a pixel, and how many there are.
    first: u32,
    count: u32,
    channels: u32,
}

const WORDS = 64u;

var<immediate> p: Numbers;
@group(0) @binding(0) var<storage> picture: array<u32>;
// They begin at zero, since they are not only written.
@group(0) @binding(1) var<storage, read_write> bins: array<atomic<u32>>;
// A workgroup counts by itself first: the bins of all are where its invocations would wait for each other.
var<workgroup> own: array<atomic<u32>, 1024>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(local_invocation_index) index: u32) {
    let begin = p.first / 4u + WORDS * id.x;
    for (var word = begin; word < min(begin + WORDS, (p.first + p.count + 3u) / 4u); word++) {
        let bytes = picture[word];
        for (var k = 0u; k < 4u; k++) {
            let place = 4u * word + k;
            if place >= p.first && place - p.first < p.count {
                let channel = (place - p.first) % p.channels;
                atomicAdd(&own[256u * channel + ((bytes >> (8u * k)) & 255u)], 1u);
            }
        }
    }
    workgroupBarrier();
    for (var bin = index; bin < 256u * p.channels; bin += 64u) {
        let count = atomicLoad(&own[bin]);
        if count > 0u {
            atomicAdd(&bins[bin], count);
        }
    }
}
