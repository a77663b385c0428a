//! What the user may ask of the threads.
//!
//! | setting | value | default |
//! |---|---|---|
//! | `threads` | how many threads, 1 to 4096 | what `std::thread::available_parallelism` says: the processors that the affinity mask and the cgroup allow |
//! | `threads.pin` | `true` or `false`: whether each thread stays on one processor | `false` |
//! | `threads.stack_bytes` | the stack of each thread in bytes, 64 KiB to 64 GiB | 8 MiB |
//! | `threads.name` | what the threads' names begin with; the kernel shows the first 15 bytes | `poniard` |

use std::fmt::Display;
use std::thread::available_parallelism;

use poniard_interface::{OpenError, Settings};

/// More threads than any machine has processors are a slip of the keyboard.
const MAX_THREADS: usize = 4096;
/// Below this a body of a task hardly runs.
const MIN_STACK_BYTES: usize = 64 << 10;
/// What the main thread has on Linux, four times what Rust gives its threads: bodies of tasks are users' code.
const DEFAULT_STACK_BYTES: usize = 8 << 20;
/// Beyond this the size is a slip, and the standard library panics on the largest ones.
const MAX_STACK_BYTES: usize = match 64_usize.checked_shl(30) {
    Some(bytes) if bytes >> 30 == 64 => bytes,
    _ => usize::MAX >> 1,
};

/// The settings, read and found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadSettings {
    /// How many threads.
    pub threads: usize,
    /// Whether each stays on one processor.
    pub pin: bool,
    /// The stack of each, in bytes.
    pub stack_bytes: usize,
    /// What their names begin with.
    pub name: String,
}

impl ThreadSettings {
    /// Their names.
    pub const NAMES: [&str; 4] = ["threads", "threads.name", "threads.pin", "threads.stack_bytes"];

    /// Reads the settings of this backend out of those of all.
    ///
    /// # Errors
    /// [`OpenError`] names the setting, its text and what would be right.
    pub fn read(settings: &Settings) -> Result<Self, OpenError> {
        let threads = match settings.parse::<usize>("threads")? {
            Some(0) => return Err(refuse("threads", 0, "at least 1 thread is needed")),
            Some(count) if count > MAX_THREADS => {
                return Err(refuse("threads", count, format!("at most {MAX_THREADS} threads are possible")));
            }
            Some(count) => count,
            None => available_parallelism().map_or(1, |count| count.get().min(MAX_THREADS)),
        };
        let pin = settings.parse::<bool>("threads.pin")?.unwrap_or(false);
        let stack_bytes = match settings.parse::<usize>("threads.stack_bytes")? {
            Some(bytes) if bytes < MIN_STACK_BYTES => {
                return Err(refuse("threads.stack_bytes", bytes, format!("at least {MIN_STACK_BYTES} bytes are needed")));
            }
            Some(bytes) if bytes > MAX_STACK_BYTES => {
                return Err(refuse("threads.stack_bytes", bytes, format!("at most {MAX_STACK_BYTES} bytes are possible")));
            }
            Some(bytes) => bytes,
            None => DEFAULT_STACK_BYTES,
        };
        let name = settings.get("threads.name").unwrap_or("poniard");
        if name.is_empty() {
            return Err(refuse("threads.name", name, "a name is needed"));
        }
        if name.contains('\0') {
            return Err(refuse("threads.name", name.escape_debug(), "a thread's name cannot hold a zero byte"));
        }
        Ok(Self { threads, pin, stack_bytes, name: name.to_owned() })
    }
}

fn refuse(setting: &str, value: impl Display, reason: impl Display) -> OpenError {
    OpenError::new(format!("setting `{setting}` is `{value}`: {reason}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(name: &str, value: &str) -> Result<ThreadSettings, OpenError> {
        let mut settings = Settings::new();
        settings.set(name, value);
        ThreadSettings::read(&settings)
    }

    fn check_refused(name: &str, value: &str, part: &str) {
        let reason = read(name, value).expect_err("a bad setting").reason;
        assert!(reason.contains(&format!("`{name}` is `{value}`")) && reason.contains(part), "{reason}");
    }

    #[test]
    fn defaults_are_the_machine() {
        let settings = ThreadSettings::read(&Settings::new()).unwrap();
        let threads = available_parallelism().unwrap().get();
        assert_eq!(settings, ThreadSettings { threads, pin: false, stack_bytes: 8 * 1024 * 1024, name: "poniard".into() });
    }

    #[test]
    fn good_values_are_taken() {
        assert_eq!(read("threads", "1").unwrap().threads, 1);
        assert_eq!(read("threads", "4096").unwrap().threads, 4096);
        assert!(read("threads.pin", "true").unwrap().pin);
        assert_eq!(read("threads.stack_bytes", "65536").unwrap().stack_bytes, 65536);
        assert_eq!(read("threads.name", "crew").unwrap().name, "crew");
        assert!(read("processes", "nonsense").is_ok(), "settings of other backends are ignored");
    }

    #[test]
    fn bad_values_are_named() {
        check_refused("threads", "0", "at least 1");
        check_refused("threads", "4097", "at most 4096");
        check_refused("threads", "-1", "invalid digit");
        check_refused("threads", "many", "invalid digit");
        check_refused("threads", "99999999999999999999999", "too large");
        check_refused("threads.pin", "yes", "`true` or `false`");
        check_refused("threads.stack_bytes", "65535", "at least 65536");
        check_refused("threads.stack_bytes", &usize::MAX.to_string(), "at most");
        check_refused("threads.name", "", "a name is needed");
        assert!(read("threads.name", "a\0b").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_a_count_in_range_or_an_error(text in "\\PC{0,24}|[0-9]{1,6}") {
            if let Ok(settings) = read("threads", &text) {
                prop_assert!((1..=MAX_THREADS).contains(&settings.threads));
            }
            if let Ok(settings) = read("threads.stack_bytes", &text) {
                prop_assert!((MIN_STACK_BYTES..=MAX_STACK_BYTES).contains(&settings.stack_bytes));
            }
        }
    }
}
