// The next generation of a cellular automaton on a torus. A cell is a word, 1 or 0.
//
// Bit k of `birth`: a dead cell with k living neighbours is born; of `survival`: a living one stays alive.

struct Parameters {
    width: u32,
    height: u32,
    birth: u32,
    survival: u32,
}

@group(0) @binding(0) var<storage, read> cells: array<u32>;
@group(0) @binding(1) var<storage, read_write> next: array<u32>;
var<immediate> parameters: Parameters;

// The three cells around one in the line that begins at `line`.
fn three(line: u32, left: u32, here: u32, right: u32) -> u32 {
    return cells[line + left] + cells[line + here] + cells[line + right];
}

@compute @workgroup_size(16, 16)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let width = parameters.width;
    let height = parameters.height;
    if id.x >= width || id.y >= height {
        return;
    }
    let left = select(id.x, width, id.x == 0u) - 1u;
    let right = select(id.x + 1u, 0u, id.x + 1u == width);
    let above = (select(id.y, height, id.y == 0u) - 1u) * width;
    let here = id.y * width;
    let below = select(id.y + 1u, 0u, id.y + 1u == height) * width;
    let alive = cells[here + id.x];
    let around = three(above, left, id.x, right) + three(here, left, id.x, right) + three(below, left, id.x, right) - alive;
    let rule = select(parameters.birth, parameters.survival, alive == 1u);
    next[here + id.x] = (rule >> around) & 1u;
}
