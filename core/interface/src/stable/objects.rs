//! The stable twins of the contract's types and traits.

use abi_stable::RMut;
use abi_stable::RRef;
use abi_stable::StableAbi;
use abi_stable::sabi_trait;
use abi_stable::std_types::{RBox, ROption, RResult, RSlice, RStr, RString, RVec, Tuple2};

use crate::chunk::ChunkInfo;
use crate::processor::ProcessorInfo;

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
        }
    }
}

/// Twin of [`crate::TaskDescriptor`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct StableTask<'a> {
    pub id: u64,
    pub name: RStr<'a>,
}

/// Twin of [`crate::Completion`]; the error is `RNone` when the task is done.
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StableCompletion {
    pub task: u64,
    pub error: ROption<RString>,
}

/// Twin of [`crate::SpaceInfo`].
#[repr(C)]
#[derive(StableAbi, Clone, Debug)]
pub struct StableSpaceInfo {
    pub id: u32,
    pub name: RString,
    pub capacity_bytes: ROption<u64>,
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
    #[sabi(last_prefix_field)]
    fn allocate(&self, len_bytes: u64) -> Outcome<ChunkObject>;
}

/// A memory space of the other side.
pub type SpaceObject = StableSpace_TO<'static, RBox<()>>;

/// Twin of [`crate::Processor`].
#[sabi_trait]
pub trait StableProcessor: Send + Sync {
    fn info(&self) -> Outcome<StableProcessorInfo>;
    fn start(&self, worker: u32) -> Outcome<()>;
    fn submit(&self, batch: RSlice<'_, StableTask<'_>>) -> Outcome<()>;
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
    #[sabi(last_prefix_field)]
    fn serve(&self, argument: RStr<'_>, image: ImageObject) -> Outcome<i32>;
}

/// A backend of the other side.
pub type BackendObject = StableBackend_TO<'static, RBox<()>>;

/// What [`CreateBackend`] returns.
pub type Created = Outcome<BackendObject>;

/// Makes the backend of a plugin.
pub type CreateBackend = extern "C" fn() -> Created;
