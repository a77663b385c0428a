//! What bodies do to their process, and what a machine lacks: each an error that says so, and no hang.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;

use poniard_interface::{CallError, Wanted};
use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};

use crate::program::{Asker, Fixture, alone, is_gone, kill, refuse, signal, wait_until};
use crate::{call_and_kill, lost, no_process, run_alone};

/// Who wants a call to stop at once, and soon to end.
fn impatient() -> Asker {
    let mut asked = 0;
    let wanted = move || {
        asked += 1;
        if asked < 3 { Wanted::Stop } else { Wanted::End }
    };
    Asker { wanted: Box::new(wanted), ..Asker::default() }
}

#[test]
fn a_body_that_forks_replies_once() {
    let fixture = Fixture::new(1);
    let mut asker = Asker::default();
    for _ in 0..20 {
        // The copy ended as one that has nothing to say.
        assert_eq!(fixture.remotes[0].call(b"k", &mut asker).unwrap(), 76_i32.to_le_bytes());
    }
    asker.processes.dedup();
    assert_eq!(asker.processes.len(), 1);
    fixture.stop();
}

#[test]
fn a_body_may_close_its_descriptors() {
    let fixture = Fixture::new(1);
    let (worker, _) = fixture.ids();
    assert_eq!(fixture.call(b"c").unwrap(), b"closed");
    assert_eq!(fixture.call(b"e1").unwrap(), b"1");
    assert_eq!(fixture.ids().0, worker);
    fixture.stop();
}

#[test]
fn a_body_that_becomes_another_program_is_lost() {
    let fixture = Fixture::new(1);
    assert_eq!(lost(fixture.call(b"X")), "exited with status 0");
    assert_eq!(fixture.call(b"e1").unwrap(), b"1");
    fixture.stop();
}

#[test]
fn a_process_that_is_stopped_can_be_ended() {
    let fixture = Fixture::new(1);
    let mut asker = impatient();
    let outcome = fixture.remotes[0].call(&[b'z', libc::SIGSTOP as u8], &mut asker);
    assert_eq!(lost(outcome), "was ended, as it did not stop when it was told to");
    assert!(is_gone(asker.processes[0]));
    // One that is stopped between two calls, and one whose processor is.
    for _ in 0..2 {
        let (worker, _) = fixture.ids();
        signal(worker, libc::SIGSTOP);
        assert_eq!(lost(fixture.remotes[0].call(b"e", &mut impatient())), "was ended, as it did not stop when it was told to");
        assert!(is_gone(worker));
    }
    let (worker, server) = fixture.ids();
    signal(worker, libc::SIGSTOP);
    fixture.stop();
    assert!(is_gone(worker));
    wait_until("the end of the fork server", || is_gone(server));
}

#[test]
fn a_body_that_kills_the_fork_server_is_lost_with_it() {
    let fixture = Fixture::new(2);
    for _ in 0..3 {
        let (worker, server) = fixture.ids();
        let reason = lost(fixture.call(&[b'z', libc::SIGKILL as u8, 1]));
        assert!(reason == "ended" || reason == "was killed by signal 9 (SIGKILL)", "{reason}");
        assert!(is_gone(worker));
        wait_until("the end of the fork server", || is_gone(server));
    }
    assert_eq!(fixture.call(b"e1").unwrap(), b"1");
    fixture.stop();
}

#[test]
fn a_fork_server_that_is_stopped_is_replaced() {
    let fixture = Fixture::new(1);
    let (worker, server) = fixture.ids();
    signal(server, libc::SIGSTOP);
    // Its process works; only for another one the server is needed. It is given up after five seconds.
    assert_eq!(fixture.call(b"e1").unwrap(), b"1");
    let reason = lost(fixture.call(b"a"));
    assert_eq!(reason, "ended");
    assert_ne!(fixture.ids().0, worker);
    assert!(is_gone(server));
    fixture.stop();
}

#[test]
fn half_a_message_is_garbage() {
    let fixture = Fixture::new(1);
    for _ in 0..3 {
        let reason = lost(fixture.call(b"h"));
        assert_eq!(reason, "wrote garbage into its ring: half a frame, and was killed");
        assert_eq!(fixture.call(b"e1").unwrap(), b"1");
    }
    fixture.stop();
}

/// The variable that says which calls of the kernel an ignored test does without.
const REFUSED: &str = "PONIARD_REFUSED_TEST";

#[test]
#[ignore = "the kernel refuses it calls; run by `what_a_sandbox_forbids_is_an_error_or_done_without`"]
#[expect(clippy::print_stdout, reason = "says why it does nothing")]
fn alone_in_a_sandbox() {
    let case = std::env::var(REFUSED).unwrap();
    let (calls, error, expected): (&[_], _, _) = match case.as_str() {
        "memfd" => (&[libc::SYS_memfd_create], libc::EPERM, Some("cannot make the memory for a worker process: Operation not permitted")),
        "old memfd" => {
            (&[libc::SYS_memfd_create], libc::ENOSYS, Some("cannot make the memory for a worker process: Function not implemented"))
        }
        "fallocate" => (&[libc::SYS_fallocate], libc::ENOSPC, Some("cannot make the memory for a worker process: No space left")),
        "epoll" => (&[libc::SYS_epoll_create1], libc::EPERM, Some("cannot watch over process")),
        "pipe" => (&[libc::SYS_pipe2], libc::EMFILE, Some("Too many open files")),
        "socket" => (&[libc::SYS_socket, libc::SYS_socketpair], libc::EPERM, Some("cannot make a channel in")),
        "clone" => (&[libc::SYS_clone, libc::SYS_clone3], libc::EAGAIN, Some("cannot start ")),
        "pidfd" => (&[libc::SYS_pidfd_open], libc::ENOSYS, None),
        "pidfd signal" => (&[libc::SYS_pidfd_send_signal], libc::EPERM, None),
        "close range" => (&[libc::SYS_close_range], libc::ENOSYS, None),
        other => panic!("no case is called {other}"),
    };
    let fixture = Fixture::new(1);
    if let Err(error) = refuse(calls, error) {
        println!("skipped: no filter can be set here: {error}");
        return;
    }
    let Some(expected) = expected else {
        let (worker, _) = fixture.ids();
        assert_eq!(fixture.call(b"d").unwrap(), 4_usize.to_le_bytes());
        assert_eq!(lost(call_and_kill(&fixture, worker)), "was killed by signal 9 (SIGKILL)");
        let mut asker = impatient();
        assert_eq!(lost(fixture.remotes[0].call(b"f", &mut asker)), "was ended, as it did not stop when it was told to");
        assert!(is_gone(asker.processes[0]));
        kill(fixture.ids().0);
        assert_ne!(fixture.ids().0, worker);
        fixture.stop();
        return;
    };
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
    for _ in 0..3 {
        let reason = no_process(fixture.call(b"e"));
        assert!(reason.contains(expected), "{reason}");
    }
    fixture.stop();
    assert!(std::fs::read_dir("/proc/self/fd").unwrap().count() <= open);
    assert_eq!(std::fs::read_to_string("/proc/thread-self/children").unwrap(), "");
}

#[test]
fn what_a_sandbox_forbids_is_an_error_or_done_without() {
    for case in ["memfd", "old memfd", "fallocate", "epoll", "pipe", "socket", "clone", "pidfd", "pidfd signal", "close range"] {
        run_alone("faults::alone_in_a_sandbox", &[(REFUSED, OsStr::new(case))]);
    }
}

/// Sets the limit on something, of this process and of those that it starts.
fn limit(resource: Resource, current: u64) {
    setrlimit(resource, Rlimit { current: Some(current), maximum: getrlimit(resource).maximum }).unwrap();
}

/// A call that succeeds, or finds no process, and then says why.
fn check_scarce(outcome: Result<Vec<u8>, CallError>, words: &[&str]) -> bool {
    match outcome {
        Ok(reply) => assert_eq!(reply, b"1"),
        Err(CallError::NoProcess { reason }) => {
            assert!(words.iter().any(|word| reason.contains(word)), "{reason}");
            return false;
        }
        Err(error) => assert!(words.iter().any(|word| error.to_string().contains(word)), "{error}"),
    }
    true
}

#[test]
#[ignore = "has little of everything; run by `scarce_processes_are_an_error`"]
fn alone_with_few_processes() {
    let mut refused = 0;
    for count in 1..12 {
        let fixture = Fixture::new(4);
        limit(Resource::Nproc, count);
        for remote in &fixture.remotes {
            refused += u32::from(!check_scarce(remote.call(b"e1", &mut Asker::default()), &["Resource temporarily unavailable"]));
        }
        limit(Resource::Nproc, 1000);
        fixture.stop();
    }
    assert!(refused > 0);
    assert_eq!(std::fs::read_to_string("/proc/thread-self/children").unwrap(), "");
}

#[test]
#[expect(clippy::print_stdout, reason = "says why it does nothing")]
fn scarce_processes_are_an_error() {
    let mut command = alone("faults::alone_with_few_processes");
    if getuid().is_root() {
        // The limit is not for root. And nobody has few processes.
        command.uid(65_534).gid(65_534).current_dir("/");
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: nobody may not run this program: {error}");
            return;
        }
    };
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !text.contains("panicked"), "{}: {text}", output.status);
}

#[test]
#[ignore = "has little of everything; run by `scarce_memory_is_an_error`"]
fn alone_with_little_memory() {
    let mut refused = 0;
    for more in 1..40_u64 {
        let fixture = Fixture::new(2);
        let status = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = status.split(' ').next().unwrap().parse().unwrap();
        limit(Resource::As, (pages << 12) + (more << 18));
        for remote in &fixture.remotes {
            let words = [
                "Cannot allocate memory",
                "Resource temporarily unavailable",
                "the fork server ended",
                "the fork server is gone",
                "ended",
                "exited",
            ];
            refused += u32::from(!check_scarce(remote.call(b"e1", &mut Asker::default()), &words));
        }
        setrlimit(Resource::As, Rlimit { current: None, maximum: None }).unwrap();
        fixture.stop();
    }
    assert!(refused > 0);
}

#[test]
fn scarce_memory_is_an_error() {
    run_alone("faults::alone_with_little_memory", &[]);
}
