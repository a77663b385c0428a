//! A host for the backend to talk to, an arena for it to import, and a few kernels.
#![expect(unsafe_code, reason = "maps an arena and lends parts of it to devices")]

use std::os::fd::{FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use poniard_backend_vulkan::VulkanBackend;
use poniard_interface::{
    Access, AllocateError, Backend, Chunk, Completion, DeviceClass, Fault, HostBlock, HostServices, KernelCode, Launch, LogLevel,
    MemorySpace, OpenError, Opened, Operand, Processor, RunError, Settings, Source, TaskDescriptor, TaskId, WorkerId,
};

/// Longer than anything takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Notes what it is told.
#[derive(Default)]
pub(crate) struct Host {
    completions: Mutex<Vec<Completion>>,
    changed: Condvar,
    pub(crate) messages: Mutex<Vec<(LogLevel, String)>>,
}

impl Host {
    /// Waits for the outcomes of these tasks.
    pub(crate) fn outcomes(&self, ids: std::ops::Range<u64>) -> Vec<Result<(), Fault>> {
        self.completions(ids).into_iter().map(|completion| completion.outcome).collect()
    }

    /// Waits for what is reported of these tasks.
    pub(crate) fn completions(&self, ids: std::ops::Range<u64>) -> Vec<Completion> {
        let mut completions = self.completions.lock().unwrap();
        loop {
            let of = |id: u64| completions.iter().filter(move |known| known.task == TaskId(id));
            if ids.clone().all(|id| of(id).next().is_some()) {
                assert!(ids.clone().all(|id| of(id).count() == 1), "each task is answered once");
                let known: Vec<_> = ids.map(|id| of(id).next().unwrap().clone()).collect();
                assert!(known.iter().all(|known| known.outcome.is_ok() || known.busy_ns.is_none()), "what was not done took no time");
                return known;
            }
            let (now, timeout) = self.changed.wait_timeout(completions, PATIENCE).unwrap();
            assert!(!timeout.timed_out(), "not all of {ids:?} were answered: {now:?}");
            completions = now;
        }
    }

    /// Whether a task has been answered.
    pub(crate) fn is_answered(&self, id: u64) -> bool {
        self.completions.lock().unwrap().iter().any(|known| known.task == TaskId(id))
    }

    /// Waits until these tasks have been done.
    pub(crate) fn done(&self, ids: std::ops::Range<u64>) {
        for outcome in self.outcomes(ids) {
            outcome.unwrap();
        }
    }

    /// What was said about something.
    pub(crate) fn said(&self, part: &str) -> Vec<String> {
        self.messages.lock().unwrap().iter().map(|(_, message)| message.clone()).filter(|message| message.contains(part)).collect()
    }
}

impl HostServices for Host {
    fn worker_main(&self, _: WorkerId) {}
    fn run(&self, _: TaskId) -> Result<(), RunError> {
        Err(RunError::new("no bodies here"))
    }
    fn complete(&self, completions: &[Completion]) {
        self.completions.lock().unwrap().extend_from_slice(completions);
        self.changed.notify_all();
    }
    fn log(&self, level: LogLevel, message: &str) {
        self.messages.lock().unwrap().push((level, message.to_owned()));
    }
}

/// An opened backend.
pub(crate) struct Stand {
    pub(crate) host: Arc<Host>,
    pub(crate) processors: Vec<Box<dyn Processor>>,
    pub(crate) spaces: Vec<Box<dyn MemorySpace>>,
}

/// Opens the backend with validation, and with `pairs` besides.
pub(crate) fn open(pairs: &[(&str, &str)]) -> Result<Stand, OpenError> {
    let mut settings = Settings::new();
    for (name, value) in [("vulkan.software", "true"), ("vulkan.validation", "true"), ("vulkan.cache", "")].iter().chain(pairs) {
        settings.set(*name, *value);
    }
    let host = Arc::new(Host::default());
    let Opened { processors, spaces } = VulkanBackend::new().open(&settings, Arc::clone(&host) as Arc<dyn HostServices>)?;
    Ok(Stand { host, processors, spaces })
}

/// The same with at least one device; without one the test says why it does nothing.
pub(crate) fn with_device(pairs: &[(&str, &str)]) -> Option<Stand> {
    let stand = open(pairs).unwrap();
    if stand.processors.is_empty() {
        eprintln!("skipped: {:?}", stand.host.said("none found"));
        return None;
    }
    for message in stand.host.said("validation layer is not") {
        eprintln!("skipped in part: {message}");
    }
    Some(stand)
}

impl Stand {
    /// A chunk of the first device with these numbers in it.
    pub(crate) fn chunk(&self, numbers: &[u32]) -> Box<dyn Chunk> {
        let mut chunk = self.spaces[0].allocate(size_of_val(numbers) as u64, false).unwrap();
        chunk.write(0, &bytes(numbers)).unwrap();
        chunk
    }

    /// Submits one launch to the first device.
    pub(crate) fn launch(&self, id: u64, source: &str, operands: &[Operand], scalars: &[u8], invocations: [u64; 3]) {
        self.launch_within(id, source, operands, scalars, invocations, None);
    }

    /// The same with a deadline.
    pub(crate) fn launch_within(
        &self,
        id: u64,
        source: &str,
        operands: &[Operand],
        scalars: &[u8],
        invocations: [u64; 3],
        deadline: Option<Duration>,
    ) {
        let launch = Launch { kernel: kernel(source), operands, scalars, invocations, deadline };
        self.processors[0].submit(&[TaskDescriptor::new(TaskId(id), "a task").with_launch(&launch)]).unwrap();
    }

    /// A line of the first device's description.
    pub(crate) fn described(&self, name: &str) -> String {
        let lines = self.processors[0].describe(false);
        lines.into_iter().find(|(known, _)| known == name).map(|(_, value)| value).unwrap_or_else(|| panic!("no line `{name}`"))
    }

    /// The same as a number.
    pub(crate) fn counted(&self, name: &str) -> u64 {
        self.described(name).parse().unwrap()
    }

    /// Stops the devices and checks that nobody has found anything wrong.
    pub(crate) fn finish(self) {
        for processor in &self.processors {
            processor.stop().unwrap();
        }
        assert_eq!(self.host.said("validation:"), Vec::<String>::new());
        assert_eq!(self.host.said("checker:"), Vec::<String>::new());
    }
}

/// The code as a launch has it.
pub(crate) fn kernel(source: &str) -> KernelCode<'_> {
    let hash = source.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    KernelCode { identity: [hash, source.len() as u64], name: "k", source: Source::Wgsl(source) }
}

pub(crate) fn operand(chunk: &dyn Chunk, access: Access) -> Operand {
    Operand { chunk: chunk.id(), access, source: None }
}

pub(crate) fn bytes(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

pub(crate) fn read(chunk: &dyn Chunk) -> Vec<u32> {
    let mut bytes = vec![0; chunk.info().len_bytes as usize];
    chunk.read(0, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap())).collect()
}

/// `x[i] = x[i] * factor + i`
pub(crate) const STEP: &str = "
    @group(0) @binding(0) var<storage, read_write> x: array<u32>;
    var<immediate> factor: u32;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) at: vec3<u32>) {
        if at.x < arrayLength(&x) { x[at.x] = x[at.x] * factor + at.x; }
    }";

/// `y[i] = x[i] + 1`
pub(crate) const NEXT: &str = "
    @group(0) @binding(0) var<storage, read> x: array<u32>;
    @group(0) @binding(1) var<storage, read_write> y: array<u32>;
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) at: vec3<u32>) {
        if at.x < arrayLength(&y) { y[at.x] = x[at.x] + 1u; }
    }";

/// Ends when `x[1]` becomes 77, which only the host makes it.
pub(crate) const ENDLESS: &str = "
    @group(0) @binding(0) var<storage, read_write> x: array<atomic<u32>>;
    @compute @workgroup_size(1) fn main() {
        loop {
            if atomicLoad(&x[1]) == 77u { break; }
            atomicAdd(&x[0], 1u);
        }
    }";

/// How many invocations of it: the software driver ends each loop by itself after some time.
pub(crate) const FOR_EVER: [u64; 3] = [65535, 65535, 1];

/// A mapped file in memory, as the runtime's arenas are. It stays for good.
pub(crate) struct Arena {
    pub(crate) address: u64,
    pub(crate) len_bytes: u64,
    _file: OwnedFd,
}

impl Arena {
    pub(crate) fn new(len_bytes: u64) -> Self {
        // SAFETY: the name ends with a zero.
        let descriptor = unsafe { libc::memfd_create(c"test-arena".as_ptr(), 0) };
        assert!(descriptor >= 0);
        // SAFETY: the descriptor was just made and is nobody else's.
        let file = unsafe { OwnedFd::from_raw_fd(descriptor) };
        // SAFETY: changes the length of a file of this test.
        assert_eq!(unsafe { libc::ftruncate(descriptor, len_bytes as i64) }, 0);
        // SAFETY: maps at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), len_bytes as usize, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, descriptor, 0)
        };
        assert_ne!(start, libc::MAP_FAILED);
        Self { address: start.expose_provenance() as u64, len_bytes, _file: file }
    }

    /// A part of it.
    pub(crate) fn block(&self, offset: u64, len_bytes: u64) -> HostBlock {
        assert!(offset + len_bytes <= self.len_bytes);
        HostBlock { address: self.address + offset, len_bytes, arena_address: self.address, arena_bytes: self.len_bytes }
    }

    /// Writes numbers to it.
    pub(crate) fn write(&self, offset: u64, numbers: &[u32]) -> HostBlock {
        let block = self.block(offset, size_of_val(numbers) as u64);
        let to: *mut u32 = std::ptr::with_exposed_provenance_mut(block.address as usize);
        // SAFETY: the block lies in the mapping, and no device uses it now.
        unsafe { std::ptr::copy_nonoverlapping(numbers.as_ptr(), to, numbers.len()) };
        block
    }

    /// Writes a number that a device looks at meanwhile.
    pub(crate) fn release(&self, offset: u64, number: u32) {
        let block = self.block(offset, 4);
        let place: *mut u32 = std::ptr::with_exposed_provenance_mut(block.address as usize);
        // SAFETY: the block lies in the mapping and begins at a multiple of 4; who else uses it does so by atomic operations.
        unsafe { std::sync::atomic::AtomicU32::from_ptr(place) }.store(number, std::sync::atomic::Ordering::Release);
    }

    /// Reads numbers from it.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Vec<u32> {
        let block = self.block(offset, len as u64 * 4);
        let from: *const u32 = std::ptr::with_exposed_provenance(block.address as usize);
        // SAFETY: the block lies in the mapping, and no device uses it now.
        unsafe { std::slice::from_raw_parts(from, len) }.to_vec()
    }

    /// The block as a chunk of a device.
    pub(crate) fn import(space: &dyn MemorySpace, block: HostBlock) -> Result<Box<dyn Chunk>, AllocateError> {
        // SAFETY: arenas of tests stay mapped, and each block belongs to one test.
        unsafe { space.import(block) }
    }
}

/// Whether this process was started by [`child`].
pub(crate) fn is_child() -> bool {
    std::env::var_os("PONIARD_VULKAN_CHILD").is_some()
}

/// Runs the test `name` in a process of its own, where [`is_child`] is true.
pub(crate) fn child(name: &str, variables: &[(&str, &str)]) -> Output {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--exact", name, "--nocapture"]).env("PONIARD_VULKAN_CHILD", "1").envs(variables.iter().copied());
    let output = command.output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{name} in a process of its own: {:?}\n{text}", output.status);
    eprint!("{}", text.lines().filter(|line| line.contains("skipped")).collect::<String>());
    output
}

/// The file that tells the loader of the software driver.
pub(crate) fn software_driver() -> Option<PathBuf> {
    let files = std::fs::read_dir("/usr/share/vulkan/icd.d").ok()?;
    let mut files: Vec<_> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    files.sort();
    let found = files.into_iter().find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lvp_icd")));
    if found.is_none() {
        eprintln!("skipped: the software driver is not installed");
    }
    found
}

/// Whether the first device is a software device.
pub(crate) fn is_software(stand: &Stand) -> bool {
    stand.processors[0].info().device.is_some_and(|device| device.class == DeviceClass::Software)
}
