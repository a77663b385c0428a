//! Tasks that depend on ones spawned shortly before: `chain`, `two-deps`.

use poniard::Task;

use super::{Setup, certain};
use crate::measure::{System, per_task};

/// Each task depends on the one before.
pub(super) fn chain<'a>(setup: &'a Setup<'_>) -> System<'a> {
    let count = setup.effort.chain();
    System::new("poniard-spawn", setup.note(&format!("{count} tasks")), move || {
        per_task(count, || {
            let last = setup.runtime.spawn(
                move || {
                    let mut last = poniard::spawn(|| 0u64, ());
                    for _ in 0..count {
                        last = poniard::spawn(|x: u64| x + 1, (last,));
                    }
                    last
                },
                (),
            );
            assert_eq!(certain(last.take().and_then(Task::take)), count);
        })
    })
}

/// Tasks that can run at the same time in the case `two-deps`.
const WIDTH: usize = 64;

/// Row for row of tasks, each of which adds up two neighbours of the row before, in a ring.
pub(super) fn two_deps<'a>(setup: &'a Setup<'_>) -> System<'a> {
    let rows = setup.effort.scaled(400_000) / WIDTH as u64;
    let count = rows * WIDTH as u64;
    let add = |row: &[u64]| (0..WIDTH).map(|column| row[column].wrapping_add(row[(column + 1) % WIDTH])).collect();
    let expected: Vec<u64> = (0..rows).fold((0..WIDTH as u64).collect(), |row: Vec<u64>, _| add(&row));
    System::new("poniard-spawn", setup.note(&format!("{count} tasks in rows of {WIDTH}")), move || {
        let mut last = Vec::new();
        let time = per_task(count, || {
            let spawning = setup.runtime.spawn(
                move || {
                    let mut row: Vec<Task<u64>> = (0..WIDTH as u64).map(|column| poniard::spawn(move || column, ())).collect();
                    for _ in 0..rows {
                        let next = |column: usize| {
                            poniard::spawn(|a: &u64, b: &u64| a.wrapping_add(*b), (&row[column], &row[(column + 1) % WIDTH]))
                        };
                        row = (0..WIDTH).map(next).collect();
                    }
                    row
                },
                (),
            );
            last = certain(spawning.take());
            for task in &last {
                certain(task.wait());
            }
        });
        let last: Vec<u64> = last.into_iter().map(|task| certain(task.take())).collect();
        assert_eq!(last, expected);
        time
    })
}
