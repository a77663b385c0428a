//! A whole backend: one queued processor that executes tasks on one thread of its own.
//!
//! Build it, call the file `libponiard_backend_example.so`, and put it beside the program or into a folder of `PONIARD_BACKEND_PATH`.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use poniard_interface::{
    Backend, BackendInfo, Completion, Execution, Fault, HostServices, OpenError, Opened, Processor, ProcessorInfo, ProcessorKind, Settings,
    SpaceId, StopError, SubmitError, TaskDescriptor, TaskId,
};

// The entry point: a symbol that carries the name, read from the file before any code of it runs.
poniard_interface::export_backend!("example", ExampleBackend);

struct ExampleBackend;

impl Backend for ExampleBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "example".into(), version: env!("CARGO_PKG_VERSION").into() }
    }

    // Says what there is. `settings` are the user's wishes; `host` is all of the runtime that a backend sees.
    fn open(&self, _settings: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        Ok(Opened { processors: vec![Box::new(ExampleQueue { host, running: Mutex::new(None) })], spaces: Vec::new() })
    }
}

/// The processor: a thread and the sending end of its channel, from the first batch until it is stopped.
struct ExampleQueue {
    host: Arc<dyn HostServices>,
    running: Mutex<Option<(Sender<TaskId>, JoinHandle<()>)>>,
}

impl Processor for ExampleQueue {
    fn info(&self) -> ProcessorInfo {
        ProcessorInfo {
            name: "example-queue".into(),
            // It runs the host's code in the host's memory, so its kind is `cpu`.
            kind: ProcessorKind::cpu(),
            // How many tasks it wants to hold at once; the others wait in the runtime.
            execution: Execution::Queued { depth: 16 },
            space: SpaceId::HOST,
            numa_node: None,
            device: None,
        }
    }

    // Takes a batch and returns at once. Each task is answered later, once.
    fn submit(&self, batch: &[TaskDescriptor<'_>]) -> Result<(), SubmitError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (tasks, _) = match &mut *running {
            Some(running) => running,
            none => none.insert(self.start_thread().map_err(|error| SubmitError::new(format!("cannot start a thread: {error}")))?),
        };
        // Sending fails only when the thread is gone, and it stays until the sender is dropped.
        batch.iter().try_for_each(|task| tasks.send(task.id)).map_err(|_| SubmitError::new("the thread is gone"))
    }

    // Dropping the sender ends the thread once it has executed all that was submitted.
    fn stop(&self) -> Result<(), StopError> {
        let Some((tasks, thread)) = self.running.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        drop(tasks);
        thread.join().map_err(|_| StopError::new("the thread panicked"))
    }
}

impl ExampleQueue {
    fn start_thread(&self) -> io::Result<(Sender<TaskId>, JoinHandle<()>)> {
        let host = Arc::clone(&self.host);
        let (tasks, inbox) = channel();
        let thread = thread::Builder::new().name("example-queue".into()).spawn(move || execute(&inbox, &*host))?;
        Ok((tasks, thread))
    }
}

/// The thread: runs each task's host body, then reports it. A device would execute code of its own here instead of calling `run`.
fn execute(inbox: &Receiver<TaskId>, host: &dyn HostServices) {
    for task in inbox {
        // A body that fails by itself is the host's business; an error here says that it could not be run at all.
        let outcome = host.run(task).map_err(|error| Fault::refused(error.reason));
        host.complete(&[Completion { task, outcome, busy_ns: None, upload_ns: None }]);
    }
}
