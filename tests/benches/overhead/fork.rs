//! Tasks that spawn tasks: `tree`, `join`.

use std::hint::black_box;

use poniard_bench::{System, Tally, per_task};
use rayon::{Scope, ThreadPool};

use crate::{EFFORT, WORKERS};

static LEAVES: Tally = Tally::new();

fn spawn_tree(scope: &Scope<'_>, depth: u32) {
    if depth == 0 {
        LEAVES.add_one();
        return;
    }
    for _ in 0..2 {
        scope.spawn(move |scope| spawn_tree(scope, depth - 1));
    }
}

/// A binary tree of spawns in one scope.
pub(crate) fn tree(pool: &ThreadPool) -> System<'_> {
    let depth = EFFORT.tree_depth();
    System::new("rayon-scope", format!("{WORKERS} workers, 2^{depth} leaves"), move || {
        let time = per_task((1 << (depth + 1)) - 1, || pool.scope(|scope| spawn_tree(scope, depth)));
        assert_eq!(LEAVES.take(), 1 << depth);
        time
    })
}

fn fib(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = rayon::join(|| fib(n - 1), || fib(n - 2));
    a + b
}

/// A Fibonacci number by `rayon::join`.
pub(crate) fn join(pool: &ThreadPool) -> System<'_> {
    let number = EFFORT.fib();
    System::new("rayon-join", format!("{WORKERS} workers, fib({})", number.n), move || {
        per_task(number.join_count, || assert_eq!(pool.install(|| fib(black_box(number.n))), number.value))
    })
}
