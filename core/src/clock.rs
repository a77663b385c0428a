//! The one place that reads the machine's clock, so that everything else can run under another.

use std::time::Instant;

/// The time, for deadlines.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Nanoseconds since some moment before the runtime began.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn now_ns() -> u64 {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}
