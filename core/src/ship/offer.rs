//! A task that was spawned in one process and is run in another, by way of the host: its call, and what came of it, as data.
//!
//! The host spawns [`run_offered`] for it, a task like all others, so where it runs, and what happens when a process ends, is settled as for those. Neither the arguments
//! nor the value are read on the way: what lies in arenas stays there.

use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

use poniard_interface::RawBuffer;

use super::call::{CANCELLED, CallFailure, Request, VALUE, gives_back};
use super::code::{CodeRef, Key, Named};
use super::memory::{self, FarBuffers, ask_bytes};
use crate::arena;
use crate::sync::Unparker;
use crate::wire::{Buffers, Place, Reader, Wire, WireError, Writer, Written};
use crate::worker::waiter;

/// A call: its function, and its arguments.
#[derive(Debug)]
pub(crate) struct Offered {
    call: Vec<u8>,
    /// Of one on the host, which somebody may want to end.
    lease: Option<Arc<Lease>>,
}

impl Offered {
    pub(crate) fn new(call: Vec<u8>, lease: Option<Arc<Lease>>) -> Self {
        Self { call, lease }
    }

    fn begins(&self) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.begin())
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        if let Some(lease) = &self.lease {
            lease.end();
        }
    }
}

/// Nobody has begun to look at what an offer's arguments lie in.
const IDLE: u8 = 0;
/// Somebody may look at it.
const USED: u8 = 1;
/// Nobody does, or ever will.
const OVER: u8 = 2;

/// Whether somebody may look at the memory that the arguments of an offer lie in, which is another process's.
#[derive(Debug)]
pub(crate) struct Lease {
    state: AtomicU8,
    ticket: u64,
    arrivals: Arc<Arrivals>,
}

impl Lease {
    pub(crate) fn new(ticket: u64, arrivals: &Arc<Arrivals>) -> Arc<Self> {
        Arc::new(Self { state: AtomicU8::new(IDLE), ticket, arrivals: Arc::clone(arrivals) })
    }

    /// False when it was ended before.
    fn begin(&self) -> bool {
        // AcqRel, here and below: whoever ends it for good has seen all looks, and nobody looks after that.
        self.state.compare_exchange(IDLE, USED, AcqRel, Acquire) != Err(OVER)
    }

    fn end(&self) {
        self.state.store(OVER, std::sync::atomic::Ordering::Release);
        self.arrivals.note(self.ticket);
    }

    /// Sees to it that nobody looks any more. False when somebody does; then its end is told.
    pub(crate) fn revoke(&self) -> bool {
        self.state.compare_exchange(IDLE, OVER, AcqRel, Acquire) != Err(USED)
    }

    /// What tells that its task has finished.
    pub(crate) fn waker(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }
}

impl Wake for Lease {
    fn wake(self: Arc<Self>) {
        self.arrivals.note(self.ticket);
    }
}

/// Offers of which something is to be told to the thread that made this.
pub(crate) struct Arrivals {
    tickets: Mutex<Vec<u64>>,
    unparker: Unparker,
}

impl Arrivals {
    pub(crate) fn for_this_thread() -> Arc<Self> {
        Arc::new(Self { tickets: Mutex::default(), unparker: waiter::unparker() })
    }

    pub(crate) fn note(&self, ticket: u64) {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner).push(ticket);
        self.unparker.unpark();
    }

    pub(crate) fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.tickets.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrivals").field("tickets", &self.tickets).finish_non_exhaustive()
    }
}

/// What came of an offer: a reply, as `call` has it, and the blocks that lie in it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) reply: Vec<u8>,
    pub(crate) blocks: Vec<RawBuffer>,
}

impl Outcome {
    /// One without a value.
    pub(crate) fn without(tag: u8, texts: &[&str]) -> Self {
        let mut none = crate::wire::NoBuffers;
        let mut writer = Writer::new(&mut none);
        writer.put_u8(tag);
        texts.iter().for_each(|text| writer.put_text(text));
        Self { reply: writer.finish().bytes, blocks: Vec::new() }
    }
}

/// Executes an offer, in whichever process this is.
pub(crate) fn run_offered(offered: &Offered) -> Outcome {
    if !offered.begins() {
        return Outcome::without(CANCELLED, &[""]);
    }
    let mut far = FarBuffers { copies: false };
    let mut near = Views { copies: false };
    let arguments: &mut dyn Buffers = if memory::is_serving() { &mut far } else { &mut near };
    let mut gifts = Gifts::default();
    let mut writer = Writer::new(&mut gifts);
    let result = call_by(&mut Reader::new(&offered.call, arguments), &mut writer);
    let Written { bytes, blocks: copied, .. } = writer.finish();
    // They lie in the reply as the other blocks do.
    drop(copied);
    let blocks = gifts.keep();
    let (tag, text, blocks) = match (result, blocks) {
        (Ok(()), Ok(blocks)) => (VALUE, None, blocks),
        (Err(failure), Ok(blocks)) => {
            let (tag, text) = failure.told();
            (tag, Some(text), blocks)
        }
        (_, Err(error)) => {
            let (tag, text) = CallFailure::Wire(error).told();
            (tag, Some(text), Vec::new())
        }
    };
    let Some(text) = text else { return Outcome { reply: [vec![tag], bytes].concat(), blocks } };
    let reply = Outcome::without(tag, &[&text]).reply;
    if gives_back(tag) { Outcome { reply: [reply, bytes].concat(), blocks } } else { Outcome { reply, blocks: Vec::new() } }
}

/// Finds the function that a call names, and calls it.
pub(crate) fn call_by(reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> Result<(), CallFailure> {
    let body = if memory::is_serving() {
        let ask = |number: u16| Named::of_bytes(&ask_bytes(&Request::Library { number: number.into() })?);
        CodeRef::take(Key::of_host(), reader)?.function(ask)
    } else {
        CodeRef::take(Key::own(), reader)?.own_function()
    };
    body.map_err(CallFailure::NoCode)?(reader, writer)
}

/// The memory of arguments on the host: where another process keeps it.
struct Views {
    copies: bool,
}

impl Buffers for Views {
    fn send(&mut self, _: &RawBuffer) -> Option<Place> {
        None
    }

    fn receive(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        let view = arena::view(place).ok_or_else(|| WireError::new(format!("{place:?} lies in no arena")))?;
        if !self.copies {
            return Ok(view);
        }
        arena::copy_of(view.as_bytes()).map_err(|error| WireError::new(error.to_string()))
    }

    fn copies(&mut self, copies: bool) -> bool {
        std::mem::replace(&mut self.copies, copies)
    }
}

/// The memory of a value, which is written and then dropped: its blocks stay.
#[derive(Default)]
struct Gifts(Vec<Place>);

impl Buffers for Gifts {
    fn send(&mut self, raw: &RawBuffer) -> Option<Place> {
        let place = if memory::is_serving() { memory::give(raw) } else { arena::give(raw) }?;
        self.0.push(place);
        Some(place)
    }

    fn receive(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        Err(WireError::new(format!("a value is sent, and {place:?} came")))
    }
}

impl Gifts {
    /// The blocks, now that the value has gone.
    fn keep(self) -> Result<Vec<RawBuffer>, WireError> {
        let kept = |place| {
            let kept = if memory::is_serving() { memory::keep_given(place)? } else { arena::keep_given(place) };
            kept.ok_or_else(|| WireError::new("a buffer in the result is somebody else's, too; return a copy"))
        };
        // All of them, so that none is lost when there is one that cannot be had.
        let kept: Vec<_> = self.0.into_iter().map(kept).collect();
        kept.into_iter().collect()
    }
}

/// The memory of a value that is received with its blocks.
pub(crate) struct Received(pub(crate) Vec<RawBuffer>);

impl Buffers for Received {
    fn send(&mut self, _: &RawBuffer) -> Option<Place> {
        None
    }

    fn receive(&mut self, place: Place) -> Result<RawBuffer, WireError> {
        let is_it = |raw: &RawBuffer| (raw.arena(), raw.offset_bytes(), raw.len_bytes()) == (place.arena, place.offset, place.len_bytes);
        let at = self.0.iter().position(is_it).ok_or_else(|| WireError::new(format!("{place:?} did not come with its outcome")))?;
        Ok(self.0.swap_remove(at))
    }
}

pub(crate) const fn offered() -> Wire<Offered> {
    let write = |offered: &Offered, writer: &mut Writer<'_>| {
        if !offered.begins() {
            return Err(WireError::new("it is not wanted any more"));
        }
        writer.put_bytes(&offered.call);
        Ok(())
    };
    Wire::of(write, |reader| Ok(Offered { call: reader.take_bytes()?.to_vec(), lease: None }))
}

pub(crate) const fn outcome() -> Wire<Outcome> {
    let write = |outcome: &Outcome, writer: &mut Writer<'_>| {
        writer.put_bytes(&outcome.reply);
        writer.put_u64(outcome.blocks.len() as u64);
        outcome.blocks.iter().for_each(|block| writer.put_buffer(block));
        Ok(())
    };
    let read = |reader: &mut Reader<'_>| {
        let reply = reader.take_bytes()?.to_vec();
        let blocks = (0..reader.take_len(1)?).map(|_| reader.take_buffer()).collect::<Result<_, _>>()?;
        Ok(Outcome { reply, blocks })
    };
    Wire::of(write, read)
}
