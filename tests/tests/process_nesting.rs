//! Tasks that bodies on worker processes spawn: where they run, what travels, and what is true when a process ends.
//!
//! Needs Linux with `/proc`. Every runtime here has one thread and two worker processes.

use std::path::{Path, PathBuf};
use std::process::id;
use std::time::Duration;

use poniard::{BoxError, Buffer, FailureKind, Handle, Mutable, ProcessId, Runtime, Scope, Task, TaskOptions, buffer, overwrite, write};
use poniard_tests::in_time;

fn runtime() -> Runtime {
    Runtime::builder().threads(1).processes(2).build().expect("a runtime")
}

/// Options of a task that is to run on a process.
fn on(process: u32) -> TaskOptions {
    TaskOptions::new().scope(Scope::process(ProcessId(process)))
}

fn here() -> TaskOptions {
    TaskOptions::new().scope(Scope::host())
}

/// Of the runtime whose task this is called in.
fn handle() -> Handle {
    poniard::current().expect("inside a task")
}

fn place() -> u32 {
    id()
}

fn place_in(scope: &str) -> Result<u32, BoxError> {
    Ok(handle().task(place, ()).scope(scope.parse()?).spawn().take()?)
}

#[test]
fn every_scope_means_on_a_process_what_it_means_here() {
    in_time(|| {
        let runtime = runtime();
        let process = |number| runtime.task(place, ()).options(&on(number)).spawn().take().unwrap();
        let (one, two) = (process(1), process(2));
        for (scope, expected) in [
            ("host", id()),
            ("process:0", id()),
            ("backend:threads", id()),
            ("processor:threads-0", id()),
            ("worker:0", id()),
            ("process:2", two),
            ("backend:process - process:1", two),
            // Of several it is this process that runs it, if it may.
            ("process:1", one),
            ("kind:cpu", one),
            ("backend:process", one),
            ("any", one),
        ] {
            let found = runtime.task(place_in, (scope.to_owned(),)).options(&on(1)).spawn();
            assert_eq!(found.take().unwrap(), expected, "{scope}");
        }
        let list = |scope: &str| -> Result<Vec<String>, BoxError> {
            let there = handle().processors_in(&scope.parse()?);
            Ok(there.iter().map(|processor| format!("{processor:?}")).collect())
        };
        for scope in ["any", "backend:process", "host"] {
            let there = runtime.task(list, (scope.to_owned(),)).options(&on(2)).spawn().take().unwrap();
            assert_eq!(there, runtime.task(list, (scope.to_owned(),)).options(&here()).spawn().take().unwrap());
        }
        assert_eq!(runtime.task(|| handle().processor_count(), ()).options(&on(1)).spawn().take().unwrap(), 3);
    });
}

#[test]
fn what_cannot_be_is_refused_on_a_process_as_it_is_here() {
    fn refusal(scope: &str) -> Result<String, BoxError> {
        let error = handle().task(place, ()).scope(scope.parse()?).spawn().fetch().err().ok_or("it ran")?;
        assert!(matches!(error.kind(), FailureKind::NoProcessor { .. }), "{error}");
        Ok(error.reason())
    }
    fn captures() -> Result<String, BoxError> {
        let number = id();
        assert_eq!(handle().task(move || number, ()).options(&on(1)).spawn().take()?, number);
        let error = handle().task(move || number, ()).options(&here()).spawn().fetch().err().ok_or("it ran")?;
        assert!(matches!(error.kind(), FailureKind::Stays { .. }), "{error}");
        Ok(error.reason())
    }
    in_time(|| {
        let runtime = runtime();
        for scope in ["kind:vulkan", "process:7"] {
            let there = runtime.task(refusal, (scope.to_owned(),)).options(&on(2)).spawn().take().unwrap();
            assert_eq!(there, runtime.task(refusal, (scope.to_owned(),)).options(&here()).spawn().take().unwrap());
            assert!(there.contains("threads-0 (kind cpu, backend threads), processes-0"), "{there}");
        }
        let text = runtime.task(captures, ()).options(&on(1)).spawn().take().unwrap();
        assert!(text.contains("no processor in this process") && text.contains("captured something"), "{text}");
    });
}

fn filled(len: usize, value: f64) -> Buffer<f64> {
    let mut made = buffer::zeroed(len);
    made.fill(value);
    made
}

fn doubled(mut values: Buffer<f64>) -> Buffer<f64> {
    values.iter_mut().for_each(|value| *value *= 2.0);
    values
}

fn sum(values: &Buffer<f64>, others: &[f64]) -> f64 {
    values.iter().chain(others).sum()
}

/// Makes a buffer, has another one made of it elsewhere, and gives that back.
fn hands_over(len: usize, near: Buffer<f64>) -> Result<(Buffer<f64>, f64), BoxError> {
    let handle = handle();
    let own = handle.value(filled(len, 1.5));
    let mut sums = 0.0;
    let mut last = handle.value(near);
    for elsewhere in [on(2), here()] {
        let plain = handle.task(|len: usize| vec![0.5; len], (len,)).options(&elsewhere).spawn();
        let made = handle.task(filled, (len, 2.0)).options(&elsewhere).spawn();
        let twice = handle.task(doubled, (&own,)).options(&elsewhere).spawn();
        sums += *handle.task(sum, (&twice, plain)).options(&elsewhere).spawn().fetch()?;
        last = handle.task(doubled, (last,)).options(&elsewhere).spawn();
        assert!(made.fetch()?.iter().all(|value| *value == 2.0));
        assert!(twice.fetch()?.iter().all(|value| *value == 3.0));
        // What came from there goes there again.
        sums += *handle.task(sum, (made, vec![1.0])).options(&elsewhere).spawn().fetch()?;
    }
    assert!(own.fetch()?.iter().all(|value| *value == 1.5), "it is this process's own");
    Ok((last.take()?, sums))
}

#[test]
fn buffers_are_handed_over_both_ways() {
    in_time(|| {
        let runtime = runtime();
        for len in [0, 1, 7, 1000, 100_000, 1_000_000] {
            for _ in 0..3 {
                let near = buffer::from_fn(len, |index| index as f64);
                let (back, sums) = runtime.task(hands_over, (len, near)).options(&on(1)).spawn().take().unwrap();
                assert_eq!(sums, 2.0 * (3.5 * len as f64 + 2.0 * len as f64 + 1.0));
                assert!(back.iter().enumerate().all(|(index, value)| *value == 4.0 * index as f64));
            }
        }
    });
}

fn parse(text: &str) -> Result<u64, std::num::ParseIntError> {
    text.parse()
}

fn refuse(number: u64) -> u64 {
    assert!(number > 10, "{number} is too small");
    number
}

#[test]
fn errors_and_panics_come_back_with_their_texts() {
    fn fails() -> Result<String, BoxError> {
        let handle = handle();
        let mut texts = String::new();
        for elsewhere in [on(2), here()] {
            let error = handle.task(parse, ("x1".to_owned(),)).options(&elsewhere).name("parsing").spawn().fetch().err().ok_or("it can")?;
            assert_eq!(error.task(), "parsing");
            assert!(matches!(error.kind(), FailureKind::Returned(_)), "{error}");
            texts += &error.reason();
            let panicked = handle.task(refuse, (3,)).options(&elsewhere).spawn();
            let after = handle.task(refuse, (&panicked,)).options(&elsewhere).spawn();
            let error = panicked.fetch().err().ok_or("it can")?;
            assert!(matches!(error.kind(), FailureKind::Panicked(message) if message == "3 is too small"), "{error}");
            assert!(matches!(after.fetch().err().ok_or("it can")?.kind(), FailureKind::Dependency(_)));
            assert_eq!(handle.task(refuse, (11,)).options(&elsewhere).spawn().take()?, 11);
        }
        Ok(texts)
    }
    in_time(|| {
        let text = runtime().task(fails, ()).options(&on(1)).spawn().take().unwrap();
        assert_eq!(text, "invalid digit found in string".repeat(2));
    });
}

#[test]
fn many_at_once_and_those_that_nobody_waits_for() {
    fn spawns() -> Result<u64, BoxError> {
        let handle = handle();
        let square = |number: u64| number * number;
        let spawn = |number: u64| {
            let scope = ["host", "process:2", "any"][number as usize % 3].parse().expect("a scope");
            handle.task(square, (number,)).scope(scope).spawn()
        };
        let tasks: Vec<Task<u64>> = (0..200).map(spawn).collect();
        // One that depends on all of them, and none that is waited for.
        let all = handle.task(|parts: poniard::Gather<'_, u64>| parts.iter().sum::<u64>(), (tasks,)).options(&here()).spawn();
        (0..20).for_each(|number| spawn(number).detach());
        Ok(all.take()?)
    }
    in_time(|| {
        let runtime = runtime();
        for _ in 0..3 {
            let sums: Vec<_> = (0..3).map(|_| runtime.task(spawns, ()).options(&on(1)).spawn()).collect();
            for sum in sums {
                assert_eq!(sum.take().unwrap(), (0..200).map(|number| number * number).sum::<u64>());
            }
        }
    });
}

fn mark(at: &Path) {
    std::fs::write(at, "").expect("a mark");
}

/// Marks that it has begun, and goes on until somebody tells it to stop.
fn until_told(at: PathBuf) {
    mark(&at);
    while !poniard::is_cancelled() {
        std::thread::yield_now();
    }
}

fn wait_for(at: &Path) {
    while !at.exists() {
        std::thread::yield_now();
    }
}

#[test]
fn what_a_process_cancels_elsewhere_is_told_to_stop() {
    fn cancels(at: PathBuf) -> Result<u32, BoxError> {
        let handle = handle();
        for (elsewhere, name) in [(on(2), "process"), (here(), "thread")] {
            let endless = handle.task(until_told, (at.join(name),)).options(&elsewhere).spawn();
            wait_for(&at.join(name));
            assert!(endless.cancel());
            let error = endless.fetch().err().ok_or("it was cancelled")?;
            assert!(matches!(error.kind(), FailureKind::Cancelled), "{error}");
            let late = handle.task(until_told, (at.join("late"),)).options(&elsewhere).timeout(Duration::from_millis(5)).spawn();
            assert!(matches!(late.fetch().err().ok_or("it is late")?.kind(), FailureKind::DeadlineExceeded));
        }
        Ok(id())
    }
    in_time(|| {
        let runtime = runtime();
        let marks = tempfile::tempdir().unwrap();
        let first = runtime.task(cancels, (marks.path().to_owned(),)).options(&on(1)).spawn().take().unwrap();
        // The bodies are over, and the process that wanted it is as it was.
        assert_eq!(runtime.task(place_in, ("host".to_owned(),)).options(&on(1)).spawn().take().unwrap(), id());
        assert_eq!(runtime.task(place, ()).options(&on(1)).spawn().take().unwrap(), first);
    });
}

#[test]
fn a_body_that_is_to_stop_takes_what_it_has_spawned_elsewhere_along() {
    fn waits(at: PathBuf) -> Result<(), BoxError> {
        let handle = handle();
        let far = handle.task(until_told, (at.join("process"),)).options(&on(2)).spawn();
        let near = handle.task(until_told, (at.join("thread"),)).options(&here()).spawn();
        far.wait()?;
        Ok(near.wait()?)
    }
    in_time(|| {
        let runtime = runtime();
        let marks = tempfile::tempdir().unwrap();
        let before = runtime.task(place, ()).options(&on(1)).spawn().take().unwrap();
        let task = runtime.task(waits, (marks.path().to_owned(),)).options(&on(1)).spawn();
        ["process", "thread"].iter().for_each(|name| wait_for(&marks.path().join(name)));
        assert!(task.cancel());
        assert!(matches!(task.fetch().unwrap_err().kind(), FailureKind::Cancelled));
        // All three places are free again, and the process has ended its body by itself.
        for options in [on(2), here()] {
            runtime.task(place, ()).options(&options).spawn().wait().unwrap();
        }
        assert_eq!(runtime.task(place, ()).options(&on(1)).spawn().take().unwrap(), before);
    });
}

/// Ends its process as often as there are no marks, and marks each time.
fn end_process(marks: PathBuf, times: u64) -> u64 {
    let begun = std::fs::read_dir(&marks).map_or(0, Iterator::count) as u64;
    if begun < times {
        mark(&marks.join(begun.to_string()));
        std::process::abort();
    }
    begun
}

#[test]
fn a_process_that_ends_in_the_middle_of_what_another_one_has_spawned_loses_nothing() {
    fn spawns(marks: PathBuf, times: u64) -> Result<u64, BoxError> {
        Ok(handle().task(end_process, (marks, times)).options(&on(2)).name("fatal").spawn().take()?)
    }
    in_time(|| {
        let runtime = runtime();
        let marks = tempfile::tempdir().unwrap();
        assert_eq!(runtime.task(spawns, (marks.path().to_owned(), 2)).options(&on(1)).spawn().take().unwrap(), 2);
        let marks = tempfile::tempdir().unwrap();
        let error = runtime.task(spawns, (marks.path().to_owned(), 99)).options(&on(1)).spawn().fetch().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("`fatal`") && text.contains("signal 6") && text.contains("3 processes have ended over it"), "{text}");
        assert!(text.contains("processor processes-1"), "{text}");
    });
}

/// Looks at a buffer until it is told to stop, and longer than its process is there.
fn looks_on(values: &Buffer<u64>, at: PathBuf) {
    mark(&at.join("looks"));
    while !poniard::is_cancelled() {
        assert!(values.iter().all(|value| *value == 7), "nobody else has it");
    }
    // The process was begun anew, and makes buffers of that size.
    for _ in 0..50 {
        if values.iter().any(|value| *value != 7) {
            mark(&at.join("changed"));
        }
    }
}

#[test]
fn a_process_that_ends_leaves_nothing_behind_and_its_task_is_run_again() {
    fn spawns(at: PathBuf) -> Result<u64, BoxError> {
        let handle = handle();
        let mut own = buffer::zeroed(10_000);
        if !at.join("looks").exists() {
            own.fill(7);
            handle.task(looks_on, (own, at.clone())).options(&here()).spawn().detach();
            let far = handle.task(until_told, (at.join("far"),)).options(&on(2)).spawn();
            wait_for(&at.join("looks"));
            wait_for(&at.join("far"));
            drop(far);
            std::process::abort();
        }
        own.fill(1);
        let sum = |values: &Buffer<u64>| values.iter().sum::<u64>();
        let own = handle.value(own);
        let one = handle.task(sum, (&own,)).options(&on(2)).spawn();
        Ok(*one.fetch()? + *handle.task(sum, (&own,)).options(&here()).spawn().fetch()?)
    }
    in_time(|| {
        let runtime = runtime();
        for _ in 0..5 {
            let marks = tempfile::tempdir().unwrap();
            let task = runtime.task(spawns, (marks.path().to_owned(),)).options(&on(1)).spawn();
            assert_eq!(task.take().unwrap(), 20_000);
            assert!(!marks.path().join("changed").exists());
        }
    });
}

/// Each level on the other process, or on a thread, while the one before waits.
fn bounce(depth: u64, through_host: bool) -> Result<Vec<u32>, BoxError> {
    let mut places = vec![id()];
    if depth > 0 {
        let next = match depth % 2 {
            _ if through_host && depth.is_multiple_of(3) => here(),
            odd => on(1 + odd as u32),
        };
        places.extend(handle().task(bounce, (depth - 1, through_host)).options(&next).spawn().take()?);
    }
    Ok(places)
}

#[test]
fn tasks_that_wait_for_each_other_across_processes_all_get_to_run() {
    in_time(|| {
        let runtime = runtime();
        let process = |number| runtime.task(place, ()).options(&on(number)).spawn().take().unwrap();
        // More than once, and after many quick ones: what was sent ahead comes back.
        for round in 0..3 {
            let quick: Vec<_> = (0..100).map(|number| runtime.task(refuse, (11,)).options(&on(1 + number % 2)).spawn()).collect();
            let pids = [process(1), process(2)];
            let places = runtime.task(bounce, (3, false)).options(&on(1)).spawn();
            let many: Vec<_> =
                (0..3).map(|depth| runtime.task(bounce, (depth + 4, true)).options(&on(1 + depth as u32 % 2)).spawn()).collect();
            assert_eq!(places.take().unwrap(), [pids[0], pids[1], pids[0], pids[1]], "{round}");
            for task in many {
                assert!(task.take().unwrap().iter().all(|place| pids.contains(place) || *place == id()));
            }
            assert!(quick.into_iter().all(|task| task.take().unwrap() == 11));
        }
    });
}

#[test]
fn a_guest_of_a_call_is_not_told_to_stop_with_it() {
    fn waits(at: PathBuf) -> Result<(), BoxError> {
        Ok(handle().task(until_told, (at,)).options(&here()).spawn().wait()?)
    }
    fn guest(at: PathBuf) -> bool {
        mark(&at.join("guest"));
        let mut told = false;
        while !at.join("go").exists() {
            told |= poniard::spawn(poniard::is_cancelled, ()).take().expect("no failure");
            told |= poniard::is_cancelled();
        }
        told
    }
    in_time(|| {
        let runtime = runtime();
        let marks = tempfile::tempdir().unwrap();
        let host = runtime.task(waits, (marks.path().join("host"),)).options(&on(1)).spawn();
        wait_for(&marks.path().join("host"));
        // The process is in the middle of a call, which waits: so this one is run there meanwhile.
        let guest = runtime.task(guest, (marks.path().to_owned(),)).options(&on(1)).spawn();
        wait_for(&marks.path().join("guest"));
        assert!(host.cancel());
        // The call has been told when what it waits for is over.
        runtime.task(place, ()).options(&here()).spawn().wait().unwrap();
        mark(&marks.path().join("go"));
        assert!(!guest.take().unwrap());
    });
}

fn total(values: &mut Buffer<f64>) -> f64 {
    values.iter().sum()
}

/// Succeeds at the attempt `last`.
fn moody(counts: &mut Buffer<f64>, last: f64) -> Result<u32, String> {
    counts.iter_mut().for_each(|count| *count += 1.0);
    if counts[0] < last { Err(format!("attempt {}", counts[0])) } else { Ok(id()) }
}

#[test]
fn what_a_body_sends_elsewhere_is_changed_in_place_and_tried_again() {
    fn sends(scope: &str) -> Result<(u32, f64, String, f64), BoxError> {
        let counts = Mutable::new(filled(10_000, 0.0));
        let spawn = |last| {
            let handle = handle();
            let task = handle.task(moody, (write(&counts), last)).scope(scope.parse()?).retries(3).backoff(Duration::from_millis(1));
            Ok::<_, BoxError>(task.spawn())
        };
        let count = || handle().task(total, (overwrite(&counts),)).spawn().take();
        let (place, one) = (spawn(3.0)?.take()?, count()?);
        let error = spawn(99.0)?.fetch().err().ok_or("it worked")?;
        Ok((place, one, format!("{} {}", error.attempts(), error.reason()), count()?))
    }
    in_time(|| {
        let runtime = runtime();
        let two = runtime.task(place, ()).options(&on(2)).spawn().take().unwrap();
        for (scope, expected) in [("host", id()), ("process:2", two)] {
            let (place, one, error, all) = runtime.task(sends, (scope.to_owned(),)).options(&on(1)).spawn().take().unwrap();
            assert_eq!((place, one, error.as_str(), all), (expected, 30_000.0, "4 attempt 7", 70_000.0), "{scope}");
        }
    });
}

#[test]
fn a_guest_is_changed_in_place_and_tried_again() {
    fn waits(at: PathBuf) -> Result<(), BoxError> {
        Ok(handle().task(until_marked, (at,)).options(&here()).spawn().wait()?)
    }
    fn until_marked(at: PathBuf) {
        mark(&at.join("host"));
        wait_for(&at.join("go"));
    }
    in_time(|| {
        let runtime = runtime();
        let one = runtime.task(place, ()).options(&on(1)).spawn().take().unwrap();
        let marks = tempfile::tempdir().unwrap();
        let call = runtime.task(waits, (marks.path().to_owned(),)).options(&on(1)).spawn();
        wait_for(&marks.path().join("host"));
        let counts = Mutable::new(filled(10_000, 0.0));
        let spawn = |last| {
            let task = runtime.task(moody, (write(&counts), last)).options(&on(1)).retries(3).backoff(Duration::from_millis(1));
            task.spawn()
        };
        assert_eq!(spawn(3.0).take().unwrap(), one);
        let error = spawn(99.0).fetch().unwrap_err();
        assert_eq!((error.attempts(), error.reason().as_str()), (4, "attempt 7"));
        let all = runtime.task(total, (overwrite(&counts),)).options(&on(1)).spawn().take().unwrap();
        assert_eq!(all, 70_000.0);
        mark(&marks.path().join("go"));
        call.wait().unwrap();
        let report = runtime.report();
        let mut processors = report.backends.iter().flat_map(|backend| &backend.processors);
        let processor = processors.find(|processor| processor.name == "processes-0").expect("it is there");
        let counts: u64 = processor.processes.iter().map(|process| process.tasks).sum();
        assert_eq!(counts, 10, "guests count, too, each attempt");
    });
}
