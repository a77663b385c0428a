//! The other side: what executes calls in a process that serves.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use poniard_interface::{
    BackendInfo, CallerLink, Execution, Image, Processor, ProcessorInfo, ProcessorKind, SpaceId, StartError, StopError, WorkerId,
};

use super::call::{BROKEN, CallFailure, NO_CODE, PANICKED, REFUSED, RETURNED, Request, VALUE, put_places};
use super::code::{CodeRef, Key, Named};
use super::memory::{self, FarBuffers, ask_bytes, during, keep_nothing, take_returned};
use crate::clock::now_ns;
use crate::error::with_causes;
use crate::runtime::{BackendRecord, Backends};
use crate::scope::{ProcessId, ProcessorIdentity};
use crate::task::record::panic_message;
use crate::wire::{Reader, Writer, Written};
use crate::worker::context::Context;
use crate::worker::main_loop::{run_all, worker_main};
use crate::worker::shared::{Choices, ProcessorRecord, Shared};
use crate::worker::slot::{Slot, Token, Turn};

/// The processor that this process stands for, as the host says.
static IDENTITY: RwLock<Option<ProcessorIdentity>> = RwLock::new(None);

/// The token of the only slot, between two calls: given up, it would go to a thread that was started while a body waited, and stay there.
static TOKEN: Mutex<Option<Token>> = Mutex::new(None);

/// The processor that this process stands for, if it executes calls.
pub(crate) fn identity() -> Option<ProcessorIdentity> {
    IDENTITY.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The program in this process.
pub(super) struct ProgramImage;

impl Image for ProgramImage {
    fn execute(&self, call: &[u8], link: &dyn CallerLink) -> Vec<u8> {
        let executed = catch_unwind(AssertUnwindSafe(|| during(link, || execute(call))));
        // The program's own standard library: a backend's may be another one. The process may be killed later, and what it printed is about this call.
        let _ = std::io::stdout().flush();
        executed.unwrap_or_else(|payload| {
            let message = panic_message(&*payload);
            std::mem::forget(payload);
            reply(BROKEN, Some(message), &Written::default(), 0)
        })
    }
}

fn execute(call: &[u8]) -> Vec<u8> {
    memory::begin();
    let mut buffers = FarBuffers { copies: false };
    let mut results = FarBuffers { copies: false };
    let mut writer = Writer::new(&mut results);
    let began_ns = now_ns();
    let outcome = in_a_runtime(|| call_by(&mut Reader::new(call, &mut buffers), &mut writer));
    let took_ns = now_ns() - began_ns;
    let written = writer.finish();
    let (tag, text) = match outcome {
        Ok(()) => (VALUE, None),
        Err(CallFailure::Returned(error)) => (RETURNED, Some(with_causes(&*error))),
        Err(CallFailure::Panicked(message)) => (PANICKED, Some(message)),
        Err(CallFailure::Wire(error)) => (REFUSED, Some(error.to_string())),
        Err(CallFailure::NoCode(reason)) => (NO_CODE, Some(reason)),
    };
    let reply = reply(tag, text, &written, took_ns);
    // They are in the reply, which has given them away.
    drop(written.blocks);
    reply
}

/// Finds the function that a call names, and calls it.
fn call_by(reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> Result<(), CallFailure> {
    let reference = CodeRef::take(Key::of_host(), reader)?;
    let process = ProcessId(reader.take_u64()? as u32);
    note_identity(process, reader.take_text()?);
    keep_nothing(reader.take_u8()? != 0);
    let ask = |number: u16| Named::of_bytes(&ask_bytes(Request::Library { number: number.into() })?);
    reference.function(ask).map_err(CallFailure::NoCode)?(reader, writer)
}

/// The bytes that say what became of a call: a tag, how long it took, the blocks that are given back, how many bytes of arguments and of the rest were copied; then the value, or
/// the text of the failure; then what was changed in place.
fn reply(tag: u8, text: Option<String>, written: &Written, took_ns: u64) -> Vec<u8> {
    let mut buffers = FarBuffers { copies: false };
    let mut writer = Writer::new(&mut buffers);
    let is_refused = matches!(tag, REFUSED | BROKEN | NO_CODE);
    if is_refused && memory::keeps_handed() {
        // The host gets its memory back, which somebody here may still write to.
        std::process::abort();
    }
    writer.put_u8(tag);
    writer.put_u64(took_ns);
    put_places(&take_returned(), &mut writer);
    writer.put_u64(memory::copied_bytes());
    writer.put_u64(written.copied_bytes);
    if let Some(text) = text {
        writer.put_text(&text);
    }
    if !is_refused {
        writer.put_uncounted(&written.bytes);
    }
    writer.finish().bytes
}

fn note_identity(process: ProcessId, name: &str) {
    let mut identity = IDENTITY.write().unwrap_or_else(PoisonError::into_inner);
    if identity.as_ref().is_none_or(|known| known.name != name) {
        *identity = Some(ProcessorIdentity { name: name.to_owned(), process, ..own_runtime().identities[0].clone() });
    }
}

/// Lets `body` run as a task does: what it spawns and waits for is run by a runtime of this process, whose only worker is the calling thread.
fn in_a_runtime<R>(body: impl FnOnce() -> R) -> R {
    let shared = own_runtime();
    let slot = &shared.slots[0];
    let context = Context::new(Arc::clone(shared), 0);
    let kept = std::mem::take(&mut *TOKEN.lock().unwrap_or_else(PoisonError::into_inner));
    let turn = || match slot.arrive() {
        Some(Turn::Slot(token)) => token,
        _ => unreachable!("before the first call nobody has the slot"),
    };
    context.put_token(kept.unwrap_or_else(turn));
    let result = context.enter(|| {
        let result = body();
        // What it has spawned and not waited for, too: this process may have nothing to do for long after the reply.
        run_all(&context, 0);
        result
    });
    *TOKEN.lock().unwrap_or_else(PoisonError::into_inner) = context.take_token();
    result
}

/// The runtime of what calls spawn.
fn own_runtime() -> &'static Arc<Shared> {
    static RUNTIME: OnceLock<Arc<Shared>> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        crate::worker::prepare();
        let threads = Threads { shared: Arc::default() };
        let link = Arc::clone(&threads.shared);
        let record = ProcessorRecord { info: threads.info(), processor: Box::new(threads), backend: 0 };
        let info = BackendInfo { name: "process".into(), version: env!("CARGO_PKG_VERSION").into() };
        let backend = BackendRecord { info, file: None, rustc: String::new(), spaces: Vec::new() };
        let backends = Backends { records: vec![backend], found: Default::default() };
        let shared = Arc::new(Shared::new(vec![record], backends, vec![Slot::new(0, Vec::new())], Choices::default()));
        // The cell is new and nobody else sets it.
        let _ = link.set(Arc::downgrade(&shared));
        shared
    })
}

/// Threads for the only worker of `own_runtime`, besides the one that executes calls: for tasks that wait for each other.
struct Threads {
    shared: Arc<OnceLock<Weak<Shared>>>,
}

impl Processor for Threads {
    fn info(&self) -> ProcessorInfo {
        ProcessorInfo {
            name: "process".into(),
            kind: ProcessorKind::cpu(),
            execution: Execution::Inline,
            space: SpaceId::HOST,
            numa_node: None,
        }
    }

    fn start(&self, worker: WorkerId) -> Result<(), StartError> {
        let shared = self.shared.get().and_then(Weak::upgrade).ok_or_else(|| StartError::new("the process ends"))?;
        let run = move || worker_main(&shared, worker, None);
        match std::thread::Builder::new().name("process".into()).spawn(run) {
            Ok(_) => Ok(()),
            Err(error) => Err(StartError::new(error.to_string())),
        }
    }

    fn stop(&self) -> Result<(), StopError> {
        Ok(())
    }
}
