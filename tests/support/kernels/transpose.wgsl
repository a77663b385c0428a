// Rows become columns. A tile of 16 x 16 elements goes through workgroup memory, so that neighbours read and write neighbours.
// One invocation for an element: columns x rows.

struct Parameters {
    rows: u32,
    columns: u32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
var<immediate> parameters: Parameters;

// One more than 16 in a line, so that the elements of a column lie in different banks.
var<workgroup> tile: array<f32, 272>;

@compute @workgroup_size(16, 16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_id) place: vec3<u32>) {
    let row = group.y * 16u;
    let column = group.x * 16u;
    if row + place.y < parameters.rows && column + place.x < parameters.columns {
        tile[place.y * 17u + place.x] = x[(row + place.y) * parameters.columns + column + place.x];
    }
    workgroupBarrier();
    if row + place.x < parameters.rows && column + place.y < parameters.columns {
        y[(column + place.y) * parameters.rows + row + place.x] = tile[place.x * 17u + place.y];
    }
}
