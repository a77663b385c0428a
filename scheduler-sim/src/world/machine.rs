//! The machine of a world, as the runtime sees it: a backend whose processors are workers with logical threads. Some stand for processes, which are played.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use poniard::platform::{LogicalThread, Platform as _, execute_call};
use poniard::{
    Backend, BackendInfo, CallError, Caller, Execution, HostServices, InspectError, KernelInterface, OpenError, Opened, Processor,
    ProcessorInfo, ProcessorKind, Remote, Settings, Source, SpaceId, StartError, StopError, WorkerId,
};

use super::World;
use super::device::{Device, DeviceMemory, DeviceProcessor};
use super::kernel;
use super::scene::{Scene, take_killed};
use super::script::Chaos;
use super::work::ScriptDevice;

/// How long a message to a process takes, or back.
const HOP_NS: u64 = 5_000;
/// How long a process takes that is started.
const START_NS: u64 = 2_000_000;
/// When nothing has come from a process for so long after its reply was due, it is taken for dead and killed.
const PATIENCE_NS: u64 = 500_000_000;
/// Calls that a process has ahead at most.
const AHEAD_MAX: usize = 4;

/// A backend with so many workers in the host's memory, and devices with memories of their own.
#[derive(Clone, Debug)]
pub struct SimBackend {
    /// How many.
    pub workers: usize,
    /// How many of them, the last ones, stand for processes.
    pub processes: usize,
    /// Its devices.
    pub devices: Vec<ScriptDevice>,
}

impl Backend for SimBackend {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "sim".into(), version: env!("CARGO_PKG_VERSION").into() }
    }

    fn open(&self, _: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        let first = self.workers.saturating_sub(self.processes);
        let worker = |index| Box::new(Worker { index, is_process: index >= first, host: Arc::clone(&host) }) as Box<dyn Processor>;
        let new = |(number, spec): (u32, &ScriptDevice)| Device::new(number, self.workers as u32, *spec);
        let devices: Vec<Arc<Device>> = (0..).zip(&self.devices).map(new).collect();
        let mut opened = Opened { processors: (0..self.workers).map(worker).collect(), spaces: Vec::new() };
        for device in &devices {
            opened.processors.push(Box::new(DeviceProcessor { device: Arc::clone(device), host: Arc::clone(&host) }));
            opened.spaces.push(Box::new(DeviceMemory(Arc::clone(device))));
        }
        MACHINE.with_borrow_mut(|machine| {
            machine.processes = (0..self.workers).map(|_| Process::default()).collect();
            machine.devices = devices;
        });
        Ok(opened)
    }

    fn inspect(&self, source: Source<'_>) -> Result<Option<KernelInterface>, InspectError> {
        kernel::inspect(source)
    }
}

/// What there is of a world's machine.
#[derive(Default)]
struct Machine {
    /// Logical threads of workers that have not ended.
    threads: usize,
    /// Who waits for that.
    joiner: Option<LogicalThread>,
    /// Of each worker the process that it stands for.
    processes: Vec<Process>,
    devices: Vec<Arc<Device>>,
}

#[derive(Default)]
struct Process {
    /// How many there were before the one that is there now, or will be.
    generation: u32,
    /// Since when there is one, if there is one.
    since_ns: Option<u64>,
    /// Calls that it has got.
    calls: u32,
    ahead: VecDeque<Vec<u8>>,
}

thread_local! {
    static MACHINE: RefCell<Machine> = RefCell::default();
    /// Whether the body that begins next is run by a process.
    static IS_AWAY: Cell<bool> = const { Cell::new(false) };
}

/// Whether the body at hand is run by a process. To be asked once, before it stops for the first time.
pub(super) fn take_away() -> bool {
    IS_AWAY.take()
}

/// The devices that the backend was opened with last.
pub(super) fn devices() -> Vec<Arc<Device>> {
    MACHINE.with_borrow(|machine| machine.devices.clone())
}

/// Forgets a world that has ended, or was given up.
pub(super) fn forget() {
    MACHINE.take();
    IS_AWAY.set(false);
}

struct Worker {
    index: usize,
    is_process: bool,
    host: Arc<dyn HostServices>,
}

impl Processor for Worker {
    fn info(&self) -> ProcessorInfo {
        ProcessorInfo {
            name: format!("sim-{}", self.index),
            kind: ProcessorKind::cpu(),
            execution: if self.is_process { Execution::Remote } else { Execution::Inline },
            space: SpaceId::HOST,
            numa_node: None,
            device: None,
        }
    }

    fn start(&self, worker: WorkerId) -> Result<(), StartError> {
        let (host, is_process) = (Arc::clone(&self.host), self.is_process);
        MACHINE.with_borrow_mut(|machine| machine.threads += 1);
        let work = move || {
            if is_process {
                host.worker_main_remote(worker, Arc::new(Way { worker: worker.0 }));
            } else {
                host.worker_main(worker);
            }
            let joiner = MACHINE.with_borrow_mut(|machine| {
                machine.threads -= 1;
                machine.joiner
            });
            if let Some(joiner) = joiner {
                World::here().wake(joiner);
            }
        };
        World::here().spawn_worker(worker.0, Box::new(work));
        Ok(())
    }

    fn stop(&self) -> Result<(), StopError> {
        let world: Rc<World> = World::here();
        // They return when what they are in the middle of is over.
        while MACHINE.with_borrow(|machine| machine.threads) > 0 {
            MACHINE.with_borrow_mut(|machine| machine.joiner = Some(world.current()));
            world.park(None);
        }
        Ok(())
    }
}

/// The way to a process that is played.
struct Way {
    worker: u32,
}

impl Way {
    fn with<R>(&self, act: impl FnOnce(&mut Process) -> R) -> R {
        MACHINE.with_borrow_mut(|machine| act(&mut machine.processes[self.worker as usize]))
    }

    /// Its number, as a process has one that tells it from all others.
    fn number(&self) -> u32 {
        1000 * (self.worker + 1) + self.with(|process| process.generation)
    }

    /// Sees to it that there is a process.
    fn start(&self, scene: &Scene, world: &World) -> Result<(), CallError> {
        let now_ns = world.now_ns();
        // One that was killed while it had nothing to do is gone.
        let is_gone = self
            .with(|process| process.since_ns)
            .is_some_and(|since_ns| scene.kill_ns(self.worker, since_ns).is_some_and(|at_ns| at_ns <= now_ns));
        if is_gone {
            self.end();
        }
        if self.with(|process| process.since_ns).is_some() {
            return Ok(());
        }
        let none = scene.script.chaos.iter().any(|chaos| {
            matches!(chaos, Chaos::NoProcess { worker, from_ns, to_ns } if *worker == self.worker && (*from_ns..*to_ns).contains(&now_ns))
        });
        if none {
            return Err(CallError::NoProcess { reason: "none is to be had now".into() });
        }
        world.compute(now_ns + START_NS);
        self.with(|process| process.since_ns = Some(world.now_ns()));
        Ok(())
    }

    fn end(&self) {
        self.with(|process| {
            process.since_ns = None;
            process.generation += 1;
        });
    }

    /// What becomes of the process's calls that have not begun: they come back.
    fn give_back(&self, caller: &mut dyn Caller) {
        let count = self.with(|process| std::mem::take(&mut process.ahead).len());
        if count > 0 {
            caller.came_back(count);
        }
    }

    fn execute(&self, call: &[u8], caller: &mut dyn Caller) -> Result<Vec<u8>, CallError> {
        let (scene, world) = (Scene::here(), World::here());
        let number = self.number();
        caller.begins(number);
        while self.with(|process| process.ahead.len()) < AHEAD_MAX
            && let Some(ahead) = caller.ahead()
        {
            self.with(|process| process.ahead.push_back(ahead));
        }
        world.compute(world.now_ns() + HOP_NS);
        IS_AWAY.set(true);
        let reply = execute_call(call);
        if take_killed() {
            self.end();
            self.give_back(caller);
            return Err(CallError::Lost { process: number, reason: "was killed by signal 9 (SIGKILL)".into() });
        }
        let calls = self.with(|process| {
            process.calls += 1;
            process.calls
        });
        let mut late_ns = HOP_NS;
        for chaos in &scene.script.chaos {
            match *chaos {
                Chaos::LateReplies { worker, every, by_ns } if worker == self.worker && calls.is_multiple_of(every.max(1)) => {
                    late_ns += by_ns
                }
                Chaos::LostReply { worker, call } if worker == self.worker && call == calls => {
                    world.compute(world.now_ns() + PATIENCE_NS);
                    scene.forget_last(self.worker);
                    self.end();
                    self.give_back(caller);
                    return Err(CallError::Lost { process: number, reason: "did not answer and was killed".into() });
                }
                _ => {}
            }
        }
        world.compute(world.now_ns() + late_ns);
        Ok(reply)
    }
}

impl Remote for Way {
    fn call(&self, call: &[u8], caller: &mut dyn Caller) -> Result<Vec<u8>, CallError> {
        self.start(&Scene::here(), &World::here())?;
        self.execute(call, caller)
    }

    fn next(&self, caller: &mut dyn Caller) -> Result<Vec<u8>, CallError> {
        match self.with(|process| process.ahead.pop_front()) {
            Some(call) => self.execute(&call, caller),
            None => Err(CallError::NoProcess { reason: "no call was sent ahead".into() }),
        }
    }
}
