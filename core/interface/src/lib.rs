//! The contract between Poniard and its plugins: backends, and policies.
//!
//! A *backend* is a crate that knows one way to execute tasks: threads, worker processes, a GPU. It implements
//! [`Backend`], which opens [`Processor`]s, and names its entry point with [`export_backend!`](crate::export_backend).
//! Built as a `cdylib` it is a plugin file that the loader finds at run time; built as an `rlib` it is linked into
//! a program. The same source does both.
//!
//! What a backend sees, in the order in which it meets it:
//!
//! * [`Backend`], [`BackendInfo`], [`Settings`], [`OpenError`]: the plugin itself and what the user asked of it;
//! * [`Processor`], [`ProcessorInfo`], [`Execution`]: something that executes tasks. An *inline* processor owns a
//!   thread and lends it to the runtime once ([`HostServices::worker_main`]); a *queued* processor takes batches of
//!   [`TaskDescriptor`]s and reports [`Completion`]s;
//! * [`HostServices`]: what the runtime lends the backend;
//! * [`Remote`], [`Image`]: calls into another process of the same program;
//! * [`MemorySpace`], [`Chunk`], [`Buffer`], [`Element`]: where bytes live and what holds them;
//! * [`ErasedKernel`], [`Code`], [`KernelInterface`]: named code with one body for each processor kind;
//! * [`Launch`], [`Operand`]: a kernel's launch on a device, over chunks of its memory;
//! * [`Erased`], [`TypeKey`]: a value whose type only its maker knows.
//!
//! A *policy* says where ready tasks go, and in which order. It implements [`policy::Policy`], sees what else is in [`policy`], and names its entry point with
//! [`export_policy!`](crate::export_policy).
//!
//! Three rules hold everywhere. No unwinding crosses the boundary: the export macros catch panics in every entry and turn
//! them into errors. Memory is freed by its maker, through the table of functions that came with it. A plugin keeps no reference
//! to the runtime's own types: it holds ids and [`HostServices`].
//!
//! No type of a dependency appears in this contract; the mirror of it that crosses the boundary between two separately compiled files
//! lives in [`stable`] and nowhere else.

pub mod backend;
pub mod buffer;
pub mod chunk;
pub mod erased;
mod export;
mod half;
pub mod header;
pub mod host;
pub mod ids;
pub mod kernel;
pub mod launch;
pub mod policy;
pub mod processor;
pub mod remote;
pub mod space;
pub mod stable;
pub mod type_key;

pub use backend::{Backend, BackendInfo, OpenError, Opened, Settings};
pub use buffer::{Arena, ArenaFunctions, Buffer, Element, ElementKind, RawBuffer};
pub use chunk::{Chunk, ChunkInfo, TransferError};
pub use erased::{Erased, ErasedVTable};
pub use half::F16;
pub use header::{ABI_MAJOR, ABI_MINOR, PluginHeader, PluginKind};
pub use host::{Completion, Fault, FaultKind, HostServices, LogLevel, RunError, ServeError};
pub use ids::{ProcessorKind, SpaceId, TaskId, WorkerId};
pub use kernel::{Access, Binding, Code, ErasedKernel, HostBody, InspectError, KernelError, KernelInterface, Parameter, Scalar};
pub use launch::{HostBlock, KernelCode, Launch, Operand, Source};
pub use processor::{DeviceClass, DeviceInfo, Execution, Processor, ProcessorInfo, StartError, StopError, SubmitError, TaskDescriptor};
pub use remote::{CallError, Caller, CallerLink, Image, Remote, ServeCommand, Wanted};
pub use space::{AllocateError, MemorySpace, SpaceInfo};
pub use type_key::TypeKey;
