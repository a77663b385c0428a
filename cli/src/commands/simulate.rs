//! `poniard simulate`: what a policy makes of a workload on a machine that need not be there.

use std::path::Path;
use std::time::Duration;

use poniard::policy::{self, POLICIES};
use poniard_scheduler_sim::engine::{self, EngineOptions, Outcome};
use poniard_scheduler_sim::output::{Cause, Causes, Idle, Run};
use poniard_scheduler_sim::plan::{PLANNERS, Planner, planner};
use poniard_scheduler_sim::stream::Stream;
use poniard_scheduler_sim::workload::{Generate, ReadOptions, read};
use poniard_scheduler_sim::world::{self, NotPlayed};
use poniard_scheduler_sim::{Problem, Schedule, Workload};
use serde_json::{Map, Value, json};

use super::machine;
use super::pictures::Pictures;
use super::{room, stream};
use crate::console::{Console, NAME, QUIET, Styled};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::options::{RoundCosts, SimEngine, SimulateOptions};
use crate::report::{counted, digits, duration, size};

/// What a name of a policy that runs live begins with, where a planner has the same name.
const LIVE: &str = "live:";
/// What the runtime is called without a policy.
const OWN: &str = "own";

/// Who decides.
pub(super) enum Decider {
    Planner(Planner),
    Policy(Box<dyn policy::Policy>),
    /// The runtime under a policy, or as it is without one.
    Runtime(Option<String>),
}

/// Simulates one run.
pub fn simulate(options: &SimulateOptions, console: &mut Console) -> Result<(), Failure> {
    let decider = match options.engine {
        SimEngine::Board => decider(&options.policy)?,
        SimEngine::Runtime => runtime_decider(&options.policy)?,
    };
    let platform = machine::platform(options)?;
    let pictures = Pictures::prepare(&options.pictures, options.json, console)?;
    stream::check(&decider, options)?;
    let own = workload(&options.workload, options)?;
    let stream = stream::stream(options, &own)?;
    let workload = stream.as_ref().map_or(&own, Stream::workload);
    if let Decider::Planner(planner) = &decider {
        planner.check(workload.len()).map_err(|error| Failure::usage(format_args!("--policy: {error}")))?;
    }
    let problem = Problem::new(workload, &platform);
    problem.check(&platform).map_err(Failure::input)?;
    let mut problem = machine::uncertain(problem, options);
    if let Some(stream) = &stream {
        problem = problem.released(stream.releases_ns());
    }
    // What causes rest on takes more memory than the run.
    let explains = options.explain || options.pictures.any() || workload.len() <= EXPLAINED_TASKS;
    let engine_options = EngineOptions { seed: options.seed, keeps_decisions: explains };
    let is_planned = matches!(decider, Decider::Planner(_));
    let (schedule, run) = match decider {
        Decider::Planner(planner) => {
            let plan = (planner.plan)(&problem);
            // What comes as it was planned for need not be run.
            if problem.is_as_planned() {
                (plan, None)
            } else {
                let mut outcome = engine::run_plan(&problem, &plan, engine_options);
                (std::mem::take(&mut outcome.schedule), Some(outcome))
            }
        }
        Decider::Policy(policy) => {
            let mut outcome = match &stream {
                Some(stream) => engine::run_stream(&problem, stream, policy, engine_options),
                None => engine::run(&problem, policy, engine_options),
            };
            (std::mem::take(&mut outcome.schedule), Some(outcome))
        }
        Decider::Runtime(policy) => {
            let mut outcome = world::play(&problem, policy.as_deref(), options.seed).map_err(|failure| match failure {
                NotPlayed::Unfit(reason) => Failure::usage(format_args!("--engine runtime: {reason}")),
                NotPlayed::Failed(failure) => Failure::new(ExitCode::Bug, failure),
            })?;
            (std::mem::take(&mut outcome.schedule), Some(outcome))
        }
    };
    let cancelled = run.as_ref().map_or(&[][..], |run| &run.cancelled);
    let fates = stream.as_ref().map(|stream| stream.fates(&problem, &schedule, cancelled));
    // What was dropped is no part of what is shown.
    let ran: Vec<u32> = (0..schedule.processor.len() as u32).filter(|task| schedule.processor[*task as usize] != u32::MAX).collect();
    let part;
    let (problem, schedule, run) = if ran.len() < schedule.processor.len() {
        part = workload.only(&ran);
        let mut outcome = Outcome { schedule, ..run.unwrap_or_default() }.only(&ran);
        (problem.only(&part, &ran), std::mem::take(&mut outcome.schedule), Some(outcome))
    } else {
        (problem, schedule, run)
    };
    drop(ran);
    if let Err(fault) = schedule.check(&problem) {
        unreachable!("the schedule of {} cannot be: {fault}", options.policy);
    }
    let makespan_ns = schedule.makespan_ns();
    let bound_ns = problem.lower_bound_ns();
    let busy = schedule.busy_ns(problem.processor_count());
    let decisions = run.as_ref().filter(|_| !is_planned).map(|run| run.decisions.as_slice());
    let planned = || Causes::new(&problem, &schedule, None);
    let causes = explains.then(|| run.as_ref().map_or_else(planned, |run| Causes::of_run(&problem, &schedule, run)));
    let shown = causes.as_ref().map(|causes| Run { problem: &problem, policy: &options.policy, schedule: &schedule, decisions, causes });
    let moved_bytes = run.as_ref().map_or_else(|| moved(&problem, &schedule), |run| run.moved_bytes);
    if options.json {
        let processors =
            busy.iter().enumerate().map(|(processor, busy)| json!({ "name": problem.processor_name(processor), "busy_ns": busy }));
        let mut answer = json!({
            "workload": workload.name(),
            "tasks": workload.len(),
            "edges": workload.edge_count(),
            "policy": options.policy,
            "seed": options.seed,
            "makespan_ns": makespan_ns,
            "lower_bound_ns": bound_ns,
            "utilisation": utilisation(&busy, makespan_ns),
            "moved_bytes": moved_bytes,
            "processors": processors.collect::<Value>(),
            "idle_ns": causes.as_ref().map(idle_json),
            "critical_path": shown.as_ref().map(critical_json),
            "replay": replay(options),
        });
        if let (Some(stream), Some(fates), Some(answer)) = (&stream, &fates, answer.as_object_mut()) {
            answer.insert("stream".into(), stream::json(stream, fates));
        }
        if let (Some(run), Some(answer)) = (&run, answer.as_object_mut()) {
            answer.insert("stolen".into(), run.stolen.into());
            answer.insert("data_wait_ns".into(), run.data_wait_ns.into());
            let reasons = run.reasons.iter().map(|(name, count)| ((*name).to_owned(), Value::from(*count)));
            answer.insert("reasons".into(), Value::Object(reasons.collect()));
        }
        if let Some(shown) = &shown {
            pictures.write(shown, true, console)?;
        }
        return console.line(answer);
    }
    let time = |ns: u64| duration(Duration::from_nanos(ns));
    let tasks = counted(workload.len() as u64, "task");
    let edges = counted(workload.edge_count() as u64, "edge");
    let on = counted(problem.processor_count() as u64, "processor");
    console.line(format_args!("{}: {tasks} and {edges} on {on}, by {}", Styled(NAME, workload.name()), options.policy))?;
    let above = if bound_ns == 0 { 0.0 } else { (makespan_ns as f64 / bound_ns as f64 - 1.0) * 100.0 };
    console.line(format_args!(
        "makespan     {} ({} ns), {above:.1} % above the bound of {}",
        time(makespan_ns),
        digits(makespan_ns),
        time(bound_ns)
    ))?;
    console.line(format_args!("utilisation  {:.1} %", utilisation(&busy, makespan_ns) * 100.0))?;
    for (processor, busy) in busy.iter().enumerate().take(PROCESSORS_SHOWN) {
        let share = if makespan_ns == 0 { 0.0 } else { *busy as f64 / makespan_ns as f64 * 100.0 };
        console.line(format_args!("  {:10} {share:5.1} %", problem.processor_name(processor)))?;
    }
    if busy.len() > PROCESSORS_SHOWN {
        console.line(format_args!("  … {} more", busy.len() - PROCESSORS_SHOWN))?;
    }
    let idle_ns = makespan_ns.saturating_mul(busy.len() as u64).saturating_sub(busy.iter().sum());
    match &shown {
        Some(shown) => {
            console.line(format_args!("idle         {}", idle_words(shown.causes)))?;
            console.line(format_args!("critical     {}", critical_words(shown)))?;
        }
        None => console.line(format_args!("idle         {} of all processors together; --explain says why", time(idle_ns)))?,
    }
    console.line(format_args!("moved        {}", size(moved_bytes)))?;
    if let (Some(stream), Some(fates)) = (&stream, &fates) {
        for line in stream::lines(stream, fates) {
            console.line(line)?;
        }
    }
    if let Some(run) = &run {
        console.line(format_args!("stolen       {}", counted(run.stolen, "task")))?;
        console.line(format_args!("data wait    {}", time(run.data_wait_ns)))?;
        let reasons: Vec<String> = run.reasons.iter().map(|(name, count)| format!("{name} {}", digits(*count))).collect();
        if !reasons.is_empty() {
            console.line(format_args!("why          {}", reasons.join(", ")))?;
        }
    }
    if let Some(shown) = &shown {
        pictures.write(shown, false, console)?;
    }
    console.line(Styled(QUIET, format_args!("replay       {}", replay(options))))
}

/// Reads or makes a workload that the command line names.
pub(super) fn workload(named: &Path, options: &SimulateOptions) -> Result<Workload, Failure> {
    let round_to_ms = options.round_costs == Some(RoundCosts::Ms);
    match named.to_str().filter(|text| Generate::is_meant(text)) {
        Some(text) => {
            let generate = Generate::parse(text).map_err(Failure::usage)?;
            room::check(text, generate.bytes_estimate())?;
            Ok(generate.workload())
        }
        None => read(named, ReadOptions { round_to_ms }).map_err(Failure::input),
    }
}

/// Of so many tasks it is always said why a run took as long as it did. That takes several times as much memory as the run itself.
const EXPLAINED_TASKS: usize = 100_000;

fn idle_json(causes: &Causes) -> Value {
    Idle::ALL.iter().map(|idle| (key(idle.name()), causes.idle_ns(*idle).into())).collect::<Map<_, Value>>().into()
}

/// A name as a key of JSON.
fn key(name: &str) -> String {
    name.replace(' ', "_")
}

/// Why the critical path waits, where it waits at all.
const WAITS: [Cause; 2] = [Cause::Data, Cause::Policy];

fn idle_words(causes: &Causes) -> String {
    let all: u64 = Idle::ALL.iter().map(|idle| causes.idle_ns(*idle)).sum();
    if all == 0 {
        return "never".into();
    }
    let parts = Idle::ALL.map(|idle| format!("{} {:.0} %", idle.name(), causes.idle_ns(idle) as f64 / all as f64 * 100.0));
    format!("{} of all processors together: {}", duration(Duration::from_nanos(all)), parts.join(", "))
}

/// How many tasks of the critical path began for this reason.
fn critical_count(causes: &Causes, cause: Cause) -> u64 {
    causes.critical().iter().filter(|task| causes.step(**task).cause == cause).count() as u64
}

fn critical_words(run: &Run<'_>) -> String {
    let causes = run.causes;
    let waits = WAITS.map(|cause| (cause, causes.critical_wait_ns(cause)));
    let waits: String = waits
        .iter()
        .filter(|(_, ns)| *ns > 0)
        .map(|(cause, ns)| format!(", {} of waiting for {}", duration(Duration::from_nanos(*ns)), cause.name()))
        .collect();
    let began = [(Cause::Dependency, "what they need"), (Cause::Processor, "their processor")].map(|(cause, what)| {
        let count = critical_count(causes, cause);
        (count > 0).then(|| format!("{} behind {what}", digits(count)))
    });
    let began: Vec<String> = began.into_iter().flatten().collect();
    let began = if began.is_empty() { String::new() } else { format!(" ({})", began.join(", ")) };
    format!("{}{began}{waits}", counted(causes.critical().len() as u64, "task"))
}

fn critical_json(run: &Run<'_>) -> Value {
    let causes = run.causes;
    let length_ns = |task: &usize| run.schedule.end_ns[*task] - run.schedule.start_ns[*task];
    let began = [Cause::Begin, Cause::Dependency, Cause::Data, Cause::Processor, Cause::Policy];
    json!({
        "tasks": causes.critical().len(),
        "work_ns": causes.critical().iter().map(length_ns).sum::<u64>(),
        "data_ns": causes.critical_wait_ns(Cause::Data),
        "policy_ns": causes.critical_wait_ns(Cause::Policy),
        "began": began.iter().map(|cause| (key(cause.name()), critical_count(causes, *cause).into())).collect::<Map<_, Value>>(),
    })
}

/// So many processors have a line of their own.
const PROCESSORS_SHOWN: usize = 16;

pub(super) fn decider(name: &str) -> Result<Decider, Failure> {
    if let Some(planner) = planner(name) {
        return Ok(Decider::Planner(planner));
    }
    let live = name.strip_prefix(LIVE).unwrap_or(name);
    policy::by_name(live).map(Decider::Policy).map_err(|_| {
        let names = POLICIES.iter().map(|known| known.name).chain(PLANNERS.iter().map(|planner| planner.name));
        let near = names.clone().map(|known| (strsim::osa_distance(live, known), known)).min();
        let hint =
            near.filter(|(distance, near)| distance * 3 <= near.len().max(live.len())).map(|(_, near)| format!("; did you mean `{near}`?"));
        let (policies, planners) = (POLICIES.map(|known| known.name).join(", "), PLANNERS.map(|planner| planner.name).join(", "));
        Failure::usage(format_args!(
            "--policy: no policy is called `{name}`{}; there are {policies}, and the planners {planners}",
            hint.unwrap_or_default()
        ))
    })
}

/// What the runtime is under in virtual time.
fn runtime_decider(name: &str) -> Result<Decider, Failure> {
    if name == OWN {
        return Ok(Decider::Runtime(None));
    }
    let live = name.strip_prefix(LIVE).unwrap_or(name);
    // A planner runs nothing.
    match policy::by_name(live) {
        Ok(_) => Ok(Decider::Runtime(Some(live.to_owned()))),
        Err(_) => decider(name).and_then(|_| {
            Err(Failure::usage(format_args!("--engine runtime: `{name}` is a planner, and plans are not run by the runtime")))
        }),
    }
}

/// What a plan moves from one memory space to another.
fn moved(problem: &Problem<'_>, schedule: &Schedule) -> u64 {
    let workload = problem.workload();
    let space = |task: usize| problem.space(schedule.processor[task] as usize);
    let edges = (0..workload.len()).flat_map(|task| workload.edges_out(task).map(move |edge| (task, edge)));
    edges
        .filter(|(task, edge)| space(*task) != space(workload.target(*edge)))
        .map(|(_, edge)| workload.bytes(edge))
        .fold(0, u64::saturating_add)
}

/// Which share of the time processors work.
fn utilisation(busy: &[u64], makespan_ns: u64) -> f64 {
    let all = makespan_ns as f64 * busy.len() as f64;
    if all == 0.0 { 0.0 } else { busy.iter().map(|ns| *ns as f64).sum::<f64>() / all }
}

/// The command that does the same again.
fn replay(options: &SimulateOptions) -> String {
    let mut words = vec!["poniard simulate".to_owned(), quoted(&options.workload.display().to_string())];
    if let Some(platform) = &options.platform {
        words.push(format!("--platform {}", quoted(&platform.display().to_string())));
    }
    if let Some(speeds) = &options.speeds {
        words.push(format!("--speeds {}", speeds.iter().map(f64::to_string).collect::<Vec<_>>().join(",")));
    }
    if let Some(bandwidth) = options.bandwidth {
        words.push(format!("--bandwidth {bandwidth}"));
    }
    if options.round_costs.is_some() {
        words.push("--round-costs ms".into());
    }
    if options.explain {
        words.push("--explain".into());
    }
    if options.engine == SimEngine::Runtime {
        words.push("--engine runtime".into());
    }
    words.extend(machine::words(&options.machine));
    words.extend(stream::words(&options.stream));
    words.push(format!("--policy {} --seed {}", options.policy, options.seed));
    words.join(" ")
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:,=+@".contains(c));
    if is_plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
