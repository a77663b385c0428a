//! Poniard's own graph files, TOML or JSON: tasks with kernels, their inputs and what they come after. They say what is computed and not how long that takes, so a task of
//! `wait` takes the time that it waits, and every other one [`UNKNOWN_NS`]: enough to see what can run beside what. A recorded run of the file has real times.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::read::{ReadOptions, Wrong};
use super::{Workload, WorkloadBuilder};

/// What a task takes about which nothing is known: a millisecond.
const UNKNOWN_NS: u64 = 1_000_000;
/// The longest that `wait` waits, in milliseconds.
const MOST_MS: f64 = 3_600_000.0;

#[derive(Deserialize)]
struct File {
    tasks: BTreeMap<String, Task>,
}

#[derive(Deserialize)]
struct Task {
    kernel: String,
    #[serde(default)]
    inputs: Vec<serde_json::Value>,
    #[serde(default)]
    after: Vec<String>,
}

pub(super) fn read_json(name: &str, text: &str, options: ReadOptions) -> Result<Workload, Wrong> {
    let file = serde_json::from_str(text).map_err(|error| Wrong::of_json(&error))?;
    made(name, file, options)
}

pub(super) fn read_toml(name: &str, text: &str, options: ReadOptions) -> Result<Workload, Wrong> {
    let file = toml::from_str(text).map_err(|error| {
        let before = &text[..error.span().map_or(0, |span| span.start).min(text.len())];
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Wrong::at(format_args!("line {}, column {column}", before.matches('\n').count() + 1), error.message())
    })?;
    made(name, file, options)
}

fn made(name: &str, file: File, options: ReadOptions) -> Result<Workload, Wrong> {
    if file.tasks.is_empty() {
        return Err(Wrong::at("tasks", "there is no task in it"));
    }
    let mut builder = WorkloadBuilder::new(name);
    let mut numbers = BTreeMap::new();
    for (name, task) in &file.tasks {
        let work_ns = match (task.kernel.as_str(), &task.inputs[..]) {
            ("wait", [input]) if input.is_number() => {
                let ms = input.as_f64().filter(|ms| (0.0..=MOST_MS).contains(ms));
                let ms = ms.ok_or_else(|| {
                    Wrong::at(format_args!("tasks.{name}.inputs[0]"), format_args!("it waits between 0 and {MOST_MS} ms, not {input}"))
                })?;
                options.nanoseconds(ms / 1e3).map_err(|reason| Wrong::at(format_args!("tasks.{name}.inputs[0]"), reason))?
            }
            _ => UNKNOWN_NS,
        };
        numbers.insert(name.as_str(), builder.task(name, &task.kernel, work_ns));
    }
    for (name, task) in &file.tasks {
        let inputs = task.inputs.iter().enumerate().filter_map(|(index, input)| {
            let reference = input.as_str()?.strip_prefix('@')?;
            // Two of them are a text that begins with one.
            (!reference.starts_with('@')).then(|| (format!("inputs[{index}]"), reference))
        });
        let after = task.after.iter().enumerate().map(|(index, other)| (format!("after[{index}]"), other.as_str()));
        for (field, other) in inputs.chain(after) {
            let Some(from) = numbers.get(other) else {
                return Err(Wrong::at(format_args!("tasks.{name}.{field}"), format_args!("there is no task `{other}`")));
            };
            builder.edge(*from, numbers[name.as_str()], 0);
        }
    }
    Ok(builder.build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_and_what_comes_before_are_edges() {
        let text = "[tasks.b]\nkernel = 'add'\ninputs = ['@a', 3, '@@a', [1, 2]]\n[tasks.a]\nkernel = 'wait'\ninputs = [2.5]\n[tasks.c]\nkernel = 'add'\nafter = ['b']\n";
        let workload = read_toml("g", text, ReadOptions::default()).unwrap();
        assert_eq!((workload.len(), workload.edge_count(), workload.work_ns(0), workload.work_ns(1)), (3, 2, 2_500_000, UNKNOWN_NS));
        assert_eq!(workload.code_names(), ["wait", "add"]);
        let json = r#"{"name": "x", "tasks": {"a": {"kernel": "wait", "inputs": [1]}, "b": {"kernel": "add", "inputs": ["@a", 3]}}}"#;
        assert_eq!(read_json("g", json, ReadOptions::default()).unwrap().edge_count(), 1);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let wrong = |text: &str| read_toml("g", text, ReadOptions::default()).unwrap_err().shown();
        assert!(
            wrong("[tasks.a]\ninputs = []\n").starts_with("line 1, column 1: missing field `kernel`"),
            "{}",
            wrong("[tasks.a]\ninputs = []\n")
        );
        assert_eq!(wrong("[tasks.a]\nkernel = 'x'\ninputs = ['@b']"), "tasks.a.inputs[0]: there is no task `b`");
        assert_eq!(wrong("[tasks.a]\nkernel = 'wait'\ninputs = [-1]"), "tasks.a.inputs[0]: it waits between 0 and 3600000 ms, not -1");
        assert_eq!(wrong("[tasks]"), "tasks: there is no task in it");
        assert!(wrong("[tasks.a]\nkernel = 'x'\nafter = ['a']").ends_with("in a circle: `a` -> `a`"));
        let text = "{\"tasks\": {\"a\": {\"kernel\": 1}}}";
        let wrong = read_json("g", text, ReadOptions::default()).unwrap_err().shown();
        assert_eq!(wrong, "line 1, column 28: invalid type: integer `1`, expected a string");
    }
}
