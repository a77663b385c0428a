//! What a sample is: a named computation that checks its own result.

use std::fmt;
use std::path::{Path, PathBuf};

use poniard::{DeviceClass, RegionError, Runtime, Scope, TaskError, TaskOptions};

/// One sample: one idea, in one file of `samples/`.
#[derive(Debug)]
pub struct Sample {
    /// Its name on the command line.
    pub name: &'static str,
    /// One line: what it computes and what it shows.
    pub summary: &'static str,
    /// The long options that it heeds, with what each means here and its default. Giving one that is not listed is a usage error.
    pub options: &'static [SampleOption],
    /// Whether some of its tasks are kernels, which a device can run. Where none are, the command does not look for devices unless the user asks for them.
    pub kernels: bool,
    /// Runs it.
    pub run: fn(&Context<'_>) -> Result<Outcome, SampleError>,
}

/// An option as a sample understands it.
#[derive(Debug)]
pub struct SampleOption {
    /// The long option without dashes: `size`, `tile`, `input`, `output`, `seed`, `kernel`, `generations`.
    pub name: &'static str,
    /// What it means for this sample, with unit and default.
    pub meaning: &'static str,
}

/// What the user asked for.
pub struct Context<'a> {
    /// Where tasks run.
    pub runtime: &'a Runtime,
    /// How kernels are spawned. None: the runtime has no device, and a sample spawns the functions of the host instead, which worker processes run as well.
    pub kernels: Option<&'a TaskOptions>,
    /// `--size`, the problem's size in the sample's own unit.
    pub size: Option<u64>,
    /// `--tile`, the edge of a tile.
    pub tile: Option<u64>,
    /// `--input`, once for each file.
    pub inputs: &'a [PathBuf],
    /// `--output`: a sample looks at its extension to choose a format; the command does the writing.
    pub output: Option<&'a Path>,
    /// `--seed`, 0 unless given.
    pub seed: u64,
    /// `--kernel`, by name or as numbers.
    pub kernel: Option<&'a str>,
    /// `--generations`.
    pub generations: Option<u64>,
    /// Told how far the work is.
    pub progress: &'a dyn Progress,
}

impl fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("size", &self.size).field("tile", &self.tile).finish_non_exhaustive()
    }
}

/// How kernels are spawned on a runtime, if it has a device: on real devices, as kernels without a scope are, or on software devices where there are no others.
/// Software devices are there only if the user asks for them.
/// `takes_software`: they count as real ones.
pub fn kernel_options(runtime: &Runtime, takes_software: bool) -> Option<TaskOptions> {
    let report = runtime.report();
    let mut devices =
        report.backends.iter().flat_map(|backend| &backend.processors).filter_map(|processor| processor.device.as_ref()).peekable();
    devices.peek()?;
    let options = TaskOptions::new();
    Some(if !takes_software && devices.all(|device| device.class == DeviceClass::Software) {
        options.scope(Scope::kind("vulkan") | Scope::kind("cpu"))
    } else {
        options
    })
}

/// Shows how far the work is, where somebody watches.
pub trait Progress: Sync {
    /// `done` of `total` tasks have finished. Cheap: call it as often as convenient.
    fn advance(&self, done: u64, total: u64);
}

/// What a sample found.
#[derive(Debug)]
pub struct Outcome {
    /// The result in words, a line each: `distance 42`.
    pub lines: Vec<String>,
    /// Named numbers of the result for `--json`.
    pub values: Vec<(&'static str, serde_json::Value)>,
    /// The comparison with an independent computation.
    pub check: Check,
    /// The whole content of the output file, where the sample has one to give.
    pub output: Option<Vec<u8>>,
}

/// A result compared with an independent computation.
#[derive(Debug)]
pub struct Check {
    /// Whether they agree.
    pub passed: bool,
    /// What was compared with what, and how well they agree: `max difference 3.1e-13 to a plain triple loop (allowed 1e-9)`.
    pub text: String,
}

/// A sample did not come to a result.
#[derive(Debug)]
#[non_exhaustive]
pub enum SampleError {
    /// An option's value makes no sense here.
    Usage {
        /// Which option, without dashes.
        option: &'static str,
        /// Why.
        reason: String,
    },
    /// A file could not be read or is not what it should be.
    Input {
        /// Which file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// A task failed.
    Task(TaskError),
}

impl fmt::Display for SampleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage { option, reason } => write!(f, "--{option}: {reason}"),
            Self::Input { file, reason } => write!(f, "{}: {reason}", file.display()),
            Self::Task(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SampleError {}

impl From<TaskError> for SampleError {
    fn from(error: TaskError) -> Self {
        Self::Task(error)
    }
}

impl From<RegionError> for SampleError {
    fn from(error: RegionError) -> Self {
        Self::Task(error.first().clone())
    }
}
