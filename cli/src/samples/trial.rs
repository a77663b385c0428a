//! Runs a sample in a test: the options of a command line, without one.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use poniard::{Runtime, RuntimeBuilder, Scope, TaskOptions, with_options};
use poniard_backend_vulkan::VulkanBackend;

use crate::sample::{Context, Outcome, Progress, Sample, SampleError, kernel_options};

/// The options of one run; what is left out is not given.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    /// Two unless it is given.
    pub(crate) threads: Option<usize>,
    /// Every task that the sample spawns has to run on a worker process; one that cannot travel there fails.
    pub(crate) apart: bool,
    /// The sample's kernels have to run on Vulkan devices, software ones too.
    pub(crate) on_devices: bool,
    pub(crate) size: Option<u64>,
    pub(crate) tile: Option<u64>,
    pub(crate) inputs: Vec<PathBuf>,
    pub(crate) output: Option<PathBuf>,
    pub(crate) seed: u64,
    pub(crate) kernel: Option<&'static str>,
    pub(crate) generations: Option<u64>,
}

/// Keeps the last report.
#[derive(Default)]
struct Last(Mutex<Option<(u64, u64)>>);

impl Progress for Last {
    fn advance(&self, done: u64, total: u64) {
        *self.0.lock().unwrap() = Some((done, total));
    }
}

/// Held while worker processes run tasks, and while `chaos` runs, which kills those of the whole program.
static WORKER_PROCESSES: Mutex<()> = Mutex::new(());

/// The values of `on_devices` that can be tried here: `true` where a Vulkan device, be it a software one, computes with f64, as the kernels of samples do. Says so if there is
/// none.
pub(crate) fn with_and_without_devices() -> &'static [bool] {
    let runtime = devices(Runtime::builder().threads(1)).build().unwrap();
    let report = runtime.report();
    let mut devices = report.backends.iter().flat_map(|backend| &backend.processors).filter(|processor| processor.device.is_some());
    let is_f64 = |(name, value): &(String, String)| name == "features" && value.split(", ").any(|feature| feature == "f64");
    if devices.any(|device| runtime.describe(&device.name, false).iter().any(is_f64)) {
        return &[false, true];
    }
    eprintln!("skipped on devices, as there is no Vulkan device with f64: {:?}", report.messages);
    &[false]
}

/// With Vulkan devices. What they compile is kept beside this test, for the next trial.
fn devices(builder: RuntimeBuilder) -> RuntimeBuilder {
    let cache = std::env::current_exe().unwrap().with_file_name("vulkan-cache");
    builder.linked(VulkanBackend::new()).setting("vulkan.software", "true").setting("vulkan.cache", cache.to_str().unwrap())
}

impl Trial {
    /// The same as `run`, with a file of this content as the only input.
    pub(crate) fn run_on(self, sample: &Sample, content: &[u8]) -> Result<Outcome, SampleError> {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("input");
        std::fs::write(&input, content).unwrap();
        Self { inputs: vec![input], ..self }.run(sample)
    }

    /// Runs `sample`, which must end with all of its progress made.
    pub(crate) fn run(&self, sample: &Sample) -> Result<Outcome, SampleError> {
        let exclusive = self.apart || sample.name == "chaos";
        let _held = exclusive.then(|| WORKER_PROCESSES.lock().unwrap_or_else(PoisonError::into_inner));
        let processes = if self.apart { 2 } else { 0 };
        let mut builder = Runtime::builder().threads(self.threads.unwrap_or(2)).processes(processes);
        if self.on_devices {
            builder = devices(builder);
        }
        let runtime = builder.build().unwrap();
        let kernels = kernel_options(&runtime, false);
        let progress = Last::default();
        let context = Context {
            runtime: &runtime,
            kernels: kernels.as_ref(),
            size: self.size,
            tile: self.tile,
            inputs: &self.inputs,
            output: self.output.as_deref(),
            seed: self.seed,
            kernel: self.kernel,
            generations: self.generations,
            progress: &progress,
        };
        let run = || (sample.run)(&context);
        let outcome = if self.apart { with_options(TaskOptions::new().scope(Scope::backend("process")), run) } else { run() }?;
        if self.on_devices {
            let report = runtime.report();
            let devices = report.backends.iter().flat_map(|backend| &backend.processors).filter(|processor| processor.device.is_some());
            let warnings: Vec<_> = report.messages.iter().filter(|message| message.starts_with("warning: ")).collect();
            assert!(devices.map(|device| device.tasks).sum::<u64>() > 0 && warnings.is_empty(), "{} {self:?}: {warnings:?}", sample.name);
        }
        if let Some((done, total)) = *progress.0.lock().unwrap() {
            assert_eq!(done, total, "{} ended before its progress did", sample.name);
        }
        Ok(outcome)
    }

    /// Runs `sample`, which must come to a result that passes its own check.
    pub(crate) fn passes(&self, sample: &Sample) -> Outcome {
        let outcome = self.run(sample).unwrap_or_else(|error| panic!("{} {self:?}: {error}", sample.name));
        assert!(outcome.check.passed, "{} {self:?}: {}", sample.name, outcome.check.text);
        outcome
    }

    /// Runs `sample`, which must refuse the value of `option`; gives the reason.
    pub(crate) fn refused(&self, sample: &Sample, option: &str) -> String {
        match self.run(sample) {
            Err(SampleError::Usage { option: refused, reason }) if refused == option => reason,
            other => panic!("{} {self:?}: not refused for --{option} but {other:?}", sample.name),
        }
    }

    /// Runs `sample`, which must refuse an input file; gives the reason.
    pub(crate) fn refused_file(&self, sample: &Sample) -> String {
        match self.run(sample) {
            Err(SampleError::Input { reason, .. }) => reason,
            other => panic!("{} {self:?}: its input was not refused but {other:?}", sample.name),
        }
    }
}
