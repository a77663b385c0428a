//! What a task costs, beside rayon in the same run: `cargo bench -p poniard-tests --bench overhead [-- --json] [CASE ...]`.
//!
//! Bodies do next to nothing and leave a trace that is checked. Systems measured side by side are interleaved, a sample of each in turn, so that a change of
//! the machine's speed meets all of them. Two workers everywhere. Read the minima, and the ratios between systems; a single figure in ns belongs to one machine.

#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Instant;

use poniard::{Runtime, Task};

const WORKERS: usize = 2;
const SAMPLES: usize = 9;

/// One system's way to do a case: runs it once and returns the time for one task in ns.
type Run<'a> = Box<dyn FnMut() -> f64 + 'a>;

struct Bench {
    json: bool,
    only: Vec<String>,
}

impl Bench {
    /// Measures the systems of one case in turn and prints a line for each.
    fn case(&self, case: &str, unit: &str, systems: Vec<(&str, Run<'_>)>) {
        if !self.only.is_empty() && !self.only.iter().any(|wanted| wanted == case) {
            return;
        }
        let mut systems: Vec<(&str, Run<'_>, Vec<f64>)> = systems.into_iter().map(|(name, run)| (name, run, Vec::new())).collect();
        for sample in 0..=SAMPLES {
            for (_, run, times) in &mut systems {
                let time = run();
                // The first is for caches and threads to warm up.
                if sample > 0 {
                    times.push(time);
                }
            }
        }
        let mut first_min = None;
        for (system, _, mut times) in systems {
            times.sort_by(f64::total_cmp);
            let (min, median) = (times[0], times[times.len() / 2]);
            let base = *first_min.get_or_insert(min);
            if self.json {
                println!(
                    r#"{{"bench":"overhead","case":"{case}","system":"{system}","unit":"{unit}","min":{min:.3},"median":{median:.3},"samples":{},"note":"{WORKERS} workers"}}"#,
                    times.len()
                );
            } else {
                println!("{case:<14} {system:<20} {min:>10.1} {median:>10.1} {unit:<8} x{:.2}", min / base);
            }
        }
    }
}

/// Time of `body` for each of `count` tasks, in ns.
fn per_task(count: u64, body: impl FnOnce()) -> f64 {
    let start = Instant::now();
    body();
    start.elapsed().as_nanos() as f64 / count as f64
}

static CALLER: std::sync::Mutex<Option<std::thread::Thread>> = std::sync::Mutex::new(None);

/// Counts one; the last one wakes the caller.
fn count(counter: &AtomicU64, last: u64) {
    if counter.fetch_add(1, Relaxed) + 1 == last
        && let Some(caller) = &*CALLER.lock().unwrap()
    {
        caller.unpark();
    }
}

fn sleep_until(counter: &AtomicU64, last: u64) {
    while counter.load(SeqCst) < last {
        std::thread::park();
    }
}

static MARKS: [AtomicU8; 1 << 20] = [const { AtomicU8::new(0) }; 1 << 20];

fn tree(depth: u32, path: usize) {
    if depth == 0 {
        MARKS[path].store(1, Relaxed);
        return;
    }
    for side in 0..2 {
        poniard::spawn(move || tree(depth - 1, path * 2 + side), ()).detach();
    }
}

fn rayon_tree<'s>(scope: &rayon::Scope<'s>, depth: u32, path: usize) {
    if depth == 0 {
        MARKS[path].store(1, Relaxed);
        return;
    }
    for side in 0..2 {
        scope.spawn(move |scope| rayon_tree(scope, depth - 1, path * 2 + side));
    }
}

fn fib_fetch(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let a = poniard::spawn(fib_fetch, (n - 1,));
    let b = fib_fetch(n - 2);
    match a.take() {
        Ok(a) => a + b,
        Err(error) => panic!("{error}"),
    }
}

fn fib_join(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let (a, b) = rayon::join(|| fib_join(n - 1), || fib_join(n - 2));
    a + b
}

/// A square grid whose cell depends on the one above and the one to the left, by counters that a careful user of rayon would write.
struct Countdown {
    edge: usize,
    unmet: Vec<AtomicU32>,
    done: AtomicU64,
}

impl Countdown {
    fn new(edge: usize) -> Self {
        let unmet =
            (0..edge * edge).map(|cell| AtomicU32::new(u32::from(cell / edge > 0) + u32::from(!cell.is_multiple_of(edge)))).collect();
        Self { edge, unmet, done: AtomicU64::new(0) }
    }

    fn run<'s>(&'s self, scope: &rayon::Scope<'s>, mut cell: usize) {
        loop {
            self.done.fetch_add(1, Relaxed);
            let (row, column) = (cell / self.edge, cell % self.edge);
            let mut next = None;
            if row + 1 < self.edge && self.unmet[cell + self.edge].fetch_sub(1, SeqCst) == 1 {
                next = Some(cell + self.edge);
            }
            if column + 1 < self.edge
                && self.unmet[cell + 1].fetch_sub(1, SeqCst) == 1
                && let Some(down) = next.replace(cell + 1)
            {
                scope.spawn(move |scope| self.run(scope, down));
            }
            match next {
                Some(following) => cell = following,
                None => return,
            }
        }
    }
}

fn wait<T>(task: &Task<T>) {
    if let Err(error) = task.wait() {
        panic!("{error}");
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let only = arguments.into_iter().filter(|argument| !argument.starts_with("--")).collect();
    let bench = Bench { json, only };
    let runtime = match Runtime::builder().threads(WORKERS).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(1);
        }
    };
    let pool = match rayon::ThreadPoolBuilder::new().num_threads(WORKERS).build() {
        Ok(pool) => pool,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::exit(1);
        }
    };
    static LEAVES: AtomicU64 = AtomicU64::new(0);
    *CALLER.lock().unwrap() = Some(std::thread::current());
    let inside = |body: fn()| wait(&runtime.spawn(body, ()));

    const DEPTH: u32 = 20;
    const TREE: u64 = (1 << (DEPTH + 1)) - 1;
    bench.case(
        "tree",
        "ns/task",
        vec![
            (
                "rayon-scope",
                Box::new(|| {
                    LEAVES.store(0, SeqCst);
                    let time = per_task(TREE, || pool.scope(|scope| rayon_tree(scope, DEPTH, 0)));
                    assert!(MARKS.iter().all(|mark| mark.swap(0, Relaxed) == 1));
                    time
                }),
            ),
            (
                "poniard-spawn",
                Box::new(|| {
                    LEAVES.store(0, SeqCst);
                    let time = per_task(TREE, || {
                        runtime.spawn(|| tree(DEPTH, 0), ()).detach();
                        runtime.wait_idle();
                    });
                    assert!(MARKS.iter().all(|mark| mark.swap(0, Relaxed) == 1));
                    time
                }),
            ),
        ],
    );

    const FIB: u64 = 25;
    const JOINS: u64 = 121_392;
    bench.case(
        "join",
        "ns/join",
        vec![
            ("rayon-join", Box::new(|| per_task(JOINS, || assert_eq!(pool.install(|| fib_join(black_box(FIB))), 75_025)))),
            (
                "poniard-spawn",
                Box::new(|| {
                    per_task(JOINS, || match runtime.spawn(fib_fetch, (black_box(FIB),)).take() {
                        Ok(value) => assert_eq!(value, 75_025),
                        Err(error) => panic!("{error}"),
                    })
                }),
            ),
        ],
    );

    const FLOOD: u64 = 1_000_000;
    bench.case(
        "flood",
        "ns/task",
        vec![
            (
                "rayon-scope",
                Box::new(|| {
                    LEAVES.store(0, SeqCst);
                    let time = per_task(FLOOD, || {
                        pool.in_place_scope(|scope| {
                            for _ in 0..FLOOD {
                                scope.spawn(|_| {
                                    black_box(LEAVES.fetch_add(1, Relaxed));
                                });
                            }
                        });
                    });
                    assert_eq!(LEAVES.load(SeqCst), FLOOD);
                    time
                }),
            ),
            (
                "poniard-spawn",
                Box::new(|| {
                    LEAVES.store(0, SeqCst);
                    let time = per_task(FLOOD, || {
                        for _ in 0..FLOOD {
                            runtime
                                .spawn(
                                    || {
                                        LEAVES.fetch_add(1, Relaxed);
                                    },
                                    (),
                                )
                                .detach();
                        }
                        runtime.wait_idle();
                    });
                    assert_eq!(LEAVES.load(SeqCst), FLOOD);
                    time
                }),
            ),
        ],
    );

    bench.case(
        "independent",
        "ns/task",
        vec![
            (
                "rayon-scope",
                Box::new(|| {
                    LEAVES.store(0, SeqCst);
                    per_task(FLOOD, || {
                        pool.scope(|scope| {
                            for _ in 0..FLOOD {
                                scope.spawn(|_| {
                                    black_box(LEAVES.fetch_add(1, Relaxed));
                                });
                            }
                        });
                    })
                }),
            ),
            (
                "poniard-spawn",
                Box::new(|| {
                    LEAVES.store(0, SeqCst);
                    per_task(FLOOD, || {
                        inside(|| {
                            for _ in 0..FLOOD {
                                poniard::spawn(
                                    || {
                                        LEAVES.fetch_add(1, Relaxed);
                                    },
                                    (),
                                )
                                .detach();
                            }
                        });
                        runtime.wait_idle();
                    })
                }),
            ),
        ],
    );

    const CHAIN: u64 = 300_000;
    bench.case(
        "chain",
        "ns/task",
        vec![(
            "poniard-spawn",
            Box::new(|| {
                per_task(CHAIN, || {
                    let last = runtime.spawn(
                        || {
                            let mut last = poniard::spawn(|| 0u64, ());
                            for _ in 0..CHAIN {
                                last = poniard::spawn(|x: u64| x + 1, (last,));
                            }
                            last
                        },
                        (),
                    );
                    match last.take().and_then(Task::take) {
                        Ok(value) => assert_eq!(value, CHAIN),
                        Err(error) => panic!("{error}"),
                    }
                })
            }),
        )],
    );

    const EDGE: usize = 1000;
    let cells = (EDGE * EDGE) as u64;
    bench.case(
        "wavefront",
        "ns/task",
        vec![
            (
                "rayon-countdown",
                Box::new(move || {
                    let pool = &pool;
                    let grid = Countdown::new(EDGE);
                    let time = per_task(cells, || pool.scope(|scope| grid.run(scope, 0)));
                    assert_eq!(grid.done.load(SeqCst), cells);
                    time
                }),
            ),
            (
                "poniard-spawn",
                Box::new(|| {
                    let time = per_task(cells, || {
                        let last = runtime.spawn(
                            move || {
                                LEAVES.store(0, SeqCst);
                                let mut above: Vec<Option<Task<u64>>> = vec![None; EDGE];
                                for _ in 0..EDGE {
                                    let mut left: Option<Task<u64>> = None;
                                    for above in &mut above {
                                        let cell = match (above.take(), left.take()) {
                                            (Some(a), Some(b)) => poniard::spawn(|_: &u64, _: &u64| LEAVES.fetch_add(1, Relaxed), (a, b)),
                                            (Some(a), None) | (None, Some(a)) => {
                                                poniard::spawn(|_: &u64| LEAVES.fetch_add(1, Relaxed), (a,))
                                            }
                                            (None, None) => poniard::spawn(|| LEAVES.fetch_add(1, Relaxed), ()),
                                        };
                                        left = Some(cell.clone());
                                        *above = Some(cell);
                                    }
                                }
                                above.pop().flatten()
                            },
                            (),
                        );
                        match last.take() {
                            Ok(Some(last)) => wait(&last),
                            Ok(None) => {}
                            Err(error) => panic!("{error}"),
                        }
                    });
                    assert_eq!(LEAVES.load(SeqCst), cells);
                    time
                }),
            ),
        ],
    );
}
