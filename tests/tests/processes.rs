//! Tasks on worker processes: what travels, where it runs, and what is true when a process ends.
//!
//! Needs Linux with `/proc`. Every runtime here has one thread and two worker processes, and tasks that are to run on a process have its backend as their scope.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::id;
use std::sync::Arc;
use std::time::Duration;

use poniard::{BoxError, Buffer, Data, FailureKind, Gather, Mutable, Priority, ProcessId, Runtime, Scope, Task, TaskOptions, buffer, read};
use poniard_tests::in_time;
use serde::{Deserialize, Serialize};

fn runtime() -> Runtime {
    Runtime::builder().threads(1).processes(2).build().expect("a runtime")
}

/// Options of a task that is to run on a process.
fn far() -> TaskOptions {
    TaskOptions::new().scope(Scope::backend("process"))
}

fn place() -> u32 {
    id()
}

#[test]
fn functions_that_capture_nothing_run_on_processes_and_others_here() {
    in_time(|| {
        let runtime = runtime();
        let there = runtime.task(place, ()).options(&far()).spawn();
        let closure = runtime.task(|| (1u8, id()), ()).options(&far()).spawn();
        let captured = 7;
        let here = runtime.task(move || (captured, id()), ()).scope(Scope::host()).spawn();
        assert_ne!(*there.fetch().unwrap(), id());
        assert_ne!(closure.fetch().unwrap().1, id());
        assert_eq!(*here.fetch().unwrap(), (7, id()));
        // Without a scope both kinds take part, and nobody else.
        let mut places: Vec<u32> = (0..64).map(|_| runtime.spawn(slow_place, ())).map(|task| *task.fetch().unwrap()).collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() <= 3, "{places:?}");
    });
}

/// Long enough for others to take part.
fn slow_place() -> u32 {
    let primes =
        (2..20_000u32).filter(|number| (2..).take_while(|factor| factor * factor <= *number).all(|factor| !number.is_multiple_of(factor)));
    assert_eq!(primes.count(), 2262);
    id()
}

#[derive(Clone, Debug, PartialEq, Data, Serialize, Deserialize)]
struct Settings {
    name: String,
    weights: Vec<f32>,
    inner: Option<Box<Settings>>,
}

#[derive(Debug, Data)]
struct Unserialisable(Ipv4Addr);

#[derive(Clone, Data, Serialize, Deserialize)]
#[data(local)]
struct Local(u32);

fn describe(settings: &Settings, factor: f32, text: &str, numbers: &[u64], map: BTreeMap<String, Vec<u8>>) -> (u32, String, Settings) {
    let mut changed = settings.clone();
    changed.weights.iter_mut().for_each(|weight| *weight *= factor);
    changed.inner = Some(Box::new(settings.clone()));
    (id(), format!("{text} {} {:?}", numbers.iter().sum::<u64>(), map), changed)
}

#[test]
fn arguments_and_results_of_all_kinds_travel() {
    in_time(|| {
        let runtime = runtime();
        let settings = Settings { name: "one".into(), weights: vec![1.0, 2.5], inner: None };
        let shared = Arc::new(settings.clone());
        let factor = runtime.spawn(|| 2.0f32, ());
        let map = BTreeMap::from([("a".to_owned(), vec![1, 2])]);
        let task = runtime.task(describe, (shared, factor, "text".to_owned(), vec![1, 2, 3], map)).options(&far()).spawn();
        let (place, text, changed) = task.take().unwrap();
        assert_ne!(place, id());
        assert_eq!(text, r#"text 6 {"a": [1, 2]}"#);
        assert_eq!(changed, Settings { weights: vec![2.0, 5.0], inner: Some(Box::new(settings.clone())), ..settings });

        let parts: Vec<Task<u64>> = (0..10).map(|number| runtime.spawn(|number: u64| number * number, (number,))).collect();
        let sum = runtime.task(|parts: Gather<'_, u64>| (id(), parts.len(), parts.iter().sum::<u64>()), (parts,)).options(&far()).spawn();
        let (place, len, sum) = sum.take().unwrap();
        assert_ne!(place, id());
        assert_eq!((len, sum), (10, 285));

        let mutable = Mutable::new(vec![1u64, 2]);
        let looked = runtime.task(|numbers: &[u64]| (id(), numbers.to_vec()), (read(&mutable),)).options(&far()).spawn().take().unwrap();
        assert_ne!(looked.0, id());
        assert_eq!(looked.1, [1, 2]);
    });
}

#[test]
fn tasks_that_do_not_travel_stay_and_cannot_be_sent_away() {
    in_time(|| {
        // Without a thread, those that stand for the processes run them.
        let without_threads = Runtime::builder().backend("process").processes(2).build().expect("a runtime");
        let with_one = runtime();
        let stay = |runtime: &Runtime, scope: Scope| {
            let captured = 4;
            let one = runtime
                .task(|value: &Unserialisable| (value.0.to_bits(), id()), (Unserialisable(Ipv4Addr::from_bits(1)),))
                .scope(scope.clone())
                .spawn();
            let two = runtime.task(|value: Local| (value.0, id()), (Local(2),)).scope(scope.clone()).spawn();
            let three = runtime.task(|| (3, Unserialisable(Ipv4Addr::from_bits(id()))), ()).scope(scope.clone()).spawn();
            let four = runtime.task(move || (captured, id()), ()).scope(scope).spawn();
            (one, two, three, four)
        };
        let (one, two, three, four) = stay(&without_threads, Scope::any());
        assert_eq!(*one.fetch().unwrap(), (1, id()));
        assert_eq!(*two.fetch().unwrap(), (2, id()));
        assert_eq!(three.fetch().unwrap().1.0.to_bits(), id());
        assert_eq!(*four.fetch().unwrap(), (4, id()));
        let (one, two, three, four) = stay(&with_one, Scope::backend("process"));
        let says = |error: poniard::TaskError, expected: &str| {
            assert!(matches!(error.kind(), FailureKind::Stays { .. }), "{error}");
            assert!(error.reason().contains("no processor in this process") && error.reason().contains(expected), "{error}");
        };
        says(one.fetch().unwrap_err(), "an argument's values stay");
        says(two.fetch().unwrap_err(), "an argument's values stay");
        says(three.fetch().unwrap_err(), "its result's values stay");
        says(four.fetch().unwrap_err(), "captured something");
    });
}

fn filled(len: usize, value: f64) -> Buffer<f64> {
    let mut made = buffer::zeroed(len);
    assert!(made.iter().all(|value| *value == 0.0), "lent memory is zero");
    made.fill(value);
    made
}

fn doubled(mut values: Buffer<f64>) -> Buffer<f64> {
    values.iter_mut().for_each(|value| *value *= 2.0);
    values
}

fn sum(values: &Buffer<f64>, others: &Buffer<f64>) -> f64 {
    values.iter().chain(others).sum()
}

#[test]
fn buffers_are_handed_over_both_ways_and_originals_stay() {
    in_time(|| {
        let runtime = runtime();
        for len in [0, 1, 7, 1000, 100_000, 3_000_000] {
            let near = buffer::from_fn(len, |index| index as f64);
            let expected: f64 = near.iter().sum();
            let near = runtime.value(near);
            let made = runtime.task(filled, (len, 3.0)).options(&far()).spawn();
            let twice = runtime.task(doubled, (&near,)).options(&far()).spawn();
            // Its only user: it could be changed in place, and is not.
            let fourfold = runtime.task(doubled, (runtime.task(doubled, (&near,)).options(&far()).spawn(),)).options(&far()).spawn();
            let total = runtime.task(sum, (&made, &twice)).options(&far()).spawn();
            assert_eq!(*total.fetch().unwrap(), 3.0 * len as f64 + 2.0 * expected);
            assert_eq!(fourfold.fetch().unwrap().iter().sum::<f64>(), 4.0 * expected);
            assert_eq!(near.fetch().unwrap().iter().sum::<f64>(), expected);
            assert!(made.fetch().unwrap().iter().all(|value| *value == 3.0));
        }
    });
}

#[test]
fn a_buffer_that_comes_back_unchanged_is_another_one() {
    in_time(|| {
        let runtime = runtime();
        let near = runtime.value(Arc::new(buffer::from_slice(&[1u32, 2, 3])));
        let same = runtime.task(|values: Arc<Buffer<u32>>| values, (&near,)).options(&far()).spawn();
        let back = same.take().unwrap();
        assert_eq!(**back, [1, 2, 3]);
        let kept = runtime.task(|values: &Arc<Buffer<u32>>| Arc::clone(values), (&near,)).options(&far()).spawn().take().unwrap();
        drop(near);
        assert_eq!(**kept, [1, 2, 3]);
    });
}

#[derive(Debug, thiserror::Error)]
#[error("the outer part")]
struct Outer(#[source] std::num::ParseIntError);

fn parse(text: &str) -> Result<u64, Outer> {
    text.parse().map_err(Outer)
}

fn refuse(number: u64) -> u64 {
    assert!(number > 10, "{number} is too small");
    number
}

#[test]
fn errors_and_panics_come_back_with_their_texts() {
    in_time(|| {
        let runtime = runtime();
        let error = runtime.task(parse, ("x1".to_owned(),)).options(&far()).name("parsing").spawn().fetch().unwrap_err();
        assert_eq!(error.task(), "parsing");
        assert!(matches!(error.kind(), FailureKind::Returned(_)), "{error}");
        assert_eq!(error.reason(), "the outer part: invalid digit found in string");
        let panicked = runtime.task(refuse, (3,)).options(&far()).spawn();
        let after = runtime.task(refuse, (&panicked,)).options(&far()).spawn();
        let error = panicked.fetch().unwrap_err();
        assert!(matches!(error.kind(), FailureKind::Panicked(message) if message == "3 is too small"), "{error}");
        assert!(matches!(after.fetch().unwrap_err().kind(), FailureKind::Dependency(_)));
        // The process has survived.
        assert_eq!(*runtime.task(refuse, (11,)).options(&far()).spawn().fetch().unwrap(), 11);
    });
}

fn nested(depth: u64) -> Result<(u64, u32), BoxError> {
    if depth == 0 {
        return Ok((1, id()));
    }
    let one = poniard::spawn(nested, (depth - 1,));
    let (two, three) = poniard::join(|| poniard::spawn(nested, (depth - 1,)).take(), || depth);
    let sum = poniard::map_reduce(0..100, || 0, |number| number, |a, b| a + b);
    assert_eq!((three, sum), (depth, 4950));
    Ok((one.take()?.0 + two?.0, id()))
}

/// Waits for a task that takes no processor, and that waits for one which only another thread can run meanwhile.
fn lends_its_place() -> Result<u64, BoxError> {
    let (send, receive) = std::sync::mpsc::channel();
    let handle = poniard::current().ok_or("no runtime")?;
    let waiting = handle.task(move || receive.recv().map_err(|error| error.to_string()), ()).occupancy(0.0).spawn();
    poniard::spawn(move || send.send(7u64).is_ok(), ()).detach();
    Ok(waiting.take()?)
}

#[test]
fn a_body_on_a_process_spawns_waits_and_joins_as_here() {
    in_time(|| {
        let runtime = runtime();
        // More than once on one process: what a body leaves behind is in nobody's way.
        for _ in 0..5 {
            let (count, place) = runtime.task(nested, (6,)).scope(Scope::process(ProcessId(1))).spawn().take().unwrap();
            assert_eq!(count, 64);
            assert_ne!(place, id());
            assert_eq!(runtime.task(lends_its_place, ()).scope(Scope::process(ProcessId(1))).spawn().take().unwrap(), 7);
        }
        let processor = || poniard::current_processor().map(|processor| (processor.name, processor.process.0));
        let processor = runtime.task(processor, ()).scope(Scope::process(ProcessId(2))).spawn().take().unwrap();
        assert_eq!(processor, Some(("processes-1".into(), 2)));
    });
}

/// Ends its process in the given way as often as there are no marks, and marks each time.
fn end_process(marks: PathBuf, times: u64, how: u64) -> u64 {
    let begun = std::fs::read_dir(&marks).map_or(0, Iterator::count) as u64;
    if begun < times {
        std::fs::write(marks.join(begun.to_string()), "").expect("a mark");
        match how {
            0 => std::process::abort(),
            1 => std::process::exit(3),
            2 => {
                let _ = std::process::Command::new("kill").args(["-9", &id().to_string()]).status();
                loop {
                    std::thread::park();
                }
            }
            _ => deep(1),
        };
    }
    begun
}

/// More stack than there is.
#[expect(unconditional_recursion, reason = "its point")]
fn deep(number: u64) -> u64 {
    let page = [number; 512];
    deep(std::hint::black_box(&page)[7] + 1) + page[3]
}

#[test]
fn a_task_whose_process_ends_is_run_again_whatever_ended_it() {
    in_time(|| {
        let runtime = runtime();
        for how in 0..4 {
            let marks = tempfile::tempdir().unwrap();
            let task = runtime.task(end_process, (marks.path().to_owned(), 2, how)).options(&far()).spawn();
            assert_eq!(*task.fetch().unwrap(), 2, "how {how}");
        }
    });
}

#[test]
fn a_task_that_ends_three_processes_fails_and_says_so() {
    in_time(|| {
        let runtime = runtime();
        for (how, expected) in
            [(0u64, "was killed by signal 6 (SIGABRT)"), (1, "exited with status 3"), (2, "was killed by signal 9 (SIGKILL)")]
        {
            let marks = tempfile::tempdir().unwrap();
            let task = runtime.task(end_process, (marks.path().to_owned(), 99, how)).options(&far()).name("fatal").spawn();
            let after = runtime.task(refuse, (&task,)).spawn();
            let error = task.fetch().unwrap_err();
            assert_eq!(error.task(), "fatal");
            assert!(matches!(error.kind(), FailureKind::Processor { processor, .. } if processor.starts_with("processes-")), "{error:?}");
            assert!(error.reason().contains(expected), "{error}");
            assert!(error.reason().contains("3 processes have ended over it"), "{error}");
            assert_eq!(std::fs::read_dir(marks.path()).unwrap().count(), 3);
            assert!(matches!(after.fetch().unwrap_err().kind(), FailureKind::Dependency(_)));
        }
        assert_eq!(*runtime.task(refuse, (11,)).options(&far()).spawn().fetch().unwrap(), 11);
    });
}

fn wait_until_told() -> bool {
    while !poniard::is_cancelled() {
        std::thread::yield_now();
    }
    true
}

fn never_end() {
    loop {
        std::thread::park();
    }
}

#[test]
fn a_body_on_a_process_is_told_to_stop_and_one_that_does_not_loses_its_process() {
    in_time(|| {
        let runtime = runtime();
        let told = runtime.task(wait_until_told, ()).options(&far()).timeout(Duration::from_millis(5)).spawn();
        assert!(matches!(told.fetch().unwrap_err().kind(), FailureKind::DeadlineExceeded));
        let stubborn: Vec<_> =
            (0..2).map(|_| runtime.task(never_end, ()).options(&far()).timeout(Duration::from_millis(5)).spawn()).collect();
        for task in stubborn {
            assert!(matches!(task.fetch().unwrap_err().kind(), FailureKind::DeadlineExceeded));
        }
        // Both processes were taken; there are others now.
        let places: Vec<_> = (0..4).map(|_| runtime.task(place, ()).options(&far()).spawn()).collect();
        for place in places {
            assert_ne!(*place.fetch().unwrap(), id());
        }
    });
}

#[test]
fn many_small_tasks_are_each_run_once() {
    in_time(|| {
        let runtime = runtime();
        let tasks: Vec<_> = (0..10_000u64).map(|number| runtime.spawn(|number: u64| number * 3, (number,))).collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.take().unwrap(), number as u64 * 3);
        }
        let chain = (0..2_000).fold(runtime.spawn(|| 0u64, ()), |last, _| runtime.spawn(|last: u64| last + 1, (last,)));
        assert_eq!(chain.take().unwrap(), 2_000);
    });
}

#[test]
fn two_runtimes_have_processes_of_their_own() {
    in_time(|| {
        let (one, two) = (runtime(), runtime());
        let first = one.task(place, ()).options(&far()).spawn();
        let second = two.task(|other: u32| (other, id()), (&first,)).options(&far()).spawn();
        let (first, second) = second.take().unwrap();
        assert_ne!(first, second);
    });
}

#[test]
fn a_task_that_is_to_be_begun_once_is_not_begun_again() {
    in_time(|| {
        let runtime = runtime();
        let marks = tempfile::tempdir().unwrap();
        let task = runtime.task(end_process, (marks.path().to_owned(), 1, 0u64)).options(&far()).once().spawn();
        let error = task.fetch().unwrap_err();
        assert!(error.reason().contains("was killed by signal 6 (SIGABRT); the task is to be begun only once"), "{error}");
        assert_eq!(std::fs::read_dir(marks.path()).unwrap().count(), 1);
    });
}

/// Marks that it was begun, and waits for another mark.
fn wait_for(begun: PathBuf, awaited: PathBuf) {
    mark(begun);
    while !awaited.exists() {
        std::thread::yield_now();
    }
}

fn mark(place: PathBuf) {
    std::fs::write(place, "").expect("a mark");
}

/// Has both processes run tasks that are quick, so that more of them are sent ahead.
fn be_quick(runtime: &Runtime) {
    let quick = |process: u32| runtime.task(refuse, (11,)).scope(Scope::process(ProcessId(process))).spawn();
    let tasks: Vec<_> = (0..200).map(|number| quick(1 + number % 2)).collect();
    assert!(tasks.into_iter().all(|task| task.take().expect("no failure") == 11));
}

#[test]
fn what_waits_behind_a_task_that_takes_long_is_run_by_others() {
    in_time(|| {
        let runtime = runtime();
        be_quick(&runtime);
        let marks = tempfile::tempdir().unwrap();
        let at = |name: &str| marks.path().join(name);
        // One process is taken until the other one is in the middle of a task that needs one of those behind it.
        let taken = runtime.task(wait_for, (at("taken"), at("free"))).scope(Scope::process(ProcessId(2))).spawn();
        while !at("taken").exists() {
            std::thread::yield_now();
        }
        let gate = runtime.task(wait_for, (at("gate"), at("open"))).scope(Scope::host()).spawn();
        // They keep the other one busy until the rest is there.
        let first: Vec<_> = (0..500).map(|_| runtime.task(refuse, (11,)).options(&far()).after(&gate).spawn()).collect();
        let urgent = far().priority(Priority::High);
        let long = runtime.task(wait_for, (at("begun"), at("done"))).options(&urgent).after(&gate).spawn();
        let names = std::iter::once("done").chain(std::iter::repeat_n("another", 20));
        let behind: Vec<_> = names.map(|name| runtime.task(mark, (at(name),)).options(&urgent).after(&gate).spawn()).collect();
        mark(at("open"));
        while !at("begun").exists() {
            std::thread::yield_now();
        }
        mark(at("free"));
        long.fetch().unwrap();
        taken.fetch().unwrap();
        first.iter().for_each(|task| task.wait().unwrap());
        behind.iter().for_each(|task| task.wait().unwrap());
    });
}

#[test]
fn what_waits_behind_a_task_that_ends_its_process_has_not_begun() {
    in_time(|| {
        let runtime = runtime();
        for _ in 0..10 {
            be_quick(&runtime);
            let marks = tempfile::tempdir().unwrap();
            let at = |name: &str| marks.path().join(name);
            let gate = runtime.task(wait_for, (at("gate"), at("open"))).scope(Scope::host()).spawn();
            let here = || TaskOptions::new().scope(Scope::process(ProcessId(1)));
            std::fs::create_dir(at("ends")).unwrap();
            let ends = runtime.task(end_process, (at("ends"), 1, 0u64)).options(&here()).priority(Priority::High).after(&gate).spawn();
            let behind: Vec<_> = (0..20).map(|_| runtime.task(refuse, (11,)).options(&here()).once().after(&gate).spawn()).collect();
            mark(at("open"));
            assert_eq!(ends.take().unwrap(), 1);
            for task in behind {
                assert_eq!(task.take().unwrap(), 11);
            }
        }
    });
}

/// Values that were sent to be kept, and their bytes, of all processors.
fn sent(runtime: &Runtime) -> (u64, u64) {
    let report = runtime.report();
    let processors = report.backends.iter().flat_map(|backend| &backend.processors);
    processors.fold((0, 0), |(values, bytes), processor| (values + processor.shared_values_sent, bytes + processor.shared_values_bytes))
}

/// The sum, and where in memory the numbers are.
fn sum_and_place(numbers: &[f64]) -> (f64, u64) {
    (numbers.iter().sum(), numbers.as_ptr().addr() as u64)
}

#[test]
fn a_value_that_many_tasks_use_is_sent_to_a_process_once() {
    in_time(|| {
        let runtime = Runtime::builder().threads(1).processes(1).build().expect("a runtime");
        let numbers: Vec<f64> = (0..1_000_000).map(f64::from).collect();
        let expected = numbers.iter().sum::<f64>();
        let check = |tasks: Vec<Task<(f64, u64)>>| {
            let mut places: Vec<_> = tasks
                .into_iter()
                .map(|task| {
                    let (sum, place) = task.take().unwrap();
                    assert_eq!(sum, expected);
                    place
                })
                .collect();
            places.dedup();
            assert_eq!(places.len(), 1, "it was read once");
        };
        let value = runtime.value(numbers.clone());
        check((0..50).map(|_| runtime.task(sum_and_place, (&value,)).options(&far()).spawn()).collect());
        let (values, bytes) = sent(&runtime);
        assert_eq!(values, 1);
        assert!((8_000_000..8_000_100).contains(&bytes), "{bytes}");
        let shared = Arc::new(numbers);
        check((0..50).map(|_| runtime.task(sum_and_place, (Arc::clone(&shared),)).options(&far()).spawn()).collect());
        assert_eq!(sent(&runtime).0, 2);
        // Whoever takes it by value gets one of his own.
        let changes = |mut numbers: Vec<f64>| {
            numbers.iter_mut().for_each(|number| *number = 0.0);
            numbers.len() as u64
        };
        for _ in 0..2 {
            assert_eq!(runtime.task(changes, (&value,)).options(&far()).spawn().take().unwrap(), 1_000_000);
        }
        check(vec![runtime.task(sum_and_place, (&value,)).options(&far()).spawn()]);
        // What serde writes, and what is gathered.
        let settings = Settings { name: "shared".repeat(100), weights: vec![1.0; 100], inner: None };
        let parts: Vec<_> = (0..4).map(|_| runtime.value(settings.clone())).collect();
        for _ in 0..10 {
            let names = |parts: Gather<'_, Settings>, first: &Settings| {
                parts.iter().map(|part| part.name.len()).sum::<usize>() + first.weights.len()
            };
            assert_eq!(runtime.task(names, (&parts, &parts[0])).options(&far()).spawn().take().unwrap(), 2400 + 100);
        }
        assert_eq!(sent(&runtime).0, 6);
    });
}

#[test]
fn a_process_that_does_not_have_a_value_asks_for_it() {
    in_time(|| {
        let runtime = Runtime::builder().threads(1).processes(1).build().expect("a runtime");
        let value = runtime.value(vec![0.5; 100_000]);
        let sum = || runtime.task(sum_and_place, (&value,)).options(&far()).spawn().take().unwrap().0;
        assert_eq!((sum(), sum()), (50_000.0, 50_000.0));
        assert_eq!(sent(&runtime).0, 1);
        // Another process takes its place.
        let end = || -> u64 { std::process::exit(3) };
        runtime.task(end, ()).options(&far()).once().spawn().fetch().map(drop).unwrap_err();
        assert_eq!((sum(), sum()), (50_000.0, 50_000.0));
        assert_eq!(sent(&runtime).0, 2);
        // More than it keeps, twice.
        let many: Vec<_> = (0..80u32).map(|number| runtime.value(vec![f64::from(number); 1 << 17])).collect();
        for _ in 0..2 {
            for (number, value) in many.iter().enumerate() {
                let (sum, _) = runtime.task(sum_and_place, (value,)).options(&far()).spawn().take().unwrap();
                assert_eq!(sum, (number << 17) as f64);
            }
        }
        assert_eq!(sent(&runtime).0, 2 + 160, "the oldest went, and was the next to be needed");
    });
}

#[test]
fn values_of_one_task_and_those_that_change_are_sent_each_time() {
    in_time(|| {
        let runtime = Runtime::builder().threads(1).processes(1).build().expect("a runtime");
        let step = |numbers: Vec<f64>| numbers.into_iter().map(|number| number + 1.0).collect::<Vec<_>>();
        let chain = (0..20).fold(runtime.value(vec![0.0; 1000]), |last, _| runtime.task(step, (last,)).options(&far()).spawn());
        assert_eq!(chain.take().unwrap(), [20.0; 1000]);
        let mutable = Mutable::new(vec![0.0; 1000]);
        for round in 0..10u32 {
            runtime.spawn(|numbers: &mut Vec<f64>, value: f64| numbers.fill(value), (poniard::write(&mutable), f64::from(round))).detach();
            let sum = runtime.task(sum_and_place, (read(&mutable),)).options(&far()).spawn().take().unwrap().0;
            assert_eq!(sum, f64::from(round) * 1000.0);
        }
        // Small ones, and the places of buffers.
        let small = runtime.value(vec![1.0; 4]);
        let buffers = runtime.value(vec![buffer::from_slice(&[1.5; 100]); 20]);
        for _ in 0..5 {
            assert_eq!(runtime.task(sum_and_place, (&small,)).options(&far()).spawn().take().unwrap().0, 4.0);
            let sum = |buffers: &Vec<Buffer<f64>>| buffers.iter().flat_map(|buffer| buffer.iter()).sum::<f64>();
            assert_eq!(runtime.task(sum, (&buffers,)).options(&far()).spawn().take().unwrap(), 3000.0);
        }
        assert_eq!(sent(&runtime), (0, 0));
        // Each lies where the one before it did, as likely as not.
        for round in 0..200u32 {
            let shared = Arc::new(vec![f64::from(round); 1000]);
            let sum = runtime.task(sum_and_place, (Arc::clone(&shared),)).options(&far()).spawn().take().unwrap().0;
            assert_eq!(sum, f64::from(round) * 1000.0);
            let value = runtime.value(vec![f64::from(round); 1000]);
            let sum = runtime.task(sum_and_place, (&value,)).options(&far()).spawn().take().unwrap().0;
            assert_eq!(sum, f64::from(round) * 1000.0);
        }
        assert_eq!(sent(&runtime).0, 400);
    });
}
