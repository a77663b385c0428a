//! `poniard predict`: how long a recorded run would take on other workers and under other policies, and how wrong that is where it is known.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueHint};
use poniard_scheduler_sim::engine::EngineOptions;
use poniard_scheduler_sim::plan::planner;
use poniard_scheduler_sim::workload::{Recording, text_of};
use poniard_scheduler_sim::{NEVER, Platform, Problem};
use serde_json::{Value, json};

use super::decider::Decider;
use super::search;
use crate::console::{self, Console, NAME, QUIET, Styled};
use crate::failure::Failure;
use crate::options::SimEngine;
use crate::report::{counted, duration, path_text};

/// What comes nearest to the runtime's own queues, which decide where no policy is asked for.
const OWN_QUEUES: &str = "work-stealing";

/// Below this share of the time with a core there is a warning.
const SHARE_WARNED: f64 = 0.9;

/// `poniard predict`.
#[derive(Args, Debug)]
pub struct PredictOptions {
    /// A run that `poniard run --record` has written
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub recording: PathBuf,

    /// For how many workers [default: as many as were recorded, and twice as many]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub workers: Vec<NonZeroUsize>,

    /// By which policies or planners, as in `poniard simulate` [default: the recorded one]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub policy: Vec<String>,

    /// Another recording of the same computation, to be predicted from the first one; give it again for more
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub beside: Vec<PathBuf>,

    /// Tasks take as long as they had a core, and not as long as went by: for recordings of a machine that did something else as well
    #[arg(long)]
    pub cpu: bool,

    /// Where random numbers begin
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Print a JSON object instead of lines
    #[arg(long)]
    pub json: bool,
}

/// A line of the table.
#[derive(Debug)]
struct Prediction {
    workers: usize,
    policy: String,
    predicted_ns: u64,
    /// Where it was recorded, and how long it took.
    recorded: Option<(PathBuf, u64)>,
}

impl Prediction {
    /// By how much it is too long, as a share of what was recorded.
    fn error(&self) -> Option<f64> {
        self.recorded.as_ref().filter(|(_, ns)| *ns > 0).map(|(_, ns)| self.predicted_ns as f64 / *ns as f64 - 1.0)
    }
}

fn recording(path: &Path) -> Result<Recording, Failure> {
    let text = text_of(path).map_err(Failure::input)?;
    let recording = Recording::from_json(&path.display().to_string(), &text).map_err(Failure::input)?;
    if recording.processors.iter().any(|processor| processor.kind != "cpu") {
        console::warn(format_args!("{}: processors that are no threads are counted as workers like the others", path.display()));
    }
    if recording.is_nested() {
        console::warn(format_args!(
            "{}: tasks spawn tasks there; who waits for whom inside a task is not recorded, and the prediction lets them run as soon as what they take is there",
            path.display()
        ));
    }
    Ok(recording)
}

fn policy_of(recording: &Recording) -> &str {
    recording.policy.as_deref().unwrap_or(OWN_QUEUES)
}

/// Predicts.
pub fn predict(options: &PredictOptions, console: &mut Console) -> Result<(), Failure> {
    let first = recording(&options.recording)?;
    let others: Vec<(PathBuf, Recording)> =
        options.beside.iter().map(|path| Ok((path.clone(), recording(path)?))).collect::<Result<_, Failure>>()?;
    let overhead_ns = first.overhead_ns();
    let (own_ns, cpu_ns) = (first.own_ns(), first.own_cpu_ns());
    let shown = options.recording.display();
    let share = cpu_ns.as_ref().map(|cpu_ns| cpu_ns.iter().sum::<u64>() as f64 / own_ns.iter().sum::<u64>().max(1) as f64);
    if let Some(share) = share.filter(|share| *share < SHARE_WARNED && !options.cpu) {
        console::warn(format_args!(
            "{shown}: tasks had a core for {:.0} % of their time only; --cpu takes that time in place of all that went by",
            share * 100.0
        ));
    }
    let mut works_ns = match (options.cpu, cpu_ns) {
        (true, Some(cpu_ns)) => cpu_ns,
        (true, None) => return Err(Failure::input(format_args!("{shown}: it does not say how long tasks had a core, as --cpu wants"))),
        (false, _) => own_ns,
    };
    works_ns.iter_mut().for_each(|work_ns| *work_ns += overhead_ns);
    let workload = first.workload_with_spawns(&works_ns).map_err(|error| Failure::input(format_args!("{shown}: {error}")))?;
    let count = first.processors.len();
    let workers: Vec<usize> = match options.workers.is_empty() {
        true => vec![count, 2 * count],
        false => options.workers.iter().map(|workers| workers.get()).collect(),
    };
    let policies = if options.policy.is_empty() { vec![policy_of(&first).to_owned()] } else { options.policy.clone() };
    // Whatever was recorded is predicted in any case.
    let known = || [(&options.recording, &first)].into_iter().chain(others.iter().map(|(path, other)| (path, other)));
    let mut wanted: Vec<(usize, String)> = known().map(|(_, one)| (one.processors.len(), policy_of(one).to_owned())).collect();
    wanted.extend(workers.iter().flat_map(|workers| policies.iter().map(|policy| (*workers, policy.clone()))));
    wanted.sort();
    wanted.dedup();
    let mut predictions = Vec::new();
    let plugins = search(&[])?;
    for (workers, policy) in wanted {
        // Besides the workers the program itself, which spawns.
        let text = format!("[[processor]]\ncount = {workers}\nspace = \"host\"\n[[processor]]\nkind = \"program\"\nspace = \"host\"\n");
        let platform = Platform::from_toml(&text).map_err(|error| Failure::usage(format_args!("--workers {workers}: {error}")))?;
        let columns = (0..=workers).map(|processor| u32::from(processor == workers)).collect();
        let costs = (0..workload.len()).flat_map(|task| match workload.work_ns(task) {
            work_ns if task < first.tasks.len() => [work_ns, NEVER],
            work_ns => [NEVER, work_ns],
        });
        let problem = Problem::with_costs(&workload, &platform, columns, costs.collect());
        // A policy that a planner has the name of was recorded live.
        let live = if planner(&policy).is_some() && known().any(|(_, one)| policy_of(one) == policy) {
            format!("live:{policy}")
        } else {
            policy.clone()
        };
        let decider = Decider::named(&live, SimEngine::Board, &plugins, "--policy")?;
        decider.check(&problem).map_err(|reason| Failure::usage(decider.complaint("--policy", &reason)))?;
        let options = EngineOptions { seed: options.seed, ..EngineOptions::default() };
        let predicted_ns = decider.decide_and_check(&problem, options)?.schedule.makespan_ns();
        let mut recorded: Vec<_> = known()
            .filter(|(_, one)| one.processors.len() == workers && policy_of(one) == policy)
            .map(|(path, one)| Some((path.clone(), one.makespan_ns())))
            .collect();
        if recorded.is_empty() {
            recorded.push(None);
        }
        predictions.extend(recorded.into_iter().map(|recorded| Prediction { workers, policy: policy.clone(), predicted_ns, recorded }));
    }
    if options.json {
        let rows = predictions.iter().map(|one| {
            json!({
                "workers": one.workers,
                "policy": one.policy,
                "predicted_ns": one.predicted_ns,
                "recorded": one.recorded.as_ref().map(|(path, ns)| json!({ "file": path_text(path), "makespan_ns": ns })),
                "error": one.error(),
            })
        });
        return console.line(json!({
            "recording": path_text(&options.recording),
            "name": first.name,
            "tasks": first.tasks.len(),
            "overhead_ns": overhead_ns,
            "cpu_share": share,
            "predictions": rows.collect::<Value>(),
        }));
    }
    let time = |ns: u64| duration(Duration::from_nanos(ns));
    console.line(format_args!(
        "{}: {} recorded on {} by {}, which took {}; {} between two tasks",
        Styled(NAME, &first.name),
        counted(first.tasks.len() as u64, "task"),
        counted(count as u64, "worker"),
        first.policy.as_deref().unwrap_or("the runtime's own queues"),
        time(first.makespan_ns()),
        time(overhead_ns)
    ))?;
    let width = predictions.iter().map(|one| one.policy.len()).max().unwrap_or(0).max("policy".len());
    console.line(Styled(QUIET, format_args!("workers  {:width$}  predicted   recorded     error", "policy")))?;
    for one in &predictions {
        let (recorded, file) =
            one.recorded.as_ref().map_or(("-".into(), String::new()), |(path, ns)| (time(*ns), format!("  {}", path.display())));
        let error = one.error().map_or_else(|| "-".into(), |error| format!("{:+.1} %", error * 100.0));
        console.line(format_args!(
            "{:7}  {:width$}  {:>9}  {recorded:>9}  {error:>8}{file}",
            one.workers,
            one.policy,
            time(one.predicted_ns)
        ))?;
    }
    Ok(())
}
