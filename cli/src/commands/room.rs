//! Whether there is memory for what is asked for: who asks for too much is told how much that is, and not ended by the kernel.

use crate::failure::Failure;
use crate::report::size;

/// Refuses what takes more memory than is free now. Where nobody knows how much that is, nothing is refused.
pub(super) fn check(what: &str, needed_bytes: u64) -> Result<(), Failure> {
    match std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(free_bytes) {
        Some(free) if needed_bytes > free => {
            Err(Failure::usage(format_args!("`{what}` takes at least {} of memory, and {} are free", size(needed_bytes), size(free))))
        }
        _ => Ok(()),
    }
}

/// What programs can have without others having to move, as `/proc/meminfo` says it.
fn free_bytes(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_is_read_and_more_is_refused() {
        assert_eq!(free_bytes("MemTotal: 8 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        for text in ["", "MemTotal: 8 kB\n", "MemAvailable: much kB\n", "MemAvailable: 1 MB\n"] {
            assert_eq!(free_bytes(text), None, "{text}");
        }
        assert!(check("layered:1", 1000).is_ok());
        // No machine has so much.
        if std::path::Path::new("/proc/meminfo").exists() {
            let refused = check("layered:9", u64::MAX).unwrap_err();
            assert!(refused.text.starts_with("`layered:9` takes at least 16.0 EiB of memory, and "), "{}", refused.text);
        }
    }
}
