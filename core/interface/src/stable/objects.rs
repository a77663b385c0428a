//! The stable twins of the contract's types and traits.

use abi_stable::RMut;
use abi_stable::RRef;
use abi_stable::StableAbi;
use abi_stable::sabi_trait;
use abi_stable::std_types::{RBox, ROption, RResult, RSlice, RStr, RString, RVec, Tuple2};

use crate::chunk::ChunkInfo;
use crate::processor::ProcessorInfo;
use crate::{
    Access, Binding, DeviceClass, DeviceInfo, ElementKind, Fault, FaultKind, HostBlock, KernelCode, KernelInterface, Operand, Scalar,
    Source,
};

/// An error as text, and whether a caught panic is the cause.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StableError {
    pub message: RString,
    pub panicked: bool,
}

/// A result of an entry of the other side.
pub type Outcome<T> = RResult<T, StableError>;

/// Twin of [`crate::ProcessorInfo`].
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StableProcessorInfo {
    pub name: RString,
    pub kind: RString,
    /// `RNone` for a processor that lends threads.
    pub depth: ROption<u32>,
    /// Whether those stand for another process.
    pub remote: bool,
    pub space: u32,
    pub numa_node: ROption<u32>,
    pub device: ROption<StableDeviceInfo>,
}

/// Twin of [`crate::DeviceInfo`]; the class is a number, so that a newer one is no undefined value here.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StableDeviceInfo {
    pub name: RString,
    pub uuid: RString,
    pub class: u32,
}

impl From<DeviceInfo> for StableDeviceInfo {
    fn from(info: DeviceInfo) -> Self {
        Self { name: info.name.into(), uuid: info.uuid.into(), class: info.class as u32 }
    }
}

impl From<StableDeviceInfo> for DeviceInfo {
    fn from(info: StableDeviceInfo) -> Self {
        use DeviceClass::*;
        let class = [Discrete, Integrated, Virtual, Other, Software].into_iter().find(|class| *class as u32 == info.class);
        Self { name: info.name.into(), uuid: info.uuid.into(), class: class.unwrap_or(Other) }
    }
}

impl From<ProcessorInfo> for StableProcessorInfo {
    fn from(info: ProcessorInfo) -> Self {
        Self {
            name: info.name.into(),
            kind: info.kind.as_str().into(),
            depth: match info.execution {
                crate::Execution::Inline | crate::Execution::Remote => ROption::RNone,
                crate::Execution::Queued { depth } => ROption::RSome(depth),
            },
            remote: info.execution == crate::Execution::Remote,
            space: info.space.0,
            numa_node: info.numa_node.into(),
            device: info.device.map(Into::into).into(),
        }
    }
}

impl From<StableProcessorInfo> for ProcessorInfo {
    fn from(info: StableProcessorInfo) -> Self {
        Self {
            name: info.name.into(),
            kind: crate::ProcessorKind::new(info.kind),
            execution: match info.depth {
                ROption::RNone if info.remote => crate::Execution::Remote,
                ROption::RNone => crate::Execution::Inline,
                ROption::RSome(depth) => crate::Execution::Queued { depth },
            },
            space: crate::SpaceId(info.space),
            numa_node: info.numa_node.into(),
            device: info.device.into_option().map(Into::into),
        }
    }
}

/// Twin of [`crate::TaskDescriptor`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableTask<'a> {
    pub id: u64,
    pub name: RStr<'a>,
    pub launch: ROption<StableLaunch<'a>>,
}

/// Twin of [`crate::Launch`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableLaunch<'a> {
    pub kernel: StableKernelCode<'a>,
    pub operands: RSlice<'a, StableOperand>,
    pub scalars: RSlice<'a, u8>,
    pub invocations: [u64; 3],
    /// In nanoseconds.
    pub deadline: ROption<u64>,
}

/// Twin of [`crate::KernelCode`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableKernelCode<'a> {
    pub identity: [u64; 2],
    pub name: RStr<'a>,
    pub source: StableSource<'a>,
}

impl<'a> From<KernelCode<'a>> for StableKernelCode<'a> {
    fn from(KernelCode { identity, name, source }: KernelCode<'a>) -> Self {
        Self { identity, name: RStr::from_str(name), source: source.into() }
    }
}

impl<'a> From<StableKernelCode<'a>> for KernelCode<'a> {
    fn from(StableKernelCode { identity, name, source }: StableKernelCode<'a>) -> Self {
        Self { identity, name: name.as_str(), source: source.into() }
    }
}

/// Twin of [`crate::Source`]: words if there are any, and else a text.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableSource<'a> {
    pub wgsl: RStr<'a>,
    pub spirv: RSlice<'a, u32>,
}

impl<'a> From<Source<'a>> for StableSource<'a> {
    fn from(source: Source<'a>) -> Self {
        match source {
            Source::Wgsl(text) => Self { wgsl: RStr::from_str(text), spirv: RSlice::EMPTY },
            Source::SpirV(words) => Self { wgsl: RStr::empty(), spirv: RSlice::from_slice(words) },
        }
    }
}

impl<'a> From<StableSource<'a>> for Source<'a> {
    fn from(source: StableSource<'a>) -> Self {
        if source.spirv.is_empty() { Self::Wgsl(source.wgsl.as_str()) } else { Self::SpirV(source.spirv.as_slice()) }
    }
}

/// Twin of [`crate::Operand`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableOperand {
    pub chunk: u64,
    pub access: u32,
    pub source: ROption<StableHostBlock>,
}

/// Twin of [`crate::HostBlock`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableHostBlock {
    pub address: u64,
    pub len_bytes: u64,
    pub arena_address: u64,
    pub arena_bytes: u64,
}

impl From<HostBlock> for StableHostBlock {
    fn from(HostBlock { address, len_bytes, arena_address, arena_bytes }: HostBlock) -> Self {
        Self { address, len_bytes, arena_address, arena_bytes }
    }
}

impl From<StableHostBlock> for HostBlock {
    fn from(StableHostBlock { address, len_bytes, arena_address, arena_bytes }: StableHostBlock) -> Self {
        Self { address, len_bytes, arena_address, arena_bytes }
    }
}

/// The access that a number stands for; one that is unknown counts as the most.
pub(super) fn access(number: u32) -> Access {
    [Access::Read, Access::Overwrite].into_iter().find(|access| *access as u32 == number).unwrap_or(Access::Write)
}

/// A kind that this side does not know is opaque to it.
pub(super) fn element(number: u32) -> ElementKind {
    use ElementKind::*;
    [Opaque, U8, U16, U32, U64, I8, I16, I32, I64, F32, F64, F16].into_iter().find(|kind| *kind as u32 == number).unwrap_or(Opaque)
}

impl From<Operand> for StableOperand {
    fn from(operand: Operand) -> Self {
        Self { chunk: operand.chunk, access: operand.access as u32, source: operand.source.map(Into::into).into() }
    }
}

impl From<StableOperand> for Operand {
    fn from(operand: StableOperand) -> Self {
        Self { chunk: operand.chunk, access: access(operand.access), source: operand.source.into_option().map(Into::into) }
    }
}

/// Twin of [`crate::KernelInterface`].
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StableKernelInterface {
    pub bindings: RVec<StableBinding>,
    pub scalars: RVec<StableScalar>,
    pub scalars_bytes: u32,
    pub workgroup: [u32; 3],
    pub features: RVec<RString>,
}

/// Twin of [`crate::Binding`].
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StableBinding {
    pub name: RString,
    pub number: u32,
    pub element: u32,
    pub element_bytes: u32,
    pub len_bytes_min: u64,
    pub is_sized: bool,
    pub access: u32,
}

/// Twin of [`crate::Scalar`].
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StableScalar {
    pub name: RString,
    pub kind: u32,
    pub offset_bytes: u32,
}

impl From<KernelInterface> for StableKernelInterface {
    fn from(interface: KernelInterface) -> Self {
        let binding = |binding: Binding| StableBinding {
            name: binding.name.into(),
            number: binding.number,
            element: binding.element as u32,
            element_bytes: binding.element_bytes,
            len_bytes_min: binding.len_bytes_min,
            is_sized: binding.is_sized,
            access: binding.access as u32,
        };
        let scalar =
            |scalar: Scalar| StableScalar { name: scalar.name.into(), kind: scalar.kind as u32, offset_bytes: scalar.offset_bytes };
        Self {
            bindings: interface.bindings.into_iter().map(binding).collect(),
            scalars: interface.scalars.into_iter().map(scalar).collect(),
            scalars_bytes: interface.scalars_bytes,
            workgroup: interface.workgroup,
            features: interface.features.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<StableKernelInterface> for KernelInterface {
    fn from(interface: StableKernelInterface) -> Self {
        let binding = |binding: StableBinding| Binding {
            name: binding.name.into(),
            number: binding.number,
            element: element(binding.element),
            element_bytes: binding.element_bytes,
            len_bytes_min: binding.len_bytes_min,
            is_sized: binding.is_sized,
            access: access(binding.access),
        };
        let scalar =
            |scalar: StableScalar| Scalar { name: scalar.name.into(), kind: element(scalar.kind), offset_bytes: scalar.offset_bytes };
        Self {
            bindings: interface.bindings.into_iter().map(binding).collect(),
            scalars: interface.scalars.into_iter().map(scalar).collect(),
            scalars_bytes: interface.scalars_bytes,
            workgroup: interface.workgroup,
            features: interface.features.into_iter().map(Into::into).collect(),
        }
    }
}

/// Twin of [`crate::Completion`]; the fault is `RNone` when the task is done.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StableCompletion {
    pub task: u64,
    pub fault: ROption<StableFault>,
    pub busy_ns: ROption<u64>,
    pub upload_ns: ROption<u64>,
}

/// Twin of [`crate::Fault`].
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StableFault {
    pub kind: u32,
    pub reason: RString,
}

impl From<Fault> for StableFault {
    fn from(fault: Fault) -> Self {
        Self { kind: fault.kind as u32, reason: fault.reason.into() }
    }
}

impl From<StableFault> for Fault {
    fn from(fault: StableFault) -> Self {
        use FaultKind::*;
        let kind = [Refused, Lost, TimedOut].into_iter().find(|kind| *kind as u32 == fault.kind);
        Self { kind: kind.unwrap_or(Refused), reason: fault.reason.into() }
    }
}

/// Twin of [`crate::SpaceInfo`].
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StableSpaceInfo {
    pub id: u32,
    pub name: RString,
    pub capacity_bytes: ROption<u64>,
    pub imports: bool,
}

/// Twin of [`crate::ChunkInfo`]; the element is a number, so that a newer kind is no undefined value here.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableChunkInfo {
    pub space: u32,
    pub element: u32,
    pub len_bytes: u64,
}

impl From<ChunkInfo> for StableChunkInfo {
    fn from(info: ChunkInfo) -> Self {
        Self { space: info.space.0, element: info.element as u32, len_bytes: info.len_bytes }
    }
}

/// Twin of [`crate::Chunk`].
#[sabi_trait]
pub trait StableChunk: Send + Sync {
    fn info(&self) -> Outcome<StableChunkInfo>;
    fn id(&self) -> Outcome<u64>;
    fn host_bytes(&self) -> Outcome<ROption<RSlice<'_, u8>>>;
    fn read(&self, offset_bytes: u64, into: abi_stable::std_types::RSliceMut<'_, u8>) -> Outcome<()>;
    #[sabi(last_prefix_field)]
    fn write(&mut self, offset_bytes: u64, from: RSlice<'_, u8>) -> Outcome<()>;
}

/// A chunk of the other side.
pub type ChunkObject = StableChunk_TO<'static, RBox<()>>;

/// Twin of [`crate::MemorySpace`].
#[sabi_trait]
pub trait StableSpace: Send + Sync {
    fn info(&self) -> Outcome<StableSpaceInfo>;
    fn allocate(&self, len_bytes: u64, zeroed: bool) -> Outcome<ChunkObject>;
    #[sabi(last_prefix_field)]
    fn import(&self, block: StableHostBlock) -> Outcome<ChunkObject>;
}

/// A memory space of the other side.
pub type SpaceObject = StableSpace_TO<'static, RBox<()>>;

/// Twin of [`crate::Processor`].
#[sabi_trait]
pub trait StableProcessor: Send + Sync {
    fn info(&self) -> Outcome<StableProcessorInfo>;
    fn start(&self, worker: u32) -> Outcome<()>;
    fn submit(&self, batch: RSlice<'_, StableTask<'_>>) -> Outcome<()>;
    fn expect(&self, kernel: StableKernelCode<'_>) -> Outcome<()>;
    fn attend(&self, patience_ns: u64) -> Outcome<bool>;
    fn describe(&self, measure: bool) -> Outcome<RVec<Tuple2<RString, RString>>>;
    fn rest(&self) -> Outcome<()>;
    #[sabi(last_prefix_field)]
    fn stop(&self) -> Outcome<()>;
}

/// A processor of the other side.
pub type ProcessorObject = StableProcessor_TO<'static, RBox<()>>;

/// Twin of [`crate::Caller`].
#[sabi_trait]
pub trait StableCaller {
    fn answer(&mut self, request: RSlice<'_, u8>) -> RVec<u8>;
    fn wanted(&mut self) -> u32;
    fn begins(&mut self, process: u32);
    fn ahead(&mut self) -> ROption<RVec<u8>>;
    #[sabi(last_prefix_field)]
    fn came_back(&mut self, count: usize);
}

/// A caller of the other side, lent for one call.
pub type CallerObject<'a> = StableCaller_TO<'a, RMut<'a, ()>>;

/// Twin of [`crate::CallError`]; the process is `RNone` when there was none.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StableCallError {
    pub process: ROption<u32>,
    pub reason: RString,
}

/// Twin of [`crate::Remote`].
#[sabi_trait]
pub trait StableRemote: Send + Sync {
    fn call(&self, call: RSlice<'_, u8>, caller: CallerObject<'_>) -> RResult<RVec<u8>, StableCallError>;
    #[sabi(last_prefix_field)]
    fn next(&self, caller: CallerObject<'_>) -> RResult<RVec<u8>, StableCallError>;
}

/// A way to a process of the other side.
pub type RemoteObject = StableRemote_TO<'static, RBox<()>>;

/// Twin of [`crate::CallerLink`].
#[sabi_trait]
pub trait StableLink: Send + Sync {
    fn ask(&self, request: RSlice<'_, u8>) -> ROption<RVec<u8>>;
    #[sabi(last_prefix_field)]
    fn is_stopping(&self) -> bool;
}

/// A link of the other side, lent for one call.
pub type LinkObject<'a> = StableLink_TO<'a, RRef<'a, ()>>;

/// Twin of [`crate::Image`].
#[sabi_trait]
pub trait StableImage: Send + Sync {
    #[sabi(last_prefix_field)]
    fn execute(&self, call: RSlice<'_, u8>, link: LinkObject<'_>) -> RVec<u8>;
}

/// An image of the other side.
pub type ImageObject = StableImage_TO<'static, RBox<()>>;

/// Twin of [`crate::ServeCommand`]: the program's path in bytes, and the variables.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StableCommand {
    pub program: RVec<u8>,
    pub variables: RVec<Tuple2<RString, RString>>,
}

/// Twin of [`crate::HostServices`].
#[sabi_trait]
pub trait StableHost: Send + Sync {
    fn worker_main(&self, worker: u32);
    fn worker_main_remote(&self, worker: u32, remote: RemoteObject);
    fn serve_command(&self, argument: RStr<'_>) -> Outcome<StableCommand>;
    fn run(&self, task: u64) -> Outcome<()>;
    fn complete(&self, completions: RSlice<'_, StableCompletion>);
    #[sabi(last_prefix_field)]
    fn log(&self, level: u32, message: RStr<'_>);
}

/// The host of the other side.
pub type HostObject = StableHost_TO<'static, RBox<()>>;

/// Twin of [`crate::Opened`].
#[repr(C)]
#[derive(StableAbi)]
pub struct StableOpened {
    pub processors: RVec<ProcessorObject>,
    pub spaces: RVec<SpaceObject>,
}

/// Twin of [`crate::BackendInfo`]: name and version.
pub type StableInfo = Tuple2<RString, RString>;

/// Twin of [`crate::Backend`].
#[sabi_trait]
pub trait StableBackend: Send + Sync {
    fn info(&self) -> Outcome<StableInfo>;
    fn settings(&self) -> Outcome<RVec<RString>>;
    fn open(&self, settings: RVec<Tuple2<RString, RString>>, host: HostObject) -> Outcome<StableOpened>;
    fn inspect(&self, source: StableSource<'_>) -> Outcome<ROption<StableKernelInterface>>;
    #[sabi(last_prefix_field)]
    fn serve(&self, argument: RStr<'_>, image: ImageObject) -> Outcome<i32>;
}

/// A backend of the other side.
pub type BackendObject = StableBackend_TO<'static, RBox<()>>;

/// What [`CreateBackend`] returns.
pub type Created = Outcome<BackendObject>;

/// Makes the backend of a plugin.
pub type CreateBackend = extern "C" fn() -> Created;
