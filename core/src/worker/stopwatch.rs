//! How long the body of a task takes by itself: without what it waits for inside, and without what its thread runs meanwhile.

use std::cell::Cell;

use super::context::Context;
use crate::clock::{now_ns, thread_cpu_ns};
use crate::region::guard;

/// The stopwatch of one thread. Where nothing is measured a wait costs a look at it.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch(Cell<State>);

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Nothing is measured.
    #[default]
    Off,
    /// A body runs.
    Runs(Waits),
    /// It waits: what it waits in there counts once, and what runs meanwhile has a measurement of its own, or none.
    Waits,
}

/// What does not count.
#[derive(Clone, Copy, Debug)]
struct Waits {
    wall_ns: u64,
    /// Where CPU time is measured.
    cpu_ns: Option<u64>,
    /// What another process has said of the body, if it ran there.
    away: Option<Away>,
}

/// What a process says of a body that it has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Away {
    /// How long the body waited there.
    pub(crate) waited_ns: u64,
    /// CPU time of the call, if it was asked for.
    pub(crate) cpu_ns: Option<u64>,
}

/// What a body has taken by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lap {
    /// From its beginning to its end, less what it waited.
    pub(crate) wall_ns: u64,
    /// What it waited.
    pub(crate) waited_ns: u64,
    /// CPU time of the thread that ran it, less what that spent on other tasks meanwhile; where it was asked for.
    pub(crate) cpu_ns: Option<u64>,
    /// Whether it ran in another process.
    pub(crate) is_away: bool,
}

/// A moment of this thread.
struct Moment {
    wall_ns: u64,
    cpu_ns: Option<u64>,
}

impl Moment {
    fn now(with_cpu: bool) -> Self {
        // The CPU clock costs a call of the system, some hundred nanoseconds: it is read outside of what the other one measures.
        let cpu_ns = with_cpu.then(thread_cpu_ns).flatten();
        Self { wall_ns: now_ns(), cpu_ns }
    }

    /// How long ago it was.
    fn elapsed(&self) -> (u64, Option<u64>) {
        // Clocks that go back have not gone at all: models refuse that.
        let wall_ns = now_ns().saturating_sub(self.wall_ns);
        (wall_ns, self.cpu_ns.and_then(|cpu_ns| Some(thread_cpu_ns()?.saturating_sub(cpu_ns))))
    }
}

impl Stopwatch {
    /// Measures a body. It may be on top of another one, which waits.
    pub(crate) fn measure<R>(&self, with_cpu: bool, body: impl FnOnce() -> R) -> (R, Lap) {
        let outer = self.0.replace(State::Runs(Waits { wall_ns: 0, cpu_ns: with_cpu.then_some(0), away: None }));
        let begun = Moment::now(with_cpu);
        let result = body();
        let (wall_ns, cpu_ns) = begun.elapsed();
        let waits = match self.0.replace(outer) {
            State::Runs(waits) => waits,
            // A wait that unwound: nobody knows how long it was.
            State::Off | State::Waits => Waits { wall_ns, cpu_ns: None, away: None },
        };
        let here_ns = || Some(cpu_ns?.saturating_sub(waits.cpu_ns?));
        let lap = Lap {
            wall_ns: wall_ns.saturating_sub(waits.wall_ns),
            waited_ns: waits.wall_ns,
            cpu_ns: waits.away.map_or_else(here_ns, |away| away.cpu_ns),
            is_away: waits.away.is_some(),
        };
        (result, lap)
    }

    /// Whether a body is measured.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.0.get(), State::Runs(_))
    }

    /// Waits inside a body, or runs others in it: what that takes is none of the body's.
    #[inline]
    pub(crate) fn aside<R>(&self, wait: impl FnOnce() -> R) -> R {
        guard::lift_here();
        match self.0.get() {
            State::Runs(waits) => self.aside_of(waits, wait),
            State::Off | State::Waits => wait(),
        }
    }

    #[cold]
    fn aside_of<R>(&self, waits: Waits, wait: impl FnOnce() -> R) -> R {
        self.0.set(State::Waits);
        let begun = Moment::now(waits.cpu_ns.is_some());
        let result = wait();
        let (wall_ns, cpu_ns) = begun.elapsed();
        let cpu_ns = waits.cpu_ns.zip(cpu_ns).map(|(before_ns, cpu_ns)| before_ns.saturating_add(cpu_ns));
        self.0.set(State::Runs(Waits { wall_ns: waits.wall_ns.saturating_add(wall_ns), cpu_ns, ..waits }));
        result
    }

    /// Notes that the body which is measured has run in another process, once more if it was tried before.
    pub(crate) fn note_away(&self, more: Away) {
        if let State::Runs(waits) = self.0.get() {
            let before = waits.away.unwrap_or(Away { waited_ns: 0, cpu_ns: Some(0) });
            let cpu_ns = before.cpu_ns.zip(more.cpu_ns).map(|(before_ns, cpu_ns)| before_ns.saturating_add(cpu_ns));
            let away = Some(Away { waited_ns: before.waited_ns.saturating_add(more.waited_ns), cpu_ns });
            self.0.set(State::Runs(Waits { wall_ns: waits.wall_ns.saturating_add(more.waited_ns), away, ..waits }));
        }
    }
}

/// Measures a body on this thread: see [`Stopwatch::measure`].
///
/// # Panics
/// On a thread that runs no tasks.
pub(crate) fn measure<R>(with_cpu: bool, body: impl FnOnce() -> R) -> (R, Lap) {
    Context::with(|context| match context {
        Some(context) => context.stopwatch.measure(with_cpu, body),
        None => unreachable!("bodies run on threads that run tasks"),
    })
}

/// Waits inside whatever this thread runs: see [`Stopwatch::aside`].
pub(crate) fn aside<R>(wait: impl FnOnce() -> R) -> R {
    Context::with(|context| match context {
        Some(context) => context.stopwatch.aside(wait),
        None => wait(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::jump;

    const HOUR_NS: i64 = 3_600_000_000_000;
    const SECOND_NS: u64 = 1_000_000_000;

    /// In hours, give or take the moments that this takes.
    fn hours(lap: Lap) -> u64 {
        (lap.wall_ns + 30 * SECOND_NS) / HOUR_NS as u64
    }

    #[test]
    fn what_a_body_waits_for_is_none_of_its_time() {
        let watch = Stopwatch::default();
        let hour = || jump(HOUR_NS);
        let ((), lap) = watch.measure(false, || {
            hour();
            watch.aside(|| {
                hour();
                // Counted once.
                watch.aside(hour);
                let ((), nested) = watch.measure(false, || {
                    hour();
                    watch.aside(hour);
                    hour();
                });
                assert_eq!(hours(nested), 2);
                watch.aside(hour);
            });
            hour();
            watch.aside(hour);
        });
        assert_eq!((hours(lap), lap.cpu_ns), (2, None));
        // Nothing is measured here.
        watch.aside(hour);
        assert_eq!(hours(watch.measure(false, || ()).1), 0);
    }

    #[test]
    fn a_clock_that_goes_back_has_not_gone() {
        let watch = Stopwatch::default();
        let ((), lap) = watch.measure(true, || {
            jump(HOUR_NS);
            jump(-2 * HOUR_NS);
            watch.aside(|| jump(-HOUR_NS));
        });
        assert_eq!(lap.wall_ns, 0);
    }

    #[test]
    fn cpu_time_is_that_of_the_body_alone() {
        let watch = Stopwatch::default();
        let mut sum = 0u64;
        let mut spin = || {
            // So much CPU time, however long that takes.
            let begun_ns = thread_cpu_ns().expect("a clock");
            while thread_cpu_ns().expect("a clock") - begun_ns < 5_000_000 {
                sum = std::hint::black_box(sum + 1);
            }
        };
        let ((), alone) = watch.measure(true, || {
            spin();
            watch.aside(|| (0..4).for_each(|_| spin()));
        });
        let cpu_ns = alone.cpu_ns.expect("it was asked for");
        assert!((5_000_000..20_000_000).contains(&cpu_ns), "{cpu_ns}");
        assert_eq!(watch.measure(false, &mut spin).1.cpu_ns, None);
    }

    #[test]
    fn of_a_body_in_another_process_counts_what_that_one_says() {
        let watch = Stopwatch::default();
        let lap = |with_cpu, says: &[Away]| {
            let body = || {
                jump(4 * HOUR_NS);
                says.iter().for_each(|away| watch.note_away(*away));
            };
            let ((), lap) = watch.measure(with_cpu, body);
            (hours(lap), lap.cpu_ns, lap.is_away)
        };
        let hour = Away { waited_ns: HOUR_NS as u64, cpu_ns: Some(7) };
        assert_eq!(lap(true, &[hour]), (3, Some(7), true));
        // It was tried twice.
        assert_eq!(lap(true, &[hour, hour]), (2, Some(14), true));
        assert_eq!(lap(false, &[hour, Away { cpu_ns: None, ..hour }]), (2, None, true));
        watch.note_away(hour);
        assert_eq!(lap(false, &[]), (4, None, false));
    }
}
