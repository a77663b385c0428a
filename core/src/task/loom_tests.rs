//! The protocols of records, in every order of steps that loom finds worth trying (`docs/VERIFYING.md`, "Interleavings").
//!
//! The threads of a test play a worker that has taken a task's entry out of a queue, and users. Loom finds two accesses that nothing orders, records and
//! values that are used after their end or have none (`Watched`), and threads that wait for ever; the rest is asserted.
//!
//! One file because all of them meet in the same few fields of a record, on the same stage.

use std::panic::Location;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use crossbeam_deque::Steal;
use loom::thread::{JoinHandle, spawn};
use poniard_interface::{BackendInfo, Execution, Processor, ProcessorInfo, ProcessorKind, SpaceId, StopError};

use super::memory;
use super::record::{Claim, Open, Released, TaskRef, Unspawned, create, create_finished, create_open};
use crate::data::Data;
use crate::error::{FailureKind, TaskError};
use crate::function::{Args, TaskFn};
use crate::options::Priority;
use crate::queued::AheadMap;
use crate::runtime::{BackendRecord, Backends};
use crate::sync::{Mutex, Watched};
use crate::task::{Task, Value};
use crate::worker::entry::{Entry, Work};
use crate::worker::shared::{Choices, ProcessorRecord, Shared};
use crate::worker::slot::Slot;
use crate::worker::waiter::Waiter;

/// Runs `body` once for each way in which its threads can meet. Unless told otherwise, those with at most three interruptions of a thread that could go on:
/// that is where nearly all errors show, and each further one takes ten times as long.
pub(crate) fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound.get_or_insert(3);
    model.check(move || {
        memory::ended::free_all();
        body();
    });
}

/// A processor whose thread the test plays.
struct Stage;

impl Processor for Stage {
    fn info(&self) -> ProcessorInfo {
        let (name, kind, space) = ("stage".into(), ProcessorKind::cpu(), SpaceId::HOST);
        ProcessorInfo { name, kind, execution: Execution::Inline, space, numa_node: None, device: None }
    }

    fn stop(&self) -> Result<(), StopError> {
        Ok(())
    }
}

/// A runtime that the test's threads work for. What tasks set free goes into a queue that loom knows.
pub(crate) struct World {
    shared: Shared,
    queue: Mutex<Vec<Entry>>,
    /// As `Queued::ahead`.
    ahead: Mutex<AheadMap>,
    /// Bodies that have run.
    runs: AtomicUsize,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        let processors = vec![ProcessorRecord { lost: OnceLock::new(), info: Stage.info(), processor: Box::new(Stage), backend: 0 }];
        let info = BackendInfo { name: "stage".into(), version: "1".into() };
        let backend = BackendRecord { info, file: None, rustc: String::new(), spaces: Vec::new(), backend: None };
        let backends = Backends { records: vec![backend], found: Default::default() };
        let shared = Shared::new(processors, backends, vec![Slot::new(0, Vec::new())], Choices::default());
        Arc::new(Self { shared, queue: Mutex::new(Vec::new()), ahead: Mutex::default(), runs: AtomicUsize::new(0) })
    }

    /// A new task, counted, and its entry when it is ready.
    pub(crate) fn create<M, F: TaskFn<M>, A: Args<F::Params>>(&self, function: F, args: A) -> (Task<F::Value>, Option<Entry>) {
        assert!(self.shared.admit(None));
        create(&mut Unspawned::new(function, args.into_params()), &self.shared, 0, Location::caller(), None, Priority::Normal)
    }

    /// A new task that is open, and needed, with so many references to be taken.
    fn open<M, F: TaskFn<M>, A: Args<F::Params>>(&self, function: F, args: A, references: u32) -> (Task<F::Value>, Open) {
        assert!(self.shared.admit(None));
        let mut body = Unspawned::new(function, args.into_params());
        create_open(&mut body, &self.shared, 0, Location::caller(), None, Priority::Normal, true, references)
    }

    /// A task that is ready.
    fn ready<T: Data>(&self, function: impl FnOnce() -> T + Send + 'static) -> (Task<T>, Entry) {
        let (task, entry) = self.create(function, ());
        (task, entry.expect("nothing to wait for"))
    }

    /// A task whose value is watched, and that is ready.
    fn payload(self: &Arc<Self>) -> (Task<Payload>, Entry) {
        let world = Arc::clone(self);
        self.ready(move || Payload::new(&world))
    }

    /// What a worker does with an entry.
    pub(crate) fn work(&self, entry: Entry) {
        let task = task_of(entry);
        match task.try_claim() {
            Claim::Won => self.run(&task),
            Claim::Lost => drop(Entry::task(task)),
            Claim::Waiting => panic!("only ready tasks are queued"),
        }
    }

    /// What a thread does that waits for a task which nobody runs; whether it ran it.
    fn nest<T>(&self, task: &Task<T>) -> bool {
        let won = task.reference().is_ready() && task.reference().try_claim() == Claim::Won;
        if won {
            self.run(task.reference());
        }
        won
    }

    fn run(&self, task: &TaskRef) {
        let failure = task.run_claimed();
        self.finish(task, failure);
    }

    fn finish(&self, task: &TaskRef, failure: Option<TaskError>) {
        let published = task.publish(failure, |released| match released {
            Released::Waiter(waker) => waker.wake(),
            Released::Ready(entry) => {
                if let Some(entry) = self.keep_entry(entry) {
                    self.queue.lock().unwrap().push(entry);
                }
            }
        });
        if !published {
            task.drop_value();
        }
        self.shared.retract(None);
    }

    /// As `Queued::keep_entry`.
    fn keep_entry(&self, entry: Entry) -> Option<Entry> {
        let number = entry.peek(TaskRef::number);
        match self.ahead.lock().unwrap().get_mut(&number) {
            Some(place) => {
                *place = Some(entry);
                None
            }
            None => Some(entry),
        }
    }

    /// As `Queued::claim_ahead`.
    fn claim_ahead(&self, task: &TaskRef) -> bool {
        let mut ahead = self.ahead.lock().unwrap();
        let claimed = task.claim_ahead();
        if claimed {
            ahead.insert(task.number(), None);
        }
        claimed
    }

    /// As `Queued::give_back`.
    fn give_back(&self, task: &TaskRef) {
        let entry = {
            let mut ahead = self.ahead.lock().unwrap();
            let entry = ahead.remove(&task.number());
            task.give_back_ahead();
            entry
        };
        if let Some(Some(entry)) = entry {
            self.queue.lock().unwrap().push(entry);
        }
    }

    /// What is done with a launch that was claimed ahead, when the device has done it.
    fn end_ahead(&self, task: &TaskRef) {
        if !task.is_ready() {
            return self.give_back(task);
        }
        let entry = self.ahead.lock().unwrap().remove(&task.number());
        self.run(task);
        drop(entry);
    }

    /// On the last thread: runs what is left. All that has been spawned is then counted as finished, once.
    fn drain(&self) {
        loop {
            let left = self.queue.lock().unwrap().pop();
            // What a canceller set free.
            let left = left.or_else(|| match self.shared.injectors[Priority::Normal.level()].steal() {
                Steal::Success(entry) => Some(entry),
                _ => None,
            });
            let Some(entry) = left else { break };
            self.work(entry);
        }
        assert!(self.shared.is_quiet(), "{} tasks are counted as finished", self.shared.finished());
    }

    fn runs(&self) -> usize {
        self.runs.load(Relaxed)
    }
}

fn task_of(entry: Entry) -> TaskRef {
    let Work::Task(task) = entry.into_work() else { panic!("made of a task") };
    task
}

/// A value that no two threads reach without an order.
#[derive(poniard_macros::Data)]
struct Payload(Watched);

impl Payload {
    fn new(world: &World) -> Self {
        world.runs.fetch_add(1, Relaxed);
        Self(Watched::new())
    }

    fn look(&self) -> u64 {
        self.0.look();
        1
    }
}

/// A thread that has the world and something more.
fn thread<T: Send + 'static>(world: &Arc<World>, with: T, body: impl FnOnce(&Arc<World>, T) + Send + 'static) -> JoinHandle<()> {
    let world = Arc::clone(world);
    spawn(move || body(&world, with))
}

fn sum(one: &Payload, two: &Payload) -> u64 {
    one.look() + two.look()
}

#[test]
fn a_successor_is_released_once_however_late_it_comes() {
    // An edge that is put into the list while the list is taken: lost, or counted down by both; the value not seen.
    model(|| {
        let world = World::new();
        let (first, entry) = world.payload();
        let worker = thread(&world, entry, World::work_of);
        let adder = thread(&world, first.clone(), |world, first| {
            let (second, entry) = world.create(Payload::look, (first,));
            entry.into_iter().for_each(|entry| world.work(entry));
            second.detach();
        });
        let (third, entry) = world.create(Payload::look, (first,));
        entry.into_iter().for_each(|entry| world.work(entry));
        worker.join().unwrap();
        adder.join().unwrap();
        world.drain();
        assert_eq!(third.value_ref(), Some(&1));
        assert_eq!(world.runs(), 1);
    });
}

#[test]
fn the_last_of_two_predecessors_releases_their_successor() {
    // Two count-downs, each of which takes itself for the first, or for the last; one that does not see what the other's task wrote.
    model(|| {
        let world = World::new();
        let ((one, first), (two, second)) = (world.payload(), world.payload());
        let (joined, entry) = world.create(sum, (one, two));
        assert!(entry.is_none());
        let worker = thread(&world, first, World::work_of);
        let other = thread(&world, second, World::work_of);
        worker.join().unwrap();
        other.join().unwrap();
        assert_eq!(world.queue.lock().unwrap().len(), 1);
        world.drain();
        assert_eq!(joined.value_ref(), Some(&2));
    });
}

#[test]
fn a_task_becomes_ready_while_its_predecessors_are_looked_at() {
    // The task is released before its creator is through with its arguments, or by nobody.
    model(|| {
        let world = World::new();
        let ((one, first), (two, second)) = (world.payload(), world.payload());
        let worker = thread(&world, (first, second), |world, (first, second)| {
            world.work(first);
            world.work(second);
        });
        let (joined, entry) = world.create(sum, (one, two));
        entry.into_iter().for_each(|entry| world.work(entry));
        worker.join().unwrap();
        world.drain();
        assert_eq!(joined.value_ref(), Some(&2));
    });
}

#[test]
fn a_task_is_run_by_its_entry_or_by_the_thread_that_waits_for_it() {
    // Both run it: a worker that took itself for the only one with a reference, since the other had run the task and dropped it between two looks.
    model(|| {
        let world = World::new();
        let (task, entry) = world.payload();
        let worker = thread(&world, entry, World::work_of);
        world.nest(&task);
        drop(task);
        worker.join().unwrap();
        world.drain();
        assert!(world.runs() <= 1);
    });
}

#[test]
fn of_worker_waiter_and_canceller_one_has_the_task() {
    // Two of them have it: the body is run or dropped twice, or not at all; the task is counted as finished twice, or never.
    model(|| {
        let world = World::new();
        let body = Watched::new();
        let (task, entry) = {
            let other = Arc::clone(&world);
            world.ready(move || {
                body.look();
                Payload::new(&other)
            })
        };
        let worker = thread(&world, entry, World::work_of);
        let waiter = thread(&world, task.clone(), |world, task| {
            world.nest(&task);
        });
        let cancelled = task.cancel();
        let outcome = task.reference().failure().map(|error| matches!(error.kind(), FailureKind::Cancelled));
        assert_eq!(outcome, cancelled.then_some(true), "an outcome, and the canceller's if that was the first");
        worker.join().unwrap();
        waiter.join().unwrap();
        world.drain();
        assert!(world.runs() <= 1 && (cancelled || world.runs() == 1));
        assert_eq!(task.value_ref().is_none(), cancelled);
    });
}

#[test]
fn a_cancelled_task_that_waits_is_buried_once() {
    // The canceller leaves the body, with an edge in a list, to whoever gets the runtime's reference: dropped too early, twice or never.
    model(|| {
        let world = World::new();
        let (first, entry) = world.payload();
        let body = Watched::new();
        let (second, none) = world.create(
            move |first: &Payload| {
                body.look();
                first.look()
            },
            (first,),
        );
        assert!(none.is_none());
        let (third, none) = world.create(|second: u64| second, (&second,));
        assert!(none.is_none());
        let worker = thread(&world, entry, World::work_of);
        let cancelled = second.cancel();
        let failed = second.reference().failure().is_some();
        assert_eq!(failed, cancelled);
        worker.join().unwrap();
        world.drain();
        assert_eq!(third.reference().failure().is_some(), cancelled, "a dependent of a cancelled task");
        assert_eq!(second.value_ref().is_some(), !cancelled);
    });
}

#[test]
fn a_flattened_task_that_is_cancelled_while_it_is_finished_drops_what_it_refers_to_once() {
    // Whoever settles it has made it refer to the inner task, or has dropped it as that one failed, when he finds that it was cancelled: dropped twice, or never.
    for fails in [false, true] {
        model(move || {
            let world = World::new();
            let runs = Arc::clone(&world);
            let (inner, entry) = world.create(move || if fails { Err("it fails") } else { Ok(Payload::new(&runs)) }, ());
            let flat = create_finished(inner.clone(), &raw const world.shared, Location::caller(), None).flatten();
            let worker = thread(&world, entry.expect("nothing to wait for"), World::work_of);
            let cancelled = flat.cancel();
            worker.join().unwrap();
            world.drain();
            assert!(flat.is_finished() && inner.is_finished());
            assert!(cancelled || fails || flat.value_ref().is_some());
            assert_eq!(flat.value_ref().map_or(0, Payload::look), u64::from(!cancelled && !fails));
            drop(flat);
            assert_eq!(inner.value_ref().map_or(0, Payload::look), u64::from(!fails));
        });
    }
}

#[test]
fn arguments_are_looked_at_by_one_who_waits_while_they_are_claimed() {
    // Without the lock `INSPECTED`, the worker takes the arguments away while the waiting thread looks for predecessors in them; one that spins for ever.
    model(|| {
        let world = World::new();
        let (first, entry) = world.payload();
        let (second, none) = world.create(Payload::look, (first,));
        assert!(none.is_none());
        let worker = thread(&world, entry, |world, entry| {
            world.work(entry);
            world.drain();
        });
        let mut unfinished = Vec::new();
        if second.reference().unfinished_predecessors(&mut unfinished) {
            assert_eq!(unfinished.len(), 1);
        }
        drop(unfinished);
        worker.join().unwrap();
        assert_eq!(second.value_ref(), Some(&1));
    });
}

#[test]
fn a_canceller_waits_for_one_who_looks_at_the_arguments() {
    // The canceller of a task that waits claims it while its arguments are looked at, and they go when its predecessor has finished.
    model(|| {
        let world = World::new();
        let (first, entry) = world.payload();
        let (second, none) = world.create(Payload::look, (first,));
        assert!(none.is_none());
        let canceller = thread(&world, (second.clone(), entry), |world, (second, entry)| {
            assert!(second.cancel());
            world.work(entry);
            world.drain();
        });
        second.reference().unfinished_predecessors(&mut Vec::new());
        canceller.join().unwrap();
        assert!(second.is_finished());
    });
}

#[test]
fn the_last_handle_takes_a_task_with_it_that_has_not_begun() {
    // Two handles go at once, while the task is about to be run: both take themselves for the last one, or neither; the record is freed twice, or used
    // after that, or never.
    model(|| {
        let world = World::new();
        let (task, entry) = world.payload();
        let worker = thread(&world, entry, World::work_of);
        let user = thread(&world, task.clone(), |_, task| drop(task));
        drop(task);
        worker.join().unwrap();
        user.join().unwrap();
        world.drain();
        assert!(world.runs() <= 1);
    });
}

#[test]
fn a_task_goes_with_the_last_of_those_that_would_have_used_it() {
    // Two dependents lose their handles while the task is about to run: it is abandoned by both of them or by none, or while it is needed; a body is dropped while
    // its arguments are looked at, twice or never; the task is freed although an argument refers to it.
    model(|| {
        let world = World::new();
        let (first, entry) = world.payload();
        let (second, none) = world.create(Payload::look, (&first,));
        assert!(none.is_none());
        let (third, none) = world.create(sum, (first.clone(), first));
        assert!(none.is_none());
        let worker = thread(&world, entry, World::work_of);
        let other = thread(&world, second, |_, second| drop(second));
        drop(third);
        worker.join().unwrap();
        other.join().unwrap();
        world.drain();
    });
}

#[test]
fn a_chain_goes_with_its_last_handle_while_its_first_task_runs() {
    model(|| {
        let world = World::new();
        let (first, entry) = world.payload();
        let (second, none) = world.create(|first: &Payload| 1 + first.look(), (first,));
        assert!(none.is_none());
        let (third, none) = world.create(|second: u64| second, (second,));
        assert!(none.is_none());
        let worker = thread(&world, entry, World::work_of);
        drop(third);
        worker.join().unwrap();
        world.drain();
    });
}

#[test]
fn a_value_is_moved_out_although_the_body_of_an_abandoned_dependent_is_dropped_meanwhile() {
    // Its argument becomes a user again for a moment, and looks at nothing.
    model(|| {
        let world = World::new();
        let (first, first_entry) = world.payload();
        let (other, other_entry) = world.ready(|| 1u64);
        let (dependent, none) = world.create(|first: &Payload, other: u64| first.look() + other, (&first, &other));
        assert!(none.is_none());
        world.work(first_entry);
        drop(dependent);
        let worker = thread(&world, other_entry, |world, entry| {
            world.work(entry);
            world.drain();
        });
        look_and_take(first);
        worker.join().unwrap();
        assert!(other.is_finished());
    });
}

#[test]
fn a_task_is_run_if_one_of_its_handles_was_detached() {
    // The other handle is dropped meanwhile: it saw that the task was not detached, became the last one, and took the task with it.
    model(|| {
        let world = World::new();
        let (task, entry) = world.payload();
        let user = thread(&world, task.clone(), |_, task| task.detach());
        drop(task);
        user.join().unwrap();
        world.work(entry);
        world.drain();
        assert_eq!(world.runs(), 1);
    });
}

#[test]
fn a_body_that_has_begun_is_not_told_to_stop_because_a_handle_was_dropped() {
    // The handle is dropped by a thread that has seen the task unclaimed, and finds it claimed when it is about to cancel it.
    model(|| {
        let world = World::new();
        let (own, told) = (Arc::new(std::sync::Mutex::new(None::<TaskRef>)), Arc::new(AtomicUsize::new(0)));
        let (task, entry) = {
            let (own, told) = (Arc::clone(&own), Arc::clone(&told));
            world.ready(move || {
                loom::thread::yield_now();
                let own = own.lock().unwrap().take().unwrap();
                told.fetch_add(usize::from(own.is_cancelled()), Relaxed);
            })
        };
        *own.lock().unwrap() = Some(task.reference().clone());
        let worker = thread(&world, entry, World::work_of);
        drop(task);
        worker.join().unwrap();
        own.lock().unwrap().take();
        world.drain();
        assert_eq!(told.load(Relaxed), 0);
    });
}

#[test]
fn a_value_is_moved_out_by_its_last_user_alone() {
    // Two users of a value, and the worker's reference: the value moved out while it is read, moved twice, or dropped once more with the record.
    model(|| {
        let world = World::new();
        let (task, entry) = world.payload();
        let worker = thread(&world, entry, World::work_of);
        let user = thread(&world, task.clone(), |_, task| look_and_take(task));
        look_and_take(task);
        worker.join().unwrap();
        user.join().unwrap();
        world.drain();
    });
}

/// Looks at the value, and moves it out if nobody else uses it.
fn look_and_take(task: Task<Payload>) {
    if let Some(payload) = task.value_ref() {
        payload.look();
        if let Ok(payload) = (Value { task }).try_unwrap() {
            payload.0.change();
        }
    }
}

#[test]
fn a_task_whose_only_handle_waits_is_claimed_without_an_exchange() {
    // The handle of another thread has just gone: it must have been the last thing that thread did with the record.
    model(|| {
        let world = World::new();
        let (task, entry) = world.payload();
        let user = thread(&world, task.clone(), |world, task| {
            world.nest(&task);
        });
        if task.reference().try_claim_alone() {
            let own = task_of(entry);
            let failure = own.run_claimed();
            assert!(own.end_alone(failure).is_ok(), "nobody has come to know it");
            world.shared.retract(None);
            // Its worker may find it finished; the other thread is gone, and can have run it no more.
            (Value { task }).try_unwrap().unwrap_or_else(|_| panic!("the only user")).0.change();
        } else {
            world.work(entry);
            drop(task);
        }
        user.join().unwrap();
        world.drain();
        assert!(world.runs() <= 1);
    });
}

#[test]
fn whoever_sees_a_task_finished_that_holds_something_finds_its_body_over() {
    // A canceller that ends the task while its body still runs, for others that rely on it.
    model(|| {
        let world = World::new();
        let place = Arc::new(Watched::new());
        let changed = Arc::clone(&place);
        let (task, open) = world.open(move || changed.change(), (), 0);
        let entry = open.close().expect("nothing to wait for");
        let worker = thread(&world, entry, World::work_of);
        task.cancel();
        if task.is_finished() {
            place.change();
        }
        worker.join().unwrap();
        assert!(task.is_finished() || world.shared.unfinished() == 1);
        world.drain();
        drop(task);
        place.change();
    });
}

/// What an argument keeps, and who lets go of it.
struct Keeps(Arc<Watched>);

impl Drop for Keeps {
    fn drop(&mut self) {
        self.0.change();
    }
}

#[test]
fn nobody_takes_the_body_of_a_task_that_is_open() {
    // Whoever makes it uses what its arguments keep, while what it waits for ends, and somebody who knows of it runs or cancels it.
    for cancels in [false, true] {
        model(move || {
            let world = World::new();
            let (first, entry) = world.payload();
            let place = Arc::new(Watched::new());
            let keeps = Keeps(Arc::clone(&place));
            let look = move |first: &Payload| {
                let _keeps = keeps;
                first.look()
            };
            let worker = thread(&world, entry, World::work_of);
            let (task, mut open) = world.open(look, (&first,), 2);
            let known = open.reference();
            let other = thread(&world, known, move |world, known| {
                if cancels {
                    known.cancel(FailureKind::Cancelled);
                } else if known.is_ready() && known.try_claim() == Claim::Won {
                    world.run(&known);
                }
            });
            place.look();
            let entry = open.close();
            worker.join().unwrap();
            world.queue.lock().unwrap().extend(entry);
            other.join().unwrap();
            world.drain();
            assert!(task.is_finished());
            assert!(cancels || task.value_ref() == Some(&1));
            drop(task);
            place.change();
        });
    }
}

#[test]
fn a_task_that_is_claimed_ahead_of_its_turn_runs_once() {
    // A device has done it before what it waits for is published, right after, or somebody cancels it meanwhile.
    for cancels in [false, true] {
        model(move || {
            let world = World::new();
            let (first, entry) = world.payload();
            let (second, none) = world.create(Payload::look, (&first,));
            assert!(none.is_none());
            second.reference().require();
            let device = thread(&world, second.reference().clone(), |world, second| {
                if world.claim_ahead(&second) {
                    world.end_ahead(&second);
                }
            });
            let worker = thread(&world, entry, World::work_of);
            if cancels {
                second.cancel();
            }
            device.join().unwrap();
            worker.join().unwrap();
            world.drain();
            assert!(second.is_finished());
            assert!(world.ahead.lock().unwrap().is_empty());
            assert!(cancels || second.value_ref() == Some(&1));
        });
    }
}

#[test]
fn a_list_of_successors_is_looked_at_while_somebody_cancels_the_task_and_another_one_joins() {
    model(|| {
        let world = World::new();
        let (first, entry) = world.payload();
        let task = task_of(entry);
        assert_eq!(task.try_claim(), Claim::Won);
        let (second, _) = world.create(Payload::look, (&first,));
        let canceller = thread(&world, first.clone(), |_, first| {
            first.cancel();
        });
        let joiner = thread(&world, first, |world, first| {
            let (third, entry) = world.create(Payload::look, (first,));
            entry.into_iter().for_each(|entry| world.work(entry));
            third.detach();
        });
        let successors = task.waiting_successors();
        assert!(successors.len() <= 2);
        drop(successors);
        world.run(&task);
        canceller.join().unwrap();
        joiner.join().unwrap();
        world.drain();
        assert!(second.is_finished());
    });
}

#[test]
fn whoever_waits_is_told() {
    // Told never, or woken before the outcome can be seen.
    model(|| {
        let world = World::new();
        let (task, entry) = world.payload();
        let worker = thread(&world, entry, World::work_of);
        let user = thread(&world, task.clone(), |_, task| {
            wait(task.reference());
            task.value_ref().expect("it has finished").look();
        });
        wait(task.reference());
        task.value_ref().expect("it has finished").look();
        worker.join().unwrap();
        user.join().unwrap();
        world.drain();
    });
}

#[test]
fn whoever_waits_is_told_of_a_cancellation() {
    // The worker and the canceller publish at once: the waiting thread is told by nobody, or its box is freed by both.
    model(|| {
        let world = World::new();
        let (task, entry) = world.payload();
        let worker = thread(&world, entry, World::work_of);
        let canceller = thread(&world, task.clone(), |_, task| {
            task.cancel();
        });
        wait(task.reference());
        assert_ne!(task.value_ref().is_some(), task.reference().failure().is_some());
        worker.join().unwrap();
        canceller.join().unwrap();
        world.drain();
    });
}

/// As a thread waits that is no worker.
fn wait(task: &TaskRef) {
    let waiter = Waiter::for_this_thread();
    if task.add_waiter(&waiter.waker()) {
        waiter.wait();
    }
    assert!(task.is_finished());
}

impl World {
    /// `work`, for `thread`.
    fn work_of(self: &Arc<Self>, entry: Entry) {
        self.work(entry);
    }
}
