//! Tasks on a processor that takes batches: the example backend, loaded from its file.

use std::path::PathBuf;

use poniard::plugin::PluginSearch;
use poniard::{BuildErrorKind, FailureKind, ProcessorKind, Runtime, Scope, task};

/// A plugin file that was built beside this test.
fn built(file: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test has a file");
    test.parent().expect("in a folder").join(file)
}

/// A runtime with the example's queue, and threads when there are any.
fn with_queue(threads: Option<usize>) -> Runtime {
    let builder =
        Runtime::builder().builtin(threads.is_some()).plugins(PluginSearch::none().with_path(built("libponiard_plugin_example.so")));
    let builder = match threads {
        Some(count) => builder.threads(count),
        None => builder,
    };
    builder.build().expect("the example is there")
}

fn queue() -> Scope {
    Scope::Backend("example".into())
}

fn name() -> String {
    std::thread::current().name().unwrap_or_default().into()
}

#[task]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

fn fib(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let a = poniard::spawn(fib, (n - 1,));
    let b = poniard::spawn(fib, (n - 2,));
    *a.fetch().expect("no failure") + *b.fetch().expect("no failure")
}

#[test]
fn tasks_of_both_kinds_of_processor_depend_on_each_other() {
    let runtime = with_queue(Some(2));
    for i in 0..200 {
        let a = add::spawn(&runtime, i, 1);
        let b = runtime.task(add, (&a, 10)).scope(queue()).spawn();
        let c = runtime.spawn(add, (b, a));
        assert_eq!(*c.fetch().expect("no failure"), 2 * (i + 1) + 10);
    }
    let report = runtime.report();
    let example = report.backends.iter().find(|backend| backend.name == "example").expect("it is there");
    assert_eq!(example.processors[0].tasks, 200);
    assert!(example.processors[0].queued);
    assert!(example.file.as_ref().is_some_and(|file| file.ends_with("libponiard_plugin_example.so")));
}

#[test]
fn a_scope_chooses_the_queue() {
    let runtime = with_queue(Some(1));
    let there = runtime.task(name, ()).scope(queue()).spawn().take().expect("no failure");
    let here = runtime.task(name, ()).scope(Scope::Backend("threads".into())).spawn().take().expect("no failure");
    assert_eq!(here, "poniard-0");
    assert_ne!(there, here);
    let cpu = runtime.task(name, ()).scope(Scope::Kind(ProcessorKind::cpu())).spawn();
    cpu.wait().expect("both are of that kind");
}

#[test]
fn without_threads_everything_runs_on_the_queue() {
    let runtime = with_queue(None);
    let a = runtime.spawn(add, (1, 2));
    assert_eq!(*runtime.spawn(add, (&a, 3)).fetch().expect("no failure"), 6);
}

#[test]
fn tasks_on_the_only_thread_of_a_queue_spawn_and_fetch() {
    let runtime = with_queue(None);
    assert_eq!(*runtime.spawn(fib, (12,)).fetch().expect("no failure"), 144);
    let report = runtime.report();
    // fib(12) is made of 465 calls, some of them run on top of those that wait for them.
    assert_eq!((report.backends[0].processors[0].name.as_str(), report.backends[0].processors[0].tasks), ("example-queue", 465));
}

#[test]
fn errors_and_panics_come_back_from_the_queue() {
    let runtime = with_queue(Some(1));
    let failed = runtime.task(|| -> Result<u64, String> { Err("no such file".into()) }, ()).scope(queue()).spawn();
    let after = runtime.spawn(add, (&failed, 1));
    assert_eq!(after.fetch().expect_err("its input failed").reason(), "no such file");
    let panicked = runtime.task(|| -> u64 { panic!("out of range") }, ()).scope(queue()).spawn();
    assert!(matches!(panicked.fetch().expect_err("it panicked").kind(), FailureKind::Panicked(_)));
    let next = runtime.task(add, (1, 1)).scope(queue()).spawn();
    assert_eq!(*next.fetch().expect("the queue goes on"), 2);
}

#[test]
fn a_backend_that_is_not_there_is_named() {
    let error = Runtime::builder().backend("thread").build().expect_err("there is no such backend");
    assert_eq!(error.kind(), BuildErrorKind::UnknownBackend);
    let text = error.to_string();
    assert!(text.contains("`thread`") && text.contains("threads"), "{text}");
}

#[test]
fn a_plugin_replaces_the_backend_of_its_name() {
    let folder = tempfile::tempdir().expect("room");
    let file = folder.path().join("libponiard_backend_threads.so");
    std::fs::copy(built("libponiard_backend_threads.so"), &file).expect("room");
    let runtime = Runtime::builder().plugins(PluginSearch::none().with_path(folder.path())).threads(2).build().expect("it is there");
    let report = runtime.report();
    assert_eq!(report.backends.len(), 1);
    assert_eq!(report.backends[0].file.as_deref(), Some(file.as_path()));
    assert_eq!(*runtime.spawn(fib, (10,)).fetch().expect("no failure"), 55);
}
