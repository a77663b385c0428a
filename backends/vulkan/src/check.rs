//! A second opinion on the barriers: looks at the commands that were recorded, and finds those that lack one.
//!
//! The validation layer does not see conflicts between dispatches of the code that kernels are compiled to, and a software device does everything in order, so a barrier
//! that is missing shows nowhere else. It is slower than the tracker and simpler: each command is held against each earlier one.

use crate::tracker::Access;

/// What a batch consists of.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A dispatch, a copy or a fill, with its name.
    Command(String, Vec<Access>),
    /// What comes after waits for all before and sees what it wrote.
    Barrier,
    /// The host sees what was written before, once the batch has ended.
    HostBarrier,
}

/// The commands of a queue so far.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// Commands after the last barrier of the batches before.
    before: Vec<Step>,
}

impl Checker {
    /// Looks at the next batch of the queue; says what is wrong with it.
    pub(crate) fn check(&mut self, batch: &[Step]) -> Vec<String> {
        let mut wrong = Vec::new();
        let steps: Vec<&Step> = self.before.iter().chain(batch).collect();
        let first = self.before.len();
        for (index, step) in steps.iter().enumerate().skip(first) {
            let Step::Command(name, accesses) = step else { continue };
            for earlier in steps[..index].iter().rev() {
                match earlier {
                    Step::Barrier => break,
                    Step::HostBarrier => {}
                    Step::Command(other, used) => {
                        let conflict = accesses.iter().find_map(|new| used.iter().find(|old| old.conflicts(new)).map(|old| (new, old)));
                        if let Some((new, old)) = conflict {
                            let (does, did) = (verb(new), verb(old));
                            wrong.push(format!(
                                "no barrier stands between `{other}`, which {did} bytes {:?} of memory {}, and `{name}`, which {does} bytes {:?}",
                                old.range, old.memory, new.range
                            ));
                        }
                    }
                }
            }
            let is_seen = || steps[index + 1..].iter().any(|step| matches!(step, Step::HostBarrier));
            if accesses.iter().any(|access| access.writes && access.is_host_visible) && !is_seen() {
                wrong.push(format!("no barrier shows the host what `{name}` writes"));
            }
        }
        let last = steps.iter().rposition(|step| matches!(step, Step::Barrier)).map_or(0, |index| index + 1);
        self.before = steps[last..].iter().filter(|step| matches!(step, Step::Command(..))).map(|step| (*step).clone()).collect();
        wrong
    }
}

fn verb(access: &Access) -> &'static str {
    if access.writes { "writes" } else { "reads" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tracker::Tracker;

    fn command(accesses: &[(u64, std::ops::Range<u64>, bool)]) -> Step {
        let access = |(memory, range, writes): &(u64, std::ops::Range<u64>, bool)| Access {
            memory: *memory,
            range: range.clone(),
            writes: *writes,
            is_host_visible: *memory == 0,
        };
        Step::Command("k".into(), accesses.iter().map(access).collect())
    }

    #[test]
    fn planted_faults_are_found() {
        let write = command(&[(1, 0..8, true)]);
        let read = command(&[(1, 4..12, false)]);
        let other = command(&[(1, 8..12, true), (2, 0..8, true)]);
        let of = |steps: &[&Step]| Checker::default().check(&steps.iter().map(|step| (*step).clone()).collect::<Vec<_>>()).len();
        assert_eq!(of(&[&write, &read]), 1, "written, then read");
        assert_eq!(of(&[&read, &write]), 1, "read, then written");
        assert_eq!(of(&[&write, &write]), 1, "written twice");
        assert_eq!(of(&[&write, &Step::Barrier, &read]), 0);
        assert_eq!(of(&[&write, &Step::HostBarrier, &read]), 1, "a barrier for the host is none for commands");
        assert_eq!(of(&[&write, &other]), 0, "different bytes");
        assert_eq!(of(&[&write, &other, &read]), 2, "a reader of what two wrote");
        assert_eq!(of(&[&Step::Barrier, &write, &read]), 1, "a barrier that is too early");
        let shown = command(&[(0, 0..8, true)]);
        assert_eq!(of(&[&shown]), 1, "the host is shown nothing");
        assert_eq!(of(&[&Step::HostBarrier, &shown]), 1, "a barrier for the host that is too early");
        assert_eq!(of(&[&shown, &Step::HostBarrier]), 0);
    }

    #[test]
    fn faults_between_batches_are_found() {
        let (write, read) = (command(&[(1, 0..8, true)]), command(&[(1, 0..8, false)]));
        let mut checker = Checker::default();
        assert!(checker.check(std::slice::from_ref(&write)).is_empty());
        let wrong = checker.check(std::slice::from_ref(&read));
        assert_eq!(wrong, ["no barrier stands between `k`, which writes bytes 0..8 of memory 1, and `k`, which reads bytes 0..8"],);
        assert!(checker.check(&[Step::Barrier, read.clone()]).is_empty());
        assert!(checker.check(&[read]).is_empty());
        assert_eq!(checker.check(&[write]).len(), 2, "both readers");
    }

    proptest! {
        #[test]
        fn the_tracker_passes_and_needs_each_of_its_barriers(
            commands in proptest::collection::vec(proptest::collection::vec((0u64..4, 0u64..6, 1u64..4, any::<bool>()), 1..4), 1..40),
            batch_len in 1usize..8,
        ) {
            let commands: Vec<_> = commands
                .iter()
                .map(|accesses| command(&accesses.iter().map(|(memory, start, len, writes)| (*memory, *start..start + len, *writes)).collect::<Vec<_>>()))
                .collect();
            let mut tracker = Tracker::default();
            let mut batches = Vec::new();
            for part in commands.chunks(batch_len) {
                let mut batch = Vec::new();
                for command in part {
                    let Step::Command(_, accesses) = command else { continue };
                    if tracker.note(accesses) {
                        batch.push(Step::Barrier);
                    }
                    batch.push(command.clone());
                }
                if tracker.end_batch() {
                    batch.push(Step::HostBarrier);
                }
                batches.push(batch);
            }
            let wrong = |batches: &[Vec<Step>]| {
                let mut checker = Checker::default();
                batches.iter().flat_map(|batch| checker.check(batch)).collect::<Vec<_>>()
            };
            prop_assert_eq!(wrong(&batches), Vec::<String>::new());
            for (at, batch) in batches.iter().enumerate() {
                for (index, step) in batch.iter().enumerate() {
                    if !matches!(step, Step::Command(..)) {
                        let mut without = batches.clone();
                        without[at].remove(index);
                        prop_assert!(!wrong(&without).is_empty(), "barrier {} of batch {} was not needed", index, at);
                    }
                }
            }
        }
    }
}
