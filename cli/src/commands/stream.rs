//! Graphs that arrive over time, in `poniard simulate`.

use std::time::Duration;

use poniard_scheduler_sim::Workload;
use poniard_scheduler_sim::stream::{self, Arrivals, Fate, Fates, Spread, Stream};
use serde_json::{Value, json};

use super::decider::Decider;
use super::machine::{self, quoted};
use crate::failure::Failure;
use crate::options::{SimulateOptions, StreamOptions};
use crate::report::{counted, digits, duration};

/// What an argument begins with that names a trace of arrivals.
const TRACE: &str = "trace:";

/// Whether those who decide can have graphs come.
pub(super) fn check(decider: &Decider, options: &SimulateOptions) -> Result<(), Failure> {
    let name = decider.name();
    let reason = match (decider.is_planner(), decider.is_runtime()) {
        _ if options.stream.arrivals.is_none() => return Ok(()),
        (false, false) => return Ok(()),
        (true, _) => format!(
            "`{name}` is a planner, which knows all before anything runs; graphs that arrive need a policy that decides as it goes, such as {}",
            if poniard::policy::by_name(name).is_ok() { format!("live:{name}") } else { "earliest-finish".into() }
        ),
        (false, true) => "graphs that arrive are run by --engine board".into(),
    };
    Err(Failure::usage(format_args!("--arrivals: {reason}")))
}

/// The stream that the command line asks for, if it does.
pub(super) fn stream(options: &SimulateOptions, own: &Workload) -> Result<Option<Stream>, Failure> {
    let StreamOptions { arrivals, also, graphs, priorities, patience } = &options.stream;
    let Some(arrivals) = arrivals else { return Ok(None) };
    let patience_ns = match patience {
        Some(seconds) if !(0.0..=1e9).contains(seconds) => {
            return Err(Failure::usage(format_args!("--patience: {seconds} is no time from 0 to 1e9 seconds")));
        }
        patience => patience.map(|seconds| (seconds * 1e9).round() as u64),
    };
    let mut workloads = vec![own.clone()];
    for named in also {
        workloads.push(machine::workload(named, options.round_costs, options.cores)?);
    }
    let arrivals = match arrivals.strip_prefix(TRACE) {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| Failure::input(format_args!("{path}: {error}")))?;
            Arrivals::from_trace(&text, workloads.len()).map_err(|error| Failure::input(format_args!("{path}: {error}")))?
        }
        None => arrivals.parse().map_err(|error| Failure::usage(format_args!("--arrivals: {error}")))?,
    };
    let drawn = stream::StreamOptions { graph_count: *graphs as usize, priorities: priorities.clone(), patience_ns, seed: options.seed };
    Stream::new(&workloads, &arrivals, &drawn).map(Some).map_err(|error| Failure::input(format_args!("--arrivals: {error}")))
}

/// The words of the command line that ask for it.
pub(super) fn words(options: &StreamOptions) -> Vec<String> {
    let Some(arrivals) = &options.arrivals else { return Vec::new() };
    let mut words = vec![format!("--arrivals {}", quoted(arrivals))];
    words.extend(options.also.iter().map(|also| format!("--also {}", quoted(&also.display().to_string()))));
    if !arrivals.starts_with(TRACE) {
        words.push(format!("--graphs {}", options.graphs));
    }
    if !options.priorities.is_empty() {
        words.push(format!("--priorities {}", options.priorities.iter().map(i32::to_string).collect::<Vec<_>>().join(",")));
    }
    words.extend(options.patience.map(|seconds| format!("--patience {seconds}")));
    words
}

/// How the graphs fared, in lines.
pub(super) fn lines(stream: &Stream, fates: &Fates) -> Vec<String> {
    let of = |spread: Spread, say: &dyn Fn(f64) -> String| {
        let Spread { mean, median, percentile_95, most } = spread;
        format!("mean {}, median {}, 95 % within {}, at most {}", say(mean), say(median), say(percentile_95), say(most))
    };
    let time = |ns: f64| duration(Duration::from_nanos(ns as u64));
    let cancelled: Vec<(usize, &Fate)> = fates.0.iter().enumerate().filter(|(_, fate)| fate.response_ns.is_none()).collect();
    let mut lines = vec![format!("graphs       {}, {} cancelled", digits(fates.0.len() as u64), digits(cancelled.len() as u64))];
    lines.extend(fates.response_ns().map(|spread| format!("response     {}", of(spread, &time))));
    lines.extend(fates.slowdown().map(|spread| format!("slowdown     {}", of(spread, &|times| format!("{times:.2}")))));
    lines.extend(fates.fairness().map(|index| format!("fairness     {index:.3} (Jain's index of the slowdowns)")));
    if !cancelled.is_empty() {
        let dropped: usize = cancelled.iter().map(|(graph, fate)| stream.graphs()[*graph].tasks.len() - fate.ran).sum();
        let wasted = time(fates.wasted_ns() as f64);
        lines.push(format!("dropped      {}; {wasted} of work was for nothing", counted(dropped as u64, "task")));
    }
    lines
}

/// The same as JSON, and each graph.
pub(super) fn json(stream: &Stream, fates: &Fates) -> Value {
    let of = |spread: Option<Spread>| {
        spread.map(
            |Spread { mean, median, percentile_95, most }| json!({ "mean": mean, "median": median, "p95": percentile_95, "max": most }),
        )
    };
    let graphs = stream.graphs().iter().zip(&fates.0).map(|(graph, fate)| {
        json!({
            "workload": graph.workload,
            "tasks": graph.tasks.len(),
            "arrival_ns": graph.arrival_ns,
            "priority": graph.priority,
            "alone_ns": fate.alone_ns,
            "response_ns": fate.response_ns,
            "slowdown": fate.slowdown(),
            "ran": fate.ran,
        })
    });
    json!({
        "graphs": graphs.collect::<Value>(),
        "cancelled": fates.0.iter().filter(|fate| fate.response_ns.is_none()).count(),
        "response_ns": of(fates.response_ns()),
        "slowdown": of(fates.slowdown()),
        "fairness": fates.fairness(),
        "wasted_ns": fates.wasted_ns(),
    })
}
