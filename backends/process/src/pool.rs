//! What the processors of one backend share: the fork server and the monitor. Ends both when the last one lets go of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use poniard_interface::{HostServices, LogLevel};

use crate::control::{Exit, Reply, Request};
use crate::line::Line;
use crate::monitor::Monitor;
use crate::process::Process;
use crate::server::Server;
use crate::shared_memory::SharedMemory;
use crate::worker::Worker;

/// How long after a start that took very long and failed none is tried.
const REST: Duration = Duration::from_secs(10);

/// Starts worker processes.
pub(crate) struct Pool {
    host: Arc<dyn HostServices>,
    spin: bool,
    server: Mutex<ServerState>,
    monitor: Mutex<Option<Arc<Monitor>>>,
}

#[derive(Debug, Default)]
struct ServerState {
    server: Option<Server>,
    /// When the last slow start failed, and why.
    failed: Option<(Instant, String)>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("spin", &self.spin).field("server", &self.server).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool that has started nothing yet.
    pub(crate) fn new(spin: bool, host: Arc<dyn HostServices>) -> Self {
        Self { host, spin, server: Mutex::default(), monitor: Mutex::default() }
    }

    /// Whatever panics under the lock leaves a server or none.
    fn server(&self) -> MutexGuard<'_, ServerState> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a worker process, and the fork server if there is none. An error is a reason: lower case, no full stop.
    pub(crate) fn start_worker(self: &Arc<Self>) -> Result<Worker, String> {
        let (file, memory) = SharedMemory::create().map_err(|error| format!("cannot make the memory for a worker process: {error}"))?;
        let number = self.fork(std::os::fd::AsRawFd::as_raw_fd(&file))?;
        // The fork server has mapped it.
        drop(file);
        let process = match Process::find(number) {
            Ok(process) => process,
            Err(reason) => {
                self.status(number);
                return Err(reason);
            }
        };
        let line = Arc::new(Line::new(memory));
        let watched = self.watch(&process, &line);
        self.host.log(LogLevel::Debug, &format!("worker process {number} was started"));
        Ok(Worker::new(process, line, self.spin, watched, Arc::clone(self)))
    }

    /// Has the fork server make a process that maps the memory with this descriptor; gives the number of it.
    fn fork(&self, memory: i32) -> Result<u32, String> {
        let mut state = self.server();
        // A server that was there may have died since; a new one has not.
        for is_old in [state.server.is_some(), false] {
            if state.server.is_none() {
                let server = self.start_server(&mut state)?;
                state.server = Some(server);
            }
            let Some(server) = &mut state.server else { break };
            match server.ask(Request::Fork { memory, spin: self.spin }) {
                Ok(Reply::Forked { process }) => return Ok(process),
                Ok(Reply::Failed { reason }) => return Err(reason),
                outcome => {
                    state.server = None;
                    let reason = outcome.map_or_else(|reason| reason, |reply| format!("the fork server replied {reply:?}"));
                    self.host.log(LogLevel::Debug, &reason);
                    if !is_old {
                        return Err(reason);
                    }
                }
            }
        }
        Err("the fork server is gone".into())
    }

    fn start_server(&self, state: &mut ServerState) -> Result<Server, String> {
        if let Some((when, reason)) = &state.failed
            && when.elapsed() < REST
        {
            return Err(reason.clone());
        }
        state.failed = None;
        Server::start(&*self.host).map_err(|error| {
            if error.slow {
                state.failed = Some((Instant::now(), error.reason.clone()));
            }
            error.reason
        })
    }

    /// How the worker process `number` ended. Its number is free then.
    pub(crate) fn status(&self, number: u32) -> Exit {
        let mut state = self.server();
        match state.server.as_mut().map(|server| server.ask(Request::Status { process: number })) {
            Some(Ok(Reply::Ended(exit))) => exit,
            None => Exit::Unknown,
            Some(_) => {
                state.server = None;
                Exit::Unknown
            }
        }
    }

    /// Has the monitor tell the line when the process ends.
    fn watch(&self, process: &Process, line: &Arc<Line>) -> Option<(Arc<Monitor>, u64)> {
        let descriptor = process.descriptor()?;
        let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = match &*monitor {
            Some(monitor) => Ok(Arc::clone(monitor)),
            None => Monitor::start().map(|started| Arc::clone(monitor.insert(Arc::new(started)))),
        };
        let watched = outcome.and_then(|monitor| monitor.watch(descriptor, Arc::clone(line)).map(|key| (monitor, key)));
        match watched {
            Ok(watched) => Some(watched),
            Err(error) => {
                self.host.log(LogLevel::Debug, &format!("deaths of worker processes are noticed late: {error}"));
                None
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(server) = self.server().server.take() {
            server.end();
        }
    }
}
