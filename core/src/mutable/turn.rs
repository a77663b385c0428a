//! Tasks that change a value in any order, but one at a time.
//!
//! Such a task has an edge more than its accesses give it: to a hold, which ends when it is the task's turn. When the tasks have ended that it comes after, it asks its places for a turn, one
//! after the other in the order of their addresses, so that no two wait for each other; where another has the turn it waits in line. The turn ends when the arguments are dropped: after the
//! body, or without it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use super::Historic;
use crate::task::record::{Hold, TaskRef};

/// Of one place: whether somebody has the turn, and who waits for it.
#[derive(Default)]
pub struct Line {
    is_taken: bool,
    waiting: VecDeque<Arc<Turn>>,
}

/// A task's turn at all of its places.
pub(super) struct Turn {
    /// In the order of their histories' addresses, each once.
    places: Box<[Arc<dyn Historic>]>,
    state: Mutex<State>,
}

struct State {
    /// Ends when it is the task's turn.
    hold: Option<Hold>,
    /// How many of the places, from the first one on, it has.
    taken: usize,
    /// The task needs them no more.
    is_over: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Single operations, none of which panics half-way.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("is_taken", &self.is_taken).field("waiting", &self.waiting.len()).finish()
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("places", &self.places.len()).finish_non_exhaustive()
    }
}

impl Turn {
    pub(super) fn new(places: Box<[Arc<dyn Historic>]>, hold: Hold) -> Arc<Self> {
        Arc::new(Self { places, state: Mutex::new(State { hold: Some(hold), taken: 0, is_over: false }) })
    }

    /// What ends when it is the task's turn.
    pub(super) fn hold(&self) -> Option<TaskRef> {
        lock(&self.state).hold.as_ref().map(Hold::reference)
    }

    /// Asks for the turn when all of these have ended.
    pub(super) fn ask_after(self: &Arc<Self>, before: &[TaskRef]) {
        /// Each of them has one, and drops it; the last one asks.
        struct Last(Arc<Turn>);
        impl Wake for Last {
            fn wake(self: Arc<Self>) {}
        }
        impl Drop for Last {
            fn drop(&mut self) {
                self.0.go_on();
            }
        }
        let last = Waker::from(Arc::new(Last(Arc::clone(self))));
        for task in before {
            // One that has ended is none to wait for.
            task.add_waiter(&last);
        }
    }

    /// Takes the places that are left, until one is taken by another task.
    fn go_on(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        while !state.is_over {
            let Some(place) = self.places.get(state.taken) else {
                let hold = state.hold.take();
                drop(state);
                // Lets the task go, which may take any lock.
                drop(hold);
                return;
            };
            let mut line = lock(place.line());
            if line.is_taken {
                line.waiting.push_back(Arc::clone(self));
                return;
            }
            line.is_taken = true;
            state.taken += 1;
        }
    }

    /// The task needs its places no more, or never will.
    pub(super) fn end(&self) {
        let mut state = lock(&self.state);
        let taken = if state.is_over { 0 } else { state.taken };
        state.is_over = true;
        let hold = state.hold.take();
        drop(state);
        drop(hold);
        for place in &self.places[..taken] {
            pass_on(place);
        }
    }
}

/// Gives a place that the caller has to the next in line who still wants it.
fn pass_on(place: &Arc<dyn Historic>) {
    loop {
        let mut line = lock(place.line());
        let Some(next) = line.waiting.pop_front() else {
            line.is_taken = false;
            return;
        };
        drop(line);
        let mut state = lock(&next.state);
        if state.is_over {
            continue;
        }
        state.taken += 1;
        drop(state);
        next.go_on();
        return;
    }
}
