// How many steps each number takes to come to 1, if even ones are halved and odd ones become three times themselves and one more; at most `most`.

struct Numbers {
    first: u32,
    count: u32,
    most: u32,
}

var<immediate> p: Numbers;
@group(0) @binding(0) var<storage, read_write> steps: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x >= p.count {
        return;
    }
    var number = p.first + id.x;
    var taken = 0u;
    while number > 1u && taken < p.most {
        number = select(number / 2u, 3u * number + 1u, number % 2u == 1u);
        taken++;
    }
    steps[id.x] = taken;
}
