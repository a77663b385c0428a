//! One queue with two ends: tasks by how much a device speeds them up.
//!
//! Emmanuel Agullo, Berenger Bramas, Olivier Coulaud, Eric Darve, Matthias Messner and Toru Takahashi, "Task-based FMM for heterogeneous
//! architectures", 2016, and Olivier Beaumont, Lionel Eyraud-Dubois and Suraj Kumar, "Approximation proofs of a fast and efficient list scheduling
//! algorithm for task-based runtime systems on multicores and GPUs", 2017. Devices take what they speed up most, the host's processors what
//! they are slowed down least by, so nothing depends on exact estimates. The second paper restarts a task of the host on a device that idles;
//! a body cannot be stopped from outside, so here the slower kind leaves a task that the faster one gets to sooner.

use super::{Decision, End, Key, Place, Placement, Policy, ReadyTask, View, Why};

/// Only a device may run it, and only the host.
const DEVICE_ONLY: i64 = i64::MAX;
const HOST_ONLY: i64 = -i64::MAX;
/// Steps of a doubling: tasks whose speed-ups differ by less lie in one bucket, in the order of their priorities.
const STEPS: i64 = 4;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heteroprio;

impl Policy for Heteroprio {
    fn name(&self) -> &'static str {
        "heteroprio"
    }

    fn place(&mut self, _task: &ReadyTask<'_>, _view: &mut View<'_>) -> Decision {
        Decision::shared(Why::Ratio)
    }

    fn key(&self, task: &ReadyTask<'_>, _placement: Placement, places: &[Place]) -> Key {
        let of_class = |host: bool| {
            let candidates = task.candidates.iter().filter(|candidate| (places[candidate.place].class == 0) == host);
            candidates.map(|candidate| candidate.execution.mean_ns.saturating_add(candidate.overhead_ns)).min()
        };
        let bucket = match (of_class(true), of_class(false)) {
            (Some(host), Some(device)) => bucket(host, device),
            (Some(_), None) => HOST_ONLY,
            (None, _) => DEVICE_ONLY,
        };
        Key([bucket, i64::from(task.priority).wrapping_neg(), 0])
    }

    fn end(&self, place: usize, places: &[Place]) -> End {
        End { last_level: places[place].class != 0, last_within: false }
    }

    fn accepts(&self, place: usize, key: Key, waiting: usize, places: &[Place]) -> bool {
        let bucket = key.0[0];
        let host = places[place].class == 0;
        // How many times slower this kind is. While it ran the task, each processor of the other kind would run so many.
        let slowdown = match (host, bucket) {
            (_, HOST_ONLY | DEVICE_ONLY) => return true,
            (true, bucket) => ratio(bucket),
            (false, bucket) => ratio(-bucket),
        };
        let others = places.iter().filter(|other| other.active && (other.class == 0) != host);
        let other_count: u64 = others.map(|other| u64::from(other.parallel)).sum();
        // In quarters, so that 1.25 times slower is not 1.
        slowdown <= STEPS as u64 || waiting as u64 * STEPS as u64 > slowdown.saturating_mul(other_count)
    }
}

/// How many steps faster the device is: the logarithm of the ratio, rounded towards the host.
fn bucket(host_ns: u64, device_ns: u64) -> i64 {
    if host_ns < device_ns {
        return -bucket(device_ns, host_ns);
    }
    let quarters = u128::from(host_ns.max(1)) * STEPS as u128 / u128::from(device_ns.max(1));
    // At least 4 quarters: the doublings, then the two bits below the highest one, as steps.
    let doublings = i64::from(quarters.ilog2()) - 2;
    doublings * STEPS + (quarters >> doublings) as i64 - STEPS
}

/// The ratio at the lower end of a bucket, in quarters; 4 for those that are slower.
fn ratio(bucket: i64) -> u64 {
    let bucket = bucket.max(0);
    let steps = (STEPS + bucket % STEPS) as u64;
    steps.checked_shl((bucket / STEPS) as u32).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{bucket, ratio};

    #[test]
    fn buckets_are_quarters_of_doublings_and_symmetric() {
        assert_eq!([1, 5, 6, 7, 8].map(|host| bucket(host * 10, 40)), [-8, 1, 2, 3, 4]);
        assert_eq!([bucket(40, 40), bucket(40, 10), bucket(40, 50), bucket(400, 1)], [0, 8, -1, 34]);
        assert_eq!([ratio(0), ratio(1), ratio(4), ratio(8), ratio(34), ratio(-8)], [4, 5, 8, 16, 6 << 8, 4]);
        assert_eq!(bucket(0, 0), 0);
        assert!(bucket(u64::MAX, 0) < super::DEVICE_ONLY && bucket(0, u64::MAX) > super::HOST_ONLY);
    }
}
