//! What bodies do to their process, and what a machine lacks: each an error that says so, and no hang.

use poniard_interface::Wanted;

use crate::program::{Asker, Fixture, is_gone, signal, wait_until};
use crate::{lost, no_process, run_alone};

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
