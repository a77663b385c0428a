//! Kernels that compute nothing, for trying out schedules and failures.

use std::time::Duration;

use poniard::KernelError;

use super::Definition;
use super::limits::{MAX_WAIT_MS, whole};

pub(super) fn definitions() -> Vec<Definition> {
    vec![
        Definition::new("wait", "Keeps a processor for some milliseconds, an hour at most; the result is their number.").form(
            ["milliseconds"],
            |milliseconds: &f64| {
                std::thread::sleep(Duration::from_millis(whole("milliseconds", *milliseconds, 0, MAX_WAIT_MS)? as u64));
                Ok(*milliseconds)
            },
        ),
        Definition::new("fail", "Fails with a message; would be a number.")
            .form(["message"], |message: &String| Err::<f64, _>(KernelError::new(message.as_str()))),
    ]
}
