//! What a worker process does: executes calls until there are no more.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use poniard_interface::{CallerLink, Image};
use rustix::process::{Pid, getppid};

use crate::fork;
use crate::line::Line;
use crate::ring::{End, FrameKind, MAX_FRAME_BYTES, RingError, Side, Watch};

/// The exit status of a worker process that the host sent something senseless, and of a copy of one that came back from a call.
const CONFUSED: i32 = 76;

/// Executes calls until the host closes the line or is gone; gives the exit status.
pub(crate) fn labour(line: Arc<Line>, image: &dyn Image, spin: bool) -> i32 {
    let end = End::new(Arc::clone(&line), Side::Worker, spin);
    let link = Link { line, parent: getppid(), state: Mutex::new(State { end, in_call: false }) };
    loop {
        let call = match link.next_call() {
            Ok(call) => call,
            Err(status) => return status,
        };
        let reply = image.execute(&call, &link);
        drop(call);
        if fork::is_copy() {
            return CONFUSED;
        }
        // The process may be killed, and what it printed is about this call.
        fork::flush();
        if let Err(status) = link.reply(&reply) {
            return status;
        }
    }
}

/// The way back to the host.
struct Link {
    line: Arc<Line>,
    /// The fork server, which ends when the host does.
    parent: Option<Pid>,
    state: Mutex<State>,
}

struct State {
    end: End,
    /// Whether the host waits for a reply. If not, it reads no requests.
    in_call: bool,
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
    /// The kernel ends the process when the fork server ends, so this is for what cannot happen.
    const SLICE: Duration = Duration::from_millis(250);

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

    /// Sends the reply; an error is the exit status.
    fn reply(&self, reply: &[u8]) -> Result<(), i32> {
        let mut state = self.state();
        state.in_call = false;
        if reply.len() > MAX_FRAME_BYTES {
            self.fail(&mut state, &format!("cannot send a reply of {} bytes: {MAX_FRAME_BYTES} are possible", reply.len()));
            return Ok(());
        }
        match state.end.write(FrameKind::Reply, reply, &mut self.host()) {
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
        let sent = state.end.write(FrameKind::Request, request, &mut host);
        let frame = sent.and_then(|()| state.end.read(&mut host));
        match frame {
            Ok(frame) if frame.kind == FrameKind::Answer => Some(frame.bytes),
            _ => {
                // A broken line is not used again; the end of the call finds that out, too.
                state.in_call = false;
                None
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.line.is_stopping() || self.line.is_closed()
    }
}
