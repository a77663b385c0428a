//! `run`: what is printed, as lines and as JSON.

use std::fs;

use crate::installation::{Installation, PLUGIN};

#[test]
fn a_sample_tells_its_result_and_where_it_ran() {
    let text = Installation::new().ask("run fib --size 10 --threads 2").good();
    let lines: Vec<&str> = text.lines().collect();
    let (check, before) = lines.split_last().unwrap();
    assert!(check.starts_with("check: passed ("), "{text}");
    let (ran, result) = before.split_last().unwrap();
    assert!(ran.starts_with("ran ") && ran.contains(" on 2 threads: threads-0 ") && ran.contains(", threads-1 "), "{text}");
    assert!(ran.contains(&format!("({PLUGIN} 0.")), "{text}");
    assert!(result.iter().any(|line| line.contains("55")), "{text}");
}

#[test]
fn json_is_one_object() {
    let installation = Installation::new();
    let done = installation.ask("run fib --size 10 --threads 2 --json").json();
    assert_eq!(done["sample"], "fib");
    assert_eq!(done["check"]["passed"], true);
    assert!(done["check"]["text"].is_string() && done["values"].is_object() && done["output"].is_null(), "{done:#}");
    assert!(done["elapsed_ns"].as_u64().unwrap() > 0);
    let processors = done["processors"].as_array().unwrap();
    assert_eq!(processors.len(), 2);
    for processor in processors {
        assert_eq!((&processor["backend"], &processor["kind"]), (&"threads".into(), &"cpu".into()));
        assert!(processor["name"].as_str().unwrap().starts_with("threads-"), "{done:#}");
        assert!(processor["file"].as_str().unwrap().ends_with(PLUGIN), "{done:#}");
        assert!(processor["busy_ns"].is_u64(), "{done:#}");
    }
    let tasks: u64 = processors.iter().map(|processor| processor["tasks"].as_u64().unwrap()).sum();
    assert!(tasks > 0 && done["tasks"] == tasks, "{done:#}");
    assert_eq!(done["refused"].as_array().unwrap().len(), 0);
}

#[test]
fn every_sample_that_needs_no_file_passes_its_check() {
    let installation = Installation::new();
    let samples = installation.ask("samples --json").json();
    let names = samples.as_array().unwrap().iter().map(|sample| sample["name"].as_str().unwrap());
    let mut ran = 0;
    // These two work on pictures.
    for name in names.filter(|name| !["convolve", "histogram"].contains(name)) {
        let done = installation.ask(&format!("run {name} --json")).json();
        assert_eq!(done["check"]["passed"], true, "{done:#}");
        ran += 1;
    }
    assert!(ran > 0);
}

#[test]
fn a_policy_places_the_tasks_of_graph_files_and_the_nodes_of_graphs_and_says_why() {
    let installation = Installation::new();
    fs::write(
        installation.file("sum.toml"),
        "[tasks.a]\nkernel = \"constant\"\ninputs = [7]\n[tasks.b]\nkernel = \"add\"\ninputs = [\"@a\", \"@a\"]\n",
    )
    .unwrap();
    // The runs of `rerun`, one more than it is asked for, are spawned as well: 64 tasks, and as many nodes, each time.
    for (what, task, count) in [("sum.toml", "add", 1), ("rerun --size 2", "mix", 2 * 3 * 64)] {
        let done = installation.ask(&format!("run {what} --threads 2 --policy heft --explain --set placement.models=off --json")).json();
        assert_eq!(done["explained"]["summary"]["policy"], "heft", "{done:#}");
        let all = done["explained"]["tasks"].as_array().unwrap();
        let explained: Vec<_> = all.iter().filter(|explained| explained["task"] == task).collect();
        assert_eq!(explained.len(), count, "{done:#}");
        assert!(explained.iter().all(|explained| explained["considered"].as_array().unwrap().len() == 2), "{done:#}");
    }
    let text = installation.ask("run sum.toml --threads 2 --policy heft --explain --set placement.models=off").good();
    assert!(text.contains("b = 14\n") && text.contains("placement by heft: 2 tasks with a choice"), "{text}");
}

#[test]
fn a_value_that_makes_no_sense_to_the_sample_is_a_usage_error() {
    Installation::new().ask("run fib --size 18446744073709551615").failed(2, &["--size"]);
}

#[test]
fn a_bad_graph_file_is_an_input_error_and_needs_no_plugin() {
    let installation = Installation::without_plugins();
    fs::write(installation.file("bad.toml"), "[[[").unwrap();
    installation.ask("run bad.toml").failed(3, &["bad.toml"]);
    fs::write(installation.file("binary"), [0xff, 0xfe]).unwrap();
    installation.ask("run binary").failed(3, &["binary"]);
}
