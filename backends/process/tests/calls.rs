//! Calls into worker processes, and what happens when somebody dies. What needs a process of its own is an ignored test that another test runs.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "the helpers of the tests are tests too")]

mod faults;
mod output;
mod program;

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use poniard_interface::{CallError, Wanted, WorkerId};
use program::{Asker, Fixture, LONG, alone, is_gone, kill, lost, no_process, wait_until};

#[test]
fn calls_of_all_sizes_come_back() {
    for spin in ["true", "false"] {
        let fixture = Fixture::with(1, &[("processes.spin", spin)], "/proc/self/exe");
        for len in [0, 1, 7, 64 << 10, (64 << 10) + 1, 10 << 20] {
            let mut call = vec![b'e'];
            call.extend((0..len).map(|index: usize| (index * 7) as u8));
            assert_eq!(fixture.call(&call).unwrap(), call[1..]);
        }
        assert_eq!(fixture.call(b"s\x01\x02\xFF").unwrap(), 258_u64.to_le_bytes());
        fixture.stop();
    }
}

#[test]
fn many_calls_in_a_row_keep_their_process() {
    let fixture = Fixture::new(1);
    let mut asker = Asker::default();
    for number in 0..100_000_u32 {
        let [a, b, c, d] = number.to_le_bytes();
        assert_eq!(fixture.remotes[0].call(&[b'e', a, b, c, d], &mut asker).unwrap(), [a, b, c, d]);
    }
    assert_eq!(asker.processes.len(), 100_000);
    asker.processes.dedup();
    assert_eq!(asker.processes.len(), 1);
    fixture.stop();
}

#[test]
fn processes_are_others_and_have_no_descriptors_but_the_standard_ones() {
    let fixture = Fixture::new(1);
    let (worker, server) = fixture.ids();
    assert!(worker != std::process::id() && server != std::process::id());
    // The fourth is the one by which they are counted.
    assert_eq!(fixture.call(b"d").unwrap(), 4_usize.to_le_bytes());
    fixture.stop();
    wait_until("the end of the processes", || is_gone(worker) && is_gone(server));
}

#[test]
fn several_processes_work_at_the_same_time() {
    let fixture = Fixture::new(4);
    let workers: Vec<u32> = thread::scope(|scope| {
        let threads: Vec<_> = fixture
            .remotes
            .iter()
            .map(|remote| {
                scope.spawn(move || {
                    let mut asker = Asker::default();
                    for len in 0..500 {
                        let call = vec![b'e'; len * 17 + 1];
                        assert_eq!(remote.call(&call, &mut asker).unwrap(), call[1..]);
                    }
                    asker.processes[0]
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut different = workers.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), 4);
    fixture.stop();
    assert!(workers.iter().all(|worker| is_gone(*worker)));
}

#[test]
fn requests_are_answered_in_the_middle_of_a_call() {
    let fixture = Fixture::new(1);
    let mut asker = Asker { answer: Box::new(|request| request.iter().rev().copied().collect()), ..Asker::default() };
    assert_eq!(fixture.remotes[0].call(b"q\x03abc", &mut asker).unwrap(), b"cbacbacba");
    let mut long = vec![b'q', 2];
    long.extend((0..200_000_u32).map(|index| index as u8));
    let answer: Vec<u8> = long[2..].iter().rev().copied().collect();
    assert_eq!(fixture.remotes[0].call(&long, &mut asker).unwrap(), [answer.clone(), answer].concat());
    let mut numbers = fixture.remotes[0].call(b"t\x08", &mut asker).unwrap();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7], "threads may ask, too");
    fixture.stop();
}

#[test]
fn a_call_that_is_told_to_stop_stops_and_the_next_one_is_not_told() {
    let fixture = Fixture::new(1);
    let mut asker = Asker { wanted: Box::new(|| Wanted::Stop), ..Asker::default() };
    assert_eq!(fixture.remotes[0].call(b"w", &mut asker).unwrap(), b"stopped");
    let mut asked = 0;
    let mut patient = Asker {
        wanted: Box::new(move || {
            asked += 1;
            if asked < 4 { Wanted::Yes } else { Wanted::Stop }
        }),
        ..Asker::default()
    };
    let begin = Instant::now();
    assert_eq!(fixture.remotes[0].call(b"w", &mut patient).unwrap(), b"stopped");
    assert!(begin.elapsed() >= Duration::from_millis(15), "it is asked every 5 ms, not more often");
    fixture.stop();
}

#[test]
fn a_call_that_does_not_stop_is_ended_with_its_process() {
    let fixture = Fixture::new(1);
    let mut asked = 0;
    let mut asker = Asker {
        wanted: Box::new(move || {
            asked += 1;
            if asked < 3 { Wanted::Stop } else { Wanted::End }
        }),
        ..Asker::default()
    };
    let outcome = fixture.remotes[0].call(b"f", &mut asker);
    assert_eq!(lost(outcome), "was ended, as it did not stop when it was told to");
    assert!(is_gone(asker.processes[0]));
    assert_eq!(fixture.call(b"e1").unwrap(), b"1");
    fixture.stop();
}

#[test]
fn a_process_that_dies_is_lost_and_there_is_a_new_one() {
    let fixture = Fixture::new(1);
    for (call, reason) in [
        (&b"a"[..], "was killed by signal 6 (SIGABRT)"),
        (b"x\x03", "exited with status 3"),
        (b"x\x00", "exited with status 0"),
        (b"!", "exited with status 101"),
    ] {
        let mut asker = Asker::default();
        let outcome = fixture.remotes[0].call(call, &mut asker);
        let Err(CallError::Lost { process, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!((lost(outcome).as_str(), process), (reason, asker.processes[0]));
        assert!(is_gone(process));
    }
    assert_eq!(fixture.call(b"eagain").unwrap(), b"again");
    fixture.stop();
}

#[test]
fn a_process_killed_in_the_middle_of_a_call_is_lost_at_once() {
    let fixture = Fixture::new(1);
    let mut asker = Asker {
        answer: Box::new(|id| {
            kill(u32::from_le_bytes(id.try_into().unwrap()));
            Vec::new()
        }),
        ..Asker::default()
    };
    for _ in 0..5 {
        let (worker, _) = fixture.ids();
        let call = [&b"q\xFF"[..], &worker.to_le_bytes()].concat();
        assert_eq!(lost(fixture.remotes[0].call(&call, &mut asker)), "was killed by signal 9 (SIGKILL)");
    }
    // And while nothing is on its way.
    let (worker, _) = fixture.ids();
    assert_eq!(lost(call_and_kill(&fixture, worker)), "was killed by signal 9 (SIGKILL)");
    fixture.stop();
}

/// Calls what never ends, and kills `process` in the middle of it.
fn call_and_kill(fixture: &Fixture, process: u32) -> Result<Vec<u8>, CallError> {
    let mut alive = true;
    let wanted = move || {
        if std::mem::take(&mut alive) {
            kill(process);
        }
        Wanted::Yes
    };
    fixture.remotes[0].call(b"f", &mut Asker { wanted: Box::new(wanted), ..Asker::default() })
}

#[test]
fn a_process_that_dies_between_two_calls_is_replaced() {
    let fixture = Fixture::new(1);
    let (worker, _) = fixture.ids();
    kill(worker);
    wait_until("the death", || is_gone(worker));
    assert_ne!(fixture.ids().0, worker);
    fixture.stop();
}

#[test]
fn garbage_is_found_out_and_its_process_killed() {
    let fixture = Fixture::new(1);
    for how in 0..12 {
        let mut asker = Asker::default();
        let reason = lost(fixture.remotes[0].call(&[b'g', how], &mut asker));
        assert!(reason.starts_with("wrote garbage into its ring: ") && reason.ends_with(", and was killed"), "{how}: {reason}");
        assert!(is_gone(asker.processes[0]));
        assert_eq!(fixture.call(b"e").unwrap(), b"");
    }
    fixture.stop();
}

#[test]
fn a_fork_server_that_dies_is_replaced() {
    let fixture = Fixture::new(2);
    for _ in 0..3 {
        let (worker, server) = fixture.ids();
        kill(server);
        wait_until("the death of the worker process", || is_gone(worker));
        let (new_worker, new_server) = fixture.ids();
        assert!(new_worker != worker && new_server != server);
        assert_eq!(
            fixture.remotes[1]
                .call(b"e1", &mut Asker::default())
                .or_else(|_| fixture.remotes[1].call(b"e1", &mut Asker::default()))
                .unwrap(),
            b"1"
        );
    }
    let (_, server) = fixture.ids();
    let reason = lost(call_and_kill(&fixture, server));
    assert!(reason == "ended" || reason == "was killed by signal 9 (SIGKILL)", "{reason}");
    fixture.stop();
}

#[test]
fn a_second_call_at_a_time_has_no_process_and_does_not_hang() {
    let fixture = Fixture::new(1);
    let again = Arc::clone(&fixture.remotes[0]);
    let mut asker =
        Asker { answer: Box::new(move |_| no_process(again.call(b"e", &mut Asker::default())).into_bytes()), ..Asker::default() };
    assert_eq!(fixture.remotes[0].call(b"q\x01", &mut asker).unwrap(), b"it executes another call");
    fixture.stop();
}

#[test]
fn a_processor_may_be_stopped_in_the_middle_of_a_call() {
    let mut fixture = Fixture::new(1);
    let (worker, server) = fixture.ids();
    let processor = fixture.processors.pop().unwrap();
    let mut asker = Asker {
        answer: Box::new(move |_| {
            processor.stop().unwrap();
            b"answer".to_vec()
        }),
        ..Asker::default()
    };
    assert_eq!(fixture.remotes[0].call(b"q\x01", &mut asker).unwrap(), b"answer");
    assert!(is_gone(worker));
    assert_eq!(no_process(fixture.call(b"e")), "the processor was stopped");
    drop((asker, fixture));
    wait_until("the end of the fork server", || is_gone(server));
}

#[test]
fn a_caller_that_panics_leaves_no_process_behind() {
    let fixture = Fixture::new(1);
    let (worker, _) = fixture.ids();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut asker = Asker { answer: Box::new(|_| panic!("a caller that breaks its word")), ..Asker::default() };
        fixture.remotes[0].call(b"q\x01", &mut asker)
    }));
    assert!(panicked.is_err() && is_gone(worker));
    assert_ne!(fixture.ids().0, worker);
    fixture.stop();
}

#[test]
fn a_backend_that_is_dropped_leaves_nothing_behind() {
    let fixture = Fixture::new(1);
    let (worker, server) = fixture.ids();
    drop(fixture);
    assert!(is_gone(worker) && is_gone(server));
}

#[test]
fn further_threads_have_no_way_to_the_process() {
    let fixture = Fixture::new(1);
    fixture.processors[0].start(WorkerId(0)).unwrap();
    fixture.processors[0].stop().unwrap();
    assert!(fixture.processors[0].start(WorkerId(0)).unwrap_err().reason.contains("stopped"));
}

#[test]
fn a_program_that_does_not_serve_is_an_error() {
    let reason = |program: &str| no_process(Fixture::with(1, &[], program).call(b"e"));
    assert!(reason("/bin/true").contains("ended before it said anything: exit status: 0"));
    assert!(reason("/nonexistent/program").contains("cannot start /nonexistent/program"));
}

#[test]
fn a_program_that_does_not_answer_is_an_error_for_all_who_wait() {
    let fixture = Fixture::with(3, &[], program::SILENT);
    let reasons: Vec<String> = thread::scope(|scope| {
        let ask = |index: usize| {
            let remote = Arc::clone(&fixture.remotes[index]);
            move || no_process(remote.call(b"e", &mut Asker::default()))
        };
        let threads: Vec<_> = (0..3).map(|index| scope.spawn(ask(index))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(reasons.iter().all(|reason| reason.contains("did not answer within 5 s")), "{reasons:?}");
}

/// Runs an ignored test in a process of its own; gives what it printed.
fn run_alone(test: &str, variables: &[(&str, &std::ffi::OsStr)]) -> String {
    let output = alone(test).envs(variables.iter().copied()).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{}: {text}", output.status);
    text
}

fn descriptor_count() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
#[ignore = "counts what the whole process has; run by `nothing_is_left_of_the_dead`"]
fn alone_kill_two_hundred() {
    let fixture = Fixture::new(2);
    let (_, server) = fixture.ids();
    let before = descriptor_count();
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("poniard-line").count();
    let maps_before = maps();
    for round in 0..200 {
        let (worker, _) = fixture.ids();
        match round % 3 {
            0 => kill(worker),
            1 => drop(fixture.call(b"a")),
            _ => drop(fixture.call(b"x\x01")),
        }
    }
    let (worker, same_server) = fixture.ids();
    assert_eq!(server, same_server);
    assert_eq!((descriptor_count(), maps()), (before, maps_before));
    let children = || std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
    wait_until("the end of zombies", || children().trim() == worker.to_string() || fixture.call(b"a").is_ok());
    let of_server = std::fs::read_dir(format!("/proc/{server}/fd")).unwrap().count();
    assert!(of_server <= 5, "the fork server has {of_server} descriptors");
    fixture.stop();
    assert!(is_gone(server));
    // Those of the monitor and the fork server are gone, too.
    assert!(descriptor_count() < before);
    assert_eq!(std::fs::read_to_string("/proc/thread-self/children").unwrap(), "");
}

#[test]
fn nothing_is_left_of_the_dead() {
    run_alone("alone_kill_two_hundred", &[]);
}

#[test]
#[ignore = "has little of everything; run by `scarce_descriptors_are_an_error`"]
fn alone_with_few_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let whole = getrlimit(Resource::Nofile);
    let open = descriptor_count() as u64;
    let mut refused = 0;
    for more in 0..40 {
        setrlimit(Resource::Nofile, Rlimit { current: Some(open + more), maximum: whole.maximum }).unwrap();
        let fixture = Fixture::new(2);
        for remote in &fixture.remotes {
            match remote.call(b"e1", &mut Asker::default()) {
                Ok(reply) => assert_eq!(reply, b"1"),
                Err(CallError::NoProcess { reason }) => {
                    refused += 1;
                    assert!(
                        reason.contains("os error 24") || reason.contains("Too many open files") || reason.contains("EMFILE"),
                        "{reason}"
                    );
                }
                Err(other) => panic!("with {more} descriptors: {other}"),
            }
        }
        fixture.stop();
    }
    assert!(refused > 2);
    setrlimit(Resource::Nofile, whole).unwrap();
    assert_eq!(descriptor_count() as u64, open);
    // No memory for files.
    setrlimit(Resource::Fsize, Rlimit { current: Some(0), maximum: getrlimit(Resource::Fsize).maximum }).unwrap();
    assert!(no_process(Fixture::new(1).call(b"e")).contains("RLIMIT_FSIZE"));
}

#[test]
fn scarce_descriptors_are_an_error() {
    let text = run_alone("alone_with_few_descriptors", &[]);
    assert!(!text.contains("panicked"), "{text}");
}

#[test]
#[ignore = "has an environment of its own; run by `a_folder_for_temporary_files_that_does_not_do_is_an_error`"]
fn alone_without_a_folder() {
    let open = descriptor_count();
    let fixture = Fixture::new(1);
    for _ in 0..3 {
        let reason = no_process(fixture.call(b"e"));
        assert!(reason.contains("the folder for temporary files") && reason.contains("set TMPDIR"), "{reason}");
    }
    fixture.stop();
    assert_eq!(descriptor_count(), open);
}

#[test]
fn a_folder_for_temporary_files_that_does_not_do_is_an_error() {
    use std::os::unix::ffi::OsStrExt;
    let long = format!("/{}", "long/".repeat(40));
    for folder in [&b"/nonexistent/folder"[..], long.as_bytes(), b"/\xFF\xFE"] {
        let text = run_alone("alone_without_a_folder", &[("TMPDIR", std::ffi::OsStr::from_bytes(folder))]);
        assert!(!text.contains("panicked"), "{text}");
    }
}

#[test]
#[ignore = "waits until it is killed; run by `processes_end_with_their_host`"]
#[expect(clippy::print_stdout, reason = "tells the test that runs it")]
fn alone_wait_to_be_killed() {
    let fixture = Fixture::new(2);
    let (worker, server) = fixture.ids();
    let mut idle = Asker::default();
    fixture.remotes[1].call(b"e", &mut idle).unwrap();
    println!("\nprocesses {worker} {server} {}", idle.processes[0]);
    drop(fixture.call(b"f"));
}

#[test]
fn processes_end_with_their_host() {
    let mut host = alone("alone_wait_to_be_killed").stdout(Stdio::piped()).spawn().unwrap();
    let (sender, lines) = channel();
    let output = BufReader::new(host.stdout.take().unwrap());
    let reader = thread::spawn(move || {
        for line in output.lines() {
            let _ = sender.send(line.unwrap());
        }
    });
    let processes: Vec<u32> = loop {
        let line = lines.recv_timeout(LONG).unwrap();
        if let Some(rest) = line.strip_prefix("processes ") {
            break rest.split(' ').map(|number| number.parse().unwrap()).collect();
        }
    };
    assert!(processes.iter().all(|process| !is_gone(*process)));
    host.kill().unwrap();
    host.wait().unwrap();
    let took = wait_until("the end of the processes", || processes.iter().all(|process| is_gone(*process)));
    assert!(took < Duration::from_secs(10), "{took:?}");
    // It reads until the last of those that inherited the pipe is gone.
    reader.join().unwrap();
}

#[test]
#[ignore = "prints; run by `what_a_process_prints_arrives`"]
fn alone_print() {
    let fixture = Fixture::new(1);
    fixture.call(b"pwithout a line end").unwrap();
    fixture.call(b"p and one more\n").unwrap();
    let (worker, _) = fixture.ids();
    fixture.call(b"pkilled soon").unwrap();
    kill(worker);
    fixture.stop();
}

#[test]
fn what_a_process_prints_arrives() {
    let text = run_alone("alone_print", &[]);
    assert!(text.contains("without a line end and one more\nkilled soon"), "{text}");
}

#[test]
#[ignore = "measures; run it alone, in a release build"]
#[expect(clippy::print_stdout, reason = "tells whoever runs it")]
fn alone_timings() {
    let time = |what: &dyn Fn()| {
        let begin = Instant::now();
        what();
        begin.elapsed().as_nanos() as u64
    };
    let summary = |mut nanoseconds: Vec<u64>| {
        nanoseconds.sort_unstable();
        format!("min {} ns, median {} ns of {}", nanoseconds[0], nanoseconds[nanoseconds.len() / 2], nanoseconds.len())
    };
    let mut first = Vec::new();
    let mut further = Vec::new();
    for _ in 0..11 {
        let fixture = Fixture::new(4);
        first.push(time(&|| drop(fixture.call(b"e").unwrap())));
        for remote in &fixture.remotes[1..] {
            further.push(time(&|| drop(remote.call(b"e", &mut Asker::default()).unwrap())));
        }
        fixture.stop();
    }
    println!("\nfirst worker process with its first call: {}", summary(first));
    println!("each further one with its first call: {}", summary(further));
    for spin in ["true", "false"] {
        let fixture = Fixture::with(1, &[("processes.spin", spin)], "/proc/self/exe");
        let mut asker = Asker::default();
        let calls = |count: usize, asker: &mut Asker| -> Vec<u64> {
            (0..count)
                .map(|_| {
                    let begin = Instant::now();
                    fixture.remotes[0].call(b"e", asker).unwrap();
                    begin.elapsed().as_nanos() as u64
                })
                .collect()
        };
        calls(1000, &mut asker);
        println!("empty call, spin = {spin}: {}", summary(calls(50_000, &mut asker)));
        for len in [64 << 10, 1 << 20, 64 << 20] {
            let call = vec![b'e'; len + 1];
            let times = (0..9).map(|_| time(&|| drop(fixture.call(&call).unwrap()))).collect();
            println!("echo of {len} bytes, spin = {spin}: {}", summary(times));
        }
        let death = (0..9).map(|_| {
            let (worker, _) = fixture.ids();
            let killer = thread::spawn(move || {
                thread::sleep(Duration::from_millis(20));
                let begin = Instant::now();
                kill(worker);
                begin
            });
            assert!(fixture.call(b"f").is_err());
            killer.join().unwrap().elapsed().as_nanos() as u64
        });
        println!("from a kill to its error, spin = {spin}: {}", summary(death.collect()));
        fixture.stop();
    }
    println!("bare ping-pong of two threads by futexes: {}", summary(ping_pong(50_000)));
}

/// Round trips between two threads that do nothing but wake each other.
fn ping_pong(count: usize) -> Vec<u64> {
    use rustix::thread::futex;
    use std::sync::atomic::AtomicU32;
    use std::sync::atomic::Ordering::SeqCst;
    let words = [AtomicU32::new(0), AtomicU32::new(0)];
    let give = |word: &AtomicU32, value: u32| {
        word.store(value, SeqCst);
        futex::wake(word, futex::Flags::empty(), 1).unwrap();
    };
    let take = |word: &AtomicU32, value: u32| {
        loop {
            let found = word.load(SeqCst);
            if found == value {
                return;
            }
            let _ = futex::wait(word, futex::Flags::empty(), found, None);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=count as u32 {
                take(&words[0], round);
                give(&words[1], round);
            }
        });
        (1..=count as u32)
            .map(|round| {
                let begin = Instant::now();
                give(&words[0], round);
                take(&words[1], round);
                begin.elapsed().as_nanos() as u64
            })
            .collect()
    })
}
