//! A worker process, as the host sees it: it is not the host's child, but the fork server's.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

/// How often a process without a descriptor is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// A process by its number, and by a descriptor that stays its own whoever gets the number next.
#[derive(Debug)]
pub(crate) struct Process {
    number: u32,
    pid: Pid,
    /// Not on kernels before 5.3, nor where a sandbox forbids it.
    descriptor: Option<OwnedFd>,
}

impl Process {
    /// The process `number`, which has not been waited for yet.
    pub(crate) fn find(number: u32) -> Result<Self, String> {
        let pid = i32::try_from(number).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("the fork server says that a process has the number {number}"))?;
        let mut process = Self { number, pid, descriptor: None };
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => process.descriptor = Some(descriptor),
            Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {}
            Err(error) => {
                process.kill();
                return Err(format!("cannot open a descriptor of process {number}: {error}"));
            }
        }
        Ok(process)
    }

    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Its descriptor, if there are such.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(AsFd::as_fd)
    }

    /// Whether it has ended.
    pub(crate) fn is_dead(&self) -> bool {
        match &self.descriptor {
            Some(descriptor) => is_readable(descriptor.as_fd(), Duration::ZERO),
            None => is_over(fs::read_to_string(format!("/proc/{}/stat", self.number)).ok().as_deref()),
        }
    }

    /// Ends it. It may have ended already.
    pub(crate) fn kill(&self) {
        let _ = match &self.descriptor {
            // A sandbox may forbid that alone. The number is this process's until the host has asked how it ended.
            Some(descriptor) => pidfd_send_signal(descriptor, Signal::KILL).or_else(|_| kill_process(self.pid, Signal::KILL)),
            None => kill_process(self.pid, Signal::KILL),
        };
    }

    /// Waits until it has ended, or for so long; gives whether it has.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        loop {
            let left = limit.saturating_sub(begin.elapsed());
            let dead = match &self.descriptor {
                Some(descriptor) => is_readable(descriptor.as_fd(), left),
                None => self.is_dead(),
            };
            if dead || left.is_zero() {
                return dead;
            }
            if self.descriptor.is_none() {
                thread::sleep(LOOK);
            }
        }
    }
}

/// Whether `descriptor` becomes readable within `limit`; a signal may end that early.
fn is_readable(descriptor: BorrowedFd<'_>, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// Whether the process whose `/proc/<number>/stat` is `stat` has ended. One that was not waited for is still there.
fn is_over(stat: Option<&str>) -> bool {
    let state = stat.and_then(|stat| stat.rsplit_once(") ")).and_then(|(_, rest)| rest.chars().next());
    matches!(state, None | Some('Z' | 'X' | 'x'))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn child() -> std::process::Child {
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    #[test]
    fn a_death_is_seen_with_and_without_a_descriptor() {
        for with in [true, false] {
            let mut child = child();
            let mut process = Process::find(child.id()).unwrap();
            if !with {
                process.descriptor = None;
            }
            assert!(!process.is_dead() && !process.wait(Duration::from_millis(2)));
            process.kill();
            assert!(process.wait(Duration::from_secs(20)));
            assert!(process.is_dead());
            child.wait().unwrap();
            assert!(process.is_dead());
            process.kill();
        }
    }

    #[test]
    fn numbers_that_are_no_process_are_refused() {
        for number in [0, 1, u32::MAX, 1 << 31] {
            assert!(Process::find(number).is_err());
        }
    }
}
