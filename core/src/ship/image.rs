//! The other side: what executes calls in a process that serves.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};

use poniard_interface::{
    BackendInfo, CallerLink, Execution, Image, Processor, ProcessorInfo, ProcessorKind, SpaceId, StartError, StopError, WorkerId,
};

use super::call::{CallFailure, PANICKED, REFUSED, RETURNED, VALUE, put_places};
use super::code;
use super::memory::{FarBuffers, during, keep_nothing, take_returned};
use crate::error::with_causes;
use crate::runtime::{BackendRecord, Backends};
use crate::scope::{ProcessId, ProcessorIdentity};
use crate::task::record::panic_message;
use crate::wire::{Reader, WireError, Writer};
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
        executed.unwrap_or_else(|payload| {
            let message = panic_message(&*payload);
            std::mem::forget(payload);
            reply(&Err(CallFailure::Panicked(message)), Vec::new())
        })
    }
}

fn execute(call: &[u8]) -> Vec<u8> {
    let mut buffers = FarBuffers { copies: false };
    let mut results = FarBuffers { copies: false };
    let mut writer = Writer::new(&mut results);
    let outcome = in_a_runtime(|| call_by(&mut Reader::new(call, &mut buffers), &mut writer));
    let (value, blocks) = writer.finish();
    let reply = reply(&outcome, value);
    // They are in the reply, which has given them away.
    drop(blocks);
    reply
}

/// Finds the function that a call names, and calls it.
fn call_by(reader: &mut Reader<'_>, writer: &mut Writer<'_>) -> Result<(), CallFailure> {
    let distance = reader.take_u64()?;
    let process = ProcessId(reader.take_u64()? as u32);
    note_identity(process, reader.take_text()?);
    keep_nothing(reader.take_u8()? != 0);
    let body =
        code::function_at(distance).ok_or_else(|| WireError::new(format!("there is no function at {distance:#x} of the program")))?;
    body(reader, writer)
}

/// The bytes that say what became of a call.
fn reply(outcome: &Result<(), CallFailure>, value: Vec<u8>) -> Vec<u8> {
    let mut buffers = FarBuffers { copies: false };
    let mut writer = Writer::new(&mut buffers);
    match outcome {
        Ok(()) => {
            writer.put_u8(VALUE);
            put_places(&take_returned(), &mut writer);
            writer.put(&value);
        }
        Err(failure) => {
            let (tag, text) = match failure {
                CallFailure::Returned(error) => (RETURNED, with_causes(&**error)),
                CallFailure::Panicked(message) => (PANICKED, message.clone()),
                CallFailure::Wire(error) => (REFUSED, error.to_string()),
            };
            writer.put_u8(tag);
            put_places(&take_returned(), &mut writer);
            writer.put_text(&text);
        }
    }
    writer.finish().0
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
