//! Calls that are sent ahead of their turn, and when they come back.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers of the tests are tests too")]

mod program;

use std::cell::Cell;
use std::rc::Rc;

use poniard_interface::{CallError, Wanted};
use program::{Asker, Fixture, lost, no_process};

/// The reply to the next call that was sent ahead; to the next one that has come back, if there is none: on a machine with much to do a process may take long over any call.
fn next(fixture: &Fixture, asker: &mut Asker) -> Result<Vec<u8>, CallError> {
    match fixture.remotes[0].next(asker) {
        Err(CallError::NoProcess { .. }) => {
            let next = asker.ahead.pop_front().expect("a call that has come back");
            fixture.remotes[0].call(&next, asker)
        }
        outcome => outcome,
    }
}

#[test]
fn calls_sent_ahead_are_executed_in_their_order() {
    for spin in ["true", "false"] {
        let fixture = Fixture::with(1, &[("processes.spin", spin)], "/proc/self/exe");
        let remote = &fixture.remotes[0];
        let number = |number: u32| number.to_le_bytes();
        // Short ones, some that are longer than the ring, some in the middle of which there are requests.
        let call = |index: u32| match index % 50 {
            7 => [&b"e"[..], &number(index).repeat(50_000)].concat(),
            3 | 13 => [&b"q\x01"[..], &number(index)].concat(),
            _ => [&b"e"[..], &number(index)].concat(),
        };
        let reply = |index: u32| if index % 50 == 7 { number(index).repeat(50_000) } else { number(index).to_vec() };
        let mut asker = Asker { ahead: (1..2000).map(call).collect(), again: true, ..Asker::default() };
        assert!(remote.call(&call(0), &mut asker).unwrap() == reply(0));
        for index in 1..2000 {
            assert!(next(&fixture, &mut asker).unwrap() == reply(index), "call {index}");
        }
        assert_eq!(no_process(remote.next(&mut asker)), "no call was sent ahead");
        fixture.stop();
    }
}

#[test]
fn what_is_behind_a_call_that_takes_long_comes_back() {
    let fixture = Fixture::new(1);
    for _ in 0..3 {
        let back = Rc::new(Cell::new(0));
        let seen = Rc::clone(&back);
        let wanted = move || if seen.get() == 3 { Wanted::Stop } else { Wanted::Yes };
        // None of these is begun, or the process would be gone.
        let ahead = [&b"x\x01"[..], b"a", b"!"].map(<[u8]>::to_vec);
        let mut asker = Asker { wanted: Box::new(wanted), ahead: ahead.into(), back: Rc::clone(&back), ..Asker::default() };
        assert_eq!(fixture.remotes[0].call(b"w", &mut asker).unwrap(), b"stopped");
        assert_eq!(back.get(), 3);
        assert_eq!(no_process(fixture.remotes[0].next(&mut asker)), "no call was sent ahead");
        let mut asker = Asker { ahead: [b"e2".to_vec()].into(), again: true, ..Asker::default() };
        assert_eq!(fixture.remotes[0].call(b"e1", &mut asker).unwrap(), b"1");
        assert_eq!(next(&fixture, &mut asker).unwrap(), b"2");
    }
    fixture.stop();
}

#[test]
fn what_is_behind_a_call_whose_process_dies_comes_back() {
    let fixture = Fixture::new(1);
    let ahead = [&b"e1"[..], b"a", b"e2", b"e3"].map(<[u8]>::to_vec);
    let mut asker = Asker { ahead: ahead.clone().into(), again: true, ..Asker::default() };
    assert_eq!(fixture.remotes[0].call(b"e0", &mut asker).unwrap(), b"0");
    assert_eq!(next(&fixture, &mut asker).unwrap(), b"1");
    assert_eq!(lost(next(&fixture, &mut asker)), "was killed by signal 6 (SIGABRT)");
    assert_eq!(asker.ahead, ahead[2..].to_vec());
    no_process(fixture.remotes[0].next(&mut asker));
    assert_eq!(fixture.call(b"e4").unwrap(), b"4");
    fixture.stop();
}
