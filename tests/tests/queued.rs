//! Tasks on a processor that takes batches: the example backend, loaded from its file.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use poniard::plugin::PluginSearch;
use poniard::{
    Backend, BackendInfo, BuildErrorKind, Completion, Execution, FailureKind, Fault, Handle, HostServices, OpenError, Opened, Processor,
    ProcessorInfo, ProcessorKind, Runtime, Scope, Settings, SpaceId, StopError, SubmitError, TaskDescriptor, TaskId, task,
};
use poniard_tests::fib;

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
    Scope::backend("example")
}

fn name() -> String {
    std::thread::current().name().unwrap_or_default().into()
}

#[task]
fn add(a: u64, b: u64) -> u64 {
    a + b
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
    let here = runtime.task(name, ()).scope(Scope::backend("threads")).spawn().take().expect("no failure");
    assert_eq!(here, "poniard-0");
    assert_ne!(there, here);
    let cpu = runtime.task(name, ()).scope(Scope::kind("cpu")).spawn();
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
    let files: Vec<_> = report.backends.iter().filter(|backend| backend.name == "threads").map(|backend| backend.file.as_deref()).collect();
    assert_eq!(files, [Some(file.as_path())]);
    assert_eq!(*runtime.spawn(fib, (10,)).fetch().expect("no failure"), 55);
}

/// A backend that does with each task what the test says.
struct Odd(fn(&Arc<dyn HostServices>, TaskId) -> Result<(), SubmitError>);

struct OddQueue(fn(&Arc<dyn HostServices>, TaskId) -> Result<(), SubmitError>, Arc<dyn HostServices>);

impl Backend for Odd {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: "odd".into(), version: "1".into() }
    }

    fn open(&self, _: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        Ok(Opened { processors: vec![Box::new(OddQueue(self.0, host))], spaces: Vec::new() })
    }
}

impl Processor for OddQueue {
    fn info(&self) -> ProcessorInfo {
        let execution = Execution::Queued { depth: 4 };
        ProcessorInfo {
            name: "odd-queue".into(),
            kind: ProcessorKind::new("odd"),
            execution,
            space: SpaceId::HOST,
            numa_node: None,
            device: None,
        }
    }

    fn submit(&self, batch: &[TaskDescriptor<'_>]) -> Result<(), SubmitError> {
        batch.iter().try_for_each(|task| (self.0)(&self.1, task.id))
    }

    fn stop(&self) -> Result<(), StopError> {
        Err(StopError::new("it will not"))
    }
}

fn odd(behaviour: fn(&Arc<dyn HostServices>, TaskId) -> Result<(), SubmitError>) -> Runtime {
    Runtime::builder().threads(1).linked(Odd(behaviour)).build().expect("it opens")
}

fn done(task: TaskId) -> [Completion; 1] {
    [Completion::done(task)]
}

fn on_the_odd_one(runtime: &Handle, body: impl FnOnce() -> u64 + Send + 'static) -> poniard::Task<u64> {
    runtime.task(body, ()).scope(Scope::kind("odd")).spawn()
}

#[test]
fn a_task_that_is_reported_twice_is_done_once() {
    let runtime = odd(|host, task| {
        host.run(task).expect("it is in flight");
        assert!(host.run(task).expect_err("it was run").to_string().contains("already"));
        host.complete(&done(task));
        host.complete(&done(task));
        Ok(())
    });
    for i in 0..10 {
        assert_eq!(*on_the_odd_one(&runtime, move || i).fetch().expect("no failure"), i);
    }
    let report = runtime.report();
    assert!(report.messages.iter().any(|message| message.contains("backend odd") && message.contains("not in flight")), "{report:?}");
}

#[test]
fn a_task_of_a_queue_joins_wherever_its_thread_comes_from() {
    // A thread of the queue's own hands the join to a worker.
    let runtime = with_queue(Some(1));
    let names = runtime.task(|| poniard::join(name, name), ()).scope(queue()).spawn().take().expect("no failure");
    assert_eq!(names, ("poniard-0".into(), "poniard-0".into()));
    assert_eq!(with_queue(None).spawn(|| poniard::join(|| 1, || 2), ()).take().expect("no failure"), (1, 2));
    // The only worker runs the task itself, on top of the one that spawns it: it would wait for a job that only it could run.
    let runtime = odd(|host, task| {
        host.run(task).expect("it is in flight");
        host.complete(&done(task));
        Ok(())
    });
    let handle = runtime.handle();
    let outer = runtime.spawn(
        move || {
            let task = on_the_odd_one(&handle, || {
                let mut parts = [0; 3];
                poniard::scope(|scope| parts.iter_mut().for_each(|part| scope.spawn(move |_| *part = 1)));
                let (a, b) = poniard::join(|| 1, || poniard::map_reduce(0..10, || 0, |_| 1, |a, b| a + b));
                a + b + parts.iter().sum::<u64>()
            });
            task.take().expect("no failure")
        },
        (),
    );
    assert_eq!(outer.take().expect("no failure"), 14);
}

#[test]
fn a_task_that_is_reported_while_it_runs_is_published_when_it_has_run() {
    static HOST: Mutex<Option<(Arc<dyn HostServices>, TaskId)>> = Mutex::new(None);
    let runtime = odd(|host, task| {
        *HOST.lock().expect("not poisoned") = Some((Arc::clone(host), task));
        host.run(task).expect("it is in flight");
        Ok(())
    });
    let task = on_the_odd_one(&runtime, || {
        let (host, task) = HOST.lock().expect("not poisoned").take().expect("it was submitted");
        // From inside the body: there is no outcome yet that could be published.
        host.complete(&done(task));
        7
    });
    assert_eq!(*task.fetch().expect("no failure"), 7);
}

#[test]
fn a_processor_that_refuses_forgets_or_fails_is_named() {
    let refuses = odd(|_, _| Err(SubmitError::new("the queue is full")));
    let forgets = odd(|host, task| {
        host.complete(&done(task));
        Ok(())
    });
    let fails = odd(|host, task| {
        host.complete(&[Completion::failed(task, Fault::refused("the device was lost"))]);
        Ok(())
    });
    for (runtime, reason) in [(refuses, "the queue is full"), (forgets, "without having run it"), (fails, "the device was lost")] {
        let error = on_the_odd_one(&runtime, || 1).fetch().expect_err("it did not run");
        let text = error.to_string();
        assert!(text.contains(reason) && text.contains("odd-queue"), "{text}");
        assert!(matches!(error.kind(), FailureKind::Processor { .. }), "{text}");
    }
}

#[test]
fn a_processor_that_will_not_stop_is_reported() {
    let runtime = odd(|_, _| Ok(()));
    let handle = runtime.handle();
    drop(runtime);
    let messages = handle.report().messages;
    assert!(messages.iter().any(|message| message.contains("odd-queue") && message.contains("it will not")), "{messages:?}");
}
