//! Tasks in a row: each begins when nothing of the one before is left to run.
//!
//! Edges would not do: a task that is cancelled while it waits has finished at once, and so has one that is cancelled while it runs; its successors by edges
//! begin, and meet what it waited for, or its own body, still running. So the tasks of a sequence wait for their turn in one line. All of a bulk make one step.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::task::record::TaskRef;
use crate::worker::entry::Entry;

/// The line. It keeps the tasks that have not finished, and they keep it.
#[derive(Default)]
pub(crate) struct Sequence(Mutex<State>);

#[derive(Default)]
struct State {
    /// The step whose turn it is, and those after it.
    steps: VecDeque<Step>,
    /// The number of the first of them.
    first: u64,
}

/// Tasks whose turn comes at the same time.
#[derive(Default)]
struct Step {
    /// Those that have not finished, and some that have.
    tasks: Vec<TaskRef>,
    /// How many of them have not ended.
    left: usize,
    /// More may come.
    open: bool,
}

impl Sequence {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic is called while a change is half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a step after all others and gives its number. Nothing passes it before `close`.
    pub(crate) fn open(&self) -> u64 {
        let mut state = self.lock();
        state.steps.push_back(Step { open: true, ..Step::default() });
        state.first + state.steps.len() as u64 - 1
    }

    /// Puts a task into an open step, which cannot begin before the call returns.
    pub(crate) fn join(&self, number: u64, task: &TaskRef) {
        let mut state = self.lock();
        let index = (number - state.first) as usize;
        if index > 0 {
            task.hold();
        }
        let step = &mut state.steps[index];
        step.tasks.push(task.clone());
        step.left += 1;
    }

    /// No more tasks come into a step. Gives what is ready now.
    pub(crate) fn close(&self, number: u64) -> Vec<Entry> {
        self.change(number, |step| step.open = false)
    }

    /// Nothing of one task of a step is left to run. Gives what is ready now.
    pub(crate) fn end(&self, number: u64) -> Vec<Entry> {
        self.change(number, |step| step.left -= 1)
    }

    /// Changes a step; if that was the last thing that others waited for, it is their turn.
    fn change(&self, number: u64, change: impl FnOnce(&mut Step)) -> Vec<Entry> {
        let mut ready = Vec::new();
        let mut gone = Vec::new();
        let mut state = self.lock();
        let index = (number - state.first) as usize;
        change(&mut state.steps[index]);
        while state.steps.front().is_some_and(|step| step.left == 0 && !step.open) {
            gone.extend(state.steps.pop_front().into_iter().flat_map(|step| step.tasks));
            state.first += 1;
            if let Some(next) = state.steps.front() {
                ready.extend(next.tasks.iter().filter_map(TaskRef::release_hold));
            }
        }
        // Now and then, so that a large step keeps neither records nor results for long, and looking takes a constant time for each task. Not
        // before its turn: each task of it, even a cancelled one, is held until then.
        if let Some(step) = state.steps.front_mut()
            && step.left * 2 < step.tasks.len()
        {
            let (finished, kept): (Vec<_>, _) = std::mem::take(&mut step.tasks).into_iter().partition(|task| task.is_finished());
            gone.extend(finished);
            step.tasks = kept;
        }
        drop(state);
        // Without the lock: the last reference to a task takes its result along, and that may have a destructor.
        drop(gone);
        ready
    }

    /// Adds those that have to finish before the turn of a step comes, as far as it is their own turn.
    pub(crate) fn ahead(&self, number: u64, into: &mut Vec<TaskRef>) {
        let state = self.lock();
        if number > state.first
            && let Some(step) = state.steps.front()
        {
            into.extend(step.tasks.iter().filter(|task| !task.is_finished()).cloned());
        }
    }
}
