//! The backend without the runtime: a host that makes calls and nothing else, and worker processes that give them back.

use std::process::ExitCode;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use poniard_backend_process::ProcessBackend;
use poniard_interface::{
    Backend, Caller, CallerLink, Completion, HostServices, Image, LogLevel, Processor, Remote, RunError, ServeCommand, ServeError,
    Settings, TaskId, Wanted, WorkerId,
};

/// By which the program knows that it is the fork server of such a backend.
const VARIABLE: &str = "PONIARD_BENCH_SERVE";

/// In a process that is to serve: does so.
pub(crate) fn serve() -> Option<ExitCode> {
    let argument = std::env::var(VARIABLE).ok()?;
    let status = ProcessBackend::new().serve(&argument, Arc::new(Echo)).expect("an argument of the backend's own");
    Some(if status == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Gives every call back.
struct Echo;

impl Image for Echo {
    fn execute(&self, call: &[u8], _: &dyn CallerLink) -> Vec<u8> {
        call.to_vec()
    }
}

/// Passes the ways to the processes on.
struct Host(Mutex<Sender<Arc<dyn Remote>>>);

impl HostServices for Host {
    fn worker_main(&self, _: WorkerId) {}
    fn worker_main_remote(&self, _: WorkerId, remote: Arc<dyn Remote>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).send(remote).expect("somebody listens");
    }
    fn serve_command(&self, argument: &str) -> Result<ServeCommand, ServeError> {
        Ok(ServeCommand { program: "/proc/self/exe".into(), variables: vec![(VARIABLE.into(), argument.into())] })
    }
    fn run(&self, _: TaskId) -> Result<(), RunError> {
        Err(RunError::new("there are no tasks here"))
    }
    fn complete(&self, _: &[Completion]) {}
    fn log(&self, _: LogLevel, _: &str) {}
}

/// Who waits for a call.
struct Patient;

impl Caller for Patient {
    fn answer(&mut self, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }
    fn wanted(&mut self) -> Wanted {
        Wanted::Yes
    }
    fn begins(&mut self, _: u32) {}
}

/// An opened backend. No process is there before its first call.
pub(crate) struct Alone {
    processors: Vec<Box<dyn Processor>>,
    remotes: Vec<Arc<dyn Remote>>,
}

impl Alone {
    pub(crate) fn new(processes: usize, spin: bool) -> Self {
        let (sender, receiver) = channel();
        let mut settings = Settings::new();
        settings.set("processes", processes.to_string());
        settings.set("processes.spin", spin.to_string());
        let processors = ProcessBackend::new().open(&settings, Arc::new(Host(Mutex::new(sender)))).expect("an open backend").processors;
        let mut remotes = Vec::new();
        for (number, processor) in (0..).zip(&processors) {
            processor.start(WorkerId(number)).expect("a thread");
            remotes.push(receiver.recv().expect("the way to a process"));
        }
        Self { processors, remotes }
    }

    /// A call of the process with this index that brings a number there and back.
    pub(crate) fn call(&self, index: usize, number: u64) {
        let reply = self.remotes[index].call(&number.to_ne_bytes(), &mut Patient).expect("a reply");
        assert_eq!(reply, number.to_ne_bytes());
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        for processor in &self.processors {
            processor.stop().expect("its threads have ended");
        }
    }
}
