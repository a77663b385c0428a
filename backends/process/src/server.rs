//! The fork server, as the host sees it: a child with which it has a channel.

use std::env::temp_dir;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, process};

use ipc_channel::ipc::{IpcOneShotServer, IpcReceiver, IpcSender};
use ipc_channel::{IpcError, TryRecvError};
use poniard_interface::HostServices;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Access, access};

use crate::control::{Hello, Reply, Request};
use crate::{fork, serve};

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked at while it starts; its answer is noticed at once.
const LOOK: Duration = Duration::from_millis(10);
/// How long it has to end by itself.
const GRACE: Duration = Duration::from_millis(100);
/// How many descriptors the start of a server takes, and some more: `ipc-channel` panics where it gets none.
const DESCRIPTORS: usize = 12;
/// How long the path of a channel may be: `sockaddr_un`, less what `ipc-channel` puts behind the folder for temporary files.
const MAX_FOLDER_BYTES: usize = 107 - "/.tmpXXXXXX/socket".len();

/// Why there is no fork server.
#[derive(Debug)]
pub(crate) struct NoServer {
    pub(crate) reason: String,
    /// Whether it took so long to find out that it should not be tried again soon.
    pub(crate) slow: bool,
}

impl NoServer {
    fn new(reason: String) -> Self {
        Self { reason, slow: false }
    }
}

/// A running fork server.
#[derive(Debug)]
pub(crate) struct Server {
    /// `None` once the channel is closed.
    channel: Option<Channel>,
    child: Child,
    /// The thread that heard its first message, and removes the place of it: nobody waits for that.
    door: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Channel {
    requests: IpcSender<Request>,
    replies: IpcReceiver<Reply>,
}

impl Server {
    /// Starts one and waits for its first message.
    pub(crate) fn start(host: &dyn HostServices) -> Result<Self, NoServer> {
        check_folder().map_err(NoServer::new)?;
        check_descriptors().map_err(NoServer::new)?;
        let (door, name) = IpcOneShotServer::<Hello>::new()
            .map_err(|error| NoServer::new(format!("cannot make a channel in {}: {error}", temp_dir().display())))?;
        let command = host.serve_command(&serve::argument(process::id(), &name)).map_err(|error| NoServer::new(error.reason))?;
        // Without anything that runs between fork and exec, so that the standard library need not copy our page tables.
        let child = Command::new(&command.program)
            .envs(command.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| NoServer::new(format!("cannot start {}: {error}", command.program.display())))?;
        // From here on, dropping it ends the child.
        let mut server = Self { channel: None, child, door: None };
        let (hello, door) = Visitor::wait(door, name).map_err(NoServer::new)?.hello(&mut server.child)?;
        server.door = door;
        server.channel = Some(Channel { requests: hello.requests, replies: hello.replies });
        Ok(server)
    }

    /// Asks and waits for the reply. After an error the server is of no use any more.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply, String> {
        if let Some(status) = self.ended() {
            return Err(format!("the fork server ended: {status}"));
        }
        let channel = self.channel.as_ref().ok_or("the fork server was ended")?;
        // It may have died just now.
        fork::without_pipe_signal(|| channel.requests.send(request)).map_err(|error| format!("cannot reach the fork server: {error}"))?;
        let begin = Instant::now();
        loop {
            match channel.replies.try_recv_timeout(PATIENCE.saturating_sub(begin.elapsed())) {
                Ok(reply) => return Ok(reply),
                Err(TryRecvError::IpcError(IpcError::Io(error))) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(TryRecvError::Empty) if begin.elapsed() < PATIENCE => {}
                Err(TryRecvError::Empty) => return Err(format!("the fork server did not answer within {} s", PATIENCE.as_secs())),
                Err(error) => return Err(format!("the fork server is gone: {error}")),
            }
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Closes the channel, upon which it ends, and its worker processes with it.
    pub(crate) fn end(mut self) {
        self.channel = None;
        let begin = Instant::now();
        while self.ended().is_none() && begin.elapsed() < GRACE {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(door) = self.door.take() {
            // If it panicked, it was after what it had to do.
            let _ = door.join();
        }
        if self.ended().is_none() {
            // It may have ended just now.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The thread that waits until the fork server comes: what waits in `ipc-channel` has no limit of time.
struct Visitor {
    messages: mpsc::Receiver<Result<Hello, String>>,
    thread: Option<JoinHandle<()>>,
    name: String,
    /// Whether the wait is over.
    is_over: bool,
}

impl Visitor {
    fn wait(door: IpcOneShotServer<Hello>, name: String) -> Result<Self, String> {
        let (sender, messages) = mpsc::channel();
        let body = move || {
            let hello = door.accept().map(|(_, hello)| hello).map_err(|error| format!("cannot hear the fork server: {error}"));
            // Nobody listens any more if it took too long.
            let _ = sender.send(hello);
        };
        let thread = thread::Builder::new().name("processes-door".into()).stack_size(256 << 10).spawn(body);
        let thread = thread.map_err(|error| format!("cannot start the thread that waits for the fork server: {error}"))?;
        Ok(Self { messages, thread: Some(thread), name, is_over: false })
    }

    /// The first message, and the thread that heard it.
    fn hello(mut self, child: &mut Child) -> Result<(Hello, Option<JoinHandle<()>>), NoServer> {
        let begin = Instant::now();
        loop {
            let message = self.messages.recv_timeout(LOOK);
            self.is_over = !matches!(message, Err(RecvTimeoutError::Timeout));
            match message {
                Ok(Ok(hello)) => return Ok((hello, self.thread.take())),
                Ok(Err(reason)) => return Err(NoServer::new(reason)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(NoServer::new("the thread that waits for the fork server panicked".into()));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(NoServer::new(format!("the fork server ended before it said anything: {status}")));
            }
            if begin.elapsed() > PATIENCE {
                let seconds = PATIENCE.as_secs();
                let reason = format!(
                    "the fork server did not answer within {seconds} s; the program that was started may not have the runtime's start-up code"
                );
                // Whatever it is: it would go on, and with it what waits for it.
                let _ = child.kill();
                return Err(NoServer { reason, slow: true });
            }
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // Whoever comes and goes without a word ends the wait. Not if it is over: `ipc-channel` leaks a descriptor where nobody is there.
        if self.is_over || IpcSender::<Hello>::connect(self.name.clone()).is_ok() {
            // If it panicked, the channel has told.
            let _ = thread.join();
        }
    }
}

/// Where channels have their names. What `ipc-channel` would make of a folder that does not do ranges from a leak to a panic.
fn check_folder() -> Result<(), String> {
    let folder = temp_dir();
    let Some(text) = folder.to_str() else {
        return Err(format!("the folder for temporary files, {}, has a name that is not text; set TMPDIR", folder.display()));
    };
    if text.len() > MAX_FOLDER_BYTES {
        return Err(format!("the name of the folder for temporary files, {text}, is longer than {MAX_FOLDER_BYTES} bytes; set TMPDIR"));
    }
    if let Err(error) = access(&folder, Access::WRITE_OK | Access::EXEC_OK) {
        return Err(format!("the folder for temporary files, {text}, is of no use: {error}; set TMPDIR"));
    }
    Ok(())
}

/// Whether there are descriptors enough.
fn check_descriptors() -> Result<(), String> {
    let some: Result<Vec<_>, _> = (0..DESCRIPTORS).map(|_| eventfd(0, EventfdFlags::CLOEXEC)).collect();
    some.map(drop)
        .map_err(|error| format!("{DESCRIPTORS} descriptors are needed to start a process: {error}; raise the limit on open files"))
}
