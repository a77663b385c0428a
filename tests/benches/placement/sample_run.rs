//! A sample of the command, run here.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use poniard::{Runtime, RuntimeBuilder};
use poniard_backend_vulkan::VulkanBackend;
use poniard_cli::sample::{Context, Outcome, Progress, Sample, kernel_options};
use poniard_cli::samples::SAMPLES;

/// What to run: the options of a command line.
#[derive(Clone, Debug)]
pub(crate) struct SampleRun {
    pub(crate) sample: &'static Sample,
    pub(crate) size: Option<u64>,
    pub(crate) tile: Option<u64>,
    pub(crate) inputs: Vec<PathBuf>,
    pub(crate) kernel: Option<&'static str>,
    pub(crate) generations: Option<u64>,
}

/// What runs a sample's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    /// They are no kernels, but functions, which worker processes run as well.
    Host,
    /// A device.
    Device,
    /// Whatever suits; software devices count as real ones.
    Anything,
}

/// When the last task was over: what a sample checks then is not measured.
#[derive(Debug, Default)]
struct End {
    at: Mutex<Option<Instant>>,
    /// Whether the sample ends there, unchecked.
    stops: bool,
}

/// What unwinds then.
struct Stopped;

impl Progress for End {
    fn advance(&self, done: u64, total: u64) {
        if done == total {
            *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            if self.stops {
                resume_unwind(Box::new(Stopped));
            }
        }
    }
}

impl SampleRun {
    pub(crate) fn of(name: &str) -> Self {
        let sample = SAMPLES.iter().find(|sample| sample.name == name).expect("a sample");
        Self { sample, size: None, tile: None, inputs: Vec::new(), kernel: None, generations: None }
    }

    /// Runs it; what came of it, which is right.
    pub(crate) fn outcome(&self, runtime: &Runtime, on: On) -> Outcome {
        let outcome = self.begin(runtime, on, &End::default());
        assert!(outcome.check.passed, "{}: {}", self.sample.name, outcome.check.text);
        outcome
    }

    /// Runs it; how long its tasks took. Nothing is checked: that takes longer than most samples do.
    pub(crate) fn time(&self, runtime: &Runtime, on: On) -> Duration {
        let end = End { stops: true, ..End::default() };
        let begin = Instant::now();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.begin(runtime, on, &end)))
            && !payload.is::<Stopped>()
        {
            resume_unwind(payload);
        }
        let end = end.at.into_inner().unwrap_or_else(PoisonError::into_inner).expect("it tells its end");
        end - begin
    }

    fn begin(&self, runtime: &Runtime, on: On, progress: &End) -> Outcome {
        let kernels = if on == On::Host { None } else { kernel_options(runtime, on == On::Anything) };
        let context = Context {
            runtime,
            kernels: kernels.as_ref(),
            size: self.size,
            tile: self.tile,
            inputs: &self.inputs,
            output: None,
            seed: 0,
            kernel: self.kernel,
            generations: self.generations,
            progress,
        };
        (self.sample.run)(&context).expect("it runs")
    }
}

/// With Vulkan devices, software ones as well. What they compile is kept beside this program.
pub(crate) fn with_devices(builder: RuntimeBuilder) -> RuntimeBuilder {
    let cache = std::env::current_exe().expect("this program").with_file_name("vulkan-cache");
    builder.linked(VulkanBackend::new()).setting("vulkan.software", "true").setting("vulkan.cache", cache.to_string_lossy())
}

/// Why kernels of samples cannot run on devices here, if so: they compute with f64.
pub(crate) fn lacks_device() -> Option<String> {
    let runtime = with_devices(Runtime::builder().threads(1)).models(None).build().expect("a runtime");
    let report = runtime.report();
    let is_f64 = |(name, value): &(String, String)| name == "features" && value.split(", ").any(|feature| feature == "f64");
    let mut devices = report.backends.iter().flat_map(|backend| &backend.processors).filter(|processor| processor.device.is_some());
    let has = devices.any(|device| runtime.describe(&device.name, false).iter().any(is_f64));
    (!has).then(|| format!("no Vulkan device with f64: {:?}", report.messages))
}
