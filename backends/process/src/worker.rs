//! The host's side of one worker process, from its start to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use poniard_interface::{Caller, Wanted};

use crate::control::Exit;
use crate::line::Line;
use crate::monitor::Monitor;
use crate::output::Output;
use crate::pool::Pool;
use crate::process::Process;
use crate::ring::{End, FrameKind, MAX_FRAME_BYTES, RingError, Side, Watch};

/// How often whoever waits asks whether the reply is wanted, and looks whether the process lives.
const SLICE: Duration = Duration::from_millis(5);
/// What a body printed is passed on before its reply is given, if the call took so long: to look costs two system calls, as much as all of a short call. Of a shorter one
/// the monitor does it, a moment later.
const LONG_CALL: Duration = Duration::from_micros(20);
/// How long a killed process may take to end. More only if the kernel is in trouble.
const KILLED: Duration = Duration::from_secs(1);

/// A worker process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Worker {
    process: Process,
    line: Arc<Line>,
    end: End,
    output: Arc<Output>,
    /// Who tells the line of its death and passes on what it prints, and by what number.
    monitor: (Arc<Monitor>, u64),
    pool: Arc<Pool>,
    has_ended: bool,
}

/// Why a call has no reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The process ended.
    Died,
    /// Nobody wants the reply, and it did not stop.
    Unwanted,
    /// The process broke the protocol, in words.
    Garbage(String),
    /// It is no use to go on, in words that say what the process did.
    Failed(String),
}

impl From<RingError<Self>> for Broken {
    fn from(error: RingError<Self>) -> Self {
        match error {
            RingError::Garbage(what) => Self::Garbage(what),
            RingError::NoMemory(len) => Self::Failed(format!("sent {len} bytes, for which there is no memory")),
            RingError::GaveUp(why) => why,
        }
    }
}

struct Waiting<'a> {
    caller: &'a mut dyn Caller,
    process: &'a Process,
    line: &'a Line,
    begun: Instant,
    asked: Instant,
    /// Whether the reply was waited for asleep.
    slept: bool,
}

impl Watch for Waiting<'_> {
    type Reason = Broken;
    const SLICE: Duration = SLICE;

    fn tick(&mut self) -> Result<(), Broken> {
        let now = Instant::now();
        if now.duration_since(self.asked) < SLICE {
            return Ok(());
        }
        self.asked = now;
        match self.caller.wanted() {
            Wanted::Stop => self.line.set_stopping(true),
            Wanted::End => return Err(Broken::Unwanted),
            _ => {}
        }
        Ok(())
    }

    fn gone(&mut self, slept: bool) -> Result<(), Broken> {
        self.slept = true;
        if self.line.is_dead() || (slept && self.process.is_dead()) { Err(Broken::Died) } else { Ok(()) }
    }
}

impl Worker {
    /// The worker process on the other side of `line`.
    pub(crate) fn new(
        process: Process,
        line: Arc<Line>,
        output: Arc<Output>,
        spin: bool,
        monitor: (Arc<Monitor>, u64),
        pool: Arc<Pool>,
    ) -> Self {
        let end = End::new(Arc::clone(&line), Side::Host, spin);
        Self { process, line, end, output, monitor, pool, has_ended: false }
    }

    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.process.number()
    }

    /// Whether it is known to have ended.
    pub(crate) fn is_dead(&self) -> bool {
        self.line.is_dead()
    }

    /// Executes a call there. After an error it is of no use any more.
    pub(crate) fn call(&mut self, call: &[u8], caller: &mut dyn Caller) -> Result<Vec<u8>, Broken> {
        if self.end.has_unread() {
            return Err(Broken::Garbage("something that nobody asked for".into()));
        }
        // The worker process sees it with the call.
        self.line.set_stopping(false);
        caller.begins(self.process.number());
        let begun = Instant::now();
        let mut waiting = Waiting { caller, process: &self.process, line: &self.line, begun, asked: begun, slept: false };
        self.end.write(FrameKind::Call, call, &mut waiting)?;
        loop {
            let frame = self.end.read(&mut waiting)?;
            match frame.kind {
                FrameKind::Reply => {
                    if waiting.slept && waiting.begun.elapsed() >= LONG_CALL {
                        self.output.pass_on();
                    }
                    return Ok(frame.bytes);
                }
                FrameKind::Request => {
                    let answer = waiting.caller.answer(&frame.bytes);
                    if answer.len() > MAX_FRAME_BYTES {
                        return Err(Broken::Failed(format!("asked for {} bytes, of which {MAX_FRAME_BYTES} are possible", answer.len())));
                    }
                    self.end.write(FrameKind::Answer, &answer, &mut waiting)?;
                }
                FrameKind::Failure => return Err(Broken::Failed(String::from_utf8_lossy(&frame.bytes).into_owned())),
                FrameKind::Call | FrameKind::Answer => return Err(Broken::Garbage(format!("a frame that is {:?}", frame.kind))),
            }
            waiting.tick()?;
        }
    }

    /// Ends it, by asking first if there is `grace`, and says how it ended.
    pub(crate) fn end(mut self, grace: Duration) -> Exit {
        self.finish(grace)
    }

    fn finish(&mut self, grace: Duration) -> Exit {
        self.has_ended = true;
        if !self.line.is_dead() {
            self.line.close();
            if grace.is_zero() || !self.process.wait(grace) {
                self.process.kill();
                self.process.wait(KILLED);
            }
        }
        let (monitor, number) = &self.monitor;
        monitor.forget(*number, self.process.descriptor());
        self.output.end();
        self.pool.status(self.number())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.has_ended {
            self.finish(Duration::ZERO);
        }
    }
}
