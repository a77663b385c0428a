//! Why tasks ran where they ran: what `poniard run --explain` prints.

use std::time::Duration;

use poniard::{Explanation, Handle, IdleReport, PlacementReport, Report};
use serde_json::{Value, json};

use crate::report::{counted, duration, size};

/// So many tasks are explained one by one, unless they are asked for by name.
const SHOWN: usize = 20;

/// The summary, and a paragraph for each task whose name has `filter` in it.
pub fn lines(runtime: &Handle, report: &Report, filter: &str) -> Vec<String> {
    let mut lines =
        vec![report.placement.as_ref().map_or_else(|| "no task had a choice: each ran on the first worker that was free".into(), summary)];
    lines.extend(idle_lines(report));
    let explanations = runtime.explanations();
    let mut wanted = explanations.iter().filter(|explanation| explanation.task.contains(filter)).peekable();
    if wanted.peek().is_none() && !filter.is_empty() {
        lines.push(format!("no task that was placed has a name with `{filter}` in it"));
    }
    let most = if filter.is_empty() { SHOWN } else { usize::MAX };
    for explanation in wanted.by_ref().take(most) {
        lines.extend(paragraph(explanation));
    }
    let left = wanted.count();
    if left > 0 {
        lines.push(format!("and {} more; --explain=NAME shows all whose names have NAME in them", counted(left as u64, "task")));
    }
    lines
}

/// `placement by earliest-finish: 32 tasks had a choice, of which 3 were guessed and 4 explored ...`.
fn summary(report: &PlacementReport) -> String {
    let PlacementReport { policy, decisions, guessed, explored, kept, moved, missing_bytes, missing_bytes_min } = report;
    format!(
        "placement by {policy}: {} with a choice; {guessed} guessed, {explored} to explore, {kept} kept where their like ran, {moved} moved later; \
         {} had to be moved to where they were placed, and {} at least",
        counted(*decisions, "task"),
        size(*missing_bytes),
        size(*missing_bytes_min)
    )
}

/// A line for each worker that slept although tasks were unfinished.
fn idle_lines(report: &Report) -> impl Iterator<Item = String> + '_ {
    let processors = report.backends.iter().flat_map(|backend| &backend.processors);
    processors.filter_map(|processor| {
        let IdleReport { no_ready_work_ns, data_ns, memory_ns, policy_ns } = processor.idle;
        let causes = [
            (no_ready_work_ns, "no task was ready"),
            (data_ns, "for data"),
            (memory_ns, "for memory"),
            (policy_ns, "as the policy wanted"),
        ];
        let parts: Vec<_> = causes.iter().filter(|(ns, _)| *ns > 0).map(|(ns, cause)| format!("{} {cause}", time(*ns))).collect();
        (!parts.is_empty()).then(|| format!("{} had nothing to do: {}", processor.name, parts.join(", ")))
    })
}

fn time(ns: u64) -> String {
    duration(Duration::from_nanos(ns))
}

/// What was decided about one task, a line for each place that it could have run at.
fn paragraph(explanation: &Explanation) -> Vec<String> {
    let chosen = explanation.chosen.as_deref().unwrap_or("any");
    let ran = match (&explanation.ran, explanation.took_ns) {
        (Some(processor), Some((expected, took))) => {
            format!("; {processor} took {} for it, and {} were expected", time(took), time(expected))
        }
        (Some(processor), None) => format!("; {processor} took it"),
        _ => "; whoever waited for it ran it".into(),
    };
    let mut lines = vec![format!("{} ({}): {chosen}, {}{ran}", explanation.task, explanation.location, explanation.why)];
    for one in &explanation.considered {
        let measured = match one.measurements {
            0 => "a guess".to_owned(),
            count => format!("measured {count} times"),
        };
        let transfer = match one.missing_bytes {
            0 => String::new(),
            bytes => format!(", {} for {}", time(one.transfer_ns), size(bytes)),
        };
        lines.push(format!(
            "    {}: over after {}; {} itself ({measured}){transfer}",
            one.place,
            time(one.finish_ns),
            time(one.execution_ns)
        ));
    }
    lines
}

/// The same for programs.
pub fn as_json(runtime: &Handle, report: &Report) -> Value {
    let explanations = runtime.explanations().into_iter().map(|explanation| {
        let considered = explanation.considered.iter().map(|one| {
            json!({
                "place": one.place,
                "execution_ns": one.execution_ns,
                "measurements": one.measurements,
                "transfer_ns": one.transfer_ns,
                "missing_bytes": one.missing_bytes,
                "finish_ns": one.finish_ns,
            })
        });
        json!({
            "task": explanation.task,
            "location": explanation.location.to_string(),
            "size": explanation.size,
            "considered": considered.collect::<Value>(),
            "chosen": explanation.chosen,
            "why": explanation.why.name(),
            "ran": explanation.ran,
            "expected_ns": explanation.took_ns.map(|(expected, _)| expected),
            "took_ns": explanation.took_ns.map(|(_, took)| took),
        })
    });
    let summary = report.placement.as_ref().map(|placement| {
        json!({
            "policy": placement.policy,
            "decisions": placement.decisions,
            "guessed": placement.guessed,
            "explored": placement.explored,
            "kept": placement.kept,
            "moved": placement.moved,
            "missing_bytes": placement.missing_bytes,
            "missing_bytes_min": placement.missing_bytes_min,
        })
    });
    json!({ "summary": summary, "tasks": explanations.collect::<Value>() })
}
