//! A counter that many threads count up without getting into each other's way.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Threads that have a counter to themselves. Later ones share the last, which is slower and counts as well.
const SHARDS: usize = 128;

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
        THREADS.fetch_add(1, Relaxed).min(SHARDS - 1)
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
        // Relaxed: the tally is a number and guards nothing. Whoever reads it knows from elsewhere that all have counted.
        SHARD.with(|&shard| {
            let counter = &self.0[shard].0;
            if shard < SHARDS - 1 {
                // Nobody else writes to it, so that no locked instruction is needed.
                counter.store(counter.load(Relaxed) + 1, Relaxed);
            } else {
                counter.fetch_add(1, Relaxed);
            }
        });
    }

    /// What has been counted, and begins anew. Nobody counts meanwhile.
    pub fn take(&self) -> u64 {
        self.0.iter().map(|shard| shard.0.swap(0, Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::{SHARDS, Tally};

    #[test]
    fn nothing_that_a_thread_counts_is_lost() {
        static TALLY: Tally = Tally::new();
        // More than have a counter of their own.
        let threads = SHARDS as u64 + 3;
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| (0..10_000).for_each(|_| TALLY.add_one()));
            }
        });
        assert_eq!((TALLY.take(), TALLY.take()), (threads * 10_000, 0));
    }
}
