//! Copies in a lane of their own, beside launches. One queue plays both lanes, so what could run at the same time does not here; what waits for what is counted.

use poniard_interface::{Access, Chunk, HostBlock, Operand};

use crate::launches::SPLIT;
use crate::stand::{Arena, NEXT, STEP, Stand, child, is_child, is_software, operand, read, with_device};

/// How many numbers are in a chunk: more bytes than go with a launch.
const LEN: usize = 300;

/// Ends when `x[1]` becomes 77. The software driver takes a plain load of it out of the loop, and goes on as long as an invocation is missing in a row of eight.
const GATE: &str = "
    @group(0) @binding(0) var<storage, read_write> x: array<atomic<u32>>;
    @compute @workgroup_size(8) fn main() {
        loop { if atomicOr(&x[1], 0u) == 77u { break; } }
    }";

/// So many invocations of it end by themselves only after minutes.
const LONG: [u64; 3] = [500_000, 1, 1];

/// What has been submitted in all, in the lane for copies, and how many waits there were.
fn submitted(stand: &Stand) -> [u64; 3] {
    ["submissions", "transfer submissions", "waits between queues"].map(|name| stand.counted(name))
}

/// How many more there are than `before`.
fn since(stand: &Stand, before: [u64; 3]) -> [u64; 3] {
    let now = submitted(stand);
    [0, 1, 2].map(|index| now[index] - before[index])
}

#[test]
fn uploads_and_downloads_have_a_lane_of_their_own() {
    let arena = Arena::new(1 << 20);
    let block = arena.write(0, &[7; LEN]);
    let short = HostBlock { len_bytes: 16, ..block };
    let Some(stand) = with_device(SPLIT) else { return };
    let [x, y] = [(); 2].map(|()| stand.spaces[0].allocate(LEN as u64 * 4, false).unwrap());
    let run = |id, source| {
        let operands = [Operand { source, ..operand(&*x, Access::Read) }, operand(&*y, Access::Overwrite)];
        stand.launch(id, NEXT, &operands, &[], [LEN as u64, 1, 1]);
        stand.host.done(id..id + 1);
    };
    let before = submitted(&stand);
    run(0, Some(block));
    assert_eq!(since(&stand, before), [2, 1, 1], "a copy, and a launch that waits for it");
    let before = submitted(&stand);
    run(1, None);
    assert_eq!(since(&stand, before), [1, 0, 0], "nothing to copy, nothing to wait for");
    let before = submitted(&stand);
    assert_eq!(read(&*y), [8; LEN]);
    assert_eq!(since(&stand, before), [1, 1, 1], "a copy, and what it reads has been shown to it");
    let before = submitted(&stand);
    run(2, Some(short));
    assert_eq!(since(&stand, before)[1], 0, "what is short goes with its launch");
    let before = submitted(&stand);
    assert_eq!(read(&*x), [7; LEN]);
    assert_eq!(since(&stand, before)[1], 1);
    stand.finish();

    let Some(stand) = with_device(&[("vulkan.without", "mapping"), ("vulkan.transfer", "none")]) else { return };
    let chunk = stand.chunk(&[1; LEN]);
    stand.launch(0, STEP, &[Operand { source: Some(block), ..operand(&*chunk, Access::Write) }], &[1, 0, 0, 0], [LEN as u64, 1, 1]);
    stand.host.done(0..1);
    assert_eq!(read(&*chunk)[2], 9);
    assert_eq!(submitted(&stand)[1..], [0, 0], "with one lane there is no other");
    stand.finish();
}

/// A launch that ends when it is told to, in a chunk that is part of an arena; none where that is not possible.
struct Gate<'a> {
    arena: &'a Arena,
    _chunk: Box<dyn Chunk>,
}

impl<'a> Gate<'a> {
    fn close(stand: &Stand, arena: &'a Arena, id: u64) -> Option<Self> {
        if !is_software(stand) {
            eprintln!("skipped: only a software device is sure to see what the host writes meanwhile");
            return None;
        }
        let chunk = Arena::import(&*stand.spaces[0], arena.write(0, &[0, 0])).ok()?;
        stand.launch(id, GATE, &[operand(&*chunk, Access::Write)], &[], LONG);
        Some(Self { arena, _chunk: chunk })
    }

    fn open(self) {
        self.arena.release(4, 77);
    }
}

#[test]
fn copies_wait_for_nothing_that_they_have_nothing_to_do_with() {
    // A launch that does not end keeps the whole driver busy.
    if !is_child() {
        child("lanes::copies_wait_for_nothing_that_they_have_nothing_to_do_with", &[]);
        return;
    }
    let Some(stand) = with_device(&[SPLIT, &[("vulkan.deadline_ms", "600000")]].concat()) else { return };
    let (arena, data) = (Arena::new(1 << 20), Arena::new(1 << 20));
    let block = data.write(0, &[5; LEN]);
    let (ready, fresh, other) = (stand.chunk(&[3; LEN]), stand.chunk(&[0; LEN]), stand.chunk(&[0; LEN]));
    stand.launch(0, STEP, &[operand(&*ready, Access::Write)], &[1, 0, 0, 0], [LEN as u64, 1, 1]);
    stand.host.done(0..1);
    // Compiled, and everything before seen by both lanes.
    assert_eq!(read(&*ready)[1], 4);
    stand.launch(1, STEP, &[operand(&*other, Access::Write)], &[1, 0, 0, 0], [LEN as u64, 1, 1]);
    stand.host.done(1..2);
    let Some(gate) = Gate::close(&stand, &arena, 2) else { return };
    let before = submitted(&stand);

    // An upload for the next launch, beside the one that runs.
    let operands = [Operand { source: Some(block), ..operand(&*fresh, Access::Write) }];
    stand.launch(3, STEP, &operands, &[1, 0, 0, 0], [LEN as u64, 1, 1]);
    assert_eq!(since(&stand, before), [2, 1, 2], "the copy is shown what has ended, and the launch waits for the copy");
    let before = submitted(&stand);
    // More than are in flight at once: these stay where they are.
    for id in 4..200 {
        stand.launch(id, STEP, &[operand(&*other, Access::Write)], &[1, 0, 0, 0], [LEN as u64, 1, 1]);
    }
    assert_eq!(since(&stand, before), [0, 0, 0]);
    // And a download of what has been ready for long.
    std::thread::scope(|scope| {
        let download = scope.spawn(|| read(&*ready));
        while submitted(&stand)[1] == before[1] {
            std::thread::yield_now();
        }
        assert_eq!(since(&stand, before), [1, 1, 0], "it goes ahead of those, and waits for nothing");
        assert!(!stand.host.is_answered(2), "all the while");
        gate.open();
        assert_eq!(download.join().unwrap()[1], 4);
    });
    stand.host.done(2..200);
    assert_eq!((read(&*fresh)[2], read(&*other)[2]), (7, 2 * 197));
    stand.finish();
}

#[test]
fn copies_and_launches_are_done_as_if_in_order() {
    const CHUNKS: usize = 5;
    let arena = Arena::new(64 << 20);
    for way in [SPLIT, &[("vulkan.transfer", "emulated")], &[("vulkan.without", "mapping")]] {
        let Some(stand) = with_device(way) else { return };
        let mut random = 7u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        // One of them is longer than a block of staging, and one goes with its launch.
        let lens = [LEN, 20, 4096, (9 << 20) / 4, LEN];
        let mut expected: Vec<Vec<u32>> = lens.map(|len| vec![0; len]).into();
        let chunks: Vec<_> = lens.iter().map(|len| stand.spaces[0].allocate(*len as u64 * 4, true).unwrap()).collect();
        let (mut id, mut end) = (0, 0);
        for round in 0..400u32 {
            let (at, from) = (next(CHUNKS), next(CHUNKS));
            let len = if lens[at] > 1 << 20 { 64 } else { lens[at] as u64 };
            match next(8) {
                // Uploaded, and then something is done with it, or nothing.
                kind @ 0..=2 if (end as usize) + lens[at] * 4 < 60 << 20 && (lens[at] < 1 << 20 || kind == 0) => {
                    let numbers: Vec<u32> = (0..lens[at] as u32).map(|index| index ^ round).collect();
                    // Of the long ones some lie in an arena that the device cannot import.
                    let mut block = arena.write(end, &numbers);
                    end = (end + block.len_bytes).next_multiple_of(64);
                    block.arena_bytes -= u64::from(round % 2);
                    let operands = [Operand { source: Some(block), ..operand(&*chunks[at], Access::Write) }];
                    stand.launch(id, STEP, &operands, &3u32.to_le_bytes(), [if kind == 0 { 0 } else { len }, 1, 1]);
                    expected[at] = numbers;
                    if kind > 0 {
                        step(&mut expected[at], len as usize);
                    }
                }
                0..=4 => {
                    stand.launch(id, STEP, &[operand(&*chunks[at], Access::Write)], &3u32.to_le_bytes(), [len, 1, 1]);
                    step(&mut expected[at], len as usize);
                }
                5 if at != from && len.min(lens[from] as u64) == len => {
                    let operands = [operand(&*chunks[from], Access::Read), operand(&*chunks[at], Access::Write)];
                    stand.launch(id, NEXT, &operands, &[], [len, 1, 1]);
                    let reach = (len as usize).next_multiple_of(64).min(lens[at]);
                    for index in 0..reach {
                        expected[at][index] = expected[from][index.min(lens[from] - 1)].wrapping_add(1);
                    }
                }
                6 if lens[at] < 1 << 20 => {
                    assert!(read(&*chunks[at]) == expected[at], "{way:?}, round {round}: chunk {at}");
                    continue;
                }
                _ => continue,
            }
            id += 1;
        }
        stand.host.done(0..id);
        for (chunk, expected) in chunks.iter().zip(&expected) {
            assert!(read(&**chunk) == *expected);
        }
        let [_, transfers, waits] = submitted(&stand);
        assert_eq!(transfers > 0, way.contains(&("vulkan.transfer", "emulated")), "{way:?}");
        assert_eq!(waits > 0, transfers > 0);
        stand.finish();
    }
}

/// What `STEP` does with a factor of 3, in whole workgroups.
fn step(numbers: &mut [u32], len: usize) {
    let reach = len.next_multiple_of(64).min(numbers.len());
    for (at, x) in numbers[..reach].iter_mut().enumerate() {
        *x = x.wrapping_mul(3).wrapping_add(at as u32);
    }
}
