//! Work of a known length: iterations of which each needs the one before.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Iterations that are timed at once: about half a millisecond.
const CALIBRATION: u64 = 200_000;

/// Keeps the processor busy for so many iterations, in registers. Xorshift: no compiler knows a shorter way, and the latency of each step leaves room for
/// the core's other thread, so two that spin do not slow each other down.
#[inline(never)]
pub fn spin(iterations: u64) {
    let mut x = black_box(0x9E37_79B9_7F4A_7C15_u64);
    for _ in 0..iterations {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    black_box(x);
}

/// How long an iteration takes now, in ns, while so many threads do the same: the shortest of some tries, as a thread that is interrupted only gets slower.
pub fn iteration_ns(threads: usize) -> f64 {
    let together = || {
        let begin = Barrier::new(threads);
        let alone = || {
            begin.wait();
            let start = Instant::now();
            spin(CALIBRATION);
            start.elapsed()
        };
        let times: Duration = thread::scope(|scope| {
            let spinning: Vec<_> = (0..threads).map(|_| scope.spawn(alone)).collect();
            // `spin` cannot panic.
            spinning.into_iter().filter_map(|thread| thread.join().ok()).sum()
        });
        times.as_nanos() as f64 / threads as f64 / CALIBRATION as f64
    };
    (0..5).map(|_| together()).fold(f64::INFINITY, f64::min)
}
