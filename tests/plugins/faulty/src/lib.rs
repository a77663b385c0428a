//! A backend that panics where the environment variable `PONIARD_FAULTY` says: `create`, `info`, `open`, `processor-info`, `start`, `submit`,
//! `stop`, `space-info` or `allocate`. Without it, an ordinary backend with one inline processor.
//!
//! With `submit` the processor is a queued one, and with `space-info` and `allocate` there is a memory space: otherwise a runtime would never
//! call the entry.
//!
//! The file has policies, too, which are faulty where their names say.

mod policies;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use poniard_interface::{
    AllocateError, Backend, BackendInfo, Chunk, Execution, HostServices, MemorySpace, OpenError, Opened, Processor, ProcessorInfo,
    ProcessorKind, Settings, SpaceId, SpaceInfo, StartError, StopError, SubmitError, TaskDescriptor, WorkerId,
};

poniard_interface::export_backend!("faulty", FaultyBackend::new());

/// Which entry panics.
#[derive(Clone)]
struct Fault(Option<String>);

impl Fault {
    fn is(&self, entry: &str) -> bool {
        self.0.as_deref() == Some(entry)
    }

    fn strike(&self, entry: &str) {
        assert!(!self.is(entry), "the faulty plugin was told to panic in {entry}");
    }
}

struct FaultyBackend {
    fault: Fault,
}

impl FaultyBackend {
    fn new() -> Self {
        let fault = Fault(std::env::var("PONIARD_FAULTY").ok());
        fault.strike("create");
        Self { fault }
    }
}

impl Backend for FaultyBackend {
    fn info(&self) -> BackendInfo {
        self.fault.strike("info");
        BackendInfo { name: "faulty".into(), version: env!("CARGO_PKG_VERSION").into() }
    }

    fn settings(&self) -> Vec<String> {
        self.fault.strike("settings");
        vec!["faulty.wish".into()]
    }

    fn open(&self, _settings: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        self.fault.strike("open");
        let processor = FaultyProcessor { fault: self.fault.clone(), host, threads: Mutex::default() };
        let mut spaces: Vec<Box<dyn MemorySpace>> = Vec::new();
        if self.fault.is("space-info") || self.fault.is("allocate") {
            spaces.push(Box::new(FaultySpace { fault: self.fault.clone() }));
        }
        Ok(Opened { processors: vec![Box::new(processor)], spaces })
    }
}

struct FaultyProcessor {
    fault: Fault,
    host: Arc<dyn HostServices>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Processor for FaultyProcessor {
    fn info(&self) -> ProcessorInfo {
        self.fault.strike("processor-info");
        ProcessorInfo {
            name: "faulty-0".into(),
            kind: ProcessorKind::cpu(),
            execution: if self.fault.is("submit") { Execution::Queued { depth: 1 } } else { Execution::Inline },
            space: SpaceId::HOST,
            numa_node: None,
            device: None,
        }
    }

    fn start(&self, worker: WorkerId) -> Result<(), StartError> {
        self.fault.strike("start");
        let host = Arc::clone(&self.host);
        let thread = thread::Builder::new()
            .name("faulty-0".into())
            .spawn(move || host.worker_main(worker))
            .map_err(|error| StartError::new(format!("cannot start a thread: {error}")))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    fn submit(&self, _batch: &[TaskDescriptor<'_>]) -> Result<(), SubmitError> {
        self.fault.strike("submit");
        Err(SubmitError::new("an inline processor takes no batches"))
    }

    fn stop(&self) -> Result<(), StopError> {
        self.fault.strike("stop");
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.into_iter().try_for_each(JoinHandle::join).map_err(|_| StopError::new("a thread panicked"))
    }
}

struct FaultySpace {
    fault: Fault,
}

impl MemorySpace for FaultySpace {
    fn info(&self) -> SpaceInfo {
        self.fault.strike("space-info");
        SpaceInfo { id: SpaceId(1), name: "faulty".into(), capacity_bytes: Some(0), imports: false }
    }

    fn allocate(&self, len_bytes: u64, _zeroed: bool) -> Result<Box<dyn Chunk>, AllocateError> {
        self.fault.strike("allocate");
        Err(AllocateError::new(len_bytes, "the space has no room at all"))
    }
}
