//! What is to happen at a certain time: tasks that end at their deadlines, threads that wake from a pause.
//!
//! One thread for the whole process, started by the first entry. It sleeps until the earliest one, and for ever when there is none. An entry is taken out when it has
//! become pointless: a task takes its own out when it finishes, by way of a waker in its list of waiters. So the timer keeps no record, and no result, longer than the
//! task takes, however far away the deadline is. That costs a tree in place of a heap, and a lock at the end of a task that has a deadline.
//!
//! The thread runs no code of users that could keep it: see `TaskRef::expire`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Instant;

use crate::clock::now;
use crate::task::record::TaskRef;

/// Names an entry: when it is due, and a number that no other one has.
type Key = (Instant, u64);

/// What is to be done.
enum Due {
    /// The task fails unless it has finished.
    Expire(TaskRef),
    /// Somebody looks at the time again.
    Wake(Waker),
    /// A short function is called.
    Call(fn()),
}

struct Timer {
    state: Mutex<State>,
    /// Signalled when there is a new earliest entry.
    earlier: Condvar,
}

struct State {
    entries: BTreeMap<Key, Due>,
    /// The number of the next entry.
    next: u64,
    /// Whether the thread is there.
    started: bool,
}

static TIMER: Timer = Timer { state: Mutex::new(State { entries: BTreeMap::new(), next: 0, started: false }), earlier: Condvar::new() };

/// An entry, which ends when this is dropped.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub(crate) struct Alarm(Key);

impl Drop for Alarm {
    fn drop(&mut self) {
        // Dropped when the lock is free: a record's last reference runs a result's destructor.
        let due = TIMER.lock().entries.remove(&self.0);
        drop(due);
    }
}

/// Takes the entry of a task out when the task has finished.
struct Finished(Mutex<Option<Alarm>>);

impl Wake for Finished {
    fn wake(self: Arc<Self>) {
        // Its only use.
        let alarm = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(alarm);
    }
}

/// Makes `task` fail at `deadline`, unless it has finished by then.
///
/// # Errors
/// What the system said when the thread could not be started.
pub(crate) fn expire_at(deadline: Instant, task: &TaskRef) -> io::Result<()> {
    let alarm = TIMER.add(deadline, Due::Expire(task.clone()))?;
    let finished = Arc::new(Finished(Mutex::new(Some(alarm))));
    // Otherwise it has finished already, and dropping this takes the entry out.
    task.add_waiter(&Waker::from(finished));
    Ok(())
}

/// Wakes `waker` at `time`, or earlier: whoever is woken looks at the time.
///
/// # Errors
/// As [`expire_at`].
pub(crate) fn wake_at(time: Instant, waker: Waker) -> io::Result<Alarm> {
    TIMER.add(time, Due::Wake(waker))
}

/// Calls `function` at `time`, on the timer's thread.
///
/// # Errors
/// As [`expire_at`].
pub(crate) fn call_at(time: Instant, function: fn()) -> io::Result<()> {
    // It stays in.
    TIMER.add(time, Due::Call(function)).map(std::mem::forget)
}

/// Wakes everybody who waits for a time, as there may be another reason not to.
pub(crate) fn hurry() {
    let woken: Vec<Due> = TIMER.lock().entries.extract_if(.., |_, due| matches!(due, Due::Wake(_))).map(|(_, due)| due).collect();
    woken.into_iter().for_each(Due::fire);
}

impl Due {
    fn fire(self) {
        match self {
            Self::Expire(task) => drop(task.expire()),
            Self::Wake(waker) => waker.wake(),
            Self::Call(function) => function(),
        }
    }
}

impl Timer {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Single operations on the map; none of them panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&'static self, time: Instant, due: Due) -> io::Result<Alarm> {
        let mut state = self.lock();
        if !state.started {
            std::thread::Builder::new().name("poniard-timer".into()).spawn(|| self.run())?;
            state.started = true;
        }
        let key = (time, state.next);
        state.next += 1;
        state.entries.insert(key, due);
        let is_first = state.entries.first_key_value().is_some_and(|(first, _)| *first == key);
        drop(state);
        if is_first {
            self.earlier.notify_one();
        }
        Ok(Alarm(key))
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            let Some((&(time, _), _)) = state.entries.first_key_value() else {
                state = self.earlier.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = time.saturating_duration_since(now());
            if !left.is_zero() {
                (state, _) = self.earlier.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let due = state.entries.pop_first();
            drop(state);
            if let Some((_, due)) = due {
                due.fire();
            }
            state = self.lock();
        }
    }
}
