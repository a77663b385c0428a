//! Results that do not fit into memory: they go to the disk, come back, and are what they were all along.
//!
//! The memory of buffers is the whole process's, so one test at a time looks at it.
//!
//! One file because one lock keeps them apart.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::sync::{Arc, Barrier, Mutex, MutexGuard, PoisonError};

use poniard::{
    Buffer, DeviceClass, Gather, GraphBuilder, Kernel, Mutable, RegionOptions, Runtime, Scope, Task, TaskOptions, Value, buffer, overwrite,
    read, write,
};
use poniard_tests::device::{FakeDevice, FakeDevices};
use poniard_tests::in_time;
use poniard_tests::stage::{BUMP, runtime_with, scale};
use proptest::prelude::*;
use tempfile::TempDir;

/// 1 MiB of `u64`s.
const MIB: usize = (1 << 20) / size_of::<u64>();

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A folder on a disk, and a runtime on two threads that spills there; above what is in use already, so many MiB more may be.
struct Short {
    runtime: Runtime,
    folder: TempDir,
}

fn short(more_mib: u64) -> Short {
    with(more_mib, 2, 0)
}

fn with(more_mib: u64, threads: usize, processes: usize) -> Short {
    packing(more_mib, threads, processes, false)
}

/// The same with results compressed, or not.
fn packing(more_mib: u64, threads: usize, processes: usize, packs: bool) -> Short {
    let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
    let limit = buffer::memory_usage().in_use_bytes + (more_mib << 20);
    let builder = Runtime::builder().threads(threads).processes(processes).memory_limit(limit).memory_spill(folder.path());
    let builder = builder.memory_spill_limit(u64::MAX).memory_spill_compress(packs);
    Short { runtime: builder.build().expect("a runtime"), folder }
}

impl Drop for Short {
    fn drop(&mut self) {
        assert_eq!(std::fs::read_dir(self.folder.path()).map(Iterator::count).ok(), Some(0), "nothing is left there");
    }
}

fn spilled() -> u64 {
    buffer::memory_usage().spilled_bytes
}

fn written() -> u64 {
    buffer::memory_usage().spill_written_bytes
}

/// Numbers that tell every place of every buffer from all others.
fn numbers(len: usize, seed: u64) -> Buffer<u64> {
    let mut numbers = buffer::zeroed(len);
    assert!(numbers.iter().all(|number| *number == 0), "new memory is zero");
    numbers.iter_mut().zip(0..).for_each(|(number, place)| *number = seed << 32 | place);
    numbers
}

/// Whether that is what they are.
fn are(numbers: &[u64], seed: u64) -> bool {
    numbers.iter().zip(0..).all(|(number, place)| *number == seed << 32 | place)
}

fn checked(numbers: &Buffer<u64>, seed: u64) -> u64 {
    assert!(are(numbers, seed), "buffer {seed}");
    numbers[1] & 0xffff_ffff
}

/// So many tasks, each of which makes 1 MiB.
fn make(runtime: &Runtime, count: u64) -> Vec<Task<Buffer<u64>>> {
    (0..count).map(|seed| runtime.spawn(numbers, (MIB, seed))).collect()
}

fn wait_for<T>(tasks: &[Task<T>]) {
    tasks.iter().for_each(|task| task.wait().expect("a result"));
}

#[test]
fn results_that_do_not_fit_go_to_the_disk_and_are_read_again_and_again() {
    in_time(|| {
        let _alone = alone();
        let short = short(5);
        let made = make(&short.runtime, 16);
        wait_for(&made);
        assert!(spilled() >= 10 << 20, "{:?}", buffer::memory_usage());
        for _ in 0..3 {
            let sums: Vec<_> = made.iter().zip(0..).map(|(made, seed)| short.runtime.spawn(checked, (made, seed))).collect();
            assert_eq!(sums.into_iter().map(|sum| sum.take().unwrap()).sum::<u64>(), 16);
            let usage = buffer::memory_usage();
            assert!(usage.in_use_bytes + usage.kept_bytes <= usage.limit_bytes, "{usage:?}");
        }
        let usage = buffer::memory_usage();
        assert!(usage.spill_read_bytes > 0 && usage.peak_bytes > 0, "{usage:?}");
        assert!(made.iter().zip(0..).all(|(made, seed)| are(&made.fetch().unwrap(), seed)), "on a thread that is no worker");
        drop(made);
        assert_eq!(spilled(), 0);
    });
}

#[test]
fn whoever_looks_at_a_result_sees_the_same_while_it_goes_and_comes() {
    in_time(|| {
        let _alone = alone();
        let short = short(3);
        let task = short.runtime.spawn(numbers, (5 * MIB / 4, 7));
        let looked_at: Value<Buffer<u64>> = task.fetch().unwrap();
        let is_over = AtomicBool::new(false);
        let before = buffer::memory_usage();
        std::thread::scope(|scope| {
            let slice: &[u64] = &looked_at;
            let looks = scope.spawn(|| {
                let mut rounds = 0;
                while !is_over.load(Acquire) {
                    assert!(are(slice, 7));
                    rounds += 1;
                }
                rounds
            });
            for _ in 0..30 {
                // With both of them there is no room for it; without them it comes back.
                let others = make(&short.runtime, 2);
                wait_for(&others);
                drop(others);
                for _ in 0..2 {
                    assert_eq!(short.runtime.spawn(checked, (&task, 7)).take().unwrap(), 1);
                }
            }
            is_over.store(true, Release);
            assert!(looks.join().expect("it is the same") > 0);
        });
        let after = buffer::memory_usage();
        assert!(after.spill_read_bytes - before.spill_read_bytes >= 30 * (5 << 18), "{after:?}");
        let sent = after.spill_written_bytes - before.spill_written_bytes;
        assert!(sent < 30 * (5 << 18), "what has not been changed is not written again: {sent}");
    });
}

#[test]
fn whoever_changes_a_result_that_is_on_the_disk_has_it_back() {
    in_time(|| {
        let _alone = alone();
        let short = short(5);
        let mut made = make(&short.runtime, 12);
        wait_for(&made);
        let before = spilled();
        assert!(before > 0);
        // Outside of tasks.
        let mut mine = made.remove(0).take().unwrap();
        mine[1] += 5;
        assert_eq!((mine[0], mine[1], mine[MIB - 1]), (0, 6, MIB as u64 - 1));
        drop(mine);
        // In a task that takes it, and in one that has it in place.
        let turned = |mut it: Buffer<u64>| {
            it.iter_mut().for_each(|number| *number = !*number);
            it
        };
        let turned: Vec<_> = made.drain(..5).map(|made| short.runtime.spawn(turned, (made,))).collect();
        let places: Vec<_> = made.drain(..).map(|made| Mutable::new(made.take().unwrap())).collect();
        for place in &places {
            short.runtime.spawn(|it: &mut Buffer<u64>| it[2] = 9, (write(place),)).detach();
        }
        let more = make(&short.runtime, 4);
        wait_for(&more);
        for (turned, seed) in turned.iter().zip(1..) {
            let turned = turned.fetch().unwrap();
            assert!(turned.iter().zip(0..).all(|(number, place)| *number == !(seed << 32 | place)), "{seed}");
        }
        for (place, seed) in places.iter().zip(6u64..) {
            short.runtime.spawn(|it: &mut Buffer<u64>| it[3] = 8, (overwrite(place),)).detach();
            let same = short.runtime.spawn(|it: &Buffer<u64>| (it[0], it[1], it[2], it[3], it[4]), (read(place),)).take().unwrap();
            assert_eq!(same, (seed << 32, seed << 32 | 1, 9, 8, seed << 32 | 4));
        }
        drop((turned, places, more));
        assert_eq!(spilled(), 0);
    });
}

fn far() -> TaskOptions {
    TaskOptions::new().scope(Scope::backend("process"))
}

fn sum_of(all: Gather<'_, Buffer<u64>>) -> u64 {
    all.iter().zip(0..).map(|(numbers, seed)| checked(numbers, seed)).sum()
}

fn with_one_more(mut numbers: Buffer<u64>) -> Buffer<u64> {
    numbers[0] += 1;
    numbers
}

#[test]
fn worker_processes_see_what_was_on_the_disk() {
    in_time(|| {
        let _alone = alone();
        let short = with(6, 1, 2);
        let made: Vec<_> = (0..12).map(|seed| short.runtime.task(numbers, (MIB, seed)).options(&far()).spawn()).collect();
        wait_for(&made);
        assert!(spilled() >= 5 << 20, "{:?}", buffer::memory_usage());
        for _ in 0..3 {
            let here: Vec<_> = made.iter().zip(0..).map(|(made, seed)| short.runtime.spawn(checked, (made, seed))).collect();
            let there = |(made, seed)| short.runtime.task(checked, (made, seed)).options(&far()).spawn();
            let there: Vec<_> = made.iter().zip(0..).map(there).collect();
            assert_eq!(here.into_iter().chain(there).map(|sum| sum.take().unwrap()).sum::<u64>(), 24);
        }
        // More than there may be at once is held as long as it takes.
        assert_eq!(short.runtime.task(sum_of, (&made,)).options(&far()).spawn().take().unwrap(), 12);
        let changed = short.runtime.task(with_one_more, (&made[3],)).options(&far()).spawn();
        assert_eq!(changed.fetch().unwrap()[0], (3 << 32) + 1);
        let place = Mutable::new(changed.take().unwrap());
        drop(make(&short.runtime, 8));
        let add = |it: &mut Buffer<u64>| it[0] += 1;
        short.runtime.task(add, (write(&place),)).options(&far()).spawn().detach();
        assert_eq!(place.take().unwrap()[0], (3 << 32) + 2);
        assert!(made.iter().zip(0..).all(|(made, seed)| are(&made.fetch().unwrap(), seed)));
        drop(made);
        assert_eq!(spilled(), 0);
    });
}

/// What has been written, and what compression has spared of it.
fn traffic() -> (u64, u64) {
    let usage = buffer::memory_usage();
    (usage.spill_written_bytes, usage.spill_saved_bytes)
}

/// Numbers that do not compress.
fn noise(len: usize, seed: u64) -> Buffer<u64> {
    let mut state = seed;
    buffer::from_fn(len, move |_| {
        state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0xd1b5_4a32_d192_ed03);
        (state ^ state >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    })
}

#[test]
fn results_that_nobody_has_seen_are_compressed_and_are_what_they_were() {
    in_time(|| {
        let _alone = alone();
        let short = packing(6, 2, 0, true);
        let Short { runtime, .. } = &short;
        let before = traffic();
        let mut made = make(runtime, 32);
        wait_for(&made);
        let (written, saved) = (traffic().0 - before.0, traffic().1 - before.1);
        assert!(spilled() >= 24 << 20 && written + saved == spilled(), "{:?}", buffer::memory_usage());
        assert!(written <= spilled() / 8 * 7, "{written} bytes written for {}", spilled());
        // In tasks that read one, several, that take one, and that change one in its place.
        let sums: Vec<_> = made[..4].iter().zip(0..).map(|(made, seed)| runtime.spawn(checked, (made, seed))).collect();
        assert_eq!(sums.into_iter().map(|sum| sum.take().unwrap()).sum::<u64>(), 4);
        assert_eq!(runtime.spawn(sum_of, (&made[..8],)).take().unwrap(), 8);
        let changed = runtime.spawn(with_one_more, (made.pop().unwrap(),)).take().unwrap();
        assert_eq!((changed[0], changed[MIB - 1]), ((31 << 32) + 1, 31 << 32 | (MIB as u64 - 1)));
        let place = Mutable::new(made.pop().unwrap().take().unwrap());
        runtime.spawn(|it: &mut Buffer<u64>| it[2] = 9, (write(&place),)).detach();
        // References that were got before: what they are to is read in its place from now on.
        let seen: Vec<_> = made[8..12].iter().map(|made| made.fetch().unwrap()).collect();
        let slices: Vec<&[u64]> = seen.iter().map(|seen| &seen[..]).collect();
        let more = make(runtime, 8);
        wait_for(&more);
        assert!(slices.iter().zip(8..).all(|(slice, seed)| are(slice, seed)));
        let place = place.take().unwrap();
        assert_eq!((place[1], place[2], place[3]), (30 << 32 | 1, 9, 30 << 32 | 3));
        assert!(made.iter().zip(0..).all(|(made, seed)| are(&made.fetch().unwrap(), seed)));
        // Those that nobody ever looks at.
        let unseen = make(runtime, 8);
        wait_for(&unseen);
        drop((seen, made, more, changed, place, unseen));
        assert_eq!(spilled(), 0);
        let mut fresh = buffer::zeroed::<u64>(MIB);
        assert!(fresh.iter().all(|number| *number == 0), "what was packed is zero when it is used again");
        fresh[0] = 1;
    });
}

#[test]
fn what_does_not_compress_and_what_was_seen_is_written_as_it_is() {
    in_time(|| {
        let _alone = alone();
        let short = packing(5, 2, 0, true);
        let before = traffic();
        let made: Vec<_> = (0..10).map(|seed| short.runtime.spawn(noise, (MIB, seed))).collect();
        wait_for(&made);
        assert!(made.iter().zip(0..).all(|(made, seed)| made.fetch().unwrap()[..] == noise(MIB, seed)[..]));
        drop(made);
        let seen = short.runtime.spawn(numbers, (MIB, 3)).fetch().unwrap();
        // Nodes of a graph, too: what looks at them asks for nothing.
        let mut graph = GraphBuilder::new();
        let nodes: Vec<_> = (0..10u64).map(|seed| graph.task(move || numbers(MIB, seed), ())).collect();
        let end = graph.task(sum_of, (&nodes,));
        let run = graph.build().expect("a graph").run(&short.runtime, ()).expect("it runs");
        assert_eq!(*run.fetch(end).unwrap(), 10);
        assert!(are(&seen, 3));
        let after = traffic();
        assert!(after.0 > before.0 && after.1 == before.1, "{before:?}, {after:?}");
    });
}

#[test]
fn worker_processes_see_what_was_compressed() {
    in_time(|| {
        let _alone = alone();
        let short = packing(6, 1, 2, true);
        let before = traffic();
        let made: Vec<_> = (0..12).map(|seed| short.runtime.task(numbers, (MIB, seed)).options(&far()).spawn()).collect();
        wait_for(&made);
        assert!(traffic().1 > before.1, "{:?}", buffer::memory_usage());
        for _ in 0..2 {
            let there = |(made, seed)| short.runtime.task(checked, (made, seed)).options(&far()).spawn();
            let there: Vec<_> = made.iter().zip(0..).map(there).collect();
            assert_eq!(there.into_iter().map(|sum| sum.take().unwrap()).sum::<u64>(), 12);
        }
        let changed = short.runtime.task(with_one_more, (&made[3],)).options(&far()).spawn();
        assert_eq!(changed.fetch().unwrap()[0], (3 << 32) + 1);
        assert!(made.iter().zip(0..).all(|(made, seed)| are(&made.fetch().unwrap(), seed)));
    });
}

#[test]
fn what_is_damaged_on_the_disk_fails_those_that_need_it_and_nothing_else() {
    in_time(|| {
        let _alone = alone();
        let short = packing(6, 2, 0, true);
        let made = make(&short.runtime, 16);
        wait_for(&made);
        // The file has no name, but this process has it open.
        let begin = format!("{}/", short.folder.path().display());
        let is_it = |path: &std::path::PathBuf| std::fs::read_link(path).is_ok_and(|to| to.display().to_string().starts_with(&begin));
        let open = std::fs::read_dir("/proc/self/fd").expect("the open files").map(|entry| entry.expect("one").path());
        let path = open.into_iter().find(is_it).expect("the spill file");
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("it can be opened again");
        let len = file.metadata().expect("its state").len();
        (0..len).step_by(4096).for_each(|at| std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 64], at).expect("written"));
        let sums: Vec<_> = made.iter().zip(0..).map(|(made, seed)| short.runtime.spawn(checked, (made, seed))).collect();
        let outcomes: Vec<_> = sums.into_iter().map(|sum| sum.take().map_err(|error| error.reason())).collect();
        let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(failed.len() >= 10 && failed.len() < 16, "{outcomes:?}");
        assert!(failed.iter().all(|reason| reason.contains("read back are not those that were written")), "{failed:?}");
        // The program gets the same, whatever it asks with.
        let number = outcomes.iter().position(Result::is_err).expect("one");
        assert!(made[number].fetch().is_err() && made[number].clone().take().is_err());
        // A file that was cut short.
        file.set_len(0).expect("cut");
        let error = short.runtime.spawn(sum_of, (&made,)).take().unwrap_err();
        assert!(error.reason().contains("cannot read back"), "{error}");
        drop(made);
        assert_eq!(spilled(), 0);
        let again = make(&short.runtime, 16);
        assert!(again.iter().zip(0..).all(|(made, seed)| are(&made.fetch().unwrap(), seed)));
    });
}

#[test]
fn devices_see_what_was_on_the_disk() {
    in_time(|| {
        let _alone = alone();
        for device in [FakeDevice::new("A device", 64 << 20), FakeDevice::new("Of the host", 1 << 20).importing()] {
            let short = short(5);
            // One that has pages of the host for good would keep those of the other tests in memory.
            let devices = FakeDevices::new([device.of_class(DeviceClass::Software)]);
            let runtime = runtime_with(&devices);
            let len = 256 << 10;
            let bump = || Kernel::wgsl("bump", BUMP).takes::<(&mut Buffer<f32>,), ()>();
            let made: Vec<_> = (0..10).map(|first| runtime.spawn(move || buffer::from_fn(len, |i| (first + i) as f32), ())).collect();
            wait_for(&made);
            assert!(spilled() >= 4 << 20, "{:?}", buffer::memory_usage());
            // Written where it is, one at a time.
            for (made, first) in made.iter().zip(0..).take(2) {
                let place = Mutable::new(made.fetch().unwrap().as_ref().clone());
                wait_for(&(0..5).map(|_| runtime.spawn(|| numbers(MIB, 1), ())).collect::<Vec<_>>());
                let _ = runtime.task(bump().over(len), (write(&place),)).scope(Scope::processor("fake-0")).spawn();
                let bumped = place.take().unwrap();
                assert!(bumped.iter().zip(first + 1..).all(|(value, place)| *value == place as f32), "{first}");
            }
            // What a device has had stays in memory, so it is given away.
            for (made, first) in made.into_iter().zip(0..) {
                let launch = runtime.task(scale().over(len), (made, 2.0)).scope(Scope::processor("fake-0"));
                let scaled = launch.spawn().take().unwrap();
                assert!(scaled.iter().zip(first..).all(|(value, place)| *value == 2.0 * place as f32), "{first}");
            }
            assert!(devices.devices[0].launched() >= 10);
            drop((runtime, short));
        }
    });
}

#[test]
fn what_devices_have_copies_of_goes_to_the_disk_when_nothing_else_is_left() {
    in_time(|| {
        let _alone = alone();
        for device in [FakeDevice::new("A device", 64 << 20), FakeDevice::new("Of the host", 1 << 20).importing()] {
            let short = short(8);
            let devices = FakeDevices::new([device.of_class(DeviceClass::Software)]);
            let runtime = runtime_with(&devices);
            let len = 256 << 10;
            let scaled = |it: &Task<Buffer<f32>>| runtime.task(scale().over(len), (it, 2.0)).scope(Scope::processor("fake-0")).spawn();
            let made: Vec<_> = (0..12).map(|first| runtime.spawn(move || buffer::from_fn(len, |i| (first + i) as f32), ())).collect();
            let are = |times: f32, made: &[Task<Buffer<f32>>]| {
                made.iter()
                    .zip(0..)
                    .all(|(made, first)| made.fetch().unwrap().iter().zip(first..).all(|(value, place)| *value == times * place as f32))
            };
            // More than memory has, twice: of the device's arguments, and of its results once the host has looked at them.
            let mut twice = Vec::new();
            for made in &made {
                twice.push(scaled(made));
                assert!(twice.last().is_some_and(|twice| twice.fetch().is_ok()));
            }
            assert!(spilled() >= 12 << 20, "{:?}", buffer::memory_usage());
            assert!(are(1.0, &made) && are(2.0, &twice));
            // Of the device once more, and changed on the host.
            for twice in &twice {
                assert!(scaled(twice).take().unwrap()[1] % 4.0 == 0.0);
            }
            let mut first = twice.remove(0).take().unwrap();
            first[0] = 7.0;
            let place = Mutable::new(first);
            wait_for(&make(&short.runtime, 6));
            let changed = runtime.task(Kernel::wgsl("bump", BUMP).takes::<(&mut Buffer<f32>,), ()>().over(len), (write(&place),));
            let _ = changed.scope(Scope::processor("fake-0")).spawn();
            wait_for(&make(&short.runtime, 6));
            let first = place.take().unwrap();
            assert_eq!((first[0], first[1]), (8.0, 3.0));
            drop((made, twice, first));
            assert_eq!(spilled(), 0);
            drop((runtime, short));
        }
    });
}

#[test]
fn results_of_a_compiled_graph_are_spilled_and_are_gone_when_the_run_has_ended() {
    in_time(|| {
        let _alone = alone();
        let short = short(5);
        let mut graph = GraphBuilder::new();
        let made: Vec<_> = (0..12u64).map(|seed| graph.task(move || numbers(MIB, seed), ())).collect();
        let end = graph.task(sum_of, (&made,));
        let graph = graph.build().expect("a graph");
        let before = written();
        for _ in 0..3 {
            let run = graph.run(&short.runtime, ()).expect("it runs");
            assert_eq!(*run.fetch(end).unwrap(), 12);
        }
        assert!(written() > before);
        // The last worker to leave a run drops what it has left.
        while spilled() > 0 {
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_checked_region_goes_on_while_its_values_are_spilled() {
    in_time(|| {
        let _alone = alone();
        let short = short(5);
        let places: Vec<_> = (0..8u64).map(|seed| Mutable::new(numbers(MIB, seed))).collect();
        let before = written();
        let ended = short.runtime.region_with(&RegionOptions::new().checked(true), |r| {
            for (place, seed) in (0..3).flat_map(|_| places.iter().zip(0..)) {
                let body = move |place: &mut Buffer<u64>| {
                    // It takes memory while all the other values are closed.
                    let more = numbers(MIB, 99);
                    assert!(are(&more, 99) && are(place, seed), "buffer {seed}");
                    place[0] = seed << 32;
                };
                r.spawn(body, (write(place),));
            }
        });
        assert_eq!(ended.err().map(|error| error.to_string()), None);
        assert!(written() > before);
        drop((places, short.runtime.report()));
        assert_eq!(spilled(), 0);
    });
}

#[test]
fn a_full_disk_is_an_error_of_the_task_that_needs_room_and_of_no_other() {
    in_time(|| {
        let _alone = alone();
        let Short { runtime, folder } = &short(5);
        let limited = Runtime::builder().threads(1).memory_spill_limit(2 << 20).build().expect("a runtime");
        let made = make(runtime, 8);
        let outcomes: Vec<_> = made.iter().map(|made| made.wait()).collect();
        let failed: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
        assert!(!failed.is_empty() && failed.len() <= 3, "{failed:?}");
        let expected = format!(
            "1048576 bytes more than the 2097152 in `{}` are above the limit of 2097152 (`memory.spill_limit`)",
            folder.path().display()
        );
        for error in failed {
            let reason = error.reason();
            assert!(reason.contains("failed to allocate 1048576 bytes: buffers have"), "{reason}");
            assert!(reason.contains(&expected), "{reason}");
        }
        // The others have what they made, and go on.
        for (made, seed) in made.iter().zip(0..).filter(|(made, _)| made.wait().is_ok()) {
            assert_eq!(limited.spawn(checked, (made, seed)).take().unwrap(), 1);
        }
        drop(made);
        assert_eq!(runtime.spawn(|| numbers(MIB, 1).len(), ()).take().unwrap(), MIB);
    });
}

#[test]
fn switched_off_it_is_the_limit_that_tells() {
    in_time(|| {
        let _alone = alone();
        let short = short(5);
        let off = Runtime::builder().threads(1).without_spill().build().expect("a runtime");
        let made = make(&off, 8);
        let failed = made.iter().filter_map(|made| made.wait().err()).collect::<Vec<_>>();
        assert_eq!(failed.len(), 3);
        assert!(failed[0].reason().contains("no more can go there: `memory.spill` is `off`"), "{}", failed[0].reason());
        drop(made);
        let much = short.runtime.report().memory.limit_bytes / 8 + MIB as u64;
        let error = buffer::try_zeroed::<u64>(much as usize).expect_err("too much by itself").to_string();
        assert!(error.contains("by itself it takes") && error.contains("bytes more than the limit of"), "{error}");
    });
}

#[test]
fn one_task_waits_for_the_memory_that_another_one_is_working_with() {
    in_time(|| {
        let _alone = alone();
        let short = short(10);
        let (tell, told) = std::sync::mpsc::channel();
        let first = short.runtime.spawn(
            move || {
                let mut both = (numbers(4 * MIB, 1), numbers(4 * MIB, 2));
                told.recv().expect("the other one has begun");
                both.0[0] = 3;
                assert!(both.0[1..].iter().zip(1..).all(|(number, place)| *number == 1 << 32 | place) && are(&both.1, 2));
            },
            (),
        );
        let second = short.runtime.spawn(
            move || {
                let one = numbers(MIB, 1);
                tell.send(()).expect("it waits");
                let two = numbers(4 * MIB, 2);
                assert!(are(&one, 1) && are(&two, 2));
            },
            (),
        );
        second.wait().unwrap();
        first.wait().unwrap();
        // Nobody is left to wait for.
        let alone = short.runtime.spawn(|| (numbers(8 * MIB, 1), numbers(4 * MIB, 1)).0.len(), ());
        let error = alone.wait().unwrap_err();
        assert!(error.reason().contains("no more can go there: all the rest is being worked with"), "{error}");
    });
}

#[test]
fn a_result_that_nobody_will_look_at_any_more_is_free_before_the_rest_has_run() {
    in_time(|| {
        let _alone = alone();
        let Short { runtime, .. } = &with(64, 1, 0);
        let before = buffer::memory_usage();
        let used = move || buffer::memory_usage().in_use_bytes - before.in_use_bytes;
        let made = runtime.spawn(numbers, (4 * MIB, 1));
        let sum = runtime.spawn(checked, (made, 1));
        let seen = runtime.spawn(move |_: &u64| used(), (sum,));
        assert_eq!(seen.take().unwrap(), 0, "its last reader has run");
        let mut graph = GraphBuilder::new();
        let made = graph.task(|| numbers(4 * MIB, 1), ());
        // Whoever only reads it leaves it to those that look at the run.
        let sum = graph.task(|it: Buffer<u64>| checked(&it, 1), (made.moved(),));
        let seen = graph.task(move |_: &u64| used(), (sum,));
        let run = graph.build().expect("a graph").run(runtime, ()).expect("it runs");
        assert_eq!(*run.fetch(seen).unwrap(), 0);
    });
}

/// Runs `body`, which spawns, while all workers are kept from doing anything.
fn all_at_once<R>(runtime: &Runtime, body: impl FnOnce() -> R) -> R {
    let (came, go) = (Arc::new(Barrier::new(3)), Arc::new(Barrier::new(3)));
    for _ in 0..2 {
        let (came, go) = (Arc::clone(&came), Arc::clone(&go));
        let stop = move || {
            came.wait();
            go.wait();
        };
        runtime.spawn(stop, ()).detach();
    }
    came.wait();
    let spawned = body();
    go.wait();
    spawned
}

fn both(one: &Buffer<u64>, two: &Buffer<u64>) -> u64 {
    checked(one, one[0] >> 32) + checked(two, two[0] >> 32)
}

#[test]
fn what_uses_results_goes_before_what_makes_more_of_them() {
    const COUNT: u64 = 64;
    // As many of them as two workers may have in their hands.
    const FEW_BYTES: u64 = 8 << 20;
    in_time(|| {
        let _alone = alone();
        let check_under = |policies: &[Option<&str>], name: &str, run: &dyn Fn(&Runtime) -> u64| {
            for policy in policies.iter().copied() {
                let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
                let before = buffer::memory_usage();
                let builder = Runtime::builder().threads(2).memory_limit(before.in_use_bytes + (16 << 20)).memory_spill(folder.path());
                let builder = policy.into_iter().fold(builder, |builder, policy| builder.policy(policy).models(None));
                let runtime = builder.memory_spill_limit(u64::MAX).build().expect("a runtime");
                assert_eq!(run(&runtime), COUNT, "{name}");
                drop(runtime);
                let more = written() - before.spill_written_bytes;
                assert!(more <= FEW_BYTES, "{name}, {policy:?}: {more} bytes went to the disk");
            }
        };
        let check = |name: &str, run: &dyn Fn(&Runtime) -> u64| check_under(&[None, Some("fifo"), Some("earliest-finish")], name, run);
        let total = |sums: Vec<Task<u64>>| sums.into_iter().map(|sum| sum.take().expect("a sum")).sum::<u64>();
        check("one after the other", &|runtime| {
            total(all_at_once(runtime, || {
                make(runtime, COUNT).into_iter().zip(0..).map(|(it, seed)| runtime.spawn(checked, (it, seed))).collect()
            }))
        });
        // Each pair is far apart: in the order in which they lie in the queue half of them would be there at a time.
        let far = |runtime: &Runtime| {
            let mut made = make(runtime, COUNT);
            let others = made.split_off(made.len() / 2);
            made.into_iter().zip(others).map(|pair| runtime.spawn(both, pair)).collect()
        };
        check("pairs", &|runtime| total(all_at_once(runtime, || far(runtime))));
        check("places", &|runtime| {
            let sums = all_at_once(runtime, || {
                let places: Vec<_> = (0..COUNT).map(|_| Mutable::new(buffer::zeroed::<u64>(0))).collect();
                for (place, seed) in places.iter().zip(0..) {
                    runtime.spawn(move |it: &mut Buffer<u64>| *it = numbers(MIB, seed), (overwrite(place),)).detach();
                }
                let (ones, others) = places.split_at(places.len() / 2);
                ones.iter().zip(others).map(|(one, other)| runtime.spawn(both, (read(one), read(other)))).collect()
            });
            total(sums)
        });
        // Where each worker has a queue of its own, one may come to its half of the pairs long before the other.
        check_under(&[None, Some("fifo")], "a graph", &|runtime| {
            let mut graph = GraphBuilder::new();
            let made: Vec<_> = (0..COUNT).map(|seed| graph.task(move || numbers(MIB, seed), ())).collect();
            let (ones, others) = made.split_at(made.len() / 2);
            let sum = |one: Buffer<u64>, other: Buffer<u64>| both(&one, &other);
            let sums: Vec<_> = ones.iter().zip(others).map(|(one, other)| graph.task(sum, (one.moved(), other.moved()))).collect();
            let run = graph.build().expect("a graph").run(runtime, ()).expect("it runs");
            sums.into_iter().map(|sum| *run.fetch(sum).expect("a sum")).sum()
        });
    });
}

/// Spawns itself until something has happened that is done by what was put aside for it.
fn until(happened: &Arc<AtomicBool>, handle: &poniard::Handle) {
    if !happened.load(Acquire) {
        let (happened, handle) = (Arc::clone(happened), handle.clone());
        handle.clone().spawn(move || until(&happened, &handle), ()).detach();
    }
}

#[test]
fn what_makes_more_does_not_wait_for_ever() {
    in_time(|| {
        let _alone = alone();
        let Short { runtime, .. } = &short(16);
        let kept = make(runtime, 12);
        wait_for(&kept);
        let happened = Arc::new(AtomicBool::new(false));
        let made = all_at_once(runtime, || {
            let happens = Arc::clone(&happened);
            let made = runtime.spawn(
                move || {
                    happens.store(true, Release);
                    numbers(MIB, 1)
                },
                (),
            );
            for _ in 0..2 {
                let (happened, handle) = (Arc::clone(&happened), runtime.handle().clone());
                runtime.spawn(move || until(&happened, &handle), ()).detach();
            }
            made
        });
        assert!(are(&made.fetch().unwrap(), 1));
        // Cancelled while it waits, or waited for inside a task.
        let (inside, cancelled) = all_at_once(runtime, || {
            let made = runtime.spawn(numbers, (MIB, 2));
            let inside = runtime.spawn(move || checked(&made.fetch().unwrap(), 2), ());
            (inside, make(runtime, 8))
        });
        assert_eq!(inside.take().unwrap(), 1);
        assert!(cancelled.iter().all(|task| task.cancel() || task.is_finished()));
        drop(cancelled);
        assert!(kept.iter().zip(0..).all(|(kept, seed)| are(&kept.fetch().unwrap(), seed)));
    });
}

/// Where the kernel says what a thread of this process does.
fn stat_of_this_thread() -> std::path::PathBuf {
    std::path::Path::new("/proc").join(std::fs::read_link("/proc/thread-self").expect("a thread has one")).join("stat")
}

#[test]
fn what_a_thread_outside_waits_for_goes_before_what_nobody_waits_for() {
    const COUNT: u64 = 40;
    in_time(|| {
        let _alone = alone();
        for awaited in [3, 21, COUNT - 1] {
            let Short { runtime, .. } = &short(16);
            let kept = make(runtime, 12);
            wait_for(&kept);
            let begun = Arc::new(Mutex::new(Vec::new()));
            let (made, waits) = all_at_once(runtime, || {
                let root = |seed| {
                    let begun = Arc::clone(&begun);
                    let root = move || {
                        begun.lock().unwrap().push(seed);
                        numbers(MIB, seed)
                    };
                    runtime.spawn(root, ())
                };
                let made: Vec<_> = (0..COUNT).map(root).collect();
                // By way of a task that needs it.
                let sum = runtime.spawn(checked, (&made[awaited as usize], awaited));
                let (tell, told) = std::sync::mpsc::channel();
                let waits = std::thread::spawn(move || {
                    tell.send(stat_of_this_thread()).expect("somebody is interested");
                    sum.take()
                });
                let stat = told.recv().expect("it has begun");
                while !std::fs::read_to_string(&stat).expect("it is there").contains(") S ") {
                    std::thread::yield_now();
                }
                (made, waits)
            });
            assert_eq!(waits.join().expect("no panic").unwrap(), 1);
            wait_for(&made);
            let begun = begun.lock().unwrap();
            let place = begun.iter().position(|seed| *seed == awaited).expect("it has run");
            assert!(begun.len() == COUNT as usize && place <= 4, "{awaited} of {begun:?}");
        }
    });
}

/// What a program does next.
#[derive(Clone, Debug)]
enum Step {
    Make { kib_64: usize },
    Add(usize, usize),
    Change(usize),
    Take(usize),
    Look(usize),
    Drop(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1usize..20).prop_map(|kib_64| Step::Make { kib_64 }),
        4 => (0usize..64, 0usize..64).prop_map(|(one, two)| Step::Add(one, two)),
        1 => (0usize..64).prop_map(Step::Change),
        1 => (0usize..64).prop_map(Step::Take),
        2 => (0usize..64).prop_map(Step::Look),
        2 => (0usize..64).prop_map(Step::Drop),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A buffer of which each place is a number and its place.
fn ramp(len: usize, first: u64) -> Buffer<u64> {
    let mut ramp = buffer::zeroed(len);
    assert!(ramp.iter().all(|number: &u64| *number == 0), "new memory is zero");
    ramp.iter_mut().zip(first..).for_each(|(place, number)| *place = number);
    ramp
}

/// The first of a ramp; whether it is one.
fn first(ramp: &Buffer<u64>) -> u64 {
    assert!(ramp.iter().zip(ramp[0]..).all(|(place, number)| *place == number), "a ramp from {}", ramp[0]);
    ramp[0]
}

fn added(one: &Buffer<u64>, two: &Buffer<u64>) -> Buffer<u64> {
    ramp(one.len().min(two.len()), first(one) + first(two))
}

fn raised(mut it: Buffer<u64>) -> Buffer<u64> {
    it.iter_mut().for_each(|number| *number += 1);
    it
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn programs_that_are_short_of_memory_come_to_what_others_do(steps in steps(), packs: bool) {
        in_time(move || {
            let _alone = alone();
            let short = packing(5, 2, 0, packs);
            let mut tasks: Vec<(Task<Buffer<u64>>, usize, u64)> = Vec::new();
            for (step, number) in steps.into_iter().zip(1u64..) {
                let at = |place: usize, tasks: &Vec<_>| (!tasks.is_empty()).then(|| place % tasks.len());
                match step {
                    Step::Make { kib_64 } => {
                        let len = kib_64 * (MIB / 16);
                        tasks.push((short.runtime.spawn(ramp, (len, number << 32)), len, number << 32));
                    }
                    Step::Add(one, two) => {
                        let (Some(one), Some(two)) = (at(one, &tasks), at(two, &tasks)) else { continue };
                        let (one, two) = (&tasks[one], &tasks[two]);
                        let sum = short.runtime.spawn(added, (&one.0, &two.0));
                        tasks.push((sum, one.1.min(two.1), one.2 + two.2));
                    }
                    Step::Change(place) => {
                        let Some(place) = at(place, &tasks) else { continue };
                        let (task, len, value) = tasks.swap_remove(place);
                        tasks.push((short.runtime.spawn(raised, (task,)), len, value + 1));
                    }
                    Step::Take(place) => {
                        let Some(place) = at(place, &tasks) else { continue };
                        let (task, len, value) = tasks.swap_remove(place);
                        let mut taken = task.take().expect("room");
                        taken[0] += 1;
                        assert_eq!((taken.len(), taken[0]), (len, value + 1));
                    }
                    Step::Look(place) => {
                        let Some(place) = at(place, &tasks) else { continue };
                        let (task, _, value) = &tasks[place];
                        assert_eq!(first(&task.fetch().expect("room")), *value);
                    }
                    Step::Drop(place) => {
                        let Some(place) = at(place, &tasks) else { continue };
                        drop(tasks.swap_remove(place));
                    }
                }
            }
            for (task, len, value) in &tasks {
                let ramp = task.fetch().expect("room");
                assert_eq!((ramp.len(), first(&ramp)), (*len, *value));
            }
            drop(tasks);
            drop(short.runtime.spawn(|| (), ()).take());
            assert_eq!(spilled(), 0);
        });
    }
}
