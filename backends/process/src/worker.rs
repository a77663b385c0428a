//! The host's side of one worker process, from its start to its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use poniard_interface::{Caller, Wanted};

use crate::control::Exit;
use crate::layout::TICKETS;
use crate::line::Line;
use crate::monitor::Monitor;
use crate::output::Output;
use crate::pool::Pool;
use crate::process::Process;
use crate::ring::{End, FrameKind, MAX_FRAME_BYTES, RingError, Side, Watch};
use crate::sync::time_since;

/// How often whoever waits asks whether the reply is wanted, and looks whether the process lives.
const SLICE: Duration = Duration::from_millis(5);
/// How long whoever waits leaves calls where they are that were sent ahead: about as long as all of them take if they are as short as they should be.
const PATIENCE: Duration = Duration::from_micros(200);
/// How many calls are sent ahead of the one that is executed, at most; the runtime decides how many are worth it. All have tickets.
const AHEAD_MAX: usize = TICKETS - 1;
/// With so few of them left more are sent although the next reply is there: the worker process may be through with them before this thread is.
const FEW: usize = 3;
/// And no longer than this: what is read while an answer is waited for takes memory.
const AHEAD_MAX_BYTES: usize = 16 << 10;
/// How long a killed process may take to end. More only if the kernel is in trouble.
const KILLED: Duration = Duration::from_secs(1);

/// A worker process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Worker {
    process: Process,
    line: Arc<Line>,
    end: End,
    flights: Flights,
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

/// A call that was sent, or is about to be, and has no reply yet.
#[derive(Debug)]
struct Flight {
    number: u64,
    /// What was not sent yet: it is too long for the ring to take at once, so it has to be the oldest.
    unsent: Option<Vec<u8>>,
    came_back: bool,
}

/// Calls on their way, oldest first.
#[derive(Debug, Default)]
struct Flights {
    queue: VecDeque<Flight>,
    /// The number of the last one; they count from 1.
    last: u64,
}

impl Flights {
    fn push(&mut self, unsent: Option<Vec<u8>>) -> u64 {
        self.last += 1;
        self.queue.push_back(Flight { number: self.last, unsent, came_back: false });
        self.last
    }

    /// Whether one more may be sent ahead. Those that came back count: their tickets are taken until the worker process has passed them over.
    fn may_be_more(&self) -> bool {
        self.queue.len() <= AHEAD_MAX && self.queue.iter().all(|flight| flight.unsent.is_none())
    }

    /// Has those that have not begun come back, but the oldest; how many.
    fn take_back(&mut self, line: &Line) -> usize {
        let mut count = 0;
        while self.queue.len() > count + 1 {
            let at = self.queue.len() - 1 - count;
            let flight = &mut self.queue[at];
            if flight.came_back || (flight.unsent.is_none() && !line.take_back(flight.number)) {
                break;
            }
            flight.came_back = true;
            count += 1;
        }
        // The worker process was not told of what was not sent, which is the newest, and counts the next one in its place.
        if count > 0 && self.queue.pop_back_if(|newest| newest.unsent.is_some()).is_some() {
            self.last -= 1;
        }
        count
    }
}

struct Waiting<'a> {
    caller: &'a mut dyn Caller,
    process: &'a Process,
    line: &'a Line,
    flights: &'a mut Flights,
    asked: Instant,
}

impl<'a> Waiting<'a> {
    fn new(caller: &'a mut dyn Caller, process: &'a Process, line: &'a Line, flights: &'a mut Flights) -> Self {
        Self { caller, process, line, flights, asked: Instant::now() }
    }

    /// Has what was sent ahead come back.
    fn take_back(&mut self) {
        if self.is_anything_ahead() {
            let count = self.flights.take_back(self.line);
            if count > 0 {
                self.caller.came_back(count);
            }
        }
    }

    fn is_anything_ahead(&self) -> bool {
        self.flights.queue.iter().skip(1).any(|flight| !flight.came_back)
    }
}

impl Watch for Waiting<'_> {
    type Reason = Broken;

    fn slice(&self) -> Duration {
        if self.is_anything_ahead() { PATIENCE } else { SLICE }
    }

    fn tick(&mut self) -> Result<(), Broken> {
        if time_since(self.asked) < SLICE {
            return Ok(());
        }
        self.asked = Instant::now();
        match self.caller.wanted() {
            Wanted::Stop => {
                if let Some(oldest) = self.flights.queue.front() {
                    self.line.stop(oldest.number);
                }
            }
            Wanted::End => return Err(Broken::Unwanted),
            _ => {}
        }
        Ok(())
    }

    fn gone(&mut self, slept: bool) -> Result<(), Broken> {
        if slept {
            self.take_back();
        }
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
        Self { process, line, end, flights: Flights::default(), output, monitor, pool, has_ended: false }
    }

    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.process.number()
    }

    /// Whether it is known to have ended.
    pub(crate) fn is_dead(&self) -> bool {
        self.line.is_dead()
    }

    /// Waits until calls that came back have been passed over. After an error it is of no use any more.
    pub(crate) fn settle(&mut self, caller: &mut dyn Caller) -> Result<(), Broken> {
        while !self.flights.queue.is_empty() {
            self.reply(caller, false)?;
        }
        Ok(())
    }

    /// Executes a call there, ahead of which there is none. After an error it is of no use any more.
    pub(crate) fn call(&mut self, call: &[u8], caller: &mut dyn Caller) -> Result<Vec<u8>, Broken> {
        if self.end.has_unread() {
            return Err(Broken::Garbage("something that nobody asked for".into()));
        }
        caller.begins(self.process.number());
        let number = self.flights.push(None);
        self.line.open(number);
        let Self { process, line, end, flights, .. } = self;
        let mut waiting = Waiting::new(caller, process, line, flights);
        end.write_quietly(FrameKind::Call, call, &mut waiting)?;
        match self.reply(caller, true)? {
            Some(reply) => Ok(reply),
            None => Err(Broken::Garbage("that a call came back which did not".into())),
        }
    }

    /// The reply to the oldest call that was sent ahead; nothing if there is none.
    pub(crate) fn next(&mut self, caller: &mut dyn Caller) -> Result<Option<Vec<u8>>, Broken> {
        while !self.flights.queue.is_empty() {
            if let Some(reply) = self.reply(caller, true)? {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    /// What came of the oldest call: its reply, or nothing if it had come back. With `goes_ahead`, further calls may be sent.
    fn reply(&mut self, caller: &mut dyn Caller, goes_ahead: bool) -> Result<Option<Vec<u8>>, Broken> {
        let Self { process, line, end, flights, output, .. } = self;
        let mut waiting = Waiting::new(caller, process, line, flights);
        let begun = waiting.asked;
        if let Some(oldest) = waiting.flights.queue.front_mut()
            && let Some(call) = oldest.unsent.take()
        {
            line.open(oldest.number);
            end.write_quietly(FrameKind::Call, &call, &mut waiting)?;
        }
        loop {
            let is_next = end.has_unread();
            if goes_ahead && (!is_next || waiting.flights.queue.len() <= FEW) {
                send_ahead(end, &mut waiting)?;
            }
            if !is_next {
                // Once for all that was sent: woken by the first call, the worker process would often take the place of this thread and find no more than that.
                end.wake_reader();
            }
            let frame = end.read(&mut waiting)?;
            let came_back = waiting.flights.queue.front().is_some_and(|oldest| oldest.came_back);
            match frame.kind {
                FrameKind::Reply | FrameKind::LongReply if !came_back => {
                    if frame.kind == FrameKind::LongReply {
                        output.pass_on();
                    }
                    waiting.flights.queue.pop_front();
                    return Ok(Some(frame.bytes));
                }
                FrameKind::Skipped if came_back => {
                    waiting.flights.queue.pop_front();
                    return Ok(None);
                }
                FrameKind::Request => {
                    let answer = waiting.caller.answer(&frame.bytes);
                    if answer.len() > MAX_FRAME_BYTES {
                        return Err(Broken::Failed(format!("asked for {} bytes, of which {MAX_FRAME_BYTES} are possible", answer.len())));
                    }
                    end.write(FrameKind::Answer, &answer, &mut waiting)?;
                    // A process that asks again and again leaves no time to sleep.
                    if time_since(begun) > PATIENCE {
                        waiting.take_back();
                    }
                }
                FrameKind::Failure => return Err(Broken::Failed(String::from_utf8_lossy(&frame.bytes).into_owned())),
                kind => return Err(Broken::Garbage(format!("a frame that is {kind:?}"))),
            }
            waiting.tick()?;
        }
    }

    /// Whether there is no call on its way that has not come back.
    pub(crate) fn is_idle(&self) -> bool {
        self.flights.queue.iter().all(|flight| flight.came_back)
    }

    /// Ends it after an error, and says how it ended. Of what was sent ahead all that has not begun has come back then.
    pub(crate) fn give_up(mut self, caller: &mut dyn Caller) -> Exit {
        let exit = self.finish(Duration::ZERO);
        let count = self.flights.take_back(&self.line);
        if count > 0 {
            caller.came_back(count);
        }
        exit
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

/// Sends what there is to be sent ahead. Never waits for room: the worker process may wait for us to read.
fn send_ahead(end: &mut End, waiting: &mut Waiting<'_>) -> Result<(), Broken> {
    while waiting.flights.may_be_more() {
        let Some(call) = waiting.caller.ahead() else { return Ok(()) };
        if call.len() > AHEAD_MAX_BYTES || !end.has_room_for(call.len()) {
            waiting.flights.push(Some(call));
            return Ok(());
        }
        let number = waiting.flights.push(None);
        waiting.line.open(number);
        end.write_quietly(FrameKind::Call, &call, waiting)?;
    }
    Ok(())
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.has_ended {
            self.finish(Duration::ZERO);
        }
    }
}
