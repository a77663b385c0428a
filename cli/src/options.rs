//! What the user typed.

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{NonEmptyStringValueParser, PossibleValue, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use poniard::policy::POLICIES;
use poniard_bench::CASES;
use poniard_scheduler_sim::plan::PLANNERS;

use crate::commands::adversary::AdversaryOptions;
use crate::commands::compare::CompareOptions;
use crate::commands::explore::ExploreOptions;
use crate::commands::platform::PlatformOptions;
use crate::commands::predict::PredictOptions;
use crate::commands::replay::ReplayOptions;
use crate::exit_code;

mod simulate;

pub use simulate::{MachineOptions, RoundCosts, SimEngine, SimulateOptions, SoakFaults, SoakOptions, StreamOptions};

/// Heading of the options that say what to compute.
const WHAT: &str = "What to compute (each sample heeds some of these, see `poniard samples`)";
/// Heading of the options that say where to compute.
const WHERE: &str = "Where to compute";

/// Run computations made of many tasks on everything this machine has.
#[derive(Debug, Parser)]
#[command(name = "poniard", version, propagate_version = true, max_term_width = 100)]
#[command(long_about = "Run computations made of many tasks on everything this machine has.

A computation is a sample, which comes with the command, or a graph file, which you write. Tasks run on processors. \
Processors come from backends, and a backend is a plugin file called libponiard_backend_<name>.so, which is looked for, in this order, at the paths given \
with --plugin, at those in the environment variable PONIARD_BACKEND_PATH (separated by colons), beside this command, and in ../lib/poniard from there.")]
#[command(after_help = "Start with `poniard samples`; `poniard help run` says more than `poniard run -h`.")]
#[command(after_long_help = long_after_help())]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Examples and exit codes.
fn long_after_help() -> String {
    format!(
        "\
Examples:
  poniard samples                          what can be run
  poniard run life --threads 2             run a sample on two threads
  poniard run cholesky --processes 2       run a sample on threads and two worker processes
  poniard run matmul --backend vulkan      run a sample on Vulkan devices and threads
  poniard run ./graph.toml                 run your own graph file
  poniard processors                       what it would run on
  poniard bench --quick                    what a task costs here
  poniard install --prefix ~/.local        put the command and its plugins there

{}",
        exit_code::HELP
    )
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a sample or a graph file
    #[command(
        long_about = "Run a sample or a graph file.

A sample prints its result, then what ran where and how long, then whether the result agrees with an independent computation, then the file that it wrote. \
An output file appears when it is complete, or not at all.",
        after_long_help = run_after_long_help()
    )]
    Run(Box<RunOptions>),
    /// List the samples and the options that each of them heeds
    #[command(after_long_help = "Examples:\n  poniard samples\n  poniard samples --json | jq -r '.[].name'")]
    Samples(ListOptions),
    /// List the kernels that graph files can name, with their signatures
    #[command(after_long_help = "Examples:\n  poniard kernels\n  poniard kernels --json | jq -r '.[].signature'")]
    Kernels(ListOptions),
    /// List the policies that decide where and when tasks run, and the plugin files they come from
    #[command(
        long_about = "List the policies that `poniard run --policy NAME` takes: those that come with the command, and those of plugin files called \
libponiard_policy_<name>.so, which are looked for where backends are; then the plugin files that were refused and why.",
        after_long_help = "Examples:\n  poniard policies\n  poniard policies --plugin target/debug\n  poniard policies --json | jq -r '.policies[].name'"
    )]
    Policies(PoliciesOptions),
    /// Show the processors found, the plugin files they come from, and what was refused
    #[command(
        long_about = "Show what tasks would run on: each backend with its plugin file, version, compiler, memory spaces and processors; then the plugin \
files that were refused and why; then the places that were searched, in order.",
        after_long_help = "Examples:\n  poniard processors\n  poniard processors --backend threads --threads 2\n  poniard processors --plugin target/debug --json"
    )]
    Processors(ProcessorsOptions),
    /// Simulate a workload on a machine that need not be there, under any policy
    #[command(
        long_about = "Simulate a workload on a machine that need not be there, under any policy.

A workload is a file in WfFormat (JSON; 1.4, 1.5, 1.6), of the Standard Task Graph Set (.stg, times as milliseconds), in Pegasus DAX (XML), in DOT (.dot; node attributes \
work in seconds and code, edge attribute bytes), a graph file of \
`poniard run` (.toml, .json; it says no times, so each task takes a millisecond) or what `poniard run --record` has written, each also compressed (.gz); \
or a shape and its size: layered, fork-join, cholesky, lu, qr, stencil, fft, tree, chain, independent or random, with ccr=X for how long data travels at 1 GB/s beside how \
long tasks take, tile=N for tiles of N x N numbers of 4 bytes instead, and seed=N. \
Policies that run live decide as the run goes, by the very code that decides in a real run; planners know the whole graph before. Nothing takes real time, and the same \
seed gives the same result everywhere.",
        after_long_help = simulate_after_long_help()
    )]
    Simulate(Box<SimulateOptions>),
    /// Compare policies over workloads, platforms and seeds, and say how sure the difference is
    #[command(
        long_about = "Compare policies over workloads, platforms and seeds, and say how sure the difference is.

Each policy runs each workload on each platform with each seed, as `poniard simulate` runs it. Makespans of the same workload, platform and seed are compared: the table has for each policy \
the geometric mean of the ratios to the baseline, the interval in which it lies with a confidence of 95 %, and how likely such ratios are if there is no difference. The result is the same with any number \
of --jobs. With --results a run that was interrupted goes on where it was.",
        after_long_help = "Examples:
  poniard compare --policies heft,peft,late-binding --workloads cholesky:8 lu:6 random:100,seed=* --speeds 1,1,2,4 --bandwidth 1e9 --seeds 1..20
  poniard compare --policies heft,late-binding --workloads montage.json,robot.stg --platforms p4.toml,p8.toml --seeds 1..20 --durations lognormal:0.3 --estimates mean
  poniard compare --policies fifo,heft --workloads cholesky:8 --speeds 1,1 --results results.jsonl --csv runs.csv
  poniard compare --policies earliest-finish,./mine.so --workloads random:200,seed=* --speeds 1,2 --seeds 1..50 --json | jq '.policies[].ratio'"
    )]
    Compare(Box<CompareOptions>),
    /// Search for a graph and a machine on which one policy loses most to another
    #[command(
        long_about = "Search for a graph and a machine on which one policy loses most to another.

Averages hide where a policy is bad. Graphs and machines within bounds are changed by lot, a step at a time, towards those on which --policy takes longest beside --against (simulated annealing). What is found is \
made smaller as long as the ratio stays, and written to files that `poniard simulate` runs. The same seed finds the same with any number of --jobs.",
        after_long_help = "Examples:
  poniard adversary --policy heft --against peft --output found.json
  poniard adversary --policy late-binding --against exhaustive --tasks 6 --budget 2000 --seed 7 --output found.json
  poniard adversary --policy fifo --against heft --platform p8.toml --tasks 30 --output found.json"
    )]
    Adversary(AdversaryOptions),
    /// Play every order in which the runtime can compute a small graph
    #[command(
        long_about = "Play every order in which the runtime can compute a small graph: which thread goes on first, what of several things that happen at one time comes first, from which of several workers one \
steals. The whole runtime runs in virtual time, once for each order, and in each it is looked whether every task ran once, after all that it depends on, with the right result, and whether a worker slept \
beside something to do. What an order takes, and what is asked for with --before and --within-ns, is looked at as well. An order that goes wrong is told as --choices, which plays it alone.",
        after_long_help = "Examples:
  poniard explore fork-join:5 --workers 2
  poniard explore graph.dot --workers 3 --bodies equal --limit 1000000
  poniard explore graph.dot --before load:report        # whether the graph has all the dependencies that it needs
  poniard explore graph.dot --before load:report --choices 0,1,0,2"
    )]
    Explore(ExploreOptions),
    /// Predict how long a recorded run takes on other workers and under other policies
    #[command(
        long_about = "Predict how long a recorded run takes on other workers and under other policies. `poniard run --record FILE` writes a recording: which tasks ran, after which \
others, when and where. The prediction runs the same tasks in virtual time, each as long as it took by itself and as the runtime took between two. Where a recording of the same \
computation tells how long it really took, the error is shown.",
        after_long_help = "Examples:\n  poniard run cholesky --threads 1 --record one.json\n  poniard predict one.json --workers 1,2,4,8\n  \
poniard run cholesky --threads 2 --policy fifo --record two.json\n  poniard predict one.json --beside two.json --policy fifo,heft"
    )]
    Predict(PredictOptions),
    /// Have a policy decide again about a recorded run, and say whether it decides the same
    #[command(
        long_about = "Have a policy decide again about a recorded run, and say whether it decides the same. `poniard run --policy NAME --record FILE` writes down all that the policy was asked and told, when, and what was decided. \
Here the same code is asked and told the same at the same times, and each decision is compared. What was decided then happens, whatever the policy says now, so that one difference is not the cause of others. \
Without a difference the exit code is 0, else 1, and the first one is said with its task and its time.",
        after_long_help = "Examples:\n  poniard run cholesky --threads 4 --policy earliest-finish --record four.json\n  poniard replay four.json\n  poniard replay four.json --policy heft\n  poniard replay four.json --json | jq .placed"
    )]
    Replay(ReplayOptions),
    /// Write this machine down as a platform for `poniard simulate`
    #[command(
        long_about = "Write this machine down as a platform for `poniard simulate`: its threads, worker processes and devices, how fast devices were beside the host in what both \
have run, and what links gave, as far as `poniard models` knows.",
        after_long_help = "Examples:\n  poniard platform --from-this-machine --output here.toml\n  poniard platform --from-this-machine --threads 16 | poniard simulate cholesky:16 --platform /dev/stdin"
    )]
    Platform(PlatformOptions),
    /// Show what runs have measured on this machine: what code and transfers cost
    #[command(
        long_about = "Show what runs have measured on this machine: what kernels and functions cost at each size on each class of processors, and what it costs to \
bring data from one memory to another. The figures are kept in a file for each machine, in poniard/models in XDG_CACHE_HOME or ~/.cache.",
        after_long_help = "Examples:\n  poniard models\n  poniard models --json | jq '.[].codes[] | {name, on}'\n  poniard models --clear"
    )]
    Models(ModelsOptions),
    /// Measure what a task costs on this machine
    #[command(
        long_about = "Measure what a task costs on this machine, and say how much work makes a task worth spawning.

Each case is measured several times. The table shows the least and the middle of the figures, and the least as a multiple of that of the case's first system. \
poniard-spawn is the runtime with every task spawned one by one, poniard-join is two closures at a time over borrowed data, poniard-rerun is a run of a graph that \
was built before, poniard-build-run all that a graph takes which is run once, limit is what the machine takes without any runtime. The bodies of tasks do next \
to nothing, and what they did is checked. All cases take some ten seconds, with --quick a few. Anything else that runs makes figures larger, and the command slower.",
        after_long_help = bench_after_long_help(),
        // Figures of different machines, and those in the documents, can be compared only with the same number.
        mut_arg("threads", |threads| threads.help("How many threads the threads backend has [default: 2]"))
    )]
    Bench(BenchOptions),
    /// Print a completion script for a shell
    #[command(after_long_help = "Examples:
  poniard completions bash > ~/.local/share/bash-completion/completions/poniard
  poniard completions zsh > ~/.zfunc/_poniard
  poniard completions fish > ~/.config/fish/completions/poniard.fish")]
    Completions(CompletionsOptions),
    /// Copy this command and the plugin files that it found to a folder
    #[command(
        long_about = "Copy this command to DIR/bin/poniard and every plugin file that it found and could load to DIR/lib/poniard, where the installed \
command looks for them. Each file is complete under its name or not there; older ones are replaced.",
        after_long_help = "Examples:\n  poniard install --prefix ~/.local\n  poniard install --prefix /opt/poniard --plugin ./my-plugins"
    )]
    Install(InstallOptions),
}

/// Policies and examples of `simulate`.
fn simulate_after_long_help() -> String {
    let live = POLICIES.iter().map(|known| (known.name, known.summary));
    let planners = PLANNERS.iter().map(|planner| (planner.name, planner.summary));
    let width = live.clone().chain(planners.clone()).map(|(name, _)| name.len()).max().unwrap_or(0);
    let list = |policies: &mut dyn Iterator<Item = (&str, &str)>| {
        policies.map(|(name, summary)| format!("  {name:width$}  {summary}")).collect::<Vec<_>>().join("\n")
    };
    format!(
        "\
Policies that run live:
{}

Planners, which know the whole graph before (write live:heft for the policy where both have a name):
{}

A platform file:
  [link]                  # between any two memory spaces
  bandwidth = 12.5e9      # bytes per second; without it data is everywhere at once
  latency = 10e-6         # seconds

  [[processor]]
  kind = \"cpu\"
  count = 4
  speed = 1.0             # work takes that many times less
  space = \"host\"          # without it each has a memory of its own

It may also say how links are shared, how much memory there is, what a task costs besides, and what each code takes where: see docs/SIMULATING.md. A file of \
measurements (.json) is a platform as well.

Examples:
  poniard simulate montage.json --speeds 1,1,2,4 --bandwidth 131072000 --policy heft
  poniard simulate montage.json.gz --platform p8.toml --policy earliest-finish --seed 7
  poniard simulate cholesky:20,ccr=0.5 --speeds 1,1,8 --bandwidth 1e9 --policy peft
  poniard simulate montage.json --platform p8.toml --policy heft --durations lognormal:0.3 --estimates wrong:2 --seed 7
  poniard simulate robot.stg --speeds 1,1,1,1 --policy live:heft --json | jq .makespan_ns
  poniard simulate cholesky:8,ccr=1 --speeds 1,1,4 --bandwidth 1e9 --trace run.json --gantt run.svg --csv run.csv
  poniard simulate montage.json --platform p8.toml --policy ./libponiard_policy_mine.so
  poniard simulate --soak --seeds 100000     # whether the runtime gets through whatever goes wrong",
        list(&mut live.clone()),
        list(&mut planners.clone())
    )
}

/// Examples and exit codes of `run`.
fn run_after_long_help() -> String {
    format!(
        "\
Examples:
  poniard run hello
  poniard run convolve --input photo.png --output edges.png
  poniard run life --size 512 --generations 100 --threads 2
  poniard run ./graph.toml --seed 7
  poniard run hello --json | jq .elapsed_ns

With --json, standard output holds exactly one JSON object when there is a result, and nothing when there is none; what went wrong is on standard error.

{}",
        exit_code::HELP
    )
}

/// Cases and examples of `bench`.
fn bench_after_long_help() -> String {
    let width = CASES.iter().map(|case| case.name.len()).max().unwrap_or(0);
    let cases: Vec<String> = CASES.iter().map(|case| format!("  {:width$}  {} ({})", case.name, case.summary, case.unit)).collect();
    format!(
        "\
Cases:
{}

Examples:
  poniard bench
  poniard bench --quick
  poniard bench chain metg-w8 --threads 4
  poniard bench --json | jq -r '[.case, .system, .median] | @tsv'

With --json, standard output holds one JSON object for each line of the table, and nothing else.",
        cases.join("\n")
    )
}

/// `poniard run`.
#[derive(Args, Debug)]
pub struct RunOptions {
    /// A sample's name, or the path of a graph file (.toml or .json)
    ///
    /// A sample's name is always the sample; write ./life for a file of that name.
    #[arg(value_name = "SAMPLE|FILE", value_parser = NonEmptyStringValueParser::new(), value_hint = ValueHint::FilePath)]
    pub target: String,

    /// How large the problem is, in the sample's own unit
    #[arg(long, value_name = "N", value_parser = number, help_heading = WHAT)]
    pub size: Option<u64>,

    /// The edge of a tile, which is the work of one task
    #[arg(long, value_name = "N", value_parser = number, help_heading = WHAT)]
    pub tile: Option<u64>,

    /// A file to read; give it again for more files
    #[arg(long = "input", value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = WHAT)]
    pub inputs: Vec<PathBuf>,

    /// The file to write the result to
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = WHAT)]
    pub output: Option<PathBuf>,

    /// The seed of random numbers; the same seed gives the same result [default: 0]
    #[arg(long, value_name = "N", value_parser = number, help_heading = WHAT)]
    pub seed: Option<u64>,

    /// A kernel, by name or as numbers
    #[arg(long, value_name = "KERNEL", help_heading = WHAT, allow_hyphen_values = true)]
    pub kernel: Option<String>,

    /// How many generations to compute
    #[arg(long, value_name = "N", value_parser = number, help_heading = WHAT)]
    pub generations: Option<u64>,

    /// Where to compute.
    #[command(flatten)]
    pub runtime: RuntimeOptions,

    /// Say why tasks ran where they ran, of all that had a choice or of those with NAME in their names
    ///
    /// A summary first: how many tasks had a choice, what was guessed, what was moved and why workers had nothing to do; then for each task the places that it could have
    /// run at, with what was expected of each.
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true, default_missing_value = "", help_heading = WHERE)]
    pub explain: Option<String>,

    /// Write down which tasks ran, after which others, when and where, for `poniard predict` and `poniard simulate`, and with --policy what was decided, for `poniard replay` (JSON)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = WHERE)]
    pub record: Option<PathBuf>,

    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

impl RunOptions {
    /// The names of the options given that say what to compute, as [`crate::sample::SampleOption`] spells them.
    pub fn given(&self) -> Vec<&'static str> {
        let all = [
            ("size", self.size.is_some()),
            ("tile", self.tile.is_some()),
            ("input", !self.inputs.is_empty()),
            ("output", self.output.is_some()),
            ("seed", self.seed.is_some()),
            ("kernel", self.kernel.is_some()),
            ("generations", self.generations.is_some()),
        ];
        all.into_iter().filter_map(|(name, given)| given.then_some(name)).collect()
    }
}

/// Where to compute.
#[derive(Args, Clone, Debug, Default)]
pub struct RuntimeOptions {
    /// Use only this backend; give it again to use more [default: all that are found]
    ///
    /// The backends are threads, process, vulkan, and those of your own plugin files. With vulkan alone, its devices are used besides the threads; whoever names it has
    /// its software devices used as well, where there are no others.
    #[arg(long = "backend", value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), help_heading = WHERE)]
    pub backends: Vec<String>,

    /// How many threads the threads backend has [default: one for each core]
    #[arg(long, value_name = "N", value_parser = thread_count, help_heading = WHERE)]
    pub threads: Option<NonZeroUsize>,

    /// How many worker processes run tasks besides the threads [default: 0]
    #[arg(long, value_name = "N", value_parser = process_count, help_heading = WHERE)]
    pub processes: Option<u16>,

    /// The policy that places every task [default: tasks that every worker may run are stolen; kernels that devices can run as well go where they finish first]
    ///
    /// Or one of a plugin file, by name, or by a path with a / in it; see `poniard policies`.
    #[arg(long, value_name = "NAME", value_parser = PolicyParser, help_heading = WHERE)]
    pub policy: Option<String>,

    /// How many bytes the memory of buffers may take: 512MiB, 2GiB [default: seven eighths of what there is]
    ///
    /// What does not fit goes to the disk while it is not needed.
    #[arg(long, value_name = "BYTES", value_parser = NonEmptyStringValueParser::new(), help_heading = WHERE)]
    pub memory_limit: Option<String>,

    /// A plugin file, or a folder of plugin files, to search first; give it again for more
    #[arg(long = "plugin", value_name = "PATH", value_hint = ValueHint::AnyPath, help_heading = WHERE)]
    pub plugins: Vec<PathBuf>,

    /// A setting for a backend; give it again for more
    ///
    /// placement.devices=always sends kernels to devices wherever one can run them; placement.models=DIR or off is where measured costs are kept.
    /// memory.spill=DIR or off says where results go that do not fit into memory, and memory.spill_limit=BYTES how much of them; memory.spill_compress=true compresses them; threads.pin, threads.name and threads.stack_bytes, and processes.most, processes.prefix and processes.spin are
    /// those of threads and worker processes. Of devices: vulkan.devices=all, none or a list of indexes, parts of names and UUIDs; vulkan.software=true for devices that
    /// the host's own cores play; vulkan.memory=BYTES of each device at most; vulkan.import=false to copy where a device could work in the host's memory;
    /// vulkan.deadline_ms=N, after which a device that does not answer is given up; vulkan.cache=DIR for compiled kernels; vulkan.validation=true for tests.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting, help_heading = WHERE)]
    pub settings: Vec<(String, String)>,
}

/// `poniard samples` and `poniard kernels`.
#[derive(Args, Debug)]
pub struct ListOptions {
    /// Print a JSON array instead of lines
    #[arg(long)]
    pub json: bool,
}

/// `poniard processors`.
#[derive(Args, Debug)]
pub struct ProcessorsOptions {
    /// Where to compute.
    #[command(flatten)]
    pub runtime: RuntimeOptions,

    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// `poniard policies`.
#[derive(Args, Debug)]
pub struct PoliciesOptions {
    /// A plugin file, or a folder of plugin files, to search first; give it again for more
    #[arg(long = "plugin", value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub plugins: Vec<PathBuf>,

    /// Print a JSON array instead of lines
    #[arg(long)]
    pub json: bool,
}

/// `poniard models`.
#[derive(Args, Debug)]
pub struct ModelsOptions {
    /// The folder of the files, if it is another one
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub folder: Option<PathBuf>,

    /// Remove the files, those of other machines and damaged ones, too
    #[arg(long, conflicts_with = "json")]
    pub clear: bool,

    /// Print a JSON array instead of tables
    #[arg(long)]
    pub json: bool,
}

/// `poniard bench`.
#[derive(Args, Debug)]
pub struct BenchOptions {
    /// What to measure [default: all cases, which --help lists]
    #[arg(value_name = "CASE", value_parser = NonEmptyStringValueParser::new())]
    pub cases: Vec<String>,

    /// Take a few seconds: fewer samples, an eighth of the tasks, and growth-1e6 and growth-1e7 only when named
    #[arg(long)]
    pub quick: bool,

    /// Where to compute.
    #[command(flatten)]
    pub runtime: RuntimeOptions,

    /// Print one JSON object a line instead of a table
    #[arg(long)]
    pub json: bool,
}

/// `poniard completions`.
#[derive(Args, Debug)]
pub struct CompletionsOptions {
    /// The shell
    pub shell: Shell,
}

/// `poniard install`.
#[derive(Args, Debug)]
pub struct InstallOptions {
    /// The folder to install to; it is made if it is not there
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub prefix: PathBuf,

    /// A plugin file, or a folder of plugin files, to search first; give it again for more
    #[arg(long = "plugin", value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub plugins: Vec<PathBuf>,
}

/// A whole number.
fn number(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("it is not a whole number".into());
    }
    text.parse().map_err(|_| format!("it is too large, the largest is {}", u64::MAX))
}

/// Takes the name of a policy. Those that come with the command are in the help and are completed; others are in plugin files.
#[derive(Clone)]
struct PolicyParser;

impl TypedValueParser for PolicyParser {
    type Value = String;

    fn parse_ref(&self, command: &clap::Command, argument: Option<&clap::Arg>, value: &OsStr) -> Result<String, clap::Error> {
        NonEmptyStringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(POLICIES.iter().map(|known| PossibleValue::new(known.name).help(known.summary))))
    }
}

/// A number of threads.
fn thread_count(text: &str) -> Result<NonZeroUsize, String> {
    let threads = usize::try_from(number(text)?).map_err(|_| format!("it is too large, the largest is {}", usize::MAX))?;
    NonZeroUsize::new(threads).ok_or_else(|| "at least one thread is needed to run anything".into())
}

/// A number of worker processes.
fn process_count(text: &str) -> Result<u16, String> {
    const MOST: u16 = 1024;
    number(text)?.try_into().ok().filter(|count| *count <= MOST).ok_or_else(|| format!("it is too large, the largest is {MOST}"))
}

/// A setting as `NAME=VALUE`.
fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("a setting is written NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Options, number, process_count, setting, thread_count};

    #[test]
    fn clap_finds_no_mistake() {
        Options::command().debug_assert();
    }

    #[test]
    fn numbers_are_checked() {
        assert_eq!(number("18446744073709551615"), Ok(u64::MAX));
        assert!(number("18446744073709551616").unwrap_err().contains("too large"));
        for text in ["", "-1", "+1", "1.5", "x", " 1"] {
            assert!(number(text).unwrap_err().contains("whole number"), "{text:?}");
        }
        assert!(thread_count("0").unwrap_err().contains("at least one"));
        assert_eq!((process_count("0"), process_count("1024")), (Ok(0), Ok(1024)));
        for text in ["1025", "65536", "18446744073709551615"] {
            assert!(process_count(text).unwrap_err().ends_with("the largest is 1024"), "{text}");
        }
        assert!(process_count("-1").unwrap_err().contains("whole number"));
    }

    #[test]
    fn settings_are_split_at_the_first_sign() {
        assert_eq!(setting("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(setting("a="), Ok(("a".into(), String::new())));
        assert!(setting("=b").is_err() && setting("ab").is_err());
    }
}
