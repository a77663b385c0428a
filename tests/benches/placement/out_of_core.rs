//! A reduction over four times the memory that buffers may have: `outofcore`, `outofcore-peak`.
//!
//! Every block is added to one from the other half, so all have to be somewhere before the first two are added, as in the sample of that name.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use poniard::{Buffer, Runtime, Task, buffer};
use poniard_bench::{Effort, System};

/// Elements of a block, 4 MiB.
const LEN: usize = 512 << 10;
const BLOCK_BYTES: u64 = 8 * LEN as u64;
/// Threads that compute, and that write and read in the traffic alone.
const THREADS: usize = 2;

/// How many blocks there are, and how many of them the limit allows.
#[derive(Clone, Copy)]
struct Size {
    count: u64,
    fit_count: u64,
}

impl Size {
    fn of(effort: Effort) -> Self {
        let fit_count = if effort == Effort::Quick { 16 } else { 64 };
        Self { count: 4 * fit_count, fit_count }
    }

    fn limit_bytes(self) -> u64 {
        self.fit_count * BLOCK_BYTES
    }
}

/// A folder on a disk: where the runtime would spill, unless `$TMPDIR` is memory.
fn folder() -> PathBuf {
    "/var/tmp".into()
}

fn block(index: u64) -> Buffer<u64> {
    let mut block = buffer::zeroed(LEN);
    block.iter_mut().zip(index..).for_each(|(value, number)| *value = number);
    block
}

fn add(mut sum: Buffer<u64>, other: &Buffer<u64>) -> Buffer<u64> {
    sum.iter_mut().zip(other).for_each(|(total, value)| *total += value);
    sum
}

/// Bytes that went to the disk and came back.
#[derive(Clone, Copy, Default)]
struct Traffic {
    written: u64,
    read: u64,
}

fn reduce(runtime: &Runtime, size: Size) -> (Duration, Traffic) {
    let before = buffer::memory_usage();
    let begin = Instant::now();
    let mut blocks: Vec<Task<Buffer<u64>>> = (0..size.count).map(|index| runtime.spawn(block, (index,))).collect();
    blocks.iter().for_each(|block| block.wait().expect("a block"));
    while blocks.len() > 1 {
        let others = blocks.split_off(blocks.len() / 2);
        blocks = blocks.into_iter().zip(others).map(|pair| runtime.spawn(add, pair)).collect();
    }
    let sum = blocks.remove(0).take().expect("a sum");
    let time = begin.elapsed();
    let first = size.count * (size.count - 1) / 2;
    assert!(sum.iter().zip(0..).all(|(value, place)| *value == first + size.count * place));
    let after = buffer::memory_usage();
    let traffic =
        Traffic { written: after.spill_written_bytes - before.spill_written_bytes, read: after.spill_read_bytes - before.spill_read_bytes };
    (time, traffic)
}

fn limited(size: Size) -> Runtime {
    Runtime::builder().threads(THREADS).memory_limit(size.limit_bytes()).memory_spill(folder()).build().expect("a runtime")
}

/// Writes and reads so much, in blocks, past the page cache, with as many threads. As long as the runtime has its file anew, this has it, too.
fn traffic_alone(traffic: Traffic) -> Duration {
    let open = |index: usize| -> File {
        let path = folder().join(format!("poniard-bench-{}-{index}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create_new(true).custom_flags(libc::O_DIRECT).open(&path).expect("a file");
        fs::remove_file(path).expect("our own file");
        file
    };
    let begin = Instant::now();
    thread::scope(|scope| {
        for index in 0..THREADS {
            scope.spawn(move || {
                let file = open(index);
                // Blocks of arenas begin at whole pages.
                let mut block = buffer::zeroed::<u8>(BLOCK_BYTES as usize);
                block.fill(index as u8 + 1);
                let blocks = |bytes: u64| bytes / BLOCK_BYTES / THREADS as u64;
                for place in 0..blocks(traffic.written) {
                    file.write_all_at(&block, place * BLOCK_BYTES).expect("room on the disk");
                }
                for place in 0..blocks(traffic.read) {
                    let place = place % blocks(traffic.written);
                    file.read_exact_at(&mut block, place * BLOCK_BYTES).expect("what was written");
                }
            });
        }
    });
    begin.elapsed()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(crate) fn time(effort: Effort) -> Vec<System<'static>> {
    let size = Size::of(effort);
    // What it comes to differs a little from run to run.
    let traffic = reduce(&limited(size), size).1;
    vec![
        System::telling("limit", move |note| {
            *note = format!("the disk alone: {:.0} MiB written, {:.0} MiB read", mib(traffic.written), mib(traffic.read));
            ms(traffic_alone(traffic))
        }),
        System::telling("poniard", move |note| {
            let (time, traffic) = reduce(&limited(size), size);
            *note = format!("{:.0} MiB written, {:.0} MiB read", mib(traffic.written), mib(traffic.read));
            ms(time)
        }),
        System::new("poniard-in-memory", "the same without a limit that matters", move || {
            let runtime = Runtime::builder().threads(THREADS).memory_limit(8 * size.limit_bytes()).build().expect("a runtime");
            ms(reduce(&runtime, size).0)
        }),
    ]
}

/// What this process has of memory that is not in the page cache, in bytes.
fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").expect("/proc");
    let kib = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the name of a sum");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    (kib("Pss_Anon:") + kib("Pss_Shmem:")) << 10
}

pub(crate) fn peak(effort: Effort) -> Vec<System<'static>> {
    let size = Size::of(effort);
    let pss = move || {
        buffer::give_back();
        let before = resident_bytes();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut peak = 0;
                while !is_over.load(Relaxed) {
                    peak = resident_bytes().max(peak);
                    thread::sleep(Duration::from_millis(2));
                }
                peak
            });
            reduce(&limited(size), size);
            is_over.store(true, Relaxed);
            mib(watch.join().expect("it looks").saturating_sub(before))
        })
    };
    let own = move || {
        // What other cases have left would be the peak.
        buffer::give_back();
        reduce(&limited(size), size);
        mib(buffer::memory_usage().peak_bytes)
    };
    vec![
        System::new("limit", "what buffers may have", move || mib(size.limit_bytes())),
        System::new("poniard", "by its own count", own),
        System::new("poniard-pss", "PSS of this process without the page cache, above what it had before", pss),
    ]
}
