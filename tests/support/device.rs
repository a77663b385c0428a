//! A device that a test tells what to do: memory of its own, kernels in a language of a few lines, and faults when they are wanted.
//!
//! A kernel's source is its operation in the first line, then its buffers and scalars:
//!
//! ```text
//! scale
//! in x f32
//! out z f32
//! scalar a f32
//! ```
//!
//! Operations: `scale` (z = a x), `add` (z = x + y), `bump` (x = x + 1, in place), `count` (`z[0]` = number of elements of x; z begins at zero), `copy` (z = x, to the shorter length),
//! `multiply` (c = c + a b, square matrices of one size, row by row), `both` (y = x + 1, z = 2 x), `numbers` (z has its scalars: `f32`, `u32`, `i32`, `u64`, `i64`, `f64`, `f16`), `refused` (it is).
//!
//! One file because it is one device.
#![expect(unsafe_code, reason = "a device reads and writes memory that the runtime lends it")]

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use poniard::{
    Access, AllocateError, Backend, BackendInfo, Binding, Chunk, ChunkInfo, Completion, DeviceClass, DeviceInfo, ElementKind, Execution,
    Fault, HostBlock, HostServices, InspectError, KernelCode, KernelInterface, MemorySpace, OpenError, Opened, Operand, Processor,
    ProcessorInfo, ProcessorKind, Scalar, Settings, Source, SpaceId, SpaceInfo, StopError, SubmitError, TaskDescriptor, TaskId,
    TransferError,
};

/// What a device does with what it is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It does it, before `submit` returns.
    #[default]
    Run,
    /// It keeps it until [`FakeDevice::release`].
    Hold,
    /// It keeps it until a thread attends.
    Attended,
    /// It refuses it.
    Refuse,
    /// It is lost.
    Lose,
    /// It is lost, since it takes too long.
    TimeOut,
}

/// What a device does wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing.
    #[default]
    None,
    /// Of many elements the last one is not done.
    LeavesTheLast,
    /// Of what is to be copied for a launch it copies the first buffer.
    CopiesNoSecond,
    /// It does not make the copies for a launch that is refused.
    ForgetsCopiesOfRefused,
    /// What comes after a launch that was refused is refused.
    RefusesAfterRefusal,
    /// Launches with a buffer without elements are refused.
    RefusesEmpty,
    /// What belongs into one result is in the other one.
    SwapsResults,
    /// Of the scalars it gets the first.
    OneNumber,
    /// Memory that is to be zero is not.
    DoesNotZero,
    /// It does not change what it reads.
    ChangesNothing,
    /// What a kernel leaves alone does not stay.
    WritesAll,
    /// Of many launches one is never answered.
    Loses,
    /// Launches are answered twice.
    AnswersTwice,
}

/// A device.
#[derive(Debug)]
pub struct FakeDevice {
    flaw: Flaw,
    info: DeviceInfo,
    capacity_bytes: u64,
    imports: bool,
    state: Mutex<State>,
    uploaded_bytes: AtomicU64,
    downloaded_bytes: AtomicU64,
    uploads: AtomicU64,
    downloads: AtomicU64,
    launched: AtomicU64,
    in_a_read: Moment,
    byte_ns: u64,
    probes: AtomicU64,
    in_a_probe: Moment,
    says: Says,
}

/// What a device says a launch took that has operands of so many bytes.
type Took = dyn FnMut(u64) -> u64 + Send;

/// That, if it says so.
#[derive(Default)]
struct Says(Mutex<Option<Box<Took>>>);

impl std::fmt::Debug for Says {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Says")
    }
}

#[derive(Debug, Default)]
struct State {
    mode: Mode,
    lost: bool,
    has_refused: bool,
    chunks: BTreeMap<u64, Memory>,
    next_chunk: u64,
    held: Vec<Held>,
    /// Kernels that it was told of.
    expected: Vec<String>,
    /// Allocations that still succeed, if they are counted.
    allocations_left: Option<u64>,
}

/// Something to do at a moment.
#[derive(Default)]
struct Moment(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Moment {
    fn set(&self, act: impl FnOnce() + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(act));
    }

    fn come(&self) {
        let act = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(act) = act {
            act();
        }
    }
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Moment")
    }
}

#[derive(Debug)]
enum Memory {
    Own(Vec<u8>),
    Imported(HostBlock),
}

#[derive(Debug)]
struct Held {
    id: TaskId,
    operation: String,
    operands: Vec<Operand>,
    scalars: Vec<u8>,
}

impl Held {
    fn source_bytes(&self) -> u64 {
        self.operands.iter().filter_map(|operand| operand.source).map(|source| source.len_bytes).sum()
    }
}

impl FakeDevice {
    /// A discrete device with so much memory.
    pub fn new(name: &str, capacity_bytes: u64) -> Self {
        let info = DeviceInfo { name: name.into(), uuid: format!("uuid-of-{name}"), class: DeviceClass::Discrete };
        Self {
            flaw: Flaw::None,
            info,
            capacity_bytes,
            imports: false,
            state: Mutex::default(),
            uploaded_bytes: AtomicU64::new(0),
            downloaded_bytes: AtomicU64::new(0),
            uploads: AtomicU64::new(0),
            downloads: AtomicU64::new(0),
            launched: AtomicU64::new(0),
            in_a_read: Moment::default(),
            byte_ns: 0,
            probes: AtomicU64::new(0),
            in_a_probe: Moment::default(),
            says: Says::default(),
        }
    }

    /// The same with copies for launches that it says take so long for each byte.
    #[must_use]
    pub fn telling(mut self, byte_ns: u64) -> Self {
        self.byte_ns = byte_ns;
        self
    }

    /// The same as another sort of device.
    #[must_use]
    pub fn of_class(mut self, class: DeviceClass) -> Self {
        self.info.class = class;
        self
    }

    /// The same with the host's memory for its own.
    #[must_use]
    pub fn importing(mut self) -> Self {
        self.imports = true;
        self
    }

    /// The same with a flaw.
    #[must_use]
    pub fn with_flaw(mut self, flaw: Flaw) -> Self {
        self.flaw = flaw;
        self
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what it does with what it is given from now on.
    pub fn set(&self, mode: Mode) {
        self.lock().mode = mode;
    }

    /// After so many allocations more there is no memory.
    pub fn fail_after(&self, allocations: u64) {
        self.lock().allocations_left = Some(allocations);
    }

    /// Does something in the middle of the next read.
    pub fn in_the_next_read(&self, act: impl FnOnce() + Send + 'static) {
        self.in_a_read.set(act);
    }

    /// Does something in the middle of the next transfer that the runtime makes to find out about the way to it.
    pub fn in_the_next_probe(&self, act: impl FnOnce() + Send + 'static) {
        self.in_a_probe.set(act);
    }

    /// Such transfers so far, there and back. They are not among the [bytes](Self::copied_bytes).
    pub fn probes(&self) -> u64 {
        self.probes.load(Relaxed)
    }

    /// Bytes that are to be copied for the launches that it keeps.
    pub fn held_bytes(&self) -> u64 {
        self.lock().held.iter().map(Held::source_bytes).sum()
    }

    /// From now on it says of each launch that it took so many nanoseconds, given the bytes of its operands.
    pub fn say_it_took(&self, busy_ns: impl FnMut(u64) -> u64 + Send + 'static) {
        *self.says.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(busy_ns));
    }

    /// What it says of a launch.
    fn busy_ns(&self, held: &Held) -> Option<u64> {
        let bytes = {
            let state = self.lock();
            held.operands.iter().map(|operand| state.load(operand.chunk).len() as u64).sum()
        };
        self.says.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(|says| says(bytes))
    }

    /// Launches done so far.
    pub fn launched(&self) -> u64 {
        self.launched.load(Relaxed)
    }

    /// Bytes copied to it and from it so far.
    pub fn copied_bytes(&self) -> (u64, u64) {
        (self.uploaded_bytes.load(Relaxed), self.downloaded_bytes.load(Relaxed))
    }

    /// Copies to it and from it so far.
    pub fn copies(&self) -> (u64, u64) {
        (self.uploads.load(Relaxed), self.downloads.load(Relaxed))
    }

    /// Bytes that its own chunks have.
    pub fn used_bytes(&self) -> u64 {
        let own = |memory: &Memory| if let Memory::Own(bytes) = memory { bytes.len() as u64 } else { 0 };
        self.lock().chunks.values().map(own).sum()
    }

    /// Kernels that it was told would come.
    pub fn expected(&self) -> Vec<String> {
        self.lock().expected.clone()
    }

    /// Launches that it keeps.
    pub fn held(&self) -> usize {
        self.lock().held.len()
    }

    /// What the launches that it keeps do, in the order in which it was given them.
    pub fn held_operations(&self) -> Vec<String> {
        self.lock().held.iter().map(|held| held.operation.clone()).collect()
    }

    /// The device is lost, with all that it keeps.
    pub fn lose(&self, host: &dyn HostServices, reason: &str) {
        let held = {
            let mut state = self.lock();
            state.lost = true;
            std::mem::take(&mut state.held)
        };
        let lost: Vec<_> = held.iter().map(|held| Completion::failed(held.id, Fault::lost(reason))).collect();
        host.complete(&lost);
    }

    /// Refuses the first of what it keeps.
    pub fn refuse_first(&self, host: &dyn HostServices) {
        let first = {
            let mut state = self.lock();
            let first = state.held.remove(0);
            self.copy(&mut state, &first.operands);
            first
        };
        host.complete(&[Completion::failed(first.id, Fault::refused("it has no such feature"))]);
    }

    /// Does the first of what it keeps.
    pub fn release_first(&self, host: &dyn HostServices) {
        let first = self.lock().held.remove(0);
        self.perform(&first);
        host.complete(&[self.done(&first)]);
    }

    /// Does what it keeps.
    pub fn release(&self, host: &dyn HostServices) {
        let held = std::mem::take(&mut self.lock().held);
        for held in held {
            self.perform(&held);
            host.complete(&[self.done(&held)]);
        }
    }

    fn done(&self, held: &Held) -> Completion {
        let upload_ns = Some(self.byte_ns * held.source_bytes()).filter(|ns| *ns > 0);
        Completion { upload_ns, ..Completion::done(held.id) }
    }

    /// Makes the copies for a launch; what its buffers have then.
    fn copy(&self, state: &mut State, operands: &[Operand]) -> Vec<Vec<u8>> {
        let mut contents: Vec<Vec<u8>> = Vec::new();
        for operand in operands {
            if let Some(source) = operand.source.filter(|_| self.flaw != Flaw::CopiesNoSecond || contents.is_empty()) {
                // SAFETY: the runtime promises that the block is readable until the launch is reported as done.
                let bytes = unsafe { std::slice::from_raw_parts(source.address as *const u8, source.len_bytes as usize) }.to_vec();
                self.uploaded_bytes.fetch_add(bytes.len() as u64, Relaxed);
                self.uploads.fetch_add(1, Relaxed);
                state.store(operand.chunk, &bytes);
            }
            contents.push(state.load(operand.chunk));
        }
        contents
    }

    /// Whether it refuses a launch.
    fn refuses(&self, held: &Held) -> bool {
        let mut state = self.lock();
        let has_empty = |operand: &Operand| state.load(operand.chunk).is_empty();
        let refuses = held.operation == "refused"
            || self.flaw == Flaw::RefusesAfterRefusal && state.has_refused
            || self.flaw == Flaw::RefusesEmpty && held.operands.iter().any(has_empty);
        state.has_refused |= refuses;
        if refuses && self.flaw != Flaw::ForgetsCopiesOfRefused {
            self.copy(&mut state, &held.operands);
        }
        refuses
    }

    fn perform(&self, held: &Held) {
        let mut state = self.lock();
        let contents = self.copy(&mut state, &held.operands);
        let mut scalars = held.scalars.clone();
        if self.flaw == Flaw::OneNumber {
            scalars.iter_mut().skip(4).for_each(|byte| *byte = 0);
        }
        let mut written = compute(&held.operation, &contents, &scalars);
        if let (Flaw::SwapsResults, [(_, one), (_, other)]) = (self.flaw, &mut written[..]) {
            std::mem::swap(one, other);
        }
        for (index, mut bytes) in written {
            match self.flaw {
                Flaw::LeavesTheLast if bytes.len() > 1024 => bytes.truncate(bytes.len() - 4),
                Flaw::ChangesNothing if held.operation == "bump" => continue,
                Flaw::WritesAll => bytes.resize(contents[index].len(), 0),
                _ => {}
            }
            let operand = held.operands[index];
            assert_ne!(operand.access, Access::Read, "operand {index} of `{}` is only read", held.operation);
            state.store(operand.chunk, &bytes);
        }
        self.launched.fetch_add(1, Relaxed);
    }
}

impl State {
    fn load(&self, chunk: u64) -> Vec<u8> {
        match &self.chunks[&chunk] {
            Memory::Own(bytes) => bytes.clone(),
            // SAFETY: the block is the runtime's to lend until the chunk is dropped (`import`).
            Memory::Imported(block) => unsafe { std::slice::from_raw_parts(block.address as *const u8, block.len_bytes as usize) }.to_vec(),
        }
    }

    fn store(&mut self, chunk: u64, bytes: &[u8]) {
        match self.chunks.get_mut(&chunk) {
            Some(Memory::Own(own)) => own[..bytes.len()].copy_from_slice(bytes),
            Some(Memory::Imported(block)) => {
                assert!(bytes.len() as u64 <= block.len_bytes);
                // SAFETY: as in `load`, and the length was checked.
                unsafe { std::slice::from_raw_parts_mut(block.address as *mut u8, bytes.len()) }.copy_from_slice(bytes);
            }
            None => panic!("there is no chunk {chunk}"),
        }
    }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|four| f32::from_ne_bytes([four[0], four[1], four[2], four[3]])).collect()
}

fn bytes_of(floats: impl IntoIterator<Item = f32>) -> Vec<u8> {
    floats.into_iter().flat_map(f32::to_ne_bytes).collect()
}

/// What an operation writes: for each buffer that it does, its place and the bytes.
fn compute(operation: &str, contents: &[Vec<u8>], scalars: &[u8]) -> Vec<(usize, Vec<u8>)> {
    let all: Vec<Vec<f32>> = contents.iter().map(|bytes| floats(bytes)).collect();
    match operation {
        "scale" => {
            let a = floats(scalars)[0];
            vec![(1, bytes_of(all[0].iter().map(|x| a * x)))]
        }
        "add" => vec![(2, bytes_of(all[0].iter().zip(&all[1]).map(|(x, y)| x + y)))],
        "multiply" => {
            let (a, b, n) = (&all[0], &all[1], all[2].len().isqrt());
            let at = |i: usize, j: usize| (0..n).fold(all[2][n * i + j], |sum, k| sum + a[n * i + k] * b[n * k + j]);
            vec![(2, bytes_of((0..n * n).map(|index| at(index / n, index % n))))]
        }
        "both" => {
            let of = |index: usize, operation: fn(f32) -> f32| bytes_of(all[0].iter().take(all[index].len()).map(|x| operation(*x)));
            vec![(1, of(1, |x| x + 1.0)), (2, of(2, |x| x * 2.0))]
        }
        "numbers" => vec![(0, bytes_of(numbers(scalars).into_iter().flatten()))],
        "bump" => vec![(0, bytes_of(all[0].iter().map(|x| x + 1.0)))],
        "count" => vec![(1, bytes_of([all[1][0] + all[0].len() as f32]))],
        "copy" => {
            let len = contents[0].len().min(contents[1].len());
            vec![(1, contents[0][..len].to_vec())]
        }
        other => panic!("no operation is called `{other}`"),
    }
}

/// The scalars of `numbers`, which lie close together. The `f16` is positive, and neither tiny nor infinite.
fn numbers(scalars: &[u8]) -> Option<[f32; 7]> {
    let (a, rest) = scalars.split_first_chunk()?;
    let (b, rest) = rest.split_first_chunk()?;
    let (c, rest) = rest.split_first_chunk()?;
    let (d, rest) = rest.split_first_chunk()?;
    let (e, rest) = rest.split_first_chunk()?;
    let (f, rest) = rest.split_first_chunk()?;
    let g = u32::from(u16::from_ne_bytes(*rest.first_chunk()?));
    // Of both the exponent is in the bits behind the sign; they differ in what it counts from, and in how many bits come behind it.
    let g = f32::from_bits(((g & 0x7fff) << 13) + ((127 - 15) << 23));
    let (b, c, d, e) = (u32::from_ne_bytes(*b), i32::from_ne_bytes(*c), u64::from_ne_bytes(*d), i64::from_ne_bytes(*e));
    Some([f32::from_ne_bytes(*a), b as f32, c as f32, d as f32, e as f32, f64::from_ne_bytes(*f) as f32, g])
}

/// Reads a kernel's source.
fn inspect(text: &str) -> Result<KernelInterface, InspectError> {
    let mut interface = KernelInterface { workgroup: [1; 3], ..KernelInterface::default() };
    for (line, number) in text.trim().lines().zip(1..).skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [what, name, kind] = words[..] else { return Err(InspectError::new(format!("line {number}: `{line}` is not three words"))) };
        let (kind, bytes) = match kind {
            "f32" => (ElementKind::F32, 4),
            "f64" => (ElementKind::F64, 8),
            "u32" => (ElementKind::U32, 4),
            "i32" => (ElementKind::I32, 4),
            "u64" => (ElementKind::U64, 8),
            "i64" => (ElementKind::I64, 8),
            "f16" => (ElementKind::F16, 2),
            _ => return Err(InspectError::new(format!("line {number}: there is no type `{kind}`"))),
        };
        let access = match what {
            "in" => Access::Read,
            "inout" => Access::Write,
            "out" => Access::Overwrite,
            "scalar" => {
                let offset_bytes = interface.scalars_bytes;
                interface.scalars_bytes += bytes;
                interface.scalars.push(Scalar { name: name.into(), kind, offset_bytes });
                continue;
            }
            _ => return Err(InspectError::new(format!("line {number}: `{what}` is none of in, out, inout, scalar"))),
        };
        let binding = Binding {
            name: name.into(),
            number: interface.bindings.len() as u32,
            element: kind,
            element_bytes: bytes,
            len_bytes_min: u64::from(bytes),
            is_sized: false,
            access,
        };
        interface.bindings.push(binding);
    }
    Ok(interface)
}

/// A backend with such devices. Its name is `fake`, and its processors are of the kind `vulkan`, which kernels are for.
#[derive(Clone, Debug, Default)]
pub struct FakeDevices {
    /// The devices: the processors `fake-0`, `fake-1` and so on.
    pub devices: Vec<Arc<FakeDevice>>,
    host: Arc<OnceLock<HostCell>>,
}

struct HostCell(Arc<dyn HostServices>);

impl std::fmt::Debug for HostCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostCell")
    }
}

impl FakeDevices {
    /// A backend with these devices, for one runtime.
    pub fn new(devices: impl IntoIterator<Item = FakeDevice>) -> Self {
        Self { devices: devices.into_iter().map(Arc::new).collect(), host: Arc::default() }
    }

    /// The services of the runtime that opened it.
    ///
    /// # Panics
    /// Before it was opened.
    pub fn host(&self) -> &dyn HostServices {
        &*self.host.get().expect("a runtime has opened it").0
    }
}

impl Backend for FakeDevices {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "fake".into(), version: "1".into() }
    }

    fn open(&self, _: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        let _ = self.host.set(HostCell(Arc::clone(&host)));
        let mut opened = Opened::default();
        for (device, number) in self.devices.iter().zip(0..) {
            opened.processors.push(Box::new(FakeProcessor { device: Arc::clone(device), number, host: Arc::clone(&host) }));
            opened.spaces.push(Box::new(FakeSpace { device: Arc::clone(device), number }));
        }
        Ok(opened)
    }

    fn inspect(&self, source: Source<'_>) -> Result<Option<KernelInterface>, InspectError> {
        match source {
            Source::Wgsl(text) => inspect(text).map(Some),
            _ => Ok(None),
        }
    }
}

struct FakeProcessor {
    device: Arc<FakeDevice>,
    number: u32,
    host: Arc<dyn HostServices>,
}

impl Processor for FakeProcessor {
    fn info(&self) -> ProcessorInfo {
        ProcessorInfo {
            name: format!("fake-{}", self.number),
            kind: ProcessorKind::new("vulkan"),
            execution: Execution::Queued { depth: 64 },
            space: SpaceId(self.number + 1),
            numa_node: None,
            device: Some(self.device.info.clone()),
        }
    }

    fn expect(&self, kernel: &KernelCode<'_>) {
        self.device.lock().expected.push(kernel.name.to_owned());
    }

    fn submit(&self, batch: &[TaskDescriptor<'_>]) -> Result<(), SubmitError> {
        for task in batch {
            let launch = task.launch.ok_or_else(|| SubmitError::new("only kernels"))?;
            let Source::Wgsl(text) = launch.kernel.source else { return Err(SubmitError::new("only text")) };
            let operation = text.trim().lines().next().unwrap_or_default().trim().to_owned();
            let held = Held { id: task.id, operation, operands: launch.operands.to_vec(), scalars: launch.scalars.to_vec() };
            let mode = {
                let mut state = self.device.lock();
                if matches!(state.mode, Mode::Hold | Mode::Attended) && !state.lost {
                    state.held.push(held);
                    continue;
                }
                if matches!(state.mode, Mode::Lose | Mode::TimeOut) {
                    state.lost = true;
                }
                if state.lost && state.mode != Mode::TimeOut { Mode::Lose } else { state.mode.clone() }
            };
            let busy_ns = self.device.busy_ns(&held);
            let outcome = match mode {
                Mode::Run | Mode::Hold | Mode::Attended if self.device.refuses(&held) => Err(Fault::refused("it has no such feature")),
                Mode::Run | Mode::Hold | Mode::Attended => {
                    self.device.perform(&held);
                    Ok(())
                }
                Mode::Refuse => {
                    self.device.copy(&mut self.device.lock(), &held.operands);
                    Err(Fault::refused("it has no such feature"))
                }
                Mode::Lose => Err(Fault::lost("it fell off the bus")),
                Mode::TimeOut => Err(Fault::timed_out("it did not end in time")),
            };
            if self.device.flaw == Flaw::Loses && self.device.launched() == 40 {
                continue;
            }
            let done = [Completion { busy_ns: outcome.as_ref().ok().and(busy_ns), outcome, ..self.device.done(&held) }];
            self.host.complete(&done);
            if self.device.flaw == Flaw::AnswersTwice {
                self.host.complete(&done);
            }
        }
        Ok(())
    }

    fn attend(&self, _: Duration) -> bool {
        let is_wanted = {
            let state = self.device.lock();
            state.mode == Mode::Attended && !state.held.is_empty()
        };
        if is_wanted {
            self.device.release(&*self.host);
        }
        is_wanted
    }

    fn stop(&self) -> Result<(), StopError> {
        Ok(())
    }
}

struct FakeSpace {
    device: Arc<FakeDevice>,
    number: u32,
}

impl FakeSpace {
    fn chunk(&self, memory: Memory, len_bytes: u64) -> Box<dyn Chunk> {
        let mut state = self.device.lock();
        state.next_chunk += 1;
        let id = state.next_chunk;
        state.chunks.insert(id, memory);
        let info = ChunkInfo { space: SpaceId(self.number + 1), element: ElementKind::Opaque, len_bytes };
        Box::new(FakeChunk { device: Arc::clone(&self.device), id, info, is_probe: false })
    }
}

impl MemorySpace for FakeSpace {
    fn info(&self) -> SpaceInfo {
        SpaceInfo {
            id: SpaceId(self.number + 1),
            name: self.device.info.name.clone(),
            capacity_bytes: Some(self.device.capacity_bytes),
            imports: self.device.imports,
        }
    }

    fn allocate(&self, len_bytes: u64, zeroed: bool) -> Result<Box<dyn Chunk>, AllocateError> {
        if let Some(left) = &mut self.device.lock().allocations_left {
            if *left == 0 {
                return Err(AllocateError::new(len_bytes, "out of device memory"));
            }
            *left -= 1;
        }
        let used_bytes = self.device.used_bytes();
        if used_bytes + len_bytes > self.device.capacity_bytes {
            return Err(AllocateError::new(len_bytes, format!("{used_bytes} bytes are in use")));
        }
        // What is not to be zero is what nobody would expect.
        Ok(self.chunk(
            Memory::Own(vec![if zeroed && self.device.flaw != Flaw::DoesNotZero { 0 } else { 0x4a }; len_bytes as usize]),
            len_bytes,
        ))
    }

    unsafe fn import(&self, block: HostBlock) -> Result<Box<dyn Chunk>, AllocateError> {
        if !self.device.imports {
            return Err(AllocateError::new(block.len_bytes, "not here"));
        }
        Ok(self.chunk(Memory::Imported(block), block.len_bytes))
    }
}

struct FakeChunk {
    device: Arc<FakeDevice>,
    id: u64,
    info: ChunkInfo,
    /// It was written to by itself, which the runtime does only to find out what that takes.
    is_probe: bool,
}

impl Chunk for FakeChunk {
    fn info(&self) -> ChunkInfo {
        self.info
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), TransferError> {
        let state = self.device.lock();
        if state.lost {
            return Err(TransferError::new(self.info, offset_bytes, into.len() as u64, "it fell off the bus"));
        }
        let bytes = state.load(self.id);
        drop(state);
        if !self.is_probe {
            self.device.in_a_read.come();
        }
        into.copy_from_slice(&bytes[offset_bytes as usize..][..into.len()]);
        if self.is_probe {
            self.device.probes.fetch_add(1, Relaxed);
            return Ok(());
        }
        self.device.downloaded_bytes.fetch_add(into.len() as u64, Relaxed);
        self.device.downloads.fetch_add(1, Relaxed);
        Ok(())
    }

    fn write(&mut self, _: u64, from: &[u8]) -> Result<(), TransferError> {
        self.is_probe = true;
        self.device.in_a_probe.come();
        self.device.lock().store(self.id, from);
        Ok(())
    }
}

impl Drop for FakeChunk {
    fn drop(&mut self) {
        self.device.lock().chunks.remove(&self.id);
    }
}
