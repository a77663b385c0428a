//! The host's half: stable objects as the contract's traits.
#![expect(unsafe_code, reason = "passes on a promise about memory")]

use std::os::unix::ffi::OsStringExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{ROption, RResult, RSlice, RSliceMut, RStr, RString, RVec, Tuple2};

use super::objects::*;
use crate::{
    AllocateError, Backend, BackendInfo, CallError, Caller, CallerLink, Chunk, ChunkInfo, Completion, HostBlock, HostServices, Image,
    InspectError, KernelCode, KernelInterface, Launch, LogLevel, MemorySpace, OpenError, Opened, Processor, ProcessorInfo, Remote,
    Settings, Source, SpaceId, SpaceInfo, StartError, StopError, SubmitError, TaskDescriptor, TaskId, TransferError, Wanted, WorkerId,
};

/// The backend behind a plugin's `create`.
///
/// # Errors
/// [`OpenError`] when making it, or asking for its name and its settings, failed or panicked.
pub fn import(created: Created) -> Result<Box<dyn Backend>, OpenError> {
    let object = value(created).map_err(OpenError::new)?;
    let Tuple2(name, version) = value(object.info()).map_err(OpenError::new)?;
    let settings = value(object.settings()).map_err(OpenError::new)?.into_iter().map(Into::into).collect();
    Ok(Box::new(ImportedBackend { object, info: BackendInfo { name: name.into(), version: version.into() }, settings }))
}

/// The value of an entry, or what it said, with a word about a panic.
pub(super) fn value<T>(outcome: Outcome<T>) -> Result<T, String> {
    outcome.into_result().map_err(
        |error| {
            if error.panicked { format!("the plugin panicked: {}", error.message) } else { error.message.into() }
        },
    )
}

struct ImportedBackend {
    object: BackendObject,
    info: BackendInfo,
    settings: Vec<String>,
}

impl Backend for ImportedBackend {
    fn info(&self) -> BackendInfo {
        self.info.clone()
    }

    fn settings(&self) -> Vec<String> {
        self.settings.clone()
    }

    fn open(&self, settings: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        let settings: RVec<_> = settings.iter().map(|(name, value)| Tuple2(RString::from(name), RString::from(value))).collect();
        let host = HostObject::from_value(ExportedHost(host), TD_Opaque);
        let opened = value(self.object.open(settings, host)).map_err(OpenError::new)?;
        let mut processors: Vec<Box<dyn Processor>> = Vec::new();
        for object in opened.processors {
            // The description is asked for once: it must not change, and a plugin that panics here is refused as a whole.
            let info = value(object.info()).map_err(OpenError::new)?;
            processors.push(Box::new(ImportedProcessor { object, info: info.into() }));
        }
        let mut spaces: Vec<Box<dyn MemorySpace>> = Vec::new();
        for object in opened.spaces {
            let info = value(object.info()).map_err(OpenError::new)?;
            let info = SpaceInfo {
                id: SpaceId(info.id),
                name: info.name.into(),
                capacity_bytes: info.capacity_bytes.into(),
                imports: info.imports,
            };
            spaces.push(Box::new(ImportedSpace { object, info }));
        }
        Ok(Opened { processors, spaces })
    }

    fn inspect(&self, source: Source<'_>) -> Result<Option<KernelInterface>, InspectError> {
        let interface = value(self.object.inspect(source.into())).map_err(InspectError::new)?;
        Ok(interface.into_option().map(Into::into))
    }

    fn serve(&self, argument: &str, image: Arc<dyn Image>) -> Result<i32, OpenError> {
        let image = ImageObject::from_value(ExportedImage(image), TD_Opaque);
        value(self.object.serve(RStr::from_str(argument), image)).map_err(OpenError::new)
    }
}

/// The way to a process of the plugin's.
struct ImportedRemote(RemoteObject);

impl Remote for ImportedRemote {
    fn call(&self, call: &[u8], caller: &mut dyn Caller) -> Result<Vec<u8>, CallError> {
        let mut caller = ExportedCaller(caller);
        called(self.0.call(RSlice::from_slice(call), CallerObject::from_ptr(&mut caller, TD_Opaque)))
    }

    fn next(&self, caller: &mut dyn Caller) -> Result<Vec<u8>, CallError> {
        let mut caller = ExportedCaller(caller);
        called(self.0.next(CallerObject::from_ptr(&mut caller, TD_Opaque)))
    }
}

/// What came of a call.
fn called(outcome: RResult<RVec<u8>, StableCallError>) -> Result<Vec<u8>, CallError> {
    match outcome {
        RResult::ROk(reply) => Ok(reply.into()),
        RResult::RErr(error) => {
            let reason = error.reason.into();
            Err(match error.process {
                ROption::RSome(process) => CallError::Lost { process, reason },
                ROption::RNone => CallError::NoProcess { reason },
            })
        }
    }
}

/// Whoever waits for a call, as the plugin sees him.
struct ExportedCaller<'a>(&'a mut dyn Caller);

impl StableCaller for ExportedCaller<'_> {
    fn answer(&mut self, request: RSlice<'_, u8>) -> RVec<u8> {
        caught(|| self.0.answer(request.as_slice()).into(), RVec::new())
    }

    fn wanted(&mut self) -> u32 {
        caught(|| self.0.wanted() as u32, Wanted::End as u32)
    }

    fn begins(&mut self, process: u32) {
        quietly(|| self.0.begins(process));
    }

    fn ahead(&mut self) -> ROption<RVec<u8>> {
        caught(|| self.0.ahead().map(Into::into).into(), ROption::RNone)
    }

    fn came_back(&mut self, count: usize) {
        quietly(|| self.0.came_back(count));
    }
}

/// The program's image, as the plugin sees it in a process that serves.
struct ExportedImage(Arc<dyn Image>);

impl StableImage for ExportedImage {
    fn execute(&self, call: RSlice<'_, u8>, link: LinkObject<'_>) -> RVec<u8> {
        caught(|| self.0.execute(call.as_slice(), &ImportedLink(link)).into(), RVec::new())
    }
}

/// The way back to the caller, as the image calls it.
struct ImportedLink<'a>(LinkObject<'a>);

impl CallerLink for ImportedLink<'_> {
    fn ask(&self, request: &[u8]) -> Option<Vec<u8>> {
        self.0.ask(RSlice::from_slice(request)).into_option().map(Into::into)
    }

    fn is_stopping(&self) -> bool {
        self.0.is_stopping()
    }
}

struct ImportedProcessor {
    object: ProcessorObject,
    info: ProcessorInfo,
}

impl Processor for ImportedProcessor {
    fn info(&self) -> ProcessorInfo {
        self.info.clone()
    }

    fn start(&self, worker: WorkerId) -> Result<(), StartError> {
        value(self.object.start(worker.0)).map_err(StartError::new)
    }

    fn submit(&self, batch: &[TaskDescriptor<'_>]) -> Result<(), SubmitError> {
        let operands: Vec<Vec<StableOperand>> = batch
            .iter()
            .map(|task| task.launch.map_or(&[][..], |launch| launch.operands).iter().map(|one| (*one).into()).collect())
            .collect();
        let batch: Vec<_> = batch
            .iter()
            .zip(&operands)
            .map(|(task, operands)| StableTask {
                id: task.id.0,
                name: RStr::from_str(task.name),
                launch: task.launch.map(|launch| stable_launch(launch, operands)).into(),
            })
            .collect();
        value(self.object.submit(RSlice::from_slice(&batch))).map_err(SubmitError::new)
    }

    fn expect(&self, kernel: &KernelCode<'_>) {
        // What it cannot prepare fails when it is launched.
        let _ = self.object.expect((*kernel).into());
    }

    fn attend(&self, patience: Duration) -> bool {
        value(self.object.attend(u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX))).unwrap_or_default()
    }

    fn describe(&self, measure: bool) -> Vec<(String, String)> {
        let facts = value(self.object.describe(measure)).unwrap_or_default();
        facts.into_iter().map(|Tuple2(name, value)| (name.into(), value.into())).collect()
    }

    fn rest(&self) {
        // What cannot be given back stays until the processor is stopped.
        let _ = self.object.rest();
    }

    fn stop(&self) -> Result<(), StopError> {
        value(self.object.stop()).map_err(StopError::new)
    }
}

fn stable_launch<'a>(launch: &Launch<'a>, operands: &'a [StableOperand]) -> StableLaunch<'a> {
    StableLaunch {
        kernel: launch.kernel.into(),
        operands: RSlice::from_slice(operands),
        scalars: RSlice::from_slice(launch.scalars),
        invocations: launch.invocations,
        deadline: launch.deadline.map(|deadline| u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX)).into(),
    }
}

struct ImportedSpace {
    object: SpaceObject,
    info: SpaceInfo,
}

impl MemorySpace for ImportedSpace {
    fn info(&self) -> SpaceInfo {
        self.info.clone()
    }

    fn allocate(&self, len_bytes: u64, zeroed: bool) -> Result<Box<dyn Chunk>, AllocateError> {
        let allocated = value(self.object.allocate(len_bytes, zeroed)).and_then(chunk);
        allocated.map_err(|reason| AllocateError::new(len_bytes, reason))
    }

    unsafe fn import(&self, block: HostBlock) -> Result<Box<dyn Chunk>, AllocateError> {
        let imported = value(self.object.import(block.into())).and_then(chunk);
        imported.map_err(|reason| AllocateError::new(block.len_bytes, reason))
    }
}

/// The space's own chunk, described once.
fn chunk(object: ChunkObject) -> Result<Box<dyn Chunk>, String> {
    let info = value(object.info())?;
    let info = ChunkInfo { space: SpaceId(info.space), element: element(info.element), len_bytes: info.len_bytes };
    let id = value(object.id())?;
    Ok(Box::new(ImportedChunk { object, info, id }))
}

struct ImportedChunk {
    object: ChunkObject,
    info: ChunkInfo,
    id: u64,
}

impl Chunk for ImportedChunk {
    fn info(&self) -> ChunkInfo {
        self.info
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn host_bytes(&self) -> Option<&[u8]> {
        match self.object.host_bytes() {
            RResult::ROk(ROption::RSome(bytes)) => Some(bytes.as_slice()),
            _ => None,
        }
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), TransferError> {
        let len = into.len() as u64;
        value(self.object.read(offset_bytes, RSliceMut::from_mut_slice(into)))
            .map_err(|reason| TransferError::new(self.info, offset_bytes, len, reason))
    }

    fn write(&mut self, offset_bytes: u64, from: &[u8]) -> Result<(), TransferError> {
        value(self.object.write(offset_bytes, RSlice::from_slice(from)))
            .map_err(|reason| TransferError::new(self.info, offset_bytes, from.len() as u64, reason))
    }
}

/// The host as the plugin sees it. Its calls catch panics too: the plugin's image could not.
struct ExportedHost(Arc<dyn HostServices>);

impl StableHost for ExportedHost {
    fn worker_main(&self, worker: u32) {
        quietly(|| self.0.worker_main(WorkerId(worker)));
    }

    fn worker_main_remote(&self, worker: u32, remote: RemoteObject) {
        quietly(|| self.0.worker_main_remote(WorkerId(worker), Arc::new(ImportedRemote(remote))));
    }

    fn serve_command(&self, argument: RStr<'_>) -> Outcome<StableCommand> {
        match catch_unwind(AssertUnwindSafe(|| self.0.serve_command(argument.as_str()))) {
            Ok(Ok(command)) => RResult::ROk(StableCommand {
                program: command.program.into_os_string().into_vec().into(),
                variables: command.variables.into_iter().map(|(name, value)| Tuple2(name.into(), value.into())).collect(),
            }),
            Ok(Err(error)) => RResult::RErr(StableError { message: error.reason.into(), panicked: false }),
            Err(_) => RResult::RErr(StableError { message: "the runtime panicked".into(), panicked: true }),
        }
    }

    fn run(&self, task: u64) -> Outcome<()> {
        match catch_unwind(AssertUnwindSafe(|| self.0.run(TaskId(task)))) {
            Ok(Ok(())) => RResult::ROk(()),
            Ok(Err(error)) => RResult::RErr(StableError { message: error.reason.into(), panicked: false }),
            Err(_) => RResult::RErr(StableError { message: "the runtime panicked".into(), panicked: true }),
        }
    }

    fn complete(&self, completions: RSlice<'_, StableCompletion>) {
        let completions: Vec<_> = completions
            .iter()
            .map(|completion| Completion {
                task: TaskId(completion.task),
                outcome: match completion.fault.clone() {
                    ROption::RNone => Ok(()),
                    ROption::RSome(fault) => Err(fault.into()),
                },
                busy_ns: completion.busy_ns.into(),
                upload_ns: completion.upload_ns.into(),
            })
            .collect();
        quietly(|| self.0.complete(&completions));
    }

    fn log(&self, level: u32, message: RStr<'_>) {
        let level = match level {
            1 => LogLevel::Warning,
            2 => LogLevel::Info,
            _ => LogLevel::Debug,
        };
        quietly(|| self.0.log(level, message.as_str()));
    }
}

/// What `service` returns, or `fallback` when it panicked: see `quietly`.
fn caught<T>(service: impl FnOnce() -> T, fallback: T) -> T {
    match catch_unwind(AssertUnwindSafe(service)) {
        Ok(value) => value,
        Err(payload) => {
            std::mem::forget(payload);
            fallback
        }
    }
}

/// Runs a host service that has nothing to return. A panic in it is a bug of the runtime, already printed by the panic hook; unwinding
/// into the plugin would end the program without a word.
fn quietly(service: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(service)) {
        std::mem::forget(payload);
    }
}
