//! A device of a world: memory of its own, an engine for copies to it, one for copies from it, and a queue of launches.
//!
//! Two logical threads belong to it: one makes the copies for launches, the other runs launches whose copies are made. Copies to the host are made by whoever wants them, one at a time.
#![expect(unsafe_code, reason = "a device reads memory that the runtime lends it")]

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use poniard::platform::{LogicalThread, Platform as _, QueueSituation};
use poniard::{
    Access, AllocateError, Chunk, ChunkInfo, Completion, DeviceClass, DeviceInfo, ElementKind, Execution, Fault, HostServices, MemorySpace,
    Operand, Processor, ProcessorInfo, ProcessorKind, SpaceId, SpaceInfo, StopError, SubmitError, TaskDescriptor, TaskId, TransferError,
};

use super::scene::Scene;
use super::script::Chaos;
use super::work::ScriptDevice;
use super::{World, kernel};

/// When nothing has come from a launch for so long after it was due, its device is taken for dead.
const PATIENCE_NS: u64 = 500_000_000;

/// A device. What the parts of its backend share.
pub(super) struct Device {
    /// Which one it is.
    number: u32,
    /// Its number behind those of the workers.
    processor: u32,
    spec: ScriptDevice,
    /// Since when there is one: what was lost until then was another one.
    since_ns: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Why it is lost, once it is.
    lost: Option<&'static str>,
    is_stopped: bool,
    chunks: BTreeMap<u64, Memory>,
    next_chunk: u64,
    used_bytes: u64,
    /// Launches whose copies have not been begun, those whose copies are made or being made, and the chunks of the one that runs.
    submitted: VecDeque<Submitted>,
    copied: VecDeque<Submitted>,
    running: Vec<u64>,
    copying: Vec<u64>,
    /// Threads that have begun, and have not ended.
    threads: Vec<LogicalThread>,
    has_begun: bool,
    /// Who waits for their end.
    joiner: Option<LogicalThread>,
    /// When the engine for copies to the host is free again.
    down_free_ns: u64,
    /// Launches so far, and copies to the host.
    launches: u32,
    downloads: u32,
}

/// A piece of its memory.
struct Memory {
    bytes: Vec<u8>,
    /// Its chunk is gone: it is free when no launch uses it any more.
    is_dropped: bool,
}

struct Submitted {
    id: TaskId,
    task: u32,
    operands: Vec<Operand>,
    deadline: Option<Duration>,
    upload_ns: u64,
}

/// Bytes of a chunk, if it has them.
fn range_of(chunk: ChunkInfo, offset_bytes: u64, len: usize) -> Result<Range<usize>, TransferError> {
    match offset_bytes.checked_add(len as u64).filter(|end| *end <= chunk.len_bytes) {
        Some(end) => Ok(offset_bytes as usize..end as usize),
        None => Err(TransferError::new(chunk, offset_bytes, len as u64, "the chunk does not have them")),
    }
}

/// What a chunk takes.
fn taken_bytes(len: usize) -> u64 {
    (len.max(1) as u64).next_multiple_of(QueueSituation::GRAIN_BYTES)
}

impl State {
    fn is_used(&self, chunk: u64) -> bool {
        let has = |launch: &Submitted| launch.operands.iter().any(|operand| operand.chunk == chunk);
        self.submitted.iter().chain(&self.copied).any(has) || self.running.contains(&chunk) || self.copying.contains(&chunk)
    }

    /// Frees memory whose chunk is gone, if no launch uses it.
    fn free(&mut self, chunk: u64) {
        if !self.is_used(chunk) && self.chunks.get(&chunk).is_some_and(|memory| memory.is_dropped) {
            let gone = self.chunks.remove(&chunk);
            self.used_bytes -= gone.map_or(0, |memory| taken_bytes(memory.bytes.len()));
        }
    }

    fn bytes_of(&mut self, chunk: u64) -> &mut Vec<u8> {
        match self.chunks.get_mut(&chunk) {
            Some(memory) => &mut memory.bytes,
            None => panic!("a launch names chunk {chunk}, which does not exist"),
        }
    }
}

impl Device {
    pub(super) fn new(number: u32, workers: u32, spec: ScriptDevice) -> Arc<Self> {
        let since_ns = World::here().now_ns();
        Arc::new(Self { number, processor: workers + number, spec, since_ns, state: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn space(&self) -> SpaceId {
        SpaceId(self.number + 1)
    }

    /// Bytes of its memory that are taken, as it counts them.
    pub(super) fn used_bytes(&self) -> u64 {
        self.lock().used_bytes
    }

    /// When it is lost, if it is.
    fn lose_ns(&self) -> Option<u64> {
        let scene = Scene::here();
        let losses = scene.script.chaos.iter().filter_map(|chaos| match *chaos {
            Chaos::DeviceLost { device, at_ns } if device == self.number && at_ns > self.since_ns => Some(at_ns),
            _ => None,
        });
        losses.min()
    }

    fn is_lost(&self) -> bool {
        self.lock().lost.is_some()
    }

    fn lose(&self, reason: &'static str) {
        Scene::here().note_fault();
        self.lock().lost.get_or_insert(reason);
    }

    /// The calling thread waits for it until a time. False if it is lost before.
    fn pass(&self, until_ns: u64) -> bool {
        let world = World::here();
        match self.lose_ns().filter(|at_ns| *at_ns <= until_ns) {
            Some(at_ns) if !self.is_lost() => {
                world.compute(at_ns);
                self.lose("it fell off the bus");
            }
            _ if self.is_lost() => {}
            _ => world.compute(until_ns),
        }
        !self.is_lost()
    }

    fn wake(&self) {
        let threads = self.lock().threads.clone();
        threads.into_iter().for_each(|thread| World::here().wake(thread));
    }

    /// Whether the first of a kind of faults that says so meets the so many-th.
    fn is_met(&self, is_so: impl Fn(&Chaos) -> bool) -> bool {
        let scene = Scene::here();
        let is_met = scene.script.chaos.iter().any(is_so);
        if is_met {
            scene.note_fault();
        }
        is_met
    }

    /// Has what one of its threads does done by a logical thread.
    fn begin(self: &Arc<Self>, what: &str, work: impl Fn(&Self) -> bool + 'static) {
        let device = Arc::clone(self);
        let body = move || {
            let world = World::here();
            device.lock().threads.push(world.current());
            while !device.lock().is_stopped {
                if !work(&device) {
                    world.park(None);
                }
            }
            let joiner = {
                let mut state = device.lock();
                state.threads.retain(|thread| *thread != world.current());
                state.joiner
            };
            if let Some(joiner) = joiner {
                world.wake(joiner);
            }
        };
        World::here().spawn(&format!("device {} {what}", self.number), Box::new(body));
    }

    /// Makes the copies for one launch. False if there is none.
    fn copy_next(&self) -> bool {
        let launch = {
            let mut state = self.lock();
            let launch = state.submitted.pop_front();
            state.copying = launch.iter().flat_map(|launch| &launch.operands).map(|operand| operand.chunk).collect();
            launch
        };
        let Some(mut launch) = launch else { return false };
        let world = World::here();
        let sources: Vec<_> = launch.operands.iter().filter_map(|operand| Some((operand.chunk, operand.source?))).collect();
        for (chunk, source) in sources {
            // Launches before it may still use the memory.
            let is_busy = || {
                let state = self.lock();
                state.running.contains(&chunk) || state.copied.iter().flat_map(|launch| &launch.operands).any(|other| other.chunk == chunk)
            };
            while is_busy() {
                world.park(None);
            }
            let begun_ns = world.now_ns();
            if self.pass(begun_ns.saturating_add(self.spec.copy_ns(source.len_bytes))) {
                launch.upload_ns += world.now_ns() - begun_ns;
                // SAFETY: the runtime promises that the block is readable, and not written to, until the launch is reported as done.
                let lent = unsafe { std::slice::from_raw_parts(source.address as *const u8, source.len_bytes as usize) };
                self.lock().bytes_of(chunk).copy_from_slice(lent);
            }
        }
        {
            let mut state = self.lock();
            state.copying.clear();
            state.copied.push_back(launch);
        }
        self.wake();
        true
    }

    /// Runs one launch whose copies are made, and reports it. False if there is none.
    fn run_next(&self, host: &dyn HostServices) -> bool {
        let launch = {
            let mut state = self.lock();
            let launch = state.copied.pop_front();
            state.running = launch.iter().flat_map(|launch| &launch.operands).map(|operand| operand.chunk).collect();
            launch
        };
        let Some(launch) = launch else { return false };
        let number = {
            let mut state = self.lock();
            state.launches += 1;
            state.launches
        };
        let outcome = self.run(&launch, number);
        {
            let mut state = self.lock();
            state.running.clear();
            launch.operands.iter().for_each(|operand| state.free(operand.chunk));
        }
        self.wake();
        let mut late_ns = 0;
        for chaos in &Scene::here().script.chaos {
            if let Chaos::LateCompletions { device, every, by_ns } = *chaos
                && device == self.number
                && number.is_multiple_of(every.max(1))
            {
                late_ns += by_ns;
            }
        }
        let world = World::here();
        world.compute(world.now_ns().saturating_add(late_ns));
        let has_run = outcome.is_ok();
        let busy_ns = outcome.as_ref().ok().copied().filter(|_| self.spec.measures);
        let upload_ns = Some(launch.upload_ns).filter(|ns| self.spec.measures && has_run && *ns > 0);
        host.complete(&[Completion { outcome: outcome.map(drop), busy_ns, upload_ns, ..Completion::done(launch.id) }]);
        true
    }

    /// Runs a launch; how long that took.
    fn run(&self, launch: &Submitted, number: u32) -> Result<u64, Fault> {
        let lost = |device: &Self| Fault::lost(device.lock().lost.unwrap_or("it is lost"));
        let (scene, world) = (Scene::here(), World::here());
        let begun_ns = world.now_ns();
        if !self.pass(begun_ns) {
            return Err(lost(self));
        }
        if self.is_met(
            |chaos| matches!(chaos, Chaos::Refuses { device, every } if *device == self.number && number.is_multiple_of((*every).max(1))),
        ) {
            return Err(Fault::refused("it has no such feature"));
        }
        scene.begin_launch(launch.task);
        let end_ns = scene.end_ns(self.processor, begun_ns, scene.cost_ns(launch.task, self.processor));
        let limit_ns = launch.deadline.map(|deadline| begun_ns.saturating_add(deadline.as_nanos() as u64));
        if let Some(limit_ns) = limit_ns.filter(|limit_ns| *limit_ns < end_ns) {
            if !self.pass(limit_ns) {
                return Err(lost(self));
            }
            self.lose("a launch did not end in time");
            return Err(Fault::timed_out("it did not end in time"));
        }
        if !self.pass(end_ns) {
            return Err(lost(self));
        }
        if self.is_met(|chaos| matches!(chaos, Chaos::LostCompletion { device, launch } if *device == self.number && *launch == number)) {
            world.compute(world.now_ns() + PATIENCE_NS);
            self.lose("it did not answer");
            return Err(Fault::timed_out("it did not answer"));
        }
        {
            let mut state = self.lock();
            let inputs: Vec<Vec<u8>> = launch
                .operands
                .iter()
                .filter(|operand| operand.access != Access::Overwrite)
                .map(|operand| state.bytes_of(operand.chunk).clone())
                .collect();
            let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
            let value = kernel::compute(launch.task, &inputs);
            for operand in launch.operands.iter().filter(|operand| operand.access != Access::Read) {
                let bytes = state.bytes_of(operand.chunk);
                *bytes = kernel::bytes_of(value, bytes.len());
            }
        }
        scene.end_launch(launch.task, self.processor, begun_ns);
        Ok(world.now_ns() - begun_ns)
    }
}

/// A device as a processor.
pub(super) struct DeviceProcessor {
    pub(super) device: Arc<Device>,
    pub(super) host: Arc<dyn HostServices>,
}

impl Processor for DeviceProcessor {
    fn info(&self) -> ProcessorInfo {
        let number = self.device.number;
        ProcessorInfo {
            name: format!("sim-device-{number}"),
            // What kernels are for.
            kind: ProcessorKind::new("vulkan"),
            execution: Execution::Queued { depth: self.device.spec.depth },
            space: self.device.space(),
            numa_node: None,
            device: Some(DeviceInfo {
                name: format!("simulated device {number}"),
                uuid: format!("00000000-0000-0000-0000-{number:012}"),
                class: DeviceClass::Discrete,
            }),
        }
    }

    fn submit(&self, batch: &[TaskDescriptor<'_>]) -> Result<(), SubmitError> {
        let device = &self.device;
        for descriptor in batch {
            let launch = descriptor.launch.ok_or_else(|| SubmitError::new("it runs kernels only"))?;
            let task = launch.scalars.first_chunk().copied().map(u64::from_ne_bytes).ok_or_else(|| SubmitError::new("it has no task"))?;
            let (operands, deadline) = (launch.operands.to_vec(), launch.deadline);
            device.lock().submitted.push_back(Submitted { id: descriptor.id, task: task as u32, operands, deadline, upload_ns: 0 });
        }
        if !std::mem::replace(&mut device.lock().has_begun, true) {
            device.begin("copies", Device::copy_next);
            let host = Arc::clone(&self.host);
            device.begin("launches", move |device| device.run_next(&*host));
        }
        device.wake();
        Ok(())
    }

    fn stop(&self) -> Result<(), StopError> {
        let world = World::here();
        self.device.lock().is_stopped = true;
        self.device.wake();
        loop {
            {
                let mut state = self.device.lock();
                if state.threads.is_empty() {
                    return Ok(());
                }
                state.joiner = Some(world.current());
            }
            world.park(None);
        }
    }
}

/// A device's memory.
pub(super) struct DeviceMemory(pub(super) Arc<Device>);

impl MemorySpace for DeviceMemory {
    fn info(&self) -> SpaceInfo {
        SpaceInfo {
            id: self.0.space(),
            name: format!("simulated device {}", self.0.number),
            capacity_bytes: Some(self.0.spec.capacity_bytes),
            imports: false,
        }
    }

    fn allocate(&self, len_bytes: u64, zeroed: bool) -> Result<Box<dyn Chunk>, AllocateError> {
        let device = &self.0;
        let now_ns = World::here().now_ns();
        if device.is_met(|chaos| {
            matches!(chaos, Chaos::MemoryFull { device, from_ns, to_ns } if *device == self.0.number && (*from_ns..*to_ns).contains(&now_ns))
        }) {
            return Err(AllocateError::new(len_bytes, "others have the memory"));
        }
        let mut state = device.lock();
        let taken_bytes = taken_bytes(len_bytes as usize);
        if state.used_bytes + taken_bytes > device.spec.capacity_bytes {
            return Err(AllocateError::new(len_bytes, format!("{} bytes are in use", state.used_bytes)));
        }
        state.used_bytes += taken_bytes;
        state.next_chunk += 1;
        let id = state.next_chunk;
        // What is not to be zero is what nobody would expect.
        let bytes = vec![if zeroed { 0 } else { 0x4a }; len_bytes as usize];
        state.chunks.insert(id, Memory { bytes, is_dropped: false });
        let info = ChunkInfo { space: device.space(), element: ElementKind::Opaque, len_bytes };
        Ok(Box::new(DeviceChunk { device: Arc::clone(device), id, info }))
    }
}

struct DeviceChunk {
    device: Arc<Device>,
    id: u64,
    info: ChunkInfo,
}

impl Chunk for DeviceChunk {
    fn info(&self) -> ChunkInfo {
        self.info
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), TransferError> {
        let range = range_of(self.info, offset_bytes, into.len())?;
        let (device, len_bytes) = (&self.device, into.len() as u64);
        let fails = |reason| Err(TransferError::new(self.info, offset_bytes, len_bytes, reason));
        let (until_ns, number) = {
            let mut state = device.lock();
            state.down_free_ns = state.down_free_ns.max(World::here().now_ns()).saturating_add(device.spec.copy_ns(len_bytes));
            state.downloads += 1;
            (state.down_free_ns, state.downloads)
        };
        if !device.pass(until_ns) {
            return fails("the device is lost");
        }
        if device.is_met(|chaos| {
            matches!(chaos, Chaos::TransferFails { device, every } if *device == self.device.number && number.is_multiple_of((*every).max(1)))
        }) {
            return fails("the copy broke off");
        }
        into.copy_from_slice(&device.lock().bytes_of(self.id)[range]);
        Ok(())
    }

    fn write(&mut self, offset_bytes: u64, from: &[u8]) -> Result<(), TransferError> {
        let range = range_of(self.info, offset_bytes, from.len())?;
        let copy_ns = self.device.spec.copy_ns(from.len() as u64);
        if !self.device.pass(World::here().now_ns().saturating_add(copy_ns)) {
            return Err(TransferError::new(self.info, offset_bytes, from.len() as u64, "the device is lost"));
        }
        self.device.lock().bytes_of(self.id)[range].copy_from_slice(from);
        Ok(())
    }
}

impl Drop for DeviceChunk {
    fn drop(&mut self) {
        let mut state = self.device.lock();
        if let Some(memory) = state.chunks.get_mut(&self.id) {
            memory.is_dropped = true;
        }
        state.free(self.id);
    }
}
