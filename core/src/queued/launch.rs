//! Launches of kernels: tasks that a queued processor's device runs.
//!
//! A launch is claimed when it is submitted. Its buffers are brought into the device's space (`residency`), and when it is done the results are its value. One that
//! the processor does not do goes to another one in its scope, or to the host.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use poniard_interface::{Fault, FaultKind, KernelCode, Launch, LogLevel, RawBuffer, TaskId};

use super::{InFlight, Queued};
use crate::clock::now;
use crate::error::FailureKind;
use crate::kernel::Origin;
use crate::kernel::plan::Plan;
use crate::options::LaunchTies;
use crate::residency::{self, DeviceSpace, Prepared, Refusal};
use crate::task::record::{Claim, TaskRef};
use crate::worker::context::runtime_of;
use crate::worker::entry::{Entry, Work};
use crate::worker::shared::Shared;

/// A launch that a processor has.
pub(super) struct InFlightLaunch {
    prepared: Prepared,
    outputs: Vec<RawBuffer>,
}

impl std::fmt::Debug for InFlightLaunch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InFlightLaunch").field("outputs", &self.outputs).finish_non_exhaustive()
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
        let source = self.plan.body.code.source()?;
        let kernel = KernelCode { identity: self.plan.body.identity, name: &self.plan.body.name, source };
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
    /// It is over.
    Failed(TaskRef, Option<crate::error::TaskError>),
    /// It goes elsewhere.
    Elsewhere { task: TaskRef, fault: Fault, is_whole: bool },
}

/// What came of looking at a launch.
pub(super) enum Looked {
    Ready(Box<Ready>),
    Aside(Aside),
    /// Somebody else has it.
    Stale,
    /// There is no room for it now.
    Wait(Entry),
}

/// What there is to know about a launch.
fn ties(task: &TaskRef) -> Option<&LaunchTies> {
    task.options().and_then(|options| options.ties.launch.as_deref())
}

impl Queued {
    /// Claims a launch and prepares it for `queue`. Called with the space's `issue` lock held.
    pub(super) fn look_at(&self, shared: &Shared, queue: usize, space: &Arc<DeviceSpace>, entry: Entry) -> Looked {
        let Work::Task(task) = entry.into_work() else { unreachable!("parts of runs lie in queues of workers") };
        let Some(table) = task.launch() else { unreachable!("only launches get here") };
        if task.try_claim() != Claim::Won {
            drop(Entry::task(task));
            return Looked::Stale;
        }
        let failed = |kind| {
            let failure = task.fail_claimed(kind);
            Looked::Aside(Aside::Failed(task.clone(), Some(failure)))
        };
        if shared.is_outdated(task.epoch()) {
            return failed(shared.outdated(&task));
        }
        if let Some(kind) = task.stopped() {
            return failed(kind);
        }
        if !task.begins() {
            return failed(FailureKind::Cancelled);
        }
        if task.has_failed_argument(&table) {
            // Only says so.
            let failure = task.run_claimed();
            return Looked::Aside(Aside::Failed(task, failure));
        }
        let mut plan = match task.plan(&table) {
            Ok(plan) => plan,
            Err(reason) => return failed(FailureKind::Kernel { reason }),
        };
        let mut prepared = match residency::prepare(space, &plan.uses) {
            Ok(prepared) => prepared,
            Err(Refusal::Wait) => {
                return if task.unclaim() {
                    Looked::Wait(Entry::task(task))
                } else {
                    failed(task.stopped().unwrap_or(FailureKind::Cancelled))
                };
            }
            Err(Refusal::Never(reason)) => {
                return Looked::Aside(Aside::Elsewhere { task, fault: Fault::refused(reason), is_whole: true });
            }
        };
        let due = ties(&task).and_then(|launch| launch.due);
        let name = task.name().name;
        let operands = std::mem::take(&mut prepared.operands);
        let launch = InFlightLaunch { prepared, outputs: std::mem::take(&mut plan.outputs) };
        let id = {
            let mut state = self.lock();
            let id = TaskId(state.next_id);
            state.next_id += 1;
            state.in_flight.insert(id, InFlight { task: Entry::task(task), queue, asked: true, launch: Some(launch) });
            id
        };
        self.count_running(queue, true);
        Looked::Ready(Box::new(Ready { id, name, plan, operands, deadline: due.map(|due| due.saturating_duration_since(now())) }))
    }

    /// Takes what came of a launch that a processor reports as done.
    pub(super) fn complete_launch(
        &self,
        shared: &Shared,
        queue: usize,
        task: TaskRef,
        launch: InFlightLaunch,
        outcome: &Result<(), Fault>,
        not_taken: bool,
    ) {
        self.count_running(queue, false);
        let Some(table) = task.launch() else { unreachable!("it was a launch when it was submitted") };
        let InFlightLaunch { prepared, outputs } = launch;
        let fault = match outcome {
            Ok(()) => {
                self.counts[queue].tasks.fetch_add(1, Relaxed);
                let origin = prepared.keeps_lineage().then(|| Origin {
                    runtime: Arc::downgrade(&runtime_of(&task)),
                    location: task.location(),
                    scope: task.options().and_then(|options| options.scope.clone()),
                    may_be_host: shared.worker_count(task.domain().as_deref()) > 0,
                });
                let lineage = task.accept_outputs(&table, outputs, origin);
                residency::commit(prepared, lineage.as_ref());
                drop(lineage);
                let failure = task.end_launched();
                shared.finish(None, &task, failure, false);
                return;
            }
            Err(fault) => fault.clone(),
        };
        let is_lost = fault.kind != FaultKind::Refused;
        if is_lost {
            self.lose(shared, queue, &fault.reason);
        }
        let is_whole = residency::take_back(prepared, is_lost || not_taken);
        drop(outputs);
        self.put_aside(shared, queue, Aside::Elsewhere { task, fault, is_whole: is_whole || !is_lost });
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
    }

    /// Sees to a launch that did not happen. No lock is held.
    pub(super) fn put_aside(&self, shared: &Shared, queue: usize, aside: Aside) {
        let (task, fault, is_whole) = match aside {
            Aside::Failed(task, failure) => return shared.finish(None, &task, failure, false),
            Aside::Elsewhere { task, fault, is_whole } => (task, fault, is_whole),
        };
        let processor = shared.processors[self.first + queue].info.name.clone();
        let fail = |reason: String| {
            let failure = task.fail_claimed(FailureKind::Processor { processor: processor.clone(), reason });
            shared.finish(None, &task, Some(failure), false);
        };
        let Some(launch) = ties(&task) else { unreachable!("a launch has ties") };
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
        if !task.unclaim() {
            let failure = task.fail_claimed(task.stopped().unwrap_or(FailureKind::Cancelled));
            return shared.finish(None, &task, Some(failure), false);
        }
        shared.enqueue(None, Entry::task(task));
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
