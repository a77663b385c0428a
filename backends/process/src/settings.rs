//! What the user may ask of the worker processes.
//!
//! | setting | value | default |
//! |---|---|---|
//! | `processes` | how many worker processes, 0 to 1024 | 0 |
//! | `processes.spin` | `true` or `false`: whether whoever waits for the other side looks for some microseconds before it sleeps; a call takes a tenth of the time then, and a processor meanwhile | `true` if the machine has more processors than there are worker processes |
//! | `processes.prefix` | `true` or `false`: whether each line that a worker process prints begins with its processor's name, as `[processes-0] ` | `false` |

use std::fmt::Display;
use std::thread::available_parallelism;

use poniard_interface::{OpenError, Settings};

/// More processes than any machine has processors are a slip of the keyboard.
const MAX_PROCESSES: usize = 1024;

/// The settings, read and found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessSettings {
    /// How many worker processes.
    pub processes: usize,
    /// Whether whoever waits looks for a while before it sleeps.
    pub spin: bool,
    /// Whether what a worker process prints begins with its processor's name on each line.
    pub prefix: bool,
}

impl ProcessSettings {
    /// Their names.
    pub const NAMES: [&str; 3] = ["processes", "processes.prefix", "processes.spin"];

    /// Reads the settings of this backend out of those of all.
    ///
    /// # Errors
    /// [`OpenError`] names the setting, its text and what would be right.
    pub fn read(settings: &Settings) -> Result<Self, OpenError> {
        let processes = match settings.parse::<usize>("processes")? {
            Some(count) if count > MAX_PROCESSES => {
                return Err(refuse("processes", count, format!("at most {MAX_PROCESSES} processes are possible")));
            }
            Some(count) => count,
            None => 0,
        };
        let spin = match settings.parse::<bool>("processes.spin")? {
            Some(spin) => spin,
            None => available_parallelism().is_ok_and(|count| count.get() > processes),
        };
        let prefix = settings.parse::<bool>("processes.prefix")?.unwrap_or(false);
        Ok(Self { processes, spin, prefix })
    }
}

fn refuse(setting: &str, value: impl Display, reason: impl Display) -> OpenError {
    OpenError::new(format!("setting `{setting}` is `{value}`: {reason}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(name: &str, value: &str) -> Result<ProcessSettings, OpenError> {
        let mut settings = Settings::new();
        settings.set(name, value);
        ProcessSettings::read(&settings)
    }

    fn check_refused(name: &str, value: &str, part: &str) {
        let reason = read(name, value).expect_err("a bad setting").reason;
        assert!(reason.starts_with(&format!("setting `{name}` is `{value}`")) && reason.contains(part), "{reason}");
    }

    #[test]
    fn there_are_no_processes_unless_asked_for() {
        assert_eq!(ProcessSettings::read(&Settings::new()).unwrap(), ProcessSettings { processes: 0, spin: true, prefix: false });
    }

    #[test]
    fn good_values_are_taken() {
        assert_eq!(read("processes", "0").unwrap().processes, 0);
        assert_eq!(read("processes", "1024").unwrap(), ProcessSettings { processes: 1024, spin: false, prefix: false });
        assert!(!read("processes.spin", "false").unwrap().spin);
        assert!(read("processes.prefix", "true").unwrap().prefix);
        assert!(read("threads", "nonsense").is_ok(), "settings of other backends are ignored");
    }

    #[test]
    fn bad_values_are_named() {
        check_refused("processes", "1025", "at most 1024");
        check_refused("processes", "-1", "invalid digit");
        check_refused("processes", "many", "invalid digit");
        check_refused("processes", "", "empty");
        check_refused("processes", "99999999999999999999999", "too large");
        check_refused("processes.spin", "yes", "`true` or `false`");
        check_refused("processes.prefix", "1", "`true` or `false`");
    }

    proptest! {
        #[test]
        fn any_text_is_a_count_in_range_or_an_error(text in "\\PC{0,24}|[0-9]{1,6}") {
            if let Ok(settings) = read("processes", &text) {
                prop_assert!(settings.processes <= MAX_PROCESSES);
            }
        }
    }
}
