//! Tasks for processors that take batches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use poniard_interface::{Completion, Execution, RunError, TaskDescriptor, TaskId};

use crate::clock::now_ns;
use crate::error::FailureKind;
use crate::task::record::{Claim, TaskRef};
use crate::worker::context::Context;
use crate::worker::main_loop::execute;
use crate::worker::shared::{ProcessorRecord, Shared};
use crate::worker::slot::Activity;

/// The queues of all queued processors of a runtime.
#[derive(Debug)]
pub(crate) struct Queued {
    state: Mutex<State>,
    /// Place of the first queued processor in `Shared::processors`.
    first: usize,
    counts: Vec<Counts>,
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
    waiting: VecDeque<TaskRef>,
    in_flight_count: usize,
    depth: usize,
}

#[derive(Debug)]
struct InFlight {
    task: TaskRef,
    queue: usize,
    /// Whether `HostServices::run` has been called for it.
    asked: bool,
    /// Whether that has run its body, so that its outcome is there to be published. Otherwise a thread that waited for it was faster.
    ran: bool,
}

impl Queued {
    /// One queue for each of `processors`, of which the first has the place `first`.
    pub(crate) fn new(processors: &[ProcessorRecord], first: usize) -> Self {
        let queues = processors
            .iter()
            .map(|record| Queue {
                waiting: VecDeque::new(),
                in_flight_count: 0,
                depth: match record.info.execution {
                    Execution::Queued { depth } => depth.max(1) as usize,
                    _ => 1,
                },
            })
            .collect();
        let counts = processors.iter().map(|_| Counts::default()).collect();
        Self { state: Mutex::new(State { queues, in_flight: BTreeMap::new(), next_id: 0 }), first, counts }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is complete before anything that can panic is called.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the processor with the place `processor` in `Shared::processors` has done.
    pub(crate) fn counts(&self, processor: usize) -> &Counts {
        &self.counts[processor - self.first]
    }

    /// Gives a task to the least loaded of `processors` (places in `Shared::processors`).
    pub(crate) fn push(&self, shared: &Shared, processors: &[usize], task: TaskRef) {
        let queue = {
            let mut state = self.lock();
            let load = |queue: &usize| state.queues[*queue].waiting.len() + state.queues[*queue].in_flight_count;
            let Some(queue) = processors.iter().map(|processor| processor - self.first).min_by_key(load) else {
                unreachable!("a task whose scope no processor satisfies fails when it is spawned")
            };
            state.queues[queue].waiting.push_back(task);
            queue
        };
        self.submit(shared, queue);
    }

    /// Submits as much as the processor wants.
    fn submit(&self, shared: &Shared, queue: usize) {
        let batch: Vec<(TaskId, String)> = {
            let mut state = self.lock();
            let state = &mut *state;
            let waiting = &mut state.queues[queue];
            let count = waiting.depth.saturating_sub(waiting.in_flight_count).min(waiting.waiting.len());
            waiting.in_flight_count += count;
            waiting
                .waiting
                .drain(..count)
                .map(|task| {
                    let id = TaskId(state.next_id);
                    state.next_id += 1;
                    let name = task.name().name;
                    state.in_flight.insert(id, InFlight { task, queue, asked: false, ran: false });
                    (id, name)
                })
                .collect()
        };
        if batch.is_empty() {
            return;
        }
        let descriptors: Vec<_> = batch.iter().map(|(id, name)| TaskDescriptor::new(*id, name)).collect();
        if let Err(error) = shared.processors[self.first + queue].processor.submit(&descriptors) {
            let refused: Vec<_> = batch.iter().map(|(id, _)| Completion { task: *id, outcome: Err(error.reason.clone()) }).collect();
            self.complete(shared, &refused);
        }
    }

    /// Runs the body of a task in flight on this thread.
    pub(crate) fn run(&self, shared: &Arc<Shared>, id: TaskId) -> Result<(), RunError> {
        let (task, queue) = {
            let mut state = self.lock();
            let in_flight = state.in_flight.get_mut(&id).ok_or_else(|| RunError::new(format!("no task {id} is in flight")))?;
            if std::mem::replace(&mut in_flight.asked, true) {
                return Err(RunError::new(format!("task {id} has been run already")));
            }
            in_flight.ran = in_flight.task.try_claim() == Claim::Won;
            if !in_flight.ran {
                return Ok(());
            }
            (in_flight.task.clone(), in_flight.queue)
        };
        // Two tasks at once on one processor would count as one piece of work, which is what the processor's time is.
        self.counts[queue].activity.begin(now_ns());
        let context = Context::new(Arc::clone(shared), self.first + queue);
        context.enter(|| execute(&context, &task));
        self.counts[queue].activity.end(now_ns());
        Ok(())
    }

    /// Publishes tasks that a processor reports as done; returns the ids that it does not have.
    pub(crate) fn complete(&self, shared: &Shared, completions: &[Completion]) -> Vec<TaskId> {
        let mut unknown = Vec::new();
        let mut queues = Vec::new();
        for completion in completions {
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
            if !done.ran {
                if done.task.try_claim() != Claim::Won {
                    // Run by a thread that waited for it, which publishes it.
                    continue;
                }
                let reason = match &completion.outcome {
                    Err(reason) => reason.clone(),
                    Ok(()) => "it reported the task as done without having run it".into(),
                };
                let processor = shared.processors[self.first + done.queue].info.name.clone();
                done.task.fail_claimed(FailureKind::Processor { processor, reason });
            }
            shared.finish(None, &done.task, false);
        }
        queues.dedup();
        for queue in queues {
            self.submit(shared, queue);
        }
        unknown
    }
}
