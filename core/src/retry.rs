//! Tasks that are tried again when they return an error.

use std::any::TypeId;
use std::time::{Duration, Instant};

use crate::cancel::Cancelled;
use crate::clock::now;
use crate::error::BoxError;
use crate::function::TaskFn;
use crate::planted::{self, Bug};
use crate::timer;
use crate::worker::context::Context;
use crate::worker::fetch::wait_until_fired;
use crate::worker::waiter::Waiter;

/// The longest pause that doubling leads to.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A task function that is called again when it returns an error. Made by [`TaskBuilder::retries`](crate::TaskBuilder::retries).
#[derive(Clone, Debug)]
pub struct Retrying<F> {
    pub(crate) function: F,
    pub(crate) retries: u32,
    /// The pause after the first attempt.
    pub(crate) backoff: Duration,
}

/// The signature of a [`Retrying`] function whose own one is `M`.
#[doc(hidden)]
#[derive(Debug)]
pub struct Again<M>(std::marker::PhantomData<M>);

/// All attempts failed; the last one with this. Taken apart when the task's error is made, so that nobody else meets it.
#[derive(Debug, thiserror::Error)]
#[error("{last}")]
pub(crate) struct Exhausted {
    pub(crate) attempts: u32,
    pub(crate) last: BoxError,
}

impl<M, F: TaskFn<M> + Clone> TaskFn<Again<M>> for Retrying<F> {
    type Params = F::Params;
    type Value = F::Value;
    type Tried = F::Tried;
    type Signature = F::Signature;
    const OWNS: u8 = F::OWNS;

    fn retries(&self) -> Option<Retrying<()>> {
        Some(Retrying { function: (), retries: self.retries, backoff: self.backoff })
    }

    fn known_as() -> (TypeId, fn() -> &'static str) {
        F::known_as()
    }

    fn call(self, params: &mut F::Params) -> Result<F::Value, BoxError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            note(attempts);
            let last = attempts > self.retries;
            let outcome = if last { self.function.clone().call(params) } else { self.function.clone().call_keeping(params) };
            let error = match outcome {
                Ok(_) if attempts == 2 && !last && planted::is(Bug::DoubleCompletion) => continue,
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let exhausted = |last| Err::<F::Value, BoxError>(Box::new(Exhausted { attempts, last }));
            if last || error.is::<Cancelled>() {
                return exhausted(error);
            }
            match pause(self.pause_after(attempts)) {
                Ok(Some(Over)) => {}
                Ok(None) => return exhausted(error),
                Err(cancelled) => return exhausted(cancelled.into()),
            }
        }
    }

    fn call_keeping(self, params: &mut F::Params) -> Result<F::Value, BoxError> {
        self.call(params)
    }
}

impl<F> Retrying<F> {
    /// The pause after so many attempts: doubled each time, up to `PAUSE_MAX`, or the first one where that is longer.
    pub(crate) fn pause_after(&self, attempts: u32) -> Duration {
        let doubled = 1u32.checked_shl(attempts - 1).map_or(Duration::MAX, |factor| self.backoff.saturating_mul(factor));
        if self.backoff.is_zero() { Duration::ZERO } else { doubled.min(PAUSE_MAX.max(self.backoff)) }
    }
}

/// Notes how often the function has been called, for whoever ends the task meanwhile.
fn note(attempts: u32) {
    Context::with(|context| context.and_then(|context| context.with_task(|task| task.note_attempts(attempts))));
}

/// The pause is over.
pub(crate) struct Over;

/// Waits inside a task, and lends its processor meanwhile. Nothing when there is no thread that ends the pause; an error when the task is to stop.
pub(crate) fn pause(time: Duration) -> Result<Option<Over>, Cancelled> {
    // A time that the clock does not reach is waited for until somebody cancels the task.
    let until: Option<Instant> = now().checked_add(time);
    Context::with(|context| {
        let Some(context) = context else { unreachable!("a task function is called inside a task") };
        loop {
            if context.is_cancelled() {
                return Err(Cancelled);
            }
            if until.is_some_and(|until| now() >= until) {
                return Ok(Some(Over));
            }
            let waiter = Waiter::for_this_thread();
            let Ok(_alarm) = timer::wake_at(until.unwrap_or_else(far), waiter.waker()) else { return Ok(None) };
            // Told when somebody cancels the task.
            let lives = context.with_task(|task| task.add_waiter(&waiter.waker()));
            // Looked at once more now that the entry is there: who cancels everything wakes those whose entries he finds.
            if lives == Some(true) && !context.is_cancelled() {
                context.stopwatch.aside(|| wait_until_fired(context, &waiter));
            }
        }
    })
}

/// A time that is worth another look.
fn far() -> Instant {
    now() + Duration::from_secs(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let pause_after = |backoff, attempts| Retrying { function: (), retries: 9, backoff }.pause_after(attempts);
        let pauses: Vec<_> = [1, 2, 3, 10, 11, 33, u32::MAX].map(|attempts| pause_after(Duration::from_millis(100), attempts)).into();
        assert_eq!(pauses, [100, 200, 400, 51_200, 60_000, 60_000, 60_000].map(Duration::from_millis));
        assert_eq!(pause_after(Duration::from_secs(100), 5), Duration::from_secs(100));
        assert_eq!(pause_after(Duration::ZERO, 40), Duration::ZERO);
    }
}
