//! The plugin's half: the contract's traits as stable objects. Every entry catches panics.
#![expect(unsafe_code, reason = "passes on a promise about memory")]

use std::cell::{Cell, RefCell};
use std::os::unix::ffi::OsStringExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};
use std::time::Duration;

use abi_stable::StableAbi;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{ROption, RResult, RSlice, RSliceMut, RStr, RString, RVec, Tuple2};
use abi_stable::type_layout::TypeLayout;

use super::objects::*;
use crate::{
    Backend, CallError, Caller, CallerLink, Chunk, Completion, HostServices, Image, Launch, LogLevel, MemorySpace, Operand, Processor,
    Remote, RunError, ServeCommand, ServeError, Settings, TaskDescriptor, TaskId, Wanted, WorkerId,
};

/// The layout of everything that crosses the boundary: [`BackendObject`] reaches all of it.
pub extern "C" fn layout() -> &'static TypeLayout {
    <BackendObject as StableAbi>::LAYOUT
}

/// Makes a stable backend of what `make` returns; a panic in it is an error. Used by [`export_backend!`](crate::export_backend).
pub fn create<B: Backend + 'static>(make: fn() -> B) -> Created {
    hush();
    guard(|| Ok(BackendObject::from_value(ExportedBackend(Box::new(make())), TD_Opaque)))
}

thread_local! {
    /// Where the panic happened that the entry in progress on this thread ended with; `None` outside an entry.
    static PANICKED_AT: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Whether this thread is in an entry.
    static IN_ENTRY: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics in entries from being printed: the host gets them as errors, and a backend never prints. Every image has its own hook, so this one concerns
/// the plugin alone; panics on threads of its own are printed as ever.
pub(super) fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let printing = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if IN_ENTRY.get() {
                PANICKED_AT.set(panic.location().map(ToString::to_string));
            } else {
                printing(panic);
            }
        }));
    });
}

/// What a panic said, and where.
fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.as_str()
    } else {
        "no message"
    };
    match PANICKED_AT.take() {
        Some(place) => format!("{text} ({place})"),
        None => text.into(),
    }
}

/// Runs an entry; its panic becomes an error.
pub(super) fn guard<T>(entry: impl FnOnce() -> Result<T, String>) -> Outcome<T> {
    let nested = IN_ENTRY.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(entry));
    IN_ENTRY.set(nested);
    match outcome {
        Ok(Ok(value)) => RResult::ROk(value),
        Ok(Err(message)) => RResult::RErr(StableError { message: message.into(), panicked: false }),
        Err(payload) => {
            let message = RString::from(panic_text(&*payload));
            // A payload whose destructor panics would unwind across the boundary.
            std::mem::forget(payload);
            RResult::RErr(StableError { message, panicked: true })
        }
    }
}

struct ExportedBackend(Box<dyn Backend>);

impl StableBackend for ExportedBackend {
    fn info(&self) -> Outcome<StableInfo> {
        guard(|| {
            let info = self.0.info();
            Ok(Tuple2(info.name.into(), info.version.into()))
        })
    }

    fn settings(&self) -> Outcome<RVec<RString>> {
        guard(|| Ok(self.0.settings().into_iter().map(RString::from).collect()))
    }

    fn open(&self, settings: RVec<Tuple2<RString, RString>>, host: HostObject) -> Outcome<StableOpened> {
        guard(|| {
            let mut parsed = Settings::new();
            for Tuple2(name, value) in settings {
                parsed.set(name, value);
            }
            let opened = self.0.open(&parsed, Arc::new(ImportedHost(host))).map_err(|error| error.reason)?;
            Ok(StableOpened {
                processors: opened
                    .processors
                    .into_iter()
                    .map(|processor| ProcessorObject::from_value(ExportedProcessor(processor), TD_Opaque))
                    .collect(),
                spaces: opened.spaces.into_iter().map(|space| SpaceObject::from_value(ExportedSpace(space), TD_Opaque)).collect(),
            })
        })
    }

    fn inspect(&self, source: StableSource<'_>) -> Outcome<ROption<StableKernelInterface>> {
        guard(|| {
            let interface = self.0.inspect(source.into()).map_err(|error| error.reason)?;
            Ok(interface.map(StableKernelInterface::from).into())
        })
    }

    fn serve(&self, argument: RStr<'_>, image: ImageObject) -> Outcome<i32> {
        guard(|| self.0.serve(argument.as_str(), Arc::new(ImportedImage(image))).map_err(|error| error.reason))
    }
}

/// The way to a process, as the host uses it.
struct ExportedRemote(Arc<dyn Remote>);

impl StableRemote for ExportedRemote {
    fn call(&self, call: RSlice<'_, u8>, caller: CallerObject<'_>) -> RResult<RVec<u8>, StableCallError> {
        let mut caller = ImportedCaller(caller);
        called(|| self.0.call(call.as_slice(), &mut caller))
    }

    fn next(&self, caller: CallerObject<'_>) -> RResult<RVec<u8>, StableCallError> {
        let mut caller = ImportedCaller(caller);
        called(|| self.0.next(&mut caller))
    }
}

/// What comes of a call.
fn called(call: impl FnOnce() -> Result<Vec<u8>, CallError>) -> RResult<RVec<u8>, StableCallError> {
    let failed = |process: Option<u32>, reason: String| StableCallError { process: process.into(), reason: reason.into() };
    // `guard` knows errors as text only, so the real one is inside.
    match guard(|| Ok(call())) {
        RResult::ROk(Ok(reply)) => RResult::ROk(reply.into()),
        RResult::ROk(Err(CallError::NoProcess { reason })) => RResult::RErr(failed(None, reason)),
        RResult::ROk(Err(CallError::Lost { process, reason })) => RResult::RErr(failed(Some(process), reason)),
        RResult::RErr(error) => RResult::RErr(failed(None, format!("the plugin panicked: {}", error.message))),
    }
}

/// Whoever waits for a call, as the plugin calls him.
struct ImportedCaller<'a>(CallerObject<'a>);

impl Caller for ImportedCaller<'_> {
    fn answer(&mut self, request: &[u8]) -> Vec<u8> {
        self.0.answer(RSlice::from_slice(request)).into()
    }

    fn wanted(&mut self) -> Wanted {
        match self.0.wanted() {
            0 => Wanted::Yes,
            1 => Wanted::Stop,
            _ => Wanted::End,
        }
    }

    fn begins(&mut self, process: u32) {
        self.0.begins(process);
    }

    fn ahead(&mut self) -> Option<Vec<u8>> {
        self.0.ahead().into_option().map(Into::into)
    }

    fn came_back(&mut self, count: usize) {
        self.0.came_back(count);
    }
}

/// The program's image, as the plugin calls it in a process that serves.
struct ImportedImage(ImageObject);

impl Image for ImportedImage {
    fn execute(&self, call: &[u8], link: &dyn CallerLink) -> Vec<u8> {
        let link = ExportedLink(link);
        self.0.execute(RSlice::from_slice(call), LinkObject::from_ptr(&link, TD_Opaque)).into()
    }
}

/// The way back to the caller, as the image uses it.
struct ExportedLink<'a>(&'a dyn CallerLink);

impl StableLink for ExportedLink<'_> {
    fn ask(&self, request: RSlice<'_, u8>) -> ROption<RVec<u8>> {
        match guard(|| Ok(self.0.ask(request.as_slice()))) {
            RResult::ROk(Some(answer)) => ROption::RSome(answer.into()),
            _ => ROption::RNone,
        }
    }

    fn is_stopping(&self) -> bool {
        matches!(guard(|| Ok(self.0.is_stopping())), RResult::ROk(true))
    }
}

struct ExportedProcessor(Box<dyn Processor>);

impl StableProcessor for ExportedProcessor {
    fn info(&self) -> Outcome<StableProcessorInfo> {
        guard(|| Ok(self.0.info().into()))
    }

    fn start(&self, worker: u32) -> Outcome<()> {
        guard(|| self.0.start(WorkerId(worker)).map_err(|error| error.reason))
    }

    fn submit(&self, batch: RSlice<'_, StableTask<'_>>) -> Outcome<()> {
        guard(|| {
            let operands: Vec<Vec<Operand>> = batch
                .iter()
                .map(|task| match &task.launch {
                    ROption::RSome(launch) => launch.operands.iter().map(|one| (*one).into()).collect(),
                    ROption::RNone => Vec::new(),
                })
                .collect();
            let launches: Vec<Option<Launch<'_>>> = batch
                .iter()
                .zip(&operands)
                .map(|(task, operands)| {
                    let launch = task.launch.as_ref().into_option()?;
                    Some(Launch {
                        kernel: launch.kernel.into(),
                        operands,
                        scalars: launch.scalars.as_slice(),
                        invocations: launch.invocations,
                        deadline: launch.deadline.into_option().map(Duration::from_nanos),
                    })
                })
                .collect();
            let batch: Vec<_> = batch
                .iter()
                .zip(&launches)
                .map(|(task, launch)| TaskDescriptor { id: TaskId(task.id), name: task.name.as_str(), launch: launch.as_ref() })
                .collect();
            self.0.submit(&batch).map_err(|error| error.reason)
        })
    }

    fn expect(&self, kernel: StableKernelCode<'_>) -> Outcome<()> {
        guard(|| {
            self.0.expect(&kernel.into());
            Ok(())
        })
    }

    fn describe(&self, measure: bool) -> Outcome<RVec<Tuple2<RString, RString>>> {
        guard(|| Ok(self.0.describe(measure).into_iter().map(|(name, value)| Tuple2(name.into(), value.into())).collect()))
    }

    fn attend(&self, patience_ns: u64) -> Outcome<bool> {
        guard(|| Ok(self.0.attend(Duration::from_nanos(patience_ns))))
    }

    fn rest(&self) -> Outcome<()> {
        guard(|| {
            self.0.rest();
            Ok(())
        })
    }

    fn stop(&self) -> Outcome<()> {
        guard(|| self.0.stop().map_err(|error| error.reason))
    }
}

struct ExportedSpace(Box<dyn MemorySpace>);

impl StableSpace for ExportedSpace {
    fn info(&self) -> Outcome<StableSpaceInfo> {
        guard(|| {
            let info = self.0.info();
            Ok(StableSpaceInfo { id: info.id.0, name: info.name.into(), capacity_bytes: info.capacity_bytes.into(), imports: info.imports })
        })
    }

    fn allocate(&self, len_bytes: u64, zeroed: bool) -> Outcome<ChunkObject> {
        guard(|| {
            let chunk = self.0.allocate(len_bytes, zeroed).map_err(|error| error.reason)?;
            Ok(ChunkObject::from_value(ExportedChunk(chunk), TD_Opaque))
        })
    }

    fn import(&self, block: StableHostBlock) -> Outcome<ChunkObject> {
        guard(|| {
            // SAFETY: the other side calls this from `MemorySpace::import`, whose caller promises the same.
            let chunk = unsafe { self.0.import(block.into()) }.map_err(|error| error.reason)?;
            Ok(ChunkObject::from_value(ExportedChunk(chunk), TD_Opaque))
        })
    }
}

struct ExportedChunk(Box<dyn Chunk>);

impl StableChunk for ExportedChunk {
    fn info(&self) -> Outcome<StableChunkInfo> {
        guard(|| Ok(self.0.info().into()))
    }

    fn id(&self) -> Outcome<u64> {
        guard(|| Ok(self.0.id()))
    }

    fn host_bytes(&self) -> Outcome<ROption<RSlice<'_, u8>>> {
        guard(|| Ok(self.0.host_bytes().map(RSlice::from_slice).into()))
    }

    fn read(&self, offset_bytes: u64, mut into: RSliceMut<'_, u8>) -> Outcome<()> {
        guard(|| self.0.read(offset_bytes, into.as_mut_slice()).map_err(|error| error.reason))
    }

    fn write(&mut self, offset_bytes: u64, from: RSlice<'_, u8>) -> Outcome<()> {
        guard(|| self.0.write(offset_bytes, from.as_slice()).map_err(|error| error.reason))
    }
}

/// The host as the plugin calls it.
struct ImportedHost(HostObject);

impl HostServices for ImportedHost {
    fn worker_main(&self, worker: WorkerId) {
        self.0.worker_main(worker.0);
    }

    fn worker_main_remote(&self, worker: WorkerId, remote: Arc<dyn Remote>) {
        self.0.worker_main_remote(worker.0, RemoteObject::from_value(ExportedRemote(remote), TD_Opaque));
    }

    fn serve_command(&self, argument: &str) -> Result<ServeCommand, ServeError> {
        let command = self.0.serve_command(RStr::from_str(argument)).into_result().map_err(|error| ServeError::new(error.message))?;
        let program = std::ffi::OsString::from_vec(command.program.into());
        let variables = command.variables.into_iter().map(|Tuple2(name, value)| (name.into(), value.into())).collect();
        Ok(ServeCommand { program: program.into(), variables })
    }

    fn run(&self, task: TaskId) -> Result<(), RunError> {
        self.0.run(task.0).into_result().map_err(|error| RunError::new(error.message))
    }

    fn complete(&self, completions: &[Completion]) {
        let completions: Vec<_> = completions
            .iter()
            .map(|completion| StableCompletion {
                task: completion.task.0,
                fault: completion.outcome.clone().err().map(StableFault::from).into(),
                busy_ns: completion.busy_ns.into(),
                upload_ns: completion.upload_ns.into(),
            })
            .collect();
        self.0.complete(RSlice::from_slice(&completions));
    }

    fn log(&self, level: LogLevel, message: &str) {
        self.0.log(level as u32, RStr::from_str(message));
    }
}
