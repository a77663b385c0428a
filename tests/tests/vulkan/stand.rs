//! Runtimes with the machine's devices, and what is found wrong when they end.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Once;

use poniard::{Buffer, Kernel, Runtime, RuntimeBuilder, Scope};
use poniard_backend_vulkan::VulkanBackend;
use tempfile::TempDir;

/// Begins each file of the cache, before the words: a mark and a checksum.
const HEAD_BYTES: usize = 16;

/// What SPIR-V calls a capability that is asked for, and the one of kernels that work with addresses.
const OP_CAPABILITY: u32 = 2 << 16 | 17;
const PHYSICAL_STORAGE_BUFFER_ADDRESSES: u32 = 5347;

/// Where a device works, and whether copies have a lane of their own. What devices do not share with the host is copied, every time.
pub(crate) const WAYS: [&[(&str, &str)]; 4] =
    [&[("vulkan.import", "true")], &[("vulkan.import", "false")], &[("vulkan.import", "true"), ("vulkan.transfer", "emulated")], SPLIT];

/// The last of them.
pub(crate) const SPLIT: &[(&str, &str)] = &[("vulkan.import", "false"), ("vulkan.transfer", "emulated"), ("vulkan.without", "mapping")];

/// Takes a buffer and makes one.
pub(crate) type Plain = Kernel<fn(&'static Buffer<f32>) -> Buffer<f32>>;

/// A kernel with a buffer to read and one to write, whose body is `line`.
pub(crate) fn source(line: &str) -> String {
    format!(
        "@group(0) @binding(0) var<storage> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> z: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {{
    {line}
}}"
    )
}

/// A runtime with at least one device. Its kernels are kept in a folder of its own, so that what the device was given can be looked at.
pub(crate) struct Stand {
    pub(crate) runtime: Runtime,
    cache: TempDir,
}

/// Two threads and the machine's devices, software ones included, with everybody who looks for faults.
pub(crate) fn builder() -> RuntimeBuilder {
    Runtime::builder()
        .threads(2)
        .linked(VulkanBackend::new())
        .setting("vulkan.software", "true")
        .setting("vulkan.validation", "true")
        .setting("vulkan.cache", "")
        .models(None)
}

/// The same without validation, for tests whose devices are lost: what is left of one would be complained about.
pub(crate) fn quick() -> RuntimeBuilder {
    builder().setting("vulkan.validation", "false")
}

/// Whether there is a device; where there is none, says so.
pub(crate) fn has_device(runtime: &Runtime) -> bool {
    let found = !runtime.processors_in(&Scope::kind("vulkan")).is_empty();
    if !found {
        eprintln!("skipped: {}", runtime.report().messages.join("; "));
    }
    found
}

impl Stand {
    /// A runtime with these settings besides; none, with the reason printed, where there is no device.
    pub(crate) fn new(settings: &[(&str, &str)]) -> Option<Self> {
        let cache = tempfile::tempdir().expect("a folder");
        let builder = builder().setting("vulkan.cache", cache.path().display().to_string());
        let builder = settings.iter().fold(builder, |builder, (name, value)| builder.setting(*name, *value));
        let runtime = builder.build().expect("threads");
        has_device(&runtime).then_some(Self { runtime, cache })
    }

    /// The sum of a line in what the devices say of themselves.
    pub(crate) fn counted(&self, line: &str) -> u64 {
        let devices = self.runtime.processors_in(&Scope::kind("vulkan"));
        devices.iter().map(|device| counted(&self.runtime, &device.name, line)).sum()
    }

    /// What has been said, but for the tests' own.
    pub(crate) fn warnings(&self) -> Vec<String> {
        warnings(&self.runtime)
    }

    /// How many of the shaders that the devices were given reach buffers by their addresses, and how many there are.
    pub(crate) fn shaders_with_addresses(&self) -> (usize, usize) {
        let shaders = kept(self.cache.path());
        // The first capabilities, each an instruction of two words.
        let is_one = |path: &&PathBuf| {
            let words = words(path);
            words[5..].chunks(2).take_while(|pair| pair[0] == OP_CAPABILITY).any(|pair| pair[1] == PHYSICAL_STORAGE_BUFFER_ADDRESSES)
        };
        (shaders.iter().filter(is_one).count(), shaders.len())
    }

    /// The only shader that the devices were given.
    pub(crate) fn shader(&self) -> Vec<u32> {
        let shaders = kept(self.cache.path());
        assert_eq!(shaders.len(), 1);
        words(shaders.first().expect("one"))
    }

    /// Ends it, and checks that nobody has found anything wrong: neither the layers nor the checker, nor `spirv-val` with what the devices were given.
    pub(crate) fn finish(self) {
        self.runtime.wait_idle();
        assert_eq!(self.warnings(), Vec::<String>::new());
        assert_eq!((self.counted("validation messages"), self.counted("checker messages")), (0, 0));
        let handle = self.runtime.handle();
        drop(self.runtime);
        let warnings: Vec<_> = handle.report().messages.into_iter().filter(is_complaint).collect();
        assert_eq!(warnings, Vec::<String>::new(), "at the end");
        check_shaders(self.cache.path());
    }
}

/// What a device says of itself as a number; 0 where it has not been made.
pub(crate) fn counted(runtime: &Runtime, device: &str, line: &str) -> u64 {
    let described = runtime.describe(device, false);
    described.into_iter().find(|(name, _)| name == line).map_or(0, |(_, value)| value.parse().expect("a number"))
}

/// What the runtime warns of.
pub(crate) fn warnings(runtime: &Runtime) -> Vec<String> {
    runtime.report().messages.into_iter().filter(is_complaint).collect()
}

/// Whether a message is about something wrong. That nobody looks is said once.
fn is_complaint(message: &String) -> bool {
    static SAY: Once = Once::new();
    if message.contains("the validation layer is not installed") {
        SAY.call_once(|| eprintln!("skipped in part: {message}"));
        return false;
    }
    message.starts_with("warning")
}

/// Has `spirv-val` look at all shaders in a folder of the cache; how many there are.
pub(crate) fn check_shaders(folder: &Path) -> usize {
    static SAY: Once = Once::new();
    let shaders = kept(folder);
    for path in &shaders {
        let bytes = std::fs::read(path).expect("the cache is readable");
        let words = path.with_extension("words");
        std::fs::write(&words, &bytes[HEAD_BYTES..]).expect("a file");
        match Command::new("spirv-val").args(["--target-env", "vulkan1.2"]).arg(&words).output() {
            Ok(output) => assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr)),
            Err(error) => SAY.call_once(|| eprintln!("skipped in part: the SPIR-V is not checked: spirv-val: {error}")),
        }
        std::fs::remove_file(words).expect("it was just made");
    }
    shaders.len()
}

fn words(shader: &Path) -> Vec<u32> {
    let bytes = std::fs::read(shader).expect("the cache is readable");
    bytes[HEAD_BYTES..].chunks_exact(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect()
}

/// The shaders in a folder of the cache.
pub(crate) fn kept(folder: &Path) -> BTreeSet<PathBuf> {
    let Ok(files) = std::fs::read_dir(folder) else { return BTreeSet::new() };
    files.map(|file| file.expect("readable").path()).filter(|path| path.extension().is_some_and(|end| end == "spv")).collect()
}

/// Whether this process was started by [`child`].
pub(crate) fn is_child() -> bool {
    std::env::var_os("PONIARD_VULKAN_CHILD").is_some()
}

/// Runs the test `name` in a process of its own, where [`is_child`] is true.
pub(crate) fn child(name: &str, variables: &[(&str, &str)]) -> Output {
    let output = child_command(name, variables).output().expect("it starts");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{name} in a process of its own: {:?}\n{text}", output.status);
    for line in text.lines().filter(|line| line.contains("skipped")) {
        eprintln!("{line}");
    }
    output
}

/// What [`child`] runs.
pub(crate) fn child_command(name: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a test has a file"));
    command.args(["--exact", name, "--nocapture"]).env("PONIARD_VULKAN_CHILD", "1").envs(variables.iter().copied());
    command
}

/// Runs the test `name` where there are `count` software devices and no others. False, with the reason printed, if there is no software driver.
pub(crate) fn child_with_devices(name: &str, count: usize) -> bool {
    let Some(driver) = software_driver() else { return false };
    // The loader takes a file once, however often it is named.
    let folder = tempfile::tempdir().expect("a folder");
    let files: Vec<_> = (0..count)
        .map(|number| {
            let copy = folder.path().join(format!("lvp_icd_{number}.json"));
            std::fs::copy(&driver, &copy).expect("a copy");
            copy.display().to_string()
        })
        .collect();
    let files = files.join(":");
    child(name, &[("VK_ICD_FILENAMES", &files), ("VK_DRIVER_FILES", &files)]);
    true
}

/// The file that tells the loader of the software driver.
fn software_driver() -> Option<PathBuf> {
    let files = std::fs::read_dir("/usr/share/vulkan/icd.d").into_iter().flatten();
    let mut files: Vec<_> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    files.sort();
    let found = files.into_iter().find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lvp_icd")));
    if found.is_none() {
        eprintln!("skipped: the software driver is not installed");
    }
    found
}
