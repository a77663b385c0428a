//! `poniard predict`: how long a recorded run would take on other workers and under other policies, and how wrong that is where it is known.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueHint};
use poniard::plugin::PluginSearch;
use poniard_scheduler_sim::engine::EngineOptions;
use poniard_scheduler_sim::plan::planner;
use poniard_scheduler_sim::prediction::{Calibration, Program};
use poniard_scheduler_sim::statistics::{Ranking, ranking, student_interval};
use poniard_scheduler_sim::workload::{Recording, text_of};
use poniard_scheduler_sim::world::NotPlayed;
use poniard_scheduler_sim::{Durations, Estimates};
use serde_json::{Value, json};

use super::decider::{Decider, OWN};
use super::{machine, search};
use crate::console::{self, Console, NAME, QUIET, Styled};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::options::SimEngine;
use crate::report::{counted, duration, path_text};

/// What comes nearest to the runtime's own queues where they cannot be played.
const OWN_QUEUES: &str = "work-stealing";

/// Below this share of the time with a core there is a warning.
const SHARE_WARNED: f64 = 0.9;

/// `poniard predict`.
#[derive(Args, Debug)]
pub struct PredictOptions {
    /// A run that `poniard run --record` has written; of several recordings of one run each task takes the median
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath, required = true)]
    pub recordings: Vec<PathBuf>,

    /// For how many workers [default: as many as were recorded, and twice as many]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub workers: Vec<NonZeroUsize>,

    /// By which policies or planners, as in `poniard simulate`; `own` is without a policy [default: the recorded one]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub policy: Vec<String>,

    /// Another graph, whose tasks take the mean of the recorded ones of their code: a file, or NAME:SIZE as in `poniard simulate`; give it again for more
    #[arg(long, value_name = "WORKLOAD", value_hint = ValueHint::FilePath)]
    pub workload: Vec<PathBuf>,

    /// Another recording, to be predicted from the first one; give it again for more: several of one kind tell how much their times differ
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

/// Recordings, and how long each took in nanoseconds.
type Recorded = Vec<(PathBuf, u64)>;
/// What was predicted, and in which interval the recordings have it.
type Placed = (f64, (f64, f64));

/// A line of the table.
#[derive(Debug)]
struct Prediction {
    name: String,
    tasks: usize,
    workers: usize,
    policy: String,
    predicted_ns: u64,
    /// Where it was recorded, and how long it took.
    recorded: Recorded,
    /// Whether what tasks take is from these recordings.
    is_calibrated: bool,
}

impl Prediction {
    fn recorded_ns(&self) -> Vec<f64> {
        self.recorded.iter().map(|(_, ns)| *ns as f64).collect()
    }

    /// The mean of what was recorded.
    fn mean_ns(&self) -> Option<f64> {
        (!self.recorded.is_empty()).then(|| self.recorded_ns().iter().sum::<f64>() / self.recorded.len() as f64)
    }

    /// Where the mean lies, with a confidence of 95 %; of one recording it is not known.
    fn interval_ns(&self) -> Option<(f64, f64)> {
        student_interval(&self.recorded_ns())
    }

    /// By how much it is too long, as a share of what was recorded.
    fn error(&self) -> Option<f64> {
        self.mean_ns().filter(|ns| *ns > 0.0).map(|ns| self.predicted_ns as f64 / ns - 1.0)
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
            "{}: tasks spawn tasks there; who waits for whom inside a task is not recorded, and the prediction lets them run as soon as what they take is there{}",
            path.display(),
            if recording.policy.is_none() { ", under `work-stealing` in place of the runtime's own queues" } else { "" }
        ));
    }
    Ok(recording)
}

fn policy_of(recording: &Recording) -> &str {
    recording.policy.as_deref().unwrap_or(OWN)
}

/// What each task of a recorded run took, with what the runtime took for it.
fn works_ns(path: &Path, recording: &Recording, by_cpu: bool) -> Result<Vec<u64>, Failure> {
    let shown = path.display();
    let mut works_ns = match (by_cpu, recording.own_cpu_ns()) {
        (true, Some(cpu_ns)) => cpu_ns,
        (true, None) => return Err(Failure::input(format_args!("{shown}: it does not say how long tasks had a core, as --cpu wants"))),
        (false, _) => recording.own_ns(),
    };
    let overhead_ns = recording.overhead_ns();
    works_ns.iter_mut().for_each(|work_ns| *work_ns += overhead_ns);
    Ok(works_ns)
}

/// Of each task the median of what it took in several recordings of one run.
fn medians(of_runs: &[Vec<u64>]) -> Vec<u64> {
    let of_task = |task: usize| {
        let mut works: Vec<u64> = of_runs.iter().map(|works_ns| works_ns[task]).collect();
        works.sort_unstable();
        let half = works.len() / 2;
        if works.len() % 2 == 1 { works[half] } else { works[half - 1].midpoint(works[half]) }
    };
    (0..of_runs[0].len()).map(of_task).collect()
}

/// How long a program takes on so many workers under a policy or planner, in nanoseconds.
fn predicted_ns(program: &Program, workers: usize, policy: &str, is_live: bool, seed: u64, plugins: &PluginSearch) -> Result<u64, Failure> {
    if policy == OWN && program.spawns_all() {
        return program.play(workers, seed).map_err(|failure| match failure {
            NotPlayed::Unfit(reason) => Failure::usage(format_args!("--workers {workers}: {reason}")),
            NotPlayed::Failed(failure) => Failure::new(ExitCode::Bug, failure),
        });
    }
    let platform = Program::platform(workers).map_err(|error| Failure::usage(format_args!("--workers {workers}: {error}")))?;
    let with_spawns = program.with_spawns();
    let problem = program.problem(&with_spawns, &platform, workers);
    // A policy that a planner has the name of was recorded live.
    let name = match policy {
        OWN => OWN_QUEUES.to_owned(),
        _ if is_live && planner(policy).is_some() => format!("live:{policy}"),
        _ => policy.to_owned(),
    };
    let decider = Decider::named(&name, SimEngine::Board, plugins, "--policy")?;
    decider.check(&problem).map_err(|reason| Failure::usage(decider.complaint("--policy", &reason)))?;
    let options = EngineOptions { seed, hides_ranks: true, ..EngineOptions::default() };
    // A policy sees what it does live: what tasks of a code take in the mean, and nothing of what has not been spawned.
    let problem = if decider.is_planner() { problem } else { problem.uncertain(Durations::Exact, Estimates::Mean, seed) };
    Ok(decider.decide_and_check(&problem, options)?.schedule.makespan_ns())
}

/// Predicts.
pub fn predict(options: &PredictOptions, console: &mut Console) -> Result<(), Failure> {
    let same: Vec<(&PathBuf, Recording)> =
        options.recordings.iter().map(|path| Ok((path, recording(path)?))).collect::<Result<_, Failure>>()?;
    let (shown, first) = &same[0];
    if let Some((path, _)) = same.iter().find(|(_, one)| !one.is_like(first)) {
        return Err(Failure::input(format_args!(
            "{}: its tasks are not those of {}; what is to be predicted is given by --beside",
            path.display(),
            shown.display()
        )));
    }
    let others: Vec<(&PathBuf, Recording)> =
        options.beside.iter().map(|path| Ok((path, recording(path)?))).collect::<Result<_, Failure>>()?;
    let shares: Vec<f64> = same.iter().filter_map(|(_, one)| share(one)).collect();
    let share = (shares.len() == same.len()).then(|| shares.iter().sum::<f64>() / shares.len() as f64);
    if let Some(share) = share.filter(|share| *share < SHARE_WARNED && !options.cpu) {
        console::warn(format_args!(
            "{}: tasks had a core for {:.0} % of their time only; --cpu takes that time in place of all that went by",
            shown.display(),
            share * 100.0
        ));
    }
    let of_runs: Vec<Vec<u64>> = same.iter().map(|(path, one)| works_ns(path, one, options.cpu)).collect::<Result<_, _>>()?;
    let works_ns = medians(&of_runs);
    let calibration = Calibration::of(first, &works_ns);
    let in_circle = |path: &Path, error| Failure::input(format_args!("{}: {error}", path.display()));
    let count = first.processors.len();
    let workers: Vec<usize> = match options.workers.is_empty() {
        true => vec![count, 2 * count],
        false => options.workers.iter().map(|workers| workers.get()).collect(),
    };
    let policies = if options.policy.is_empty() { vec![policy_of(first).to_owned()] } else { options.policy.clone() };
    let mut graphs = vec![(first.name.clone(), Program::recorded(first, &works_ns).map_err(|error| in_circle(shown, error))?)];
    // Of the first graphs a recording each: others are of the same graph if they are alike.
    let mut examples = vec![first];
    // By graph, workers and policy; with the recordings of that. Whatever was recorded is predicted in any case.
    let mut wanted: BTreeMap<(usize, usize, &str), Recorded> = BTreeMap::new();
    for (path, one) in same.iter().chain(&others) {
        let graph = match examples.iter().position(|example| example.is_like(one)) {
            Some(graph) => graph,
            None => {
                let of_codes = one.tasks.iter().map(|task| calibration.work_ns(&task.code)).collect::<Result<Vec<_>, _>>();
                let of_codes = of_codes.map_err(|unknown| Failure::input(format_args!("{}: {unknown}", path.display())))?;
                graphs.push((one.name.clone(), Program::recorded(one, &of_codes).map_err(|error| in_circle(path, error))?));
                examples.push(one);
                examples.len() - 1
            }
        };
        wanted.entry((graph, one.processors.len(), policy_of(one))).or_default().push(((*path).clone(), one.makespan_ns()));
    }
    for path in &options.workload {
        let workload = machine::workload(path, None, false)?;
        let of_codes = calibration.works_ns(&workload).map_err(|unknown| Failure::input(format_args!("{}: {unknown}", path.display())))?;
        graphs.push((workload.name().to_owned(), Program::of_graph(&workload, &of_codes, calibration.step_ns())));
    }
    // Of a recording that stands beside only what was recorded: the question is the first one.
    for graph in (0..1).chain(examples.len()..graphs.len()) {
        for (workers, policy) in workers.iter().flat_map(|workers| policies.iter().map(move |policy| (*workers, policy.as_str()))) {
            wanted.entry((graph, workers, policy)).or_default();
        }
    }
    let plugins = search(&[])?;
    let is_live = |policy: &str| same.iter().chain(&others).any(|(_, one)| policy_of(one) == policy);
    let calibrated = (0, count, policy_of(first));
    let predictions: Vec<Prediction> = wanted
        .into_iter()
        .map(|(setting, recorded)| {
            let (graph, workers, policy) = setting;
            let (name, program) = &graphs[graph];
            Ok(Prediction {
                name: name.clone(),
                tasks: program.workload().len(),
                workers,
                policy: policy.to_owned(),
                predicted_ns: predicted_ns(program, workers, policy, is_live(policy), options.seed, &plugins)?,
                recorded,
                is_calibrated: setting == calibrated,
            })
        })
        .collect::<Result<_, Failure>>()?;
    let found =
        Found { first, path: shown, runs: same.len(), share, ranking: ranking_of(&predictions), errors: errors(&predictions), predictions };
    if options.json { console.line(found.json()) } else { found.show(console) }
}

/// What there is to say.
#[derive(Debug)]
struct Found<'a> {
    /// The recording that the rest is predicted from, or the first one of several.
    first: &'a Recording,
    path: &'a Path,
    runs: usize,
    /// For which share of their time tasks had a core.
    share: Option<f64>,
    predictions: Vec<Prediction>,
    /// The median and the largest.
    errors: Option<(f64, f64)>,
    ranking: Option<Ranking>,
}

impl Found<'_> {
    fn json(&self) -> Value {
        let rows = self.predictions.iter().map(|one| {
            let runs = one.recorded.iter().map(|(path, ns)| json!({ "file": path_text(path), "makespan_ns": ns }));
            let recorded = one.mean_ns().map(|mean_ns| {
                json!({
                    "mean_ns": mean_ns,
                    "interval_ns": one.interval_ns().map(|(low, high)| [low, high]),
                    "runs": runs.collect::<Value>(),
                })
            });
            json!({
                "name": one.name,
                "tasks": one.tasks,
                "workers": one.workers,
                "policy": one.policy,
                "predicted_ns": one.predicted_ns,
                "recorded": recorded,
                "error": one.error(),
                "calibrated": one.is_calibrated,
            })
        });
        json!({
            "recording": path_text(self.path),
            "recordings": self.runs,
            "name": self.first.name,
            "tasks": self.first.tasks.len(),
            "overhead_ns": self.first.overhead_ns(),
            "cpu_share": self.share,
            "predictions": rows.collect::<Value>(),
            "median_error": self.errors.map(|(median, _)| median),
            "worst_error": self.errors.map(|(_, worst)| worst),
            "kendall_tau": self.ranking.map(|ranking| ranking.tau),
            "ranked_pairs": self.ranking.map(|ranking| ranking.pairs),
        })
    }

    fn show(&self, console: &mut Console) -> Result<(), Failure> {
        let time = |ns: u64| duration(Duration::from_nanos(ns));
        let first = self.first;
        console.line(format_args!(
            "{}: {} recorded on {} by {}, which took {}{}; {} between two tasks",
            Styled(NAME, &first.name),
            counted(first.tasks.len() as u64, "task"),
            counted(first.processors.len() as u64, "worker"),
            first.policy.as_deref().unwrap_or("the runtime's own queues"),
            time(first.makespan_ns()),
            if self.runs > 1 { format!(" the first of {} times", self.runs) } else { String::new() },
            time(first.overhead_ns())
        ))?;
        let width = |of: fn(&Prediction) -> &str, title: &str| {
            self.predictions.iter().map(|one| of(one).chars().count()).max().unwrap_or(0).max(title.len())
        };
        let (names, policies) = (width(|one| &one.name, "graph"), width(|one| &one.policy, "policy"));
        let title = format!("{:names$}   tasks  workers  {:policies$}  predicted   recorded     error", "graph", "policy");
        console.line(Styled(QUIET, title))?;
        for one in &self.predictions {
            let recorded = one.mean_ns().map_or_else(|| "-".into(), |ns| time(ns.round() as u64));
            let error = one.error().map_or_else(|| "-".into(), |error| format!("{:+.1} %", error * 100.0));
            let files = match &one.recorded[..] {
                [] => String::new(),
                [(path, _)] => format!("  {}", path.display()),
                several => {
                    let reach = |(low, high): (f64, f64)| format!(", ± {}", time(((high - low) / 2.0).round() as u64));
                    format!("  {} runs{}", several.len(), one.interval_ns().map_or_else(String::new, reach))
                }
            };
            console.line(format_args!(
                "{:names$}  {:6}  {:7}  {:policies$}  {:>9}  {recorded:>9}  {error:>8}{files}",
                one.name,
                one.tasks,
                one.workers,
                one.policy,
                time(one.predicted_ns)
            ))?;
        }
        if let Some((median, worst)) = self.errors {
            console.line(format_args!(
                "error        {:.1} % in the median and {:.1} % at worst, of what was not calibrated by",
                median * 100.0,
                worst * 100.0
            ))?;
        }
        if let Some(Ranking { tau, pairs, of }) = self.ranking {
            console.line(format_args!(
                "ranking      Kendall's tau {tau:.2} over {pairs} of {of} pairs of policies, whose recordings can be told apart"
            ))?;
        }
        Ok(())
    }
}

/// For which share of the time of its tasks a run had a core, if that is known.
fn share(recording: &Recording) -> Option<f64> {
    let cpu_ns: u64 = recording.own_cpu_ns()?.iter().sum();
    Some(cpu_ns as f64 / recording.own_ns().iter().sum::<u64>().max(1) as f64)
}

/// The median and the largest of the errors, without their signs, of what was recorded besides.
fn errors(predictions: &[Prediction]) -> Option<(f64, f64)> {
    let mut errors: Vec<f64> = predictions.iter().filter(|one| !one.is_calibrated).filter_map(Prediction::error).map(f64::abs).collect();
    errors.sort_by(f64::total_cmp);
    let half = errors.len() / 2;
    let median = if errors.len() % 2 == 1 { errors[half] } else { (errors.get(half.checked_sub(1)?)? + errors[half]) / 2.0 };
    Some((median, *errors.last()?))
}

/// How far policies are ranked as recorded: pairs are of one graph and one number of workers.
fn ranking_of(predictions: &[Prediction]) -> Option<Ranking> {
    let mut settings: BTreeMap<(&str, usize, usize), Vec<Placed>> = BTreeMap::new();
    for one in predictions {
        if let Some(interval) = one.interval_ns() {
            settings.entry((&one.name, one.tasks, one.workers)).or_default().push((one.predicted_ns as f64, interval));
        }
    }
    let of_settings: Vec<Ranking> = settings.values().filter_map(|values| ranking(values)).collect();
    let pairs: usize = of_settings.iter().map(|one| one.pairs).sum();
    let sum: f64 = of_settings.iter().map(|one| one.tau * one.pairs as f64).sum();
    (pairs > 0).then(|| Ranking {
        tau: sum / pairs as f64,
        pairs,
        of: settings.values().map(|values| values.len() * (values.len() - 1) / 2).sum(),
    })
}
