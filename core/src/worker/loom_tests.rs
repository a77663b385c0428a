//! The protocols of queues and of sleep, in every order of steps that loom finds worth trying (`docs/VERIFYING.md`, "Interleavings").

use std::ptr::{self, NonNull};
use std::sync::Arc;

use loom::thread::spawn;

use super::entry::Entry;
use super::job::{JobRef, Origin};
use super::job_deque::Jobs;
use super::ring::{CAPACITY, Ring};
use super::sleep::Sleep;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::task::loom_tests::{World, model};

/// A ring, and how often each entry has come out of it.
struct Stage {
    world: Arc<World>,
    ring: Ring,
    /// By number of the entry; the standard library's, as it only counts.
    out: [std::sync::atomic::AtomicUsize; CAPACITY + 1],
}

impl Stage {
    fn new() -> Arc<Self> {
        Arc::new(Self { world: World::new(), ring: Ring::new(), out: Default::default() })
    }

    /// An entry whose task notes that it came out.
    fn entry(self: &Arc<Self>, number: usize) -> Entry {
        let stage = Arc::downgrade(self);
        let note = move || {
            if let Some(stage) = stage.upgrade() {
                stage.out[number].fetch_add(1, Relaxed);
            }
        };
        let (task, entry) = self.world.create(note, ());
        task.detach();
        entry.expect("nothing to wait for")
    }

    /// A thief takes what it gets.
    fn seize(&self) -> Vec<Entry> {
        let mut taken = Vec::new();
        self.ring.seize(|entry| taken.push(entry));
        taken
    }

    /// Runs what came out, and what is left, when all threads are through.
    fn finish(&self, taken: impl IntoIterator<Item = Entry>) {
        taken.into_iter().for_each(|entry| self.world.work(entry));
        while let Some(entry) = self.ring.pop() {
            self.world.work(entry);
        }
    }

    fn out(&self) -> [usize; CAPACITY + 1] {
        std::array::from_fn(|number| self.out[number].load(Relaxed))
    }
}

#[test]
fn an_entry_of_a_ring_comes_out_once() {
    // The owner and a thief each take themselves for the one who has the lock: an entry lost, or taken twice, or read while it is written.
    model(|| {
        let stage = Stage::new();
        assert!(stage.ring.push(stage.entry(0)).is_ok());
        assert!(stage.ring.push(stage.entry(1)).is_ok());
        let thief = spawn({
            let stage = Arc::clone(&stage);
            move || stage.seize()
        });
        let mut taken = Vec::from_iter(stage.ring.pop());
        // No room where the thief has not come and the pop found nothing: never both.
        let full = stage.ring.push(stage.entry(2));
        taken.extend(stage.ring.pop());
        assert!(full.is_ok());
        taken.extend(thief.join().unwrap());
        stage.finish(taken);
        assert_eq!(stage.out(), [1; CAPACITY + 1]);
    });
}

#[test]
fn two_thieves_do_not_take_the_same_entry() {
    // The second one comes while the first one drains.
    model(|| {
        let stage = Stage::new();
        assert!(stage.ring.push(stage.entry(0)).is_ok());
        assert!(stage.ring.push(stage.entry(1)).is_ok());
        let thief = spawn({
            let stage = Arc::clone(&stage);
            move || stage.seize()
        });
        let mut taken = stage.seize();
        taken.extend(thief.join().unwrap());
        assert!(!taken.is_empty(), "one of two thieves gets something");
        stage.finish(taken);
        assert_eq!(stage.out(), [1, 1, 0]);
    });
}

#[test]
fn an_entry_is_taken_out_of_the_middle_while_a_thief_comes() {
    // The entries that move up are read by the thief on their way: one is lost, another doubled.
    model(|| {
        let stage = Stage::new();
        let (first, second) = (stage.entry(0), stage.entry(1));
        let middle = first.peek(Clone::clone);
        assert!(stage.ring.push(first).is_ok());
        assert!(stage.ring.push(second).is_ok());
        let thief = spawn({
            let stage = Arc::clone(&stage);
            move || stage.seize()
        });
        let mut taken = Vec::from_iter(stage.ring.remove(|entry| entry.is_of(&middle)));
        drop(middle);
        taken.extend(thief.join().unwrap());
        stage.finish(taken);
        assert_eq!(stage.out(), [1, 1, 0]);
    });
}

#[test]
fn what_the_owner_shows_no_thief_takes() {
    // The owner moves entries into its deque while a thief seizes.
    model(|| {
        let stage = Stage::new();
        assert!(stage.ring.push(stage.entry(0)).is_ok());
        assert!(stage.ring.push(stage.entry(1)).is_ok());
        let thief = spawn({
            let stage = Arc::clone(&stage);
            move || stage.seize()
        });
        let mut taken = Vec::new();
        stage.ring.show(1, |entry| taken.push(entry));
        taken.extend(stage.ring.pop_if(|_| true));
        taken.extend(thief.join().unwrap());
        stage.finish(taken);
        assert_eq!(stage.out(), [1, 1, 0]);
    });
}

/// A job that says a number, twice, and is not run.
fn job(number: usize) -> JobRef {
    let address = 8 * (number + 1);
    let Some(job) = NonNull::new(ptr::without_provenance_mut(address)) else { panic!("not 0") };
    JobRef { job, origin: Origin::of(ptr::without_provenance(address)) }
}

fn number(job: JobRef) -> usize {
    let address = job.job.addr().get();
    assert_eq!(job.origin.as_ptr().addr(), address, "two halves of one entry");
    address / 8 - 1
}

/// All that came out of a deque, in order of the numbers.
fn all(taken: impl IntoIterator<Item = Option<JobRef>>, jobs: &Jobs) -> Vec<usize> {
    let mut all: Vec<_> = taken.into_iter().flatten().map(number).collect();
    all.extend(std::iter::from_fn(|| jobs.pop()).map(number));
    all.sort_unstable();
    all
}

#[test]
fn a_hidden_job_is_taken_once() {
    // The holder takes the last job without an exchange, while a thief takes it; a thief reads a place that is written, or a buffer that has been copied.
    model(|| {
        let jobs = Jobs::new();
        jobs.push(job(0));
        let thief = spawn({
            let other = jobs.of_other();
            move || [other.steal(true, |_| true), other.steal(true, |_| true)]
        });
        // More than the first buffer holds.
        jobs.push(job(1));
        let popped = jobs.pop_hidden();
        jobs.push(job(2));
        jobs.push(job(3));
        let taken = thief.join().unwrap().into_iter().chain([popped]);
        assert_eq!(all(taken, &jobs), [0, 1, 2, 3]);
    });
}

#[test]
fn of_two_thieves_and_the_holder_one_has_the_last_job() {
    // Two of them exchange `front`, or the holder does without.
    model(|| {
        let jobs = Jobs::new();
        jobs.push(job(0));
        let thieves = [(); 2].map(|()| {
            let other = jobs.of_other();
            spawn(move || other.steal(true, |_| true))
        });
        let popped = jobs.pop_hidden();
        let stolen = thieves.map(|thief| thief.join().unwrap());
        assert_eq!(all(stolen.into_iter().chain([popped]), &jobs), [0]);
    });
}

#[test]
fn a_shown_job_is_taken_once() {
    // As above, on the way from one deque to the other, and with two real fences.
    model(|| {
        let jobs = Jobs::new();
        jobs.push(job(0));
        jobs.push(job(1));
        let thief = spawn({
            let other = jobs.of_other();
            move || [other.steal(false, |_| true), other.steal(true, |_| true)]
        });
        jobs.show();
        let popped = [jobs.pop(), jobs.pop()];
        assert_eq!(all(thief.join().unwrap().into_iter().chain(popped), &jobs), [0, 1]);
    });
}

/// A queue of which only the length matters, and those who sleep when there is nothing in it.
#[derive(Default)]
struct Office {
    sleep: Sleep,
    waiting: AtomicUsize,
}

impl Office {
    fn push(&self) {
        // Nothing is read that the order of this store would have to make visible: fences are all that the search for sleepers may rely on.
        self.waiting.fetch_add(1, Relaxed);
        self.sleep.notify();
    }

    fn has_work(&self) -> bool {
        self.waiting.load(Relaxed) > 0
    }

    fn take(&self) -> bool {
        let waiting = self.waiting.load(Relaxed);
        waiting > 0 && self.waiting.compare_exchange(waiting, waiting - 1, Relaxed, Relaxed).is_ok()
    }

    /// A worker that finds nothing of its own and sleeps until it has found something, as `search` in the main loop.
    fn search(&self, slot: usize) {
        self.sleep.search();
        loop {
            if self.take() {
                self.sleep.found(|| self.has_work());
                return;
            }
            self.sleep.sleep(slot, || self.has_work());
        }
    }
}

#[test]
fn nobody_sleeps_beside_work() {
    // The push sees nobody asleep, and the worker that is going to sleep sees no work: loom finds that it sleeps for ever.
    model(|| {
        let office = Arc::new(Office::default());
        let worker = spawn({
            let office = Arc::clone(&office);
            move || office.search(0)
        });
        office.push();
        worker.join().unwrap();
    });
}

#[test]
fn a_push_that_relies_on_a_worker_that_searches_is_seen() {
    // Two pushes, two workers. One is found by a worker that searched; the other relied on that one, which does not wake the second worker.
    model(|| {
        let office = Arc::new(Office::default());
        let workers = [0, 1].map(|slot| {
            let office = Arc::clone(&office);
            spawn(move || office.search(slot))
        });
        office.push();
        office.push();
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

#[test]
fn work_for_one_worker_wakes_that_one() {
    // A task that only some workers may run: `wake_where` misses the one that is going to sleep, and that one misses the task.
    model(|| {
        let office = Arc::new(Office::default());
        let worker = spawn({
            let office = Arc::clone(&office);
            move || office.search(7)
        });
        office.waiting.fetch_add(1, Relaxed);
        office.sleep.wake_where(|slot| slot == 7);
        worker.join().unwrap();
    });
}

#[test]
fn a_worker_that_stops_looking_leaves_no_push_behind() {
    // A worker searches, is told to give its slot back, and looks no more; a push relied on it, and the other worker sleeps.
    model(|| {
        let office = Arc::new(Office::default());
        let other = spawn({
            let office = Arc::clone(&office);
            move || office.search(1)
        });
        office.sleep.search();
        let pusher = spawn({
            let office = Arc::clone(&office);
            move || office.push()
        });
        // As one that passes its slot on does; whoever comes back to it looks in its stead (`go_on`).
        office.sleep.found(|| false);
        office.sleep.stop_looking(|| office.has_work());
        other.join().unwrap();
        pusher.join().unwrap();
    });
}

#[test]
fn what_was_pushed_for_all_wakes_all() {
    // `wake_all` takes a worker off the list that is about to look for the last time, or one is left on it.
    model(|| {
        let office = Arc::new(Office::default());
        let stopped = Arc::new(AtomicUsize::new(0));
        let workers = [0, 1].map(|slot| {
            let (office, stopped) = (Arc::clone(&office), Arc::clone(&stopped));
            spawn(move || {
                office.sleep.search();
                while stopped.load(Acquire) == 0 {
                    office.sleep.sleep(slot, || stopped.load(Acquire) == 1);
                }
                office.sleep.found(|| false);
            })
        });
        stopped.store(1, Release);
        office.sleep.wake_all();
        for worker in workers {
            worker.join().unwrap();
        }
    });
}
