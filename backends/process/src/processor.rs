//! A thread that the runtime borrows, and with it the way to a worker process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use poniard_interface::{
    Execution, HostServices, LogLevel, Processor, ProcessorInfo, ProcessorKind, Remote, SpaceId, StartError, StopError, WorkerId,
};

use crate::pool::Pool;
use crate::remote::ProcessRemote;

/// The stack of each thread in bytes, as the threads backend has it: what cannot travel runs on these.
const STACK_BYTES: usize = 8 << 20;

/// An inline processor: its first thread works by a worker process, further ones, which work while another waits inside a task, in place.
pub(crate) struct ProcessProcessor {
    name: String,
    host: Arc<dyn HostServices>,
    remote: Arc<ProcessRemote>,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    running: Vec<JoinHandle<()>>,
    started: usize,
    stopped: bool,
}

impl std::fmt::Debug for ProcessProcessor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProcessProcessor")
            .field("name", &self.name)
            .field("remote", &self.remote)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl ProcessProcessor {
    /// The processor at `index`, without a thread or a process yet.
    pub(crate) fn new(index: usize, pool: Arc<Pool>, host: Arc<dyn HostServices>) -> Self {
        let name = format!("processes-{index}");
        let remote = Arc::new(ProcessRemote::new(name.clone(), pool, Arc::clone(&host)));
        Self { name, host, remote, threads: Mutex::new(Threads::default()) }
    }

    /// No step under this lock leaves the list half changed, so a panic elsewhere does not make it useless.
    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Processor for ProcessProcessor {
    fn info(&self) -> ProcessorInfo {
        ProcessorInfo {
            name: self.name.clone(),
            kind: ProcessorKind::cpu(),
            execution: Execution::Remote,
            space: SpaceId::HOST,
            numa_node: None,
            device: None,
        }
    }

    fn start(&self, worker: WorkerId) -> Result<(), StartError> {
        let mut threads = self.threads();
        if threads.stopped {
            return Err(StartError::new("the processor was stopped"));
        }
        // Helpers of a worker that waited come and go: those that are gone would keep their stacks until they are joined.
        let (gone, running): (Vec<_>, Vec<_>) = std::mem::take(&mut threads.running).into_iter().partition(JoinHandle::is_finished);
        threads.running = running;
        for thread in gone {
            if thread.join().is_err() {
                self.host.log(LogLevel::Warning, &format!("a thread of `{}` panicked", self.name));
            }
        }
        let host = Arc::clone(&self.host);
        let (name, remote) = match threads.started {
            0 => (self.name.clone(), Some(Arc::clone(&self.remote) as Arc<dyn Remote>)),
            further => (format!("{}+{further}", self.name), None),
        };
        let body = move || match remote {
            Some(remote) => host.worker_main_remote(worker, remote),
            None => host.worker_main(worker),
        };
        let thread =
            thread::Builder::new().name(name.clone()).stack_size(STACK_BYTES).spawn(body).map_err(|error| {
                StartError::new(format!("cannot start the thread `{name}` with a stack of {STACK_BYTES} bytes: {error}"))
            })?;
        threads.running.push(thread);
        threads.started += 1;
        Ok(())
    }

    fn rest(&self) {
        self.remote.let_go();
    }

    fn stop(&self) -> Result<(), StopError> {
        let running = {
            let mut threads = self.threads();
            threads.stopped = true;
            std::mem::take(&mut threads.running)
        };
        // Joined outside the lock, so that a thread that asks for another one while it ends gets an answer.
        let mut panicked = 0;
        for thread in running {
            // A runtime dropped by one of its own tasks stops us from one of our threads: that one ends by itself.
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                panicked += 1;
            }
        }
        self.remote.stop();
        match panicked {
            0 => Ok(()),
            count => Err(StopError::new(format!("{count} of the threads of `{}` panicked", self.name))),
        }
    }
}
