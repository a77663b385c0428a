//! What the host and the fork server say to each other.

use ipc_channel::ipc::{IpcReceiver, IpcSender};
use serde::{Deserialize, Serialize};

/// The first message of a fork server: the two ends by which the host reaches it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) requests: IpcSender<Request>,
    pub(crate) replies: IpcReceiver<Reply>,
}

/// From the host to the fork server. Each has one reply.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Fork a worker process.
    Fork {
        /// The number of the memory's descriptor in the host.
        memory: i32,
        /// The numbers of the descriptors there to which it prints: its standard output and error.
        prints_to: [i32; 2],
        /// Whether it spins before it sleeps.
        spin: bool,
    },
    /// How did this worker process end? After that its number may be another process's.
    Status {
        /// Its number.
        process: u32,
    },
}

/// From the fork server to the host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// There is a new worker process.
    Forked {
        /// Its number.
        process: u32,
    },
    /// There is none, since what was tried failed.
    Failed {
        /// What, and why: lower case, no full stop.
        reason: String,
    },
    /// How a process ended.
    Ended(Exit),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Exit {
    /// By itself.
    Status(i32),
    /// By a signal.
    Signal(i32),
    /// Nobody knows, or it has not ended.
    Unknown,
}

impl Exit {
    /// As the end of a sentence about the process.
    pub(crate) fn in_words(self) -> String {
        match self {
            Self::Status(status) => format!("exited with status {status}"),
            Self::Signal(signal) => match signal_name(signal) {
                Some(name) => format!("was killed by signal {signal} ({name})"),
                None => format!("was killed by signal {signal}"),
            },
            Self::Unknown => "ended".to_owned(),
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_in_words() {
        assert_eq!(Exit::Status(3).in_words(), "exited with status 3");
        assert_eq!(Exit::Signal(9).in_words(), "was killed by signal 9 (SIGKILL)");
        assert_eq!(Exit::Signal(63).in_words(), "was killed by signal 63");
        assert_eq!(Exit::Unknown.in_words(), "ended");
    }
}
