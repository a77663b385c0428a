//! A runtime that has nothing to do: `idle`.

use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::{Setup, certain};
use crate::measure::System;

/// How long the runtime has been without tasks when the measurement begins.
const QUIET: Duration = Duration::from_millis(100);
/// How long it lasts.
const WATCHED: Duration = Duration::from_millis(300);

/// Processor time that the whole process has used.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// What the process uses of a core while the runtime has no tasks.
pub(super) fn idle<'a>(setup: &'a Setup<'_>) -> System<'a> {
    let note = format!("{} ms, from {} ms after the last task", WATCHED.as_millis(), QUIET.as_millis());
    System::new("poniard-spawn", setup.note(&note), move || {
        for value in 0..100u64 {
            assert_eq!(certain(setup.runtime.spawn(|x: u64| x + 1, (value,)).take()), value + 1);
        }
        sleep(QUIET);
        let (used, start) = (processor_time(), Instant::now());
        sleep(WATCHED);
        (processor_time() - used).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0
    })
}
