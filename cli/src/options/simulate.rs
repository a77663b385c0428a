//! What the user typed behind `poniard simulate`.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, ValueEnum, ValueHint, value_parser};
use poniard::policy::DEFAULT;
use poniard_scheduler_sim::network::Sharing;
use poniard_scheduler_sim::world::{Chaos, FaultKinds};
use poniard_scheduler_sim::{Durations, Estimates};

use super::number;
use crate::commands::machine::MachineSource;
use crate::commands::pictures::PictureOptions;

/// `poniard simulate`.
#[derive(Args, Debug)]
pub struct SimulateOptions {
    /// The file with the workload, or NAME:SIZE for one that is made up: cholesky:16, layered:10000,ccr=0.5,seed=3
    #[arg(value_name = "WORKLOAD", value_hint = ValueHint::FilePath, required_unless_present = "soak", default_value = "-", hide_default_value = true)]
    pub workload: PathBuf,

    /// The file with the platform
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["speeds", "bandwidth"], required_unless_present_any = ["speeds", "soak"])]
    pub platform: Option<PathBuf>,

    /// The speeds of the processors, each with a memory of its own
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub speeds: Option<Vec<f64>>,

    /// How many bytes a second go from any processor to any other [default: data is everywhere at once]
    #[arg(long, value_name = "BYTES", requires = "speeds")]
    pub bandwidth: Option<f64>,

    /// The policy or planner: --help lists them; or a plugin file's, by name or by a path with a `/` in it
    #[arg(long, value_name = "NAME", default_value = DEFAULT, value_parser = NonEmptyStringValueParser::new())]
    pub policy: String,

    /// Where to look for the plugin file of a policy first: a folder or a file; give it again for more
    #[arg(long = "plugin", value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub plugins: Vec<PathBuf>,

    /// What runs a policy: the engine, or the whole runtime in virtual time, for machines where data is everywhere at once
    #[arg(long, value_enum, default_value = "board")]
    pub engine: SimEngine,

    /// Where random numbers begin
    #[arg(long, value_name = "N", value_parser = number, default_value = "0")]
    pub seed: u64,

    /// Round recorded run times to whole milliseconds, halves to the even one
    #[arg(long, value_name = "UNIT")]
    pub round_costs: Option<RoundCosts>,

    /// Tasks take as many processors as a WfFormat file says that they had cores; with --engine runtime
    #[arg(long)]
    pub cores: bool,

    /// Say why the run took as long as it did even if it has more than 100,000 tasks
    #[arg(long)]
    pub explain: bool,

    /// What differs from the files.
    #[command(flatten)]
    pub machine: MachineOptions,

    /// Graphs that arrive over time instead of one.
    #[command(flatten)]
    pub stream: StreamOptions,

    /// What to write about the run.
    #[command(flatten)]
    pub pictures: PictureOptions,

    /// Run twice, and say where the second run differs from the first one, which only a policy of a plugin file can bring about
    #[arg(long)]
    pub check_determinism: bool,

    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,

    /// Many worlds instead of one.
    #[command(flatten)]
    pub soak: SoakOptions,
}

impl SimulateOptions {
    /// Where the platform comes from.
    pub(crate) fn machine_source(&self) -> MachineSource<'_> {
        MachineSource { platform: self.platform.as_deref(), speeds: self.speeds.as_deref(), bandwidth: self.bandwidth }
    }
}

/// What runs a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SimEngine {
    /// The runtime's board and policy; networks, memories and overheads
    Board,
    /// All of the runtime: queues, stealing, sleep and wake as well; --policy own is how it runs without a policy
    Runtime,
}

/// `poniard simulate --soak`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "To look for bugs of the runtime")]
pub struct SoakOptions {
    /// Have the runtime play scenarios in which things go wrong, in virtual time, from the one with the number --seed on, until it does not get through one
    #[arg(long, conflicts_with_all = ["workload", "platform", "speeds"])]
    pub soak: bool,

    /// How many scenarios
    #[arg(long, value_name = "N", value_parser = number, default_value = "2000", requires = "soak")]
    pub seeds: u64,

    /// The least number of tasks in each
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=100_000), default_value = "200", requires = "soak")]
    pub soak_tasks: u32,

    /// The least number of workers in each
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=120), default_value = "4", requires = "soak")]
    pub soak_workers: u32,

    /// What goes wrong: at least so many kinds of things in each, or which kinds, by name: hang, slow, late-wakes, clock-jump, fails, panics, cancel, kill, no-process,
    /// late-replies, lost-reply, device-lost, memory-full, transfer-fails, refuses, late-completions, lost-completion, restart
    #[arg(long, value_name = "N|KIND,KIND", default_value = "2", requires = "soak")]
    pub soak_faults: SoakFaults,
}

/// What goes wrong in worlds.
#[derive(Clone, Debug)]
pub struct SoakFaults {
    /// As it was typed.
    pub text: String,
    /// At least so many kinds of things in each.
    pub least: u32,
    /// The kinds that may.
    pub kinds: FaultKinds,
}

impl FromStr for SoakFaults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(least) = text.parse() {
            return if least <= FaultKinds::ALL.count() {
                Ok(Self { text: text.into(), least, kinds: FaultKinds::ALL })
            } else {
                Err(format!("there are {} kinds of things that go wrong", FaultKinds::ALL.count()))
            };
        }
        let unknown = |name: &str| format!("`{name}` is neither a number nor one of {}", Chaos::KINDS.join(", "));
        let kinds = FaultKinds::of(text.split(',').map(str::trim)).map_err(unknown)?;
        Ok(Self { text: text.into(), least: kinds.count().min(2), kinds })
    }
}

/// Graphs that arrive over time.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "To have graphs arrive over time, under a policy that decides as it goes")]
pub struct StreamOptions {
    /// When they arrive: poisson:rate=R (R a second in the mean), periodic:every=S (seconds), trace:FILE (a table with commas and the columns arrival, workload, priority, patience)
    #[arg(long, value_name = "HOW", conflicts_with = "soak")]
    pub arrivals: Option<String>,

    /// Another workload: each graph that arrives is one of them, by lot (may be given several times)
    #[arg(long, value_name = "WORKLOAD", value_hint = ValueHint::FilePath, requires = "arrivals")]
    pub also: Vec<PathBuf>,

    /// How many graphs arrive, unless a trace says when each does
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=10_000_000), default_value = "100", requires = "arrivals")]
    pub graphs: u32,

    /// Each graph has one of these priorities, by lot; larger comes first
    #[arg(long, value_name = "LIST", value_delimiter = ',', allow_hyphen_values = true, requires = "arrivals")]
    pub priorities: Vec<i32>,

    /// A graph that is not over so long after its arrival is cancelled
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS", requires = "arrivals")]
    pub patience: Option<f64>,
}

/// What is other in a simulation than the workload and the platform say.
#[derive(Args, Clone, Debug)]
pub struct MachineOptions {
    /// How long tasks take: exact, scaled:F, lognormal:CV, measured (by the platform's spreads), sampled (as another task of the same code)
    #[arg(long, value_name = "HOW", default_value = "exact")]
    pub durations: Durations,

    /// What policies and planners believe: exact, mean (of the code), user (what is written down), wrong:F (by a factor up to F), blind
    #[arg(long, value_name = "HOW", default_value = "exact")]
    pub estimates: Estimates,

    /// How transfers share links, instead of what the platform says: none, max-min, queue
    #[arg(long, value_name = "HOW")]
    pub sharing: Option<Sharing>,

    /// Only these of the platform's overheads: submit, dispatch, hop, launch, allocation
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "no_overheads")]
    pub overheads: Option<Vec<String>>,

    /// None of the platform's overheads
    #[arg(long)]
    pub no_overheads: bool,
}

/// What run times are rounded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RoundCosts {
    /// Whole milliseconds
    Ms,
}
