//! How large a sample's problem may be: what is refused before any work starts, and why.

use crate::sample::SampleError;
use poniard::{Buffer, Element, buffer};

/// The most tasks that a sample spawns: enough for every useful tiling, and a task graph of this length still fits in memory.
pub(crate) const MOST_TASKS: u64 = 1 << 19;

/// The value of an option that counts something, or its default.
///
/// # Errors
/// [`SampleError::Usage`] when it is 0 or more than `most`.
pub(crate) fn count(option: &'static str, value: Option<u64>, default: u64, most: u64) -> Result<usize, SampleError> {
    match value.unwrap_or(default) {
        0 => Err(SampleError::Usage { option, reason: "must be at least 1".into() }),
        value if value > most => Err(SampleError::Usage { option, reason: format!("{value} is too large: at most {most}") }),
        value => usize::try_from(value).map_err(|_| SampleError::Usage { option, reason: format!("{value} is too large") }),
    }
}

/// Refuses a graph of more than [`MOST_TASKS`] tasks; `None` stands for a number that overflowed.
///
/// # Errors
/// [`SampleError::Usage`] for `option`, which decides how many there are.
pub(crate) fn tasks(option: &'static str, task_count: Option<u64>) -> Result<u64, SampleError> {
    match task_count {
        Some(count) if count <= MOST_TASKS => Ok(count),
        Some(count) => Err(SampleError::Usage { option, reason: format!("this would make {count} tasks: at most {MOST_TASKS}") }),
        None => Err(SampleError::Usage { option, reason: format!("this would make too many tasks: at most {MOST_TASKS}") }),
    }
}

/// Refuses a problem that needs more memory than the machine has free; `None` stands for a number that overflowed.
///
/// Asked before the work because Linux promises memory that it does not have, and kills whoever uses it.
///
/// # Errors
/// [`SampleError::Usage`] for `option`, which decides how much is needed.
pub(crate) fn memory(option: &'static str, needed_bytes: Option<u64>) -> Result<(), SampleError> {
    let free_bytes = free_bytes();
    match needed_bytes {
        Some(needed) if needed <= free_bytes => Ok(()),
        Some(needed) => Err(SampleError::Usage {
            option,
            reason: format!("too large: this needs about {} MiB of memory and {} MiB are free", needed >> 20, free_bytes >> 20),
        }),
        None => Err(SampleError::Usage { option, reason: format!("too large: {} MiB of memory are free", free_bytes >> 20) }),
    }
}

/// `len` zeroed elements.
///
/// # Errors
/// [`SampleError::Usage`] for `option`, which decides how many there are, when there is no room.
pub(crate) fn zeroed<T: Element>(option: &'static str, len: usize) -> Result<Buffer<T>, SampleError> {
    buffer::try_zeroed(len).map_err(|error| SampleError::Usage { option, reason: format!("too large: {error}") })
}

/// Memory that this process can still have: what the kernel estimates, or less in a control group with a limit.
pub(crate) fn free_bytes() -> u64 {
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    let number = |path| text(path).trim().parse::<u64>().ok();
    let machine = available_bytes(&text("/proc/meminfo")).unwrap_or(4 << 30);
    match (number("/sys/fs/cgroup/memory.max"), number("/sys/fs/cgroup/memory.current")) {
        (Some(most), Some(used)) => machine.min(most.saturating_sub(used)),
        _ => machine,
    }
}

/// `MemAvailable` in the text of `/proc/meminfo`.
fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_nothing_and_too_much() {
        assert_eq!(count("size", None, 7, 10).unwrap(), 7);
        assert_eq!(count("size", Some(10), 7, 10).unwrap(), 10);
        assert!(count("size", Some(0), 7, 10).unwrap_err().to_string().contains("at least 1"));
        assert!(count("size", Some(11), 7, 10).unwrap_err().to_string().contains("at most 10"));
    }

    #[test]
    fn refuses_too_many_tasks() {
        assert!(tasks("tile", Some(MOST_TASKS)).is_ok());
        assert!(tasks("tile", Some(MOST_TASKS + 1)).is_err());
        assert!(tasks("tile", None).is_err());
    }

    #[test]
    fn refuses_more_memory_than_there_is() {
        assert!(memory("size", Some(1)).is_ok());
        assert!(memory("size", Some(u64::MAX)).unwrap_err().to_string().contains("MiB"));
        assert!(memory("size", None).is_err());
        assert!(zeroed::<f64>("size", usize::MAX).is_err());
    }

    #[test]
    fn reads_what_the_kernel_says() {
        assert_eq!(available_bytes("MemTotal: 8 kB\nMemAvailable:   3 kB\n"), Some(3072));
        assert_eq!(available_bytes(""), None);
        assert!(free_bytes() > 0);
    }
}
