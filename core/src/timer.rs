//! What is to happen at a certain time: tasks that end at their deadlines, threads that wake from a pause.
//!
//! One thread for the whole process, started by the first entry. It sleeps until the earliest one, and for ever when there is none. An entry is taken out when it has
//! become pointless: a task takes its own out when it finishes, by way of a waker in its list of waiters. So the timer keeps no record, and no result, longer than the
//! task takes, however far away the deadline is. That costs a tree in place of a heap, and a lock at the end of a task that has a deadline.
//!
//! The thread runs no code of users that could keep it: see `TaskRef::expire`.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::clock::now;
use crate::planted::{self, Bug};
use crate::platform;
use crate::sync::Unparker;
use crate::task::record::TaskRef;
use crate::worker::waiter;

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

/// The entries, and the thread that sees to them.
pub(crate) struct Timer {
    state: Mutex<State>,
}

struct State {
    entries: BTreeMap<Key, Due>,
    /// The number of the next entry.
    next: u64,
    /// Whether the thread is there, or about to be.
    started: bool,
    /// What wakes it, once it is there.
    thread: Option<Unparker>,
    closed: bool,
}

/// The one of the machine.
static TIMER: Timer = Timer::new();

/// Lets `act` work with the timer of the calling thread.
fn with<R>(act: impl FnOnce(&Timer) -> R) -> R {
    match platform::entered() {
        Some(entered) => act(&entered.timer),
        None => act(&TIMER),
    }
}

/// An entry, which ends when this is dropped.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub(crate) struct Alarm(Key);

impl Drop for Alarm {
    fn drop(&mut self) {
        // Dropped when the lock is free: a record's last reference runs a result's destructor.
        let due = with(|timer| timer.lock().entries.remove(&self.0));
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
    let alarm = add(deadline, Due::Expire(task.clone()))?;
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
    add(time, Due::Wake(waker))
}

/// Calls `function` at `time`, on the timer's thread.
///
/// # Errors
/// As [`expire_at`].
pub(crate) fn call_at(time: Instant, function: fn()) -> io::Result<()> {
    // It stays in.
    add(time, Due::Call(function)).map(std::mem::forget)
}

/// Wakes everybody who waits for a time, as there may be another reason not to.
pub(crate) fn hurry() {
    let take = |timer: &Timer| timer.lock().entries.extract_if(.., |_, due| matches!(due, Due::Wake(_))).map(|(_, due)| due).collect();
    let woken: Vec<Due> = with(take);
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
    pub(crate) const fn new() -> Self {
        Self { state: Mutex::new(State { entries: BTreeMap::new(), next: 0, started: false, thread: None, closed: false }) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Single operations on the map; none of them panics half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No entry comes any more: its thread ends.
    pub(crate) fn close(&self) {
        let thread = {
            let mut state = self.lock();
            state.closed = true;
            state.thread.clone()
        };
        if let Some(thread) = thread {
            thread.unpark();
        }
    }

    fn run(&self) {
        self.lock().thread = Some(waiter::unparker());
        loop {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            let Some((&(time, _), _)) = state.entries.first_key_value() else {
                drop(state);
                waiter::park();
                continue;
            };
            let left = time.saturating_duration_since(now());
            let early = if planted::is(Bug::EarlyTimer) { Duration::from_millis(1) } else { Duration::ZERO };
            if left > early {
                drop(state);
                waiter::park_for(left);
                continue;
            }
            let due = state.entries.pop_first();
            drop(state);
            if let Some((_, due)) = due {
                due.fire();
            }
        }
    }
}

/// Puts an entry into the timer of the calling thread.
fn add(time: Instant, due: Due) -> io::Result<Alarm> {
    with(|timer| {
        let mut state = timer.lock();
        if !state.started {
            platform::spawn("poniard-timer", || with(Timer::run))?;
            state.started = true;
        }
        let key = (time, state.next);
        state.next += 1;
        state.entries.insert(key, due);
        let is_first = state.entries.first_key_value().is_some_and(|(first, _)| *first == key);
        let thread = state.thread.clone().filter(|_| is_first);
        drop(state);
        if let Some(thread) = thread {
            thread.unpark();
        }
        Ok(Alarm(key))
    })
}
