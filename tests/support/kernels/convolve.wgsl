// A square filter over a picture, applied as written, not mirrored. Beyond the picture its outermost pixels repeat.
//
// A pixel is a word: channel c is its byte c, counted from the lowest. The first `colours` channels are filtered, the others are kept.
// With two filters, the results are the parts of a vector whose length counts.

struct Parameters {
    width: u32,
    height: u32,
    edge: u32,
    filters: u32,
    colours: u32,
}

@group(0) @binding(0) var<storage, read> pixels: array<u32>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> filtered: array<u32>;
var<immediate> parameters: Parameters;

fn channels(word: u32) -> vec4<u32> {
    return (vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(255u);
}

// The pixel at this place, counted with the filter's reach before the picture's edge.
fn position(place: u32, reach: u32, length: u32) -> u32 {
    return min(max(place, reach) - reach, length - 1u);
}

fn sum(row: u32, column: u32, first: u32) -> vec4<f32> {
    let reach = parameters.edge / 2u;
    var total = vec4(0.0);
    for (var down = 0u; down < parameters.edge; down++) {
        let line = position(row + down, reach, parameters.height) * parameters.width;
        for (var right = 0u; right < parameters.edge; right++) {
            let value = vec4<f32>(channels(pixels[line + position(column + right, reach, parameters.width)]));
            total += weights[first + down * parameters.edge + right] * value;
        }
    }
    return total;
}

@compute @workgroup_size(16, 16)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= parameters.width || id.y >= parameters.height {
        return;
    }
    var value = sum(id.y, id.x, 0u);
    if parameters.filters == 2u {
        let across = sum(id.y, id.x, parameters.edge * parameters.edge);
        value = sqrt(value * value + across * across);
    }
    // Halves away from zero, as the host rounds; what is below zero becomes zero anyway.
    let rounded = vec4<u32>(clamp(floor(value + 0.5), vec4(0.0), vec4(255.0)));
    let at = id.y * parameters.width + id.x;
    let kept = channels(pixels[at]);
    let bytes = select(kept, rounded, vec4(0u, 1u, 2u, 3u) < vec4(parameters.colours));
    filtered[at] = bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u);
}
