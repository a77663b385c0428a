//! Queues of tasks that only some of the workers may run (README, "Domains").

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};

use crossbeam_deque::Injector;
use crossbeam_utils::CachePadded;

use super::entry::Entry;
use super::main_loop::stolen;
use super::sleep::Sleep;
use crate::options::Priority;
use crate::scope::ProcessorSet;

/// Domains from which on those that no task has any more are looked for.
const SWEEP_MIN: usize = 32;

/// A set of processors that tasks have as their run scope, and the queues of those that wait for its workers.
#[derive(Debug)]
pub(crate) struct Domain {
    set: ProcessorSet,
    /// How many of the processors are workers.
    worker_count: usize,
    /// Whether all workers are in it.
    all_workers: bool,
    /// One for each priority, most urgent first; unused where no worker is in it, or all are.
    queues: [Injector<Entry>; Priority::COUNT],
}

impl Domain {
    pub(crate) fn contains(&self, processor: usize) -> bool {
        self.set.contains(processor)
    }

    /// Those whose slots are dormant included.
    pub(crate) fn worker_count(&self) -> usize {
        self.worker_count
    }

    /// All that wait in it, from all priorities.
    pub(crate) fn drain(&self) -> impl Iterator<Item = Entry> + '_ {
        self.queues.iter().flat_map(|queue| std::iter::from_fn(|| stolen(|| queue.steal())))
    }

    /// Whether all workers are in it, so that its tasks may lie in any queue.
    pub(crate) fn has_all_workers(&self) -> bool {
        self.all_workers
    }

    /// Whether some workers are in it, and others not.
    pub(crate) fn is_of_some_workers(&self) -> bool {
        self.worker_count > 0 && !self.all_workers
    }

    fn is_empty(&self) -> bool {
        self.queues.iter().all(Injector::is_empty)
    }
}

/// The domains of a runtime: one for each set of processors that a task has, or has had a while ago.
#[derive(Debug)]
pub(crate) struct Domains {
    processor_count: usize,
    table: Mutex<Table>,
    of_slots: Vec<CachePadded<OfSlot>>,
}

#[derive(Debug)]
struct Table {
    /// Tasks refer to them weakly: a queue holds tasks, and must not hold itself.
    domains: Vec<Arc<Domain>>,
    /// So many domains there may be before the next sweep.
    sweep_at: usize,
}

/// The domains that one worker takes tasks from.
#[derive(Debug, Default)]
struct OfSlot {
    /// Number of them: until there is one, the list is not looked at.
    count: AtomicUsize,
    list: RwLock<Vec<Arc<Domain>>>,
    /// From which one on to look next: a domain that never runs dry shall not keep the others waiting.
    turn: AtomicUsize,
}

impl OfSlot {
    fn read(&self) -> Option<RwLockReadGuard<'_, Vec<Arc<Domain>>>> {
        // Relaxed: whoever has pushed a task into a new domain wakes a worker that sleeps, with the fences of `Sleep`; one that is awake looks again.
        (self.count.load(Relaxed) > 0).then(|| self.list.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Domain>>)) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut list);
        self.count.store(list.len(), Relaxed);
    }
}

impl Domains {
    /// None yet, for so many processors of which the first `slot_count` are workers.
    pub(crate) fn new(processor_count: usize, slot_count: usize) -> Self {
        let table = Mutex::new(Table { domains: Vec::new(), sweep_at: SWEEP_MIN });
        Self { processor_count, table, of_slots: (0..slot_count).map(|_| CachePadded::default()).collect() }
    }

    /// The domain of a set of processors, for a task to refer to; nothing when it is all of them.
    pub(crate) fn of(&self, set: ProcessorSet) -> Option<Weak<Domain>> {
        if set == ProcessorSet::all(self.processor_count) {
            return None;
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(domain) = table.domains.iter().find(|domain| domain.set == set) {
            return Some(Arc::downgrade(domain));
        }
        if table.domains.len() >= table.sweep_at {
            self.sweep(&mut table);
        }
        let worker_count = set.iter().take_while(|place| *place < self.of_slots.len()).count();
        let all_workers = worker_count == self.of_slots.len() && worker_count > 0;
        let queues = [Injector::new(), Injector::new(), Injector::new()];
        let domain = Arc::new(Domain { set, worker_count, all_workers, queues });
        if domain.is_of_some_workers() {
            for slot in domain.set.iter().take(worker_count) {
                self.of_slots[slot].change(|list| list.push(Arc::clone(&domain)));
            }
        }
        // Made before the lock is given back: a domain that nothing refers to may be swept.
        let reference = Arc::downgrade(&domain);
        table.domains.push(domain);
        Some(reference)
    }

    /// All that there are, those included that no task has any more.
    pub(crate) fn all(&self) -> Vec<Arc<Domain>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).domains.clone()
    }

    /// Forgets the domains that no task refers to. Their queues are empty, since an entry keeps its task, and new references are made under
    /// the table's lock only, or of others.
    fn sweep(&self, table: &mut Table) {
        let is_used = |domain: &Arc<Domain>| Arc::weak_count(domain) > 0;
        table.domains.retain(is_used);
        for of_slot in &self.of_slots {
            of_slot.change(|list| list.retain(|domain| table.domains.iter().any(|kept| Arc::ptr_eq(kept, domain))));
        }
        table.sweep_at = SWEEP_MIN.max(2 * table.domains.len());
    }

    /// Puts a task where the workers of its domain find it, and wakes one of them if one sleeps.
    pub(crate) fn push(&self, domain: &Domain, priority: Priority, entry: Entry, sleep: &Sleep) {
        debug_assert!(domain.is_of_some_workers(), "other domains have no queue that anybody looks at");
        domain.queues[priority.level()].push(entry);
        sleep.wake_where(|slot| domain.contains(slot));
    }

    /// A task of a domain that the worker of `slot` is in.
    pub(crate) fn take(&self, slot: usize, level: usize) -> Option<Entry> {
        let of_slot = &self.of_slots[slot];
        let list = of_slot.read()?;
        let turn = of_slot.turn.load(Relaxed);
        let (before, after) = list.split_at(turn % list.len().max(1));
        let task = after.iter().chain(before).map(|domain| &domain.queues[level]).filter(|queue| !queue.is_empty()).find_map(|queue| {
            let task = stolen(|| queue.steal());
            of_slot.turn.store(turn.wrapping_add(1), Relaxed);
            task
        });
        drop(list);
        task
    }

    /// Whether a task waits that the worker of `slot` may take.
    pub(crate) fn has_work(&self, slot: usize) -> bool {
        self.of_slots[slot].read().is_some_and(|list| list.iter().any(|domain| !domain.is_empty()))
    }

    /// The worker of `slot` does something else, although it may have been woken for a task of a domain: wakes another one for each that has tasks.
    pub(crate) fn pass_on(&self, slot: usize, sleep: &Sleep) {
        let Some(list) = self.of_slots[slot].read() else { return };
        for domain in list.iter().filter(|domain| !domain.is_empty()) {
            sleep.wake_where(|slot| domain.contains(slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::super::shared::Shared;
    use super::*;
    use crate::Runtime;
    use crate::options::TaskOptions;
    use crate::task::record::{Unspawned, create};

    fn of(domains: &Domains, set: ProcessorSet) -> Arc<Domain> {
        domains.of(set).and_then(|domain| domain.upgrade()).expect("not everything")
    }

    fn set(places: &[usize]) -> ProcessorSet {
        ProcessorSet::of(4, |place| places.contains(&place))
    }

    #[test]
    fn a_set_has_one_domain_and_everything_has_none() {
        // Three workers and a processor that takes batches.
        let domains = Domains::new(4, 3);
        assert!(domains.of(set(&[0, 1, 2, 3])).is_none());
        let domain = |places: &[usize]| of(&domains, set(places));
        assert!(Arc::ptr_eq(&domain(&[0, 2]), &domain(&[0, 2])));
        assert!(!Arc::ptr_eq(&domain(&[0, 2]), &domain(&[0, 2, 3])));
        assert!(domain(&[0, 2, 3]).is_of_some_workers() && !domain(&[0, 2, 3]).has_all_workers());
        assert!(domain(&[0, 1, 2]).has_all_workers() && !domain(&[0, 1, 2]).is_of_some_workers());
        assert!(!domain(&[3]).has_all_workers() && !domain(&[3]).is_of_some_workers());
        let lists = domains.of_slots.iter().map(|of_slot| of_slot.count.load(Relaxed)).collect::<Vec<_>>();
        assert_eq!(lists, [2, 0, 2]);
    }

    /// A runtime with three workers, all of them asleep.
    fn asleep() -> Runtime {
        let runtime = Runtime::builder().threads(3).build().expect("threads");
        while runtime.shared.sleep.sleeper_count() < 3 {
            std::thread::yield_now();
        }
        runtime
    }

    #[test]
    fn a_task_left_by_the_worker_that_was_woken_for_it_is_passed_on() {
        let finds_something_else = |shared: &Shared| {
            shared.sleep.search();
            shared.found(0);
        };
        let goes_on_with_its_task = |shared: &Shared| shared.stop_looking(0);
        for pass_on in [finds_something_else as fn(&Shared), goes_on_with_its_task] {
            let runtime = asleep();
            let shared = &runtime.shared;
            let domain = shared.domains.of(ProcessorSet::of(3, |place| place != 2)).expect("not everything");
            let there = domain.upgrade().expect("it has just been made");
            shared.special.store(true, Relaxed);
            assert!(shared.admit(None));
            let mut options = TaskOptions::default();
            options.ties.domain = domain;
            let (task, entry) = create(
                &mut Unspawned::new(|| crate::current_processor().map(|processor| processor.name), ()),
                Arc::as_ptr(shared),
                shared.epoch(),
                Location::caller(),
                Some(Box::new(options)),
                Priority::Normal,
            );
            // Nobody is told.
            there.queues[Priority::Normal.level()].push(entry.expect("it waits for nothing"));
            // This thread speaks for the worker.
            pass_on(shared);
            let ran = task.take().expect("no failure").expect("on a worker");
            assert!(["threads-0", "threads-1"].contains(&ran.as_str()), "{ran}");
        }
    }

    #[test]
    fn a_domain_that_never_runs_dry_does_not_keep_others_waiting() {
        let runtime = asleep();
        let shared = &runtime.shared;
        let domains = Domains::new(3, 3);
        let two = [[0, 1], [0, 2]].map(|places| of(&domains, ProcessorSet::of(3, |place| places.contains(&place))));
        let ready = || {
            assert!(shared.admit(None));
            let (task, entry) =
                create(&mut Unspawned::new(|| (), ()), Arc::as_ptr(shared), shared.epoch(), Location::caller(), None, Priority::Normal);
            (task, entry.expect("it waits for nothing"))
        };
        let mut tasks = Vec::new();
        for domain in &two {
            for _ in 0..4 {
                let (task, entry) = ready();
                tasks.push(task);
                domains.push(domain, Priority::Normal, entry, &shared.sleep);
            }
        }
        let taken: Vec<_> = (0..4).map(|_| domains.take(0, Priority::Normal.level()).expect("there are eight")).collect();
        let left = two.each_ref().map(|domain| domain.queues[Priority::Normal.level()].len());
        // In this order: entries count the tasks that have been cancelled, for want of handles, as finished.
        drop(tasks);
        drop(taken);
        drop(domains);
        drop(two);
        assert_eq!(left, [2, 2]);
    }

    #[test]
    fn domains_that_no_task_has_are_forgotten_and_others_stay() {
        let places = |mask: usize| ProcessorSet::of(10, |place| mask & 1 << place != 0);
        let domains = Domains::new(10, 10);
        let kept = domains.of(places(1)).expect("not everything");
        for mask in 2..1000 {
            domains.of(places(mask));
        }
        let table = domains.table.lock().expect("not poisoned");
        assert!(table.domains.len() <= SWEEP_MIN, "{}", table.domains.len());
        let in_lists = domains.of_slots.iter().map(|of_slot| of_slot.list.read().expect("not poisoned").len()).max();
        assert!(in_lists.is_some_and(|count| count <= SWEEP_MIN), "{in_lists:?}");
        drop(table);
        assert!(kept.upgrade().is_some_and(|kept| Arc::ptr_eq(&of(&domains, places(1)), &kept)));
    }
}
