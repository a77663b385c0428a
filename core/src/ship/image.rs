//! The other side: what executes calls in a process that serves.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use poniard_interface::{BackendInfo, CallerLink, Execution, Image, Processor, ProcessorInfo, StartError, StopError, WorkerId};

use super::call::{BROKEN, IS_TIGHT, MEASURES, MEASURES_CPU, NO_CODE, NOT_MEASURED, Processors, REFUSED, VALUE, put_places};
use super::elsewhere::Elsewhere;
use super::memory::{self, FarBuffers, during, keep_nothing, take_returned};
use super::offer::call_by;
use crate::clock::now_ns;
use crate::runtime::{BackendRecord, Backends};
use crate::scope::ProcessorIdentity;
use crate::task::record::panic_message;
use crate::wire::{Reader, Writer, Written};
use crate::worker::context::Context;
use crate::worker::main_loop::{run_all, worker_main};
use crate::worker::shared::{Choices, ProcessorRecord, Shared};
use crate::worker::slot::{Slot, Token, Turn};
use crate::worker::stopwatch::{self, Away, Lap};

/// The runtime of what calls spawn.
static RUNTIME: OnceLock<Arc<Shared>> = OnceLock::new();

/// The token of the only slot, between two calls: given up, it would go to a thread that was started while a body waited, and stay there.
static TOKEN: Mutex<Option<Token>> = Mutex::new(None);

/// The processor that this process stands for, if it executes calls.
pub(crate) fn identity() -> Option<ProcessorIdentity> {
    RUNTIME.get().map(|shared| shared.identities[0].clone())
}

/// The runtime of what calls spawn, if there has been a call.
pub(super) fn runtime() -> Option<&'static Arc<Shared>> {
    RUNTIME.get()
}

/// The program in this process.
pub(super) struct ProgramImage;

impl Image for ProgramImage {
    fn execute(&self, call: &[u8], link: &dyn CallerLink) -> Vec<u8> {
        let executed = catch_unwind(AssertUnwindSafe(|| {
            during(link, || {
                memory::begin();
                execute(call, |body| in_a_runtime(body))
            })
        }));
        // The program's own standard library: a backend's may be another one. The process may be killed later, and what it printed is about this call.
        let _ = std::io::stdout().flush();
        executed.unwrap_or_else(|payload| {
            let message = panic_message(&*payload);
            std::mem::forget(payload);
            reply(BROKEN, Some(message), &Written::default(), 0, None)
        })
    }
}

/// Executes a call of a process that is only played, in this one and in the runtime that sends it, as [`Image::execute`] does. Bodies have no buffers.
pub(crate) fn execute_here(call: &[u8]) -> Vec<u8> {
    execute(call, |body| body())
}

/// Executes a call; `inside` has its body run as a task.
fn execute(call: &[u8], inside: impl FnOnce(&mut dyn FnMut())) -> Vec<u8> {
    let mut buffers = FarBuffers { copies: false };
    let mut results = FarBuffers { copies: false };
    let mut writer = Writer::new(&mut results);
    let began_ns = now_ns();
    let mut lap = None;
    let mut body = || {
        let mut reader = Reader::new(call, &mut buffers);
        let flags = reader.take_u8()?;
        keep_nothing(flags & IS_TIGHT != 0);
        if flags & MEASURES == 0 {
            return call_by(&mut reader, &mut writer);
        }
        let (outcome, Lap { waited_ns, cpu_ns, .. }) = stopwatch::measure(flags & MEASURES_CPU != 0, || call_by(&mut reader, &mut writer));
        lap = Some(Away { waited_ns, cpu_ns });
        outcome
    };
    let mut outcome = None;
    inside(&mut || outcome = Some(body()));
    let Some(outcome) = outcome else { unreachable!("the body has run") };
    let took_ns = now_ns().saturating_sub(began_ns);
    let written = writer.finish();
    let (tag, text) = match outcome {
        Ok(()) => (VALUE, None),
        Err(failure) => {
            let (tag, text) = failure.told();
            (tag, Some(text))
        }
    };
    let reply = reply(tag, text, &written, took_ns, lap);
    // They are in the reply, which has given them away.
    drop(written.blocks);
    reply
}

/// The bytes that say what became of a call: a tag, how long it took, how long its body waited and what CPU time it took if that was asked for, the blocks that are given back, how many bytes of arguments and of the rest were copied; then the value, or
/// the text of the failure; then what was changed in place.
fn reply(tag: u8, text: Option<String>, written: &Written, took_ns: u64, lap: Option<Away>) -> Vec<u8> {
    let mut buffers = FarBuffers { copies: false };
    let mut writer = Writer::new(&mut buffers);
    let is_refused = matches!(tag, REFUSED | BROKEN | NO_CODE);
    if is_refused && memory::keeps_handed() {
        // The host gets its memory back, which somebody here may still write to.
        std::process::abort();
    }
    writer.put_u8(tag);
    writer.put_u64(took_ns);
    let (waited_ns, cpu_ns) = lap.map_or((0, None), |lap| (lap.waited_ns, lap.cpu_ns));
    writer.put_u64(waited_ns);
    writer.put_u64(cpu_ns.unwrap_or(NOT_MEASURED));
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
        // What it has spawned and not waited for, too: this process may have nothing to do for long after the reply. And what is here as a guest.
        if let Some(elsewhere) = &shared.elsewhere {
            run_all(&context, 0, || elsewhere.is_settled(), || elsewhere.rest());
        }
        result
    });
    *TOKEN.lock().unwrap_or_else(PoisonError::into_inner) = context.take_token();
    result
}

/// The runtime of what calls spawn. Its first processor is this process, and the others are those of the host besides, which run what this one may not.
fn own_runtime() -> &'static Arc<Shared> {
    RUNTIME.get_or_init(|| {
        crate::worker::prepare();
        let Some(Processors { own, mut identities }) = memory::processors() else {
            panic!("the host does not say what processors there are");
        };
        let link = Arc::default();
        // In the order of the host, but for this process: it is the only one that has a worker here.
        let places: Vec<u64> =
            std::iter::once(own).chain((0..identities.len()).filter(|place| *place != own)).map(|place| place as u64).collect();
        let identity = identities.remove(own);
        identities.insert(0, identity);
        let record = |(place, identity): (usize, &ProcessorIdentity)| {
            let execution = if place == 0 { Execution::Inline } else { Execution::Queued { depth: 1 } };
            let (name, kind) = (identity.name.clone(), identity.kind.clone());
            let info = ProcessorInfo { name, kind, execution, space: identity.space, numa_node: None, device: None };
            ProcessorRecord {
                lost: OnceLock::new(),
                info: info.clone(),
                processor: Box::new(Threads { info, shared: Arc::clone(&link) }),
                backend: 0,
            }
        };
        let records = identities.iter().enumerate().map(record).collect();
        let info = BackendInfo { name: "process".into(), version: env!("CARGO_PKG_VERSION").into() };
        let backend = BackendRecord { info, file: None, rustc: String::new(), spaces: Vec::new(), backend: None };
        let backends = Backends { records: vec![backend], found: Default::default() };
        let mut shared = Shared::new(records, backends, vec![Slot::new(0, Vec::new())], Choices::default());
        shared.identities = identities;
        shared.elsewhere = Some(Elsewhere::new(places));
        let shared = Arc::new(shared);
        // The cell is new and nobody else sets it.
        let _ = link.set(Arc::downgrade(&shared));
        shared
    })
}

/// Threads for the only worker of `own_runtime`, besides the one that executes calls: for tasks that wait for each other.
struct Threads {
    info: ProcessorInfo,
    shared: Arc<OnceLock<Weak<Shared>>>,
}

impl Processor for Threads {
    fn info(&self) -> ProcessorInfo {
        self.info.clone()
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
