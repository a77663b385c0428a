// Filters a tile that comes with its halo. Bytes lie four to a word; an invocation makes a word of the tile.

struct Numbers {
    // Rows and columns of the filter's kernels.
    edge: u32,
    // Those of the tile, without the halo.
    width: u32,
    height: u32,
    channels: u32,
}

var<immediate> p: Numbers;
@group(0) @binding(0) var<storage> source: array<u32>;
// Each weight of each kernel, multiplied with every byte. A product computed here could be rounded otherwise than on the host, since a device may multiply and
// add at once; a sum cannot.
@group(0) @binding(1) var<storage> products: array<f64>;
@group(0) @binding(2) var<storage, read_write> tile: array<u32>;

fn byte_at(place: u32) -> u32 {
    return (source[place >> 2u] >> ((place & 3u) << 3u)) & 255u;
}

// The weighted sum of what lies around a byte: `corner` is the first of it, `first` the kernel's first weight.
fn weighted(corner: u32, first: u32) -> f64 {
    let line_bytes = (p.width + p.edge - 1u) * p.channels;
    var sum = 0.0lf;
    for (var row = 0u; row < p.edge; row++) {
        for (var column = 0u; column < p.edge; column++) {
            let value = byte_at(corner + row * line_bytes + column * p.channels);
            sum += products[256u * (first + row * p.edge + column) + value];
        }
    }
    return sum;
}

// The nearest byte, halves away from zero; WGSL's own `round` takes them to the even number.
fn nearest(value: f64) -> u32 {
    if value >= 255.0lf {
        return 255u;
    }
    // Written so that what is no number becomes 0.
    if !(value > 0.0lf) {
        return 0u;
    }
    let below = floor(value);
    return u32(below) + select(0u, 1u, value - below >= 0.5lf);
}

fn filtered(place: u32) -> u32 {
    let line_bytes = p.width * p.channels;
    let radius = p.edge / 2u;
    let corner = place / line_bytes * (p.width + 2u * radius) * p.channels + place % line_bytes;
    // An even number of channels has alpha as its last, which is kept.
    if p.channels % 2u == 0u && place % p.channels == p.channels - 1u {
        return byte_at(corner + radius * (p.width + 2u * radius + 1u) * p.channels);
    }
    let per_kernel = p.edge * p.edge;
    var value = weighted(corner, 0u);
    // Two kernels are the parts of a vector.
    if arrayLength(&products) > 256u * per_kernel {
        let across = weighted(corner, per_kernel);
        value = sqrt(value * value + across * across);
    }
    return nearest(value);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let bytes = p.width * p.height * p.channels;
    let first = 4u * id.x;
    if first >= bytes {
        return;
    }
    var word = 0u;
    for (var place = first; place < min(first + 4u, bytes); place++) {
        word |= filtered(place) << (8u * (place - first));
    }
    tile[id.x] = word;
}
