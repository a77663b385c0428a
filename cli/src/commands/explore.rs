//! `poniard explore`: every order in which the runtime can compute a small graph.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum, ValueHint, value_parser};
use poniard_scheduler_sim::world::{Chaos, Explored, Extreme, FoundOrder, Ran, Script, explore as all_orders, run_order};
use poniard_scheduler_sim::{Platform, Problem, Workload};
use serde_json::{Value, json};

use super::decider::Decider;
use super::machine::{self, quoted};
use crate::console::{Console, NAME, QUIET, Styled};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::options::SimEngine;
use crate::progress::ProgressLine;
use crate::report::{counted, digits, duration};
use crate::sample::Progress;

/// The most tasks: orders are more than anybody can wait for long before that.
const TASKS_MOST: usize = 200;
/// What each task takes with `--bodies equal`, in nanoseconds.
const EQUAL_NS: u64 = 1_000_000;

/// `poniard explore`.
#[derive(Args, Debug)]
pub struct ExploreOptions {
    /// A small workload, as in `poniard simulate`; how many bytes travel makes no difference
    #[arg(value_name = "GRAPH", value_hint = ValueHint::FilePath)]
    pub graph: PathBuf,

    /// How many workers
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=16), default_value = "2")]
    pub workers: u32,

    /// The policy, one that runs live; own is the runtime without one
    #[arg(long, value_name = "NAME", default_value = "own")]
    pub policy: String,

    /// How long the bodies of tasks take
    #[arg(long, value_enum, default_value = "written")]
    pub bodies: Bodies,

    /// The body of this task panics; give it again for more
    #[arg(long, value_name = "TASK")]
    pub panics: Vec<String>,

    /// The body of this task returns an error the first time, and is run again; give it again for more
    #[arg(long, value_name = "TASK")]
    pub fails: Vec<String>,

    /// An order in which the second task begins before the first is over is a failure; give it again for more
    #[arg(long, value_name = "TASK:TASK")]
    pub before: Vec<String>,

    /// An order that takes longer than so many nanoseconds is a failure
    #[arg(long, value_name = "NS")]
    pub within_ns: Option<u64>,

    /// How many orders at most
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..), default_value = "100000")]
    pub limit: u64,

    /// Play this order only: which comes next each time that there is a choice, from 0 on; behind the last one always the first
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "limit")]
    pub choices: Option<Vec<u32>>,

    /// Where random numbers of policies begin
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,

    /// Where to look for the plugin file of a policy first: a folder or a file; give it again for more
    #[arg(long = "plugin", value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub plugins: Vec<PathBuf>,

    /// Print one JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// How long bodies take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bodies {
    /// As the workload says
    Written,
    /// A millisecond each, so that many end at a time
    Equal,
    /// No time at all
    None,
}

impl Bodies {
    fn word(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Equal => "equal",
            Self::None => "none",
        }
    }
}

/// What is looked at in each order.
struct Wanted {
    /// Pairs of tasks, by their numbers in the script, with the names of both.
    before: Vec<(usize, usize, String)>,
    within_ns: Option<u64>,
}

impl Wanted {
    fn check(&self, ran: &Ran) -> Result<(), String> {
        for (first, second, names) in &self.before {
            let schedule = &ran.schedule;
            let has_run = |task: usize| schedule.processor[task] != u32::MAX;
            if has_run(*second) && (!has_run(*first) || schedule.start_ns[*second] < schedule.end_ns[*first]) {
                return Err(format!("--before {names}: the second begins at {} ns, before the first is over", schedule.start_ns[*second]));
            }
        }
        let makespan_ns = ran.schedule.makespan_ns();
        match self.within_ns {
            Some(within_ns) if makespan_ns > within_ns => Err(format!("it takes {makespan_ns} ns, longer than {within_ns} ns")),
            _ => Ok(()),
        }
    }
}

/// Explores.
pub fn explore(options: &ExploreOptions, console: &mut Console) -> Result<(), Failure> {
    let plugins = super::search(&options.plugins)?;
    let decider = Decider::named(&options.policy, SimEngine::Runtime, &plugins, "--policy")?;
    let workload = machine::workload(&options.graph, None, false)?;
    if workload.len() > TASKS_MOST {
        return Err(Failure::usage(format_args!(
            "`{}` has {} tasks, and all orders of more than {TASKS_MOST} are too many to begin with",
            options.graph.display(),
            workload.len()
        )));
    }
    let speeds = vec![1.0; options.workers as usize];
    let platform = Platform::of_speeds(&speeds, None).map_err(Failure::usage)?;
    let problem = Problem::new(&workload, &platform);
    let (mut script, order) = Script::of(&problem, decider.runtime_policy(), options.seed);
    let number = |name: &str, option: &str| number(&workload, &order, name, option);
    match options.bodies {
        Bodies::Written => {}
        Bodies::Equal => script.tasks.iter_mut().for_each(|task| task.costs = Box::from([EQUAL_NS])),
        Bodies::None => script.tasks.iter_mut().for_each(|task| task.costs = Box::from([0])),
    }
    script.columns = Arc::from(vec![0; options.workers as usize]);
    for name in &options.panics {
        script.chaos.push(Chaos::Panics { task: number(name, "--panics")? as u32 });
    }
    for name in &options.fails {
        script.chaos.push(Chaos::Fails { task: number(name, "--fails")? as u32, times: 1 });
    }
    let mut before = Vec::new();
    for pair in &options.before {
        let (first, second) = split(&workload, pair)?;
        before.push((number(first, "--before")?, number(second, "--before")?, pair.clone()));
    }
    let wanted = Wanted { before, within_ns: options.within_ns };
    let named = |text: String| with_names(&workload, &order, text);
    match &options.choices {
        Some(choices) => one(options, &script, choices, &wanted, named, console),
        None => all(options, &script, &wanted, named, console),
    }
}

/// The number in the script of a task that is called so in the workload.
fn number(workload: &Workload, order: &[u32], name: &str, option: &str) -> Result<usize, Failure> {
    let at = order.iter().position(|task| workload.task_name(*task as usize) == name);
    at.ok_or_else(|| {
        let names = (0..workload.len()).map(|task| workload.task_name(task));
        let near = names.map(|known| (strsim::osa_distance(name, known), known)).min();
        let hint = near.map(|(_, near)| format!("; did you mean `{near}`?")).unwrap_or_default();
        Failure::usage(format_args!("{option}: no task is called `{name}`{hint}"))
    })
}

/// The names of two tasks with a colon between; in names there may be colons, too.
fn split<'p>(workload: &Workload, pair: &'p str) -> Result<(&'p str, &'p str), Failure> {
    let is_task = |name: &str| (0..workload.len()).any(|task| workload.task_name(task) == name);
    let colons = || pair.match_indices(':').map(|(at, _)| (&pair[..at], &pair[at + 1..]));
    let known = colons().find(|(first, second)| is_task(first) && is_task(second)).or_else(|| colons().next());
    known.ok_or_else(|| Failure::usage(format_args!("--before: `{pair}` is no pair of tasks with a colon between")))
}

/// Says behind a text that speaks of tasks by numbers what those are called.
fn with_names(workload: &Workload, order: &[u32], text: String) -> String {
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let mut numbers: Vec<usize> = words
        .windows(2)
        .filter(|pair| ["task", "tasks", "of"].contains(&pair[0]))
        .filter_map(|pair| pair[1].parse().ok())
        .filter(|number| *number < order.len())
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    let names: Vec<String> =
        numbers.iter().map(|number| format!("task {number} is `{}`", workload.task_name(order[*number] as usize))).collect();
    if names.is_empty() { text } else { format!("{text} ({})", names.join(", ")) }
}

fn list(choices: &[u32]) -> String {
    let text: Vec<String> = choices.iter().map(u32::to_string).collect();
    if text.is_empty() { "0".into() } else { text.join(",") }
}

/// The command that plays one order.
fn replay(options: &ExploreOptions, choices: &[u32]) -> String {
    let mut words = vec![
        "poniard explore".to_owned(),
        quoted(&options.graph.display().to_string()),
        format!("--workers {}", options.workers),
        format!("--policy {}", quoted(&options.policy)),
        format!("--bodies {}", options.bodies.word()),
        format!("--seed {}", options.seed),
    ];
    words.extend(options.panics.iter().map(|task| format!("--panics {}", quoted(task))));
    words.extend(options.fails.iter().map(|task| format!("--fails {}", quoted(task))));
    words.extend(options.before.iter().map(|pair| format!("--before {}", quoted(pair))));
    words.extend(options.within_ns.map(|within_ns| format!("--within-ns {within_ns}")));
    words.extend(machine::run_words(SimEngine::Board, None, &options.plugins));
    words.push(format!("--choices {}", list(choices)));
    words.join(" ")
}

/// Plays one order.
fn one(
    options: &ExploreOptions,
    script: &Script,
    choices: &[u32],
    wanted: &Wanted,
    named: impl Fn(String) -> String,
    console: &mut Console,
) -> Result<(), Failure> {
    let (ran, made) = run_order(script, choices.to_vec());
    let checked = ran.map_err(|failure| failure.to_string()).and_then(|ran| wanted.check(&ran).map(|()| ran));
    // An order that ends early with what is wrong has made no more choices.
    if let Some(misfit) = made.check().err().filter(|misfit| misfit.of > 0 || checked.is_ok() && misfit.given > 0) {
        return Err(Failure::usage(format_args!("--choices: {misfit}")));
    }
    let ran = checked.map_err(|text| Failure::new(ExitCode::Task, named(text)))?;
    let (makespan_ns, states) = (ran.schedule.makespan_ns(), made.made().len() as u64);
    if options.json {
        return console.line(json!({ "makespan_ns": makespan_ns, "states": states, "replay": replay(options, choices) }));
    }
    console.line(format_args!(
        "{}: one order, with {}, takes {} ({} ns)",
        Styled(NAME, options.graph.display()),
        counted(states, "choice"),
        duration(Duration::from_nanos(makespan_ns)),
        digits(makespan_ns)
    ))
}

/// Plays all orders.
fn all(
    options: &ExploreOptions,
    script: &Script,
    wanted: &Wanted,
    named: impl Fn(String) -> String,
    console: &mut Console,
) -> Result<(), Failure> {
    let explored = {
        let line = ProgressLine::of("explore", "orders at most", !options.json);
        all_orders(script, options.limit, |ran| wanted.check(ran), |played| line.advance(played, options.limit))
    };
    let Explored { orders, states, is_complete, schedules, shortest, longest, found } = &explored;
    if options.json {
        let extreme = |extreme: &Option<Extreme>| {
            extreme.as_ref().map_or(Value::Null, |extreme| json!({ "makespan_ns": extreme.makespan_ns, "choices": list(&extreme.choices) }))
        };
        console.line(json!({
            "orders": orders,
            "states": states,
            "is_complete": is_complete,
            "schedules": schedules,
            "shortest": extreme(shortest),
            "longest": extreme(longest),
            "found": found.as_ref().map(|found| json!({ "failure": named(found.text.clone()), "choices": list(&found.choices), "replay": replay(options, &found.choices) })),
        }))?;
    } else {
        let whole = match (is_complete, found) {
            (_, Some(_)) => "up to the one that goes wrong",
            (true, None) => "all that there are",
            (false, None) => "there are more: --limit says how many are played",
        };
        console.line(format_args!(
            "{}: {} on {}: {}, {whole}",
            Styled(NAME, options.graph.display()),
            counted(script.tasks.len() as u64, "task"),
            counted(options.workers.into(), "worker"),
            counted(*orders, "order")
        ))?;
        console.line(format_args!("choices      {} with more than one way to go on", counted(*states, "state")))?;
        console.line(format_args!("schedules    {} different", digits(*schedules)))?;
        for (name, extreme) in [("shortest", shortest), ("longest", longest)] {
            if let Some(Extreme { makespan_ns, choices }) = extreme {
                let time = duration(Duration::from_nanos(*makespan_ns));
                console.line(format_args!("{name:12} {time} ({} ns), --choices {}", digits(*makespan_ns), list(choices)))?;
            }
        }
        if let Some(FoundOrder { choices, .. }) = found {
            console.line(Styled(QUIET, format_args!("replay       {}", replay(options, choices))))?;
        }
    }
    match explored.found {
        Some(FoundOrder { text, .. }) => Err(Failure::new(ExitCode::Task, named(text))),
        None => Ok(()),
    }
}
