//! The machine of a world, as the runtime sees it: a backend whose processors are workers with logical threads.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use poniard::platform::Platform as _;
use poniard::{
    Backend, BackendInfo, Execution, HostServices, OpenError, Opened, Processor, ProcessorInfo, ProcessorKind, Settings, SpaceId,
    StartError, StopError, WorkerId,
};

use super::World;

/// A backend with so many workers in the host's memory.
#[derive(Clone, Copy, Debug)]
pub struct SimBackend {
    /// How many.
    pub workers: usize,
}

impl Backend for SimBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "sim".into(), version: env!("CARGO_PKG_VERSION").into() }
    }

    fn open(&self, _: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        let worker = |index| Box::new(Worker { index, host: Arc::clone(&host) }) as Box<dyn Processor>;
        Ok(Opened { processors: (0..self.workers).map(worker).collect(), spaces: Vec::new() })
    }
}

thread_local! {
    /// Logical threads of workers that have not ended, in this world.
    static THREADS: Cell<usize> = const { Cell::new(0) };
}

struct Worker {
    index: usize,
    host: Arc<dyn HostServices>,
}

impl Processor for Worker {
    fn info(&self) -> ProcessorInfo {
        ProcessorInfo {
            name: format!("sim-{}", self.index),
            kind: ProcessorKind::cpu(),
            execution: Execution::Inline,
            space: SpaceId::HOST,
            numa_node: None,
            device: None,
        }
    }

    fn start(&self, worker: WorkerId) -> Result<(), StartError> {
        let host = Arc::clone(&self.host);
        THREADS.set(THREADS.get() + 1);
        let work = move || {
            host.worker_main(worker);
            THREADS.set(THREADS.get() - 1);
        };
        World::here().spawn_worker(worker.0, Box::new(work));
        Ok(())
    }

    fn stop(&self) -> Result<(), StopError> {
        let world: Rc<World> = World::here();
        // They return as soon as they go on.
        while THREADS.get() > 0 {
            world.relax();
        }
        Ok(())
    }
}

/// Forgets threads of a world that was given up.
pub(super) fn forget() {
    THREADS.set(0);
}
