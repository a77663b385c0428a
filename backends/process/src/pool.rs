//! What the processors of one backend share: the fork server and the monitor. Ends both when the last one lets go of it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use poniard_interface::{HostServices, LogLevel};

use crate::control::{Exit, Reply, Request};
use crate::line::Line;
use crate::monitor::Monitor;
use crate::output::{self, Output};
use crate::process::Process;
use crate::server::Server;
use crate::settings::ProcessSettings;
use crate::shared_memory::SharedMemory;
use crate::worker::Worker;

/// How long after a start that took very long and failed none is tried.
const REST: Duration = Duration::from_secs(10);

/// Starts worker processes.
pub(crate) struct Pool {
    host: Arc<dyn HostServices>,
    settings: ProcessSettings,
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
        f.debug_struct("Pool").field("settings", &self.settings).field("server", &self.server).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool that has started nothing yet.
    pub(crate) fn new(settings: ProcessSettings, host: Arc<dyn HostServices>) -> Self {
        Self { host, settings, server: Mutex::default(), monitor: Mutex::default() }
    }

    /// Whatever panics under the lock leaves a server or none.
    fn server(&self) -> MutexGuard<'_, ServerState> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a worker process for the processor `name`, and the fork server if there is none. An error is a reason: lower case, no full stop.
    pub(crate) fn start_worker(self: &Arc<Self>, name: &str) -> Result<Worker, String> {
        let (file, memory) = SharedMemory::create().map_err(|error| format!("cannot make the memory for a worker process: {error}"))?;
        let prefix = if self.settings.prefix { format!("[{name}] ") } else { String::new() };
        let (output, ends) = Output::create(prefix).map_err(|error| format!("cannot make the pipes of a worker process: {error}"))?;
        let number = self.fork(std::os::fd::AsRawFd::as_raw_fd(&file), output::numbers(&ends))?;
        // The fork server has mapped it, and the process has opened them.
        drop((file, ends));
        let process = match Process::find(number) {
            Ok(process) => process,
            Err(reason) => {
                self.status(number);
                return Err(reason);
            }
        };
        let line = Arc::new(Line::new(memory));
        let output = Arc::new(output);
        let monitor = match self.watch(&process, &line, &output) {
            Ok(monitor) => monitor,
            Err(error) => {
                process.kill();
                self.status(number);
                return Err(format!("cannot watch over process {number}: {error}"));
            }
        };
        self.host.log(LogLevel::Debug, &format!("worker process {number} was started"));
        Ok(Worker::new(process, line, output, self.settings.spin, monitor, Arc::clone(self)))
    }

    /// Has the fork server make a process that maps the memory and prints to the pipes with these descriptors; gives the number of it.
    fn fork(&self, memory: i32, prints_to: [i32; 2]) -> Result<u32, String> {
        let mut state = self.server();
        // A server that was there may have died since; a new one has not.
        for is_old in [state.server.is_some(), false] {
            if state.server.is_none() {
                let server = self.start_server(&mut state)?;
                state.server = Some(server);
            }
            let Some(server) = &mut state.server else { break };
            match server.ask(Request::Fork { memory, prints_to, spin: self.settings.spin }) {
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

    /// Has the monitor tell the line when the process ends, and pass on what it prints. Starts the monitor if there is none.
    fn watch(&self, process: &Process, line: &Arc<Line>, output: &Arc<Output>) -> io::Result<(Arc<Monitor>, u64)> {
        let mut monitor = self.monitor.lock().unwrap_or_else(PoisonError::into_inner);
        let monitor = match &*monitor {
            Some(monitor) => Arc::clone(monitor),
            None => Arc::clone(monitor.insert(Arc::new(Monitor::start()?))),
        };
        let number = monitor.watch(process.descriptor(), Arc::clone(line), output)?;
        Ok((monitor, number))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(server) = self.server().server.take() {
            server.end();
        }
    }
}
