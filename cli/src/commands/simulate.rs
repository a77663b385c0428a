//! `poniard simulate`: what a policy makes of a workload on a machine that need not be there.

use std::time::Duration;

use poniard_scheduler_sim::Problem;
use poniard_scheduler_sim::engine::{EngineOptions, Outcome};
use poniard_scheduler_sim::output::{Cause, Causes, Idle, Run};
use poniard_scheduler_sim::stream::Stream;
use serde_json::{Map, Value, json};

use super::decider::{Decided, Decider, moved_by_plan};
use super::machine::{self, quoted};
use super::pictures::Pictures;
use super::{search, stream};
use crate::console::{Console, NAME, QUIET, Styled};
use crate::exit_code::ExitCode;
use crate::failure::Failure;
use crate::options::SimulateOptions;
use crate::report::{counted, digits, duration, size};

/// Simulates one run.
pub fn simulate(options: &SimulateOptions, console: &mut Console) -> Result<(), Failure> {
    let decider = Decider::named(&options.policy, options.engine, &search(&options.plugins)?, "--policy")?;
    let platform = machine::platform(&options.machine_source(), &options.machine)?;
    let pictures = Pictures::prepare(&options.pictures, options.json, console)?;
    stream::check(&decider, options)?;
    let own = machine::workload(&options.workload, options.round_costs, options.cores)?;
    let stream = stream::stream(options, &own)?;
    let workload = stream.as_ref().map_or(&own, Stream::workload);
    let problem = Problem::new(workload, &platform);
    problem.check(&platform).map_err(Failure::input)?;
    decider.check(&problem).map_err(|reason| Failure::usage(decider.complaint("--policy", &reason)))?;
    let mut problem = machine::uncertain(problem, &options.machine, options.seed);
    if let Some(stream) = &stream {
        problem = problem.released(stream.releases_ns());
    }
    // What causes rest on takes more memory than the run.
    let explains = options.explain || options.pictures.any() || workload.len() <= EXPLAINED_TASKS;
    let engine_options = EngineOptions { seed: options.seed, keeps_decisions: explains, ..EngineOptions::default() };
    let is_planned = decider.is_planner();
    let decided = decider.decide(&problem, stream.as_ref(), engine_options)?;
    if options.check_determinism {
        let again = decider.decide(&problem, stream.as_ref(), engine_options)?;
        if let Some(difference) = difference(&problem, &decided, &again) {
            return Err(Failure::new(
                ExitCode::Task,
                format_args!("{} does not do the same twice with one seed: {difference}", options.policy),
            ));
        }
    }
    let (schedule, run) = (decided.schedule, decided.run);
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
    let (work_ns, transfer_ns) = problem.volumes_ns();
    let ccr = (work_ns > 0).then(|| transfer_ns as f64 / work_ns as f64);
    let moved_bytes = run.as_ref().map_or_else(|| moved_by_plan(&problem, &schedule), |run| run.moved_bytes);
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
            "ccr": ccr,
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
    if let Some(ccr) = ccr.filter(|ccr| *ccr > 0.0) {
        console.line(format_args!("ccr          {ccr:.3}: how long all data travels beside how long all tasks take"))?;
    }
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

/// Where two runs first differ, if they do.
fn difference(problem: &Problem<'_>, one: &Decided, other: &Decided) -> Option<String> {
    let at = |decided: &Decided, task: usize| {
        let schedule = &decided.schedule;
        (schedule.start_ns[task], schedule.end_ns[task], schedule.processor[task])
    };
    let said = |(start_ns, end_ns, processor): (u64, u64, u32)| match processor {
        u32::MAX => "it does not run".to_owned(),
        processor => format!("from {start_ns} to {end_ns} ns on {}", problem.processor_name(processor as usize)),
    };
    let tasks = (0..problem.len()).filter(|task| at(one, *task) != at(other, *task));
    let task = tasks.min_by_key(|task| at(one, *task));
    match task {
        Some(task) => {
            Some(format!("task `{}`: {}, and then {}", problem.workload().task_name(task), said(at(one, task)), said(at(other, task))))
        }
        None => {
            let runs = (&one.run, &other.run);
            let is_same = match runs {
                (Some(one), Some(other)) => {
                    (&one.decisions, &one.transfers, &one.reasons) == (&other.decisions, &other.transfers, &other.reasons)
                }
                _ => one.run.is_none() == other.run.is_none(),
            };
            (!is_same).then(|| "all tasks run alike, and what was decided or moved is not the same".to_owned())
        }
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

/// Which share of the time processors work.
fn utilisation(busy: &[u64], makespan_ns: u64) -> f64 {
    let all = makespan_ns as f64 * busy.len() as f64;
    if all == 0.0 { 0.0 } else { busy.iter().map(|ns| *ns as f64).sum::<f64>() / all }
}

/// The command that does the same again.
fn replay(options: &SimulateOptions) -> String {
    let mut words = vec!["poniard simulate".to_owned(), quoted(&options.workload.display().to_string())];
    words.extend(machine::source_words(&options.machine_source()));
    words.extend(machine::run_words(options.engine, options.round_costs, &options.plugins));
    words.extend(options.cores.then(|| "--cores".to_owned()));
    words.extend(options.explain.then(|| "--explain".to_owned()));
    words.extend(machine::words(&options.machine));
    words.extend(stream::words(&options.stream));
    words.push(format!("--policy {} --seed {}", quoted(&options.policy), options.seed));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use poniard_scheduler_sim::workload::Generate;
    use poniard_scheduler_sim::{Platform, Schedule};

    use super::*;

    #[test]
    fn runs_that_differ_are_told_apart_by_the_first_task_that_does() {
        let workload = Generate::parse("independent:3").unwrap().workload();
        let platform = Platform::of_speeds(&[1.0, 1.0], None).unwrap();
        let problem = Problem::new(&workload, &platform);
        let decided = |starts: [(u64, u32); 3]| {
            let schedule = Schedule {
                processor: starts.map(|(_, processor)| processor).into(),
                start_ns: starts.map(|(start_ns, _)| start_ns).into(),
                end_ns: starts.map(|(start_ns, _)| start_ns + 5).into(),
            };
            Decided { schedule, run: Some(Outcome::default()), took: Duration::ZERO }
        };
        let one = decided([(7, 0), (0, 0), (0, 1)]);
        assert_eq!(difference(&problem, &one, &decided([(7, 0), (0, 0), (0, 1)])), None);
        let other = difference(&problem, &one, &decided([(5, 0), (0, 0), (9, 1)])).unwrap();
        let name = workload.task_name(2);
        assert_eq!(other, format!("task `{name}`: from 0 to 5 ns on p1, and then from 9 to 14 ns on p1"));
        let mut moved = decided([(7, 0), (0, 0), (0, 1)]);
        moved.run.as_mut().unwrap().reasons.insert("idle", 1);
        assert!(difference(&problem, &one, &moved).unwrap().starts_with("all tasks run alike"));
    }
}
