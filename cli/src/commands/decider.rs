//! Who decides in a simulation: a planner, a policy that comes with the command or from a plugin file, or the whole runtime.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use poniard::plugin::{LoadedPolicy, PluginSearch, named_policy, policy_names};
use poniard::policy::{KnownPolicy, POLICIES, Policy};
use poniard_scheduler_sim::engine::{self, EngineOptions, Outcome};
use poniard_scheduler_sim::plan::{PLANNERS, Planner, planner};
use poniard_scheduler_sim::stream::Stream;
use poniard_scheduler_sim::world::{self, Failure as WorldFailure, NotPlayed};
use poniard_scheduler_sim::{Problem, Schedule};

use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::options::SimEngine;
use crate::panics;

/// What a name of a policy that runs live begins with, where a planner has the same name.
const LIVE: &str = "live:";
/// What the runtime is called without a policy.
pub(super) const OWN: &str = "own";

/// Somebody who decides, by the name that the user has typed.
#[derive(Clone, Debug)]
pub(super) struct Decider {
    name: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Planner(Planner),
    Known(KnownPolicy),
    Stranger(LoadedPolicy),
    /// The runtime under a policy, by a name that it knows or the path of a plugin file, or as it is without one.
    Runtime(Option<String>),
}

/// What a policy of a plugin file has done wrong.
#[derive(Clone, Debug, Default)]
pub(super) struct Complaint(Arc<Mutex<Option<String>>>);

impl Complaint {
    /// That, once.
    pub(super) fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) schedule: Schedule,
    /// Nothing for a plan that comes as it was planned.
    pub(super) run: Option<Outcome>,
    /// How long the plan took to make, or the run under a policy, on this machine.
    pub(super) took: Duration,
}

impl Decider {
    /// The one that is called so; plugin files are looked for in `search`. `option` is what the user has typed the name behind.
    pub(super) fn named(name: &str, engine: SimEngine, search: &PluginSearch, option: &str) -> Result<Self, Failure> {
        let kind = match engine {
            SimEngine::Board => Self::kind(name, search, option)?,
            SimEngine::Runtime if name == OWN => Kind::Runtime(None),
            SimEngine::Runtime => match Self::kind(name, search, option)? {
                Kind::Known(known) => Kind::Runtime(Some(known.name.to_owned())),
                Kind::Stranger(loaded) => Kind::Runtime(Some(path_with_slash(&loaded.file))),
                // The policy of the name, if there is one: a planner runs nothing.
                _ => match known(name) {
                    Some(known) => Kind::Runtime(Some(known.name.to_owned())),
                    None => {
                        return Err(Failure::usage(format_args!(
                            "--engine runtime: `{name}` is a planner, and plans are not run by the runtime"
                        )));
                    }
                },
            },
        };
        Ok(Self { name: name.to_owned(), kind })
    }

    /// The policy that is called so, also where a planner is.
    pub(super) fn live(name: &str, search: &PluginSearch, option: &str) -> Result<Self, Failure> {
        let kind = Self::live_kind(name, search, option).map_err(|failure| match planner(name) {
            Some(_) => Failure::usage(format_args!("{option}: `{name}` is a planner, and decides about nothing that is ready")),
            None => failure,
        })?;
        Ok(Self { name: name.to_owned(), kind })
    }

    /// The policy itself, and what it does wrong once it has been used; nobody else decides task by task.
    pub(super) fn policy(&self) -> Result<(Box<dyn Policy>, Complaint), Failure> {
        let complaint = Complaint::default();
        match &self.kind {
            Kind::Known(known) => Ok(((known.make)(), complaint)),
            Kind::Stranger(loaded) => Ok((made(loaded, &complaint), complaint)),
            _ => Err(Failure::usage(format_args!("`{}` is no policy", self.name))),
        }
    }

    fn kind(name: &str, search: &PluginSearch, option: &str) -> Result<Kind, Failure> {
        if let Some(planner) = planner(name) {
            return Ok(Kind::Planner(planner));
        }
        Self::live_kind(name, search, option)
    }

    fn live_kind(name: &str, search: &PluginSearch, option: &str) -> Result<Kind, Failure> {
        let live = name.strip_prefix(LIVE).unwrap_or(name);
        if let Some(known) = known(live) {
            return Ok(Kind::Known(known));
        }
        match named_policy(search, live) {
            Ok(Some(loaded)) => Ok(Kind::Stranger(loaded)),
            Ok(None) => Err(unknown(name, live, search, option)),
            Err(error) => Err(Failure::usage(format_args!("{option}: {error}"))),
        }
    }

    /// What the user called it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it is the whole runtime.
    pub(super) fn is_runtime(&self) -> bool {
        matches!(self.kind, Kind::Runtime(_))
    }

    /// Whether it makes a plan before anything runs.
    pub(super) fn is_planner(&self) -> bool {
        matches!(self.kind, Kind::Planner(_))
    }

    /// The plugin file that it comes from.
    pub(super) fn file(&self) -> Option<PathBuf> {
        match &self.kind {
            Kind::Stranger(loaded) => Some(loaded.file.clone()),
            Kind::Runtime(Some(name)) if name.contains('/') => Some(name.into()),
            _ => None,
        }
    }

    /// What the runtime is under: a name that it knows, or the path of a plugin file; nothing for its own queues, and for everybody who is not run by it.
    pub(super) fn runtime_policy(&self) -> Option<&str> {
        if let Kind::Runtime(policy) = &self.kind { policy.as_deref() } else { None }
    }

    /// What it is, whatever the user called it: equal ones decide alike, but for plugin files, which may be others under the same name.
    pub(super) fn identity(&self) -> String {
        match &self.kind {
            Kind::Planner(planner) => format!("planner {}", planner.name),
            Kind::Known(known) => format!("policy {}", known.name),
            Kind::Stranger(loaded) => format!("file {}", loaded.name),
            Kind::Runtime(None) => "runtime".into(),
            Kind::Runtime(Some(name)) if name.contains('/') => "runtime file".into(),
            Kind::Runtime(Some(name)) => format!("runtime {name}"),
        }
    }

    /// What [`check`](Self::check) has said, as an error of the command line: what is the engine's fault says so itself.
    pub(super) fn complaint(&self, option: &str, reason: &str) -> String {
        if matches!(self.kind, Kind::Runtime(_)) { reason.to_owned() } else { format!("{option}: {reason}") }
    }

    /// Whether it takes so many tasks; in words why not.
    pub(super) fn check_count(&self, task_count: usize) -> Result<(), String> {
        match &self.kind {
            Kind::Planner(planner) => planner.check(task_count).map_err(|error| error.to_string()),
            _ => Ok(()),
        }
    }

    /// Whether it can decide about a problem; in words why not.
    pub(super) fn check(&self, problem: &Problem<'_>) -> Result<(), String> {
        match &self.kind {
            Kind::Runtime(_) => world::unfit(problem).map_or(Ok(()), |reason| Err(format!("--engine runtime: {reason}"))),
            _ => match problem.workload().widest() {
                Some(task) => Err(format!(
                    "task `{}` takes {} processors at a time, which only --engine runtime has",
                    problem.workload().task_name(task),
                    problem.workload().processors(task)
                )),
                None => self.check_count(problem.len()),
            },
        }
    }

    /// As [`decide`](Self::decide), and looks whether what comes of it can be.
    pub(super) fn decide_and_check(&self, problem: &Problem<'_>, options: EngineOptions) -> Result<Decided, Failure> {
        let decided = self.decide(problem, None, options)?;
        if let Err(fault) = decided.schedule.check(problem) {
            unreachable!("the schedule of {} cannot be: {fault}", self.name);
        }
        Ok(decided)
    }

    /// Has it decide, and runs what it decides; graphs that arrive, if it decides as they do. The problem was checked.
    pub(super) fn decide(&self, problem: &Problem<'_>, stream: Option<&Stream>, options: EngineOptions) -> Result<Decided, Failure> {
        let begin = Instant::now();
        let run = |policy: Box<dyn Policy>| match stream {
            Some(stream) => engine::run_stream(problem, stream, policy, options),
            None => engine::run(problem, policy, options),
        };
        let mut decided = match &self.kind {
            Kind::Planner(planner) => {
                let plan = (planner.plan)(problem);
                let took = begin.elapsed();
                // What comes as it was planned for need not be run.
                if problem.is_as_planned() {
                    Decided { schedule: plan, run: None, took }
                } else {
                    Decided { took, ..Decided::of_run(engine::run_plan(problem, &plan, options)) }
                }
            }
            Kind::Known(known) => Decided::of_run(run((known.make)())),
            Kind::Stranger(loaded) => {
                let complaint = Complaint::default();
                // The engine panics when a policy leaves tasks for ever, which here is no bug of the command.
                let ran = catch_unwind(AssertUnwindSafe(|| run(made(loaded, &complaint))));
                if let Some(complaint) = complaint.take() {
                    return Err(Failure::new(ExitCode::Task, complaint));
                }
                Decided::of_run(ran.map_err(|payload| Failure::new(ExitCode::Task, panics::words(&*payload)))?)
            }
            Kind::Runtime(policy) => {
                let outcome = world::play(problem, policy.as_deref(), options.seed).map_err(|failure| match failure {
                    NotPlayed::Unfit(reason) => Failure::usage(format_args!("--engine runtime: {reason}")),
                    NotPlayed::Failed(failure @ WorldFailure::Policy(_)) => Failure::new(ExitCode::Task, failure),
                    NotPlayed::Failed(failure) => Failure::new(ExitCode::Bug, failure),
                })?;
                Decided::of_run(outcome)
            }
        };
        if !self.is_planner() {
            decided.took = begin.elapsed();
        }
        Ok(decided)
    }
}

impl Decided {
    fn of_run(mut outcome: Outcome) -> Self {
        Self { schedule: std::mem::take(&mut outcome.schedule), run: Some(outcome), took: Duration::ZERO }
    }

    /// What goes from one memory space to another.
    pub(super) fn moved_bytes(&self, problem: &Problem<'_>) -> u64 {
        self.run.as_ref().map_or_else(|| moved_by_plan(problem, &self.schedule), |run| run.moved_bytes)
    }
}

/// What goes from one memory space to another where all comes as it was planned.
pub(super) fn moved_by_plan(problem: &Problem<'_>, schedule: &Schedule) -> u64 {
    let workload = problem.workload();
    let space = |task: usize| problem.space(schedule.processor[task] as usize);
    let edges = (0..workload.len()).flat_map(|task| workload.edges_out(task).map(move |edge| (task, edge)));
    edges
        .filter(|(task, edge)| space(*task) != space(workload.target(*edge)))
        .map(|(_, edge)| workload.bytes(edge))
        .fold(0, u64::saturating_add)
}

fn known(name: &str) -> Option<KnownPolicy> {
    let name = name.strip_prefix(LIVE).unwrap_or(name);
    POLICIES.into_iter().find(|known| known.name == name)
}

/// A policy of a plugin file; what it does wrong is told to `complaint`.
fn made(loaded: &LoadedPolicy, complaint: &Complaint) -> Box<dyn Policy> {
    let complaint = complaint.clone();
    loaded.make(move |text| {
        complaint.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    })
}

/// A path that cannot be taken for a name.
fn path_with_slash(file: &Path) -> String {
    let text = file.to_string_lossy().into_owned();
    if text.contains('/') { text } else { format!("./{text}") }
}

fn unknown(name: &str, live: &str, search: &PluginSearch, option: &str) -> Failure {
    let in_files = policy_names(search);
    let policies = || POLICIES.iter().map(|known| known.name).chain(in_files.iter().map(String::as_str));
    let names = policies().chain(PLANNERS.iter().map(|planner| planner.name));
    let near = names.map(|known| (strsim::osa_distance(live, known), known)).min();
    let hint =
        near.filter(|(distance, near)| distance * 3 <= near.len().max(live.len())).map(|(_, near)| format!("; did you mean `{near}`?"));
    let (policies, planners) = (policies().collect::<Vec<_>>().join(", "), PLANNERS.map(|planner| planner.name).join(", "));
    Failure::usage(format_args!(
        "{option}: no policy is called `{name}`{}; there are {policies}, and the planners {planners}",
        hint.unwrap_or_default()
    ))
}
