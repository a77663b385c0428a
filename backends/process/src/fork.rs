//! What the fork server asks of the kernel about processes, signals and descriptors.
#![expect(unsafe_code, reason = "forks")]

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

use rustix::stdio::{dup2_stderr, dup2_stdout};

use crate::control::Exit;

/// Whether this process is one that the code of a worker process has forked, and that returned from the call.
static IS_COPY: AtomicBool = AtomicBool::new(false);

/// The exit status of a worker process whose code panicked, the one that Rust's programs have then.
const PANICKED: i32 = 101;

/// Forks; the new process runs `body` and exits with its status.
///
/// The process ends with the calling one, and has no descriptors but the standard ones, of which output and error are those of `prints_to`. Only for a process with
/// one thread.
pub(crate) fn fork(prints_to: [&OwnedFd; 2], body: impl FnOnce() -> i32) -> io::Result<Pid> {
    let parent = getpid();
    // What waits to be written would be written twice.
    flush();
    // SAFETY: the process has one thread, so no lock is held by another one that the child does not have.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // Unwinding out of here would run the fork server's loop a second time.
            let status = catch_unwind(AssertUnwindSafe(|| child(parent, prints_to, body))).unwrap_or(PANICKED);
            flush();
            // SAFETY: the function may be called at any time. `exit` would run what the program registered for its own end.
            unsafe { libc::_exit(status) }
        }
        child => Pid::from_raw(child).ok_or_else(|| io::Error::other("the new process has no number")),
    }
}

fn child(parent: Pid, prints_to: [&OwnedFd; 2], body: impl FnOnce() -> i32) -> i32 {
    let follows = set_parent_process_death_signal(Some(Signal::KILL)).is_ok();
    // The parent may have ended before that.
    if !follows || getppid() != Some(parent) {
        return 1;
    }
    let [output, error] = prints_to;
    if dup2_stdout(output).is_err() || dup2_stderr(error).is_err() {
        return 1;
    }
    print_lines();
    mark_copies();
    // Those of the server: a copy would keep its channels open when it is gone.
    close_descriptors();
    body()
}

/// Closes all descriptors but the standard ones.
///
/// Whoever made them in this process must not use or close them any more; in a child that does not return to their owners nobody does.
pub(crate) fn close_descriptors() {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the call takes plain numbers. What it closes nobody uses, as the function says.
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, 0) };
    if outcome == 0 {
        return;
    }
    // A kernel before 5.9.
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // SAFETY: as above; the one by which the folder was read is closed already, which is an error and no more.
        unsafe { libc::close(descriptor) };
    }
}

/// Ignores what is for the host to obey: the interrupt from the terminal, which goes to all its processes. And makes the ends of children known.
pub(crate) fn set_signals() {
    for (signal, action) in [(libc::SIGINT, libc::SIG_IGN), (libc::SIGPIPE, libc::SIG_IGN), (libc::SIGCHLD, libc::SIG_DFL)] {
        // SAFETY: neither action is a function that would be called.
        unsafe { libc::signal(signal, action) };
    }
}

/// Lets `body` write to a channel whose other end may be closed: it gets an error then, and the program no `SIGPIPE`, which would end one that does not ignore it.
pub(crate) fn without_pipe_signal<R>(body: impl FnOnce() -> R) -> R {
    /// Takes the signal that came meanwhile, and lets later ones come.
    struct Restore {
        pipe: libc::sigset_t,
        before: libc::sigset_t,
        was_pending: bool,
    }
    impl Drop for Restore {
        fn drop(&mut self) {
            let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            if !self.was_pending {
                // SAFETY: the set and the time are there during the call. The signal is this thread's own, as writes raise it.
                unsafe { libc::sigtimedwait(&raw const self.pipe, std::ptr::null_mut(), &raw const now) };
            }
            // SAFETY: the mask is the one that the thread had.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut()) };
        }
    }
    // SAFETY: a set of signals is plain bits; what they mean is said below.
    let [mut pipe, mut before, mut pending] = [unsafe { std::mem::zeroed::<libc::sigset_t>() }; 3];
    // SAFETY: the set is there during the call.
    unsafe { libc::sigemptyset(&raw mut pipe) };
    // SAFETY: as above.
    unsafe { libc::sigaddset(&raw mut pipe, libc::SIGPIPE) };
    // SAFETY: both sets are there during the call; the mask is restored when `_restore` goes.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const pipe, &raw mut before) };
    // SAFETY: as above.
    unsafe { libc::sigpending(&raw mut pending) };
    // SAFETY: as above.
    let was_pending = unsafe { libc::sigismember(&raw const pending, libc::SIGPIPE) } == 1;
    let _restore = Restore { pipe, before, was_pending };
    body()
}

/// How the child `process` ended, after which it is gone from the kernel's table; `None` if it has not.
pub(crate) fn reap(process: u32) -> Option<Exit> {
    use rustix::process::{WaitOptions, waitpid};

    let pid = i32::try_from(process).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
    let Some(pid) = pid else { return Some(Exit::Unknown) };
    loop {
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(None) => return None,
            Ok(Some((_, status))) => {
                let exit = status.exit_status().map(Exit::Status).or(status.terminating_signal().map(Exit::Signal));
                return Some(exit.unwrap_or(Exit::Unknown));
            }
            Err(rustix::io::Errno::INTR) => {}
            // No child of ours.
            Err(_) => return Some(Exit::Unknown),
        }
    }
}

/// Whether this process is a copy of a worker process: it has the same memory as the host, which must not hear the same thing twice.
pub(crate) fn is_copy() -> bool {
    IS_COPY.load(Relaxed)
}

/// Has forks of this process know that they are copies. A call of the kernel's without C's `fork` goes unnoticed.
fn mark_copies() {
    extern "C" fn in_the_copy() {
        IS_COPY.store(true, Relaxed);
    }
    // SAFETY: the function stores to a static, which may be done after a fork. Where there is no memory to note it, copies are not known.
    unsafe { libc::pthread_atfork(None, None, Some(in_the_copy)) };
}

/// Has C's standard output write each line as it ends, which it does by itself for terminals only: of a process that crashes nothing but the last, unfinished line is lost.
fn print_lines() {
    // SAFETY: the stream is C's own, and the process has one thread; without a buffer of ours C takes one of its own.
    unsafe { libc::setvbuf(stdout, std::ptr::null_mut(), libc::_IOLBF, 0) };
}

unsafe extern "C" {
    /// C's standard output.
    static stdout: *mut libc::FILE;
}

/// Writes what waits in the standard library's buffers and in C's.
pub(crate) fn flush() {
    // There is nobody to tell of an output that is closed.
    let _ = io::stdout().flush();
    // SAFETY: no stream means all of them.
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_channel_is_an_error_and_no_signal() {
        // SAFETY: the action is no function; the other tests write to nothing that is closed.
        let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        for _ in 0..3 {
            let (from, into) = rustix::pipe::pipe().unwrap();
            drop(from);
            let outcome = without_pipe_signal(|| rustix::io::write(&into, b"x"));
            assert_eq!(outcome, Err(rustix::io::Errno::PIPE));
        }
        // SAFETY: as above.
        unsafe { libc::signal(libc::SIGPIPE, before) };
    }
}
