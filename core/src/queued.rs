//! Tasks for processors that take batches.
//!
//! One file because what is waiting, what is in flight and what is measured are one state, under one lock.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poniard_interface::{Completion, Execution, Fault, RunError, TaskDescriptor, TaskId};

use launch::{Aside, InFlightLaunch, Looked, Trash, Waiting};

use crate::clock::now_ns;
use crate::error::FailureKind;
use crate::placement::Went;
use crate::planted::{self, Bug};
use crate::platform;
use crate::residency;
use crate::task::record::flat::aside;
use crate::task::record::{Claim, TaskRef};
use crate::worker::context::Context;
use crate::worker::entry::{Entry, Work};
use crate::worker::main_loop::execute;
use crate::worker::shared::{ProcessorRecord, Shared};
use crate::worker::slot::Activity;

pub(crate) mod launch;

/// How many launches are given to a processor in one go: to one that has nothing, so that it begins soon and does those while the next ones are prepared; and to one that is busy.
const LAUNCHES_MAX: [usize; 2] = [16, 64];

/// Launches that were claimed before they were ready, by the numbers of their records; each with its entry, once all that it waited for has finished.
pub(crate) type AheadMap = BTreeMap<usize, Option<Entry>>;

thread_local! {
    /// The calls of `Queued::submit` that this thread is in the middle of: for which queue, and whether there is more to submit.
    static SUBMITTING: RefCell<Vec<((usize, usize), bool)>> = const { RefCell::new(Vec::new()) };
    /// Whether this thread leaves it to others to have something computed again: a processor reports on it what it has done, and it may be the only one that does; or it is at that itself,
    /// and others wait for what it has.
    static LEAVES_RESTORES: Cell<bool> = const { Cell::new(false) };
}

/// What of this belongs to a logical thread that does not run just now.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    submitting: Vec<((usize, usize), bool)>,
    leaves_restores: bool,
}

/// Exchanges it for what is there.
pub(crate) fn swap(saved: &mut Saved) {
    SUBMITTING.with_borrow_mut(|calls| std::mem::swap(calls, &mut saved.submitting));
    saved.leaves_restores = LEAVES_RESTORES.replace(saved.leaves_restores);
}

/// Runs code of users, or waits for a launch: what that spawns is no call inside this thread's calls of `submit`, which would leave it to those.
fn outside<R>(body: impl FnOnce() -> R) -> R {
    let calls = SUBMITTING.take();
    let result = body();
    SUBMITTING.set(calls);
    result
}

/// Does something that may submit launches, and may not wait for what some of them need: another thread sees to that.
pub(crate) fn leaving_restores<R>(body: impl FnOnce() -> R) -> R {
    /// As it was, however `body` ends.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            LEAVES_RESTORES.set(self.0);
        }
    }
    let _before = Before(LEAVES_RESTORES.replace(true));
    body()
}

/// The queues of all queued processors of a runtime.
#[derive(Debug)]
pub(crate) struct Queued {
    state: Mutex<State>,
    /// Place of the first queued processor in `Shared::processors`.
    first: usize,
    counts: Vec<Counts>,
    /// Held while a launch is looked at, and while the results of one are withdrawn. Before `state`.
    look: Mutex<()>,
    /// Held for moments. Before `state`.
    ahead: Mutex<AheadMap>,
}

/// What one processor has done.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) tasks: AtomicU64,
    pub(crate) activity: Activity,
}

#[derive(Debug)]
struct State {
    queues: Vec<Queue>,
    /// Tasks that a processor has, by the id that it knows them by.
    in_flight: BTreeMap<TaskId, InFlight>,
    next_id: u64,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Results of launches that failed, whose memory launches behind them may use: dropped when all that have smaller numbers than this have ended.
    withdrawn: Vec<(TaskId, Box<dyn Any + Send>)>,
    /// The launch that is being prepared: it may use such memory, and is not in flight yet.
    preparing: Option<TaskId>,
    in_flight_count: usize,
    /// Whether the next launch waits for memory of the device.
    waits_for_memory: bool,
    /// When the last launch was reported as done.
    last_end_ns: u64,
    /// Whether it has told of a launch how long that took: what it does not tell of others is not guessed then.
    measures: bool,
    /// Threads of the processor that are in the middle of a body.
    running_count: usize,
    depth: usize,
}

#[derive(Debug)]
struct InFlight {
    task: Flying,
    queue: usize,
    /// Whether `HostServices::run` has been called for it.
    asked: bool,
}

/// A task that a processor has.
#[derive(Debug)]
enum Flying {
    /// One with a body for the host. Not claimed yet.
    Task(Entry),
    /// A kernel's launch, which has been claimed.
    Launch(TaskRef, InFlightLaunch),
}

impl Queued {
    /// One queue for each of `processors`, of which the first has the place `first`.
    pub(crate) fn new(processors: &[ProcessorRecord], first: usize) -> Self {
        let queues = processors
            .iter()
            .map(|record| Queue {
                waiting: VecDeque::new(),
                withdrawn: Vec::new(),
                preparing: None,
                in_flight_count: 0,
                waits_for_memory: false,
                last_end_ns: 0,
                measures: false,
                running_count: 0,
                depth: match record.info.execution {
                    Execution::Queued { depth } => depth.max(1) as usize,
                    _ => 1,
                },
            })
            .collect();
        let counts = processors.iter().map(|_| Counts::default()).collect();
        Self {
            state: Mutex::new(State { queues, in_flight: BTreeMap::new(), next_id: 0 }),
            first,
            counts,
            look: Mutex::default(),
            ahead: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything that can panic is called.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the processor with the place `processor` in `Shared::processors` has done.
    pub(crate) fn counts(&self, processor: usize) -> &Counts {
        &self.counts[processor - self.first]
    }

    /// Whether a launch waits for memory of its device.
    pub(crate) fn waits_for_memory(&self) -> bool {
        self.lock().queues.iter().any(|queue| queue.waits_for_memory)
    }

    /// Of each queue how many ready tasks wait, and how many the processor has.
    pub(crate) fn loads(&self) -> Vec<(usize, usize)> {
        let is_ready = |task: &&Waiting| matches!(task, Waiting::Ready(_)) && !task.is_stale();
        self.lock().queues.iter().map(|queue| (queue.waiting.iter().filter(is_ready).count(), queue.in_flight_count)).collect()
    }

    /// Whether a processor has something to do.
    pub(crate) fn has_in_flight(&self) -> bool {
        !self.lock().in_flight.is_empty()
    }

    /// Gives a task to the least loaded of `processors` (places in `Shared::processors`).
    pub(crate) fn push(&self, shared: &Shared, processors: &[usize], task: Entry) {
        self.submit(shared, self.add(processors, task));
    }

    /// The same without submitting it: the number of the queue that it is in.
    pub(crate) fn add(&self, processors: &[usize], task: Entry) -> usize {
        let mut state = self.lock();
        let load = |queue: &usize| state.queues[*queue].waiting.len() + state.queues[*queue].in_flight_count;
        let Some(queue) = processors.iter().map(|processor| processor - self.first).min_by_key(load) else {
            unreachable!("a task whose scope no processor satisfies fails when it is spawned")
        };
        state.queues[queue].waiting.push_back(Waiting::Ready(task));
        queue
    }

    /// Submits as much as the processor wants. A processor may complete tasks before it returns from taking them, and a chain of such tasks must not
    /// become a tower of calls: a call inside another one for the same queue leaves the work to that.
    pub(crate) fn submit(&self, shared: &Shared, queue: usize) {
        /// Takes the call off this thread's list, however it ends.
        struct Done;
        impl Drop for Done {
            fn drop(&mut self) {
                SUBMITTING.with_borrow_mut(Vec::pop);
            }
        }
        let call = (std::ptr::from_ref(self).addr(), queue);
        let nested = SUBMITTING.with_borrow_mut(|calls| match calls.iter_mut().find(|(known, _)| *known == call) {
            Some((_, again)) => {
                *again = true;
                true
            }
            None => {
                calls.push((call, true));
                false
            }
        });
        if nested {
            return;
        }
        let _done = Done;
        while SUBMITTING.with_borrow_mut(|calls| calls.last_mut().is_some_and(|(_, again)| std::mem::take(again))) {
            self.submit_batch(shared, queue);
        }
    }

    fn submit_batch(&self, shared: &Shared, queue: usize) {
        // Tasks that a thread which waited for them has run, or that were cancelled, are no work: the last ones would else come when the processor is being stopped.
        // What is dropped, and what is to be done about tasks that are no work for the processor, comes when no lock is held: it may run code of users.
        let mut stale = Vec::new();
        let mut aside = Vec::new();
        let mut trash = Trash::default();
        let mut wakes = Vec::new();
        let refused = residency::deferring(|| self.submit_locked(shared, queue, (&mut stale, &mut wakes), &mut aside, &mut trash));
        self.complete_all(shared, &refused, true);
        outside(|| drop((stale, trash)));
        drop(self.take_withdrawn(queue));
        let (restores, aside): (Vec<_>, Vec<_>) = aside.into_iter().partition(|one| matches!(one, Aside::Restores(..)));
        let has_room = !aside.is_empty();
        for one in aside {
            self.put_aside(shared, queue, one);
        }
        if has_room {
            // The board may have held others back for those that went. This thread is in the middle of such a call, which then goes on.
            self.submit(shared, queue);
        }
        for went in wakes {
            if let Some(other) = shared.after_placing(went) {
                self.submit(shared, other);
            }
        }
        self.restore(shared, queue, restores);
    }

    /// Results of launches that failed, whose memory no launch of this queue uses any more.
    fn take_withdrawn(&self, queue: usize) -> Vec<(TaskId, Box<dyn Any + Send>)> {
        let State { queues, in_flight, .. } = &mut *self.lock();
        let Queue { withdrawn, preparing, .. } = &mut queues[queue];
        if withdrawn.is_empty() {
            return Vec::new();
        }
        // Of this queue: what others do with it, no completion of theirs looks here.
        let own = in_flight.iter().find(|(_, task)| task.queue == queue).map(|(id, _)| *id);
        let oldest = own.into_iter().chain(*preparing).min().unwrap_or(TaskId(u64::MAX));
        withdrawn.extract_if(.., |(before, _)| *before <= oldest).collect()
    }

    /// Sees to launches that need something which has to be computed again: that may take long, and wait for what this thread is to report.
    fn restore(&self, shared: &Shared, queue: usize, restores: Vec<Aside>) {
        let arc = restores.iter().find_map(Aside::runtime).filter(|_| LEAVES_RESTORES.get());
        let Some(arc) = arc else { return restores.into_iter().for_each(|one| self.put_aside(shared, queue, one)) };
        let left = Arc::new(Mutex::new(restores));
        let taken = Arc::clone(&left);
        let take = |left: &Mutex<Vec<Aside>>| std::mem::take(&mut *left.lock().unwrap_or_else(PoisonError::into_inner));
        let act = move || take(&taken).into_iter().for_each(|one| arc.queued.put_aside(&arc, queue, one));
        if platform::spawn("poniard-restore", act).is_err() {
            // Here, after all.
            take(&left).into_iter().for_each(|one| self.put_aside(shared, queue, one));
        }
    }

    /// Submits what the processor takes next. What it has refused as a whole.
    fn submit_locked(
        &self,
        shared: &Shared,
        queue: usize,
        (stale, wakes): (&mut Vec<Waiting>, &mut Vec<Went>),
        aside: &mut Vec<Aside>,
        trash: &mut Trash,
    ) -> Vec<Completion> {
        let space = shared.space_of(self.first + queue);
        // What one launch finds in the space is there when the processor has all that was submitted before.
        let _issue = space.map(|space| space.issue.lock());
        let mut batch: Vec<(TaskId, String)> = Vec::new();
        let mut launches = Vec::new();
        let most = LAUNCHES_MAX[usize::from(self.lock().queues[queue].in_flight_count > 0)];
        while launches.len() < most
            && let Some(task) = self.next_waiting(shared, queue, stale, wakes)
        {
            let Some(space) = space.filter(|_| !task.is_for_host()) else {
                let Waiting::Ready(task) = task else { unreachable!("only launches are submitted ahead") };
                let mut state = self.lock();
                let id = TaskId(state.next_id);
                state.next_id += 1;
                let name = task.peek(|task| task.name().name);
                state.in_flight.insert(id, InFlight { task: Flying::Task(task), queue, asked: false });
                batch.push((id, name));
                continue;
            };
            match self.look_at(shared, queue, space, task, trash) {
                Looked::Ready(ready) => {
                    self.lock().queues[queue].waits_for_memory = false;
                    launches.push(ready);
                }
                Looked::Aside(one) => {
                    self.lock().queues[queue].in_flight_count -= 1;
                    aside.push(one);
                }
                Looked::Wait(task) => {
                    let mut state = self.lock();
                    state.queues[queue].in_flight_count -= 1;
                    state.queues[queue].waits_for_memory = true;
                    state.queues[queue].waiting.push_front(task);
                    break;
                }
            }
        }
        if launches.len() == most {
            // This thread is in the middle of such a call, which then goes on.
            self.submit(shared, queue);
        }
        if batch.is_empty() && launches.is_empty() {
            return Vec::new();
        }
        let as_launches: Vec<_> = launches.iter().map(|ready| ready.launch()).collect();
        let tasks = batch.iter().map(|(id, name)| TaskDescriptor::new(*id, name));
        let kernels = launches.iter().zip(&as_launches).map(|(ready, launch)| {
            let task = TaskDescriptor::new(ready.id, &ready.name);
            launch.as_ref().map_or(task, |launch| task.with_launch(launch))
        });
        let descriptors: Vec<_> = tasks.chain(kernels).collect();
        match shared.processors[self.first + queue].processor.submit(&descriptors) {
            Ok(()) => Vec::new(),
            Err(error) => descriptors.iter().map(|task| Completion::failed(task.id, Fault::refused(&error.reason))).collect(),
        }
    }

    /// Takes the next task that is still one, if the processor wants more, and counts it as in flight: one that is ready before one that waits for others, so that what does not
    /// depend on each other comes one after the other.
    fn next_waiting(&self, shared: &Shared, queue: usize, stale: &mut Vec<Waiting>, wakes: &mut Vec<Went>) -> Option<Waiting> {
        {
            let mut state = self.lock();
            let waiting = &mut state.queues[queue];
            while let Some(task) = waiting.waiting.pop_front_if(|task| task.is_stale()) {
                stale.push(task);
            }
            if waiting.in_flight_count >= waiting.depth {
                return None;
            }
            // Counted before it is taken: others may be at this, too.
            waiting.in_flight_count += 1;
            if let Some(task) = waiting.waiting.pop_front_if(|task| matches!(task, Waiting::Ready(_))) {
                return Some(task);
            }
        }
        let mut stale_entries = Vec::new();
        let placed = shared.placement.as_ref().and_then(|placement| placement.take(shared, self.first + queue, &mut stale_entries, wakes));
        stale.extend(stale_entries.into_iter().map(Waiting::Ready));
        if let Some(entry) = placed {
            return Some(Waiting::Ready(entry));
        }
        let mut state = self.lock();
        let waiting = &mut state.queues[queue];
        while let Some(task) = waiting.waiting.pop_front() {
            if !task.is_stale() {
                return Some(task);
            }
            stale.push(task);
        }
        waiting.in_flight_count -= 1;
        None
    }

    /// Runs the body of a task in flight on this thread.
    pub(crate) fn run(&self, shared: &Arc<Shared>, id: TaskId) -> Result<(), RunError> {
        let (task, queue) = {
            let mut state = self.lock();
            let in_flight = state.in_flight.get_mut(&id).ok_or_else(|| RunError::new(format!("no task {id} is in flight")))?;
            if std::mem::replace(&mut in_flight.asked, true) && matches!(in_flight.task, Flying::Task(_)) {
                return Err(RunError::new(format!("task {id} has been run already")));
            }
            let Flying::Task(task) = &in_flight.task else { return Err(RunError::new(format!("task {id} is a kernel's launch"))) };
            (task.peek(TaskRef::clone), in_flight.queue)
        };
        if task.try_claim() != Claim::Won {
            // A thread that waited for it was faster, and publishes it.
            return Ok(());
        }
        self.count_running(queue, true);
        let context = Context::new(Arc::clone(shared), self.first + queue);
        let failure = outside(|| aside(|| context.enter(|| execute(&context, &task))));
        self.count_running(queue, false);
        // Not left to `complete`: the processor may call that too early, or only after its next task, which may wait for this one.
        shared.finish(None, &task, failure, false);
        Ok(())
    }

    /// Notes that a thread of a processor begins or ends a body. Several at once are one piece of the processor's time.
    fn count_running(&self, queue: usize, begins: bool) {
        let mut state = self.lock();
        let count = &mut state.queues[queue].running_count;
        let activity = &self.counts[queue].activity;
        if begins {
            *count += 1;
            if *count == 1 {
                activity.begin(now_ns());
            }
        } else {
            *count -= 1;
            if *count == 0 {
                activity.end(now_ns());
            }
        }
    }

    /// Frees the places of tasks that a processor reports as done, and fails those that it has not run; returns the ids that it does not have.
    pub(crate) fn complete(&self, shared: &Shared, completions: &[Completion]) -> Vec<TaskId> {
        leaving_restores(|| self.complete_all(shared, completions, false))
    }

    /// The same; with `not_taken` the processor has not even made the copies for launches.
    fn complete_all(&self, shared: &Shared, completions: &[Completion], not_taken: bool) -> Vec<TaskId> {
        let mut unknown = Vec::new();
        let mut queues = Vec::new();
        let busy_ns = self.lock().busy_ns(completions);
        for (completion, busy_ns) in completions.iter().zip(busy_ns) {
            let done = {
                let mut state = self.lock();
                let done = state.in_flight.remove(&completion.task);
                if let Some(done) = &done {
                    state.queues[done.queue].in_flight_count -= 1;
                }
                done
            };
            let Some(done) = done else {
                unknown.push(completion.task);
                continue;
            };
            queues.push(done.queue);
            let entry = match done.task {
                Flying::Launch(task, launch) => {
                    if let (Ok(()), Some(upload_ns)) = (&completion.outcome, completion.upload_ns) {
                        launch.measured_upload(upload_ns);
                    }
                    self.complete_launch(shared, done.queue, task, launch, &completion.outcome, (busy_ns, not_taken));
                    continue;
                }
                Flying::Task(entry) => entry,
            };
            // Otherwise it is published by whoever runs it or has run it.
            if entry.peek(TaskRef::try_claim) == Claim::Won {
                let Work::Task(task) = entry.into_work() else { unreachable!("parts of runs lie in queues of workers") };
                let reason = match &completion.outcome {
                    Err(fault) => fault.reason.clone(),
                    Ok(()) => "it reported the task as done without having run it".into(),
                };
                let processor = shared.processors[self.first + done.queue].info.name.clone();
                let failure = task.fail_claimed(FailureKind::Processor { processor, reason });
                shared.finish(None, &task, Some(failure), false);
            }
        }
        queues.dedup();
        for queue in queues {
            drop(self.take_withdrawn(queue));
            if planted::is(Bug::ForgottenLaunch) && self.lock().queues[queue].waits_for_memory {
                continue;
            }
            self.submit(shared, queue);
        }
        unknown
    }
}

impl State {
    /// How long processors were at launches that they report as done. One that does not say so does one after the other: it began when the one before was over, or when it
    /// got this one; what it reports together took equally long. Of one that says so of some, nothing is guessed of others.
    fn busy_ns(&mut self, completions: &[Completion]) -> Vec<Option<u64>> {
        let now_ns = now_ns();
        let of = |completion: &Completion| match self.in_flight.get(&completion.task)? {
            InFlight { task: Flying::Launch(_, launch), queue, .. } if completion.outcome.is_ok() => Some((*queue, launch.submitted_ns())),
            _ => None,
        };
        let launches: Vec<_> = completions.iter().map(of).collect();
        for (completion, launch) in completions.iter().zip(&launches) {
            if let (Some(_), Some((queue, _))) = (completion.busy_ns, launch) {
                self.queues[*queue].measures = true;
            }
        }
        let shares = shares(launches.iter().copied().flatten(), |queue| self.queues[queue].last_end_ns, now_ns);
        let share = |queue: usize| if self.queues[queue].measures { None } else { shares.get(&queue).copied() };
        let busy_ns = completions
            .iter()
            .zip(&launches)
            .map(|(completion, launch)| launch.and_then(|(queue, _)| completion.busy_ns.or_else(|| share(queue))));
        let busy_ns = busy_ns.collect();
        for (queue, _) in launches.iter().flatten() {
            self.queues[*queue].last_end_ns = now_ns;
        }
        busy_ns
    }
}

/// How long each queue was at one of `launches` (its queue, and when it was submitted), all of which are over now: equally long at each. Linear in their number.
fn shares(launches: impl Iterator<Item = (usize, u64)>, last_end_ns: impl Fn(usize) -> u64, now_ns: u64) -> BTreeMap<usize, u64> {
    let mut together: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for (queue, submitted_ns) in launches {
        let (first_ns, count) = together.entry(queue).or_insert((submitted_ns, 0));
        *first_ns = submitted_ns.min(*first_ns);
        *count += 1;
    }
    let share = |(queue, (first_ns, count)): (usize, (u64, u64))| (queue, now_ns.saturating_sub(first_ns.max(last_end_ns(queue))) / count);
    together.into_iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;

    use poniard_interface::{BackendInfo, Processor, ProcessorInfo, ProcessorKind, SpaceId, StopError, SubmitError};

    use super::*;
    use crate::runtime::{BackendRecord, Backends, Handle};
    use crate::worker::shared::Choices;
    use crate::{Runtime, Task, TaskError};

    type Submit = dyn Fn(&Arc<Shared>, &[TaskId]) -> Result<(), SubmitError> + Send + Sync;

    /// A processor whose `submit` is what the test wants.
    struct Fake {
        depth: u32,
        shared: Arc<OnceLock<std::sync::Weak<Shared>>>,
        submit: Box<Submit>,
    }

    impl Processor for Fake {
        fn info(&self) -> ProcessorInfo {
            ProcessorInfo {
                name: "fake".into(),
                kind: ProcessorKind::cpu(),
                execution: Execution::Queued { depth: self.depth },
                space: SpaceId::HOST,
                numa_node: None,
                device: None,
            }
        }

        fn submit(&self, batch: &[TaskDescriptor<'_>]) -> Result<(), SubmitError> {
            let shared = self.shared.get().and_then(std::sync::Weak::upgrade).expect("the runtime is there");
            (self.submit)(&shared, &batch.iter().map(|task| task.id).collect::<Vec<_>>())
        }

        fn stop(&self) -> Result<(), StopError> {
            Ok(())
        }
    }

    /// A runtime whose only processor is a fake one.
    fn runtime(depth: u32, submit: impl Fn(&Arc<Shared>, &[TaskId]) -> Result<(), SubmitError> + Send + Sync + 'static) -> Runtime {
        let link = Arc::new(OnceLock::new());
        let processor = Box::new(Fake { depth, shared: Arc::clone(&link), submit: Box::new(submit) });
        let records = vec![ProcessorRecord { lost: OnceLock::new(), info: processor.info(), processor, backend: 0 }];
        let info = BackendInfo { name: "fake".into(), version: "1".into() };
        let backend = BackendRecord { info, file: None, rustc: String::new(), spaces: Vec::new(), backend: None };
        let backends = Backends { records: vec![backend], found: Default::default() };
        let shared = Arc::new(Shared::new(records, backends, Vec::new(), Choices::default()));
        link.set(Arc::downgrade(&shared)).expect("set once");
        Runtime::of(Handle { shared })
    }

    fn done(shared: &Shared, ids: &[TaskId]) -> Vec<TaskId> {
        shared.queued.complete(shared, &ids.iter().map(|id| Completion::done(*id)).collect::<Vec<_>>())
    }

    fn sum(runtime: &Runtime, chain: u64) -> Result<u64, TaskError> {
        // Nothing of the chain is ready before its first task is released.
        let gate = runtime.spawn(|| 0u64, ());
        let mut last: Task<u64> = gate;
        for _ in 0..chain {
            last = runtime.spawn(|x: u64| x + 1, (last,));
        }
        last.take()
    }

    #[test]
    fn a_processor_may_complete_tasks_before_it_returns_from_taking_them() {
        // The first task waits until the chain is there; then each completion submits the next: once a tower of calls.
        let held = Arc::new(Mutex::new(Vec::new()));
        let hold = Arc::new(AtomicBool::new(true));
        let runtime = {
            let (held, hold) = (Arc::clone(&held), Arc::clone(&hold));
            runtime(1, move |shared, ids| {
                if hold.swap(false, Relaxed) {
                    held.lock().expect("not poisoned").extend_from_slice(ids);
                    return Ok(());
                }
                for id in ids {
                    shared.queued.run(shared, *id).expect("it is in flight");
                }
                assert!(done(shared, ids).is_empty());
                Ok(())
            })
        };
        let mut last: Task<u64> = runtime.spawn(|| 0u64, ());
        for _ in 0..100_000 {
            last = runtime.spawn(|x: u64| x + 1, (last,));
        }
        let ids = std::mem::take(&mut *held.lock().expect("not poisoned"));
        runtime.shared.queued.run(&runtime.shared, ids[0]).expect("it is in flight");
        assert!(done(&runtime.shared, &ids).is_empty());
        assert_eq!(last.take().expect("no failure"), 100_000);
    }

    #[test]
    fn what_was_run_by_whoever_waited_for_it_is_not_submitted() {
        // It was, once there was room for it: also to a processor that was being stopped.
        let submitted = Arc::new(Mutex::new(Vec::new()));
        let runtime = {
            let submitted = Arc::clone(&submitted);
            runtime(1, move |_, ids| {
                submitted.lock().expect("not poisoned").extend_from_slice(ids);
                Ok(())
            })
        };
        let outer = runtime.spawn(|| crate::spawn(|| 7u64, ()).take(), ());
        let ids = submitted.lock().expect("not poisoned").clone();
        runtime.shared.queued.run(&runtime.shared, ids[0]).expect("it is in flight");
        assert!(done(&runtime.shared, &ids).is_empty());
        assert_eq!(outer.take().expect("no failure"), 7);
        assert_eq!(*submitted.lock().expect("not poisoned"), ids);
    }

    #[test]
    fn what_is_reported_together_shares_the_time_of_its_queue() {
        // The first queue ended something at 50, the second at 300; it is 400 now.
        let last_end_ns = |queue: usize| [50, 300][queue];
        let launches = [(0, 200), (1, 10), (0, 100), (1, 350), (0, 390)];
        assert_eq!(super::shares(launches.into_iter(), last_end_ns, 400), [(0, 100), (1, 50)].into());
        // Submitted after now, as clocks go.
        assert_eq!(super::shares([(1, 500)].into_iter(), last_end_ns, 400), [(1, 0)].into());
    }

    #[test]
    fn refusing_every_batch_fails_every_task() {
        let runtime = runtime(1, |_, _| Err(SubmitError::new("no power")));
        let error = sum(&runtime, 100).expect_err("nothing runs");
        assert!(error.reason().contains("no power"), "{error}");
    }

    #[test]
    fn completing_twice_or_unasked_is_told_and_a_task_that_was_not_run_fails() {
        let runtime = runtime(4, |shared, ids| {
            assert!(done(shared, ids).is_empty());
            assert_eq!(done(shared, ids), ids);
            assert!(shared.queued.run(shared, ids[0]).is_err());
            Ok(())
        });
        let error = runtime.spawn(|| 1u64, ()).fetch().expect_err("it was not run");
        assert!(error.reason().contains("without having run it"), "{error}");
    }

    #[test]
    fn completing_a_task_that_still_runs_does_not_publish_it() {
        // Waiting threads saw a finished task without a value, while its body was about to write one.
        let ids = Arc::new(Mutex::new(Vec::new()));
        let runtime = {
            let ids = Arc::clone(&ids);
            runtime(4, move |_, batch| {
                ids.lock().expect("not poisoned").extend_from_slice(batch);
                Ok(())
            })
        };
        let (handle, seen) = (runtime.handle(), Arc::clone(&ids));
        let task = runtime.spawn(
            move || {
                done(&handle.shared, &seen.lock().expect("not poisoned"));
                7u64
            },
            (),
        );
        let id = ids.lock().expect("not poisoned")[0];
        let after = runtime.spawn(|x: u64| x, (&task,));
        runtime.shared.queued.run(&runtime.shared, id).expect("it is in flight");
        assert_eq!(*task.fetch().expect("no failure"), 7);
        let id = ids.lock().expect("not poisoned")[1];
        runtime.shared.queued.run(&runtime.shared, id).expect("it is in flight");
        assert_eq!(*after.fetch().expect("no failure"), 7);
    }

    #[test]
    fn a_task_may_fetch_one_that_ran_on_its_thread_in_the_same_batch() {
        // It was taken for the task itself, because its context had lain at the same address.
        let runtime = runtime(4, |shared, ids| {
            for id in ids {
                shared.queued.run(shared, *id).expect("it is in flight");
            }
            Ok(())
        });
        let first = runtime.spawn(|| 1u64, ());
        let second = runtime.spawn(move || first.fetch().map(|value| *value + 1), ());
        assert_eq!(*second.fetch().expect("no failure"), 2);
    }
}
