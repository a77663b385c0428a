//! What it costs the spawning thread to find out what depends on what: tasks that do nothing.

use std::sync::Arc;

use ndarray::{Array2, s};
use poniard::{Handle, Mutable, Part, Region, RegionOptions, RegionPlan, Runtime, View, ViewMut, read, write};
use poniard_bench::{Effort, System, per_task};
use rustix::time::{ClockId, clock_gettime};

use super::peers::Peer;

const THREADS: usize = 2;

/// How long this thread has had a core, in ns.
fn thread_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The time to spawn, without what comes after, of a region that `spawn` fills; how many tasks it has.
fn planning_ns(handle: &Handle, spawn: &dyn Fn(&Region<'_>) -> usize) -> (u64, usize) {
    // Large enough that the window is never full. Each one is planned, although it comes again.
    let options = RegionOptions::new().window(1 << 20).replay(false);
    let planned = handle.region_with(&options, |r| {
        let began = thread_ns();
        let count = spawn(r);
        (thread_ns() - began, count)
    });
    planned.expect("no task fails")
}

/// The region from outside, and from inside a task; each twice, as what was measured before has filled the caches with something else. The first time is in the note.
fn systems(fill: Arc<dyn Fn(&Region<'_>) -> usize + Send + Sync>, in_all: bool) -> Vec<System<'static>> {
    let twice = move |handle: &Handle, fill: &dyn Fn(&Region<'_>) -> usize| {
        [(); 2].map(|()| {
            let (ns, count) = planning_ns(handle, fill);
            if in_all { ns as f64 / 1e3 } else { ns as f64 / count as f64 }
        })
    };
    let (outside, inside) = (runtime(), runtime());
    let of_task = Arc::clone(&fill);
    vec![
        second("region", "by a thread of the program", move || twice(&outside, &*fill)),
        second("region-in-task", "by a task", move || {
            let fill = Arc::clone(&of_task);
            let handle = Handle::clone(&inside);
            inside.spawn(move || twice(&handle, &*fill), ()).take().expect("it runs")
        }),
    ]
}

/// What is measured a second time; in the note, the minimum of the first times.
fn second(name: &'static str, by: &'static str, mut twice: impl FnMut() -> [f64; 2] + 'static) -> System<'static> {
    let mut cold = f64::INFINITY;
    System::telling(name, move |note: &mut String| {
        let [first, second] = twice();
        cold = cold.min(first);
        *note = format!("{by}; with cold caches {cold:.0}");
        second
    })
}

fn runtime() -> Runtime {
    Runtime::builder().threads(THREADS).build().expect("a runtime")
}

/// A product of so many tiles each way: three accesses a task, each to a whole tile. The number of tasks.
fn product(side: usize) -> impl Fn(&Region<'_>) -> usize + Send + Sync {
    let tiles = || -> Vec<Vec<Mutable<f64>>> { (0..side).map(|_| (0..side).map(|_| Mutable::new(0.0)).collect()).collect() };
    let (a, b, c) = (tiles(), tiles(), tiles());
    move |r: &Region<'_>| {
        for i in 0..side {
            for j in 0..side {
                for k in 0..side {
                    r.spawn(|_: &f64, _: &f64, _: &mut f64| (), (read(&a[i][k]), read(&b[k][j]), write(&c[i][j])));
                }
            }
        }
        side * side * side
    }
}

fn side(effort: Effort) -> usize {
    if effort == Effort::Quick { 8 } else { 24 }
}

/// The product, as it is planned.
pub(crate) fn of_tiles(effort: Effort, peers: &[&'static Peer]) -> Vec<System<'static>> {
    let side = side(effort);
    let mut all = systems(Arc::new(product(side)), false);
    let of_peer = |peer: &&'static Peer| {
        let peer = *peer;
        System::new(peer.name, "the same loop in its tasks", move || peer.planning(side) / (side * side * side) as f64)
    };
    all.extend(peers.iter().map(of_peer));
    all
}

/// Sweeps of a stencil over tiles of one matrix: each task reads a tile with its halo, of one matrix, and writes one of the other.
pub(crate) fn of_parts(effort: Effort) -> Vec<System<'static>> {
    let (side, sweeps) = if effort == Effort::Quick { (8, 2) } else { (16, 40) };
    let matrices = [(); 2].map(|()| Mutable::new(Array2::<f64>::zeros((side * 4, side * 4))));
    let tile = |matrix: &Mutable<Array2<f64>>, i: usize, j: usize| matrix.part(s![4 * i..4 * i + 4, 4 * j..4 * j + 4]);
    let parts: Vec<Vec<(Part<f64>, Part<f64>)>> = matrices
        .iter()
        .map(|matrix| {
            let places = (0..side * side).map(|at| (at / side, at % side));
            let both = |(i, j)| {
                let own = tile(matrix, i, j)?;
                Ok((own.with_halo(1)?, own))
            };
            places.map(both).collect::<Result<_, poniard::PartError>>().expect("the parts are inside")
        })
        .collect();
    let fill = move |r: &Region<'_>| {
        for sweep in 0..sweeps {
            for ((from, _), (_, to)) in parts[sweep % 2].iter().zip(&parts[1 - sweep % 2]) {
                r.spawn(|_: View<'_, f64>, _: ViewMut<'_, f64>| (), (read(from), write(to)));
            }
        }
        sweeps * side * side
    };
    systems(Arc::new(fill), false)
}

/// Tasks that each write something of their own.
pub(crate) fn of_writes() -> Vec<System<'static>> {
    let all: Vec<Mutable<u64>> = (0..256).map(Mutable::new).collect();
    let fill = move |r: &Region<'_>| {
        for one in &all {
            r.spawn(|one: &mut u64| *one += 1, (write(one),));
        }
        all.len()
    };
    systems(Arc::new(fill), true)
}

/// A plan that is run once more, and the region as it is planned anew: all of it, and not only the planning.
fn run_again(plan: RegionPlan, fill: impl Fn(&Region<'_>) + 'static) -> Vec<System<'static>> {
    let (runtime, other) = (runtime(), runtime());
    let count = plan.len() as u64;
    vec![
        System::new("plan", "a plan, run once more", move || per_task(count, || drop(plan.run(&runtime).expect("no task fails")))),
        System::new("region", "the same as a region", move || {
            per_task(count, || other.region_with(&RegionOptions::new().replay(false), &fill).expect("no task fails"))
        }),
    ]
}

/// A region that comes again: the time of the spawning thread until its graph runs, which is what planning is of one that is planned. How many were replayed is in the note.
fn replayed(fill: impl Fn(&Region<'_>) -> usize + 'static) -> Vec<System<'static>> {
    let runtime = runtime();
    let fill = Arc::new(fill);
    let whole = Arc::clone(&fill);
    let other = self::runtime();
    vec![
        System::telling("replayed", move |note: &mut String| {
            let begin = |r: &Region<'_>| {
                let began = thread_ns();
                let count = fill(r);
                (thread_ns() - began) as f64 / count as f64
            };
            // Three times, the first of which in the program are planned; at one place in the source, as one region.
            let [.., ns] = [(); 3].map(|()| runtime.region(begin).expect("no task fails"));
            *note = runtime.report().regions.iter().map(ToString::to_string).collect();
            ns
        }),
        System::new("replayed-whole", "all of it, and not only the planning", move || {
            let began = std::time::Instant::now();
            let count = other.region(|r| whole(r)).expect("no task fails");
            began.elapsed().as_nanos() as f64 / count as f64
        }),
    ]
}

/// The tiled product of `of_tiles`, by itself when it comes again.
pub(crate) fn again_implicit(effort: Effort) -> Vec<System<'static>> {
    replayed(product(side(effort)))
}

/// The tasks of `of_writes`, the same way.
pub(crate) fn again_implicit_writes() -> Vec<System<'static>> {
    let all: Vec<Mutable<u64>> = (0..256).map(Mutable::new).collect();
    replayed(move |r| {
        for one in &all {
            r.spawn(|one: &mut u64| *one += 1, (write(one),));
        }
        all.len()
    })
}

/// The tiled product of `of_tiles`.
pub(crate) fn again_tiles(effort: Effort) -> Vec<System<'static>> {
    let side = side(effort);
    let tiles = || -> Vec<Vec<Mutable<f64>>> { (0..side).map(|_| (0..side).map(|_| Mutable::new(0.0)).collect()).collect() };
    let (a, b, c) = (tiles(), tiles(), tiles());
    let all = move || (0..side * side * side).map(move |at| (at / (side * side), at / side % side, at % side));
    let plan = RegionPlan::new(|r| {
        for (i, j, k) in all() {
            r.spawn(|_: &f64, _: &f64, _: &mut f64| (), (read(&a[i][k]), read(&b[k][j]), write(&c[i][j])));
        }
    });
    run_again(plan.expect("no task has two accesses that conflict"), move |r| {
        for (i, j, k) in all() {
            r.spawn(|_: &f64, _: &f64, _: &mut f64| (), (read(&a[i][k]), read(&b[k][j]), write(&c[i][j])));
        }
    })
}

/// The tasks of `of_writes`.
pub(crate) fn again_writes() -> Vec<System<'static>> {
    let all: Vec<Mutable<u64>> = (0..256).map(Mutable::new).collect();
    let plan = RegionPlan::new(|r| {
        for one in &all {
            r.spawn(|one: &mut u64| *one += 1, (write(one),));
        }
    });
    run_again(plan.expect("no task has two accesses"), move |r| {
        for one in &all {
            r.spawn(|one: &mut u64| *one += 1, (write(one),));
        }
    })
}
