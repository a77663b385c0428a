//! How much memory there is: the machine's, and what its control groups leave of it.

use std::path::{Path, PathBuf};

/// Size of a page in bytes.
pub(crate) fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// What large data may take of memory if nobody says: seven eighths of what there is. Without a bound where that cannot be found out.
pub(crate) fn memory_limit_bytes() -> u64 {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let least = [total_bytes(read), group_bytes(read)].into_iter().flatten().min();
    least.map_or(u64::MAX, |bytes| bytes / 8 * 7)
}

/// The machine's memory, as `/proc/meminfo` has it.
fn total_bytes(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let text = read(Path::new("/proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1 << 10)
}

/// The least that a control group of this process, or one around it, allows, or lets it have without slowing it down. Those of version 2 are in one tree; of version 1, in one for each resource.
fn group_bytes(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (root, files): (_, &[_]) = match controllers {
            "" => ("/sys/fs/cgroup", &["memory.max", "memory.high"]),
            _ if controllers.split(',').any(|controller| controller == "memory") => ("/sys/fs/cgroup/memory", &["memory.limit_in_bytes"]),
            _ => return None,
        };
        // Inside a container the path may be the one outside: then only the tree's root is there.
        let place = PathBuf::from(path);
        let around = place.ancestors().map(|place| Path::new(root).join(place.strip_prefix("/").unwrap_or(place)));
        let around = around.flat_map(|place| files.iter().map(move |file| place.join(file)));
        // `max` is no number: no bound there.
        around.filter_map(|file| read(&file)?.trim().parse::<u64>().ok()).min()
    });
    limits.min()
}

/// The number of bytes that a text is: digits, and `KiB`, `MiB`, `GiB` or `TiB` if need be.
///
/// # Errors
/// What would be right.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let (digits, shift) = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift))).unwrap_or((text, 0));
    let number = digits.trim_end().parse::<u64>().ok();
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| "a number of bytes is expected, as in `500000000`, `512MiB` or `2GiB`".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with these files.
    fn files<'a>(files: &'a [(&'a str, &'a str)]) -> impl Fn(&Path) -> Option<String> + 'a {
        move |path| files.iter().find(|(name, _)| Path::new(name) == path).map(|(_, text)| (*text).into())
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_machine_has_memory() {
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        assert!(total_bytes(read).is_some_and(|bytes| bytes > 1 << 26));
        assert!(memory_limit_bytes() < u64::MAX);
        assert_eq!(total_bytes(files(&[("/proc/meminfo", "MemFree: 1 kB\nMemTotal:   2048 kB\n")])), Some(2 << 20));
        assert_eq!(total_bytes(files(&[("/proc/meminfo", "MemTotal: much kB\n")])), None);
    }

    #[test]
    fn the_least_of_all_groups_around_counts() {
        let two = [
            ("/proc/self/cgroup", "0::/a/b\n"),
            ("/sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.max", "5000\n"),
            ("/sys/fs/cgroup/memory.max", "7000\n"),
        ];
        assert_eq!(group_bytes(files(&two)), Some(5000));
        let slowed =
            [("/proc/self/cgroup", "0::/a\n"), ("/sys/fs/cgroup/a/memory.max", "6000\n"), ("/sys/fs/cgroup/a/memory.high", "4000\n")];
        assert_eq!(group_bytes(files(&slowed)), Some(4000));
        let nested = [
            ("/proc/self/cgroup", "7:memory:/slice/job\n0::/x\n"),
            // What version 1 says where there is no bound.
            ("/sys/fs/cgroup/memory/slice/job/memory.limit_in_bytes", "9223372036854771712\n"),
            ("/sys/fs/cgroup/memory/slice/memory.limit_in_bytes", "8000\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ];
        assert_eq!(group_bytes(files(&nested)), Some(8000));
        let one = [
            ("/proc/self/cgroup", "4:cpu:/x\n3:hugetlb,memory:/docker/77\n0::/x\n"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9000\n"),
            ("/sys/fs/cgroup/x/cpu.max", "1\n"),
        ];
        assert_eq!(group_bytes(files(&one)), Some(9000));
        assert_eq!(group_bytes(files(&[("/proc/self/cgroup", "nonsense\n\n0:\n")])), None);
        assert_eq!(group_bytes(files(&[])), None);
    }

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("123"), Ok(123));
        assert_eq!(parse_bytes("2GiB"), Ok(2 << 30));
        assert_eq!(parse_bytes("3 KiB"), Ok(3 << 10));
        for text in ["", "GiB", "-1", "2GB", "1.5MiB", "99999999TiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
