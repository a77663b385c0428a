//! `compare`, `adversary` and `explore`: what is said of policies, and whether it is the same however it was found out.

use std::fs;

use serde_json::Value;

use crate::installation::{Installation, POLICY_PLUGIN};

const P4: &str = "[link]\nbandwidth = 1e9\n[[processor]]\ncount = 3\n[[processor]]\nkind = 'gpu'\nspeed = 4\n";
const COMPARED: &str = "compare --policies heft,fifo,late-binding --workloads cholesky:4,ccr=1 lu:3 random:20,seed=* \
    --platforms p4.toml two.toml --seeds 1..3 --durations lognormal:0.3 --estimates user";

fn installation() -> Installation {
    prepared(Installation::without_plugins())
}

fn prepared(installation: Installation) -> Installation {
    fs::write(installation.file("p4.toml"), P4).unwrap();
    fs::write(installation.file("two.toml"), "[[processor]]\ncount = 2\nspace = 'host'\n").unwrap();
    installation
}

fn read(installation: &Installation, name: &str) -> String {
    fs::read_to_string(installation.file(name)).unwrap()
}

/// Without what a clock says, and how much had been run before.
fn lasting(mut answer: Value) -> Value {
    answer["run_now"] = Value::Null;
    answer["policies"].as_array_mut().unwrap().iter_mut().for_each(|row| row["wall_clock_ns"] = Value::Null);
    answer
}

#[test]
fn policies_are_ranked_alike_however_many_run_at_a_time() {
    let installation = installation();
    let ask = |jobs: u32, more: &str| installation.ask(&format!("{COMPARED} --jobs {jobs} --csv {jobs}.csv --results {jobs}.jsonl {more}"));
    let (one, three) = (ask(1, "--json").json(), ask(3, "--json").json());
    assert_eq!(lasting(one.clone()), lasting(three));
    for kind in ["csv", "jsonl"] {
        assert_eq!(read(&installation, &format!("1.{kind}")), read(&installation, &format!("3.{kind}")));
    }
    // Two workloads, and another one for each of three seeds: (2 x 3 + 3) x 2 platforms x 3 policies.
    assert_eq!((&one["runs"], &one["run_now"], &one["workloads"]), (&54.into(), &54.into(), &5.into()));
    let rows = one["policies"].as_array().unwrap();
    let ratios: Vec<f64> = rows.iter().map(|row| row["ratio"].as_f64().unwrap()).collect();
    assert!(ratios.is_sorted(), "{ratios:?}");
    let fifo = rows.iter().find(|row| row["policy"] == "fifo").unwrap();
    assert_eq!((&fifo["units"], &fifo["unit"], &fifo["cells"]), (&5.into(), &"workload".into(), &18.into()));
    let (low, high) = (fifo["interval"][0].as_f64().unwrap(), fifo["interval"][1].as_f64().unwrap());
    let ratio = fifo["ratio"].as_f64().unwrap();
    assert!(low < ratio && ratio < high && ratio > 1.0, "{fifo}");
    assert_eq!(["wins", "ties", "losses"].iter().map(|key| fifo[key].as_u64().unwrap()).sum::<u64>(), 18);
    let heft = rows.iter().find(|row| row["policy"] == "heft").unwrap();
    assert_eq!((&heft["ratio"], &heft["interval"], &heft["p"]), (&1.0.into(), &Value::Null, &Value::Null));
    // Each run can be had alone.
    let table = read(&installation, "1.csv");
    for line in table.lines().skip(1).step_by(7) {
        let (numbers, replay) = line.split_once(",\"poniard ").or_else(|| line.split_once(",poniard ")).unwrap();
        let makespan_ns: u64 = numbers.rsplit(',').nth(4).unwrap().parse().unwrap();
        let answer = installation.ask(&format!("{} --json", replay.trim_end_matches('"'))).json();
        assert_eq!(
            (&answer["makespan_ns"], &answer["moved_bytes"]),
            (&makespan_ns.into(), &numbers.rsplit(',').nth(1).unwrap().parse::<u64>().unwrap().into()),
            "{line}"
        );
    }
    let text = ask(2, "").good();
    for said in [
        "compare: 3 policies on 5 workloads and 2 platforms, 3 seeds: 54 runs, 54 of them now",
        "over 5 workloads",
        "\nso           ",
        "--seeds 1..3\n",
    ] {
        assert!(text.contains(said), "no {said} in {text}");
    }
    // No shell takes the quotes away here.
    let replay = text.lines().last().unwrap().split_once("poniard ").unwrap().1.replace('\'', "");
    assert_eq!(lasting(installation.ask(&format!("{replay} --json")).json()), lasting(one));
}

#[test]
fn an_interrupted_comparison_goes_on_where_it_was() {
    let installation = installation();
    let ask = || installation.ask(&format!("{COMPARED} --results r.jsonl --json"));
    let all = ask().json();
    let whole = read(&installation, "r.jsonl");
    assert_eq!(whole.lines().count(), 54);
    // Killed in the middle of a line; and one before is missing.
    for (kept, cut) in [(20, 30), (0, 10), (53, 1)] {
        let bytes = whole.split_inclusive('\n').take(kept + 1).collect::<String>();
        fs::write(installation.file("r.jsonl"), &bytes[..bytes.len() - cut]).unwrap();
        let again = ask();
        assert!(again.stderr.contains("r.jsonl: the last line was cut off"), "{again:?}");
        let again = again.json();
        assert_eq!(again["run_now"], 54 - kept, "{kept}");
        assert_eq!(lasting(again), lasting(all.clone()));
        assert_eq!(read(&installation, "r.jsonl"), whole);
    }
    let without = whole.split_inclusive('\n').enumerate().filter(|(index, _)| index % 5 != 2).map(|(_, line)| line).collect::<String>();
    fs::write(installation.file("r.jsonl"), without).unwrap();
    assert_eq!(ask().json()["run_now"], 11);
    assert_eq!(read(&installation, "r.jsonl"), whole);
    assert_eq!(ask().json()["run_now"], 0);
    // What determines a run is what it was known by: other seeds, durations and platforms are others, and stay in the file.
    let other = COMPARED.replace("1..3", "3..4").replace(" random:20,seed=*", "");
    let answer = installation.ask(&format!("{other} --results r.jsonl"));
    assert!(answer.stderr.contains("r.jsonl: 42 lines belong to something else and stay as they are"), "{answer:?}");
    assert!(answer.stdout.contains("24 runs, 12 of them now"), "{answer:?}");
    let now = read(&installation, "r.jsonl");
    assert!(now.lines().count() == 66 && whole.lines().all(|line| now.lines().any(|kept| kept == line)), "{now}");
    fs::write(installation.file("p4.toml"), P4.replace("speed = 4", "speed = 5")).unwrap();
    assert_eq!(ask().json()["run_now"], 27);
}

#[test]
fn little_is_said_of_little() {
    let installation = installation();
    let one = "compare --policies heft,fifo --workloads cholesky:4 --speeds 1,1,4 --bandwidth 1e9";
    let text = installation.ask(one).good();
    for said in [
        "interval     none: 1 seed to compare is not enough",
        "nothing says how that is elsewhere",
        "compare: 2 policies on 1 workload and 1 platform, 1 seed: 2 runs",
    ] {
        assert!(text.contains(said), "no {said} in {text}");
    }
    // Seeds that change nothing are no evidence, and those that do are about this workload.
    let interval = |more: &str| installation.ask(&format!("{one} --seeds 1..8 {more} --json")).json()["policies"][1].clone();
    assert_eq!(interval("")["interval"], Value::Null);
    let varied = interval("--durations lognormal:0.5 --estimates user");
    assert_eq!((&varied["unit"], &varied["units"], varied["interval"].is_array()), (&"seed".into(), &8.into(), true), "{varied}");
}

#[test]
fn what_a_policy_cannot_do_is_known_before_anything_runs() {
    let installation = installation();
    let asked = "compare --policies heft,exhaustive --workloads chain:5 chain:13 --speeds 1,2 --results r.jsonl";
    installation.ask(asked).failed(
        2,
        &[
            "`exhaustive` with `chain:13` on `--speeds 1,2`: `exhaustive` looks at all schedules of up to 12 tasks, and there are 13",
            "--skip-unable",
        ],
    );
    assert!(!installation.names().contains(&"r.jsonl".to_owned()));
    let text = installation.ask(&format!("{asked} --skip-unable")).good();
    assert!(text.contains("left out     `exhaustive` with `chain:13` on `--speeds 1,2`") && text.contains("3 runs"), "{text}");
    let runtime =
        installation.ask("compare --policies own,fifo --workloads cholesky:3,ccr=1 --speeds 1,1 --bandwidth 1e9 --engine runtime");
    runtime.failed(2, &["`own` with `cholesky:3,ccr=1` on", "data takes time between processors"]);
    let runtime =
        installation.ask("compare --policies own,fifo --workloads cholesky:3 --platforms two.toml --engine runtime --json").json();
    assert_eq!(runtime["runs"], 2);
    fs::write(installation.file("gpu.toml"), "[[processor]]\nkind = 'gpu'\n[[cost]]\ncode = 'gemm'\nkind = 'gpu'\nmean = 1\n[[processor]]\n[[cost]]\ncode = 'task'\nkind = 'none'\nmean = 1\n").unwrap();
    installation
        .ask("compare --policies heft --workloads chain:2 --platforms gpu.toml")
        .failed(3, &["gpu.toml: cost[1].kind: no processor is of kind `none`"]);
    fs::write(installation.file("gpu.toml"), "[[processor]]\n[[space]]\nname = 'cpu-0'\nmemory = 10\n[[processor]]\nspace = 'cpu-0'\n[[processor]]\nkind = 'gpu'\n[[cost]]\ncode = 'task'\nkind = 'cpu'\nmean = 1\n").unwrap();
    let asked = "compare --policies heft,fifo --workloads chain:2 cholesky:2 --platforms gpu.toml";
    installation.ask(asked).failed(3, &["`chain:2` on `gpu.toml`: no processor can run task `t0`"]);
    let answer = installation.ask(&format!("{asked} --skip-unable --json")).json();
    assert_eq!((&answer["runs"], answer["left_out"].as_array().unwrap().len()), (&2.into(), 1), "{answer}");
}

#[test]
fn what_makes_no_sense_is_said() {
    let installation = installation();
    let check = |arguments: &str, code: i32, said: &[&str]| installation.ask(&format!("compare {arguments}")).failed(code, said);
    let rest = "--workloads chain:3 --speeds 1,2";
    check(&format!("--policies heft,pefd {rest}"), 2, &["--policies: no policy is called `pefd`; did you mean `peft`?"]);
    check(&format!("--policies heft,,fifo {rest}"), 2, &["--policies: the name of a policy is empty"]);
    check(&format!("--policies heft,fifo,heft {rest}"), 2, &["--policies: the policy `heft` is there twice"]);
    check(&format!("--policies heft {rest} --baseline fifo"), 2, &["--baseline: `fifo` is none of the policies heft"]);
    for seeds in ["20..1", "x", "1..2,2", "1.."] {
        check(&format!("--policies heft {rest} --seeds {seeds}"), 2, &["--seeds"]);
    }
    check("--policies heft --speeds 1", 2, &["--workloads"]);
    check("--policies heft --workloads chain:3", 2, &["--platforms"]);
    check("--policies heft --workloads chain:3 chain:3 --speeds 1", 2, &["--workloads: the workload `chain:3` is there twice"]);
    check("--policies heft --workloads none.json --speeds 1", 3, &["none.json"]);
    check("--policies heft --workloads chain:x --speeds 1", 2, &["its size is no whole number"]);
    check("--policies heft --workloads chain:3 --platforms p4.toml p4.toml", 2, &["--platforms: the platform `p4.toml` is there twice"]);
    check("--policies heft --workloads chain:3 --platforms none.toml", 3, &["none.toml"]);
    check(&format!("--policies heft {rest} --jobs 0"), 2, &["--jobs"]);
    check(&format!("--policies heft {rest} --csv nowhere/x.csv"), 5, &["nowhere/x.csv could not be written"]);
    check(&format!("--policies heft {rest} --results nowhere/x.jsonl"), 5, &["nowhere/x.jsonl could not be written"]);
    check(
        &format!("--policies heft {rest} --results /dev/full"),
        5,
        &["/dev/full could not be written: results are kept in a regular file"],
    );
    check(&format!("--policies heft {rest} --csv /dev/stdout --json"), 2, &["--csv and --json cannot both have standard output"]);
    fs::write(installation.file("bad.jsonl"), "{\"key\": \"x\"}\n{\"key\": 3}\n").unwrap();
    check(&format!("--policies heft {rest} --results bad.jsonl"), 3, &["bad.jsonl: line 2, column ", "it is no result"]);
    assert_eq!(read(&installation, "bad.jsonl"), "{\"key\": \"x\"}\n{\"key\": 3}\n");
    let check = |arguments: &str, code: i32, said: &[&str]| installation.ask(&format!("adversary {arguments}")).failed(code, said);
    check("--policy heft --against pefd --output f.json", 2, &["--against: no policy is called `pefd`; did you mean `peft`?"]);
    check(
        "--policy exhaustive --against heft --tasks 13 --output f.json",
        2,
        &["--policy: `exhaustive` looks at all schedules of up to 12 tasks", "--tasks"],
    );
    check("--policy heft --against peft --budget 0 --output f.json", 2, &["--budget"]);
    check("--policy heft --against peft --output f.toml", 2, &["--output f.toml: the machine has that name"]);
    check("--policy heft --against peft --output nowhere/f.json", 5, &["nowhere/f.json could not be written"]);
    check("--policy heft --against peft --platform p4.toml --speed 3 --output f.json", 2, &["--speed"]);
    let check = |arguments: &str, code: i32, said: &[&str]| installation.ask(&format!("explore {arguments}")).failed(code, said);
    check("chain:3 --policy peft", 2, &["`peft` is a planner"]);
    check("chain:3 --before t0:t9", 2, &["--before: no task is called `t9`; did you mean `t"]);
    check("chain:3 --before t0", 2, &["`t0` is no pair of tasks"]);
    check("chain:1000", 2, &["`chain:1000` has 1000 tasks"]);
    check("chain:3 --choices 9", 2, &["--choices: choice 0 is 9, and there are "]);
    check("chain:3 --choices x", 2, &["--choices"]);
    check("chain:3 --workers 0", 2, &["--workers"]);
    assert!(!installation.names().iter().any(|name| name.starts_with('f') || name.starts_with(".poniard")), "{:?}", installation.names());
}

#[test]
fn policies_of_plugin_files_are_simulated_and_compared_by_name_and_by_path() {
    let installation = prepared(Installation::with_policy());
    fs::copy(installation.plugins().join(POLICY_PLUGIN), installation.file("mine.so")).unwrap();
    let simulated = |policy: &str, more: &str| {
        let answer = installation.ask(&format!("simulate random:60,ccr=0 --speeds 1,1,2 --policy {policy} {more} --json")).json();
        let replay = answer["replay"].as_str().unwrap().strip_prefix("poniard ").unwrap().to_owned();
        assert_eq!(installation.ask(&format!("{replay} --json")).json()["makespan_ns"], answer["makespan_ns"], "{replay}");
        answer["makespan_ns"].as_u64().unwrap()
    };
    // One queue as that of `fifo` is, in another order: the two are not taken for each other.
    let longest_first = simulated("longest-first", "");
    assert_ne!(longest_first, simulated("fifo", ""));
    assert_eq!(longest_first, simulated("./mine.so", ""));
    assert_eq!(longest_first, simulated("longest-first", "--plugin ../lib/poniard"));
    assert!(simulated("longest-first", "--engine runtime") > 0);
    let compared = "compare --policies fifo,longest-first,./mine.so --workloads random:60,ccr=0 --speeds 1,1,2 --results r.jsonl --json";
    let answer = installation.ask(compared).json();
    let ratio = |policy: &str| answer["policies"].as_array().unwrap().iter().find(|row| row["policy"] == policy).unwrap()["ratio"].clone();
    assert_eq!(ratio("longest-first"), ratio("./mine.so"));
    assert_ne!(ratio("longest-first"), 1.0);
    assert_eq!(installation.ask(compared).json()["run_now"], 0);
    installation
        .ask("simulate chain:3 --speeds 1 --policy longest-frist")
        .failed(2, &["no policy is called `longest-frist`", "did you mean `longest-first`?"]);
    installation
        .ask("simulate chain:3 --speeds 1 --policy ./none.so")
        .failed(2, &["--policy: failed to load the plugin `./none.so`: no such file"]);
    installation.ask("simulate chain:3 --speeds 1 --plugin nothing-here").failed(2, &["--plugin nothing-here"]);
}

#[test]
fn a_bad_case_is_written_down_and_runs_as_it_was_found() {
    let installation = prepared(Installation::without_plugins());
    let search = |output: &str, more: &str| {
        installation
            .ask(&format!("adversary --policy fifo --against heft --seed 3 --budget 300 --tasks 6 --output {output} {more} --json"))
            .json()
    };
    let found = search("found.json", "--jobs 1");
    assert!(found["ratio"].as_f64().unwrap() > 1.5, "{found}");
    for (replay, makespan) in found["replay"].as_array().unwrap().iter().zip(["policy_makespan_ns", "against_makespan_ns"]) {
        let replay = replay.as_str().unwrap().strip_prefix("poniard ").unwrap();
        assert_eq!(installation.ask(&format!("{replay} --json")).json()["makespan_ns"], found[makespan], "{replay}");
    }
    search("again.json", "--jobs 3");
    for kind in ["json", "toml"] {
        assert_eq!(read(&installation, &format!("found.{kind}")), read(&installation, &format!("again.{kind}")));
    }
    let parts = |sizes: &Value| ["tasks", "edges", "processors"].iter().map(|part| sizes[part].as_u64().unwrap()).sum::<u64>();
    assert!(parts(&found["shrunk"]) < parts(&found["found"]), "{found}");
    let on_given = search("given.json", "--platform p4.toml");
    assert!(!installation.names().contains(&"given.toml".to_owned()));
    let replay = on_given["replay"][0].as_str().unwrap().strip_prefix("poniard ").unwrap();
    assert!(replay.contains("--platform p4.toml"), "{replay}");
    assert_eq!(installation.ask(&format!("{replay} --json")).json()["makespan_ns"], on_given["policy_makespan_ns"]);
    let text = installation.ask("adversary --policy fifo --against heft --budget 50 --tasks 4 --output t.json").good();
    for said in ["adversary: fifo takes ", " times as long as heft\n", "made smaller to ", "wrote        t.json (", "wrote        t.toml ("]
    {
        assert!(text.contains(said), "no {said} in {text}");
    }
    assert_eq!(
        text.lines().filter(|line| line.starts_with("replay       poniard simulate t.json --platform t.toml --policy ")).count(),
        2,
        "{text}"
    );
}

/// Whether the report comes after the check depends on who ends first, and so does how long it all takes: nothing in the graph says it.
const GRAPH: &str = "digraph { node [work=0.01] read -> check -> show; load -> report; scan }";

#[test]
fn what_depends_on_the_order_is_found_in_one_of_all_orders() {
    let installation = installation();
    fs::write(installation.file("g.dot"), GRAPH).unwrap();
    let explore = |more: &str| installation.ask(&format!("explore g.dot --policy fifo {more}"));
    let all = explore("--json").json();
    assert_eq!((&all["is_complete"], &all["found"]), (&true.into(), &Value::Null), "{all}");
    assert!(all["orders"].as_u64() > Some(100) && all["schedules"].as_u64() > Some(2), "{all}");
    assert_eq!((&all["shortest"]["makespan_ns"], &all["longest"]["makespan_ns"]), (&30_000_000.into(), &40_000_000.into()), "{all}");
    assert_eq!(explore("--json").json(), all);
    // It holds in each for what the graph says.
    assert_eq!(explore("--before load:report --before check:show --json").json()["orders"], all["orders"]);
    for (asked, said) in [
        ("--before check:report", "--before check:report: the second begins at 10000000 ns, before the first is over"),
        ("--within-ns 30000000", "it takes 40000000 ns, longer than 30000000 ns"),
    ] {
        let failed = explore(&format!("{asked} --json"));
        failed.failed(1, &[said]);
        let answer: Value = serde_json::from_str(&failed.stdout).unwrap();
        let replay = answer["found"]["replay"].as_str().unwrap().strip_prefix("poniard ").unwrap();
        assert!(answer["orders"].as_u64() > Some(1) && replay.contains(asked), "it is not the first: {answer}");
        installation.ask(replay).failed(1, &[said]);
        // The first of everything goes well.
        assert_eq!(explore(&format!("{asked} --choices 0 --json")).json()["makespan_ns"], 30_000_000);
        let text = explore(asked).stdout;
        assert!(text.lines().last().is_some_and(|line| line.ends_with(&format!("poniard {replay}"))), "{text}");
    }
    let longest = explore(&format!("--choices {} --json", all["longest"]["choices"].as_str().unwrap())).json();
    assert_eq!(longest["makespan_ns"], 40_000_000);
    let limited = explore("--workers 3 --bodies equal --limit 5 --json").json();
    assert_eq!((&limited["orders"], &limited["is_complete"]), (&5.into(), &false.into()));
    for more in ["--panics load", "--fails check", "--bodies none", "--workers 1"] {
        assert_eq!(explore(&format!("{more} --limit 500 --json")).json()["found"], Value::Null, "{more}");
    }
    assert_eq!(installation.ask("explore g.dot --limit 500 --json").json()["found"], Value::Null);
    let text = explore("").good();
    assert!(text.contains("g.dot: 6 tasks on 2 workers: ") && text.contains(" orders, all that there are\n"), "{text}");
}
