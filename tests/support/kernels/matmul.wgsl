// C = A B, row by row: A is rows x depth, B depth x columns.
//
// A workgroup computes 128 x 128 elements of C, and each of its 16 x 16 invocations 8 x 8 of them: in registers, as rows of four. Eight columns of A
// and eight rows of B at a time lie in workgroup memory, so that an element that is read there is used eight times. Each element of C is the sum of
// its products in the order of the depth. One invocation for 8 x 8 elements: ceil(columns / 8) x ceil(rows / 8).

struct Parameters {
    rows: u32,
    columns: u32,
    depth: u32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
var<immediate> parameters: Parameters;

// Elements of A, four rows of a column together. One more than 32 in a line, so that neighbours lie in different banks.
var<workgroup> a_part: array<vec4<f32>, 264>;
// Elements of B, four columns of a row together.
var<workgroup> b_part: array<vec4<f32>, 256>;

fn a_at(row: u32, column: u32) -> f32 {
    if row < parameters.rows && column < parameters.depth {
        return a[row * parameters.depth + column];
    }
    return 0.0;
}

fn b_at(row: u32, column: u32) -> f32 {
    if row < parameters.depth && column < parameters.columns {
        return b[row * parameters.columns + column];
    }
    return 0.0;
}

fn store(row: u32, column: u32, value: vec4<f32>) {
    if row < parameters.rows {
        let at = row * parameters.columns + column;
        if column < parameters.columns { c[at] = value.x; }
        if column + 1u < parameters.columns { c[at + 1u] = value.y; }
        if column + 2u < parameters.columns { c[at + 2u] = value.z; }
        if column + 3u < parameters.columns { c[at + 3u] = value.w; }
    }
}

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) place: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = group.y * 128u;
    let column = group.x * 128u;
    // Indexed with constants alone, so that it lies in registers: a row's left four, then its right four.
    var sum: array<vec4<f32>, 16>;
    for (var first = 0u; first < parameters.depth; first += 8u) {
        let a_column = first + lane % 8u;
        let a_row = row + lane / 8u * 4u;
        a_part[lane % 8u * 33u + lane / 8u] =
            vec4(a_at(a_row, a_column), a_at(a_row + 1u, a_column), a_at(a_row + 2u, a_column), a_at(a_row + 3u, a_column));
        let b_row = first + lane / 32u;
        let b_column = column + lane % 32u * 4u;
        b_part[lane] = vec4(b_at(b_row, b_column), b_at(b_row, b_column + 1u), b_at(b_row, b_column + 2u), b_at(b_row, b_column + 3u));
        workgroupBarrier();
        for (var k = 0u; k < 8u; k++) {
            let upper = a_part[k * 33u + place.y];
            let lower = a_part[k * 33u + 16u + place.y];
            let left = b_part[k * 32u + place.x];
            let right = b_part[k * 32u + 16u + place.x];
            sum[0] += upper.x * left;
            sum[1] += upper.x * right;
            sum[2] += upper.y * left;
            sum[3] += upper.y * right;
            sum[4] += upper.z * left;
            sum[5] += upper.z * right;
            sum[6] += upper.w * left;
            sum[7] += upper.w * right;
            sum[8] += lower.x * left;
            sum[9] += lower.x * right;
            sum[10] += lower.y * left;
            sum[11] += lower.y * right;
            sum[12] += lower.z * left;
            sum[13] += lower.z * right;
            sum[14] += lower.w * left;
            sum[15] += lower.w * right;
        }
        workgroupBarrier();
    }
    let upper = row + place.y * 4u;
    let lower = upper + 64u;
    let left = column + place.x * 4u;
    let right = left + 64u;
    store(upper, left, sum[0]);
    store(upper, right, sum[1]);
    store(upper + 1u, left, sum[2]);
    store(upper + 1u, right, sum[3]);
    store(upper + 2u, left, sum[4]);
    store(upper + 2u, right, sum[5]);
    store(upper + 3u, left, sum[6]);
    store(upper + 3u, right, sum[7]);
    store(lower, left, sum[8]);
    store(lower, right, sum[9]);
    store(lower + 1u, left, sum[10]);
    store(lower + 1u, right, sum[11]);
    store(lower + 2u, left, sum[12]);
    store(lower + 2u, right, sum[13]);
    store(lower + 3u, left, sum[14]);
    store(lower + 3u, right, sum[15]);
}
