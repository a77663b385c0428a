//! Options of tasks: from the code around a spawn, from the task that spawns, from the function.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use poniard::{Data, FailureKind, Handle, Priority, Runtime, Task, TaskGroup, TaskOptions, with_options};
use poniard_tests::{Log, add, in_time, threads};

/// Numbers of threads that every law is tried with.
const COUNTS: [usize; 3] = [1, 2, 5];

fn my_name() -> String {
    poniard::spawn(|| (), ()).name()
}

#[test]
fn options_around_reach_what_is_spawned_inside_and_are_restored_afterwards() {
    let runtime = threads(2);
    let name = || runtime.spawn(add, (1, 1)).name();
    let named = |name: &str| TaskOptions::new().name(name);
    assert_eq!(name(), "add");
    with_options(named("outer"), || {
        assert_eq!(name(), "outer");
        with_options(named("inner"), || assert_eq!(name(), "inner"));
        with_options(TaskOptions::new().priority(Priority::High), || assert_eq!(name(), "outer"));
        assert_eq!(name(), "outer");
        assert_eq!(*runtime.spawn(my_name, ()).fetch().expect("no failure"), "closure in my_name", "not inherited");
        // Another thread is not inside.
        let handle = runtime.handle();
        let elsewhere = std::thread::spawn(move || handle.spawn(add, (1, 1)).name()).join().expect("no panic");
        assert_eq!(elsewhere, "add");
    });
    let outcome = catch_unwind(AssertUnwindSafe(|| with_options(named("gone"), || panic!("inside"))));
    assert!(outcome.is_err());
    assert_eq!(name(), "add");
}

#[test]
fn inherited_options_are_kept_over_nested_spawns_until_something_else_is_said() {
    fn family(depth: u64) -> Vec<String> {
        let child = poniard::spawn(family, (depth.saturating_sub(1),));
        let mut names = vec![child.name()];
        if depth > 0 {
            names.extend(child.take().expect("no failure"));
        } else {
            child.cancel();
        }
        names
    }
    for count in COUNTS {
        let runtime = threads(count);
        let named = |name: &str| TaskOptions::new().name(name).inherit();
        let names = with_options(named("a"), || runtime.spawn(family, (2,))).take().expect("no failure");
        assert_eq!(names, ["a", "a", "a"]);
        let names = runtime.task(family, (1,)).options(&named("b")).spawn().take().expect("no failure");
        assert_eq!(names, ["b", "b"]);
        // Said of the task alone, it does not reach its children; what is inherited does.
        let task = with_options(named("a"), || runtime.task(family, (1,)).name("own").spawn());
        assert_eq!(task.name(), "own");
        assert_eq!(task.take().expect("no failure"), ["a", "a"]);
        // Switched in the middle.
        let switches = move || with_options(TaskOptions::new().name("c").inherit(), || family(1));
        let names = with_options(named("a"), || runtime.spawn(switches, ())).take().expect("no failure");
        assert_eq!(names, ["c", "c"]);
        let hides = move || with_options(TaskOptions::new().name("c"), || family(1));
        let names = with_options(named("a"), || runtime.spawn(hides, ())).take().expect("no failure");
        assert_eq!(names, ["c", "a"], "hidden for one generation");
        // A task that runs on top of another one has its own.
        let nested = move || {
            let plain = poniard::spawn(my_name, ());
            let names = with_options(TaskOptions::new().name("d").inherit(), || plain.take().expect("no failure"));
            (names, poniard::spawn(|| (), ()).name())
        };
        let names = runtime.spawn(nested, ()).take().expect("no failure");
        assert_eq!(
            names,
            (
                "closure in my_name".to_owned(),
                "closure in inherited_options_are_kept_over_nested_spawns_until_something_else_is_said".to_owned()
            )
        );
    }
}

#[test]
fn of_four_that_say_something_the_nearest_one_counts() {
    let runtime = Runtime::builder().threads(1).defaults(add, TaskOptions::new().name("default")).build().expect("it starts");
    let name = |task: Task<u64>| task.name();
    let named = |name: &str| TaskOptions::new().name(name);
    assert_eq!(name(runtime.spawn(add, (1, 1))), "default");
    let inside = |around: Option<TaskOptions>, own: Option<&'static str>| {
        move || {
            let handle = poniard::current().expect("in a task");
            let spawn = || match own {
                Some(own) => handle.task(add, (1, 1)).name(own).spawn().name(),
                None => poniard::spawn(add, (1, 1)).name(),
            };
            match around {
                Some(around) => with_options(around, spawn),
                None => spawn(),
            }
        }
    };
    let inherited = named("inherited").inherit();
    for (handed, around, own, expected) in [
        (false, false, None, "default"),
        (true, false, None, "inherited"),
        (true, true, None, "around"),
        (false, true, None, "around"),
        (true, true, Some("own"), "own"),
        (false, false, Some("own"), "own"),
    ] {
        let body = inside(around.then(|| named("around")), own);
        let task = if handed { runtime.task(body, ()).options(&inherited).spawn() } else { runtime.spawn(body, ()) };
        assert_eq!(*task.fetch().expect("no failure"), expected, "{handed} {around} {own:?}");
    }
    // Said later on the task itself counts; what is not said comes from further away.
    let options = named("given").priority(Priority::Low);
    assert_eq!(runtime.task(add, (1, 1)).name("own").options(&options).spawn().name(), "given");
    assert_eq!(runtime.task(add, (1, 1)).options(&options).name("own").spawn().name(), "own");
    assert_eq!(runtime.task(add, (1, 1)).options(&TaskOptions::new().priority(Priority::High)).spawn().name(), "default");
}

/// What runs, in order, when all this is spawned while the only thread is taken: the priority of each is its own.
fn order_of(runtime: &Runtime, spawn: impl FnOnce(&Handle, &Log) + Send + 'static) -> Vec<u64> {
    let log = Log::default();
    let (handle, inner) = (runtime.handle(), log.clone());
    runtime.spawn(move || spawn(&handle, &inner), ()).wait().expect("no failure");
    runtime.wait_idle();
    log.read()
}

#[test]
fn priorities_come_from_options_around_inherited_ones_and_defaults() {
    fn low(log: Noted) {
        log.0.push(1);
    }
    fn normal(log: Noted) {
        log.0.push(2);
    }
    #[derive(Clone, Data)]
    struct Noted(Log);
    let (low_priority, high) = (TaskOptions::new().priority(Priority::Low), TaskOptions::new().priority(Priority::High));
    let runtime = Runtime::builder().threads(1).defaults(low, low_priority).build().expect("it starts");
    let order = order_of(&runtime, move |handle, log| {
        let noted = || Noted(log.clone());
        handle.spawn(low, (noted(),)).detach();
        handle.spawn(normal, (noted(),)).detach();
        with_options(high, || handle.spawn(log.note(3), ()).detach());
        handle.task(log.note(4), ()).priority(Priority::Low).spawn().detach();
    });
    assert_eq!(order[..2], [3, 2]);
}

#[test]
fn defaults_belong_to_one_function_also_for_closures() {
    let double = |x: u64| x * 2;
    let triple = |x: u64| x * 3;
    let options = |name: &str| TaskOptions::new().name(name).inherit();
    let runtime = Runtime::builder()
        .threads(2)
        .defaults(double, options("lost"))
        .defaults(double, options("double"))
        .defaults(my_name, options("family"))
        .build()
        .expect("it starts");
    assert_eq!(runtime.spawn(double, (1,)).name(), "double");
    assert_ne!(runtime.spawn(triple, (1,)).name(), "double");
    assert_eq!(runtime.spawn(my_name, ()).take().expect("no failure"), "family", "defaults may be inherited, too");
    // On a worker, from a task without options of its own.
    let inside = move || (poniard::spawn(double, (1,)).name(), poniard::spawn(triple, (2,)).take().expect("no failure"));
    assert_eq!(runtime.spawn(inside, ()).take().expect("no failure"), ("double".to_owned(), 6));
    // And not on another runtime.
    let other = threads(1);
    assert_ne!(other.spawn(double, (1,)).name(), "double");
    let handle = runtime.handle();
    let across = other.spawn(move || handle.spawn(double, (1,)).name(), ());
    assert_eq!(*across.fetch().expect("no failure"), "double");
}

#[poniard::task(priority = "high", name = "urgent sum")]
fn urgent(log: u64, more: &u64) -> u64 {
    log + more
}

#[test]
fn the_task_macro_says_what_counts_last() {
    let runtime = threads(1);
    assert_eq!(urgent::spawn(&runtime, 1, 2).name(), "urgent sum");
    assert_eq!(*urgent::spawn(&runtime, 1, 2).fetch().expect("no failure"), 3);
    assert_eq!(with_options(TaskOptions::new().name("around"), || urgent::spawn(&runtime, 1, 2)).name(), "around");
    let own = Runtime::builder().threads(1).defaults(urgent, TaskOptions::new().name("of the runtime")).build().expect("it starts");
    assert_eq!(urgent::spawn(&own, 1, 2).name(), "of the runtime");
}

#[poniard::task(name = "broken too")]
fn also_broken() -> Result<u64, String> {
    Err("no".into())
}

#[test]
fn deadlines_and_retries_go_with_the_other_options() {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    fn moody() -> Result<u64, String> {
        if CALLS.fetch_add(1, Ordering::Relaxed) < 2 { Err("not yet".into()) } else { Ok(7) }
    }
    fn endless() {
        while !poniard::is_cancelled() {
            std::thread::yield_now();
        }
    }
    let options = TaskOptions::new().timeout(Duration::from_millis(1));
    let runtime = Runtime::builder().threads(2).defaults(moody, TaskOptions::new().name("moody by nature")).build().expect("it starts");
    let late = with_options(options, || runtime.spawn(endless, ()));
    assert!(matches!(late.wait().expect_err("it is late").kind(), FailureKind::DeadlineExceeded));
    let past = TaskOptions::new().deadline(Instant::now());
    let error = runtime.wait_all(|| drop(runtime.task(endless, ()).options(&past).spawn())).expect_err("it is too late");
    assert!(matches!(error.first().kind(), FailureKind::DeadlineExceeded), "{error}");
    // The function that is tried again is the user's own, in its name and its defaults.
    let again = runtime.task(moody, ()).retries(2).spawn();
    assert_eq!(again.name(), "moody by nature");
    assert_eq!(*again.fetch().expect("the third time it works"), 7);
    assert_eq!(threads(1).task(moody, ()).retries(1).spawn().name(), "moody");
}

#[test]
fn both_halves_of_a_join_have_the_options_around_it() {
    in_time(|| {
        let runtime = threads(2);
        let body = || {
            let both_run = Barrier::new(2);
            let half = || {
                both_run.wait();
                poniard::spawn(|| (), ()).name()
            };
            with_options(TaskOptions::new().name("around"), || poniard::join(half, half))
        };
        assert_eq!(runtime.spawn(body, ()).take().expect("no failure"), ("around".to_owned(), "around".to_owned()));
    });
}

#[test]
fn errors_name_the_line_of_every_way_to_spawn() {
    fn broken() -> Result<u64, String> {
        Err("no".into())
    }
    let runtime = threads(1);
    let group = TaskGroup::new(&runtime);
    let options = TaskOptions::new().name("x");
    let tasks = [
        (line!(), group.spawn(broken, ())),
        (line!(), group.run(|| runtime.spawn(broken, ()))),
        (line!(), runtime.bulk(|| runtime.spawn(broken, ()))),
        (line!(), runtime.sequential(|| runtime.spawn(broken, ()))),
        (line!(), with_options(options.clone(), || runtime.spawn(broken, ()))),
        (line!(), runtime.task(broken, ()).options(&options).spawn()),
        (line!(), also_broken::spawn(&runtime)),
    ];
    for (line, task) in tasks {
        let error = task.fetch().expect_err("it fails");
        assert_eq!((error.location().file().ends_with("options.rs"), error.location().line()), (true, line), "{error}");
    }
    group.cancel();
    let (line, late) = (line!(), group.spawn(broken, ()));
    assert_eq!(late.fetch().expect_err("cancelled").location().line(), line);
}
