//! The memory of buffers: what is given back, what is refused, and what worker processes see of it.
//!
//! It is the whole process's, so one test at a time looks at it. Those with worker processes need Linux with `/proc`.

use std::process::id;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poniard::{AllocateError, Buffer, BuildErrorKind, FailureKind, Runtime, Scope, TaskOptions, buffer};
use poniard_tests::in_time;

/// 1 MiB of `u64`s.
const MIB: usize = (1 << 20) / size_of::<u64>();

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A runtime with one thread and one worker process. Above what is in use already, so many MiB more may be, and nothing goes to the disk.
fn runtime(more_mib: u64) -> Runtime {
    let limit = buffer::memory_usage().in_use_bytes + (more_mib << 20);
    Runtime::builder().threads(1).processes(1).memory_limit(limit).without_spill().build().expect("a runtime")
}

/// No limit that matters.
const MUCH: u64 = 1 << 30;

fn far() -> TaskOptions {
    TaskOptions::new().scope(Scope::backend("process"))
}

fn in_use() -> u64 {
    buffer::memory_usage().in_use_bytes
}

fn made(len: usize, value: u64) -> Buffer<u64> {
    let mut made = buffer::zeroed(len);
    assert!(made.iter().all(|value| *value == 0), "new memory is zero");
    made.fill(value);
    made
}

fn is_all(values: &Buffer<u64>, value: u64) -> (bool, u32) {
    (values.iter().all(|other| *other == value), id())
}

#[test]
fn processes_see_what_is_written_after_memory_was_given_back() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(MUCH);
        for value in 1..10 {
            let near = runtime.value(made(4 * MIB, value));
            let (good, place) = runtime.task(is_all, (&near, value)).options(&far()).spawn().take().unwrap();
            assert!(good && place != id());
            let there = runtime.task(made, (4 * MIB, value)).options(&far()).spawn();
            assert!(runtime.task(is_all, (&there, value)).options(&far()).spawn().take().unwrap().0);
            assert!(is_all(&there.fetch().unwrap(), value).0);
            drop((near, there));
            assert!(buffer::give_back() >= 8 << 20);
            assert_eq!(buffer::memory_usage().kept_bytes, 0);
        }
    });
}

#[test]
fn memory_that_nobody_uses_goes_back_by_itself() {
    in_time(|| {
        let _alone = alone();
        drop(made(8 * MIB, 7));
        assert!(buffer::memory_usage().kept_bytes >= 8 << 20);
        let before = buffer::memory_usage().given_back_bytes;
        while buffer::memory_usage().given_back_bytes < before + (8 << 20) {
            std::thread::yield_now();
        }
    });
}

/// Makes buffers and drops them.
fn waste(len: usize) -> u64 {
    (1..5).map(|value| made(len, value)[0]).sum()
}

#[test]
fn a_process_that_has_nothing_to_do_gives_back_what_it_keeps() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(MUCH);
        let before = in_use();
        assert_eq!(runtime.task(waste, (4 * MIB,)).options(&far()).spawn().take().unwrap(), 10);
        assert!(in_use() >= before + (4 << 20), "it keeps a buffer");
        while in_use() > before {
            std::thread::yield_now();
        }
    });
}

#[test]
fn processes_keep_nothing_while_memory_is_short() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(64);
        let before = in_use();
        assert_eq!(runtime.task(waste, (4 * MIB,)).options(&far()).spawn().take().unwrap(), 10);
        assert!(in_use() > before, "it keeps a buffer");
        let much = made(56 * MIB, 1);
        // The first call finds memory short, so with its reply all comes back.
        assert_eq!(runtime.task(waste, (MIB,)).options(&far()).spawn().take().unwrap(), 10);
        assert_eq!(in_use(), before + (56 << 20));
        assert_eq!(runtime.task(waste, (4 * MIB,)).options(&far()).spawn().take().unwrap(), 10);
        assert_eq!(in_use(), before + (56 << 20));
        drop(much);
    });
}

/// As `waste`, of many sizes, and large ones.
fn waste_much(len: usize) -> u64 {
    (1..10).map(|value| made(len / value, value as u64)[0]).sum()
}

#[test]
fn a_body_reuses_what_it_dropped_and_gives_back_other_sizes_where_there_is_a_limit() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(64);
        let before = in_use();
        for _ in 0..3 {
            assert_eq!(runtime.task(waste, (40 * MIB,)).options(&far()).spawn().take().unwrap(), 10);
            assert_eq!(runtime.task(waste_much, (40 * MIB,)).options(&far()).spawn().take().unwrap(), 45);
        }
        assert!(in_use() <= before + (32 << 20), "more than it may keep");
    });
}

fn try_made(len: usize) -> Result<u64, AllocateError> {
    Ok(buffer::try_zeroed::<u64>(len)?.len() as u64)
}

fn total(values: Arc<Buffer<u64>>) -> u64 {
    values.iter().sum()
}

fn changed(mut values: Buffer<u64>) -> Buffer<u64> {
    values.fill(3);
    values
}

#[test]
fn what_is_above_the_limit_is_refused_here_and_on_processes_and_allowed_after_a_drop() {
    in_time(|| {
        let _alone = alone();
        let runtime = runtime(64);
        let memory = runtime.report().memory;
        assert_eq!(memory.limit_bytes, memory.in_use_bytes + (64 << 20));
        let near = runtime.value(made(40 * MIB, 1));
        let says = |text: String| {
            let expected = format!("buffers have {} bytes in use, and the limit is {} (`memory.limit`)", in_use(), memory.limit_bytes);
            assert!(text.contains(&format!("failed to allocate 41943040 bytes: {expected}")), "{text}");
        };
        says(buffer::try_zeroed::<u64>(40 * MIB).expect_err("too much").to_string());
        let error = runtime.task(try_made, (40 * MIB,)).options(&far()).spawn().take().unwrap_err();
        assert!(matches!(error.kind(), FailureKind::Returned(_)), "{error}");
        says(error.reason());
        let error = runtime.task(made, (40 * MIB, 1)).options(&far()).spawn().take().unwrap_err();
        assert!(matches!(error.kind(), FailureKind::Panicked(_)), "{error}");
        says(error.reason());
        // Both get copies, the first one while its arguments are read.
        let shared = runtime.value(Arc::new(made(20 * MIB, 1)));
        let error = runtime.task(total, (&shared,)).options(&far()).spawn().take().unwrap_err();
        assert!(matches!(error.kind(), FailureKind::Processor { .. }), "{error}");
        assert!(
            error
                .reason()
                .contains("gave nothing that can be used: its arguments cannot be read: failed to allocate 20971520 bytes: buffers have"),
            "{error}"
        );
        let error = runtime.task(changed, (&near,)).options(&far()).spawn().take().unwrap_err();
        assert!(matches!(error.kind(), FailureKind::Panicked(_)), "{error}");
        assert!(error.reason().contains("failed to allocate 41943040 bytes: the arena has no room, or as much"), "{error}");
        drop(shared);
        // The process is none the worse for it.
        assert!(runtime.task(is_all, (&near, 1)).options(&far()).spawn().take().unwrap().0);
        drop(near);
        assert_eq!(runtime.task(try_made, (40 * MIB,)).options(&far()).spawn().take().unwrap(), 40 * MIB as u64);
        assert_eq!(buffer::zeroed::<u64>(40 * MIB).len(), 40 * MIB);
    });
}

#[test]
fn the_limit_is_a_setting_and_others_of_its_kind_are_refused() {
    in_time(|| {
        let _alone = alone();
        let build = |name: &str, value: &str| Runtime::builder().threads(1).setting(name, value).build();
        let runtime = build("memory.limit", "3GiB").expect("a runtime");
        assert_eq!(runtime.report().memory.limit_bytes, 3 << 30);
        for (name, value, expected) in [
            (
                "memory.limit",
                "much",
                "setting `memory.limit` is `much`: a number of bytes is expected, as in `500000000`, `512MiB` or `2GiB`",
            ),
            (
                "memory.limits",
                "1",
                "there is no setting `memory.limits`; there are `memory.limit`, `memory.spill`, `memory.spill_limit`, `memory.spill_compress`",
            ),
            ("memory.spill_compress", "lz4", "setting `memory.spill_compress` is `lz4`: provided string was not `true` or `false`"),
            ("memory.spill", "/dev/shm", "setting `memory.spill` is `/dev/shm`: `/dev/shm` is memory itself (tmpfs)"),
        ] {
            let error = build(name, value).expect_err("a bad setting");
            assert_eq!((error.kind(), error.to_string().as_str()), (BuildErrorKind::Setting, expected));
        }
        assert_eq!(buffer::memory_usage().limit_bytes, 3 << 30);
    });
}
