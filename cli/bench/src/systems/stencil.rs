//! A one-dimensional stencil whose tasks take a set time: `metg`.

use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Barrier, OnceLock};
use std::time::{Duration, Instant};

use poniard::Task;

use super::{Setup, certain};
use crate::measure::System;
use crate::metg::{Stencil, metg};
use crate::spin::spin;

impl Stencil {
    /// With so many columns, and steps for some milliseconds.
    pub fn of_width(width: usize) -> Self {
        Self { width, steps: 8_000 / width }
    }
}

/// Spawns each step of each column with those that it needs, inside a task.
pub(super) fn spawn<'a>(setup: &'a Setup<'_>, width: usize) -> System<'a> {
    let stencil = Stencil::of_width(width);
    let expected = stencil.expected();
    System::new("poniard-spawn", setup.note(&format!("work in a task at 50 % efficiency, {} steps", stencil.steps)), move || {
        metg(stencil, setup.workers, setup.effort.metg_tries(), |iterations| {
            let start = Instant::now();
            let last = certain(setup.runtime.spawn(move || spawn_steps(stencil, iterations), ()).take());
            for task in &last {
                certain(task.wait());
            }
            let time = start.elapsed();
            let last: Vec<u64> = last.into_iter().map(|task| certain(task.take())).collect();
            assert_eq!(last, expected);
            time
        })
    })
}

/// The tasks of the last step.
fn spawn_steps(stencil: Stencil, iterations: u64) -> Vec<Task<u64>> {
    let begin = |_| {
        poniard::spawn(
            move || {
                spin(iterations);
                1u64
            },
            (),
        )
    };
    let mut row: Vec<Task<u64>> = (0..stencil.width).map(begin).collect();
    for _ in 1..stencil.steps {
        let next = |column: usize| match &row[stencil.needed(column)] {
            [a, b, c] => poniard::spawn(
                move |a: &u64, b: &u64, c: &u64| {
                    spin(iterations);
                    a.wrapping_add(*b).wrapping_add(*c).wrapping_add(1)
                },
                (a, b, c),
            ),
            [a, b] => poniard::spawn(
                move |a: &u64, b: &u64| {
                    spin(iterations);
                    a.wrapping_add(*b).wrapping_add(1)
                },
                (a, b),
            ),
            needed => unreachable!("a column of at least two needs two or three, not {}", needed.len()),
        };
        row = (0..stencil.width).map(next).collect();
    }
    row
}

/// A column as the bare threads see it. Two cache lines, so that nobody else's lie in them.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Column {
    /// Steps done.
    steps: AtomicU64,
    /// The values of the last even and odd step. Two are enough: nobody is two steps ahead of a neighbour.
    values: [AtomicU64; 2],
}

/// The least that the machine allows: a thread for each worker with its share of the columns, and neighbours that watch each other's count of steps.
pub(super) fn limit<'a>(setup: &'a Setup<'_>, width: usize) -> System<'a> {
    let stencil = Stencil::of_width(width);
    let expected = stencil.expected();
    let threads = setup.workers.min(width);
    System::new("limit", format!("{threads} bare thread(s) that watch each other's counts"), move || {
        metg(stencil, threads, setup.effort.metg_tries(), |iterations| {
            let columns: Vec<Column> = (0..width).map(|_| Column::default()).collect();
            let (begin, start) = (Barrier::new(threads), OnceLock::new());
            let run = |thread: usize| {
                begin.wait();
                let start = *start.get_or_init(Instant::now);
                for step in 0..stencil.steps as u64 {
                    for column in width * thread / threads..width * (thread + 1) / threads {
                        do_step(stencil, &columns, column, step, iterations);
                    }
                }
                start.elapsed()
            };
            let time = std::thread::scope(|scope| {
                let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
                // The check below would find that one has not done its part.
                running.into_iter().filter_map(|thread| thread.join().ok()).max().unwrap_or_default()
            });
            let last: Vec<u64> = columns.iter().map(|column| column.values[(stencil.steps - 1) % 2].load(Relaxed)).collect();
            assert_eq!(last, expected);
            time
        })
    })
}

/// Does step `step` of a column as soon as those beside it have done the one before.
fn do_step(stencil: Stencil, columns: &[Column], column: usize, step: u64, iterations: u64) {
    let mut sum = 1u64;
    if step > 0 {
        for needed in &columns[stencil.needed(column)] {
            let mut looks = 0u32;
            // Acquire: pairs with the Release below, and makes the value visible.
            while needed.steps.load(Acquire) < step {
                looks += 1;
                // Where there are more threads than cores, the neighbour may need this one.
                if looks > 20_000 {
                    std::thread::sleep(Duration::from_micros(20));
                } else if looks.is_multiple_of(1_000) {
                    std::thread::yield_now();
                } else {
                    std::hint::spin_loop();
                }
            }
            sum = sum.wrapping_add(needed.values[(step as usize + 1) % 2].load(Relaxed));
        }
    }
    spin(iterations);
    columns[column].values[step as usize % 2].store(sum, Relaxed);
    // Release: pairs with the Acquire above.
    columns[column].steps.store(step + 1, Release);
}
