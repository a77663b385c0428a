//! Launches of kernels: tasks that a queued processor's device runs.
//!
//! A launch is claimed when it is submitted. Its buffers are brought into the device's space (`residency`), and when it is done the results are its value. One that
//! the processor does not do goes to another one in its scope, or to the host.
//!
//! A launch that waits only for launches which the processor has already is submitted right behind them: a device does things in their order, so it need not come back to the
//! host in between. Its record is claimed *ahead*; what it reads of those before it is where their results will be. When those fail, it goes back to waiting.
//! The runtime's reference of such a task, which whoever finishes the last one before it puts into a queue, is kept for it (`keep_entry`), so that there is never a second.

use std::any::Any;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use poniard_interface::{Fault, FaultKind, Launch, LogLevel, TaskId};

use super::{Flying, InFlight, Queued, outside};
use crate::clock::{now, now_ns};
use crate::error::FailureKind;
use crate::kernel::Origin;
use crate::kernel::plan::{Plan, Unplanned};
use crate::options::LaunchTies;
use crate::placement::{code_of, placed};
use crate::planted::{self, Bug};
use crate::platform;
use crate::residency::{self, DeviceSpace, Lost, Prepared, Refusal, Undone};
use crate::task::record::{Claim, TaskRef};
use crate::worker::context::runtime_of;
use crate::worker::entry::{Entry, Work};
use crate::worker::shared::Shared;

/// How long a thread waits in the place of a processor's: much longer than a thread takes to be woken. Somebody may cancel what it waits for, and is not to wait for it longer than this.
const ATTENTION: Duration = Duration::from_millis(1);

/// How much longer than its task may take a launch may be at it before its device is given up. The task fails in time; a device is more than a task.
const GRACE: Duration = Duration::from_secs(1);

/// A launch that a processor has.
pub(super) struct InFlightLaunch {
    prepared: Prepared,
    /// How much it works on ([`Survey::size`](crate::kernel::plan::Survey::size)).
    size: u64,
    submitted_ns: u64,
    /// If it was claimed before it was ready: what it waited for then, each with the number of times that its results had been withdrawn.
    before: Option<Vec<(TaskRef, u64)>>,
}

impl InFlightLaunch {
    pub(super) fn submitted_ns(&self) -> u64 {
        self.submitted_ns
    }

    /// Notes how long the copies for it took.
    pub(super) fn measured_upload(&self, ns: u64) {
        self.prepared.measured_upload(ns);
    }
}

impl std::fmt::Debug for InFlightLaunch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InFlightLaunch").field("before", &self.before).finish_non_exhaustive()
    }
}

/// What waits for a processor.
#[derive(Debug)]
pub(super) enum Waiting {
    /// A task that is ready, with the runtime's reference.
    Ready(Entry),
    /// A launch that waits for launches which the processor has, or will have had by then.
    Ahead(TaskRef),
}

impl Waiting {
    /// Whether a thread runs it.
    pub(super) fn is_for_host(&self) -> bool {
        matches!(self, Self::Ready(entry) if entry.peek(|task| task.launch().is_none()))
    }

    pub(super) fn is_stale(&self) -> bool {
        match self {
            Self::Ready(entry) => entry.is_stale(),
            Self::Ahead(task) => task.is_claimed() || task.is_ready(),
        }
    }
}

/// A launch that is about to be submitted.
pub(super) struct Ready {
    pub(super) id: TaskId,
    pub(super) name: String,
    plan: Plan,
    operands: Vec<poniard_interface::Operand>,
    deadline: Option<Duration>,
}

impl Ready {
    /// As the processor sees it.
    pub(super) fn launch(&self) -> Option<Launch<'_>> {
        let kernel = self.plan.body.as_code()?;
        Some(Launch {
            kernel,
            operands: &self.operands,
            scalars: &self.plan.scalars,
            invocations: self.plan.invocations,
            deadline: self.deadline,
        })
    }
}

/// What is left to be done about a launch when no lock is held.
pub(super) enum Aside {
    /// It has been claimed, and fails for this reason.
    Fails(TaskRef, FailureKind),
    /// It has been claimed, and an argument has failed.
    HasFailedArgument(TaskRef),
    /// It goes elsewhere.
    Elsewhere { task: TaskRef, fault: Fault, is_whole: bool },
    /// It has been claimed, and something that it needs has to be computed again first.
    Restores(TaskRef, Lost),
    /// It was claimed before it was ready, and is given back.
    GivenBack(TaskRef),
    /// What is dropped: it may be the last that keeps a user's value.
    Gone(Waiting),
}

impl Aside {
    /// The runtime of a launch for which something has to be computed again.
    pub(super) fn runtime(&self) -> Option<Arc<Shared>> {
        if let Self::Restores(task, _) = self { Some(runtime_of(task)) } else { None }
    }
}

/// What came of looking at a launch.
pub(super) enum Looked {
    Ready(Box<Ready>),
    Aside(Aside),
    /// There is no room for it now.
    Wait(Waiting),
}

/// References to tasks, and results that nobody has seen. They may be the last that keep a value of a user, whose destructor may do anything: they are dropped when no lock is held.
#[derive(Default)]
pub(super) struct Trash {
    tasks: Vec<TaskRef>,
    results: Vec<Box<dyn Any + Send>>,
}

/// Whether all that a task waits for are launches of its runtime that the processor of a queue has; then also those.
fn is_carried(task: &TaskRef, queue: usize, trash: &mut Trash) -> Option<Vec<(TaskRef, u64)>> {
    let mut before = Vec::new();
    let is_any = task.unfinished_predecessors(&mut before);
    let there = |one: &TaskRef| {
        let launch = one.launch_ties().filter(|_| std::ptr::eq(one.runtime(), task.runtime()))?;
        // The number first: a launch that is withdrawn in between has another queue, or none.
        let times = launch.withdrawn.load(SeqCst);
        (launch.queue.load(SeqCst) == queue + 1).then_some(times)
    };
    let times: Option<Vec<u64>> = before.iter().map(there).collect();
    // One that is held back waits for more than those.
    match times.filter(|_| is_any && task.unmet_count() <= before.len()) {
        Some(times) => Some(before.into_iter().zip(times).collect()),
        None => {
            trash.tasks.extend(before);
            None
        }
    }
}

/// Looks at a launch that was held back and may not be ready, as [`Queued::offer_ahead`] does.
pub(crate) fn offer(task: &TaskRef) {
    if let Some(shared) = task.launch_ties().and_then(|launch| launch.runtime.upgrade()) {
        shared.queued.offer_ahead(&shared, task);
    }
}

/// Waits for a launch in the place of the thread of its processor, if that wants it: what comes to an end soon needs then no thread but this one.
pub(crate) fn attend(task: &TaskRef) {
    let Some(launch) = task.launch_ties() else { return };
    let Some(shared) = launch.runtime.upgrade() else { return };
    while !task.is_finished()
        && let Some(queue) = launch.queue.load(Relaxed).checked_sub(1)
        && shared.processors[shared.queued.first + queue].processor.attend(ATTENTION)
    {}
}

impl Queued {
    /// Claims a launch and prepares it for `queue`. Called with the space's `issue` lock held.
    pub(super) fn look_at(&self, shared: &Shared, queue: usize, space: &Arc<DeviceSpace>, waiting: Waiting, trash: &mut Trash) -> Looked {
        // Until the plan is made: what it reads of launches before it may be withdrawn when those fail.
        let look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let (task, before) = match waiting {
            Waiting::Ready(entry) => {
                let Work::Task(task) = entry.into_work() else { unreachable!("parts of runs lie in queues of workers") };
                if task.try_claim() != Claim::Won {
                    return Looked::Aside(Aside::Gone(Waiting::Ready(Entry::task(task))));
                }
                (task, None)
            }
            Waiting::Ahead(task) => {
                let is_wanted = !shared.is_outdated(task.epoch()) && !task.is_withdrawn();
                let before = is_carried(&task, queue, trash).filter(|_| is_wanted);
                let Some(before) = before else { return Looked::Aside(Aside::Gone(Waiting::Ahead(task))) };
                if !self.claim_ahead(&task) {
                    trash.tasks.extend(before.into_iter().map(|(task, _)| task));
                    return Looked::Aside(Aside::Gone(Waiting::Ahead(task)));
                }
                (task, Some(before))
            }
        };
        let Some(table) = task.launch() else { unreachable!("only launches get here") };
        let Some(ties) = task.launch_ties() else { unreachable!("a launch has ties") };
        let is_ahead = before.is_some();
        // One that is not ready will be in the same state when it is, and is failed then.
        let aside = |task: TaskRef, aside: Aside| Looked::Aside(if is_ahead { Aside::GivenBack(task) } else { aside });
        let fails = |kind| aside(task.clone(), Aside::Fails(task.clone(), kind));
        if task.has_failed_argument(&table) {
            return aside(task.clone(), Aside::HasFailedArgument(task));
        }
        if shared.is_outdated(task.epoch()) {
            return fails(shared.outdated(&task));
        }
        if let Some(kind) = task.stopped() {
            return fails(kind);
        }
        if task.is_withdrawn() {
            return fails(FailureKind::Cancelled);
        }
        let left = ties.due.map(|due| due.saturating_duration_since(now()));
        if left.is_some_and(|left| left.is_zero()) {
            return fails(FailureKind::DeadlineExceeded);
        }
        let mut plan = match task.plan(&table) {
            Ok(plan) => plan,
            Err(Unplanned { reason, is_for_host: true }) => {
                return aside(task.clone(), Aside::Elsewhere { task, fault: Fault::refused(reason), is_whole: true });
            }
            Err(Unplanned { reason, .. }) => return fails(FailureKind::Kernel { reason }),
        };
        if is_ahead && !residency::can_follow(&plan.uses) {
            trash.results.push(Box::new(plan));
            return Looked::Aside(Aside::GivenBack(task));
        }
        task.write_outputs(&table, std::mem::take(&mut plan.outputs));
        // SeqCst, as the look at successors: whoever is spawned after that sees it (`offer_ahead`).
        ties.queue.store(queue + 1, SeqCst);
        // From now on what it reads of launches before it stays, also if it is withdrawn.
        let id = {
            let mut state = self.lock();
            let id = TaskId(state.next_id);
            state.next_id += 1;
            state.queues[queue].preparing = Some(id);
            id
        };
        drop(look);
        let mut prepared = match residency::prepare(space, &plan.uses) {
            Ok(prepared) => prepared,
            Err(refusal) => {
                self.lock().queues[queue].preparing = None;
                // Nobody has planned with its results: whoever does holds `issue`.
                trash.results.push(self.withdraw(&task));
                return match refusal {
                    Refusal::Wait if !is_ahead && task.unclaim() => Looked::Wait(Waiting::Ready(Entry::task(task))),
                    Refusal::Wait => {
                        let kind = task.stopped().unwrap_or(FailureKind::Cancelled);
                        aside(task.clone(), Aside::Fails(task, kind))
                    }
                    Refusal::Lost(lost) => aside(task.clone(), Aside::Restores(task, lost)),
                    Refusal::Never(reason) => aside(task.clone(), Aside::Elsewhere { task, fault: Fault::refused(reason), is_whole: true }),
                };
            }
        };
        let name = task.name().name;
        let operands = std::mem::take(&mut prepared.operands);
        let successors = task.waiting_successors();
        {
            let mut state = self.lock();
            state.queues[queue].preparing = None;
            let launch = InFlightLaunch { prepared, size: plan.size(), submitted_ns: now_ns(), before };
            state.in_flight.insert(id, InFlight { task: Flying::Launch(task, launch), queue, asked: true });
        }
        self.count_running(queue, true);
        for successor in successors {
            if self.is_to_follow(shared, &successor, queue, trash) {
                self.lock().queues[queue].waiting.push_back(Waiting::Ahead(successor));
            } else {
                trash.tasks.push(successor);
            }
        }
        Looked::Ready(Box::new(Ready { id, name, plan, operands, deadline: left.map(|left| left + GRACE) }))
    }

    /// Whether a task can be submitted to a queue right behind what it waits for.
    fn is_to_follow(&self, shared: &Shared, task: &TaskRef, queue: usize, trash: &mut Trash) -> bool {
        let is_launch = task.launch().is_some() && std::ptr::eq(task.runtime(), shared);
        let is_for_it =
            |launch: &LaunchTies| !launch.on_host.load(Relaxed) && shared.devices_for(task, launch).contains(&(self.first + queue));
        if !is_launch || !task.launch_ties().is_some_and(is_for_it) {
            return false;
        }
        // One that might as well go to the host goes where its like went.
        if let (Some(placement), Some(launch)) = (&shared.placement, task.launch_ties())
            && shared.is_free(task, launch)
            && !placement.was_last_at(code_of(task), self.first + queue)
        {
            return false;
        }
        let before = is_carried(task, queue, trash);
        let follows = before.is_some();
        trash.tasks.extend(before.into_iter().flatten().map(|(task, _)| task));
        follows
    }

    /// Looks at a launch that was just spawned and is not ready: where all that it waits for are launches that one processor has, it has it as well.
    pub(crate) fn offer_ahead(&self, shared: &Shared, task: &TaskRef) {
        let mut before = Vec::new();
        task.unfinished_predecessors(&mut before);
        let first = before.first().filter(|one| std::ptr::eq(one.runtime(), shared));
        let Some(queue) = first.and_then(|first| first.launch_ties()).and_then(|launch| launch.queue.load(SeqCst).checked_sub(1)) else {
            return;
        };
        if self.is_to_follow(shared, task, queue, &mut Trash::default()) {
            self.lock().queues[queue].waiting.push_back(Waiting::Ahead(task.clone()));
            self.submit(shared, queue);
        }
    }

    /// Claims a launch that waits for others.
    fn claim_ahead(&self, task: &TaskRef) -> bool {
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        let claimed = task.claim_ahead();
        if claimed {
            ahead.insert(task.number(), None);
        }
        claimed
    }

    /// Keeps the entry of a launch that is ready, if it was claimed before it was; otherwise gives it back.
    pub(crate) fn keep_entry(&self, entry: Entry) -> Option<Entry> {
        let number = entry.peek(TaskRef::number);
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        match ahead.get_mut(&number) {
            Some(place) => {
                *place = Some(entry);
                None
            }
            None => Some(entry),
        }
    }

    /// Gives up the claim on a launch that was claimed before it was ready. If it is ready by now, it goes where ready tasks go.
    fn give_back(&self, shared: &Shared, task: &TaskRef) {
        let entry = {
            let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = ahead.remove(&task.number());
            task.give_back_ahead();
            entry
        };
        if let Some(Some(entry)) = entry {
            shared.enqueue(None, entry);
        }
    }

    /// Takes the results out of a launch that has not made them.
    fn withdraw(&self, task: &TaskRef) -> Box<dyn Any + Send> {
        let Some(table) = task.launch() else { unreachable!("only launches have results to withdraw") };
        let _look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(launch) = task.launch_ties() {
            launch.queue.store(0, SeqCst);
            launch.withdrawn.fetch_add(1, SeqCst);
        }
        task.withdraw_outputs(&table)
    }

    /// The same of one that was submitted: those that were submitted behind it may still use the memory, which stays until they have ended.
    fn withdraw_submitted(&self, queue: usize, task: &TaskRef) {
        let results = self.withdraw(task);
        let mut state = self.lock();
        let next_id = TaskId(state.next_id);
        state.queues[queue].withdrawn.push((next_id, results));
    }

    /// Waits for the entry of a launch that is ready: whoever counted it down last may still have it in his hands.
    fn take_entry(&self, task: &TaskRef) -> Entry {
        loop {
            let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
            match ahead.remove(&task.number()) {
                Some(Some(entry)) => return entry,
                Some(None) => drop(ahead.insert(task.number(), None)),
                None => unreachable!("it was claimed ahead, and nobody but the caller gives that up"),
            }
            drop(ahead);
            platform::yield_now();
        }
    }

    /// Takes what came of a launch that a processor reports as done.
    pub(super) fn complete_launch(
        &self,
        shared: &Shared,
        queue: usize,
        task: TaskRef,
        launch: InFlightLaunch,
        outcome: &Result<(), Fault>,
        (busy_ns, not_taken): (Option<u64>, bool),
    ) {
        self.count_running(queue, false);
        let Some(table) = task.launch() else { unreachable!("it was a launch when it was submitted") };
        let InFlightLaunch { mut prepared, before, size, .. } = launch;
        let is_ahead = before.is_some();
        if let (Some(placement), Some(busy_ns)) = (&shared.placement, busy_ns) {
            placement.launched(self.first + queue, &task, size, busy_ns);
        }
        // Those before it may have failed, or have gone elsewhere and come to other results: then what it has made is of no use.
        let is_as_then = |(one, times): &(TaskRef, u64)| one.launch_ties().is_some_and(|launch| launch.withdrawn.load(SeqCst) == *times);
        let is_timely = before.iter().flatten().all(is_as_then) && (!is_ahead || task.is_ready() && !task.has_failed_argument(&table));
        let undone = match outcome {
            Err(fault) if fault.kind != FaultKind::Refused => {
                self.lose(shared, queue, &fault.reason);
                Undone::Begun
            }
            Err(_) if not_taken => Undone::Untouched,
            Err(_) => Undone::Copied,
            Ok(()) => Undone::Begun,
        };
        if !is_timely && !planted::is(Bug::UntimelyResult) {
            residency::take_back(prepared, undone);
            self.withdraw_submitted(queue, &task);
            return self.give_back(shared, &task);
        }
        // As a reference: should the launch go elsewhere, it has another entry there, and this one, dropped, would take that off the board.
        let entry = is_ahead.then(|| self.take_entry(&task).into_work());
        match outcome {
            Ok(()) => {
                self.counts[queue].tasks.fetch_add(1, Relaxed);
                let origin = prepared.keeps_lineage().then(|| Origin {
                    runtime: Arc::downgrade(&runtime_of(&task)),
                    location: task.location(),
                    scope: task.options().and_then(|options| options.scope.clone()),
                    may_be_host: shared.worker_count(task.domain().as_deref()) > 0,
                });
                // It has not let go of what it came after.
                let is_withdrawn = !task.begins();
                prepared.release_reads();
                let lineage = task.accept_outputs(&table, origin);
                residency::commit(prepared, lineage.as_ref());
                drop(lineage);
                let stopped = task.end_launched().or_else(|| is_withdrawn.then_some(FailureKind::Cancelled));
                if stopped.is_some() {
                    self.withdraw_submitted(queue, &task);
                }
                let failure = stopped.map(|kind| task.error_of_begun(kind));
                shared.finish(None, &task, failure, false);
            }
            Err(fault) => {
                let is_whole = residency::take_back(prepared, undone);
                self.withdraw_submitted(queue, &task);
                self.put_aside(shared, queue, Aside::Elsewhere { task, fault: fault.clone(), is_whole });
            }
        }
        drop(entry);
        drop(before);
    }

    /// Notes that a processor is lost.
    fn lose(&self, shared: &Shared, queue: usize, reason: &str) {
        let processor = self.first + queue;
        let record = &shared.processors[processor];
        if record.lost.set(reason.into()).is_ok() {
            shared.backends.found.log.push(LogLevel::Warning, format!("processor {} is lost: {reason}", record.info.name));
        }
        if let Some(space) = shared.space_of(processor) {
            space.lose(reason);
        }
        if let Some(placement) = &shared.placement {
            let (placed, left) = placement.set_active(processor, false);
            let queues: Vec<_> = placed.into_iter().filter_map(|went| shared.after_placing(went)).collect();
            left.into_iter().for_each(|entry| shared.enqueue(None, entry));
            queues.into_iter().for_each(|queue| self.submit(shared, queue));
        }
    }

    /// Sees to a launch that did not happen. No lock is held.
    pub(super) fn put_aside(&self, shared: &Shared, queue: usize, aside: Aside) {
        let (task, fault, is_whole) = match aside {
            Aside::Fails(task, kind) => {
                let failure = task.fail_claimed(kind);
                return shared.finish(None, &task, Some(failure), false);
            }
            Aside::HasFailedArgument(task) => {
                // Only says so.
                let failure = task.run_claimed();
                return shared.finish(None, &task, failure, false);
            }
            Aside::GivenBack(task) => return self.give_back(shared, &task),
            Aside::Gone(waiting) => return outside(|| drop(waiting)),
            Aside::Restores(task, lost) => {
                // It leaves the board meanwhile: to restore it may take the processor.
                if let (Some(placement), Some(placed)) = (&shared.placement, placed(&task)) {
                    placement.ended(placed, false);
                }
                if shared.slots.is_empty() {
                    outside(|| self.submit(shared, queue));
                } else {
                    shared.tell(queue);
                }
                match outside(|| residency::restore(&lost)) {
                    Ok(()) => return self.put_back(shared, task),
                    Err(reason) => {
                        let failure = task.fail_claimed(FailureKind::Lost { reason });
                        return shared.finish(None, &task, Some(failure), false);
                    }
                }
            }
            Aside::Elsewhere { task, fault, is_whole } => (task, fault, is_whole),
        };
        let processor = shared.processors[self.first + queue].info.name.clone();
        let fail = |reason: String| {
            let failure = task.fail_claimed(FailureKind::Processor { processor: processor.clone(), reason });
            shared.finish(None, &task, Some(failure), false);
        };
        let Some(launch) = task.launch_ties() else { unreachable!("a launch has ties") };
        launch.tried.fetch_or(1 << queue.min(63), Relaxed);
        if !is_whole {
            return fail(format!("{}; it was writing in place, so what it wrote to is lost", fault.reason));
        }
        if task.is_once() && fault.kind != FaultKind::Refused {
            return fail(format!("{}; the task is to be begun only once", fault.reason));
        }
        // What may have been the ruin of one device is not given to the next.
        let others = if fault.kind == FaultKind::TimedOut { Vec::new() } else { shared.devices_for(&task, launch) };
        let has_host = launch.body.has_host && shared.worker_count(task.domain().as_deref()) > 0;
        if others.is_empty() && !has_host {
            return fail(fault.reason);
        }
        if launch.body.complains() {
            let name = &launch.body.name;
            let elsewhere = others.first().map_or("the host", |place| shared.processors[*place].info.name.as_str());
            let message = format!("kernel `{name}` did not run on {processor}, and runs on {elsewhere}: {}", fault.reason);
            shared.backends.found.log.push(LogLevel::Warning, message);
        }
        launch.on_host.store(others.is_empty(), Relaxed);
        self.put_back(shared, task);
    }

    /// Gives up the claim on a launch that is ready, and puts it where ready tasks go.
    fn put_back(&self, shared: &Shared, task: TaskRef) {
        if let (Some(placement), Some(placed)) = (&shared.placement, placed(&task)) {
            placement.ended(placed, false);
        }
        if task.unclaim() {
            return shared.enqueue(None, Entry::task(task));
        }
        let failure = task.fail_claimed(task.stopped().unwrap_or(FailureKind::Cancelled));
        shared.finish(None, &task, Some(failure), false);
    }

    /// Fails a launch that no device is left for.
    pub(crate) fn fail_stranded(&self, shared: &Shared, entry: Entry) {
        let Work::Task(task) = entry.into_work() else { unreachable!("parts of runs are no launches") };
        if task.try_claim() != Claim::Won {
            drop(Entry::task(task));
            return;
        }
        let lost = shared.processors.iter().filter_map(|record| Some((&record.info, record.lost.get()?)));
        let domain = task.domain();
        let in_scope = |name: &str| {
            domain.as_ref().is_none_or(|domain| {
                shared.processors.iter().position(|record| record.info.name == name).is_some_and(|place| domain.contains(place))
            })
        };
        let first = lost.filter(|(info, _)| in_scope(&info.name)).map(|(info, reason)| (info.name.clone(), reason.clone())).next();
        let (processor, reason) = match first {
            Some((name, reason)) => (name, format!("it is lost: {reason}")),
            None => ("none".into(), "no device in its scope can run it".into()),
        };
        let failure = task.fail_claimed(FailureKind::Processor { processor, reason });
        shared.finish(None, &task, Some(failure), false);
    }
}
