//! Who sleeps, who looks for work, and who is woken (README, "Sleeping").

use std::sync::PoisonError;

use crossbeam_utils::CachePadded;

use super::{fence, waiter};
use crate::planted::{self, Bug};
use crate::sync::atomic::AtomicU64;
use crate::sync::atomic::Ordering::{Relaxed, SeqCst};
use crate::sync::{Mutex, MutexGuard, Unparker};

/// What a worker does that finds nothing to do, set by [`RuntimeBuilder::idle_policy`](crate::RuntimeBuilder::idle_policy).
///
/// To wake a thread that sleeps takes 5 to 30 microseconds, to hand something to one that looks for it a tenth of one. A sleeping thread costs nothing, one that looks
/// takes a processor from whoever else could use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum IdlePolicy {
    /// Look for about as long as a wake-up takes, then sleep: never much worse than the better of the two. The default.
    #[default]
    Latency,
    /// Sleep soon: for machines whose processors others want, and programs whose tasks come seldom.
    Quiet,
}

impl IdlePolicy {
    /// How long a worker looks for work.
    pub(crate) fn search_ns(self) -> u64 {
        match self {
            Self::Latency => 20_000,
            Self::Quiet => 0,
        }
    }
}

/// One worker that searches, in `Sleep::counts`.
const SEARCHING: u64 = 1 << 32;
/// One worker that sleeps, in `Sleep::counts`.
const SLEEPING: u64 = 1;

/// The event count of a runtime's workers. A push with nobody asleep costs one load.
#[derive(Debug, Default)]
pub(crate) struct Sleep {
    /// Number of searching workers in the upper half, of sleeping ones in the lower half.
    counts: CachePadded<AtomicU64>,
    /// The sleeping workers: their slots, and what wakes the threads that hold them. Its length is the lower half of `counts`.
    sleepers: Mutex<Vec<(usize, Unparker)>>,
}

impl Sleep {
    fn lock(&self) -> MutexGuard<'_, Vec<(usize, Unparker)>> {
        // The list is changed by single operations that do not panic in between.
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker begins to look for work elsewhere. Ends with `found` or `sleep`.
    pub(crate) fn search(&self) {
        self.counts.fetch_add(SEARCHING, SeqCst);
    }

    /// A searching worker has found something. If it was the last one that searched, another one is woken to search on: pushes relied on this one.
    pub(crate) fn found(&self, more: impl Fn() -> bool) {
        let before = self.counts.fetch_sub(SEARCHING, SeqCst);
        if before >> 32 == 1 && before as u32 > 0 && !planted::is(Bug::SearchEndsWithTheFirst) {
            fence::heavy();
            if more() {
                self.wake_one();
            }
        }
    }

    /// A slot's queues will not be looked at for a while, although pushes may have relied on its holder, who searched. Somebody else looks instead.
    pub(crate) fn stop_looking(&self, work: impl Fn() -> bool) {
        fence::heavy();
        if work() {
            self.notify();
        }
    }

    /// After a push: wakes a worker when some sleep and none searches.
    #[inline]
    pub(crate) fn notify(&self) {
        // Pairs with `heavy` in `sleep` and `found`: either this load sees the sleeper, or its last look sees the push.
        fence::light();
        let counts = self.counts.load(Relaxed);
        if counts as u32 > 0 && counts >> 32 == 0 && !planted::is(Bug::LostWakeUp) {
            self.wake_one();
        }
    }

    /// After a push to where only its worker looks: whether anybody could use what was pushed.
    #[inline]
    pub(crate) fn is_anybody_idle(&self) -> bool {
        // Pairs with `heavy` in `sleep` and `found`, as in `notify`.
        fence::light();
        self.counts.load(Relaxed) != 0
    }

    /// Number of workers that have nothing to do, about now.
    pub(crate) fn idle_count(&self) -> u32 {
        let counts = self.counts.load(Relaxed);
        (counts >> 32) as u32 + counts as u32
    }

    /// Number of workers that search, about now.
    pub(crate) fn searcher_count(&self) -> u32 {
        (self.counts.load(Relaxed) >> 32) as u32
    }

    #[cold]
    fn wake_one(&self) {
        let woken = {
            let mut sleepers = self.lock();
            let Some((_, unparker)) = sleepers.pop() else { return };
            // It searches from now on, so that the pushes that follow do not wake more.
            self.counts.fetch_add(SEARCHING - SLEEPING, SeqCst);
            unparker
        };
        woken.unpark();
    }

    /// After a push that only some workers may run: wakes the worker of a slot that will do, if one sleeps, whoever else searches. Whether one did.
    pub(crate) fn wake_where(&self, will_do: impl Fn(usize) -> bool) -> bool {
        // Pairs with `heavy` in `sleep`, as in `notify`.
        fence::light();
        if self.counts.load(Relaxed) as u32 == 0 {
            return false;
        }
        let unparker = self.remove(will_do);
        if let Some(unparker) = &unparker {
            unparker.unpark();
        }
        unparker.is_some()
    }

    /// After a push that one of the workers is to take, nobody knows which: wakes all that sleep.
    pub(crate) fn wake_all_sleepers(&self) {
        // Pairs with `heavy` in `sleep`, as in `notify`.
        fence::light();
        if self.counts.load(Relaxed) as u32 > 0 {
            self.wake_all();
        }
    }

    /// Wakes all.
    pub(crate) fn wake_all(&self) {
        fence::heavy();
        let woken = {
            let mut sleepers = self.lock();
            let count = sleepers.len() as u64;
            self.counts.fetch_add(count * (SEARCHING - SLEEPING), SeqCst);
            std::mem::take(&mut *sleepers)
        };
        for (_, unparker) in woken {
            unparker.unpark();
        }
    }

    /// The slots of those that sleep, by rising number.
    pub(crate) fn sleepers(&self) -> Vec<usize> {
        let mut slots: Vec<usize> = self.lock().iter().map(|(slot, _)| *slot).collect();
        slots.sort_unstable();
        slots
    }

    /// Number of workers that sleep.
    #[cfg(test)]
    pub(crate) fn sleeper_count(&self) -> usize {
        self.counts.load(SeqCst) as u32 as usize
    }

    /// Takes the worker of a slot that will do off the list; from then on it searches.
    fn remove(&self, will_do: impl Fn(usize) -> bool) -> Option<Unparker> {
        let mut sleepers = self.lock();
        let position = sleepers.iter().rposition(|(slot, _)| will_do(*slot))?;
        self.counts.fetch_add(SEARCHING - SLEEPING, SeqCst);
        Some(sleepers.swap_remove(position).1)
    }

    /// A searching worker sleeps until it is woken or `reason` holds; it then searches again. `reason` is looked at before sleeping and after each wake-up.
    pub(crate) fn sleep(&self, slot: usize, reason: impl Fn() -> bool) {
        {
            let mut sleepers = self.lock();
            sleepers.push((slot, waiter::unparker()));
            self.counts.fetch_add(SLEEPING.wrapping_sub(SEARCHING), SeqCst);
        }
        fence::heavy();
        loop {
            if reason() {
                // Whoever took this worker off the list has counted it as searching already.
                self.remove(|sleeper| sleeper == slot);
                return;
            }
            waiter::park();
            let listed = self.lock().iter().any(|(sleeper, _)| *sleeper == slot);
            if !listed {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Parker;

    #[test]
    fn a_push_wakes_one_sleeper_and_none_while_one_searches() {
        let sleep = Sleep::default();
        let parker = Parker::new();
        for slot in 0..2 {
            sleep.search();
            sleep.lock().push((slot, parker.unparker()));
            sleep.counts.fetch_add(SLEEPING.wrapping_sub(SEARCHING), SeqCst);
        }
        sleep.notify();
        assert_eq!(sleep.lock().len(), 1);
        // The one that was woken searches now.
        sleep.notify();
        assert_eq!(sleep.lock().len(), 1);
        // It finds work and there is more: it wakes the other.
        sleep.found(|| true);
        assert_eq!(sleep.lock().len(), 0);
        sleep.found(|| true);
        assert_eq!(sleep.counts.load(SeqCst), 0);
    }

    #[test]
    fn a_push_for_some_workers_wakes_one_of_them_whoever_searches() {
        let sleep = Sleep::default();
        let parker = Parker::new();
        assert!(!sleep.wake_where(|_| true));
        for slot in 0..3 {
            sleep.search();
            sleep.lock().push((slot, parker.unparker()));
            sleep.counts.fetch_add(SLEEPING.wrapping_sub(SEARCHING), SeqCst);
        }
        sleep.search();
        assert!(sleep.wake_where(|slot| slot == 1));
        assert_eq!(sleep.lock().iter().map(|(slot, _)| *slot).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(sleep.counts.load(SeqCst), 2 * SEARCHING + 2 * SLEEPING);
        assert!(!sleep.wake_where(|slot| slot == 1));
        assert_eq!(sleep.sleeper_count(), 2);
    }

    #[test]
    fn whoever_stops_looking_wakes_another_if_pushes_relied_on_it() {
        let sleep = Sleep::default();
        let parker = Parker::new();
        sleep.search();
        sleep.lock().push((0, parker.unparker()));
        sleep.counts.fetch_add(SLEEPING.wrapping_sub(SEARCHING), SeqCst);
        sleep.search();
        // This push relies on the one that searches.
        sleep.notify();
        assert_eq!(sleep.lock().len(), 1);
        sleep.found(|| false);
        sleep.stop_looking(|| false);
        assert_eq!(sleep.lock().len(), 1);
        sleep.stop_looking(|| true);
        assert_eq!(sleep.lock().len(), 0);
    }

    #[test]
    fn a_reason_that_holds_keeps_a_worker_awake() {
        let sleep = Sleep::default();
        sleep.search();
        sleep.sleep(0, || true);
        assert_eq!(sleep.counts.load(SeqCst), SEARCHING);
        assert!(sleep.lock().is_empty());
    }
}
