//! A trace in the format of Chrome's trace viewer, which Perfetto and Speedscope open as well: JSON, times in microseconds.
//!
//! A track for each processor, with its tasks and the reasons why it has none; arrows along the dependencies; lanes for what travels between memory spaces; the critical path;
//! and how many tasks are ready and running.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Run, Transfer};

/// The groups of tracks.
const PROCESSORS: u32 = 1;
const TRANSFERS: u32 = 2;
const CRITICAL: u32 = 3;

/// The events, one after the other.
struct Events {
    text: String,
    is_first: bool,
}

impl Events {
    /// An event of this phase, with fields that are JSON already.
    fn push(&mut self, phase: char, group: u32, track: usize, at_ns: u64, rest: std::fmt::Arguments<'_>) {
        let comma = if std::mem::take(&mut self.is_first) { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(
            self.text,
            "{comma}\n{{\"ph\":\"{phase}\",\"pid\":{group},\"tid\":{track},\"ts\":{}.{:03}{rest}}}",
            at_ns / 1000,
            at_ns % 1000
        );
    }

    fn slice(&mut self, group: u32, track: usize, (start_ns, end_ns): (u64, u64), rest: std::fmt::Arguments<'_>) {
        let length_ns = end_ns - start_ns;
        self.push('X', group, track, start_ns, format_args!(",\"dur\":{}.{:03}{rest}", length_ns / 1000, length_ns % 1000));
    }

    /// What a group or one of its tracks is called, and where among the others it stands.
    fn name(&mut self, what: &str, group: u32, track: usize, name: &str) {
        self.push('M', group, track, 0, format_args!(",\"name\":\"{what}_name\",\"args\":{{\"name\":{}}}", quoted(name)));
        self.push('M', group, track, 0, format_args!(",\"name\":\"{what}_sort_index\",\"args\":{{\"sort_index\":{track}}}"));
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The trace.
#[must_use]
pub fn trace(run: &Run<'_>) -> String {
    let mut events = Events { text: "{\"displayTimeUnit\":\"ns\",\"traceEvents\":[".into(), is_first: true };
    tasks(run, &mut events);
    edges(run, &mut events);
    transfers(run, &mut events);
    critical(run, &mut events);
    counters(run, &mut events);
    let title = format!("{} by {}", run.problem.workload().name(), run.policy);
    let _ = writeln!(events.text, "\n],\"otherData\":{{\"run\":{}}}}}", quoted(&title));
    events.text
}

fn tasks(run: &Run<'_>, events: &mut Events) {
    let Run { problem, schedule, causes, .. } = *run;
    let workload = problem.workload();
    events.name("process", PROCESSORS, 0, "processors");
    let mut decided = vec!["planned"; problem.len()];
    run.decisions.unwrap_or_default().iter().for_each(|one| decided[one.task as usize] = one.decision.why.name());
    for processor in 0..problem.processor_count() {
        events.name("thread", PROCESSORS, processor, problem.processor_name(processor));
        for &task in causes.lane(processor) {
            let step = causes.step(task);
            let times = (schedule.start_ns[task], schedule.end_ns[task]);
            events.slice(
                PROCESSORS,
                processor,
                times,
                format_args!(
                    ",\"name\":{},\"cat\":{},\"args\":{{\"task\":{task},\"placed\":\"{}\",\"began\":\"{}\",\"ready_ns\":{}}}",
                    quoted(workload.task_name(task)),
                    quoted(&workload.code_names()[workload.code(task) as usize]),
                    decided[task],
                    step.cause.name(),
                    causes.ready_ns(task)
                ),
            );
        }
    }
    for gap in causes.gaps() {
        let name = gap.idle.name();
        events.slice(
            PROCESSORS,
            gap.processor,
            (gap.start_ns, gap.end_ns),
            format_args!(",\"name\":\"idle: {name}\",\"cat\":\"idle\",\"cname\":\"grey\""),
        );
    }
}

/// An arrow for each edge, from the last moment of the one to the beginning of the other.
fn edges(run: &Run<'_>, events: &mut Events) {
    let Run { problem, schedule, .. } = *run;
    let workload = problem.workload();
    for source in 0..problem.len() {
        for edge in workload.edges_out(source) {
            let target = workload.target(edge);
            let flow = format!(",\"name\":\"dependency\",\"cat\":\"dependency\",\"id\":{edge}");
            // Within the slice, or the arrow begins at another one.
            let leaves_ns = schedule.end_ns[source].saturating_sub(1).max(schedule.start_ns[source]);
            events.push('s', PROCESSORS, schedule.processor[source] as usize, leaves_ns, format_args!("{flow}"));
            let processor = schedule.processor[target] as usize;
            events.push('f', PROCESSORS, processor, schedule.start_ns[target], format_args!("{flow},\"bp\":\"e\""));
        }
    }
}

/// What travels, in lanes for each pair of spaces: as many as at most travel at a time.
fn transfers(run: &Run<'_>, events: &mut Events) {
    let Run { problem, causes, .. } = *run;
    if causes.transfers().is_empty() {
        return;
    }
    events.name("process", TRANSFERS, 0, "transfers");
    let mut pairs: BTreeMap<(usize, usize), Vec<&Transfer>> = BTreeMap::new();
    causes.transfers().iter().for_each(|transfer| pairs.entry((transfer.from, transfer.to)).or_default().push(transfer));
    let mut first_track = 0;
    for ((from, to), mut transfers) in pairs {
        transfers.sort_by_key(|transfer| (transfer.start_ns, transfer.edge));
        let mut lanes = super::gantt::Lanes::default();
        for transfer in transfers {
            let (lane, is_new) = lanes.put(transfer.start_ns, transfer.end_ns);
            let track = first_track + lane;
            if is_new {
                events.name("thread", TRANSFERS, track, &format!("{} to {}", problem.space_name(from), problem.space_name(to)));
            }
            let workload = problem.workload();
            events.slice(
                TRANSFERS,
                track,
                (transfer.start_ns, transfer.end_ns),
                format_args!(
                    ",\"name\":{},\"cat\":\"transfer\",\"args\":{{\"bytes\":{}}}",
                    quoted(&format!("{} to {}", workload.task_name(transfer.source), workload.task_name(transfer.target))),
                    workload.bytes(transfer.edge)
                ),
            );
        }
        first_track += lanes.len();
    }
}

fn critical(run: &Run<'_>, events: &mut Events) {
    let Run { problem, schedule, causes, .. } = *run;
    events.name("process", CRITICAL, 0, "critical path");
    for &task in causes.critical() {
        let (step, start_ns) = (causes.step(task), schedule.start_ns[task]);
        if step.wait_ns > 0 {
            let name = step.cause.name();
            events.slice(CRITICAL, 0, (start_ns - step.wait_ns, start_ns), format_args!(",\"name\":\"wait: {name}\",\"cat\":\"wait\""));
        }
        let name = quoted(problem.workload().task_name(task));
        let rest = format_args!(",\"name\":{name},\"cat\":\"task\",\"args\":{{\"began\":\"{}\"}}", step.cause.name());
        events.slice(CRITICAL, 0, (start_ns, schedule.end_ns[task]), rest);
    }
}

/// How many tasks are ready and how many run, at each time when that changes.
fn counters(run: &Run<'_>, events: &mut Events) {
    let Run { problem, schedule, causes, .. } = *run;
    let mut changes: BTreeMap<u64, (i64, i64)> = BTreeMap::new();
    for task in 0..problem.len() {
        let mut change = |at_ns: u64, ready: i64, running: i64| {
            let change = changes.entry(at_ns).or_default();
            *change = (change.0 + ready, change.1 + running);
        };
        change(causes.ready_ns(task), 1, 0);
        change(schedule.start_ns[task], -1, 1);
        change(schedule.end_ns[task], 0, -1);
    }
    let mut now = (0, 0);
    for (at_ns, change) in changes {
        now = (now.0 + change.0, now.1 + change.1);
        for (name, count) in [("ready tasks", now.0), ("running tasks", now.1)] {
            events.push('C', PROCESSORS, 0, at_ns, format_args!(",\"name\":\"{name}\",\"args\":{{\"tasks\":{count}}}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::output::tests::with_runs;

    #[test]
    fn it_is_json_and_has_tracks_arrows_transfers_and_counters() {
        with_runs(|run| {
            let trace: Value = serde_json::from_str(&trace(run)).unwrap();
            let events = trace["traceEvents"].as_array().unwrap();
            let of = |phase: &str, name: &str| {
                events.iter().filter(|event| event["ph"] == phase && event["name"] == name).cloned().collect::<Vec<_>>()
            };
            let third = &of("X", "third")[0];
            let end_us = |slice: &Value| slice["ts"].as_f64().unwrap() + slice["dur"].as_f64().unwrap();
            assert_eq!(third["dur"].as_f64().unwrap(), 1_500_000.001);
            // The critical path ends where the run does.
            let path: Vec<_> = events.iter().filter(|event| event["pid"] == CRITICAL && event["ph"] == "X").collect();
            assert_eq!(end_us(path.last().unwrap()), end_us(third));
            assert_eq!(path.iter().map(|slice| slice["dur"].as_f64().unwrap()).sum::<f64>(), end_us(third));
            // Each arrow begins inside of a slice and ends where another one begins.
            assert_eq!((of("s", "dependency").len(), of("f", "dependency").len()), (2, 2));
            for (phase, at_end) in [("s", true), ("f", false)] {
                for arrow in of(phase, "dependency") {
                    let ts = arrow["ts"].as_f64().unwrap();
                    let fits = |slice: &&Value| {
                        slice["ph"] == "X"
                            && slice["pid"] == PROCESSORS
                            && slice["tid"] == arrow["tid"]
                            && slice["cat"] != "idle"
                            && if at_end {
                                slice["ts"].as_f64().unwrap() < ts && ts < end_us(slice)
                            } else {
                                slice["ts"].as_f64().unwrap() == ts
                            }
                    };
                    assert_eq!(events.iter().filter(fits).count(), 1, "{arrow}");
                }
            }
            assert_eq!(of("C", "ready tasks").last().unwrap()["args"]["tasks"], 0);
            assert_eq!(of("C", "running tasks")[0]["args"]["tasks"], 2);
            let moved = events.iter().find(|event| event["cat"] == "transfer").unwrap();
            assert_eq!(
                (moved["args"]["bytes"].as_u64().unwrap(), moved["name"].as_str().unwrap()),
                match run.policy {
                    "heft" => (1, "first, <one> to third"),
                    _ => (3, "second\n\"two\" to third"),
                }
            );
            assert!(events.iter().any(|event| event["name"] == "idle: no ready work"), "{}", run.policy);
        });
    }
}
