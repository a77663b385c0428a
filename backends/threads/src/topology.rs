//! The machine's processors that this process may use, and the NUMA nodes they belong to.
//!
//! Reference: <https://docs.kernel.org/admin-guide/mm/numaperf.html> and `Documentation/ABI/stable/sysfs-devices-node` of Linux.

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use poniard_interface::{HostServices, LogLevel};
use rustix::thread::{CpuSet, sched_getaffinity};

/// Where Linux describes the nodes.
const NODES: &str = "/sys/devices/system/node";

/// One processor of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The kernel's number of it.
    pub(crate) cpu: usize,
    /// Its NUMA node, where the machine has several.
    pub(crate) numa_node: Option<u32>,
}

/// The processors that this process may use; those of one node are neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Topology {
    places: Vec<Place>,
}

impl Topology {
    /// A machine that nothing is known about.
    pub(crate) fn unknown() -> Self {
        Self::default()
    }

    /// What the kernel says about the calling thread's affinity and the machine's nodes. What cannot be read is unknown, and logged.
    pub(crate) fn of_this_machine(host: &dyn HostServices) -> Self {
        match sched_getaffinity(None) {
            Ok(allowed) => Self::new((0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)), Path::new(NODES)),
            Err(error) => {
                host.log(LogLevel::Warning, &format!("cannot read which processors may be used: {error}; threads run unpinned"));
                Self::unknown()
            }
        }
    }

    /// The processors `allowed`, with the nodes that the folder `nodes` describes as `node<n>/cpulist`.
    pub(crate) fn new(allowed: impl IntoIterator<Item = usize>, nodes: &Path) -> Self {
        let nodes = read_nodes(nodes);
        let node_of = |cpu: usize| nodes.iter().find(|(_, cpus)| cpus.iter().any(|range| range.contains(&cpu))).map(|(node, _)| *node);
        let mut places: Vec<_> = allowed.into_iter().map(|cpu| Place { cpu, numa_node: node_of(cpu) }).collect();
        places.sort_by_key(|place| (place.numa_node, place.cpu));
        // One node, or none, is no news.
        if nodes.len() < 2 {
            places.iter_mut().for_each(|place| place.numa_node = None);
        }
        Self { places }
    }

    /// Where the thread `index` belongs: threads beyond the number of processors begin again at the first. `None` when nothing is known.
    pub(crate) fn place(&self, index: usize) -> Option<Place> {
        let wrapped = index.checked_rem(self.places.len())?;
        Some(self.places[wrapped])
    }
}

/// The nodes that have processors, in order of their numbers. A node that cannot be read or understood is left out: this is advice, not truth.
fn read_nodes(folder: &Path) -> Vec<(u32, Vec<RangeInclusive<usize>>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut nodes: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let node = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
            let cpus = parse_cpu_list(&fs::read_to_string(entry.path().join("cpulist")).ok()?)?;
            // Memory without processors is a node too, but no thread is near it.
            (!cpus.is_empty()).then_some((node, cpus))
        })
        .collect();
    nodes.sort_by_key(|(node, _)| *node);
    nodes
}

/// The kernel's list of processors, `0-3,8,10-11`, as ranges; `None` when it is not such a list. The empty list is one.
///
/// Ranges are not written out: a list that speaks of billions of processors costs nothing.
pub(crate) fn parse_cpu_list(text: &str) -> Option<Vec<RangeInclusive<usize>>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(Vec::new());
    }
    let number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<usize>().ok())?;
    text.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(first..=last)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernels_lists_are_read() {
        assert_eq!(parse_cpu_list("0-3,8,10-11\n"), Some(vec![0..=3, 8..=8, 10..=11]));
        assert_eq!(parse_cpu_list("0\n"), Some(vec![0..=0]));
        assert_eq!(parse_cpu_list("\n"), Some(vec![]));
        assert_eq!(parse_cpu_list("0-4294967295"), Some(vec![0..=4_294_967_295]));
    }

    #[test]
    fn other_texts_are_no_lists() {
        for text in ["a", "1-", "-1", "3-1", "1,,2", "1-2-3", "+1", "0x1", "99999999999999999999999", "1 2"] {
            assert_eq!(parse_cpu_list(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(ranges in prop::collection::vec((0usize..5000, 0usize..100), 0..8)) {
            let ranges: Vec<_> = ranges.into_iter().map(|(first, more)| first..=first + more).collect();
            let text: Vec<_> = ranges
                .iter()
                .map(|range| if range.start() == range.end() { range.start().to_string() } else { format!("{}-{}", range.start(), range.end()) })
                .collect();
            prop_assert_eq!(parse_cpu_list(&text.join(",")), Some(ranges));
        }

        #[test]
        fn no_text_panics(text in "\\PC*|[0-9,-]{0,20}") {
            parse_cpu_list(&text);
        }
    }

    /// A folder of nodes like the kernel's.
    fn nodes(lists: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (node, list) in lists {
            fs::create_dir(folder.path().join(node)).unwrap();
            fs::write(folder.path().join(node).join("cpulist"), list).unwrap();
        }
        folder
    }

    fn check(lists: &[(&str, &str)], allowed: &[usize], expected: &[(usize, Option<u32>)]) {
        let folder = nodes(lists);
        let topology = Topology::new(allowed.iter().copied(), folder.path());
        let places: Vec<_> = topology.places.iter().map(|place| (place.cpu, place.numa_node)).collect();
        assert_eq!(places, expected);
    }

    #[test]
    fn processors_of_a_node_are_neighbours() {
        // Two sockets whose processors the firmware numbers in turn.
        check(
            &[("node0", "0,2,4\n"), ("node1", "1,3,5\n")],
            &[0, 1, 2, 3, 4, 5],
            &[(0, Some(0)), (2, Some(0)), (4, Some(0)), (1, Some(1)), (3, Some(1)), (5, Some(1))],
        );
    }

    #[test]
    fn only_allowed_processors_count() {
        check(&[("node0", "0-3\n"), ("node1", "4-7\n")], &[6, 1], &[(1, Some(0)), (6, Some(1))]);
    }

    #[test]
    fn one_node_or_none_is_no_news() {
        check(&[("node0", "0-1\n")], &[0, 1], &[(0, None), (1, None)]);
        check(&[], &[0, 1], &[(0, None), (1, None)]);
        check(&[("node0", "0-1\n"), ("node1", "\n")], &[0, 1], &[(0, None), (1, None)]);
    }

    #[test]
    fn nonsense_in_the_folder_is_left_out() {
        check(
            &[("node0", "0\n"), ("node1", "garbage\n"), ("node2", "2\n"), ("power", "1\n"), ("nodex", "1\n")],
            &[0, 1, 2],
            &[(1, None), (0, Some(0)), (2, Some(2))],
        );
    }

    #[test]
    fn threads_beyond_the_processors_begin_again() {
        let folder = nodes(&[]);
        let topology = Topology::new([3, 5], folder.path());
        let cpus: Vec<_> = (0..5).map(|index| topology.place(index).unwrap().cpu).collect();
        assert_eq!(cpus, [3, 5, 3, 5, 3]);
        assert_eq!(Topology::unknown().place(0), None);
    }
}
