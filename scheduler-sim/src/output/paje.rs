//! A trace in the Paje format, which ViTE and PajeNG read: text, times in seconds.
//!
//! From Lucas Mello Schnorr, "Paje trace file format", 2016: definitions of events first, then events by time. A container for each processor, whose state is the code of its task
//! or why it has none; one for each memory space, with a link for what travels from one to another.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Run;

/// What events there are: a number, a name and fields.
const EVENTS: [(u32, &str, &[&str]); 9] = [
    (0, "PajeDefineContainerType", &["Alias string", "Type string", "Name string"]),
    (1, "PajeDefineStateType", &["Alias string", "Type string", "Name string"]),
    (2, "PajeDefineLinkType", &["Alias string", "Type string", "StartContainerType string", "EndContainerType string", "Name string"]),
    (3, "PajeDefineEntityValue", &["Alias string", "Type string", "Name string", "Color color"]),
    (4, "PajeCreateContainer", &["Time date", "Alias string", "Type string", "Container string", "Name string"]),
    (5, "PajeDestroyContainer", &["Time date", "Type string", "Name string"]),
    (6, "PajeSetState", &["Time date", "Type string", "Container string", "Value string", "Task string"]),
    (7, "PajeStartLink", &["Time date", "Type string", "Container string", "StartContainer string", "Value string", "Key string"]),
    (8, "PajeEndLink", &["Time date", "Type string", "Container string", "EndContainer string", "Value string", "Key string"]),
];

/// A string between quotes. The format has no way to write a quote in one, or the end of a line.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "'").replace(|c: char| c.is_control(), " "))
}

/// In seconds.
fn seconds(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// A colour of its own for each number, none of them near grey.
fn colour(number: usize) -> String {
    // Steps of the golden ratio around the circle of hues leave no two near each other.
    let hue = (number as f64 * 0.618_033_988_749_895).fract() * 6.0;
    let of = |shift: f64| {
        let at = (hue + shift) % 6.0;
        0.25 + 0.65 * (2.0 - (at - 3.0).abs()).clamp(0.0, 1.0)
    };
    format!("\"{:.3} {:.3} {:.3}\"", of(3.0), of(1.0), of(5.0))
}

/// The trace.
#[must_use]
pub fn paje(run: &Run<'_>) -> String {
    let Run { problem, schedule, causes, .. } = *run;
    let workload = problem.workload();
    let mut text = String::new();
    // Writing to a string does not fail.
    for (number, name, fields) in EVENTS {
        let _ = writeln!(text, "%EventDef {name} {number}");
        fields.iter().for_each(|field| _ = writeln!(text, "% {field}"));
        let _ = writeln!(text, "%EndEventDef");
    }
    text.push_str(
        "0 M 0 \"machine\"\n0 P M \"processor\"\n0 S M \"memory space\"\n1 R P \"what it does\"\n2 T M S S \"transfer\"\n3 T0 T \"data\" \"0.3 0.3 0.3\"\n",
    );
    for (number, code) in workload.code_names().iter().enumerate() {
        let _ = writeln!(text, "3 c{number} R {} {}", quoted(code), colour(number));
    }
    let mut idles = BTreeMap::new();
    for gap in causes.gaps() {
        idles.entry(gap.idle).or_insert_with(|| format!("i{}", gap.idle.name().replace(' ', "-")));
    }
    for (idle, alias) in &idles {
        let _ = writeln!(text, "3 {alias} R {} \"0.85 0.85 0.85\"", quoted(&format!("idle: {}", idle.name())));
    }
    let title = format!("{} by {}", workload.name(), run.policy);
    let _ = writeln!(text, "4 {} m M 0 {}", seconds(0), quoted(&title));
    for processor in 0..problem.processor_count() {
        let _ = writeln!(text, "4 {} p{processor} P m {}", seconds(0), quoted(problem.processor_name(processor)));
    }
    for space in 0..problem.space_count() {
        let _ = writeln!(text, "4 {} s{space} S m {}", seconds(0), quoted(problem.space_name(space)));
    }
    // By time; of equal ones what was pushed first.
    let mut events: Vec<(u64, String)> = Vec::new();
    for processor in 0..problem.processor_count() {
        for &task in causes.lane(processor) {
            let (code, name) = (workload.code(task), quoted(workload.task_name(task)));
            events.push((schedule.start_ns[task], format!("R p{processor} c{code} {name}")));
        }
    }
    for gap in causes.gaps() {
        events.push((gap.start_ns, format!("R p{} {} \"\"", gap.processor, idles[&gap.idle])));
    }
    let states = events.len();
    for transfer in causes.transfers() {
        let key = transfer.edge;
        events.push((transfer.start_ns, format!("T m s{} T0 {key}", transfer.from)));
        events.push((transfer.end_ns, format!("T m s{} T0 {key}", transfer.to)));
    }
    let mut order: Vec<usize> = (0..events.len()).collect();
    order.sort_by_key(|event| events[*event].0);
    for event in order {
        let number = if event < states { 6 } else { 7 + (event - states) % 2 };
        let (at_ns, rest) = &events[event];
        let _ = writeln!(text, "{number} {} {rest}", seconds(*at_ns));
    }
    let end = seconds(schedule.makespan_ns());
    let spaces = (0..problem.space_count()).map(|space| format!("S s{space}"));
    let processors = (0..problem.processor_count()).map(|processor| format!("P p{processor}"));
    for container in spaces.chain(processors).chain(["M m".to_owned()]) {
        let _ = writeln!(text, "5 {end} {container}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::with_runs;

    /// The fields of a line, strings between quotes as one.
    fn fields(line: &str) -> Vec<String> {
        let mut fields = Vec::new();
        let mut rest = line.trim();
        while !rest.is_empty() {
            let (field, behind) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').expect("a string has an end"),
                None => rest.split_once(' ').unwrap_or((rest, "")),
            };
            fields.push(field.to_owned());
            rest = behind.trim_start();
        }
        fields
    }

    #[test]
    fn lines_have_the_fields_that_are_defined_come_by_time_and_tell_of_each_task_and_transfer() {
        with_runs(|run| {
            let text = paje(run);
            let mut wanted: BTreeMap<String, usize> = BTreeMap::new();
            let mut number = String::new();
            let mut last = 0.0;
            let mut aliases: Vec<String> = vec!["0".into()];
            let mut states = Vec::new();
            let mut links: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
            for line in text.lines() {
                if let Some(definition) = line.strip_prefix("%EventDef ") {
                    number = definition.split(' ').nth(1).unwrap().to_owned();
                    wanted.insert(number.clone(), 1);
                } else if line.starts_with("% ") {
                    *wanted.get_mut(&number).unwrap() += 1;
                } else if !line.starts_with('%') {
                    let fields = fields(line);
                    assert_eq!(fields.len(), wanted[&fields[0]], "{line}");
                    match fields[0].as_str() {
                        "0" | "1" | "2" | "3" => aliases.push(fields[1].clone()),
                        kind => {
                            let time: f64 = fields[1].parse().unwrap();
                            assert!(time >= last, "{line}");
                            last = time;
                            match kind {
                                "4" => aliases.push(fields[2].clone()),
                                "6" => states.push(fields.clone()),
                                "7" | "8" => links.entry(fields[6].clone()).or_default().push(fields.clone()),
                                _ => {}
                            }
                        }
                    }
                    let named = match fields[0].as_str() {
                        "0" | "1" | "3" => &fields[2..3],
                        "2" => &fields[2..5],
                        "4" => &fields[3..5],
                        "5" => &fields[2..4],
                        _ => &fields[2..5],
                    };
                    assert!(named.iter().all(|alias| aliases.contains(alias)), "{line}");
                }
            }
            for task in 0..3 {
                let code = format!("c{}", run.problem.workload().code(task));
                let place = format!("p{}", run.schedule.processor[task]);
                let start = seconds(run.schedule.start_ns[task]);
                let is_it = |state: &&Vec<String>| (&state[1], &state[3], &state[4]) == (&start, &place, &code);
                assert_eq!(states.iter().filter(is_it).count(), 1, "{task} in {text}");
            }
            assert!(states.iter().any(|state| state[5] == "second 'two'"), "{text}");
            assert_eq!(states.len(), 3 + run.causes.gaps().len());
            assert_eq!(links.len(), run.causes.transfers().len());
            for (key, ends) in links {
                assert!(matches!(&ends[..], [start, end] if start[0] == "7" && end[0] == "8" && start[4] != end[4]), "{key} in {text}");
            }
            assert!((last - run.schedule.makespan_ns() as f64 / 1e9).abs() < 1e-9);
        });
    }
}
