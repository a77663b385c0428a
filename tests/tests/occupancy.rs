//! Tasks that take no processor, part of one, or several.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};

use poniard::{FailureKind, Runtime, Task, TaskOptions};
use poniard_tests::{add, threads};

fn wait_at(barrier: &Barrier) {
    barrier.wait();
}

/// Spawns tasks of which each waits until all are inside.
fn all_at_once(runtime: &Runtime, count: usize, occupancy: f64, others: usize) -> (Arc<Barrier>, Vec<Task<()>>) {
    let all = Arc::new(Barrier::new(count + others));
    let tasks = (0..count)
        .map(|_| {
            let all = Arc::clone(&all);
            runtime.task(move || wait_at(&all), ()).occupancy(occupancy).spawn()
        })
        .collect();
    (all, tasks)
}

fn wait_all(tasks: impl IntoIterator<Item = Task<()>>) {
    for task in tasks {
        task.wait().expect("no failure");
    }
}

#[test]
fn tasks_that_take_nothing_overlap_freely_and_leave_the_worker_to_others() {
    let runtime = threads(1);
    let (all, tasks) = all_at_once(&runtime, 20, 0.0, 1);
    // They are all in the middle of it, or will be, and the only worker computes.
    assert_eq!(*runtime.spawn(add, (1, 2)).fetch().expect("no failure"), 3);
    all.wait();
    wait_all(tasks);
    runtime.wait_idle();
    let tasks: u64 = runtime.report().backends.iter().flat_map(|backend| &backend.processors).map(|processor| processor.tasks).sum();
    assert_eq!(tasks, 21);
}

#[test]
fn a_task_that_takes_nothing_may_spawn_and_fetch() {
    let runtime = threads(1);
    let body = || poniard::spawn(add, (poniard::spawn(add, (1, 2)), 3)).take();
    let task = runtime.task(move || body().map_err(|error| error.to_string()), ()).occupancy(0.0).spawn();
    assert_eq!(*task.fetch().expect("no failure"), 6);
    // One that fetches such a task lends its worker.
    let outer = runtime.spawn(
        || {
            let handle = poniard::current().expect("inside a task");
            let inner = handle.task(add, (1, 1)).occupancy(0.0).spawn();
            inner.take().map_err(|error| error.to_string())
        },
        (),
    );
    assert_eq!(*outer.fetch().expect("no failure"), 2);
}

#[test]
fn parts_that_fit_share_one_processor() {
    let runtime = threads(1);
    let (_, tasks) = all_at_once(&runtime, 4, 0.25, 0);
    wait_all(tasks);
}

/// What runs at the moment, in thousandths, counted by the bodies themselves.
#[derive(Default)]
struct Gauge {
    now: AtomicI64,
    most: AtomicI64,
    runs: AtomicUsize,
}

impl Gauge {
    fn within(&self, takes: i64) {
        let now = self.now.fetch_add(takes, SeqCst) + takes;
        self.most.fetch_max(now, SeqCst);
        // Gives the others an opportunity to be here at the same time.
        std::thread::yield_now();
        self.runs.fetch_add(1, SeqCst);
        self.now.fetch_sub(takes, SeqCst);
    }
}

#[test]
fn never_more_runs_than_there_are_processors() {
    for count in [1usize, 2, 3, 8] {
        let runtime = threads(count);
        let gauge = Arc::new(Gauge::default());
        let tasks: Vec<_> = (0..600u64)
            .map(|number| {
                // Any mixture will do.
                let pick = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
                let occupancy = match pick {
                    0..5 => 1.0,
                    5..8 => 0.5,
                    8..10 => 0.3,
                    10 => 0.7,
                    11..13 => 0.0,
                    _ => ((pick as usize - 12) % count + 1) as f64,
                };
                let gauge = Arc::clone(&gauge);
                runtime.task(move || gauge.within((occupancy * 1000.0) as i64), ()).occupancy(occupancy).spawn()
            })
            .collect();
        wait_all(tasks);
        assert_eq!(gauge.runs.load(SeqCst), 600);
        assert!(gauge.most.load(SeqCst) <= 1000 * count as i64, "{} thousandths of {count} processors", gauge.most.load(SeqCst));
    }
}

#[test]
fn a_task_gets_several_processors_together_and_leaves_the_others_alone() {
    let runtime = threads(3);
    // The third worker is free: it runs a task beside.
    let both = Arc::new(Barrier::new(2));
    let (one, two) = (Arc::clone(&both), both);
    let gang = runtime.task(move || wait_at(&one), ()).occupancy(2.0).spawn();
    let beside = runtime.spawn(move || wait_at(&two), ());
    wait_all([gang, beside]);
}

#[test]
fn a_task_that_waits_gives_back_what_it_takes() {
    for (count, occupancy) in [(1, 0.6), (1, 1.0), (2, 2.0), (2, 0.9)] {
        let runtime = threads(count);
        let handle = runtime.handle();
        let nested = move || {
            let inner = handle.task(add, (1, 2)).occupancy(occupancy).spawn();
            inner.take().map_err(|error| error.to_string())
        };
        let tasks: Vec<_> = (0..4).map(|_| runtime.task(nested.clone(), ()).occupancy(occupancy).spawn()).collect();
        for task in tasks {
            assert_eq!(*task.fetch().expect("no failure"), 3);
        }
    }
}

#[test]
fn more_than_the_machine_has_and_numbers_that_mean_nothing_are_errors() {
    let runtime = threads(2);
    for (occupancy, text) in [
        (3.0, "it takes 3 processors, and its scope has 2"),
        (1.5, "it takes 1.5 processors: a task takes none, part of one, or a whole number of them"),
        (-1.0, "it takes -1 processors: a task takes none, part of one, or a whole number of them"),
        (f64::NAN, "it takes NaN processors: a task takes none, part of one, or a whole number of them"),
        (f64::INFINITY, "it takes inf processors, and its scope has 2"),
    ] {
        let error = runtime.task(add, (1, 2)).name("wide").occupancy(occupancy).spawn().wait().expect_err("not possible");
        assert!(matches!(error.kind(), FailureKind::Occupancy { available: 2, .. }), "{error:?}");
        let said = error.to_string();
        assert!(said.contains("`wide`") && said.contains(text), "{said}");
    }
}

#[test]
fn an_occupancy_may_be_an_integer() {
    let runtime = threads(2);
    assert_eq!(*runtime.task(add, (1, 2)).occupancy(2).spawn().fetch().expect("no failure"), 3);
    assert_eq!(*runtime.task(add, (1, 2)).occupancy(1u32).spawn().fetch().expect("no failure"), 3);
    let error = runtime.task(add, (1, 2)).options(&TaskOptions::new().occupancy(-1)).spawn().wait().expect_err("not possible");
    assert!(error.to_string().contains("it takes -1 processors"), "{error}");
}

#[test]
fn a_scope_and_an_occupancy_go_together() {
    let runtime = threads(2);
    let scope = poniard::Scope::processor("threads-1");
    let error = runtime.task(add, (1, 2)).scope(scope.clone()).occupancy(2.0).spawn().wait().expect_err("one processor is not two");
    assert!(error.to_string().contains("it takes 2 processors, and its scope has 1"), "{error}");
    let all = Arc::new(Barrier::new(2));
    let tasks = (0..2).map(|_| {
        let all = Arc::clone(&all);
        runtime.task(move || wait_at(&all), ()).scope(scope.clone()).occupancy(0.5).spawn()
    });
    wait_all(tasks.collect::<Vec<_>>());
}
