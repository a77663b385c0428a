//! `poniard adversary`: an instance on which one policy loses most to another.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::{Args, ValueHint, value_parser};
use poniard_scheduler_sim::adversary::{BYTES_PER_S, Bounds, Found, Instance, Machine, Score, Search, search};
use poniard_scheduler_sim::engine::EngineOptions;
use poniard_scheduler_sim::{Durations, Estimates, Problem};
use serde_json::{Value, json};

use super::decider::Decider;
use super::machine::{self, MachineSource, quoted};
use crate::console::{Console, NAME, QUIET, Styled};
use crate::failure::Failure;
use crate::options::{MachineOptions, SimEngine};
use crate::output::OutputFile;
use crate::progress::ProgressLine;
use crate::report::{counted, digits, duration};
use crate::sample::Progress;

/// Heading of the options that say where it is searched.
const BOUNDS: &str = "Where to search";

/// `poniard adversary`.
#[derive(Args, Debug)]
pub struct AdversaryOptions {
    /// The policy or planner that is to lose, as in `poniard simulate`
    #[arg(long, value_name = "NAME")]
    pub policy: String,

    /// The one that it is to lose to
    #[arg(long, value_name = "NAME")]
    pub against: String,

    /// Where random numbers begin
    #[arg(long, value_name = "N", value_parser = value_parser!(u64), default_value = "0")]
    pub seed: u64,

    /// How many instances to look at
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=1_000_000_000), default_value = "10000")]
    pub budget: u64,

    /// The file to write the instance to (WfFormat JSON); its machine goes to a file of the same name that ends with .toml
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,

    /// How many searches at a time [default: as many as the machine has processors]
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,

    /// The most tasks
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=1000), default_value = "10", help_heading = BOUNDS)]
    pub tasks: u64,

    /// The longest that a task takes on a processor of speed 1, in milliseconds; the shortest is 1
    #[arg(long, value_name = "MS", value_parser = value_parser!(u64).range(1..=1_000_000), default_value = "100", help_heading = BOUNDS)]
    pub work: u64,

    /// The most bytes of an edge, in megabytes; one takes a millisecond from a processor to another unless --platform says otherwise
    #[arg(long, value_name = "MB", value_parser = value_parser!(u64).range(0..=1_000_000), default_value = "100", help_heading = BOUNDS)]
    pub megabytes: u64,

    /// The most processors
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..=64), default_value = "3", help_heading = BOUNDS)]
    pub processors: u64,

    /// How many times as fast as the slowest a processor is at most
    #[arg(long, value_name = "X", value_parser = value_parser!(u32).range(1..=1000), default_value = "8", help_heading = BOUNDS)]
    pub speed: u32,

    /// The machine, which is not searched for then
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["processors", "speed"], help_heading = BOUNDS)]
    pub platform: Option<PathBuf>,

    /// Where to look for the plugin file of a policy first: a folder or a file; give it again for more
    #[arg(long = "plugin", value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub plugins: Vec<PathBuf>,

    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// Files to write.
struct Outputs {
    graph: OutputFile,
    /// The machine, and its file; nothing where it was given.
    machine: Option<(PathBuf, OutputFile)>,
}

/// Searches.
pub fn adversary(options: &AdversaryOptions, console: &mut Console) -> Result<(), Failure> {
    let plugins = super::search(&options.plugins)?;
    let policy = Decider::named(&options.policy, SimEngine::Board, &plugins, "--policy")?;
    let against = Decider::named(&options.against, SimEngine::Board, &plugins, "--against")?;
    let machine = match &options.platform {
        Some(path) => {
            let source = MachineSource { platform: Some(path), speeds: None, bandwidth: None };
            Machine::Given(Box::new(machine::platform(&source, &AS_IT_IS)?))
        }
        None => Machine::Searched { processors: options.processors as usize },
    };
    let bounds = Bounds { tasks: options.tasks as usize, work_ms: options.work, megabytes: options.megabytes, speed: options.speed };
    check_counts(&policy, &against, &bounds)?;
    let outputs = Outputs::prepare(options)?;
    let failure: Mutex<Option<Failure>> = Mutex::new(None);
    let measure = |problem: &Problem<'_>| {
        let makespan_ns = |decider: &Decider| {
            decider.check(problem).ok()?;
            let decided = decider.decide_and_check(problem, EngineOptions { seed: options.seed, ..EngineOptions::default() });
            let decided = decided.map_err(|error| _ = failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error));
            Some(decided.ok()?.schedule.makespan_ns())
        };
        Some(Score { policy_ns: makespan_ns(&policy)?, against_ns: makespan_ns(&against)? })
    };
    let jobs = options.jobs.or(std::thread::available_parallelism().ok()).map_or(1, usize::from);
    let wanted = Search { seed: options.seed, budget: options.budget, bounds, machine };
    let found = {
        let line = ProgressLine::of("adversary", "instances", !options.json);
        search(&wanted, jobs, &measure, &|looked_at| line.advance(looked_at, options.budget))
    };
    if let Some(failure) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(failure);
    }
    let Some(found) = found else {
        return Err(Failure::input("the two policies could run none of the instances: a task of code `task` finds no processor"));
    };
    let replays = [&options.policy, &options.against].map(|name| replay(options, name));
    let written = outputs.write(&found)?;
    tell(options, &found, &replays, &written, console)
}

/// Nothing is other than the platform says.
const AS_IT_IS: MachineOptions =
    MachineOptions { durations: Durations::Exact, estimates: Estimates::Exact, sharing: None, overheads: None, no_overheads: false };

/// Whether both take as many tasks as there may be.
fn check_counts(policy: &Decider, against: &Decider, bounds: &Bounds) -> Result<(), Failure> {
    for (option, decider) in [("--policy", policy), ("--against", against)] {
        decider
            .check_count(bounds.tasks)
            .map_err(|reason| Failure::usage(format_args!("{option}: {reason}; --tasks says how many there may be")))?;
    }
    Ok(())
}

/// The file of the machine beside that of the graph.
fn machine_file(graph: &Path) -> PathBuf {
    graph.with_extension("toml")
}

impl Outputs {
    fn prepare(options: &AdversaryOptions) -> Result<Self, Failure> {
        let graph = OutputFile::prepare(&options.output)?;
        if options.platform.is_some() {
            return Ok(Self { graph, machine: None });
        }
        if options.output.extension().is_some_and(|extension| extension == "toml") || options.output.file_name().is_none() {
            return Err(Failure::usage(format_args!(
                "--output {}: the machine has that name; let it end with .json",
                options.output.display()
            )));
        }
        let path = machine_file(&options.output);
        let machine = OutputFile::prepare(&path)?;
        Ok(Self { graph, machine: Some((path, machine)) })
    }

    /// Writes both, and says so in lines.
    fn write(mut self, found: &Found) -> Result<Vec<String>, Failure> {
        let mut lines = Vec::new();
        let mut wrote = |file: &Path, bytes: u64| lines.push(format!("wrote        {} ({} bytes)", file.display(), digits(bytes)));
        let bytes = self.graph.fill(found.instance.workload().to_wfformat().as_bytes())?;
        wrote(self.graph.path(), bytes);
        if let Some((path, mut file)) = self.machine {
            let bytes = file.fill(found.instance.platform_toml(BYTES_PER_S).as_bytes())?;
            wrote(&path, bytes);
            file.commit()?;
        }
        self.graph.commit()?;
        Ok(lines)
    }
}

/// The command that runs the instance under one of the two.
fn replay(options: &AdversaryOptions, policy: &str) -> String {
    let platform = options.platform.clone().unwrap_or_else(|| machine_file(&options.output));
    let mut words = vec![
        "poniard simulate".to_owned(),
        quoted(&options.output.display().to_string()),
        format!("--platform {}", quoted(&platform.display().to_string())),
    ];
    words.extend(machine::run_words(SimEngine::Board, None, &options.plugins));
    words.push(format!("--policy {} --seed {}", quoted(policy), options.seed));
    words.join(" ")
}

fn sizes(instance: &Instance) -> Value {
    json!({ "tasks": instance.task_count(), "edges": instance.edge_count(), "processors": instance.speeds().len() })
}

fn size_words(instance: &Instance) -> String {
    let count = |number: usize, thing: &str| counted(number as u64, thing);
    let graph = format!("{} and {}", count(instance.task_count(), "task"), count(instance.edge_count(), "edge"));
    match instance.speeds().len() {
        0 => graph,
        processors => format!("{graph} on {}", count(processors, "processor")),
    }
}

fn tell(
    options: &AdversaryOptions,
    found: &Found,
    replays: &[String; 2],
    written: &[String],
    console: &mut Console,
) -> Result<(), Failure> {
    let AdversaryOptions { policy, against, .. } = options;
    let Score { policy_ns, against_ns } = found.score;
    if options.json {
        let mut answer = json!({
            "policy": policy,
            "against": against,
            "seed": options.seed,
            "ratio": found.score.ratio(),
            "policy_makespan_ns": policy_ns,
            "against_makespan_ns": against_ns,
            "looked_at": found.looked_at,
            "found": sizes(&found.before),
            "shrunk": sizes(&found.instance),
            "replay": replays,
        });
        if options.platform.is_some()
            && let Some(answer) = answer.as_object_mut()
        {
            answer.insert("platform".into(), json!(options.platform.as_ref().map(|path| path.display().to_string())));
        }
        return console.line(answer);
    }
    console.line(format_args!("{}: {policy} takes {:.3} times as long as {against}", Styled(NAME, "adversary"), found.score.ratio()))?;
    let time = |ns: u64| format!("{} ({} ns)", duration(Duration::from_nanos(ns)), digits(ns));
    console.line(format_args!("{policy:12} {}", time(policy_ns)))?;
    console.line(format_args!("{against:12} {}", time(against_ns)))?;
    console.line(format_args!(
        "found        among {}: {}, made smaller to {}",
        counted(found.looked_at, "instance"),
        size_words(&found.before),
        size_words(&found.instance)
    ))?;
    for line in written {
        console.line(line)?;
    }
    replays.iter().try_for_each(|replay| console.line(Styled(QUIET, format_args!("replay       {replay}"))))
}
