//! scratch
use std::sync::{Mutex, MutexGuard, PoisonError};

use poniard::{Buffer, GraphBuilder, Mutable, Runtime, Task, TaskOptions, buffer, read, write};

const MIB: usize = (1 << 20) / size_of::<u64>();
const COUNT: u64 = 200;

fn block(seed: u64) -> Buffer<u64> {
    let mut numbers = buffer::zeroed(MIB);
    numbers.iter_mut().zip(seed..).for_each(|(number, place)| *number = place);
    numbers
}
fn sum(one: &Buffer<u64>, two: &Buffer<u64>) -> u64 {
    one.iter().zip(two).map(|(one, two)| one ^ two).fold(0, u64::wrapping_add)
}
fn one(one: &Buffer<u64>) -> u64 {
    one.iter().copied().fold(0, u64::wrapping_add)
}
fn options() -> TaskOptions { TaskOptions::new().name("named") }

fn measure(name: &str, policy: Option<&str>, run: impl FnOnce(&Runtime)) {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let before = buffer::memory_usage();
    let mut builder = Runtime::builder().threads(2).memory_limit(before.in_use_bytes + (16 << 20)).memory_spill(folder.path());
    if let Some(policy) = policy { builder = builder.policy(policy); }
    let runtime = builder.build().unwrap();
    let t = std::time::Instant::now();
    run(&runtime);
    let time = t.elapsed();
    drop(runtime);
    let after = buffer::memory_usage();
    println!("{name:>20}: {:>4} MiB written, {:>4} read, {:?}", (after.spill_written_bytes - before.spill_written_bytes) >> 20, (after.spill_read_bytes - before.spill_read_bytes) >> 20, time);
}
fn near(runtime: &Runtime) {
    let sums: Vec<_> = (0..COUNT / 2).map(|i| {
        let (a, b) = (runtime.spawn(block, (2 * i,)), runtime.spawn(block, (2 * i + 1,)));
        runtime.spawn(sum, (a, b))
    }).collect();
    sums.into_iter().for_each(|s| drop(s.take().unwrap()));
}
fn far(runtime: &Runtime) {
    let mut roots: Vec<_> = (0..COUNT).map(|i| runtime.spawn(block, (i,))).collect();
    let others = roots.split_off(COUNT as usize / 2);
    let sums: Vec<_> = roots.into_iter().zip(others).map(|(a, b)| runtime.spawn(sum, (a, b))).collect();
    sums.into_iter().for_each(|s| drop(s.take().unwrap()));
}
fn chain(runtime: &Runtime) {
    let sums: Vec<_> = (0..COUNT).map(|i| runtime.spawn(one, (runtime.spawn(block, (i,)),))).collect();
    sums.into_iter().for_each(|s| drop(s.take().unwrap()));
}
#[test]
fn all() {
    measure("near", None, near);
    measure("far", None, far);
    measure("chain", None, chain);
    for policy in ["earliest-finish", "fifo", "work-stealing"] {
        measure(&format!("near {policy}"), Some(policy), near);
        measure(&format!("far {policy}"), Some(policy), far);
        measure(&format!("chain {policy}"), Some(policy), chain);
    }
    let inside = |run: fn(&Runtime)| move |runtime: &Runtime| { let handle = std::sync::Arc::new(()); let _ = handle; let _ = run; let _ = runtime; };
    let _ = inside;
    measure("chain options", None, |runtime| {
        let sums: Vec<_> = (0..COUNT).map(|i| runtime.task(one, (runtime.task(block, (i,)).options(&options()).spawn(),)).options(&options()).spawn()).collect();
        sums.into_iter().for_each(|s| drop(s.take().unwrap()));
    });
    measure("near inside", None, |runtime| {
        let handle = runtime.handle().clone();
        runtime.spawn(move || {
            let sums: Vec<_> = (0..COUNT / 2).map(|i| { let (a, b) = (handle.spawn(block, (2 * i,)), handle.spawn(block, (2 * i + 1,))); handle.spawn(sum, (a, b)) }).collect();
            sums.into_iter().map(|s| s.take().unwrap()).fold(0, u64::wrapping_add)
        }, ()).take().unwrap();
    });
    measure("far inside", None, |runtime| {
        let handle = runtime.handle().clone();
        runtime.spawn(move || {
            let mut roots: Vec<_> = (0..COUNT).map(|i| handle.spawn(block, (i,))).collect();
            let others = roots.split_off(COUNT as usize / 2);
            let sums: Vec<_> = roots.into_iter().zip(others).map(|(a, b)| handle.spawn(sum, (a, b))).collect();
            sums.into_iter().map(|s| s.take().unwrap()).fold(0, u64::wrapping_add)
        }, ()).take().unwrap();
    });
    measure("far inside detached", None, |runtime| {
        let handle = runtime.handle().clone();
        let sums: Vec<_> = runtime.spawn(move || {
            let mut roots: Vec<_> = (0..COUNT).map(|i| handle.spawn(block, (i,))).collect();
            let others = roots.split_off(COUNT as usize / 2);
            Vec::from_iter(roots.into_iter().zip(others).map(|(a, b)| handle.spawn(sum, (a, b))))
        }, ()).take().unwrap();
        sums.into_iter().for_each(|s| drop(s.take().unwrap()));
    });
    measure("outside in order", None, |runtime| {
        let roots: Vec<_> = (0..COUNT).map(|i| runtime.spawn(block, (i,))).collect();
        roots.into_iter().for_each(|s| drop(one(&s.take().unwrap())));
    });
    measure("outside spawns late", None, |runtime| {
        let roots: Vec<Task<_>> = (0..COUNT).map(|i| runtime.spawn(block, (i,))).collect();
        let sums: Vec<_> = roots.into_iter().map(|r| { let s = runtime.spawn(one, (r,)); s.wait().unwrap(); s }).collect();
        sums.into_iter().for_each(|s| drop(s.take().unwrap()));
    });
    for shape in ["near", "far", "chain"] {
        let mut graph = GraphBuilder::new();
        match shape {
            "near" => for i in 0..COUNT / 2 { let a = graph.task(move || block(i), ()); let b = graph.task(move || block(i), ()); graph.task(|a: Buffer<u64>, b: Buffer<u64>| sum(&a, &b), (a.moved(), b.moved())); },
            "far" => { let a: Vec<_> = (0..COUNT).map(|i| graph.task(move || block(i), ())).collect();
                let (a, b) = a.split_at(COUNT as usize / 2);
                for (a, b) in a.iter().zip(b) { graph.task(|a: Buffer<u64>, b: Buffer<u64>| sum(&a, &b), (a.moved(), b.moved())); } },
            _ => for i in 0..COUNT { let a = graph.task(move || block(i), ()); graph.task(|a: Buffer<u64>| one(&a), (a.moved(),)); },
        }
        let graph = graph.build().unwrap();
        measure(&format!("graph {shape}"), None, |runtime| { graph.run(runtime, ()).unwrap().wait().unwrap(); });
    }
    measure("mutable far", None, |runtime| {
        let places: Vec<_> = (0..COUNT).map(|_| Mutable::new(buffer::zeroed::<u64>(0))).collect();
        for place in &places { runtime.spawn(|it: &mut Buffer<u64>| *it = block(3), (write(place),)).detach(); }
        let (a, b) = places.split_at(COUNT as usize / 2);
        let sums: Vec<_> = a.iter().zip(b).map(|(a, b)| { let s = runtime.spawn(sum, (read(a), read(b)));
            runtime.spawn(|it: &mut Buffer<u64>| *it = buffer::zeroed(0), (write(a),)).detach();
            runtime.spawn(|it: &mut Buffer<u64>| *it = buffer::zeroed(0), (write(b),)).detach(); s }).collect();
        sums.into_iter().for_each(|s| drop(s.take().unwrap()));
    });
    let _: Option<MutexGuard<'_, ()>> = None; let _: Option<Mutex<()>> = None; let _: Option<PoisonError<()>> = None;
}
