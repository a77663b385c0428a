//! Where tasks run: scopes of tasks, of results and of values, on processors that the tests make up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::JoinHandle;

use poniard::{
    Access, Backend, BackendInfo, Completion, Data, EmptyUnion, Erased, ErasedExt, ErasedKernel, Execution, FailureKind, Fault, Gather,
    HostServices, OpenError, Opened, Parameter, Priority, ProcessId, Processor, ProcessorInfo, ProcessorKind, Runtime, Scope, ScopeSource,
    Settings, SpaceId, StartError, StopError, SubmitError, Task, TaskDescriptor, WorkerId, current_processor,
};

/// A processor of a made-up backend: its name, its kind, its memory, and whether it takes batches.
type Made = (&'static str, &'static str, SpaceId, bool);

/// A backend with the processors that a test wants.
struct MadeUp(&'static str, Vec<Made>);

struct MadeUpProcessor {
    made: Made,
    host: Arc<dyn HostServices>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Backend for MadeUp {
    fn info(&self) -> BackendInfo {
        BackendInfo { name: self.0.into(), version: "1".into() }
    }

    fn open(&self, _: &Settings, host: Arc<dyn HostServices>) -> Result<Opened, OpenError> {
        let processor = |made: &Made| -> Box<dyn Processor> {
            Box::new(MadeUpProcessor { made: *made, host: Arc::clone(&host), threads: Mutex::default() })
        };
        Ok(Opened { processors: self.1.iter().map(processor).collect(), spaces: Vec::new() })
    }
}

impl MadeUpProcessor {
    fn run(&self, body: impl FnOnce(Arc<dyn HostServices>) + Send + 'static) {
        let host = Arc::clone(&self.host);
        self.threads.lock().expect("not poisoned").push(std::thread::spawn(move || body(host)));
    }
}

impl Processor for MadeUpProcessor {
    fn info(&self) -> ProcessorInfo {
        let (name, kind, space, queued) = self.made;
        let execution = if queued { Execution::Queued { depth: 4 } } else { Execution::Inline };
        ProcessorInfo { name: name.into(), kind: ProcessorKind::new(kind), execution, space, numa_node: None, device: None }
    }

    fn start(&self, worker: WorkerId) -> Result<(), StartError> {
        self.run(move |host| host.worker_main(worker));
        Ok(())
    }

    fn submit(&self, batch: &[TaskDescriptor<'_>]) -> Result<(), SubmitError> {
        for task in batch.iter().map(|task| task.id) {
            self.run(move |host| {
                let outcome = host.run(task).map_err(|error| Fault::refused(error.reason));
                host.complete(&[Completion { task, outcome, busy_ns: None, upload_ns: None }]);
            });
        }
        Ok(())
    }

    fn stop(&self) -> Result<(), StopError> {
        let threads = std::mem::take(&mut *self.threads.lock().expect("not poisoned"));
        let panicked = threads.into_iter().filter(|thread| thread.thread().id() != std::thread::current().id());
        match panicked.map(JoinHandle::join).filter(Result::is_err).count() {
            0 => Ok(()),
            count => Err(StopError::new(format!("{count} threads panicked"))),
        }
    }
}

const DEVICE: SpaceId = SpaceId(1);

/// Four workers, `a-0` to `a-3`, of which the last two are of kind `big`; and two devices that take batches, `d-0` and `d-1`.
fn machine() -> Runtime {
    let workers = [("a-0", "cpu"), ("a-1", "cpu"), ("a-2", "big"), ("a-3", "big")].map(|(name, kind)| (name, kind, SpaceId::HOST, false));
    let devices = ["d-0", "d-1"].map(|name| (name, "device", DEVICE, true));
    let builder = Runtime::builder().builtin(false).linked(MadeUp("workers", workers.into())).linked(MadeUp("devices", devices.into()));
    builder.build().expect("they open")
}

/// The processor that the calling task runs on.
fn here() -> String {
    current_processor().expect("in the middle of a task").name
}

fn exact(name: &str) -> Scope {
    Scope::processor(name)
}

/// The names of the processors in a scope.
fn names(runtime: &Runtime, scope: &Scope) -> Vec<String> {
    runtime.processors_in(scope).into_iter().map(|processor| processor.name).collect()
}

/// What the error says that a task failed with.
fn why<T>(task: &Task<T>) -> String {
    task.wait().expect_err("it cannot run").reason()
}

/// What a channel gives; a task that never runs shall not hang the test.
fn receive<T>(from: &Receiver<T>) -> T {
    from.recv_timeout(std::time::Duration::from_secs(60)).expect("the task runs")
}

#[test]
fn any_processor_and_an_exact_one_meet_in_the_exact_one() {
    let runtime = machine();
    let value = runtime.scoped_value(1u64, exact("a-1"));
    for scope in [Scope::any(), Scope::host(), Scope::process(ProcessId::HOST), Scope::kind("cpu"), exact("a-1")] {
        let task = runtime.task(|_: &u64| here(), (&value,)).scope(scope.clone()).spawn();
        assert_eq!(task.take().expect("no failure"), "a-1", "{scope}");
        let task = runtime.task(here, ()).scope(exact("a-1")).result_scope(scope.clone()).spawn();
        assert_eq!(task.take().expect("no failure"), "a-1", "{scope}");
    }
}

#[test]
fn two_exact_processors_do_not_meet_and_both_are_named() {
    let runtime = machine();
    let (one, other) = (runtime.scoped_value(1u64, exact("a-1")), runtime.scoped_value(2u64, exact("a-2")));
    let add = |a: &u64, b: &u64| a + b;

    let (line, task) = (line!(), runtime.task(add, (5, &other)).name("sum").scope(exact("a-0")).spawn());
    let error = task.fetch().expect_err("they do not meet");
    assert_eq!(error.reason(), "its scope (processor `a-0`) and the scope of argument 2 (processor `a-2`) do not meet");
    assert!(error.to_string().starts_with("task `sum` (") && error.to_string().contains("was not run: its scope"), "{error}");
    assert_eq!((error.task(), error.location().line()), ("sum", line));
    let FailureKind::ScopesDoNotMeet { one: first, other: second } = error.kind() else { panic!("{error}") };
    assert_eq!((&first.source, &first.scope), (&ScopeSource::TaskScope, &exact("a-0")));
    assert_eq!((&second.source, &second.scope), (&ScopeSource::ArgumentScope { number: 2, element: None }, &exact("a-2")));

    // Neither the task nor its spawn says anything about scopes.
    let task = runtime.spawn(add, (&one, &other));
    assert_eq!(why(&task), "the scope of argument 1 (processor `a-1`) and the scope of argument 2 (processor `a-2`) do not meet");
    let task = runtime.task(add, (&one, 1)).result_scope(exact("a-3")).spawn();
    assert_eq!(why(&task), "the scope of argument 1 (processor `a-1`) and the scope of its result (processor `a-3`) do not meet");
    let task = runtime.task(here, ()).scope(exact("a-0")).result_scope(Scope::kind("big")).spawn();
    assert_eq!(why(&task), "its scope (processor `a-0`) and the scope of its result (processors of kind `big`) do not meet");

    // One without a handle, whose error nobody sees.
    let ran = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&ran);
    runtime.spawn_detached(move |_: &u64, _: &u64| note.store(true, Ordering::Relaxed), (&one, &other));
    runtime.wait_idle();
    assert!(!ran.load(Ordering::Relaxed));

    // Inside a task, where a spawn takes another way.
    let inside = runtime.spawn(move || poniard::spawn(add, (one, other)).fetch().expect_err("they do not meet").reason(), ());
    assert!(inside.take().expect("no failure").ends_with("do not meet"));
}

#[test]
fn elements_of_a_collection_are_counted() {
    let runtime = machine();
    let parts = ["a-0", "a-0", "a-3"].map(|name| runtime.scoped_value(1u64, exact(name))).to_vec();
    let task = runtime.spawn(|_: u64, parts: Gather<'_, u64>| parts.iter().sum::<u64>(), (0, &parts));
    assert_eq!(
        why(&task),
        "the scope of element 1 of argument 2 (processor `a-0`) and the scope of element 3 of argument 2 (processor `a-3`) do not meet"
    );
}

#[test]
fn arguments_of_a_kernel_carry_their_scopes() {
    let runtime = machine();
    let parameter = Parameter { name: "x", key: u64::KEY, type_name: "u64", access: Access::Read };
    let kernel = Arc::new(ErasedKernel::new("where", vec![parameter]).with_host_body(|_| Ok(Erased::of(here()))));
    let value = runtime.scoped_value(Erased::of(1u64), exact("a-1"));
    let task = runtime.spawn_kernel(&kernel, vec![value]);
    assert_eq!(task.fetch().expect("no failure").get::<String>().map(String::as_str), Some("a-1"));
}

#[test]
fn host_process_and_exact_scopes_come_to_the_narrower_one() {
    let runtime = machine();
    let scopes = [exact("a-0"), Scope::host(), Scope::process(ProcessId::HOST), Scope::any()];
    for (index, narrow) in scopes.iter().enumerate() {
        for wide in &scopes[index..] {
            for both in [narrow.clone() & wide.clone(), wide.clone() & narrow.clone()] {
                assert!(runtime.scopes_are_same(&both, narrow), "{both}");
            }
            assert!(runtime.scope_is_subset(narrow, wide));
        }
    }
    // The devices run in this process, in memory of their own.
    assert_eq!(names(&runtime, &(Scope::process(ProcessId::HOST) - Scope::host())), ["d-0", "d-1"]);
    assert_eq!(names(&runtime, &Scope::process(ProcessId(1))), Vec::<String>::new());
}

#[test]
fn tasks_that_alternate_between_two_processors_run_there() {
    let runtime = machine();
    let tasks: Vec<_> = (0..20).map(|i| (i % 2, runtime.task(here, ()).scope(exact(["a-1", "a-3"][i % 2])).spawn())).collect();
    for (which, task) in tasks {
        assert_eq!(task.take().expect("no failure"), ["a-1", "a-3"][which]);
    }
}

#[test]
fn unions_drop_what_is_redundant_or_does_not_meet() {
    let runtime = machine();
    assert_eq!(Scope::union([]), Err(EmptyUnion));
    assert_eq!(EmptyUnion.to_string(), "a union needs at least one scope");
    let union = |scopes: &[Scope]| Scope::union(scopes.iter().cloned()).expect("not empty");
    assert_eq!(union(&[exact("a-1")]), exact("a-1"));
    assert!(runtime.scopes_are_same(&union(&[exact("a-1"), exact("a-1")]), &exact("a-1")));
    assert!(runtime.scopes_are_same(&union(&[exact("a-1"), Scope::kind("cpu")]), &Scope::kind("cpu")));
    assert!(runtime.scopes_are_same(&union(&[exact("a-1"), Scope::any()]), &Scope::any()));
    let both = union(&[exact("a-0"), exact("a-2"), exact("gone")]) & union(&[exact("a-2"), exact("a-3")]);
    assert_eq!(names(&runtime, &both), ["a-2"]);
    let task = runtime.task(here, ()).scope(exact("a-0") | exact("gone")).spawn();
    assert_eq!(task.take().expect("one of them is there"), "a-0");
}

#[test]
fn a_kind_that_does_not_meet_is_an_error_and_one_that_is_not_there_says_what_is() {
    let runtime = machine();
    let value = runtime.scoped_value(1u64, Scope::kind("big"));
    let task = runtime.task(|_: &u64| here(), (&value,)).scope(Scope::kind("cpu")).spawn();
    assert_eq!(why(&task), "its scope (processors of kind `cpu`) and the scope of argument 1 (processors of kind `big`) do not meet");

    let task = runtime.task(here, ()).scope(Scope::kind("vulkan") & Scope::host()).spawn();
    let error = task.fetch().expect_err("there is none");
    assert!(matches!(error.kind(), FailureKind::NoProcessor { .. }));
    let text = error.reason();
    assert!(
        text.starts_with("no processor satisfies its scope (processors of kind `vulkan` that are also processors of the host); there are ")
    );
    assert!(text.contains("a-0 (kind cpu, backend workers)") && text.contains("d-1 (kind device, backend devices)"), "{text}");

    // A value that can be used nowhere is a failure of its own, and what depends on it says so.
    let value = runtime.scoped_value(1u64, exact("gone"));
    assert!(why(&value).starts_with("no processor satisfies the scope of its result (processor `gone`)"));
    let torn = runtime.task(|| 1u64, ()).scope(exact("a-0")).result_scope(exact("a-1")).spawn();
    for failed in [value, torn] {
        let after = runtime.task(|_: &u64| here(), (&failed,)).scope(exact("a-2")).spawn();
        let error = after.fetch().expect_err("its argument failed");
        assert!(matches!(error.kind(), FailureKind::Dependency(_)), "{error}");
    }
}

#[test]
fn three_scopes_of_which_any_two_meet_are_named() {
    let runtime = machine();
    let pair = |one: &str, other: &str| exact(one) | exact(other);
    let value = runtime.scoped_value(1u64, pair("a-1", "a-2"));
    let task = runtime.task(|_: &u64| here(), (&value,)).scope(pair("a-0", "a-1")).result_scope(pair("a-0", "a-2")).spawn();
    let error = task.fetch().expect_err("all three have nothing in common");
    let FailureKind::ScopesDoNotMeet { one, other } = error.kind() else { panic!("{error}") };
    assert_eq!(one.source, ScopeSource::Together(vec![ScopeSource::TaskScope, ScopeSource::ArgumentScope { number: 1, element: None }]));
    assert_eq!(names(&runtime, &one.scope), ["a-1"]);
    assert_eq!(other.source, ScopeSource::ResultScope);
}

#[test]
fn what_is_said_in_several_ways_is_the_same() {
    let runtime = machine();
    let parsed = |text: &str| text.parse::<Scope>().expect("a scope");
    for (text, scope) in [
        ("any", Scope::any()),
        ("host", Scope::host()),
        ("process:0", Scope::process(ProcessId::HOST)),
        ("kind:big", Scope::kind(ProcessorKind::new("big"))),
        ("backend:devices", Scope::backend("devices")),
        ("processor:a-0", exact("a-0")),
        ("worker:2", Scope::worker(2)),
        ("any - processor:a-0 & kind:cpu | worker:3", Scope::any().except(exact("a-0")).and(Scope::kind("cpu")).or(Scope::worker(3))),
    ] {
        assert_eq!(parsed(text), scope);
    }
    let error = "host | kin:cpu".parse::<Scope>().expect_err("there is no such word");
    assert!(error.to_string().starts_with("the scope `host | kin:cpu` is wrong at character 8: expected `any`"), "{error}");
    for (one, other) in [
        (Scope::worker(2), exact("a-2")),
        (Scope::union((0..4).map(Scope::worker)).expect("not empty"), Scope::backend("workers")),
        (Scope::host(), Scope::backend("workers")),
        (Scope::kind("device"), Scope::any() - Scope::host()),
        (parsed("kind:cpu | kind:big"), parsed("any - kind:device")),
    ] {
        assert!(runtime.scopes_are_same(&one, &other), "{one} and {other}");
    }
    // A queued processor is no worker.
    assert_eq!(names(&runtime, &Scope::worker(4)), Vec::<String>::new());
}

#[test]
fn compatible_processors_are_counted_and_sets_compared() {
    let runtime = machine();
    for (text, count) in
        [("any", 6), ("host", 4), ("kind:cpu", 2), ("kind:device", 2), ("processor:d-1", 1), ("kind:none", 0), ("any - host", 2)]
    {
        assert_eq!(runtime.processors_in(&text.parse().expect("a scope")).len(), count, "{text}");
    }
    assert_eq!(runtime.processors_in(&Scope::any()).len(), runtime.processor_count());
    let (cpu, host) = (Scope::kind("cpu"), Scope::host());
    assert!(runtime.scope_is_subset(&cpu, &host) && !runtime.scope_is_subset(&host, &cpu));
    assert!(runtime.scope_is_subset(&cpu, &cpu));
    assert!(runtime.scope_is_subset(&Scope::kind("none"), &cpu));
    assert!(runtime.scopes_are_same(&(host.clone() - Scope::kind("big")), &cpu) && !runtime.scopes_are_same(&host, &cpu));
    let first = runtime.processors_in(&exact("a-2")).remove(0);
    assert_eq!((first.kind.as_str(), first.backend.as_str(), first.worker), ("big", "workers", Some(WorkerId(2))));
    assert_eq!((first.process, first.space), (ProcessId::HOST, SpaceId::HOST));
    assert!(current_processor().is_none());
}

/// The numbers 0 to 5, in an order that depends on `seed`. Source: Marsaglia's xorshift, J. Stat. Software 8(14), 2003.
fn shuffled(seed: u64) -> Vec<usize> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut order: Vec<usize> = (0..6).collect();
    for last in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(last, (state >> 33) as usize % (last + 1));
    }
    order
}

#[test]
fn tasks_run_in_the_intersection_of_random_scopes_or_fail() {
    const NAMES: [&str; 6] = ["a-0", "a-1", "a-2", "a-3", "d-0", "d-1"];
    let runtime = machine();
    for seed in 0..30 {
        // Three parts of the processors; two scopes with a part in common, and two without.
        let order = shuffled(seed);
        let part = |range: std::ops::Range<usize>| Scope::union(order[range].iter().map(|place| exact(NAMES[*place]))).expect("not empty");
        let cut = 1 + seed as usize % 3;
        let (first, common, last) = (part(0..cut), part(cut..cut + 2), part(cut + 2..6));
        let meeting = (first.clone() | common.clone(), common.clone() | last.clone(), Some(names(&runtime, &common)));
        let disjoint = (first, common | last, None);
        for (one, other, expected) in [meeting, disjoint] {
            for _ in 0..3 {
                let value = |scope: &Scope| runtime.scoped_value(0u64, scope.clone());
                let use_it = |_: &u64| here();
                let use_both = |_: &u64, _: &u64| here();
                let tasks = [
                    runtime.task(use_it, (value(&other),)).scope(one.clone()).spawn(),
                    runtime.task(here, ()).scope(one.clone()).result_scope(other.clone()).spawn(),
                    runtime.task(use_it, (value(&one),)).result_scope(other.clone()).spawn(),
                    runtime.spawn(use_both, (value(&one), value(&other))),
                ];
                for task in tasks {
                    match (&expected, task.fetch()) {
                        (Some(expected), Ok(name)) => assert!(expected.contains(&name), "{} is not in {expected:?}", *name),
                        (None, Err(error)) => assert!(matches!(error.kind(), FailureKind::ScopesDoNotMeet { .. }), "{error}"),
                        (expected, outcome) => panic!("{expected:?}, {outcome:?}"),
                    }
                }
            }
        }
    }
}

#[test]
fn a_result_takes_its_scope_along_a_chain_only_as_far_as_it_is_said() {
    let runtime = machine();
    let made = runtime.task(here, ()).result_scope(exact("a-3")).spawn();
    let used = runtime.spawn(|made: &str| format!("{made} {}", here()), (&made,));
    // The result of that one may be used anywhere.
    let free = runtime.task(|used: &str| format!("{used} {}", here()), (&used,)).scope(exact("a-0")).spawn();
    assert_eq!(free.take().expect("no failure"), "a-3 a-3 a-0");
}

#[test]
fn a_value_keeps_its_scope_on_another_runtime() {
    let (one, other) = (machine(), Runtime::builder().threads(2).build().expect("threads"));
    let value = one.scoped_value(1u64, Scope::worker(1));
    assert_eq!(other.spawn(|_: &u64| here(), (&value,)).take().expect("no failure"), "threads-1");
    let value = one.scoped_value(1u64, exact("a-1"));
    let text = why(&other.spawn(|_: &u64| here(), (&value,)));
    assert!(text.starts_with("no processor satisfies the scope of argument 1 (processor `a-1`); there are threads-0"), "{text}");
}

#[test]
fn every_worker_of_a_scope_takes_its_tasks() {
    // Each two tasks wait for each other, so that both workers of the scope have to take one, whichever they were pushed for.
    let runtime = machine();
    for round in 0..200 {
        let pair = [["a-0", "a-1"], ["a-1", "a-3"], ["a-2", "a-0"]][round % 3];
        let scope = exact(pair[0]) | exact(pair[1]);
        let barrier = Arc::new(Barrier::new(2));
        let tasks = [(); 2].map(|()| {
            let barrier = Arc::clone(&barrier);
            let meet = move || {
                barrier.wait();
                here()
            };
            runtime.task(meet, ()).scope(scope.clone()).spawn()
        });
        let mut ran: Vec<String> = tasks.into_iter().map(|task| task.take().expect("no failure")).collect();
        ran.sort();
        let mut pair = pair.map(str::to_owned);
        pair.sort();
        assert_eq!(ran, pair);
    }
}

#[test]
fn a_task_goes_to_whoever_of_its_scope_is_free() {
    let runtime = machine();
    for busy in ["a-1", "a-2"] {
        let (started, start) = channel();
        let (release, held) = channel::<()>();
        let held = Mutex::new(held);
        let hold = move || {
            started.send(()).expect("the test listens");
            held.lock().expect("not poisoned").recv().expect("the test goes on");
        };
        let holding = runtime.task(hold, ()).scope(exact(busy)).spawn();
        receive(&start);
        let free = if busy == "a-1" { "a-2" } else { "a-1" };
        for _ in 0..50 {
            let (done, end) = channel();
            let tell = move || done.send(here()).expect("the test listens");
            runtime.task(tell, ()).scope(exact("a-1") | exact("a-2")).spawn().detach();
            assert_eq!(receive(&end), free);
        }
        release.send(()).expect("the task listens");
        holding.wait().expect("no failure");
    }
}

#[test]
fn priorities_count_among_the_tasks_of_a_scope() {
    let runtime = machine();
    let order = Arc::new(Mutex::new(Vec::new()));
    let (started, start) = channel();
    let (release, held) = channel::<()>();
    let held = Mutex::new(held);
    let hold = move || {
        started.send(()).expect("the test listens");
        held.lock().expect("not poisoned").recv().expect("the test goes on");
    };
    let holding = runtime.task(hold, ()).scope(exact("a-0")).spawn();
    receive(&start);
    let tasks = [Priority::Low, Priority::Normal, Priority::High].map(|priority| {
        let order = Arc::clone(&order);
        let note = move || order.lock().expect("not poisoned").push(priority);
        runtime.task(note, ()).scope(exact("a-0")).priority(priority).spawn()
    });
    release.send(()).expect("the task listens");
    for task in [holding].iter().chain(&tasks) {
        task.wait().expect("no failure");
    }
    assert_eq!(*order.lock().expect("not poisoned"), [Priority::High, Priority::Normal, Priority::Low]);
}

#[test]
fn an_occupancy_counts_the_workers_of_the_run_scope() {
    let runtime = machine();
    let big = runtime.scoped_value(1u64, Scope::kind("big"));
    let task = runtime.task(|_: &u64| here(), (&big,)).occupancy(3.0).spawn();
    assert_eq!(why(&task), "it takes 3 processors, and its scope has 2");
    let task = runtime.task(|_: &u64| here(), (&big,)).occupancy(2.0).spawn();
    assert!(["a-2", "a-3"].contains(&task.fetch().expect("no failure").as_str()));
    for occupancy in [0.0, 0.4] {
        let tasks: Vec<_> = (0..20).map(|_| runtime.task(|_: &u64| here(), (&big,)).occupancy(occupancy).spawn()).collect();
        for task in tasks {
            assert!(["a-2", "a-3"].contains(&task.fetch().expect("no failure").as_str()));
        }
    }
}

#[test]
fn access_in_place_carries_no_scope_of_the_tasks_before() {
    let runtime = machine();
    let place = poniard::Mutable::new(1u64);
    let write = |value: &mut u64| *value += 1;
    runtime.task(write, (poniard::write(&place),)).result_scope(exact("a-1")).spawn().wait().expect("no failure");
    let task = runtime.task(|_: &mut u64| here(), (poniard::write(&place),)).scope(exact("a-2")).spawn();
    assert_eq!(task.take().expect("it takes no result of the task before"), "a-2");
}

#[test]
fn a_task_that_waits_runs_on_top_only_what_may_run_there() {
    let runtime = machine();
    for (scope, expected) in [
        ("processor:a-0", ["a-0"].as_slice()),
        ("kind:cpu", &["a-0", "a-1"]),
        ("kind:big", &["a-2", "a-3"]),
        ("kind:device", &["d-0", "d-1"]),
    ] {
        let scope: Scope = scope.parse().expect("a scope");
        let outer = runtime
            .task(
                move || {
                    let handle = poniard::current().expect("in the middle of a task");
                    let inner = handle.task(here, ()).scope(scope).spawn();
                    inner.take().map(|inner| (here(), inner))
                },
                (),
            )
            .scope(exact("a-0"))
            .spawn();
        let (outer, inner) = outer.take().expect("no failure");
        assert_eq!(outer, "a-0");
        assert!(expected.contains(&inner.as_str()), "{inner} is not in {expected:?}");
    }
}

#[test]
fn many_tasks_of_many_scopes_all_run_where_they_may() {
    let runtime = machine();
    let scopes: Vec<Scope> = (1..64u32)
        .map(|mask| {
            let members = ["a-0", "a-1", "a-2", "a-3", "d-0", "d-1"].iter().enumerate().filter(|(place, _)| mask & 1 << place != 0);
            Scope::union(members.map(|(_, name)| exact(name))).expect("not empty")
        })
        .collect();
    let allowed: Vec<_> = scopes.iter().map(|scope| names(&runtime, scope)).collect();
    // Each task depends on one before it, of another scope, and spawns one of a third.
    let mut tasks: Vec<(usize, Task<String>)> = Vec::new();
    for i in 0..4000 {
        let which = i * 31 % scopes.len();
        let before = tasks.len().checked_sub(7).map(|place| tasks[place].1.clone());
        let (inner, inner_allowed) = (scopes[i * 17 % scopes.len()].clone(), allowed[i * 17 % scopes.len()].clone());
        let body = move || {
            let handle = poniard::current().expect("in the middle of a task");
            let ran = handle.task(here, ()).scope(inner).spawn().take().expect("no failure");
            assert!(inner_allowed.contains(&ran), "{ran} is not in {inner_allowed:?}");
            here()
        };
        let task = match before {
            Some(before) => runtime.task(move |_: &str| body(), (before,)).scope(scopes[which].clone()).spawn(),
            None => runtime.task(body, ()).scope(scopes[which].clone()).spawn(),
        };
        tasks.push((which, task));
    }
    for (which, task) in tasks {
        let ran = task.take().expect("no failure");
        assert!(allowed[which].contains(&ran), "{ran} is not in {:?}", allowed[which]);
    }
}
