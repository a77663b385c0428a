//! A counter that many threads count up without getting into each other's way.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// More threads than this share counters, which is slower and counts as well.
const SHARDS: usize = 32;
/// Shorter waits are spun away: falling asleep and waking up takes longer.
const NAP_MIN: Duration = Duration::from_micros(20);

/// Counts what the bodies of tasks did. One counter for all threads would cost more than the tasks that are measured: its cache line would travel each time.
#[derive(Debug)]
pub struct Tally([Shard; SHARDS]);

/// One thread's counter, two cache lines wide because processors fetch lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct Shard(AtomicU64);

thread_local! {
    static SHARD: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Relaxed) % SHARDS
    };
}

impl Tally {
    /// A tally of nothing.
    #[expect(clippy::new_without_default, reason = "tallies are statics, and a default is not constant")]
    pub const fn new() -> Self {
        Self([const { Shard(AtomicU64::new(0)) }; SHARDS])
    }

    /// Counts one.
    #[inline]
    pub fn add_one(&self) {
        // Relaxed: the tally is a number and guards nothing.
        SHARD.with(|shard| self.0[*shard].0.fetch_add(1, Relaxed));
    }

    /// Begins anew. Nobody counts meanwhile.
    pub fn reset(&self) {
        for shard in &self.0 {
            shard.0.store(0, Relaxed);
        }
    }

    /// What has been counted.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|shard| shard.0.load(Relaxed)).sum()
    }

    /// Waits until `count` have been counted. Sleeps for half of the time that is left by what it has seen so far, again and again: so it finds the end
    /// within some microseconds and leaves the cores to the workers before.
    ///
    /// # Panics
    /// When more than that have been counted.
    pub fn wait_for(&self, count: u64) {
        // A kernel that refuses makes the naps some 50 us longer.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let start = Instant::now();
        loop {
            let sum = self.sum();
            if sum >= count {
                assert_eq!(sum, count, "something ran twice");
                return;
            }
            let left = start.elapsed().mul_f64((count - sum) as f64 / sum.max(1) as f64);
            // What has begun slowly may go on fast.
            let nap = (left / 2).min(Duration::from_millis(1));
            if nap >= NAP_MIN {
                thread::sleep(nap);
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::Tally;

    #[test]
    fn what_many_threads_count_is_waited_for_and_forgotten() {
        static TALLY: Tally = Tally::new();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..1_000).for_each(|_| TALLY.add_one()));
            }
            TALLY.wait_for(3_000);
        });
        TALLY.reset();
        assert_eq!(TALLY.sum(), 0);
    }

    #[test]
    #[should_panic(expected = "something ran twice")]
    fn more_than_was_waited_for_is_a_mistake() {
        let tally = Tally::new();
        tally.add_one();
        tally.add_one();
        tally.wait_for(1);
    }
}
