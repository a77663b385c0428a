//! Tasks that spawn tasks: `tree`, `join`.

use std::hint::black_box;

use super::{Setup, certain, let_run};
use crate::measure::{System, per_task};
use crate::tally::Tally;

static LEAVES: Tally = Tally::new();

fn tree(depth: u32) {
    if depth == 0 {
        LEAVES.add_one();
        return;
    }
    for _ in 0..2 {
        poniard::spawn_detached(move || tree(depth - 1), ());
    }
}

/// A binary tree of spawns inside tasks; nobody waits for anybody but the leaves.
pub(super) fn tree_spawn<'a>(setup: &'a Setup<'_>) -> System<'a> {
    let depth = setup.effort.tree_depth();
    System::new("poniard-spawn", setup.note(&format!("2^{depth} leaves")), move || {
        let time = per_task((1 << (depth + 1)) - 1, || {
            let_run(setup.runtime.spawn(move || tree(depth), ()));
            setup.runtime.wait_idle();
        });
        assert_eq!(LEAVES.take(), 1 << depth);
        time
    })
}

fn fib_spawn(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let a = poniard::spawn(fib_spawn, (n - 1,));
    let b = fib_spawn(n - 2);
    certain(a.take()) + b
}

/// A Fibonacci number: one half is spawned, the other called, and then the first is waited for.
pub(super) fn join_spawn<'a>(setup: &'a Setup<'_>) -> System<'a> {
    let fib = setup.effort.fib();
    System::new("poniard-spawn", setup.note(&format!("fib({}), spawn and take", fib.n)), move || {
        per_task(fib.join_count, || assert_eq!(certain(setup.runtime.spawn(fib_spawn, (black_box(fib.n),)).take()), fib.value))
    })
}

fn fib_join(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = poniard::join(|| fib_join(n - 1), || fib_join(n - 2));
    a + b
}

/// The same by `poniard::join`, in one task.
pub(super) fn join<'a>(setup: &'a Setup<'_>) -> System<'a> {
    let fib = setup.effort.fib();
    System::new("poniard-join", setup.note(&format!("fib({}), in one task", fib.n)), move || {
        per_task(fib.join_count, || assert_eq!(certain(setup.runtime.spawn(fib_join, (black_box(fib.n),)).take()), fib.value))
    })
}
