//! `replay`: what was decided in a recorded run is decided again, and what was changed in the file is found.

use std::fs;

use poniard_scheduler_sim::workload::Recording;

use crate::installation::{Installation, POLICY_PLUGIN};

const RUN: &str = "run cholesky --size 64 --tile 8 --threads 3";
/// The tasks of eight tiles by eight.
const TASKS: u64 = 120;

#[test]
fn a_policy_decides_again_what_it_has_decided() {
    let installation = Installation::with_policy();
    fs::copy(installation.plugins().join(POLICY_PLUGIN), installation.file("mine.so")).unwrap();
    for policy in ["fifo", "earliest-finish", "heft", "work-stealing", "random", "longest-first", "./mine.so"] {
        installation.ask(&format!("{RUN} --policy {policy} --set placement.seed=5 --record run.json")).good();
        let answer = installation.ask("replay run.json --json").json();
        let same = |what: &str| (answer[what]["same"].as_u64().unwrap(), answer[what]["compared"].as_u64().unwrap());
        assert_eq!(same("placed"), (TASKS, TASKS), "{policy}");
        let (taken, asked) = same("taken");
        assert!(taken == asked && asked >= TASKS, "{policy}: {answer}");
        assert_eq!((&answer["again_by"], answer["first_difference"].is_null()), (&policy.into(), true), "{policy}");
        let text = installation.ask("replay run.json").good();
        assert!(text.contains("placed  120 of 120 the same\n") && text.ends_with("every decision is the same\n"), "{text}");
    }
}

#[test]
fn another_policy_and_a_changed_file_are_found_out() {
    let installation = Installation::new();
    installation.ask(&format!("{RUN} --policy fifo --record fifo.json")).good();
    // Everything that `fifo` does is to put tasks into the queue for all, as the first one.
    let other = installation.ask("replay fifo.json --policy earliest-finish");
    other.failed(
        1,
        &[
            "fifo.json: decisions.events[0]: task 0 (potrf(0,0)), ",
            "expected placed for whoever is free first (first-free), got placed at threads-",
        ],
    );
    for said in
        ["cholesky: decided by fifo, again by earliest-finish\n", "placed  0 of 120 the same\n", "placed at who is free: 120 then, 0 now\n"]
    {
        assert!(other.stdout.contains(said), "no {said} in {other:?}");
    }
    let text = fs::read_to_string(installation.file("fifo.json")).unwrap();
    let recording = Recording::from_json("fifo.json", &text).unwrap();
    let events = &recording.decisions.as_ref().unwrap().events;
    assert!(events.len() as u64 >= 3 * TASKS);
    // A task that was taken by nobody, by the file.
    let line = text.lines().filter(|line| line.contains("\"took\"")).nth(60).unwrap();
    let index = text.lines().skip_while(|line| *line != "\"events\": [").position(|other| other == line).unwrap() - 1;
    let (head, _) = line.split_once(",\"took\"").unwrap();
    fs::write(installation.file("changed.json"), text.replacen(line, &format!("{head}}}}},"), 1)).unwrap();
    let changed = installation.ask("replay changed.json --json");
    changed.failed(
        1,
        &[
            &format!("changed.json: decisions.events[{index}]: threads-"),
            "expected nothing taken, got task ",
            "taken from the queue for all",
        ],
    );
    let answer: serde_json::Value = serde_json::from_str(&changed.stdout).unwrap();
    assert_eq!(answer["first_difference"]["event"], index);
    assert_eq!(answer["first_difference"]["expected"], "nothing taken");
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let installation = Installation::new();
    let check = |arguments: &str, code: i32, said: &[&str]| installation.ask(arguments).failed(code, said);
    check("replay nowhere.json", 3, &["nowhere.json: No such file"]);
    installation.ask("run hello --record own.json").good();
    check("replay own.json", 3, &["own.json: there is no decision in it", "record it with --policy"]);
    installation.ask(&format!("{RUN} --policy heft --record run.json")).good();
    check("replay run.json --policy hefd", 2, &["--policy: no policy is called `hefd`", "did you mean `heft`?"]);
    check("replay run.json --policy peft", 2, &["--policy: `peft` is a planner"]);
    let text = fs::read_to_string(installation.file("run.json")).unwrap();
    let wrong = |from: &str, to: &str, said: &[&str]| {
        assert!(text.contains(from), "{from}");
        fs::write(installation.file("wrong.json"), text.replacen(from, to, 1)).unwrap();
        check("replay wrong.json", 3, said);
        // It is no workload either.
        check("simulate wrong.json --speeds 1", 3, said);
    };
    wrong("{\"asked\":{\"at_ns\":", "{\"asked\":{\"at\":", &["wrong.json: line ", "unknown field `at`"]);
    wrong("\"why\":\"", "\"why\":\"un", &["wrong.json: line ", "unknown variant `un"]);
    wrong("\"parallel\":1", "\"parallel\":0", &["wrong.json: decisions.places[0].parallel: a place runs at least one task at a time"]);
    wrong(
        "\"count\":3",
        "\"count\":4",
        &["wrong.json: decisions.events[0].ready.candidates[0].count: 4 places from 0 on are not there; there are 3"],
    );
    wrong(
        "\"subject\":{\"task\":0}",
        "\"subject\":{\"task\":999}",
        &["wrong.json: decisions.events[0].ready.subject: there is no task 999; there are 120"],
    );
    wrong("\"events\"", "\"event\"", &["unknown field `event`"]);
    // What only whoever follows the log can see.
    let ended = text.lines().find(|line| line.starts_with("{\"ended\"")).unwrap();
    let number = ended.split("\"number\":").nth(1).unwrap().split(',').next().unwrap();
    let other = ended.replace(&format!("\"number\":{number}"), "\"number\":7777");
    fs::write(installation.file("wrong.json"), text.replacen(ended, &other, 1)).unwrap();
    check("replay wrong.json", 3, &["wrong.json: decisions.events[", "].ended.number: task 7777 is not on the board"]);
}
