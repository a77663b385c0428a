//! `--processes`: worker processes besides the threads.

use std::fs;

use serde_json::Value;

use crate::installation::Installation;

/// Names of the processors that `arguments` give, by backend.
fn processors(installation: &Installation, arguments: &str) -> Vec<(String, Vec<String>)> {
    let found = installation.ask(&format!("processors --json {arguments}")).json();
    let text = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let backends = found["backends"].as_array().unwrap();
    backends.iter().map(|backend| (text(backend), backend["processors"].as_array().unwrap().iter().map(text).collect())).collect()
}

#[test]
fn there_are_as_many_as_asked_for_and_none_otherwise() {
    let installation = Installation::with_processes();
    let with = |arguments| processors(&installation, arguments).into_iter().find(|(backend, _)| backend == "process");
    let names = |arguments| with(arguments).map_or_else(Vec::new, |(_, names)| names);
    assert_eq!(names("--threads 1 --processes 2"), ["processes-0", "processes-1"]);
    assert!(names("--threads 1 --processes 0").is_empty());
    assert!(names("--threads 1").is_empty());
}

#[test]
fn a_wish_that_nobody_hears_is_an_error() {
    let threads_only = Installation::new();
    for arguments in [
        "run hello --processes 2",
        "processors --threads 1 --processes 2",
        "bench chain --quick --processes 1",
        "run hello --set processes.prefix=true",
    ] {
        let answer = threads_only.ask(arguments);
        answer.failed(4, &["and the backend `process`, which reads it, is not in use; in use: threads. Searched for"]);
    }
    threads_only.ask("run hello --processes 0").good();
    let both = Installation::with_processes();
    both.ask("run hello --backend threads --processes 2").failed(4, &["setting `processes` is `2`", "in use: threads"]);
    both.ask("run hello --backend process --processes 1 --threads 2").failed(4, &["setting `threads` is `2`", "in use: process"]);
    both.ask("run hello --set procesess=2")
        .failed(2, &["setting `procesess` is known to no backend in use; did you mean `processes`, of the backend `process`?"]);
    both.ask("run hello --set wish=2").failed(2, &["setting `wish` is known to no backend in use; there are", "`threads.pin`"]);
    // What is there and cannot be used says so.
    std::fs::write(threads_only.plugins().join("libponiard_backend_process.so"), "no plugin").unwrap();
    threads_only.ask("run hello --processes 2").failed(4, &["setting `processes` is `2`", "Refused: ", "libponiard_backend_process.so"]);
}

#[test]
fn processes_that_cannot_be_started_are_a_warning() {
    let installation = Installation::with_processes();
    let mut command = installation.command();
    let output = command.args("run where --backend process --processes 1".split(' ')).env("TMPDIR", "/nonexistent").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("/nonexistent, is of no use") && said.contains("its tasks run in this process"), "{said}");
}

#[test]
fn tasks_run_on_them() {
    // Without threads all of them do.
    let found = Installation::with_processes().ask("run where --backend process --processes 2 --json").json();
    assert_eq!(found["check"]["passed"], true, "{found:#}");
    let processors = found["processors"].as_array().unwrap();
    assert!(processors.iter().all(|processor| processor["backend"] == "process"), "{found:#}");
    let text = Installation::with_processes().ask("run where --backend process --processes 2").good();
    let host = text.lines().next().and_then(|line| line.rsplit(' ').next()).unwrap().to_owned();
    let rows: Vec<_> = text.lines().filter(|line| line.contains(" processes-")).filter(|line| !line.starts_with("ran ")).collect();
    assert!((1..=2).contains(&rows.len()), "{text}");
    assert!(rows.iter().all(|row| row.split_whitespace().next() != Some(&host)), "none of them is this process: {text}");
}

#[test]
fn samples_agree_with_their_checks_on_threads_and_processes() {
    let installation = Installation::with_processes();
    for sample in [
        "fib --size 20",
        "matmul --size 300 --tile 64",
        "cholesky --size 300 --tile 64",
        "lu --size 150 --tile 32",
        "qr --size 150 --tile 32",
        "jacobi --size 100 --tile 32 --generations 10",
        "vecsum",
        "graph-update --size 300",
        "life --generations 10",
        "wavefront",
        "error",
    ] {
        let done = installation.ask(&format!("run {sample} --threads 1 --processes 2 --json")).json();
        assert_eq!(done["check"]["passed"], true, "{done:#}");
    }
}

/// What is wrong with how the tasks of a run were spread: each worker process is to run a fifth of its fair share, which is a third of all tasks, at least.
fn unfair(done: &Value) -> Option<String> {
    assert_eq!(done["check"]["passed"], true, "{done:#}");
    let total = done["tasks"].as_u64().unwrap();
    let processors = done["processors"].as_array().unwrap();
    let apart: Vec<_> = processors.iter().filter(|processor| processor["backend"] == "process").collect();
    assert_eq!((processors.len(), apart.len()), (3, 2), "{done:#}");
    // Nobody kills a process here, so each processor has one, of its own; those that have not run a task yet have none.
    let processes: Vec<_> = apart.iter().flat_map(|processor| processor["processes"].as_array().unwrap()).collect();
    let number = |process: &Value| process["process"].as_u64().unwrap();
    assert!(apart.iter().all(|processor| processor["processes"].as_array().unwrap().len() <= 1), "{done:#}");
    assert!(processes.len() < 2 || number(processes[0]) != number(processes[1]), "{done:#}");
    let fair = processes.iter().filter(|process| process["tasks"].as_u64().unwrap() * 15 >= total).count();
    (fair < 2).then(|| format!("of {total} tasks the worker processes ran {processes:?}"))
}

#[test]
fn each_worker_process_runs_its_share_of_the_samples_that_compute() {
    let installation = Installation::with_processes();
    for sample in ["where", "matmul", "cholesky", "wavefront", "life", "histogram", "convolve"] {
        // Where the machine is so busy that all is over before a process has begun, there is more to do the next time.
        let mut seen = Vec::new();
        let fair = [1, 2, 4].into_iter().any(|factor| {
            let pictured = |tile| {
                let picture =
                    format!("[tasks.picture]\nkernel = \"gradient-image\"\ninputs = [{}, 480]\noutput = \"p.png\"\n", 640 * factor);
                fs::write(installation.file("p.toml"), picture).unwrap();
                installation.ask("run ./p.toml").good();
                format!("--input p.png --tile {tile}")
            };
            let options = match sample {
                "where" => format!("--size {}", 64 * factor),
                "matmul" | "cholesky" => format!("--size {} --tile 64", 384 * factor),
                "wavefront" => format!("--size {} --tile 256", 3072 * factor),
                "life" => format!("--generations {}", 40 * factor),
                "histogram" => pictured(8),
                _ => pictured(64),
            };
            let done = installation.ask(&format!("run {sample} {options} --threads 1 --processes 2 --json")).json();
            let unfair = unfair(&done);
            let fair = unfair.is_none();
            seen.extend(unfair);
            fair
        });
        assert!(fair, "{sample}: {}", seen.join("; "));
    }
}
