//! `simulate`: what is said of a run that nobody runs.

use std::fs;

use crate::installation::Installation;

const FORK: &str = "4\n0 10 0\n1 30 1 0\n2 30 1 0\n3 10 2 1 2\n";

fn installation() -> Installation {
    let installation = Installation::without_plugins();
    fs::write(installation.file("fork.stg"), FORK).unwrap();
    fs::write(installation.file("two.toml"), "[link]\nbandwidth = 1e9\n[[processor]]\ncount = 2\nspace = 'host'\n").unwrap();
    installation
}

#[test]
fn a_run_takes_the_time_that_it_would() {
    let installation = installation();
    for policy in [
        "heft",
        "live:heft",
        "earliest-finish",
        "fifo",
        "work-stealing",
        "random",
        "min-min",
        "cpop",
        "exhaustive",
        "heft-refined",
        "rollout",
        "rollout-refined",
    ] {
        let answer = installation.ask(&format!("simulate fork.stg --platform two.toml --policy {policy} --json")).json();
        assert_eq!(
            (&answer["makespan_ns"], &answer["lower_bound_ns"], &answer["tasks"]),
            (&50_000_000.into(), &50_000_000.into(), &4.into()),
            "{policy}"
        );
    }
    let text = installation.ask("simulate fork.stg --speeds 1,1 --policy heft --seed 3").good();
    for said in [
        "fork: 4 tasks and 4 edges on 2 processors, by heft",
        "makespan     50.0 ms (50 000 000 ns), 0.0 % above",
        "utilisation  80.0 %",
        "moved        0 bytes",
    ] {
        assert!(text.contains(said), "no {said} in {text}");
    }
    assert!(text.ends_with("replay       poniard simulate fork.stg --speeds 1,1 --policy heft --seed 3\n"), "{text}");
    // What it says to type says the same.
    let replay = text.lines().last().unwrap().split_once("poniard ").unwrap().1.to_owned();
    assert_eq!(installation.ask(&replay).good(), text);
    let made = installation.ask("simulate cholesky:4,ccr=0 --speeds 1,1,1 --json").json();
    assert_eq!(made["tasks"], 20);
}

/// A device behind a link that two copies share, with room for one of them, and costs that are written down.
const MACHINE: &str = "[[processor]]\nspace = 'host'\n[[processor]]\nkind = 'gpu'\nspeed = 4\n[[space]]\nname = 'gpu-0'\nmemory = 400e6\n\
    [network]\nsharing = 'max-min'\n[[network.link]]\nname = 'bus'\nspace = 'gpu-0'\nbandwidth = 1e9\nlatency = 1e-5\n\
    [overheads]\ndispatch = 1e-3\nlaunch = 2e-3\n[[cost]]\ncode = 'gemm'\nkind = 'gpu'\nmean = 0.02\n";

#[test]
fn machines_have_links_memories_overheads_and_luck() {
    let installation = installation();
    fs::write(installation.file("machine.toml"), MACHINE).unwrap();
    let ask = |more: &str| installation.ask(&format!("simulate cholesky:6,tile=4096 --platform machine.toml {more} --json"));
    for policy in ["heft", "fifo", "work-stealing"] {
        // The same seed gives the same answer, to the byte, and so does the command that it says.
        let more = format!("--policy {policy} --durations lognormal:0.3 --estimates wrong:2 --sharing queue --overheads launch --seed 5");
        let first = ask(&more);
        let answer = first.json();
        assert_eq!(ask(&more).json().to_string(), answer.to_string());
        let replay = answer["replay"].as_str().unwrap().strip_prefix("poniard ").unwrap();
        assert!(replay.contains("--durations lognormal:0.3 --estimates wrong:2 --sharing queue --overheads launch"), "{replay}");
        assert_eq!(installation.ask(&format!("{replay} --json")).json()["makespan_ns"], answer["makespan_ns"]);
    }
    let makespan = |more: &str| ask(&format!("--policy heft {more}")).json()["makespan_ns"].as_u64().unwrap();
    assert!(makespan("--no-overheads") < makespan(""));
    let on_two = |more: &str| {
        installation.ask(&format!("simulate cholesky:6,ccr=0 --speeds 1,1 {more} --json")).json()["makespan_ns"].as_u64().unwrap()
    };
    assert_eq!(on_two("--durations scaled:2"), 2 * on_two(""));
    installation
        .ask("simulate cholesky:2 --speeds 1 --overheads hops")
        .failed(2, &["--overheads: none is called `hops`; there are submit, dispatch"]);
    installation
        .ask("simulate cholesky:2 --speeds 1 --durations sometimes")
        .failed(2, &["`sometimes` is none of exact, measured, sampled, lognormal:X"]);
    installation.ask("simulate cholesky:2 --speeds 1 --sharing fair").failed(2, &["`fair` is none of none, max-min, queue"]);
    installation
        .ask("simulate cholesky:3,tile=16384 --platform machine.toml")
        .failed(3, &["no processor can run task `gemm-2-1-0` (`gemm`) with the "]);
}

#[test]
fn what_makes_no_sense_is_said() {
    let installation = installation();
    let check = |arguments: &str, code: i32, said: &[&str]| installation.ask(&format!("simulate {arguments}")).failed(code, said);
    check("fork.stg", 2, &["--platform"]);
    check("fork.stg --speeds 1,1 --policy hefd", 2, &["no policy is called `hefd`; did you mean `heft`?", "earliest-finish", "min-min"]);
    check(
        "chain:13 --speeds 1 --policy exhaustive",
        2,
        &["--policy: `exhaustive` looks at all schedules of up to 12 tasks, and there are 13"],
    );
    check("fork.stg --speeds 1,-1", 2, &["--speeds[1]: -1 is no speed between 1e-6 and 1e9"]);
    check("fork.stg --speeds 1 --bandwidth 0", 2, &["bandwidth: 0 is no number of bytes per second above 0"]);
    check("nowhere.stg --speeds 1", 3, &["nowhere.stg: ", "No such file"]);
    check("layered:x --speeds 1", 2, &["`layered:x`: its size is no whole number"]);
    check("fork.stg --platform fork.stg", 3, &["fork.stg: line 1: "]);
    fs::write(installation.file("bad.json"), r#"{"schemaVersion":"1.5","workflow":{}}"#).unwrap();
    check("bad.json --speeds 1", 3, &["bad.json: workflow.specification: it is missing"]);
    fs::write(installation.file("cut.json.gz"), [0x1f, 0x8b, 8, 0, 0, 0]).unwrap();
    check("cut.json.gz --speeds 1", 3, &["cut.json.gz: it could not be decompressed after 0 bytes"]);
}
