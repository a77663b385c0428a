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
    /// Threads of the processor that are in the middle of a body.
    running_count: usize,
    depth: usize,
}

#[derive(Debug)]
struct InFlight {
    task: TaskRef,
    queue: usize,
    progress: Progress,
}

/// How far a processor is with a task.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// It has been submitted.
    Submitted,
    /// A thread of the processor runs the body; `completed` when the task was reported as done meanwhile.
    Running { completed: bool },
    /// The body has been run, and the outcome waits to be published.
    Ran,
    /// A thread that waited for the task runs it, and publishes it.
    Elsewhere,
}

impl Queued {
    /// One queue for each of `processors`, of which the first has the place `first`.
    pub(crate) fn new(processors: &[ProcessorRecord], first: usize) -> Self {
        let queues = processors
            .iter()
            .map(|record| Queue {
                waiting: VecDeque::new(),
                in_flight_count: 0,
                running_count: 0,
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
        &self.counts[self.queue_of(processor)]
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
                    state.in_flight.insert(id, InFlight { task, queue, progress: Progress::Submitted });
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
            let state = &mut *state;
            let in_flight = state.in_flight.get_mut(&id).ok_or_else(|| RunError::new(format!("no task {id} is in flight")))?;
            if in_flight.progress != Progress::Submitted {
                return Err(RunError::new(format!("task {id} has been run already")));
            }
            if in_flight.task.try_claim() != Claim::Won {
                in_flight.progress = Progress::Elsewhere;
                return Ok(());
            }
            in_flight.progress = Progress::Running { completed: false };
            let queue = &mut state.queues[in_flight.queue];
            queue.running_count += 1;
            if queue.running_count == 1 {
                self.counts[in_flight.queue].activity.begin(now_ns());
            }
            (in_flight.task.clone(), in_flight.queue)
        };
        let context = Context::new(Arc::clone(shared), self.first + queue);
        context.enter(|| execute(&context, &task));
        let completed = {
            let mut state = self.lock();
            let state = &mut *state;
            let queue = &mut state.queues[queue];
            queue.running_count -= 1;
            if queue.running_count == 0 {
                self.counts[self.queue_of(context.processor)].activity.end(now_ns());
            }
            let Some(in_flight) = state.in_flight.get_mut(&id) else { unreachable!("a task that runs stays in flight") };
            let completed = in_flight.progress == Progress::Running { completed: true };
            in_flight.progress = Progress::Ran;
            completed
        };
        if completed {
            self.complete(shared, &[Completion { task: id, outcome: Ok(()) }]);
        }
        Ok(())
    }

    fn queue_of(&self, processor: usize) -> usize {
        processor - self.first
    }

    /// Publishes tasks that a processor reports as done; returns the ids that it does not have.
    pub(crate) fn complete(&self, shared: &Shared, completions: &[Completion]) -> Vec<TaskId> {
        let mut unknown = Vec::new();
        let mut queues = Vec::new();
        for completion in completions {
            let done = {
                let mut state = self.lock();
                match state.in_flight.get_mut(&completion.task) {
                    None => {
                        unknown.push(completion.task);
                        continue;
                    }
                    Some(InFlight { progress: Progress::Running { completed }, .. }) => {
                        // Its outcome is not there yet: the thread that runs it will come back to this.
                        *completed = true;
                        continue;
                    }
                    Some(_) => {}
                }
                let Some(done) = state.in_flight.remove(&completion.task) else { unreachable!("it was there just now") };
                state.queues[done.queue].in_flight_count -= 1;
                done
            };
            queues.push(done.queue);
            if done.progress == Progress::Submitted {
                if done.task.try_claim() != Claim::Won {
                    continue;
                }
                let reason = match &completion.outcome {
                    Err(reason) => reason.clone(),
                    Ok(()) => "it reported the task as done without having run it".into(),
                };
                let processor = shared.processors[self.first + done.queue].info.name.clone();
                done.task.fail_claimed(FailureKind::Processor { processor, reason });
            }
            if done.progress != Progress::Elsewhere {
                shared.finish(None, &done.task, false);
            }
        }
        queues.dedup();
        for queue in queues {
            self.submit(shared, queue);
        }
        unknown
    }
}
