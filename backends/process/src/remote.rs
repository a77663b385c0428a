//! The runtime's way to a worker process: starts it when it is needed, and again when it has died.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use poniard_interface::{CallError, Caller, HostServices, LogLevel, Remote, Wanted};

use crate::pool::Pool;
use crate::ring::MAX_FRAME_BYTES;
use crate::worker::{Broken, Worker};

/// How long a worker process has to end by itself.
const GRACE: Duration = Duration::from_millis(100);
/// How long a new one is waited for after the first death; twice as long after each further one.
const FIRST_REST: Duration = Duration::from_millis(1);
/// And no longer than that.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// How often whoever rests asks whether the call is wanted.
const SLICE: Duration = Duration::from_millis(5);

/// The way to one worker process at a time.
pub(crate) struct ProcessRemote {
    /// The processor's.
    name: String,
    host: Arc<dyn HostServices>,
    state: Mutex<State>,
    /// Set before the processor stops; whoever holds the state then, or comes after, ends the process.
    stopped: AtomicBool,
}

#[derive(Debug)]
struct State {
    worker: Option<Worker>,
    /// `None` after the end.
    pool: Option<Arc<Pool>>,
    /// How many processes died in a row, and when the last one did.
    deaths: Option<(u32, Instant)>,
}

impl std::fmt::Debug for ProcessRemote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessRemote").field("state", &self.state).field("stopped", &self.stopped).finish_non_exhaustive()
    }
}

impl ProcessRemote {
    /// The way to a process that is not there yet.
    pub(crate) fn new(name: String, pool: Arc<Pool>, host: Arc<dyn HostServices>) -> Self {
        Self { name, host, state: Mutex::new(State { worker: None, pool: Some(pool), deaths: None }), stopped: AtomicBool::new(false) }
    }

    /// The state, unless somebody is in a call. A call that panicked has left no process in it.
    fn try_state(&self) -> Option<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Ends the process for good, or has the call that is going on do it: a runtime may be dropped in the middle of one.
    pub(crate) fn stop(&self) {
        // Partner: the load in `end_if_stopped`, after a call. Either that sees this, or we get the state.
        self.stopped.store(true, SeqCst);
        self.end_if_stopped();
    }

    /// Lets `call` have the process. A second one at a time has none.
    fn locked(&self, call: impl FnOnce(&mut State) -> Result<Vec<u8>, CallError>) -> Result<Vec<u8>, CallError> {
        // Whoever waited here for a call of the same thread would wait for ever.
        let Some(mut state) = self.try_state() else {
            return Err(CallError::NoProcess { reason: "it executes another call".into() });
        };
        let outcome = call(&mut state);
        drop(state);
        self.end_if_stopped();
        outcome
    }

    /// Ends the process until the next call, if no call is going on.
    pub(crate) fn let_go(&self) {
        if let Some(mut state) = self.try_state() {
            state.deaths = None;
            if let Some(worker) = state.worker.take() {
                worker.end(GRACE);
            }
        }
    }

    fn end_if_stopped(&self) {
        if !self.stopped.load(SeqCst) {
            return;
        }
        if let Some(mut state) = self.try_state() {
            if state.worker.as_ref().is_some_and(|worker| !worker.is_idle()) {
                // Whoever sent calls ahead waits for them yet.
                return;
            }
            if let Some(worker) = state.worker.take() {
                worker.end(GRACE);
            }
            state.pool = None;
        }
    }

    fn call_with(&self, state: &mut State, call: &[u8], caller: &mut dyn Caller) -> Result<Vec<u8>, CallError> {
        let no_process = |reason: String| CallError::NoProcess { reason };
        let Some(pool) = state.pool.clone().filter(|_| !self.stopped.load(SeqCst)) else {
            return Err(no_process("the processor was stopped".into()));
        };
        if call.len() > MAX_FRAME_BYTES {
            return Err(no_process(format!("the call has {} bytes, and at most {MAX_FRAME_BYTES} are possible", call.len())));
        }
        let found = state.worker.take().map(|mut worker| {
            let is_ready = !worker.is_dead() && worker.settle(caller).is_ok();
            (worker, is_ready)
        });
        let mut worker = match found {
            Some((worker, true)) => worker,
            dead => {
                if let Some((worker, _)) = dead {
                    let number = worker.number();
                    let exit = worker.end(Duration::ZERO).in_words();
                    self.host.log(LogLevel::Info, &format!("worker process {number} {exit} between two calls"));
                }
                self.rest(state, caller).map_err(no_process)?;
                pool.start_worker(&self.name).map_err(no_process)?
            }
        };
        let outcome = worker.call(call, caller);
        self.after(state, worker, outcome, caller)
    }

    fn next_with(&self, state: &mut State, caller: &mut dyn Caller) -> Result<Vec<u8>, CallError> {
        let no_process = |reason: &str| CallError::NoProcess { reason: reason.into() };
        let mut worker = state.worker.take().ok_or_else(|| no_process("there is no process any more to which a call was sent ahead"))?;
        match worker.next(caller) {
            Ok(None) => {
                state.worker = Some(worker);
                Err(no_process("no call was sent ahead"))
            }
            Ok(Some(reply)) => self.after(state, worker, Ok(reply), caller),
            Err(broken) => self.after(state, worker, Err(broken), caller),
        }
    }

    /// Keeps the process for further calls, or ends it.
    fn after(
        &self,
        state: &mut State,
        worker: Worker,
        outcome: Result<Vec<u8>, Broken>,
        caller: &mut dyn Caller,
    ) -> Result<Vec<u8>, CallError> {
        let process = worker.number();
        let broken = match outcome {
            Ok(reply) => {
                state.deaths = None;
                state.worker = Some(worker);
                return Ok(reply);
            }
            Err(broken) => broken,
        };
        let exit = worker.give_up(caller);
        let reason = match broken {
            // What we end is no sign that the next one would die, too.
            Broken::Unwanted => {
                return Err(CallError::Lost { process, reason: "was ended, as it did not stop when it was told to".into() });
            }
            Broken::Died => exit.in_words(),
            Broken::Garbage(what) => format!("wrote garbage into its ring: {what}, and was killed"),
            Broken::Failed(what) => format!("{what}, and was killed"),
        };
        state.deaths = Some((state.deaths.map_or(1, |(count, _)| count.saturating_add(1)), Instant::now()));
        self.host.log(LogLevel::Debug, &format!("worker process {process} {reason}"));
        Err(CallError::Lost { process, reason })
    }

    /// Waits for a while after deaths. An error is why no process is started.
    fn rest(&self, state: &State, caller: &mut dyn Caller) -> Result<(), String> {
        let Some((count, when)) = state.deaths else { return Ok(()) };
        let rest = rest_after(count);
        loop {
            let left = rest.saturating_sub(when.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            if left > SLICE && caller.wanted() != Wanted::Yes {
                return Err("the call was not wanted any more when the last process had died".into());
            }
            if self.stopped.load(SeqCst) {
                return Err("the processor was stopped".into());
            }
            thread::sleep(left.min(SLICE));
        }
    }
}

/// How long to wait after so many deaths.
fn rest_after(deaths: u32) -> Duration {
    FIRST_REST.saturating_mul(1 << deaths.saturating_sub(1).min(16)).min(LONGEST_REST)
}

impl Remote for ProcessRemote {
    fn call(&self, call: &[u8], caller: &mut dyn Caller) -> Result<Vec<u8>, CallError> {
        self.locked(|state| self.call_with(state, call, caller))
    }

    fn next(&self, caller: &mut dyn Caller) -> Result<Vec<u8>, CallError> {
        self.locked(|state| self.next_with(state, caller))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_double_up_to_a_second() {
        let rests: Vec<_> = [1, 2, 3, 4, 10, 11, 12, u32::MAX].map(|count| rest_after(count).as_millis()).into();
        assert_eq!(rests, [1, 2, 4, 8, 512, 1000, 1000, 1000]);
    }
}
