// Adds the product of two tiles to a third one. An invocation makes a block of the result with four rows and columns, so that it uses what it reads four times.

struct Numbers {
    // Columns of `b` and of the results.
    width: u32,
    // Columns of `a`, rows of `b`.
    depth: u32,
}

var<immediate> p: Numbers;
@group(0) @binding(0) var<storage> before: array<f64>;
@group(0) @binding(1) var<storage> a: array<f64>;
@group(0) @binding(2) var<storage> b: array<f64>;
@group(0) @binding(3) var<storage, read_write> after: array<f64>;

@compute @workgroup_size(16, 4)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let height = arrayLength(&after) / p.width;
    let first_row = 4u * id.y;
    let first_column = 4u * id.x;
    if first_row >= height || first_column >= p.width {
        return;
    }
    // Beyond the tile, the last row and the last column are computed again.
    let rows = p.depth * min(vec4(first_row) + vec4(0u, 1u, 2u, 3u), vec4(height - 1u));
    let columns = min(vec4(first_column) + vec4(0u, 1u, 2u, 3u), vec4(p.width - 1u));
    var sums = array<vec4<f64>, 4>();
    for (var k = 0u; k < p.depth; k++) {
        let line = p.width * k;
        let factors = vec4(b[line + columns.x], b[line + columns.y], b[line + columns.z], b[line + columns.w]);
        sums[0] += a[rows.x + k] * factors;
        sums[1] += a[rows.y + k] * factors;
        sums[2] += a[rows.z + k] * factors;
        sums[3] += a[rows.w + k] * factors;
    }
    for (var i = 0u; i < min(4u, height - first_row); i++) {
        for (var j = 0u; j < min(4u, p.width - first_column); j++) {
            let place = (first_row + i) * p.width + first_column + j;
            after[place] = before[place] + sums[i][j];
        }
    }
}
