//! `bench`: figures as a table, as JSON, and the sentence that follows from them.

use serde_json::Value;

use crate::installation::{Installation, PLUGIN};

#[test]
fn figures_are_lines_of_a_table_and_end_with_a_sentence() {
    let installation = Installation::new();
    let text = installation.ask("bench --quick chain independent chain").good();
    let lines: Vec<&str> = text.lines().collect();
    let [heading, chain, .., sentence] = lines[..] else { panic!("{text}") };
    assert_eq!(lines.len(), 8, "three systems for each case: {text}");
    let independent = lines[4];
    assert!(heading.starts_with("case  ") && heading.ends_with("note"), "{text}");
    for (line, case) in [(chain, "chain"), (independent, "independent")] {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((words[0], words[1], words[4], words[5]), (case, "poniard-spawn", "ns/task", "x1.00"), "{text}");
        assert!(line.contains("  2 workers, "), "{text}");
    }
    assert!(sentence.starts_with("A task is worth spawning from about ") && sentence.ends_with("is overhead."), "{text}");
}

#[test]
fn json_is_one_object_a_line_and_nothing_else() {
    let text = Installation::new().ask("bench --quick --json independent ping-pong --threads 3").good();
    let figures: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let systems: Vec<_> = figures.iter().map(|figure| (figure["case"].as_str().unwrap(), figure["system"].as_str().unwrap())).collect();
    assert_eq!(
        systems,
        [
            ("independent", "poniard-spawn"),
            ("independent", "poniard-rerun"),
            ("independent", "poniard-build-run"),
            ("ping-pong", "limit"),
            ("ping-pong", "limit")
        ]
    );
    for figure in &figures {
        assert_eq!(figure["bench"], "overhead");
        let (min, median) = (figure["min"].as_f64().unwrap(), figure["median"].as_f64().unwrap());
        assert!(min > 0.0 && min <= median && figure["samples"].as_u64().unwrap() > 0, "{figure:#}");
    }
    assert!(figures[0]["note"].as_str().unwrap().starts_with("3 workers, "), "{:#}", figures[0]);
}

#[test]
fn what_is_measured_is_the_plugin() {
    let installation = Installation::new();
    std::fs::remove_file(installation.plugins().join(PLUGIN)).unwrap();
    let answer = installation.ask("bench --quick chain");
    answer.failed(4, &["lib/poniard", "PONIARD_BACKEND_PATH"]);
    assert_eq!(answer.stdout, "");
}
