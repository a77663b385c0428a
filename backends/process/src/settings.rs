//! What the user may ask of the worker processes.
//!
//! | setting | value | default |
//! |---|---|---|
//! | `processes` | how many worker processes, 0 to 1024 | 0 |
//! | `processes.most` | how many there can be later on, up to 1024: there is a processor for each, and the runtime uses as many as there are to be | as `processes` |
//! | `processes.spin` | `true` or `false`: whether whoever waits for the other side looks for some microseconds before it sleeps; a call takes a tenth of the time then, and a processor meanwhile | `true` if the machine has more processors than there can be worker processes |
//! | `processes.prefix` | `true` or `false`: whether each line that a worker process prints begins with its processor's name, as `[processes-0] ` | `false` |

use std::fmt::Display;
use std::thread::available_parallelism;

use poniard_interface::{OpenError, Settings};

/// More processes than any machine has processors are a slip of the keyboard.
const MAX_PROCESSES: usize = 1024;

/// The settings, read and found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessSettings {
    /// How many worker processes to begin with.
    pub processes: usize,
    /// How many there can be.
    pub most: usize,
    /// Whether whoever waits looks for a while before it sleeps.
    pub spin: bool,
    /// Whether what a worker process prints begins with its processor's name on each line.
    pub prefix: bool,
}

impl ProcessSettings {
    /// Their names.
    pub const NAMES: [&str; 4] = ["processes", "processes.most", "processes.prefix", "processes.spin"];

    /// Reads the settings of this backend out of those of all.
    ///
    /// # Errors
    /// [`OpenError`] names the setting, its text and what would be right.
    pub fn read(settings: &Settings) -> Result<Self, OpenError> {
        let count = |name: &str| match settings.parse::<usize>(name)? {
            Some(count) if count > MAX_PROCESSES => Err(refuse(name, count, format!("at most {MAX_PROCESSES} processes are possible"))),
            count => Ok(count),
        };
        let processes = count("processes")?.unwrap_or(0);
        let most = count("processes.most")?.unwrap_or(processes);
        if most < processes {
            return Err(refuse("processes.most", most, format!("there are to be {processes} to begin with")));
        }
        let spin = match settings.parse::<bool>("processes.spin")? {
            Some(spin) => spin,
            None => available_parallelism().is_ok_and(|count| count.get() > most),
        };
        let prefix = settings.parse::<bool>("processes.prefix")?.unwrap_or(false);
        Ok(Self { processes, most, spin, prefix })
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
        let none = ProcessSettings { processes: 0, most: 0, spin: true, prefix: false };
        assert_eq!(ProcessSettings::read(&Settings::new()).unwrap(), none);
    }

    #[test]
    fn good_values_are_taken() {
        assert_eq!(read("processes", "0").unwrap().processes, 0);
        let all = ProcessSettings { processes: 1024, most: 1024, spin: false, prefix: false };
        assert_eq!(read("processes", "1024").unwrap(), all);
        let most = read("processes.most", "3").unwrap();
        assert_eq!((most.processes, most.most), (0, 3));
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
        check_refused("processes.most", "1025", "at most 1024");
        let mut settings = Settings::new();
        settings.set("processes", "3");
        settings.set("processes.most", "2");
        let reason = ProcessSettings::read(&settings).expect_err("fewer than to begin with").reason;
        assert_eq!(reason, "setting `processes.most` is `2`: there are to be 3 to begin with");
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
