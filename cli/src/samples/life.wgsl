// The next generation of a band of the board, which has whole rows. A cell is a byte, four lie in a word; an invocation makes a word.

struct Numbers {
    // Cells in a row of the board.
    width: u32,
    // Rows of the band above, and of this one.
    above_rows: u32,
    rows: u32,
    // Bit n: with n living neighbours a dead cell is born, a living one stays alive.
    birth: u32,
    survival: u32,
}

var<immediate> p: Numbers;
@group(0) @binding(0) var<storage> above: array<u32>;
@group(0) @binding(1) var<storage> here: array<u32>;
@group(0) @binding(2) var<storage> below: array<u32>;
@group(0) @binding(3) var<storage, read_write> next: array<u32>;

fn byte_of(word: u32, place: u32) -> u32 {
    return (word >> ((place & 3u) << 3u)) & 1u;
}

// A cell; row 0 is the last one of the band above.
fn cell(row: u32, column: u32) -> u32 {
    if row == 0u {
        let place = (p.above_rows - 1u) * p.width + column;
        return byte_of(above[place >> 2u], place);
    }
    if row > p.rows {
        return byte_of(below[column >> 2u], column);
    }
    let place = (row - 1u) * p.width + column;
    return byte_of(here[place >> 2u], place);
}

fn next_cell(place: u32) -> u32 {
    let row = place / p.width;
    let column = place % p.width;
    // The board is a torus.
    let left = (column + p.width - 1u) % p.width;
    let right = (column + 1u) % p.width;
    var sum = 0u;
    for (var k = row; k < row + 3u; k++) {
        sum += cell(k, left) + cell(k, column) + cell(k, right);
    }
    let alive = cell(row + 1u, column);
    return (select(p.birth, p.survival, alive == 1u) >> (sum - alive)) & 1u;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let cells = p.width * p.rows;
    let first = 4u * id.x;
    if first >= cells {
        return;
    }
    var word = 0u;
    for (var place = first; place < min(first + 4u, cells); place++) {
        word |= next_cell(place) << (8u * (place - first));
    }
    next[id.x] = word;
}
