//! Launches and copies on whatever device there is, through the contract alone. Validation looks on.

use std::time::{Duration, Instant};

use crate::stand::{Arena, NEXT, STEP, bytes, kernel, open, operand, read, with_device};
use poniard_interface::{Access, FaultKind, KernelCode, Launch, Operand, Source, TaskDescriptor, TaskId};

/// The ways in which bytes get to a device and back, and in which kernels reach them.
const WAYS: [&[(&str, &str)]; 8] = [
    &[],
    &[("vulkan.without", "mapping")],
    &[("vulkan.without", "push-descriptors")],
    &[("vulkan.without", "mapping,push-descriptors"), ("vulkan.import", "false")],
    &[("vulkan.binding_limit", "16")],
    &[("vulkan.without", "push-descriptors"), ("vulkan.binding_limit", "1000")],
    &[("vulkan.transfer", "emulated")],
    SPLIT,
];

/// Two lanes, and the host reaches no memory of the device, so that whatever goes to it or comes from it is a copy in the lane for that.
pub(crate) const SPLIT: &[(&str, &str)] = &[("vulkan.without", "mapping"), ("vulkan.transfer", "emulated")];

#[test]
fn one_launch_reads_what_was_uploaded() {
    for way in WAYS {
        let Some(stand) = with_device(way) else { return };
        let numbers: Vec<u32> = (0..1000).collect();
        let arena = Arena::new(64 << 10);
        let block = arena.write(256, &numbers);
        let (x, y) = (stand.spaces[0].allocate(4000, false).unwrap(), stand.spaces[0].allocate(4000, true).unwrap());
        assert_eq!(read(&*y), vec![0; 1000]);
        let operands = [Operand { source: Some(block), ..operand(&*x, Access::Read) }, operand(&*y, Access::Overwrite)];
        stand.launch(1, NEXT, &operands, &[], [1000, 1, 1]);
        stand.host.done(1..2);
        assert_eq!(read(&*y), (1..=1000).collect::<Vec<_>>());
        assert_eq!(read(&*x), numbers);
        stand.finish();
    }
}

#[test]
fn a_chain_is_done_in_order_and_strangers_need_no_barrier() {
    for way in WAYS {
        let Some(stand) = with_device(way) else { return };
        let chunk = stand.chunk(&[1; 300]);
        let before = stand.counted("barriers");
        let mut expected: Vec<u32> = vec![1; 300];
        for id in 0..100u64 {
            let factor = 3 + id as u32;
            stand.launch(id, STEP, &[operand(&*chunk, Access::Write)], &factor.to_le_bytes(), [300, 1, 1]);
            for (at, x) in expected.iter_mut().enumerate() {
                *x = x.wrapping_mul(factor).wrapping_add(at as u32);
            }
        }
        stand.host.done(0..100);
        assert_eq!(read(&*chunk), expected);
        assert!(stand.counted("barriers") >= before + 99, "each launch waits for the one before");

        let strangers: Vec<_> = (0..64).map(|_| stand.chunk(&[1; 64])).collect();
        let before = (stand.counted("barriers"), stand.counted("submissions"));
        let operands: Vec<_> = strangers.iter().map(|chunk| [operand(&**chunk, Access::Write)]).collect();
        let launches: Vec<_> = operands
            .iter()
            .map(|operands| Launch { kernel: kernel(STEP), operands, scalars: &[2, 0, 0, 0], invocations: [64, 1, 1], deadline: None })
            .collect();
        let tasks: Vec<_> =
            launches.iter().zip(200..).map(|(launch, id)| TaskDescriptor::new(TaskId(id), "a task").with_launch(launch)).collect();
        stand.processors[0].submit(&tasks).unwrap();
        stand.host.done(200..264);
        let after = (stand.counted("barriers"), stand.counted("submissions"));
        assert!(after.0 - before.0 <= 1, "{before:?} {after:?}: at most the one after the uploads");
        assert!(after.1 - before.1 <= 2, "{before:?} {after:?}: a batch of 16 and the rest");
        for chunk in &strangers {
            assert_eq!(read(&**chunk), (0..64).map(|at| 2 + at).collect::<Vec<_>>());
        }
        stand.finish();
    }
}

#[test]
fn long_copies_go_in_pieces() {
    for way in [WAYS[0], WAYS[3], SPLIT] {
        let Some(stand) = with_device(way) else { return };
        // More than one block of staging, and no whole number of anything.
        let len = (17 << 20) / 4 + 3;
        let numbers: Vec<u32> = (0..len as u32).map(|at| at.wrapping_mul(2_654_435_761)).collect();
        let chunk = stand.chunk(&numbers);
        assert!(read(&*chunk) == numbers);
        let mut part = vec![0u8; 1001];
        chunk.read(17, &mut part).unwrap();
        assert!(part == bytes(&numbers)[17..1018]);
        assert!(chunk.read(len as u64 * 4 - 1000, &mut part).is_err(), "past the end");

        // As operands: one that no page of the host can be taken for, since it is in no arena that can be imported, and several at once.
        let arena = Arena::new(32 << 20);
        let block = arena.write(4, &numbers);
        let outside = poniard_interface::HostBlock { arena_bytes: (32 << 20) - 1, ..block };
        let (a, b) = (stand.chunk(&vec![0; len]), stand.chunk(&vec![0; len]));
        for (id, (from, to)) in [(&a, &b), (&b, &a), (&a, &b)].into_iter().enumerate() {
            let operands = [Operand { source: Some(outside), ..operand(&**from, Access::Read) }, operand(&**to, Access::Write)];
            stand.launch(id as u64, NEXT, &operands, &[], [1000, 1, 1]);
        }
        stand.host.done(0..3);
        let (a, b) = (read(&*a), read(&*b));
        assert!(a == numbers, "uploaded last");
        assert!(b[..1000].iter().zip(&numbers).all(|(b, a)| *b == a.wrapping_add(1)) && b[1024..] == numbers[1024..]);

        // From the host's pages, where the driver takes them.
        let c = stand.chunk(&vec![0; len]);
        stand.launch(3, STEP, &[operand(&*c, Access::Write)], &[1, 0, 0, 0], [1000, 1, 1]);
        let operands = [Operand { source: Some(block), ..operand(&*c, Access::Write) }];
        stand.launch(4, STEP, &operands, &[1, 0, 0, 0], [0, 1, 1]);
        stand.host.done(3..5);
        assert!(read(&*c) == numbers);
        stand.finish();
    }
}

#[test]
fn an_imported_block_is_the_chunk() {
    let Some(stand) = with_device(&[]) else { return };
    let arena = Arena::new(1 << 20);
    let (one, two) = (arena.write(4096, &[5; 100]), arena.write(8192 + 64, &[0; 100]));
    let Ok(x) = Arena::import(&*stand.spaces[0], one) else {
        eprintln!("skipped: the device imports no memory of the host");
        return;
    };
    let y = Arena::import(&*stand.spaces[0], two).unwrap();
    stand.launch(0, NEXT, &[operand(&*x, Access::Read), operand(&*y, Access::Overwrite)], &[], [100, 1, 1]);
    stand.launch(1, NEXT, &[operand(&*y, Access::Read), operand(&*x, Access::Overwrite)], &[], [50, 1, 1]);
    stand.host.done(0..2);
    assert_eq!(arena.read(8192 + 64, 100), [6; 100]);
    let expected = [[7; 64].as_slice(), &[5; 36]].concat();
    assert_eq!(arena.read(4096, 100), expected, "whole workgroups");
    assert_eq!(read(&*x), expected);

    let before = stand.counted("barriers");
    let long = Arena::import(&*stand.spaces[0], arena.block(0, 1 << 20)).unwrap();
    stand.launch(2, STEP, &[operand(&*long, Access::Write)], &[1, 0, 0, 0], [2048, 1, 1]);
    stand.launch(3, NEXT, &[operand(&*x, Access::Read), operand(&*y, Access::Overwrite)], &[], [100, 1, 1]);
    stand.host.done(2..4);
    assert_eq!(arena.read(4096, 1), [7 + 1024]);
    assert_eq!(stand.counted("barriers") - before, 2, "the tracker knows chunks that overlap");
    let outside = poniard_interface::HostBlock { address: one.address - 8192, ..one };
    let error = Arena::import(&*stand.spaces[0], outside).err().unwrap();
    assert!(error.reason.contains("outside its arena"), "{error}");
    let odd = Arena::import(&*stand.spaces[0], arena.block(4, 8)).err();
    assert!(odd.is_none_or(|error| error.reason.contains("binds multiples of")));
    stand.finish();
}

#[test]
fn grids_of_many_groups_are_launched_in_parts() {
    const PLACE: &str = "
        @group(0) @binding(0) var<storage, read_write> x: array<u32>;
        var<immediate> factor: u32;
        @compute @workgroup_size(1) fn main(@builtin(global_invocation_id) at: vec3<u32>, @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) all: vec3<u32>) {
            x[at.x + at.y * all.x] += factor + group.x + at.y * 3u;
        }";
    let Some(stand) = with_device(&[]) else { return };
    let chunk = stand.spaces[0].allocate(2 * 70_000 * 4, true).unwrap();
    stand.launch(0, PLACE, &[operand(&*chunk, Access::Write)], &[1, 0, 0, 0], [70_000, 2, 1]);
    stand.host.done(0..1);
    let expected: Vec<u32> = (0..2).flat_map(|y| (0..70_000).map(move |x| 1 + x + y * 3)).collect();
    assert!(read(&*chunk) == expected);
    stand.launch(1, PLACE, &[operand(&*chunk, Access::Write)], &[1, 0, 0, 0], [(1 << 32) + 1, 1, 1]);
    let fault = stand.host.outcomes(1..2).remove(0).unwrap_err();
    assert!(fault.kind == FaultKind::Refused && fault.reason.contains("more than 2^32 invocations along an axis"), "{fault:?}");
    stand.finish();
}

#[test]
fn empty_chunks_and_indexes_out_of_bounds_do_no_harm() {
    const OUTSIDE: &str = "
        @group(0) @binding(0) var<storage, read_write> x: array<u32>;
        @group(0) @binding(1) var<storage, read_write> y: array<u32>;
        @compute @workgroup_size(1) fn main() {
            y[0] = arrayLength(&x);
            y[1] = x[1000000];
            x[1000000] = 7u;
        }";
    for way in WAYS {
        let Some(stand) = with_device(way) else { return };
        let (empty, y) = (stand.spaces[0].allocate(0, true).unwrap(), stand.chunk(&[9; 2]));
        assert_eq!(empty.info().len_bytes, 0);
        stand.launch(0, OUTSIDE, &[operand(&*empty, Access::Write), operand(&*y, Access::Overwrite)], &[], [1, 1, 1]);
        stand.host.done(0..1);
        assert_eq!(read(&*y)[0], 0, "it has no elements");
        stand.launch(1, STEP, &[operand(&*empty, Access::Write)], &[1, 0, 0, 0], [0, 1, 1]);
        stand.host.done(1..2);
        stand.finish();
    }
}

#[test]
fn what_cannot_be_done_is_refused_and_the_rest_goes_on() {
    for way in [WAYS[0], SPLIT] {
        let Some(stand) = with_device(way) else { return };
        let chunk = stand.chunk(&[1; 64]);
        let write = operand(&*chunk, Access::Write);
        let arena = Arena::new(4096);
        let cases: [(&str, &[Operand], &[u8], &str); 6] = [
            (STEP, &[], &[0; 4], "takes 1 buffers, and is given 0"),
            (STEP, &[write], &[], "takes 4 bytes of scalars, and is given 0"),
            (STEP, &[Operand { chunk: 1 << 60, ..write }], &[0; 4], "buffer `x`: the device has no chunk"),
            (STEP, &[Operand { source: Some(arena.block(0, 512)), ..write }], &[0; 4], "512 bytes do not fit into a chunk of 256"),
            ("no kernel", &[write], &[], "kernel `k`"),
            ("@compute @workgroup_size(2048) fn main() {}", &[], &[], "a workgroup of 2048 x 1 x 1 has 2048 invocations"),
        ];
        for (id, (source, operands, scalars, part)) in cases.into_iter().enumerate() {
            let id = 2 * id as u64;
            stand.launch(id, source, operands, scalars, [64, 1, 1]);
            stand.launch(id + 1, STEP, &[write], &[1, 0, 0, 0], [64, 1, 1]);
            let outcomes = stand.host.outcomes(id..id + 2);
            let fault = outcomes[0].clone().unwrap_err();
            assert!(fault.kind == FaultKind::Refused && fault.reason.contains(part), "{fault:?} does not say {part}");
            assert_eq!(outcomes[1], Ok(()));
        }
        stand.processors[0].submit(&[TaskDescriptor::new(TaskId(100), "a task")]).unwrap();
        assert_eq!(stand.host.outcomes(100..101)[0].clone().unwrap_err().kind, FaultKind::Refused);
        let error = stand.spaces[0].allocate(1 << 60, false).err().unwrap().to_string();
        let most = stand.described("largest chunk");
        let most = most.trim_end_matches(" MiB").parse::<u64>().unwrap() << 20;
        let expected = "failed to allocate 1152921504606846976 bytes: the device has no pieces of more than ";
        let named = error.strip_prefix(expected).and_then(|rest| rest.trim_end_matches(" bytes").parse::<u64>().ok());
        assert!(named.is_some_and(|named| (most..most + (1 << 20)).contains(&named)), "{error}");
        stand.finish();
    }
}

#[test]
fn chunks_may_go_while_they_are_used_and_outlive_the_processor() {
    for way in WAYS {
        let Some(stand) = with_device(way) else { return };
        let kept = stand.chunk(&[0; 64]);
        for id in 0..200 {
            let chunk = stand.chunk(&[1; 64]);
            stand.launch(id, NEXT, &[operand(&*chunk, Access::Read), operand(&*kept, Access::Overwrite)], &[], [64, 1, 1]);
        }
        stand.host.done(0..200);
        // In memory that others had before.
        drop((0..32).map(|_| stand.chunk(&[u32::MAX; 256])).collect::<Vec<_>>());
        stand.launch(200, NEXT, &[operand(&*kept, Access::Read), operand(&*kept, Access::Overwrite)], &[], [0, 1, 1]);
        stand.host.done(200..201);
        let zeros: Vec<_> = (0..32).map(|_| stand.spaces[0].allocate(1024, true).unwrap()).collect();
        for zero in zeros {
            assert_eq!(read(&*zero), [0; 256]);
        }
        stand.finish();
        assert_eq!(read(&*kept), [2; 64]);
    }
}

#[test]
fn many_threads_submit_at_once() {
    for way in [WAYS[0], SPLIT] {
        let Some(stand) = with_device(way) else { return };
        let chunks: Vec<_> = (0..4).map(|_| stand.chunk(&[0; 64])).collect();
        std::thread::scope(|scope| {
            for (thread, chunk) in chunks.iter().enumerate() {
                let stand = &stand;
                scope.spawn(move || {
                    for id in 0..100 {
                        stand.launch(thread as u64 * 100 + id, STEP, &[operand(&**chunk, Access::Write)], &[1, 0, 0, 0], [64, 1, 1]);
                        if id % 10 == 9 {
                            assert_eq!(read(&**chunk)[1], id as u32 + 1);
                        }
                    }
                });
            }
        });
        stand.host.done(0..400);
        stand.finish();
    }
}

#[test]
fn a_device_describes_itself() {
    let Some(stand) = with_device(&[]) else { return };
    let info = stand.processors[0].info();
    assert_eq!((info.name.as_str(), info.kind.as_str()), ("vulkan-0", "vulkan"));
    assert_eq!(info.space, stand.spaces[0].info().id);
    let device = info.device.unwrap();
    assert_eq!((stand.described("device"), stand.described("uuid")), (device.name.clone(), device.uuid.clone()));
    assert_eq!(device.uuid.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    let lines = stand.processors[0].describe(true);
    for name in ["driver", "heaps", "queues", "features", "launches", "launch", "host to device", "device to host", "copy on the device"] {
        assert!(lines.iter().any(|(known, value)| known == name && !value.is_empty()), "no line `{name}` in {lines:?}");
    }
    let chosen = open(&[("vulkan.devices", &device.uuid)]).unwrap();
    assert!(!chosen.processors.is_empty());
    assert!(open(&[("vulkan.devices", &device.name)]).is_ok());
    let error = open(&[("vulkan.devices", "0,nobody")]).err().unwrap();
    assert!(error.reason.contains("names `nobody`, and there is: 0: "), "{error}");
    assert!(open(&[("vulkan.devices", "none")]).unwrap().processors.is_empty());
    let small = open(&[("vulkan.memory", "2097152"), ("vulkan.import", "false")]).unwrap().spaces.remove(0).info();
    assert_eq!((small.capacity_bytes, small.imports), (Some(2 << 20), false));
    stand.finish();
}

#[test]
fn compiled_kernels_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    for (round, (compiled, found)) in [(1, 0), (0, 1), (1, 0)].into_iter().enumerate() {
        let Some(stand) = with_device(&[("vulkan.cache", path)]) else { return };
        let chunk = stand.chunk(&[1; 64]);
        stand.launch(0, STEP, &[operand(&*chunk, Access::Write)], &[1, 0, 0, 0], [64, 1, 1]);
        stand.launch(1, STEP, &[operand(&*chunk, Access::Write)], &[1, 0, 0, 0], [64, 1, 1]);
        stand.host.done(0..2);
        assert_eq!((stand.counted("kernels compiled"), stand.counted("kernels from the cache")), (compiled, found), "round {round}");
        stand.finish();
        // What the second round leaves behind is damaged.
        let files: Vec<_> = std::fs::read_dir(path).unwrap().map(|file| file.unwrap().path()).collect();
        assert!(files.len() >= 2, "one of ours and one of the driver's: {files:?}");
        if round == 1 {
            for file in files {
                std::fs::write(file, "nonsense").unwrap();
            }
        }
    }
}

#[test]
fn what_the_device_can_compute_with_is_enabled() {
    // Each adds to the first word, or to what begins with it, what the test expects.
    const F64: &str = "
        @group(0) @binding(0) var<storage, read_write> x: array<u32>;
        @compute @workgroup_size(1) fn main() { let y = sqrt(f64(x[0] + 48u)); x[0] = u32(y * 2.5lf); }";
    const I64: &str = "
        @group(0) @binding(0) var<storage, read_write> x: array<u32>;
        @compute @workgroup_size(1) fn main() { let y = u64(x[0]) * 5000000000lu; x[0] = u32(y >> 32u) + 16u; }";
    const F16: &str = "enable f16;
        @group(0) @binding(0) var<storage, read_write> x: array<f16>;
        @compute @workgroup_size(1) fn main() { x[0] = x[0] * 0.0h + 1.5h; x[1] = 0.0h; }";
    const F32_ATOMICS: &str = "
        @group(0) @binding(0) var<storage, read_write> x: array<atomic<f32>>;
        @compute @workgroup_size(64) fn main() { atomicAdd(&x[1], 0.25); atomicStore(&x[0], 1.0); }";
    const I64_ATOMICS: &str = "
        @group(0) @binding(0) var<storage, read_write> x: array<atomic<u64>>;
        @compute @workgroup_size(64) fn main() { atomicMax(&x[0], 17lu); }";
    const SUBGROUPS: &str = "
        @group(0) @binding(0) var<storage, read_write> x: array<u32>;
        var<workgroup> sums: array<atomic<u32>, 2>;
        @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32, @builtin(subgroup_invocation_id) lane: u32) {
            let sum = subgroupAdd(1u);
            if lane == 0u { atomicAdd(&sums[1], sum); }
            workgroupBarrier();
            if i == 0u { x[0] = atomicLoad(&sums[1]) + atomicLoad(&sums[0]); }
        }";
    let Some(stand) = with_device(&[]) else { return };
    let cases = [
        ("f64", F64, 17),
        ("i64", I64, 17),
        ("16-bit storage", F16, 0x3e00),
        ("f32 atomics", F32_ATOMICS, 1.0f32.to_bits()),
        ("i64 atomics", I64_ATOMICS, 17),
        ("subgroup arithmetic", SUBGROUPS, 64),
    ];
    for (id, (feature, source, expected)) in cases.into_iter().enumerate() {
        let chunk = stand.chunk(&[1, 0]);
        stand.launch(id as u64, source, &[operand(&*chunk, Access::Write)], &[], [1, 1, 1]);
        let outcome = stand.host.outcomes(id as u64..id as u64 + 1).remove(0);
        if stand.described("features").split(", ").any(|known| known == feature) {
            assert_eq!(outcome, Ok(()), "{feature}");
            assert_eq!(read(&*chunk)[0], expected, "{feature}");
        } else {
            let fault = outcome.unwrap_err();
            assert!(fault.kind == FaultKind::Refused && fault.reason.contains("the device has no"), "{fault:?}");
        }
    }
    stand.finish();
}

#[test]
fn compiled_code_is_taken_as_it_is() {
    let Some(stand) = with_device(&[]) else { return };
    let words = poniard_backend_vulkan::shader::compile(Source::Wgsl(NEXT), &Default::default()).unwrap();
    let (x, y) = (stand.chunk(&[4; 100]), stand.chunk(&[0; 100]));
    let operands = [operand(&*x, Access::Read), operand(&*y, Access::Overwrite)];
    for (id, invocations, outcome) in [(0, 100, Ok(())), (1, 65_536 * 64, Err("launched as a whole"))] {
        let kernel = KernelCode { identity: [7, 7], name: "words", source: Source::SpirV(&words) };
        let launch = Launch { kernel, operands: &operands, scalars: &[], invocations: [invocations, 1, 1], deadline: None };
        stand.processors[0].submit(&[TaskDescriptor::new(TaskId(id), "a task").with_launch(&launch)]).unwrap();
        match (stand.host.outcomes(id..id + 1).remove(0), outcome) {
            (Ok(()), Ok(())) => assert_eq!(read(&*y), [5; 100]),
            (Err(fault), Err(part)) => assert!(fault.kind == FaultKind::Refused && fault.reason.contains(part), "{fault:?}"),
            (found, wanted) => panic!("{found:?} is not {wanted:?}"),
        }
    }
    stand.finish();
}

#[test]
fn a_thread_that_waits_attends_to_the_device() {
    for way in [WAYS[0], SPLIT] {
        let Some(stand) = with_device(way) else { return };
        // Before the chunk is written: the copy to the device may be under way for a while.
        assert!(!stand.processors[0].attend(Duration::MAX), "nothing is under way");
        let chunk = stand.chunk(&[1; 64]);
        let launch = |id| stand.launch(id, STEP, &[operand(&*chunk, Access::Write)], &[2, 0, 0, 0], [64, 1, 1]);
        // Long enough for the queue's thread to rely on it.
        for id in 0..1000 {
            launch(id);
            while !stand.host.is_answered(id) {
                stand.processors[0].attend(Duration::from_millis(1));
            }
        }
        // And now it is left alone with them.
        for id in 1000..1003 {
            launch(id);
            stand.host.done(id..id + 1);
        }
        assert_eq!(read(&*chunk), (0..64u32).map(|at| (0..1003).fold(1u32, |x, _| x.wrapping_mul(2).wrapping_add(at))).collect::<Vec<_>>());
        stand.finish();
    }
}

#[test]
fn what_is_reached_by_its_address_has_to_fit_as_well() {
    let Some(stand) = with_device(&[("vulkan.binding_limit", "16")]) else { return };
    let device = stand.described("device");
    let chunks: Vec<_> = (0..24).map(|number| stand.chunk(&[number; 8])).collect();
    let operands: Vec<_> = chunks.iter().map(|chunk| operand(&**chunk, Access::Write)).collect();
    let each = |count: usize, what: &dyn Fn(usize) -> String| (0..count).map(what).collect::<String>();
    let adds_one = |count| {
        format!(
            "{}@compute @workgroup_size(1) fn main() {{ {} }}",
            each(count, &|at| format!("@group(0) @binding({at}) var<storage, read_write> b{at}: array<u32>;\n")),
            each(count, &|at| format!("b{at}[7] += 1u;\n")),
        )
    };
    let many = adds_one(24);
    stand.launch(1, &many, &operands, &[], [1, 1, 1]);
    let outcome = stand.host.outcomes(1..2).remove(0);
    match stand.described("scalars").trim_end_matches(" bytes").parse::<u32>().unwrap() {
        most if most < 288 => {
            let fault = outcome.unwrap_err();
            let expected = format!(
                "kernel `k`: its scalars are 0 bytes, and `{device}` takes at most {} with the addresses of 24 buffers that are longer than a binding, 288 bytes in all",
                most.min(256)
            );
            assert_eq!((fault.kind, fault.reason), (FaultKind::Refused, expected));
        }
        _ => outcome.unwrap(),
    }
    // As many as there is always room for.
    let ten = adds_one(10);
    stand.launch(2, &ten, &operands[..10], &[], [1, 1, 1]);
    stand.host.done(2..3);
    assert!((2..10).all(|number| read(&*chunks[number]) == [[number as u32; 7].as_slice(), &[number as u32 + 1]].concat()));
    // Nobody but the kernel's own checks looks after these, and of an array of known length they know nothing.
    let sized = "
        @group(0) @binding(0) var<storage, read_write> x: array<u32, 9>;
        @compute @workgroup_size(1) fn main() { x[8] = 1; }";
    stand.launch(3, sized, &operands[..1], &[], [1, 1, 1]);
    let fault = stand.host.outcomes(3..4).remove(0).unwrap_err();
    assert_eq!(fault.reason, "kernel `k`: buffer `x`: it has 32 bytes, and the kernel takes 36 at least");
    stand.finish();
}

#[test]
fn a_device_tells_how_long_copies_for_launches_took() {
    // By the host; through staging in the launch's lane; and in a lane of their own.
    for way in [WAYS[0], &[("vulkan.without", "mapping")], SPLIT] {
        let Some(stand) = with_device(way) else { return };
        if way != WAYS[0] && !stand.described("features").split(", ").any(|feature| feature == "timestamps") {
            return eprintln!("skipped: the device has no timestamps");
        }
        let arena = Arena::new(64 << 10);
        let block = arena.write(0, &[5; 1000]);
        let chunk = stand.chunk(&[1; 1000]);
        let write = operand(&*chunk, Access::Write);
        let upload = Operand { source: Some(block), ..write };
        let times_ns = |ids| stand.host.completions(ids).iter().map(|completion| completion.upload_ns).collect::<Vec<_>>();

        let begin = Instant::now();
        (0..16).for_each(|id| stand.launch(id, STEP, &[if id == 3 { write } else { upload }], &[1, 0, 0, 0], [1000, 1, 1]));
        let first_ns = times_ns(0..16);
        let all_ns = begin.elapsed().as_nanos() as u64;
        assert!((0..16).all(|id| first_ns[id].is_some() == (id != 3)), "nothing is copied for one: {first_ns:?}");
        let sum_ns = first_ns.iter().flatten().sum::<u64>();
        assert!(sum_ns <= all_ns + all_ns / 100, "{sum_ns} ns in {all_ns} ns: {first_ns:?}");
        (16..116).for_each(|id| stand.launch(id, STEP, &[upload], &[1, 0, 0, 0], [1000, 1, 1]));
        assert_eq!(times_ns(16..116).iter().flatten().count(), 4, "the sixteenth, and one of 31");
        assert_eq!(read(&*chunk)[..3], [5, 6, 7]);
        // One that is refused is copied to as well, and tells nothing.
        stand.launch(116, STEP, &[upload], &[], [1000, 1, 1]);
        let completion = stand.host.completions(116..117).remove(0);
        assert!(completion.outcome.is_err() && completion.upload_ns.is_none());
        stand.finish();
    }
}

#[test]
fn a_device_tells_how_long_launches_took() {
    /// More workgroups than a device takes at once: two parts.
    const LARGE: u64 = 64 * 70_000;
    for way in [WAYS[0], WAYS[3], SPLIT] {
        let Some(stand) = with_device(way) else { return };
        let features = stand.described("features");
        if !features.split(", ").any(|feature| feature == "timestamps") {
            return eprintln!("skipped: the device has no timestamps");
        }
        let arena = Arena::new(64 << 10);
        let block = arena.write(0, &[5; 1000]);
        let (x, y) = (stand.chunk(&[1; 1000]), stand.chunk(&[1; 1000]));
        let (read_x, write_y) = (operand(&*x, Access::Read), operand(&*y, Access::Write));
        let times_ns = |ids| stand.host.completions(ids).iter().map(|completion| completion.busy_ns).collect::<Vec<_>>();

        let begin = Instant::now();
        for id in (0..16).step_by(2) {
            stand.launch(id, NEXT, &[Operand { source: Some(block), ..read_x }, write_y], &[], [1000, 1, 1]);
            stand.launch(id + 1, STEP, &[write_y], &[1, 0, 0, 0], [1000, 1, 1]);
        }
        stand.launch(16, STEP, &[write_y], &[1, 0, 0, 0], [LARGE, 1, 1]);
        let first_ns = times_ns(0..17);
        let all_ns = begin.elapsed().as_nanos() as u64;
        assert!(first_ns.iter().all(|time_ns| time_ns.is_some_and(|time_ns| time_ns > 0)), "{first_ns:?}");
        // They lie one behind the other, whatever the batches. Two clocks do not agree exactly.
        let sum_ns = first_ns.iter().flatten().sum::<u64>();
        assert!(sum_ns <= all_ns + all_ns / 100, "{sum_ns} ns in {all_ns} ns: {first_ns:?}");

        // Later each is a batch of its own, and few are measured; but of another size they are new again.
        for id in 17..200 {
            stand.launch(id, STEP, &[write_y], &[1, 0, 0, 0], [1000, 1, 1]);
            stand.host.done(id..id + 1);
        }
        let measured = times_ns(40..200).iter().flatten().count();
        assert!((1..10).contains(&measured), "{measured} of 160");
        stand.launch(200, STEP, &[write_y], &[1, 0, 0, 0], [64, 1, 1]);
        assert!(times_ns(200..201)[0].is_some());

        stand.launch(201, STEP, &[write_y], &[], [1000, 1, 1]);
        stand.launch(202, STEP, &[Operand { source: Some(block), ..write_y }], &[], [1000, 1, 1]);
        stand.launch(203, STEP, &[write_y], &[1, 0, 0, 0], [0, 1, 1]);
        let completions = stand.host.completions(201..204);
        assert_eq!(completions.iter().map(|completion| completion.outcome.is_ok()).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(completions[2].busy_ns, None, "nothing was launched");
        stand.finish();
    }
}
