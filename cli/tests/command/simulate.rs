//! `simulate`: what is said of a run that nobody runs.

use std::fs;

use poniard_scheduler_sim::workload::{RecordedProcessor, RecordedTask, Recording};

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
    assert_eq!((&made["tasks"], &made["ccr"]), (&20.into(), &0.0.into()));
    // Half a second of transfers beside two seconds of work.
    fs::write(installation.file("pair.dot"), "digraph { node [work=1]; a -> b [bytes=5e8] }").unwrap();
    let text = installation.ask("simulate pair.dot --speeds 1,1 --bandwidth 1e9 --check-determinism --policy random").good();
    assert!(text.contains("ccr          0.250: how long"), "{text}");
    fs::write(installation.file("one.dot"), "digraph { a [work=1] }").unwrap();
    let compared =
        installation.ask("compare --policies fifo --workloads pair.dot one.dot --speeds 1,1 --bandwidth 1e9 --csv c.csv --json").json();
    assert_eq!(compared["ccr"], serde_json::json!([0.0, 0.25]));
    let table = fs::read_to_string(installation.file("c.csv")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].ends_with(",moved_bytes,ccr,replay") && lines[1].contains(",0.250000,") && lines[2].contains(",0.000000,"), "{table}");
}

#[test]
fn tasks_take_several_processors_where_the_runtime_runs_them() {
    let installation = installation();
    // Two of them one after the other, as there are three processors, and the third task beside or behind.
    let graph = "digraph { node [work=1]; wide [processors=2]; wider [processors=3]; narrow }";
    fs::write(installation.file("wide.dot"), graph).unwrap();
    let ask = |more: &str| installation.ask(&format!("simulate wide.dot --speeds 1,1,1 --policy {more}"));
    for policy in ["own", "fifo"] {
        let answer = ask(&format!("{policy} --engine runtime --json")).json();
        assert_eq!(answer["makespan_ns"], 2_000_000_000_u64, "{policy}");
    }
    for policy in ["fifo", "heft"] {
        ask(policy).failed(2, &["task `wider` takes 3 processors at a time, which only --engine runtime has"]);
    }
    installation
        .ask("simulate wide.dot --speeds 1,1 --engine runtime --policy own")
        .failed(2, &["--engine runtime: task `wider` takes 3 processors, and there are 2"]);
    let recorded = r#"{"schemaVersion": "1.4", "workflow": {"tasks": [
        {"name": "a", "runtimeInSeconds": 1, "cores": 2}, {"name": "b", "runtimeInSeconds": 1, "cores": 1.5}, {"name": "c", "runtimeInSeconds": 1}]}}"#;
    fs::write(installation.file("flow.json"), recorded).unwrap();
    let ask = |more: &str| installation.ask(&format!("simulate flow.json --speeds 1,1 --policy own --engine runtime --json {more}")).json();
    assert_eq!((&ask("")["makespan_ns"], &ask("--cores")["makespan_ns"]), (&2_000_000_000_u64.into(), &3_000_000_000_u64.into()));
    assert!(ask("--cores")["replay"].as_str().unwrap().contains(" --cores "));
    fs::write(installation.file("flow.json"), recorded.replace("1.5", "-1")).unwrap();
    installation
        .ask("simulate flow.json --speeds 1,1 --policy own --engine runtime --cores")
        .failed(3, &["flow.json: workflow.tasks[1].cores: task `b`: -1 is no number of cores from 1 to 255"]);
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
fn the_whole_runtime_runs_in_virtual_time() {
    let installation = installation();
    for policy in ["own", "fifo", "earliest-finish", "live:heft"] {
        let command = format!("simulate fork.stg --speeds 1,1 --engine runtime --policy {policy} --seed 3 --json");
        let answer = installation.ask(&command).json();
        assert_eq!(answer["makespan_ns"], 50_000_000, "{policy}");
        assert_eq!(installation.ask(&command).json(), answer, "{policy}");
        assert!(answer["replay"].as_str().unwrap().contains("--engine runtime"), "{policy}");
    }
    let planner = installation.ask("simulate fork.stg --speeds 1,1 --engine runtime --policy peft");
    planner.failed(2, &["--engine runtime: `peft` is a planner, and plans are not run by the runtime"]);
    let travels = installation.ask("simulate cholesky:3,ccr=1 --speeds 1,1 --bandwidth 1e6 --engine runtime --policy own");
    travels.failed(2, &["--engine runtime: data takes time between processors, and a world has one memory"]);
}

#[test]
fn graphs_arrive_over_time_and_are_measured_each() {
    let installation = installation();
    let ask = |more: &str| installation.ask(&format!("simulate fork.stg --speeds 1,1 --policy priority --seed 4 {more}"));
    // A fork takes 50 ms on two processors, so each is over before the next one comes.
    let answer = ask("--arrivals periodic:every=0.05 --graphs 3 --json").json();
    let (stream, slowdown) = (&answer["stream"], serde_json::json!({ "mean": 1.0, "median": 1.0, "p95": 1.0, "max": 1.0 }));
    assert_eq!((&answer["makespan_ns"], &stream["slowdown"], &stream["fairness"]), (&150_000_000.into(), &slowdown, &1.0.into()));
    assert_eq!((&stream["graphs"][2]["arrival_ns"], &stream["graphs"][2]["response_ns"]), (&100_000_000.into(), &50_000_000.into()));
    // One after the other, from a trace: the first, the urgent one, and one that is cancelled before it begins.
    fs::write(installation.file("three.csv"), "arrival,priority,patience,workload\n0,,,1\n0.01,0,0.1,1\n0.02,5,,1\n").unwrap();
    let more = "--also chain:3,ccr=0,seed=2 --arrivals trace:three.csv --speeds 1";
    let ask_one = |more: &str| installation.ask(&format!("simulate fork.stg --policy priority {more}"));
    let answer = ask_one(&format!("{more} --json")).json();
    let response = |graph: usize| answer["stream"]["graphs"][graph]["response_ns"].as_u64();
    assert_eq!((response(1), &answer["stream"]["cancelled"], &answer["tasks"]), (None, &1.into(), &9.into()));
    assert!(response(2) < response(0), "{answer}");
    let text = ask_one(&format!("{more} --trace run.json --paje run.paje --gantt run.svg --csv run.csv")).good();
    for said in
        ["graphs       3, 1 cancelled", "response     mean ", "slowdown     mean ", "fairness     0.", "dropped      3 tasks; 0 ns of work"]
    {
        assert!(text.contains(said), "no {said} in {text}");
    }
    // What was dropped is in no file.
    assert_eq!(fs::read_to_string(installation.file("run.csv")).unwrap().lines().count(), 1 + 6);
    let paje = fs::read_to_string(installation.file("run.paje")).unwrap();
    assert_eq!(paje.lines().filter(|line| line.contains(" p0 c0 \"")).count(), 6, "{paje}");
    // The table has all tasks, whoever decided.
    for more in ["--policy heft --durations scaled:2 --estimates user", "--policy own --engine runtime"] {
        let table = installation.ask(&format!("simulate fork.stg --speeds 1,1 {more} --csv /dev/stdout")).good();
        assert_eq!(table.lines().count(), 5, "{more}: {table}");
    }
    // What it says to type says the same.
    let text = ask("--arrivals poisson:rate=30 --graphs 20 --also chain:3 --priorities -1,2 --patience 0.2").good();
    let replay = text.lines().last().unwrap().split_once("poniard ").unwrap().1.to_owned();
    assert_eq!(installation.ask(&replay).good(), text);
    for (more, code, said) in [
        (
            "--arrivals periodic:every=1 --policy heft",
            2,
            "--arrivals: `heft` is a planner, which knows all before anything runs; graphs that arrive need a policy that decides as it goes, such as live:heft",
        ),
        ("--arrivals periodic:every=1 --policy cpop", 2, "such as earliest-finish"),
        ("--arrivals periodic:every=1 --policy fifo --engine runtime", 2, "--arrivals: graphs that arrive are run by --engine board"),
        ("--arrivals weekly", 2, "--arrivals: `weekly` is none of poisson:rate=R"),
        ("--arrivals trace:nowhere.csv", 3, "nowhere.csv: No such file"),
        ("--arrivals trace:fork.stg", 3, "fork.stg: line 1: there is no column `4`"),
        ("--arrivals periodic:every=1 --patience=-1", 2, "--patience"),
        ("--arrivals periodic:every=1 --also nowhere.stg", 3, "nowhere.stg: No such file"),
        ("--arrivals periodic:every=1 --graphs 10000000 --also layered:1000", 3, "--arrivals: the graphs of the stream have "),
        ("--graphs 3", 2, "--arrivals"),
    ] {
        installation.ask(&format!("simulate fork.stg --speeds 1,1 {more}")).failed(code, &[said]);
    }
}

#[test]
fn why_a_large_run_took_as_long_is_said_when_somebody_asks() {
    let installation = installation();
    let ask = |more: &str| installation.ask(&format!("simulate independent:100001 --speeds 1,1 --policy fifo {more}"));
    let text = ask("").good();
    assert!(text.contains("of all processors together; --explain says why") && !text.contains("critical"), "{text}");
    let explained = ask("--explain").good();
    assert!(
        explained.contains("idle         ") && explained.contains(" no ready work ") && explained.contains("critical     "),
        "{explained}"
    );
    let idle = |text: &str| text.lines().find_map(|line| line.strip_prefix("idle         ")?.split(" of all").next().map(str::to_owned));
    assert_eq!((idle(&text), text.contains("why          first-free 100 001")), (idle(&explained), true), "{text}");
    assert!(ask("--json").json()["idle_ns"].is_null());
}

#[test]
fn scenarios_are_played_and_the_numbers_of_one_are_those_of_all() {
    let installation = installation();
    let all = installation.ask("simulate --soak --seeds 12 --soak-tasks 30 --json").json();
    assert_eq!((&all["scenarios"], &all["found"]), (&12.into(), &serde_json::Value::Null));
    let parts: u64 = [(0, 5), (5, 7)]
        .iter()
        .map(|(first, count)| {
            let part = installation.ask(&format!("simulate --soak --seed {first} --seeds {count} --soak-tasks 30 --json")).json();
            part["events"].as_u64().unwrap()
        })
        .sum();
    assert_eq!(all["events"], parts);
    let some = installation.ask("simulate --soak --seeds 6 --soak-tasks 30 --soak-faults device-lost,memory-full --json").json();
    let kinds: Vec<&str> = some["faults"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(kinds, ["device-lost", "memory-full"]);
    assert!(some["launches"].as_u64().unwrap() > 0, "{some}");
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
    check("--soak --soak-faults hang,hung", 2, &["`hung` is neither a number nor one of hang, slow", "lost-completion, restart"]);
    check("--soak --soak-faults 19", 2, &["there are 18 kinds of things that go wrong"]);
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

#[test]
fn pictures_are_written_whole_or_not_at_all() {
    let installation = installation();
    let files = "--trace run.json --paje run.paje --gantt run.svg --csv run.csv";
    for policy in ["heft", "fifo"] {
        let text = installation.ask(&format!("simulate fork.stg --speeds 1,1 --policy {policy} {files}")).good();
        let read = |name: &str| fs::read_to_string(installation.file(name)).unwrap();
        for name in ["run.json", "run.paje", "run.svg", "run.csv"] {
            assert!(text.contains(&format!("wrote        {name} (")), "{text}");
        }
        assert!(text.contains("critical     3 tasks (2 behind what they need)"), "{text}");
        assert!(text.contains("idle         20.0 ms of all processors together: no ready work 100 %, data 0 %, policy 0 %"), "{text}");
        let trace: serde_json::Value = serde_json::from_str(&read("run.json")).unwrap();
        assert!(trace["traceEvents"].as_array().unwrap().len() > 20);
        assert!(read("run.svg").contains("<svg"));
        assert_eq!(read("run.csv").lines().count(), 5);
    }
    let answer = installation.ask("simulate fork.stg --speeds 1,1 --policy heft --gantt run.svg --json").json();
    assert_eq!((&answer["idle_ns"]["no_ready_work"], &answer["critical_path"]["work_ns"]), (&20_000_000.into(), &50_000_000.into()));
    // The bytes of a file may go where lines would; those go elsewhere then.
    let table = installation.ask("simulate fork.stg --speeds 1,1 --policy heft --csv /dev/stdout").good();
    assert_eq!((table.lines().count(), table.starts_with("decided_ns,")), (5, true), "{table}");
    let before = installation.names();
    let check = |arguments: &str, code: i32, said: &[&str]| {
        installation.ask(&format!("simulate fork.stg --speeds 1,1 {arguments}")).failed(code, said)
    };
    check("--gantt nowhere/run.svg", 5, &["nowhere/run.svg could not be written: the folder nowhere does not exist"]);
    check("--csv new.csv --trace /dev/full", 5, &["/dev/full could not be written: No space left on device"]);
    check("--csv new --gantt new", 2, &["--csv new: another option has the same file"]);
    check("--json --csv /dev/stdout", 2, &["--csv and --json cannot both have standard output"]);
    assert_eq!(installation.names(), before);
}

#[test]
fn drawings_and_graph_files_are_workloads() {
    let installation = installation();
    fs::write(installation.file("g.dot"), "digraph { node [work=0.01] a -> b; a -> c; b -> d; c -> d; d [work=0.03] }").unwrap();
    fs::write(installation.file("g.toml"), "[tasks.a]\nkernel = 'wait'\ninputs = [5]\n[tasks.b]\nkernel = 'add'\ninputs = ['@a', 1]\n")
        .unwrap();
    let makespan =
        |file: &str| installation.ask(&format!("simulate {file} --speeds 1,1 --policy heft --json")).json()["makespan_ns"].as_u64();
    assert_eq!((makespan("g.dot"), makespan("g.toml")), (Some(50_000_000), Some(6_000_000)));
    fs::write(installation.file("bad.dot"), "digraph {\n a -> b\n}").unwrap();
    installation.ask("simulate bad.dot --speeds 1").failed(3, &["bad.dot: line 2, column 2: node `a` does not say how long it takes"]);
}

#[test]
fn a_recorded_run_is_a_workload_and_is_predicted() {
    let installation = Installation::new();
    for (threads, policy, file) in [(1, "fifo", "one.json"), (2, "heft", "two.json")] {
        let run = format!("run cholesky --size 64 --tile 16 --threads {threads} --policy {policy} --record {file}");
        let text = installation.ask(&run).good();
        assert!(text.lines().last().is_some_and(|line| line.starts_with("recorded ") && line.contains(file)), "{text}");
    }
    let text = fs::read_to_string(installation.file("one.json")).unwrap();
    let recording = Recording::from_json("one.json", &text).unwrap();
    assert_eq!((recording.name.as_str(), recording.policy.as_deref(), recording.processors.len()), ("cholesky", Some("fifo"), 1));
    assert!(recording.tasks.iter().any(|task| task.code.contains("potrf") && !task.after.is_empty()));
    // On one processor there is nothing to decide.
    let work_ns: u64 = recording.own_ns().iter().sum();
    let simulated = installation.ask("simulate one.json --speeds 1 --policy fifo --json").json();
    assert_eq!((&simulated["makespan_ns"], &simulated["tasks"]), (&work_ns.into(), &recording.tasks.len().into()));
    let predicted = installation.ask("predict one.json --beside two.json --workers 1,4 --policy heft-append --json").json();
    let rows = predicted["predictions"].as_array().unwrap();
    let row = |workers: u64, policy: &str| rows.iter().find(|row| row["workers"] == workers && row["policy"] == policy).unwrap();
    let overhead_ns = predicted["overhead_ns"].as_u64().unwrap();
    // One worker does all, and has to wait for spawns besides.
    let about = |predicted: &serde_json::Value, work_ns: u64| {
        let least_ns = work_ns + overhead_ns * recording.tasks.len() as u64;
        let spawned_ns = recording.tasks.iter().map(|task| task.spawned_ns).max().unwrap();
        assert!((least_ns..=least_ns + spawned_ns).contains(&predicted.as_u64().unwrap()), "{predicted} is not about {least_ns}");
    };
    about(&row(1, "fifo")["predicted_ns"], work_ns);
    let (one, two) = (row(1, "fifo"), row(2, "heft"));
    assert_eq!((&one["recorded"]["mean_ns"], &one["calibrated"]), (&(recording.makespan_ns() as f64).into(), &true.into()));
    assert_eq!((&two["recorded"]["runs"][0]["file"], &two["calibrated"]), (&"two.json".into(), &false.into()));
    assert_eq!(row(4, "heft-append")["recorded"], serde_json::Value::Null);
    let error = two["error"].as_f64().unwrap();
    assert!((two["predicted_ns"].as_f64().unwrap() / two["recorded"]["mean_ns"].as_f64().unwrap() - 1.0 - error).abs() < 1e-9);
    // Of one error the median and the worst are that.
    let said = (predicted["median_error"].as_f64().unwrap(), predicted["worst_error"].as_f64().unwrap());
    assert!((said.0 - error.abs()).abs() < 1e-12 && (said.1 - error.abs()).abs() < 1e-12, "{predicted}");
    assert_eq!(predicted["kendall_tau"], serde_json::Value::Null);
    let by_cpu = installation.ask("predict one.json --workers 1 --cpu --json").json();
    let cpu_ns: u64 = recording.own_cpu_ns().unwrap().iter().sum();
    about(&by_cpu["predictions"][0]["predicted_ns"], cpu_ns);
    let text = installation.ask("predict one.json --beside two.json").good();
    assert!(text.contains("cholesky: ") && text.contains("  heft  ") && text.contains(" %  two.json"), "{text}");
    // Bodies that run on top of others count once, and it is said that more is not known.
    let nested = installation.ask("run fib --size 12 --threads 1 --record nested.json");
    assert_eq!(nested.code, Some(0), "{nested:?}");
    let warned = installation.ask("predict nested.json");
    assert!(warned.stderr.contains("nested.json: tasks spawn tasks there"), "{warned:?}");
}

/// A recorded run of tasks that take so long each, one after the other on one worker.
fn recorded(policy: Option<&str>, codes: &[(&str, &[usize], u64)], makespan_ns: u64) -> String {
    let mut recording = Recording::new("made", "a machine", policy);
    recording.processors = vec![RecordedProcessor { name: "threads-0".into(), kind: "cpu".into() }];
    let mut now_ns = 0;
    for (code, after, took_ns) in codes {
        let began_ns = now_ns;
        now_ns += took_ns;
        recording.tasks.push(RecordedTask {
            name: format!("{code} {}", recording.tasks.len()),
            code: format!("module::{code}"),
            after: after.to_vec(),
            spawner: None,
            spawned_ns: 0,
            began_ns,
            ended_ns: now_ns,
            cpu_ns: None,
            processor: 0,
        });
    }
    recording.tasks.last_mut().unwrap().ended_ns = makespan_ns;
    recording.to_json()
}

#[test]
fn other_sizes_and_the_runtimes_own_queues_are_predicted_and_policies_are_ranked() {
    let installation = Installation::new();
    let write = |file: &str, text: String| fs::write(installation.file(file), text).unwrap();
    // Three of `left` and one of `right` behind them; each task takes the median of three runs.
    let codes = |ns: u64| [("left", &[][..], ns), ("left", &[], ns), ("left", &[], ns), ("right", &[0, 1, 2], 100)];
    for (file, ns) in [("a.json", 1000), ("b.json", 1100), ("c.json", 9000)] {
        write(file, recorded(None, &codes(ns), 3 * ns + 100));
    }
    // The same codes in another graph, recorded besides.
    let other = [("left", &[][..], 1), ("right", &[0], 1), ("right", &[1], 1)];
    write("other.json", recorded(None, &other, 1400));
    write("big.dot", "digraph { node [work=1, code=left]; a; b; c; d; e [code=right]; a -> e; b -> e; c -> e; d -> e }".into());
    let predicted = installation.ask("predict a.json b.json c.json --workers 1,2,4 --beside other.json --workload big.dot --json").json();
    let rows = predicted["predictions"].as_array().unwrap();
    let row = |name: &str, tasks: u64, workers: u64| {
        let found = rows.iter().find(|row| row["name"] == name && row["tasks"] == tasks && row["workers"] == workers);
        found.unwrap_or_else(|| panic!("{name} of {tasks} tasks on {workers}: {predicted}"))
    };
    assert_eq!(predicted["overhead_ns"], 0);
    let ns = |name: &str, tasks: u64, workers: u64| row(name, tasks, workers)["predicted_ns"].as_u64().unwrap();
    assert_eq!((ns("made", 4, 1), ns("made", 4, 2), ns("made", 4, 4)), (3400, 2300, 1200));
    assert_eq!((ns("made", 3, 1), ns("big", 5, 1), ns("big", 5, 2), ns("big", 5, 4)), (1300, 4500, 2300, 1200));
    assert_eq!(row("made", 4, 1)["policy"], "own");
    let error = row("made", 3, 1)["error"].as_f64().unwrap();
    assert!((error - (1300.0 / 1400.0 - 1.0)).abs() < 1e-12, "{error}");
    assert!((predicted["worst_error"].as_f64().unwrap() - error.abs()).abs() < 1e-12);
    // Two runs of each of two policies, which can be told apart, and are predicted to be equal.
    for (file, policy, ns) in
        [("f1.json", "fifo", 3400), ("f2.json", "fifo", 3401), ("r1.json", "random", 9900), ("r2.json", "random", 9901)]
    {
        write(file, recorded(Some(policy), &codes(1100), ns));
    }
    let ranked = installation.ask("predict f1.json --beside f2.json --beside r1.json --beside r2.json --json").json();
    assert_eq!((&ranked["kendall_tau"], &ranked["ranked_pairs"]), (&0.0.into(), &1.into()));
    let text = installation.ask("predict f1.json --beside f2.json --beside r1.json --beside r2.json").good();
    assert!(text.contains("2 runs, ± ") && text.contains("Kendall's tau 0.00 over 1 of 1 pairs"), "{text}");
    installation.ask("predict a.json other.json").failed(3, &["other.json: its tasks are not those of a.json", "--beside"]);
    write("strange.dot", "digraph { a [work=1, code=middle] }".into());
    installation
        .ask("predict a.json --workload strange.dot")
        .failed(3, &["strange.dot: no task of code `middle` was recorded; there are module::left, module::right"]);
}

#[test]
fn what_cannot_be_recorded_or_predicted_is_said() {
    let installation = Installation::new();
    let check = |arguments: &str, code: i32, said: &[&str]| installation.ask(arguments).failed(code, said);
    check("run hello --record nowhere/hello.json", 5, &["nowhere/hello.json could not be written: the folder nowhere does not exist"]);
    check("run hello --record /dev/stdout", 2, &["--record wants a file"]);
    check("predict nowhere.json", 3, &["nowhere.json: No such file"]);
    fs::write(installation.file("new.json"), "{\"poniard_recording\": 9}").unwrap();
    check("predict new.json", 3, &["new.json: poniard_recording: it is of version 9, and version 1 is read"]);
    check("simulate new.json --speeds 1", 3, &["new.json: poniard_recording: it is of version 9"]);
    installation.ask("run hello --record hello.json").good();
    check("predict hello.json --workers 0", 2, &["--workers"]);
    check("predict hello.json --policy hefd", 2, &["no policy is called `hefd`; did you mean `heft`?"]);
}

#[test]
fn this_machine_is_a_platform() {
    let installation = Installation::new();
    let text = installation.ask("platform --from-this-machine --backend threads --threads 3").good();
    assert!(text.contains("kind = \"cpu\"\ncount = 3\nspeed = 1.0\nspace = "), "{text}");
    let said = installation.ask("platform --from-this-machine --backend threads --threads 3 --output here.toml").good();
    assert!(said.starts_with("wrote here.toml ("), "{said}");
    assert_eq!(fs::read_to_string(installation.file("here.toml")).unwrap(), text);
    let simulated = installation.ask("simulate independent:3,ccr=0 --platform here.toml --policy fifo --json").json();
    assert_eq!((simulated["tasks"].as_u64(), simulated["processors"].as_array().map(Vec::len)), (Some(3), Some(3)));
    installation.ask("platform").failed(2, &["--from-this-machine"]);
    installation.ask("platform --from-this-machine --output nowhere/x").failed(5, &["the folder nowhere does not exist"]);
}
