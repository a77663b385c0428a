//! Calls into another process that runs the same program.
//!
//! A backend whose processors are processes lends the runtime a thread for each of them, like any inline processor, and with it a [`Remote`]: the way to the
//! process. The runtime's loop runs on that thread; where a task can travel, it sends its function and arguments over as a *call*, and else runs it in place.
//!
//! What the bytes of calls, replies and requests mean is the runtime's business. The backend moves them, starts processes, and notices when one ends.
//!
//! In the other process the runtime's own start-up code runs before `main` ([`crate::HostServices::serve_command`]), finds the backend again and calls
//! [`crate::Backend::serve`] with the [`Image`] of the program. So a program needs no call for that in its `main`.

/// The way to a process, which executes one call after the other. One thread at a time waits for replies.
///
/// Calls may be sent **ahead**: when the thread is about to wait, it is asked for further ones ([`Caller::ahead`]), which the process begins by itself, in their
/// order. They are waited for by [`next`](Self::next), or come back as not begun.
pub trait Remote: Send + Sync {
    /// Has the process execute `call`, and gives its reply. Starts the process first if there is none. Meanwhile answers its requests by `caller`.
    ///
    /// There is no call ahead: each has been waited for, or has come back.
    ///
    /// # Errors
    /// [`CallError`] when there is no process, or it ended before it replied. A call that was sent ahead has come back by then ([`Caller::came_back`]), or was lost
    /// with the process as this one was.
    fn call(&self, call: &[u8], caller: &mut dyn Caller) -> Result<Vec<u8>, CallError>;

    /// Gives the reply to the oldest call that was sent ahead. Meanwhile answers its requests by `caller`.
    ///
    /// # Errors
    /// As for [`call`](Self::call). With [`CallError::NoProcess`] this one has not begun either.
    fn next(&self, caller: &mut dyn Caller) -> Result<Vec<u8>, CallError> {
        let _ = caller;
        Err(CallError::NoProcess { reason: "no call was sent ahead".into() })
    }
}

/// Who waits for a call.
pub trait Caller {
    /// Answers a request that came from the process in the middle of the call.
    fn answer(&mut self, request: &[u8]) -> Vec<u8>;

    /// Whether the reply is still wanted. Asked every few milliseconds.
    fn wanted(&mut self) -> Wanted;

    /// The process called `process` executes the call from now on. Told before it begins.
    fn begins(&mut self, process: u32);

    /// A call to be sent behind those that are there; nothing if there is none just now. Asked before the thread waits, as long as the process may have more.
    fn ahead(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// The newest so many of the calls that were sent ahead have come back: the one that is waited for takes long, and they have not begun and never will.
    fn came_back(&mut self, count: usize) {
        let _ = count;
    }
}

/// Whether somebody wants the reply to a call.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Wanted {
    /// It is wanted.
    Yes = 0,
    /// What is executed is to stop; it is told when it asks ([`CallerLink::is_stopping`]).
    Stop = 1,
    /// Not any more, and whatever executes it does not stop by itself: the process is ended.
    End = 2,
}

/// Why a call has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// No process could be had; nothing was executed.
    #[error("no process could be started: {reason}")]
    NoProcess {
        /// Why: lower case, no full stop.
        reason: String,
    },
    /// The process ended in the middle of the call.
    #[error("the process {process} {reason}")]
    Lost {
        /// Its number.
        process: u32,
        /// How it ended, as the end of a sentence: `was killed by signal 9 (SIGKILL)`.
        reason: String,
    },
}

/// The program's image in the other process: what executes calls there.
pub trait Image: Send + Sync {
    /// Executes a call and gives the reply. Does not unwind.
    fn execute(&self, call: &[u8], link: &dyn CallerLink) -> Vec<u8>;
}

/// The way back to whoever waits for a call. Works on any thread, until the call has been executed.
pub trait CallerLink: Send + Sync {
    /// Sends a request and waits for the answer; nothing when the caller is gone.
    fn ask(&self, request: &[u8]) -> Option<Vec<u8>>;

    /// Whether the caller has said that the call is to stop.
    fn is_stopping(&self) -> bool;
}

/// How to start a process that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeCommand {
    /// The program: this one.
    pub program: std::path::PathBuf,
    /// What to put into its environment.
    pub variables: Vec<(String, String)>,
}
