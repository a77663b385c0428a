//! What a worker process does: executes calls until there are no more.

use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use poniard_interface::{CallerLink, Image};
use rustix::process::{Pid, getppid};

use crate::fork;
use crate::line::Line;
use crate::ring::{End, FrameKind, MAX_FRAME_BYTES, RingError, Side, Watch};
use crate::sync::time_since;

/// The exit status of a worker process that the host sent something senseless, and of a copy of one that came back from a call.
const CONFUSED: i32 = 76;

/// What a body printed is passed on before its reply is given, if the call took so long: to look costs two system calls, as much as all of a short call. Of a shorter one
/// the monitor does it, a moment later.
const LONG_CALL: Duration = Duration::from_micros(20);

/// Executes calls until the host closes the line or is gone; gives the exit status.
pub(crate) fn labour(line: Arc<Line>, image: &dyn Image, spin: bool) -> i32 {
    let end = End::new(Arc::clone(&line), Side::Worker, spin);
    let state = Mutex::new(State { end, in_call: false, ahead: VecDeque::new() });
    let link = Link { line, parent: getppid(), number: AtomicU64::new(0), state };
    loop {
        let call = match link.next_call() {
            Ok(call) => call,
            Err(status) => return status,
        };
        // Only this thread counts.
        let number = link.number.load(Relaxed) + 1;
        link.number.store(number, Relaxed);
        let replied = if link.line.begin(number) {
            let begun = Instant::now();
            let reply = image.execute(&call, &link);
            drop(call);
            if fork::is_copy() {
                return CONFUSED;
            }
            // The process may be killed, and what it printed is about this call.
            fork::flush();
            link.reply(if time_since(begun) < LONG_CALL { FrameKind::Reply } else { FrameKind::LongReply }, &reply)
        } else {
            link.reply(FrameKind::Skipped, &[])
        };
        if let Err(status) = replied {
            return status;
        }
    }
}

/// The way back to the host.
struct Link {
    line: Arc<Line>,
    /// The fork server, which ends when the host does.
    parent: Option<Pid>,
    /// The call that is executed; they count from 1.
    number: AtomicU64,
    state: Mutex<State>,
}

struct State {
    end: End,
    /// Whether the host waits for a reply. If not, it reads no requests.
    in_call: bool,
    /// Calls that lay in front of an answer.
    ahead: VecDeque<Vec<u8>>,
}

/// Gives up when the host has closed the line or is gone.
struct Host<'a> {
    line: &'a Line,
    parent: Option<Pid>,
}

/// The host is gone, or wants nothing more.
struct Gone;

impl Watch for Host<'_> {
    type Reason = Gone;

    fn slice(&self) -> Duration {
        // The kernel ends the process when the fork server ends, so this is for what cannot happen.
        Duration::from_millis(250)
    }

    fn tick(&mut self) -> Result<(), Gone> {
        Ok(())
    }

    fn gone(&mut self, slept: bool) -> Result<(), Gone> {
        if self.line.is_closed() || (slept && getppid() != self.parent) { Err(Gone) } else { Ok(()) }
    }
}

impl Link {
    /// No panic leaves the state half changed: what may panic is not under the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host(&self) -> Host<'_> {
        Host { line: &self.line, parent: self.parent }
    }

    /// Waits for the next call; an error is the exit status.
    fn next_call(&self) -> Result<Vec<u8>, i32> {
        let mut state = self.state();
        if let Some(call) = state.ahead.pop_front() {
            state.in_call = true;
            return Ok(call);
        }
        if !state.end.has_unread() {
            // What was replied last, and perhaps more before it: whoever waits was left asleep as long as there were further calls.
            state.end.wake_reader();
        }
        match state.end.read(&mut self.host()) {
            Ok(frame) if frame.kind == FrameKind::Call => {
                state.in_call = true;
                Ok(frame.bytes)
            }
            Ok(_) | Err(RingError::Garbage(_)) => Err(CONFUSED),
            Err(RingError::NoMemory(len)) => {
                self.fail(&mut state, &format!("has no memory for a call of {len} bytes"));
                Err(CONFUSED)
            }
            Err(RingError::GaveUp(Gone)) => Err(0),
        }
    }

    /// Sends the reply, of which whoever waits for it is told before this thread waits; an error is the exit status.
    fn reply(&self, kind: FrameKind, reply: &[u8]) -> Result<(), i32> {
        let mut state = self.state();
        state.in_call = false;
        if reply.len() > MAX_FRAME_BYTES {
            self.fail(&mut state, &format!("cannot send a reply of {} bytes: {MAX_FRAME_BYTES} are possible", reply.len()));
            return Ok(());
        }
        match state.end.write_quietly(kind, reply, &mut self.host()) {
            Ok(()) => Ok(()),
            Err(RingError::GaveUp(Gone)) => Err(0),
            Err(_) => Err(CONFUSED),
        }
    }

    /// Tells the host why there is no reply. It ends the process then.
    fn fail(&self, state: &mut State, reason: &str) {
        // If that does not get through, the host learns of the end of the process instead.
        let _ = state.end.write(FrameKind::Failure, reason.as_bytes(), &mut self.host());
    }
}

impl CallerLink for Link {
    fn ask(&self, request: &[u8]) -> Option<Vec<u8>> {
        let mut state = self.state();
        if !state.in_call || fork::is_copy() || request.len() > MAX_FRAME_BYTES {
            return None;
        }
        let mut host = self.host();
        if state.end.write(FrameKind::Request, request, &mut host).is_ok() {
            // Calls that were sent ahead may lie in front of the answer.
            while let Ok(frame) = state.end.read(&mut host) {
                match frame.kind {
                    FrameKind::Answer => return Some(frame.bytes),
                    FrameKind::Call => state.ahead.push_back(frame.bytes),
                    _ => break,
                }
            }
        }
        // A broken line is not used again; the end of the call finds that out, too.
        state.in_call = false;
        None
    }

    fn is_stopping(&self) -> bool {
        self.line.is_stopping(self.number.load(Relaxed)) || self.line.is_closed()
    }
}
