//! The one place that reads the machine's clocks, so that everything else can run under others.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::platform;

/// The time, for deadlines.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now() -> Instant {
    match platform::now_ns() {
        Some(now_ns) => *START.get_or_init(Instant::now) + Duration::from_nanos(now_ns),
        None => Instant::now(),
    }
}

/// Some moment before the first look at the time in nanoseconds.
static START: OnceLock<Instant> = OnceLock::new();

/// Nanoseconds since some moment before the runtime began.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now_ns() -> u64 {
    if let Some(now_ns) = platform::now_ns() {
        return now_ns;
    }
    let now_ns = START.get_or_init(Instant::now).elapsed().as_nanos() as u64;
    #[cfg(test)]
    let now_ns = now_ns.saturating_add_signed(JUMPED_NS.get());
    now_ns
}

/// How long this thread has had a core, in nanoseconds. Cost: a call of the system, a few hundred nanoseconds.
pub(crate) fn thread_cpu_ns() -> Option<u64> {
    // A logical thread has a core of its own.
    if let Some(now_ns) = platform::now_ns() {
        return Some(now_ns);
    }
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Some(u64::try_from(time.tv_sec).ok()?.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).ok()?))
}

#[cfg(test)]
thread_local! {
    static JUMPED_NS: std::cell::Cell<i64> = const { std::cell::Cell::new(0) };
}

/// Has the clock that this thread sees jump: a body that does so takes as long, and no test has to wait for it.
#[cfg(test)]
pub(crate) fn jump(by_ns: i64) {
    JUMPED_NS.set(JUMPED_NS.get().saturating_add(by_ns));
}
