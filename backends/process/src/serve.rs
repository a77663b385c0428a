//! The fork server: what runs in the process that the host starts.
//!
//! One thread, which waits for requests and forks. It ends when the host does: the host's end of the channel is closed then, or, if somebody else has a copy of it, it
//! notices within a second that its parent is another one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ipc_channel::ipc::{IpcReceiver, IpcSender};
use ipc_channel::{IpcError, TryRecvError};
use poniard_interface::{Image, OpenError};
use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, getppid};
use rustix::thread::set_name;

use crate::control::{Exit, Hello, Reply, Request};
use crate::fork;
use crate::labour::labour;
use crate::line::Line;
use crate::shared_memory::SharedMemory;

/// How often it looks for its parent.
const SLICE: Duration = Duration::from_secs(1);

/// The argument of [`serve`] for a host and the name of its channel.
pub(crate) fn argument(host: u32, channel: &str) -> String {
    format!("server:{host}:{channel}")
}

/// Serves the host that `argument` names.
pub(crate) fn serve(argument: &str, image: &dyn Image) -> Result<i32, OpenError> {
    let parts = argument.strip_prefix("server:").and_then(|rest| rest.split_once(':'));
    let parts = parts.and_then(|(host, channel)| Some((host.parse::<u32>().ok().filter(|host| *host > 0)?, channel)));
    let Some((host, channel)) = parts else {
        return Err(OpenError::new(format!("expected an argument `server:<process>:<channel>`, found `{argument}`")));
    };
    let parent = getppid();
    fork::set_signals();
    // What the host had open without close-on-exec is not for us: a copy would keep it open when the host is gone.
    fork::close_descriptors();
    // Names are for people.
    let _ = set_name(c"poniard-server");
    let requests = connect(channel).map_err(|error| OpenError::new(format!("cannot reach the host: {error}")))?;
    let (receiver, sender) = requests;
    Ok(Server { host, parent, image, sender, abandoned: Vec::new() }.answer_all(&receiver))
}

fn connect(channel: &str) -> Result<(IpcReceiver<Request>, IpcSender<Reply>), io::Error> {
    let (requests, receiver) = ipc_channel::ipc::channel()?;
    let (sender, replies) = ipc_channel::ipc::channel()?;
    let host = IpcSender::connect(channel.to_owned())?;
    host.send(Hello { requests, replies }).map_err(io::Error::other)?;
    Ok((receiver, sender))
}

struct Server<'a> {
    host: u32,
    parent: Option<Pid>,
    image: &'a dyn Image,
    sender: IpcSender<Reply>,
    /// Processes whose end nobody waits for any more, and which have not ended.
    abandoned: Vec<u32>,
}

impl Server<'_> {
    fn answer_all(&mut self, requests: &IpcReceiver<Request>) -> i32 {
        loop {
            let reply = match requests.try_recv_timeout(SLICE) {
                Ok(Request::Fork { memory, prints_to, spin }) => self.fork(memory, prints_to, spin),
                Ok(Request::Status { process }) => Reply::Ended(self.status(process)),
                Err(TryRecvError::IpcError(IpcError::Io(error))) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(TryRecvError::Empty) if getppid() == self.parent => continue,
                // The host has closed its end, or is gone.
                Err(_) => return 0,
            };
            if self.sender.send(reply).is_err() {
                return 0;
            }
        }
    }

    fn fork(&mut self, memory: i32, prints_to: [i32; 2], spin: bool) -> Reply {
        self.abandoned.retain(|process| fork::reap(*process).is_none());
        match self.try_fork(memory, prints_to, spin) {
            Ok(process) => Reply::Forked { process },
            Err(reason) => Reply::Failed { reason },
        }
    }

    /// All that can fail happens before the fork, where it can be told.
    fn try_fork(&self, memory: i32, prints_to: [i32; 2], spin: bool) -> Result<u32, String> {
        let open_of_host = |number: i32, access: OFlags| {
            let path = format!("/proc/{}/fd/{number}", self.host);
            open(&path, access | OFlags::CLOEXEC, Mode::empty()).map_err(|error| format!("cannot open {path}: {error}"))
        };
        let file = open_of_host(memory, OFlags::RDWR)?;
        let [output, error] = prints_to.map(|number| open_of_host(number, OFlags::WRONLY));
        let (output, error) = (output?, error?);
        let memory = SharedMemory::map(&file).map_err(|error| format!("cannot map the memory of a worker process: {error}"))?;
        let image = self.image;
        let pid = fork::fork([&output, &error], || {
            let _ = set_name(c"poniard-worker");
            labour(Arc::new(Line::new(memory)), image, spin)
        });
        pid.map(|pid| pid.as_raw_nonzero().get().unsigned_abs()).map_err(|error| format!("cannot fork: {error}"))
    }

    fn status(&mut self, process: u32) -> Exit {
        fork::reap(process).unwrap_or_else(|| {
            self.abandoned.push(process);
            Exit::Unknown
        })
    }
}
