//! What the runtime lends its backends.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use poniard_interface::{Completion, HostServices, LogLevel, Remote, RunError, ServeCommand, ServeError, TaskId, WorkerId};

use crate::residency;
use crate::ship::start;
use crate::worker::main_loop::worker_main;
use crate::worker::shared::Shared;

/// Messages kept; more are dropped.
const MESSAGES_MAX: usize = 256;

/// What backends have said.
#[derive(Debug, Default)]
pub(crate) struct Log {
    kept: Mutex<Vec<(LogLevel, String)>>,
}

impl Log {
    pub(crate) fn push(&self, level: LogLevel, message: String) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MESSAGES_MAX {
            kept.push((level, message));
        }
    }

    pub(crate) fn messages(&self) -> Vec<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter()
            .map(|(level, message)| match level {
                LogLevel::Warning => format!("warning: {message}"),
                _ => message.clone(),
            })
            .collect()
    }
}

/// The services for one backend. They exist before the runtime does, since a backend is opened to learn what processors the runtime will have.
#[derive(Debug)]
pub(crate) struct HostLink {
    backend: String,
    /// Its plugin file, if it is in one.
    file: Option<PathBuf>,
    log: Arc<Log>,
    shared: Arc<OnceLock<Weak<Shared>>>,
}

impl HostLink {
    pub(crate) fn new(backend: String, file: Option<PathBuf>, log: Arc<Log>, shared: Arc<OnceLock<Weak<Shared>>>) -> Self {
        Self { backend, file, log, shared }
    }

    fn work(&self, worker: WorkerId, remote: Option<Arc<dyn Remote>>) {
        match self.shared() {
            Some(shared) => worker_main(&shared, worker, remote),
            None => self.log(LogLevel::Warning, "worker_main was called outside the life of the runtime"),
        }
    }

    fn shared(&self) -> Option<Arc<Shared>> {
        self.shared.get().and_then(Weak::upgrade)
    }
}

impl HostServices for HostLink {
    fn worker_main(&self, worker: WorkerId) {
        self.work(worker, None);
    }

    fn worker_main_remote(&self, worker: WorkerId, remote: Arc<dyn Remote>) {
        self.work(worker, Some(remote));
    }

    fn serve_command(&self, argument: &str) -> Result<ServeCommand, ServeError> {
        start::command(&self.backend, self.file.as_deref(), argument)
    }

    fn run(&self, task: TaskId) -> Result<(), RunError> {
        let shared = self.shared().ok_or_else(|| RunError::new("the runtime has ended"))?;
        shared.queued.run(&shared, task)
    }

    fn complete(&self, completions: &[Completion]) {
        let Some(shared) = self.shared() else {
            self.log(LogLevel::Warning, "complete was called outside the life of the runtime");
            return;
        };
        let (backend, completions) = (self.backend.clone(), completions.to_vec());
        // Not by whoever holds locks on this thread, and called the backend.
        residency::later(move || {
            for task in shared.queued.complete(&shared, &completions) {
                let message = format!("backend {backend}: task {task} was reported as done, and is not in flight");
                shared.backends.found.log.push(LogLevel::Warning, message);
            }
        });
    }

    fn log(&self, level: LogLevel, message: &str) {
        self.log.push(level, format!("backend {}: {message}", self.backend));
    }
}
